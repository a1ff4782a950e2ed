#include "server/read/noise_probe.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace shadowline::server {
namespace {

constexpr double kQueries = 2;  // Of a pair.
// Between two looks at a budget that is spent.
constexpr absl::Duration kPause = absl::Milliseconds(20);

base::Counter* Outcome(base::Metrics* metrics, const char* outcome) {
  return metrics->AddCounter("shadowline_twin_reads_total", "Pairs of control queries in one snapshot.",
                             {{"outcome", outcome}});
}

}  // namespace

diff::NoiseKey NoiseKeyOf(const cache::Query& query) {
  return {query.endpoint->family, query.endpoint->name, query.catalog->revision()};
}

NoiseProbe::NoiseProbe(Deps deps)
    : deps_(std::move(deps)),
      same_(Outcome(deps_.metrics, "same")),
      differed_(Outcome(deps_.metrics, "differed")),
      failed_(Outcome(deps_.metrics, "failed")) {}

void NoiseProbe::Measure(cache::Query query, double reserve) {
  if (busy_ || !line_.empty()) return;
  const absl::Duration now = deps_.clock->Steady();
  absl::Duration& measured = measured_.try_emplace(query.endpoint->name, -absl::InfiniteDuration()).first->second;
  if (now - measured < kMeasureEvery || !deps_.spend(reserve, kQueries)) return;
  measured = now;
  Read(std::move(query), [](absl::StatusOr<Pair>) {});
}

void NoiseProbe::Check(cache::Query query, Done done) {
  line_.push_back({std::move(query), std::move(done), deps_.clock->Steady()});
  Pump();
}

void NoiseProbe::Stop() { line_.clear(); }

void NoiseProbe::Pump() {
  const absl::Duration now = deps_.clock->Steady();
  while (!line_.empty() && now - line_.front().since > kWaitMost) {
    deps_.executor->Post(
        [done = std::move(line_.front().done), endpoint = line_.front().query.endpoint->name]() mutable {
          done(absl::DeadlineExceededError(absl::StrCat(endpoint, ": no turn to be read twice")));
        });
    line_.pop_front();
  }
  if (busy_ || pausing_ || line_.empty()) return;
  if (!deps_.spend(/*reserve=*/0, kQueries)) {
    pausing_ = true;
    return deps_.executor->PostAfter(kPause, [this] {
      pausing_ = false;
      Pump();
    });
  }
  Waiting next = std::move(line_.front());
  line_.pop_front();
  Read(std::move(next.query), std::move(next.done));
}

void NoiseProbe::Read(cache::Query query, Done done) {
  busy_ = true;
  const absl::Duration timeout = 2 * query.endpoint->timeout;
  deps_.twins->LoadTwice(query, timeout, deps_.executor,
                         [this, query, done = std::move(done)](absl::StatusOr<cache::Twins> twins) mutable {
                           busy_ = false;
                           done(Count(query, std::move(twins)));
                           Pump();
                         });
}

absl::StatusOr<NoiseProbe::Pair> NoiseProbe::Count(const cache::Query& query, absl::StatusOr<cache::Twins> twins) {
  if (!twins.ok()) {
    failed_->Add();
    return std::move(twins).status();
  }
  diff::Comparison between = deps_.comparer->Compare(query, {twins->first.found, twins->first.body},
                                                     {twins->second.found, twins->second.body});
  if (between.verdict == diff::Comparison::Verdict::kError) {
    failed_->Add();
    return absl::InternalError(absl::StrCat(query.endpoint->name, ": ", between.error));
  }
  (between.patterns.empty() ? same_ : differed_)->Add();
  deps_.book->Add(NoiseKeyOf(query), between.patterns);
  return Pair{*std::move(twins), std::move(between)};
}

}  // namespace shadowline::server
