// The administrative services over a real gRPC server, in front of rooms made of memory.
#include "server/rpc/admin_services.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>

#include "base/mutex.h"
#include "cache/catalog/parse.h"
#include "shadowline/v1/cache.grpc.pb.h"
#include "shadowline/v1/catalog.grpc.pb.h"
#include "shadowline/v1/divergence.grpc.pb.h"
#include "shadowline/v1/flags.grpc.pb.h"
#include "shadowline/v1/rollout.grpc.pb.h"

namespace shadowline::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kCatalog[] = R"(version: 1
tenants: {list: [acme, zen]}
families:
  pricing:
    endpoints:
      quote:
        sql: SELECT 1 AS one WHERE :tenant <> ''
        tags: ["account:1"]
    policy: {duration: 1h, episodes: 7}
)";

class FakeCatalogs final : public cache::CatalogStore {
 public:
  absl::StatusOr<cache::ApplyResult> Apply(absl::string_view yaml, bool dry_run, absl::string_view who,
                                           uint64_t expected_revision) override {
    if (expected_revision != 0 && expected_revision != active_.revision)
      return absl::AbortedError("revision has moved on");
    if (!dry_run) active_ = {active_.revision + 1, std::string(yaml), absl::UnixEpoch(), std::string(who)};
    return cache::ApplyResult{active_.revision, true, {"+ pricing/quote"}};
  }
  absl::StatusOr<cache::AppliedCatalog> Active() override {
    if (active_.revision == 0) return absl::NotFoundError("no catalog");
    return active_;
  }
  absl::Status RefreshTenants() override { return absl::OkStatus(); }

 private:
  cache::AppliedCatalog active_;
};

// One rollout, whose state a test sets.
class FakeRollouts final : public rollout::Commands {
 public:
  absl::StatusOr<rollout::RolloutView> Start(const rollout::StartRequest& request) override {
    base::MutexLock lock(&mutex_);
    if (view_.id == "r1") return absl::AlreadyExistsError("family has rollout r1");
    started_ = request;
    view_.id = "r1";
    view_.family = request.family;
    view_.policy = request.policy;
    return view_;
  }
  absl::StatusOr<rollout::RolloutView> Execute(const rollout::Command& command) override {
    base::MutexLock lock(&mutex_);
    commands_.push_back(command);
    return Find(command.rollout);
  }
  absl::StatusOr<rollout::RolloutView> Get(const std::string& rollout) override {
    base::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(this, &FakeRollouts::Open));
    ++looks_;
    return Find(rollout);
  }
  absl::StatusOr<std::vector<rollout::RolloutView>> List(const std::string& family, bool ended) override {
    base::MutexLock lock(&mutex_);
    return std::vector<rollout::RolloutView>{view_};
  }
  absl::StatusOr<std::vector<rollout::Flip>> Flips(const std::string& family, uint32_t limit) override {
    return std::vector<rollout::Flip>{
        {"acme", family, "SHADOW", "CACHE 5 %", "controller", "clean", absl::UnixEpoch(), "c1"}};
  }

  void SetState(rollout::RolloutState state) {
    base::MutexLock lock(&mutex_);
    view_.state = state;
  }
  // While shut, Get blocks.
  void SetShut(bool shut) {
    base::MutexLock lock(&mutex_);
    shut_ = shut;
  }
  rollout::StartRequest started() {
    base::MutexLock lock(&mutex_);
    return started_;
  }
  std::vector<rollout::Command> commands() {
    base::MutexLock lock(&mutex_);
    return commands_;
  }
  int looks() {
    base::MutexLock lock(&mutex_);
    return looks_;
  }

 private:
  bool Open() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !shut_; }
  absl::StatusOr<rollout::RolloutView> Find(const std::string& name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (view_.id.empty() || (name != view_.id && name != view_.family))
      return absl::NotFoundError("no rollout " + name);
    return view_;
  }

  base::Mutex mutex_;
  bool shut_ ABSL_GUARDED_BY(mutex_) = false;
  int looks_ ABSL_GUARDED_BY(mutex_) = 0;
  rollout::RolloutView view_ ABSL_GUARDED_BY(mutex_);
  rollout::StartRequest started_ ABSL_GUARDED_BY(mutex_);
  std::vector<rollout::Command> commands_ ABSL_GUARDED_BY(mutex_);
};

