// Certifier answers, for every cached answer that is served and without asking anybody: does it show everything that
// was committed to what it was made of? It knows, from change capture (feed.h says how that comes here), which
// transactions touched which tags; a fill carries the database snapshot that it was loaded in.
//
//   certified  the database held this answer at `as_of` or later, and that is within the freshness bound
//   outdated   a transaction that the fill did not see has touched its tags (or a tag of the same bucket). No proof
//   that
//              the answer changed: the change may have left it as it was
//   unknown    neither can be said: no feed, a gap in it, a fill from before the gap, a feed that is behind by more
//   than
//              the freshness bound, a fill without a snapshot
//
// TERMS
//   bucket      tags are hashed into a fixed array. Tags that share a bucket share its transactions: an answer can then
//               be called outdated, never certified, for a transaction that was not its own.
//   F           the fill's snapshot: what its statement could see
//   S           a snapshot that this replica asked for itself at `as_of`, and up to which the feed is complete: every
//               transaction that S sees and that touched a tag is in the array, unless it is older than `since`
//   since       a transaction id that was assigned after the feed had begun without a gap
//
// WHY IT HOLDS. Snapshots of one database are ordered: of two, the later sees all that the earlier does. Let an answer
// be certified, T be a transaction that touched its tags, and S see T. Then F sees T as well:
//   - The id of T is at most `since`: everything up to there had ended when F was taken (F.xmin > since), so F sees all
//     of it that was committed.
//   - Else it was fed, for it began after the feed did, and is in the array. The greatest id of each bucket is below
//     F.xmax, and none that was in progress in F has touched the buckets; what is left, F sees.
// So either F is the later of the two, or no transaction that touched the tags lies between F and S, and the answer of
// F is the answer of S. In both cases the database held it when S was taken, or later.
//
// Why the greatest id of a bucket is not enough: ids are given when a transaction first writes, and become visible when
// it commits, in another order. A fill may see 105 and not 101, which is committed afterwards: 105 remains the
// greatest, and is below F.xmax. That is why F's transactions in progress are looked for one by one. Why a log position
// will not do instead: the order of the log is not that of visibility either (docs/freshness.md).
//
// MEMORY. The array holds for each bucket the greatest id and when it was touched last: 16 bytes. Beside it, an eighth
// of its size, are the pairs (transaction, bucket) of the recent past, in sets of 16 of which the pair with the lowest
// id goes first; what went raises `forgotten`. A transaction of F's list that is at or below it may have touched
// anything, so the answer is unknown; but a bucket whose greatest id is below F.xmin is not asked about that at all.
// With 8 MiB the pairs go back some 40,000 touches of tags.
//
// Ownership: owns its memory, all of it made at once.
// Threads:   Check and Of from any thread, without a lock; they never wait. CompleteTo, UnchangedSince and since take a
//            mutex that is never held for long. Reset, Begin, Touch and Advance belong to one thread, the feed's.
// Cost:      Check: a load for each tag, and where one was touched after F.xmin, a look into one set for each
//            transaction of F's list.
// Limits:    Options.
#ifndef SHADOWLINE_CACHE_CERTIFY_CERTIFIER_H_
#define SHADOWLINE_CACHE_CERTIFY_CERTIFIER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "cache/catalog/catalog.h"
#include "cache/origin/snapshot.h"

namespace shadowline::cache {

enum class Certificate { kUnknown, kOutdated, kCertified };

absl::string_view CertificateName(Certificate certificate);

// What an answer hangs on. Replicas with arrays of other sizes have the same hashes.
using TagHashes = absl::InlinedVector<uint32_t, 8>;
uint32_t TagHash(absl::string_view fence_key);
// Of everything cached of a family; an empty tenant: of every tenant.
uint32_t FamilyHash(absl::string_view family, absl::string_view tenant);
// A read's: of its tags, by their fences' keys, and of its family.
TagHashes HashesOf(const Endpoint& endpoint, absl::string_view tenant, const std::vector<std::string>& fence_keys);
// Which map of tables to tags the feed has to have been made with, to speak about this catalog's reads.
uint64_t CaptureMapHash(const CompiledCatalog& catalog);

// What is known about the tags of one read.
struct Standing {
  Certificate certificate = Certificate::kUnknown;
  // The greatest transaction that touched them, 0: none that is known, and when it was committed by the database's
  // clock, for people. InfinitePast: not known any more.
  uint64_t newest = 0;
  absl::Time committed_at = absl::InfinitePast();
  // Times of Clock::Steady(). The last touch, of whatever transaction, was known here: its commit was in the log by
  // then, which is not to say that others saw it. -Infinite: there was none.
  absl::Duration known_at = -absl::InfiniteDuration();
  // Up to when certified answers are. -Infinite: there is no feed.
  absl::Duration as_of = -absl::InfiniteDuration();
};

class Certifier {
 public:
  struct Options {
    // Of the array; rounded down to a power of two. 0: nothing is ever certified.
    size_t max_bytes = 8 << 20;
  };

