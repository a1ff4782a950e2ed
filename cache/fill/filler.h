// Filler answers a miss: one loader per key in this process and one in the fleet, and a fill that no invalidation can
// be overtaken by (promise P6). The order of its steps is what makes it right:
//
//   1. see the fences of the key's tags       (made where a tag has none)
//   2. take the key's lease, see them again   (one loader in the fleet; the others wait for its value)
//   3. load from the control
//   4. is every transaction that the fences name visible in what was loaded? If not, answer and cache nothing
//   5. put the value, with the tokens of the fences seen before the load, and let those live for longer than it
//
// Why no value that was loaded before an acknowledged invalidation is ever served from the cache: a value is served
// only while the fences whose tokens it names stand (cache/store.h). An invalidation replaces the fence, with a token
// that nobody has seen. So a value that names the new token was loaded after it, whatever was slow, lost or evicted.
//
// Why it holds the write as well: a writer that invalidates after its commit has returned is visible to every load that
// begins later. One that cannot wait for that (change capture: the log is ahead of visibility) names its transaction in
// the fence, and step 4 keeps out of the cache what was loaded without it.
//
// Why none is handed to a caller who shares another's load: callers share only when they saw the same fences. A caller
// sees them after it arrived; had an invalidation been acknowledged before that, they would differ from those that the
// leader had seen before it loaded. Callers who see other fences start another load. (A fence that was evicted in
// between is made anew before a caller joins, hence differs too.) Where the fences name transactions, nobody joins once
// the load was sent: it may have been too early for them.
//
// A refresh takes the same steps, for the same reasons, but loads where the key still holds an answer. Nobody waits for
// it: it has a flight and a lease of its own, so that a caller who misses meanwhile neither joins it nor waits for its
// lease, and it ends where another one is at it already.
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
#include <optional>
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

// A read that the cache had no answer for.
struct Miss {
  Query query;
  std::string key;                      // CacheKey(query...)
  std::vector<std::string> fence_keys;  // FenceKeys(query...)
  Fences fences;                        // As they were found by this read, after it arrived.
};

class Filler {
 public:
  struct Options {
    // A loader that dies frees its key after this; one that lives renews its lease three times as often.
    absl::Duration lease_ttl = absl::Seconds(1);
    // How often to look whether another replica's loader is done.
    absl::Duration busy_poll = absl::Milliseconds(10);
    // A larger body is answered and not cached.
    size_t body_max_bytes = 8 << 20;
  };

  Filler(Options options, Store* store, Control* control, FillFlight* flight, base::Executor* executor,
         const base::Clock* clock, base::Random* random);

  // `done` runs on this filler's executor, exactly once.
  void Fill(Miss miss, absl::Duration timeout, absl::AnyInvocable<void(absl::StatusOr<Filled>)> done);

  // Loads the key again, in the place of the answer `replaced` (a fill's id; empty: of none). `miss.fences` are not
  // looked at. Beside Fill's errors: kAlreadyExists: another refresh of the key is under way, or the key holds another
  // answer by now; those of the store.
  void Refresh(Miss miss, std::string replaced, absl::Duration timeout,
               absl::AnyInvocable<void(absl::StatusOr<Filled>)> done);

 private:
  // One caller's miss, shared by the callbacks that drive it.
  struct Call;
  using CallPtr = std::shared_ptr<Call>;

  void Join(const CallPtr& call);
  void AcquireLease(const CallPtr& call);
  void AcquireRefreshLease(const CallPtr& call, std::string replaced);
  // The lease is held, and `found` was seen under it.
  void LoadInPlaceOf(const CallPtr& call, const Found& found);
  // `found`, if it is an answer that is not stale.
  std::optional<Filled> Answer(const Miss& miss, const Found& found) const;
  void KeepLease(const CallPtr& call);
  // Under a lease what is loaded is cached.
  void Load(const CallPtr& call);
  void Put(const CallPtr& call, ControlAnswer answer);
  // Answers the caller and whoever waits for it, and gives the lease back.
  void Finish(const CallPtr& call, absl::StatusOr<Filled> result);
  absl::Duration Remaining(const Call& call) const;

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
