#include "cache/origin/gathering_control.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/sim/sim.h"

namespace shadowline::cache {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

// Answers with the question, after a time for each read of a statement; keeps what it was asked.
class FakeDatabase final : public Control {
 public:
  explicit FakeDatabase(sim::SimWorld* world) : world_(world) {}

  void Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) override {
    QuerySet queries{query.catalog, query.endpoint, query.tenant, {query.arguments}};
    LoadSet(std::move(queries), timeout, reply_on, [done = std::move(done)](auto answers) mutable {
      answers.ok() ? done(answers->front()) : done(answers.status());
    });
  }
  void LoadSet(QuerySet queries, absl::Duration timeout, base::Executor* reply_on, SetCallback done) override {
    statements.push_back(queries);
    timeouts.push_back(timeout);
    absl::Status failed = fault ? fault(queries) : absl::OkStatus();
    absl::Duration takes = per_read * queries.arguments.size();
    if (takes > std::min(timeout, queries.endpoint->timeout)) {
      takes = std::min(timeout, queries.endpoint->timeout);
      failed = absl::DeadlineExceededError("no answer in time");
    }
    std::vector<ControlAnswer> answers;
    for (const Arguments& arguments : queries.arguments) {
      answers.push_back(
          {.found = true,
           .body = absl::StrCat(queries.endpoint->name, "/", queries.tenant, "/", arguments[0].value_or("null"))});
    }
    absl::StatusOr<std::vector<ControlAnswer>> result = std::move(answers);
    if (!failed.ok()) result = failed;
    world_->executor()->PostAfter(takes, [reply_on, result = std::move(result), done = std::move(done)]() mutable {
      reply_on->Post([result = std::move(result), done = std::move(done)]() mutable { done(std::move(result)); });
    });
  }

  // How many reads each statement was for.
  std::vector<size_t> Sizes() const {
    std::vector<size_t> sizes;
    for (const QuerySet& statement : statements) sizes.push_back(statement.arguments.size());
    return sizes;
  }

  std::function<absl::Status(const QuerySet&)> fault;
  absl::Duration per_read = absl::Microseconds(10);
  std::vector<QuerySet> statements;
  std::vector<absl::Duration> timeouts;

 private:
  sim::SimWorld* const world_;
};

class GatheringControlTest : public testing::Test {
 protected:
  GatheringControlTest() {
    std::vector<Endpoint> endpoints(2);
    endpoints[0].name = "pricing/quote";
    endpoints[1].name = "pricing/mine";
    for (Endpoint& endpoint : endpoints) {
      endpoint.statement_id = endpoint.name;
      endpoint.timeout = absl::Milliseconds(50);
      endpoint.parameters = {{.name = "id"}, {.name = "viewer"}};
    }
    endpoints[1].parameters[1].identity = true;
    catalog_ = std::make_shared<CompiledCatalog>(1, shadowline::v1::Catalog(), std::move(endpoints));
  }

  using Result = std::shared_ptr<std::optional<absl::StatusOr<ControlAnswer>>>;

  Query Ask(const std::string& id, int endpoint = 0, const std::string& tenant = "acme",
            const std::string& viewer = "her") const {
    return Query{catalog_, &catalog_->endpoints()[endpoint], tenant, {id, viewer}};
  }
  Result Load(Query query, std::shared_ptr<Gathering> gathering, size_t place,
              absl::Duration timeout = absl::Seconds(10)) {
    query.gathering = std::move(gathering);
    query.place = place;
    auto result = std::make_shared<std::optional<absl::StatusOr<ControlAnswer>>>();
    control_.Load(std::move(query), timeout, world_.executor(), [result](absl::StatusOr<ControlAnswer> answer) {
      EXPECT_FALSE(result->has_value()) << "answered twice";
      *result = std::move(answer);
    });
    return result;
  }
  // A batch of `count` reads of one endpoint, all of which load.
  std::vector<Result> LoadAll(int count, absl::Duration timeout = absl::Seconds(10)) {
    const auto gathering = std::make_shared<Gathering>(count);
    std::vector<Result> results;
    for (int i = 0; i < count; ++i) results.push_back(Load(Ask(absl::StrCat(i)), gathering, i, timeout));
    world_.RunUntilIdle();
    return results;
  }
  static std::string BodyOf(const Result& result) {
    if (!result->has_value()) return "never answered";
    return (*result)->ok() ? (**result)->body : (*result)->status().ToString();
  }
  double Saved() const {
    const std::string exposed = metrics_.Expose();
    const std::string name = "\nshadowline_batch_statements_saved_total{pool=\"control\"} ";
    return std::stod(exposed.substr(exposed.find(name) + name.size()));
  }

