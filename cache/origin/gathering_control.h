// GatheringControl makes one statement of what the reads of a batch load, for each endpoint, tenant and identity among
// them. One stands in each lane, before the control that the lanes share, and one before that of verification, where
// the samples that are judged together are a batch.
//
//   auto gathering = std::make_shared<Gathering>(reads.size());
//   control.Load({..., .gathering = gathering, .place = i}, ...);   // the load of read i, whenever it comes to it
//   gathering->Settle(i);                                           // read i was answered
//
// A load waits until every read of its batch has come to its load or was settled: as long as the reads are looked up in
// Redis together, they come to it together. It does not wait for longer than `wait_max`, because a read may itself be
// waiting for what somebody else is loading. Loads without a Gathering pass straight through.
//
// Where a set fails because of what one of its reads asks for, nobody knows which: the set is halved until that read
// fails alone, and each of the others has its answer. After a set that ran into its statement's timeout, each read is
// loaded by itself, and for a minute sets of that statement are half as large. A statement that has no form for sets is
// loaded one by one. What is no fault of the statement (the database is away, the line before it is full) fails all
// of them, at once.
//
// Ownership: borrows the Control, executor, clock and metrics.
// Threads:   belongs to its executor: Load is called on it, `reply_on` is it, and a Gathering belongs to it too.
// Errors:    those of the Control.
// Limits:    QuerySet::kMost reads in a statement.
#ifndef SHADOWLINE_CACHE_ORIGIN_GATHERING_CONTROL_H_
#define SHADOWLINE_CACHE_ORIGIN_GATHERING_CONTROL_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/metrics.h"
#include "cache/origin/control.h"

namespace shadowline::cache {

// The reads of one batch, as far as their loads are concerned.
class Gathering {
 public:
  explicit Gathering(size_t reads) : settled_(reads), left_(reads) {}

  // Nobody waits for read number `place` any more. Idempotent.
  void Settle(size_t place);

 private:
  friend class GatheringControl;

  std::vector<bool> settled_;
  size_t left_;
  absl::AnyInvocable<void()> send_;  // While loads wait.
};

class GatheringControl final : public Control {
 public:
  struct Options {
    std::string pool = "control";  // A label in the metrics.
    absl::Duration wait_max = absl::Milliseconds(2);
  };

  GatheringControl(Options options, Control* control, base::Executor* executor, const base::Clock* clock,
                   base::Metrics* metrics);

  void Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) override;

 private:
  struct Waiting {
    Query query;
    absl::Duration due;  // Clock::Steady()
    Callback done;
  };
  using Loads = std::vector<Waiting>;

  struct Limit {
    size_t most;
    absl::Duration until;  // Clock::Steady()
  };

  // Cuts loads into sets.
  void Send(Loads loads);
  void SendSet(Loads loads);
  void Failed(Loads loads, const absl::Status& status);
  size_t Most(const std::string& statement);

  const Options options_;
  Control* const control_;
  base::Executor* const executor_;
  const base::Clock* const clock_;
  base::Counter* const saved_;
  absl::flat_hash_map<std::shared_ptr<Gathering>, Loads> waiting_;
  absl::flat_hash_map<std::string, Limit> limits_;  // By statement; of those that have one.
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_ORIGIN_GATHERING_CONTROL_H_
