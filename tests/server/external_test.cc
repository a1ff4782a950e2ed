// External endpoints: the application fills Redis itself, and Shadowline reads, verifies and serves what is there. It
// writes nothing, whatever happens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/server/read_world.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr absl::Duration kDelta = absl::Seconds(1);

cache::ExternalCache PlainJson() {
  cache::ExternalCache external;
  external.key = {
      {.literal = "quote:"}, {.literal = "", .parameter = -2}, {.literal = ":"}, {.literal = "", .parameter = 0}};
  external.delimiters = ":";
  external.not_found = "null";
  return external;
}

cache::ExternalCache Versioned() {
  cache::ExternalCache external = PlainJson();
  external.format = cache::ExternalCache::Format::kEnvelope;
  external.payload = "/data";
  external.version = "/v";
  return external;
}

// A read path before the cache of an application, which does as it is told here.
class ExternalWorld : public ReadWorld {
 public:
  explicit ExternalWorld(uint64_t seed = 1, cache::ExternalCache external = PlainJson(), bool show_values = false)
      : ReadWorld({.seed = seed, .freshness = kDelta, .show_values = show_values, .external = std::move(external)}) {}

  static std::string AppKey(const std::string& id, const std::string& tenant = "acme") {
    return absl::StrCat("quote:", tenant, ":", id);
  }
  void Cache(const std::string& id, const std::string& bytes, const std::string& tenant = "acme") {
    redis.SetForeign(AppKey(id, tenant), bytes);
    ++writes_of_the_application;
  }
  // What the database says.
  void CacheRow(const std::string& id, const std::string& tenant = "acme") {
    Cache(id, database.Read(Row(id, tenant)).value.value_or("null"), tenant);
  }
  void Drop(const std::string& id) {
    redis.Evict(AppKey(id));
    ++writes_of_the_application;
  }
  ~ExternalWorld() {
    world.RunUntilIdle();
    EXPECT_EQ(redis.writes(), writes_of_the_application) << "Shadowline wrote";
  }

  uint64_t writes_of_the_application = 0;
};

// ---- Reading ----

TEST(ExternalReaderTest, ServesWhatTheApplicationHasCached) {
  ExternalWorld w;
  w.Write("1");
  w.CacheRow("1");
  w.RouteCache();
  const auto answer = w.Read("1");
  ASSERT_TRUE(answer->status->ok());
  EXPECT_TRUE(answer->response.found());
  EXPECT_EQ(answer->response.body(), R"({"price":1})");
  EXPECT_EQ(answer->response.source(), v1::SOURCE_CACHE);
  EXPECT_EQ(answer->response.reason(), v1::READ_REASON_CACHE_HIT);
  EXPECT_EQ(answer->response.age_us(), -1);
  EXPECT_EQ(answer->response.etag(), cache::Etag(true, R"({"price":1})"));
  EXPECT_EQ(w.Queries(), 0u);
  EXPECT_EQ(w.Metric(R"(shadowline_candidate_reads_total{outcome="hit"})"), 1);
}

TEST(ExternalReaderTest, WhatIsNotThereIsReadFromTheDatabaseAndNotFilled) {
  ExternalWorld w;
  w.Write("1");
  w.RouteCache(/*sample_ppm=*/1'000'000);
  for (int i = 0; i < 2; ++i) {
    const auto answer = w.Read("1");
    ASSERT_TRUE(answer->status->ok());
    EXPECT_EQ(answer->response.body(), R"({"price":1})");
    EXPECT_EQ(answer->response.source(), v1::SOURCE_DATABASE);
    EXPECT_EQ(answer->response.reason(), v1::READ_REASON_CACHE_MISS);
    EXPECT_EQ(answer->response.age_us(), 0);
  }
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Queries(), 2u);
  EXPECT_EQ(w.Counts().candidate_misses, 2u);
  EXPECT_EQ(w.Counts().sampled, 0u);
  EXPECT_EQ(w.Metric(R"(shadowline_candidate_reads_total{outcome="miss"})"), 2);
}

