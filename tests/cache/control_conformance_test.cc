// What every Control promises, on the simulated one and on PostgreSQL.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <optional>
#include <string>
#include <thread>

#include "base/event_loop.h"
#include "base/mutex.h"
#include "base/postgres/session.h"
#include "cache/origin/postgres/control_pool.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_database.h"
#include "tests/support/private_servers.h"

namespace shadowline::cache {
namespace {

using testing::HasSubstr;
using testing::Not;

std::shared_ptr<const CompiledCatalog> OneEndpoint(Endpoint endpoint) {
  endpoint.name = "test/item";
  endpoint.family = "test";
  endpoint.statement_id =
      absl::StrCat("sl_", std::hash<std::string>()(endpoint.sql + (endpoint.shape == ResultShape::kRow ? "1" : "n")));
  if (endpoint.timeout == absl::ZeroDuration()) endpoint.timeout = absl::Seconds(20);
  return std::make_shared<const CompiledCatalog>(1, shadowline::v1::Catalog(),
                                                 std::vector<Endpoint>{std::move(endpoint)});
}

Endpoint MakeEndpoint(const std::string& sql, std::vector<std::pair<std::string, ParameterType>> parameters = {}) {
  Endpoint endpoint;
  endpoint.sql = sql;
  for (const auto& [name, type] : parameters) {
    ParameterDecl& parameter = endpoint.parameters.emplace_back();
    parameter.name = name;
    parameter.type = type;
  }
  return endpoint;
}

Query MakeQuery(Endpoint endpoint, const std::string& tenant, std::vector<std::optional<std::string>> arguments = {}) {
  Query query;
  query.catalog = OneEndpoint(std::move(endpoint));
  query.endpoint = &query.catalog->endpoints()[0];
  query.tenant = tenant;
  query.arguments = std::move(arguments);
  return query;
}

// The name of an item of a tenant.
Query ItemQuery(const std::string& tenant, int64_t id) {
  return MakeQuery(
      MakeEndpoint("SELECT name FROM item WHERE tenant = $1 AND id = $2", {{"id", ParameterType::kInteger}}), tenant,
      {absl::StrCat(id)});
}

// The same of several items of a tenant.
QuerySet ItemQueries(const std::string& tenant, const std::vector<int64_t>& ids) {
  const Query first = ItemQuery(tenant, ids.at(0));
  QuerySet queries{first.catalog, first.endpoint, tenant, {}};
  for (const int64_t id : ids) queries.arguments.push_back({absl::StrCat(id)});
  return queries;
}

// absl's own is not known to ThreadSanitizer.
class Notification {
 public:
  void Notify() {
    base::MutexLock lock(&mutex_);
    notified_ = true;
  }
  void WaitForNotification() {
    base::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&notified_));
  }

 private:
  base::Mutex mutex_;
  bool notified_ = false;
};

// ---- The two worlds ----

class SimControlWorld {
 public:
  void Write(const std::string& tenant, int64_t id, const std::string& name) {
    database_.Write(Row(tenant, id), absl::StrCat(R"({"name":")", name, "\"}"));
  }
  void Erase(const std::string& tenant, int64_t id) { database_.Write(Row(tenant, id), std::nullopt); }
  void Hang() { control_.Hang(true); }
  void StopHanging() { control_.Hang(false); }
  void GoAway() { control_.FailAll(absl::UnavailableError("away")); }
  void ComeBack() { control_.FailAll(absl::OkStatus()); }

  absl::StatusOr<ControlAnswer> Load(Query query, absl::Duration timeout = absl::Seconds(10)) {
    std::optional<absl::StatusOr<ControlAnswer>> result;
    control_.Load(std::move(query), timeout, world_.executor(), [&result](absl::StatusOr<ControlAnswer> answer) {
      EXPECT_FALSE(result.has_value());
      result = std::move(answer);
    });
    EXPECT_FALSE(result.has_value()) << "answered inside of Load";
    world_.RunUntilIdle();
    return result.value_or(absl::InternalError("never answered"));
  }
  absl::StatusOr<std::vector<ControlAnswer>> LoadSet(QuerySet queries, absl::Duration timeout = absl::Seconds(10)) {
    std::optional<absl::StatusOr<std::vector<ControlAnswer>>> result;
    control_.LoadSet(std::move(queries), timeout, world_.executor(),
                     [&result](absl::StatusOr<std::vector<ControlAnswer>> answers) { result = std::move(answers); });
    EXPECT_FALSE(result.has_value()) << "answered inside of LoadSet";
    world_.RunUntilIdle();
    return result.value_or(absl::InternalError("never answered"));
  }
  absl::StatusOr<Twins> LoadTwice(Query query, absl::Duration timeout = absl::Seconds(10)) {
    std::optional<absl::StatusOr<Twins>> result;
    control_.LoadTwice(std::move(query), timeout, world_.executor(),
                       [&result](absl::StatusOr<Twins> twins) { result = std::move(twins); });
    EXPECT_FALSE(result.has_value()) << "answered inside of LoadTwice";
    world_.RunUntilIdle();
    return result.value_or(absl::InternalError("never answered"));
  }
  absl::Time Now() { return world_.clock()->Now(); }

 private:
  static std::string Row(const std::string& tenant, int64_t id) {
    return sim::RowKey("test/item", tenant, {absl::StrCat(id)});
  }

  sim::SimWorld world_{1};
  sim::SimDatabase database_{world_.clock()};
  sim::SimControl control_{{}, &database_, world_.executor(), world_.clock(), world_.random()};
};

support::PrivatePostgres* Postgres() {
  static support::PrivatePostgres postgres;
  return &postgres;
}

class PostgresControlWorld {
 public:
  PostgresControlWorld() { Sql("CREATE TABLE item (tenant text, id bigint, name text, PRIMARY KEY (tenant, id))"); }
  ~PostgresControlWorld() {
    if (away_) ComeBack();
  }

  void Write(const std::string& tenant, int64_t id, const std::string& name) {
    Sql(absl::StrCat("INSERT INTO item VALUES ('", tenant, "', ", id, ", '", name,
                     "') ON CONFLICT (tenant, id) DO UPDATE SET name = excluded.name"));
  }
  void Erase(const std::string& tenant, int64_t id) {
    Sql(absl::StrCat("DELETE FROM item WHERE tenant = '", tenant, "' AND id = ", id));
  }
  // Every statement waits for this lock.
  void Hang() {
    locker_ = std::make_unique<pqxx::connection>(Postgres()->ConnectionString(database_));
    lock_ = std::make_unique<pqxx::work>(*locker_);
    lock_->exec("LOCK TABLE item IN ACCESS EXCLUSIVE MODE");
  }
  void StopHanging() {
    lock_.reset();
    locker_.reset();
  }
  void GoAway() {
    away_ = true;
    Postgres()->Kill();
  }
  void ComeBack() {
    away_ = false;
    Postgres()->Start();
  }

  void Sql(const std::string& sql) {
    pqxx::connection connection(Postgres()->ConnectionString(database_));
    pqxx::nontransaction(connection).exec(sql);
  }
  std::string Scalar(const std::string& sql) {
    pqxx::connection connection(Postgres()->ConnectionString(database_));
    return pqxx::nontransaction(connection).exec(sql).at(0)[0].c_str();
  }

