// EarlyRefresh decides, for the reads of one lane, which of them has a value loaded again before its TTL ends, so that
// a key that is read often is never missed.
//
//   EarlyRefresh early;
//   if (EarlyRefresh::InTime(answer, now) && early.Due(key, fill, /*stale=*/false, steady)) Refresh();
//   ...
//   early.Refreshed(key, ttl, steady);        // it worked
//
// The time for it is the last tenth of the TTL, or four times as long as the load took where that is more, but never
// more than half of the TTL. What is read twice within it, on one lane, is likely to be read after it as well, and then
// the refresh costs no more than the miss that it saves. A key that is read once in a TTL is never refreshed. A refresh
// that failed is tried again at the 4th, the 8th, the 16th read, and so on. What is served stale is refreshed by the
// first read, and tried again likewise.
//
// XFetch (A. Vattani, F. Chierichetti, K. Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015)
// lets each read draw instead. It needs no memory, but keeps a key from expiring only where many reads fall into the
// time of one load; here a lease sees to it that one of many loads.
//
// The end of the TTL is by the clock of the replica that filled. Should two clocks differ by more than the time above,
// a value is refreshed too early or not at all; `Refreshed` keeps it to twice a TTL for each lane.
//
// Threads: compatible. Limits: kPlaces keys; of two that share a place each is new whenever the other was read.
#ifndef SHADOWLINE_SERVER_READ_EARLY_REFRESH_H_
#define SHADOWLINE_SERVER_READ_EARLY_REFRESH_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/hash.h"
#include "cache/envelope/envelope.h"

namespace shadowline::server {

class EarlyRefresh {
 public:
  static constexpr size_t kPlaces = 1024;

  // Is it time for `answer`? Where its end is not known, never.
  static bool InTime(const cache::CachedAnswer& answer, absl::Time now) {
    const absl::Duration age = now - answer.loaded_at;
    const absl::Duration left = answer.expires_at - now;
    return left <= age && (left * 10 <= age + left || left <= answer.load_time * 4);
  }

  // A read was answered by `fill`, in time or stale. Is it the one to refresh? `now` is Clock::Steady().
  bool Due(absl::string_view key, absl::string_view fill, bool stale, absl::Duration now) {
    Place& place = PlaceOf(key);
    const uint64_t id = base::Hash64(fill, /*seed=*/stale);
    if (place.fill != id) {
      place.fill = id;
      place.reads = 0;
    }
    ++place.reads;
    return place.reads >= (stale ? 1u : 2u) && std::has_single_bit(place.reads) && now >= place.not_before;
  }

  // `key` was, with a value that lives for `ttl`.
  void Refreshed(absl::string_view key, absl::Duration ttl, absl::Duration now) {
    PlaceOf(key).not_before = now + ttl / 2;
  }

 private:
  struct Place {
    uint64_t key = 0;
    uint64_t fill = 0;
    uint32_t reads = 0;
    absl::Duration not_before = -absl::InfiniteDuration();
  };

  Place& PlaceOf(absl::string_view key) {
    const uint64_t hash = base::Hash64(key);
    Place& place = places_[hash % kPlaces];
    if (place.key != hash) place = {.key = hash};
    return place;
  }

  std::vector<Place> places_ = std::vector<Place>(kPlaces);
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_EARLY_REFRESH_H_
