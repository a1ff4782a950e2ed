#include "diff/verdict/cause.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace shadowline::diff {
namespace {

constexpr size_t kTagsNamed = 8;

std::string Stamp(absl::Time time) { return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone()); }

std::string TagNames(const CauseInputs& inputs) {
  const size_t named = std::min(inputs.tags.size(), kTagsNamed);
  std::string names = absl::StrJoin(inputs.tags.begin(), inputs.tags.begin() + named, ", ",
                                    [](std::string* out, const auto& tag) { absl::StrAppend(out, tag.first); });
  if (named < inputs.tags.size()) absl::StrAppend(&names, " and ", inputs.tags.size() - named, " more");
  return names;
}

std::pair<std::string, absl::Time> LastInvalidated(const CauseInputs& inputs) {
  return *std::max_element(inputs.tags.begin(), inputs.tags.end(),
                           [](const auto& a, const auto& b) { return a.second < b.second; });
}

// Shadowline's fences keep nothing out of an application's cache: all that they tell is when something was written.
Cause CauseInTheApplication(const CauseInputs& inputs) {
  const bool negative = !inputs.candidate_found && inputs.control_found;
  std::string evidence = absl::StrCat("The application's cache ", negative ? "said \"not found\"" : "held this answer",
                                      " at ", Stamp(inputs.filled_at), " and still at ", Stamp(inputs.confirmed_at));
  if (!inputs.tags.empty()) {
    const auto [tag, at] = LastInvalidated(inputs);
    if (at != absl::InfinitePast()) absl::StrAppend(&evidence, "; tag ", tag, " was invalidated at ", Stamp(at));
  }
  return {"stale_entry", absl::StrCat(evidence, ".")};
}

}  // namespace

Cause ProbableCause(const CauseInputs& inputs) {
  if (!inputs.control_repeats_itself) {
    return {"non_deterministic", "The control gave two answers when it was read twice in one snapshot."};
  }
  if (inputs.external) return CauseInTheApplication(inputs);
  if (inputs.tags.empty()) {
    return {"unknown", "The tags of this key are not known, so its invalidations are not either."};
  }
  const std::string span = absl::StrCat("between the fill at ", Stamp(inputs.filled_at), " and the confirmation at ",
                                        Stamp(inputs.confirmed_at));
  const auto last = LastInvalidated(inputs);
  if (last.second >= inputs.filled_at) {
    return {"fill_race", absl::StrCat("Tag ", last.first, " was invalidated at ", Stamp(last.second), ", ", span,
                                      ", and the fill survived it.")};
  }
  if (!inputs.candidate_found && inputs.control_found) {
    return {"negative_stale",
            absl::StrCat("The cache says \"not found\", the database has a row, and no tag of this key (",
                         TagNames(inputs), ") was invalidated ", span, ".")};
  }
  return {"missed_invalidation",
          absl::StrCat("No tag of this key (", TagNames(inputs), ") was invalidated ", span, ".")};
}

}  // namespace shadowline::diff
