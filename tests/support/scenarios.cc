#include "tests/support/scenarios.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>

namespace shadowline::support {

void Tell(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

int RunScenarios(const std::vector<Scenario>& scenarios, const std::vector<std::string>& only,
                 const std::string& json_path) {
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
    if (!only.empty() && std::find(only.begin(), only.end(), scenario.name) == only.end()) continue;
    Tell("---- " + scenario.name);
    Outcome outcome;
    try {
      outcome = scenario.run();
    } catch (const std::exception& error) {
      outcome.faults.push_back(error.what());
    }
    for (const auto& [name, figure] : outcome.figures.items()) {
      const double value = figure.is_number_float() ? figure.get<double>() : 0.5;
      if (!std::isfinite(value)) continue;
      report[name] = value == std::floor(value) ? nlohmann::json(static_cast<int64_t>(value)) : figure;
    }
    for (const std::string& fault : outcome.faults) faults.push_back(scenario.name + ": " + fault);
    // Also what came before a scenario that is interrupted.
    if (!json_path.empty()) std::ofstream(json_path) << report.dump(2) << "\n";
  }
  Tell("---- summary");
  for (const auto& [name, figure] : report.items()) {
    if (!figure.is_array()) Tell(name + " " + figure.dump());
  }
  for (const std::string& fault : faults) Tell("FAULT " + fault);
  return faults.empty() ? 0 : 1;
}

}  // namespace shadowline::support
