#include "server/rpc/admin_services.h"

#include <grpcpp/server_context.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "absl/cleanup/cleanup.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "server/rpc/deadline.h"
#include "server/rpc/places.h"
#include "server/rpc/status.h"
#include "shadowline/v1/cache.grpc.pb.h"
#include "shadowline/v1/catalog.grpc.pb.h"
#include "shadowline/v1/divergence.grpc.pb.h"
#include "shadowline/v1/flags.grpc.pb.h"
#include "shadowline/v1/rollout.grpc.pb.h"

namespace shadowline::server {
namespace {

// One RPC that is one method of Admin.
#define SHADOWLINE_ADMIN_RPC(method, Request, Response)                                                            \
  grpc::Status method(grpc::ServerContext* context, const v1::Request* request, v1::Response* response) override { \
    return ToGrpc(admin_->method(*request, context->peer(), response));                                            \
  }

class CatalogRpc final : public v1::CatalogService::Service {
 public:
  explicit CatalogRpc(Admin* admin) : admin_(admin) {}
  SHADOWLINE_ADMIN_RPC(ApplyCatalog, ApplyCatalogRequest, ApplyCatalogResponse)
  SHADOWLINE_ADMIN_RPC(GetCatalog, GetCatalogRequest, GetCatalogResponse)

 private:
  Admin* const admin_;
};

class FlagRpc final : public v1::FlagService::Service {
 public:
  explicit FlagRpc(Admin* admin) : admin_(admin) {}
  SHADOWLINE_ADMIN_RPC(GetFlag, GetFlagRequest, Flag)
  SHADOWLINE_ADMIN_RPC(ListFlags, ListFlagsRequest, ListFlagsResponse)

 private:
  Admin* const admin_;
};

// What a call of Admin that does not block comes to. Shared with its callback, which may come after the RPC has given
// up, or be dropped.
template <typename T>
class Outcome {
 public:
  void Set(absl::StatusOr<T> result) {
    base::MutexLock lock(&mutex_);
    if (!result_.has_value()) result_ = std::move(result);
  }
  std::optional<absl::StatusOr<T>> Await(absl::Duration timeout) {
    base::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(this, &Outcome::Known), timeout);
    return result_;
  }

 private:
  bool Known() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return result_.has_value(); }

  base::Mutex mutex_;
  std::optional<absl::StatusOr<T>> result_ ABSL_GUARDED_BY(mutex_);
};

// Lives as long as the callback: if that is dropped, the replica is going down.
template <typename T>
struct Promise {
  explicit Promise(std::shared_ptr<Outcome<T>> to) : outcome(std::move(to)) {}
  Promise(Promise&&) = default;
  ~Promise() {
    if (outcome != nullptr)
      outcome->Set(absl::UnavailableError("this replica is shutting down; retry through another one"));
  }
  std::shared_ptr<Outcome<T>> outcome;
};

// Waits for a call that does not block, which takes one of `places`.
template <typename T>
grpc::Status Run(Places* places, absl::string_view what, absl::Duration timeout, const std::string& late,
                 absl::FunctionRef<void(absl::AnyInvocable<void(absl::StatusOr<T>)>)> call,
                 absl::FunctionRef<void(T)> answer) {
  if (!places->Take()) {
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                        absl::StrCat("too many ", what, " are under way; retry with backoff"));
  }
  const absl::Cleanup leave = [places] { places->Leave(); };
  const auto outcome = std::make_shared<Outcome<T>>();
  call([promise = Promise<T>(outcome)](absl::StatusOr<T> result) { promise.outcome->Set(std::move(result)); });
  std::optional<absl::StatusOr<T>> result = outcome->Await(timeout);
  if (!result.has_value()) return grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, late);
  if (!result->ok()) return ToGrpc(result->status());
  answer(**std::move(result));
  return grpc::Status::OK;
}

