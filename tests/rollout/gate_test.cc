// When a window is clean, and what it says while it is not.
#include "rollout/gate/gate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <functional>

#include "base/random.h"
#include "rollout/gate/betting.h"

namespace shadowline::rollout {
namespace {

TEST(BettingTest, CleanEvidenceIsEnoughWithinAFifthOfTheLeastPossible) {
  const BettingTest test(100, 950'000);
  const double least = std::ceil(std::log(0.05) / std::log1p(-1e-4));
  EXPECT_EQ(least, 29'956);
  const uint64_t needed = test.CleanNeeded(0);
  std::printf("clean episodes needed at 1e-4 and 95 %%: %llu\n", static_cast<unsigned long long>(needed));
  EXPECT_GE(needed, 29'956u);
  EXPECT_LE(needed, static_cast<uint64_t>(1.2 * 29'956));
  EXPECT_TRUE(test.Rejects(needed, 0));
  EXPECT_FALSE(test.Rejects(needed - 1, 0));
}

TEST(BettingTest, NoDataShowsNothing) {
  for (const uint32_t slo : {1u, 100u, 999'999u}) EXPECT_FALSE(BettingTest(slo, 950'000).Rejects(0, 0)) << slo;
}

TEST(BettingTest, AWrongEpisodeCostsMoreCleanOnes) {
  const BettingTest test(1'000, 950'000);
  EXPECT_LT(test.CleanNeeded(0), test.CleanNeeded(1));
  EXPECT_LT(test.CleanNeeded(1), test.CleanNeeded(5));
  EXPECT_TRUE(test.Rejects(test.CleanNeeded(5), 5)) << "it recovers: the small stakes are not ruined";
}

TEST(BettingTest, MoreConfidenceNeedsMoreEvidence) {
  EXPECT_LT(BettingTest(1'000, 900'000).CleanNeeded(0), BettingTest(1'000, 990'000).CleanNeeded(0));
  EXPECT_LT(BettingTest(10'000, 950'000).CleanNeeded(0), BettingTest(1'000, 950'000).CleanNeeded(0));
}

TEST(BettingTest, HugeCountsDoNotOverflow) {
  const BettingTest test(1'000, 950'000);
  EXPECT_TRUE(test.Rejects(uint64_t{1} << 60, 0));
  EXPECT_FALSE(test.Rejects(1'000'000, uint64_t{1} << 60));
}

// The promise of the test: whoever looks after every episode and stops at the first success is wrong at most at 1 -
// confidence.
TEST(BettingTest, UnderTheNullOptionalStoppingPromotesFalselyInAtMostFivePercent) {
  constexpr int kWindows = 4'000;
  constexpr int kEpisodes = 3'000;
  constexpr uint32_t kSloPpm = 10'000;
  for (const uint64_t seed : {1u, 2u, 3u}) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    base::Random random(seed);
    const BettingTest test(kSloPpm, 950'000);
    int promoted = 0;
    for (int window = 0; window < kWindows; ++window) {
      // The wealth only grows on clean episodes: whoever looks after each sees the bound passed just before the next
      // wrong one, or at the end.
      uint64_t wrong = 0;
      for (int episode = 0; episode <= kEpisodes; ++episode) {
        const bool end = episode == kEpisodes;
        if (!end && random.Below(1'000'000) >= kSloPpm) continue;
        if (test.Rejects(episode - wrong, wrong)) {
          ++promoted;
          break;
        }
        ++wrong;
      }
    }
    const double rate = static_cast<double>(promoted) / kWindows;
    std::printf("seed %llu: false promotions %.4f\n", static_cast<unsigned long long>(seed), rate);
    EXPECT_LE(rate, 0.05);
    EXPECT_GT(rate, 0.01) << "so weak a test would promote nobody";
  }
}

TEST(BettingTest, FarBelowTheSloItPromotes) {
  base::Random random(7);
  const BettingTest test(10'000, 950'000);
  int promoted = 0;
  for (int window = 0; window < 200; ++window) {
    uint64_t wrong = 0;
    for (int episode = 0; episode < 3'000; ++episode) wrong += random.Below(1'000'000) < 1'000 ? 1 : 0;
    if (test.Rejects(3'000 - wrong, wrong)) ++promoted;
  }
  EXPECT_GT(promoted, 180);
}

class GateTest : public testing::Test {
 protected:
  GateTest() {
    window_.policy.duration = absl::Minutes(10);
    window_.policy.episodes = 1'000;
    window_.policy.distinct_keys = 50;
    window_.policy.exercised = 20;
    window_.policy.slo_ppm = 10'000;
    window_.endpoints = {"pricing/quote"};
    window_.now = absl::FromUnixSeconds(1'700'000'000);
    window_.since = window_.now - absl::Minutes(10);
    window_.judged_until = window_.now - absl::Seconds(2);
    window_.fleet = {2, window_.now - absl::Seconds(1)};
    window_.evidence.endpoints["pricing/quote"] = {1'000, 50, 20};
    window_.evidence.ledger.counts.sampled = 2'000;
    window_.evidence.ledger.counts.matched = 2'000;
    window_.evidence.ledger.counts.candidate_latency[1] = 2'000;
  }

  Clause Find(const std::string& name) {
    for (const Clause& clause : Judge(window_)) {
      if (clause.name == name) return clause;
    }
    ADD_FAILURE() << "no clause " << name;
    return {};
  }
  bool IsClean() { return Clean(Judge(window_)); }

  WindowInput window_;
};

TEST_F(GateTest, AWindowThatMeetsEveryClauseIsClean) {
  for (const Clause& clause : Judge(window_)) EXPECT_TRUE(clause.met) << clause.name << ": " << clause.detail;
  EXPECT_EQ(Eta(Judge(window_)), absl::ZeroDuration());
}

TEST_F(GateTest, P4NoDataMeetsNothing) {
  WindowInput empty;
  empty.policy.duration = absl::ZeroDuration();
  empty.endpoints = {"pricing/quote"};
  empty.now = window_.now;
  empty.since = window_.now;
  const std::vector<Clause> clauses = Judge(empty);
  EXPECT_FALSE(Clean(clauses));
  EXPECT_FALSE(ReadyToJudge(clauses));
  EXPECT_EQ(Eta(clauses), std::nullopt) << "nobody knows how long";
}

TEST_F(GateTest, TellsPeopleWhatIsMissingAndHowLongItTakes) {
  window_.policy.episodes = 4'000;
  const Clause clause = Find("episodes");
  EXPECT_FALSE(clause.met);
  EXPECT_EQ(clause.detail, "1,000 of 4,000 episodes (pricing/quote)");
  EXPECT_EQ(clause.eta, absl::Minutes(30));
  EXPECT_EQ(Eta(Judge(window_)), absl::Minutes(30));
}

TEST_F(GateTest, EveryEndpointHasToHaveItsEvidence) {
  window_.endpoints.push_back("pricing/discount");
  EXPECT_FALSE(IsClean());
}

TEST_F(GateTest, AFamilyWithoutEndpointsIsNeverClean) {
  window_.endpoints.clear();
  window_.policy.exercised = 0;
  EXPECT_FALSE(IsClean());
}

TEST_F(GateTest, CleanReadsOfDataThatNeverChangedProveNothing) {
  window_.evidence.endpoints["pricing/quote"].exercised = 19;
  EXPECT_FALSE(Find("exercised").met);
  EXPECT_FALSE(IsClean());
}

TEST_F(GateTest, OneConfirmedDivergenceIsTooMany) {
  window_.evidence.confirmed = 1;
  EXPECT_FALSE(Find("divergences").met);
}

TEST_F(GateTest, TooShortIsNotClean) {
  window_.since += absl::Seconds(1);
  const Clause clause = Find("duration");
  EXPECT_FALSE(clause.met);
  EXPECT_EQ(clause.eta, absl::Seconds(1));
}

TEST_F(GateTest, WhatCouldNotBeJudgedIsCounted) {
  diff::Counts& counts = window_.evidence.ledger.counts;
  counts.sampled = 1'000;
  counts.inconclusive = 10;
  counts.errored = 10;
  counts.shed = 10;
  window_.evidence.ledger.lost = 20;
  EXPECT_TRUE(Find("unjudged").met) << "5 % is allowed";
  window_.evidence.ledger.lost = 21;
  EXPECT_FALSE(Find("unjudged").met);
}

TEST_F(GateTest, ACacheThatFailsIsCountedAsUnjudged) {
  window_.evidence.ledger.counts.candidate_errors = 500;
  EXPECT_FALSE(Find("unjudged").met);
}

TEST_F(GateTest, TheCandidateHasToBeFast) {
  diff::Counts& counts = window_.evidence.ledger.counts;
  counts.candidate_latency = {};
  counts.candidate_latency[7] = 95;  // up to 50 ms
  counts.candidate_latency[11] = 5;  // above 1 s
  EXPECT_TRUE(Find("latency").met) << Find("latency").detail;
  counts.candidate_latency[11] = 6;
  EXPECT_FALSE(Find("latency").met) << Find("latency").detail;
}

TEST_F(GateTest, P4WaitsForEveryReplicaToReportWhatItSampled) {
  window_.fleet.watermark = *window_.judged_until + kClockSkew - absl::Milliseconds(1);
  EXPECT_FALSE(IsClean());
  EXPECT_TRUE(ReadyToJudge(Judge(window_)));
  window_.fleet.watermark += absl::Milliseconds(1);
  EXPECT_TRUE(IsClean());
}

TEST_F(GateTest, P4WithoutALiveReplicaNothingIsJudged) {
  window_.fleet = {};
  EXPECT_FALSE(IsClean());
}

TEST_F(GateTest, P4WhatADeadReplicaSampledIsWaitedForUntilItIsSwept) {
  window_.evidence.unswept = 1;
  EXPECT_FALSE(IsClean());
}

TEST(PolicyTest, RefusesWhatCouldNeverBeMet) {
  const auto refused = [](const std::function<void(Policy*)>& change) {
    Policy policy;
    change(&policy);
    return absl::IsInvalidArgument(CheckPolicy(policy));
  };
  EXPECT_TRUE(CheckPolicy(Policy()).ok());
  EXPECT_TRUE(refused([](Policy* policy) { policy->slo_ppm = 0; }));
  EXPECT_TRUE(refused([](Policy* policy) { policy->confidence_ppm = 1'000'000; }));
  EXPECT_TRUE(refused([](Policy* policy) { policy->ramp_ppm = {}; }));
  EXPECT_TRUE(refused([](Policy* policy) { policy->ramp_ppm = {500'000}; }));
  EXPECT_TRUE(refused([](Policy* policy) { policy->ramp_ppm = {500'000, 500'000, 1'000'000}; }));
  EXPECT_TRUE(refused([](Policy* policy) { policy->shadow_sample_ppm = 0; }));
  EXPECT_TRUE(refused([](Policy* policy) { policy->strata.negative_ppm = 1'000'001; }));
  EXPECT_TRUE(refused([](Policy* policy) { policy->soak = -absl::Seconds(1); }));
}

TEST(GroupedTest, PutsCommasWherePeopleExpectThem) {
  EXPECT_EQ(Grouped(0), "0");
  EXPECT_EQ(Grouped(999), "999");
  EXPECT_EQ(Grouped(1'000), "1,000");
  EXPECT_EQ(Grouped(1'234'567), "1,234,567");
}

}  // namespace
}  // namespace shadowline::rollout
