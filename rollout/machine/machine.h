// The state machine of a rollout. Pure: everything it depends on is an argument, so it can be simulated, checked over
// all short histories, and a receipt can be replayed through it.
//
//   target:   WAITING -> SHADOW -> (AWAITING_APPROVAL ->) RAMPING -> SETTLED
//                           \-> BLOCKED           \-> ROLLED_BACK
//
// Rules, in the order in which they are applied:
//   1. A confirmed divergence acts at once, whatever the rollout's state: a target that the cache serves goes to
//   DATABASE
//      (ROLLED_BACK), one in SHADOW stays there and goes no further (BLOCKED). Either stops the rollout (STOPPED):
//      nothing is promoted, the other targets stay where they are. An unsafe one, of whichever tenant, acts so on every
//      target of the family.
//   2. A new catalog revision opens a new window for every target that has one.
//   3. Only while RUNNING, and only by a replica that knows the active catalog, a target moves towards the cache: one
//   ramp step
//      at a time, when its window is clean, a person has approved where the policy says so, and the step before has
//      been soaked with at least one new verdict.
//   4. The next cohort begins when every target of the present one and of those before is SETTLED.
//
// The window of a target goes on through cutover and ramp: every step is taken on all of its evidence.
#ifndef SHADOWLINE_ROLLOUT_MACHINE_MACHINE_H_
#define SHADOWLINE_ROLLOUT_MACHINE_MACHINE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "rollout/machine/state.h"

namespace shadowline::rollout {

// The gate's clauses for this target, with its soak where it is ramping.
std::vector<Clause> ClausesOf(const TargetInput& input);

// One target.
TargetDecision Decide(const TargetInput& input);

// What Decide gets for `tenant`. REQUIRES: `state.rollout` holds the tenant.
TargetInput InputOf(const FamilyState& state, const std::string& tenant, const std::optional<CatalogFacts>& facts,
                    absl::Time now);

// One step of a family. `facts` are absent where this replica's catalog is not known. A target that the cache serves is
// watched also where no rollout knows it any more.
Outcome Step(const FamilyState& state, const std::optional<CatalogFacts>& facts, absl::Time now);

// The document of a new rollout. Statuses: kInvalidArgument, kNotFound (an unknown tenant), kAlreadyExists.
absl::StatusOr<Outcome> Start(const FamilyState& state, const StartRequest& request, const std::string& id,
                              absl::Time now);

// An operator's command to the family's newest rollout. Statuses: kInvalidArgument, kNotFound, kFailedPrecondition. A
// command whose effect is there already has an empty outcome.
absl::StatusOr<Outcome> Apply(const FamilyState& state, const Command& command, absl::Time now);

// The tenants of `cohort`, without those in `taken`. A share takes at least one tenant where one is left.
std::vector<std::string> ResolveCohort(const std::string& family, size_t index, const Cohort& cohort,
                                       const std::set<std::string>& tenants,
                                       const std::map<std::string, Progress>& taken);

// "SHADOW", "CACHE 5 %".
std::string RoutingName(const flags::Flag& flag);

}  // namespace shadowline::rollout

#endif  // SHADOWLINE_ROLLOUT_MACHINE_MACHINE_H_
