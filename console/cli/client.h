// Client calls a server's services. The only part of the console that knows gRPC.
//
// Threads: one. Each call blocks, at most for the timeout.
// Errors:  the server's status, its message as the server wrote it; kUnavailable where no server answers, with how to
// point
//          elsewhere; kDeadlineExceeded after the timeout.
#ifndef SHADOWLINE_CONSOLE_CLI_CLIENT_H_
#define SHADOWLINE_CONSOLE_CLI_CLIENT_H_

#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "shadowline/v1/cache.pb.h"
#include "shadowline/v1/catalog.pb.h"
#include "shadowline/v1/divergence.pb.h"
#include "shadowline/v1/flags.pb.h"
#include "shadowline/v1/read.pb.h"
#include "shadowline/v1/rollout.pb.h"

namespace shadowline::console {

class Client {
 public:
  // `server` is host:port. Connects with the first call.
  Client(const std::string& server, absl::Duration timeout);
  ~Client();

  absl::StatusOr<v1::ReadResponse> Read(const v1::ReadRequest& request);

  absl::StatusOr<v1::InvalidateResponse> Invalidate(const v1::InvalidateRequest& request);
  absl::StatusOr<v1::PurgeResponse> Purge(const v1::PurgeRequest& request);
  absl::StatusOr<v1::InspectResponse> Inspect(const v1::InspectRequest& request);
  absl::StatusOr<v1::WarmResponse> Warm(const v1::WarmRequest& request);

  absl::StatusOr<v1::ApplyCatalogResponse> ApplyCatalog(const v1::ApplyCatalogRequest& request);
  absl::StatusOr<v1::GetCatalogResponse> GetCatalog();

  absl::StatusOr<v1::Flag> GetFlag(const v1::GetFlagRequest& request);
  absl::StatusOr<v1::ListFlagsResponse> ListFlags(const v1::ListFlagsRequest& request);

  absl::StatusOr<v1::Rollout> StartRollout(const v1::StartRolloutRequest& request);
  absl::StatusOr<v1::ListRolloutsResponse> ListRollouts(const v1::ListRolloutsRequest& request);
  absl::StatusOr<v1::Rollout> GetRollout(const v1::GetRolloutRequest& request);
  absl::StatusOr<v1::Rollout> PauseRollout(const v1::RolloutCommand& command);
  absl::StatusOr<v1::Rollout> ResumeRollout(const v1::RolloutCommand& command);
  absl::StatusOr<v1::Rollout> ApproveRollout(const v1::RolloutCommand& command);
  absl::StatusOr<v1::Rollout> PromoteRollout(const v1::RolloutCommand& command);
  absl::StatusOr<v1::Rollout> RollbackRollout(const v1::RolloutCommand& command);
  absl::StatusOr<v1::Rollout> AbortRollout(const v1::RolloutCommand& command);

  // Calls `seen` with each rollout that the server sends, and with null about once a second while nothing comes, until
  // `seen` returns false (OK), `timeout` is over (kDeadlineExceeded) or the server refuses (its status). A stream that
  // breaks after it has begun is opened again: only half a minute without any server ends it (kUnavailable).
  absl::Status WatchRollout(const v1::GetRolloutRequest& request, absl::Duration timeout,
                            absl::FunctionRef<bool(const v1::Rollout*)> seen);

  absl::StatusOr<v1::ListDivergenceGroupsResponse> ListDivergenceGroups(const v1::ListDivergenceGroupsRequest& request);
  absl::StatusOr<v1::ListDivergencesResponse> ListDivergences(const v1::ListDivergencesRequest& request);
  absl::StatusOr<v1::Divergence> GetDivergence(const v1::GetDivergenceRequest& request);
  absl::StatusOr<v1::ReplayDivergenceResponse> ReplayDivergence(const v1::ReplayDivergenceRequest& request);
  absl::StatusOr<v1::Report> GetReport(const v1::GetReportRequest& request);

 private:
  struct Stubs;

  std::unique_ptr<Stubs> stubs_;
};

}  // namespace shadowline::console

#endif  // SHADOWLINE_CONSOLE_CLI_CLIENT_H_
