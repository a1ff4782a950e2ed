// AdminServices puts Admin behind gRPC: every service but the hot path's and health.
//
// They use gRPC's synchronous API, so a call may block: docs/decisions/0001-lanes.md says why not the callback API. How
// many run at once is the server's thread quota; beyond it gRPC itself answers RESOURCE_EXHAUSTED.
//
// Ownership: borrows Admin, which must outlive the grpc::Server, as must this object.
// Threads:   thread-safe.
// Limits:    `watches_max`, `invalidations_max`, `purges_max`, `inspections_max`, `warmings_max` and `replays_max`.
//            Each call holds a thread meanwhile; a further one is refused with RESOURCE_EXHAUSTED.
#ifndef SHADOWLINE_SERVER_RPC_ADMIN_SERVICES_H_
#define SHADOWLINE_SERVER_RPC_ADMIN_SERVICES_H_

#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "server/rpc/admin.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace shadowline::server {

class AdminServices {
 public:
  struct Options {
    size_t watches_max = 16;
    size_t invalidations_max = 32;
    size_t purges_max = 8;
    size_t inspections_max = 4;
    size_t warmings_max = 4;
    size_t replays_max = 4;
    // How often a watched rollout is looked at.
    absl::Duration watch_every = absl::Milliseconds(500);
    // For an Invalidate or a Warm without a deadline of its own.
    absl::Duration invalidate_timeout = absl::Seconds(10);
    // Likewise for a Purge; longer than a flag lease.
    absl::Duration purge_timeout = absl::Seconds(30);
    absl::Duration inspect_timeout = absl::Seconds(10);
    absl::Duration replay_timeout = absl::Seconds(30);
  };

  AdminServices(Options options, Admin* admin);
  AdminServices(const AdminServices&) = delete;
  AdminServices& operator=(const AdminServices&) = delete;
  ~AdminServices();

  // To be registered with the server's builder.
  std::vector<grpc::Service*> services();

  // Ends every watch with UNAVAILABLE, and refuses new ones: a drain need not wait for them.
  void StopWatches();

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_RPC_ADMIN_SERVICES_H_
