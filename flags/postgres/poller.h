// Poller keeps this replica's Board true to PostgreSQL: it listens for changes, asks for the revision at an interval as
// a backstop (which also renews the board's lease), and where the revision is not the board's, loads everything again
// in one snapshot of the database. It never asks for "what changed since": a cursor would skip a transaction that
// commits late.
//
// The lease counts from before the question was sent, so a database that answers slowly, or not at all, takes the
// replica off the cache in time. A lost connection is made again with backoff; the board keeps its last snapshot
// meanwhile.
//
// Ownership: borrows everything in Deps; each must outlive it.
// Threads:   one thread and one connection of its own. Start and Stop are called by one thread.
// Limits:    loads all targets at once: some 100 bytes each, over the wire and in memory.
#ifndef SHADOWLINE_FLAGS_POSTGRES_POLLER_H_
#define SHADOWLINE_FLAGS_POSTGRES_POLLER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "flags/board.h"

namespace shadowline::flags {

class Poller {
 public:
  struct Options {
    std::string connection_string;  // libpq's.
    // How often the revision is asked for; keep it well below the board's lease.
    absl::Duration interval = absl::Milliseconds(500);
    // After the first failure; doubles up to `backoff_max`.
    absl::Duration backoff_min = absl::Milliseconds(50);
    absl::Duration backoff_max = absl::Seconds(1);
  };
  struct Deps {
    const base::Clock* clock = nullptr;
    Board* board = nullptr;
    // Called on the poller's thread after the board holds a new revision, the first included: flags, tenants or the
    // catalog have changed. It delays the next renewal of the lease, so post longer work elsewhere. May be empty.
    std::function<void(uint64_t revision)> on_change;
  };

  Poller(Options options, Deps deps);
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;
  ~Poller();

  void Start();
  // Ends the thread, also in the middle of a question that the database does not answer; a connection that is being
  // made is given up after 2 s. Idempotent.
  void Stop();

 private:
  void Run();
  // One connection, until it breaks or Stop is called. Sets `*worked` once the board was renewed.
  void Serve(bool* worked);
  // Waits for a notification, the interval or Stop.
  void Wait(int socket, absl::Duration timeout);

  const Options options_;
  const Deps deps_;
  int wake_descriptor_;
  std::atomic<bool> stopping_{false};
  base::Mutex mutex_;
  // The live connection's socket, so that Stop can cut it; -1 for none.
  int socket_ ABSL_GUARDED_BY(mutex_) = -1;
  std::thread thread_;
};

}  // namespace shadowline::flags

#endif  // SHADOWLINE_FLAGS_POSTGRES_POLLER_H_