TEST(ExternalReaderTest, WhatCannotBeReadIsAMiss) {
  ExternalWorld w;
  w.Write("1");
  w.RouteCache();
  for (const char* bytes : {"", "garbage", "{\"price\":", "[1]", "42", "V0123456789abcdef\1"}) {
    w.Cache("1", bytes);
    EXPECT_EQ(w.Read("1")->response.body(), R"({"price":1})") << bytes;
  }
  w.redis.SetOtherType(ExternalWorld::AppKey("1"));
  ++w.writes_of_the_application;
  const auto answer = w.Read("1");
  EXPECT_EQ(answer->response.body(), R"({"price":1})");
  EXPECT_EQ(answer->response.reason(), v1::READ_REASON_CACHE_MISS);
  EXPECT_EQ(w.Metric(R"(shadowline_candidate_reads_total{outcome="garbage"})"), 7);
  EXPECT_EQ(w.Metric(R"(shadowline_candidate_reads_total{outcome="hit"})"), 0);
}

TEST(ExternalReaderTest, NotFoundIsAnAnswer) {
  ExternalWorld w;
  w.RouteCache();
  w.Cache("none", "null");
  const auto answer = w.Read("none");
  ASSERT_TRUE(answer->status->ok());
  EXPECT_FALSE(answer->response.found());
  EXPECT_EQ(answer->response.body(), "");
  EXPECT_EQ(answer->response.source(), v1::SOURCE_CACHE);
}

TEST(ExternalReaderTest, TenantsNeverMix) {
  ExternalWorld w;
  for (const char* tenant : {"acme", "globex"}) {
    w.Write("1", tenant);
    w.CacheRow("1", tenant);
  }
  w.RouteCache();
  EXPECT_EQ(w.Read(ReadWorld::Request("1", "acme"))->response.body(), R"({"price":1})");
  EXPECT_EQ(w.Read(ReadWorld::Request("1", "globex"))->response.body(), R"({"price":2})");
}

// `quote:acme:eu:1` is where a tenant `acme:eu` would have its own `1`.
TEST(ExternalReaderTest, AReadThatAnotherCouldShareAKeyWithIsTheDatabases) {
  ExternalWorld w;
  w.Write("eu:1");
  w.Cache("eu:1", R"({"price":"of somebody else"})");
  for (const bool cache : {false, true}) {
    cache ? w.RouteCache(1'000'000) : w.RouteShadow();
    const auto answer = w.Read("eu:1");
    ASSERT_TRUE(answer->status->ok());
    EXPECT_EQ(answer->response.body(), R"({"price":1})");
    EXPECT_EQ(answer->response.source(), v1::SOURCE_DATABASE);
    EXPECT_EQ(answer->response.reason(), cache ? v1::READ_REASON_CACHE_MISS : v1::READ_REASON_MODE_SHADOW);
  }
  v1::ReadRequest null = ReadWorld::Request("1");
  null.mutable_parameters(0)->mutable_value()->clear_kind();
  EXPECT_EQ(w.Read(null)->response.source(), v1::SOURCE_DATABASE);
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().sampled, 0u);
  EXPECT_EQ(w.Metric(R"(shadowline_candidate_reads_total{outcome="unkeyed"})"), 3);
}

TEST(ExternalReaderTest, NobodyVouchesForAWrite) {
  ExternalWorld w;
  w.Write("1");
  w.CacheRow("1");
  w.RouteCache();
  v1::ReadRequest after_a_write = ReadWorld::Request("1");
  after_a_write.set_at_least("0/1");
  v1::ReadRequest fresh = ReadWorld::Request("1");
  fresh.set_consistency(v1::CONSISTENCY_FRESH);
  w.watermark.Set(*cache::ParseLsn("0/FFFF"));
  for (const v1::ReadRequest& request : {after_a_write, fresh}) {
    const auto answer = w.Read(request);
    ASSERT_TRUE(answer->status->ok());
    EXPECT_EQ(answer->response.source(), v1::SOURCE_DATABASE);
    EXPECT_EQ(answer->response.reason(), v1::READ_REASON_CONSISTENCY);
  }
}

TEST(ExternalReaderTest, ACacheThatIsAwayCostsTheCacheAlone) {
  ExternalWorld w;
  w.Write("1");
  w.CacheRow("1");
  w.RouteCache();
  w.redis.faults.down = true;
  const auto answer = w.Read("1");
  ASSERT_TRUE(answer->status->ok());
  EXPECT_EQ(answer->response.source(), v1::SOURCE_DATABASE);
  EXPECT_EQ(answer->response.reason(), v1::READ_REASON_CACHE_UNAVAILABLE);
}

