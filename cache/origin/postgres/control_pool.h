// PostgresControl is the Control on PostgreSQL: a fixed number of threads, each with one connection.
//
// A read is one round trip. Each statement is prepared once per connection; then a single message sets the transaction
// read-only, the timeout and the identity for this statement alone, and executes it:
//
//   SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = 250; SET LOCAL "shadowline.viewer" = '7'; EXECUTE "..." ('acme', '42')
//
// PostgreSQL runs such a message as one transaction, so nothing of it outlives it (protocol documentation, "Multiple statements in
// a simple query"). The answer carries the session that it was made in; if that is not the session that was set up (a pooler, a
// failover), it is an error, and the connection is given up.
//
// Ownership: borrows the clock and the metrics. The destructor answers what is queued first; the executors that replies go to
//            must outlive it.
// Threads:   thread-safe.
// Errors:    as in control.h. Messages hold no parameter and no value of a row.
// Limits:    `queue_limit` reads wait. A database that does not answer at all holds its threads, but not the callers: each is
//            answered with kDeadlineExceeded when its time is over.
#ifndef SHADOWLINE_CACHE_ORIGIN_POSTGRES_CONTROL_POOL_H_
#define SHADOWLINE_CACHE_ORIGIN_POSTGRES_CONTROL_POOL_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/metrics.h"
#include "cache/origin/control.h"

namespace shadowline::cache {

class PostgresControl final : public Control {
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
  };

  PostgresControl(Options options, const base::Clock* clock, base::Metrics* metrics);
  ~PostgresControl() override;

  void Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) override;

 private:
  class Connection;
  struct Reply;

  absl::StatusOr<ControlAnswer> Run(size_t thread, const Query& query, absl::Duration deadline);

  const Options options_;
  const base::Clock* const clock_;
  base::Counter* const queries_;
  base::Counter* const failures_;
  base::Histogram* const seconds_;
  std::vector<std::unique_ptr<Connection>> connections_;  // By thread.
  base::ThreadPool pool_;                                 // Last: its threads use all of the above.
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_ORIGIN_POSTGRES_CONTROL_POOL_H_
