// The register of lives in PostgreSQL (flags/lives.h).
//
// Threads: thread-safe. Blocking.
#ifndef SHADOWLINE_FLAGS_POSTGRES_LIVES_H_
#define SHADOWLINE_FLAGS_POSTGRES_LIVES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/postgres/session.h"

namespace shadowline::flags {

// A registration takes no longer, from the time that it writes to its commit.
inline constexpr absl::Duration kLongestRegistration = absl::Seconds(15);

struct FoundLife {
  std::string mark;      // Raw bytes.
  std::string lineage;   // Not empty.
  std::string replaces;  // The lineage in whose place it came; empty: none.
  std::string address;
};

// Registers `life`, if it was never registered before, and so ends the lives of the lineage that it replaces. Replicas
// hear of it with the flags. kUnavailable, kAborted: try again.
absl::Status RegisterLife(base::PostgresSessions* sessions, const FoundLife& life);

}  // namespace shadowline::flags

#endif  // SHADOWLINE_FLAGS_POSTGRES_LIVES_H_
