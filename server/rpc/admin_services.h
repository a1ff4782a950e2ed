// AdminServices puts Admin behind gRPC: every service but the hot path's.
//
// Blocking work runs on the pool that is handed in, never on gRPC's threads. A watched rollout holds no thread between
// two looks at it.
//
// Ownership: borrows Admin, the pool and the timers. They and this object must outlive the grpc::Server.
// Threads:   thread-safe.
// Limits:    the pool's queue, `watches` and `invalidations`; beyond each a call is refused with RESOURCE_EXHAUSTED.
#ifndef SHADOWLINE_SERVER_RPC_ADMIN_SERVICES_H_
#define SHADOWLINE_SERVER_RPC_ADMIN_SERVICES_H_

#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "base/executor.h"
#include "server/rpc/admin.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace shadowline::server {

class AdminServices {
 public:
  struct Options {
    size_t watches = 64;
    size_t invalidations = 1024;
    // How often a watched rollout is looked at.
    absl::Duration watch_every = absl::Milliseconds(500);
  };

  AdminServices(Options options, Admin* admin, base::ThreadPool* pool, base::Executor* timers);
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