// ---- Verifying ----

TEST(ExternalVerifierTest, WhatTheDatabaseHoldsIsMatched) {
  for (const bool cache : {false, true}) {
    ExternalWorld w;
    w.Write("1");
    w.CacheRow("1");
    w.Cache("none", "null");
    cache ? w.RouteCache(1'000'000) : w.RouteShadow();
    w.Read("1");
    w.Read("none");
    w.world.RunUntilIdle();
    EXPECT_EQ(w.Counts().sampled, 2u);
    EXPECT_EQ(w.Counts().matched, 2u);
  }
}

TEST(ExternalVerifierTest, AShadowReadThatMissesFillsNothing) {
  ExternalWorld w;
  w.Write("1");
  w.RouteShadow();
  EXPECT_EQ(w.Read("1")->response.source(), v1::SOURCE_DATABASE);
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().candidate_misses, 1u);
  EXPECT_EQ(w.Queries(), 1u);
  EXPECT_EQ(w.Metric(R"(shadowline_verification_fills_total{outcome="done"})"), 0);
}

TEST(ExternalVerifierTest, AStaleEntryIsConfirmedAndLeftWhereItIs) {
  for (const bool cache : {false, true}) {
    ExternalWorld w;
    w.Write("1");
    w.CacheRow("1");
    cache ? w.RouteCache(1'000'000) : w.RouteShadow();
    w.Write("1");  // And the application forgets its cache.
    const absl::Time written_at = w.world.clock()->Now();
    w.Read("1");
    w.world.RunUntilIdle();
    EXPECT_EQ(w.Counts().confirmed, 1u);
    ASSERT_EQ(w.divergences.size(), 1u);
    const diff::Divergence& divergence = w.divergences[0];
    EXPECT_EQ(divergence.cause, "stale_entry");
    EXPECT_THAT(divergence.cause_evidence, HasSubstr("The application's cache held this answer at 2023-"));
    EXPECT_THAT(divergence.patterns, ::testing::ElementsAre("/price: value"));
    EXPECT_EQ(divergence.filled_at, absl::UnixEpoch());
    EXPECT_EQ(divergence.after_cutover, cache);
    EXPECT_GE(divergence.confirmed_at - written_at, kDelta);
    EXPECT_LE(divergence.confirmed_at - written_at, kDelta + absl::Milliseconds(400));
    EXPECT_TRUE(divergence.observations.back().same_fill);
    EXPECT_TRUE(divergence.observations.back().differed);
    // Its values are not shown, and the application's key has some.
    EXPECT_EQ(divergence.key, w.Key("1"));
    EXPECT_THAT(divergence.differences[0].candidate, HasSubstr("#"));
    EXPECT_NE(w.redis.Find(ExternalWorld::AppKey("1")), nullptr);
    EXPECT_EQ(w.Metric(R"(shadowline_repairs_total{outcome="done"})"), 0);
  }
}

TEST(ExternalVerifierTest, WhereValuesAreShownTheApplicationsKeyIsSealed) {
  ExternalWorld w(1, PlainJson(), /*show_values=*/true);
  w.CacheRow("1");
  w.RouteCache(1'000'000);
  w.Write("1");
  EXPECT_FALSE(w.Read("1")->response.found());
  w.world.RunUntilIdle();
  ASSERT_EQ(w.divergences.size(), 1u);
  EXPECT_EQ(w.divergences[0].key, w.Key("1"));
  diff::Divergence shown = w.divergences[0];
  Keeper(ReadWorld::kSecret, diff::Sealer({ReadWorld::kEvidenceKey})).Reveal(shown.confirmed_at, &shown);
  EXPECT_EQ(shown.key, "quote:acme:1");
  EXPECT_EQ(w.divergences[0].cause, "negative_stale");
  EXPECT_THAT(w.divergences[0].cause_evidence, HasSubstr("The application's cache said \"not found\" at "));
}

