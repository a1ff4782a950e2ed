// Reads of an endpoint that is declared near: what the near cache may answer, and what becomes of its answers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "tests/server/read_world.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;

TEST(NearReadTest, AHotKeyIsAnsweredWithoutRedis) {
  ReadWorld w;
  w.TrackNear();
  w.Write("1");
  w.RouteCache();
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_DATABASE);
  w.world.RunUntilIdle();
  const auto cached = w.Read("1");
  EXPECT_EQ(cached->response.source(), v1::SOURCE_CACHE);
  w.world.RunFor(absl::Seconds(3));
  w.ProveNear();
  w.redis.faults.hang = true;
  const auto near = w.Start(ReadWorld::Request("1"));
  ASSERT_TRUE(near->status.has_value()) << "answered in the same turn";
  EXPECT_EQ(near->response.source(), v1::SOURCE_NEAR_CACHE);
  EXPECT_EQ(near->response.reason(), v1::READ_REASON_CACHE_HIT);
  EXPECT_EQ(near->response.body(), cached->response.body());
  EXPECT_EQ(near->response.etag(), cached->response.etag());
  EXPECT_EQ(near->response.flag_revision(), cached->response.flag_revision());
  EXPECT_GE(near->response.age_us(), 3'000'000);
  EXPECT_LE(near->response.age_us(), 3'500'000);
  EXPECT_EQ(w.Metric(R"(shadowline_reads_total{reason="CACHE_HIT",source="near_cache"})"), 1);
}

TEST(NearReadTest, NotFoundIsAnAnswerToo) {
  ReadWorld w;
  w.TrackNear();
  w.RouteCache();
  w.ReadIntoNear("none");
  const auto near = w.Read("none");
  EXPECT_EQ(near->response.source(), v1::SOURCE_NEAR_CACHE);
  EXPECT_FALSE(near->response.found());
}

TEST(NearReadTest, AnEndpointThatIsNotDeclaredNearIsReadFromRedis) {
  ReadWorld w;
  w.TrackNear();
  w.PublishCatalog(absl::Seconds(1), /*is_near=*/false);
  w.Write("1");
  w.RouteCache();
  w.world.RunFor(cache::kNearGrace);
  w.ReadIntoNear("1");
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_CACHE);
  EXPECT_EQ(w.near.entries(), 0u);
}

TEST(NearReadTest, WithoutTrackingRedisAnswersAndNothingIsKept) {
  ReadWorld w;
  w.TrackNear();
  w.near.TrackingEnded();
  w.Write("1");
  w.RouteCache();
  w.ReadIntoNear("1");
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_CACHE);
  EXPECT_EQ(w.near.entries(), 0u);
}

TEST(NearReadTest, WhatCannotBeProvenIsReadFromRedis) {
  ReadWorld w;
  w.TrackNear();
  w.Write("1");
  w.RouteCache();
  w.ReadIntoNear("1");
  w.world.RunFor(cache::kNearGrace);
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_CACHE);
  w.ProveNear();
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_NEAR_CACHE);
}

TEST(NearReadTest, WhatCameFromARedisThatIsNotUsedAnyMoreIsNotServed) {
  ReadWorld w;
  w.TrackNear();
  w.Write("1");
  w.RouteCache();
  w.ReadIntoNear("1");
  w.redis.faults.down = true;
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_DATABASE);
}

TEST(NearReadTest, AnInvalidationOfATagEndsTheAnswer) {
  ReadWorld w;
  w.TrackNear();
  w.Write("1");
  w.Write("2");
  w.RouteCache();
  w.ReadIntoNear("1");
  w.ReadIntoNear("2");
  w.Write("1");
  w.Invalidate("1");
  w.world.RunUntilIdle();
  w.ProveNear();
  EXPECT_EQ(w.Read("1")->response.body(), R"({"price":3})");
  w.ProveNear();
  EXPECT_EQ(w.Read("2")->response.source(), v1::SOURCE_NEAR_CACHE);
}