class DivergenceRpc final : public v1::DivergenceService::Service {
 public:
  DivergenceRpc(Admin* admin, const AdminServices::Options& options)
      : admin_(admin), options_(options), replays_(options.replays_max) {}
  SHADOWLINE_ADMIN_RPC(ListDivergenceGroups, ListDivergenceGroupsRequest, ListDivergenceGroupsResponse)
  SHADOWLINE_ADMIN_RPC(ListDivergences, ListDivergencesRequest, ListDivergencesResponse)
  SHADOWLINE_ADMIN_RPC(GetDivergence, GetDivergenceRequest, Divergence)
  SHADOWLINE_ADMIN_RPC(GetReport, GetReportRequest, Report)

  grpc::Status ReplayDivergence(grpc::ServerContext* context, const v1::ReplayDivergenceRequest* request,
                                v1::ReplayDivergenceResponse* response) override {
    return Run<v1::ReplayDivergenceResponse>(
        &replays_, "replays", TimeLeft(*context, options_.replay_timeout), "cache and database did not answer in time",
        [&](auto done) { admin_->ReplayDivergence(*request, context->peer(), std::move(done)); },
        [&](v1::ReplayDivergenceResponse replayed) { *response = std::move(replayed); });
  }

 private:
  Admin* const admin_;
  const AdminServices::Options options_;
  Places replays_;
};

class CacheRpc final : public v1::CacheService::Service {
 public:
  CacheRpc(Admin* admin, const AdminServices::Options& options)
      : admin_(admin),
        options_(options),
        invalidations_(options.invalidations_max),
        purges_(options.purges_max),
        inspections_(options.inspections_max),
        warmings_(options.warmings_max) {}

  grpc::Status Invalidate(grpc::ServerContext* context, const v1::InvalidateRequest* request,
                          v1::InvalidateResponse* response) override {
    return Run<std::monostate>(
        &invalidations_, "invalidations", TimeLeft(*context, options_.invalidate_timeout),
        "not every fence is known to stand; retry until OK",
        [&](auto done) {
          admin_->Invalidate(*request, context->peer(), [done = std::move(done)](absl::Status fenced) mutable {
            fenced.ok() ? done(std::monostate()) : done(std::move(fenced));
          });
        },
        [&](std::monostate) { response->set_tags_fenced(request->tags_size()); });
  }

  grpc::Status Purge(grpc::ServerContext* context, const v1::PurgeRequest* request,
                     v1::PurgeResponse* response) override {
    return Run<uint64_t>(
        &purges_, "purges", TimeLeft(*context, options_.purge_timeout),
        "some replica may still answer from the old epoch, if a new one has begun at all; purge again",
        [&](auto done) { admin_->Purge(*request, context->peer(), std::move(done)); },
        [&](uint64_t targets) { response->set_targets(targets); });
  }

  grpc::Status Inspect(grpc::ServerContext* context, const v1::InspectRequest* request,
                       v1::InspectResponse* response) override {
    return Run<v1::InspectResponse>(
        &inspections_, "inspections", TimeLeft(*context, options_.inspect_timeout), "the cache did not answer in time",
        [&](auto done) { admin_->Inspect(*request, context->peer(), std::move(done)); },
        [&](v1::InspectResponse inspected) { *response = std::move(inspected); });
  }

  grpc::Status Warm(grpc::ServerContext* context, const v1::WarmRequest* request, v1::WarmResponse* response) override {
    return Run<uint64_t>(
        &warmings_, "warmings", TimeLeft(*context, options_.invalidate_timeout),
        "this replica has not said in time which keys are hot; they may be queued all the same",
        [&](auto done) { admin_->Warm(*request, context->peer(), std::move(done)); },
        [&](uint64_t keys) { response->set_keys(keys); });
  }

 private:
  Admin* const admin_;
  const AdminServices::Options options_;
  Places invalidations_;
  Places purges_;
  Places inspections_;
  Places warmings_;
};

