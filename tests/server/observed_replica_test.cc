// Observed endpoints against two real `shadowlined`: an application that reads both sides itself is promoted on what it
// reports; then its cache grows stale, which is confirmed by its own second look, and it is told to read the database
// again. Every call goes to another replica than the one before.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "shadowline/v1/divergence.grpc.pb.h"
#include "shadowline/v1/rollout.grpc.pb.h"
#include "tests/support/await.h"
#include "tests/support/node.h"
#include "tests/support/observed_client.h"
#include "tests/support/private_servers.h"

namespace shadowline {
namespace {

using support::AwaitTrue;
using support::ObservedSide;
using testing::HasSubstr;

constexpr absl::Duration kLimit = absl::Seconds(60);
constexpr int kItems = 12;
const std::vector<std::string> kTenants = {"acme", "globex"};

constexpr char kCatalog[] = R"(version: 1
tenants: {list: [acme, globex]}
families:
  stock:
    policy: {duration: 1s, episodes: 20, distinct_keys: 10, exercised: 10, slo_ppm: 300000, candidate_p95: 10s,
             soak: 1ms, ramp_ppm: [1000000], cache_sample_ppm: 1000000}
    endpoints:
      level:
        observed: true
        parameters: {id: {type: integer}}
        freshness: 500ms
)";

class ObservedReplicaTest : public testing::Test {
 protected:
  ObservedReplicaTest() {
    const std::string database = postgres_.CreateDatabase();
    for (const char* name : {"one", "two"}) {
      nodes_.push_back(std::make_unique<support::Node>(support::Shadowlined::Options{
          .name = name,
          .source = postgres_.ConnectionString(database),
          .redis = "unix:" + redis_.socket(),
          .extra_config = "controller: {tick: 100ms}\nevidence: {flush: 100ms, lapse: 2s}\n"
                          "verification: {redaction_secret: the secret of both replicas}\n",
          .await_ready = false}));
    }
    nodes_[0]->Apply(kCatalog);
    for (const auto& node : nodes_) node->server.AwaitReady();
    for (const std::string& tenant : kTenants) {
      for (int id = 1; id <= kItems; ++id) cache_[Key(Request(tenant, id))] = database_[Key(Request(tenant, id))] = 1;
    }
    client_ = std::make_unique<support::ObservedClient>(
        std::vector<std::shared_ptr<grpc::Channel>>{nodes_[0]->channel, nodes_[1]->channel},
        [this](const v1::ReadRequest& request) { return Side(cache_, request); },
        [this](const v1::ReadRequest& request) { return Side(database_, request); });
  }

  // ---- The application ----

  static v1::ReadRequest Request(const std::string& tenant, int id) {
    v1::ReadRequest request;
    request.set_tenant(tenant);
    request.set_endpoint("stock/level");
    auto* parameter = request.add_parameters();
    parameter->set_name("id");
    parameter->mutable_value()->set_integer(id);
    return request;
  }
  static std::string Key(const v1::ReadRequest& request) {
    return absl::StrCat(request.tenant(), "/", request.parameters(0).value().integer());
  }
  static ObservedSide Side(const std::map<std::string, int>& side, const v1::ReadRequest& request) {
    const auto found = side.find(Key(request));
    if (found == side.end()) return {v1::OBSERVED_OUTCOME_MISS};
    return {v1::OBSERVED_OUTCOME_FOUND, absl::StrCat(R"({"level":)", found->second, "}")};
  }
  void Write(const std::string& tenant, int id, bool to_cache = true) {
    const std::string key = Key(Request(tenant, id));
    ++database_[key];
    if (to_cache) cache_[key] = database_[key];
  }
  void ReadAll() {
    for (const std::string& tenant : kTenants) {
      for (int id = 1; id <= kItems; ++id) client_->Read(Request(tenant, id));
    }
    client_->LookAgain();
  }
  // Where `tenant` is told to read item 1 from, by both replicas.
  bool Decided(const std::string& tenant, v1::Source source) {
    for (size_t i = 0; i < 2 * nodes_.size(); ++i) {  // A verified read makes two calls.
      client_->Read(Request(tenant, 1));
      if (client_->last_decision().source() != source) return false;
    }
    return true;
  }

  // ---- The operator ----

