// BackOff says what part of its budget verification may spend, by how the database is doing: all of it as long as
// statements take no longer than they used to, less and less while they do.
//
// Additive increase, multiplicative decrease (D.-M. Chiu, R. Jain, 1989): a window in which most statements took more
// than `tolerance` times their baseline, and `slack`, halves the part, and so does, at once, a statement that timed out
// or found no database; every other window gives `regain` back. Most of them, and not their mean: a single slow
// statement is no slow database. It never falls below `least`, so that somebody looks whether the database is well
// again.
//
// Statements differ, so each has a baseline of its own: the lowest moving average that it has shown. It moves slowly
// upwards, since data grow: a slowness that lasts as long as `doubling` is what is usual then.
//
// cache/origin/concurrency_limit.h limits what callers have at the database at once. This here is for work that can be
// left undone, so it gives way before that does: it cuts by half, and takes its time to come back.
//
// Threads: thread-safe; Factor() takes no lock. Times are Clock::Steady().
// Limits:  a thousand statements are told apart, then all is learned anew.
#ifndef SHADOWLINE_SERVER_READ_BACK_OFF_H_
#define SHADOWLINE_SERVER_READ_BACK_OFF_H_

#include <atomic>
#include <cstddef>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace shadowline::server {

class BackOff {
 public:
  struct Options {
    double tolerance = 2;
    // Where a statement takes less than a millisecond, three times as much is the weather, and no load.
    absl::Duration slack = absl::Milliseconds(2);
    double regain = 0.025;
    double least = 0.01;
    absl::Duration window = absl::Milliseconds(250);  // And at least four statements.
    absl::Duration doubling = absl::Minutes(30);
  };

  BackOff() : BackOff(Options()) {}
  explicit BackOff(const Options& options) : options_(options) {}

  // `statement` ended with `status` after `latency`, its queue in this process apart.
  void Ran(absl::Duration now, absl::string_view statement, absl::Duration latency, const absl::Status& status);

  // From `least` to 1.
  double Factor() const { return factor_.load(std::memory_order_relaxed); }

 private:
  struct Statement {
    double average = 0;  // Seconds.
    size_t samples = 0;
    double baseline = 0;  // As of `seen`; zero: not known yet.
    absl::Duration seen;
  };

  // Whether that was slow for `statement`; learns from it, where it `succeeded`.
  bool Slow(absl::Duration now, absl::string_view statement, double seconds, bool succeeded)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Cut(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void BeginWindow(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  std::atomic<double> factor_{1};
  base::Mutex mutex_;
  absl::flat_hash_map<std::string, Statement> statements_ ABSL_GUARDED_BY(mutex_);
  absl::Duration window_ends_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
  absl::Duration failure_counts_from_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
  size_t ran_ ABSL_GUARDED_BY(mutex_) = 0;   // In this window,
  size_t slow_ ABSL_GUARDED_BY(mutex_) = 0;  // of these.
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_BACK_OFF_H_
