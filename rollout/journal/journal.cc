#include "rollout/journal/journal.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/status.h"
#include "rollout/machine/machine.h"

namespace nlohmann {

template <>
struct adl_serializer<absl::Time> {
  static void to_json(json& out, absl::Time time) { out = absl::ToUnixMicros(time); }
  static void from_json(const json& in, absl::Time& time) { time = absl::FromUnixMicros(in.get<int64_t>()); }
};

template <>
struct adl_serializer<absl::Duration> {
  static void to_json(json& out, absl::Duration duration) { out = absl::ToInt64Microseconds(duration); }
  static void from_json(const json& in, absl::Duration& duration) { duration = absl::Microseconds(in.get<int64_t>()); }
};

template <typename T>
struct adl_serializer<std::optional<T>> {
  static void to_json(json& out, const std::optional<T>& value) {
    if (value.has_value()) {
      out = *value;
    } else {
      out = nullptr;
    }
  }
  static void from_json(const json& in, std::optional<T>& value) {
    if (in.is_null()) {
      value.reset();
    } else {
      value = in.get<T>();
    }
  }
};

}  // namespace nlohmann

namespace shadowline {
namespace flags {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SampleShares, uncertified_ppm, recent_ppm, negative_ppm, old_ppm, cold_ppm)
NLOHMANN_JSON_SERIALIZE_ENUM(Mode, {{Mode::kDatabase, "DATABASE"}, {Mode::kShadow, "SHADOW"}, {Mode::kCache, "CACHE"}})

// What was written before there were strata says nothing of them, and is derived again as it was: where there are none,
// nothing is written now either.
#define FLAG_MEMBERS(each)                                                                                            \
  NLOHMANN_JSON_EXPAND(NLOHMANN_JSON_PASTE(each, mode, serve_ppm, sample_ppm, sample_by_key, epoch, revision, window, \
                                           catalog_revision, reason, changed_at))
void to_json(nlohmann::json& nlohmann_json_j, const Flag& nlohmann_json_t) {
  FLAG_MEMBERS(NLOHMANN_JSON_TO)
  if (nlohmann_json_t.strata != SampleShares()) nlohmann_json_j["strata"] = nlohmann_json_t.strata;
}
void from_json(const nlohmann::json& nlohmann_json_j, Flag& nlohmann_json_t) {
  FLAG_MEMBERS(NLOHMANN_JSON_FROM)
  nlohmann_json_t.strata = nlohmann_json_j.value("strata", SampleShares());
}
#undef FLAG_MEMBERS

}  // namespace flags

namespace diff {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Counts, sampled, matched, excused, healed, confirmed, inconclusive, errored, shed,
                                   candidate_misses, candidate_errors, candidate_latency)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LedgerTotals, counts, lost, pending)

}  // namespace diff

namespace rollout {

NLOHMANN_JSON_SERIALIZE_ENUM(RolloutState, {{RolloutState::kRunning, "RUNNING"},
                                            {RolloutState::kPaused, "PAUSED"},
                                            {RolloutState::kStopped, "STOPPED"},
                                            {RolloutState::kSettled, "SETTLED"},
                                            {RolloutState::kRolledBack, "ROLLED_BACK"},
                                            {RolloutState::kAborted, "ABORTED"}})
NLOHMANN_JSON_SERIALIZE_ENUM(TargetState, {{TargetState::kWaiting, "WAITING"},
                                           {TargetState::kShadow, "SHADOW"},
                                           {TargetState::kAwaitingApproval, "AWAITING_APPROVAL"},
                                           {TargetState::kRamping, "RAMPING"},
                                           {TargetState::kSettled, "SETTLED"},
                                           {TargetState::kBlocked, "BLOCKED"},
                                           {TargetState::kRolledBack, "ROLLED_BACK"}})
NLOHMANN_JSON_SERIALIZE_ENUM(Action, {{Action::kNone, "none"},
                                      {Action::kNote, "note"},
                                      {Action::kOpenWindow, "open_window"},
                                      {Action::kCutOver, "cut_over"},
                                      {Action::kRamp, "ramp"},
                                      {Action::kBlock, "block"},
                                      {Action::kRollBack, "roll_back"}})

#define POLICY_MEMBERS(each)                                                                               \
  NLOHMANN_JSON_EXPAND(NLOHMANN_JSON_PASTE(each, duration, episodes, distinct_keys, exercised, slo_ppm,    \
                                           confidence_ppm, unjudged_ppm, candidate_p95, shadow_sample_ppm, \
                                           cache_sample_ppm, sample_by_key, ramp_ppm, soak, approval))
void to_json(nlohmann::json& nlohmann_json_j, const Policy& nlohmann_json_t) {
  POLICY_MEMBERS(NLOHMANN_JSON_TO)
  if (nlohmann_json_t.strata != flags::SampleShares()) nlohmann_json_j["strata"] = nlohmann_json_t.strata;
}
void from_json(const nlohmann::json& nlohmann_json_j, Policy& nlohmann_json_t) {
  POLICY_MEMBERS(NLOHMANN_JSON_FROM)
  nlohmann_json_t.strata = nlohmann_json_j.value("strata", flags::SampleShares());
}
#undef POLICY_MEMBERS
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Cohort, name, tenants, share_ppm)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(EndpointEvidence, episodes, distinct_keys, exercised)
// Receipts from before `unsafe` was counted have none.
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Evidence, endpoints, ledger, confirmed, unsafe, unswept)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Fleet, live, watermark)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Progress, cohort, state, step, forced, judged_until, step_since, judged_at_step,
                                   reason)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Target, flag, window_since)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TargetInput, family, tenant, policy, endpoints, rollout, approved, catalog_revision,
                                   progress, target, evidence, fleet, now)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TargetDecision, action, progress, target, why)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Rollout, id, family, state, cohort, cohort_begun, cohort_approved, cohorts, policy,
                                   endpoints, catalog_revision, targets, who, reason, started_at, changed_at)

