// RedisNearFeed keeps one near cache honest, by client tracking of one Redis; cache/near/near_cache.h says what that
// takes.
//
//   RedisNearFeed feed(options, loop, clock, random, &near);
//   feed.Start(loop);
//   const NearCache::Ticket ticket = near.Begin();
//   feed.store()->Read(key, fence_keys, ...);  // what it reads, the near cache may keep
//
// It has two connections. What the one has read, Redis remembers, and says on the other, which is subscribed to nothing
// else, when it is changed (CLIENT TRACKING ON REDIRECT). Should Redis lose either, it forgets. So a proof takes a PING
// on both, sent together: the one's answer says that Redis remembered until then, the other's that all messages have
// come. A connection that was lost without our noticing answers no PING. When we notice, the near cache is dropped
// whole.
//
// PINGs go out while the near cache is asked; one that nobody asks lapses, and keeps what it has. Without them, and
// while Redis refuses tracking, reads go to Redis.
//
// For one Redis alone: a cluster would need a feed for each of its nodes.
//
// Ownership: borrows executor, clock, random and near cache; must outlive the executor's thread.
// Threads:   all calls on the executor, the near cache's.
// Cost:      two connections; two PINGs every `ping_interval`, or two looks at a clock every `idle_interval`.
#ifndef SHADOWLINE_CACHE_REDIS_NEAR_FEED_H_
#define SHADOWLINE_CACHE_REDIS_NEAR_FEED_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/event_loop.h"
#include "base/random.h"
#include "cache/near/near_cache.h"
#include "cache/redis/connection.h"
#include "cache/redis/redis_store.h"

namespace shadowline::cache {

class RedisNearFeed {
 public:
  struct Options {
    RedisStore::Options redis;
    // Well below the near cache's grace: a proof is as old as its PINGs, until the next is complete.
    absl::Duration ping_interval = absl::Milliseconds(2);
    absl::Duration idle_interval = absl::Milliseconds(100);
    // A near cache that was not asked for so long is idle.
    absl::Duration idle_after = absl::Seconds(1);
    // Between attempts to have reads tracked, where Redis refuses it.
    absl::Duration retry = absl::Seconds(5);
  };

  RedisNearFeed(Options options, base::Executor* executor, const base::Clock* clock, base::Random* random,
                NearCache* near);
  RedisNearFeed(const RedisNearFeed&) = delete;
  RedisNearFeed& operator=(const RedisNearFeed&) = delete;

  // Connects, once; `loop` is the executor.
  void Start(base::Loop* loop);
  // Closes for good.
  void Shutdown();

  // Whose reads are tracked.
  RedisStore* store() { return &reads_; }

 private:
  void Tick();
  // Asks Redis to track what is read.
  void Track();
  void Ping();
  // Tracking has ended, or is about to.
  void End();
  void Heard(const Reply& message);
  bool InUse(absl::Duration now);

  const Options options_;
  base::Executor* const executor_;
  const base::Clock* const clock_;
  NearCache* const near_;
  // Which process each connection leads to.
  std::string reads_process_;
  std::string messages_process_;
  RedisStats messages_stats_;
  RedisStore reads_;
  RedisConnection messages_;
  RedisConnection* reading_ = nullptr;  // The connection of reads_.
  std::string messages_id_;             // As Redis numbers its clients.

  bool started_ = false;
  bool shut_ = false;
  uint64_t term_ = 1;     // Numbers the times of tracking: what belongs to an earlier one is of no interest.
  bool asked_ = false;    // To track, in this term.
  bool tracked_ = false;  // And it does.
  bool pinging_ = false;  // A PING is under way on either.
  bool refused_ = false;  // Logged.
  absl::Duration retry_at_ = -absl::InfiniteDuration();
  uint64_t asks_ = 0;  // Of the near cache, when they were last counted,
  absl::Duration in_use_until_ = -absl::InfiniteDuration();
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_REDIS_NEAR_FEED_H_
