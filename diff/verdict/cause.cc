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

}  // namespace

Cause ProbableCause(const CauseInputs& inputs) {
  if (!inputs.control_repeats_itself) {
    return {"non_deterministic", "The control gave two answers when it was read twice in one snapshot."};
  }
  if (inputs.tags.empty()) {
    return {"unknown", "The tags of this key are not known, so its invalidations are not either."};
  }
  const std::string span = absl::StrCat("between the fill at ", Stamp(inputs.filled_at), " and the confirmation at ",
                                        Stamp(inputs.confirmed_at));
  const auto last = std::max_element(inputs.tags.begin(), inputs.tags.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  if (last->second >= inputs.filled_at) {
    return {"fill_race", absl::StrCat("Tag ", last->first, " was invalidated at ", Stamp(last->second), ", ", span,
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