// Fences keep nothing out of an application's cache, so none is blamed. What they know is told.
TEST(ExternalVerifierTest, AnInvalidationIsEvidenceAndNoCause) {
  ExternalWorld w;
  w.Write("1");
  w.CacheRow("1");
  w.RouteCache(1'000'000);
  w.Write("1");
  w.Invalidate("1");
  w.world.RunFor(absl::Milliseconds(10));
  w.writes_of_the_application = w.redis.writes();  // The fence is the invalidation's.
  w.Read("1");
  w.world.RunUntilIdle();
  ASSERT_EQ(w.divergences.size(), 1u);
  EXPECT_EQ(w.divergences[0].cause, "stale_entry");
  EXPECT_THAT(w.divergences[0].cause_evidence,
              testing::ContainsRegex("; tag quote:#[0-9a-f]{16} was invalidated at 2023-"));
  ASSERT_EQ(w.divergences[0].tags.size(), 2u);
  EXPECT_THAT(w.divergences[0].tags[0].first, HasSubstr("quote:#"));
}

TEST(ExternalVerifierTest, WhatIsReplacedOrDroppedInTimeHeals) {
  for (const bool drop : {false, true}) {
    for (const bool cache : {false, true}) {
      ExternalWorld w;
      w.Write("1");
      w.CacheRow("1");
      cache ? w.RouteCache(1'000'000) : w.RouteShadow();
      w.Write("1");
      w.Read("1");
      w.world.RunFor(kDelta / 2);
      drop ? w.Drop("1") : w.CacheRow("1");
      w.world.RunUntilIdle();
      EXPECT_EQ(w.Counts().healed, 1u);
      EXPECT_EQ(w.Counts().confirmed, 0u);
    }
  }
}

// In SHADOW the control is asked beside the candidate: what it saw may be older than what the application has loaded.
TEST(ExternalVerifierTest, AControlThatWasAskedBeforeTheCandidateAnsweredProvesNothing) {
  ExternalWorld w;
  w.Write("1");
  w.RouteShadow();
  w.redis.faults.latency_min = w.redis.faults.latency_max = absl::Milliseconds(20);
  const auto read = w.Start(ReadWorld::Request("1"));
  w.world.RunFor(absl::Milliseconds(10));  // The control has read,
  w.Write("1");
  w.CacheRow("1");  // and the candidate has not.
  w.world.RunUntilIdle();
  EXPECT_EQ(read->response.body(), R"({"price":1})");
  EXPECT_EQ(w.Counts().matched, 1u);
  EXPECT_EQ(w.Counts().Settled(), 1u);
}

// The database goes from c to d, back to c, and on to e, and the application follows each time. The looks meet c, and d
// and e.
TEST(ExternalVerifierTest, OnlyAVersionTellsAnAnswerThatCameBackFromOneThatStayed) {
  for (const bool versioned : {true, false}) {
    ExternalWorld w(1, versioned ? Versioned() : PlainJson());
    auto follow = [&w, versioned, version = 0](const char* row) mutable {
      w.Cache("1", versioned ? absl::StrCat(R"({"v":)", ++version, R"(,"data":)", row, "}") : std::string(row));
    };
    const auto write = [&w](const char* row) { w.database.Write(ReadWorld::Row("1"), row); };
    w.RouteCache(1'000'000);
    write(R"({"on":"c"})");
    follow(R"({"on":"c"})");
    write(R"({"on":"d"})");
    EXPECT_EQ(w.Read("1")->response.body(), R"({"on":"c"})");
    w.world.RunFor(kDelta / 4);
    follow(R"({"on":"d"})");
    write(R"({"on":"c"})");
    w.world.RunFor(kDelta / 4);
    follow(R"({"on":"c"})");
    write(R"({"on":"e"})");
    w.world.RunUntilIdle();
    EXPECT_EQ(w.Counts().healed, versioned ? 1u : 0u);
    EXPECT_EQ(w.Counts().confirmed, versioned ? 0u : 1u) << "docs/freshness.md says so";
  }
}

// Written again and again, and each time out of date: an envelope's date makes no new answer of it.
TEST(ExternalVerifierTest, AStaleAnswerThatIsWrittenAgainIsTheSameAnswer) {
  cache::ExternalCache external = Versioned();
  external.version = "";
  ExternalWorld w(1, external);
  w.RouteCache(1'000'000);
  w.Write("1");
  w.Write("1");
  for (int i = 0; i < 15; ++i) {
    w.Cache("1", absl::StrCat(R"({"stored_at":)", i, R"(,"data":{"price":1}})"));
    w.Read("1");
    w.world.RunFor(kDelta / 10);
  }
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().confirmed, 15u);
  EXPECT_EQ(w.Counts().healed, 0u);
  // It is not removed, so it is found again; it stays the same divergence.
  ASSERT_EQ(w.divergences.size(), 2u);
  EXPECT_EQ(w.divergences[0].id, w.divergences[1].id);
}

