#include "server/rpc/health_service.h"

#include "absl/strings/match.h"

namespace shadowline::server {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

namespace {

// How soon a Watch notices that its caller has gone.
constexpr absl::Duration kLookAtCaller = absl::Seconds(1);

}  // namespace

void HealthService::SetServing(bool serving) {
  base::MutexLock lock(&mutex_);
  serving_ = serving;
}

void HealthService::Stop() {
  base::MutexLock lock(&mutex_);
  serving_ = false;
  stopped_ = true;
}

HealthService::ServingStatus HealthService::StatusOf(const std::string& service) const {
  // All services stand and fall together.
  if (!service.empty() && !absl::StartsWith(service, "shadowline.v1.")) return HealthCheckResponse::SERVICE_UNKNOWN;
  return serving_ ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

grpc::Status HealthService::Check(grpc::ServerContext* context, const HealthCheckRequest* request,
                                  HealthCheckResponse* response) {
  base::MutexLock lock(&mutex_);
  const ServingStatus status = StatusOf(request->service());
  if (status == HealthCheckResponse::SERVICE_UNKNOWN) {
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "no service " + request->service());
  }
  response->set_status(status);
  return grpc::Status::OK;
}

grpc::Status HealthService::Watch(grpc::ServerContext* context, const HealthCheckRequest* request,
                                  grpc::ServerWriter<HealthCheckResponse>* writer) {
  struct Wait {
    const HealthService* service;
    const std::string* name;
    ServingStatus told;
    bool Changed() const ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return service->stopped_ || service->StatusOf(*name) != told;
    }
  };
  Wait wait{this, &request->service(), HealthCheckResponse::UNKNOWN};  // UNKNOWN is never sent: the first differs.
  {
    base::MutexLock lock(&mutex_);
    if (watches_ >= watches_max_) return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "too many health watches");
    ++watches_;
  }
  grpc::Status status = grpc::Status::CANCELLED;
  while (!context->IsCancelled()) {
    HealthCheckResponse response;
    {
      base::MutexLock lock(&mutex_);
      const bool changed = mutex_.AwaitWithTimeout(absl::Condition(&wait, &Wait::Changed), kLookAtCaller);
      if (stopped_) {
        status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "shutting down");
        break;
      }
      if (!changed) continue;
      wait.told = StatusOf(request->service());
    }
    response.set_status(wait.told);
    if (!writer->Write(response)) break;
  }
  base::MutexLock lock(&mutex_);
  --watches_;
  return status;
}

}  // namespace shadowline::server
