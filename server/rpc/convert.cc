#include "server/rpc/convert.h"

#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cache/catalog/parse.h"
#include "diff/verdict/cause.h"

namespace shadowline::server {
namespace {

constexpr uint32_t kMillion = 1'000'000;

absl::Status Wrong(absl::string_view field, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", what));
}

// One unit, so that it reads back: 90s, not 1m30s.
std::string DurationText(absl::Duration duration) {
  if (duration % absl::Hours(1) == absl::ZeroDuration()) return absl::StrCat(absl::ToInt64Hours(duration), "h");
  if (duration % absl::Minutes(1) == absl::ZeroDuration()) return absl::StrCat(absl::ToInt64Minutes(duration), "m");
  if (duration % absl::Seconds(1) == absl::ZeroDuration()) return absl::StrCat(absl::ToInt64Seconds(duration), "s");
  return absl::StrCat(absl::ToInt64Milliseconds(duration), "ms");
}

absl::Status ReadDuration(absl::string_view field, const std::string& text, absl::Duration* out) {
  const absl::StatusOr<absl::Duration> duration = cache::ParseDuration(text);
  if (!duration.ok()) {
    return Wrong(field,
                 absl::StrCat("\"", text, "\" is not a duration; expected one with its unit, such as 30s or 48h"));
  }
  if (*duration < absl::ZeroDuration()) return Wrong(field, "is negative; expected 0s or more");
  *out = *duration;
  return absl::OkStatus();
}

absl::Status CheckPpm(absl::string_view field, uint32_t ppm, uint32_t least, uint32_t most) {
  if (ppm >= least && ppm <= most) return absl::OkStatus();
  return Wrong(field, absl::StrCat(ppm, " is out of range; expected ", least, " to ", most, " parts per million"));
}

int64_t ToEta(const std::optional<absl::Duration>& eta) { return eta ? absl::ToInt64Microseconds(*eta) : -1; }

template <typename Element, typename Field>
void CopyAll(const std::vector<Element>& from, Field* to) {
  to->Assign(from.begin(), from.end());
}

}  // namespace

absl::Status CheckText(absl::string_view field, absl::string_view text, size_t longest, bool required) {
  if (text.empty() && required) return Wrong(field, "is missing; it is required");
  if (text.size() > longest) return Wrong(field, absl::StrCat("is too long; expected at most ", longest, " bytes"));
  for (const char c : text) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c)))
      return Wrong(field, "holds a control character; expected text");
  }
  return absl::OkStatus();
}

int64_t ToMicros(absl::Time time) { return time == absl::InfinitePast() ? 0 : absl::ToUnixMicros(time); }

v1::Mode ToProto(flags::Mode mode) {
  switch (mode) {
    case flags::Mode::kDatabase:
      return v1::MODE_DATABASE;
    case flags::Mode::kShadow:
      return v1::MODE_SHADOW;
    case flags::Mode::kCache:
      return v1::MODE_CACHE;
  }
  return v1::MODE_UNSPECIFIED;
}

v1::Flag ToProto(const std::string& tenant, const std::string& family, const flags::Flag& flag) {
  v1::Flag result;
  result.set_tenant(tenant);
  result.set_family(family);
  result.set_mode(ToProto(flag.mode));
  result.set_serve_ppm(flag.mode == flags::Mode::kCache ? flag.serve_ppm : 0);
  result.set_sample_ppm(flag.sample_ppm);
  result.set_epoch(flag.epoch);
  result.set_revision(flag.revision);
  result.set_window(flag.window);
  result.set_reason(flag.reason);
  result.set_changed_at_us(ToMicros(flag.changed_at));
  return result;
}

