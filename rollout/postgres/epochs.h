// New epochs: everything that is cached of a family is dropped at once, for one tenant or for all, without touching a
// key.
//
// Threads: thread-safe. Blocking.
#ifndef SHADOWLINE_ROLLOUT_POSTGRES_EPOCHS_H_
#define SHADOWLINE_ROLLOUT_POSTGRES_EPOCHS_H_

#include <string>

#include "absl/status/status.h"
#include "base/postgres/session.h"

namespace shadowline::rollout {

// The targets of `family` (of `tenant` alone, unless that is empty) begin a new epoch, and with it a new window: what
// was judged is not what will be served. Their modes stay. A replica may serve from the old epoch until it hears of
// this, at the longest until its flag lease lapses. kUnavailable, kAborted: nothing was done; try again.
absl::Status BeginEpochs(base::PostgresSessions* sessions, const std::string& family, const std::string& tenant,
                         const std::string& why);

}  // namespace shadowline::rollout

#endif  // SHADOWLINE_ROLLOUT_POSTGRES_EPOCHS_H_
