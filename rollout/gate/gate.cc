#include "rollout/gate/gate.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "rollout/gate/betting.h"

namespace shadowline::rollout {
namespace {

// How long until `have` has grown to `need`, at the rate since the window began.
std::optional<absl::Duration> AtPresentRate(uint64_t have, uint64_t need, absl::Duration elapsed) {
  if (have >= need) return absl::ZeroDuration();
  if (have == 0 || elapsed <= absl::ZeroDuration()) return std::nullopt;
  return elapsed * (static_cast<double>(need - have) / static_cast<double>(have));
}

Clause AtLeast(std::string name, uint64_t have, uint64_t need, absl::string_view what, absl::Duration elapsed) {
  return {std::move(name), have >= need, absl::StrCat(Grouped(have), " of ", Grouped(need), " ", what),
          AtPresentRate(have, need, elapsed)};
}

std::string Percent(uint64_t ppm) { return absl::StrFormat("%.4g %%", static_cast<double>(ppm) / 10'000); }

std::string Readable(absl::Duration duration) {
  return absl::FormatDuration(absl::Trunc(duration, absl::Milliseconds(1)));
}

Clause DurationClause(const WindowInput& window) {
  const absl::Duration lasted = window.now - window.since;
  const absl::Duration left = std::max(window.policy.duration - lasted, absl::ZeroDuration());
  return {"duration", left == absl::ZeroDuration(),
          absl::StrCat(absl::FormatDuration(absl::Trunc(lasted, absl::Seconds(1))), " of ",
                       absl::FormatDuration(window.policy.duration)),
          left};
}

Clause SloClause(const WindowInput& window, uint64_t episodes, absl::Duration elapsed) {
  const BettingTest test(window.policy.slo_ppm, window.policy.confidence_ppm);
  const uint64_t needed = test.CleanNeeded(window.evidence.confirmed);
  Clause clause = AtLeast("slo", episodes, needed, "clean episodes", elapsed);
  absl::StrAppend(&clause.detail, " show a divergence rate below ", Percent(window.policy.slo_ppm), " at ",
                  Percent(window.policy.confidence_ppm), " confidence");
  return clause;
}

Clause UnjudgedClause(const WindowInput& window) {
  const diff::Counts& counts = window.evidence.ledger.counts;
  // A cache that fails to answer leaves a read unjudged like any other failure.
  const uint64_t unjudged =
      counts.inconclusive + counts.errored + counts.shed + window.evidence.ledger.lost + counts.candidate_errors;
  const uint64_t all = counts.sampled + counts.candidate_errors;
  const uint64_t share_ppm = all == 0 ? 0 : unjudged * 1'000'000 / all;
  Clause clause;
  clause.name = "unjudged";
  clause.met = all > 0 && share_ppm <= window.policy.unjudged_ppm;
  clause.detail = all == 0 ? std::string("nothing was sampled yet")
                           : absl::StrCat(Grouped(unjudged), " of ", Grouped(all), " samples without a verdict, ",
                                          Percent(share_ppm), " of at most ", Percent(window.policy.unjudged_ppm));
  if (clause.met) clause.eta = absl::ZeroDuration();
  return clause;
}

// The 95th percentile, linear within its bucket. Absent: no reading, or it lies in the open bucket.
std::optional<absl::Duration> Percentile95(const diff::Counts& counts) {
  uint64_t total = 0;
  for (const uint64_t count : counts.candidate_latency) total += count;
  if (total == 0) return std::nullopt;
  const uint64_t rank = (total * 95 + 99) / 100;
  uint64_t below = 0;
  for (size_t i = 0; i < diff::kLatencyBoundsUs.size(); ++i) {
    const uint64_t count = counts.candidate_latency[i];
    if (below + count >= rank) {
      const int64_t low = i == 0 ? 0 : diff::kLatencyBoundsUs[i - 1];
      const int64_t width = diff::kLatencyBoundsUs[i] - low;
      return absl::Microseconds(low + width * static_cast<int64_t>(rank - below) / static_cast<int64_t>(count));
    }
    below += count;
  }
  return std::nullopt;
}

Clause LatencyClause(const WindowInput& window) {
  const diff::Counts& counts = window.evidence.ledger.counts;
  const bool measured = std::any_of(counts.candidate_latency.begin(), counts.candidate_latency.end(),
                                    [](uint64_t count) { return count > 0; });
  const std::optional<absl::Duration> p95 = Percentile95(counts);
  Clause clause;
  clause.name = "latency";
  clause.met = p95.has_value() && *p95 < window.policy.candidate_p95;
  clause.detail = !measured         ? std::string("the candidate was not timed yet")
                  : p95.has_value() ? absl::StrCat("the candidate's p95 is ", absl::FormatDuration(*p95))
                                    : std::string("the candidate's p95 is above 1s");
  absl::StrAppend(&clause.detail, ", and must be under ", absl::FormatDuration(window.policy.candidate_p95));
  if (clause.met) clause.eta = absl::ZeroDuration();
  return clause;
}

Clause DivergencesClause(const WindowInput& window) {
  const uint64_t confirmed = window.evidence.confirmed;
  Clause clause;
  clause.name = "divergences";
  const uint64_t unsafe = window.evidence.unsafe;
  clause.met = confirmed == 0 && unsafe == 0;
  clause.detail = confirmed == 0 ? std::string("none confirmed") : absl::StrCat(Grouped(confirmed), " confirmed");
  if (unsafe > 0) absl::StrAppend(&clause.detail, ", ", Grouped(unsafe), " unsafe in the family");
  if (clause.met) clause.eta = absl::ZeroDuration();
  return clause;
}

Clause WatermarkClause(const WindowInput& window) {
  Clause clause;
  clause.name = kWatermarkClause;
  if (window.fleet.live == 0) {
    clause.detail = "no live replica has reported";
  } else if (window.evidence.unswept > 0) {
    clause.detail =
        absl::StrCat(Grouped(window.evidence.unswept), " samples of a dead replica are not accounted for yet");
  } else if (!window.judged_until.has_value()) {
    clause.detail = "waits for the other clauses";
  } else if (window.fleet.watermark < *window.judged_until + kClockSkew) {
    clause.detail = absl::StrCat("a replica of ", window.fleet.live, " is ",
                                 Readable(*window.judged_until + kClockSkew - window.fleet.watermark),
                                 " short of the moment that is judged");
  } else {
    clause.met = true;
    clause.eta = absl::ZeroDuration();
    clause.detail = absl::StrCat("every replica of ", window.fleet.live, " has reported what it sampled");
  }
  return clause;
}

absl::Status CheckPpm(absl::string_view field, uint32_t ppm, uint32_t least, uint32_t most) {
  if (ppm >= least && ppm <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("policy.", field, ": ", ppm, " is not in [", least, ", ", most, "]"));
}

}  // namespace

std::vector<Clause> Judge(const WindowInput& window) {
  const absl::Duration elapsed = window.now - window.since;
  std::vector<Clause> clauses = {DurationClause(window)};

  uint64_t episodes = 0;
  uint64_t exercised = 0;
  for (const std::string& endpoint : window.endpoints) {
    const auto found = window.evidence.endpoints.find(endpoint);
    const EndpointEvidence evidence = found == window.evidence.endpoints.end() ? EndpointEvidence() : found->second;
    episodes += evidence.episodes;
    exercised += evidence.exercised;
    clauses.push_back(AtLeast("episodes", evidence.episodes, window.policy.episodes,
                              absl::StrCat("episodes (", endpoint, ")"), elapsed));
    clauses.push_back(AtLeast("distinct_keys", evidence.distinct_keys, window.policy.distinct_keys,
                              absl::StrCat("distinct keys (", endpoint, ")"), elapsed));
  }
  if (window.endpoints.empty())
    clauses.push_back({"episodes", false, "the catalog has no endpoint in this family", {}});
  clauses.push_back(
      AtLeast("exercised", exercised, window.policy.exercised, "episodes after a write to what they read", elapsed));
  clauses.push_back(SloClause(window, episodes, elapsed));
  clauses.push_back(UnjudgedClause(window));
  clauses.push_back(LatencyClause(window));
  clauses.push_back(DivergencesClause(window));
  clauses.push_back(WatermarkClause(window));
  return clauses;
}

bool ReadyToJudge(const std::vector<Clause>& clauses) {
  return std::all_of(clauses.begin(), clauses.end(),
                     [](const Clause& clause) { return clause.met || clause.name == kWatermarkClause; });
}

bool Clean(const std::vector<Clause>& clauses) {
  return std::all_of(clauses.begin(), clauses.end(), [](const Clause& clause) { return clause.met; });
}

std::optional<absl::Duration> Eta(const std::vector<Clause>& clauses) {
  absl::Duration longest = absl::ZeroDuration();
  for (const Clause& clause : clauses) {
    if (clause.met || clause.name == kWatermarkClause) continue;  // The watermark is never more than moments behind.
    if (!clause.eta.has_value()) return std::nullopt;
    longest = std::max(longest, *clause.eta);
  }
  return longest;
}

absl::Status CheckPolicy(const Policy& policy) {
  // A rate of 0 or certainty could never be shown.
  RETURN_IF_ERROR(CheckPpm("slo_ppm", policy.slo_ppm, 1, 999'999));
  RETURN_IF_ERROR(CheckPpm("confidence_ppm", policy.confidence_ppm, 1, 999'999));
  RETURN_IF_ERROR(CheckPpm("unjudged_ppm", policy.unjudged_ppm, 0, 1'000'000));
  RETURN_IF_ERROR(CheckPpm("shadow_sample_ppm", policy.shadow_sample_ppm, 1, 1'000'000));
  RETURN_IF_ERROR(CheckPpm("cache_sample_ppm", policy.cache_sample_ppm, 0, 1'000'000));
  for (const auto& [field, ppm] : {std::pair("sample_uncertified_ppm", policy.strata.uncertified_ppm),
                                   {"sample_recent_ppm", policy.strata.recent_ppm},
                                   {"sample_negative_ppm", policy.strata.negative_ppm},
                                   {"sample_old_ppm", policy.strata.old_ppm},
                                   {"sample_cold_ppm", policy.strata.cold_ppm}}) {
    RETURN_IF_ERROR(CheckPpm(field, ppm, 0, 1'000'000));
  }
  if (policy.duration < absl::ZeroDuration() || policy.soak < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        "policy.duration and policy.soak: negative; expected a duration such as 30s or 48h");
  }
  if (policy.candidate_p95 <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("policy.candidate_p95: must be positive, for example 100ms");
  }
  if (policy.ramp_ppm.empty() || policy.ramp_ppm.back() != 1'000'000 || policy.ramp_ppm.front() == 0 ||
      std::adjacent_find(policy.ramp_ppm.begin(), policy.ramp_ppm.end(), std::greater_equal<>()) !=
          policy.ramp_ppm.end()) {
    return absl::InvalidArgumentError("policy.ramp_ppm: expected ascending shares that end with 1000000");
  }
  return absl::OkStatus();
}

std::string Grouped(uint64_t number) {
  std::string digits = absl::StrCat(number);
  for (size_t at = digits.size(); at > 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

}  // namespace shadowline::rollout