  sim::SimWorld world_{1};
  base::Metrics metrics_;
  std::shared_ptr<const CompiledCatalog> catalog_;
  FakeDatabase database_{&world_};
  GatheringControl control_{{}, &database_, world_.executor(), world_.clock(), &metrics_};
};

TEST_F(GatheringControlTest, ALoadThatIsAloneIsSentAtOnce) {
  const Result result = Load(Ask("1"), nullptr, 0);
  EXPECT_THAT(database_.Sizes(), ElementsAre(1));
  const Result of_one = Load(Ask("2"), std::make_shared<Gathering>(1), 0);
  EXPECT_THAT(database_.Sizes(), ElementsAre(1, 1));
  world_.RunUntilIdle();
  EXPECT_EQ(BodyOf(result), "pricing/quote/acme/1");
  EXPECT_EQ(BodyOf(of_one), "pricing/quote/acme/2");
}

TEST_F(GatheringControlTest, ABatchIsOneStatementForEachEndpointTenantAndIdentity) {
  const auto gathering = std::make_shared<Gathering>(8);
  std::vector<Result> results;
  for (Query query : {Ask("1"), Ask("2"), Ask("1", 0, "globex"), Ask("1", 1), Ask("2", 1), Ask("1", 1, "acme", "him"),
                      Ask("3", 0, "acme", "him"), Ask("3", 1)}) {
    results.push_back(Load(std::move(query), gathering, results.size()));
  }
  // The last one brought them on their way. What is no identity does not keep reads apart.
  EXPECT_THAT(database_.Sizes(), ElementsAre(3, 1, 3, 1));
  EXPECT_EQ(database_.statements[1].tenant, "globex");
  EXPECT_EQ(database_.statements[3].arguments[0][1], "him");
  world_.RunUntilIdle();
  const std::vector<std::string> expected = {"pricing/quote/acme/1", "pricing/quote/acme/2", "pricing/quote/globex/1",
                                             "pricing/mine/acme/1",  "pricing/mine/acme/2",  "pricing/mine/acme/1",
                                             "pricing/quote/acme/3", "pricing/mine/acme/3"};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(BodyOf(results[i]), expected[i]);
  EXPECT_EQ(Saved(), 4);
}

TEST_F(GatheringControlTest, LoadsWaitUntilEveryOtherReadIsSettled) {
  const auto gathering = std::make_shared<Gathering>(4);
  gathering->Settle(3);
  Load(Ask("1"), gathering, 0);
  Load(Ask("2"), gathering, 1);
  gathering->Settle(0);
  gathering->Settle(3);
  EXPECT_THAT(database_.Sizes(), IsEmpty());
  gathering->Settle(2);
  EXPECT_THAT(database_.Sizes(), ElementsAre(2));
  // A read that loads once more has nobody to wait for.
  Load(Ask("1"), gathering, 0);
  EXPECT_THAT(database_.Sizes(), ElementsAre(2, 1));
  world_.RunUntilIdle();
  EXPECT_THAT(database_.Sizes(), ElementsAre(2, 1));
}

TEST_F(GatheringControlTest, AReadThatWaitsForSomethingElseHoldsUpNobodyForLong) {
  const auto gathering = std::make_shared<Gathering>(4);
  Load(Ask("1"), gathering, 0);
  Load(Ask("2"), gathering, 1);
  world_.RunFor(absl::Microseconds(1900));
  EXPECT_THAT(database_.Sizes(), IsEmpty());
  world_.RunFor(absl::Microseconds(200));
  EXPECT_THAT(database_.Sizes(), ElementsAre(2));
  Load(Ask("3"), gathering, 2);
  EXPECT_THAT(database_.Sizes(), ElementsAre(2));
  const Result last = Load(Ask("4"), gathering, 3);
  EXPECT_THAT(database_.Sizes(), ElementsAre(2, 2));
  world_.RunUntilIdle();
  EXPECT_EQ(BodyOf(last), "pricing/quote/acme/4");
}

