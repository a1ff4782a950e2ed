#include "server/rpc/admin_services.h"

#include <google/protobuf/util/message_differencer.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <optional>
#include <set>
#include <utility>

#include "base/mutex.h"
#include "server/rpc/convert.h"
#include "server/rpc/status.h"
#include "shadowline/v1/cache.grpc.pb.h"
#include "shadowline/v1/catalog.grpc.pb.h"
#include "shadowline/v1/divergence.grpc.pb.h"
#include "shadowline/v1/flags.grpc.pb.h"
#include "shadowline/v1/rollout.grpc.pb.h"

namespace shadowline::server {
namespace {

using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

grpc::Status Full(const char* what) {
  return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, std::string(what) + "; retry with backoff");
}

// Runs the unary methods of Admin on the pool.
class Runner {
 public:
  Runner(Admin* admin, base::ThreadPool* pool) : admin_(admin), pool_(pool) {}

  template <typename Request, typename Response>
  ServerUnaryReactor* Run(CallbackServerContext* context, const Request* request, Response* response,
                          absl::Status (Admin::*method)(const Request&, const std::string&, Response*)) {
    ServerUnaryReactor* const reactor = context->DefaultReactor();
    const bool taken = pool_->TrySubmit([=, admin = admin_](size_t) {
      // Who asked may have gone while this waited.
      reactor->Finish(context->IsCancelled() ? grpc::Status::CANCELLED
                                             : ToGrpc((admin->*method)(*request, context->peer(), response)));
    });
    if (!taken) reactor->Finish(Full("too many administrative calls wait"));
    return reactor;
  }

  Admin* admin() { return admin_; }
  base::ThreadPool* pool() { return pool_; }

 private:
  Admin* const admin_;
  base::ThreadPool* const pool_;
};

class CatalogService final : public v1::CatalogService::CallbackService {
 public:
  explicit CatalogService(Runner* runner) : runner_(runner) {}

  ServerUnaryReactor* ApplyCatalog(CallbackServerContext* context, const v1::ApplyCatalogRequest* request,
                                   v1::ApplyCatalogResponse* response) override {
    return runner_->Run(context, request, response, &Admin::ApplyCatalog);
  }
  ServerUnaryReactor* GetCatalog(CallbackServerContext* context, const v1::GetCatalogRequest* request,
                                 v1::GetCatalogResponse* response) override {
    return runner_->Run(context, request, response, &Admin::GetCatalog);
  }

 private:
  Runner* const runner_;
};

class FlagService final : public v1::FlagService::CallbackService {
 public:
  explicit FlagService(Runner* runner) : runner_(runner) {}

  ServerUnaryReactor* GetFlag(CallbackServerContext* context, const v1::GetFlagRequest* request,
                              v1::Flag* response) override {
    return runner_->Run(context, request, response, &Admin::GetFlag);
  }
  ServerUnaryReactor* ListFlags(CallbackServerContext* context, const v1::ListFlagsRequest* request,
                                v1::ListFlagsResponse* response) override {
    return runner_->Run(context, request, response, &Admin::ListFlags);
  }

 private:
  Runner* const runner_;
};

class DivergenceService final : public v1::DivergenceService::CallbackService {
 public:
  explicit DivergenceService(Runner* runner) : runner_(runner) {}

  ServerUnaryReactor* ListDivergenceGroups(CallbackServerContext* context,
                                           const v1::ListDivergenceGroupsRequest* request,
                                           v1::ListDivergenceGroupsResponse* response) override {
    return runner_->Run(context, request, response, &Admin::ListDivergenceGroups);
  }
  ServerUnaryReactor* ListDivergences(CallbackServerContext* context, const v1::ListDivergencesRequest* request,
                                      v1::ListDivergencesResponse* response) override {
    return runner_->Run(context, request, response, &Admin::ListDivergences);
  }
  ServerUnaryReactor* GetDivergence(CallbackServerContext* context, const v1::GetDivergenceRequest* request,
                                    v1::Divergence* response) override {
    return runner_->Run(context, request, response, &Admin::GetDivergence);
  }
  ServerUnaryReactor* GetReport(CallbackServerContext* context, const v1::GetReportRequest* request,
                                v1::Report* response) override {
    return runner_->Run(context, request, response, &Admin::GetReport);
  }

 private:
  Runner* const runner_;
};

class CacheService final : public v1::CacheService::CallbackService {
 public:
  CacheService(Admin* admin, size_t limit) : admin_(admin), limit_(limit) {}

  ServerUnaryReactor* Invalidate(CallbackServerContext* context, const v1::InvalidateRequest* request,
                                 v1::InvalidateResponse* response) override {
    ServerUnaryReactor* const reactor = context->DefaultReactor();
    Call call(reactor, &under_way_);
    if (under_way_.load() > limit_) {
      call.Finish(Full("too many invalidations are under way"));
      return reactor;
    }
    admin_->Invalidate(*request, context->peer(),
                       [response, call = std::move(call)](absl::StatusOr<uint64_t> fenced) mutable {
                         if (fenced.ok()) response->set_keys_fenced(*fenced);
                         call.Finish(ToGrpc(fenced.status()));
                       });
    return reactor;
  }

