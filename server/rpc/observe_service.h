// ObserveService puts Decider and Observer behind gRPC.
//
// It is synchronous, as every service but the hot path's (docs/decisions/0001-lanes.md): a comparison of two large
// answers holds a thread of its own, and no lane. Neither method waits for anything.
//
// Ownership: borrows Decider and Observer, which must outlive the grpc::Server, as must this object.
// Threads:   thread-safe.
// Limits:    `decisions_max` and `reports_max` calls at once; a further one is refused with RESOURCE_EXHAUSTED.
#ifndef SHADOWLINE_SERVER_RPC_OBSERVE_SERVICE_H_
#define SHADOWLINE_SERVER_RPC_OBSERVE_SERVICE_H_

#include <cstddef>
#include <memory>

namespace grpc {
class Service;
}  // namespace grpc

namespace shadowline::server {

class Decider;
class Observer;

inline constexpr int kReportsMax = 64;  // Of one call.

class ObserveService {
 public:
  struct Options {
    size_t decisions_max = 32;
    size_t reports_max = 16;
  };

  ObserveService(Options options, Decider* decider, Observer* observer);
  ObserveService(const ObserveService&) = delete;
  ObserveService& operator=(const ObserveService&) = delete;
  ~ObserveService();

  // To be registered with the server's builder.
  grpc::Service* service();

 private:
  class Rpc;
  const std::unique_ptr<Rpc> rpc_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_RPC_OBSERVE_SERVICE_H_
