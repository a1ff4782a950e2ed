#include "rollout/controller/view.h"

#include <algorithm>
#include <utility>

#include "rollout/machine/machine.h"

namespace shadowline::rollout {
namespace {

// The soaks from ramp step `step` to the last.
absl::Duration SoaksFrom(const Policy& policy, size_t step) {
  return policy.soak * static_cast<int64_t>(policy.ramp_ppm.size() - 1 - std::min(step, policy.ramp_ppm.size() - 1));
}

std::optional<absl::Duration> TargetEta(const TargetView& view, const Progress& progress, const Policy& policy) {
  switch (progress.state) {
    case TargetState::kSettled:
      return absl::ZeroDuration();
    case TargetState::kShadow:
      if (const std::optional<absl::Duration> eta = Eta(view.clauses)) return *eta + SoaksFrom(policy, 0);
      return std::nullopt;
    case TargetState::kRamping:
      // The clauses hold what is left of the present soak.
      if (const std::optional<absl::Duration> eta = Eta(view.clauses))
        return *eta + SoaksFrom(policy, progress.step + 1);
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

TargetView ViewOfTarget(const Rollout& rollout, const std::string& tenant, const Progress& progress,
                        const FamilyState* state, const std::optional<CatalogFacts>& facts, absl::Time now) {
  TargetView view;
  view.tenant = tenant;
  view.cohort = rollout.cohorts[progress.cohort].name;
  view.state = progress.state;
  view.reason = progress.reason;
  if (state == nullptr) return view;

  const TargetInput input = InputOf(*state, tenant, facts, now);
  view.mode = input.target.flag.mode;
  view.serve_ppm = input.target.flag.serve_ppm;
  view.window = input.target.flag.window;
  view.window_since = input.target.window_since;
  view.ledger = input.evidence.ledger;
  view.sample_by_key = input.target.flag.sample_by_key;
  view.confirmed = input.evidence.confirmed;
  for (const auto& [endpoint, evidence] : input.evidence.endpoints) {
    view.episodes += evidence.episodes;
    view.distinct_keys += evidence.distinct_keys;
    view.exercised += evidence.exercised;
  }
  view.clauses = ClausesOf(input);
  view.eta = TargetEta(view, progress, rollout.policy);
  return view;
}

std::optional<absl::Duration> RolloutEta(const Rollout& rollout, const std::vector<TargetView>& targets) {
  if (Ended(rollout.state)) return absl::ZeroDuration();
  if (rollout.state != RolloutState::kRunning || !rollout.cohort_begun) return std::nullopt;
  absl::Duration present = absl::ZeroDuration();
  for (const TargetView& target : targets) {
    if (target.state == TargetState::kWaiting) continue;
    if (!target.eta.has_value()) return std::nullopt;
    present = std::max(present, *target.eta);
  }
  // A cohort that has not begun takes at least its window and its soaks.
  const int64_t later = static_cast<int64_t>(rollout.cohorts.size() - 1 - rollout.cohort);
  return present + later * (rollout.policy.duration + SoaksFrom(rollout.policy, 0));
}

}  // namespace

RolloutView ViewOf(const Rollout& rollout, const FamilyState* state, const std::optional<CatalogFacts>& facts,
                   absl::Time now) {
  RolloutView view;
  view.id = rollout.id;
  view.family = rollout.family;
  view.state = rollout.state;
  view.cohort = rollout.cohort;
  view.cohorts = rollout.cohorts;
  view.policy = rollout.policy;
  view.who = rollout.who;
  view.reason = rollout.reason;
  view.started_at = rollout.started_at;
  view.changed_at = rollout.changed_at;
  for (const auto& [tenant, progress] : rollout.targets) {
    view.targets.push_back(ViewOfTarget(rollout, tenant, progress, state, facts, now));
  }
  std::set<std::string> waiting;
  for (size_t i = rollout.cohort; i < rollout.cohorts.size() && !Ended(rollout.state); ++i) {
    for (const std::string& tenant : rollout.cohorts[i].tenants) {
      if (rollout.targets.contains(tenant) || !waiting.insert(tenant).second) continue;
      TargetView target;
      target.tenant = tenant;
      target.cohort = rollout.cohorts[i].name;
      if (state != nullptr) {
        const Target row = state->TargetOf(tenant);
        target.mode = row.flag.mode;
        target.serve_ppm = row.flag.serve_ppm;
        target.window = row.flag.window;
        target.window_since = row.window_since;
      }
      view.targets.push_back(std::move(target));
    }
  }
  std::stable_sort(view.targets.begin(), view.targets.end(), [&](const TargetView& a, const TargetView& b) {
    const auto place = [&](const TargetView& target) {
      return std::find_if(rollout.cohorts.begin(), rollout.cohorts.end(),
                          [&](const Cohort& cohort) { return cohort.name == target.cohort; });
    };
    return place(a) < place(b);
  });
  view.eta = RolloutEta(rollout, view.targets);
  if (state != nullptr) view.fingerprints = state->fingerprints;
  return view;
}

}  // namespace shadowline::rollout
