// How much of a call's deadline is left, on gRPC's own clock.
#ifndef SHADOWLINE_SERVER_RPC_DEADLINE_H_
#define SHADOWLINE_SERVER_RPC_DEADLINE_H_

#include <grpc/support/time.h>
#include <grpcpp/server_context.h>

#include <algorithm>

#include "absl/time/time.h"

namespace shadowline::server {

// At least zero; `fallback` for a call without a deadline.
inline absl::Duration TimeLeft(const grpc::ServerContextBase& context, absl::Duration fallback) {
  const gpr_timespec deadline = context.raw_deadline();
  if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0) return fallback;
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
  return std::max(absl::Seconds(left.tv_sec) + absl::Nanoseconds(left.tv_nsec), absl::ZeroDuration());
}

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_RPC_DEADLINE_H_
