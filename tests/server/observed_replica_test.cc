// Observed endpoints against two real `shadowlined`: an application that reads both sides itself is promoted on what it
// reports; then its cache grows stale, which is confirmed by its own second look, and it is told to read the database
// again. Every call goes to another replica than the one before. What was confirmed is then asked for as an operator
// does, with `shadowline divergences replay`.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/text_format.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
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

// message Item { int64 id = 1; string note = 2; } of the package shop.
std::string Descriptors() {
  google::protobuf::FileDescriptorSet set;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(R"(file {
    name: "shop.proto" package: "shop" syntax: "proto3" message_type { name: "Item"
      field { name: "id" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL }
      field { name: "note" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL } } })",
                                                            &set));
  return absl::Base64Escape(set.SerializeAsString());
}

// Three endpoints whose answers are reported as messages, payloads and digests.
std::string Catalog() {
  return absl::StrCat("version: 1\ndescriptors: {shop: ", Descriptors(), "}\n", R"(
tenants: {list: [acme, globex]}
families:
  goods:
    endpoints:
      item: {observed: true, parameters: {id: {type: integer}}, freshness: 100ms, message: shop.Item, evidence: show}
      plain: {observed: true, parameters: {id: {type: integer}}, freshness: 100ms}
      hashed: {observed: true, parameters: {id: {type: integer}}, freshness: 100ms, evidence: show}
  stock:
    policy: {duration: 1s, episodes: 20, distinct_keys: 10, exercised: 10, slo_ppm: 300000, candidate_p95: 10s,
             soak: 1ms, ramp_ppm: [1000000], cache_sample_ppm: 1000000}
    endpoints:
      level:
        observed: true
        parameters: {id: {type: integer}}
        freshness: 500ms
)");
}

class ObservedReplicaTest : public testing::Test {
 protected:
  ObservedReplicaTest() {
    const std::string database = postgres_.CreateDatabase();
    for (const char* name : {"one", "two"}) {
      nodes_.push_back(std::make_unique<support::Node>(support::Shadowlined::Options{
          .name = name,
          .source = postgres_.ConnectionString(database),
          .redis = "unix:" + redis_.socket(),
          .extra_config =
              "controller: {tick: 100ms}\nevidence: {flush: 100ms, lapse: 2s, key: 0123456789abcdef0123456789abcdef}\n"
              "verification: {redaction_secret: the secret of both replicas}\n",
          .await_ready = false}));
    }
    nodes_[0]->Apply(Catalog());
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

  static v1::ReadRequest Request(const std::string& tenant, int id, const std::string& endpoint = "stock/level") {
    v1::ReadRequest request;
    request.set_tenant(tenant);
    request.set_endpoint(endpoint);
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

  void StartRollout(const std::string& family) {
    grpc::ClientContext context;
    v1::StartRolloutRequest request;
    request.set_family(family);
    auto* cohort = request.add_cohorts();
    cohort->set_name("all");
    cohort->set_share_ppm(1'000'000);
    v1::Rollout rollout;
    const grpc::Status status =
        v1::RolloutService::NewStub(nodes_[0]->channel)->StartRollout(&context, request, &rollout);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  std::vector<v1::Divergence> Divergences(const std::string& family) {
    grpc::ClientContext context;
    v1::ListDivergencesRequest request;
    request.set_family(family);
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
  // What the operator sees, on one of the replicas.
  std::string Shadowline(std::vector<std::string> arguments, int expected_status) {
    const support::ScratchFolder folder("cli");
    arguments.insert(arguments.begin(), support::ProgramFolder() + "/shadowline");
    support::ChildProcess process(std::move(arguments), folder.path() + "/output",
                                  {"SHADOWLINE_SERVER=" + nodes_[1]->server.address()});
    EXPECT_EQ(process.Wait(), expected_status);
    std::ifstream in(folder.path() + "/output");
    return std::string(std::istreambuf_iterator<char>(in), {});
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
  StartRollout("stock");
  ASSERT_TRUE(AwaitTrue(kLimit, [&] {
    for (const std::string& tenant : kTenants) {
      for (int id = 1; id <= kItems; id += 3) Write(tenant, id);
    }
    ReadAll();
    return Decided("acme", v1::SOURCE_CACHE) && Decided("globex", v1::SOURCE_CACHE);
  })) << Logs();
  EXPECT_TRUE(Divergences("stock").empty());
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
  ASSERT_GE(Divergences("stock").size(), 1u);
  const v1::Divergence divergence = Divergences("stock")[0];
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

TEST_F(ObservedReplicaTest, AReplaySaysWhatWasKeptOfWhatOnlyTheApplicationCanReadAgain) {
  using Form = ObservedSide::Form;
  // Bytes that differ where the messages do not, and where they do.
  const auto side = [](const v1::ReadRequest& request, bool stale) {
    const std::string& endpoint = request.endpoint();
    if (endpoint == "goods/plain") return ObservedSide{.body = stale ? R"({"n":"OLD"})" : R"({"n":"NEW"})"};
    if (endpoint == "goods/hashed") return ObservedSide{.body = stale ? "old hash" : "new hash", .form = Form::kDigest};
    const bool differ = request.parameters(0).value().integer() == 2;
    return ObservedSide{.body = stale    ? "\x08\x07\x12\x03OLD"
                                : differ ? "\x12\x03NEW\x08\x07"
                                         : "\x12\x03OLD\x08\x07",
                        .form = Form::kMessage};
  };
  support::ObservedClient client(
      {nodes_[0]->channel, nodes_[1]->channel},
      [&](const v1::ReadRequest& request) { return side(request, /*stale=*/true); },
      [&](const v1::ReadRequest& request) { return side(request, /*stale=*/false); });
  StartRollout("goods");
  ASSERT_TRUE(AwaitTrue(kLimit, [&] {
    client.Read(Request("acme", 1, "goods/item"));
    return client.endings().contains("matched");
  })) << Logs();
  EXPECT_FALSE(client.endings().contains("confirmed"));

  std::map<std::string, std::string> ids;  // By endpoint.
  ASSERT_TRUE(AwaitTrue(kLimit, [&] {
    for (const char* endpoint : {"goods/item", "goods/plain", "goods/hashed"})
      client.Read(Request("acme", 2, endpoint));
    client.LookAgain();
    for (const v1::Divergence& divergence : Divergences("goods")) ids[divergence.endpoint()] = divergence.id();
    return ids.size() == 3;
  })) << Logs();

  const std::string replayed = Shadowline({"divergences", "replay", ids["goods/item"]}, 2);
  for (const char* part : {"only the application can make this read again", "id=2", "/note", "\"OLD\"", "\"NEW\""}) {
    EXPECT_THAT(replayed, HasSubstr(part));
  }
  const std::string shown = Shadowline({"divergences", "show", ids["goods/item"]}, 0);
  for (const char* part : {"id=2", "/note", "\"OLD\"", "\"NEW\""}) EXPECT_THAT(shown, HasSubstr(part));
  EXPECT_THAT(Shadowline({"divergences", "replay", ids["goods/plain"]}, 76),
              HasSubstr("declare `evidence: show` to keep them"));
  EXPECT_THAT(Shadowline({"divergences", "show", ids["goods/plain"]}, 0), testing::Not(HasSubstr("OLD")));
  EXPECT_THAT(Shadowline({"divergences", "replay", ids["goods/hashed"]}, 76), HasSubstr("report json or a message"));
  EXPECT_THAT(Shadowline({"divergences", "show", ids["goods/hashed"]}, 0), HasSubstr("digest, #"));
}

}  // namespace
}  // namespace shadowline
