// What operators may ask of rollouts, and what they are shown. server/rpc turns RPCs into these calls.
//
// Threads: thread-safe. Blocking: each call is one or a few transactions.
// Statuses: kNotFound, kFailedPrecondition (the message names the state), kAlreadyExists, kInvalidArgument, kAborted
// (it changed meanwhile), kUnavailable (state store away).
#ifndef SHADOWLINE_ROLLOUT_COMMANDS_H_
#define SHADOWLINE_ROLLOUT_COMMANDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "diff/evidence/evidence_reader.h"
#include "flags/flag.h"

namespace shadowline::rollout {

// A window policy with every default filled in (proto Policy has the meaning of each).
struct Policy {
  absl::Duration duration = absl::Hours(48);
  uint64_t episodes = 1000;
  uint64_t distinct_keys = 50;
  uint64_t exercised = 50;
  uint32_t slo_ppm = 1000;
  uint32_t confidence_ppm = 950'000;
  uint32_t unjudged_ppm = 50'000;
  absl::Duration candidate_p95 = absl::Milliseconds(100);
  uint32_t shadow_sample_ppm = 1'000'000;
  uint32_t cache_sample_ppm = 100'000;
  flags::SampleShares strata = {.uncertified_ppm = 500'000,
                                .recent_ppm = 250'000,
                                .negative_ppm = 250'000,
                                .old_ppm = 250'000,
                                .cold_ppm = 250'000};
  bool sample_by_key = false;
  std::vector<uint32_t> ramp_ppm = {50'000, 250'000, 1'000'000};
  absl::Duration soak = absl::Minutes(10);
  bool approval = false;

  bool operator==(const Policy&) const = default;
};

struct Cohort {
  std::string name;
  std::vector<std::string> tenants;
  uint32_t share_ppm = 0;
};

enum class RolloutState { kRunning, kPaused, kStopped, kSettled, kRolledBack, kAborted };
enum class TargetState { kWaiting, kShadow, kAwaitingApproval, kRamping, kSettled, kBlocked, kRolledBack };

absl::string_view StateName(RolloutState state);  // "RUNNING", ...
absl::string_view StateName(TargetState state);   // "SHADOW", ...

struct Clause {
  std::string name;
  bool met = false;
  std::string detail;
  std::optional<absl::Duration> eta;  // Unknown where absent; zero where met.
};

struct TargetView {
  std::string tenant;
  std::string cohort;
  TargetState state = TargetState::kWaiting;
  flags::Mode mode = flags::Mode::kDatabase;
  uint32_t serve_ppm = 0;
  uint64_t window = 0;
  absl::Time window_since;
  std::vector<Clause> clauses;
  diff::LedgerTotals ledger;  // Of the present window.
  bool sample_by_key = false;
  uint64_t episodes = 0;
  uint64_t distinct_keys = 0;
  uint64_t exercised = 0;
  uint64_t confirmed = 0;
  std::string reason;
  std::optional<absl::Duration> eta;
};

struct RolloutView {
  std::string id;
  std::string family;
  RolloutState state = RolloutState::kRunning;
  size_t cohort = 0;
  std::vector<Cohort> cohorts;
  Policy policy;
  std::vector<TargetView> targets;
  std::string who;
  std::string reason;
  absl::Time started_at;
  absl::Time changed_at;
  std::optional<absl::Duration> eta;
  std::vector<std::string> fingerprints;
};

struct Flip {
  std::string tenant;
  std::string family;
  std::string from;  // "DATABASE", "SHADOW", "CACHE 5 %"
  std::string to;
  std::string who;
  std::string why;
  absl::Time at;
  std::string receipt_id;
};

struct StartRequest {
  std::string family;
  std::vector<Cohort> cohorts;  // Empty: 5 %, 25 %, the rest.
  Policy policy;
  // The catalog revision whose policy and endpoints this rollout is judged under, and those endpoints' names.
  uint64_t catalog_revision = 0;
  std::vector<std::string> endpoints;
  std::string who;
  std::string reason;
};

enum class Verb { kPause, kResume, kApprove, kPromote, kRollback, kAbort };

struct Command {
  std::string rollout;  // An id, or a family: its newest rollout.
  Verb verb = Verb::kPause;
  std::string tenant;
  std::string who;
  std::string reason;
};

class Commands {
 public:
  virtual ~Commands() = default;

  virtual absl::StatusOr<RolloutView> Start(const StartRequest& request) = 0;
  virtual absl::StatusOr<RolloutView> Execute(const Command& command) = 0;
  virtual absl::StatusOr<RolloutView> Get(const std::string& rollout) = 0;
  virtual absl::StatusOr<std::vector<RolloutView>> List(const std::string& family, bool ended) = 0;
  // Newest first.
  virtual absl::StatusOr<std::vector<Flip>> Flips(const std::string& family, uint32_t limit) = 0;
};

}  // namespace shadowline::rollout

#endif  // SHADOWLINE_ROLLOUT_COMMANDS_H_
