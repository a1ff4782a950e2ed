#include "server/read/cached_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/server/read_world.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;
using ::testing::HasSubstr;

// ---- Bad input: a status, and never a query ----

TEST(CachedReaderTest, RefusesWhatItDoesNotKnowWithoutAQuery) {
  ReadWorld w;
  w.RouteShadow();
  struct Case {
    const char* what;
    std::function<void(v1::ReadRequest*)> spoil;
    absl::StatusCode code;
    const char* names;
  };
  const Case cases[] = {
      {"no tenant", [](auto* r) { r->clear_tenant(); }, absl::StatusCode::kInvalidArgument, "tenant"},
      {"long tenant", [](auto* r) { r->set_tenant(std::string(129, 'x')); }, absl::StatusCode::kInvalidArgument,
       "tenant"},
      {"unknown tenant", [](auto* r) { r->set_tenant("initech"); }, absl::StatusCode::kNotFound, "initech"},
      {"no endpoint", [](auto* r) { r->clear_endpoint(); }, absl::StatusCode::kInvalidArgument, "endpoint"},
      {"unknown endpoint", [](auto* r) { r->set_endpoint("pricing/quota"); }, absl::StatusCode::kNotFound,
       "pricing/quota"},
      {"missing parameter", [](auto* r) { r->clear_parameters(); }, absl::StatusCode::kInvalidArgument, "id"},
      {"unknown parameter", [](auto* r) { r->mutable_parameters(0)->set_name("ide"); },
       absl::StatusCode::kInvalidArgument, "ide"},
      {"wrong type", [](auto* r) { r->mutable_parameters(0)->mutable_value()->set_integer(4); },
       absl::StatusCode::kInvalidArgument, "id"},
      {"long request id", [](auto* r) { r->set_request_id(std::string(129, 'x')); }, absl::StatusCode::kInvalidArgument,
       "request_id"},
  };
  for (const Case& c : cases) {
    v1::ReadRequest request = ReadWorld::Request("1");
    c.spoil(&request);
    const auto answer = w.Read(request);
    EXPECT_EQ(answer->status->code(), c.code) << c.what;
    EXPECT_THAT(std::string(answer->status->message()), HasSubstr(c.names)) << c.what;
  }
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Queries(), 0u);
  EXPECT_EQ(w.Metric(R"(shadowline_read_errors_total{code="NOT_FOUND"})"), 2);
}

TEST(CachedReaderTest, IsUnavailableBeforeItKnowsCatalogAndFlags) {
  ReadWorld w;
  flags::Board empty_board(w.world.clock(), absl::Seconds(2));
  CatalogHolder empty_catalog;
  const auto read = [&w](const flags::Board* board, const CatalogHolder* catalog) {
    CachedReader reader({}, {.board = board,
                             .catalog = catalog,
                             .store = &w.lane_store,
                             .control = &w.control,
                             .filler = &w.lane_filler,
                             .verifier = &w.verifier,
                             .executor = w.world.executor(),
                             .clock = w.world.clock(),
                             .random = w.world.random(),
                             .metrics = &w.metrics});
    const v1::ReadRequest request = ReadWorld::Request("1");
    v1::ReadResponse response;
    absl::Status got;
    reader.Read(request, &response, absl::Seconds(1), [&got](absl::Status status) { got = status; });
    return got.code();
  };
  EXPECT_EQ(read(&empty_board, &w.catalog), absl::StatusCode::kUnavailable);
  EXPECT_EQ(read(&w.board, &empty_catalog), absl::StatusCode::kUnavailable);
  EXPECT_EQ(w.Queries(), 0u);
}

// ---- Where an answer comes from ----

TEST(CachedReaderTest, DatabaseModeAnswersWithTheDatabasesBytes) {
  ReadWorld w;
  w.Write("1");
  const auto answer = w.Read("1");
  ASSERT_TRUE(answer->status->ok());
  EXPECT_TRUE(answer->response.found());
  EXPECT_EQ(answer->response.body(), R"({"price":1})");
  EXPECT_EQ(answer->response.source(), v1::SOURCE_DATABASE);
  EXPECT_EQ(answer->response.reason(), v1::READ_REASON_MODE_DATABASE);
  EXPECT_EQ(answer->response.age_us(), 0);
  EXPECT_EQ(answer->response.flag_revision(), 1u);
  EXPECT_EQ(w.redis.Find(w.Key("1")), nullptr);
}

