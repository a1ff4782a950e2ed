// ConcurrencyLimit finds out how many statements a database should run at once, from how long they take. Pure.
//
// The algorithm is the gradient of Netflix' concurrency-limits (E. Landau, W. Thurston, T. Bozarth, "Performance Under
// Load", 2018; also Envoy's adaptive concurrency filter): with g = tolerance x best latency / present latency, held to
// [1/2, 1], the limit moves a fifth of the way to  g x limit + sqrt(limit).  While statements take no longer than they
// should, the limit grows by its own root; when they queue inside the database, it shrinks in proportion to how much.
// AIMD on a latency target would do, too, but saws: it must overrun the target to find it, and cuts by a fixed part
// however small the overrun.
//
// Statements differ: what is slow for one is quick for another, and a change in the mix is not congestion. So each
// statement's latency (a moving average over about 32 samples) is compared with the best that the same statement has
// shown, and only the ratios are put together.
//
// The best is forgotten, since data grow and plans change: it is the lowest average of the present and the last
// `best_for`. A database that is kept busy would never show its best again, and the limit would drift upwards with what
// it mistakes for it; so when the limit was reached during a `best_for` that had no quiet moment, it is held at a
// quarter for `probe_for`, to look (as BBR does with its PROBE_RTT; N. Cardwell et al., "BBR", ACM Queue 14(5), 2016).
// That costs less than one part in a hundred.
//
// Threads: compatible.
// Limits:  between `least` and `most`; a thousand statements are told apart, then all is learned anew.
#ifndef SHADOWLINE_CACHE_ORIGIN_CONCURRENCY_LIMIT_H_
#define SHADOWLINE_CACHE_ORIGIN_CONCURRENCY_LIMIT_H_

#include <cstddef>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace shadowline::cache {

class ConcurrencyLimit {
 public:
  struct Options {
    size_t least = 2;
    // No more than the connections of the pool behind it: then nothing waits behind this limit.
    size_t most = 8;
    double tolerance = 1.5;                          // Times the best latency that are no sign of congestion.
    absl::Duration window = absl::Milliseconds(50);  // Between two steps, of ten samples at least.
    absl::Duration best_for = absl::Seconds(10);
    absl::Duration probe_for = absl::Milliseconds(100);
  };

  // Starts at half of `most`: a replica that has just started must not refuse what an old one would serve.
  explicit ConcurrencyLimit(const Options& options);

  // At `now` (Clock::Steady()).
  size_t Limit(absl::Duration now) const;

  // `statement` took `latency`, or at least that where it was given up, while `running` (with itself) were under way.
  void Sample(absl::Duration now, absl::string_view statement, absl::Duration latency, size_t running);

  // The least that `statement` takes on average when the database is at its best; zero while nothing is known.
  absl::Duration Best(absl::string_view statement) const;

 private:
  struct Statement {
    double average = 0;  // Seconds.
    size_t samples = 0;  // That the average is made of.
    // The lowest average of the epoch numbered `epoch`, and of the one before; zero: none.
    double best = 0;
    double best_before = 0;
    size_t epoch = 0;
  };

  void Turn(Statement* statement) const;
  double BestOf(const Statement& statement) const;
  size_t Quarter() const;
  void EndEpoch(absl::Duration now);
  void Step(absl::Duration now);

  const Options options_;
  double limit_;
  absl::flat_hash_map<std::string, Statement> statements_;
  size_t epoch_ = 1;
  absl::Duration epoch_ends_ = -absl::InfiniteDuration();
  bool reached_ = false;  // In this epoch, the limit was reached,
  bool quiet_ = true;     // and in some window no more than a quarter of it.
  absl::Duration probe_began_ = -absl::InfiniteDuration();
  absl::Duration probe_ends_ = -absl::InfiniteDuration();
  // The present window.
  absl::Duration window_ends_ = -absl::InfiniteDuration();
  double ratios_ = 0;
  size_t samples_ = 0;
  size_t running_most_ = 0;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_ORIGIN_CONCURRENCY_LIMIT_H_
