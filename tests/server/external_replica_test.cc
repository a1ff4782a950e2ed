// External endpoints against the real `shadowlined`, Redis and PostgreSQL: a careless application fills Redis in four
// forms. What is right is promoted on evidence and served; what is stale is confirmed, with both sides, and rolled
// back; what was never right is confirmed without waiting, by its version; and Redis holds what the application put
// there, and nothing else.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <initializer_list>
#include <map>
#include <memory>
#include <pqxx/pqxx>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "shadowline/v1/catalog.grpc.pb.h"
#include "shadowline/v1/divergence.grpc.pb.h"
#include "shadowline/v1/flags.grpc.pb.h"
#include "shadowline/v1/read.grpc.pb.h"
#include "shadowline/v1/rollout.grpc.pb.h"
#include "tests/cache/redis_client.h"
#include "tests/support/await.h"
#include "tests/support/private_servers.h"
#include "tests/support/shadowlined.h"

namespace shadowline {
namespace {

using support::AwaitTrue;
using testing::HasSubstr;

constexpr absl::Duration kLimit = absl::Seconds(60);
constexpr int kItems = 12;
const std::vector<std::string> kForms = {"plain", "envelope", "gzip", "zstd"};
const std::vector<std::string> kTenants = {"acme", "globex"};

std::string Catalog() {
  std::string yaml = R"(version: 1
tenants: {list: [acme, globex]}
families:
  stock:
    policy: {duration: 1s, episodes: 20, distinct_keys: 10, exercised: 10, slo_ppm: 300000, candidate_p95: 10s,
             soak: 1ms, ramp_ppm: [1000000], cache_sample_ppm: 1000000}
    endpoints:
)";
  for (const auto& [form, external] : std::initializer_list<std::pair<const char*, const char*>>{
           {"plain", R"(key: "plain:{tenant}:{id}", not_found: "null")"},
           {"envelope",
            R"(key: "{tenant}/envelope/{id}", format: envelope, payload: /data/item, version: /meta/version)"},
           {"gzip", R"(key: "gzip:{tenant}:{id}", compression: gzip)"},
           {"zstd", R"(key: "zstd:{tenant}:{id}", compression: zstd)"}}) {
    absl::StrAppend(&yaml, "      ", form, R"(:
        sql: SELECT id, version FROM item WHERE tenant = :tenant AND id = :id
        parameters: {id: {type: integer}}
        freshness: 2s
        evidence: show
        external: {)",
                    external, "}\n");
  }
  // The test does not last as long as its bound.
  absl::StrAppend(&yaml, R"(  price:
    endpoints:
      quote:
        sql: SELECT version, price FROM item WHERE tenant = :tenant AND id = :id
        parameters: {id: {type: integer}}
        freshness: 1h
        row_version: /version
        external: {key: "quote:{tenant}:{id}"}
)");
  return yaml;
}

std::string Gzip(const std::string& plain) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, plain.size()) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(plain.data()));
  stream.avail_in = plain.size();
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = out.size();
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string Zstd(const std::string& plain) {
  std::string out(ZSTD_compressBound(plain.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), plain.data(), plain.size(), 1));
  return out;
}

class ExternalReplicaTest : public testing::Test {
 protected:
  ExternalReplicaTest() : database_(postgres_.CreateDatabase()), connection_(postgres_.ConnectionString(database_)) {
    pqxx::work work(connection_);
    work.exec(
        "CREATE TABLE item (tenant text, id bigint, version bigint NOT NULL, price bigint DEFAULT 1, PRIMARY KEY "
        "(tenant, id))");
    work.exec(absl::StrCat("INSERT INTO item SELECT tenant, id, 1 FROM unnest(ARRAY['acme', 'globex']) tenant, ",
                           "generate_series(1, ", kItems, ") id"));
    work.commit();
    server_ = std::make_unique<support::Shadowlined>(support::Shadowlined::Options{
        .source = postgres_.ConnectionString(database_),
        .redis = "unix:" + redis_.socket(),
        .extra_config =
            "controller: {tick: 100ms}\nevidence: {flush: 100ms, lapse: 1s, key: 0123456789abcdef0123456789abcdef}\n",
        .await_ready = false});
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    v1::ApplyCatalogRequest request;
    request.set_yaml(Catalog());
    v1::ApplyCatalogResponse response;
    const grpc::Status applied = v1::CatalogService::NewStub(channel_)->ApplyCatalog(&context, request, &response);
    EXPECT_TRUE(applied.ok()) << applied.error_message();
    server_->AwaitReady();
  }

