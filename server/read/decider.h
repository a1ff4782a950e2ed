// Decider says where the application serves one read of an observed endpoint from, and whether it is verified: by the
// catalog, the flags and the flag lease of this moment, as CachedReader routes the reads that it makes itself
// (route.h).
//
// Ownership: borrows everything in Deps; each must outlive it.
// Threads:   thread-safe. Never blocks; one short lock.
// Errors:    those of ObserveService.Decide.
#ifndef SHADOWLINE_SERVER_READ_DECIDER_H_
#define SHADOWLINE_SERVER_READ_DECIDER_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "base/random.h"
#include "flags/board.h"
#include "server/read/catalog_holder.h"
#include "server/read/tokens.h"
#include "shadowline/v1/observe.pb.h"

namespace shadowline::server {

class Decider {
 public:
  struct Options {
    uint64_t seed = 0;  // Of the draws of requests without an id, and of the names of reads.
    // How long after a decision its read can be reported.
    absl::Duration good_for = absl::Minutes(5);
  };

  struct Deps {
    const flags::Board* board = nullptr;
    const CatalogHolder* catalog = nullptr;
    const Tokens* tokens = nullptr;
    base::Metrics* metrics = nullptr;
  };

  Decider(Options options, Deps deps);
  ~Decider();

  absl::StatusOr<shadowline::v1::DecideResponse> Decide(const shadowline::v1::DecideRequest& request);

 private:
  struct Counters;

  const Options options_;
  const Deps deps_;
  const std::unique_ptr<Counters> counters_;
  base::Mutex mutex_;
  base::Random random_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_DECIDER_H_
