#include "rollout/machine/machine.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/hash.h"
#include "base/status.h"

namespace shadowline::rollout {
namespace {

constexpr char kController[] = "controller";

// Reads of the window that came to a verdict about the candidate.
uint64_t Judged(const Evidence& evidence) {
  const diff::Counts& counts = evidence.ledger.counts;
  return counts.matched + counts.excused + counts.healed + counts.confirmed;
}

std::string Divergences(uint64_t confirmed) {
  return confirmed == 1 ? std::string("1 divergence") : absl::StrCat(Grouped(confirmed), " divergences");
}

// Why the target may not be served from the cache, after or before the `cutover`; empty: nothing is in the way.
std::string Fault(const Evidence& evidence, absl::string_view cutover) {
  if (evidence.unsafe > 0) {
    return absl::StrCat(
        evidence.unsafe == 1 ? "an unsafe answer was" : absl::StrCat(Grouped(evidence.unsafe), " unsafe answers were"),
        " confirmed in the family");
  }
  if (evidence.confirmed > 0)
    return absl::StrCat(Divergences(evidence.confirmed), " confirmed ", cutover, " the cutover");
  return "";
}

bool Stops(TargetState state) { return state == TargetState::kBlocked || state == TargetState::kRolledBack; }

// The cache serves it, or evidence for that is collected: its window has to follow the catalog.
bool HasLiveWindow(TargetState state) {
  return state == TargetState::kShadow || state == TargetState::kAwaitingApproval || state == TargetState::kRamping ||
         state == TargetState::kSettled;
}

Target ToDatabase(Target target, const std::string& reason) {
  target.flag.mode = flags::Mode::kDatabase;
  target.flag.serve_ppm = 0;
  target.flag.sample_ppm = 0;
  target.flag.strata = {};
  target.flag.reason = reason;
  return target;
}

// A fresh start: a new window, and a new epoch so that no value from before is read.
Target ToShadow(Target target, const Policy& policy, uint64_t catalog_revision, absl::Time now,
                const std::string& reason) {
  target.flag.mode = flags::Mode::kShadow;
  target.flag.serve_ppm = 0;
  target.flag.sample_ppm = policy.shadow_sample_ppm;
  target.flag.strata = policy.strata;
  target.flag.sample_by_key = policy.sample_by_key;
  target.flag.epoch += 1;
  target.flag.window += 1;
  target.flag.catalog_revision = catalog_revision;
  target.flag.reason = reason;
  target.window_since = now;
  return target;
}

Target ToCache(Target target, const Policy& policy, uint32_t serve_ppm, const std::string& reason) {
  target.flag.mode = flags::Mode::kCache;
  target.flag.serve_ppm = serve_ppm;
  target.flag.sample_ppm = policy.cache_sample_ppm;
  target.flag.strata = policy.strata;
  target.flag.sample_by_key = policy.sample_by_key;
  target.flag.reason = reason;
  return target;
}

WindowInput WindowOf(const TargetInput& input) {
  return {input.policy, input.endpoints, input.target.window_since, input.progress.judged_until, input.evidence,
          input.fleet,  input.now};
}

Clause SoakClause(const TargetInput& input) {
  const absl::Duration soaked = input.now - input.progress.step_since;
  const absl::Duration left = std::max(input.policy.soak - soaked, absl::ZeroDuration());
  const uint64_t judged = Judged(input.evidence);
  const uint64_t verdicts = judged - std::min(judged, input.progress.judged_at_step);
  // Where the policy samples nothing after the cutover, none can come.
  const bool starved = verdicts == 0 && input.policy.cache_sample_ppm > 0;
  Clause clause;
  clause.name = "soak";
  clause.met = left == absl::ZeroDuration() && !starved;
  clause.detail = absl::StrCat(absl::FormatDuration(absl::Trunc(soaked, absl::Seconds(1))), " of ",
                               absl::FormatDuration(input.policy.soak), " at ", RoutingName(input.target.flag), ", ",
                               Grouped(verdicts), " verdicts");
  if (!starved || left > absl::ZeroDuration()) clause.eta = left;
  return clause;
}

// The next step towards the cache: the cutover, or the next step of the ramp.
TargetDecision Promote(const TargetInput& input, const std::string& why) {
  const bool cut_over = input.progress.state != TargetState::kRamping;
  const uint32_t step = cut_over ? 0 : input.progress.step + 1;
  TargetDecision decision;
  decision.action = cut_over ? Action::kCutOver : Action::kRamp;
  decision.why = why;
  decision.target = ToCache(input.target, input.policy, input.policy.ramp_ppm[step], why);
  decision.progress = input.progress;
  decision.progress.state = step + 1 == input.policy.ramp_ppm.size() ? TargetState::kSettled : TargetState::kRamping;
  decision.progress.step = step;
  decision.progress.step_since = input.now;
  decision.progress.judged_at_step = Judged(input.evidence);
  decision.progress.judged_until.reset();
  decision.progress.reason = why;
  return decision;
}

TargetDecision Unchanged(const TargetInput& input) { return {Action::kNone, input.progress, input.target, ""}; }

// Only the progress changes, if it does.
TargetDecision Note(const TargetInput& input, Progress progress) {
  const Action action = progress == input.progress ? Action::kNone : Action::kNote;
  return {action, std::move(progress), input.target, ""};
}

// Rule 3: the rollout runs, the catalog is known, and the target may move.
TargetDecision DecideProgress(const TargetInput& input) {
  const Progress& progress = input.progress;
  const bool ramping = progress.state == TargetState::kRamping;
  if (progress.forced) {
    if (ramping && input.now - progress.step_since < input.policy.soak) return Unchanged(input);
    return Promote(input, progress.reason);
  }

  const std::vector<Clause> clauses = ClausesOf(input);
  Progress next = progress;
  if (!ReadyToJudge(clauses)) {
    next.judged_until.reset();
    if (progress.state == TargetState::kAwaitingApproval) next.state = TargetState::kShadow;
    return Note(input, next);
  }
  if (progress.state == TargetState::kAwaitingApproval) {
    if (!input.approved) return Unchanged(input);
    // The approval may come long after the judgement: judge again, up to now.
    next.state = TargetState::kShadow;
    next.judged_until = input.now;
    return Note(input, next);
  }
  if (!progress.judged_until.has_value()) {
    next.judged_until = input.now;
    return Note(input, next);
  }
  if (!Clean(clauses)) return Unchanged(input);
  if (!ramping && input.policy.approval && !input.approved) {
    next.state = TargetState::kAwaitingApproval;
    next.reason = "clean; waits for an approval";
    return Note(input, next);
  }

  uint64_t episodes = 0;
  uint64_t exercised = 0;
  for (const auto& [endpoint, evidence] : input.evidence.endpoints) {
    episodes += evidence.episodes;
    exercised += evidence.exercised;
  }
  return Promote(input, absl::StrCat("window ", input.target.flag.window, " is clean: ", Grouped(episodes),
                                     " episodes, ", Grouped(exercised), " after a write, no divergence"));
}

// A target that no rollout knows: it settled in one before.
TargetInput OrphanInput(const FamilyState& state, const std::string& tenant, const std::optional<CatalogFacts>& facts,
                        absl::Time now) {
  TargetInput input;
  input.family = state.family;
  input.tenant = tenant;
  input.rollout = RolloutState::kSettled;
  if (facts.has_value() && facts->revision == state.catalog_revision) input.catalog_revision = facts->revision;
  input.progress.state = TargetState::kSettled;
  input.target = state.TargetOf(tenant);
  input.evidence = state.EvidenceOf(tenant);
  input.fleet = state.fleet;
  input.now = now;
  return input;
}

TargetChange ChangeFor(const TargetInput& input, const TargetDecision& decision) {
  TargetChange change;
  change.tenant = input.tenant;
  change.before = input.target;
  change.after = decision.target;
  change.who = kController;
  change.why = decision.why;
  change.promotes = decision.action == Action::kCutOver || decision.action == Action::kRamp;
  change.basis.emplace(input, decision);
  return change;
}

// A new rollout document and rows, under construction.
class Draft {
 public:
  Draft(const FamilyState& state, absl::Time now) : state_(state), rollout_(*state.rollout), now_(now) {}

