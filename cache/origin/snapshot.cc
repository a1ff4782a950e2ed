#include "cache/origin/snapshot.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace shadowline::cache {
namespace {

// Digits alone: SimpleAtoi would also take spaces and a sign.
bool ParseId(absl::string_view text, uint64_t* id) {
  if (text.empty() || text.find_first_not_of("0123456789") != absl::string_view::npos) return false;
  return absl::SimpleAtoi(text, id);
}

}  // namespace

bool DatabaseSnapshot::Sees(uint64_t transaction) const {
  if (transaction < xmin) return true;
  return transaction < xmax && !std::binary_search(in_progress.begin(), in_progress.end(), transaction);
}

std::string DatabaseSnapshot::ToString() const {
  return absl::StrCat(xmin, ":", xmax, ":", absl::StrJoin(in_progress, ","));
}

absl::StatusOr<DatabaseSnapshot> ParseSnapshot(absl::string_view text) {
  const absl::Status refused = absl::InvalidArgumentError("not a snapshot: expected xmin:xmax:xip,xip,...");
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  DatabaseSnapshot snapshot;
  if (parts.size() != 3 || !ParseId(parts[0], &snapshot.xmin) || !ParseId(parts[1], &snapshot.xmax)) return refused;
  if (snapshot.xmin == 0 || snapshot.xmin > snapshot.xmax) return refused;
  if (parts[2].empty()) return snapshot;
  uint64_t previous = 0;
  for (absl::string_view part : absl::StrSplit(parts[2], ',')) {
    uint64_t id = 0;
    if (!ParseId(part, &id) || id <= previous || id < snapshot.xmin || id >= snapshot.xmax) return refused;
    snapshot.in_progress.push_back(id);
    previous = id;
  }
  return snapshot;
}

bool SeesAllOf(const DatabaseSnapshot& a, const DatabaseSnapshot& b) {
  // What `a` does not see is a.in_progress and everything from a.xmax on: `b` must not see any of that.
  for (const uint64_t id : a.in_progress) {
    if (b.Sees(id)) return false;
  }
  if (b.xmax <= a.xmax) return true;
  // Of [a.xmax, b.xmax), `b` sees all but those that were in progress.
  const auto first = std::lower_bound(b.in_progress.begin(), b.in_progress.end(), a.xmax);
  return b.xmin <= a.xmax && static_cast<uint64_t>(b.in_progress.end() - first) == b.xmax - a.xmax;
}

}  // namespace shadowline::cache
