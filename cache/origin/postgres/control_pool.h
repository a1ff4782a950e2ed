// PostgresControl is the Control on PostgreSQL: a fixed number of threads, each with one connection.
//
// A read is one round trip. Each statement is prepared once per connection; then a single message sets the transaction
// read-only, the timeout and the identity for this statement alone, and executes it:
//
//   SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = 250; SET LOCAL "shadowline.viewer" = '7'; EXECUTE "..."
//   ('acme', '42')
//
// PostgreSQL runs such a message as one transaction, so nothing of it outlives it (protocol documentation, "Multiple
// statements in a simple query"). The answer carries the session that it was made in; if that is not the session that
// was set up (a pooler, a failover), it is an error, and the connection is given up. A read that finds its connection
// dead or changed is tried once more on a new one: it only reads.
//
// A set of reads is one such message too, with the form of the statement that takes arrays (origin/statement.h). Where
// PostgreSQL cannot prepare that form, the set is kUnimplemented.
//
// A read that is made twice (twin_control.h) takes two connections. The first begins a transaction, REPEATABLE READ and
// READ ONLY, exports its snapshot and runs the statement; the second begins one of its own on that snapshot and does
// the same. Both answers name the snapshot that they were read in; if it is not the same, they are no answer.
//
// While PostgreSQL is away, reads fail at once (kUnavailable) between attempts to connect that become rarer. A watchdog
// answers every read that is still under way shortly after its deadline, whatever the driver is doing, and cuts its
// connection: a server that says nothing holds neither a caller nor a thread.
//
// Ownership: borrows the clock and the metrics. The destructor answers what is queued first; the executors that replies
// go to
//            must outlive it.
// Threads:   thread-safe.
// Errors:    as in control.h. Messages hold no parameter and no value of a row.
// Limits:    `connections` run, `queue_limit` wait. A pool that is asked for twins has up to twice as many connections.
#ifndef SHADOWLINE_CACHE_ORIGIN_POSTGRES_CONTROL_POOL_H_
#define SHADOWLINE_CACHE_ORIGIN_POSTGRES_CONTROL_POOL_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "cache/origin/control.h"
#include "cache/origin/twin_control.h"

namespace shadowline::cache {

class PostgresControl final : public Control, public TwinControl {
 public:
  struct Options {
    std::string name = "control";  // Of the threads, and a label in the metrics.
    std::string connection_string;
    size_t connections = 8;
    size_t queue_limit = 1024;
    std::string search_path = "public";
    std::string role;  // Empty: the user that connects.
    // Between attempts to connect; doubles from the first to the second. Reads fail at once meanwhile.
    absl::Duration reconnect_min = absl::Milliseconds(20);
    absl::Duration reconnect_max = absl::Seconds(1);
    // Hears how each statement went, and how long it took at the database; where no database was reached, too. What a
    // set takes depends on its size: sets of about the same size go by one name, and those that were too large for
    // their timeout are not told. On the pool's threads. May be empty.
    std::function<void(absl::string_view statement, absl::Duration took, const absl::Status& status)> ran = nullptr;
  };

  PostgresControl(Options options, const base::Clock* clock, base::Metrics* metrics);
  ~PostgresControl() override;

  void Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) override;
  void LoadSet(QuerySet queries, absl::Duration timeout, base::Executor* reply_on, SetCallback done) override;
  void LoadTwice(Query query, absl::Duration timeout, base::Executor* reply_on, TwinsCallback done) override;

 private:
  struct Job;
  struct Session;
  struct Worker;
  using Deadlines = std::multimap<absl::Duration, std::shared_ptr<Job>>;  // By Clock::Steady().

  using Answers = absl::StatusOr<std::vector<ControlAnswer>>;

  void Submit(std::shared_ptr<Job> job);
  void Run(Worker* worker, const std::shared_ptr<Job>& job);
  Answers Execute(Worker* worker, const Job& job);
  Answers Ask(Session* session, const Job& job);
  Answers AskTwice(Worker* worker, const Job& job);
  void Report(const Job& job, absl::Duration took, const absl::Status& status) const;
  absl::Status Connect(Session* session);
  void Disconnect(Session* session);
  void Answer(const std::shared_ptr<Job>& job, Answers answers);
  void Watch();
  bool WatchIsDue() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  const std::string connection_string_;
  const base::Clock* const clock_;
  base::Counter* const queries_;
  base::Counter* const failures_;
  base::Histogram* const seconds_;

  base::Mutex mutex_;
  Deadlines deadlines_ ABSL_GUARDED_BY(mutex_);  // Of reads that are not answered yet.
  absl::Duration watching_until_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration backoff_ ABSL_GUARDED_BY(mutex_);  // Zero: the last attempt to connect succeeded.
  absl::Duration retry_at_ ABSL_GUARDED_BY(mutex_);
  std::string last_failure_ ABSL_GUARDED_BY(mutex_);

  std::vector<std::unique_ptr<Worker>> workers_;  // By thread.
  std::unique_ptr<base::ThreadPool> pool_;
  std::thread watchdog_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_ORIGIN_POSTGRES_CONTROL_POOL_H_