v1::Policy ToProto(const rollout::Policy& policy) {
  v1::Policy result;
  result.set_duration(DurationText(policy.duration));
  result.set_episodes(policy.episodes);
  result.set_distinct_keys(policy.distinct_keys);
  result.set_exercised(policy.exercised);
  result.set_slo_ppm(policy.slo_ppm);
  result.set_confidence_ppm(policy.confidence_ppm);
  result.set_unjudged_ppm(policy.unjudged_ppm);
  result.set_candidate_p95(DurationText(policy.candidate_p95));
  result.set_shadow_sample_ppm(policy.shadow_sample_ppm);
  result.set_cache_sample_ppm(policy.cache_sample_ppm);
  result.set_sample_uncertified_ppm(policy.strata.uncertified_ppm);
  result.set_sample_recent_ppm(policy.strata.recent_ppm);
  result.set_sample_negative_ppm(policy.strata.negative_ppm);
  result.set_sample_old_ppm(policy.strata.old_ppm);
  result.set_sample_cold_ppm(policy.strata.cold_ppm);
  result.set_sample_by(policy.sample_by_key ? "keys" : "requests");
  CopyAll(policy.ramp_ppm, result.mutable_ramp_ppm());
  result.set_soak(DurationText(policy.soak));
  result.set_approval(policy.approval);
  return result;
}

absl::StatusOr<rollout::Policy> FromProto(const v1::Policy& policy) {
  rollout::Policy result;
  RETURN_IF_ERROR(ReadDuration("policy.duration", policy.duration(), &result.duration));
  RETURN_IF_ERROR(ReadDuration("policy.candidate_p95", policy.candidate_p95(), &result.candidate_p95));
  RETURN_IF_ERROR(ReadDuration("policy.soak", policy.soak(), &result.soak));
  RETURN_IF_ERROR(CheckPpm("policy.slo_ppm", policy.slo_ppm(), 1, kMillion - 1));
  RETURN_IF_ERROR(CheckPpm("policy.confidence_ppm", policy.confidence_ppm(), 1, kMillion - 1));
  RETURN_IF_ERROR(CheckPpm("policy.unjudged_ppm", policy.unjudged_ppm(), 0, kMillion));
  RETURN_IF_ERROR(CheckPpm("policy.shadow_sample_ppm", policy.shadow_sample_ppm(), 0, kMillion));
  RETURN_IF_ERROR(CheckPpm("policy.cache_sample_ppm", policy.cache_sample_ppm(), 0, kMillion));
  RETURN_IF_ERROR(CheckPpm("policy.sample_uncertified_ppm", policy.sample_uncertified_ppm(), 0, kMillion));
  RETURN_IF_ERROR(CheckPpm("policy.sample_recent_ppm", policy.sample_recent_ppm(), 0, kMillion));
  RETURN_IF_ERROR(CheckPpm("policy.sample_negative_ppm", policy.sample_negative_ppm(), 0, kMillion));
  RETURN_IF_ERROR(CheckPpm("policy.sample_old_ppm", policy.sample_old_ppm(), 0, kMillion));
  RETURN_IF_ERROR(CheckPpm("policy.sample_cold_ppm", policy.sample_cold_ppm(), 0, kMillion));
  if (policy.sample_by() != "keys" && policy.sample_by() != "requests") {
    return Wrong("policy.sample_by",
                 absl::StrCat("\"", policy.sample_by(), "\" is unknown; expected requests or keys"));
  }
  if (policy.ramp_ppm_size() > kMaxRampSteps) {
    return Wrong("policy.ramp_ppm", absl::StrCat("has too many steps; expected at most ", kMaxRampSteps));
  }
  uint32_t previous = 0;
  for (const uint32_t step : policy.ramp_ppm()) {
    if (step <= previous)
      return Wrong("policy.ramp_ppm", "does not ascend; expected growing shares such as 50000, 1000000");
    previous = step;
  }
  if (previous != kMillion) return Wrong("policy.ramp_ppm", "does not end at 1000000; expected 100 % as the last step");
  result.episodes = policy.episodes();
  result.distinct_keys = policy.distinct_keys();
  result.exercised = policy.exercised();
  result.slo_ppm = policy.slo_ppm();
  result.confidence_ppm = policy.confidence_ppm();
  result.unjudged_ppm = policy.unjudged_ppm();
  result.shadow_sample_ppm = policy.shadow_sample_ppm();
  result.cache_sample_ppm = policy.cache_sample_ppm();
  result.strata = {.uncertified_ppm = policy.sample_uncertified_ppm(),
                   .recent_ppm = policy.sample_recent_ppm(),
                   .negative_ppm = policy.sample_negative_ppm(),
                   .old_ppm = policy.sample_old_ppm(),
                   .cold_ppm = policy.sample_cold_ppm()};
  result.sample_by_key = policy.sample_by() == "keys";
  result.ramp_ppm.assign(policy.ramp_ppm().begin(), policy.ramp_ppm().end());
  result.approval = policy.approval();
  return result;
}

