// Scenarios: what happens to real processes, and what may not come of it. The same one runs short as a test and in full
// as a benchmark; the figures are judged by whoever reads them, the faults end either with an error.
#ifndef SHADOWLINE_TESTS_SUPPORT_SCENARIOS_H_
#define SHADOWLINE_TESTS_SUPPORT_SCENARIOS_H_

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace shadowline::support {

struct Outcome {
  nlohmann::json figures = nlohmann::json::object();
  std::vector<std::string> faults;

  void Expect(bool holds, const std::string& otherwise) {
    if (!holds) faults.push_back(otherwise);
  }
};

// Told how far a scenario is, for people.
using Progress = std::function<void(const std::string& line)>;
// To standard output, at once.
void Tell(const std::string& line);

struct Scenario {
  std::string name;
  std::function<Outcome()> run;
};

// Runs them one after the other, or those that `only` names where it is not empty; a scenario that throws has a fault.
// The figures of all together, and of no other, are in the file `json_path` after each of them, unless that is empty;
// those that are whole are written as integers, and those that are infinite (never reached: a fault says so) not at
// all.
//
// A program's exit status: 0; 1 where there was a fault; 64 where `only` names what is not there.
int RunScenarios(const std::vector<Scenario>& scenarios, const std::vector<std::string>& only,
                 const std::string& json_path);

}  // namespace shadowline::support

#endif  // SHADOWLINE_TESTS_SUPPORT_SCENARIOS_H_
