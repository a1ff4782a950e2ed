#include "tests/verdicts/world.h"

#include <pqxx/pqxx>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cache/catalog/parse.h"
#include "cache/key/key.h"
#include "tests/support/await.h"

namespace shadowline::verdicts {
namespace {

namespace v1 = shadowline::v1;

void Check(const std::string& step, const grpc::Status& status) {
  if (status.ok()) return;
  throw std::runtime_error(absl::StrCat(step, ": ", status.error_code(), " ", status.error_message()));
}

void SetTimeout(grpc::ClientContext* context) { context->set_deadline(absl::ToChronoTime(absl::Now() + kLimit)); }

// Commands are refused for a moment while the controller changes the rollout.
template <typename Call>
grpc::Status Command(const std::string& family, const std::string& tenant, Call call) {
  grpc::Status status;
  (void)support::AwaitTrue(kLimit, [&] {
    v1::RolloutCommand command;
    command.set_rollout(family);
    command.set_tenant(tenant);
    command.set_who("operator");
    command.set_reason("to see what comes of it");
    v1::Rollout rollout;
    grpc::ClientContext context;
    SetTimeout(&context);
    status = call(&context, command, &rollout);
    return status.error_code() != grpc::StatusCode::ABORTED &&
           status.error_code() != grpc::StatusCode::RESOURCE_EXHAUSTED;
  });
  return status;
}

}  // namespace

Operator::Operator(const std::shared_ptr<grpc::Channel>& channel)
    : rollouts_(v1::RolloutService::NewStub(channel)),
      flags_(v1::FlagService::NewStub(channel)),
      divergences_(v1::DivergenceService::NewStub(channel)) {}

void Operator::Start(const std::string& family, const std::vector<std::vector<std::string>>& cohorts) {
  v1::StartRolloutRequest request;
  request.set_family(family);
  for (const std::vector<std::string>& tenants : cohorts) {
    v1::Cohort* cohort = request.add_cohorts();
    cohort->set_name(absl::StrCat("cohort-", request.cohorts_size()));
    cohort->mutable_tenants()->Assign(tenants.begin(), tenants.end());
  }
  v1::Rollout rollout;
  grpc::ClientContext context;
  SetTimeout(&context);
  Check("start " + family, rollouts_->StartRollout(&context, request, &rollout));
}

v1::Rollout Operator::Rollout(const std::string& family) {
  v1::GetRolloutRequest request;
  request.set_rollout(family);
  v1::Rollout rollout;
  grpc::ClientContext context;
  SetTimeout(&context);
  Check("rollout " + family, rollouts_->GetRollout(&context, request, &rollout));
  return rollout;
}

grpc::Status Operator::Approve(const std::string& family) {
  return Command(family, "", [&](auto... call) { return rollouts_->ApproveRollout(call...); });
}
grpc::Status Operator::Promote(const std::string& family, const std::string& tenant) {
  return Command(family, tenant, [&](auto... call) { return rollouts_->PromoteRollout(call...); });
}
grpc::Status Operator::Abort(const std::string& family) {
  return Command(family, "", [&](auto... call) { return rollouts_->AbortRollout(call...); });
}

v1::Mode Operator::Mode(const std::string& tenant, const std::string& family) {
  v1::GetFlagRequest request;
  request.set_tenant(tenant);
  request.set_family(family);
  v1::Flag flag;
  grpc::ClientContext context;
  SetTimeout(&context);
  Check("flag", flags_->GetFlag(&context, request, &flag));
  return flag.mode();
}

void Operator::Bring(const std::string& tenant, const std::string& family, v1::Mode mode) {
  const bool brought = support::AwaitTrue(kLimit, [&] {
    if (Mode(tenant, family) == mode) return true;
    if (mode == v1::MODE_CACHE) (void)Promote(family, tenant);
    return false;
  });
  if (!brought)
    throw std::runtime_error(absl::StrCat(tenant, " of ", family, " does not come to ", v1::Mode_Name(mode)));
}

std::vector<v1::Divergence> Operator::Divergences(const std::string& family) {
  v1::ListDivergencesRequest request;
  request.set_family(family);
  request.set_limit(500);
  v1::ListDivergencesResponse response;
  grpc::ClientContext context;
  SetTimeout(&context);
  Check("divergences", divergences_->ListDivergences(&context, request, &response));
  return {response.divergences().begin(), response.divergences().end()};
}

v1::Divergence Operator::Divergence(const std::string& id) {
  v1::GetDivergenceRequest request;
  request.set_id(id);
  v1::Divergence divergence;
  grpc::ClientContext context;
  SetTimeout(&context);
  Check("divergence", divergences_->GetDivergence(&context, request, &divergence));
  return divergence;
}

v1::Report Operator::Report(const std::string& family) {
  v1::GetReportRequest request;
  request.set_family(family);
  v1::Report report;
  grpc::ClientContext context;
  SetTimeout(&context);
  Check("report", divergences_->GetReport(&context, request, &report));
  return report;
}

World::World(const Options& options)
    : hurried_(options.hurried),
      extra_config_(options.extra_config),
      role_(options.role),
      database_(postgres_.CreateDatabase()) {
  {
    pqxx::connection connection(source());
    pqxx::work work(connection);
    work.exec(options.schema);
    work.commit();
  }
  if (options.own_state) {
    own_state_ = std::make_unique<support::PrivatePostgres>();
    state_database_ = own_state_->CreateDatabase();
  }
  if (options.standby) {
    standby_ = std::make_unique<support::PrivatePostgres>(postgres_,
                                                          std::vector<std::string>{"recovery_min_apply_delay = '2s'"});
  }
  for (size_t i = 0; i < options.replicas; ++i) {
    nodes_.push_back(std::make_unique<support::Node>(NodeOptions(absl::StrCat("replica-", i))));
  }
  nodes_[0]->Apply(options.catalog);
  for (auto& node : nodes_) node->server.AwaitReady();
  operator_ = std::make_unique<Operator>(nodes_[0]->channel);
  auto catalog = cache::ParseCatalog(options.catalog, 1);
  if (!catalog.ok()) throw std::runtime_error(std::string(catalog.status().message()));
  catalog_ = *std::move(catalog);
}

std::string World::state_source() const {
  return own_state_ == nullptr ? source() : own_state_->ConnectionString(state_database_);
}

support::Shadowlined::Options World::NodeOptions(const std::string& name) const {
  std::string config = absl::StrCat("lanes: 1\nevidence: {", hurried_ ? "flush: 100ms, " : "",
                                    "key: the-key-of-a-test-of-32-bytes-xx}\n",
                                    hurried_ ? "controller: {tick: 100ms}\n" : "", extra_config_);
  if (own_state_ != nullptr) absl::StrAppend(&config, "state: {url: \"", state_source(), "\"}\n");
  return {.name = name,
          .source = source(),
          .redis = "unix:" + redis_.socket(),
          .role = role_,
          .extra_config = config,
          .await_ready = false};
}

std::unique_ptr<support::Node> World::AnotherNode(const std::string& name) const {
  return std::make_unique<support::Node>(NodeOptions(name));
}

std::vector<std::shared_ptr<grpc::Channel>> World::channels() const {
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (const auto& node : nodes_) channels.push_back(node->channel);
  return channels;
}

std::string World::CacheKey(const v1::ReadRequest& request) {
  const cache::Endpoint* endpoint = catalog_->Find(request.endpoint());
  return cache::CacheKey(*endpoint, request.tenant(), nodes_[0]->Epoch(request.tenant(), endpoint->family),
                         cache::CanonicalArguments(*endpoint, request).value());
}

double World::Metric(const std::string& name, const std::string& label) const {
  double sum = 0;
  for (const auto& node : nodes_) sum += node->Metric(name, label);
  return sum;
}

std::string World::Logs() const {
  std::string logs;
  for (const auto& node : nodes_) absl::StrAppend(&logs, node->server.Log(), "\n");
  return logs;
}

v1::ReadRequest RequestOf(const std::string& endpoint, const Question& question) {
  v1::ReadRequest request;
  request.set_tenant(question.tenant);
  request.set_endpoint(endpoint);
  auto* id = request.add_parameters();
  id->set_name("id");
  id->mutable_value()->set_integer(question.id);
  if (!question.who.empty()) {
    auto* who = request.add_parameters();
    who->set_name("who");
    who->mutable_value()->set_text(question.who);
  }
  return request;
}

void Pass(const base::Clock& clock, absl::Duration duration) {
  const absl::Duration until = clock.Steady() + duration;
  (void)support::AwaitTrue(duration + kLimit, [&] { return clock.Steady() >= until; });
}

}  // namespace shadowline::verdicts
