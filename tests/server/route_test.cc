#include "server/read/route.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;
using flags::Flag;
using flags::Mode;

Route Choose(const Flag& flag, bool leased = true, v1::Consistency consistency = v1::CONSISTENCY_DEFAULT,
             Draws draws = {}) {
  return ChooseRoute(flag, leased, consistency, draws);
}

TEST(RouteTest, DatabaseTouchesNoCache) {
  const Route route = Choose({.mode = Mode::kDatabase, .sample_ppm = 1'000'000});
  EXPECT_FALSE(route.from_cache);
  EXPECT_FALSE(route.verify);
  EXPECT_EQ(route.reason, v1::READ_REASON_MODE_DATABASE);
}

TEST(RouteTest, ShadowAnswersFromTheDatabaseAndVerifies) {
  const Route route = Choose({.mode = Mode::kShadow, .sample_ppm = 1'000'000}, /*leased=*/false);
  EXPECT_FALSE(route.from_cache);
  EXPECT_TRUE(route.verify);
  EXPECT_EQ(route.reason, v1::READ_REASON_MODE_SHADOW);
}

TEST(RouteTest, CacheAnswersInsideTheRampAlone) {
  const Flag flag{.mode = Mode::kCache, .serve_ppm = 50'000, .sample_ppm = 1'000'000};
  EXPECT_TRUE(Choose(flag, true, v1::CONSISTENCY_DEFAULT, {.key_ppm = 49'999}).from_cache);
  const Route outside = Choose(flag, true, v1::CONSISTENCY_DEFAULT, {.key_ppm = 50'000});
  EXPECT_FALSE(outside.from_cache);
  EXPECT_TRUE(outside.verify);
  EXPECT_EQ(outside.reason, v1::READ_REASON_OUTSIDE_RAMP);
}

TEST(RouteTest, FreshReadsAndLapsedLeasesGoToTheDatabase) {
  const Flag flag{.mode = Mode::kCache, .serve_ppm = 1'000'000, .sample_ppm = 1'000'000};
  const Route fresh = Choose(flag, true, v1::CONSISTENCY_FRESH);
  EXPECT_FALSE(fresh.from_cache);
  EXPECT_EQ(fresh.reason, v1::READ_REASON_CONSISTENCY);
  const Route lapsed = Choose(flag, false);
  EXPECT_FALSE(lapsed.from_cache);
  EXPECT_FALSE(lapsed.verify);
  EXPECT_EQ(lapsed.reason, v1::READ_REASON_LEASE_LAPSED);
}

TEST(RouteTest, LargerServeSharesContainSmallerOnes) {
  base::Random random(1);
  int small = 0;
  for (int i = 0; i < 10'000; ++i) {
    const Draws draws = DrawsOf(absl::StrCat("sl:acme:pricing/quote:v1.0:", i), "", &random);
    const Flag five{.mode = Mode::kCache, .serve_ppm = 50'000};
    const Flag quarter{.mode = Mode::kCache, .serve_ppm = 250'000};
    const bool in_five = Choose(five, true, v1::CONSISTENCY_DEFAULT, draws).from_cache;
    small += in_five;
    const bool in_quarter = Choose(quarter, true, v1::CONSISTENCY_DEFAULT, draws).from_cache;
    EXPECT_TRUE(in_quarter || !in_five) << i;
  }
  EXPECT_NEAR(small, 500, 100);
}

TEST(RouteTest, SamplingByKeyCoversTheKeysThatAreServedFirst) {
  const Flag flag{.mode = Mode::kCache, .serve_ppm = 50'000, .sample_ppm = 100'000, .sample_by_key = true};
  base::Random random(1);
  for (int i = 0; i < 10'000; ++i) {
    const Route route = Choose(flag, true, v1::CONSISTENCY_DEFAULT, DrawsOf(absl::StrCat("key ", i), "", &random));
    EXPECT_TRUE(route.verify || !route.from_cache) << i;
  }
}

TEST(RouteTest, ARetryIsSampledAsItsFirstTryWhereverItLands) {
  base::Random one(1);
  base::Random other(2);
  int sampled = 0;
  for (int i = 0; i < 10'000; ++i) {
    const std::string request = absl::StrCat("request ", i);
    const Draws first = DrawsOf("key", request, &one);
    EXPECT_EQ(first.request_ppm, DrawsOf("key", request, &other).request_ppm);
    sampled += first.request_ppm < 100'000;
  }
  EXPECT_NEAR(sampled, 1000, 150);
}

}  // namespace
}  // namespace shadowline::server