  // ---- The application ----

  static std::string Key(const std::string& form, const std::string& tenant, int id) {
    return form == "envelope" ? absl::StrCat(tenant, "/envelope/", id) : absl::StrCat(form, ":", tenant, ":", id);
  }
  void Set(const std::string& key, const std::string& bytes) {
    client_.Command({"SET", key, bytes});
    put_[key] = bytes;
  }
  void Delete(const std::string& key) {
    client_.Command({"DEL", key});
    put_.erase(key);
  }
  // In all forms.
  void Cache(const std::string& tenant, int id, int64_t version) {
    const std::string json = absl::StrCat(R"({ "version": )", version, R"(, "id": )", id, " }");
    Set(Key("plain", tenant, id), json);
    Set(Key("envelope", tenant, id),
        absl::StrCat(R"({"meta":{"version":)", version, R"(},"data":{"item":)", json, "}}"));
    Set(Key("gzip", tenant, id), Gzip(json));
    Set(Key("zstd", tenant, id), Zstd(json));
  }
  int64_t Write(const std::string& tenant, int id) {
    pqxx::work work(connection_);
    const auto version = work.exec1(absl::StrCat("UPDATE item SET version = version + 1 WHERE tenant = '", tenant,
                                                 "' AND id = ", id, " RETURNING version"))[0]
                             .as<int64_t>();
    work.commit();
    return version;
  }

  // What is in Redis is what the application put there, byte for byte.
  void ExpectOnlyTheApplicationsKeys() {
    const cache::Reply keys = client_.Command({"KEYS", "*"});
    EXPECT_EQ(keys.elements.size(), put_.size());
    for (const cache::Reply& key : keys.elements) {
      const auto put = put_.find(key.text);
      ASSERT_NE(put, put_.end()) << key.text << " was not the application's";
      EXPECT_TRUE(client_.Command({"GET", key.text}).text == put->second) << key.text;
      EXPECT_EQ(client_.Command({"PTTL", key.text}).integer, -1) << key.text;
    }
  }

  // ---- Shadowline ----