  Rollout& rollout() { return rollout_; }
  void Touch() { touched_ = true; }

  void SetState(RolloutState next, const std::string& reason) {
    rollout_.state = next;
    rollout_.reason = reason;
    Touch();
  }

  void Add(TargetChange change) { changes_.push_back(std::move(change)); }

  // What an operator, or the start of a cohort, does to a row.
  void Add(const std::string& tenant, Target after, const std::string& who, const std::string& why) {
    TargetChange change;
    change.tenant = tenant;
    change.before = state_.TargetOf(tenant);
    change.after = std::move(after);
    change.who = who;
    change.why = why;
    if (change.before == change.after) return;
    Add(std::move(change));
  }

  Outcome Finish() && {
    Outcome outcome;
    outcome.targets = std::move(changes_);
    if (touched_) {
      rollout_.changed_at = now_;
      outcome.rollout = std::move(rollout_);
    }
    return outcome;
  }

 private:
  const FamilyState& state_;
  Rollout rollout_;
  const absl::Time now_;
  bool touched_ = false;
  std::vector<TargetChange> changes_;
};

void BeginCohort(const FamilyState& state, uint64_t catalog_revision, absl::Time now, Draft* draft) {
  Rollout& rollout = draft->rollout();
  const Cohort& cohort = rollout.cohorts[rollout.cohort];
  for (const std::string& tenant :
       ResolveCohort(rollout.family, rollout.cohort, cohort, state.tenants, rollout.targets)) {
    Progress progress;
    progress.cohort = rollout.cohort;
    const Target before = state.TargetOf(tenant);
    if (before.flag.mode == flags::Mode::kCache && before.flag.serve_ppm == 1'000'000) {
      // An earlier rollout has brought it here, and it is watched: it keeps its window.
      progress.state = TargetState::kSettled;
      progress.step = static_cast<uint32_t>(rollout.policy.ramp_ppm.size() - 1);
      progress.reason = "settled by an earlier rollout";
    } else {
      progress.state = TargetState::kShadow;
      progress.reason = absl::StrCat("cohort ", cohort.name, " has begun");
      draft->Add(tenant, ToShadow(before, rollout.policy, catalog_revision, now, progress.reason), kController,
                 progress.reason);
    }
    rollout.targets[tenant] = std::move(progress);
  }
  rollout.cohort_begun = true;
  draft->Touch();
}

// Of the present cohort and of those before it: a rollback and a resume may have sent one of their targets back.
bool AllSettled(const FamilyState& state, const Rollout& rollout) {
  return std::all_of(rollout.targets.begin(), rollout.targets.end(), [&](const auto& entry) {
    // A tenant that has gone holds nobody up.
    return entry.second.state == TargetState::kSettled || !state.tenants.contains(entry.first);
  });
}

// Rule 4.
void AdvanceCohorts(const FamilyState& state, uint64_t catalog_revision, absl::Time now, Draft* draft) {
  Rollout& rollout = draft->rollout();
  while (true) {
    if (!rollout.cohort_begun) BeginCohort(state, catalog_revision, now, draft);
    if (!AllSettled(state, rollout)) return;
    if (rollout.cohort + 1 == rollout.cohorts.size()) {
      draft->SetState(RolloutState::kSettled, "every target is served from the cache");
      return;
    }
    ++rollout.cohort;
    rollout.cohort_begun = false;
    rollout.cohort_approved = false;
    draft->Touch();
  }
}

std::string Signed(const Command& command, absl::string_view verb) {
  return absl::StrCat(verb, " by ", command.who, command.reason.empty() ? "" : absl::StrCat(": ", command.reason));
}

absl::Status Unfit(const Rollout& rollout, absl::string_view verb, absl::string_view remedy = "") {
  return absl::FailedPreconditionError(
      absl::StrCat("rollout ", rollout.id, " is ", StateName(rollout.state), ": it cannot be ", verb, remedy));
}

absl::Status ApplyResume(const FamilyState& state, const Command& command, absl::Time now, Draft* draft) {
  Rollout& rollout = draft->rollout();
  if (rollout.state == RolloutState::kRunning) return absl::OkStatus();
  if (Ended(rollout.state)) return Unfit(rollout, "resumed", "; start a new one");
  const std::string why = Signed(command, "resumed");
  if (rollout.state == RolloutState::kStopped) {
    for (auto& [tenant, progress] : rollout.targets) {
      if (!Stops(progress.state)) continue;
      const uint32_t cohort = progress.cohort;
      progress = Progress();
      progress.cohort = cohort;
      progress.state = TargetState::kShadow;
      progress.reason = why;
      draft->Add(tenant, ToShadow(state.TargetOf(tenant), rollout.policy, state.catalog_revision, now, why),
                 command.who, why);
    }
    // What was approved was another window.
    rollout.cohort_approved = false;
  }
  draft->SetState(RolloutState::kRunning, why);
  return absl::OkStatus();
}

absl::Status ApplyApprove(const Command& command, Draft* draft) {
  Rollout& rollout = draft->rollout();
  const bool waits = std::any_of(rollout.targets.begin(), rollout.targets.end(), [&](const auto& entry) {
    return entry.second.state == TargetState::kAwaitingApproval;
  });
  if (Ended(rollout.state) || rollout.state == RolloutState::kStopped || !waits) {
    return absl::FailedPreconditionError(
        absl::StrCat("rollout ", rollout.id, " is ", StateName(rollout.state), ": no cohort waits for an approval"));
  }
  rollout.cohort_approved = true;
  rollout.reason = Signed(command, "approved");
  draft->Touch();
  return absl::OkStatus();
}

absl::Status ApplyPromote(const FamilyState& state, const Command& command, Draft* draft) {
  Rollout& rollout = draft->rollout();
  if (command.reason.empty()) {
    return absl::InvalidArgumentError("reason: required to promote past the evidence");
  }
  if (rollout.state != RolloutState::kRunning) return Unfit(rollout, "promoted", "; resume it first");
  std::vector<std::string> tenants;
  if (!command.tenant.empty()) {
    const auto found = rollout.targets.find(command.tenant);
    if (found == rollout.targets.end()) {
      if (!state.tenants.contains(command.tenant)) {
        return absl::NotFoundError(absl::StrCat("tenant ", command.tenant, ": unknown"));
      }
      return absl::FailedPreconditionError(
          absl::StrCat("tenant ", command.tenant, ": no cohort with it has begun in rollout ", rollout.id));
    }
    if (found->second.state == TargetState::kSettled) {
      return absl::FailedPreconditionError(absl::StrCat("tenant ", command.tenant, ": SETTLED already"));
    }
    tenants.push_back(command.tenant);
  } else {
    for (const auto& [tenant, progress] : rollout.targets) {
      if (progress.cohort == rollout.cohort && progress.state != TargetState::kSettled) tenants.push_back(tenant);
    }
  }
  for (const std::string& tenant : tenants) {
    const Evidence evidence = state.EvidenceOf(tenant);
    if (evidence.unsafe > 0) {
      return absl::FailedPreconditionError(absl::StrCat("tenant ", tenant, ": ", Fault(evidence, ""),
                                                        " since its window began; mend the cause, then resume"));
    }
    if (evidence.confirmed > 0) {
      return absl::FailedPreconditionError(
          absl::StrCat("tenant ", tenant, ": ", Divergences(evidence.confirmed),
                       " confirmed in its present window; mend the cause, then resume"));
    }
  }
  for (const std::string& tenant : tenants) {
    Progress& progress = rollout.targets[tenant];
    progress.forced = true;
    progress.reason = Signed(command, "promoted");
  }
  if (!tenants.empty()) draft->Touch();
  return absl::OkStatus();
}

absl::Status ApplyRollback(const FamilyState& state, const Command& command, Draft* draft) {
  Rollout& rollout = draft->rollout();
  const std::string why = Signed(command, "rolled back");
  if (!command.tenant.empty() && !state.tenants.contains(command.tenant) && !state.targets.contains(command.tenant)) {
    return absl::NotFoundError(absl::StrCat("tenant ", command.tenant, ": unknown"));
  }
  for (const auto& [tenant, target] : state.targets) {
    if (!command.tenant.empty() && tenant != command.tenant) continue;
    if (target.flag.mode != flags::Mode::kDatabase) draft->Add(tenant, ToDatabase(target, why), command.who, why);
  }
  for (auto& [tenant, progress] : rollout.targets) {
    if (!command.tenant.empty() && tenant != command.tenant) continue;
    if (progress.state == TargetState::kRolledBack) continue;
    progress.state = TargetState::kRolledBack;
    progress.judged_until.reset();
    progress.forced = false;
    progress.reason = why;
    draft->Touch();
    if (!command.tenant.empty() && (rollout.state == RolloutState::kSettled || !Ended(rollout.state))) {
      draft->SetState(RolloutState::kStopped, absl::StrCat(tenant, ": ", why));
    }
  }
  if (command.tenant.empty() && rollout.state != RolloutState::kRolledBack && rollout.state != RolloutState::kAborted) {
    draft->SetState(RolloutState::kRolledBack, why);
  }
  return absl::OkStatus();
}

absl::Status ApplyAbort(const FamilyState& state, const Command& command, Draft* draft) {
  Rollout& rollout = draft->rollout();
  if (rollout.state == RolloutState::kAborted) return absl::OkStatus();
  if (Ended(rollout.state)) return Unfit(rollout, "aborted", "; roll it back instead");
  const std::string why = Signed(command, "aborted");
  for (auto& [tenant, progress] : rollout.targets) {
    if (progress.state == TargetState::kSettled) continue;
    const Target before = state.TargetOf(tenant);
    if (before.flag.mode != flags::Mode::kDatabase) draft->Add(tenant, ToDatabase(before, why), command.who, why);
    progress.judged_until.reset();
    progress.forced = false;
    if (Stops(progress.state)) continue;  // Its own reason says more.
    progress.state = TargetState::kRolledBack;
    progress.reason = why;
  }
  draft->SetState(RolloutState::kAborted, why);
  return absl::OkStatus();
}

}  // namespace

bool Ended(RolloutState state) {
  return state == RolloutState::kSettled || state == RolloutState::kRolledBack || state == RolloutState::kAborted;
}

Target FamilyState::TargetOf(const std::string& tenant) const {
  const auto found = targets.find(tenant);
  return found == targets.end() ? Target() : found->second;
}

Evidence FamilyState::EvidenceOf(const std::string& tenant) const {
  const auto found = evidence.find(tenant);
  return found == evidence.end() ? Evidence() : found->second;
}

absl::string_view StateName(RolloutState state) {
  switch (state) {
    case RolloutState::kRunning:
      return "RUNNING";
    case RolloutState::kPaused:
      return "PAUSED";
    case RolloutState::kStopped:
      return "STOPPED";
    case RolloutState::kSettled:
      return "SETTLED";
    case RolloutState::kRolledBack:
      return "ROLLED_BACK";
    case RolloutState::kAborted:
      return "ABORTED";
  }
  return "STOPPED";
}

absl::string_view StateName(TargetState state) {
  switch (state) {
    case TargetState::kWaiting:
      return "WAITING";
    case TargetState::kShadow:
      return "SHADOW";
    case TargetState::kAwaitingApproval:
      return "AWAITING_APPROVAL";
    case TargetState::kRamping:
      return "RAMPING";
    case TargetState::kSettled:
      return "SETTLED";
    case TargetState::kBlocked:
      return "BLOCKED";
    case TargetState::kRolledBack:
      return "ROLLED_BACK";
  }
  return "BLOCKED";
}

absl::string_view ActionName(Action action) {
  switch (action) {
    case Action::kNone:
      return "none";
    case Action::kNote:
      return "note";
    case Action::kOpenWindow:
      return "open_window";
    case Action::kCutOver:
      return "cut_over";
    case Action::kRamp:
      return "ramp";
    case Action::kBlock:
      return "block";
    case Action::kRollBack:
      return "roll_back";
  }
  return "none";
}

std::string RoutingName(const flags::Flag& flag) {
  if (flag.mode != flags::Mode::kCache) return std::string(flags::ModeName(flag.mode));
  return absl::StrFormat("CACHE %.4g %%", flag.serve_ppm / 10'000.0);
}

std::vector<Clause> ClausesOf(const TargetInput& input) {
  std::vector<Clause> clauses = Judge(WindowOf(input));
  if (input.progress.state == TargetState::kRamping) clauses.insert(clauses.end() - 1, SoakClause(input));
  return clauses;
}

TargetDecision Decide(const TargetInput& input) {
  const Progress& progress = input.progress;
  const flags::Flag& flag = input.target.flag;
  const bool served = flag.mode == flags::Mode::kCache;

  // Rule 1.
  if (std::string fault = Fault(input.evidence, "after"); served && !fault.empty()) {
    TargetDecision decision;
    decision.action = Action::kRollBack;
    decision.why = std::move(fault);
    decision.target = ToDatabase(input.target, decision.why);
    decision.progress = progress;
    decision.progress.state = TargetState::kRolledBack;
    decision.progress.judged_until.reset();
    decision.progress.forced = false;
    decision.progress.reason = decision.why;
    return decision;
  }
  const bool before_cutover =
      progress.state == TargetState::kShadow || progress.state == TargetState::kAwaitingApproval;
  if (std::string fault = Fault(input.evidence, "before"); before_cutover && !fault.empty()) {
    TargetDecision decision = Unchanged(input);
    decision.action = Action::kBlock;
    decision.why = std::move(fault);
    decision.progress.state = TargetState::kBlocked;
    decision.progress.judged_until.reset();
    decision.progress.forced = false;
    decision.progress.reason = decision.why;
    return decision;
  }
  if ((progress.state == TargetState::kRamping || progress.state == TargetState::kSettled) && !served) {
    // The row is the truth: somebody took it from the cache without this rollout.
    Progress next = progress;
    next.state = TargetState::kRolledBack;
    next.judged_until.reset();
    next.reason = absl::StrCat("found as ", RoutingName(flag));
    return Note(input, next);
  }

  // Rule 2.
  if (HasLiveWindow(progress.state) && input.catalog_revision.has_value() &&
      flag.catalog_revision < *input.catalog_revision) {
    TargetDecision decision;
    decision.action = Action::kOpenWindow;
    decision.why = absl::StrCat("catalog revision ", *input.catalog_revision, " replaces ", flag.catalog_revision);
    decision.target = input.target;
    decision.target.flag.window += 1;
    decision.target.flag.catalog_revision = *input.catalog_revision;
    decision.target.window_since = input.now;
    decision.progress = progress;
    decision.progress.judged_until.reset();
    decision.progress.judged_at_step = 0;
    if (progress.state == TargetState::kAwaitingApproval) decision.progress.state = TargetState::kShadow;
    decision.progress.reason = decision.why;
    return decision;
  }

  // Rule 3.
  const bool may_move = before_cutover || progress.state == TargetState::kRamping;
  if (!may_move || input.rollout != RolloutState::kRunning || input.catalog_revision != flag.catalog_revision) {
    return Unchanged(input);
  }
  return DecideProgress(input);
}

TargetInput InputOf(const FamilyState& state, const std::string& tenant, const std::optional<CatalogFacts>& facts,
                    absl::Time now) {
  const Rollout& rollout = *state.rollout;
  TargetInput input;
  input.family = state.family;
  input.tenant = tenant;
  input.policy = rollout.policy;
  input.endpoints = rollout.endpoints;
  input.rollout = rollout.state;
  input.approved = rollout.cohort_approved;
  if (facts.has_value() && facts->revision == state.catalog_revision) {
    input.catalog_revision = facts->revision;
    input.endpoints = facts->endpoints;
  }
  input.progress = rollout.targets.at(tenant);
  input.target = state.TargetOf(tenant);
  input.evidence = state.EvidenceOf(tenant);
  input.fleet = state.fleet;
  input.now = now;
  return input;
}

Outcome Step(const FamilyState& state, const std::optional<CatalogFacts>& facts, absl::Time now) {
  Outcome orphans;
  for (const auto& [tenant, target] : state.targets) {
    if (target.flag.mode != flags::Mode::kCache) continue;
    if (state.rollout.has_value() && state.rollout->targets.contains(tenant)) continue;
    const TargetInput input = OrphanInput(state, tenant, facts, now);
    const TargetDecision decision = Decide(input);
    if (decision.action != Action::kNone) orphans.targets.push_back(ChangeFor(input, decision));
  }
  if (!state.rollout.has_value()) return orphans;

  Draft draft(state, now);
  Rollout& rollout = draft.rollout();
  std::vector<std::pair<TargetInput, TargetDecision>> decisions;
  std::vector<std::string> stopped;
  for (const auto& [tenant, progress] : rollout.targets) {
    TargetInput input = InputOf(state, tenant, facts, now);
    TargetDecision decision = Decide(input);
    if (Stops(decision.progress.state) && !Stops(progress.state)) {
      stopped.push_back(absl::StrCat(tenant, ": ", decision.progress.reason));
    }
    decisions.emplace_back(std::move(input), std::move(decision));
  }
  if (!stopped.empty() && rollout.state != RolloutState::kRolledBack && rollout.state != RolloutState::kAborted) {
    if (rollout.state != RolloutState::kStopped) draft.SetState(RolloutState::kStopped, absl::StrJoin(stopped, "; "));
    // The others are decided again under the stop: nobody is promoted in the step that stops.
    for (auto& [input, decision] : decisions) {
      input.rollout = RolloutState::kStopped;
      decision = Decide(input);
    }
  }
  for (const auto& [input, decision] : decisions) {
    if (decision.action == Action::kNone) continue;
    rollout.targets[input.tenant] = decision.progress;
    draft.Touch();
    if (decision.target != input.target) draft.Add(ChangeFor(input, decision));
  }
  if (rollout.state == RolloutState::kRunning && facts.has_value() && facts->revision == state.catalog_revision) {
    AdvanceCohorts(state, facts->revision, now, &draft);
  }

  Outcome outcome = std::move(draft).Finish();
  outcome.targets.insert(outcome.targets.end(), std::make_move_iterator(orphans.targets.begin()),
                         std::make_move_iterator(orphans.targets.end()));
  return outcome;
}

absl::StatusOr<Outcome> Start(const FamilyState& state, const StartRequest& request, const std::string& id,
                              absl::Time now) {
  if (state.rollout.has_value() && !Ended(state.rollout->state)) {
    return absl::AlreadyExistsError(absl::StrCat("family ", request.family, ": rollout ", state.rollout->id, " is ",
                                                 StateName(state.rollout->state), "; abort it first"));
  }
  RETURN_IF_ERROR(CheckPolicy(request.policy));
  if (request.endpoints.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("family ", request.family, ": the catalog has no endpoint in it"));
  }

  Rollout rollout;
  rollout.id = id;
  rollout.family = request.family;
  rollout.policy = request.policy;
  rollout.catalog_revision = request.catalog_revision;
  for (const std::string& endpoint : request.endpoints) {
    rollout.endpoints.push_back(absl::StrContains(endpoint, '/') ? endpoint
                                                                 : absl::StrCat(request.family, "/", endpoint));
  }
  rollout.cohorts = request.cohorts;
  if (rollout.cohorts.empty())
    rollout.cohorts = {{"first", {}, 50'000}, {"second", {}, 250'000}, {"rest", {}, 1'000'000}};
  for (size_t i = 0; i < rollout.cohorts.size(); ++i) {
    Cohort& cohort = rollout.cohorts[i];
    if (cohort.name.empty()) cohort.name = absl::StrCat(i + 1);
    if (cohort.tenants.empty() == (cohort.share_ppm == 0)) {
      return absl::InvalidArgumentError(
          absl::StrCat("cohorts[", i, "]: expected either tenants or a share_ppm from 1 to 1000000"));
    }
    if (cohort.share_ppm > 1'000'000) {
      return absl::InvalidArgumentError(
          absl::StrCat("cohorts[", i, "].share_ppm: ", cohort.share_ppm, " is above 1000000"));
    }
    for (const std::string& tenant : cohort.tenants) {
      if (!state.tenants.contains(tenant)) {
        return absl::NotFoundError(absl::StrCat("cohorts[", i, "]: tenant ", tenant, " is unknown"));
      }
    }
  }
  rollout.who = request.who;
  rollout.reason = request.reason;
  rollout.started_at = now;
  rollout.changed_at = now;
  Outcome outcome;
  outcome.rollout = std::move(rollout);
  return outcome;
}

absl::StatusOr<Outcome> Apply(const FamilyState& state, const Command& command, absl::Time now) {
  if (!state.rollout.has_value()) {
    return absl::NotFoundError(absl::StrCat("family ", state.family, ": it never had a rollout"));
  }
  Draft draft(state, now);
  Rollout& rollout = draft.rollout();
  switch (command.verb) {
    case Verb::kPause:
      if (rollout.state == RolloutState::kPaused) break;
      if (rollout.state != RolloutState::kRunning) return Unfit(rollout, "paused");
      draft.SetState(RolloutState::kPaused, Signed(command, "paused"));
      break;
    case Verb::kResume:
      RETURN_IF_ERROR(ApplyResume(state, command, now, &draft));
      break;
    case Verb::kApprove:
      RETURN_IF_ERROR(ApplyApprove(command, &draft));
      break;
    case Verb::kPromote:
      RETURN_IF_ERROR(ApplyPromote(state, command, &draft));
      break;
    case Verb::kRollback:
      RETURN_IF_ERROR(ApplyRollback(state, command, &draft));
      break;
    case Verb::kAbort:
      RETURN_IF_ERROR(ApplyAbort(state, command, &draft));
      break;
  }
  return std::move(draft).Finish();
}

std::vector<std::string> ResolveCohort(const std::string& family, size_t index, const Cohort& cohort,
                                       const std::set<std::string>& tenants,
                                       const std::map<std::string, Progress>& taken) {
  std::vector<std::string> resolved;
  if (!cohort.tenants.empty()) {
    for (const std::string& tenant : cohort.tenants) {
      const bool again = std::find(resolved.begin(), resolved.end(), tenant) != resolved.end();
      if (!again && !taken.contains(tenant) && tenants.contains(tenant)) resolved.push_back(tenant);
    }
    return resolved;
  }
  // Each cohort draws anew, so that its share is one of those that are left.
  const std::string salt = absl::StrCat("cohort/", family, "/", index);
  std::optional<std::pair<uint32_t, std::string>> least;
  for (const std::string& tenant : tenants) {
    if (taken.contains(tenant)) continue;
    const uint32_t draw = base::DrawPpm(salt, tenant);
    if (draw < cohort.share_ppm) resolved.push_back(tenant);
    if (!least.has_value() || std::make_pair(draw, tenant) < *least) least.emplace(draw, tenant);
  }
  if (resolved.empty() && least.has_value()) resolved.push_back(least->second);
  return resolved;
}

}  // namespace shadowline::rollout
