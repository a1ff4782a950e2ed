// Lives says which Redis the fleet may use, as of one snapshot of the flags.
// docs/decisions/0003-one-life-of-the-cache.md has the protocol and its proof.
//
// TERMINOLOGY
//   life     the time of one Redis process as a master, from its start or promotion to its end or demotion.
//   mark     names a life (cache/redis/connection.h).
//   lineage  a life's replication id. A promoted replica tells that of the master in whose place it came.
#ifndef SHADOWLINE_FLAGS_LIVES_H_
#define SHADOWLINE_FLAGS_LIVES_H_

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"

namespace shadowline::flags {

struct Lives {
  // Of the newest life: another number means that what may be used has changed.
  uint64_t newest = 0;
  // By mark, those that no other one has replaced: from when (Clock::Steady()) each may be used.
  absl::flat_hash_map<std::string, absl::Duration> usable_from;
};

}  // namespace shadowline::flags

#endif  // SHADOWLINE_FLAGS_LIVES_H_