class FakeEvidence final : public diff::EvidenceReader {
 public:
  absl::StatusOr<std::vector<diff::DivergenceGroup>> Groups(const std::string& family, const std::string& fingerprint,
                                                            uint32_t limit) override {
    limit_ = limit;
    diff::DivergenceGroup group;
    group.fingerprint = "00ff";
    return std::vector<diff::DivergenceGroup>{group};
  }
  absl::StatusOr<std::vector<diff::Divergence>> Divergences(const std::string& family, const std::string& tenant,
                                                            const std::string& fingerprint, uint32_t limit) override {
    limit_ = limit;
    return std::vector<diff::Divergence>(2);
  }
  absl::StatusOr<diff::Divergence> Find(const std::string& id) override {
    if (id != "d1") return absl::NotFoundError("no divergence " + id);
    diff::Divergence divergence;
    divergence.id = id;
    return divergence;
  }
  absl::StatusOr<diff::LedgerTotals> FamilyLedger(const std::string& family) override {
    diff::LedgerTotals totals;
    totals.counts.sampled = totals.counts.matched = 5;
    return totals;
  }
  absl::StatusOr<std::vector<diff::Noise>> FamilyNoise(const std::string& family) override {
    return std::vector<diff::Noise>{{"pricing/quote", "/rank: value", 20, 0}};
  }
  uint32_t limit() const { return limit_; }

 private:
  std::atomic<uint32_t> limit_{0};
};

class AdminServicesTest : public testing::Test {
 protected:
  AdminServicesTest() {
    Admin::Deps deps;
    deps.catalogs = &catalogs_;
    deps.rollouts = &rollouts_;
    deps.evidence = &evidence_;
    deps.board = &board_;
    deps.clock = &clock_;
    deps.catalog = [this]() -> std::shared_ptr<const cache::CompiledCatalog> {
      const auto active = catalogs_.Active();
      if (!active.ok()) return nullptr;
      return *cache::ParseCatalog(active->yaml, active->revision);
    };
    deps.invalidate = [this](std::vector<cache::TenantTag> tags, std::vector<uint64_t>, Admin::Invalidated done) {
      invalidate_(std::move(tags), std::move(done));
    };
    deps.warm = [this](std::vector<cache::TenantTag> tags, Admin::Warmed done) {
      warm_(std::move(tags), std::move(done));
    };
    deps.purge = [this](const v1::PurgeRequest& request, Admin::Purged done) { purge_(request, std::move(done)); };
    deps.replay = [](const diff::Divergence& divergence, Admin::Replayed done) {
      v1::ReplayDivergenceResponse response;
      response.set_id(divergence.id);
      response.set_verdict("matched");
      done(std::move(response));
    };
    deps.reveal = [](diff::Divergence* divergence) { divergence->key = "revealed"; };
    deps.inspect = [](const v1::InspectRequest& request, Admin::Inspected done) {
      v1::InspectResponse response;
      response.set_key(request.tenant() + "/" + request.endpoint());
      done(response);
    };
    admin_ = std::make_unique<Admin>(std::move(deps));
    AdminServices::Options options;
    options.watches_max = 2;
    options.invalidations_max = 2;
    options.purges_max = 1;
    options.watch_every = absl::Milliseconds(1);
    services_ = std::make_unique<AdminServices>(options, admin_.get());
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    for (grpc::Service* service : services_->services()) builder.RegisterService(service);
    server_ = builder.BuildAndStart();
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials());
    catalog_stub_ = v1::CatalogService::NewStub(channel_);
    rollout_stub_ = v1::RolloutService::NewStub(channel_);
    flag_stub_ = v1::FlagService::NewStub(channel_);
    divergence_stub_ = v1::DivergenceService::NewStub(channel_);
    cache_stub_ = v1::CacheService::NewStub(channel_);
  }

  ~AdminServicesTest() override {
    rollouts_.SetShut(false);
    server_->Shutdown();
  }

  void Publish() {
    flags::Flag flag;
    flag.mode = flags::Mode::kShadow;
    flags::Snapshot::Targets targets;
    targets[{"pricing", "acme"}] = flag;
    board_.Publish(std::make_shared<flags::Snapshot>(4, absl::flat_hash_set<std::string>{"acme", "zen"}, targets),
                   clock_.Steady());
  }

  void StartRollout() {
    Publish();
    ASSERT_TRUE(Apply(kCatalog).ok());
    v1::StartRolloutRequest request;
    request.set_family("pricing");
    v1::Rollout response;
    grpc::ClientContext context;
    const grpc::Status status = rollout_stub_->StartRollout(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  grpc::Status Apply(const std::string& yaml) {
    v1::ApplyCatalogRequest request;
    request.set_yaml(yaml);
    v1::ApplyCatalogResponse response;
    grpc::ClientContext context;
    return catalog_stub_->ApplyCatalog(&context, request, &response);
  }

  grpc::Status Invalidate(const std::string& tenant, const std::vector<std::string>& tags, uint64_t* fenced = nullptr) {
    v1::InvalidateRequest request;
    request.set_tenant(tenant);
    request.mutable_tags()->Assign(tags.begin(), tags.end());
    v1::InvalidateResponse response;
    grpc::ClientContext context;
    const grpc::Status status = cache_stub_->Invalidate(&context, request, &response);
    if (fenced != nullptr) *fenced = response.tags_fenced();
    return status;
  }

  grpc::Status Warm(const std::string& tenant, const std::vector<std::string>& tags, uint64_t* keys = nullptr) {
    v1::WarmRequest request;
    request.set_tenant(tenant);
    request.mutable_tags()->Assign(tags.begin(), tags.end());
    v1::WarmResponse response;
    grpc::ClientContext context;
    const grpc::Status status = cache_stub_->Warm(&context, request, &response);
    if (keys != nullptr) *keys = response.keys();
    return status;
  }

  grpc::Status Purge(const std::string& family, const std::string& tenant, const std::string& reason,
                     v1::PurgeResponse* response = nullptr) {
    v1::PurgeRequest request;
    request.set_family(family);
    request.set_tenant(tenant);
    request.set_reason(reason);
    v1::PurgeResponse unused;
    grpc::ClientContext context;
    return cache_stub_->Purge(&context, request, response == nullptr ? &unused : response);
  }

  base::SystemClock clock_;
  FakeCatalogs catalogs_;
  FakeRollouts rollouts_;
  FakeEvidence evidence_;
  flags::Board board_{&clock_, absl::Seconds(2)};
  std::function<void(std::vector<cache::TenantTag>, Admin::Invalidated)> invalidate_ =
      [](std::vector<cache::TenantTag>, Admin::Invalidated done) { done(absl::OkStatus()); };
  std::function<void(std::vector<cache::TenantTag>, Admin::Warmed)> warm_ =
      [](std::vector<cache::TenantTag> tags, Admin::Warmed done) { done(10 * tags.size()); };
  std::function<void(const v1::PurgeRequest&, Admin::Purged)> purge_ = [](const v1::PurgeRequest&, Admin::Purged done) {
    done(7);
  };
  std::unique_ptr<Admin> admin_;
  std::unique_ptr<AdminServices> services_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::CatalogService::Stub> catalog_stub_;
  std::unique_ptr<v1::RolloutService::Stub> rollout_stub_;
  std::unique_ptr<v1::FlagService::Stub> flag_stub_;
  std::unique_ptr<v1::DivergenceService::Stub> divergence_stub_;
  std::unique_ptr<v1::CacheService::Stub> cache_stub_;
};

void ExpectRefused(const grpc::Status& status, grpc::StatusCode code, const std::string& message) {
  EXPECT_EQ(status.error_code(), code) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr(message));
}