absl::StatusOr<std::vector<rollout::Cohort>> FromProto(const google::protobuf::RepeatedPtrField<v1::Cohort>& cohorts) {
  if (cohorts.size() > kMaxCohorts) {
    return Wrong("cohorts", absl::StrCat("are too many; expected at most ", kMaxCohorts));
  }
  std::vector<rollout::Cohort> result;
  std::set<std::string> names;
  std::set<std::string> tenants;
  for (int i = 0; i < cohorts.size(); ++i) {
    const v1::Cohort& cohort = cohorts[i];
    const std::string field = absl::StrCat("cohorts[", i, "]");
    RETURN_IF_ERROR(CheckText(field + ".name", cohort.name(), kMaxNameBytes, true));
    if (!names.insert(cohort.name()).second) return Wrong(field + ".name", "is taken by an earlier cohort");
    if ((cohort.tenants_size() > 0) == (cohort.share_ppm() > 0)) {
      return Wrong(field, "needs either tenants or share_ppm, and not both");
    }
    if (cohort.tenants_size() > kMaxCohortTenants) {
      return Wrong(field + ".tenants", absl::StrCat("are too many; expected at most ", kMaxCohortTenants));
    }
    for (int k = 0; k < cohort.tenants_size(); ++k) {
      const std::string name = absl::StrCat(field, ".tenants[", k, "]");
      RETURN_IF_ERROR(CheckText(name, cohort.tenants(k), kMaxNameBytes, true));
      if (!tenants.insert(cohort.tenants(k)).second) return Wrong(name, "is named twice; a tenant has one cohort");
    }
    if (cohort.share_ppm() > 0) RETURN_IF_ERROR(CheckPpm(field + ".share_ppm", cohort.share_ppm(), 1, kMillion));
    result.push_back({cohort.name(), {cohort.tenants().begin(), cohort.tenants().end()}, cohort.share_ppm()});
  }
  return result;
}

v1::RolloutState ToProto(rollout::RolloutState state) {
  switch (state) {
    case rollout::RolloutState::kRunning:
      return v1::ROLLOUT_STATE_RUNNING;
    case rollout::RolloutState::kPaused:
      return v1::ROLLOUT_STATE_PAUSED;
    case rollout::RolloutState::kStopped:
      return v1::ROLLOUT_STATE_STOPPED;
    case rollout::RolloutState::kSettled:
      return v1::ROLLOUT_STATE_SETTLED;
    case rollout::RolloutState::kRolledBack:
      return v1::ROLLOUT_STATE_ROLLED_BACK;
    case rollout::RolloutState::kAborted:
      return v1::ROLLOUT_STATE_ABORTED;
  }
  return v1::ROLLOUT_STATE_UNSPECIFIED;
}

v1::TargetState ToProto(rollout::TargetState state) {
  switch (state) {
    case rollout::TargetState::kWaiting:
      return v1::TARGET_STATE_WAITING;
    case rollout::TargetState::kShadow:
      return v1::TARGET_STATE_SHADOW;
    case rollout::TargetState::kAwaitingApproval:
      return v1::TARGET_STATE_AWAITING_APPROVAL;
    case rollout::TargetState::kRamping:
      return v1::TARGET_STATE_RAMPING;
    case rollout::TargetState::kSettled:
      return v1::TARGET_STATE_SETTLED;
    case rollout::TargetState::kBlocked:
      return v1::TARGET_STATE_BLOCKED;
    case rollout::TargetState::kRolledBack:
      return v1::TARGET_STATE_ROLLED_BACK;
  }
  return v1::TARGET_STATE_UNSPECIFIED;
}

bool IsFinal(v1::RolloutState state) {
  return state == v1::ROLLOUT_STATE_SETTLED || state == v1::ROLLOUT_STATE_ROLLED_BACK ||
         state == v1::ROLLOUT_STATE_ABORTED;
}