TEST_F(GatheringControlTest, OneThatMakesTheStatementFailFailsAlone) {
  for (const absl::Status& status : {absl::InvalidArgumentError("divided by zero"), absl::InternalError("two rows")}) {
    database_.fault = [&](const QuerySet& queries) {
      const bool bad = std::any_of(queries.arguments.begin(), queries.arguments.end(),
                                   [](const Arguments& one) { return one[0] == "77"; });
      return bad ? status : absl::OkStatus();
    };
    database_.statements.clear();
    const std::vector<Result> results = LoadAll(200);
    for (int i = 0; i < 200; ++i) {
      EXPECT_EQ(BodyOf(results[i]), i == 77 ? status.ToString() : absl::StrCat("pricing/quote/acme/", i));
    }
    // The set, and for each halving two.
    EXPECT_LE(database_.statements.size(), 1 + 2 * 8u);
  }
}

TEST_F(GatheringControlTest, WhereAllFailEachFailsAsItDoesAlone) {
  database_.fault = [](const QuerySet& queries) {
    return queries.arguments.size() > 1 ? absl::InvalidArgumentError("one of them")
                                        : absl::InvalidArgumentError(*queries.arguments[0][0]);
  };
  const std::vector<Result> results = LoadAll(16);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(BodyOf(results[i]), absl::InvalidArgumentError(absl::StrCat(i)).ToString());
  EXPECT_LT(database_.statements.size(), 2 * 16u);
  EXPECT_EQ(Saved(), 0);
}

TEST_F(GatheringControlTest, ASetThatIsTooSlowIsLoadedOneByOneAndLaterOnesAreSmaller) {
  database_.per_read = absl::Milliseconds(1);  // A statement has 50.
  std::vector<Result> results = LoadAll(80);
  for (int i = 0; i < 80; ++i) EXPECT_EQ(BodyOf(results[i]), absl::StrCat("pricing/quote/acme/", i));
  EXPECT_THAT(database_.statements, SizeIs(81));

  database_.statements.clear();
  results = LoadAll(80);
  EXPECT_THAT(database_.Sizes(), ElementsAre(40, 40));
  EXPECT_EQ(BodyOf(results[79]), "pricing/quote/acme/79");

  database_.per_read = absl::Microseconds(10);
  world_.RunFor(absl::Minutes(1));
  database_.statements.clear();
  LoadAll(80);
  EXPECT_THAT(database_.Sizes(), ElementsAre(80)) << "it is not tried again";
}

TEST_F(GatheringControlTest, AtTheCallersDeadlineNothingMoreIsAsked) {
  database_.per_read = absl::Milliseconds(1);
  const std::vector<Result> results = LoadAll(30, /*timeout=*/absl::Milliseconds(20));
  for (const Result& result : results) EXPECT_TRUE(absl::IsDeadlineExceeded((*result)->status())) << BodyOf(result);
  EXPECT_THAT(database_.Sizes(), ElementsAre(30));
  EXPECT_THAT(database_.timeouts, ElementsAre(absl::Milliseconds(20)));
  // It says nothing about the statement.
  LoadAll(30);
  EXPECT_THAT(database_.Sizes(), ElementsAre(30, 30));
}

TEST_F(GatheringControlTest, AStatementWithoutAFormForSetsIsLoadedOneByOne) {
  database_.fault = [](const QuerySet& queries) {
    return queries.arguments.size() > 1 ? absl::UnimplementedError("no sets") : absl::OkStatus();
  };
  EXPECT_EQ(BodyOf(LoadAll(3)[2]), "pricing/quote/acme/2");
  EXPECT_THAT(database_.Sizes(), ElementsAre(3, 1, 1, 1));
  EXPECT_EQ(BodyOf(LoadAll(3)[2]), "pricing/quote/acme/2");
  EXPECT_THAT(database_.Sizes(), ElementsAre(3, 1, 1, 1, 1, 1, 1)) << "it is known by now";
}

TEST_F(GatheringControlTest, ADatabaseThatIsAwayOrFullIsNotAskedForEach) {
  for (const absl::Status& status : {absl::UnavailableError("away"), absl::ResourceExhaustedError("full"),
                                     absl::FailedPreconditionError("another session")}) {
    database_.fault = [&](const QuerySet&) { return status; };
    database_.statements.clear();
    for (const Result& result : LoadAll(20)) EXPECT_EQ(BodyOf(result), status.ToString());
    EXPECT_THAT(database_.statements, SizeIs(1));
  }
}

TEST_F(GatheringControlTest, AStatementIsForSoManyReadsAtMost) {
  LoadAll(600);
  EXPECT_THAT(database_.Sizes(), ElementsAre(256, 256, 88));
}

}  // namespace
}  // namespace shadowline::cache
