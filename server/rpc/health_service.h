// The standard gRPC health service, told by whoever knows whether this replica may be sent reads. gRPC's own default
// one is not used: it is built on the callback API, whose threads cost the lanes a third of their throughput
// (docs/decisions/0001-lanes.md).
//
// Threads: thread-safe. A Watch holds one of gRPC's synchronous threads until its caller goes or Stop() is called.
// Limits:  `watches_max`; a further Watch is refused with RESOURCE_EXHAUSTED.
#ifndef SHADOWLINE_SERVER_RPC_HEALTH_SERVICE_H_
#define SHADOWLINE_SERVER_RPC_HEALTH_SERVICE_H_

#include <grpcpp/server_context.h>

#include "base/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace shadowline::server {

class HealthService final : public grpc::health::v1::Health::Service {
 public:
  explicit HealthService(size_t watches_max = 8) : watches_max_(watches_max) {}

  void SetServing(bool serving);
  // Ends every Watch with UNAVAILABLE, and refuses new ones.
  void Stop();

  grpc::Status Check(grpc::ServerContext* context, const grpc::health::v1::HealthCheckRequest* request,
                     grpc::health::v1::HealthCheckResponse* response) override;
  grpc::Status Watch(grpc::ServerContext* context, const grpc::health::v1::HealthCheckRequest* request,
                     grpc::ServerWriter<grpc::health::v1::HealthCheckResponse>* writer) override;

 private:
  using ServingStatus = grpc::health::v1::HealthCheckResponse::ServingStatus;

  ServingStatus StatusOf(const std::string& service) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t watches_max_;
  mutable base::Mutex mutex_;
  bool serving_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  size_t watches_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_RPC_HEALTH_SERVICE_H_