TEST_F(AdminServicesTest, AnAppliedCatalogIsTheOneThatIsRead) {
  v1::GetCatalogResponse response;
  {
    grpc::ClientContext context;
    EXPECT_EQ(catalog_stub_->GetCatalog(&context, {}, &response).error_code(), grpc::StatusCode::NOT_FOUND);
  }
  ASSERT_TRUE(Apply(kCatalog).ok());
  grpc::ClientContext context;
  ASSERT_TRUE(catalog_stub_->GetCatalog(&context, {}, &response).ok());
  EXPECT_EQ(response.revision(), 1u);
  EXPECT_EQ(response.yaml(), kCatalog);
  EXPECT_EQ(response.applied_by(), "unknown");
}

TEST_F(AdminServicesTest, ACatalogThatIsMissingOrHugeIsRefused) {
  ExpectRefused(Apply(""), grpc::StatusCode::INVALID_ARGUMENT, "yaml: is missing");
  v1::ApplyCatalogRequest request;
  request.set_yaml(std::string(kMaxCatalogBytes + 1, ' '));
  v1::ApplyCatalogResponse response;
  ExpectRefused(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT,
                             std::string(admin_->ApplyCatalog(request, "test", &response).message())),
                grpc::StatusCode::INVALID_ARGUMENT, "yaml: is too long");
}

