// A flag says where the reads of one target (one tenant x one family) are routed now.
#ifndef SHADOWLINE_FLAGS_FLAG_H_
#define SHADOWLINE_FLAGS_FLAG_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace shadowline::flags {

enum class Mode {
  kDatabase,  // The database answers; the cache is not touched.
  kShadow,    // The database answers; sampled reads are read from the cache too, and judged.
  kCache,     // The cache answers the serve share of keys; the others are treated as in kShadow.
};

// "DATABASE", "SHADOW", "CACHE": as stored and shown.
absl::string_view ModeName(Mode mode);
// The reverse. A name that this program does not know is kDatabase: never guess towards the cache.
Mode ParseMode(absl::string_view name);

// The PostgreSQL channel that every transaction notifies which bumps shadowline.flag_state.revision.
inline constexpr char kChangedChannel[] = "shadowline_changed";

// Shares of reads that are verified because of what they are (docs/sampling.md), in parts per million. A read is
// verified by the largest share that it falls under, the uniform one among them.
struct SampleShares {
  uint32_t uncertified_ppm = 0;
  uint32_t recent_ppm = 0;
  uint32_t negative_ppm = 0;
  uint32_t old_ppm = 0;
  uint32_t cold_ppm = 0;

  bool operator==(const SampleShares&) const = default;
};

struct Flag {
  Mode mode = Mode::kDatabase;
  uint32_t serve_ppm = 0;   // Share of keys served from the cache; only in kCache.
  uint32_t sample_ppm = 0;  // Share of reads that is verified, whatever they are; 0: none is, not by `strata` either.
  bool sample_by_key = false;     // Draw by key instead of by request.
  uint64_t epoch = 0;             // Part of every cache key of the target.
  uint64_t revision = 0;          // Of the flags as a whole, when this flag last changed.
  uint64_t window = 0;            // Evidence is counted under this number.
  uint64_t catalog_revision = 0;  // The revision that the window was opened under; other evidence does not count.
  std::string reason;
  absl::Time changed_at;
  SampleShares strata;

  bool operator==(const Flag&) const = default;
};

}  // namespace shadowline::flags

#endif  // SHADOWLINE_FLAGS_FLAG_H_
