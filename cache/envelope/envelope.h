// The envelope around a cached payload: what makes it safe to believe.
#ifndef SHADOWLINE_CACHE_ENVELOPE_ENVELOPE_H_
#define SHADOWLINE_CACHE_ENVELOPE_ENVELOPE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace shadowline::cache {

// A cached answer, decoded and checked.
struct CachedAnswer {
  bool found = false;
  std::string body;
  absl::Time loaded_at;
  std::string snapshot;
  uint64_t catalog_revision = 0;
  bool after_fence = false;
  uint64_t etag = 0;
  absl::Time expires_at = absl::InfiniteFuture();  // The end of its TTL, by the filling replica's clock.
  absl::Duration load_time;                        // How long the database took.
  bool outlives_ttl = false;                       // Redis keeps it longer than that.
};

// Has its TTL ended, though it was found? Of what Redis does not keep longer, Redis alone says so.
inline bool IsStale(const CachedAnswer& answer, absl::Time now) {
  return answer.outlives_ttl && now >= answer.expires_at;
}

// The etag of a body: equal for equal bodies.
uint64_t Etag(bool found, absl::string_view body);

// Serializes for `key`. Bodies above `compress_above` bytes (0: none) are compressed where that makes them smaller.
std::string EncodeEnvelope(absl::string_view key, const CachedAnswer& answer, uint32_t compress_above);

// kDataLoss: not an envelope, another layout or key, a checksum that does not hold, or a payload above
// `max_plain_bytes`. The message says which; a caller counts it and treats it as a miss.
absl::StatusOr<CachedAnswer> DecodeEnvelope(absl::string_view key, absl::string_view bytes,
                                            size_t max_plain_bytes = 64 << 20);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_ENVELOPE_ENVELOPE_H_
