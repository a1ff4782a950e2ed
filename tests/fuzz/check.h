// What every fuzzer uses.
#ifndef SHADOWLINE_TESTS_FUZZ_CHECK_H_
#define SHADOWLINE_TESTS_FUZZ_CHECK_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"

// An invariant that does not hold is a finding like any crash.
#define FUZZ_CHECK(condition)                                                             \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                       \
    }                                                                                     \
  } while (false)

namespace shadowline::fuzz {

inline absl::string_view Text(const uint8_t* data, size_t size) {
  return absl::string_view(reinterpret_cast<const char*>(data), size);
}

// Takes from `text` what is before the first line that is "---", and that line; all of it where there is none. Inputs
// of several parts are files that a person can read.
inline absl::string_view TakePart(absl::string_view* text) {
  constexpr absl::string_view kMark = "\n---\n";
  const size_t end = text->find(kMark);
  const absl::string_view part = text->substr(0, end);
  text->remove_prefix(end == absl::string_view::npos ? text->size() : end + kMark.size());
  return part;
}

}  // namespace shadowline::fuzz

#endif  // SHADOWLINE_TESTS_FUZZ_CHECK_H_
