// I-Regexp (RFC 9485), the regular expressions of JSONPath's match() and search(), translated for RE2, which takes time
// linear in the text whatever the expression is.
//
// Accepted is the grammar of the RFC and nothing beyond it: no lazy quantifiers, no back references, no \d. As in the
// RFC's own translations, ^ and $ are anchors. The category Cn (unassigned) is not known to RE2 and is refused.
//
// Threads: immutable.
// Limits:  kMaxRegexpBytes, and what RE2 makes of it: counted repetitions up to 1,000, kMaxRegexpProgram.
#ifndef SHADOWLINE_DIFF_COMPARE_IREGEXP_H_
#define SHADOWLINE_DIFF_COMPARE_IREGEXP_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace re2 {
class RE2;
}

namespace shadowline::diff {

inline constexpr size_t kMaxRegexpBytes = 512;
inline constexpr int kMaxRegexpProgram = 10'000;

class IRegexp {
 public:
  // kInvalidArgument: no I-Regexp; the message says at which byte of it what was expected. kResourceExhausted: beyond
  // the limits.
  static absl::StatusOr<std::shared_ptr<const IRegexp>> Parse(absl::string_view text);
  ~IRegexp();

  // All of `text`, or some part of it. REQUIRES: valid UTF-8.
  bool Matches(absl::string_view text) const;
  bool Finds(absl::string_view text) const;
  // What trying it on so many bytes may cost, in steps of about a visit to a node.
  uint64_t Cost(size_t bytes) const;

 private:
  explicit IRegexp(std::unique_ptr<const re2::RE2> compiled);

  const std::unique_ptr<const re2::RE2> compiled_;
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_COMPARE_IREGEXP_H_
