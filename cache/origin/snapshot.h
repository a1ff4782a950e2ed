// What a PostgreSQL statement could see, as pg_current_snapshot() says it: "xmin:xmax:xip,xip,...".
//
// A transaction is visible in a snapshot when its id is below xmin, or below xmax and not among those that were still
// in progress (xip). That, and no log position, orders what two statements have seen.
//
// Threads: values.
#ifndef SHADOWLINE_CACHE_ORIGIN_SNAPSHOT_H_
#define SHADOWLINE_CACHE_ORIGIN_SNAPSHOT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace shadowline::cache {

struct DatabaseSnapshot {
  uint64_t xmin = 0;                  // Every transaction below had ended.
  uint64_t xmax = 0;                  // No transaction from here on had begun.
  std::vector<uint64_t> in_progress;  // Between the two, ascending, without duplicates.

  bool Sees(uint64_t transaction) const;
  std::string ToString() const;
  bool operator==(const DatabaseSnapshot&) const = default;
};

// kInvalidArgument: not a text that PostgreSQL would print.
absl::StatusOr<DatabaseSnapshot> ParseSnapshot(absl::string_view text);

// Is everything that is visible in `b` visible in `a` too? O(size of both).
bool SeesAllOf(const DatabaseSnapshot& a, const DatabaseSnapshot& b);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_ORIGIN_SNAPSHOT_H_
