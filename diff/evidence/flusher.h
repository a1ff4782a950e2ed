// Flusher carries what the ledger counted to the evidence store, every interval and for as long as it takes.
//
//   Flusher flusher(&ledger, &store, executor, Flusher::On(&pool), {.interval = absl::Seconds(1)});
//   flusher.Start();
//   flusher.Record(divergence);                       // written through at once
//   ledger settled; flusher.FlushNow([](absl::Status status) { ... });   // when draining
//
// One call of the store is under way at a time. Divergences go before flushes. A flush that fails is tried again until
// the store has it; so flushes reach the store in order, and a store that is away costs nothing but counters that wait
// in the ledger.
//
// With a spool nothing of that depends on this process:
//   - a divergence is in the spool before the store is asked to take it;
//   - while the store is away, what has been counted goes there as well, with the flush that waits, at every interval
//   (less
//     often where it is large);
//   - what other processes have left in their spools when they died is stored, after this one's own.
// A divergence that is safe, here or there, is logged as `divergence_kept`.
//
// Ownership: borrows everything. Destroy it after the executor and the pool have stopped.
// Threads:   thread-safe. Its state moves on `executor`; `done` is called there.
// Limits:    divergences_max wait; a further one is dropped, logged and counted. Its verdict is in the ledger all the
// same,
//            so no window becomes clean by it.
#ifndef SHADOWLINE_DIFF_EVIDENCE_FLUSHER_H_
#define SHADOWLINE_DIFF_EVIDENCE_FLUSHER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "diff/evidence/evidence.h"
#include "diff/evidence/ledger.h"
#include "diff/evidence/noise_book.h"
#include "diff/evidence/spool.h"

namespace shadowline::diff {

class Flusher {
 public:
  // Runs a task that blocks, on a thread that may; false when there is no room for it now.
  using RunBlocking = std::function<bool(base::Task)>;
  static RunBlocking On(base::ThreadPool* pool);
  using Done = absl::AnyInvocable<void(absl::Status)>;

  // What the replica runs under now; each flush says it.
  struct Revisions {
    uint64_t catalog = 0;
    uint64_t flags = 0;
  };

  struct Options {
    absl::Duration interval = absl::Seconds(1);
    absl::Duration retry = absl::Milliseconds(200);  // After the first failure; doubled up to retry_max.
    absl::Duration retry_max = absl::Seconds(2);
    size_t divergences_max = 1024;
    NoiseBook* noise = nullptr;                      // Flushed with the ledger, where there is one.
    size_t episodes_max = 65'536;                    // In a flush that waits.
    Spool* spool = nullptr;                          // None: what this process dies with is lost.
    absl::Duration inherit = absl::Minutes(1);       // How often the spools of the dead are looked for.
    std::function<Revisions()> revisions = nullptr;  // Called on the executor. None: zeros.
  };

  Flusher(Ledger* ledger, EvidenceStore* store, base::Executor* executor, RunBlocking run_blocking, Options options);
  Flusher(const Flusher&) = delete;
  Flusher& operator=(const Flusher&) = delete;

  // The first flush (and heartbeat) is made at once.
  void Start();

  void Record(Divergence divergence);

  // Flushes what has been counted and recorded by now; OK once all of it is stored. At the next failure of the store:
  // that failure, once what waits is in the spool, so that a drain does not wait for a store that is away (the flusher
  // goes on trying).
  void FlushNow(Done done);

  struct Stats {
    uint64_t flushes = 0;
    uint64_t failures = 0;  // Calls of the store that failed, each time.
    uint64_t divergences_dropped = 0;
    size_t divergences_waiting = 0;
    uint64_t spool_failures = 0;  // Calls of the spool that failed, in part at least.
    uint64_t inherited = 0;       // Spools of the dead that are stored.
  };
  Stats stats() const;

 private:
  using Call = absl::AnyInvocable<absl::Status()>;
  using Finish = absl::AnyInvocable<void(const absl::Status&)>;

  struct Waiting {
    Divergence divergence;
    bool spooled = false;  // Or the spool could not take it.
  };
  struct Waiter {
    uint64_t sequence;  // Done when this flush is stored.
    Done done;
  };

  void Tick();
  void LookForLegacies();
  // Starts the next call, if none is under way and there is something to do.
  void Pump();
  bool SpoolNext();
  bool StoreNext();
  bool InheritNext();
  void BuildFlush();
  void SpoolAll();
  void RunOnPool(Call call, Finish finish);
  void Recorded(const absl::Status& status);
  void Applied(const absl::Status& status);
  void Bequeathed(const absl::Status& status);
  void Spooled(const absl::Status& status);
  void Stored();
  void Failed(const absl::Status& status);
  void FinishWaiters(const absl::Status& status);
  void LogKept(const std::string& id, const char* in);

  Ledger* const ledger_;
  EvidenceStore* const store_;
  base::Executor* const executor_;
  const RunBlocking run_blocking_;
  const Options options_;

  // On the executor alone.
  bool busy_ = false;           // A call is under way.
  bool away_ = false;           // The store failed, and a retry waits for its time, or is under way.
  bool resting_ = false;        // It waits.
  bool due_ = false;            // A flush has to be built.
  std::optional<Flush> flush_;  // Built, not stored yet.
  uint64_t built_ = 0;          // Sequence of the last flush that was built.
  absl::Duration backoff_;
  std::vector<Waiter> waiters_;
  bool spool_due_ = false;               // What waits has to be spooled.
  bool spool_used_ = false;              // There is something in it.
  int spool_rest_ = 0;                   // Ticks until the next time.
  std::optional<absl::Status> failing_;  // What waiters are told once what waits is spooled.
  bool inherit_due_ = false;
  std::optional<Legacy> legacy_;
  size_t legacy_stored_ = 0;  // Divergences of it.

  mutable base::Mutex mutex_;
  std::deque<Waiting> divergences_ ABSL_GUARDED_BY(mutex_);
  Stats stats_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_EVIDENCE_FLUSHER_H_