TEST(NearReadTest, AnAnswerIsNotKeptForLongerThanItsValue) {
  ReadWorld w;
  w.TrackNear();
  w.Write("1");
  w.RouteCache();
  w.Read("1");
  // Its TTL is ten minutes, up to a tenth shorter.
  w.world.RunFor(absl::Minutes(9) - absl::Seconds(2));
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_CACHE);
  w.ProveNear();
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_NEAR_CACHE);
  w.world.RunFor(absl::Seconds(2));
  w.ProveNear();
  EXPECT_NE(w.Read("1")->response.source(), v1::SOURCE_NEAR_CACHE);
}

TEST(NearReadTest, AnAnswerIsReadAnewEveryFewSeconds) {
  ReadWorld w;
  w.TrackNear();
  w.Write("1");
  w.RouteCache();
  w.ReadIntoNear("1");
  w.world.RunFor(absl::Seconds(5));
  w.ProveNear();
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_CACHE);
  w.ProveNear();
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_NEAR_CACHE);
}

// ---- P5, and what was dropped with an epoch ----

TEST(NearReadTest, AfterARollbackOrWithoutALeaseTheDatabaseAnswers) {
  ReadWorld w({.lease = absl::Seconds(2)});
  w.TrackNear();
  w.Write("1");
  w.RouteCache();
  w.ReadIntoNear("1");
  w.RouteShadow(0);
  EXPECT_EQ(w.Read("1")->response.reason(), v1::READ_REASON_MODE_SHADOW);
  w.RouteCache();
  w.ProveNear();
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_NEAR_CACHE);
  w.world.RunFor(absl::Seconds(2));
  w.ProveNear();
  EXPECT_EQ(w.Read("1")->response.reason(), v1::READ_REASON_LEASE_LAPSED);
}

TEST(NearReadTest, ANewEpochsReadsFindNothingOfTheOldOne) {
  ReadWorld w;
  w.TrackNear();
  w.Write("1");
  w.RouteCache();
  w.ReadIntoNear("1");
  w.Write("1");
  w.Route({.mode = flags::Mode::kCache, .serve_ppm = 1'000'000, .epoch = 1});
  w.ProveNear();
  EXPECT_EQ(w.Read("1")->response.body(), R"({"price":2})");
}

TEST(NearReadTest, AFreshReadIsTheDatabases) {
  ReadWorld w;
  w.TrackNear();
  w.Write("1");
  w.RouteCache();
  w.ReadIntoNear("1");
  v1::ReadRequest request = ReadWorld::Request("1");
  request.set_consistency(v1::CONSISTENCY_FRESH);
  EXPECT_EQ(w.Read(request)->response.source(), v1::SOURCE_DATABASE);
}

// ---- The terms: no replica may still acknowledge invalidations without waiting for near caches ----

TEST(NearReadTest, ACatalogThatIsNotTheActiveOneServesNothing) {
  ReadWorld w;
  w.TrackNear();
  w.Write("1");
  w.RouteCache();
  w.ReadIntoNear("1");
  const auto stale = w.catalog.Current();
  w.PublishCatalog(absl::Seconds(1), /*is_near=*/true);
  w.RouteCache();
  w.catalog.Publish(stale);
  w.world.RunFor(cache::kNearGrace);
  w.ProveNear();
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_CACHE) << "the flags were read beside a newer catalog";
}

TEST(NearReadTest, ANewCatalogServesNothingUntilItsTermsHold) {
  ReadWorld w;
  w.TrackNear();
  w.Write("1");
  w.RouteCache();
  w.ReadIntoNear("1");
  w.PublishCatalog(absl::Seconds(1), /*is_near=*/false);
  w.PublishCatalog(absl::Seconds(1), /*is_near=*/true);
  w.RouteCache();
  w.ProveNear();
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_CACHE);
  w.world.RunFor(cache::kNearGrace);
  w.ProveNear();
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_NEAR_CACHE);
}

