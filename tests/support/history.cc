#include "tests/support/history.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/hash.h"

namespace shadowline::support {

std::optional<std::vector<Witness>> ParseWitnesses(absl::string_view body) {
  constexpr absl::string_view kMember = "\"versions\":\"";
  const size_t member = body.find(kMember);
  if (member == absl::string_view::npos) return std::nullopt;
  const absl::string_view rest = body.substr(member + kMember.size());
  const size_t end = rest.find('"');
  if (end == absl::string_view::npos) return std::nullopt;
  std::vector<Witness> witnesses;
  for (absl::string_view text : absl::StrSplit(rest.substr(0, end), ' ')) {
    const size_t sign = text.rfind('=');
    Witness witness;
    if (sign == absl::string_view::npos || sign == 0 || !absl::SimpleAtoi(text.substr(sign + 1), &witness.version)) {
      return std::nullopt;
    }
    witness.scope = std::string(text.substr(0, sign));
    witnesses.push_back(std::move(witness));
  }
  return witnesses;
}

absl::string_view JudgementName(Judgement judgement) {
  switch (judgement) {
    case Judgement::kRight:
      return "right";
    case Judgement::kStale:
      return "stale";
    case Judgement::kTorn:
      return "torn";
    case Judgement::kNever:
      return "never held";
  }
  return "";
}

void History::Committing(absl::string_view scope, int64_t version, absl::Duration now) {
  base::MutexLock lock(&mutex_);
  std::vector<Commit>& commits = scopes_[scope];
  if (version < 2) return;
  const size_t index = static_cast<size_t>(version) - 2;
  if (commits.size() <= index) commits.resize(index + 1);
  commits[index].begun = std::min(commits[index].begun, now);
}

void History::Committed(absl::string_view scope, int64_t version, absl::Duration now) {
  base::MutexLock lock(&mutex_);
  std::vector<Commit>& commits = scopes_[scope];
  if (version < 2 || commits.size() < static_cast<size_t>(version) - 1) return;
  Commit& commit = commits[static_cast<size_t>(version) - 2];
  commit.ended = std::min(commit.ended, now);
  ++commits_;
}

Judgement History::Judge(const std::vector<Witness>& witnesses, absl::Duration sent, absl::Duration received,
                         absl::Duration delta) const {
  base::MutexLock lock(&mutex_);
  // When all witnesses may have been the newest at once.
  absl::Duration from = -absl::InfiniteDuration();
  absl::Duration until = absl::InfiniteDuration();
  for (const Witness& witness : witnesses) {
    if (witness.version < 1) return Judgement::kNever;
    const auto scope = scopes_.find(witness.scope);
    const size_t newer = static_cast<size_t>(witness.version) - 1;  // Index of the next version's commit.
    const size_t known = scope == scopes_.end() ? 0 : scope->second.size();
    if (newer > known) return Judgement::kNever;
    if (newer > 0) from = std::max(from, scope->second[newer - 1].begun);
    for (size_t i = newer; i < known; ++i) until = std::min(until, scope->second[i].ended);
  }
  if (from > received) return Judgement::kNever;
  if (from > until) return Judgement::kTorn;
  return until < sent - delta ? Judgement::kStale : Judgement::kRight;
}

bool History::SameBytes(absl::string_view question, const std::vector<Witness>& witnesses, absl::string_view body) {
  std::string name(question);
  for (const Witness& witness : witnesses) absl::StrAppend(&name, " ", witness.scope, "=", witness.version);
  const uint64_t digest = base::Hash64(body);
  base::MutexLock lock(&mutex_);
  return bodies_.try_emplace(base::Hash64(name), digest).first->second == digest;
}

uint64_t History::commits() const {
  base::MutexLock lock(&mutex_);
  return commits_;
}

}  // namespace shadowline::support
