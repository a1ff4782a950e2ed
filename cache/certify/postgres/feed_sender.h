// FeedSender sends what a FeedWriter has, as notifications through the state database: soon after something was
// captured, and now and then how far the capture has come. It connects only while there is something to tell.
//
// Ownership: borrows everything in Deps; each must outlive it.
// Threads:   one thread and, while there is a stream, one connection of its own. Start and Stop are called by one
// thread. Errors:    logged and counted. A connection that is lost is made again, and another run begins: what was sent
// last may
//            have been heard by nobody.
// Cost:      a transaction of the state database for each sending: every `beat` while nothing is captured, at most one
//            for each `pause` otherwise.
#ifndef SHADOWLINE_CACHE_CERTIFY_POSTGRES_FEED_SENDER_H_
#define SHADOWLINE_CACHE_CERTIFY_POSTGRES_FEED_SENDER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "cache/capture/postgres/worker.h"
#include "cache/certify/feed.h"

namespace shadowline::cache {

// The channel of the feed of the capture with this slot.
std::string FeedChannel(const std::string& slot);

class FeedSender {
 public:
  struct Options {
    std::string connection_string;  // The state database's; libpq's.
    std::string slot = "shadowline";
    std::string name;  // As FeedWriter's.
    absl::Duration pause = absl::Milliseconds(20);
    absl::Duration beat = absl::Milliseconds(200);
  };
  struct Deps {
    const base::Clock* clock = nullptr;
    base::Metrics* metrics = nullptr;
  };

  FeedSender(Options options, Deps deps);
  FeedSender(const FeedSender&) = delete;
  FeedSender& operator=(const FeedSender&) = delete;
  ~FeedSender();

  void Start();
  // Idempotent.
  void Stop();

  FeedWriter* writer() { return &writer_; }

 private:
  absl::Status Serve(bool* worked);

  const Options options_;
  const Deps deps_;
  base::Counter* const failures_;
  Signal signal_;
  FeedWriter writer_;
  Worker worker_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CERTIFY_POSTGRES_FEED_SENDER_H_