  explicit Certifier(Options options);
  Certifier(const Certifier&) = delete;
  Certifier& operator=(const Certifier&) = delete;

  bool enabled() const { return buckets_.size() > 1; }
  // Standing::as_of.
  absl::Duration as_of() const {
    const int64_t nanoseconds = as_of_.load(std::memory_order_acquire);
    return nanoseconds == kNever ? -absl::InfiniteDuration() : absl::Nanoseconds(nanoseconds);
  }

  // ---- For readers. `fill` is a snapshot's text, as envelopes and answers carry it; `map` is CaptureMapHash.

  // Of an answer that is served at `now`, and may be `freshness` old.
  Certificate Check(uint64_t map, std::span<const uint32_t> hashes, absl::string_view fill, absl::Duration now,
                    absl::Duration freshness) const;
  // The same, with what it rests on. `certificate` is kCertified however long ago `as_of` is.
  Standing Of(uint64_t map, std::span<const uint32_t> hashes, absl::string_view fill) const;

  // Is everything in the array that `snapshot` sees and that is younger than `since`?
  bool CompleteTo(absl::string_view snapshot) const;
  // The earliest time (Clock::Steady()) that is known here from which on, up to `control`, nothing touched these tags:
  // an answer of theirs that the database gave in the snapshot `control`, it would have given ever since then. nullopt:
  // not known, or the feed has not come to `control` yet.
  //
  // This is what proves, without waiting, that an answer was wrong for long: c was served at t, the control says d, and
  // the tags are unchanged since t - delta or earlier. known_at would not do: a commit that is in the log may be seen
  // by nobody for as long as it waits for a standby. Here what counts is a snapshot that saw it.
  std::optional<absl::Duration> UnchangedSince(uint64_t map, std::span<const uint32_t> hashes,
                                               absl::string_view control) const;

  // ---- For the feed.

  // Forgets everything: there may be a gap.
  void Reset();
  // From here on nothing is missed. `since` was assigned by the database after that was so.
  void Begin(uint64_t map, uint64_t since);
  void Touch(uint64_t transaction, std::span<const uint32_t> hashes, absl::Time committed_at, absl::Duration known_at);
  // Everything that `snapshot` sees was handed to Touch. It was asked for at `asked_at`, and here at `answered_at`.
  void Advance(DatabaseSnapshot snapshot, absl::Duration asked_at, absl::Duration answered_at);

 private:
  static constexpr size_t kWays = 16;
  static constexpr size_t kMarks = 96;
  static constexpr size_t kCommits = 4096;
  static constexpr int64_t kNever = INT64_MIN;

  struct Bucket {
    std::atomic<uint64_t> newest{0};
    std::atomic<int64_t> known_at{kNever};  // Nanoseconds.
  };
  // A snapshot of our own.
  struct Mark {
    DatabaseSnapshot snapshot;
    std::string text;
    absl::Duration answered_at;
  };
  // What a bucket's transactions are to a snapshot.
  enum class Sight { kUnknown, kMissesSome, kSeesAll };

  const Bucket& BucketOf(uint32_t hash) const { return buckets_[hash & mask_]; }
  // Leaves the greatest transaction of the buckets in `newest`.
  Sight Look(std::span<const uint32_t> hashes, absl::string_view snapshot, uint64_t* newest) const;
  // A pair's place among the recent ones, and what is there if it is.
  struct Pair {
    size_t set;
    uint64_t word;
  };
  Pair PairOf(uint64_t transaction, uint32_t bucket) const;
  bool Recent(uint64_t transaction, uint32_t bucket) const;
  void Remember(uint64_t transaction, uint32_t bucket);

  std::vector<Bucket> buckets_;  // One, where it is off.
  uint32_t mask_ = 0;
  // Each is a transaction's low 44 bits and 20 bits of a hash over it and the bucket; 0: nothing.
  std::vector<std::atomic<uint64_t>> recent_;
  std::atomic<uint64_t> forgotten_{0};
  // Odd while everything is being forgotten; a reader that saw two values knows nothing.
  std::atomic<uint64_t> period_{0};
  std::atomic<uint64_t> map_{0};
  std::atomic<uint64_t> since_{UINT64_MAX};
  std::atomic<int64_t> as_of_{kNever};  // Nanoseconds.

  mutable base::Mutex mutex_;
  // Oldest first; the older, the farther apart. The last one is what the feed is complete to.
  std::deque<Mark> marks_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, absl::Time> committed_ ABSL_GUARDED_BY(mutex_);
  std::deque<uint64_t> committed_order_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CERTIFY_CERTIFIER_H_