  v1::ReadResponse Read(const std::string& endpoint, const std::string& tenant, int id) {
    grpc::ClientContext context;
    v1::ReadRequest request;
    request.set_tenant(tenant);
    request.set_endpoint(endpoint);
    auto* parameter = request.add_parameters();
    parameter->set_name("id");
    parameter->mutable_value()->set_integer(id);
    v1::ReadResponse response;
    const grpc::Status status = Reads()->Read(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  void ReadAll() {
    for (const std::string& tenant : kTenants) {
      for (const std::string& form : kForms) {
        for (int id = 1; id <= kItems; ++id) Read(absl::StrCat("stock/", form), tenant, id);
      }
    }
  }
  v1::Mode Mode(const std::string& tenant) {
    grpc::ClientContext context;
    v1::GetFlagRequest request;
    request.set_tenant(tenant);
    request.set_family("stock");
    v1::Flag flag;
    return v1::FlagService::NewStub(channel_)->GetFlag(&context, request, &flag).ok() ? flag.mode()
                                                                                      : v1::MODE_UNSPECIFIED;
  }
  void StartRollout(const std::string& family) {
    grpc::ClientContext context;
    v1::StartRolloutRequest request;
    request.set_family(family);
    auto* cohort = request.add_cohorts();
    cohort->set_name("all");
    cohort->set_share_ppm(1'000'000);
    v1::Rollout rollout;
    const grpc::Status status = v1::RolloutService::NewStub(channel_)->StartRollout(&context, request, &rollout);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  std::vector<v1::Divergence> Divergences(const std::string& family = "stock") {
    grpc::ClientContext context;
    v1::ListDivergencesRequest request;
    request.set_family(family);
    v1::ListDivergencesResponse response;
    EXPECT_TRUE(v1::DivergenceService::NewStub(channel_)->ListDivergences(&context, request, &response).ok());
    return {response.divergences().begin(), response.divergences().end()};
  }

  support::PrivatePostgres postgres_{{"wal_level = logical"}};
  support::PrivateRedis redis_;
  const std::string database_;
  pqxx::connection connection_;
  cache::RedisClient client_{redis_.socket()};
  std::map<std::string, std::string> put_;
  std::unique_ptr<support::Shadowlined> server_;
  std::shared_ptr<grpc::Channel> channel_;

 private:
  v1::ReadService::Stub* Reads() {
    if (stub_ == nullptr) stub_ = v1::ReadService::NewStub(channel_);
    return stub_.get();
  }
  std::unique_ptr<v1::ReadService::Stub> stub_;
};

TEST_F(ExternalReplicaTest, WhatIsRightIsPromotedWhatIsStaleIsConfirmedAndNothingIsWritten) {
  for (const std::string& tenant : kTenants) {
    for (int id = 1; id <= kItems; ++id) Cache(tenant, id, 1);
  }
  Set("plain:acme:404", "null");
  Set("of:another:application", "x");

  // Promoted, by what was seen of values that changed, too.
  StartRollout("stock");
  ASSERT_TRUE(AwaitTrue(kLimit, [&] {
    for (const std::string& tenant : kTenants) {
      for (int id = 1; id <= kItems; id += 3) Cache(tenant, id, Write(tenant, id));
    }
    ReadAll();
    return Mode("acme") == v1::MODE_CACHE && Mode("globex") == v1::MODE_CACHE;
  })) << server_->Log();
  ExpectOnlyTheApplicationsKeys();
  EXPECT_TRUE(Divergences().empty());

  // Served, in each form.
  Cache("acme", 2, Write("acme", 2));
  const std::string json = put_[Key("plain", "acme", 2)];
  for (const std::string& form : kForms) {
    v1::ReadResponse answer;
    EXPECT_TRUE(AwaitTrue(kLimit, [&] {
      answer = Read(absl::StrCat("stock/", form), "acme", 2);
      return answer.source() == v1::SOURCE_CACHE;
    })) << form;
    EXPECT_EQ(answer.body(), json) << form;
    EXPECT_EQ(answer.reason(), v1::READ_REASON_CACHE_HIT);
    EXPECT_EQ(answer.age_us(), -1);
  }
  const v1::ReadResponse none = Read("stock/plain", "acme", 404);
  EXPECT_EQ(none.source(), v1::SOURCE_CACHE);
  EXPECT_FALSE(none.found());

  // What is away, broken, or of another type is the database's to answer, and stays as it is.
  Delete(Key("plain", "acme", 3));
  Set(Key("gzip", "acme", 3), put_[Key("gzip", "acme", 3)].substr(0, 20));
  Set(Key("envelope", "acme", 3), R"({"meta":{"version":1},"data":)");
  for (const char* form : {"plain", "gzip", "envelope"}) {
    const v1::ReadResponse answer = Read(absl::StrCat("stock/", form), "acme", 3);
    EXPECT_TRUE(answer.found()) << form;
    EXPECT_EQ(answer.source(), v1::SOURCE_DATABASE) << form;
    EXPECT_EQ(answer.reason(), v1::READ_REASON_CACHE_MISS) << form;
    EXPECT_EQ(answer.age_us(), 0) << form;
  }
  ExpectOnlyTheApplicationsKeys();

  // And now the application forgets its cache.
  const int64_t version = Write("acme", 5);
  ASSERT_TRUE(AwaitTrue(kLimit, [&] {
    Read("stock/zstd", "acme", 5);
    return !Divergences().empty();
  })) << server_->Log();
  // Listed it is redacted; asked for by its id it is shown, as the endpoint has it.
  EXPECT_THAT(Divergences()[0].differences(0).control(), HasSubstr("#"));
  EXPECT_THAT(Divergences()[0].key(), HasSubstr("sl:acme:stock/zstd:"));
  v1::Divergence divergence;
  {
    grpc::ClientContext context;
    v1::GetDivergenceRequest request;
    request.set_id(Divergences()[0].id());
    ASSERT_TRUE(v1::DivergenceService::NewStub(channel_)->GetDivergence(&context, request, &divergence).ok());
  }
  EXPECT_EQ(divergence.tenant(), "acme");
  EXPECT_EQ(divergence.endpoint(), "stock/zstd");
  EXPECT_EQ(divergence.key(), "zstd:acme:5");
  EXPECT_EQ(divergence.cause(), "stale_entry");
  EXPECT_THAT(divergence.cause_evidence(), HasSubstr("The application's cache held this answer at "));
  ASSERT_EQ(divergence.differences_size(), 1);
  EXPECT_EQ(divergence.differences(0).pointer(), "/version");
  EXPECT_EQ(divergence.differences(0).control(), absl::StrCat(version));
  EXPECT_EQ(divergence.differences(0).candidate(), absl::StrCat(version - 1));
  EXPECT_EQ(divergence.proof().filled_at_us(), 0);
  const auto& looks = divergence.proof().observations();
  ASSERT_GE(looks.size(), 2);
  EXPECT_GE(looks[looks.size() - 1].candidate_at_us() - looks[0].control_at_us(), 2'000'000);
  ASSERT_TRUE(AwaitTrue(kLimit, [&] { return Mode("acme") != v1::MODE_CACHE; }));
  EXPECT_TRUE(AwaitTrue(kLimit, [&] {
    const v1::ReadResponse answer = Read("stock/zstd", "acme", 5);
    return answer.source() == v1::SOURCE_DATABASE && absl::StrContains(answer.body(), absl::StrCat(version));
  }));
  ExpectOnlyTheApplicationsKeys();
}

TEST_F(ExternalReplicaTest, WhatTheDatabaseNeverHeldIsConfirmedLongBeforeTheBound) {
  const auto cache = [this](int id, int64_t version, int64_t price) {
    Set(absl::StrCat("quote:acme:", id), absl::StrCat(R"({"version":)", version, R"(,"price":)", price, "}"));
  };
  {
    // Before the commit that never comes.
    pqxx::work work(connection_);
    const pqxx::row row = work.exec1(
        "UPDATE item SET version = version + 1, price = 2 WHERE tenant = 'acme' AND id = 1 RETURNING version, price");
    cache(1, row[0].as<int64_t>(), row[1].as<int64_t>());
    work.abort();
  }
  cache(2, 1, 100);  // In another unit.
  cache(3, 1, 1);    // Right, and then stale, which it may be for an hour.
  Write("acme", 3);
  cache(4, Write("acme", 4), 1);

  StartRollout("price");
  ASSERT_TRUE(AwaitTrue(kLimit, [&] {
    for (int id = 4; id >= 1; --id) Read("price/quote", "acme", id);
    return Divergences("price").size() >= 2;
  })) << server_->Log();
  std::map<std::string, v1::Divergence> by_cause;
  for (v1::Divergence& divergence : Divergences("price")) by_cause[divergence.cause()] = divergence;
  EXPECT_THAT(by_cause, testing::UnorderedElementsAre(testing::Key("never_held"), testing::Key("same_version")));
  for (const auto& [cause, divergence] : by_cause) {
    EXPECT_EQ(divergence.proof().rule(), "by_version");
    EXPECT_FALSE(divergence.advice().empty());
  }
  EXPECT_EQ(Divergences("price").size(), 2u);
  ExpectOnlyTheApplicationsKeys();
}

}  // namespace
}  // namespace shadowline
