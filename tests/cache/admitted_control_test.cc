#include "cache/origin/admitted_control.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/event_loop.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_database.h"

namespace shadowline::cache {
namespace {

using testing::HasSubstr;

std::shared_ptr<const CompiledCatalog> MakeCatalog(absl::Duration timeout) {
  std::vector<Endpoint> endpoints(2);
  endpoints[0].name = "pricing/quote";
  endpoints[1].name = "pricing/report";
  for (Endpoint& endpoint : endpoints) {
    endpoint.timeout = timeout;
    endpoint.parameters.resize(1);
  }
  return std::make_shared<CompiledCatalog>(1, shadowline::v1::Catalog(), std::move(endpoints));
}

// A database of so many cores: statements that run beside more of them share these, and on top lose time to each other.
class StrainedDatabase final : public Control {
 public:
  StrainedDatabase(sim::SimWorld* world, size_t cores, absl::Duration quick)
      : world_(world), cores_(static_cast<double>(cores)), quick_(quick) {}

  void Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) override {
    ++queries_;
    ++running_;
    running_most_ = std::max(running_most_, running_);
    const double running = static_cast<double>(running_);
    const double strain = std::max(1.0, running / cores_) * (1 + 0.03 * std::max(0.0, running - cores_));
    const absl::Duration takes = Quick(query) * strain * (0.8 + 0.4 * world_->random()->Unit());
    const bool in_time = takes <= timeout;
    world_->executor()->PostAfter(
        in_time ? takes : std::max(timeout, absl::ZeroDuration()),
        [this, in_time, started_at = world_->clock()->Now(), done = std::move(done)]() mutable {
          --running_;
          if (!in_time) return done(absl::DeadlineExceededError("no answer in time"));
          done(ControlAnswer{
              .found = true, .body = "1", .started_at = started_at, .answered_at = world_->clock()->Now()});
        });
  }

  // Statements a second at its best.
  double Best() const { return cores_ / absl::ToDoubleSeconds(quick_); }
  void SlowDown(double times) { quick_ = quick_ * times; }
  uint64_t queries() const { return queries_; }
  size_t running() const { return running_; }
  size_t TakeMostRunning() { return std::exchange(running_most_, running_); }

 private:
  absl::Duration Quick(const Query& query) const {
    return query.endpoint->name == "pricing/report" ? quick_ * 20 : quick_;
  }

  sim::SimWorld* const world_;
  const double cores_;
  absl::Duration quick_;
  uint64_t queries_ = 0;
  size_t running_ = 0;
  size_t running_most_ = 0;
};

// ---- Overload

class OverloadSimTest : public testing::Test {
 protected:
  struct Tally {
    int asked = 0;
    int answered = 0;
    int refused = 0;
    int late = 0;
    absl::Duration refused_after;  // The longest.
  };

  // Reads of different rows at `per_second` for `span`, spread evenly; returns when all are answered.
  void Offer(Control* control, absl::string_view tenant, double per_second, absl::Duration span, Tally* tally,
             int endpoint = 0) {
    const absl::Duration gap = absl::Seconds(1) / per_second;
    for (absl::Duration at; at < span; at += gap) {
      world_.executor()->PostAfter(at + gap * world_.random()->Unit(), [=, this, tenant = std::string(tenant)] {
        Ask(control, tenant, absl::StrCat(next_row_++), tally, endpoint);
      });
    }
  }
  void Ask(Control* control, const std::string& tenant, const std::string& row, Tally* tally, int endpoint = 0) {
    ++tally->asked;
    const absl::Time asked = world_.clock()->Now();
    control->Load(Query{catalog_, &catalog_->endpoints()[endpoint], tenant, {row}}, absl::Milliseconds(250),
                  world_.executor(), [=, this](const absl::StatusOr<ControlAnswer>& answer) {
                    const absl::Duration after = world_.clock()->Now() - asked;
                    if (answer.ok()) {
                      ++tally->answered;
                      EXPECT_LE(after, absl::Milliseconds(251));
                    } else if (absl::IsResourceExhausted(answer.status())) {
                      ++tally->refused;
                      tally->refused_after = std::max(tally->refused_after, after);
                    } else {
                      ++tally->late;
                    }
                  });
  }

