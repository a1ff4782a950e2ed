// Whether cached reads ever lie, and what the cache costs when everything around it breaks: the chaos scenarios in
// full, on real processes.
//
//   bench_cache [--json FILE] [--only NAME]... [--reads 1000000]
//
// The file holds the figures of the scenarios that were run, and of no other; tests/chaos/scenarios.h says what they
// mean. The exit status is 1 where anybody was lied to, or something did not come back.
#include <CLI/CLI.hpp>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/chaos/scenarios.h"
#include "tests/support/private_servers.h"
#include "tests/support/shadowlined.h"

namespace shadowline::chaos {
namespace {

using support::Tell;

// Runs another program of this project to its end, and returns the JSON file that it was asked for with
// `json_argument`.
nlohmann::json RunForJson(std::vector<std::string> command, const std::string& json_argument) {
  const support::ScratchFolder folder("bench");
  const std::string json = folder.path() + "/report.json";
  command.push_back(json_argument + json);
  support::ChildProcess process(command, folder.path() + "/output");
  const int status = process.Wait();
  std::ifstream in(json);
  nlohmann::json report = nlohmann::json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (report.is_discarded()) {
    std::ifstream output(folder.path() + "/output");
    throw std::runtime_error(absl::StrCat(command[0], " ended with ", status, ":\n",
                                          std::string(std::istreambuf_iterator<char>(output), {})));
  }
  return report;
}

// The five faults that are planted into the simulated storm, each by taking one protection away. Its test program says
// which of them its check has caught.
Outcome PlantedInSimulation(const Progress& progress) {
  const nlohmann::json report =
      RunForJson({support::ProgramFolder() + "/../tests/bin/stale_fill_sim_test", "--gtest_filter=*IsCaught"},
                 "--gtest_output=json:");
  Outcome outcome;
  double planted = 0;
  double caught = 0;
  for (const auto& suite : report.at("testsuites")) {
    for (const auto& test : suite.at("testsuite")) {
      if (test.at("status") != "RUN") continue;
      const bool passed = !test.contains("failures");
      ++planted;
      caught += passed;
      progress(absl::StrCat("simulation: ", test.at("name").get<std::string>(), ": ", passed ? "yes" : "NO"));
    }
  }
  outcome.figures = {{"planted_faults", planted}, {"planted_faults_caught", caught}};
  outcome.Expect(planted == 5 && caught == 5, absl::StrCat("of 5 planted faults, ", caught, " were caught"));
  return outcome;
}

// The figures that another benchmark of this project comes to in a short run.
Outcome Figures(std::vector<std::string> command, const std::vector<std::string>& names, const Progress& progress) {
  progress("runs " + command[0]);
  command[0] = support::ProgramFolder() + "/" + command[0];
  const nlohmann::json report = RunForJson(command, "--json=");
  Outcome outcome;
  for (const std::string& name : names) {
    if (report.contains(name)) outcome.figures[name] = report.at(name).get<double>();
  }
  return outcome;
}

int Run(const std::string& json_path, const std::vector<std::string>& only, uint64_t reads) {
  const std::vector<support::Scenario> scenarios = {
      {"storm", [&] { return Storm({.reads = reads}, Tell); }},
      {"captured", [&] { return CapturedStorm({.reads = reads / 5, .writes_per_second = 50}, Tell); }},
      {"planted", [] { return PlantedStorm(absl::Seconds(2), Tell); }},
      {"simulation", [] { return PlantedInSimulation(Tell); }},
      {"stampede", [] { return Stampede({}, Tell); }},
      {"outage", [] { return Outage({}, Tell); }},
      {"cluster", [] { return Cluster({}, Tell); }},
      {"trace", [] { return Trace({}, Tell); }},
      {"capture",
       [] {
         return Figures({"bench_capture", "--rounds=3", "--seconds=3", "--kills=3"}, {"capture_p99_ms", "capture_lost"},
                        Tell);
       }},
      {"floor",
       [] {
         return Figures({"bench_floor", "--rounds=3", "--requests=60000"}, {"cached_over_echo", "near_over_echo"},
                        Tell);
       }},
  };
  return support::RunScenarios(scenarios, only, json_path);
}

}  // namespace
}  // namespace shadowline::chaos

int main(int argc, char** argv) {
  CLI::App app("Whether cached reads ever lie, while everything around them breaks.");
  std::string json_path;
  std::vector<std::string> only;
  uint64_t reads = 1'000'000;
  app.add_option("--json", json_path, "Write the figures to this file");
  app.add_option("--only", only, "Run this scenario alone; may be given again");
  app.add_option("--reads", reads, "Reads of the storm")->check(CLI::Range(10'000, 100'000'000));
  CLI11_PARSE(app, argc, argv);
  return shadowline::chaos::Run(json_path, only, reads);
}
