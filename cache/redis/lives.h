// Lives is what the fleet has agreed on about the Redis that it may use. A replica that is still connected to a master
// which was replaced would read what nobody invalidates any more; so a life is used only while the fleet has it
// registered and not replaced (docs/decisions/0003-one-life-of-the-cache.md).
//
// Threads: thread-safe.
#ifndef SHADOWLINE_CACHE_REDIS_LIVES_H_
#define SHADOWLINE_CACHE_REDIS_LIVES_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace shadowline::cache {

// One life of a Redis as a master, as it tells of itself.
struct RedisLife {
  std::string mark;
  std::string lineage;   // INFO's master_replid.
  std::string replaces;  // INFO's master_replid2: that of the master in whose place it came. Empty: none.
  std::string address;
};

class Lives {
 public:
  virtual ~Lives() = default;

  // Moves whenever an answer of Usable may have changed but by time alone.
  virtual uint64_t version() const = 0;
  // May this life be used by now? Once it may, only a new version says otherwise.
  virtual bool Usable(absl::string_view mark) const = 0;
  // Is what this replica knows still certain? An invalidation is acknowledged only then.
  virtual bool Certain() const = 0;
  // A connection has found a life that may not be used yet: the fleet is told of it.
  virtual void Found(const RedisLife& life) = 0;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_REDIS_LIVES_H_
