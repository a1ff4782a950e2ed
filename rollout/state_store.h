// StateStore keeps rollouts, targets, flips and receipts, and shows the evidence that belongs to them.
//
// A Commit is one transaction: the rollout's document, the rows of its targets, their flips and receipts, and the
// flags' revision, or nothing. It is optimistic: it holds only where the document and every row are still what the
// decision saw, so a promotion that raced a rollback is the one that fails (promise P5).
//
// Threads:  thread-safe. Blocking; call from a thread that may block.
// Statuses: kUnavailable (the store is away), kAborted (it changed meanwhile: load and decide again), beside those
// named below.
//
// Implementations: rollout/postgres, tests/sim. One conformance suite runs on both.
#ifndef SHADOWLINE_ROLLOUT_STATE_STORE_H_
#define SHADOWLINE_ROLLOUT_STATE_STORE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "rollout/commands.h"
#include "rollout/machine/state.h"

namespace shadowline::rollout {

// From what a flip was decided. `inputs` holds the arguments and the result of the pure function, as JSON; `digest` is
// over its canonical text. rollout/journal writes and replays them.
struct Receipt {
  std::string id;  // A UUID.
  std::string family;
  std::string tenant;
  uint64_t window = 0;
  uint64_t catalog_revision = 0;
  uint64_t leader_epoch = 0;
  std::string decision;  // ActionName
  std::string inputs;
  std::string digest;
  absl::Time at;
};

struct TargetWrite {
  TargetChange change;
  std::optional<Receipt> receipt;
};

struct Commit {
  std::string family;
  // The controller's: the transaction holds only while this is the leader's epoch. Absent: an operator, who needs no
  // leader.
  std::optional<uint64_t> leader_epoch;
  std::optional<Rollout> rollout;  // As Outcome: with the version that it was derived from, 0 for a new one.
  std::vector<TargetWrite> targets;
  absl::Time now;
};

enum class Detail {
  kRouting,   // Evidence has only the confirmed divergences.
  kEvidence,  // Everything; counts the episodes of every window.
};

class StateStore {
 public:
  virtual ~StateStore() = default;

  // Families that have a rollout, or a target that is not DATABASE.
  virtual absl::StatusOr<std::vector<std::string>> Families() = 0;
  // One consistent snapshot.
  virtual absl::StatusOr<FamilyState> Load(const std::string& family, Detail detail) = 0;
  // kAborted, also: the leader's epoch is another; a target that is promoted has a confirmed divergence by now, or its
  // catalog revision is not the active one. kAlreadyExists: the family has a rollout that has not ended.
  virtual absl::Status Write(const Commit& commit) = 0;

  // kNotFound. `rollout` is an id, or a family: its newest.
  virtual absl::StatusOr<Rollout> FindRollout(const std::string& rollout) = 0;
  // Newest first. An empty family is all.
  virtual absl::StatusOr<std::vector<Rollout>> ListRollouts(const std::string& family, bool ended) = 0;
  // Newest first.
  virtual absl::StatusOr<std::vector<Flip>> Flips(const std::string& family, uint32_t limit) = 0;
  // kNotFound.
  virtual absl::StatusOr<Receipt> FindReceipt(const std::string& id) = 0;
};

// Which replica's controller may write. The lock makes one leader likely; the epoch, which every Commit checks, makes a
// second one harmless.
//
// Threads: compatible; belongs to the controller's thread.
class Leadership {
 public:
  virtual ~Leadership() = default;

  // Becomes the leader if nobody is, or makes sure that this replica still is; its epoch while so. Each call also keeps
  // the leadership alive: it lapses some seconds after the last one. kUnavailable: not known, so not the leader.
  virtual absl::StatusOr<std::optional<uint64_t>> Hold() = 0;
  // Lets another replica take over at once.
  virtual void Release() = 0;
};

}  // namespace shadowline::rollout

#endif  // SHADOWLINE_ROLLOUT_STATE_STORE_H_
