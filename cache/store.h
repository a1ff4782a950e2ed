// Store is the candidate: the few operations on Redis that the cache is made of. Every operation is made of steps on
// single keys, so that all of them work on a cluster.
//
//   what     holds                                   key (cache/key/key.h)
//   value    fill id, fence tokens, envelope         CacheKey     an answer, until its TTL
//   fence    token, transactions, when               FenceKey     one for each tag: replaced by every invalidation
//   lease    lease id                                the value's  one loader in the fleet is loading this key
//   raw      whatever an application wrote           its own      an answer that Shadowline only reads
//
// A value names the tokens of the fences that it was loaded behind. It is an answer only while those very fences stand:
// a reader fetches the value together with its fences, and `Admits` compares them. So an invalidation is one step for
// each tag, however many keys are cached under it, and nothing can bring a value back behind a fence that is gone: a
// fence that was evicted, or that was written in an earlier life of its Redis (a failover may have forgotten the one
// that replaced it), counts as absent, and its successor has another token.
//
// The value and its fences may be read from different nodes and at different moments; what is said above needs no more
// than that each of them is read after the read began. Let an invalidation of a tag be acknowledged before that. The
// tag's fence is then found with the token that was put, or a later one, or not at all. A value that names that token
// was loaded by somebody who had seen it, hence after the invalidation, whenever and wherever the value itself is read;
// and each tag is argued by itself. This rests on who answers for a fence: the node that serves its slot, under its own
// mark. A node that serves it no more refuses (MOVED) or passes on (ASK), and then the mark is that of the node which
// answered; a fence that moved with its slot still bears the mark of the one that it came from, and counts as absent.
//
// Ownership: keys and values are copied or moved. Threads: one Store belongs to one executor; every call is made on it
// and every callback runs on it. Callbacks are always called, exactly once, never inside the call.
// Statuses: kUnavailable (no connection, or it broke), kDeadlineExceeded (no reply in time),
//           kResourceExhausted (too many outstanding commands), kInternal (Redis answered with an error or another
//           type).
#ifndef SHADOWLINE_CACHE_STORE_H_
#define SHADOWLINE_CACHE_STORE_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace shadowline::cache {

inline constexpr size_t kTokenBytes = 16;
// Most transactions that one fence names. The oldest go first.
inline constexpr size_t kFenceTransactionsMax = 16;

// What a key holds.
struct Slot {
  // kForeign: what Shadowline did not write. kRaw: bytes that an application wrote, by ReadRaw.
  enum class Kind { kAbsent, kValue, kForeign, kRaw };

  Kind kind = Kind::kAbsent;
  std::string fill;    // kValue: the fill's id; kTokenBytes.
  std::string fences;  // kValue: the tokens of the fences that it was loaded behind, in the order of its tags.
  std::string bytes;   // kValue: the serialized envelope. kRaw: what is there.
};

// The fence of one tag.
struct Fence {
  std::string token;                                 // Empty: there is none.
  absl::Time invalidated_at = absl::InfinitePast();  // InfinitePast: made by a fill, and never replaced since.
  // pg_current_xact_id() of writers that may have been invisible still when they invalidated, newest first.
  std::vector<uint64_t> transactions;
};

// The fences of a key's tags.
struct Fences {
  bool complete = true;                              // Every tag has one.
  std::string tokens;                                // Where complete: of all, in the order of the tags.
  absl::Time invalidated_at = absl::InfinitePast();  // The latest.
  std::vector<uint64_t> transactions;                // Of all.

  void Add(const Fence& fence) {
    complete = complete && !fence.token.empty();
    tokens += fence.token;
    invalidated_at = std::max(invalidated_at, fence.invalidated_at);
    transactions.insert(transactions.end(), fence.transactions.begin(), fence.transactions.end());
  }
};

// A key, and the fences of its tags, each as it stood at some moment of the read.
struct Found {
  Slot slot;
  Fences fences;
  // When the Redis that holds them was last out of this store's reach, long enough for an invalidation that could not be
  // delivered to matter: the end of that time. InfinitePast: never.
  absl::Time reached_again_at = absl::InfinitePast();
};

// Is what was found an answer?
inline bool Admits(const Found& found) {
  return found.slot.kind == Slot::Kind::kValue && found.fences.complete && found.slot.fences == found.fences.tokens;
}

// May the freshness bound be broken by a value that was loaded at `loaded_at`? What was written while its Redis was out
// of reach could not be invalidated, and nobody knows whether it has been since. What is younger than the bound cannot
// break it, and what was loaded afterwards shows the writes.
inline bool MayBeOutdated(const Found& found, absl::Time loaded_at, absl::Time now, absl::Duration freshness) {
  return loaded_at < found.reached_again_at && now - loaded_at > freshness;
}

struct Lease {
  bool granted = false;  // This loader loads. Otherwise another one holds the lease.
  Found found;           // Read after the lease was asked for.
};

// One fill, on its way into the store.
struct Fill {
  std::string id;      // kTokenBytes
  std::string fences;  // Fences::tokens, read before the load.
  std::string envelope;
  absl::Duration ttl;
};

class Store {
 public:
  virtual ~Store() = default;

  // False: a read would fail at once. For callers who can then do without what leads up to one.
  virtual bool Reachable() const = 0;

  virtual void Read(std::string key, std::vector<std::string> fence_keys,
                    absl::AnyInvocable<void(absl::StatusOr<Found>)> done) = 0;

  // Reads a key of an application as it is: kRaw, kAbsent, or kForeign where it is no string. It has no fences.
  virtual void ReadRaw(std::string key, absl::AnyInvocable<void(absl::StatusOr<Found>)> done) = 0;

  // Makes the fences that are missing, and lets each live for at least `ttl` more.
  virtual void EnsureFences(std::vector<std::string> fence_keys, absl::Duration ttl,
                            absl::AnyInvocable<void(absl::StatusOr<Fences>)> done) = 0;
  // Puts a new fence with `token` in the place of the one that stands, for at least `ttl`. `transactions` come before
  // those that the old one names.
  virtual void ReplaceFence(std::string fence_key, std::string token, absl::Time at, std::vector<uint64_t> transactions,
                            absl::Duration ttl, absl::AnyInvocable<void(absl::Status)> done) = 0;
  virtual void ReadFence(std::string fence_key, absl::AnyInvocable<void(absl::StatusOr<Fence>)> done) = 0;

  // Asks for the lease of `key` for `ttl`, and reads. A lease only spares loads: no fill is right because of it.
  virtual void AcquireLease(std::string key, std::string lease_id, absl::Duration ttl,
                            std::vector<std::string> fence_keys,
                            absl::AnyInvocable<void(absl::StatusOr<Lease>)> done) = 0;
  // Where the lease still is this one's. Best effort.
  virtual void RenewLease(std::string key, std::string lease_id, absl::Duration ttl) = 0;
  virtual void ReleaseLease(std::string key, std::string lease_id) = 0;

  // Writes a value, unless a fill other than `seen` (empty: none) has come meanwhile: then false, and nothing is
  // written. What Shadowline did not write is overwritten.
  virtual void Put(std::string key, std::string seen, Fill fill,
                   absl::AnyInvocable<void(absl::StatusOr<bool>)> done) = 0;
  // Removes a value, if it still is that fill.
  virtual void Discard(std::string key, std::string fill, absl::AnyInvocable<void(absl::Status)> done) = 0;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_STORE_H_
