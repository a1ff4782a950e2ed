#include "console/cli/client.h"

#include <grpcpp/grpcpp.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "console/cli/table.h"
#include "shadowline/v1/cache.grpc.pb.h"
#include "shadowline/v1/catalog.grpc.pb.h"
#include "shadowline/v1/divergence.grpc.pb.h"
#include "shadowline/v1/flags.grpc.pb.h"
#include "shadowline/v1/read.grpc.pb.h"
#include "shadowline/v1/rollout.grpc.pb.h"

namespace shadowline::console {
namespace {

// A report of many targets is larger than gRPC's default of 4 MiB.
constexpr int kReplyLimit = 64 << 20;

// How long a watch that has begun tries to find a server again.
constexpr absl::Duration kPatience = absl::Seconds(30);

std::shared_ptr<grpc::Channel> Connect(const std::string& server) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kReplyLimit);
  // An operator's web proxy does not speak for the servers of the house.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(server, grpc::InsecureChannelCredentials(), arguments);
}

gpr_timespec After(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return gpr_inf_future(GPR_CLOCK_MONOTONIC);
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_micros(absl::ToInt64Microseconds(duration), GPR_TIMESPAN));
}

// gRPC says "failed to connect to all addresses; last error: UNKNOWN: ...: Connection refused": the end is what
// matters.
std::string Reason(const grpc::Status& status) {
  const std::string& message = status.error_message();
  const size_t at = message.rfind(": ");
  return at == std::string::npos ? message : message.substr(at + 2);
}

}  // namespace

struct Client::Stubs {
  Stubs(const std::string& server_name, absl::Duration call_timeout)
      : server(server_name),
        timeout(call_timeout),
        channel(Connect(server_name)),
        cache(channel),
        catalog(channel),
        divergences(channel),
        flags(channel),
        reads(channel),
        rollouts(channel) {}

  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(Stub& stub,
                                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                                const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(After(timeout));
    Response response;
    if (const grpc::Status status = (stub.*method)(&context, request, &response); !status.ok()) {
      return Translate(status, timeout);
    }
    return response;
  }

  absl::Status Translate(const grpc::Status& status, absl::Duration limit) const {
    switch (status.error_code()) {
      case grpc::StatusCode::OK:
        return absl::OkStatus();
      case grpc::StatusCode::UNAVAILABLE:
        // A server that is there and says so itself leaves the channel ready.
        if (channel->GetState(false) == GRPC_CHANNEL_READY) break;
        return absl::UnavailableError(
            absl::StrCat("no server answers at ", server,
                         "; start shadowlined there, or name another with --server HOST:PORT or "
                         "SHADOWLINE_SERVER (",
                         Reason(status), ")"));
      case grpc::StatusCode::DEADLINE_EXCEEDED:
        return absl::DeadlineExceededError(
            absl::StrCat(server, " did not answer within ", Human(limit), "; --timeout sets another limit"));
      case grpc::StatusCode::UNIMPLEMENTED:
        return absl::UnimplementedError(
            absl::StrCat(server, " does not know this call; is it a shadowlined of this version?"));
      default:
        break;
    }
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  }

  const std::string server;
  const absl::Duration timeout;
  const std::shared_ptr<grpc::Channel> channel;
  v1::CacheService::Stub cache;
  v1::CatalogService::Stub catalog;
  v1::DivergenceService::Stub divergences;
  v1::FlagService::Stub flags;
  v1::ReadService::Stub reads;
  v1::RolloutService::Stub rollouts;
};

Client::Client(const std::string& server, absl::Duration timeout) : stubs_(std::make_unique<Stubs>(server, timeout)) {}

Client::~Client() = default;

absl::StatusOr<v1::ReadResponse> Client::Read(const v1::ReadRequest& request) {
  return stubs_->Call(stubs_->reads, &v1::ReadService::Stub::Read, request);
}

absl::StatusOr<v1::InvalidateResponse> Client::Invalidate(const v1::InvalidateRequest& request) {
  return stubs_->Call(stubs_->cache, &v1::CacheService::Stub::Invalidate, request);
}

absl::StatusOr<v1::PurgeResponse> Client::Purge(const v1::PurgeRequest& request) {
  return stubs_->Call(stubs_->cache, &v1::CacheService::Stub::Purge, request);
}

absl::StatusOr<v1::InspectResponse> Client::Inspect(const v1::InspectRequest& request) {
  return stubs_->Call(stubs_->cache, &v1::CacheService::Stub::Inspect, request);
}

absl::StatusOr<v1::WarmResponse> Client::Warm(const v1::WarmRequest& request) {
  return stubs_->Call(stubs_->cache, &v1::CacheService::Stub::Warm, request);
}

absl::StatusOr<v1::ApplyCatalogResponse> Client::ApplyCatalog(const v1::ApplyCatalogRequest& request) {
  return stubs_->Call(stubs_->catalog, &v1::CatalogService::Stub::ApplyCatalog, request);
}

absl::StatusOr<v1::GetCatalogResponse> Client::GetCatalog() {
  return stubs_->Call(stubs_->catalog, &v1::CatalogService::Stub::GetCatalog, v1::GetCatalogRequest());
}

absl::StatusOr<v1::Flag> Client::GetFlag(const v1::GetFlagRequest& request) {
  return stubs_->Call(stubs_->flags, &v1::FlagService::Stub::GetFlag, request);
}

absl::StatusOr<v1::ListFlagsResponse> Client::ListFlags(const v1::ListFlagsRequest& request) {
  return stubs_->Call(stubs_->flags, &v1::FlagService::Stub::ListFlags, request);
}

absl::StatusOr<v1::Rollout> Client::StartRollout(const v1::StartRolloutRequest& request) {
  return stubs_->Call(stubs_->rollouts, &v1::RolloutService::Stub::StartRollout, request);
}

