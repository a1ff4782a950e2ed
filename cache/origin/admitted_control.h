// AdmittedControl stands before a Control and lets no more through than the database can do well, so that all the reads
// which a lost Redis sends its way slow it down and do not bring it down (promises P9, P10).
//
//   PostgresControl pool(...);
//   AdmittedControl control({.limit = {.most = 8}}, &pool, clock, metrics);
//   control.Load(...);                 // for a caller who waits
//   control.background()->Load(...);   // a refresh: behind every caller
//
// TERMINOLOGY
//   question  statement, tenant and arguments, of one query or of a set: what has one answer at one moment.
//   run       one statement at the database, for one caller or for several who ask the same question.
//
// A run goes, in this order, through
//   parked   a run of the same question is at the database. Ends when that has answered, or after `wait_max`.
//   in line  the limit is reached.
//   sent     it is at the database.
//
// **Sharing.** Who asks a question that a run is parked or in line for joins it: its answer will be read after the
// caller came. Nobody joins a run that was sent; its answer may have been read before the caller came. So however many
// ask, a question costs two runs at a time: the one that is under way, and the one behind it.
//
// **Limit.** concurrency_limit.h. The background has at most half of it. A set is one statement, and takes one place;
// how long it takes is compared with sets of about its size.
//
// **Line.** Callers before the background; among each, tenants take turns (fair_line.h). While the line has been empty
// within `calm`, the oldest goes first and may wait for `wait_max`. When it has not, it is not a burst that stands in
// line but a surplus, and making everybody wait serves nobody sooner: the newest goes first, and nobody waits for
// longer than `wait_overloaded` (or than the statement itself takes, where that is more). This is adaptive LIFO with
// controlled delay (B. Maurer, "Fail at Scale", ACM Queue 13(8), 2015). Where the line is full, the oldest of the
// tenant with the most in line makes way, the background's first.
//
// **Deadlines.** A caller whose deadline cannot be met any more, even by the best that its statement has done lately,
// leaves the line at once. A run is given the longest of its callers' deadlines; each caller is answered by its own.
//
// **Retries.** A run that fails with kUnavailable is sent once more, after `retry_after`, as long as retries stay below
// `retry_share` of the successes (the retry budget of Finagle): a database that is down is not asked twice as often.
//
// Ownership: borrows the Control, the clock and the metrics. Outlives the executors that its callers name, since it
//            sets timers on them; those executors run for as long as loads are under way.
// Threads:   thread-safe; one for all lanes of a replica. One mutex, never held across a call or a callback.
// Errors:    as in control.h. kResourceExhausted, with the reason: the line is full, or the wait was too long, or the
//            deadline could not be met; the database was not asked.
// Limits:    the limit; `line_max` runs in line; `callers_max` callers in line and parked.
// Cost:      without contention one lock before and one after the load, and a copy of the query.
#ifndef SHADOWLINE_CACHE_ORIGIN_ADMITTED_CONTROL_H_
#define SHADOWLINE_CACHE_ORIGIN_ADMITTED_CONTROL_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "cache/origin/concurrency_limit.h"
#include "cache/origin/control.h"
#include "cache/origin/fair_line.h"

namespace shadowline::cache {

class AdmittedControl final : public Control {
 public:
  struct Options {
    std::string name = "control";  // A label in the metrics.
    ConcurrencyLimit::Options limit;
    size_t line_max = 256;
    size_t callers_max = 16384;
    absl::Duration wait_max = absl::Milliseconds(100);
    absl::Duration calm = absl::Milliseconds(100);
    absl::Duration wait_overloaded = absl::Milliseconds(10);
    double retry_share = 0.1;
    double retry_burst = 10;  // Retries that may be saved up.
    absl::Duration retry_after = absl::Milliseconds(10);
  };

  AdmittedControl(Options options, Control* control, const base::Clock* clock, base::Metrics* metrics);

  void Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) override;
  void LoadSet(QuerySet queries, absl::Duration timeout, base::Executor* reply_on, SetCallback done) override;

  // The same, for loads that nobody waits for. Lives as long as this.
  Control* background() { return &background_; }

 private:
  enum class Priority { kCaller, kBackground };
  enum class Why { kFull, kWait, kDeadline };

  class Background final : public Control {
   public:
    explicit Background(AdmittedControl* control) : control_(control) {}
    void Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) override;
    void LoadSet(QuerySet queries, absl::Duration timeout, base::Executor* reply_on, SetCallback done) override;

   private:
    AdmittedControl* const control_;
  };

  struct Caller;
  struct Run;
  struct Outbox;
  using CallerPtr = std::shared_ptr<Caller>;
  using RunPtr = std::shared_ptr<Run>;
  struct Question {
    size_t sent = 0;  // Runs at the database.
    RunPtr next;      // Parked or in line.
  };

  using Answers = absl::StatusOr<std::vector<ControlAnswer>>;

  // A single query is a set of one.
  void Admit(Priority priority, QuerySet queries, absl::Duration timeout, base::Executor* reply_on, SetCallback done);
  void Expire(const RunPtr& run, const CallerPtr& caller);
  void Answer(const RunPtr& run, Answers answers);
  // Does what was decided under the lock.
  void Perform(Outbox outbox);
  void Send(const RunPtr& run);

  FairLine<RunPtr>& LineOf(Priority priority) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Enqueue(const RunPtr& run, absl::Duration now, Outbox* outbox) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Raise(const RunPtr& run) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sends what the limit has room for.
  void Pump(absl::Duration now, Outbox* outbox) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasRoom(Priority priority, absl::Duration now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The next run that is worth sending; null: none is left.
  RunPtr Next(Priority priority, absl::Duration now, Outbox* outbox) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Launch(const RunPtr& run, absl::Duration now, Outbox* outbox) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes those who are to be answered, and lets in who comes next.
  void Finish(const RunPtr& run, absl::Duration now, std::vector<CallerPtr>* callers, Outbox* outbox)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Refuse(const CallerPtr& caller, Why why, Outbox* outbox) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Refuses those who still wait for a run that will not be sent, and forgets it.
  void Drop(const RunPtr& run, Why why, Outbox* outbox) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(const RunPtr& run) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // When `caller` has waited for long enough in the state that `run` is in.
  absl::Duration Due(const Run& run, const Caller& caller) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Show(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  Control* const control_;
  const base::Clock* const clock_;
  Background background_{this};
  base::Gauge* const limit_gauge_;
  base::Gauge* const running_gauge_;
  base::Gauge* const waiting_gauge_;
  base::Counter* const shared_;
  base::Counter* const full_;
  base::Counter* const waited_;
  base::Counter* const late_;
  base::Counter* const retried_;
  base::Counter* const not_retried_;

  base::Mutex mutex_;
  ConcurrencyLimit limit_ ABSL_GUARDED_BY(mutex_);
  size_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t running_background_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;  // Callers, parked and in line.
  double retries_ ABSL_GUARDED_BY(mutex_);      // That are left.
  absl::flat_hash_map<std::string, Question> questions_ ABSL_GUARDED_BY(mutex_);
  FairLine<RunPtr> callers_ ABSL_GUARDED_BY(mutex_);
  FairLine<RunPtr> behind_ ABSL_GUARDED_BY(mutex_);  // The background.
  absl::Duration calm_at_ ABSL_GUARDED_BY(mutex_);   // When no caller's run was in line.
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_ORIGIN_ADMITTED_CONTROL_H_