// ---- Verification ----

TEST(NearReadTest, WhatWasServedIsWhatIsVerified) {
  ReadWorld w;
  w.TrackNear();
  w.Write("1");
  w.RouteCache(/*sample_ppm=*/1'000'000);
  w.ReadIntoNear("1");
  w.world.RunUntilIdle();
  w.world.RunFor(absl::Seconds(2));
  const uint64_t sampled = w.Counts().sampled;
  const uint64_t queries = w.verification_control.queries();
  w.ProveNear();
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_NEAR_CACHE);
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().sampled, sampled + 1);
  EXPECT_EQ(w.Counts().matched, sampled + 1);
  EXPECT_EQ(w.verification_control.queries(), queries + 1) << "it was too late for the match before it";
}

TEST(NearReadTest, AStaleAnswerThatNobodyInvalidatedIsConfirmedAndTakenOut) {
  ReadWorld w({.freshness = absl::Milliseconds(100)});
  w.TrackNear(absl::Milliseconds(100));
  w.Write("1");
  w.RouteCache();
  w.ReadIntoNear("1");
  w.Write("1");
  w.RouteCache(/*sample_ppm=*/1'000'000);
  w.ProveNear();
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_NEAR_CACHE);
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().confirmed, 1u);
  ASSERT_EQ(w.divergences.size(), 1u);
  w.ProveNear();
  EXPECT_EQ(w.Read("1")->response.body(), R"({"price":2})");
}

// The world goes on for `time` with a near cache that believes itself informed.
void RunProven(ReadWorld* w, absl::Duration time) {
  for (absl::Duration done; done < time; done += absl::Milliseconds(5)) {
    w->world.RunFor(absl::Milliseconds(5));
    w->ProveNear();
  }
}

TEST(NearReadTest, ANearCacheThatMissedAnInvalidationIsNotTakenForHealed) {
  for (const bool opened_by_redis : {false, true}) {
    ReadWorld w({.freshness = absl::Milliseconds(100)});
    w.TrackNear(absl::Milliseconds(100));
    w.Write("1");
    w.RouteCache();
    w.ReadIntoNear("1");
    w.RouteCache(/*sample_ppm=*/1'000'000);
    w.Write("1");
    // One read of the same fill comes from Redis, where a near cache has nothing to prove it by.
    if (opened_by_redis) {
      w.world.RunFor(cache::kNearGrace);
      EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_CACHE);
      w.world.RunFor(absl::Milliseconds(20));
    }
    // From here on nothing is heard any more; Redis has a new value long before the bound is over.
    w.redis.on_write = nullptr;
    w.ProveNear();
    EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_NEAR_CACHE);
    w.Invalidate("1");
    RunProven(&w, absl::Milliseconds(300));
    EXPECT_EQ(w.Counts().confirmed, opened_by_redis ? 2u : 1u);
    EXPECT_EQ(w.Counts().healed, 0u);
    w.ProveNear();
    EXPECT_EQ(w.Read("1")->response.body(), R"({"price":2})") << "it was told by the verifier";
  }
}

TEST(NearReadTest, AnAnswerThatWasInvalidatedInTimeIsHealed) {
  ReadWorld w({.freshness = absl::Milliseconds(100)});
  w.TrackNear(absl::Milliseconds(100));
  w.Write("1");
  w.RouteCache();
  w.ReadIntoNear("1");
  w.RouteCache(/*sample_ppm=*/1'000'000);
  w.Write("1");
  w.ProveNear();
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_NEAR_CACHE);
  w.Invalidate("1");
  RunProven(&w, absl::Milliseconds(300));
  EXPECT_EQ(w.Counts().healed, 1u);
  EXPECT_EQ(w.Counts().confirmed, 0u);
}

// ---- P6: what was acknowledged is not served any more ----

