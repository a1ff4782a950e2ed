#include "tests/pagila/judge.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/hash.h"

namespace shadowline::pagila {

using support::Judgement;

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
  lives_[question].invalidations.push_back({version, now});
}

Opinion Judge::Of(size_t question, absl::string_view body, absl::Duration sent, absl::Duration received) const {
  const uint64_t digest = base::Hash64(body);
  base::MutexLock lock(&mutex_);
  const Life& life = lives_[question];
  int64_t oldest = 1;  // The oldest version that may still be shown.
  for (const Invalidation& invalidation : life.invalidations) {
    if (invalidation.acknowledged <= sent) oldest = std::max(oldest, invalidation.version);
  }
  Opinion opinion;
  int64_t shown = 0;  // The newest version with these bytes.
  for (size_t i = 0; i < life.answers.size(); ++i) {
    if (life.answers[i] != digest) continue;
    shown = static_cast<int64_t>(i) + 1;
    if (opinion.judgement == Judgement::kRight) continue;
    const Judgement judgement = history_.Judge({{life.scope, shown}}, sent, received, delta_);
    if (judgement != Judgement::kNever) opinion.judgement = judgement;
  }
  opinion.older_than_invalidation = shown > 0 && shown < oldest;
  return opinion;
}

}  // namespace shadowline::pagila
