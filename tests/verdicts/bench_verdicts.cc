// Whether Shadowline's verdicts can be trusted: 26 real caching bugs, false alarms, recall, and what verification
// costs, on real processes.
//
//   bench_verdicts [--json FILE] [--only NAME]... [--bug ID]...
//
// The file holds the figures of the scenarios that were run, and of no other; tests/verdicts/scenarios.h says what they
// mean. The exit status is 1 where a verdict was wrong.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/verdicts/scenarios.h"

namespace shadowline::verdicts {
namespace {

void Tell(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

struct Scenario {
  std::string name;
  std::function<Outcome()> run;
};

int Run(const std::string& json_path, const std::vector<std::string>& only, const std::vector<std::string>& bugs,
        uint64_t reads) {
  const std::vector<Scenario> scenarios = {
      {"bugs", [&] { return Bugs({.only = bugs, .reads = reads}, Tell); }},
      {"alarms", [] { return Alarms({}, Tell); }},
      {"recall", [] { return Recall({}, Tell); }},
      {"cost", [] { return Cost({}, Tell); }},
  };
  for (const std::string& name : only) {
    const auto named = [&](const Scenario& scenario) { return scenario.name == name; };
    if (std::any_of(scenarios.begin(), scenarios.end(), named)) continue;
    std::fprintf(stderr, "--only: there is no scenario %s; expected one of:", name.c_str());
    for (const Scenario& scenario : scenarios) std::fprintf(stderr, " %s", scenario.name.c_str());
    std::fprintf(stderr, "\n");
    return 64;
  }
  nlohmann::json report = nlohmann::json::object();
  std::vector<std::string> faults;
  for (const Scenario& scenario : scenarios) {
    const bool asked = only.empty() ? bugs.empty() || scenario.name == "bugs"
                                    : std::find(only.begin(), only.end(), scenario.name) != only.end();
    if (!asked) continue;
    Tell("---- " + scenario.name);
    Outcome outcome;
    try {
      outcome = scenario.run();
    } catch (const std::exception& error) {
      outcome.faults.push_back(error.what());
    }
    report.update(outcome.figures);
    for (const std::string& fault : outcome.faults) faults.push_back(scenario.name + ": " + fault);
    // Also what came before a scenario that is interrupted.
    if (!json_path.empty()) std::ofstream(json_path) << report.dump(2) << "\n";
  }
  Tell("---- summary");
  for (const auto& [name, value] : report.items()) {
    if (name != "bugs") Tell(name + " " + value.dump());
  }
  for (const std::string& fault : faults) Tell("FAULT " + fault);
  return faults.empty() ? 0 : 1;
}

}  // namespace
}  // namespace shadowline::verdicts

int main(int argc, char** argv) {
  CLI::App app("Whether Shadowline's verdicts can be trusted.");
  std::string json_path;
  std::vector<std::string> only, bugs;
  uint64_t reads = 4000;
  app.add_option("--json", json_path, "Write the figures to this file");
  app.add_option("--only", only, "Run this scenario alone; may be given again");
  app.add_option("--bug", bugs, "Of the bugs, this one alone; may be given again");
  app.add_option("--reads", reads, "Reads around each bug, in each mode")->check(CLI::Range(1000, 1'000'000));
  CLI11_PARSE(app, argc, argv);
  return shadowline::verdicts::Run(json_path, only, bugs, reads);
}
