// Small JSON texts out of a seed, and others that are like them.
#ifndef SHADOWLINE_TESTS_DIFF_RANDOM_JSON_H_
#define SHADOWLINE_TESTS_DIFF_RANDOM_JSON_H_

#include <string>

#include "base/random.h"
#include "diff/compare/json.h"

namespace shadowline::diff {

// A text whose values are few, so that two of them often share some.
std::string RandomJson(base::Random* random, int depth = 4);

// `value`, written in another way: white space, the order of members, escapes and the notation of numbers.
std::string WriteAnew(const Json& value, base::Random* random);

// `value` with something put in, taken out, moved or replaced, here and there; sometimes nothing.
std::string WriteChanged(const Json& value, base::Random* random);

}  // namespace shadowline::diff

#endif  // SHADOWLINE_TESTS_DIFF_RANDOM_JSON_H_