TEST(ExternalVerifierTest, AnAnswerThatCameAfterAnotherCountsAsExercised) {
  ExternalWorld w;
  w.RouteShadow();
  for (int i = 0; i < 3; ++i) {
    w.Write("1");
    w.CacheRow("1");
    w.Read("1");
    w.Read("1");
    w.world.RunUntilIdle();
  }
  w.Write("2");
  w.CacheRow("2");
  w.Read("2");
  w.Drop("2");
  w.Read("2");
  w.CacheRow("2");
  w.Read("2");
  w.world.RunUntilIdle();
  const diff::Flush flush = w.ledger.BuildFlush();
  ASSERT_EQ(flush.episodes.size(), 1u);
  std::vector<bool> exercised;
  for (const diff::Episode& episode : flush.episodes.begin()->second) exercised.push_back(episode.exercised);
  EXPECT_THAT(exercised, ::testing::ElementsAre(false, true, true, false));
}

// ---- Applications under load, in virtual time ----

struct Weather {
  uint64_t seed = 1;
  bool cache = false;                     // Otherwise SHADOW.
  uint32_t forgetful_ppm = 0;             // Writes that the application's cache never hears of.
  bool stale_fills = false;               // A fill takes its time, and overwrites what came meanwhile.
  absl::Duration follows = kDelta * 0.9;  // How long the application takes, at most, from a write to its cache.
};

struct Outcome {
  diff::Counts counts;
  uint64_t wrong = 0;  // Answers that the database had not held within the bound.
  std::vector<diff::Divergence> divergences;
};

Outcome Live(const Weather& weather) {
  constexpr int kKeys = 10;
  constexpr absl::Duration kSpan = absl::Seconds(60);
  ExternalWorld w(weather.seed);
  base::Random random(weather.seed + 77);
  w.redis.faults.latency_slow_ppm = 10'000;
  weather.cache ? w.RouteCache(1'000'000) : w.RouteShadow();
  sim::SimExecutor* executor = w.world.executor();
  for (int i = 0; i < kKeys; ++i) {
    w.Write(absl::StrCat(i));
    w.CacheRow(absl::StrCat(i));
  }
  for (int i = 0; i < 600; ++i) {
    const std::string id = absl::StrCat(random.Below(kKeys));
    const bool forgets = random.Below(1'000'000) < weather.forgetful_ppm;
    executor->PostAfter(kSpan * random.Unit(),
                        [&w, &weather, executor, id, forgets, after = weather.follows * random.Unit()] {
                          w.Write(id);
                          if (!forgets) executor->PostAfter(after, [&w, id] { w.CacheRow(id); });
                        });
  }
  // Evictions, and fills by readers of the application.
  for (int i = 0; i < 200; ++i) {
    const std::string id = absl::StrCat(random.Below(kKeys));
    executor->PostAfter(kSpan * random.Unit(), [&w, &weather, executor, id] {
      w.Drop(id);
      executor->PostAfter(absl::Milliseconds(100), [&w, &weather, executor, id] {
        if (!weather.stale_fills) return w.CacheRow(id);
        executor->PostAfter(
            absl::Seconds(1),
            [&w, id, loaded = w.database.Read(ReadWorld::Row(id)).value.value_or("null")] { w.Cache(id, loaded); });
      });
    });
  }
  std::vector<std::shared_ptr<ReadWorld::Answer>> answers;
  for (int i = 0; i < 3000; ++i) {
    executor->PostAfter(kSpan * random.Unit(), [&w, &answers, id = absl::StrCat(random.Below(kKeys))] {
      answers.push_back(w.Start(ReadWorld::Request(id)));
    });
  }
  w.world.RunUntilIdle();
  Outcome outcome{w.Counts(), 0, std::move(w.divergences)};
  for (const auto& answer : answers) {
    EXPECT_TRUE(answer->status.has_value() && answer->status->ok());
    outcome.wrong += !w.WasRight(*answer, kDelta);
  }
  EXPECT_EQ(outcome.counts.Pending(), 0u);
  return outcome;
}