TEST_F(AdminServicesTest, ARolloutStartsUnderTheCatalogsPolicyWithItsOverrides) {
  Publish();
  ASSERT_TRUE(Apply(kCatalog).ok());
  v1::StartRolloutRequest request;
  request.set_family("pricing");
  request.mutable_policy()->set_exercised(9);
  request.set_who("ada");
  request.set_reason("go");
  v1::Rollout response;
  {
    grpc::ClientContext context;
    const grpc::Status status = rollout_stub_->StartRollout(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  EXPECT_EQ(response.id(), "r1");
  const rollout::StartRequest started = rollouts_.started();
  EXPECT_EQ(started.policy.duration, absl::Hours(1)) << "from the catalog";
  EXPECT_EQ(started.policy.episodes, 7u) << "from the catalog";
  EXPECT_EQ(started.policy.exercised, 9u) << "from the request";
  EXPECT_EQ(started.policy.distinct_keys, 50u) << "the default";
  EXPECT_EQ(started.catalog_revision, 1u);
  EXPECT_THAT(started.endpoints, ElementsAre("pricing/quote"));
  EXPECT_EQ(started.who, "ada");
  grpc::ClientContext again;
  EXPECT_EQ(rollout_stub_->StartRollout(&again, request, &response).error_code(), grpc::StatusCode::ALREADY_EXISTS);
}

TEST_F(AdminServicesTest, AStartThatCannotBeMeantIsRefused) {
  const auto start = [&](const std::function<void(v1::StartRolloutRequest*)>& change) {
    v1::StartRolloutRequest request;
    request.set_family("pricing");
    change(&request);
    v1::Rollout response;
    grpc::ClientContext context;
    return rollout_stub_->StartRollout(&context, request, &response);
  };
  const auto as_it_is = [](v1::StartRolloutRequest*) {};
  ExpectRefused(start(as_it_is), grpc::StatusCode::UNAVAILABLE, "no flags yet");
  Publish();
  ExpectRefused(start(as_it_is), grpc::StatusCode::NOT_FOUND, "no catalog");
  ASSERT_TRUE(Apply(kCatalog).ok());
  ExpectRefused(start([](auto* r) { r->clear_family(); }), grpc::StatusCode::INVALID_ARGUMENT, "family: is missing");
  ExpectRefused(start([](auto* r) { r->set_family("nope"); }), grpc::StatusCode::NOT_FOUND, "family nope");
  ExpectRefused(start([](auto* r) { r->mutable_policy()->set_soak("5"); }), grpc::StatusCode::INVALID_ARGUMENT,
                "policy.soak");
  ExpectRefused(start([](auto* r) {
                  r->add_cohorts()->set_name("one");
                  r->mutable_cohorts(0)->add_tenants("stranger");
                }),
                grpc::StatusCode::NOT_FOUND, "tenant stranger");
  ExpectRefused(start([](auto* r) { r->set_reason(std::string(2000, 'x')); }), grpc::StatusCode::INVALID_ARGUMENT,
                "reason: is too long");
  EXPECT_TRUE(rollouts_.started().family.empty()) << "nothing was started";
}

TEST_F(AdminServicesTest, EachVerbReachesItsRollout) {
  StartRollout();
  using Method =
      grpc::Status (v1::RolloutService::Stub::*)(grpc::ClientContext*, const v1::RolloutCommand&, v1::Rollout*);
  using Stub = v1::RolloutService::Stub;
  const std::vector<std::pair<Method, rollout::Verb>> verbs = {
      {&Stub::PauseRollout, rollout::Verb::kPause},       {&Stub::ResumeRollout, rollout::Verb::kResume},
      {&Stub::ApproveRollout, rollout::Verb::kApprove},   {&Stub::PromoteRollout, rollout::Verb::kPromote},
      {&Stub::RollbackRollout, rollout::Verb::kRollback}, {&Stub::AbortRollout, rollout::Verb::kAbort}};
  for (const auto& [method, verb] : verbs) {
    v1::RolloutCommand command;
    command.set_rollout("pricing");
    command.set_reason("because");
    v1::Rollout response;
    grpc::ClientContext context;
    EXPECT_TRUE((rollout_stub_.get()->*method)(&context, command, &response).ok());
    const auto commands = rollouts_.commands();
    EXPECT_EQ(commands.back().verb, verb);
    EXPECT_EQ(commands.back().rollout, "pricing");
    EXPECT_EQ(commands.back().who, "unknown");
    EXPECT_EQ(commands.back().reason, "because");
  }
}

TEST_F(AdminServicesTest, AForcedPromotionSaysWhyAndAPauseTakesNoTenant) {
  StartRollout();
  v1::RolloutCommand command;
  command.set_rollout("pricing");
  v1::Rollout response;
  {
    grpc::ClientContext context;
    ExpectRefused(rollout_stub_->PromoteRollout(&context, command, &response), grpc::StatusCode::INVALID_ARGUMENT,
                  "reason:");
  }
  command.set_tenant("acme");
  {
    grpc::ClientContext context;
    ExpectRefused(rollout_stub_->PauseRollout(&context, command, &response), grpc::StatusCode::INVALID_ARGUMENT,
                  "tenant:");
  }
  command.clear_rollout();
  grpc::ClientContext context;
  ExpectRefused(rollout_stub_->RollbackRollout(&context, command, &response), grpc::StatusCode::INVALID_ARGUMENT,
                "rollout:");
  EXPECT_TRUE(rollouts_.commands().empty());
}

TEST_F(AdminServicesTest, AFlagIsShownAsThisReplicaKnowsIt) {
  v1::GetFlagRequest request;
  request.set_tenant("acme");
  request.set_family("pricing");
  v1::Flag flag;
  const auto get = [&] {
    grpc::ClientContext context;
    return flag_stub_->GetFlag(&context, request, &flag);
  };
  ExpectRefused(get(), grpc::StatusCode::UNAVAILABLE, "no flags yet");
  Publish();
  ASSERT_TRUE(get().ok());
  EXPECT_EQ(flag.mode(), v1::MODE_SHADOW);
  request.set_tenant("zen");
  ExpectRefused(get(), grpc::StatusCode::NOT_FOUND, "family pricing");
  ASSERT_TRUE(Apply(kCatalog).ok());
  ASSERT_TRUE(get().ok());
  EXPECT_EQ(flag.mode(), v1::MODE_DATABASE) << "a target without a flag";
  request.set_tenant("stranger");
  ExpectRefused(get(), grpc::StatusCode::NOT_FOUND, "tenant stranger");
}

TEST_F(AdminServicesTest, FlagsAreListedByFilter) {
  Publish();
  v1::ListFlagsRequest request;
  v1::ListFlagsResponse response;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(flag_stub_->ListFlags(&context, request, &response).ok());
  }
  EXPECT_EQ(response.revision(), 4u);
  EXPECT_EQ(response.flags_size(), 1);
  request.set_tenant("zen");
  grpc::ClientContext context;
  ASSERT_TRUE(flag_stub_->ListFlags(&context, request, &response).ok());
  EXPECT_EQ(response.flags_size(), 0);
}

TEST_F(AdminServicesTest, DivergencesAreListedWithinLimits) {
  v1::ListDivergencesRequest request;
  v1::ListDivergencesResponse response;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(divergence_stub_->ListDivergences(&context, request, &response).ok());
  }
  EXPECT_EQ(response.divergences_size(), 2);
  EXPECT_EQ(evidence_.limit(), 50u);
  request.set_limit(501);
  grpc::ClientContext context;
  ExpectRefused(divergence_stub_->ListDivergences(&context, request, &response), grpc::StatusCode::INVALID_ARGUMENT,
                "limit: 501");
  v1::ListDivergenceGroupsRequest groups;
  groups.set_limit(500);
  v1::ListDivergenceGroupsResponse listed;
  grpc::ClientContext groups_context;
  ASSERT_TRUE(divergence_stub_->ListDivergenceGroups(&groups_context, groups, &listed).ok());
  EXPECT_EQ(listed.groups(0).fingerprint(), "00ff");
  EXPECT_EQ(evidence_.limit(), 500u);
}

