// `./dev bench verdicts`, short: a handful of bugs end in their verdicts, in an application's cache and against the
// managed one, nothing that is right is reported, and what is stale is found. And what the naive tools' rules come to.
#include <gtest/gtest.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "tests/verdicts/naive.h"
#include "tests/verdicts/scenarios.h"
#include "tests/verdicts/verdict.h"

namespace shadowline::verdicts {
namespace {

namespace v1 = shadowline::v1;

using support::Tell;

void ExpectFaultless(const Outcome& outcome) {
  std::cout << outcome.figures.dump(2) << "\n";
  for (const std::string& fault : outcome.faults) ADD_FAILURE() << fault;
}

TEST(VerdictsTest, BugsEndInTheirVerdicts) {
  ExpectFaultless(Bugs({.only = {"Z01", "Z06", "Z12", "R03", "C09"}, .reads = 1000}, Tell));
}

TEST(VerdictsTest, ACacheThatIsRightRaisesNoAlarm) {
  ExpectFaultless(Alarms({.comparisons = 5000, .writes_per_second = 50, .freshness = absl::Seconds(5)}, Tell));
}

TEST(VerdictTest, FollowsFromWhatIsShownAlone) {
  Shown shown;
  shown.missing = {"t: 3 of 60 episodes (f/read)"};
  EXPECT_EQ(VerdictOf(shown), "VACUOUS");
  shown.promoted = true;
  EXPECT_EQ(VerdictOf(shown), "CLEAN");
  shown.ledger.set_healed(1);
  EXPECT_EQ(VerdictOf(shown), "TRANSIENT");
  shown.ledger.set_excused(1);
  EXPECT_EQ(VerdictOf(shown), "BENIGN");
  shown.diverged_without_rule = false;
  EXPECT_EQ(VerdictOf(shown), "excused without a rule");
  shown.promoted = false;
  EXPECT_EQ(VerdictOf(shown), "CONTROL");
  shown.divergences.emplace_back();
  EXPECT_EQ(VerdictOf(shown), "BLOCK");
  shown.diverged_is_served = true;
  EXPECT_EQ(VerdictOf(shown), "diverged, and promoted");
  shown.divergences[0].set_unsafe("another_tenant");
  EXPECT_EQ(VerdictOf(shown), "unsafe, and the family is served");
  shown.diverged_is_served = false;
  shown.all_demoted = true;
  EXPECT_EQ(VerdictOf(shown), "BLOCK+SEC");
}

// A read that differs, of a cache and a database that then say what they are told to.
class NaiveTest : public testing::Test {
 protected:
  void Observe(const std::string& cached, const std::string& control) {
    now_ = {cached, control};
    naive_.Observe(
        "key", now_, control, [this] { return now_; }, at_);
  }
  void Retry() { naive_.Tend(at_ += absl::Seconds(50) * kRetryScale / 6); }
  std::string Verdict(const char* tool, bool real = true) { return naive_.Verdicts(real)[tool]["verdict"]; }

  Naive naive_;
  Pair now_;
  absl::Duration at_;
};

TEST_F(NaiveTest, WhatStaysWrongIsFoundBySixRetries) {
  Observe("[1]", "[2]");
  for (int i = 0; i < 5; ++i) Retry();
  EXPECT_EQ(Verdict("six_retries"), "missed");
  Retry();
  EXPECT_EQ(Verdict("six_retries"), "caught");
  EXPECT_EQ(Verdict("six_retries", false), "cried wolf");
}

TEST_F(NaiveTest, SixRetriesGiveUpWhereTheSourceMoves) {
  Observe("[1]", "[2]");
  Retry();
  now_.control = "[3]";
  for (int i = 0; i < 6; ++i) Retry();
  EXPECT_EQ(Verdict("six_retries"), "missed");
  EXPECT_EQ(naive_.Verdicts(true)["six_retries"]["gave_up"], 1);
  EXPECT_EQ(Verdict("once"), "caught");
}

TEST_F(NaiveTest, DoublesHideAnIntegerThatWasRounded) {
  EXPECT_EQ(LooksEqual({"[15947634569000123]", "[1.5947634569e16]"}), true);
  EXPECT_EQ(LooksEqual({"null", "[1]"}), std::nullopt);
  EXPECT_EQ(LooksEqual({"{\"a\":1}", "{\"a\":2}"}), false);
}

}  // namespace
}  // namespace shadowline::verdicts