TEST(ExternalSimTest, AnApplicationThatFollowsWithinTheBoundIsNeverAccused) {
  for (const bool cache : {false, true}) {
    uint64_t healed = 0;
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      const Outcome outcome = Live({.seed = seed, .cache = cache});
      EXPECT_EQ(outcome.counts.confirmed, 0u) << "seed " << seed;
      EXPECT_EQ(outcome.wrong, 0u) << "seed " << seed;
      EXPECT_GT(outcome.counts.matched, 500u) << "seed " << seed;
      healed += outcome.counts.healed;
      if (::testing::Test::HasFailure()) return;
    }
    EXPECT_GT(healed, 100u);
  }
}

TEST(ExternalSimTest, AnApplicationThatForgetsOrFillsTooLateIsFound) {
  for (const bool cache : {false, true}) {
    for (const bool forgets : {false, true}) {
      uint64_t confirmed = 0;
      for (uint64_t seed = 1; seed <= 10; ++seed) {
        const Outcome outcome =
            Live({.seed = seed, .cache = cache, .forgetful_ppm = forgets ? 100'000u : 0u, .stale_fills = !forgets});
        confirmed += outcome.divergences.size();
        EXPECT_EQ(outcome.wrong > 0, cache) << "seed " << seed;
        for (const diff::Divergence& divergence : outcome.divergences) EXPECT_EQ(divergence.cause, "stale_entry");
      }
      EXPECT_GT(confirmed, 50u);
    }
  }
}

// ---- By version ----

constexpr char kOld[] = R"({"version":17,"price":100})";
constexpr char kNew[] = R"({"version":18,"price":200})";

// The database holds kOld.
struct VersionedWorld : ExternalWorld {
  explicit VersionedWorld(uint64_t seed = 1) : ExternalWorld(seed) {
    options.row_version = "/version";
    PublishCatalog(kDelta);
    database.Write(Row("1"), kOld);
  }
  void ReadIn(bool cache) {
    cache ? RouteCache(1'000'000) : RouteShadow();
    Read("1");
    read_at = world.clock()->Now();
  }
  absl::Time read_at;
};

TEST(ExternalVerifierTest, AnotherAnswerUnderTheSameVersionIsConfirmedByTheFirstLook) {
  for (const bool cache : {false, true}) {
    VersionedWorld w;
    w.Cache("1", R"({"version":17,"price":10})");
    w.ReadIn(cache);
    w.world.RunUntilIdle();
    ASSERT_EQ(w.divergences.size(), 1u);
    const diff::Divergence& divergence = w.divergences[0];
    EXPECT_EQ(divergence.rule, "by_version");
    EXPECT_EQ(divergence.cause, "same_version");
    EXPECT_THAT(divergence.cause_evidence, Not(HasSubstr("17")));
    EXPECT_EQ(divergence.observations.size(), 1u);
    EXPECT_LE(divergence.confirmed_at - w.read_at, kDelta / 10);
  }
}

TEST(ExternalVerifierTest, AValueWhoseTransactionWasRolledBackIsConfirmedAsSoonAsTheDatabaseIsAskedAfterIt) {
  for (const bool cache : {false, true}) {
    VersionedWorld w;
    w.Cache("1", kNew);
    w.ReadIn(cache);
    w.world.RunUntilIdle();
    ASSERT_EQ(w.divergences.size(), 1u);
    EXPECT_EQ(w.divergences[0].rule, "by_version");
    EXPECT_EQ(w.divergences[0].cause, "never_held");
    EXPECT_EQ(w.divergences[0].observations.size(), cache ? 1u : 2u);
    EXPECT_LE(w.divergences[0].confirmed_at - w.read_at, kDelta / 10);
  }
}

TEST(ExternalVerifierTest, AValueThatIsNewerThanAControlBesideItIsRight) {
  VersionedWorld w;
  w.redis.faults.latency_min = w.redis.faults.latency_max = absl::Milliseconds(20);
  w.Cache("1", kOld);
  w.RouteShadow();
  w.Start(ReadWorld::Request("1"));
  w.world.RunFor(absl::Milliseconds(10));
  w.database.Write(ReadWorld::Row("1"), kNew);
  w.Cache("1", kNew);
  w.world.RunUntilIdle();
  EXPECT_EQ(w.verification_control.queries(), 1u) << "the first look found it newer";
  EXPECT_EQ(w.Counts().matched, 1u);
}

TEST(ExternalVerifierTest, AStandbyMayBeBehindWhatIsNewer) {
  VersionedWorld w;
  w.verification_control.options().standby = true;
  w.Cache("1", kNew);
  w.ReadIn(/*cache=*/true);
  w.world.RunFor(kDelta / 2);
  w.database.Write(ReadWorld::Row("1"), kNew);  // Which the other server had before.
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().confirmed, 0u);
  EXPECT_EQ(w.Counts().inconclusive, 1u);
}

TEST(ExternalVerifierTest, WhatTheStatementMakesUpIsNoOtherAnswerUnderTheSameVersion) {
  VersionedWorld w;
  w.MakeNoise([n = std::make_shared<int>(0)](std::string row) {
    row.pop_back();
    return absl::StrCat(row, ",\"rank\":", ++*n, "}");
  });
  w.Cache("1", R"({"version":17,"price":100,"rank":-1})");
  w.ReadIn(/*cache=*/true);
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().confirmed, 0u);
  EXPECT_EQ(w.Counts().inconclusive, 1u);

  // What is wrong beside it is found.
  w.Cache("1", R"({"version":17,"price":10,"rank":-1})");
  w.ReadIn(/*cache=*/true);
  w.world.RunUntilIdle();
  ASSERT_EQ(w.divergences.size(), 1u);
  EXPECT_EQ(w.divergences[0].rule, "by_version");
  EXPECT_THAT(w.divergences[0].patterns, testing::ElementsAre("/price: value"));
}

