// NoiseProbe has the control read twice in one snapshot, a pair at a time, and counts what differs between the two
// under the endpoint's rules. A declared excuse is no noise, and its use here is no evidence.
//
// Two askers: measuring, which is a share of what is verified and may be left out at any time; and checking, which a
// verdict waits for (verifier.h).
//
// Ownership: borrows everything in Deps.
// Threads:   all on `executor`, which must have stopped when the probe is destroyed.
// Errors:    those of TwinControl; kDeadlineExceeded too where a check waited longer than kWaitMost for its turn;
//            kInternal where the control's answers are not JSON.
// Limits:    one pair is under way, of two queries of the budget. Checks wait without a limit of their own: they are as
//            many as there are episodes.
#ifndef SHADOWLINE_SERVER_READ_NOISE_PROBE_H_
#define SHADOWLINE_SERVER_READ_NOISE_PROBE_H_

#include <deque>
#include <functional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/metrics.h"
#include "cache/origin/twin_control.h"
#include "diff/compare/compare.h"
#include "diff/evidence/noise_book.h"
#include "server/read/comparer.h"

namespace shadowline::server {

// What noise is counted under.
diff::NoiseKey NoiseKeyOf(const cache::Query& query);

class NoiseProbe {
 public:
  // A check that could not be made for so long is given up.
  static constexpr absl::Duration kWaitMost = absl::Seconds(30);
  // A share of an endpoint that is read a thousand times a second would tell no more, and its callers would notice.
  static constexpr absl::Duration kMeasureEvery = absl::Milliseconds(500);

  struct Deps {
    cache::TwinControl* twins = nullptr;
    diff::NoiseBook* book = nullptr;
    Comparer* comparer = nullptr;
    // Takes the tokens of so many queries out of the budget, if more than `reserve` of it would be left.
    std::function<bool(double reserve, double queries)> spend;
    base::Executor* executor = nullptr;
    const base::Clock* clock = nullptr;
    base::Metrics* metrics = nullptr;
  };

  struct Pair {
    cache::Twins answers;
    diff::Comparison between;
  };
  using Done = absl::AnyInvocable<void(absl::StatusOr<Pair>)>;

  explicit NoiseProbe(Deps deps);
  NoiseProbe(const NoiseProbe&) = delete;
  NoiseProbe& operator=(const NoiseProbe&) = delete;

  // Left out where a pair is under way, where one of this endpoint was measured less than kMeasureEvery ago, or where
  // not more than `reserve` of the budget would be left.
  void Measure(cache::Query query, double reserve);
  // Waits for its turn and for the budget. `done` is called later, once, or never after Stop.
  void Check(cache::Query query, Done done);
  // Forgets the checks that wait.
  void Stop();

 private:
  struct Waiting {
    cache::Query query;
    Done done;
    absl::Duration since;
  };

  void Pump();
  void Read(cache::Query query, Done done);
  absl::StatusOr<Pair> Count(const cache::Query& query, absl::StatusOr<cache::Twins> twins);

  const Deps deps_;
  base::Counter* const same_;
  base::Counter* const differed_;
  base::Counter* const failed_;
  absl::flat_hash_map<std::string, absl::Duration> measured_;  // By endpoint, when: Clock::Steady().
  std::deque<Waiting> line_;
  bool busy_ = false;
  bool pausing_ = false;  // For the budget.
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_NOISE_PROBE_H_
