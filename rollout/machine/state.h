// What the state machine of a rollout works on: its own document, what is known of a family, and what is to be changed.
// Values only; rollout/state_store.h says where they are kept.
#ifndef SHADOWLINE_ROLLOUT_MACHINE_STATE_H_
#define SHADOWLINE_ROLLOUT_MACHINE_STATE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "flags/flag.h"
#include "rollout/commands.h"
#include "rollout/gate/gate.h"

namespace shadowline::rollout {

// Where one target stands in its rollout.
struct Progress {
  uint32_t cohort = 0;
  TargetState state = TargetState::kWaiting;
  uint32_t step = 0;    // Index into Policy::ramp_ppm; only in kRamping and kSettled.
  bool forced = false;  // An operator promoted it past the evidence.
  std::optional<absl::Time> judged_until;
  absl::Time step_since = absl::UnixEpoch();  // When the present ramp step began.
  uint64_t judged_at_step = 0;                // Verdicts of the window at that time.
  std::string reason;

  bool operator==(const Progress&) const = default;
};

// A rollout: its document. Times have whole microseconds.
struct Rollout {
  std::string id;
  std::string family;
  RolloutState state = RolloutState::kRunning;
  uint32_t cohort = 0;        // Index of the cohort that is moving.
  bool cohort_begun = false;  // Its tenants are resolved and have windows.
  bool cohort_approved = false;
  std::vector<Cohort> cohorts;
  Policy policy;
  std::vector<std::string> endpoints;  // As of `catalog_revision`: what is judged while no newer catalog is known.
  uint64_t catalog_revision = 0;
  std::map<std::string, Progress> targets;  // By tenant; of the cohorts that have begun.
  std::string who;
  std::string reason;
  absl::Time started_at;
  absl::Time changed_at;
  uint64_t version = 0;  // Of the stored document: grows with every change. 0: not stored yet.
};

// SETTLED, ROLLED_BACK or ABORTED: a new rollout of the family may start.
bool Ended(RolloutState state);

// A target's row: its flag, and when its window began.
struct Target {
  flags::Flag flag;
  absl::Time window_since = absl::UnixEpoch();

  bool operator==(const Target&) const = default;
};

// All that a decision about one family can depend on, as of one moment of the store.
struct FamilyState {
  std::string family;
  std::optional<Rollout> rollout;            // The newest.
  std::map<std::string, Target> targets;     // By tenant: every row of the family.
  std::map<std::string, Evidence> evidence;  // By tenant: of the present windows. Without detail only `confirmed`.
  Fleet fleet;
  std::set<std::string> tenants;
  uint64_t catalog_revision = 0;          // The active one.
  std::vector<std::string> fingerprints;  // Of the present windows, most reads first.

  Target TargetOf(const std::string& tenant) const;
  Evidence EvidenceOf(const std::string& tenant) const;
};

// What this replica's catalog says of a family.
struct CatalogFacts {
  uint64_t revision = 0;
  std::vector<std::string> endpoints;  // "family/endpoint"
};

// Everything that the decision about one target depends on. A receipt holds one of these.
struct TargetInput {
  std::string family;
  std::string tenant;
  Policy policy;
  std::vector<std::string> endpoints;
  RolloutState rollout = RolloutState::kRunning;
  bool approved = false;
  // The catalog that the decision is made under: absent where this replica does not know the active one.
  std::optional<uint64_t> catalog_revision;
  Progress progress;
  Target target;
  Evidence evidence;
  Fleet fleet;
  absl::Time now;
};

enum class Action {
  kNone,
  kNote,        // Only the progress changes.
  kOpenWindow,  // The catalog has changed: evidence starts anew; the routing stays.
  kCutOver,     // SHADOW -> CACHE at the first ramp step.
  kRamp,        // CACHE, next ramp step.
  kBlock,       // Confirmed divergence before the cutover: it goes no further.
  kRollBack,    // Confirmed divergence after it: to DATABASE.
};

absl::string_view ActionName(Action action);  // "cut_over", ...

struct TargetDecision {
  Action action = Action::kNone;
  Progress progress;
  Target target;  // `flag.revision` and `flag.changed_at` are the store's to set.
  std::string why;

  bool operator==(const TargetDecision&) const = default;
};

// One target's row is to change.
struct TargetChange {
  std::string tenant;
  Target before;  // What the decision saw. If the row is different by then, nothing is changed.
  Target after;
  std::string who;
  std::string why;
  // It moves towards the cache: the store counts confirmed divergences of the window again, under the row's lock, and
  // looks whether the catalog is still the active one.
  bool promotes = false;
  // From what it was decided, and what was decided; absent for what an operator commanded.
  std::optional<std::pair<TargetInput, TargetDecision>> basis;
};

// What follows from a step or a command.
struct Outcome {
  std::optional<Rollout> rollout;  // Its new document, where that changed. `version` is the one it was derived from.
  std::vector<TargetChange> targets;

  bool empty() const { return !rollout.has_value() && targets.empty(); }
};

}  // namespace shadowline::rollout

#endif  // SHADOWLINE_ROLLOUT_MACHINE_STATE_H_