TEST(ExternalVerifierTest, AWriteAfterTheLookIsNotWhatDifferedUnderTheSameVersion) {
  VersionedWorld w;
  w.MakeNoise([n = std::make_shared<int>(0)](std::string row) {
    row.pop_back();
    return absl::StrCat(row, ",\"rank\":", ++*n, "}");
  });
  w.twin_control.options().latency_min = w.twin_control.options().latency_max = kDelta / 4;
  w.Cache("1", R"({"version":17,"price":100,"rank":-1})");
  w.ReadIn(/*cache=*/true);
  // The look is over, and the pair is being read.
  while (w.twin_control.queries() == 0) ASSERT_TRUE(w.world.executor()->RunOne());
  w.database.Write(ReadWorld::Row("1"), kNew);
  w.world.RunFor(kDelta / 2);
  EXPECT_EQ(w.Counts().Pending(), 1u) << "stale by now, and within the bound";
  w.Cache("1", R"({"version":18,"price":200,"rank":-1})");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().confirmed, 0u);
}

// ---- Somebody else's answers ----

constexpr char kAcmes[] = R"({"tenant":"acme","balance":1000000})";
constexpr char kGlobexs[] = R"({"tenant":"globex","balance":7000000})";

void WriteBoth(ExternalWorld* w) {
  w->database.Write(ReadWorld::Row("1"), kAcmes);
  w->database.Write(ReadWorld::Row("1", "globex"), kGlobexs);
  w->CacheRow("1", "globex");
}

TEST(ExternalVerifierTest, AnAnswerThatNamesAnotherTenantIsUnsafeAtOnce) {
  for (const bool cache : {false, true}) {
    ExternalWorld w;
    w.options.owner = "/tenant";
    w.PublishCatalog(kDelta);
    WriteBoth(&w);
    w.Cache("1", kGlobexs);
    cache ? w.RouteCache(1'000'000) : w.RouteShadow();
    w.Read("1");
    const absl::Time read_at = w.world.clock()->Now();
    w.world.RunUntilIdle();
    ASSERT_EQ(w.divergences.size(), 1u);
    EXPECT_EQ(w.divergences[0].unsafe, "another_tenant");
    EXPECT_EQ(w.divergences[0].rule, "at_once");
    EXPECT_EQ(w.divergences[0].cause, "cross_tenant");
    EXPECT_LE(w.divergences[0].confirmed_at - read_at, absl::Milliseconds(50));
    EXPECT_EQ(w.Counts().confirmed, 1u);
  }
}

