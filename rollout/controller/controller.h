// Controller moves the rollouts. Every replica runs one; the one that holds the leadership ticks: it loads each family,
// runs the state machine, and commits what follows, with receipts. A tick that loses a race changes nothing, and the
// next one decides anew. All state is in the store, so another replica takes over in seconds.
//
// Ownership: borrows everything in Deps; each must outlive it.
// Threads:   Start gives it one thread. Without Start, Tick is called by whoever drives it, one at a time. `leading`
// from any. Errors:    Tick: kUnavailable: store or leadership away, nothing or only some families were done; the next
// tick goes on. Cost:      per tick and running rollout: two loads, the second counts the episodes of the family's
// windows.
#ifndef SHADOWLINE_ROLLOUT_CONTROLLER_CONTROLLER_H_
#define SHADOWLINE_ROLLOUT_CONTROLLER_CONTROLLER_H_

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "base/random.h"
#include "rollout/machine/state.h"
#include "rollout/state_store.h"

namespace shadowline::rollout {

// What this replica's catalog says of `family` now; absent where no catalog is loaded. Called from the controller's
// thread and from those of commands.
using CatalogSource = std::function<std::optional<CatalogFacts>(const std::string& family)>;

// A chore of the leader.
struct Hook {
  std::string name;
  absl::Duration interval;
  std::function<absl::Status()> run;
};

class Controller {
 public:
  struct Options {
    absl::Duration interval = absl::Milliseconds(500);
    uint64_t seed = 0;  // For the ids of receipts.
  };
  struct Deps {
    const base::Clock* clock = nullptr;
    StateStore* store = nullptr;
    Leadership* leadership = nullptr;
    base::Metrics* metrics = nullptr;
    CatalogSource catalog;
    std::vector<Hook> hooks;
  };

  Controller(Options options, Deps deps);
  Controller(const Controller&) = delete;
  Controller& operator=(const Controller&) = delete;
  ~Controller();

  // Ticks at the interval on a thread of its own, until Stop.
  void Start();
  // Ends after the present tick and releases the leadership. Idempotent.
  void Stop();

  absl::Status Tick();
  bool leading() const { return leading_.load(std::memory_order_relaxed); }

 private:
  void Run();
  bool stopping() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_; }
  absl::Status TickFamily(const std::string& family, uint64_t epoch);
  absl::Status RunHooks();

  const Options options_;
  const Deps deps_;
  base::Random random_;
  base::Gauge* const leader_gauge_;
  base::Counter* const promotions_;
  base::Counter* const rollbacks_;
  base::Counter* const failures_;
  std::vector<std::optional<absl::Duration>> hooks_run_at_;  // By Clock::Steady(), for each hook.
  std::atomic<bool> leading_{false};
  base::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace shadowline::rollout

#endif  // SHADOWLINE_ROLLOUT_CONTROLLER_CONTROLLER_H_