TEST_F(AdminServicesTest, ADivergenceIsFoundByItsId) {
  v1::GetDivergenceRequest request;
  request.set_id("d1");
  v1::Divergence divergence;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(divergence_stub_->GetDivergence(&context, request, &divergence).ok());
  }
  EXPECT_EQ(divergence.id(), "d1");
  EXPECT_EQ(divergence.key(), "revealed");
  request.set_id("d2");
  grpc::ClientContext context;
  ExpectRefused(divergence_stub_->GetDivergence(&context, request, &divergence), grpc::StatusCode::NOT_FOUND, "d2");
}

TEST_F(AdminServicesTest, ADivergenceIsReplayedByItsId) {
  v1::ReplayDivergenceRequest request;
  v1::ReplayDivergenceResponse response;
  const auto replay = [&] {
    grpc::ClientContext context;
    return divergence_stub_->ReplayDivergence(&context, request, &response);
  };
  ExpectRefused(replay(), grpc::StatusCode::INVALID_ARGUMENT, "id: is missing");
  request.set_id("d2");
  ExpectRefused(replay(), grpc::StatusCode::NOT_FOUND, "d2");
  request.set_id("d1");
  ASSERT_TRUE(replay().ok());
  EXPECT_EQ(response.id(), "d1");
  EXPECT_EQ(response.verdict(), "matched");
}

