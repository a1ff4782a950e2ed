#include "diff/verdict/strangers.h"

#include "absl/hash/hash.h"

namespace shadowline::diff {
namespace {

uint64_t AnswerKey(uint64_t endpoint, Said said) { return absl::HashOf(endpoint, said.digest); }

uint64_t OwnKey(const Question& question, Said said) {
  return absl::HashOf(question.endpoint, question.tenant, question.identity, question.parameters, said.digest);
}

}  // namespace

absl::string_view StrangerName(Stranger stranger) {
  switch (stranger) {
    case Stranger::kNobody:
      break;
    case Stranger::kAnotherTenant:
      return "another_tenant";
    case Stranger::kAnotherIdentity:
      return "another_identity";
    case Stranger::kOtherParameters:
      return "other_parameters";
  }
  return "";
}

void Strangers::Heard(const Question& question, Said said, absl::Duration now) {
  if (said.bytes < options_.bytes_least) return;
  Forget(now);
  const Entry entry{now, AnswerKey(question.endpoint, said), OwnKey(question, said)};
  Own& own = own_[entry.own];
  // A hot key does not push the others out: one entry in half of the time is enough to remember it.
  if (own.entries > 0 && now - own.last < options_.remembered / 2) return;
  own.last = now;
  ++own.entries;
  Variety& variety = varieties_[question.endpoint];
  const auto [found, added] = answers_.try_emplace(entry.answer, Answer{.first = question, .since = now});
  Answer& answer = found->second;
  if (added) ++variety.answers;
  if (!answer.of_many && !(answer.first == question)) {
    answer.of_many = true;
    ++variety.of_many;
  }
  ++answer.entries;
  order_.push_back(entry);
}

Recognised Strangers::Whose(const Question& question, Said served, absl::Duration now) {
  if (served.bytes < options_.bytes_least) return {};
  Forget(now);
  if (own_.contains(OwnKey(question, served))) return {};
  const auto found = answers_.find(AnswerKey(question.endpoint, served));
  if (found == answers_.end() || found->second.of_many) return {};
  const Variety& variety = varieties_[question.endpoint];
  if (variety.answers < options_.known_least || variety.of_many * options_.shared_most > variety.answers) return {};
  const Question& whose = found->second.first;
  const Stranger stranger = whose.tenant != question.tenant       ? Stranger::kAnotherTenant
                            : whose.identity != question.identity ? Stranger::kAnotherIdentity
                                                                  : Stranger::kOtherParameters;
  return {stranger, found->second.since};
}

void Strangers::Forget(absl::Duration now) {
  while (!order_.empty() && (order_.size() > options_.answers_max || order_.front().at + options_.remembered <= now)) {
    const Entry& oldest = order_.front();
    if (const auto own = own_.find(oldest.own); --own->second.entries == 0) own_.erase(own);
    if (const auto answer = answers_.find(oldest.answer); --answer->second.entries == 0) {
      const auto variety = varieties_.find(answer->second.first.endpoint);
      if (answer->second.of_many) --variety->second.of_many;
      if (--variety->second.answers == 0) varieties_.erase(variety);
      answers_.erase(answer);
    }
    order_.pop_front();
  }
}

}  // namespace shadowline::diff
