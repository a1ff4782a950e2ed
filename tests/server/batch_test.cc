// Batches on the real `shadowlined`, with a private PostgreSQL and Redis: every result is compared with what Read
// answers, statements are counted as the replica runs them, and Redis says how often it was spoken to.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <pqxx/pqxx>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "shadowline/v1/read.grpc.pb.h"
#include "tests/cache/redis_client.h"
#include "tests/support/await.h"
#include "tests/support/node.h"
#include "tests/support/private_servers.h"

namespace shadowline {
namespace {

using support::AwaitTrue;
using testing::HasSubstr;

constexpr absl::Duration kLimit = absl::Seconds(30);
constexpr int kItems = 300;

// `stock` goes to the cache, `plain` stays with the database.
constexpr char kCatalog[] = R"(version: 1
tenants: {list: [acme, globex]}
families:
  stock:
    endpoints:
      item: &item
        sql: SELECT id, label, n FROM item WHERE tenant = :tenant AND id = :id
        parameters: {id: {type: integer}}
        tags: ["item:{id}"]
        freshness: 2s
        ttl: 10m
      ratio: &ratio
        sql: SELECT 1000 / :d AS ratio, :tenant AS tenant
        parameters: {d: {type: integer, default: 1}}
        tags: ["ratio"]
        freshness: 2s
        ttl: 10m
      search: &search
        sql: SELECT id, label FROM item WHERE tenant = :tenant AND id = ANY(:ids) ORDER BY id
        result: rows
        parameters: {ids: {type: integer_set}}
        tags: ["search"]
        freshness: 2s
        ttl: 10m
    policy: {ramp_ppm: [1000000], cache_sample_ppm: 0}
  plain:
    endpoints: {item: *item, ratio: *ratio, search: *search}
)";

v1::ReadRequest Ask(const std::string& endpoint, const std::string& name, int64_t value,
                    const std::string& tenant = "acme") {
  v1::ReadRequest request;
  request.set_tenant(tenant);
  request.set_endpoint(endpoint);
  auto* parameter = request.add_parameters();
  parameter->set_name(name);
  parameter->mutable_value()->set_integer(value);
  return request;
}

v1::ReadRequest Search(const std::string& family, const std::vector<int64_t>& ids) {
  v1::ReadRequest request;
  request.set_tenant("acme");
  request.set_endpoint(family + "/search");
  auto* parameter = request.add_parameters();
  parameter->set_name("ids");
  parameter->mutable_value()->mutable_integers()->mutable_values()->Assign(ids.begin(), ids.end());
  return request;
}

class BatchTest : public testing::Test {
 protected:
  explicit BatchTest(const std::string& config = "") {
    const std::string database = postgres_.CreateDatabase();
    const std::string source = postgres_.ConnectionString(database);
    pqxx::connection connection(source);
    pqxx::work work(connection);
    work.exec("CREATE TABLE item (tenant text, id bigint, label text, n numeric, PRIMARY KEY (tenant, id))");
    work.exec(absl::StrCat("INSERT INTO item SELECT tenant, id, tenant || ' ' || id, id / 7.0 FROM ",
                           "unnest(ARRAY['acme', 'globex']) tenant, generate_series(1, ", kItems, ") id"));
    work.commit();
    node_ = std::make_unique<support::Node>(support::Shadowlined::Options{
        .name = "a",
        .source = source,
        .redis = "unix:" + redis_.socket(),
        .extra_config =
            "controller: {tick: 100ms}\nevidence: {flush: 100ms, lapse: 1s}\ncapture: {enabled: false}\n" + config,
        .await_ready = false});
    node_->Apply(kCatalog);
    node_->server.AwaitReady();
    reads_ = v1::ReadService::NewStub(node_->channel);
  }

