#include "tests/demo/recorder.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace shadowline::demo {
namespace {

// Nearest rank of sorted values.
absl::Duration Percentile(const std::vector<absl::Duration>& sorted, double share) {
  if (sorted.empty()) return absl::ZeroDuration();
  const auto rank = static_cast<size_t>(share * static_cast<double>(sorted.size()));
  return sorted[std::min(rank, sorted.size() - 1)];
}

}  // namespace

Recorder::Recorder(const std::vector<Question>* questions, support::History* history, absl::Duration delta)
    : questions_(*questions), history_(history), delta_(delta) {
  promoted_.fill(std::vector<bool>(Tenants().size(), false));
}

std::optional<std::string> Recorder::Fault(const Question& question, const support::Reply& reply) const {
  const std::string& body = reply.response.body();
  const auto witnesses = support::ParseWitnesses(body);
  if (!reply.response.found() || !witnesses.has_value()) return "it has no versions";
  const bool asked = std::equal(witnesses->begin(), witnesses->end(), question.scopes.begin(), question.scopes.end(),
                                [](const support::Witness& a, const std::string& b) { return a.scope == b; });
  if (!asked) return absl::StrCat("it answers another question: ", body.substr(0, 120));
  if (const auto judgement = history_->Judge(*witnesses, reply.sent, reply.received, delta_);
      judgement != support::Judgement::kRight) {
    return absl::StrCat("it is ", support::JudgementName(judgement), ": ", body.substr(0, 120));
  }
  if (!history_->SameBytes(question.text, *witnesses, body)) return "the same versions were answered with other bytes";
  return std::nullopt;
}

void Recorder::Add(const support::Reply& reply) {
  const Question& question = questions_[reply.id];
  const auto fault = reply.status.ok() ? Fault(question, reply) : std::nullopt;
  const bool cached = reply.status.ok() && reply.response.source() == shadowline::v1::SOURCE_CACHE;
  base::MutexLock lock(&mutex_);
  ++totals_.reads;
  if (!reply.status.ok()) {
    if (totals_.failed++ == 0) {
      totals_.first_failure = absl::StrCat(question.text, ": ", reply.status.error_message());
    }
    return;
  }
  if (cached) ++totals_.from_cache;
  if (fault.has_value()) {
    if (totals_.wrong++ == 0) totals_.first_wrong = absl::StrCat(question.text, ": ", *fault);
    if (cached || promoted_[question.family][question.tenant]) ++totals_.wrong_after_promotion;
  }
  if (measuring_) {
    stretch_[question.family].latencies.push_back(reply.latency());
    if (cached) ++stretch_[question.family].from_cache;
  }
}

void Recorder::Promoted(Family family, size_t tenant) {
  base::MutexLock lock(&mutex_);
  promoted_[family][tenant] = true;
}

void Recorder::StartMeasuring() {
  base::MutexLock lock(&mutex_);
  stretch_ = {};
  measuring_ = true;
}

std::array<Measured, kFamilies> Recorder::StopMeasuring() {
  std::array<Stretch, kFamilies> stretch;
  {
    base::MutexLock lock(&mutex_);
    measuring_ = false;
    std::swap(stretch, stretch_);
  }
  std::array<Measured, kFamilies> measured;
  for (size_t i = 0; i < kFamilies; ++i) {
    std::vector<absl::Duration>& latencies = stretch[i].latencies;
    std::sort(latencies.begin(), latencies.end());
    measured[i] = {latencies.size(), stretch[i].from_cache, Percentile(latencies, 0.50), Percentile(latencies, 0.95),
                   Percentile(latencies, 0.99)};
  }
  return measured;
}

Recorder::Totals Recorder::totals() const {
  base::MutexLock lock(&mutex_);
  return totals_;
}

}  // namespace shadowline::demo