  sim::SimWorld world_{1};
  base::Metrics metrics_;
  std::shared_ptr<const CompiledCatalog> catalog_ = MakeCatalog(absl::Seconds(5));
  StrainedDatabase database_{&world_, 8, absl::Milliseconds(2)};  // 4,000 a second at its best.
  AdmittedControl control_{{.limit = {.most = 64}}, &database_, world_.clock(), &metrics_};
  uint64_t next_row_ = 1;
};

TEST_F(OverloadSimTest, ThreeTimesTheLoadThatTheDatabaseCanDoKeepsItNearItsBest) {
  Tally direct;
  Offer(&database_, "acme", 12'000, absl::Seconds(5), &direct);
  world_.RunUntilIdle();
  EXPECT_LT(direct.answered / 5.0, 0.2 * database_.Best())
      << "without admission it breaks down: else this shows nothing";

  Tally admitted;
  database_.TakeMostRunning();
  Offer(&control_, "acme", 12'000, absl::Seconds(25), &admitted);
  world_.RunFor(absl::Seconds(5));
  const int answered = admitted.answered;
  database_.TakeMostRunning();
  world_.RunUntilIdle();
  const double share = (admitted.answered - answered) / 20.0 / database_.Best();
  std::printf("without: %.2f of the best; with: %.2f; most at once: %zu\n", direct.answered / 5.0 / database_.Best(),
              share, database_.TakeMostRunning());
  EXPECT_GT(share, 0.8);
  EXPECT_EQ(admitted.late, 0) << "what is sent is answered in time";
  EXPECT_LE(admitted.refused_after, absl::Milliseconds(100));
  EXPECT_EQ(admitted.answered + admitted.refused, admitted.asked);
}

TEST_F(OverloadSimTest, TheLimitIsNeverExceededAndDoesNotDriftUpwards) {
  Tally tally;
  Offer(&control_, "acme", 12'000, absl::Seconds(60), &tally);
  world_.RunFor(absl::Seconds(5));
  EXPECT_LE(database_.TakeMostRunning(), 64u);
  for (int second = 5; second < 60; ++second) {
    world_.RunFor(absl::Seconds(1));
    const size_t most = database_.TakeMostRunning();
    EXPECT_LE(most, 20u) << "in second " << second;
    EXPECT_GE(most, 8u) << "in second " << second;
  }
}

TEST_F(OverloadSimTest, TheLimitFollowsADatabaseThatSlowsDownAndRecovers) {
  Tally tally;
  Offer(&control_, "acme", 12'000, absl::Seconds(60), &tally);
  world_.RunFor(absl::Seconds(20));
  database_.SlowDown(4);
  const int before = tally.answered;
  world_.RunFor(absl::Seconds(20));
  const int during = tally.answered;
  EXPECT_GT(during - before, 0.7 * 20 * database_.Best());
  database_.SlowDown(0.25);
  world_.RunFor(absl::Seconds(20));
  EXPECT_GT(tally.answered - during, 0.7 * 20 * database_.Best());
}

TEST_F(OverloadSimTest, WithinItsMeansNothingIsRefused) {
  Tally tally;
  Offer(&control_, "acme", 2'500, absl::Seconds(20), &tally);
  world_.RunUntilIdle();
  EXPECT_EQ(tally.answered, tally.asked);
}

TEST_F(OverloadSimTest, ABurstWaitsInLineAndIsServed) {
  Tally tally;
  for (int i = 0; i < 200; ++i) Ask(&control_, "acme", absl::StrCat(next_row_++), &tally);
  world_.RunUntilIdle();
  EXPECT_EQ(tally.answered, 200);
}

TEST_F(OverloadSimTest, AStatementThatIsSlowByNatureIsNoCongestion) {
  Tally quick, slow;
  Offer(&control_, "acme", 1'000, absl::Seconds(20), &quick);
  Offer(&control_, "acme", 50, absl::Seconds(20), &slow, /*endpoint=*/1);
  world_.RunUntilIdle();
  EXPECT_EQ(quick.refused + slow.refused, 0);
}

TEST_F(OverloadSimTest, ATenantThatFloodsDoesNotKeepAnotherFromTheDatabase) {
  Tally loud, quiet;
  Offer(&control_, "loud", 20'000, absl::Seconds(10), &loud);
  Offer(&control_, "quiet", 200, absl::Seconds(10), &quiet);
  world_.RunUntilIdle();
  std::printf("quiet tenant: %d of %d answered; loud: %d of %d\n", quiet.answered, quiet.asked, loud.answered,
              loud.asked);
  EXPECT_GT(quiet.answered, 0.98 * quiet.asked);
  EXPECT_GT(loud.answered, 0.7 * 10 * database_.Best());
}

TEST_F(OverloadSimTest, TheBackgroundGivesWayToCallers) {
  Tally callers, background;
  Offer(&control_, "acme", 12'000, absl::Seconds(10), &callers);
  Offer(control_.background(), "acme", 2'000, absl::Seconds(10), &background);
  world_.RunUntilIdle();
  EXPECT_GT(callers.answered, 0.75 * 10 * database_.Best());
  EXPECT_LT(background.answered, 0.1 * background.asked);

  Tally alone;
  Offer(control_.background(), "acme", 500, absl::Seconds(10), &alone);
  world_.RunUntilIdle();
  EXPECT_EQ(alone.answered, alone.asked);
}

TEST_F(OverloadSimTest, ADatabaseThatHangsIsSentNoMoreThanTheLimitAndRefusesTheRestSoon) {
  database_.SlowDown(1e6);
  Tally tally;
  Offer(&control_, "acme", 12'000, absl::Seconds(2), &tally);
  world_.RunUntilIdle();
  EXPECT_LE(database_.TakeMostRunning(), 64u);
  EXPECT_LE(tally.refused_after, absl::Milliseconds(100));
  EXPECT_EQ(tally.late + tally.refused, tally.asked);
}

// ---- One load at a time, by hand

// Answers when it is told to.
class HeldControl final : public Control {
 public:
  struct Held {
    size_t rows;
    absl::Duration timeout;
    base::Executor* reply_on;
    SetCallback done;
  };

  void Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) override {
    LoadSet({query.catalog, query.endpoint, query.tenant, {query.arguments}}, timeout, reply_on,
            [done = std::move(done)](absl::StatusOr<std::vector<ControlAnswer>> answers) mutable {
              answers.ok() ? done(answers->front()) : done(answers.status());
            });
  }
  void LoadSet(QuerySet queries, absl::Duration timeout, base::Executor* reply_on, SetCallback done) override {
    rows.push_back(queries.tenant + "/" +
                   absl::StrJoin(queries.arguments, ",", [](std::string* out, const Arguments& arguments) {
                     absl::StrAppend(out, arguments.empty() ? "" : *arguments[0]);
                   }));
    held_.push_back({queries.arguments.size(), timeout, reply_on, std::move(done)});
  }

  // The oldest load that is held; each of a set gets the same answer.
  void Finish(absl::StatusOr<ControlAnswer> answer) {
    ASSERT_FALSE(held_.empty());
    Held held = std::move(held_.front());
    held_.erase(held_.begin());
    absl::StatusOr<std::vector<ControlAnswer>> answers = std::vector<ControlAnswer>();
    answer.ok() ? answers->assign(held.rows, *answer) : void(answers = answer.status());
    held.reply_on->Post(
        [done = std::move(held.done), answers = std::move(answers)]() mutable { done(std::move(answers)); });
  }
  size_t held() const { return held_.size(); }
  absl::Duration timeout() const { return held_.front().timeout; }

  std::vector<std::string> rows;  // In the order in which they were sent.

 private:
  std::vector<Held> held_;
};

class AdmittedControlTest : public testing::Test {
 protected:
  struct Caller {
    absl::Status status = absl::UnknownError("not answered");
    std::string body;
    int answers = 0;
  };

  explicit AdmittedControlTest(AdmittedControl::Options options = {.limit = {.least = 1, .most = 1}})
      : control_(options, &database_, world_.clock(), &metrics_) {}

  void Ask(const std::string& row, Caller* caller, absl::Duration timeout = absl::Seconds(5), bool background = false,
           const std::string& tenant = "acme") {
    Control* control = background ? control_.background() : &control_;
    control->Load(Query{catalog_, &catalog_->endpoints()[0], tenant, {row}}, timeout, world_.executor(),
                  [caller](absl::StatusOr<ControlAnswer> answer) {
                    ++caller->answers;
                    caller->status = answer.status();
                    if (answer.ok()) caller->body = answer->body;
                  });
  }
  void AskSet(const std::vector<std::string>& rows, Caller* caller, absl::Duration timeout = absl::Seconds(5)) {
    QuerySet queries{catalog_, &catalog_->endpoints()[0], "acme", {}};
    for (const std::string& row : rows) queries.arguments.push_back({row});
    control_.LoadSet(std::move(queries), timeout, world_.executor(),
                     [caller, count = rows.size()](absl::StatusOr<std::vector<ControlAnswer>> answers) {
                       ++caller->answers;
                       caller->status = answers.status();
                       if (!answers.ok()) return;
                       EXPECT_EQ(answers->size(), count);
                       caller->body = answers->back().body;
                     });
  }
  void Finish(absl::StatusOr<ControlAnswer> answer) {
    database_.Finish(std::move(answer));
    world_.RunFor(absl::ZeroDuration());
  }
  void Finish(const std::string& body, absl::Duration took = absl::Milliseconds(1)) {
    Finish(ControlAnswer{
        .found = true, .body = body, .started_at = world_.clock()->Now() - took, .answered_at = world_.clock()->Now()});
  }

  sim::SimWorld world_{1};
  base::Metrics metrics_;
  std::shared_ptr<const CompiledCatalog> catalog_ = MakeCatalog(absl::Seconds(5));
  HeldControl database_;
  AdmittedControl control_;
};

TEST_F(AdmittedControlTest, ManyCallersOfOneQuestionCostTwoLoads) {
  std::vector<Caller> callers(100);
  for (Caller& caller : callers) Ask("1", &caller);
  EXPECT_EQ(database_.held(), 1u);
  Finish("old");
  EXPECT_EQ(callers[0].body, "old");
  for (int i = 1; i < 100; ++i) EXPECT_EQ(callers[i].answers, 0) << "they came when it had been sent";
  ASSERT_EQ(database_.held(), 1u);
  Finish("new");
  for (int i = 1; i < 100; ++i) EXPECT_EQ(callers[i].body, "new");
  EXPECT_EQ(database_.rows.size(), 2u);
}

TEST_F(AdmittedControlTest, CallersInLineShareTheirLoad) {
  Caller other, first, second;
  Ask("other", &other);
  Ask("1", &first);
  Ask("1", &second);
  Finish("other");
  Finish("one");
  EXPECT_EQ(first.body, "one");
  EXPECT_EQ(second.body, "one");
  EXPECT_EQ(database_.held(), 0u);
}

TEST_F(AdmittedControlTest, ASetTakesOnePlace) {
  Caller set, behind;
  AskSet({"1", "2", "3"}, &set);
  Ask("4", &behind);
  EXPECT_THAT(database_.rows, testing::ElementsAre("acme/1,2,3"));
  Finish("of the set");
  EXPECT_EQ(set.body, "of the set");
  EXPECT_THAT(database_.rows, testing::ElementsAre("acme/1,2,3", "acme/4"));
  Finish("behind");
  EXPECT_EQ(behind.body, "behind");
}

TEST_F(AdmittedControlTest, ASetWaitsInLineAndIsSharedByItsEqualsAlone) {
  Caller other, first, second, one, longer;
  Ask("other", &other);
  AskSet({"1", "2"}, &first);
  AskSet({"1", "2"}, &second);
  Ask("1", &one);
  AskSet({"1", "2", "3"}, &longer);
  for (const char* body : {"other", "two", "one", "three"}) Finish(body);
  EXPECT_THAT(database_.rows, testing::ElementsAre("acme/other", "acme/1,2", "acme/1", "acme/1,2,3"));
  EXPECT_EQ(first.body, "two");
  EXPECT_EQ(second.body, "two");
  EXPECT_EQ(one.body, "one");
  EXPECT_EQ(longer.body, "three");
}

TEST_F(AdmittedControlTest, SetsOfAnEndpointWithoutParametersAreToldApartBySize) {
  const auto catalog = [] {
    std::vector<Endpoint> endpoints(1);
    endpoints[0].name = "pricing/all";
    endpoints[0].timeout = absl::Seconds(5);
    return std::make_shared<CompiledCatalog>(1, shadowline::v1::Catalog(), std::move(endpoints));
  }();
  Caller other;
  Ask("other", &other);
  std::vector<size_t> sizes;
  for (const size_t size : {2, 3}) {
    control_.LoadSet({catalog, &catalog->endpoints()[0], "acme", std::vector<Arguments>(size)}, absl::Seconds(5),
                     world_.executor(), [&sizes](absl::StatusOr<std::vector<ControlAnswer>> answers) {
                       sizes.push_back(answers.ok() ? answers->size() : 0);
                     });
  }
  for (const char* body : {"other", "two", "three"}) Finish(body);
  EXPECT_THAT(sizes, testing::ElementsAre(2, 3));
}

TEST_F(AdmittedControlTest, ASetIsRefusedRetriedAndFailsAsAWhole) {
  Caller set, late;
  AskSet({"1", "2"}, &set);
  AskSet({"3", "4"}, &late);
  world_.RunFor(absl::Milliseconds(101));
  EXPECT_TRUE(absl::IsResourceExhausted(late.status)) << late.status;
  Finish(absl::UnavailableError("away"));
  world_.RunFor(absl::Milliseconds(10));
  EXPECT_THAT(database_.rows, testing::ElementsAre("acme/1,2", "acme/1,2"));
  Finish(absl::InvalidArgumentError("one of them"));
  EXPECT_EQ(set.status, absl::InvalidArgumentError("one of them"));
  EXPECT_EQ(set.answers + late.answers, 2);
}

TEST_F(AdmittedControlTest, AnotherTenantsQuestionIsAnotherQuestion) {
  Caller other, acme, emca;
  Ask("other", &other);
  Ask("1", &acme);
  Ask("1", &emca, absl::Seconds(5), false, "emca");
  for (const char* body : {"other", "of acme", "of emca"}) Finish(body);
  EXPECT_EQ(acme.body, "of acme");
  EXPECT_EQ(emca.body, "of emca");
}

TEST_F(AdmittedControlTest, AQuestionWhoseRunHangsIsAskedAgainAfterAWhile) {
  AdmittedControl wide({.limit = {.least = 2, .most = 2}}, &database_, world_.clock(), &metrics_);
  Caller first, second;
  const auto ask = [&](Caller* caller) {
    wide.Load(Query{catalog_, &catalog_->endpoints()[0], "acme", {"1"}}, absl::Seconds(5), world_.executor(),
              [caller](absl::StatusOr<ControlAnswer> answer) { caller->status = answer.status(); });
  };
  ask(&first);
  ask(&second);
  EXPECT_EQ(database_.held(), 1u);
  world_.RunFor(absl::Milliseconds(100));
  EXPECT_EQ(database_.held(), 2u);
  Finish("late");
  Finish("right");
  EXPECT_TRUE(first.status.ok());
  EXPECT_TRUE(second.status.ok());
}

TEST_F(AdmittedControlTest, NobodyWaitsInLineForLongerThanTheMost) {
  Caller first, waits;
  Ask("1", &first);
  Ask("2", &waits);
  world_.RunFor(absl::Milliseconds(99));
  EXPECT_EQ(waits.answers, 0);
  world_.RunFor(absl::Milliseconds(1));
  EXPECT_EQ(waits.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(waits.status.message()), HasSubstr("the wait was too long"));
  Finish("1");
  EXPECT_EQ(database_.rows.size(), 1u) << "what was refused is never sent";
}

TEST_F(AdmittedControlTest, ADeadlineThatCannotBeMetIsRefusedBeforeItPasses) {
  // The statement takes 20 ms at its best.
  for (int i = 0; i < 20; ++i) {
    Caller caller;
    Ask("1", &caller);
    Finish("1", absl::Milliseconds(20));
  }
  Caller running, late, hopeless;
  Ask("1", &running);
  Ask("2", &late, absl::Milliseconds(50));
  Ask("3", &hopeless, absl::Milliseconds(10));
  world_.RunFor(absl::ZeroDuration());
  EXPECT_EQ(hopeless.status.code(), absl::StatusCode::kResourceExhausted) << "at once";
  world_.RunFor(absl::Milliseconds(29));
  EXPECT_EQ(late.answers, 0);
  world_.RunFor(absl::Milliseconds(1));
  EXPECT_THAT(late.status.ToString(), HasSubstr("could not be met"));
  Finish("1");
  EXPECT_EQ(database_.held(), 0u);
}

TEST_F(AdmittedControlTest, WhoSharesALoadIsAnsweredByItsOwnDeadline) {
  Caller other, brief, patient;
  Ask("other", &other);
  Ask("1", &brief, absl::Milliseconds(50));
  Ask("1", &patient, absl::Milliseconds(500));
  world_.RunFor(absl::Milliseconds(10));
  Finish("other");
  ASSERT_EQ(database_.held(), 1u);
  EXPECT_EQ(database_.timeout(), absl::Milliseconds(490)) << "the longest of them";
  world_.RunFor(absl::Milliseconds(40));
  EXPECT_EQ(brief.status.code(), absl::StatusCode::kDeadlineExceeded);
  Finish("one");
  EXPECT_EQ(brief.answers, 1);
  EXPECT_EQ(patient.body, "one");
}

TEST_F(AdmittedControlTest, CallersGoBeforeTheBackgroundAndRaiseWhatTheyShareWithIt) {
  Caller running, shared, background, caller, joins;
  Ask("0", &running);
  Ask("shared", &shared, absl::Seconds(5), /*background=*/true);
  Ask("background", &background, absl::Seconds(5), /*background=*/true);
  Ask("caller", &caller);
  Ask("shared", &joins);
  for (int i = 0; i < 4; ++i) Finish("x");
  EXPECT_EQ(database_.rows, (std::vector<std::string>{"acme/0", "acme/caller", "acme/shared", "acme/background"}));
  EXPECT_EQ(shared.body, "x");
  EXPECT_EQ(joins.body, "x");
}

TEST_F(AdmittedControlTest, TenantsTakeTurns) {
  std::vector<Caller> callers(6);
  Ask("0", &callers[0]);
  Ask("1", &callers[1], absl::Seconds(5), false, "loud");
  Ask("2", &callers[2], absl::Seconds(5), false, "loud");
  Ask("3", &callers[3], absl::Seconds(5), false, "loud");
  Ask("4", &callers[4], absl::Seconds(5), false, "quiet");
  for (int i = 0; i < 5; ++i) Finish("x");
  EXPECT_EQ(database_.rows, (std::vector<std::string>{"acme/0", "loud/1", "quiet/4", "loud/2", "loud/3"}));
}

TEST_F(AdmittedControlTest, ASurplusIsServedNewestFirstAndKeepsNobodyWaiting) {
  Caller running;
  Ask("running", &running);
  std::vector<std::unique_ptr<Caller>> callers;
  for (int i = 0; i < 60; ++i) {
    callers.push_back(std::make_unique<Caller>());
    Ask(absl::StrCat(i), callers.back().get());
    world_.RunFor(absl::Milliseconds(2));
  }
  Finish("x");
  EXPECT_EQ(database_.rows.back(), "acme/59");
  Finish("x");
  EXPECT_EQ(database_.rows.back(), "acme/58");
  world_.RunFor(absl::Milliseconds(12));
  Finish("x");
  EXPECT_EQ(database_.held(), 0u) << "all others have waited for too long in a line that does not empty";
  for (const auto& caller : callers) EXPECT_EQ(caller->answers, 1);
}

class FullLineTest : public AdmittedControlTest {
 protected:
  FullLineTest() : AdmittedControlTest({.limit = {.least = 1, .most = 1}, .line_max = 3, .callers_max = 5}) {}
};

TEST_F(FullLineTest, TheOldestOfTheTenantWithTheMostMakesWayAndTheBackgroundFirst) {
  std::vector<Caller> callers(8);
  Ask("0", &callers[0]);
  Ask("1", &callers[1], absl::Seconds(5), /*background=*/true);
  Ask("2", &callers[2], absl::Seconds(5), false, "loud");
  Ask("3", &callers[3], absl::Seconds(5), false, "loud");
  Ask("4", &callers[4], absl::Seconds(5), false, "quiet");
  world_.RunFor(absl::ZeroDuration());
  EXPECT_THAT(callers[1].status.ToString(), HasSubstr("line before the database is full"));
  Ask("5", &callers[5], absl::Seconds(5), false, "quiet");
  world_.RunFor(absl::ZeroDuration());
  EXPECT_EQ(callers[2].answers, 1);
  Ask("6", &callers[6], absl::Seconds(5), /*background=*/true);
  world_.RunFor(absl::ZeroDuration());
  EXPECT_EQ(callers[6].status.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(FullLineTest, CallersThatWaitAreBoundedHoweverTheyShare) {
  std::vector<Caller> callers(8);
  Ask("0", &callers[0]);
  for (int i = 1; i < 8; ++i) Ask("1", &callers[i]);
  world_.RunFor(absl::ZeroDuration());
  EXPECT_EQ(callers[5].answers, 0);
  EXPECT_EQ(callers[6].status.code(), absl::StatusCode::kResourceExhausted);
  Finish("0");
  Finish("1");
  EXPECT_EQ(callers[5].body, "1");
}

TEST_F(AdmittedControlTest, AnErrorIsSharedLikeAnAnswer) {
  Caller other, first, second;
  Ask("other", &other);
  Ask("1", &first);
  Ask("1", &second);
  Finish("other");
  Finish(absl::InvalidArgumentError("out of range"));
  EXPECT_EQ(first.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(second.status.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(AdmittedControlTest, AnUnavailableDatabaseIsAskedOnceMoreAndNothingElseIs) {
  Caller caller;
  Ask("1", &caller);
  Finish(absl::UnavailableError("connection lost"));
  EXPECT_EQ(caller.answers, 0);
  EXPECT_EQ(database_.held(), 0u);
  world_.RunFor(absl::Milliseconds(10));
  Finish("1");
  EXPECT_EQ(caller.body, "1");

  Caller twice;
  Ask("2", &twice);
  Finish(absl::UnavailableError("connection lost"));
  world_.RunFor(absl::Milliseconds(10));
  Finish(absl::UnavailableError("connection lost"));
  EXPECT_EQ(twice.status.code(), absl::StatusCode::kUnavailable);

  Caller internal;
  Ask("3", &internal);
  Finish(absl::InternalError("a bug"));
  EXPECT_EQ(internal.status.code(), absl::StatusCode::kInternal);
}

TEST_F(AdmittedControlTest, RetriesStayBelowATenthOfTheSuccesses) {
  const auto fail_many = [&] {
    const size_t before = database_.rows.size();
    for (int i = 0; i < 100; ++i) {
      Caller caller;
      Ask("1", &caller);
      while (database_.held() > 0) {
        Finish(absl::UnavailableError("away"));
        world_.RunFor(absl::Milliseconds(10));
      }
      EXPECT_EQ(caller.answers, 1);
    }
    return database_.rows.size() - before - 100;
  };
  EXPECT_EQ(fail_many(), 10u) << "what is saved up at the start";
  for (int i = 0; i < 50; ++i) {
    Caller caller;
    Ask("1", &caller);
    Finish("1");
  }
  EXPECT_NEAR(static_cast<double>(fail_many()), 5, 1);
}

// ---- No answer is older than the caller's arrival

// The planted fault: whoever asks what is asked already gets the same answer.
class SharesWhatWasSent final : public Control {
 public:
  explicit SharesWhatWasSent(Control* control) : control_(control) {}

  void Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) override {
    const std::string question = query.tenant + "/" + *query.arguments[0];
    auto& waiting = waiting_[question];
    waiting.push_back(std::move(done));
    if (waiting.size() > 1) return;
    control_->Load(std::move(query), timeout, reply_on, [this, question](const absl::StatusOr<ControlAnswer>& answer) {
      for (Callback& callback : std::exchange(waiting_[question], {})) callback(answer);
    });
  }

 private:
  Control* const control_;
  std::map<std::string, std::vector<Callback>> waiting_;
};

struct History {
  int answers = 0;
  int older_than_arrival = 0;
  uint64_t queries = 0;
};

// Callers of a few rows that are written all the time, of a database that fails and falls behind now and then.
template <typename Decorate>
History Simulate(uint64_t seed, const Decorate& decorate) {
  sim::SimWorld world(seed);
  base::Metrics metrics;
  const auto catalog = MakeCatalog(absl::Seconds(5));
  sim::SimDatabase database(world.clock());
  sim::SimControl inner({.slow_share = 0.02,
                         .slow_latency = absl::Milliseconds(150),
                         .error_share = 0.02,
                         .error = absl::UnavailableError("injected")},
                        &database, world.executor(), world.clock(), world.random());
  History history;
  std::unique_ptr<Control> control = decorate(&world, &inner, &metrics);
  for (int i = 0; i < 5000; ++i) {
    world.executor()->PostAfter(absl::Microseconds(world.random()->Below(1'000'000)), [&, i] {
      const std::string row = absl::StrCat(world.random()->Below(5));
      const std::string name = sim::RowKey("pricing/quote", "acme", {row});
      if (i % 5 == 0) {
        database.Write(name, absl::StrCat(i));
        return;
      }
      const absl::Time arrived = world.clock()->Now();
      control->Load(
          Query{catalog, &catalog->endpoints()[0], "acme", {row}}, absl::Milliseconds(1 + world.random()->Below(300)),
          world.executor(), [&, name, arrived](const absl::StatusOr<ControlAnswer>& answer) {
            ++history.answers;
            if (!answer.ok()) return;
            const sim::SimDatabase::Value value = answer->found ? sim::SimDatabase::Value(answer->body) : std::nullopt;
            if (!database.HeldBetween(name, value, arrived, world.clock()->Now())) {
              ++history.older_than_arrival;
            }
          });
    });
  }
  world.RunUntilIdle();
  history.queries = inner.queries();
  return history;
}

TEST(SharingTest, NoAnswerIsOlderThanItsCallersArrival) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const History history = Simulate(seed, [](sim::SimWorld* world, Control* inner, base::Metrics* metrics) {
      return std::make_unique<AdmittedControl>(
          AdmittedControl::Options{.limit = {.least = 1, .most = 1 + world->random()->Below(8)}}, inner, world->clock(),
          metrics);
    });
    EXPECT_EQ(history.answers, 4000);
    EXPECT_EQ(history.older_than_arrival, 0);
    EXPECT_LT(history.queries, 3000u);
  }
}

TEST(SharingTest, SharingALoadThatWasSentIsCaught) {
  const History history = Simulate(
      1, [](sim::SimWorld*, Control* inner, base::Metrics*) { return std::make_unique<SharesWhatWasSent>(inner); });
  EXPECT_GT(history.older_than_arrival, 0);
}

// ---- Threads

// Answers from threads of its own, and counts how many it works on.
class ThreadedControl final : public Control {
 public:
  void Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) override {
    const int running = ++running_;
    for (int most = most_; running > most && !most_.compare_exchange_weak(most, running);) {
    }
    const bool taken = pool_.TrySubmit([this, reply_on, done = std::move(done)](size_t) mutable {
      --running_;
      reply_on->Post([done = std::move(done)]() mutable { done(ControlAnswer{.found = true, .body = "1"}); });
    });
    ASSERT_TRUE(taken);
  }
  int most() const { return most_; }

 private:
  std::atomic<int> running_{0};
  std::atomic<int> most_{0};
  base::ThreadPool pool_{{.name = "control", .threads = 4}};
};

TEST(AdmittedControlThreadsTest, EveryLaneGetsAllItsAnswers) {
  constexpr int kLanes = 4;
  constexpr int kLoads = 2000;
  const base::SystemClock clock;
  base::Metrics metrics;
  const auto catalog = MakeCatalog(absl::Seconds(60));
  ThreadedControl database;
  AdmittedControl control({.limit = {.least = 1, .most = 8}, .wait_max = absl::Seconds(60)}, &database, &clock,
                          &metrics);
  base::Mutex mutex;
  int answers = 0;
  std::vector<std::unique_ptr<base::EventLoop>> lanes;
  for (int i = 0; i < kLanes; ++i) lanes.push_back(std::make_unique<base::EventLoop>(&clock, absl::StrCat("lane-", i)));
  for (int i = 0; i < kLanes; ++i) {
    lanes[i]->Post([&, lane = lanes[i].get(), i] {
      for (int k = 0; k < kLoads; ++k) {
        control.Load(Query{catalog, &catalog->endpoints()[0], absl::StrCat("t", i % 2), {absl::StrCat(k % 50)}},
                     absl::Seconds(60), lane, [&](const absl::StatusOr<ControlAnswer>&) {
                       base::MutexLock lock(&mutex);
                       ++answers;
                     });
      }
    });
  }
  const auto all = [&] { return answers == kLanes * kLoads; };
  mutex.Lock();
  const bool done = mutex.AwaitWithTimeout(absl::Condition(&all), absl::Seconds(60));
  mutex.Unlock();
  EXPECT_TRUE(done);
  EXPECT_LE(database.most(), 8);
}

}  // namespace
}  // namespace shadowline::cache
