#include "diff/verdict/noise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "diff/evidence/noise_book.h"

namespace shadowline::diff {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;

const NoiseKey kQuote = {"pricing", "pricing/quote", 3};

// R. G. Newcombe, Two-sided Confidence Intervals for the Single Proportion (1998), table I, method 3.
TEST(NoiseTest, TheIntervalIsWilsons) {
  const struct {
    uint64_t hits, trials;
    double low, high;
  } known[] = {{81, 263, 0.2553, 0.3662}, {15, 148, 0.0624, 0.1605}, {0, 20, 0, 0.1611}, {1, 29, 0.0061, 0.1718}};
  for (const auto& k : known) {
    const ShareInterval interval = WilsonInterval(k.hits, k.trials);
    EXPECT_NEAR(interval.low_ppm / 1e6, k.low, 5e-5) << k.hits << " of " << k.trials;
    EXPECT_NEAR(interval.high_ppm / 1e6, k.high, 5e-5) << k.hits << " of " << k.trials;
    // The same from the other side.
    const ShareInterval rest = WilsonInterval(k.trials - k.hits, k.trials);
    EXPECT_NEAR(rest.low_ppm, 1'000'000 - interval.high_ppm, 1);
    EXPECT_NEAR(rest.high_ppm, 1'000'000 - interval.low_ppm, 1);
  }
}

TEST(NoiseTest, NothingIsKnownWithoutATrialAndNothingIsCertainAfterMany) {
  EXPECT_EQ(WilsonInterval(0, 0).low_ppm, 0u);
  EXPECT_EQ(WilsonInterval(0, 0).high_ppm, 1'000'000u);
  EXPECT_EQ(WilsonInterval(0, 1'000'000).low_ppm, 0u);
  EXPECT_GT(WilsonInterval(0, 1'000'000).high_ppm, 0u);
  EXPECT_LT(WilsonInterval(1'000'000, 1'000'000).low_ppm, 1'000'000u);
  EXPECT_EQ(WilsonInterval(1'000'000, 1'000'000).high_ppm, 1'000'000u);
}

TEST(NoiseTest, OnePairOfOneIsNoisyAndOneOfThousandIsNot) {
  EXPECT_FALSE(IsNoisy(0, 0));
  EXPECT_FALSE(IsNoisy(0, 1'000'000));
  EXPECT_TRUE(IsNoisy(1, 1));
  EXPECT_TRUE(IsNoisy(1, 100));
  EXPECT_FALSE(IsNoisy(1, 1'000));
}

TEST(NoiseBookTest, PairsCountForEveryPatternOfTheEndpoint) {
  NoiseBook book;
  book.Add(kQuote, {});
  book.Add(kQuote, {"/at: value", "/rank: value"});
  book.Add(kQuote, {"/at: value"});
  const NoiseCounts counts = book.Counts(kQuote);
  EXPECT_EQ(counts.pairs, 3u);
  EXPECT_EQ(counts.differed, 2u);
  EXPECT_THAT(counts.patterns, ElementsAre(Pair("/at: value", 2u), Pair("/rank: value", 1u)));
  EXPECT_TRUE(IsNoisy(book.Counts(kQuote), "/at: value"));
  EXPECT_FALSE(IsNoisy(book.Counts(kQuote), "/price: value"));
  EXPECT_FALSE(IsNoisy(book.Counts({"pricing", "pricing/list", 3}), "/at: value"));
  EXPECT_FALSE(IsNoisy(book.Counts({"pricing", "pricing/quote", 4}), "/at: value"));
}

TEST(NoiseBookTest, WhatIsBelowANoisyPlaceIsNoisy) {
  NoiseBook book;
  book.Add(kQuote, {"/lines: order"});
  EXPECT_TRUE(IsNoisy(book.Counts(kQuote), "/lines/*/price: value"));
  EXPECT_FALSE(IsNoisy(book.Counts(kQuote), "/linesman: value"));
}

TEST(NoiseBookTest, SaysWhatIsKnownOfTheNoisyOnesAmongSomePatterns) {
  const NoiseCounts counts = {148, 16, {{"/at: value", 15}, {"/rank: value", 0}}};
  EXPECT_EQ(NoiseEvidence(counts, {"/at: value", "/price: value", "/rank: value"}),
            "The database contradicts itself within one snapshot at /at: value in 15 of 148 pairs (6.24 to 16.05 %).");
  EXPECT_EQ(NoiseEvidence(counts, {"/price: value"}), "");
}

TEST(NoiseBookTest, WhatChangedIsTakenOnceAndAbsolute) {
  NoiseBook book;
  EXPECT_THAT(book.TakeChanged(), IsEmpty());
  book.Add(kQuote, {"/at: value"});
  EXPECT_EQ(book.TakeChanged().at(kQuote).pairs, 1u);
  EXPECT_THAT(book.TakeChanged(), IsEmpty());
  book.Add(kQuote, {});
  const NoiseCounts counts = book.TakeChanged().at(kQuote);
  EXPECT_EQ(counts.pairs, 2u);
  EXPECT_EQ(counts.differed, 1u);
}

TEST(NoiseBookTest, ACatalogsNoiseIsTakenBeforeItIsForgotten) {
  NoiseBook book;
  NoiseKey newer = kQuote;
  newer.catalog_revision = 4;
  book.Add(kQuote, {"/at: value"});
  book.Add(newer, {});
  book.Add(kQuote, {});  // Of a read that began before the change.
  EXPECT_THAT(book.TakeChanged(),
              ElementsAre(Pair(kQuote, NoiseCounts{1, 1, {{"/at: value", 1}}}), Pair(newer, NoiseCounts{1, 0, {}})));
  EXPECT_EQ(book.Counts(kQuote), NoiseCounts());
  EXPECT_EQ(book.Counts(newer).pairs, 1u);
}

TEST(NoiseBookTest, PatternsAndEndpointsHaveALimit) {
  NoiseBook book;
  for (size_t i = 0; i < NoiseBook::kPatternsMost + 10; ++i) book.Add(kQuote, {absl::StrCat("/", i, ": value")});
  EXPECT_THAT(book.Counts(kQuote).patterns, SizeIs(NoiseBook::kPatternsMost));
  EXPECT_EQ(book.Counts(kQuote).differed, NoiseBook::kPatternsMost + 10);
  for (size_t i = 0; i < NoiseBook::kEndpointsMost + 10; ++i) book.Add({"f", absl::StrCat("f/", i), 3}, {});
  EXPECT_THAT(book.TakeChanged(), SizeIs(NoiseBook::kEndpointsMost));
  book.Add(kQuote, {});
  EXPECT_EQ(book.Counts(kQuote).pairs, NoiseBook::kPatternsMost + 11);
}

}  // namespace
}  // namespace shadowline::diff
