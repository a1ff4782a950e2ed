#include "diff/verdict/twin_check.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "diff/verdict/noise.h"

namespace shadowline::diff {
namespace {

absl::string_view PathOf(absl::string_view pattern) { return pattern.substr(0, pattern.rfind(": ")); }

// Whether a difference is one of those that a pattern stands for.
bool IsOf(const Difference& difference, absl::string_view pattern) {
  if (!absl::EndsWith(pattern, KindName(difference.kind))) return false;
  const std::vector<absl::string_view> steps = absl::StrSplit(difference.pointer, '/');
  const std::vector<absl::string_view> of_pattern = absl::StrSplit(PathOf(pattern), '/');
  return std::equal(steps.begin(), steps.end(), of_pattern.begin(), of_pattern.end(),
                    [](absl::string_view step, absl::string_view any) { return any == "*" || step == any; });
}

}  // namespace

TwinCheck::TwinCheck(Comparison first, const Comparison& second, const Comparison& between,
                     const Distrusted& distrusted)
    : noise_(between.patterns), left_(std::move(first)) {
  for (const std::string& pattern : left_.patterns) {
    if (distrusted(pattern)) noise_.push_back(pattern);
  }
  // Patterns beyond the limit are not told: then any place may be noise.
  if (between.patterns.size() >= kMaxDifferences) noise_.push_back(": order");
  const auto proves_nothing = [&](const std::string& pattern) {
    const bool in_both = std::any_of(second.patterns.begin(), second.patterns.end(),
                                     [&](const std::string& other) { return PathOf(other) == PathOf(pattern); });
    return !in_both || IsNoise(pattern);
  };
  const size_t before = left_.differences.size();
  std::erase_if(left_.patterns, proves_nothing);
  std::erase_if(left_.differences, [&](const Difference& difference) {
    return std::none_of(left_.patterns.begin(), left_.patterns.end(),
                        [&](const std::string& pattern) { return IsOf(difference, pattern); });
  });
  left_.differences_total -= before - left_.differences.size();
}

bool TwinCheck::IsNoise(absl::string_view pattern) const {
  return std::any_of(noise_.begin(), noise_.end(),
                     [&](const std::string& noise) { return IsAtOrBelow(pattern, noise); });
}

bool TwinCheck::OldEnough(const std::map<std::string, absl::Time>& since, absl::Time by) const {
  return std::any_of(since.begin(), since.end(), [&](const auto& differed) {
    if (differed.second > by || IsNoise(differed.first)) return false;
    return std::any_of(left_.patterns.begin(), left_.patterns.end(), [&](const std::string& pattern) {
      return IsAtOrBelow(pattern, differed.first) || IsAtOrBelow(differed.first, pattern);
    });
  });
}

}  // namespace shadowline::diff
