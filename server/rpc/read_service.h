// ReadService receives Read and BatchRead calls on the lanes and hands them to each lane's readers.
//
// Ownership: borrows lanes and readers; each must outlive it. Threads: each call lives on one lane.
// Limits:    `in_flight_max` reads a lane, a batch counting as its different reads; what would be beyond it is refused
//            with RESOURCE_EXHAUSTED as it arrives.
#ifndef SHADOWLINE_SERVER_RPC_READ_SERVICE_H_
#define SHADOWLINE_SERVER_RPC_READ_SERVICE_H_

#include <grpcpp/server_builder.h>

#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "base/metrics.h"
#include "server/read/batch_reader.h"
#include "server/read/reader.h"
#include "server/rpc/lane.h"
#include "shadowline/v1/read.grpc.pb.h"

namespace shadowline::server {

class ReadService {
 public:
  struct Options {
    size_t in_flight_max = 4096;
    // For calls without a deadline of their own.
    absl::Duration default_timeout = absl::Seconds(10);
  };

  ReadService(Options options, base::Metrics* metrics);
  ~ReadService();

  // Register this with the server's builder.
  grpc::Service* service() { return &service_; }

  // Begins to receive calls on `lane`: after the server was started and before the lane is.
  void Serve(Lane* lane, Reader* reader, BatchReader* batch_reader);

 private:
  struct ReadMethod;
  struct BatchReadMethod;
  template <typename Method>
  class Call;
  template <typename Method>
  class Calls;
  class LaneCalls;

  const Options options_;
  base::Counter* const refused_;
  shadowline::v1::ReadService::AsyncService service_;
  std::vector<std::unique_ptr<LaneCalls>> lanes_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_RPC_READ_SERVICE_H_