  absl::StatusOr<ControlAnswer> Load(Query query, absl::Duration timeout = absl::Seconds(10)) {
    return LoadFrom(&control(), std::move(query), timeout);
  }
  absl::StatusOr<ControlAnswer> LoadFrom(Control* control, Query query, absl::Duration timeout = absl::Seconds(10)) {
    Notification answered;
    absl::StatusOr<ControlAnswer> result = absl::InternalError("never answered");
    control->Load(std::move(query), timeout, &loop_, [&](absl::StatusOr<ControlAnswer> answer) {
      result = std::move(answer);
      answered.Notify();
    });
    answered.WaitForNotification();
    return result;
  }
  absl::StatusOr<std::vector<ControlAnswer>> LoadSet(QuerySet queries, absl::Duration timeout = absl::Seconds(10)) {
    Notification answered;
    absl::StatusOr<std::vector<ControlAnswer>> result = absl::InternalError("never answered");
    control().LoadSet(std::move(queries), timeout, &loop_, [&](absl::StatusOr<std::vector<ControlAnswer>> answers) {
      result = std::move(answers);
      answered.Notify();
    });
    answered.WaitForNotification();
    return result;
  }
  absl::StatusOr<Twins> LoadTwice(Query query, absl::Duration timeout = absl::Seconds(10)) {
    Notification answered;
    absl::StatusOr<Twins> result = absl::InternalError("never answered");
    control().LoadTwice(std::move(query), timeout, &loop_, [&](absl::StatusOr<Twins> twins) {
      result = std::move(twins);
      answered.Notify();
    });
    answered.WaitForNotification();
    return result;
  }
  absl::Time Now() { return clock_.Now(); }

  // One thread, unless a test asks for another before the first load.
  PostgresControl& control() {
    if (control_ == nullptr) control_ = std::make_unique<PostgresControl>(options_, &clock_, &metrics_);
    return *control_;
  }
  PostgresControl::Options& options() { return options_; }
  base::EventLoop* loop() { return &loop_; }
  const base::Clock* clock() { return &clock_; }
  base::Metrics* metrics() { return &metrics_; }
  std::string connection_string() const { return Postgres()->ConnectionString(database_); }

 private:
  const std::string database_ = Postgres()->CreateDatabase();
  base::SystemClock clock_;
  base::Metrics metrics_;
  base::EventLoop loop_{&clock_, "test"};
  PostgresControl::Options options_{
      .connection_string = Postgres()->ConnectionString(database_), .connections = 1, .queue_limit = 16};
  std::unique_ptr<PostgresControl> control_;
  std::unique_ptr<pqxx::connection> locker_;
  std::unique_ptr<pqxx::work> lock_;
  bool away_ = false;
};

// ---- What both promise ----

template <typename World>
class ControlConformanceTest : public testing::Test {
 protected:
  World world_;
};

using Worlds = testing::Types<SimControlWorld, PostgresControlWorld>;
TYPED_TEST_SUITE(ControlConformanceTest, Worlds);

TYPED_TEST(ControlConformanceTest, AnswersWithTheRow) {
  this->world_.Write("acme", 1, "one");
  const absl::Time before = this->world_.Now();
  const auto answer = this->world_.Load(ItemQuery("acme", 1));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_TRUE(answer->found);
  EXPECT_EQ(answer->body, R"({"name":"one"})");
  EXPECT_LE(before, answer->started_at);
  EXPECT_LE(answer->started_at, answer->answered_at);
  EXPECT_LE(answer->answered_at, this->world_.Now());
}

TYPED_TEST(ControlConformanceTest, NoRowIsNotFound) {
  this->world_.Write("acme", 1, "one");
  this->world_.Write("acme", 3, "three");
  this->world_.Erase("acme", 3);
  for (const Query& query : {ItemQuery("acme", 2), ItemQuery("acme", 3), ItemQuery("globex", 1)}) {
    const auto answer = this->world_.Load(query);
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_FALSE(answer->found);
    EXPECT_EQ(answer->body, "");
    EXPECT_TRUE(ParseSnapshot(answer->snapshot).ok()) << answer->snapshot;
  }
}

TYPED_TEST(ControlConformanceTest, ALaterSnapshotSeesAllOfAnEarlierOne) {
  this->world_.Write("acme", 1, "one");
  const auto first = this->world_.Load(ItemQuery("acme", 1));
  this->world_.Write("acme", 1, "two");
  const auto second = this->world_.Load(ItemQuery("acme", 1));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(second->body, R"({"name":"two"})");
  const DatabaseSnapshot before = *ParseSnapshot(first->snapshot);
  const DatabaseSnapshot after = *ParseSnapshot(second->snapshot);
  EXPECT_TRUE(SeesAllOf(after, before));
  EXPECT_FALSE(SeesAllOf(before, after));
}

