// LatelyRead knows which keys one lane has read within the last minute, or so: a table with one place for many keys, in
// which the last of them stands. A key that was pushed out by another looks as if it had not been read, never the other
// way round (but for hashes that collide).
//
// Threads: compatible. 128 KiB.
#ifndef SHADOWLINE_SERVER_READ_LATELY_READ_H_
#define SHADOWLINE_SERVER_READ_LATELY_READ_H_

#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace shadowline::server {

class LatelyRead {
 public:
  static constexpr int64_t kSeconds = 60;

  // The key with this hash is read at `now` (Clock::Steady()). Was it before, lately?
  bool Again(uint64_t hash, absl::Duration now) {
    Place& place = places_[hash % kPlaces];
    const auto mark = static_cast<uint32_t>(hash >> 32) | 1;
    const int64_t second = absl::ToInt64Seconds(now);
    const bool again = place.mark == mark && second - static_cast<int64_t>(place.second) <= kSeconds;
    place = {mark, static_cast<uint32_t>(second)};
    return again;
  }

 private:
  static constexpr uint64_t kPlaces = 16'384;
  struct Place {
    uint32_t mark = 0;  // 0: nobody.
    uint32_t second = 0;
  };

  std::vector<Place> places_{kPlaces};
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_LATELY_READ_H_
