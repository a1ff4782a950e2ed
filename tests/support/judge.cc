#include "tests/support/judge.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "base/hash.h"

namespace shadowline::support {

Judge::Judge(const std::vector<std::string>& first, absl::Duration delta) : delta_(delta) {
  for (const std::string& body : first) {
    lives_.push_back({absl::StrCat(lives_.size()), {base::Hash64(body)}, {}});
  }
}

int64_t Judge::Committing(size_t question, absl::string_view body, absl::Duration now) {
  const uint64_t digest = base::Hash64(body);
  base::MutexLock lock(&mutex_);
  Life& life = lives_[question];
  if (life.answers.back() != digest) {
    life.answers.push_back(digest);
    history_.Committing(life.scope, static_cast<int64_t>(life.answers.size()), now);
  }
  return static_cast<int64_t>(life.answers.size());
}

void Judge::Committed(size_t question, int64_t version, absl::Duration now) {
  base::MutexLock lock(&mutex_);
  history_.Committed(lives_[question].scope, version, now);
}

void Judge::Invalidated(size_t question, int64_t version, absl::Duration now) {
  base::MutexLock lock(&mutex_);
  std::vector<Floor>& floors = lives_[question].floors;
  if (floors.empty()) {
    floors.push_back({now, version});
  } else {
    // Two that were told in the wrong order: the later one counts as told last.
    floors.push_back({std::max(now, floors.back().since), std::max(version, floors.back().version)});
  }
}

Opinion Judge::Of(size_t question, absl::string_view body, absl::Duration sent, absl::Duration received) const {
  const uint64_t digest = base::Hash64(body);
  base::MutexLock lock(&mutex_);
  const Life& life = lives_[question];
  // Whatever was the newest even earlier is no better than the newest that it can have been.
  for (size_t version = life.answers.size(); version > 0; --version) {
    if (life.answers[version - 1] != digest) continue;
    const auto shown = static_cast<int64_t>(version);
    const Judgement judgement = history_.Judge({{life.scope, shown}}, sent, received, delta_);
    if (judgement == Judgement::kNever) continue;
    const auto after = std::upper_bound(life.floors.begin(), life.floors.end(), sent,
                                        [](absl::Duration at, const Floor& floor) { return at < floor.since; });
    return {judgement, after != life.floors.begin() && shown < std::prev(after)->version};
  }
  return {};
}

}  // namespace shadowline::support
