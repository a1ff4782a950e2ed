// Filler answers a miss: one loader per key in this process and one in the fleet, and a fill that no invalidation can
// be overtaken by (promise P6). The order of its steps is what makes it right:
//
//   1. take the key's lease              (one loader; the lease takes the place of a fence)
//   2. register the key under its tags   (an invalidation from now on finds it)
//   3. load from the control             (sees everything that was committed before step 2)
//   4. commit: value in place of the lease, only if that very lease still stands
//
// Why no value that was loaded before an acknowledged invalidation is cached: let the writer commit at w and then
// invalidate. Either the invalidation reads the tag before step 2; then w is before step 3, and the load saw the write.
// Or it finds the key and fences it at f: before step 1, and again the load is later than w; or between 1 and 4, and
// the commit is refused; or after 4, and the value is taken away. A lease that stands at step 4 also proves that Redis
// forgot nothing in between (cache/store.h), and that the registration, which outlives every value committed under the
// lease, is in force.
//
// Why none is handed to a caller: a caller who loads by itself loads after it arrived. A caller who shares another's
// result arrived before the leader's last mark, which is set just before whatever it answers is asked for; or else the
// leader's commit succeeded, *and* the caller had joined before that commit was sent (the flight is closed first). In
// that case an invalidation that was acknowledged before the caller arrived had its fence before step 4, hence before
// step 1. Without closing, a caller could join between the commit and its reply, when an invalidation may have come and
// gone. A result that is not proven (no lease, or a commit refused) is only for those who arrived before the mark; the
// others start over together, and the flight that serves them is marked after they arrived. So N callers cost at most
// two loads.
//
// Whatever fails, the caller gets what was loaded; only the caching is given up. An error of the control is shared like
// a result, but for a deadline, which was the leader's own.
//
// Ownership: borrows Store, Control, Clock, Random, Flight and the executor. The Flight must outlive the executor.
// Threads:   belongs to its store's executor; the Flight is shared between executors.
// Errors:    those of Control::Load. kDeadlineExceeded also where `timeout` ended while waiting for another's load.
// Limits:    the flight's waiters; the loads themselves are bounded by the control.
#ifndef SHADOWLINE_CACHE_FILL_FILLER_H_
#define SHADOWLINE_CACHE_FILL_FILLER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/random.h"
#include "cache/envelope/envelope.h"
#include "cache/flight/flight.h"
#include "cache/origin/control.h"
#include "cache/store.h"

namespace shadowline::cache {

// What a miss came to.
struct Filled {
  ControlAnswer answer;  // From the control, or (`from_store`) the value that another loader of the fleet had filled.
  bool from_store = false;
  bool cached = false;  // The value was written (or was there).
  std::string fill_id;  // Where cached.
  bool after_fence = false;
};

using FillFlight = Flight<absl::StatusOr<Filled>>;

class Filler {
 public:
  struct Options {
    // A lease outlives the longest load that is worth caching; a loader that dies frees the key after this.
    absl::Duration lease_ttl = absl::Seconds(10);
    // How long to wait for another replica's loader before loading without caching, and how often to look.
    absl::Duration busy_wait = absl::Milliseconds(500);
    absl::Duration busy_poll = absl::Milliseconds(10);
    // A larger body is answered and not cached.
    size_t body_max_bytes = 8 << 20;
  };

  Filler(Options options, Store* store, Control* control, FillFlight* flight, base::Executor* executor,
         const base::Clock* clock, base::Random* random);

  // `key` is CacheKey(query...), `tag_keys` its TagKeys. `done` runs on this filler's executor, exactly once.
  void Fill(Query query, std::string key, std::vector<std::string> tag_keys, absl::Duration timeout,
            absl::AnyInvocable<void(absl::StatusOr<Filled>)> done);

 private:
  // One caller's miss, shared by the callbacks that drive it.
  struct Miss;
  using MissPtr = std::shared_ptr<Miss>;

  void Join(const MissPtr& miss);
  void AcquireLease(const MissPtr& miss);
  void TakeFromStore(const MissPtr& miss, Slot slot);
  void Register(const MissPtr& miss);
  void LoadUnderLease(const MissPtr& miss);
  void Commit(const MissPtr& miss, ControlAnswer answer);
  void LoadUncached(const MissPtr& miss);
  void Release(const MissPtr& miss);
  // Answers the caller and whoever waits for it. `proven`: see cache/flight/flight.h.
  void Finish(const MissPtr& miss, absl::StatusOr<Filled> result, bool proven);
  absl::Duration Remaining(const Miss& miss) const;

  const Options options_;
  Store* const store_;
  Control* const control_;
  FillFlight* const flight_;
  base::Executor* const executor_;
  const base::Clock* const clock_;
  base::Random* const random_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_FILL_FILLER_H_
