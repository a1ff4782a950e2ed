// NearCache keeps answers in the process, so that a read of a hot key costs a look-up and no round trip to Redis. It is
// bounded in bytes, and it is honest: an answer that Redis would not give any more is not served for longer than
// `grace`.
//
//   const NearCache::Ticket ticket = near.Begin();           // before the read is sent to Redis
//   store->Read(key, fence_keys, [=](...) { near.Insert(ticket, key, {answer, fill_id}, fence_keys, expires_at); });
//   ...
//   if (const NearCache::Value* value = near.Lookup(key, clock->Steady())) Reply(value->answer);
//
// **Honesty.** Redis' client tracking tells a connection of ours which keys were changed since we read them, in the
// order of the changes; but a message may be under way, and a connection that broke may look like one that is silent.
// So a PING is sent on that connection every few milliseconds. Its answer comes behind every message that was due when
// Redis saw the PING: what was changed before the PING was sent is known by then. An entry is served at `now` only if a
// PING sent at or after `now - grace` has been answered. An entry depends on the key of its value and on the fences
// that it was loaded behind; a change of any of them ends it.
//
// What that is worth to a writer: `grace` after a fence stands, no near cache serves what the fence has outdated. So
// where endpoints are served from near caches, an invalidation is acknowledged (promise P6) only when kNearGrace, which
// no replica's `grace` exceeds, has passed since its fences stood. cache/near/near_terms.h says where that is.
//
// What whoever feeds it must see to, since nothing here can:
//   - Tracking in its default mode, with REDIRECT. In BCAST mode Redis collects messages until the end of a turn of its
//     event loop, so that the answer of a PING may overtake them.
//   - TrackingBegan only when the reading connection's CLIENT TRACKING was acknowledged: what was read before is not
//     tracked. TrackingEnded when either connection is lost: Redis forgets what the lost one had read.
//   - One PING after the other on one connection; Renew with the time at which the answered one was *sent*.
//
// **Races.** An invalidation may arrive while a read is under way whose answer it has outdated. A ticket, taken before
// the read is sent, remembers the point in the order of invalidations; Insert refuses what any of the entry's keys was
// invalidated after. The newest invalidation is kept for each of 4,096 hashes, not for each key: a collision refuses an
// entry that could have been kept, and costs one more read of Redis.
//
// **Admission and eviction** are S3-FIFO (J. Yang et al., "FIFO queues are all you need for cache eviction", SOSP '23):
// new entries pass through a small queue, a tenth of the bytes, and only those that are asked for again while they are
// in it move on to the main one; a scan goes in and out of the small queue and leaves the rest alone. Keys that just
// left are remembered for a while, and go to the main queue when they come back. W-TinyLFU resists as well, and costs a
// look into its sketch and a change of lists for each hit; here a hit counts to three and moves nothing.
//
// An invalidation is O(1) however many entries hang on the fence: it breaks the fence, and entries behind a broken one
// go when they are next looked up or come up for eviction.
//
// Ownership: owns its entries. What Lookup returns stands until the next call that is not const.
// Threads:   compatible. One for each lane, so no lock; stats() from any thread.
// Limits:    `max_bytes` for entries, their keys and what is remembered; a single entry is at most a tenth of it.
// Cost:      Lookup: one hash, one comparison of keys, one flag a fence.
#ifndef SHADOWLINE_CACHE_NEAR_NEAR_CACHE_H_
#define SHADOWLINE_CACHE_NEAR_NEAR_CACHE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "cache/envelope/envelope.h"

namespace shadowline::cache {

// How long after its fences stand an invalidation waits for near caches. No option: replicas rely on each other's.
inline constexpr absl::Duration kNearGrace = absl::Milliseconds(10);

class NearCache {
 public:
  struct Options {
    size_t max_bytes = 64 << 20;
    // A little less: the clocks of two machines do not run exactly alike.
    absl::Duration grace = kNearGrace * 99 / 100;
  };

  struct Value {
    CachedAnswer answer;
    std::string fill_id;
    std::vector<uint32_t> tag_hashes;  // For the certifier (cache/certify/certifier.h), where there is one.
  };

  // A point in the order of invalidations; one that is default-made is refused.
  class Ticket {
   private:
    friend class NearCache;
    uint64_t order = 0;
  };