v1::Rollout ToProto(const rollout::RolloutView& rollout) {
  v1::Rollout result;
  result.set_id(rollout.id);
  result.set_family(rollout.family);
  result.set_state(ToProto(rollout.state));
  result.set_cohort(static_cast<uint32_t>(rollout.cohort));
  for (const rollout::Cohort& cohort : rollout.cohorts) {
    v1::Cohort* out = result.add_cohorts();
    out->set_name(cohort.name);
    CopyAll(cohort.tenants, out->mutable_tenants());
    out->set_share_ppm(cohort.share_ppm);
  }
  *result.mutable_policy() = ToProto(rollout.policy);
  for (const rollout::TargetView& target : rollout.targets) {
    v1::RolloutTarget* out = result.add_targets();
    out->set_tenant(target.tenant);
    out->set_cohort(target.cohort);
    out->set_state(ToProto(target.state));
    out->set_mode(ToProto(target.mode));
    out->set_serve_ppm(target.serve_ppm);
    out->set_window(target.window);
    out->set_window_since_us(ToMicros(target.window_since));
    for (const rollout::Clause& clause : target.clauses) {
      v1::Clause* shown = out->add_clauses();
      shown->set_name(clause.name);
      shown->set_met(clause.met);
      shown->set_detail(clause.detail);
      shown->set_eta_us(clause.met ? 0 : ToEta(clause.eta));
    }
    out->set_confirmed(target.confirmed);
    out->set_reason(target.reason);
    out->set_eta_us(ToEta(target.eta));
  }
  result.set_who(rollout.who);
  result.set_reason(rollout.reason);
  result.set_started_at_us(ToMicros(rollout.started_at));
  result.set_changed_at_us(ToMicros(rollout.changed_at));
  result.set_eta_us(ToEta(rollout.eta));
  CopyAll(rollout.fingerprints, result.mutable_fingerprints());
  return result;
}

v1::Divergence ToProto(const diff::Divergence& divergence) {
  v1::Divergence result;
  result.set_id(divergence.id);
  result.set_tenant(divergence.evidence.tenant);
  result.set_family(divergence.evidence.family);
  result.set_endpoint(divergence.evidence.endpoint);
  result.set_fingerprint(divergence.fingerprint);
  result.set_key(divergence.key);
  result.set_fill(divergence.fill);
  for (const diff::Difference& difference : divergence.differences) {
    v1::Difference* out = result.add_differences();
    out->set_pointer(difference.pointer);
    out->set_kind(std::string(diff::KindName(difference.kind)));
    out->set_control(difference.control);
    out->set_candidate(difference.candidate);
  }
  result.set_differences_total(divergence.differences_total);
  v1::Proof* proof = result.mutable_proof();
  proof->set_rule(divergence.rule);
  proof->set_freshness_us(absl::ToInt64Microseconds(divergence.freshness));
  proof->set_filled_at_us(ToMicros(divergence.filled_at));
  proof->set_served_at_us(ToMicros(divergence.served_at));
  for (const diff::Observation& observation : divergence.observations) {
    v1::Observation* out = proof->add_observations();
    out->set_candidate_at_us(ToMicros(observation.candidate_at));
    out->set_same_fill(observation.same_fill);
    out->set_control_at_us(ToMicros(observation.control_at));
    out->set_differed(observation.differed);
    out->set_snapshot(observation.snapshot);
  }
  for (const auto& [tag, invalidated_at] : divergence.tags) {
    v1::TagHistory* out = proof->add_tags();
    out->set_tag(tag);
    out->set_last_invalidated_at_us(ToMicros(invalidated_at));
  }
  result.set_cause(divergence.cause);
  result.set_cause_evidence(divergence.cause_evidence);
  result.set_reads_affected(divergence.reads_affected);
  result.set_window(divergence.evidence.window);
  result.set_catalog_revision(divergence.evidence.catalog_revision);
  result.set_after_cutover(divergence.after_cutover);
  result.set_confirmed_at_us(ToMicros(divergence.confirmed_at));
  proof->set_committed_at_us(ToMicros(divergence.committed_at));
  proof->set_transaction(divergence.transaction);
  result.set_unsafe(divergence.unsafe);
  std::vector<std::string> tags;
  for (const auto& [tag, at] : divergence.tags) tags.push_back(tag);
  result.set_advice(diff::AdviceOn(divergence.cause, tags));
  result.set_replayable(!divergence.sealed.empty());
  result.set_sealed_until_us(ToMicros(divergence.sealed_until));
  return result;
}