// Messages of client tracking and answers to PINGs, on one connection that is late now and then.
class LateFeed {
 public:
  explicit LateFeed(ReadWorld* w) : w_(w), random_(17) {
    w->redis.on_write = [this](const std::string& key) { Send([this, key] { w_->near.Invalidated(key); }); };
    Ping();
  }

 private:
  void Send(base::Task receive) {
    const absl::Duration now = w_->world.clock()->Steady();
    const bool slow = random_.Below(50) == 0;
    arrives_ =
        std::max(arrives_ + absl::Nanoseconds(1), now + absl::Microseconds(50 + random_.Below(slow ? 20'000 : 500)));
    w_->world.executor()->PostAfter(arrives_ - now, std::move(receive));
  }
  void Ping() {
    Send([this, sent = w_->world.clock()->Steady()] { w_->near.Renew(sent); });
    w_->world.executor()->PostAfter(absl::Milliseconds(2), [this] { Ping(); });
  }

  ReadWorld* const w_;
  base::Random random_;
  absl::Duration arrives_;
};

struct Outcome {
  int near = 0;
  int older_than_acknowledged = 0;
};

// Reads of ten keys while they are written and invalidated; an answer is too old if it was loaded before an
// invalidation that was acknowledged before its read began.
Outcome ReadAndWrite(uint64_t seed, bool acknowledged_at_once) {
  ReadWorld w({.seed = seed});
  w.TrackNear();
  LateFeed feed(&w);
  if (!acknowledged_at_once) {
    w.settle = [&w](base::Task task) { w.world.executor()->PostAfter(cache::kNearGrace, std::move(task)); };
  }
  w.RouteCache();
  std::map<std::string, uint64_t> acknowledged;  // By id: the least price that may be read.
  Outcome outcome;
  uint64_t price = 0;
  base::Random random(seed);
  const auto write = [&](const std::string& id) {
    w.Write(id);
    w.invalidator.Invalidate({{"acme", "quote:" + id}}, {}, [&, id, written = ++price](absl::Status fenced) {
      if (fenced.ok()) acknowledged[id] = std::max(acknowledged[id], written);
    });
  };
  for (int i = 0; i < 10; ++i) write(absl::StrCat(i));
  w.world.RunFor(absl::Milliseconds(100));
  for (int i = 0; i < 20'000; ++i) {
    const std::string id = absl::StrCat(random.Below(10));
    w.world.executor()->PostAfter(
        absl::Microseconds(random.Below(2'000'000)), [&, id, is_write = random.Below(100) == 0] {
          if (is_write) return write(id);
          const uint64_t least = acknowledged[id];
          auto answer = std::make_shared<ReadWorld::Answer>();
          answer->request = ReadWorld::Request(id);
          w.reader.Read(answer->request, &answer->response, absl::Seconds(10),
                        [&outcome, answer, least](absl::Status status) {
                          ASSERT_TRUE(status.ok());
                          uint64_t read = 0;
                          const std::string& body = answer->response.body();
                          ASSERT_TRUE(absl::SimpleAtoi(body.substr(9, body.size() - 10), &read)) << body;
                          outcome.near += answer->response.source() == v1::SOURCE_NEAR_CACHE ? 1 : 0;
                          outcome.older_than_acknowledged += read < least ? 1 : 0;
                        });
        });
  }
  w.world.RunFor(absl::Seconds(3));
  return outcome;
}

TEST(NearReadTest, NoReadIsOlderThanAnInvalidationThatWasAcknowledgedBeforeIt) {
  int near = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const Outcome outcome = ReadAndWrite(seed, /*acknowledged_at_once=*/false);
    EXPECT_EQ(outcome.older_than_acknowledged, 0) << "seed " << seed;
    near += outcome.near;
  }
  EXPECT_GT(near, 50'000);
}

TEST(NearReadTest, AnInvalidationThatIsAcknowledgedAtOnceIsCaught) {
  int older = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) older += ReadAndWrite(seed, true).older_than_acknowledged;
  EXPECT_GT(older, 0);
}

}  // namespace
}  // namespace shadowline::server
