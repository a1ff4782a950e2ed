#include "server/read/early_refresh.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tests/server/read_world.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;

// ---- The decision ----

cache::CachedAnswer Lives(absl::Duration ttl, absl::Duration load_time) {
  cache::CachedAnswer answer;
  answer.loaded_at = absl::FromUnixSeconds(1'000);
  answer.expires_at = answer.loaded_at + ttl;
  answer.load_time = load_time;
  return answer;
}

TEST(EarlyRefreshTest, TheTimeForItIsTheLastTenthOrFourLoadsButNotTheFirstHalf) {
  const auto first = [](absl::Duration ttl, absl::Duration load_time) {
    const cache::CachedAnswer answer = Lives(ttl, load_time);
    absl::Duration age;
    while (!EarlyRefresh::InTime(answer, answer.loaded_at + age)) age += absl::Milliseconds(100);
    return age;
  };
  EXPECT_EQ(first(absl::Seconds(60), absl::Milliseconds(3)), absl::Seconds(54));
  EXPECT_EQ(first(absl::Seconds(60), absl::Seconds(4)), absl::Seconds(44));
  EXPECT_EQ(first(absl::Seconds(60), absl::Seconds(40)), absl::Seconds(30));
}

TEST(EarlyRefreshTest, AnEndThatIsNotKnownIsNeverNear) {
  cache::CachedAnswer answer;
  answer.loaded_at = absl::FromUnixSeconds(1'000);
  EXPECT_FALSE(EarlyRefresh::InTime(answer, answer.loaded_at + absl::Hours(1'000)));
}

TEST(EarlyRefreshTest, TheSecondReadOfAFillIsDueThenLessAndLessOften) {
  EarlyRefresh early;
  std::vector<int> due;
  for (int read = 1; read <= 20; ++read) {
    if (early.Due("key", "fill", false, absl::ZeroDuration())) due.push_back(read);
  }
  EXPECT_EQ(due, (std::vector<int>{2, 4, 8, 16}));
  EXPECT_FALSE(early.Due("key", "next fill", false, absl::ZeroDuration()));
  EXPECT_TRUE(early.Due("key", "next fill", false, absl::ZeroDuration()));
}

TEST(EarlyRefreshTest, WhatIsServedStaleIsDueAtOnce) {
  EarlyRefresh early;
  for (int read = 1; read <= 6; ++read) early.Due("key", "fill", false, absl::ZeroDuration());
  std::vector<int> due;
  for (int read = 1; read <= 10; ++read) {
    if (early.Due("key", "fill", true, absl::ZeroDuration())) due.push_back(read);
  }
  EXPECT_EQ(due, (std::vector<int>{1, 2, 4, 8}));
}

TEST(EarlyRefreshTest, AKeyIsRefreshedTwiceInATtlAtMostWhateverTheClocksSay) {
  EarlyRefresh early;
  int refreshes = 0;
  // To this replica, each value seems to end at once.
  for (absl::Duration now; now < absl::Seconds(600); now += absl::Milliseconds(10)) {
    if (!early.Due("key", std::to_string(refreshes), false, now)) continue;
    ++refreshes;
    early.Refreshed("key", absl::Seconds(60), now);
  }
  EXPECT_LE(refreshes, 20);
  EXPECT_GE(refreshes, 10);
}

// ---- Replicas that refresh ----

// Beside ReadWorld's own one: another process.
struct Peer {
  explicit Peer(ReadWorld* w)
      : store(&w->redis, w->world.executor()),
        filler({}, &store, &w->control, &flight, w->world.executor(), w->world.clock(), w->world.random()),
        refresher({}, &store, &w->refresh_control, &flight, w->world.executor(), w->world.clock(), w->world.random()),
        reader(w->options.reader, {.board = &w->board,
                                   .catalog = &w->catalog,
                                   .store = &store,
                                   .control = &w->control,
                                   .filler = &filler,
                                   .refresher = &refresher,
                                   .verifier = &w->verifier,
                                   .watermark = &w->watermark,
                                   .executor = w->world.executor(),
                                   .clock = w->world.clock(),
                                   .random = w->world.random(),
                                   .metrics = &w->metrics}) {}

  sim::SimStore store;
  cache::FillFlight flight;
  cache::Filler filler;
  cache::Filler refresher;
  CachedReader reader;
};

class RefreshTest : public testing::Test {
 protected:
  explicit RefreshTest(ReadWorldOptions options = {.ttl = absl::Seconds(60)}) : w_(std::move(options)) {
    for (const char* id : {"1", "2", "3"}) w_.Write(id);
    w_.RouteCache();
  }
  // What is under way refers to this world.
  void TearDown() override { w_.world.RunUntilIdle(); }

  // `replica` 0 is the world's own reader.
  std::shared_ptr<ReadWorld::Answer> Start(int replica, const std::string& id = "1") {
    if (replica == 0) return w_.Start(ReadWorld::Request(id));
    auto answer = std::make_shared<ReadWorld::Answer>();
    answer->request = ReadWorld::Request(id);
    answer->asked_at = w_.world.clock()->Now();
    peer_.reader.Read(answer->request, &answer->response, absl::Seconds(10), [this, answer](absl::Status status) {
      answer->status = std::move(status);
      answer->replied_at = w_.world.clock()->Now();
    });
    return answer;
  }
  std::shared_ptr<ReadWorld::Answer> Read(int replica, const std::string& id = "1") {
    auto answer = Start(replica, id);
    while (!answer->status.has_value() && w_.world.executor()->RunOne()) {
    }
    EXPECT_TRUE(answer->status->ok()) << *answer->status;
    return answer;
  }
  static bool FromCache(const ReadWorld::Answer& answer) { return answer.response.source() == v1::SOURCE_CACHE; }
  double Refreshes(const std::string& outcome) {
    return w_.Metric(absl::StrCat("shadowline_refreshes_total{outcome=\"", outcome, "\"}"));
  }
  // TTLs are up to a tenth shorter than declared: by then every value is there still.
  static constexpr absl::Duration kNearTheEnd = absl::Milliseconds(53'900);

  ReadWorld w_;
  Peer peer_{&w_};
};

TEST_F(RefreshTest, AKeyThatIsReadSteadilyIsNeverMissed) {
  int reads = 0, misses = 0;
  for (absl::Duration t; t < absl::Minutes(30); t += absl::Milliseconds(400)) {
    misses += !FromCache(*Read(static_cast<int>(w_.world.random()->Below(2))));
    ++reads;
    w_.world.RunFor(absl::Milliseconds(400));
  }
  EXPECT_EQ(misses, 1) << "of " << reads;
  EXPECT_EQ(w_.control.queries(), 1u);
  // Each TTL of at least 54 s is left in its last tenth.
  EXPECT_GE(w_.refresh_control.queries(), 30u);
  EXPECT_LE(w_.refresh_control.queries(), 37u);
}

TEST_F(RefreshTest, AKeyThatIsReadOnceInATtlIsNotRefreshed) {
  for (int ttl = 0; ttl < 30; ++ttl) {
    Read(ttl % 2);
    w_.world.RunFor(absl::Seconds(53) + absl::Seconds(7) * w_.world.random()->Unit());
  }
  EXPECT_EQ(w_.refresh_control.queries(), 0u);
}

TEST_F(RefreshTest, ManyReadersCostOneRefresh) {
  Read(0);
  w_.world.RunFor(kNearTheEnd);
  std::vector<std::shared_ptr<ReadWorld::Answer>> answers;
  for (int i = 0; i < 200; ++i) answers.push_back(Start(i % 2));
  w_.world.RunFor(absl::Seconds(1));
  for (const auto& answer : answers) EXPECT_TRUE(FromCache(*answer));
  EXPECT_EQ(w_.refresh_control.queries(), 1u);
  EXPECT_EQ(Refreshes("done"), 1);
  w_.world.RunFor(absl::Seconds(30));
  EXPECT_TRUE(FromCache(*Read(0)));
  EXPECT_LT(Read(1)->response.age_us(), 32'000'000);
}

TEST_F(RefreshTest, NoCallerWaitsForARefresh) {
  Read(0);
  w_.refresh_control.Hang(true);
  w_.world.RunFor(kNearTheEnd);
  for (absl::Duration t; t < absl::Seconds(8); t += absl::Milliseconds(50)) {
    // After the end of the TTL there is one miss, whose load takes 5 ms at most.
    const auto answer = Read(0);
    EXPECT_LT(answer->replied_at - answer->asked_at,
              FromCache(*answer) ? absl::Milliseconds(2) : absl::Milliseconds(12));
    w_.world.RunFor(absl::Milliseconds(50));
  }
  EXPECT_GE(w_.refresh_control.queries(), 1u);
  EXPECT_EQ(w_.control.queries(), 2u);
  EXPECT_EQ(Refreshes("done"), 0);
}

TEST_F(RefreshTest, ARefreshThatFailedIsTriedAgain) {
  Read(0);
  w_.refresh_control.FailNext(absl::ResourceExhaustedError("the line is full"));
  w_.world.RunFor(kNearTheEnd);
  for (int i = 0; i < 4; ++i) {
    Read(0);
    w_.world.RunFor(absl::Milliseconds(20));
  }
  EXPECT_EQ(Refreshes("failed"), 1);
  EXPECT_EQ(Refreshes("done"), 1);
}

TEST_F(RefreshTest, AnInvalidationDuringARefreshIsNotUndone) {
  Read(0);
  w_.world.RunFor(kNearTheEnd);
  w_.refresh_control.options().latency_min = w_.refresh_control.options().latency_max = absl::Milliseconds(50);
  Read(0);
  Read(0);
  w_.world.RunFor(absl::Milliseconds(60));
  ASSERT_EQ(Refreshes("done"), 1);
  w_.world.RunFor(kNearTheEnd);
  Read(0);
  Read(0);  // Its snapshot is taken now, or in the next 50 ms.
  w_.world.RunFor(absl::Milliseconds(25));
  w_.Write("1");
  w_.Invalidate("1");
  w_.world.RunFor(absl::Milliseconds(5));
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Read(i % 2)->response.body(), R"({"price":4})");
    w_.world.RunFor(absl::Milliseconds(10));
  }
}

class FewRefreshesTest : public RefreshTest {
 protected:
  FewRefreshesTest() : RefreshTest({.ttl = absl::Seconds(60), .reader = {.refreshes_max = 2}}) {}
};

TEST_F(FewRefreshesTest, WhatExceedsTheLimitIsRefusedAndCounted) {
  for (const char* id : {"1", "2", "3"}) Read(0, id);
  w_.refresh_control.Hang(true);
  w_.world.RunFor(kNearTheEnd - absl::Milliseconds(50));
  for (const char* id : {"1", "2", "3"}) {
    Read(0, id);
    Read(0, id);
  }
  w_.world.RunFor(absl::Milliseconds(20));
  EXPECT_EQ(w_.refresh_control.queries(), 2u);
  EXPECT_EQ(Refreshes("refused"), 1);
}

class NoRefreshTest : public RefreshTest {
 protected:
  NoRefreshTest() : RefreshTest({.ttl = absl::Seconds(60), .refresh_early = false}) {}
};

TEST_F(NoRefreshTest, AnEndpointCanDoWithout) {
  for (absl::Duration t; t < absl::Minutes(3); t += absl::Milliseconds(400)) {
    Read(0);
    w_.world.RunFor(absl::Milliseconds(400));
  }
  EXPECT_EQ(w_.refresh_control.queries(), 0u);
  EXPECT_GE(w_.control.queries(), 3u);
}

// ---- Served stale, within the freshness bound ----

class StaleTest : public RefreshTest {
 protected:
  static constexpr absl::Duration kFreshness = absl::Seconds(5);
  StaleTest()
      : RefreshTest({.freshness = kFreshness,
                     .ttl = absl::Seconds(60),
                     .refresh_early = false,
                     .stale_while_revalidate = true}) {}

  // Until the value of `id` is past its TTL.
  void Outlive(const std::string& id = "1") {
    Read(0, id);
    const auto held = cache::DecodeEnvelope(w_.Key(id), w_.redis.Find(w_.Key(id))->slot.bytes);
    w_.world.RunFor(held->expires_at - w_.world.clock()->Now() + absl::Milliseconds(1));
  }
};

TEST_F(StaleTest, IsServedOnceMoreWhileItIsLoadedAgain) {
  Outlive();
  w_.Write("1");  // A change that nobody has told the cache of.
  const auto stale = Read(0);
  EXPECT_EQ(stale->response.source(), v1::SOURCE_CACHE);
  EXPECT_EQ(stale->response.reason(), v1::READ_REASON_CACHE_STALE);
  EXPECT_EQ(stale->response.body(), R"({"price":1})");
  EXPECT_GE(stale->response.age_us(), 54'000'000);
  w_.world.RunFor(absl::Milliseconds(20));
  const auto fresh = Read(1);
  EXPECT_EQ(fresh->response.reason(), v1::READ_REASON_CACHE_HIT);
  EXPECT_EQ(fresh->response.body(), R"({"price":4})");
  EXPECT_EQ(w_.Metric(R"(shadowline_reads_total{reason="CACHE_STALE",source="cache"})"), 1);
}

TEST_F(StaleTest, ManyReadersCostOneLoad) {
  Outlive();
  std::vector<std::shared_ptr<ReadWorld::Answer>> answers;
  for (int i = 0; i < 200; ++i) answers.push_back(Start(i % 2));
  w_.world.RunFor(absl::Seconds(1));
  for (const auto& answer : answers) {
    EXPECT_TRUE(FromCache(*answer));
    EXPECT_LT(answer->replied_at - answer->asked_at, absl::Milliseconds(2));
  }
  EXPECT_EQ(w_.refresh_control.queries(), 1u);
  EXPECT_EQ(w_.control.queries(), 1u);
}

TEST_F(StaleTest, EndsWithTheFreshnessBoundWhereItCannotBeLoaded) {
  w_.refresh_control.FailAll(absl::ResourceExhaustedError("the database is at its limit"));
  int stale = 0;
  absl::Duration oldest;
  for (absl::Duration t; t < absl::Minutes(20); t += absl::Milliseconds(250)) {
    const auto answer = Read(static_cast<int>(w_.world.random()->Below(2)));
    stale += answer->response.reason() == v1::READ_REASON_CACHE_STALE;
    oldest = std::max(oldest, absl::Microseconds(answer->response.age_us()));
    w_.world.RunFor(absl::Milliseconds(250));
  }
  EXPECT_GT(stale, 100);
  // An answer's age counts from before its load, its TTL from behind it.
  EXPECT_LT(oldest, absl::Seconds(60) + kFreshness + absl::Milliseconds(10));
  EXPECT_GT(oldest, absl::Seconds(54) + kFreshness - absl::Seconds(1));
}

TEST_F(StaleTest, WhatWasInvalidatedIsNeverServed) {
  for (int round = 0; round < 200; ++round) {
    Outlive();
    // Before, while and after it is loaded again.
    Start(0);
    w_.world.RunFor(absl::Milliseconds(8) * w_.world.random()->Unit());
    w_.Write("1");
    bool fenced = false;
    w_.invalidator.Invalidate({{"acme", "quote:1"}}, {}, [&](absl::Status status) { fenced = status.ok(); });
    while (!fenced && w_.world.executor()->RunOne()) {
    }
    const absl::Time acknowledged_at = w_.world.clock()->Now();
    for (int i = 0; i < 4; ++i) {
      const auto answer = Read(i % 2);
      ASSERT_TRUE(w_.database.HeldBetween(ReadWorld::Row("1"), answer->response.body(), acknowledged_at,
                                          w_.world.clock()->Now()))
          << "round " << round;
    }
    w_.world.RunFor(absl::Seconds(1));
  }
}

TEST_F(StaleTest, IsNoAnswerForWhoMayNotServeIt) {
  Outlive();
  w_.options.stale_while_revalidate = false;
  w_.PublishCatalog(kFreshness);
  EXPECT_FALSE(FromCache(*Read(0)));
  EXPECT_EQ(w_.control.queries(), 2u);
}

TEST_F(StaleTest, IsNoAnswerOnceTheBoundWasMadeShorter) {
  Outlive();
  w_.PublishCatalog(absl::Milliseconds(100));
  w_.world.RunFor(absl::Milliseconds(100));
  EXPECT_FALSE(FromCache(*Read(0)));
}

TEST_F(RefreshTest, WithoutTheDeclarationNothingOutlivesItsTtl) {
  Read(0);
  w_.world.RunFor(absl::Seconds(61));
  EXPECT_EQ(w_.redis.Find(w_.Key("1")), nullptr);
}

}  // namespace
}  // namespace shadowline::server
