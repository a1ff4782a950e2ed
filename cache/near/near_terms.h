// NearTerms says when this replica may answer from its near caches, and when it may acknowledge an invalidation without
// waiting for those of others. Where no endpoint is declared `near`, invalidations are acknowledged at once; but
// replicas hear of a new catalog one after the other, and one that is cut off does not hear of it at all.
//
//   an answer from a near cache    the active catalog declares near endpoints, and has for `hold`
//   no wait                        the active catalog declares none, and has for `hold`
//
// Both only for a replica whose catalog is known to have been the active one at some moment of the last `lease`: it
// holds the flag lease, and its catalog is the one that the flags were read beside. `hold` is `lease` and kNearGrace.
//
// Why that is enough. Let replica A answer from a near cache at R, and B have acknowledged without a wait at D, before
// R. B knew a catalog without near endpoints to be active at u > D - lease, and ever since D - hold or before. A knew
// one with such endpoints to be active at v > R - lease, and ever since s <= R - hold. So u is not between s and v. It
// is not after v either: then v would be before D - hold, although it is after R - lease. So u is before s: D - lease <
// R - hold, and the fences stood kNearGrace before the answer, by which time no near cache serves what they have
// outdated.
//
// All replicas must have the same flag lease; a new epoch relies on that as well.
//
// Threads: thread-safe; Observe is called by one thread at a time. No locks.
#ifndef SHADOWLINE_CACHE_NEAR_NEAR_TERMS_H_
#define SHADOWLINE_CACHE_NEAR_NEAR_TERMS_H_

#include <atomic>
#include <cstdint>
#include <limits>

#include "absl/time/time.h"
#include "cache/near/near_cache.h"

namespace shadowline::cache {

class NearTerms {
 public:
  explicit NearTerms(absl::Duration lease) : hold_(lease + kNearGrace) {}

  // A catalog is about to be used: does it declare near endpoints? Times are Clock::Steady().
  void Observe(uint64_t revision, bool near, absl::Duration now) {
    // What was active in between is not known.
    const bool gap = revision != revision_ + 1;
    revision_ = revision;
    const int64_t from = absl::ToInt64Nanoseconds(now + hold_);
    std::atomic<int64_t>& begun = near ? serve_from_ : settled_from_;
    (near ? settled_from_ : serve_from_).store(kNever);
    if (gap || begun.load() == kNever) begun.store(from);
  }

  // By the catalog's terms alone: the caller knows whether it is the active one.
  bool MayServe(absl::Duration now) const { return Reached(serve_from_, now); }
  bool MustWait(absl::Duration now) const { return !Reached(settled_from_, now); }

 private:
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  static bool Reached(const std::atomic<int64_t>& from, absl::Duration now) {
    return absl::ToInt64Nanoseconds(now) >= from.load(std::memory_order_acquire);
  }

  const absl::Duration hold_;
  uint64_t revision_ = 0;  // Observed last.
  std::atomic<int64_t> serve_from_{kNever};
  std::atomic<int64_t> settled_from_{kNever};
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_NEAR_NEAR_TERMS_H_
