// Replayer makes the read of a divergence again: it asks the cache and the control what they say now, under the present
// catalog, and compares. It serves, fills and counts nothing; the control's connections are those of verification. Of
// an observed endpoint only the application can read either side: the answer says that, with what was kept.
//
// Ownership: borrows everything in Deps; each must outlive the store's and the control's last callback.
// Threads:   every call is made on `executor`, which the store belongs to, and `done` runs there.
// Statuses:  kFailedPrecondition with the remedy: the parameters are not to be had (keeper.h), or the present catalog
//            has no such read. kUnavailable: this replica has no catalog or flags yet. Those of the store and of the
//            control.
#ifndef SHADOWLINE_SERVER_READ_REPLAYER_H_
#define SHADOWLINE_SERVER_READ_REPLAYER_H_

#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/executor.h"
#include "cache/origin/control.h"
#include "cache/store.h"
#include "diff/evidence/evidence.h"
#include "flags/board.h"
#include "server/read/catalog_holder.h"
#include "server/read/comparer.h"
#include "server/read/keeper.h"
#include "shadowline/v1/divergence.pb.h"

namespace shadowline::server {

class Replayer {
 public:
  using Done = absl::AnyInvocable<void(absl::StatusOr<shadowline::v1::ReplayDivergenceResponse>)>;

  struct Deps {
    const flags::Board* board = nullptr;
    const CatalogHolder* catalog = nullptr;
    cache::Store* store = nullptr;
    cache::Control* control = nullptr;
    base::Executor* executor = nullptr;
    const base::Clock* clock = nullptr;
    const Keeper* keeper = nullptr;
  };

  // `redaction_secret` as Comparer's.
  Replayer(std::string redaction_secret, Deps deps) : deps_(deps), comparer_(std::move(redaction_secret)) {}

  void Replay(const diff::Divergence& divergence, Done done);

 private:
  struct Run;

  // What there is to say of a read of an observed endpoint.
  absl::StatusOr<shadowline::v1::ReplayDivergenceResponse> Kept(const diff::Divergence& divergence,
                                                                const cache::Endpoint& endpoint,
                                                                uint64_t revision) const;
  // The read, as the present catalog declares it.
  absl::StatusOr<cache::Query> QueryOf(const diff::Divergence& divergence) const;
  void Conclude(Run* run, const cache::ControlAnswer& truth);

  const Deps deps_;
  Comparer comparer_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_REPLAYER_H_
