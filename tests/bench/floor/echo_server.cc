// The floor: a bare gRPC server that does nothing but answer. Callback API, same compiler flags, same request and a 1
// KiB reply as the cached read that is measured beside it. Prints its port, then serves until it is killed.
#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <string>

#include "shadowline/v1/read.grpc.pb.h"

namespace {

using shadowline::v1::ReadRequest;
using shadowline::v1::ReadResponse;

class Echo final : public shadowline::v1::ReadService::CallbackService {
  grpc::ServerUnaryReactor* Read(grpc::CallbackServerContext* context, const ReadRequest* request,
                                 ReadResponse* response) override {
    response->set_found(true);
    response->set_body(body_);
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  const std::string body_ = std::string(1024, 'x');
};

}  // namespace

int main() {
  Echo echo;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&echo);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  std::printf("%d\n", port);
  std::fflush(stdout);
  server->Wait();
}