  // What a read says, but for where it came from.
  std::string Read(const v1::ReadRequest& request) {
    const auto [status, response] = node_->Read(request);
    if (!status.ok()) return absl::StrCat("error ", status.error_code(), ": ", status.error_message());
    return absl::StrCat(response.found(), " ", response.body(), " ", response.etag());
  }
  v1::BatchReadResponse BatchRead(const std::vector<v1::ReadRequest>& requests) {
    v1::BatchReadRequest request;
    for (const v1::ReadRequest& read : requests) *request.add_reads() = read;
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
    v1::BatchReadResponse response;
    const grpc::Status status = reads_->BatchRead(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.results_size(), request.reads_size());
    return response;
  }
  static int FromCache(const v1::BatchReadResponse& response) {
    return static_cast<int>(
        std::count_if(response.results().begin(), response.results().end(),
                      [](const v1::BatchReadResult& result) { return result.answer().source() == v1::SOURCE_CACHE; }));
  }
  static std::string Said(const v1::BatchReadResult& result) {
    if (result.has_error()) return absl::StrCat("error ", result.error().code(), ": ", result.error().message());
    return absl::StrCat(result.answer().found(), " ", result.answer().body(), " ", result.answer().etag());
  }

  double Statements() { return node_->Metric("shadowline_control_statements_total", "pool=\"control\""); }
  // A field of Redis' INFO.
  int64_t Redis(const std::string& section, const std::string& field, absl::string_view within = "") {
    cache::RedisClient client(redis_.socket());
    for (absl::string_view line : absl::StrSplit(client.Command({"INFO", section}).text, "\r\n")) {
      if (!absl::ConsumePrefix(&line, field + ":")) continue;
      if (!within.empty()) line = line.substr(line.find(within) + within.size());
      int64_t value = 0;
      EXPECT_TRUE(absl::SimpleAtoi(line.substr(0, line.find(',')), &value)) << line;
      return value;
    }
    return 0;
  }

  support::PrivatePostgres postgres_;
  support::PrivateRedis redis_;
  std::unique_ptr<support::Node> node_;
  std::unique_ptr<v1::ReadService::Stub> reads_;
};

// 200 reads: hits, misses, equal ones, what nobody knows, what does not fit.
std::vector<v1::ReadRequest> Mixture() {
  std::vector<v1::ReadRequest> requests;
  for (int id = 1; id <= 100; ++id) requests.push_back(Ask("stock/item", "id", id));
  for (int id = 1; id <= 30; ++id) requests.push_back(Ask("stock/item", "id", id, "globex"));
  for (int id = 281; id <= 310; ++id) requests.push_back(Ask("plain/item", "id", id));
  for (int d = -3; d <= 4; ++d) requests.push_back(Ask("stock/ratio", "d", d));  // The fourth divides by zero.
  for (int id = 1; id <= 10; ++id) requests.push_back(Search("stock", {id + 1, id, id + 1}));
  for (int id = 1; id <= 10; ++id) requests.push_back(Search("stock", {id, id + 1}));  // The same, in order.
  requests.push_back(Ask("stock/item", "id", 1, "initech"));
  requests.push_back(Ask("stock/itme", "id", 1));
  requests.push_back(Ask("stock/item", "di", 1));
  requests.push_back(Ask("stock/ratio", "d", 1));
  requests.push_back(Ask("stock/ratio", "d", 1));
  requests.back().clear_parameters();  // The default.
  requests.push_back(Ask("stock/item", "id", 1));
  requests.back().mutable_parameters(0)->mutable_value()->set_text("1");
  requests.push_back(Ask("stock/item", "id", 2));
  requests.back().set_consistency(v1::CONSISTENCY_FRESH);
  while (requests.size() < 200) requests.push_back(Ask("stock/item", "id", 100));
  return requests;
}

TEST_F(BatchTest, EachResultIsWhatReadAnswersForAFewStatements) {
  node_->Promote("stock", 2);
  const std::vector<v1::ReadRequest> requests = Mixture();
  ASSERT_EQ(requests.size(), 200u);
  // Half of the items are cached. The flags may be on their way still.
  for (int id = 1; id <= 50; ++id) {
    ASSERT_TRUE(AwaitTrue(kLimit, [&] {
      const v1::BatchReadResponse response = BatchRead({Ask("stock/item", "id", id)});
      return response.results(0).answer().source() == v1::SOURCE_CACHE;
    }));
  }
  const double statements = Statements();
  const double saved = node_->Metric("shadowline_batch_statements_saved_total");
  const double merged = node_->Metric("shadowline_batch_merged_total");
  const v1::BatchReadResponse batch = BatchRead(requests);
  const double ran = Statements() - statements;

  int hits = 0, errors = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const v1::BatchReadResult& result = batch.results(static_cast<int>(i));
    hits += result.answer().source() == v1::SOURCE_CACHE;
    errors += result.has_error();
    EXPECT_EQ(Said(result), Read(requests[i])) << requests[i].ShortDebugString();
  }
  EXPECT_EQ(hits, 50);
  EXPECT_EQ(errors, 5);
  EXPECT_THAT(batch.results(163).error().message(), HasSubstr("22012"));
  // Loaded: 50 and 1 items of acme, 30 of globex, 30 of `plain`, 8 ratios, 10 searches. That is 5 statements, and 6
  // more to find the ratio that fails; a busy machine may need some again.
  EXPECT_EQ(ran + node_->Metric("shadowline_batch_statements_saved_total") - saved, 129 + 3);
  EXPECT_LE(ran, 30);
  EXPECT_EQ(node_->Metric("shadowline_batch_merged_total") - merged, 10 + 2 + static_cast<int>(requests.size()) - 195);
  std::printf("statements for 129 loads: %.0f\n", ran);

