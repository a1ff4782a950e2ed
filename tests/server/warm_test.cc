// What is warmed after an invalidation: readers, the lane's memory of hot keys, the invalidator and the warmer
// together.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache/warm/warmer.h"
#include "tests/server/read_world.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;

class WarmTest : public testing::Test {
 protected:
  explicit WarmTest(uint32_t warm = 3, cache::Warmer::Options options = {.per_second = 50})
      : w_({.refresh_early = false, .warm = warm}),
        filler_({}, &w_.background_store, &w_.refresh_control, &w_.flight, w_.world.executor(), w_.world.clock(),
                w_.world.random()),
        warmer_(options, {.filler = &filler_,
                          .executor = w_.world.executor(),
                          .clock = w_.world.clock(),
                          .metrics = &w_.metrics,
                          .catalog = [this] { return w_.catalog.Current(); },
                          .epoch =
                              [this](const std::string& tenant, const std::string& family) {
                                const flags::Flag& flag = *w_.board.Current()->Find(tenant, family);
                                return flag.mode == flags::Mode::kDatabase ? std::nullopt
                                                                           : std::optional<uint64_t>(flag.epoch);
                              }}) {
    warmer_.AddSource(w_.world.executor(), &w_.hot_keys);
    w_.on_fenced = [this](const std::vector<cache::TenantTag>& tags) { warmer_.Fenced(tags); };
    w_.RouteCache();
  }
  void TearDown() override { w_.world.RunUntilIdle(); }

  // Key `k` of `keys` is read `keys - k` times, so the first are the hottest.
  void ReadKeys(int keys) {
    for (int k = 0; k < keys; ++k) {
      for (int i = k; i < keys; ++i) w_.Read(Id(k));
    }
  }
  static std::string Id(int k) { return absl::StrCat("key", k); }
  void InvalidateAll() {
    w_.invalidator.Invalidate({{"acme", "tenant"}}, {}, [](absl::Status status) { EXPECT_TRUE(status.ok()); });
  }
  bool Cached(int k) { return w_.Read(Id(k))->response.source() == v1::SOURCE_CACHE; }
  uint64_t Loads() const { return w_.refresh_control.queries(); }
  double Keys(const std::string& outcome) {
    return w_.Metric(absl::StrCat("shadowline_warm_keys_total{outcome=\"", outcome, "\"}"));
  }

  ReadWorld w_;
  cache::Filler filler_;
  cache::Warmer warmer_;
};

TEST_F(WarmTest, TheHottestKeysOfTheTagAreThereBeforeAnyoneAsks) {
  ReadKeys(10);
  InvalidateAll();
  w_.world.RunFor(absl::Seconds(1));
  EXPECT_EQ(Loads(), 3u);
  EXPECT_EQ(Keys("done"), 3);
  const uint64_t queries = w_.control.queries();
  for (int k = 0; k < 3; ++k) EXPECT_TRUE(Cached(k)) << k;
  EXPECT_EQ(w_.control.queries(), queries);
  EXPECT_FALSE(Cached(3));
}

TEST_F(WarmTest, WhatIsWarmedIsWhatTheDatabaseHoldsNow) {
  w_.Write(Id(0));
  ReadKeys(1);
  w_.Write(Id(0));
  w_.Invalidate(Id(0));
  w_.world.RunFor(absl::Seconds(1));
  const auto answer = w_.Read(Id(0));
  EXPECT_EQ(answer->response.source(), v1::SOURCE_CACHE);
  EXPECT_EQ(answer->response.body(), R"({"price":2})");
}

TEST_F(WarmTest, OtherTagsAndOtherTenantsAreLeftAlone) {
  ReadKeys(3);
  w_.Invalidate(Id(1));
  w_.Invalidate(Id(2), "globex");
  w_.world.RunFor(absl::Seconds(1));
  EXPECT_EQ(Loads(), 1u);
}

TEST_F(WarmTest, WhatNobodyReadsAnyMoreIsWarmedOnce) {
  ReadKeys(3);
  for (int second = 0; second < 60; ++second) {
    InvalidateAll();
    w_.world.RunFor(absl::Seconds(1));
  }
  EXPECT_EQ(Loads(), 3u);
  ReadKeys(1);
  for (int second = 0; second < 60; ++second) {
    InvalidateAll();
    w_.world.RunFor(absl::Seconds(1));
  }
  EXPECT_EQ(Loads(), 4u);
}

TEST_F(WarmTest, AKeyThatIsThereAgainIsNotLoaded) {
  ReadKeys(3);
  InvalidateAll();
  w_.world.RunFor(absl::Milliseconds(5));
  EXPECT_FALSE(Cached(0));  // A caller was first.
  w_.world.RunFor(absl::Seconds(1));
  EXPECT_EQ(Loads(), 2u);
  EXPECT_EQ(Keys("fresh"), 1);
}