TEST(CachedReaderTest, CacheModeFillsOnAMissThenHits) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache();
  const auto miss = w.Read("1");
  EXPECT_EQ(miss->response.source(), v1::SOURCE_DATABASE);
  EXPECT_EQ(miss->response.reason(), v1::READ_REASON_CACHE_MISS);
  w.world.RunFor(absl::Seconds(3));
  const uint64_t queries = w.Queries();
  const auto hit = w.Read("1");
  EXPECT_EQ(hit->response.source(), v1::SOURCE_CACHE);
  EXPECT_EQ(hit->response.reason(), v1::READ_REASON_CACHE_HIT);
  EXPECT_EQ(hit->response.body(), miss->response.body());
  EXPECT_EQ(hit->response.etag(), miss->response.etag());
  EXPECT_GE(hit->response.age_us(), 3'000'000);
  EXPECT_LE(hit->response.age_us(), 3'100'000);
  EXPECT_EQ(w.Queries(), queries);
  EXPECT_EQ(w.Metric(R"(shadowline_reads_total{reason="CACHE_HIT",source="cache"})"), 1);
}

TEST(CachedReaderTest, NotFoundIsAnAnswerThatIsCached) {
  ReadWorld w;
  w.RouteCache();
  EXPECT_FALSE(w.Read("none")->response.found());
  const auto hit = w.Read("none");
  EXPECT_TRUE(hit->status->ok());
  EXPECT_FALSE(hit->response.found());
  EXPECT_EQ(hit->response.source(), v1::SOURCE_CACHE);
}

TEST(CachedReaderTest, TenantsHaveTheirOwnAnswers) {
  ReadWorld w;
  w.Write("1", "acme");
  w.Write("1", "globex");
  w.RouteCache();
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(w.Read(ReadWorld::Request("1", "acme"))->response.body(), R"({"price":1})");
    EXPECT_EQ(w.Read(ReadWorld::Request("1", "globex"))->response.body(), R"({"price":2})");
  }
}

TEST(CachedReaderTest, FreshReadsGoToTheDatabase) {
  ReadWorld w;
  w.RouteCache();
  w.Read("1");
  v1::ReadRequest request = ReadWorld::Request("1");
  request.set_consistency(v1::CONSISTENCY_FRESH);
  const auto answer = w.Read(request);
  EXPECT_EQ(answer->response.source(), v1::SOURCE_DATABASE);
  EXPECT_EQ(answer->response.reason(), v1::READ_REASON_CONSISTENCY);
}

TEST(CachedReaderTest, AStoreThatFailsCostsLatencyNotAnswers) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache();
  w.Read("1");
  w.redis.faults.down = true;
  const auto down = w.Read("1");
  EXPECT_EQ(down->response.source(), v1::SOURCE_DATABASE);
  EXPECT_EQ(down->response.reason(), v1::READ_REASON_CACHE_UNAVAILABLE);
  w.redis.faults.down = false;
  w.redis.faults.hang = true;
  const auto hung = w.Read("1");
  EXPECT_EQ(hung->response.reason(), v1::READ_REASON_CACHE_UNAVAILABLE);
  EXPECT_EQ(hung->response.body(), R"({"price":1})");
  EXPECT_EQ(w.Metric(R"(shadowline_candidate_reads_total{outcome="error"})"), 2);
}

