// Store is the candidate: the few operations on Redis that the cache is made of. Every operation touches one Redis key,
// so that all of them work on a cluster.
//
// What is stored under a key is one of three things, told apart by a 17-byte head (a kind and a 16-byte token):
//
//   value   'V' + fill id + envelope   an answer, until its TTL
//   lease   'L' + lease id             one loader in the fleet is loading this key
//   fence   'F' + fence id             the key was invalidated; nothing loaded before may be written over it
//
// A loader's lease *is* the proof that its fill is allowed: CommitFill writes only where that very lease still stands.
// An invalidation puts a fence in its place, an eviction removes it; in each case the fill is refused. (The
// alternative, to compare with an absent key, cannot tell "never fenced" from "fence was forgotten".) A restart or a
// failover may bring back an older state, in which a lease stands that had been fenced, or forget that the key was
// registered under its tags: so a lease also counts only for the `term` of the connection that granted it.
//
// Ownership: keys and values are copied or moved. Threads: one Store belongs to one executor; every call is made on it
// and every callback runs on it. Callbacks are always called, exactly once, never inside the call.
// Statuses: kUnavailable (no connection, or it broke), kDeadlineExceeded (no reply in time),
//           kResourceExhausted (too many outstanding commands), kInternal (Redis answered with an error or another
//           type).
#ifndef SHADOWLINE_CACHE_STORE_H_
#define SHADOWLINE_CACHE_STORE_H_

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

// What a key holds.
struct Slot {
  enum class Kind { kAbsent, kValue, kLease, kFence, kForeign };  // kForeign: bytes that Shadowline did not write

  Kind kind = Kind::kAbsent;
  std::string token;  // Fill, lease or fence id; kTokenBytes.
  std::string bytes;  // kValue: the serialized envelope.
};

// The outcome of asking for a lease.
struct Lease {
  enum class Outcome {
    kGranted,  // This loader loads.
    kBusy,     // Another loader of the fleet holds the lease.
    kValue,    // A value is there already: `slot` has it.
  };

  Outcome outcome = Outcome::kBusy;
  bool after_fence = false;  // kGranted: the lease took the place of a fence.
  uint64_t term = 0;         // kGranted: which connection of this store granted it.
  Slot slot;
};

class Store {
 public:
  virtual ~Store() = default;

  virtual void Get(std::string key, absl::AnyInvocable<void(absl::StatusOr<Slot>)> done) = 0;

  // Takes the lease of `key` for `ttl` where there is neither a value nor a lease. A foreign value is overwritten.
  virtual void AcquireLease(std::string key, std::string lease_id, absl::Duration ttl,
                            absl::AnyInvocable<void(absl::StatusOr<Lease>)> done) = 0;
  // Replaces the lease by a value. False: the lease no longer stands or is of an earlier term, and nothing was written.
  virtual void CommitFill(std::string key, std::string lease_id, uint64_t term, std::string fill_id,
                          std::string envelope, absl::Duration ttl,
                          absl::AnyInvocable<void(absl::StatusOr<bool>)> done) = 0;
  // Gives the lease back, if it still stands, after a load that failed. Best effort: it expires anyway.
  virtual void ReleaseLease(std::string key, std::string lease_id) = 0;

  // Adds `key` to the set `tag_key`, which then lives for at least `ttl` more.
  virtual void AddToTag(std::string tag_key, std::string key, absl::Duration ttl,
                        absl::AnyInvocable<void(absl::Status)> done) = 0;
  // All members of a tag, collected by SSCAN: one that was there throughout is returned, possibly twice.
  virtual void TagMembers(std::string tag_key,
                          absl::AnyInvocable<void(absl::StatusOr<std::vector<std::string>>)> done) = 0;
  // Remembers, for people who ask why an answer was wrong, that a tag was invalidated at `at`. Best effort.
  virtual void MarkInvalidated(std::string tag_key, absl::Time at) = 0;
  // When the tag was last invalidated through any replica; InfinitePast where nothing is known of it.
  virtual void LastInvalidated(std::string tag_key, absl::AnyInvocable<void(absl::StatusOr<absl::Time>)> done) = 0;
  // Puts a fence on `key`, whatever it held, for `ttl`.
  virtual void Fence(std::string key, std::string fence_id, absl::Duration ttl,
                     absl::AnyInvocable<void(absl::Status)> done) = 0;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_STORE_H_
