// FeedListener keeps this replica's Certifier true: it listens to the feed, and asks the source database for the
// snapshots up to which the certifier is complete.
//
// Ownership: borrows everything in Deps; each must outlive it. It is the only one to change the certifier.
// Threads:   one thread, a connection to the state database and, once a feed was heard, one to the source. Start and
// Stop
//            are called by one thread.
// Errors:    logged and counted. A connection that is lost, of either database, is made again, and nothing is certified
//            that was loaded before that: notifications may have been missed, or it is another database by now.
// Cost:      for the source, a statement that reads no table, every `look`, and one transaction id for each beginning.
#ifndef SHADOWLINE_CACHE_CERTIFY_POSTGRES_FEED_LISTENER_H_
#define SHADOWLINE_CACHE_CERTIFY_POSTGRES_FEED_LISTENER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "cache/capture/postgres/worker.h"
#include "cache/certify/certifier.h"
#include "cache/certify/feed.h"

namespace shadowline::cache {

class Connection;

class FeedListener {
 public:
  struct Options {
    // Connection strings of libpq's.
    std::string state;
    std::string source;
    std::string slot = "shadowline";
    absl::Duration look = absl::Milliseconds(100);
  };
  struct Deps {
    const base::Clock* clock = nullptr;
    Certifier* certifier = nullptr;
    base::Metrics* metrics = nullptr;
  };

  FeedListener(Options options, Deps deps);
  FeedListener(const FeedListener&) = delete;
  FeedListener& operator=(const FeedListener&) = delete;
  ~FeedListener();

  void Start();
  // Idempotent.
  void Stop();

 private:
  class Session;

  const Options options_;
  const Deps deps_;
  base::Counter* const failures_;
  base::Counter* const gaps_;
  Worker worker_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CERTIFY_POSTGRES_FEED_LISTENER_H_