  // What was missed is cached now, but for what failed and what is never cached.
  const double before = Statements();
  EXPECT_EQ(FromCache(BatchRead(requests)), 200 - 30 - 5 - 1);
  EXPECT_LE(Statements() - before, 10);
}

TEST_F(BatchTest, TwoHundredHitsAreAFewRoundTripsToRedis) {
  node_->Promote("stock", 2);
  std::vector<v1::ReadRequest> requests;
  for (int id = 1; id <= 200; ++id) requests.push_back(Ask("stock/item", "id", id));
  ASSERT_TRUE(AwaitTrue(kLimit, [&] { return FromCache(BatchRead(requests)) == 200; }));
  const int64_t gets = Redis("commandstats", "cmdstat_get", "calls=");
  const int64_t trips = Redis("stats", "total_reads_processed");
  const double statements = Statements();
  BatchRead(requests);
  const int64_t tripped = Redis("stats", "total_reads_processed") - trips;
  EXPECT_GE(Redis("commandstats", "cmdstat_get", "calls=") - gets, 400);
  // Redis takes 16 KiB at a time; some are of this test, and of connections that are watched.
  EXPECT_LE(tripped, 20);
  EXPECT_EQ(Statements(), statements);
  std::printf("Redis read %lld times for 400 commands\n", static_cast<long long>(tripped));
}

class SmallMessageTest : public BatchTest {
 protected:
  SmallMessageTest() : BatchTest("limits: {max_message_bytes: 65536}\n") {}
};

TEST_F(SmallMessageTest, AnswersThatDoNotFitTogetherAreErrorsOfTheirOwn) {
  std::vector<int64_t> ids;
  for (int id = 1; id <= 100; ++id) ids.push_back(id);
  std::vector<v1::ReadRequest> requests;
  for (int extra = 1; extra <= 40; ++extra) {
    ids.push_back(kItems + extra);  // Nobody has it: another question with the same answer.
    requests.push_back(Search("plain", ids));
  }
  const v1::BatchReadResponse batch = BatchRead(requests);
  EXPECT_LE(batch.ByteSizeLong(), 65536 + 40 * 100u);
  int answered = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const v1::BatchReadResult& result = batch.results(static_cast<int>(i));
    answered += result.has_answer();
    if (result.has_answer()) {
      EXPECT_EQ(Said(result), Read(requests[i]));
    } else {
      EXPECT_EQ(result.error().code(), static_cast<int>(grpc::StatusCode::RESOURCE_EXHAUSTED));
      EXPECT_THAT(result.error().message(), HasSubstr("fewer reads"));
    }
  }
  EXPECT_GT(answered, 5);
  EXPECT_LT(answered, 40);
}

}  // namespace
}  // namespace shadowline
