// OutboxDrain fences what writers put into the table shadowline.outbox, in the transactions that made it necessary: for
// databases where a replication slot is not allowed.
//
// It keeps no position. Each look takes the oldest rows that are there, has them fenced, and deletes exactly those: a
// row that becomes visible late, because its transaction committed after one that had begun later, is simply there at
// the next look. It looks when it is notified, and every `poll`. A row that was fenced and not yet deleted when its
// replica died is fenced again by the next.
//
// One replica at a time does it, who holds an advisory lock; should two ever do, rows are fenced twice, which is
// harmless.
//
// Ownership: borrows everything in Deps; each must outlive it.
// Threads:   one thread and one connection of its own. Start and Stop are called by one thread.
// Limits:    `batch` rows at once, and a row has at most 1,000 tags. What no read can have (a tag of more than 256
// bytes, an
//            empty one, one without a tenant) is deleted with its row.
#ifndef SHADOWLINE_CACHE_CAPTURE_POSTGRES_OUTBOX_H_
#define SHADOWLINE_CACHE_CAPTURE_POSTGRES_OUTBOX_H_

#include <string>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "cache/capture/postgres/worker.h"
#include "cache/capture/sink.h"
#include "cache/certify/feed.h"

namespace shadowline::cache {

class Connection;

class OutboxDrain {
 public:
  struct Options {
    std::string connection_string;  // Of the database that has the outbox; libpq's.
    int batch = 200;
    absl::Duration poll = absl::Seconds(1);
    absl::Duration lapse = absl::Seconds(10);  // A leader that is silent for so long has lost its lock.
    absl::Duration pause_min = absl::Milliseconds(50);
    absl::Duration pause_max = absl::Seconds(2);
  };
  struct Deps {
    const base::Clock* clock = nullptr;
    Sink* sink = nullptr;
    base::Metrics* metrics = nullptr;
    FeedWriter* feed = nullptr;  // Told of the rows, where their transactions are those of the source. Null: nobody is.
  };

  OutboxDrain(Options options, Deps deps);
  OutboxDrain(const OutboxDrain&) = delete;
  OutboxDrain& operator=(const OutboxDrain&) = delete;
  ~OutboxDrain();

  void Start();
  // Idempotent.
  void Stop();

 private:
  absl::Status Serve(bool* worked);
  // Fences and deletes what is there now, up to a batch; how many rows that was.
  absl::StatusOr<int> DrainOnce(Connection* connection);

  const Options options_;
  const Deps deps_;
  base::Counter* const rows_;
  base::Counter* const failures_;
  Worker worker_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CAPTURE_POSTGRES_OUTBOX_H_