// Reads of others, by which it is known that no two get the same.
void HearOthers(ExternalWorld* w) {
  for (int i = 100; i < 110; ++i) {
    const std::string id = absl::StrCat(i);
    w->database.Write(ReadWorld::Row(id), absl::StrCat(R"({"tenant":"acme","balance":)", 1'000'000 + i, "}"));
    w->CacheRow(id);
    w->Read(id);
  }
}

TEST(ExternalVerifierTest, WhatTheDatabaseSaidToAnotherTenantIsRecognisedWithoutAName) {
  ExternalWorld w;
  WriteBoth(&w);
  w.RouteShadow();
  HearOthers(&w);
  w.Read(ReadWorld::Request("1", "globex"));
  w.world.RunFor(2 * kDelta);
  // However it is written.
  w.Cache("1", R"({"balance": 7e6, "tenant": "globex"})");
  w.Read("1");
  w.world.RunUntilIdle();
  ASSERT_EQ(w.divergences.size(), 1u);
  EXPECT_EQ(w.divergences[0].unsafe, "another_tenant");
  EXPECT_EQ(w.divergences[0].rule, "at_once");
}

TEST(ExternalVerifierTest, DataThatMovedToAnotherIsNoLeakWithinTheBound) {
  ExternalWorld w;
  WriteBoth(&w);
  w.database.Write(ReadWorld::Row("1"), kGlobexs);
  w.CacheRow("1");
  w.database.Write(ReadWorld::Row("1", "globex"), kAcmes);
  w.RouteShadow();
  HearOthers(&w);
  // The two change places, and the application replaces its entries in time.
  WriteBoth(&w);
  w.Read(ReadWorld::Request("1", "globex"));
  w.Read("1");
  w.world.RunFor(kDelta / 2);
  w.CacheRow("1");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().confirmed, 0u);
  EXPECT_EQ(w.Counts().healed, 1u);
}

TEST(ExternalVerifierTest, OnesOwnPastIsStaleAndNotAnothers) {
  ExternalWorld w;
  w.RouteShadow();
  HearOthers(&w);
  WriteBoth(&w);
  w.database.Write(ReadWorld::Row("1"), kGlobexs);  // As it happens, acme had the same.
  w.CacheRow("1");
  w.RouteShadow();
  w.Read("1");
  w.Read(ReadWorld::Request("1", "globex"));
  w.database.Write(ReadWorld::Row("1"), kAcmes);
  w.Read("1");
  w.world.RunUntilIdle();
  ASSERT_EQ(w.divergences.size(), 1u);
  EXPECT_EQ(w.divergences[0].unsafe, "");
  EXPECT_EQ(w.divergences[0].rule, "by_observation");
}

TEST(ExternalVerifierTest, AnotherQuestionsAnswerIsAKeyCollision) {
  ExternalWorld w;
  w.database.Write(ReadWorld::Row("1"), kAcmes);
  w.database.Write(ReadWorld::Row("2"), R"({"tenant":"acme","balance":2000000})");
  w.CacheRow("2");
  w.RouteShadow();
  HearOthers(&w);
  w.Read("2");
  w.world.RunFor(2 * kDelta);
  w.Cache("1", R"({"tenant":"acme","balance":2000000})");
  w.Read("1");
  w.world.RunUntilIdle();
  ASSERT_EQ(w.divergences.size(), 1u);
  EXPECT_EQ(w.divergences[0].cause, "key_collision");
  EXPECT_EQ(w.divergences[0].unsafe, "");
  EXPECT_EQ(w.divergences[0].rule, "at_once");
}

TEST(ExternalReaderTest, WhatIsUnderASharedKeyIsVerifiedAndNeverServed) {
  cache::ExternalCache shared = PlainJson();
  shared.partial_key = true;
  ExternalWorld w(1, shared);
  w.Write("1");
  w.Cache("1", R"({"price":666})");
  w.RouteCache();
  const auto answer = w.Read("1");
  EXPECT_EQ(answer->response.source(), v1::SOURCE_DATABASE);
  EXPECT_EQ(answer->response.body(), R"({"price":1})");
  w.RouteShadow();
  w.Read("1");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().confirmed, 1u);
}

}  // namespace
}  // namespace shadowline::server