TEST(CachedReaderTest, GarbageIsACountedMiss) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache();
  w.Read("1");
  w.redis.Corrupt(w.Key("1"), "not an envelope");
  const auto corrupt = w.Read("1");
  EXPECT_EQ(corrupt->response.source(), v1::SOURCE_DATABASE);
  EXPECT_EQ(corrupt->response.body(), R"({"price":1})");
  EXPECT_EQ(w.Metric(R"(shadowline_candidate_reads_total{outcome="garbage"})"), 1);
  w.redis.SetForeign(w.Key("1"), "SET by somebody else");
  const auto foreign = w.Read("1");
  EXPECT_EQ(foreign->response.source(), v1::SOURCE_DATABASE);
  EXPECT_EQ(w.Metric(R"(shadowline_candidate_reads_total{outcome="garbage"})"), 2);
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_CACHE) << "garbage must not stay";
}

TEST(CachedReaderTest, WhatMayHaveMissedAnInvalidationIsServedForTheFreshnessBoundAndThenLoadedAgain) {
  ReadWorld w;
  w.PublishCatalog(/*freshness=*/absl::Seconds(2));
  w.Write("1");
  w.RouteCache();
  w.Read("1");
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_CACHE);
  // Nobody could say that it was written.
  w.Write("1");
  w.world.RunFor(absl::Seconds(1));
  w.redis.reached_again_at = w.world.clock()->Now();
  w.RouteCache();
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_CACHE);
  w.world.RunFor(absl::Seconds(1.5));
  w.RouteCache();
  const auto loaded = w.Read("1");
  EXPECT_EQ(loaded->response.source(), v1::SOURCE_DATABASE);
  EXPECT_TRUE(w.WasRight(*loaded, absl::Seconds(2)));
  w.world.RunFor(absl::Seconds(3));
  w.RouteCache();
  const auto cached = w.Read("1");
  EXPECT_EQ(cached->response.source(), v1::SOURCE_CACHE) << "it was loaded since";
  EXPECT_TRUE(w.WasRight(*cached, absl::Seconds(2)));
}

TEST(CachedReaderTest, AnotherKeysEnvelopeIsGarbage) {
  ReadWorld w;
  w.Write("1");
  w.Write("2");
  w.RouteCache();
  w.Read("1");
  w.Read("2");
  w.redis.Corrupt(w.Key("1"), w.redis.Find(w.Key("2"))->slot.bytes);
  EXPECT_EQ(w.Read("1")->response.body(), R"({"price":1})");
  EXPECT_EQ(w.Metric(R"(shadowline_candidate_reads_total{outcome="garbage"})"), 1);
}

TEST(CachedReaderTest, ReadsReturnThePreviousEpochsValuesNoMore) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache();
  w.Read("1");
  w.Write("1");
  w.Route({.mode = flags::Mode::kCache, .serve_ppm = 1'000'000, .epoch = 1});
  EXPECT_EQ(w.Read("1")->response.body(), R"({"price":2})");
}

// Another replica's loader has the lease of key 1, and fills it 30 ms from now.
void FillElsewhere(ReadWorld* w, const std::string& body) {
  const std::vector<std::string> fence_keys = cache::FenceKeys(w->catalog.Current()->endpoints()[0], "acme", {"1"});
  w->writer_store.EnsureFences(
      fence_keys, absl::Minutes(2), [w, fence_keys, body](absl::StatusOr<cache::Fences> fences) {
        cache::CachedAnswer answer;
        answer.found = true;
        answer.body = body;
        answer.loaded_at = w->world.clock()->Now();
        answer.snapshot = w->database.Read(ReadWorld::Row("1")).snapshot;
        answer.etag = cache::Etag(true, body);
        w->writer_store.AcquireLease(w->Key("1"), std::string(16, 'L'), absl::Seconds(10), fence_keys,
                                     [](absl::StatusOr<cache::Lease>) {});
        w->world.executor()->PostAfter(absl::Milliseconds(30), [w, answer, fences = fences->tokens] {
          w->writer_store.Put(
              w->Key("1"), "",
              {std::string(16, 'F'), fences, cache::EncodeEnvelope(w->Key("1"), answer, 0), absl::Minutes(1)},
              [](absl::StatusOr<bool>) {});
        });
      });
  w->world.RunFor(absl::Milliseconds(5));
}