 private:
  // One call that waits for its callback. A callback that is dropped, as a stopped executor does, ends it too.
  class Call {
   public:
    Call(ServerUnaryReactor* reactor, std::atomic<size_t>* under_way) : reactor_(reactor), under_way_(under_way) {
      under_way_->fetch_add(1);
    }
    Call(Call&& other) noexcept : reactor_(std::exchange(other.reactor_, nullptr)), under_way_(other.under_way_) {}
    Call& operator=(Call&&) = delete;
    ~Call() {
      if (reactor_ != nullptr) Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "this replica is shutting down"));
    }

    void Finish(const grpc::Status& status) {
      under_way_->fetch_sub(1);
      std::exchange(reactor_, nullptr)->Finish(status);
    }

   private:
    ServerUnaryReactor* reactor_;
    std::atomic<size_t>* const under_way_;
  };

  Admin* const admin_;
  const size_t limit_;
  std::atomic<size_t> under_way_{0};
};

class Watch;

// The watches that are open, so that they can be counted and ended.
class Watches {
 public:
  explicit Watches(size_t limit) : limit_(limit) {}

  grpc::Status Add(std::shared_ptr<Watch> watch);
  void Remove(const std::shared_ptr<Watch>& watch);
  void Stop();

 private:
  const size_t limit_;
  base::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<std::shared_ptr<Watch>> open_ ABSL_GUARDED_BY(mutex_);
};

// One watched rollout: look, write where it changed, wait, and again. Exactly one of the three is under way at a time,
// and it is who finishes the call; only between them, while it waits, may another thread do so.
//
// It lives until gRPC is done with it, and until the last look or timer that was under way then has ended.
class Watch final : public grpc::ServerWriteReactor<v1::Rollout>, public std::enable_shared_from_this<Watch> {
 public:
  Watch(CallbackServerContext* context, const v1::GetRolloutRequest& request, Runner* runner, base::Executor* timers,
        absl::Duration every, Watches* watches)
      : peer_(context->peer()), request_(request), runner_(runner), timers_(timers), every_(every), watches_(watches) {}

  void Begin() {
    self_ = shared_from_this();
    if (const grpc::Status added = watches_->Add(self_); !added.ok()) return FinishWith(added);
    if (!Look()) FinishWith(Full("too many administrative calls wait"));
  }

  // Ends the call soon: at once if it waits, else when what is under way has ended.
  void End(const grpc::Status& status) {
    {
      base::MutexLock lock(&mutex_);
      if (phase_ != Phase::kWaiting) {
        if (!ending_) ending_ = status;
        return;
      }
      phase_ = Phase::kFinished;
    }
    Finish(status);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return FinishWith(grpc::Status::CANCELLED);
    Continue();
  }
  void OnCancel() override { End(grpc::Status::CANCELLED); }
  void OnDone() override {
    watches_->Remove(self_);
    const std::shared_ptr<Watch> last = std::move(self_);
  }

 private:
  enum class Phase { kBusy, kWaiting, kFinished };

  bool Look() {
    return runner_->pool()->TrySubmit([self = shared_from_this()](size_t) { self->OnLook(); });
  }

  void OnLook() {
    v1::Rollout now;
    if (const absl::Status read = runner_->admin()->GetRollout(request_, peer_, &now); !read.ok()) {
      return FinishWith(ToGrpc(read));
    }
    request_.set_rollout(now.id());  // A family was asked for: stay with the rollout that was its newest.
    if (google::protobuf::util::MessageDifferencer::Equals(now, shown_)) return Continue();
    shown_ = std::move(now);
    StartWrite(&shown_);
  }

  // After a look or a write: ends, or waits.
  void Continue() {
    if (IsFinal(shown_.state())) return FinishWith(grpc::Status::OK);
    std::optional<grpc::Status> ending;
    {
      base::MutexLock lock(&mutex_);
      ending = ending_;
      phase_ = ending ? Phase::kFinished : Phase::kWaiting;
    }
    if (ending) return Finish(*ending);
    timers_->PostAfter(every_, [self = shared_from_this()] { self->OnTimer(); });
  }

  void OnTimer() {
    {
      base::MutexLock lock(&mutex_);
      if (phase_ != Phase::kWaiting) return;
      phase_ = Phase::kBusy;
    }
    if (!Look()) Continue();  // Looked at later: a busy pool costs freshness, not the watch.
  }

  // Only by who is under way.
  void FinishWith(const grpc::Status& status) {
    {
      base::MutexLock lock(&mutex_);
      phase_ = Phase::kFinished;
    }
    Finish(status);
  }

  const std::string peer_;
  v1::GetRolloutRequest request_;
  Runner* const runner_;
  base::Executor* const timers_;
  const absl::Duration every_;
  Watches* const watches_;
  std::shared_ptr<Watch> self_;  // gRPC's hold on this.
  v1::Rollout shown_;
  base::Mutex mutex_;
  Phase phase_ ABSL_GUARDED_BY(mutex_) = Phase::kBusy;
  std::optional<grpc::Status> ending_ ABSL_GUARDED_BY(mutex_);
};