namespace {

using nlohmann::json;

// The library sorts members; what a tenant or an operator wrote may be any bytes.
std::string Canonical(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

std::string DigestOf(absl::string_view text) { return absl::BytesToHexString(base::Digest128(text)); }

absl::StatusOr<json> Parse(absl::string_view text) {
  json parsed = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return absl::DataLossError("not JSON");
  return parsed;
}

template <typename T>
absl::StatusOr<T> Read(const json& value) {
  try {
    return value.get<T>();
  } catch (const json::exception& error) {
    return absl::DataLossError(error.what());
  }
}

}  // namespace

Receipt MakeReceipt(std::string id, uint64_t leader_epoch, const TargetInput& input, const TargetDecision& decision) {
  Receipt receipt;
  receipt.id = std::move(id);
  receipt.family = input.family;
  receipt.tenant = input.tenant;
  receipt.window = input.target.flag.window;
  receipt.catalog_revision = input.target.flag.catalog_revision;
  receipt.leader_epoch = leader_epoch;
  receipt.decision = std::string(ActionName(decision.action));
  receipt.inputs = Canonical({{"layout", 1}, {"input", input}, {"decision", decision}});
  receipt.digest = DigestOf(receipt.inputs);
  receipt.at = input.now;
  return receipt;
}

absl::StatusOr<TargetDecision> Replay(const Receipt& receipt) {
  const std::string where = absl::StrCat("receipt ", receipt.id);
  const absl::StatusOr<json> parsed = Parse(receipt.inputs);
  if (!parsed.ok()) return base::Annotate(parsed.status(), where);
  if (DigestOf(Canonical(*parsed)) != receipt.digest) {
    return absl::DataLossError(absl::StrCat(where, ": its digest is another than ", receipt.digest));
  }
  if (!parsed->contains("layout") || parsed->at("layout") != 1 || !parsed->contains("input") ||
      !parsed->contains("decision")) {
    return absl::DataLossError(absl::StrCat(where, ": a layout that this program does not know"));
  }
  const absl::StatusOr<TargetInput> input = Read<TargetInput>(parsed->at("input"));
  if (!input.ok()) return base::Annotate(input.status(), where);

  const TargetDecision decision = Decide(*input);
  const std::string now = Canonical(decision);
  const std::string then = Canonical(parsed->at("decision"));
  if (now != then) {
    return absl::FailedPreconditionError(absl::StrCat(where, ": decided ", then, ", but this program decides ", now));
  }
  return decision;
}

std::string EncodeRollout(const Rollout& rollout) { return Canonical(rollout); }

absl::StatusOr<Rollout> DecodeRollout(absl::string_view document) {
  const absl::StatusOr<json> parsed = Parse(document);
  absl::StatusOr<Rollout> rollout = parsed.ok() ? Read<Rollout>(*parsed) : parsed.status();
  if (!rollout.ok()) return base::Annotate(rollout.status(), "rollout document");
  return rollout;
}

}  // namespace rollout
}  // namespace shadowline
