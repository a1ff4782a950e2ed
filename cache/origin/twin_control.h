// TwinControl reads the truth twice at one moment: whatever differs between the two answers is the statement's own
// doing (no ORDER BY, random(), now()) and no write's.
//
// Both answers come from one snapshot of the database, so no commit lies between them, and from two transactions, so
// that what a transaction holds still (now(), its plans' luck) may differ as well.
//
// Implementations: origin/postgres (control_pool.h), tests/sim.
#ifndef SHADOWLINE_CACHE_ORIGIN_TWIN_CONTROL_H_
#define SHADOWLINE_CACHE_ORIGIN_TWIN_CONTROL_H_

#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/executor.h"
#include "cache/origin/control.h"

namespace shadowline::cache {

// Of one snapshot, in the order in which they were read.
using Twins = std::pair<ControlAnswer, ControlAnswer>;

class TwinControl {
 public:
  using TwinsCallback = absl::AnyInvocable<void(absl::StatusOr<Twins>)>;

  virtual ~TwinControl() = default;

  // Runs the statement twice, each time as Control::Load does, and posts `done` to `reply_on`. Gives up at `timeout`,
  // or at twice the endpoint's timeout, whichever is less. `done` is always called, exactly once.
  //
  // Statuses: those of Control::Load; kFailedPrecondition as well where the two could not be read in one snapshot.
  virtual void LoadTwice(Query query, absl::Duration timeout, base::Executor* reply_on, TwinsCallback done) = 0;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_ORIGIN_TWIN_CONTROL_H_