class RolloutRpc final : public v1::RolloutService::Service {
 public:
  RolloutRpc(Admin* admin, const AdminServices::Options& options)
      : admin_(admin), watch_every_(options.watch_every), places_(options.watches_max) {}
  SHADOWLINE_ADMIN_RPC(StartRollout, StartRolloutRequest, Rollout)
  SHADOWLINE_ADMIN_RPC(ListRollouts, ListRolloutsRequest, ListRolloutsResponse)
  SHADOWLINE_ADMIN_RPC(GetRollout, GetRolloutRequest, Rollout)
  SHADOWLINE_ADMIN_RPC(PauseRollout, RolloutCommand, Rollout)
  SHADOWLINE_ADMIN_RPC(ResumeRollout, RolloutCommand, Rollout)
  SHADOWLINE_ADMIN_RPC(ApproveRollout, RolloutCommand, Rollout)
  SHADOWLINE_ADMIN_RPC(PromoteRollout, RolloutCommand, Rollout)
  SHADOWLINE_ADMIN_RPC(RollbackRollout, RolloutCommand, Rollout)
  SHADOWLINE_ADMIN_RPC(AbortRollout, RolloutCommand, Rollout)

  grpc::Status WatchRollout(grpc::ServerContext* context, const v1::GetRolloutRequest* request,
                            grpc::ServerWriter<v1::Rollout>* writer) override {
    if (!places_.Take()) {
      return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                          "too many rollouts are watched; retry, or use GetRollout");
    }
    const grpc::Status status = Watch(context, *request, writer);
    places_.Leave();
    return status;
  }

  void Stop() {
    base::MutexLock lock(&mutex_);
    stopped_ = true;
  }

 private:
  static bool Final(const v1::Rollout& rollout) {
    return rollout.state() == v1::ROLLOUT_STATE_SETTLED || rollout.state() == v1::ROLLOUT_STATE_ROLLED_BACK ||
           rollout.state() == v1::ROLLOUT_STATE_ABORTED;
  }

  grpc::Status Watch(grpc::ServerContext* context, const v1::GetRolloutRequest& request,
                     grpc::ServerWriter<v1::Rollout>* writer) {
    v1::GetRolloutRequest watched = request;
    std::string told;
    while (!context->IsCancelled()) {
      if (Stopped(absl::ZeroDuration())) {
        return grpc::Status(grpc::StatusCode::UNAVAILABLE, "this replica is shutting down; watch through another one");
      }
      v1::Rollout rollout;
      if (absl::Status status = admin_->GetRollout(watched, context->peer(), &rollout); !status.ok())
        return ToGrpc(status);
      // A family's name means its newest rollout *now*: a later one is not what the caller began to watch.
      watched.set_rollout(rollout.id());
      if (std::string now = rollout.SerializeAsString(); now != told) {
        told = std::move(now);
        if (!writer->Write(rollout)) break;
      }
      if (Final(rollout)) return grpc::Status::OK;
      Stopped(watch_every_);
    }
    return grpc::Status::CANCELLED;
  }

  // Waits for Stop(), at most `wait`.
  bool Stopped(absl::Duration wait) {
    base::MutexLock lock(&mutex_);
    return mutex_.AwaitWithTimeout(absl::Condition(&stopped_), wait);
  }

  Admin* const admin_;
  const absl::Duration watch_every_;
  Places places_;
  base::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

#undef SHADOWLINE_ADMIN_RPC

}  // namespace

struct AdminServices::Impl {
  Impl(const Options& options, Admin* admin)
      : catalog(admin), flags(admin), divergences(admin, options), cache(admin, options), rollouts(admin, options) {}

  CatalogRpc catalog;
  FlagRpc flags;
  DivergenceRpc divergences;
  CacheRpc cache;
  RolloutRpc rollouts;
};

AdminServices::AdminServices(Options options, Admin* admin) : impl_(std::make_unique<Impl>(options, admin)) {}

AdminServices::~AdminServices() = default;

std::vector<grpc::Service*> AdminServices::services() {
  return {&impl_->catalog, &impl_->flags, &impl_->divergences, &impl_->cache, &impl_->rollouts};
}

void AdminServices::StopWatches() { impl_->rollouts.Stop(); }

}  // namespace shadowline::server