v1::DivergenceGroup ToProto(const diff::DivergenceGroup& group) {
  v1::DivergenceGroup result;
  result.set_family(group.family);
  result.set_endpoint(group.endpoint);
  result.set_fingerprint(group.fingerprint);
  CopyAll(group.patterns, result.mutable_patterns());
  result.set_cause(group.cause);
  result.set_divergences(group.divergences);
  result.set_tenants(group.tenants);
  result.set_keys(group.keys);
  result.set_reads_affected(group.reads_affected);
  result.set_first_at_us(ToMicros(group.first_at));
  result.set_last_at_us(ToMicros(group.last_at));
  result.set_example_id(group.example_id);
  result.set_unsafe(group.unsafe);
  result.set_advice(diff::AdviceOn(group.cause, {}));
  result.set_cause_evidence(group.cause_evidence);
  CopyAll(group.example_keys, result.mutable_example_keys());
  return result;
}

v1::Noise ToProto(const diff::Noise& noise) {
  v1::Noise result;
  result.set_endpoint(noise.endpoint);
  result.set_pattern(noise.pattern);
  result.set_pairs(noise.pairs);
  result.set_differed(noise.differed);
  const diff::ShareInterval share = diff::WilsonInterval(noise.differed, noise.pairs);
  result.set_low_ppm(share.low_ppm);
  result.set_high_ppm(share.high_ppm);
  return result;
}

v1::Ledger ToProto(const diff::LedgerTotals& totals) {
  v1::Ledger result;
  result.set_sampled(totals.counts.sampled);
  result.set_matched(totals.counts.matched);
  result.set_excused(totals.counts.excused);
  result.set_healed(totals.counts.healed);
  result.set_confirmed(totals.counts.confirmed);
  result.set_inconclusive(totals.counts.inconclusive);
  result.set_errored(totals.counts.errored);
  result.set_shed(totals.counts.shed);
  result.set_lost(totals.lost);
  result.set_pending(totals.pending);
  return result;
}

v1::TargetReport ToReport(const std::string& family, const rollout::TargetView& target) {
  v1::TargetReport result;
  result.set_tenant(target.tenant);
  result.set_family(family);
  result.set_mode(ToProto(target.mode));
  result.set_serve_ppm(target.serve_ppm);
  result.set_window(target.window);
  result.set_window_since_us(ToMicros(target.window_since));
  *result.mutable_ledger() = ToProto(target.ledger);
  result.set_episodes(target.episodes);
  result.set_distinct_keys(target.distinct_keys);
  result.set_exercised(target.exercised);
  for (const rollout::Clause& clause : target.clauses) {
    if (!clause.met) result.add_missing(absl::StrCat(clause.name, ": ", clause.detail));
  }
  const diff::Weighted& weighted = target.ledger.counts.weighted;
  if (const auto estimate = diff::EstimateOf(weighted); estimate.has_value()) {
    v1::Estimate* out = result.mutable_estimate();
    out->set_reads(static_cast<uint64_t>(estimate->reads + 0.5));
    out->set_wrong_ppm(estimate->rate * kMillion);
    if (!target.sample_by_key) {
      out->set_standard_error_ppm(estimate->standard_error * kMillion);
      out->set_low_ppm(estimate->low * kMillion);
      out->set_high_ppm(estimate->high * kMillion);
    }
    for (size_t i = 0; i < diff::kStrata; ++i) {
      v1::StratumReport* stratum = result.add_strata();
      stratum->set_name(std::string(diff::StratumName(static_cast<diff::Stratum>(i))));
      stratum->set_judged(weighted.judged_of[i]);
      stratum->set_confirmed(weighted.wrong_of[i]);
    }
  }
  return result;
}

v1::Flip ToProto(const rollout::Flip& flip) {
  v1::Flip result;
  result.set_tenant(flip.tenant);
  result.set_family(flip.family);
  result.set_from(flip.from);
  result.set_to(flip.to);
  result.set_who(flip.who);
  result.set_why(flip.why);
  result.set_at_us(ToMicros(flip.at));
  result.set_receipt_id(flip.receipt_id);
  return result;
}

}  // namespace shadowline::server