absl::StatusOr<v1::ListRolloutsResponse> Client::ListRollouts(const v1::ListRolloutsRequest& request) {
  return stubs_->Call(stubs_->rollouts, &v1::RolloutService::Stub::ListRollouts, request);
}

absl::StatusOr<v1::Rollout> Client::GetRollout(const v1::GetRolloutRequest& request) {
  return stubs_->Call(stubs_->rollouts, &v1::RolloutService::Stub::GetRollout, request);
}

absl::StatusOr<v1::Rollout> Client::PauseRollout(const v1::RolloutCommand& command) {
  return stubs_->Call(stubs_->rollouts, &v1::RolloutService::Stub::PauseRollout, command);
}

absl::StatusOr<v1::Rollout> Client::ResumeRollout(const v1::RolloutCommand& command) {
  return stubs_->Call(stubs_->rollouts, &v1::RolloutService::Stub::ResumeRollout, command);
}

absl::StatusOr<v1::Rollout> Client::ApproveRollout(const v1::RolloutCommand& command) {
  return stubs_->Call(stubs_->rollouts, &v1::RolloutService::Stub::ApproveRollout, command);
}

absl::StatusOr<v1::Rollout> Client::PromoteRollout(const v1::RolloutCommand& command) {
  return stubs_->Call(stubs_->rollouts, &v1::RolloutService::Stub::PromoteRollout, command);
}

absl::StatusOr<v1::Rollout> Client::RollbackRollout(const v1::RolloutCommand& command) {
  return stubs_->Call(stubs_->rollouts, &v1::RolloutService::Stub::RollbackRollout, command);
}

absl::StatusOr<v1::Rollout> Client::AbortRollout(const v1::RolloutCommand& command) {
  return stubs_->Call(stubs_->rollouts, &v1::RolloutService::Stub::AbortRollout, command);
}

absl::Status Client::WatchRollout(const v1::GetRolloutRequest& request, absl::Duration timeout,
                                  absl::FunctionRef<bool(const v1::Rollout*)> seen) {
  constexpr absl::Duration kTick = absl::Seconds(1);
  const gpr_timespec deadline = After(timeout);
  std::optional<gpr_timespec> patience;  // Until when a broken stream is opened again; set by each rollout.
  bool wanted = true;
  const auto show = [&](const v1::Rollout* rollout) {
    if (rollout != nullptr) patience = After(kPatience);
    wanted = wanted && seen(rollout);
    return wanted;
  };

  for (;;) {
    // A completion queue rather than a blocking stream: only so can this one thread notice that nothing comes.
    grpc::CompletionQueue queue;
    grpc::ClientContext context;
    context.set_deadline(deadline);
    enum Tag : intptr_t { kStarted = 1, kRead, kFinished };
    const auto tag = [](Tag which) { return reinterpret_cast<void*>(which); };
    const auto stream = stubs_->rollouts.PrepareAsyncWatchRollout(&context, request, &queue);
    stream->StartCall(tag(kStarted));
    v1::Rollout rollout;
    grpc::Status status;
    for (;;) {
      void* event = nullptr;
      bool ok = false;
      const auto outcome = queue.AsyncNext(&event, &ok, After(kTick));
      if (outcome == grpc::CompletionQueue::TIMEOUT) {
        if (!show(nullptr)) context.TryCancel();
        continue;
      }
      if (event == tag(kFinished)) break;
      if (event == tag(kRead) && ok && !show(&rollout)) context.TryCancel();
      if (ok) {
        stream->Read(&rollout, tag(kRead));
      } else {
        stream->Finish(&status, tag(kFinished));
      }
    }
    if (!wanted) return absl::OkStatus();
    // A replica that drains ends its streams; a rollout outlives it.
    const bool broken = status.ok() || status.error_code() == grpc::StatusCode::UNAVAILABLE;
    if (!broken || !patience.has_value() || gpr_time_cmp(gpr_now(GPR_CLOCK_MONOTONIC), *patience) > 0) {
      return status.ok() ? absl::UnavailableError(absl::StrCat(stubs_->server, " ended the stream; watch again"))
                         : stubs_->Translate(status, timeout);
    }
    void* event = nullptr;
    bool ok = false;
    queue.AsyncNext(&event, &ok, After(kTick));  // Nothing is in it: this only waits.
    if (!show(nullptr)) return absl::OkStatus();
  }
}

absl::StatusOr<v1::ListDivergenceGroupsResponse> Client::ListDivergenceGroups(
    const v1::ListDivergenceGroupsRequest& request) {
  return stubs_->Call(stubs_->divergences, &v1::DivergenceService::Stub::ListDivergenceGroups, request);
}

absl::StatusOr<v1::ListDivergencesResponse> Client::ListDivergences(const v1::ListDivergencesRequest& request) {
  return stubs_->Call(stubs_->divergences, &v1::DivergenceService::Stub::ListDivergences, request);
}

absl::StatusOr<v1::Divergence> Client::GetDivergence(const v1::GetDivergenceRequest& request) {
  return stubs_->Call(stubs_->divergences, &v1::DivergenceService::Stub::GetDivergence, request);
}

absl::StatusOr<v1::ReplayDivergenceResponse> Client::ReplayDivergence(const v1::ReplayDivergenceRequest& request) {
  return stubs_->Call(stubs_->divergences, &v1::DivergenceService::Stub::ReplayDivergence, request);
}

absl::StatusOr<v1::Report> Client::GetReport(const v1::GetReportRequest& request) {
  return stubs_->Call(stubs_->divergences, &v1::DivergenceService::Stub::GetReport, request);
}

}  // namespace shadowline::console
