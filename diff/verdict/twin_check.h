// TwinCheck takes the noise out of a difference: before a candidate is called wrong, the control is read twice in one
// snapshot, and what the two say differently proves nothing.
//
//   TwinCheck check(Compare(first, candidate), Compare(second, candidate), Compare(first, second), distrusted);
//   if (check.left().patterns.empty())                        // nothing but noise: no verdict against the cache
//   if (!check.OldEnough(since, by))                          // what is left has to be as old as the rule asks
//
// A place is noise if the two answers differ there or above it, or if it is distrusted. At any other place a difference
// counts in full, as long as both answers have it.
//
// Pure. Threads: a value.
#ifndef SHADOWLINE_DIFF_VERDICT_TWIN_CHECK_H_
#define SHADOWLINE_DIFF_VERDICT_TWIN_CHECK_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "diff/compare/compare.h"

namespace shadowline::diff {

class TwinCheck {
 public:
  // What is said of the patterns of earlier pairs; called while constructing.
  using Distrusted = std::function<bool(absl::string_view pattern)>;

  TwinCheck(Comparison first, const Comparison& second, const Comparison& between, const Distrusted& distrusted);

  // The first answer's differences from the candidate, without noise. No patterns: nothing is left.
  const Comparison& left() const { return left_; }
  // Whether a place of what is left had differed by `by`. `since` has when patterns differed first; where those are
  // noise themselves, they say nothing of other places.
  bool OldEnough(const std::map<std::string, absl::Time>& since, absl::Time by) const;

 private:
  bool IsNoise(absl::string_view pattern) const;

  std::vector<std::string> noise_;  // Patterns.
  Comparison left_;
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_VERDICT_TWIN_CHECK_H_
