// How a Redis Cluster divides its keys: the slot of a key, who serves which slots, and the errors that send a command
// elsewhere.
//
// Threads: pure.
#ifndef SHADOWLINE_CACHE_REDIS_SLOTS_H_
#define SHADOWLINE_CACHE_REDIS_SLOTS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cache/redis/address.h"
#include "cache/redis/reply.h"

namespace shadowline::cache {

inline constexpr uint32_t kSlots = 16384;

// CRC16 of the key, or of what its first pair of braces holds, if that is not empty.
uint32_t SlotOf(absl::string_view key);

// Slots that one master serves.
struct SlotRange {
  uint32_t first = 0;
  uint32_t last = 0;
  RedisAddress master;
};

// What CLUSTER SLOTS answered; `asked` is who did. kInternal: it is no such answer.
absl::StatusOr<std::vector<SlotRange>> ParseSlots(const Reply& reply, const RedisAddress& asked);

// "MOVED 3999 host:port": the slot is there from now on. "ASK 3999 host:port": it is moving there, and this key has
// gone ahead; the command has to follow an ASKING.
struct Redirect {
  bool ask = false;
  uint32_t slot = 0;
  RedisAddress to;
};

// Nothing where `error` is another one. `asked` is who answered it.
std::optional<Redirect> ParseRedirect(absl::string_view error, const RedisAddress& asked);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_REDIS_SLOTS_H_
