// What a scenario came to: figures for the report, and what should not have been.
//
// The same scenario runs short as a test and in full as a benchmark; the figures are judged by whoever reads them, the
// faults end either with an error.
#ifndef SHADOWLINE_TESTS_CHAOS_OUTCOME_H_
#define SHADOWLINE_TESTS_CHAOS_OUTCOME_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace shadowline::chaos {

struct Outcome {
  std::map<std::string, double> figures;
  std::vector<std::string> faults;  // Empty: nobody was lied to, and everything came back.

  void Expect(bool holds, const std::string& otherwise) {
    if (!holds) faults.push_back(otherwise);
  }
};

// Told how far a scenario is, for people.
using Progress = std::function<void(const std::string& line)>;

}  // namespace shadowline::chaos

#endif  // SHADOWLINE_TESTS_CHAOS_OUTCOME_H_