TEST_F(WarmTest, ATargetWhoseReadsDoNotTouchTheCacheIsNotWarmed) {
  ReadKeys(3);
  w_.Route(flags::Flag{});
  InvalidateAll();
  w_.world.RunFor(absl::Seconds(1));
  EXPECT_EQ(Loads(), 0u);
  EXPECT_EQ(Keys("skipped"), 3);
}

TEST_F(WarmTest, ANewEpochIsWarmedUnderItsOwnKeys) {
  ReadKeys(3);
  w_.Route({.mode = flags::Mode::kCache, .serve_ppm = 1'000'000, .epoch = 4});
  InvalidateAll();
  w_.world.RunFor(absl::Seconds(1));
  EXPECT_EQ(Keys("done"), 3);
  EXPECT_TRUE(Cached(0));
}

TEST_F(WarmTest, WhatTheDatabaseRefusesIsNotTriedAgain) {
  ReadKeys(3);
  w_.refresh_control.FailAll(absl::ResourceExhaustedError("callers come first"));
  InvalidateAll();
  w_.world.RunFor(absl::Seconds(10));
  EXPECT_EQ(Keys("failed"), 3);
}

TEST_F(WarmTest, NoCallerWaitsForAWarming) {
  ReadKeys(3);
  w_.refresh_control.Hang(true);
  InvalidateAll();
  w_.world.RunFor(absl::Seconds(1));
  EXPECT_EQ(Loads(), 3u);
  for (int k = 0; k < 3; ++k) {
    const auto answer = w_.Read(Id(k));
    EXPECT_TRUE(answer->status->ok());
    EXPECT_LT(answer->replied_at - answer->asked_at, absl::Milliseconds(12));
  }
}

TEST_F(WarmTest, OnRequestAlsoWhatNobodyHasReadSince) {
  ReadKeys(3);
  InvalidateAll();
  w_.world.RunFor(absl::Seconds(1));
  InvalidateAll();
  w_.world.RunFor(absl::Seconds(1));
  ASSERT_FALSE(w_.redis.Find(w_.Key(Id(0))) == nullptr);
  std::optional<absl::StatusOr<uint64_t>> queued;
  warmer_.Warm({{"acme", "tenant"}}, [&](absl::StatusOr<uint64_t> keys) { queued = std::move(keys); });
  w_.world.RunFor(absl::Seconds(1));
  EXPECT_EQ(queued->value(), 3u);
  EXPECT_EQ(Loads(), 6u);
  EXPECT_TRUE(Cached(0));
}

class ManyKeysTest : public WarmTest {
 protected:
  ManyKeysTest() : WarmTest(1'000, {.per_second = 50, .queue_max = 100}) {}
};

TEST_F(ManyKeysTest, TheRateAndTheQueueAreBounded) {
  for (int k = 0; k < 200; ++k) w_.Read(Id(k));
  InvalidateAll();
  w_.world.RunFor(absl::Milliseconds(30));
  std::optional<absl::StatusOr<uint64_t>> queued;
  warmer_.Warm({{"acme", "tenant"}}, [&](absl::StatusOr<uint64_t> keys) { queued = std::move(keys); });
  w_.world.RunFor(absl::Milliseconds(970));
  // Two places were free again by then.
  EXPECT_LE(queued->value_or(0), 2u);
  EXPECT_GE(Loads(), 45u);
  EXPECT_LE(Loads(), 50u);
  EXPECT_GE(Keys("dropped"), 95);
  w_.world.RunFor(absl::Seconds(10));
  EXPECT_LE(Loads(), 102u);
}

TEST_F(ManyKeysTest, WhatWaitsIsNotQueuedAgain) {
  for (int k = 0; k < 80; ++k) w_.Read(Id(k));
  for (int i = 0; i < 10; ++i) {
    InvalidateAll();
    for (int k = 0; k < 80; ++k) w_.hot_keys.Saw(w_.Key(Id(k)), w_.catalog.Current()->endpoints()[0], "acme", {Id(k)});
    w_.world.RunFor(absl::Milliseconds(25));
  }
  EXPECT_LE(Loads(), 13u);
  w_.world.RunFor(absl::Seconds(10));
  EXPECT_LE(Loads(), 80u + 13u) << "those that were loaded before the last invalidation, twice";
  EXPECT_EQ(Keys("dropped"), 0);
}

class NotDeclaredTest : public WarmTest {
 protected:
  NotDeclaredTest() : WarmTest(0) {}
};

TEST_F(NotDeclaredTest, AnEndpointThatDoesNotSaySoIsNotRemembered) {
  ReadKeys(3);
  InvalidateAll();
  w_.world.RunFor(absl::Seconds(1));
  EXPECT_EQ(Loads(), 0u);
  EXPECT_TRUE(w_.hot_keys.Take({cache::HashOf({"acme", "tenant"})}, /*all=*/true).empty());
}

}  // namespace
}  // namespace shadowline::server