TEST_F(AdminServicesTest, AReportNeedsAFamilyButNoRollout) {
  v1::GetReportRequest request;
  request.set_family("pricing");
  v1::Report report;
  const auto get = [&] {
    grpc::ClientContext context;
    return divergence_stub_->GetReport(&context, request, &report);
  };
  ExpectRefused(get(), grpc::StatusCode::NOT_FOUND, "family pricing");
  ASSERT_TRUE(Apply(kCatalog).ok());
  ASSERT_TRUE(get().ok());
  EXPECT_EQ(report.catalog_revision(), 1u);
  EXPECT_EQ(report.ledger().sampled(), 5u);
  EXPECT_EQ(report.flips_size(), 1);
  EXPECT_EQ(report.targets_size(), 0);
  ASSERT_EQ(report.noise_size(), 1);
  EXPECT_EQ(report.noise(0).pattern(), "/rank: value");
  EXPECT_EQ(report.noise(0).low_ppm(), 0u);
  EXPECT_EQ(report.noise(0).high_ppm(), 161'125u);
  StartRollout();
  request.set_family("r1");
  ExpectRefused(get(), grpc::StatusCode::NOT_FOUND, "family r1");
}

TEST_F(AdminServicesTest, AnInvalidationReturnsOnceTheFencesStand) {
  ExpectRefused(Invalidate("acme", {"a"}), grpc::StatusCode::UNAVAILABLE, "no flags yet");
  Publish();
  uint64_t fenced = 0;
  ASSERT_TRUE(Invalidate("acme", {"a", "b"}, &fenced).ok());
  EXPECT_EQ(fenced, 2u);
  ExpectRefused(Invalidate("stranger", {"a"}), grpc::StatusCode::NOT_FOUND, "tenant stranger");
  EXPECT_EQ(Invalidate("acme", {}).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Invalidate("acme", {""}).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Invalidate("", {"a"}).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  invalidate_ = [](std::vector<cache::TenantTag>, Admin::Invalidated done) {
    done(absl::UnavailableError("redis is away"));
  };
  ExpectRefused(Invalidate("acme", {"a"}), grpc::StatusCode::UNAVAILABLE, "redis is away");
}

TEST_F(AdminServicesTest, AnInvalidationWhoseCallbackIsDroppedEnds) {
  Publish();
  invalidate_ = [](std::vector<cache::TenantTag>, Admin::Invalidated) {};
  ExpectRefused(Invalidate("acme", {"a"}), grpc::StatusCode::UNAVAILABLE, "shutting down");
}

TEST_F(AdminServicesTest, AWarmingSaysHowManyKeysAreLoaded) {
  ExpectRefused(Warm("acme", {"a"}), grpc::StatusCode::UNAVAILABLE, "no flags yet");
  Publish();
  uint64_t keys = 0;
  ASSERT_TRUE(Warm("acme", {"a", "b"}, &keys).ok());
  EXPECT_EQ(keys, 20u);
  ExpectRefused(Warm("stranger", {"a"}), grpc::StatusCode::NOT_FOUND, "tenant stranger");
  EXPECT_EQ(Warm("acme", {}).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Warm("", {"a"}).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  warm_ = [](std::vector<cache::TenantTag>, Admin::Warmed done) { done(absl::ResourceExhaustedError("it is full")); };
  ExpectRefused(Warm("acme", {"a"}), grpc::StatusCode::RESOURCE_EXHAUSTED, "it is full");
  warm_ = [](std::vector<cache::TenantTag>, Admin::Warmed) {};
  ExpectRefused(Warm("acme", {"a"}), grpc::StatusCode::UNAVAILABLE, "shutting down");
}

TEST_F(AdminServicesTest, InvalidationsAreBounded) {
  Publish();
  std::vector<Admin::Invalidated> held;
  base::Mutex mutex;
  const auto two_held = [&] { return held.size() == 2; };
  invalidate_ = [&](std::vector<cache::TenantTag>, Admin::Invalidated done) {
    base::MutexLock lock(&mutex);
    held.push_back(std::move(done));
  };
  std::vector<std::thread> callers;
  for (int i = 0; i < 2; ++i) callers.emplace_back([&] { EXPECT_TRUE(Invalidate("acme", {"a"}).ok()); });
  {
    base::MutexLock lock(&mutex);
    mutex.Await(absl::Condition(&two_held));
  }
  ExpectRefused(Invalidate("acme", {"a"}), grpc::StatusCode::RESOURCE_EXHAUSTED, "too many invalidations");
  for (Admin::Invalidated& done : held) done(absl::OkStatus());
  for (std::thread& caller : callers) caller.join();
  held.clear();
  invalidate_ = [](std::vector<cache::TenantTag>, Admin::Invalidated done) { done(absl::OkStatus()); };
  EXPECT_TRUE(Invalidate("acme", {"a"}).ok()) << "room again";
}

TEST_F(AdminServicesTest, APurgeReturnsHowManyTargetsBeganANewEpoch) {
  Publish();
  ASSERT_TRUE(Apply(kCatalog).ok());
  v1::PurgeRequest purged;
  purge_ = [&](const v1::PurgeRequest& request, Admin::Purged done) {
    purged = request;
    done(7);
  };
  v1::PurgeResponse response;
  ASSERT_TRUE(Purge("pricing", "acme", "a partition was dropped", &response).ok());
  EXPECT_EQ(response.targets(), 7u);
  EXPECT_EQ(purged.family(), "pricing");
  EXPECT_EQ(purged.tenant(), "acme");
  EXPECT_EQ(purged.who(), "unknown");
  EXPECT_EQ(purged.reason(), "a partition was dropped");
  purge_ = [](const v1::PurgeRequest&, Admin::Purged done) { done(absl::UnavailableError("the database is away")); };
  ExpectRefused(Purge("pricing", "", "x"), grpc::StatusCode::UNAVAILABLE, "the database is away");
  purge_ = [](const v1::PurgeRequest&, Admin::Purged) {};
  ExpectRefused(Purge("pricing", "", "x"), grpc::StatusCode::UNAVAILABLE, "shutting down");
}

TEST_F(AdminServicesTest, APurgeThatCannotBeMeantDropsNothing) {
  purge_ = [](const v1::PurgeRequest&, Admin::Purged) { FAIL() << "it was refused"; };
  ExpectRefused(Purge("pricing", "", "x"), grpc::StatusCode::UNAVAILABLE, "no flags yet");
  Publish();
  ExpectRefused(Purge("pricing", "", "x"), grpc::StatusCode::NOT_FOUND, "family pricing");
  ASSERT_TRUE(Apply(kCatalog).ok());
  ExpectRefused(Purge("", "", "x"), grpc::StatusCode::INVALID_ARGUMENT, "family: is missing");
  ExpectRefused(Purge("pricing", "", ""), grpc::StatusCode::INVALID_ARGUMENT, "reason: is missing");
  ExpectRefused(Purge("pricing", "", std::string(2000, 'x')), grpc::StatusCode::INVALID_ARGUMENT,
                "reason: is too long");
  ExpectRefused(Purge("nope", "", "x"), grpc::StatusCode::NOT_FOUND, "family nope");
  ExpectRefused(Purge("pricing", "stranger", "x"), grpc::StatusCode::NOT_FOUND, "tenant stranger");
}

TEST_F(AdminServicesTest, AnInspectionNamesTheTenantAndTheEndpoint) {
  v1::InspectRequest request;
  v1::InspectResponse response;
  const auto inspect = [&] {
    grpc::ClientContext context;
    return cache_stub_->Inspect(&context, request, &response);
  };
  ExpectRefused(inspect(), grpc::StatusCode::INVALID_ARGUMENT, "tenant: is missing");
  request.set_tenant("acme");
  ExpectRefused(inspect(), grpc::StatusCode::INVALID_ARGUMENT, "endpoint: is missing");
  request.set_endpoint("pricing/quote");
  ASSERT_TRUE(inspect().ok());
  EXPECT_EQ(response.key(), "acme/pricing/quote");
}

TEST_F(AdminServicesTest, PurgesAreBounded) {
  Publish();
  ASSERT_TRUE(Apply(kCatalog).ok());
  Admin::Purged held;
  base::Mutex mutex;
  const auto one_held = [&] { return held != nullptr; };
  purge_ = [&](const v1::PurgeRequest&, Admin::Purged done) {
    base::MutexLock lock(&mutex);
    held = std::move(done);
  };
  std::thread caller([&] { EXPECT_TRUE(Purge("pricing", "", "x").ok()); });
  {
    base::MutexLock lock(&mutex);
    mutex.Await(absl::Condition(&one_held));
  }
  ExpectRefused(Purge("pricing", "", "x"), grpc::StatusCode::RESOURCE_EXHAUSTED, "too many purges");
  held(1);
  caller.join();
}

class WatchTest : public AdminServicesTest {
 protected:
  std::unique_ptr<grpc::ClientReader<v1::Rollout>> Watch(grpc::ClientContext* context,
                                                         const std::string& rollout = "pricing") {
    v1::GetRolloutRequest request;
    request.set_rollout(rollout);
    return rollout_stub_->WatchRollout(context, request);
  }
};

TEST_F(WatchTest, AWatchShowsEachChangeAndEndsAfterTheLast) {
  StartRollout();
  grpc::ClientContext context;
  const auto watch = Watch(&context);
  v1::Rollout rollout;
  ASSERT_TRUE(watch->Read(&rollout));
  EXPECT_EQ(rollout.state(), v1::ROLLOUT_STATE_RUNNING);

  rollouts_.SetState(rollout::RolloutState::kPaused);
  ASSERT_TRUE(watch->Read(&rollout));
  EXPECT_EQ(rollout.state(), v1::ROLLOUT_STATE_PAUSED);  // Looks that saw no change in between have sent nothing.

  rollouts_.SetState(rollout::RolloutState::kSettled);
  ASSERT_TRUE(watch->Read(&rollout));
  EXPECT_EQ(rollout.state(), v1::ROLLOUT_STATE_SETTLED);
  EXPECT_FALSE(watch->Read(&rollout));
  EXPECT_TRUE(watch->Finish().ok());
  EXPECT_GE(rollouts_.looks(), 3);
}

TEST_F(WatchTest, AWatchOfNothingIsNotFound) {
  grpc::ClientContext context;
  const auto watch = Watch(&context, "nope");
  v1::Rollout rollout;
  EXPECT_FALSE(watch->Read(&rollout));
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(WatchTest, ACancelledWatchEndsAndMakesRoom) {
  StartRollout();
  for (int round = 0; round < 20; ++round) {  // Far more than may be open at once.
    v1::Rollout rollout;
    bool watched = false;
    while (!watched) {  // The last one's end may still be under way.
      grpc::ClientContext context;
      const auto watch = Watch(&context);
      watched = watch->Read(&rollout);
      if (watched) context.TryCancel();
      const grpc::Status status = watch->Finish();
      if (!watched) {
        ASSERT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
      }
    }
  }
}

TEST_F(WatchTest, WatchesAreBounded) {
  StartRollout();
  grpc::ClientContext contexts[3];
  v1::Rollout rollout;
  const auto first = Watch(&contexts[0]);
  ASSERT_TRUE(first->Read(&rollout));
  const auto second = Watch(&contexts[1]);
  ASSERT_TRUE(second->Read(&rollout));
  const auto third = Watch(&contexts[2]);
  EXPECT_FALSE(third->Read(&rollout));
  ExpectRefused(third->Finish(), grpc::StatusCode::RESOURCE_EXHAUSTED, "too many rollouts are watched");
  services_->StopWatches();
  EXPECT_FALSE(first->Read(&rollout));
  EXPECT_EQ(first->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_FALSE(second->Read(&rollout));
  EXPECT_EQ(second->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(WatchTest, ADrainEndsWatchesAndRefusesNewOnes) {
  StartRollout();
  grpc::ClientContext context;
  const auto watch = Watch(&context);
  v1::Rollout rollout;
  ASSERT_TRUE(watch->Read(&rollout));
  services_->StopWatches();
  EXPECT_FALSE(watch->Read(&rollout));
  ExpectRefused(watch->Finish(), grpc::StatusCode::UNAVAILABLE, "shutting down");
  grpc::ClientContext late_context;
  const auto late = Watch(&late_context);
  EXPECT_FALSE(late->Read(&rollout));
  ExpectRefused(late->Finish(), grpc::StatusCode::UNAVAILABLE, "shutting down");
}

}  // namespace
}  // namespace shadowline::server
