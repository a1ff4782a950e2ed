// The accesses of a real application's cache: 100,000 reads and writes of many tenants, from the shared data beside the
// source tree. The repository holds none of it.
#ifndef SHADOWLINE_TESTS_SUPPORT_TRACE_H_
#define SHADOWLINE_TESTS_SUPPORT_TRACE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace shadowline::support {

// The folder of this checkout: SHADOWLINE_SOURCE_DIR, or where the program was started.
std::string SourceFolder();
// The folder of the shared data, whether it is there or not, with a slash at its end: SHADOWLINE_SHARED/data/, or
// `shared/data/` beside the source tree.
std::string SharedData();

struct Access {
  enum Kind { kRead, kUpdate, kDelete, kBulkUpdate };

  absl::Duration at;  // Since the trace began.
  std::string tenant;
  std::string family;
  std::string id;
  Kind kind = kRead;
  absl::Duration ttl;  // Of what a read fills.
};

// In the order of their time. None where the shared data is absent; std::runtime_error where it cannot be read.
std::optional<std::vector<Access>> ReadTrace();

}  // namespace shadowline::support

#endif  // SHADOWLINE_TESTS_SUPPORT_TRACE_H_