  void StartRollout() {
    grpc::ClientContext context;
    v1::StartRolloutRequest request;
    request.set_family("stock");
    auto* cohort = request.add_cohorts();
    cohort->set_name("all");
    cohort->set_share_ppm(1'000'000);
    v1::Rollout rollout;
    const grpc::Status status =
        v1::RolloutService::NewStub(nodes_[0]->channel)->StartRollout(&context, request, &rollout);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  std::vector<v1::Divergence> Divergences() {
    grpc::ClientContext context;
    v1::ListDivergencesRequest request;
    request.set_family("stock");
    v1::ListDivergencesResponse response;
    EXPECT_TRUE(v1::DivergenceService::NewStub(nodes_[1]->channel)->ListDivergences(&context, request, &response).ok());
    return {response.divergences().begin(), response.divergences().end()};
  }
  v1::Report Report() {
    grpc::ClientContext context;
    v1::GetReportRequest request;
    request.set_family("stock");
    v1::Report report;
    EXPECT_TRUE(v1::DivergenceService::NewStub(nodes_[0]->channel)->GetReport(&context, request, &report).ok());
    return report;
  }
  std::string Logs() { return nodes_[0]->server.Log() + nodes_[1]->server.Log(); }

  support::PrivatePostgres postgres_{{"wal_level = logical"}};
  support::PrivateRedis redis_;
  std::vector<std::unique_ptr<support::Node>> nodes_;
  std::map<std::string, int> database_;
  std::map<std::string, int> cache_;
  std::unique_ptr<support::ObservedClient> client_;
};

TEST_F(ObservedReplicaTest, IsPromotedOnWhatItReportsAndRolledBackByItsOwnSecondLook) {
  // Shadowline reads nothing here itself.
  EXPECT_EQ(nodes_[0]->Read(Request("acme", 1)).status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_TRUE(Decided("acme", v1::SOURCE_DATABASE));
  EXPECT_TRUE(client_->endings().empty()) << "nothing is verified before a rollout";

  // Promoted, by reports of keys that changed, too.
  StartRollout();
  ASSERT_TRUE(AwaitTrue(kLimit, [&] {
    for (const std::string& tenant : kTenants) {
      for (int id = 1; id <= kItems; id += 3) Write(tenant, id);
    }
    ReadAll();
    return Decided("acme", v1::SOURCE_CACHE) && Decided("globex", v1::SOURCE_CACHE);
  })) << Logs();
  EXPECT_TRUE(Divergences().empty());
  EXPECT_EQ(client_->last_decision().reason(), v1::READ_REASON_CACHE_HIT);
  cache_[Key(Request("acme", 5))] = 777;
  EXPECT_EQ(client_->Read(Request("acme", 5)).body, R"({"level":777})") << "the application's cache is what serves";
  cache_[Key(Request("acme", 5))] = database_[Key(Request("acme", 5))];

  // A cache that is behind for less than the bound is nothing.
  ASSERT_TRUE(AwaitTrue(kLimit, [&] {
    client_->LookAgain();
    return client_->waiting() == 0;
  }));
  EXPECT_EQ(client_->endings().count("confirmed"), 0u);
  EXPECT_GE(client_->endings().count("healed"), 1u);
  EXPECT_TRUE(Decided("acme", v1::SOURCE_CACHE));

  // And now a write does not reach it.
  Write("acme", 2, /*to_cache=*/false);
  ASSERT_TRUE(AwaitTrue(kLimit, [&] {
    ReadAll();
    return Decided("acme", v1::SOURCE_DATABASE);
  })) << Logs();
  EXPECT_GE(client_->endings().at("confirmed"), 1);
  ASSERT_GE(Divergences().size(), 1u);
  const v1::Divergence divergence = Divergences()[0];
  EXPECT_EQ(divergence.tenant(), "acme");
  EXPECT_EQ(divergence.endpoint(), "stock/level");
  EXPECT_EQ(divergence.cause(), "stale_entry");
  ASSERT_EQ(divergence.differences_size(), 1);
  EXPECT_EQ(divergence.differences(0).pointer(), "/level");
  // What an application reports is kept as digests alone.
  EXPECT_THAT(divergence.differences(0).control(), HasSubstr("number, #"));
  EXPECT_THAT(divergence.differences(0).candidate(), HasSubstr("number, #"));
  EXPECT_NE(divergence.differences(0).control(), divergence.differences(0).candidate());
  EXPECT_TRUE(divergence.after_cutover());
  const auto& looks = divergence.proof().observations();
  ASSERT_GE(looks.size(), 2);
  EXPECT_GE(looks[looks.size() - 1].candidate_at_us() - looks[0].control_at_us(), 500'000);
  EXPECT_EQ(client_->Read(Request("acme", 2)).body,
            absl::StrCat(R"({"level":)", database_[Key(Request("acme", 2))], "}"));

  // The books balance once everybody has come back or was given up.
  for (const auto& [ending, count] : client_->endings())
    EXPECT_THAT(ending, testing::Not(HasSubstr("refused"))) << count;
  const auto& ledger = Report().ledger();
  EXPECT_EQ(ledger.sampled(), ledger.matched() + ledger.excused() + ledger.healed() + ledger.confirmed() +
                                  ledger.inconclusive() + ledger.errored() + ledger.shed() + ledger.lost() +
                                  ledger.pending());
  EXPECT_GT(ledger.sampled(), 100u);
}

}  // namespace
}  // namespace shadowline
