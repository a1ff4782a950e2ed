// Filler answers a miss: one loader per key in this process and one in the fleet, and a fill that no invalidation can be
// overtaken by (promise P6). The order of its steps is what makes it right:
//
//   1. register the key under its tags   (an invalidation from now on finds it)
//   2. take the key's lease              (one loader; the lease takes the place of a fence)
//   3. load from the control             (sees everything that was committed before step 2)
//   4. commit: value in place of the lease, only if that very lease still stands
//
// Whatever fails, the caller gets what was loaded; only the caching is given up.
//
// Ownership: borrows Store, Control, Clock, Random, Flight and the executor. Threads: belongs to its store's executor; the
// Flight is shared between executors.
#ifndef SHADOWLINE_CACHE_FILL_FILLER_H_
#define SHADOWLINE_CACHE_FILL_FILLER_H_

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
  ControlAnswer answer;      // From the control, or (`from_store`) the value that another loader of the fleet had filled.
  bool from_store = false;
  bool cached = false;       // The value was written (or was there).
  std::string fill_id;       // Where cached.
  bool after_fence = false;
};

class Filler {
 public:
  struct Options {
    // A lease outlives the longest load that is worth caching; a loader that dies frees the key after this.
    absl::Duration lease_ttl = absl::Seconds(10);
    // How long to wait for another replica's loader before loading without caching, and how often to look.
    absl::Duration busy_wait = absl::Milliseconds(500);
    absl::Duration busy_poll = absl::Milliseconds(10);
  };

  Filler(Options options, Store* store, Control* control, Flight* flight, base::Executor* executor,
         const base::Clock* clock, base::Random* random);

  // `key` is CacheKey(query...), `tag_keys` its TagKeys. `done` runs on this filler's executor, exactly once.
  void Fill(Query query, std::string key, std::vector<std::string> tag_keys, absl::Duration timeout,
            absl::AnyInvocable<void(absl::StatusOr<Filled>)> done);

 private:
  const Options options_;
  Store* const store_;
  Control* const control_;
  Flight* const flight_;
  base::Executor* const executor_;
  const base::Clock* const clock_;
  base::Random* const random_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_FILL_FILLER_H_
