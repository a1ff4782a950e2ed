#include "tests/bench/promoted_server.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <pqxx/pqxx>
#include <utility>

#include "absl/strings/str_cat.h"
#include "shadowline/v1/catalog.grpc.pb.h"
#include "shadowline/v1/flags.grpc.pb.h"
#include "shadowline/v1/read.grpc.pb.h"
#include "shadowline/v1/rollout.grpc.pb.h"

namespace shadowline::bench {
namespace {

void Check(const std::string& step, const grpc::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s: %d %s\n", step.c_str(), status.error_code(), status.error_message().c_str());
  std::abort();
}

std::string CatalogOf(const std::vector<PromotedServer::Family>& families) {
  std::string yaml = "version: 1\ntenants:\n  list: [t1]\nfamilies:\n";
  for (const auto& family : families) {
    absl::StrAppend(
        &yaml, "  ", family.name, ":\n    endpoints:\n      value:\n",
        "        sql: SELECT body FROM item WHERE tenant = :tenant AND id = :id\n",
        "        parameters: {id: {type: integer}}\n        tags: [\"item:{id}\"]\n        ttl: 24h\n",
        "        near: ", family.near ? "true" : "false", "\n",
        "    policy: {ramp_ppm: [1000000], shadow_sample_ppm: 1000000, cache_sample_ppm: ", family.sample_ppm, "}\n");
  }
  return yaml;
}

}  // namespace

PromotedServer::PromotedServer(const std::vector<Family>& families, std::vector<std::string> wrapper)
    : database_(postgres_.CreateDatabase()) {
  {
    pqxx::connection connection(postgres_.ConnectionString(database_));
    pqxx::work work(connection);
    work.exec("CREATE TABLE item (tenant text, id bigint, body text NOT NULL, PRIMARY KEY (tenant, id))");
    // {"body":"..."} is 11 bytes around the text.
    work.exec(absl::StrCat("INSERT INTO item SELECT 't1', i, repeat('x', ", kBodyBytes - 11,
                           ") FROM generate_series(1, 1000) i"));
    work.commit();
  }
  server_ = std::make_unique<support::Shadowlined>(
      support::Shadowlined::Options{.name = "bench",
                                    .source = postgres_.ConnectionString(database_),
                                    .redis = "unix:" + redis_.socket(),
                                    .extra_config = "lanes: 1\n",
                                    .wrapper = std::move(wrapper),
                                    .await_ready = false});
  const auto channel = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
  const auto catalog = shadowline::v1::CatalogService::NewStub(channel);
  const auto rollouts = shadowline::v1::RolloutService::NewStub(channel);
  const auto reads = shadowline::v1::ReadService::NewStub(channel);

  shadowline::v1::ApplyCatalogRequest apply;
  apply.set_yaml(CatalogOf(families));
  shadowline::v1::ApplyCatalogResponse applied;
  {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    Check("apply", catalog->ApplyCatalog(&context, apply, &applied));
  }
  server_->AwaitReady();
  for (const Family& family : families) {
    if (family.database) continue;
    shadowline::v1::StartRolloutRequest start;
    start.set_family(family.name);
    auto* cohort = start.add_cohorts();
    cohort->set_name("all");
    cohort->set_share_ppm(1'000'000);
    shadowline::v1::Rollout rollout;
    {
      grpc::ClientContext context;
      Check("start", rollouts->StartRollout(&context, start, &rollout));
    }
    const auto mode = family.cache ? shadowline::v1::MODE_CACHE : shadowline::v1::MODE_SHADOW;
    // The controller opens the cohort's windows on its next tick; only then can its target be promoted.
    for (int i = 0;; ++i) {
      shadowline::v1::GetRolloutRequest get;
      get.set_rollout(rollout.id());
      grpc::ClientContext context;
      Check("get", rollouts->GetRollout(&context, get, &rollout));
      if (rollout.targets_size() == 1 && rollout.targets(0).mode() == mode) break;
      if (rollout.targets_size() == 1 && rollout.targets(0).mode() == shadowline::v1::MODE_SHADOW) {
        shadowline::v1::RolloutCommand promote;
        promote.set_rollout(rollout.id());
        promote.set_who("bench");
        promote.set_reason("benchmark");
        grpc::ClientContext promote_context;
        rollouts->PromoteRollout(&promote_context, promote, &rollout);  // Tried again while it changes meanwhile.
      }
      if (i > 600) Check("promote", grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, rollout.DebugString()));
      usleep(100'000);  // Waits for another process.
    }
    // The flag has to reach the replica, and the value the cache.
    const auto source = !family.cache ? shadowline::v1::SOURCE_DATABASE
                        : family.near ? shadowline::v1::SOURCE_NEAR_CACHE
                                      : shadowline::v1::SOURCE_CACHE;
    for (int i = 0;; ++i) {
      shadowline::v1::ReadRequest request;
      request.ParseFromString(Request(family.name, 1));
      shadowline::v1::ReadResponse response;
      grpc::ClientContext context;
      Check("read", reads->Read(&context, request, &response));
      if (response.source() == source && response.body().size() == kBodyBytes) break;
      if (i > 600) Check("warm", grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, response.ShortDebugString()));
      usleep(100'000);
    }
  }
}

std::string PromotedServer::Request(const std::string& family, int64_t id) {
  shadowline::v1::ReadRequest request;
  request.set_tenant("t1");
  request.set_endpoint(family + "/value");
  auto* parameter = request.add_parameters();
  parameter->set_name("id");
  parameter->mutable_value()->set_integer(id);
  return request.SerializeAsString();
}

}  // namespace shadowline::bench