grpc::Status Watches::Add(std::shared_ptr<Watch> watch) {
  base::MutexLock lock(&mutex_);
  if (stopped_) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "this replica is shutting down; watch another");
  if (open_.size() >= limit_) return Full("too many rollouts are watched");
  open_.insert(std::move(watch));
  return grpc::Status::OK;
}

void Watches::Remove(const std::shared_ptr<Watch>& watch) {
  base::MutexLock lock(&mutex_);
  open_.erase(watch);
}

void Watches::Stop() {
  std::set<std::shared_ptr<Watch>> open;
  {
    base::MutexLock lock(&mutex_);
    stopped_ = true;
    open = open_;
  }
  for (const std::shared_ptr<Watch>& watch : open) {
    watch->End(grpc::Status(grpc::StatusCode::UNAVAILABLE, "this replica is shutting down; watch another"));
  }
}

class RolloutService final : public v1::RolloutService::CallbackService {
 public:
  RolloutService(Runner* runner, base::Executor* timers, absl::Duration watch_every, Watches* watches)
      : runner_(runner), timers_(timers), watch_every_(watch_every), watches_(watches) {}

  ServerUnaryReactor* StartRollout(CallbackServerContext* context, const v1::StartRolloutRequest* request,
                                   v1::Rollout* response) override {
    return runner_->Run(context, request, response, &Admin::StartRollout);
  }
  ServerUnaryReactor* ListRollouts(CallbackServerContext* context, const v1::ListRolloutsRequest* request,
                                   v1::ListRolloutsResponse* response) override {
    return runner_->Run(context, request, response, &Admin::ListRollouts);
  }
  ServerUnaryReactor* GetRollout(CallbackServerContext* context, const v1::GetRolloutRequest* request,
                                 v1::Rollout* response) override {
    return runner_->Run(context, request, response, &Admin::GetRollout);
  }
  grpc::ServerWriteReactor<v1::Rollout>* WatchRollout(CallbackServerContext* context,
                                                      const v1::GetRolloutRequest* request) override {
    const auto watch = std::make_shared<Watch>(context, *request, runner_, timers_, watch_every_, watches_);
    watch->Begin();
    return watch.get();  // It holds itself.
  }
  ServerUnaryReactor* PauseRollout(CallbackServerContext* context, const v1::RolloutCommand* request,
                                   v1::Rollout* response) override {
    return runner_->Run(context, request, response, &Admin::PauseRollout);
  }
  ServerUnaryReactor* ResumeRollout(CallbackServerContext* context, const v1::RolloutCommand* request,
                                    v1::Rollout* response) override {
    return runner_->Run(context, request, response, &Admin::ResumeRollout);
  }
  ServerUnaryReactor* ApproveRollout(CallbackServerContext* context, const v1::RolloutCommand* request,
                                     v1::Rollout* response) override {
    return runner_->Run(context, request, response, &Admin::ApproveRollout);
  }
  ServerUnaryReactor* PromoteRollout(CallbackServerContext* context, const v1::RolloutCommand* request,
                                     v1::Rollout* response) override {
    return runner_->Run(context, request, response, &Admin::PromoteRollout);
  }
  ServerUnaryReactor* RollbackRollout(CallbackServerContext* context, const v1::RolloutCommand* request,
                                      v1::Rollout* response) override {
    return runner_->Run(context, request, response, &Admin::RollbackRollout);
  }
  ServerUnaryReactor* AbortRollout(CallbackServerContext* context, const v1::RolloutCommand* request,
                                   v1::Rollout* response) override {
    return runner_->Run(context, request, response, &Admin::AbortRollout);
  }

 private:
  Runner* const runner_;
  base::Executor* const timers_;
  const absl::Duration watch_every_;
  Watches* const watches_;
};

}  // namespace

struct AdminServices::Impl {
  Impl(const Options& options, Admin* admin, base::ThreadPool* pool, base::Executor* timers)
      : runner(admin, pool),
        watches(options.watches),
        catalog(&runner),
        rollout(&runner, timers, options.watch_every, &watches),
        flag(&runner),
        divergence(&runner),
        cache(admin, options.invalidations) {}

  Runner runner;
  Watches watches;
  CatalogService catalog;
  RolloutService rollout;
  FlagService flag;
  DivergenceService divergence;
  CacheService cache;
};

AdminServices::AdminServices(Options options, Admin* admin, base::ThreadPool* pool, base::Executor* timers)
    : impl_(std::make_unique<Impl>(options, admin, pool, timers)) {}

AdminServices::~AdminServices() = default;

std::vector<grpc::Service*> AdminServices::services() {
  return {&impl_->catalog, &impl_->rollout, &impl_->flag, &impl_->divergence, &impl_->cache};
}

void AdminServices::StopWatches() { impl_->watches.Stop(); }

}  // namespace shadowline::server
