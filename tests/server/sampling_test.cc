// Which reads are verified: alike on every replica, more often where it is worth it, and estimated without bias.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/read/lately_read.h"
#include "server/read/route.h"
#include "tests/server/read_world.h"

namespace shadowline::server {
namespace {

using diff::Inclusion;
using diff::Strata;
using diff::Stratum;
using flags::Flag;
using flags::Mode;

constexpr uint32_t kAll = 1'000'000;

Strata Of(Stratum stratum) { return Strata().Add(stratum); }

// ---- Shares ----

TEST(SharesTest, AGrowingShareKeepsWhatASmallerOneHad) {
  base::Random random(1);
  for (const bool by_key : {false, true}) {
    for (int i = 0; i < 5'000; ++i) {
      const Draws draws = DrawsOf(absl::StrCat("key ", i % 700), absl::StrCat("request ", i), &random);
      bool taken = false;
      for (uint32_t share = 0; share <= kAll; share += 50'000) {
        const Sampling sampling = SamplingOf({.sample_ppm = share, .sample_by_key = by_key}, draws);
        EXPECT_TRUE(sampling.Uniform() || !taken) << i << " at " << share;
        taken = sampling.Uniform();
      }
      EXPECT_TRUE(taken) << "everything is in the share of everything";
    }
  }
}

TEST(SharesTest, EveryReplicaAndEveryRetryDrawsAlike) {
  base::Random one(1);
  base::Random other(2);
  for (int i = 0; i < 2'000; ++i) {
    const std::string key = absl::StrCat("key ", i);
    const std::string request = absl::StrCat("request ", i % 10);
    EXPECT_EQ(DrawsOf(key, request, &one).request_ppm, DrawsOf(key, request, &other).request_ppm);
    EXPECT_EQ(DrawsOf(key, "", &one).key_ppm, DrawsOf(key, request, &other).key_ppm);
  }
}

TEST(SharesTest, OneRequestDrawsForEachKeyAnew) {
  base::Random random(1);
  int taken = 0;
  for (int i = 0; i < 10'000; ++i)
    taken += DrawsOf(absl::StrCat("key ", i), "one request", &random).request_ppm < 100'000;
  EXPECT_NEAR(taken, 1000, 150) << "a batch under one id is no single draw";
}

// The draw by request says nothing about the draw by key: else the keys that are served would be sampled too often.
TEST(SharesTest, TheDrawsOfAReadAreIndependent) {
  base::Random random(1);
  int both = 0;
  for (int i = 0; i < 20'000; ++i) {
    const Draws draws = DrawsOf(absl::StrCat("key ", i), absl::StrCat("request ", i), &random);
    both += draws.key_ppm < 250'000 && draws.request_ppm < 250'000;
  }
  EXPECT_NEAR(both, 1250, 150);
}

TEST(SharesTest, KeysThatAreVerifiedContainThosePromotedAtEachStepOfTheRamp) {
  base::Random random(1);
  for (const uint32_t serve : {50'000u, 250'000u, 600'000u}) {
    const Flag shadow{.mode = Mode::kShadow, .sample_ppm = serve, .sample_by_key = true};
    const Flag cache{.mode = Mode::kCache, .serve_ppm = serve, .sample_ppm = serve, .sample_by_key = true};
    for (int i = 0; i < 5'000; ++i) {
      const Draws draws = DrawsOf(absl::StrCat("key ", i), "", &random);
      const bool promoted = ChooseRoute(cache, /*leased=*/true, shadowline::v1::CONSISTENCY_DEFAULT, draws).from_cache;
      const bool verified = ChooseRoute(shadow, true, shadowline::v1::CONSISTENCY_DEFAULT, draws).verify;
      EXPECT_EQ(promoted, verified) << i;
    }
  }
}

// ---- Strata ----

constexpr flags::SampleShares kShares = {
    .uncertified_ppm = 800'000, .recent_ppm = 400'000, .negative_ppm = 300'000, .old_ppm = 200'000, .cold_ppm = 50'000};

TEST(StrataTest, AReadsShareIsTheLargestThatTheReadFallsUnder) {
  const Sampling sampling{.uniform_ppm = 100'000, .shares = kShares};
  const auto ppm = [&](Strata strata, uint32_t boost = kAll) { return InclusionOf(sampling, strata, boost).ppm; };
  EXPECT_EQ(ppm({}), 100'000u);
  EXPECT_EQ(ppm(Of(Stratum::kUncertified)), 800'000u);
  EXPECT_EQ(ppm(Of(Stratum::kRecent)), 400'000u);
  EXPECT_EQ(ppm(Of(Stratum::kNegative)), 300'000u);
  EXPECT_EQ(ppm(Of(Stratum::kOld)), 200'000u);
  EXPECT_EQ(ppm(Of(Stratum::kCold)), 100'000u) << "never less than others";
  EXPECT_EQ(ppm(Of(Stratum::kOld).Add(Stratum::kRecent)), 400'000u);
  EXPECT_EQ(ppm(Of(Stratum::kUncertified), kAll / 2), 400'000u) << "what the budget allows";
  EXPECT_EQ(ppm(Of(Stratum::kUncertified), 0), 100'000u);
}

TEST(StrataTest, WhereNothingIsSampledUniformlyNothingIs) {
  const Sampling sampling{.draw_ppm = 0, .uniform_ppm = 0, .shares = kShares};
  EXPECT_FALSE(sampling.Takes(InclusionOf(sampling, Of(Stratum::kUncertified), kAll)));
}

TEST(StrataTest, EveryStratumContainsTheUniformSample) {
  base::Random random(1);
  for (int i = 0; i < 5'000; ++i) {
    const Flag flag{.mode = Mode::kCache, .sample_ppm = 100'000, .strata = kShares};
    const Sampling sampling = SamplingOf(flag, DrawsOf("key", absl::StrCat(i), &random));
    for (size_t stratum = 0; stratum < diff::kStrata; ++stratum) {
      for (const uint32_t boost : {0u, 300'000u, kAll}) {
        const Inclusion inclusion = InclusionOf(sampling, Of(static_cast<Stratum>(stratum)), boost);
        EXPECT_TRUE(sampling.Takes(inclusion) || !sampling.Uniform()) << i;
      }
    }
  }
}

TEST(LatelyReadTest, AKeyIsColdAfterAMinuteWithoutARead) {
  LatelyRead lately;
  absl::Duration now = absl::Hours(1);
  EXPECT_FALSE(lately.Again(42, now));
  EXPECT_TRUE(lately.Again(42, now += absl::Seconds(59)));
  EXPECT_TRUE(lately.Again(42, now += absl::Seconds(59)));
  EXPECT_FALSE(lately.Again(42, now += absl::Seconds(62)));
  EXPECT_FALSE(lately.Again(uint64_t{7} << 32 | 42, now)) << "it takes the place";
  EXPECT_FALSE(lately.Again(42, now));
}

// ---- In the read path ----

Flag Cache(uint32_t uniform_ppm, flags::SampleShares strata) {
  return {.mode = Mode::kCache, .serve_ppm = kAll, .sample_ppm = uniform_ppm, .strata = strata};
}

// A share so small that no read of these tests is in it.
constexpr uint32_t kHardly = 1;

uint64_t JudgedOf(const ReadWorld& w, Stratum stratum) {
  return w.Counts().weighted.judged_of[static_cast<size_t>(stratum)];
}

TEST(StrataReadTest, AnswersThatThereIsNoRowAreSampledByTheirOwnShare) {
  ReadWorld w;
  w.Write("there");
  w.RouteCache();
  for (const char* id : {"there", "not there"}) w.Read(id);
  w.world.RunUntilIdle();
  w.Route(Cache(kHardly, {.negative_ppm = kAll}));
  for (const char* id : {"there", "not there"}) w.Read(id);
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().sampled, 1u);
  EXPECT_EQ(JudgedOf(w, Stratum::kNegative), 1u);
  EXPECT_EQ(w.Counts().weighted.judged, 1'000'000u) << "it was certain to be drawn, and stands for itself";
}

TEST(StrataReadTest, AnswersNearTheEndOfTheirLifeAre) {
  ReadWorld w({.ttl = absl::Minutes(10), .refresh_early = false});
  w.Write("1");
  w.RouteCache();
  w.Read("1");
  w.Route(Cache(kHardly, {.old_ppm = kAll}));
  w.world.RunFor(absl::Minutes(5));
  w.Read("1");
  EXPECT_EQ(w.Counts().sampled, 0u);
  w.world.RunFor(absl::Minutes(3));
  w.Read("1");
  w.world.RunFor(absl::Seconds(1));
  EXPECT_EQ(w.Counts().sampled, 1u);
  EXPECT_EQ(JudgedOf(w, Stratum::kOld), 1u);
}

TEST(StrataReadTest, AnswersSoonAfterAWriteAre) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache();
  w.Read("1");
  w.Route(Cache(kHardly, {.recent_ppm = kAll}));
  w.Read("1");
  EXPECT_EQ(w.Counts().sampled, 0u) << "nothing was written since it was there";
  w.Write("1");
  w.Invalidate("1");
  w.world.RunFor(absl::Seconds(1));
  w.Read("1");  // A miss.
  w.Read("1");
  w.world.RunFor(absl::Seconds(1));
  EXPECT_EQ(JudgedOf(w, Stratum::kRecent), 1u);
  w.world.RunFor(absl::Seconds(10));
  w.Read("1");
  w.world.RunFor(absl::Seconds(1));
  EXPECT_EQ(w.Counts().sampled, 1u) << "ten freshness bounds later it is as others are";
}

TEST(StrataReadTest, KeysThatWereNotReadLatelyAreInBothModes) {
  for (const Mode mode : {Mode::kShadow, Mode::kCache}) {
    ReadWorld w;
    w.Write("1");
    w.RouteCache();
    w.Read("1");
    w.world.RunUntilIdle();
    Flag flag = Cache(kHardly, {.cold_ppm = kAll});
    if (mode == Mode::kShadow) flag = {.mode = mode, .sample_ppm = kHardly, .strata = flag.strata};
    w.Route(flag);
    for (int i = 0; i < 3; ++i) w.Read("1");
    w.world.RunFor(absl::Minutes(2));
    EXPECT_EQ(w.Counts().sampled, 1u) << "the first of the three";
    w.Read("1");
    w.world.RunFor(absl::Seconds(1));
    EXPECT_EQ(w.Counts().sampled, 2u);
    EXPECT_EQ(JudgedOf(w, Stratum::kCold), 2u);
  }
}

TEST(StrataReadTest, WhatANearCacheAnswersIsSampledByWhatItIs) {
  ReadWorld w;
  w.TrackNear();
  w.RouteCache();
  w.ReadIntoNear("not there");
  w.Route(Cache(kHardly, {.negative_ppm = kAll}));
  const auto answer = w.Read("not there");
  EXPECT_EQ(answer->response.source(), shadowline::v1::SOURCE_NEAR_CACHE);
  EXPECT_EQ(w.Counts().sampled, 1u);
}

TEST(StrataReadTest, WhatIsFoundRightCountsAsAnEpisodeOnlyWhereItWasDrawnUniformly) {
  ReadWorld w;
  w.RouteCache();
  w.Read("not there");
  w.world.RunUntilIdle();
  const auto episodes = [&] {
    size_t count = 0;
    for (const auto& [key, found] : w.ledger.BuildFlush().episodes) count += found.size();
    return count;
  };
  w.Route(Cache(kHardly, {.negative_ppm = kAll}));
  w.Read("not there");
  w.world.RunFor(absl::Seconds(2));
  EXPECT_EQ(w.Counts().matched, 1u);
  EXPECT_EQ(episodes(), 0u);
  w.Route(Cache(kAll, {.negative_ppm = kAll}));
  w.Read("not there");
  w.world.RunFor(absl::Seconds(2));
  EXPECT_EQ(w.Counts().matched, 2u);
  EXPECT_EQ(episodes(), 1u) << "the same fill, drawn whatever it is";
}

TEST(StrataReadTest, AWrongAnswerThatWasDrawnForWhatItIsIsConfirmed) {
  ReadWorld w;
  w.RouteCache();
  w.Read("1");  // "Not there" is cached,
  w.world.RunUntilIdle();
  w.Write("1");  // and nobody is told that it is.
  w.world.RunFor(absl::Seconds(5));
  w.Route(Cache(kHardly, {.negative_ppm = kAll}));
  w.Read("1");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().confirmed, 1u);
  EXPECT_EQ(w.Counts().weighted.wrong_of[static_cast<size_t>(Stratum::kNegative)], 1u);
  EXPECT_EQ(w.divergences.size(), 1u);
}

TEST(StrataReadTest, LatenciesAreThoseOfUniformlySampledReads) {
  ReadWorld w;
  w.RouteCache();
  w.Read("not there");
  w.world.RunUntilIdle();
  const auto timed = [&] {
    uint64_t reads = 0;
    for (const uint64_t bucket : w.Counts().candidate_latency) reads += bucket;
    return reads;
  };
  w.Route(Cache(kHardly, {.negative_ppm = kAll}));
  w.Read("not there");
  EXPECT_EQ(w.Counts().sampled, 1u);
  EXPECT_EQ(timed(), 0u);
  w.Route(Cache(kAll, {.negative_ppm = kAll}));
  w.Read("not there");
  EXPECT_EQ(timed(), 1u);
}

// ---- Within the budget ----

TEST(StrataBudgetTest, StrataLeaveTheBudgetToTheUniformSample) {
  ReadWorld w({.freshness = absl::Milliseconds(50), .verifier = {.queries_per_second = 100, .burst = 100}});
  w.RouteCache();
  for (int i = 0; i < 500; ++i) w.Read(absl::StrCat(i));  // All of them "not there".
  w.world.RunFor(absl::Seconds(1));
  w.Route(Cache(50'000, {.negative_ppm = kAll}));
  for (int i = 0; i < 10'000; ++i) {
    w.Start(ReadWorld::Request(absl::StrCat(i % 500)));
    w.world.RunFor(absl::Milliseconds(1));
  }
  w.world.RunFor(absl::Seconds(5));
  const diff::Counts counts = w.Counts();
  // A thousand reads a second, of which 50 are due, and a hundred can be afforded.
  EXPECT_GT(counts.matched, 900u) << "the budget is used";
  EXPECT_EQ(w.Metric(R"(shadowline_verification_over_budget_total{sampled_as="uniform"})"), 0);
  EXPECT_LT(counts.shed, counts.sampled / 20) << "what cannot be afforded is not drawn at all";
  const auto estimate = diff::EstimateOf(counts.weighted);
  EXPECT_NEAR(estimate->reads, 10'000, 1500) << "and the reads that were stand for all";
}

// ---- Estimates ----

struct Population {
  struct Part {
    double share;
    double wrong;
    Strata strata;
  };
  std::vector<Part> parts;

  double Truth() const {
    double truth = 0;
    for (const Part& part : parts) truth += part.share * part.wrong;
    return truth;
  }
};

// Reads of `population`, drawn as the read path draws them.
diff::Weighted Draw(const Population& population, const Flag& flag, int reads, uint64_t seed, double* wrong_rate) {
  base::Random random(seed);
  diff::Weighted weighted;
  int wrong_reads = 0;
  for (int i = 0; i < reads; ++i) {
    double at = random.Unit();
    const Population::Part* part = &population.parts.front();
    for (const Population::Part& one : population.parts) {
      part = &one;
      if (at < one.share) break;
      at -= one.share;
    }
    const bool wrong = random.Unit() < part->wrong;
    wrong_reads += wrong;
    // What can be afforded goes up and down.
    const uint32_t boost = i % 1000 < 300 ? 200'000 : kAll;
    const Sampling sampling =
        SamplingOf(flag, DrawsOf(absl::StrCat("key ", i % 997), absl::StrCat("read ", seed, "/", i), &random));
    const Inclusion inclusion = InclusionOf(sampling, part->strata, boost);
    if (sampling.Takes(inclusion)) weighted.Add(inclusion, wrong);
  }
  *wrong_rate = static_cast<double>(wrong_reads) / reads;
  return weighted;
}

const Population kSkewed = {{{.share = 0.03, .wrong = 0.20, .strata = Of(Stratum::kUncertified)},
                             {.share = 0.10, .wrong = 0.02, .strata = Of(Stratum::kOld)},
                             {.share = 0.05, .wrong = 0.05, .strata = Of(Stratum::kOld).Add(Stratum::kNegative)},
                             {.share = 0.82, .wrong = 0.002, .strata = {}}}};

TEST(EstimateTest, IsUnbiasedWhereTheShareOfTheVerifiedReadsIsNot) {
  const Flag flag{.mode = Mode::kCache, .sample_ppm = 50'000, .strata = kShares};
  constexpr int kRuns = 200;
  double sum = 0;
  double squares = 0;
  double naive = 0;
  double truth = 0;
  double claimed = 0;
  int held = 0;
  for (int run = 0; run < kRuns; ++run) {
    double wrong_rate = 0;
    const diff::Weighted weighted = Draw(kSkewed, flag, 20'000, 1000 + run, &wrong_rate);
    const diff::Estimate estimate = *diff::EstimateOf(weighted);
    sum += estimate.rate - wrong_rate;
    squares += (estimate.rate - wrong_rate) * (estimate.rate - wrong_rate);
    claimed += estimate.standard_error;
    truth += wrong_rate;
    held += estimate.low <= wrong_rate && wrong_rate <= estimate.high;
    uint64_t judged = 0;
    uint64_t wrong = 0;
    for (const Stratum stratum : {Stratum::kUncertified, Stratum::kOld}) {
      judged += weighted.judged_of[static_cast<size_t>(stratum)];
      wrong += weighted.wrong_of[static_cast<size_t>(stratum)];
    }
    // Those of no stratum are drawn with 5 %.
    const double rest = 0.82 * 20'000 * 0.05;
    naive += (static_cast<double>(wrong) + rest * 0.002) / (static_cast<double>(judged) + rest);
  }
  const double bias = sum / kRuns;
  const double deviation = std::sqrt(squares / kRuns - bias * bias);
  EXPECT_NEAR(truth / kRuns, kSkewed.Truth(), 0.0005);
  EXPECT_LT(std::abs(bias), 4 * deviation / std::sqrt(kRuns)) << "within the noise of " << kRuns << " runs";
  EXPECT_GT(naive / kRuns, 3 * truth / kRuns) << "what is suspicious is verified more often";
  EXPECT_NEAR(claimed / kRuns, deviation, deviation / 2) << "it is as certain as it says";
  EXPECT_GE(claimed / kRuns, deviation * 0.8);
  EXPECT_GE(held, kRuns * 90 / 100);
}

TEST(EstimateTest, OfReadsThatWereAllDrawnAlikeIsTheirShareAndWilsonsInterval) {
  diff::Weighted weighted;
  for (int i = 0; i < 1000; ++i) weighted.Add({.ppm = 100'000}, i < 50);
  const diff::Estimate estimate = *diff::EstimateOf(weighted);
  EXPECT_DOUBLE_EQ(estimate.reads, 10'000);
  EXPECT_DOUBLE_EQ(estimate.rate, 0.05);
  EXPECT_NEAR(estimate.standard_error, std::sqrt(0.05 * 0.95 / 1000), 1e-9);
  EXPECT_NEAR(estimate.low, 0.03813, 1e-5);
  EXPECT_NEAR(estimate.high, 0.06531, 1e-5);
}

TEST(EstimateTest, OfNoWrongReadStillLeavesRoomForSome) {
  diff::Weighted weighted;
  EXPECT_FALSE(diff::EstimateOf(weighted).has_value());
  for (int i = 0; i < 1000; ++i) weighted.Add({.ppm = 100'000}, false);
  for (int i = 0; i < 1000; ++i) weighted.Add({.ppm = kAll}, false);
  const diff::Estimate estimate = *diff::EstimateOf(weighted);
  EXPECT_EQ(estimate.rate, 0);
  EXPECT_EQ(estimate.low, 0);
  EXPECT_NEAR(estimate.high, 0.0032, 0.0001) << "as of 1,198 reads drawn alike, and not of 2,000";
}

TEST(EstimateTest, AFigureThatIsFullStaysFull) {
  diff::Weighted weighted;
  weighted.wrong_squares = weighted.judged_squares = diff::Weighted::kMost - 1;
  weighted.Add({.ppm = 1}, true);
  EXPECT_EQ(weighted.judged_squares, diff::Weighted::kMost);
  EXPECT_EQ(weighted.wrong_squares, diff::Weighted::kMost);
}

}  // namespace
}  // namespace shadowline::server