TEST(CachedReaderTest, AValueThatAnotherReplicaFilledMeanwhileIsServedAndVerified) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache(1'000'000);
  FillElsewhere(&w, R"({"price":1})");
  const auto answer = w.Read("1");
  EXPECT_EQ(answer->response.source(), v1::SOURCE_CACHE);
  EXPECT_EQ(answer->response.reason(), v1::READ_REASON_CACHE_MISS);
  EXPECT_GT(answer->response.age_us(), 0);
  EXPECT_EQ(w.control.queries(), 0u);
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().sampled, 1u);
  EXPECT_EQ(w.Counts().matched, 1u);
  EXPECT_EQ(w.Counts().candidate_misses, 0u);
}

TEST(CachedReaderTest, AValueThatAnotherReplicaFilledIsNotServedAfterARollback) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache();
  FillElsewhere(&w, R"({"price":"stale"})");
  const auto answer = w.Start(ReadWorld::Request("1"));
  w.world.RunFor(absl::Milliseconds(10));
  w.Route(flags::Flag{});
  w.world.RunUntilIdle();
  EXPECT_EQ(answer->response.source(), v1::SOURCE_DATABASE);
  EXPECT_EQ(answer->response.reason(), v1::READ_REASON_MODE_DATABASE);
  EXPECT_EQ(answer->response.body(), R"({"price":1})");
}

// ---- P5: the lease, and rollbacks while a read is under way ----

TEST(CachedReaderTest, AReadOfAWriteThatCaptureHasNotComeToIsTheDatabases) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache();
  w.Read("1");
  v1::ReadRequest request = ReadWorld::Request("1");
  request.set_at_least("16/B374D848");
  EXPECT_EQ(w.Read(request)->response.reason(), v1::READ_REASON_CONSISTENCY);
  w.watermark.Set(*cache::ParseLsn("16/B374D847"));
  EXPECT_EQ(w.Read(request)->response.source(), v1::SOURCE_DATABASE);
  w.watermark.Set(*cache::ParseLsn("16/B374D848"));
  EXPECT_EQ(w.Read(request)->response.source(), v1::SOURCE_CACHE);
  request.set_at_least("yesterday");
  EXPECT_EQ(w.Read(request)->status->code(), absl::StatusCode::kInvalidArgument);
}

TEST(CachedReaderTest, WhatIsCapturedIsReadFromTheDatabaseWhileCaptureIsAway) {
  ReadWorld w({.captured = true});
  w.Write("1");
  w.RouteCache(/*sample_ppm=*/1'000'000);
  EXPECT_EQ(w.Read("1")->response.reason(), v1::READ_REASON_CACHE_UNAVAILABLE) << "it never came";
  w.watermark.Cover(w.world.clock()->Steady() + absl::Seconds(10));
  EXPECT_EQ(w.Read("1")->response.reason(), v1::READ_REASON_CACHE_MISS);
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_CACHE);
  w.world.RunUntilIdle();
  const auto sampled = w.Counts().sampled;
  w.world.RunFor(absl::Seconds(10));
  w.Write("1");
  const auto away = w.Read("1");
  EXPECT_EQ(away->response.source(), v1::SOURCE_DATABASE);
  EXPECT_EQ(away->response.reason(), v1::READ_REASON_CACHE_UNAVAILABLE);
  EXPECT_EQ(away->response.body(), R"({"price":2})");
  w.RouteShadow();
  EXPECT_EQ(w.Read("1")->response.reason(), v1::READ_REASON_MODE_SHADOW);
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().sampled, sampled) << "what would not be served is not judged";
}

