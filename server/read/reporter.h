// Reporter repairs what a case has confirmed to be wrong, and reports it.
//
//   1. The stale entry is removed, so that it is not served again. An entry of an application's own cache is the
//      application's to remove.
//   2. The fences of the key's tags are asked when they were replaced last: that tells something about the cause.
//   3. The divergence is sealed, announced and handed to `record`. The fences of the tags that name the key's own data
//      are replaced then, so that no load that began before can bring it back.
//
// Ownership: borrows everything in Deps; each must outlive it.
// Threads:   all on the executor of `store`, which must have stopped when the reporter is destroyed.
// Errors:    none. A repair that fails is counted; a fence that cannot be read leaves the cause unknown.
// Limits:    none of its own: reports under way are as many as cases that were confirmed, each until its fences answer.
#ifndef SHADOWLINE_SERVER_READ_REPORTER_H_
#define SHADOWLINE_SERVER_READ_REPORTER_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "base/metrics.h"
#include "cache/invalidate/invalidator.h"
#include "cache/store.h"
#include "diff/evidence/evidence.h"
#include "diff/evidence/seal.h"
#include "server/read/finding.h"
#include "server/read/keeper.h"

namespace shadowline::server {

class Reporter {
 public:
  struct Deps {
    cache::Store* store = nullptr;
    cache::Invalidator* invalidator = nullptr;  // Over that store. Null: repairs only remove the entry.
    base::Metrics* metrics = nullptr;
    // Takes divergences; must not block.
    absl::AnyInvocable<void(diff::Divergence)> record;
  };

  Reporter(Keeper keeper, Deps deps);
  Reporter(const Reporter&) = delete;
  Reporter& operator=(const Reporter&) = delete;
  ~Reporter();

  // `done`, once it is recorded: perhaps within the call.
  void Report(Finding finding, absl::AnyInvocable<void()> done);

  // Everything that was reported is recorded.
  bool idle() const { return open_.empty(); }

 private:
  struct Open;  // A report that waits for its tags' histories.
  // Keys of one endpoint and tenant that were confirmed shortly one after the other.
  struct Burst {
    absl::Time since;
    absl::Time last;
    size_t keys = 0;
  };

  void CountBurst(const Finding& finding, diff::CauseInputs* inputs);
  void Conclude(Open* open);
  void Fence(const Finding& finding);

  const Keeper keeper_;
  Deps deps_;
  const Announcer announcer_;
  base::Counter* const removed_;
  base::Counter* const not_removed_;
  base::Counter* const fenced_;
  base::Counter* const not_fenced_;
  absl::flat_hash_map<Open*, std::unique_ptr<Open>> open_;
  absl::flat_hash_map<std::string, Burst> bursts_;         // By endpoint and tenant.
  absl::flat_hash_map<std::string, absl::Time> repaired_;  // By tenant and tag: when its fence was replaced.
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_REPORTER_H_
