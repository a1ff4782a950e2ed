// Runs one bug: traffic that is right around it, the operator's look at what came of it, and the naive tools beside it.
#ifndef SHADOWLINE_TESTS_VERDICTS_RUN_H_
#define SHADOWLINE_TESTS_VERDICTS_RUN_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tests/verdicts/bugs.h"

namespace shadowline::verdicts {

struct Size {
  uint64_t reads = 4000;         // Of each bug, in each mode.
  uint64_t reads_a_harm = 1000;  // How many there are for each time that a bug does its harm.
};

// What is asked for: of the shared data, or of the table here where that is absent.
struct Expected {
  std::string id;
  std::string verdict;
  std::string title;
};
std::vector<Expected> ExpectedVerdicts();
bool IsReal(const std::string& expected);  // There is something to find.

// {"id", "expected", "got", "seconds_to_detect", "reads", "harms", "ledger", "naive": {...}}
nlohmann::json RunExternal(World* world, const Bug& bug, const std::string& expected, const Size& size);
// {"got", "wrong_answers", "divergences", "reads", "from_cache", "how"}: `impossible` where no answer was wrong and
// nothing diverged, `caught` where a divergence was recorded and the family is not served any more.
nlohmann::json RunManaged(World* world, const Bug& bug, const Size& size);

}  // namespace shadowline::verdicts

#endif  // SHADOWLINE_TESTS_VERDICTS_RUN_H_
