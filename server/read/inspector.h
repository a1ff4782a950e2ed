// Inspector says what the cache holds for one read, and whether it would be an answer. It serves, loads and counts
// nothing.
//
// Ownership: borrows everything in Deps; each must outlive the store's last callback. The request lives until `done`.
// Threads:   every call is made on the store's executor, and `done` runs there.
// Statuses:  kInvalidArgument, kNotFound, kUnavailable as a read's; those of the store; kFailedPrecondition where the
//            application fills the cache itself.
#ifndef SHADOWLINE_SERVER_READ_INSPECTOR_H_
#define SHADOWLINE_SERVER_READ_INSPECTOR_H_

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "cache/store.h"
#include "flags/board.h"
#include "server/read/catalog_holder.h"
#include "shadowline/v1/cache.pb.h"

namespace shadowline::server {

class Inspector {
 public:
  using Done = absl::AnyInvocable<void(absl::StatusOr<shadowline::v1::InspectResponse>)>;

  struct Deps {
    const flags::Board* board = nullptr;
    const CatalogHolder* catalog = nullptr;
    cache::Store* store = nullptr;
    const base::Clock* clock = nullptr;
  };

  explicit Inspector(Deps deps) : deps_(deps) {}

  void Inspect(const shadowline::v1::InspectRequest& request, Done done);

 private:
  struct Look;

  // What is to be looked at, under the target's present epoch.
  absl::Status Prepare(const shadowline::v1::InspectRequest& request, Look* look) const;

  const Deps deps_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_INSPECTOR_H_
