// An endpoint whose statement makes up a field, against the real `shadowlined`, Redis and PostgreSQL: what is made up
// is measured, shown, and never held against the cache; what is stale beside it is found.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <pqxx/pqxx>
#include <string>

#include "absl/strings/str_cat.h"
#include "shadowline/v1/catalog.grpc.pb.h"
#include "shadowline/v1/divergence.grpc.pb.h"
#include "shadowline/v1/read.grpc.pb.h"
#include "shadowline/v1/rollout.grpc.pb.h"
#include "tests/support/await.h"
#include "tests/support/private_servers.h"
#include "tests/support/shadowlined.h"

namespace shadowline {
namespace {

using support::AwaitTrue;
using testing::ElementsAre;

constexpr absl::Duration kLimit = absl::Seconds(60);
constexpr int kItems = 10;
constexpr char kCatalog[] = R"(version: 1
tenants: {list: [acme]}
families:
  pricing:
    policy: {duration: 1h, episodes: 1000000}
    endpoints:
      quote:
        sql: SELECT id, price, random() AS rank FROM item WHERE tenant = :tenant AND id = :id
        parameters: {id: {type: integer}}
        tags: ["item:{id}"]
        freshness: 200ms
        ttl: 10m
        noise_ppm: 500000
)";

class NoiseReplicaTest : public testing::Test {
 protected:
  NoiseReplicaTest() : database_(postgres_.CreateDatabase()), connection_(postgres_.ConnectionString(database_)) {
    Sql("CREATE TABLE item (tenant text, id bigint, price bigint NOT NULL, PRIMARY KEY (tenant, id))");
    Sql(absl::StrCat("INSERT INTO item SELECT 'acme', id, 100 FROM generate_series(1, ", kItems, ") id"));
    server_ = std::make_unique<support::Shadowlined>(
        support::Shadowlined::Options{.source = postgres_.ConnectionString(database_),
                                      .redis = "unix:" + redis_.socket(),
                                      .extra_config = "controller: {tick: 100ms}\nevidence: {flush: 100ms}\n",
                                      .await_ready = false});
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    v1::ApplyCatalogRequest request;
    request.set_yaml(kCatalog);
    v1::ApplyCatalogResponse response;
    const grpc::Status applied = v1::CatalogService::NewStub(channel_)->ApplyCatalog(&context, request, &response);
    EXPECT_TRUE(applied.ok()) << applied.error_message();
    server_->AwaitReady();
  }

  void Sql(const std::string& sql) { pqxx::nontransaction(connection_).exec(sql); }

  void StartRollout() {
    grpc::ClientContext context;
    v1::StartRolloutRequest request;
    request.set_family("pricing");
    auto* cohort = request.add_cohorts();
    cohort->set_name("all");
    cohort->set_share_ppm(1'000'000);
    v1::Rollout rollout;
    const grpc::Status status = v1::RolloutService::NewStub(channel_)->StartRollout(&context, request, &rollout);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  void ReadAll() {
    const auto stub = v1::ReadService::NewStub(channel_);
    for (int id = 1; id <= kItems; ++id) {
      grpc::ClientContext context;
      v1::ReadRequest request;
      request.set_tenant("acme");
      request.set_endpoint("pricing/quote");
      auto* parameter = request.add_parameters();
      parameter->set_name("id");
      parameter->mutable_value()->set_integer(id);
      v1::ReadResponse response;
      const grpc::Status status = stub->Read(&context, request, &response);
      EXPECT_TRUE(status.ok()) << status.error_message();
    }
  }

  v1::Report Report() {
    grpc::ClientContext context;
    v1::GetReportRequest request;
    request.set_family("pricing");
    v1::Report report;
    const grpc::Status status = v1::DivergenceService::NewStub(channel_)->GetReport(&context, request, &report);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return report;
  }

  support::PrivatePostgres postgres_{{"wal_level = logical"}};
  support::PrivateRedis redis_;
  const std::string database_;
  pqxx::connection connection_;
  std::unique_ptr<support::Shadowlined> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(NoiseReplicaTest, WhatIsMadeUpIsShownAndWhatIsStaleBesideItIsFound) {
  StartRollout();
  v1::Report report;
  ASSERT_TRUE(AwaitTrue(kLimit,
                        [&] {
                          ReadAll();
                          report = Report();
                          return report.ledger().inconclusive() >= 2 * kItems && report.noise_size() == 2 &&
                                 report.noise(0).pairs() >= 30;
                        }))
      << report.DebugString() << server_->Log();
  EXPECT_EQ(report.ledger().confirmed(), 0u);
  EXPECT_EQ(report.groups_size(), 0);
  EXPECT_EQ(report.noise(0).endpoint(), "pricing/quote");
  EXPECT_EQ(report.noise(0).pattern(), "");
  EXPECT_EQ(report.noise(1).pattern(), "/rank: value");
  EXPECT_EQ(report.noise(1).pairs(), report.noise(0).pairs());
  EXPECT_EQ(report.noise(1).differed(), report.noise(1).pairs());
  EXPECT_GT(report.noise(1).low_ppm(), 850'000u);
  EXPECT_EQ(report.noise(1).high_ppm(), 1'000'000u);

  Sql("UPDATE item SET price = 101 WHERE id = 3");  // And nobody says so.
  ASSERT_TRUE(AwaitTrue(kLimit,
                        [&] {
                          ReadAll();
                          report = Report();
                          return report.groups_size() > 0;
                        }))
      << report.DebugString() << server_->Log();
  ASSERT_EQ(report.groups_size(), 1);
  EXPECT_THAT(report.groups(0).patterns(), ElementsAre("/price: value"));
  EXPECT_EQ(report.groups(0).keys(), 1u);
  EXPECT_EQ(report.groups(0).cause(), "missed_invalidation");
}

}  // namespace
}  // namespace shadowline
