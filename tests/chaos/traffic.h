// The application of the chaos scenarios: Readers ask as fast as they are answered, and every answer goes before the
// Judge; Writers change the rows meanwhile, at a steady rate, and invalidate them.
//
// Rows are hot, warm or cold: half of the reads are of 8 rows, three in ten of the next 400, the rest of all others.
// Half of the writes are of the hot rows.
#ifndef SHADOWLINE_TESTS_CHAOS_TRAFFIC_H_
#define SHADOWLINE_TESTS_CHAOS_TRAFFIC_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/random.h"
#include "tests/chaos/fleet.h"
#include "tests/support/load.h"

namespace shadowline::chaos {

// What became of reads. A failed one has no answer, and is not judged.
struct Tally {
  uint64_t reads = 0;
  uint64_t failed = 0;
  uint64_t from_cache = 0;
  uint64_t from_near = 0;  // Of these, from a replica's own memory.
  uint64_t not_found = 0;
  uint64_t older_than_invalidation = 0;
  uint64_t outside_bound = 0;

  void Add(const Tally& other);
  Tally Since(const Tally& earlier) const;
  // Of the answered.
  double ShareFromCache() const;
  std::string ToString() const;
};

class Readers {
 public:
  struct Options {
    size_t threads = 1;
    size_t outstanding = 64;  // Of each thread.
    uint64_t reads = 0;       // 0: until they are stopped.
    // Parts of a hundred of the reads; the rest are of Endpoint::kItem.
    uint64_t near_percent = 20;
    uint64_t brief_percent = 10;
    uint64_t slow_percent = 3;
    uint64_t seed = 1;
  };

  Readers(Fleet* fleet, const Options& options);
  ~Readers() { Stop(); }

  void Stop() { loop_->Stop(); }
  // Until all `reads` were answered; tells how far they are now and then.
  void Wait(const std::string& name, const std::function<void(const std::string&)>& progress);

  Tally tally() const;
  // The first answers that were wrong, and the first failures.
  std::vector<std::string> faults() const;
  // Whether that many more reads were answered in time.
  [[nodiscard]] bool AwaitMore(uint64_t reads) const;
  // Until the share of the reads that the cache answers grows no more, and is more than a half; the share then.
  double AwaitSteadyShare() const;
  // Until the cache answers at least `share` of the latest reads; how long that took from now on. Infinite: never.
  absl::Duration AwaitShare(double share) const;

 private:
  struct Thread {
    explicit Thread(uint64_t seed) : random(seed) {}

    base::Random random;
    mutable base::Mutex mutex;
    Tally tally ABSL_GUARDED_BY(mutex);
    std::vector<std::string> faults ABSL_GUARDED_BY(mutex);
  };

  support::Question Next(size_t thread);
  void Done(size_t thread, const support::Reply& reply);

  Fleet* const fleet_;
  const Options options_;
  std::deque<Thread> threads_;
  std::unique_ptr<support::ClosedLoop> loop_;  // Last: its threads end first.
};

class Writers {
 public:
  struct Options {
    size_t threads = 4;
    double rate = 100;  // Writes a second, over all threads.
    bool ahead = true;  // A third of the writes invalidates before it commits.
    bool fences_get_lost = false;
    bool captured = false;  // Nobody invalidates but change capture; each writer then reads what it wrote.
    uint64_t seed = 2;
    // Faults that are planted: into a write, and around one (what it returns is called after the write).
    std::function<void(Fleet::Write* how)> plant;
    std::function<std::function<void()>(size_t row)> around;
  };

  Writers(Fleet* fleet, const Options& options);
  ~Writers() { Join(); }

  // Returns once every write is acknowledged. Throws what a writer had thrown.
  void Stop();

  uint64_t writes() const { return writes_; }
  uint64_t repeated() const { return repeated_; }
  // Writers who did not read what they had written.
  uint64_t unread() const { return unread_; }

 private:
  void Run(size_t thread);
  void Join();

  Fleet* const fleet_;
  const Options options_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> writes_{0};
  std::atomic<uint64_t> repeated_{0};
  std::atomic<uint64_t> unread_{0};
  base::Mutex mutex_;
  std::string failure_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

// Stops one replica after the other for a moment, in the middle of whatever it is doing.
class Freezer {
 public:
  explicit Freezer(Fleet* fleet);
  // None is stopped afterwards.
  ~Freezer();

 private:
  Fleet* const fleet_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace shadowline::chaos

#endif  // SHADOWLINE_TESTS_CHAOS_TRAFFIC_H_
