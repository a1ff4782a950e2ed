// How much of the database verification may take: its bucket, its giving way, and the fleet's sharing.
#include "server/read/budget.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "server/read/back_off.h"
#include "tests/server/read_world.h"

namespace shadowline::server {
namespace {

TEST(BudgetTest, RefillsAndKeepsAReserveForWhatMattersMore) {
  Budget budget(/*per_second=*/10, /*burst=*/4);
  const absl::Duration start = absl::Hours(1);
  EXPECT_TRUE(budget.Take(start, /*reserve=*/0.5));
  EXPECT_TRUE(budget.Take(start, 0.5));
  EXPECT_FALSE(budget.Take(start, 0.5));
  EXPECT_TRUE(budget.Take(start));
  EXPECT_TRUE(budget.Take(start));
  EXPECT_FALSE(budget.Take(start));
  EXPECT_FALSE(budget.Take(start + absl::Milliseconds(99)));
  EXPECT_TRUE(budget.Take(start + absl::Milliseconds(101)));
}

TEST(BudgetTest, WhatWasSavedUpAtAHigherRateIsNotSpentAtALowerOne) {
  Budget budget(/*per_second=*/100, /*burst=*/100);
  absl::Duration now = absl::Hours(1);
  budget.SetRate(now, 10);
  int taken = 0;
  while (budget.Take(now)) ++taken;
  EXPECT_EQ(taken, 10);
  // Nor does a higher one fill it at once.
  budget.SetRate(now, 100);
  EXPECT_FALSE(budget.Take(now));
  now += absl::Milliseconds(101);
  taken = 0;
  while (budget.Take(now)) ++taken;
  EXPECT_EQ(taken, 10);
}

// ---- Giving way ----

// Runs statements of `took` one after the other, a hundred a second, for `duration`.
void RunStatements(BackOff* back_off, absl::Duration* now, absl::Duration took, absl::Duration duration,
                   const std::string& statement = "quote") {
  for (const absl::Duration end = *now + duration; *now < end; *now += absl::Milliseconds(10)) {
    back_off->Ran(*now, statement, took, absl::OkStatus());
  }
}

TEST(BackOffTest, ASteadyDatabaseGetsTheWholeBudget) {
  BackOff back_off;
  absl::Duration now = absl::Hours(1);
  RunStatements(&back_off, &now, absl::Milliseconds(5), absl::Minutes(1));
  RunStatements(&back_off, &now, absl::Milliseconds(9), absl::Minutes(1));
  EXPECT_EQ(back_off.Factor(), 1);
}

TEST(BackOffTest, ASlowDatabaseIsLeftAloneWithinTwoSecondsAndComesBackInTen) {
  BackOff back_off;
  absl::Duration now = absl::Hours(1);
  RunStatements(&back_off, &now, absl::Milliseconds(5), absl::Seconds(10));
  RunStatements(&back_off, &now, absl::Milliseconds(50), absl::Seconds(2));
  EXPECT_LE(back_off.Factor(), 1.0 / 64);
  RunStatements(&back_off, &now, absl::Milliseconds(50), absl::Minutes(5));
  EXPECT_EQ(back_off.Factor(), 0.01) << "never less, so that somebody looks";
  RunStatements(&back_off, &now, absl::Milliseconds(5), absl::Seconds(5));
  EXPECT_LT(back_off.Factor(), 0.6) << "slower up than down";
  RunStatements(&back_off, &now, absl::Milliseconds(5), absl::Seconds(6));
  EXPECT_EQ(back_off.Factor(), 1);
}

TEST(BackOffTest, AFewSlowStatementsAreNoSlowDatabase) {
  BackOff back_off;
  absl::Duration now = absl::Hours(1);
  RunStatements(&back_off, &now, absl::Milliseconds(5), absl::Seconds(1));
  for (int i = 0; i < 10'000; ++i, now += absl::Milliseconds(1)) {
    back_off.Ran(now, "quote", i % 3 == 0 ? absl::Seconds(1) : absl::Milliseconds(5), absl::OkStatus());
  }
  EXPECT_EQ(back_off.Factor(), 1);
}

TEST(BackOffTest, AQuickStatementThatTakesAMillisecondMoreIsNoSlowDatabase) {
  BackOff back_off;
  absl::Duration now = absl::Hours(1);
  RunStatements(&back_off, &now, absl::Microseconds(300), absl::Seconds(5));
  RunStatements(&back_off, &now, absl::Microseconds(1'300), absl::Minutes(1));
  EXPECT_EQ(back_off.Factor(), 1);
  RunStatements(&back_off, &now, absl::Milliseconds(10), absl::Seconds(2));
  EXPECT_LT(back_off.Factor(), 0.1);
}

TEST(BackOffTest, AnotherMixOfStatementsIsNoSlowDatabase) {
  BackOff back_off;
  absl::Duration now = absl::Hours(1);
  RunStatements(&back_off, &now, absl::Milliseconds(1), absl::Seconds(5), "quick");
  RunStatements(&back_off, &now, absl::Milliseconds(80), absl::Seconds(5), "report");
  EXPECT_EQ(back_off.Factor(), 1);
}

TEST(BackOffTest, FailuresCutAtOnceAndThoseOfOneMomentOnce) {
  BackOff back_off;
  absl::Duration now = absl::Hours(1);
  RunStatements(&back_off, &now, absl::Milliseconds(5), absl::Seconds(1));
  for (int i = 0; i < 500; ++i) back_off.Ran(now, "quote", absl::ZeroDuration(), absl::UnavailableError("away"));
  EXPECT_EQ(back_off.Factor(), 0.5);
  now += absl::Milliseconds(250);
  back_off.Ran(now, "quote", absl::Seconds(5), absl::DeadlineExceededError("statement timeout"));
  EXPECT_EQ(back_off.Factor(), 0.25);
}

TEST(BackOffTest, AnImpatientCallerAndAWrongValueAreNotTheDatabasesFault) {
  BackOff back_off;
  absl::Duration now = absl::Hours(1);
  RunStatements(&back_off, &now, absl::Milliseconds(5), absl::Seconds(1));
  for (int i = 0; i < 100; ++i, now += absl::Milliseconds(10)) {
    back_off.Ran(now, "quote", absl::Milliseconds(2), absl::DeadlineExceededError("the caller had 2 ms"));
    back_off.Ran(now, "quote", absl::Seconds(1), absl::InvalidArgumentError("out of range"));
  }
  EXPECT_EQ(back_off.Factor(), 1);
}

TEST(BackOffTest, WhatLastsIsWhatIsUsual) {
  BackOff back_off;
  absl::Duration now = absl::Hours(1);
  RunStatements(&back_off, &now, absl::Milliseconds(5), absl::Seconds(10));
  RunStatements(&back_off, &now, absl::Milliseconds(15), absl::Minutes(10));
  EXPECT_EQ(back_off.Factor(), 0.01);
  RunStatements(&back_off, &now, absl::Milliseconds(15), absl::Minutes(30));
  EXPECT_EQ(back_off.Factor(), 1) << "three times as long is no more than twice the baseline by now";
}

// ---- In the verifier ----

// Reads keys that are cached, all of them sampled, `per_second` for `duration`; returns the control queries of it, many
// of which share a statement.
uint64_t VerifyFor(ReadWorld* w, int per_second, absl::Duration duration, int* next) {
  const auto queries = [w] {
    return w->Metric(R"(shadowline_verification_queries_total{outcome="ok"})") +
           w->Metric(R"(shadowline_verification_queries_total{outcome="failed"})");
  };
  const double before = queries();
  const int reads = static_cast<int>(per_second * absl::ToDoubleSeconds(duration));
  for (int i = 0; i < reads; ++i) {
    w->Start(ReadWorld::Request(absl::StrCat((*next)++ % 500)));
    w->world.RunFor(duration / reads);
  }
  return static_cast<uint64_t>(queries() - before);
}

void FillCache(ReadWorld* w) {
  for (int i = 0; i < 500; ++i) w->Write(absl::StrCat(i));
  w->RouteCache();
  for (int i = 0; i < 500; ++i) w->Read(absl::StrCat(i));
  w->world.RunFor(absl::Seconds(1));
  w->RouteCache(/*sample_ppm=*/1'000'000);
}

TEST(VerificationBudgetTest, ReplicasShareTheFleetsBudget) {
  const auto queries = [](uint64_t replicas) {
    ReadWorld w({.freshness = absl::Milliseconds(100), .verifier = {.queries_per_second = 100, .burst = 100}});
    FillCache(&w);
    if (replicas > 0) w.verifier.SetReplicas(replicas);
    int next = 0;
    VerifyFor(&w, 400, absl::Seconds(2), &next);  // Empties the bucket.
    return VerifyFor(&w, 400, absl::Seconds(10), &next);
  };
  EXPECT_NEAR(queries(0), 1000, 20) << "alone, as long as nobody has told it otherwise";
  EXPECT_NEAR(queries(2), 500, 20);
  EXPECT_NEAR(queries(4), 250, 20);
}

TEST(VerificationBudgetTest, ADatabaseThatSlowsTenTimesGetsATrickleAndThenTheWholeBudgetAgain) {
  BackOff back_off;
  ReadWorld w({.freshness = absl::Milliseconds(100),
               .verifier = {.queries_per_second = 100, .burst = 100},
               .back_off = &back_off});
  FillCache(&w);
  int next = 0;
  const uint64_t well = VerifyFor(&w, 400, absl::Seconds(10), &next);
  EXPECT_GE(well, 1000u);
  w.verification_control.options().latency_min = absl::Milliseconds(10);
  w.verification_control.options().latency_max = absl::Milliseconds(50);
  const uint64_t slow = VerifyFor(&w, 400, absl::Seconds(10), &next);
  EXPECT_LE(slow, 120u) << "what comes through until it is noticed, and one a second from then on";
  EXPECT_GE(slow, 5u) << "never nothing";
  EXPECT_LE(w.Metric("shadowline_verification_budget_per_second"), 2);
  w.verification_control.options().latency_min = absl::Milliseconds(1);
  w.verification_control.options().latency_max = absl::Milliseconds(5);
  VerifyFor(&w, 400, absl::Minutes(1), &next);
  EXPECT_NEAR(VerifyFor(&w, 400, absl::Seconds(10), &next), 1000, 20);
  const diff::Counts counts = w.Counts();
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().sampled, w.Counts().Settled()) << "what is not verified is shed, and counted";
  EXPECT_GT(counts.shed, 0u);
  EXPECT_EQ(counts.confirmed, 0u);
}

}  // namespace
}  // namespace shadowline::server