TEST(CachedReaderTest, WhatCaptureKnowsOfAnAnswerIsCountedAndNothingIsRefusedForIt) {
  for (const bool is_near : {false, true}) {
    SCOPED_TRACE(is_near);
    ReadWorld w({.captured = true});
    if (is_near) w.TrackNear();
    w.watermark.Cover(absl::InfiniteDuration());
    w.Write("1");
    w.RouteCache();
    w.ReadIntoNear("1");
    const auto read = [&](const char* outcome) {
      w.ProveNear();
      const std::string counter = absl::StrCat("shadowline_certified_reads_total{outcome=\"", outcome, "\"}");
      const double before = w.Metric(counter);
      EXPECT_EQ(w.Read("1")->response.source(), is_near ? v1::SOURCE_NEAR_CACHE : v1::SOURCE_CACHE);
      EXPECT_EQ(w.Metric(counter), before + 1) << outcome;
    };
    const auto advance = [&] {
      const absl::Duration now = w.world.clock()->Steady();
      w.certifier.Advance({1000, 1000, {}}, now, now);
    };
    read("unknown");
    w.certifier.Begin(cache::CaptureMapHash(*w.catalog.Current()), 0);
    read("unknown");
    advance();
    read("certified");
    w.world.RunFor(absl::Seconds(2));
    read("unknown");
    advance();
    read("certified");
    const std::vector<uint32_t> touched = {cache::TagHash(cache::FenceKey("acme", "quote:1"))};
    w.certifier.Touch(1'000'000, touched, w.world.clock()->Now(), w.world.clock()->Steady());
    read("outdated");
  }
}

TEST(CachedReaderTest, WhatIsNotCapturedIsNotCertified) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache();
  w.Read("1");
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_CACHE);
  for (const char* outcome : {"certified", "outdated", "unknown"}) {
    EXPECT_EQ(w.Metric(absl::StrCat("shadowline_certified_reads_total{outcome=\"", outcome, "\"}")), 0);
  }
}

TEST(CachedReaderTest, WhatIsNotCapturedNeedsNoCapture) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache();
  w.Read("1");
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_CACHE);
}

TEST(CachedReaderTest, ALapsedLeaseReadsTheDatabase) {
  ReadWorld w({.lease = absl::Seconds(2)});
  w.Write("1");
  w.RouteCache();
  w.Read("1");
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_CACHE);
  w.world.RunFor(absl::Seconds(2));
  const auto answer = w.Read("1");
  EXPECT_EQ(answer->response.source(), v1::SOURCE_DATABASE);
  EXPECT_EQ(answer->response.reason(), v1::READ_REASON_LEASE_LAPSED);
}

TEST(CachedReaderTest, ALeaseThatLapsesWhileTheCacheAnswersIsNoticed) {
  ReadWorld w({.lease = absl::Seconds(2)});
  w.Write("1");
  w.RouteCache();
  w.Read("1");
  w.redis.faults.latency_min = w.redis.faults.latency_max = absl::Seconds(3);
  const auto answer = w.Read("1");
  EXPECT_EQ(answer->response.source(), v1::SOURCE_DATABASE);
  EXPECT_EQ(answer->response.reason(), v1::READ_REASON_LEASE_LAPSED);
}

TEST(CachedReaderTest, ARollbackWhileTheCacheAnswersIsNoticed) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache();
  w.Read("1");
  const auto answer = w.Start(ReadWorld::Request("1"));
  w.RouteShadow();
  w.world.RunUntilIdle();
  EXPECT_EQ(answer->response.source(), v1::SOURCE_DATABASE);
  EXPECT_EQ(answer->response.reason(), v1::READ_REASON_MODE_SHADOW);
  EXPECT_EQ(answer->response.flag_revision(), 3u);
}

TEST(CachedReaderTest, ANewEpochWhileTheCacheAnswersIsNoticed) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache();
  w.Read("1");
  const auto answer = w.Start(ReadWorld::Request("1"));
  w.Route({.mode = flags::Mode::kCache, .serve_ppm = 1'000'000, .epoch = 1});
  w.world.RunUntilIdle();
  EXPECT_EQ(answer->response.source(), v1::SOURCE_DATABASE);
}

// ---- Deadlines and errors of the database ----

