// New epochs: everything that is cached of a family is dropped at once, for one tenant or for all, without touching a
// key.
//
// Threads: thread-safe. Blocking.
#ifndef SHADOWLINE_ROLLOUT_POSTGRES_EPOCHS_H_
#define SHADOWLINE_ROLLOUT_POSTGRES_EPOCHS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/postgres/session.h"

namespace shadowline::rollout {

struct NewEpochs {
  std::string family;
  std::string tenant;  // Empty: of every tenant.
  std::string who;
  std::string why;
};

// The targets of the family begin a new epoch, and with it a new window: what was judged is not what will be served.
// Their modes stay. Each is recorded among the flips. Returns how many targets that were: a DATABASE target needs none,
// since what it has cached is never read again.
//
// A replica may serve from the old epoch until it hears of this, at the longest until its flag lease lapses.
// kUnavailable, kAborted: nothing was done; try again.
absl::StatusOr<uint64_t> BeginEpochs(base::PostgresSessions* sessions, const NewEpochs& epochs);

}  // namespace shadowline::rollout

#endif  // SHADOWLINE_ROLLOUT_POSTGRES_EPOCHS_H_