  struct Stats {
    std::atomic<uint64_t> hits{0};
    std::atomic<uint64_t> misses{0};
    std::atomic<uint64_t> lapsed{0};   // Look-ups without a lease: the tracking connection was silent for too long.
    std::atomic<uint64_t> refused{0};  // Inserts that raced with an invalidation, or were not tracked.
    std::atomic<uint64_t> evicted{0};
    std::atomic<uint64_t> invalidated{0};  // Messages.
    std::atomic<uint64_t> entries{0};
    std::atomic<uint64_t> bytes{0};
    std::atomic<bool> tracked{false};
  };

  explicit NearCache(const Options& options) : options_(options) {}
  NearCache(const NearCache&) = delete;
  NearCache& operator=(const NearCache&) = delete;

  // Null: not here, or not to be trusted at `now` (Clock::Steady()).
  const Value* Lookup(absl::string_view key, absl::Duration now);
  // The same for whoever is no reader: nothing is counted, nothing changes.
  const Value* Peek(absl::string_view key, absl::Duration now) const;

  // Are reads tracked now? If not, nothing that is read can be inserted.
  bool tracking() const { return tracking_; }
  Ticket Begin() const;
  // `key` is the value's key in Redis, `fence_keys` are those of the fences that it was found behind; it ends at
  // `expires_at` (Clock::Steady()). False: it was not taken.
  bool Insert(Ticket ticket, std::string key, Value value, const std::vector<std::string>& fence_keys,
              absl::Duration expires_at);

  // From the tracking connection.
  void TrackingBegan();
  void TrackingEnded();
  // A PING that was sent at `sent_at` (Clock::Steady()) has been answered.
  void Renew(absl::Duration sent_at);
  void Invalidated(absl::string_view redis_key);
  // Redis sent the null message: all keys are gone.
  void DropAll();

  size_t bytes() const { return small_.bytes + main_.bytes + ghosts_.size() * kGhostBytes; }
  size_t entries() const { return entries_.size(); }
  const Stats& stats() const { return stats_; }

 private:
  static constexpr size_t kGhostBytes = 80;  // Its place in the queue and in the table.
  static constexpr size_t kBuckets = 4096;
  static constexpr uint8_t kHitsMost = 3;

  // A fence that entries hang on, until Redis says that it was changed.
  struct Watched {
    std::string key;
    bool standing = true;
  };
  struct Entry {
    std::string key;
    Value value;
    std::vector<std::shared_ptr<Watched>> fences;
    absl::Duration expires_at;
    size_t bytes = 0;
    uint8_t hits = 0;
    bool in_main = false;
  };
  using Place = std::list<Entry>::iterator;
  struct Queue {
    std::list<Entry> entries;  // The newest first.
    size_t bytes = 0;
  };

  static void Count(std::atomic<uint64_t>* number) {
    number->store(number->load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  static bool Stands(const Entry& entry);
  static size_t BytesOf(const Entry& entry, const std::vector<std::string>& fence_keys);
  uint64_t& LastInvalidated(absl::string_view redis_key);
  std::shared_ptr<Watched> Watch(const std::string& fence_key);
  Queue& QueueOf(const Entry& entry) { return entry.in_main ? main_ : small_; }
  void Remove(Place entry);
  void CountEntries();
  void MakeRoom();
  void EvictFromSmall();
  void EvictFromMain();
  // Notes that a key was here.
  void Remember(absl::string_view key);
  bool Recall(absl::string_view key);

  const Options options_;
  Stats stats_;
  Queue small_;
  Queue main_;
  absl::flat_hash_map<absl::string_view, Place> entries_;                     // The keys are the entries' own.
  absl::flat_hash_map<absl::string_view, std::shared_ptr<Watched>> watched_;  // Those that stand; the same.
  // Keys that left, by hash, oldest first; the number tells a place in the queue that was used since from one that was
  // not.
  std::deque<std::pair<uint64_t, uint64_t>> ghosts_;
  absl::flat_hash_map<uint64_t, uint64_t> ghost_numbers_;
  uint64_t next_ghost_ = 0;

  bool tracking_ = false;
  absl::Duration proven_ = -absl::InfiniteDuration();  // What was changed before is known.
  uint64_t order_ = 1;                                 // Of the newest invalidation.
  uint64_t order_least_ = 1;                           // Tickets below are refused.
  std::array<uint64_t, kBuckets> last_invalidated_ = {};
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_NEAR_NEAR_CACHE_H_