TEST(CachedReaderTest, TheCallsDeadlineHoldsForTheDatabase) {
  ReadWorld w;
  w.control.Hang(true);
  for (const bool cache : {false, true}) {
    if (cache) w.RouteCache();
    const auto answer = w.Read(ReadWorld::Request("1"), absl::Milliseconds(300));
    EXPECT_EQ(answer->status->code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_LE(answer->replied_at - answer->asked_at, absl::Milliseconds(310));
  }
}

TEST(CachedReaderTest, NoQueryIsMadeAfterTheDeadline) {
  ReadWorld w;
  EXPECT_EQ(w.Read(ReadWorld::Request("1"), absl::ZeroDuration())->status->code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(w.Queries(), 0u);
}

TEST(CachedReaderTest, TheDatabasesRefusalReachesTheCaller) {
  ReadWorld w;
  w.control.FailNext(absl::ResourceExhaustedError("the database queue is full"));
  EXPECT_EQ(w.Read("1")->status->code(), absl::StatusCode::kResourceExhausted);
}

// ---- P1: SHADOW is DATABASE to its callers ----

// The same reads under the same seed; what each was told, and how long it took.
std::vector<std::pair<std::string, absl::Duration>> Replay(uint64_t seed,
                                                           const std::function<void(ReadWorld*)>& prepare) {
  ReadWorld w({.seed = seed});
  w.control.options().slow_share = 0.05;
  for (int i = 0; i < 20; ++i) w.Write(absl::StrCat(i));
  prepare(&w);
  base::Random arrivals(seed);
  std::vector<std::shared_ptr<ReadWorld::Answer>> answers;
  for (int i = 0; i < 500; ++i) {
    v1::ReadRequest request = ReadWorld::Request(absl::StrCat(arrivals.Below(20)));
    w.world.executor()->PostAfter(absl::Microseconds(2'000 * i + arrivals.Below(1'000)),
                                  [&w, &answers, request] { answers.push_back(w.Start(request)); });
  }
  w.world.RunUntilIdle();
  std::vector<std::pair<std::string, absl::Duration>> told;
  for (const auto& answer : answers) {
    told.emplace_back(answer->response.body(), answer->replied_at - answer->asked_at);
  }
  return told;
}

TEST(CachedReaderTest, ShadowWithAHungCacheIsAsFastAsDatabase) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const auto database = Replay(seed, [](ReadWorld* w) {});
    const auto healthy = Replay(seed, [](ReadWorld* w) { w->RouteShadow(); });
    const auto hung = Replay(seed, [](ReadWorld* w) {
      w->RouteShadow();
      w->redis.faults.hang = true;
    });
    const auto down = Replay(seed, [](ReadWorld* w) {
      w->RouteShadow();
      w->redis.faults.down = true;
    });
    EXPECT_EQ(healthy, database) << "seed " << seed;
    EXPECT_EQ(hung, database) << "seed " << seed;
    EXPECT_EQ(down, database) << "seed " << seed;
  }
}

TEST(CachedReaderTest, SampledShadowReadsBeyondTheLimitAreShedNotDelayed) {
  ReadWorld w({.reader = {.shadow_reads_max = 3}});
  w.RouteShadow();
  w.redis.faults.hang = true;
  std::vector<std::shared_ptr<ReadWorld::Answer>> answers;
  for (int i = 0; i < 10; ++i) answers.push_back(w.Start(ReadWorld::Request("1")));
  w.world.RunUntilIdle();
  for (const auto& answer : answers) EXPECT_TRUE(answer->status->ok());
  EXPECT_EQ(w.Counts().shed, 7u);
  EXPECT_EQ(w.Counts().candidate_errors, 3u);
  EXPECT_EQ(w.Metric(R"(shadowline_verification_shed_total{why="reader"})"), 7);
  w.redis.faults.hang = false;
  for (int i = 0; i < 10; ++i) {
    w.Read("1");
    w.world.RunUntilIdle();
  }
  EXPECT_EQ(w.Counts().shed, 7u);
}

TEST(CachedReaderTest, AShadowReadThatMissedWarmsTheCacheInTheBackground) {
  ReadWorld w;
  w.Write("1");
  w.RouteShadow();
  w.Read("1");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().candidate_misses, 1u);
  EXPECT_EQ(w.verification_control.queries(), 1u);
  w.Read("1");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().matched, 1u);
  EXPECT_EQ(w.verification_control.queries(), 1u) << "the caller's own answer is the control";
}

}  // namespace
}  // namespace shadowline::server
