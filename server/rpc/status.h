// absl::Status <-> grpc::Status: the codes are the same numbers.
#ifndef SHADOWLINE_SERVER_RPC_STATUS_H_
#define SHADOWLINE_SERVER_RPC_STATUS_H_

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"

namespace shadowline::server {

inline grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_RPC_STATUS_H_