TYPED_TEST(ControlConformanceTest, GivesUpAtTheDeadlineAndWorksAgain) {
  this->world_.Write("acme", 1, "one");
  ASSERT_TRUE(this->world_.Load(ItemQuery("acme", 1)).ok());
  this->world_.Hang();
  const absl::Time before = this->world_.Now();
  EXPECT_EQ(this->world_.Load(ItemQuery("acme", 1), absl::Milliseconds(100)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE(this->world_.Now() - before, absl::Milliseconds(95));
  this->world_.StopHanging();
  EXPECT_TRUE(this->world_.Load(ItemQuery("acme", 1)).ok());
}

TYPED_TEST(ControlConformanceTest, TheEndpointsTimeoutCounts) {
  this->world_.Hang();
  Endpoint endpoint = *ItemQuery("acme", 1).endpoint;
  endpoint.timeout = absl::Milliseconds(50);
  const auto answer = this->world_.Load(MakeQuery(endpoint, "acme", {"1"}), absl::Hours(1));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(answer.status().message(), HasSubstr("test/item"));
  this->world_.StopHanging();
}

TYPED_TEST(ControlConformanceTest, ATimeoutOfNothingIsADeadlineThatPassed) {
  EXPECT_EQ(this->world_.Load(ItemQuery("acme", 1), absl::ZeroDuration()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TYPED_TEST(ControlConformanceTest, IsUnavailableWhileTheDatabaseIsAwayAndRecovers) {
  this->world_.Write("acme", 1, "one");
  ASSERT_TRUE(this->world_.Load(ItemQuery("acme", 1)).ok());
  this->world_.GoAway();
  // A process of the server may outlive it by a moment, and answer.
  const absl::Time gone_by = this->world_.Now() + absl::Seconds(10);
  while (this->world_.Load(ItemQuery("acme", 1)).ok() && this->world_.Now() < gone_by) {
  }
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(this->world_.Load(ItemQuery("acme", 1)).status().code(), absl::StatusCode::kUnavailable);
  }
  this->world_.ComeBack();
  // It may be between two attempts to connect.
  absl::StatusOr<ControlAnswer> answer = absl::UnavailableError("");
  const absl::Time until = this->world_.Now() + absl::Seconds(15);
  while (answer.status().code() == absl::StatusCode::kUnavailable && this->world_.Now() < until) {
    answer = this->world_.Load(ItemQuery("acme", 1));
  }
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->body, R"({"name":"one"})");
}

TYPED_TEST(ControlConformanceTest, ASetIsAnsweredInItsOrderAtOneSnapshot) {
  this->world_.Write("acme", 1, "one");
  this->world_.Write("acme", 3, "three");
  this->world_.Write("globex", 2, "not hers");
  const absl::Time before = this->world_.Now();
  const auto answers = this->world_.LoadSet(ItemQueries("acme", {3, 2, 1, 3}));
  ASSERT_TRUE(answers.ok()) << answers.status();
  ASSERT_EQ(answers->size(), 4u);
  EXPECT_EQ((*answers)[0].body, R"({"name":"three"})");
  EXPECT_FALSE((*answers)[1].found);
  EXPECT_EQ((*answers)[1].body, "");
  EXPECT_EQ((*answers)[2].body, R"({"name":"one"})");
  EXPECT_EQ((*answers)[3].body, R"({"name":"three"})");
  for (const ControlAnswer& answer : *answers) {
    EXPECT_EQ(answer.snapshot, answers->front().snapshot);
    EXPECT_TRUE(ParseSnapshot(answer.snapshot).ok()) << answer.snapshot;
    EXPECT_LE(before, answer.started_at);
    EXPECT_LE(answer.started_at, answer.answered_at);
    EXPECT_LE(answer.answered_at, this->world_.Now());
  }
}

TYPED_TEST(ControlConformanceTest, ASetOfTheMostIsAnswered) {
  std::vector<int64_t> ids;
  for (size_t id = 1; id <= QuerySet::kMost; ++id) ids.push_back(static_cast<int64_t>(id));
  this->world_.Write("acme", 256, "the last");
  const auto answers = this->world_.LoadSet(ItemQueries("acme", ids));
  ASSERT_TRUE(answers.ok()) << answers.status();
  ASSERT_EQ(answers->size(), QuerySet::kMost);
  EXPECT_FALSE(answers->front().found);
  EXPECT_EQ(answers->back().body, R"({"name":"the last"})");
}

TYPED_TEST(ControlConformanceTest, ASetGivesUpAtTheDeadlineAndAtTheEndpointsTimeout) {
  this->world_.Hang();
  const absl::Time before = this->world_.Now();
  EXPECT_EQ(this->world_.LoadSet(ItemQueries("acme", {1, 2}), absl::Milliseconds(100)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE(this->world_.Now() - before, absl::Milliseconds(95));
  Endpoint endpoint = *ItemQuery("acme", 1).endpoint;
  endpoint.timeout = absl::Milliseconds(50);
  QuerySet queries = ItemQueries("acme", {1, 2});
  queries.catalog = OneEndpoint(endpoint);
  queries.endpoint = &queries.catalog->endpoints()[0];
  EXPECT_EQ(this->world_.LoadSet(queries, absl::Hours(1)).status().code(), absl::StatusCode::kDeadlineExceeded);
  this->world_.StopHanging();
  EXPECT_TRUE(this->world_.LoadSet(ItemQueries("acme", {1, 2})).ok());
}

TYPED_TEST(ControlConformanceTest, ASetIsUnavailableWhileTheDatabaseIsAway) {
  ASSERT_TRUE(this->world_.LoadSet(ItemQueries("acme", {1, 2})).ok());
  this->world_.GoAway();
  const absl::Time gone_by = this->world_.Now() + absl::Seconds(10);
  while (this->world_.LoadSet(ItemQueries("acme", {1, 2})).ok() && this->world_.Now() < gone_by) {
  }
  EXPECT_EQ(this->world_.LoadSet(ItemQueries("acme", {1, 2})).status().code(), absl::StatusCode::kUnavailable);
  this->world_.ComeBack();
}

TYPED_TEST(ControlConformanceTest, TwinsAreTheRowAtOneSnapshot) {
  this->world_.Write("acme", 1, "one");
  for (const char* name : {"one", "two"}) {
    this->world_.Write("acme", 1, name);
    const absl::Time before = this->world_.Now();
    const auto twins = this->world_.LoadTwice(ItemQuery("acme", 1));
    ASSERT_TRUE(twins.ok()) << twins.status();
    EXPECT_EQ(twins->first.snapshot, twins->second.snapshot);
    for (const ControlAnswer& twin : {twins->first, twins->second}) {
      EXPECT_TRUE(twin.found);
      EXPECT_EQ(twin.body, absl::StrCat(R"({"name":")", name, "\"}"));
      EXPECT_LE(before, twin.started_at);
      EXPECT_LE(twin.started_at, twin.answered_at);
    }
  }
  const auto none = this->world_.LoadTwice(ItemQuery("acme", 2));
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_FALSE(none->first.found || none->second.found);
}

TYPED_TEST(ControlConformanceTest, TwinsHaveADeadlineToo) {
  this->world_.Write("acme", 1, "one");
  ASSERT_TRUE(this->world_.LoadTwice(ItemQuery("acme", 1)).ok());
  this->world_.Hang();
  EXPECT_EQ(this->world_.LoadTwice(ItemQuery("acme", 1), absl::Milliseconds(100)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  this->world_.StopHanging();
  EXPECT_TRUE(this->world_.LoadTwice(ItemQuery("acme", 1)).ok());
  EXPECT_TRUE(this->world_.Load(ItemQuery("acme", 1)).ok());
}

TYPED_TEST(ControlConformanceTest, TwinsAreUnavailableWhileTheDatabaseIsAway) {
  ASSERT_TRUE(this->world_.LoadTwice(ItemQuery("acme", 1)).ok());
  this->world_.GoAway();
  const absl::Time gone_by = this->world_.Now() + absl::Seconds(10);
  while (this->world_.LoadTwice(ItemQuery("acme", 1)).ok() && this->world_.Now() < gone_by) {
  }
  EXPECT_EQ(this->world_.LoadTwice(ItemQuery("acme", 1)).status().code(), absl::StatusCode::kUnavailable);
  this->world_.ComeBack();
}

// ---- What only a real database can show ----

class PostgresControlTest : public testing::Test {
 protected:
  absl::StatusOr<ControlAnswer> Ask(const Endpoint& endpoint, std::vector<std::optional<std::string>> arguments = {}) {
    return world_.Load(MakeQuery(endpoint, "acme", std::move(arguments)));
  }
  std::string Body(const Endpoint& endpoint, std::vector<std::optional<std::string>> arguments = {}) {
    const auto answer = Ask(endpoint, std::move(arguments));
    return answer.ok() ? answer->body : answer.status().ToString();
  }

  PostgresControlWorld world_;
};

TEST_F(PostgresControlTest, RowsKeepTheirOrderAndNoneIsAnEmptyArray) {
  Endpoint endpoint =
      MakeEndpoint("SELECT n FROM generate_series(1, 3) AS n WHERE $1 = 'acme' ORDER BY n DESC -- the newest first");
  endpoint.shape = ResultShape::kRows;
  EXPECT_EQ(Body(endpoint), R"([{"n":3}, {"n":2}, {"n":1}])");
  endpoint.sql = "SELECT 1 AS n WHERE $1 = 'nobody'";
  const auto answer = Ask(endpoint);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_TRUE(answer->found);
  EXPECT_EQ(answer->body, "[]");
}

TEST_F(PostgresControlTest, AStandbysAnswersSaySo) {
  const support::PrivatePostgres primary;
  const support::PrivatePostgres standby(primary, {});
  for (const support::PrivatePostgres* server : {&primary, &standby}) {
    PostgresControlWorld world;
    world.options().connection_string = server->ConnectionString();
    const auto answer = world.Load(MakeQuery(MakeEndpoint("SELECT 1 AS n WHERE $1 = 'acme'"), "acme"));
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->standby, server == &standby);
  }
}

TEST_F(PostgresControlTest, ASecondRowOfARowEndpointIsAnError) {
  const auto answer = Ask(MakeEndpoint("SELECT n FROM generate_series(1, 2) AS n WHERE $1 = 'acme'"));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(answer.status().message(), testing::AllOf(HasSubstr("test/item"), HasSubstr("more than one row")));
}

TEST_F(PostgresControlTest, EveryTypeIsBoundAsItself) {
  const Endpoint endpoint = MakeEndpoint("SELECT $1 AS tenant, $2 AS b, $3 AS i, $4 AS il, $5 AS n, $6 AS t, $7 AS tl",
                                         {{"b", ParameterType::kBoolean},
                                          {"i", ParameterType::kInteger},
                                          {"il", ParameterType::kIntegerSet},
                                          {"n", ParameterType::kNumber},
                                          {"t", ParameterType::kText},
                                          {"tl", ParameterType::kTextList}});
  EXPECT_EQ(
      Body(endpoint, {"true", "-9223372036854775808", "{1,2}", "1e+22", R"(it's "\)", R"({"a,b","\\\"","NULL",""})"}),
      R"({"tenant":"acme","b":true,"i":-9223372036854775808,"il":[1,2],"n":10000000000000000000000,"t":"it's \"\\",)"
      R"("tl":["a,b","\\\"","NULL",""]})");
  EXPECT_EQ(Body(endpoint, {{}, {}, {}, {}, {}, {}}),
            R"({"tenant":"acme","b":null,"i":null,"il":null,"n":null,"t":null,"tl":null})");
}

TEST_F(PostgresControlTest, NoArgumentCanLeaveItsLiteral) {
  const Endpoint endpoint = MakeEndpoint("SELECT $1 AS tenant, $2 AS t", {{"t", ParameterType::kText}});
  for (const std::string& text : {std::string("'); DROP TABLE item; --"), std::string("\\'); DROP TABLE item; --"),
                                  std::string("$$'\"`;"), std::string("\xe2\x80\x99''")}) {
    const auto answer = Ask(endpoint, {text});
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(world_.Scalar("SELECT count(*) FROM item"), "0");
  }
  for (const std::string& text : {std::string("a\0b", 3), std::string("\xbf'"), std::string("\xff")}) {
    EXPECT_EQ(Ask(endpoint, {text}).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(PostgresControlTest, AStatementThatWritesFailsAndWritesNothing) {
  world_.Sql(
      "CREATE FUNCTION add_item() RETURNS int LANGUAGE sql AS 'INSERT INTO item VALUES (''x'', 1, ''x'') RETURNING 1'");
  const auto answer = Ask(MakeEndpoint("SELECT add_item() AS n, $1 AS tenant"));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(answer.status().message(), HasSubstr("25006"));
  EXPECT_EQ(world_.Scalar("SELECT count(*) FROM item"), "0");
}

// One text of several statements is one transaction: what is set in front of EXECUTE holds for it, and is gone
// afterwards.
TEST_F(PostgresControlTest, SettingsHoldForOneLoad) {
  Endpoint settings = MakeEndpoint(
      "SELECT current_setting('transaction_read_only') AS ro, current_setting('statement_timeout') AS timeout, "
      "current_setting('shadowline.viewer', true) AS viewer, $1 AS tenant",
      {{"viewer", ParameterType::kText}});
  settings.parameters[0].identity = true;
  settings.timeout = absl::Seconds(7);
  EXPECT_THAT(Body(settings, {"o'neil"}),
              testing::MatchesRegex(R"(\{"ro":"on","timeout":"[67][0-9]*m?s","viewer":"o'neil","tenant":"acme"\})"));

  Endpoint without = MakeEndpoint("SELECT current_setting('shadowline.viewer', true) AS viewer, $1 AS tenant");
  EXPECT_EQ(Body(without), R"({"viewer":"","tenant":"acme"})");
  EXPECT_THAT(Body(settings, {std::nullopt}), HasSubstr(R"("viewer":"")"));
}

TEST_F(PostgresControlTest, RowLevelSecuritySeesTheIdentity) {
  world_.Sql("INSERT INTO item VALUES ('acme', 1, 'hers'), ('acme', 2, 'his')");
  world_.Sql("DROP ROLE IF EXISTS reader_of_items");
  world_.Sql(
      "CREATE ROLE reader_of_items LOGIN; GRANT SELECT ON item TO reader_of_items;"
      "ALTER TABLE item ENABLE ROW LEVEL SECURITY;"
      "CREATE POLICY own ON item USING (name = current_setting('shadowline.viewer'))");
  world_.options().connection_string += " user=reader_of_items";
  Endpoint endpoint = MakeEndpoint("SELECT id FROM item WHERE tenant = $1", {{"viewer", ParameterType::kText}});
  endpoint.parameters[0].identity = true;
  EXPECT_EQ(Body(endpoint, {"hers"}), R"({"id":1})");
  EXPECT_EQ(Body(endpoint, {"his"}), R"({"id":2})");
  EXPECT_EQ(Body(endpoint, {"nobody"}), "");
}

TEST_F(PostgresControlTest, TheSessionIsTheDeclaredOneWhateverTheDatabasesDefaultsAre) {
  world_.Sql(absl::StrCat("ALTER DATABASE \"", world_.Scalar("SELECT current_database()"),
                          "\" SET timezone = 'Asia/Tokyo'; CREATE SCHEMA other; ALTER ROLE CURRENT_USER IN DATABASE \"",
                          world_.Scalar("SELECT current_database()"), "\" SET standard_conforming_strings = off"));
  world_.options().search_path = "other, public";
  EXPECT_EQ(
      Body(MakeEndpoint("SELECT '2026-01-01 00:00+00'::timestamptz AS at, current_setting('search_path') AS path, "
                        "'\\' AS backslash, $1 AS tenant")),
      R"({"at":"2026-01-01T00:00:00+00:00","path":"other, public","backslash":"\\","tenant":"acme"})");
}

TEST_F(PostgresControlTest, AnotherSessionIsNoAnswer) {
  // What a pooler could do between two loads, a statement does here.
  const Endpoint plain = MakeEndpoint("SELECT $1 AS tenant");
  for (const std::string& change : {std::string("set_config('TimeZone', 'Asia/Tokyo', false)"),
                                    std::string("set_config('search_path', 'pg_catalog', false)")}) {
    ASSERT_TRUE(Ask(plain).ok());
    (void)Ask(MakeEndpoint(absl::StrCat("SELECT ", change, " AS was, $1 AS tenant")));
    const auto answer = Ask(plain);
    // The change itself may have been noticed already, and its connection dropped.
    EXPECT_TRUE(answer.ok() || absl::IsFailedPrecondition(answer.status())) << answer.status();
    EXPECT_EQ(Body(plain), R"({"tenant":"acme"})") << "it does not recover by itself";
    EXPECT_THAT(Body(MakeEndpoint("SELECT current_setting('TimeZone') AS zone, $1 AS tenant")), HasSubstr("UTC"));
  }
}

TEST_F(PostgresControlTest, APreparedStatementThatIsGoneIsPreparedAgain) {
  const Endpoint plain = MakeEndpoint("SELECT $1 AS tenant");
  ASSERT_TRUE(Ask(plain).ok());
  world_.Sql(
      "CREATE FUNCTION forget() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN 1; END $$");
  (void)Ask(MakeEndpoint("SELECT forget() AS n, $1 AS tenant"));
  // Noticed, and read again in a session that has it.
  EXPECT_EQ(Body(plain), R"({"tenant":"acme"})");
}

TEST_F(PostgresControlTest, ErrorsNeverQuoteAnArgument) {
  const std::string secret = "s3cret";
  const Endpoint cast = MakeEndpoint("SELECT $2::uuid AS id, $1 AS tenant", {{"t", ParameterType::kText}});
  const auto refused = Ask(cast, {secret});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(refused.status().message(), testing::AllOf(HasSubstr("22P02"), Not(HasSubstr(secret))));

  world_.Sql(
      "CREATE FUNCTION tell(t text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'look: %', t USING DETAIL = t; END "
      "$$");
  const auto raised = Ask(MakeEndpoint("SELECT tell($2) AS n, $1 AS tenant", {{"t", ParameterType::kText}}), {secret});
  EXPECT_EQ(raised.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(raised.status().message(), testing::AllOf(HasSubstr("P0001"), Not(HasSubstr(secret))));

  const auto missing =
      Ask(MakeEndpoint("SELECT x FROM nowhere WHERE a = $1 AND b = $2", {{"t", ParameterType::kText}}), {secret});
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(missing.status().message(), testing::AllOf(HasSubstr("nowhere"), Not(HasSubstr(secret))));
}

// ---- Sets, on a real database ----

class PostgresSetTest : public PostgresControlTest {
 protected:
  PostgresSetTest() {
    world_.Sql(
        "CREATE TABLE thing (tenant text, id bigint, n numeric, label text, PRIMARY KEY (tenant, id));"
        "INSERT INTO thing SELECT 'acme', id, id / 7.0, 'thing ' || id FROM generate_series(1, 50) AS id");
  }

  absl::StatusOr<std::vector<ControlAnswer>> AskSet(const Endpoint& endpoint, std::vector<Arguments> arguments) {
    const Query first = MakeQuery(endpoint, "acme", arguments.at(0));
    return world_.LoadSet({first.catalog, first.endpoint, "acme", std::move(arguments)});
  }
  // Each answer of the set is byte for byte that of a load.
  void ExpectLikeLoads(const Endpoint& endpoint, const std::vector<Arguments>& arguments) {
    SCOPED_TRACE(endpoint.sql);
    const auto answers = AskSet(endpoint, arguments);
    ASSERT_TRUE(answers.ok()) << answers.status();
    ASSERT_EQ(answers->size(), arguments.size());
    for (size_t i = 0; i < arguments.size(); ++i) {
      const auto one = Ask(endpoint, arguments[i]);
      ASSERT_TRUE(one.ok()) << one.status();
      EXPECT_EQ((*answers)[i].found, one->found) << i;
      EXPECT_EQ((*answers)[i].body, one->body) << i;
    }
  }
  double Statements() {
    const std::string exposed = world_.metrics()->Expose();
    const std::string name = "shadowline_control_statements_total{pool=\"control\"} ";
    return std::stod(exposed.substr(exposed.find(name) + name.size()));
  }
};

TEST_F(PostgresSetTest, EveryTypeIsWhatItIsInASingleLoad) {
  const Endpoint endpoint =
      MakeEndpoint("SELECT $1 AS tenant, $2 AS b, $3 AS i, $4 AS il, $5 AS n, $6 AS t, $7 AS tl, $8 AS ts",
                   {{"b", ParameterType::kBoolean},
                    {"i", ParameterType::kInteger},
                    {"il", ParameterType::kIntegerList},
                    {"n", ParameterType::kNumber},
                    {"t", ParameterType::kText},
                    {"tl", ParameterType::kTextList},
                    {"ts", ParameterType::kTextSet}});
  ExpectLikeLoads(endpoint, {{"true", "-9223372036854775808", "{1,2}", "1e+22", R"(it's "\)",
                              R"({"a,b","\\\"","NULL",""})", R"({"x"})"},
                             {{}, {}, {}, {}, {}, {}, {}},
                             {"false", "0", "{}", "0.10", "", "{}", "{}"},
                             {"true", "1", "{3}", "-1.50", "NULL", R"({"{}","},{","\\"})", R"({"\"","a\\\\"})"},
                             {"false", "9223372036854775807", "{5,4,5}", "1e-7", "{a,b}", R"({"","",""})", "{}"},
                             {"true", "1", {}, "3", "\xe2\x80\x99$1$2$$", R"({"\xe2\x80\x99"})", {}}});
}

TEST_F(PostgresSetTest, AParameterMeansTheSameWhereverItStands) {
  const std::vector<std::pair<std::string, ParameterType>> parameters = {
      {"i", ParameterType::kInteger}, {"l", ParameterType::kIntegerList}, {"t", ParameterType::kText}};
  const std::vector<Arguments> arguments = {
      {"3", "{3,1,2}", "a"}, {"1", "{}", "b"}, {"2", "{7}", ""}, {"40", {}, {}}, {"3", "{1}", "$2"}};
  for (const char* sql : {
           // Names that PostgreSQL makes up.
           "SELECT $2::int, $4::varchar(1) FROM thing WHERE tenant = $1 AND id = 1",
           "SELECT coalesce($2, 0), $3[1], upper($4) FROM thing WHERE tenant = $1 AND id = 1",
           "SELECT (SELECT row_to_json(x) FROM (SELECT $2, $3, $4) AS x) AS nested, $1 AS tenant",
           "SELECT CASE WHEN $2 > 2 THEN $4 END, nullif($2, 3), ARRAY[$2], ($3)[1:2] WHERE $1 = 'acme'",
           // Places where a column is not allowed.
           "SELECT string_agg(label, ',') AS all FROM (SELECT label FROM thing WHERE tenant = $1 ORDER BY id LIMIT $2) "
           "AS x",
           "SELECT label FROM thing WHERE tenant = $1 ORDER BY id OFFSET $2 ROWS FETCH FIRST 1 ROWS ONLY",
           "SELECT array_agg(s) AS s FROM (SELECT sum(id) OVER (ORDER BY id ROWS $2 PRECEDING) AS s FROM thing WHERE "
           "tenant = $1) AS x",
           "SELECT array_agg(g) AS g FROM generate_series(1, $2) AS g WHERE $1 = 'acme'",
           // Groups, sets, scopes.
           "SELECT $2 AS i, count(*) AS n FROM thing WHERE tenant = $1 AND id <= $2 GROUP BY $2",
           "SELECT count(*) FILTER (WHERE id > $2) AS above, sum(id * $2) AS sum, max($4 || label) AS most FROM thing "
           "WHERE tenant = $1",
           "SELECT DISTINCT $2 AS i, $4 AS t FROM thing WHERE tenant = $1 ORDER BY $2 LIMIT 1",
           "SELECT array_agg(id ORDER BY id) AS ids FROM thing WHERE tenant = $1 AND id = ANY($3)",
           "SELECT n, label FROM thing WHERE tenant = $1 AND id = $2 AND label <> 'thing 40'",
           "WITH RECURSIVE up(i) AS (SELECT $2 UNION ALL SELECT i + 1 FROM up WHERE i < $2 + 3) SELECT sum(i) AS sum, "
           "(SELECT $1) AS tenant FROM up",
           "WITH mine AS MATERIALIZED (SELECT * FROM thing WHERE tenant = $1 AND id > $2) SELECT min(id) AS a, max(id) "
           "AS "
           "b FROM mine",
           "SELECT x.a FROM (SELECT $2 AS a UNION SELECT $2 UNION SELECT $2) AS x WHERE $1 = 'acme'",
           "SELECT thing.id, other.id AS other FROM thing, LATERAL (SELECT id FROM thing AS t WHERE t.tenant = $1 AND "
           "t.id > "
           "thing.id + $2 ORDER BY id LIMIT 1) AS other WHERE thing.tenant = $1 AND thing.id = $2",
           "SELECT id FROM thing WHERE tenant = $1 AND EXISTS (SELECT FROM thing AS t WHERE t.id = thing.id AND EXISTS "
           "(SELECT FROM thing AS u WHERE u.id = t.id AND u.id = $2))",
           "SELECT percentile_cont($2 / 100.0) WITHIN GROUP (ORDER BY id) AS p FROM thing WHERE tenant = $1",
           // What only looks like a parameter.
           "SELECT '$2' AS text, \"$3\".a, $tag$ $2 $tag$ AS dollar FROM (SELECT $2 AS a) AS \"$3\" WHERE $1 = 'acme' "
           "/* "
           "$2 */ -- $2",
       }) {
    Endpoint endpoint = MakeEndpoint(sql, parameters);
    ExpectLikeLoads(endpoint, arguments);
    endpoint.shape = ResultShape::kRows;
    ExpectLikeLoads(endpoint, arguments);
  }
}

TEST_F(PostgresSetTest, IsOneStatement) {
  const Endpoint endpoint =
      MakeEndpoint("SELECT label FROM thing WHERE tenant = $1 AND id = $2", {{"id", ParameterType::kInteger}});
  std::vector<Arguments> arguments;
  for (int id = 1; id <= 200; ++id) arguments.push_back({absl::StrCat(id)});
  ASSERT_TRUE(AskSet(endpoint, arguments).ok());
  EXPECT_EQ(Statements(), 1);
  ASSERT_TRUE(AskSet(endpoint, arguments).ok());
  EXPECT_EQ(Statements(), 2);
}

TEST_F(PostgresSetTest, AStatementThatHasNoFormForSetsIsUnimplementedAndLoads) {
  const Endpoint endpoint = MakeEndpoint("SELECT count($2) AS n, $1 AS tenant", {{"i", ParameterType::kInteger}});
  const auto answers = AskSet(endpoint, {{"1"}, {"2"}});
  EXPECT_EQ(answers.status().code(), absl::StatusCode::kUnimplemented) << answers.status();
  EXPECT_THAT(answers.status().message(), testing::AllOf(HasSubstr("test/item"), HasSubstr("42803")));
  EXPECT_EQ(Body(endpoint, {"1"}), R"({"n":1,"tenant":"acme"})");
}

TEST_F(PostgresSetTest, OneThatFailsFailsTheSet) {
  const Endpoint divides = MakeEndpoint("SELECT 1 / $2 AS n, $1 AS tenant", {{"i", ParameterType::kInteger}});
  EXPECT_TRUE(AskSet(divides, {{"1"}, {"2"}}).ok());
  const auto zero = AskSet(divides, {{"1"}, {"0"}});
  EXPECT_EQ(zero.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(zero.status().message(), testing::AllOf(HasSubstr("test/item"), HasSubstr("22012")));
  EXPECT_EQ(AskSet(divides, {{"1"}, {"one"}}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(AskSet(divides, {{"1"}, {"\xff"}}).status().code(), absl::StatusCode::kInvalidArgument);

  const Endpoint rows =
      MakeEndpoint("SELECT n FROM generate_series(1, $2) AS n WHERE $1 = 'acme'", {{"i", ParameterType::kInteger}});
  EXPECT_TRUE(AskSet(rows, {{"1"}, {"0"}}).ok());
  const auto two = AskSet(rows, {{"1"}, {"2"}});
  EXPECT_EQ(two.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(two.status().message(), HasSubstr("more than one row"));
}

TEST_F(PostgresSetTest, NothingOfItCanLeaveItsLiteralOrItsPlace) {
  const Endpoint endpoint = MakeEndpoint("SELECT $1 AS tenant, $2 AS l, $3 AS t",
                                         {{"l", ParameterType::kTextList}, {"t", ParameterType::kText}});
  ExpectLikeLoads(endpoint, {{R"({"'); DROP TABLE thing; --"})", "'); DROP TABLE thing; --"},
                             {R"({"\\'); DROP TABLE thing; --"})", "\\'); DROP TABLE thing; --"},
                             {R"({"\",\""})", "\",\""},
                             {R"({"}"})", "},{"},
                             {R"({"NULL"})", "null"}});
  EXPECT_EQ(world_.Scalar("SELECT count(*) FROM thing"), "50");
  // No array literal of one dimension: it is left to a load to say so.
  for (const char* list : {"{{1},{2}}", "{\"}", "{\\", "", "{", "1,2"}) {
    EXPECT_EQ(AskSet(endpoint, {{"{}", "a"}, {list, "b"}}).status().code(), absl::StatusCode::kUnimplemented) << list;
  }
}

TEST_F(PostgresSetTest, WritesNothingAndRunsUnderItsIdentity) {
  world_.Sql(
      "CREATE FUNCTION add_item(i bigint) RETURNS int LANGUAGE sql AS 'INSERT INTO item VALUES (''x'', i, ''x'') "
      "RETURNING 1'");
  const auto writes =
      AskSet(MakeEndpoint("SELECT add_item($2) AS n, $1 AS tenant", {{"i", ParameterType::kInteger}}), {{"1"}, {"2"}});
  EXPECT_EQ(writes.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(writes.status().message(), HasSubstr("25006"));
  EXPECT_EQ(world_.Scalar("SELECT count(*) FROM item"), "0");

  Endpoint settings = MakeEndpoint(
      "SELECT current_setting('transaction_read_only') AS ro, current_setting('shadowline.viewer', true) AS viewer, $2 "
      "AS "
      "i, $1 AS tenant",
      {{"i", ParameterType::kInteger}, {"viewer", ParameterType::kText}});
  settings.parameters[1].identity = true;
  const auto answers = AskSet(settings, {{"1", "o'neil"}, {"2", "o'neil"}});
  ASSERT_TRUE(answers.ok()) << answers.status();
  EXPECT_EQ((*answers)[1].body, R"({"ro":"on","viewer":"o'neil","i":2,"tenant":"acme"})");
  EXPECT_EQ(Body(MakeEndpoint("SELECT current_setting('shadowline.viewer', true) AS viewer, $1 AS tenant")),
            R"({"viewer":"","tenant":"acme"})");
}

TEST_F(PostgresSetTest, OfAnotherSessionIsNoAnswer) {
  const Endpoint plain = MakeEndpoint("SELECT $2 AS i, $1 AS tenant", {{"i", ParameterType::kInteger}});
  ASSERT_TRUE(AskSet(plain, {{"1"}, {"2"}}).ok());
  (void)Ask(MakeEndpoint("SELECT set_config('TimeZone', 'Asia/Tokyo', false) AS was, $1 AS tenant"));
  const auto answers = AskSet(MakeEndpoint("SELECT current_setting('TimeZone') AS zone, $2 AS i, $1 AS tenant",
                                           {{"i", ParameterType::kInteger}}),
                              {{"1"}, {"2"}});
  // Noticed, and read again in a session that is right.
  ASSERT_TRUE(answers.ok()) << answers.status();
  EXPECT_EQ((*answers)[1].body, R"({"zone":"UTC","i":2,"tenant":"acme"})");
}

// ---- Twins ----

class PostgresTwinTest : public PostgresControlTest {
 protected:
  // Reads `sql`, which is of one column `v`, twice; nothing where that fails.
  std::optional<std::pair<std::string, std::string>> Pair(const std::string& sql) {
    const auto twins = world_.LoadTwice(MakeQuery(MakeEndpoint(sql), "acme"));
    EXPECT_TRUE(twins.ok()) << sql << ": " << twins.status();
    if (!twins.ok()) return std::nullopt;
    return std::pair(twins->first.body, twins->second.body);
  }
};

TEST_F(PostgresTwinTest, ShowWhatAStatementMakesUp) {
  for (const char* made_up : {"random()", "now()", "clock_timestamp()", "statement_timestamp()", "gen_random_uuid()",
                              "(SELECT string_agg(n::text, ',' ORDER BY random()) FROM generate_series(1, 40) AS n)"}) {
    const auto pair = Pair(absl::StrCat("SELECT ", made_up, " AS v, $1 AS tenant"));
    ASSERT_TRUE(pair.has_value());
    EXPECT_NE(pair->first, pair->second) << made_up;
  }
}

TEST_F(PostgresTwinTest, AreTheSameWhereNothingIsMadeUpHoweverFastTheDataChanges) {
  world_.Sql("INSERT INTO item SELECT 'acme', n, '0' FROM generate_series(1, 50) AS n");
  // The order of rows in the table changes with each update; within a snapshot it does not.
  Endpoint rows = MakeEndpoint("SELECT id, name FROM item WHERE tenant = $1");
  rows.shape = ResultShape::kRows;
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    pqxx::connection connection(world_.connection_string());
    for (int i = 0; !stop; ++i) {
      pqxx::nontransaction(connection)
          .exec(absl::StrCat("UPDATE item SET name = name::int + 1 WHERE id % 7 = ", i % 7,
                             "; INSERT INTO item VALUES ('acme', ", 1000 + i, ", '0')"));
    }
  });
  int changed = 0;
  std::string last;
  for (int i = 0; i < 200; ++i) {
    const auto twins = world_.LoadTwice(MakeQuery(rows, "acme"));
    ASSERT_TRUE(twins.ok()) << twins.status();
    ASSERT_EQ(twins->first.body, twins->second.body) << "pair " << i;
    if (twins->first.body != last) ++changed;
    last = twins->first.body;
  }
  stop = true;
  writer.join();
  EXPECT_GT(changed, 100) << "nothing was written meanwhile";
}

TEST_F(PostgresTwinTest, AreReadUnderTheSettingsOfALoad) {
  Endpoint settings = MakeEndpoint(
      "SELECT current_setting('transaction_read_only') AS ro, current_setting('shadowline.viewer', true) AS viewer, "
      "current_setting('statement_timeout') <> '0' AS timed, current_setting('TimeZone') AS zone, $1 AS tenant",
      {{"viewer", ParameterType::kText}});
  settings.parameters[0].identity = true;
  const auto twins = world_.LoadTwice(MakeQuery(settings, "acme", {"o'neil"}));
  ASSERT_TRUE(twins.ok()) << twins.status();
  EXPECT_EQ(twins->first.body, R"({"ro":"on","viewer":"o'neil","timed":true,"zone":"UTC","tenant":"acme"})");
  EXPECT_EQ(twins->second.body, twins->first.body);
  EXPECT_EQ(Body(MakeEndpoint("SELECT current_setting('shadowline.viewer', true) AS viewer, $1 AS tenant")),
            R"({"viewer":"","tenant":"acme"})");
}

TEST_F(PostgresTwinTest, ThatFailLeaveNothingBehind) {
  world_.Write("acme", 1, "one");
  world_.Sql(
      "CREATE FUNCTION add_item() RETURNS int LANGUAGE sql AS 'INSERT INTO item VALUES (''x'', 1, ''x'') RETURNING 1'");
  const auto writing = world_.LoadTwice(MakeQuery(MakeEndpoint("SELECT add_item() AS n, $1 AS tenant"), "acme"));
  EXPECT_EQ(writing.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(writing.status().message(), HasSubstr("25006"));
  const auto division = world_.LoadTwice(
      MakeQuery(MakeEndpoint("SELECT 1 / $2 AS n, $1 AS tenant", {{"d", ParameterType::kInteger}}), "acme", {"0"}));
  EXPECT_EQ(division.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(world_.Scalar("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE "
                          "'idle in transaction%'"),
            "0");
  ASSERT_TRUE(world_.LoadTwice(ItemQuery("acme", 1)).ok());
  EXPECT_EQ(world_.Scalar("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE "
                          "'idle in transaction%'"),
            "0");
}

TEST_F(PostgresTwinTest, OfAnotherSessionAreNoAnswer) {
  world_.Sql("CREATE ROLE twin_other; GRANT ALL ON item TO twin_other");
  ASSERT_TRUE(world_.LoadTwice(ItemQuery("acme", 1)).ok());
  // What the statement itself changes is seen by its stamp.
  const auto twins = world_.LoadTwice(
      MakeQuery(MakeEndpoint("SELECT set_config('role', 'twin_other', true) AS r, $1 AS tenant"), "acme"));
  EXPECT_EQ(twins.status().code(), absl::StatusCode::kFailedPrecondition) << twins.status();
}

TEST_F(PostgresTwinTest, ConnectionsThatDiedWhileIdleAreReplacedUnnoticed) {
  world_.Write("acme", 1, "one");
  ASSERT_TRUE(world_.LoadTwice(ItemQuery("acme", 1)).ok());
  world_.Sql(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
      "pg_backend_pid()");
  const auto twins = world_.LoadTwice(ItemQuery("acme", 1));
  EXPECT_TRUE(twins.ok()) << twins.status();
}

TEST_F(PostgresControlTest, AFullQueueRefusesAndWhatExpiredInItIsNeverRun) {
  world_.options().queue_limit = 4;
  world_.Write("acme", 1, "one");
  world_.Hang();
  std::atomic<int> late{0};
  std::atomic<int> refused{0};
  Notification all;
  constexpr int kLoads = 20;
  std::atomic<int> left{kLoads};
  for (int i = 0; i < kLoads; ++i) {
    world_.control().Load(ItemQuery("acme", 1), absl::Milliseconds(300), world_.loop(),
                          [&](absl::StatusOr<ControlAnswer> answer) {
                            late += answer.status().code() == absl::StatusCode::kDeadlineExceeded;
                            refused += answer.status().code() == absl::StatusCode::kResourceExhausted;
                            if (--left == 0) all.Notify();
                          });
  }
  all.WaitForNotification();
  // One runs (or was just taken), four wait.
  EXPECT_GE(refused, kLoads - 6);
  EXPECT_EQ(late + refused, kLoads);
  // The second may have been taken in the very millisecond in which the first gave up.
  EXPECT_THAT(world_.metrics()->Expose(), testing::ContainsRegex("statements_total.pool=\"control\". [12]\n"));
  world_.StopHanging();
  EXPECT_TRUE(world_.Load(ItemQuery("acme", 1)).ok());
}

TEST_F(PostgresControlTest, AConnectionThatDiedWhileIdleIsReplacedUnnoticed) {
  const Endpoint plain = MakeEndpoint("SELECT pg_backend_pid() AS pid, $1 AS tenant");
  const std::string first = Body(plain);
  world_.Sql(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = "
      "'shadowline'");
  const auto answer = Ask(plain);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_NE(answer->body, first);
}

TEST_F(PostgresControlTest, ASlowStatementIsCancelledByTheServerAndTheConnectionKept) {
  const Endpoint pid = MakeEndpoint("SELECT pg_backend_pid() AS pid, $1 AS tenant");
  const std::string first = Body(pid);
  const auto slow = world_.Load(MakeQuery(MakeEndpoint("SELECT pg_sleep(60)::text AS s, $1 AS tenant"), "acme"),
                                absl::Milliseconds(200));
  EXPECT_EQ(slow.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(Body(pid), first);
}

TEST_F(PostgresControlTest, HowEachStatementWentIsHeard) {
  std::vector<std::pair<absl::Duration, absl::Status>> heard;  // Before its answer, so that nobody else is at it.
  std::vector<std::string> names;
  world_.options().ran = [&](absl::string_view statement, absl::Duration took, const absl::Status& status) {
    heard.emplace_back(took, status);
    names.emplace_back(statement);
  };
  ASSERT_TRUE(world_.Load(ItemQuery("acme", 1)).ok());
  ASSERT_EQ(heard.size(), 1u);
  EXPECT_TRUE(heard[0].second.ok());
  EXPECT_GT(heard[0].first, absl::ZeroDuration());
  world_.Load(MakeQuery(MakeEndpoint("SELECT pg_sleep(60)::text AS s, $1 AS tenant"), "acme"), absl::Milliseconds(200))
      .IgnoreError();
  ASSERT_EQ(heard.size(), 2u);
  EXPECT_EQ(heard[1].second.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE(heard[1].first, absl::Milliseconds(150));
  for (const std::vector<int64_t>& ids : {std::vector<int64_t>{1, 2}, {1, 2, 3}, {1, 2, 3, 4}}) {
    ASSERT_TRUE(world_.LoadSet(ItemQueries("acme", ids)).ok());
  }
  ASSERT_EQ(heard.size(), 5u);
  EXPECT_EQ(names[2], names[3]) << "two and three reads take about the same";
  EXPECT_NE(names[2], names[4]);
  EXPECT_NE(names[2], names[0]) << "what many reads take says nothing of one";
  world_.Sql(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = "
      "'shadowline'");
  ASSERT_TRUE(world_.Load(ItemQuery("acme", 1)).ok());
  ASSERT_EQ(heard.size(), 6u);
  EXPECT_TRUE(heard[5].second.ok()) << "a connection that was dead is no database that is away";
}

// The process that serves the connection is stopped: its socket stays open, and says nothing.
TEST_F(PostgresControlTest, ASilentServerHoldsNeitherCallersNorThreads) {
  const Query plain = MakeQuery(MakeEndpoint("SELECT $1 AS tenant"), "acme");
  ASSERT_TRUE(world_.Load(plain).ok());
  const int backend = std::stoi(
      world_.Scalar("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                    "AND application_name = 'shadowline'"));
  ASSERT_EQ(::kill(backend, SIGSTOP), 0);
  const absl::Time before = world_.Now();
  const auto answer = world_.Load(plain, absl::Milliseconds(200));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kDeadlineExceeded) << answer.status();
  EXPECT_LT(world_.Now() - before, absl::Seconds(2));
  // The one thread is free again, on another connection, while the stopped process is still there.
  EXPECT_TRUE(world_.Load(plain).ok());
  ::kill(backend, SIGTERM);
  ::kill(backend, SIGCONT);
}

// The listening process is stopped: connecting hangs.
TEST_F(PostgresControlTest, AServerThatAcceptsAndSaysNothingIsUnavailableInTime) {
  Postgres()->Freeze();
  for (int i = 0; i < 3; ++i) {
    const absl::Time before = world_.Now();
    const auto answer = world_.Load(ItemQuery("acme", 1), absl::Milliseconds(200));
    EXPECT_TRUE(absl::IsDeadlineExceeded(answer.status()) || absl::IsUnavailable(answer.status())) << answer.status();
    EXPECT_LT(world_.Now() - before, absl::Seconds(1));
  }
  Postgres()->Thaw();
  absl::StatusOr<ControlAnswer> answer = absl::UnavailableError("");
  const absl::Time until = world_.Now() + absl::Seconds(15);
  while (!answer.ok() && world_.Now() < until) answer = world_.Load(ItemQuery("acme", 1));
  EXPECT_TRUE(answer.ok()) << answer.status();
}

// A lock on the table holds up PREPARE, too.
TEST_F(PostgresControlTest, PreparingHasADeadlineToo) {
  world_.Hang();
  EXPECT_TRUE(absl::IsDeadlineExceeded(world_.Load(ItemQuery("acme", 1), absl::Milliseconds(200)).status()));
  EXPECT_TRUE(world_.Load(MakeQuery(MakeEndpoint("SELECT $1 AS tenant"), "acme")).ok()) << "the thread is not free";
  world_.StopHanging();
}

TEST_F(PostgresControlTest, AnAddressWhereNobodyIsIsUnavailable) {
  PostgresControl::Options options;
  options.connection_string = absl::StrCat("host=127.0.0.1 dbname=x port=", support::FreePort());
  PostgresControl nobody(options, world_.clock(), world_.metrics());
  const auto answer = world_.LoadFrom(&nobody, ItemQuery("acme", 1));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kUnavailable);
  options.connection_string = "no connection string";
  PostgresControl nonsense(options, world_.clock(), world_.metrics());
  EXPECT_EQ(world_.LoadFrom(&nonsense, ItemQuery("acme", 1)).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(PostgresControlTest, DestructionAnswersWhatIsQueued) {
  std::atomic<int> answered{0};
  Notification all;
  {
    PostgresControl::Options options = world_.options();
    options.connections = 2;
    options.queue_limit = 100;
    PostgresControl control(options, world_.clock(), world_.metrics());
    for (int i = 0; i < 50; ++i) {
      control.Load(ItemQuery("acme", 1), absl::Seconds(10), world_.loop(), [&](absl::StatusOr<ControlAnswer> answer) {
        EXPECT_TRUE(answer.ok()) << answer.status();
        if (++answered == 50) all.Notify();
      });
    }
  }
  all.WaitForNotification();
  EXPECT_EQ(answered, 50);
}

}  // namespace
}  // namespace shadowline::cache
