#include "server/read/verifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/server/read_world.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr absl::Duration kDelta = absl::Seconds(1);

// Verdicts of all kinds but shed.
uint64_t Judged(const diff::Counts& c) {
  return c.matched + c.excused + c.healed + c.confirmed + c.inconclusive + c.errored;
}

// Adds a field that the statement makes up.
std::function<std::string(std::string)> MadeUpRank(uint64_t seed) {
  return [random = std::make_shared<base::Random>(seed)](std::string row) {
    row.pop_back();
    return absl::StrCat(row, ",\"rank\":", random->Below(1'000'000'000), "}");
  };
}

// Until so many episodes were open, and then one of them not any more.
void RunUntilOneEnds(ReadWorld* w, double open) {
  const auto episodes = [w] { return w->Metric("shadowline_verification_episodes"); };
  while (episodes() < open) ASSERT_TRUE(w->world.executor()->RunOne());
  while (episodes() == open) ASSERT_TRUE(w->world.executor()->RunOne());
}

// ---- Single samples ----

TEST(VerifierTest, AServedValueThatTheDatabaseHoldsIsMatched) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache(/*sample_ppm=*/1'000'000);
  w.Read("1");
  w.Read("1");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().sampled, 1u);
  EXPECT_EQ(w.Counts().matched, 1u);
  EXPECT_EQ(w.Counts().candidate_misses, 1u);
  const diff::Flush flush = w.ledger.BuildFlush();
  ASSERT_EQ(flush.episodes.size(), 1u);
  const auto& [key, episodes] = *flush.episodes.begin();
  EXPECT_EQ(key.tenant, "acme");
  EXPECT_EQ(key.family, "pricing");
  EXPECT_EQ(key.endpoint, "pricing/quote");
  EXPECT_EQ(key.window, 7u);
  EXPECT_EQ(key.catalog_revision, 1u);
  ASSERT_EQ(episodes.size(), 1u);
  EXPECT_FALSE(episodes[0].exercised);
}

TEST(VerifierTest, AFillAfterAnInvalidationCountsAsExercised) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache(1'000'000);
  w.Read("1");
  w.Write("1");
  w.Invalidate("1");
  w.world.RunUntilIdle();
  w.Read("1");
  w.Read("1");
  w.world.RunUntilIdle();
  const diff::Flush flush = w.ledger.BuildFlush();
  ASSERT_EQ(flush.episodes.size(), 1u);
  EXPECT_TRUE(flush.episodes.begin()->second[0].exercised);
}

TEST(VerifierTest, WhereRulesIgnoreEverythingReadsAreExcusedAndNoEvidence) {
  for (const bool cache : {false, true}) {
    ReadWorldOptions options;
    options.compare.add_ignore("$");
    ReadWorld w(options);
    w.Write("1");
    w.RouteCache();
    w.Read("1");
    cache ? w.RouteCache(1'000'000) : w.RouteShadow();
    w.Write("1");  // And nobody says so.
    w.Read("1");
    w.Read("1");
    w.world.RunUntilIdle();
    w.Read("1");  // Which an earlier one stands for.
    w.world.RunUntilIdle();
    EXPECT_EQ(w.Counts().excused, 3u);
    EXPECT_TRUE(w.ledger.BuildFlush().episodes.empty());
  }
}

TEST(VerifierTest, AForgottenInvalidationIsConfirmedRepairedAndReported) {
  for (const bool cache : {false, true}) {
    ReadWorld w;
    w.Write("1");
    w.RouteCache();
    w.Read("1");
    cache ? w.RouteCache(1'000'000) : w.RouteShadow();
    w.Write("1");  // And nobody says so.
    const absl::Time written_at = w.world.clock()->Now();
    w.Read("1");
    w.world.RunUntilIdle();
    EXPECT_EQ(w.Counts().confirmed, 1u);
    ASSERT_EQ(w.divergences.size(), 1u);
    const diff::Divergence& divergence = w.divergences[0];
    EXPECT_EQ(divergence.id.size(), 32u);
    EXPECT_EQ(divergence.rule, "by_observation");
    EXPECT_EQ(divergence.cause, "missed_invalidation") << divergence.cause_evidence;
    EXPECT_THAT(divergence.tags, ElementsAre(Pair(testing::MatchesRegex("quote:#[0-9a-f]{16}"), absl::InfinitePast()),
                                             Pair("tenant", absl::InfinitePast())));
    EXPECT_THAT(divergence.patterns, ElementsAre("/price: value"));
    EXPECT_EQ(divergence.key, w.Key("1"));
    EXPECT_EQ(divergence.after_cutover, cache);
    EXPECT_EQ(divergence.reads_affected, 1u);
    EXPECT_GE(divergence.confirmed_at - written_at, kDelta);
    EXPECT_LE(divergence.confirmed_at - written_at, kDelta + absl::Milliseconds(100));
    ASSERT_GE(divergence.observations.size(), 2u);
    EXPECT_TRUE(divergence.observations.back().same_fill);
    EXPECT_TRUE(divergence.observations.back().differed);
    EXPECT_GE(divergence.observations.back().candidate_at - divergence.observations.front().control_at, kDelta);
    // Redacted: neither price is shown.
    ASSERT_EQ(divergence.differences.size(), 1u);
    EXPECT_THAT(divergence.differences[0].control, HasSubstr("#"));
    // Repaired: removed, and filled anew by the next read.
    EXPECT_EQ(w.redis.Find(w.Key("1")), nullptr);
    w.RouteCache();
    EXPECT_EQ(w.Read("1")->response.body(), R"({"price":2})");
    EXPECT_EQ(w.Metric("shadowline_divergences_total"), 1);
    EXPECT_EQ(w.Metric(R"(shadowline_repairs_total{outcome="done"})"), 1);
  }
}

// ---- By commit ----

// A row that says when it was committed, as of now.
void WriteDated(ReadWorld* w, int price) {
  w->database.Write(
      ReadWorld::Row("1"),
      absl::StrCat(R"({"price":)", price, R"(,"at":")",
                   absl::FormatTime("%Y-%m-%dT%H:%M:%E6S+00:00", w->world.clock()->Now(), absl::UTCTimeZone()), "\"}"));
}

TEST(VerifierTest, WhatWasCommittedLongAgoIsConfirmedWithoutWaiting) {
  for (const bool cache : {false, true}) {
    ReadWorld w({.committed_at = "/at"});
    WriteDated(&w, 1);
    w.RouteCache();
    w.Read("1");
    cache ? w.RouteCache(1'000'000) : w.RouteShadow();
    WriteDated(&w, 2);
    const absl::Time committed_at = w.world.clock()->Now();
    w.world.RunFor(2 * kDelta);
    w.Read("1");
    const absl::Time read_at = w.world.clock()->Now();
    w.world.RunUntilIdle();
    ASSERT_EQ(w.divergences.size(), 1u);
    EXPECT_EQ(w.divergences[0].rule, "by_commit");
    EXPECT_LE(w.divergences[0].confirmed_at - read_at, absl::Milliseconds(80));
    EXPECT_GE(w.divergences[0].committed_at, committed_at);
    EXPECT_LE(w.divergences[0].committed_at, committed_at + absl::Milliseconds(10));
    EXPECT_EQ(w.verification_control.queries(), 1u);
  }
}

TEST(VerifierTest, WhatWasCommittedWithinTheBoundIsWaitedFor) {
  ReadWorld w({.committed_at = "/at"});
  WriteDated(&w, 1);
  w.RouteCache(1'000'000);
  w.Read("1");
  WriteDated(&w, 2);
  w.world.RunFor(kDelta / 2);
  w.Read("1");
  w.world.RunFor(kDelta / 4);
  EXPECT_EQ(w.Counts().confirmed, 0u);
  w.Invalidate("1");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().healed, 1u);
}

TEST(VerifierTest, CaptureTellsThatWhatWasWrittenLongAgoIsNotWaitedFor) {
  for (const bool touched : {true, false}) {
    ReadWorld w({.freshness = absl::Seconds(10), .captured = true});
    const auto catalog = w.catalog.Current();
    const cache::Endpoint& endpoint = catalog->endpoints()[0];
    const cache::TagHashes hashes = cache::HashesOf(endpoint, "acme", cache::FenceKeys(endpoint, "acme", {"1"}));
    w.watermark.Cover(absl::InfiniteDuration());
    // What a replica's own snapshot sees, as of now.
    const auto advance = [&w] {
      const auto now = w.world.clock()->Steady();
      w.certifier.Advance(*cache::ParseSnapshot(w.database.Read(ReadWorld::Row("1")).snapshot), now, now);
    };
    w.certifier.Begin(cache::CaptureMapHash(*catalog), 1);
    w.Write("1");
    advance();
    w.RouteCache(1'000'000);
    w.Read("1");
    w.Write("1");  // The fence is lost, and the log has it.
    if (touched) {
      const uint64_t transaction = cache::ParseSnapshot(w.database.Read(ReadWorld::Row("1")).snapshot)->xmax - 1;
      w.certifier.Touch(transaction, hashes, w.world.clock()->Now(), w.world.clock()->Steady());
    }
    advance();
    w.world.RunFor(absl::Seconds(15));
    w.Read("1");
    const absl::Time read_at = w.world.clock()->Now();
    w.world.RunFor(absl::Milliseconds(20));
    advance();
    w.world.RunUntilIdle();
    ASSERT_EQ(w.divergences.size(), 1u);
    const diff::Divergence& divergence = w.divergences[0];
    if (touched) {
      EXPECT_EQ(divergence.rule, "by_commit");
      EXPECT_LT(divergence.confirmed_at - read_at, absl::Seconds(1));
      EXPECT_GT(divergence.transaction, 0u);
      EXPECT_EQ(divergence.cause, "missed_invalidation");
      EXPECT_THAT(divergence.cause_evidence, HasSubstr("wrote to what it depends on"));
    } else {
      EXPECT_EQ(divergence.rule, "by_observation");
      EXPECT_EQ(divergence.cause, "hidden_input");
    }
  }
}

TEST(VerifierTest, AFillThatThePresentDatabaseNeverHeldIsConfirmedWithoutWaiting) {
  // One database was set back; the version of the other does not grow with every change.
  for (const auto& [now, cause] : {std::pair(R"({"version":1,"price":1})", "never_held"),
                                   std::pair(R"({"version":2,"price":1})", "same_version")}) {
    for (const bool cache : {false, true}) {
      ReadWorld w({.row_version = "/version"});
      w.database.Write(ReadWorld::Row("1"), R"({"version":2,"price":2})");
      w.RouteCache();
      w.Read("1");
      cache ? w.RouteCache(1'000'000) : w.RouteShadow();
      w.database.Write(ReadWorld::Row("1"), now);
      w.Read("1");
      const absl::Time read_at = w.world.clock()->Now();
      w.world.RunUntilIdle();
      ASSERT_EQ(w.divergences.size(), 1u);
      EXPECT_EQ(w.divergences[0].rule, "by_version");
      EXPECT_EQ(w.divergences[0].cause, cause);
      EXPECT_LE(w.divergences[0].confirmed_at - read_at, kDelta / 10);
      EXPECT_EQ(w.redis.Find(w.Key("1")), nullptr) << "repaired";
    }
  }
}

// ---- Repairs ----

TEST(VerifierTest, ARepairFencesTheTagsThatNameTheKeysDataAndNoOthers) {
  ReadWorld w;
  std::vector<std::string> fenced;
  w.on_fenced = [&fenced](const std::vector<cache::TenantTag>& tags) {
    for (const cache::TenantTag& tag : tags) fenced.push_back(tag.tag);
  };
  w.Write("1");
  w.RouteCache(1'000'000);
  w.Read("1");
  w.Write("1");
  w.Read("1");
  w.world.RunUntilIdle();
  ASSERT_EQ(w.Counts().confirmed, 1u);
  EXPECT_THAT(fenced, ElementsAre("quote:1"));
  EXPECT_EQ(w.Metric(R"(shadowline_repairs_total{outcome="fenced"})"), 1);
}

TEST(VerifierTest, AControlInAnotherSessionProvesNothingAndRepairsNothing) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache(1'000'000);
  w.Read("1");
  w.Write("1");
  w.verification_control.FailAll(absl::FailedPreconditionError("another session"));
  w.Read("1");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().errored, 1u);
  EXPECT_EQ(w.Counts().confirmed, 0u);
  EXPECT_NE(w.redis.Find(w.Key("1")), nullptr);
}

TEST(VerifierTest, AWrongPermissionIsUnsafe) {
  ReadWorld w({.authorization = true});
  w.Write("1");
  w.RouteCache(1'000'000);
  w.Read("1");
  w.Write("1");
  w.Read("1");
  w.world.RunUntilIdle();
  ASSERT_EQ(w.divergences.size(), 1u);
  EXPECT_EQ(w.divergences[0].unsafe, "authorization");
  EXPECT_EQ(w.divergences[0].rule, "by_observation");
  EXPECT_EQ(w.Metric("shadowline_unsafe_divergences_total"), 1);
}

TEST(VerifierTest, AnInvalidationWithinTheBoundHeals) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache(1'000'000);
  w.Read("1");
  w.Write("1");
  w.Read("1");
  w.world.RunFor(kDelta / 2);
  w.Invalidate("1");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().healed, 1u);
  EXPECT_EQ(w.Counts().confirmed, 0u);
}

TEST(VerifierTest, LaterReadsOfTheSameFillJoinItsEpisode) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache(1'000'000);
  w.Read("1");
  w.Write("1");
  for (int i = 0; i < 10; ++i) {
    w.Read("1");
    w.world.RunFor(absl::Milliseconds(50));
  }
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().sampled, 10u);
  EXPECT_EQ(w.Counts().confirmed, 10u);
  ASSERT_EQ(w.divergences.size(), 1u);
  EXPECT_EQ(w.divergences[0].reads_affected, 10u);
  EXPECT_EQ(w.verification_control.queries(), 2u);
}

TEST(VerifierTest, SamplesThatComeTogetherAskTheControlWithOneStatement) {
  ReadWorld w;
  w.RouteCache(/*sample_ppm=*/0);
  for (int id = 0; id < 20; ++id) {
    w.Write(absl::StrCat(id));
    w.Read(absl::StrCat(id));
  }
  w.world.RunUntilIdle();
  w.Write("7");  // And nobody says so.
  w.RouteCache(1'000'000);
  const uint64_t before = w.verification_control.queries();
  for (int id = 0; id < 20; ++id) w.Read(absl::StrCat(id));
  w.world.RunFor(kDelta / 2);
  EXPECT_EQ(w.verification_control.queries() - before, 1u);
  EXPECT_EQ(w.Counts().matched, 19u);
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().confirmed, 1u) << "of 20 reads, the one that was wrong";
  ASSERT_EQ(w.divergences.size(), 1u);
  EXPECT_EQ(w.divergences[0].key, w.Key("7"));
}

TEST(VerifierTest, SamplesWhoseOneStatementTookTooLongAreAskedForOneByOne) {
  ReadWorld w;
  w.RouteCache(/*sample_ppm=*/0);
  for (int id = 0; id < 5; ++id) {
    w.Write(absl::StrCat(id));
    w.Read(absl::StrCat(id));
  }
  w.world.RunUntilIdle();
  w.RouteCache(1'000'000);
  const uint64_t before = w.verification_control.queries();
  w.verification_control.Hang(true);
  for (int id = 0; id < 5; ++id) w.Read(absl::StrCat(id));
  while (w.verification_control.queries() == before) ASSERT_TRUE(w.world.executor()->RunOne());
  w.verification_control.Hang(false);  // What was asked until then has no answer within the statement's timeout.
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().matched, 5u);
  EXPECT_EQ(w.Counts().errored, 0u);
  EXPECT_EQ(w.verification_control.queries() - before, 1 + 5u);
}

TEST(VerifierTest, AHotKeyIsProvenByItsLastMatch) {
  ReadWorld w({.verifier = {.match_reuse = absl::Milliseconds(500)}});
  w.Write("1");
  w.RouteCache(1'000'000);
  w.Read("1");
  for (int i = 0; i < 1000; ++i) {
    w.Read("1");
    w.world.RunFor(absl::Milliseconds(5));
  }
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().matched, 1000u);
  EXPECT_LE(w.verification_control.queries(), 12u);
  EXPECT_EQ(w.Metric(R"(shadowline_verification_comparisons_total{look="first"})"),
            static_cast<double>(w.verification_control.queries()));
}

TEST(VerifierTest, AMatchProvesNothingBeyondTheBound) {
  ReadWorld w({.verifier = {.match_reuse = absl::Hours(1)}});
  w.Write("1");
  w.RouteCache(1'000'000);
  w.Read("1");
  w.Read("1");
  w.world.RunUntilIdle();
  w.Write("1");
  w.world.RunFor(kDelta + absl::Milliseconds(10));
  w.Read("1");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().confirmed, 1u);
}

TEST(VerifierTest, AReadAnsweredLongAfterTheControlWasAskedIsNotProvenByIt) {
  // The control takes three bounds to answer; what it saw at first proves nothing about reads at the end.
  ReadWorld w({.freshness = absl::Milliseconds(100)});
  w.Write("1");
  w.RouteCache(1'000'000);
  w.Read("1");
  w.verification_control.options().latency_min = w.verification_control.options().latency_max = absl::Milliseconds(300);
  for (int i = 0; i < 10; ++i) {
    w.Read("1");
    w.world.RunFor(absl::Milliseconds(30));
  }
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().matched, 10u);
  EXPECT_GE(w.verification_control.queries(), 2u);
}

TEST(VerifierTest, OtherBytesUnderTheSameFillAreJudgedByThemselves) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache(1'000'000);
  w.Read("1");
  w.Read("1");
  w.world.RunUntilIdle();
  ASSERT_EQ(w.Counts().matched, 1u);
  cache::CachedAnswer other = *cache::DecodeEnvelope(w.Key("1"), w.redis.Find(w.Key("1"))->slot.bytes);
  other.body = R"({"price":666})";
  other.etag = cache::Etag(true, other.body);
  w.redis.Corrupt(w.Key("1"), cache::EncodeEnvelope(w.Key("1"), other, 0));
  w.Read("1");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().matched, 1u);
  EXPECT_EQ(w.Counts().confirmed, 1u);
}

TEST(VerifierTest, AnOpenEpisodeHearsWhatOtherReadsOfItsFillProve) {
  ReadWorld w;
  const auto set = [&w](const char* body) { w.database.Write(ReadWorld::Row("1"), body); };
  set("1");
  w.RouteCache();
  w.Read("1");
  w.RouteShadow();
  set("2");
  w.Read("1");
  w.world.RunFor(absl::Milliseconds(400));
  set("1");  // Back again: the fill was not wrong for long.
  w.Read("1");
  w.world.RunFor(absl::Milliseconds(50));
  EXPECT_EQ(w.Counts().matched, 1u);
  EXPECT_EQ(w.Counts().inconclusive, 1u);
  // And wrong again: a new episode with looks of its own.
  set("3");
  const absl::Time written_at = w.world.clock()->Now();
  w.Read("1");
  w.world.RunUntilIdle();
  ASSERT_EQ(w.divergences.size(), 1u);
  EXPECT_GE(w.divergences[0].confirmed_at - written_at, kDelta);
  EXPECT_EQ(w.verification_control.queries(), 1u);
}

TEST(VerifierTest, AControlThatIsOlderThanTheFillProvesNothing) {
  ReadWorld w;
  w.database.Write(ReadWorld::Row("1"), "1");
  const sim::SimDatabase::Reading before = w.database.Read(ReadWorld::Row("1"));
  w.database.Write(ReadWorld::Row("1"), "2");
  w.RouteCache();
  w.Read("1");
  // A shadow read whose control took its snapshot before the fill did, and was slow to answer.
  Sample sample;
  sample.drawn.query = {w.catalog.Current(), &w.catalog.Current()->endpoints()[0], "acme", {"1"}};
  sample.drawn.key = w.Key("1");
  const cache::Slot slot = w.redis.Find(w.Key("1"))->slot;
  sample.fill = slot.fill;
  sample.served = *cache::DecodeEnvelope(w.Key("1"), slot.bytes);
  const absl::Duration now = w.world.clock()->Steady();
  sample.candidate_at = sample.served_at = now;
  cache::ControlAnswer old;
  old.found = true;
  old.body = *before.value;
  old.snapshot = before.snapshot;
  sample.truth = Truth{old, now - absl::Seconds(1), now};
  w.verifier.Submit(std::move(sample), absl::Milliseconds(1));
  // A second difference, a bound later, is the first that counts.
  w.world.RunFor(kDelta - absl::Milliseconds(10));
  w.database.Write(ReadWorld::Row("1"), "3");
  w.world.RunFor(absl::Milliseconds(500));
  w.Invalidate("1");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().sampled, 1u);
  EXPECT_EQ(w.Counts().confirmed, 0u);
}

// ---- Noise ----

TEST(VerifierTest, WhatAStatementMakesUpIsCountedAndNotHeldAgainstTheCache) {
  for (const bool cache : {false, true}) {
    ReadWorld w;
    w.MakeNoise(MadeUpRank(1));
    cache ? w.RouteCache(1'000'000) : w.RouteShadow();
    for (int i = 0; i < 20; ++i) {
      const std::string id = absl::StrCat(i);
      w.Write(id);
      w.Read(id);
      w.world.RunUntilIdle();
      w.Read(id);
      w.world.RunUntilIdle();
    }
    EXPECT_EQ(w.Counts().sampled, 20u);
    EXPECT_EQ(w.Counts().inconclusive, 20u);
    EXPECT_TRUE(w.divergences.empty());
    EXPECT_EQ(w.Metric("shadowline_noise_episodes_total"), 20);
    const diff::NoiseCounts noise = w.noise.Counts(w.NoiseKey());
    EXPECT_EQ(noise.pairs, 20u);
    EXPECT_THAT(noise.patterns, ElementsAre(Pair("/rank: value", 20u)));
  }
}

TEST(VerifierTest, AnAnswerThatIsRightAgainByTheTimeItIsReadTwiceIsNoNoise) {
  ReadWorld w;
  const auto set = [&w](const char* body) { w.database.Write(ReadWorld::Row("1"), body); };
  set("1");
  w.RouteCache();
  w.Read("1");
  w.world.RunUntilIdle();
  w.RouteCache(1'000'000);
  set("2");
  w.Read("1");
  while (w.twin_control.queries() == 0) ASSERT_TRUE(w.world.executor()->RunOne());
  set("1");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().inconclusive, 1u);
  EXPECT_EQ(w.Metric("shadowline_noise_episodes_total"), 0);
}

TEST(VerifierTest, AMissedInvalidationBesideWhatIsMadeUpIsConfirmed) {
  ReadWorld w;
  w.MakeNoise(MadeUpRank(1));
  w.RouteCache(1'000'000);
  w.Write("1");
  w.Read("1");
  w.Write("1");
  const absl::Time written_at = w.world.clock()->Now();
  w.Read("1");
  w.world.RunUntilIdle();
  ASSERT_EQ(w.divergences.size(), 1u);
  EXPECT_EQ(w.Counts().confirmed, 1u);
  EXPECT_THAT(w.divergences[0].patterns, ElementsAre("/price: value"));
  ASSERT_EQ(w.divergences[0].differences.size(), 1u);
  EXPECT_EQ(w.divergences[0].differences[0].pointer, "/price");
  EXPECT_EQ(w.divergences[0].differences_total, 1u);
  EXPECT_LE(w.divergences[0].confirmed_at - written_at, kDelta + absl::Milliseconds(100));
  EXPECT_EQ(w.divergences[0].cause, "missed_invalidation");
}

// What is made up has differed all along; the write is young.
TEST(VerifierTest, AWriteIsNotAsOldAsTheNoiseBesideIt) {
  for (const bool invalidated : {true, false}) {
    ReadWorld w;
    w.MakeNoise(MadeUpRank(1));
    w.RouteCache(1'000'000);
    w.Write("1");
    w.Read("1");
    w.Read("1");
    w.world.RunFor(kDelta - absl::Milliseconds(20));
    w.Write("1");
    const absl::Time written_at = w.world.clock()->Now();
    w.world.RunFor(kDelta / 2);
    if (invalidated) w.Invalidate("1");
    w.world.RunUntilIdle();
    EXPECT_EQ(w.Counts().confirmed, invalidated ? 0u : 1u);
    if (invalidated) continue;
    ASSERT_EQ(w.divergences.size(), 1u);
    EXPECT_GE(w.divergences[0].confirmed_at - written_at, kDelta);
    EXPECT_LE(w.divergences[0].confirmed_at - written_at, 2 * kDelta + absl::Milliseconds(100));
  }
}

// What is made up differs in every look, so that only places tell how long something has been wrong.
TEST(VerifierTest, APlaceThatWasRightInBetweenIsNotAsOldAsItsFirstDifference) {
  ReadWorld w;
  w.MakeNoise(MadeUpRank(1));
  w.RouteCache(1'000'000);
  const auto set = [&w](int price, int stock) {
    w.database.Write(ReadWorld::Row("1"), absl::StrCat("{\"price\":", price, ",\"stock\":", stock, "}"));
  };
  set(1, 1);
  w.Read("1");
  set(2, 1);
  w.Read("1");  // The first look: the price.
  w.world.RunFor(kDelta / 2);
  set(1, 2);
  w.world.RunFor(kDelta);  // The second: the stock, which is young.
  set(2, 1);
  w.world.RunFor(kDelta);  // The third: the price again.
  EXPECT_EQ(w.Counts().Pending(), 1u);
  set(1, 1);
  w.world.RunUntilIdle();
  EXPECT_TRUE(w.divergences.empty());
  EXPECT_EQ(w.Counts().inconclusive, 1u);
}

// A field that is wrong in a share of the database's own answers, and stale in the cache.
TEST(VerifierTest, AStaleValueOfAFieldThatIsNoisyNowAndThenIsConfirmed) {
  constexpr int kKeys = 100;
  ReadWorld w;
  w.MakeNoise([random = std::make_shared<base::Random>(5)](std::string row) {
    return random->Below(100) < 5 ? R"({"price":0})" : row;
  });
  for (int i = 0; i < 100; ++i) {
    w.noise.Add(w.NoiseKey(), i % 10 == 0 ? std::vector<std::string>{"/price: value"} : std::vector<std::string>());
  }
  ASSERT_TRUE(diff::IsNoisy(w.noise.Counts(w.NoiseKey()), "/price: value"));
  w.RouteCache(1'000'000);
  for (int i = 0; i < kKeys; ++i) {
    const std::string id = absl::StrCat(i);
    w.Write(id);
    w.Read(id);
    w.Read(id);
    w.world.RunUntilIdle();
  }
  // Slips of the database, on either side, are never confirmed.
  EXPECT_TRUE(w.divergences.empty());
  EXPECT_GT(w.Counts().inconclusive, 0u);
  EXPECT_GT(w.Counts().matched, 80u);
  for (int i = 0; i < kKeys; ++i) {
    w.Write(absl::StrCat(i));
    w.Read(absl::StrCat(i));
  }
  w.world.RunUntilIdle();
  EXPECT_GT(w.divergences.size(), 70u);
  EXPECT_THAT(w.divergences[0].cause_evidence, HasSubstr("/price: value"));
  EXPECT_EQ(w.divergences[0].cause, "missed_invalidation");
}

TEST(VerifierTest, AFillThatHoldsASlipOfANoisyFieldIsNotConfirmed) {
  ReadWorld w;
  bool slip = true;
  w.MakeNoise([&slip](std::string row) { return slip ? R"({"price":0})" : row; });
  w.noise.Add(w.NoiseKey(), {"/price: value"});
  w.RouteCache(1'000'000);
  w.Write("1");
  w.Read("1");
  slip = false;
  w.Read("1");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().sampled, 1u);
  EXPECT_EQ(w.Counts().inconclusive, 1u);
}

TEST(VerifierTest, NothingIsConfirmedWhileTheControlCannotBeReadTwice) {
  for (const int failures : {2, 100}) {
    ReadWorld w;
    w.Write("1");
    w.RouteCache(1'000'000);
    w.Read("1");
    w.Write("1");
    for (int i = 0; i < failures; ++i) w.twin_control.FailNext(absl::FailedPreconditionError("two servers"));
    w.Read("1");
    w.world.RunUntilIdle();
    EXPECT_EQ(w.Counts().confirmed, failures == 2 ? 1u : 0u);
    EXPECT_EQ(w.Counts().errored, failures == 2 ? 0u : 1u);
    EXPECT_EQ(w.divergences.size(), failures == 2 ? 1u : 0u);
  }
}

TEST(VerifierTest, ADatabaseThatNeverAnswersTwiceHoldsNoEpisodeForLong) {
  ReadWorld w({.verifier = {.queries_per_second = 10'000, .burst = 10'000}});
  w.RouteCache(1'000'000);
  for (int i = 0; i < 100; ++i) {
    w.Write(absl::StrCat(i));
    w.Read(absl::StrCat(i));
    w.Write(absl::StrCat(i));
  }
  w.twin_control.Hang(true);
  for (int i = 0; i < 100; ++i) w.Read(absl::StrCat(i));
  w.world.RunFor(absl::Minutes(5));
  EXPECT_EQ(w.Counts().Pending(), 0u);
  EXPECT_EQ(w.Counts().errored, 100u);
}

TEST(VerifierTest, AShareOfWhatIsVerifiedIsReadTwice) {
  ReadWorld w({.noise_ppm = 200'000});
  w.RouteShadow();
  w.Write("1");
  w.Read("1");
  w.world.RunUntilIdle();
  for (int i = 0; i < 1000; ++i) {
    w.Read("1");
    w.world.RunFor(NoiseProbe::kMeasureEvery);
  }
  const diff::NoiseCounts noise = w.noise.Counts(w.NoiseKey());
  EXPECT_GT(noise.pairs, 120u);
  EXPECT_LT(noise.pairs, 280u);
  EXPECT_EQ(noise.differed, 0u);
  EXPECT_EQ(w.Counts().matched, 1000u);
  EXPECT_EQ(w.Metric(R"(shadowline_twin_reads_total{outcome="same"})"), static_cast<double>(noise.pairs));
}

TEST(VerifierTest, OfABusyEndpointFewPairsAreEnough) {
  ReadWorld w({.noise_ppm = 1'000'000});
  w.RouteShadow();
  w.Write("1");
  w.Read("1");
  w.world.RunUntilIdle();
  const absl::Duration start = w.world.clock()->Steady();
  for (int i = 0; i < 1000; ++i) {
    w.Read("1");
    w.world.RunFor(absl::Milliseconds(10));
  }
  const auto most = static_cast<uint64_t>((w.world.clock()->Steady() - start) / NoiseProbe::kMeasureEvery) + 1;
  EXPECT_LE(w.noise.Counts(w.NoiseKey()).pairs, most);
  EXPECT_GE(w.noise.Counts(w.NoiseKey()).pairs, most - 3);
}

TEST(VerifierTest, MeasuringNoiseIsLeftOutBeforeAnySampleIs) {
  ReadWorld w({.noise_ppm = 1'000'000, .verifier = {.queries_per_second = 0.1, .burst = 20, .match_reuse = {}}});
  w.RouteCache(1'000'000);
  w.Write("1");
  w.Read("1");
  for (int i = 0; i < 7; ++i) {
    w.Read("1");
    w.world.RunFor(NoiseProbe::kMeasureEvery);
  }
  // Half of the bucket is for samples and looks alone.
  EXPECT_EQ(w.Counts().shed, 0u);
  EXPECT_EQ(w.Counts().matched, 7u);
  EXPECT_GT(w.noise.Counts(w.NoiseKey()).pairs, 1u);
  EXPECT_LT(w.noise.Counts(w.NoiseKey()).pairs, 6u);
}

TEST(VerifierTest, AnEpisodeThatWaitsToBeReadTwiceIsShedAtTheEnd) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache(1'000'000);
  w.Read("1");
  w.Write("1");
  w.twin_control.Hang(true);
  w.Read("1");
  w.world.RunFor(2 * kDelta);
  EXPECT_EQ(w.Counts().Pending(), 1u);
  bool done = false;
  w.verifier.Shutdown([&done] { done = true; });
  w.world.RunUntilIdle();
  EXPECT_TRUE(done);
  EXPECT_EQ(w.Counts().shed, 1u);
  EXPECT_EQ(w.Counts().Pending(), 0u);
}

TEST(VerifierTest, DigestsOfTwoTenantsCannotBeCompared) {
  ReadWorld w;
  for (const char* tenant : {"acme", "globex"}) {
    w.database.Write(ReadWorld::Row("1", tenant), R"({"name":"old"})");
    w.RouteCache();
    w.Read(ReadWorld::Request("1", tenant));
    w.RouteCache(1'000'000);
    w.database.Write(ReadWorld::Row("1", tenant), R"({"name":"new"})");
    w.Read(ReadWorld::Request("1", tenant));
    w.world.RunUntilIdle();
  }
  ASSERT_EQ(w.divergences.size(), 2u);
  EXPECT_EQ(w.divergences[0].fingerprint, w.divergences[1].fingerprint);
  EXPECT_NE(w.divergences[0].differences[0].candidate, w.divergences[1].differences[0].candidate);
}

TEST(VerifierTest, AFillThatOvertookAnInvalidationIsAFillRace) {
  ReadWorld w;
  w.redis.faults.fences_are_ignored = true;  // A cache without fences.
  w.Write("1");
  w.RouteCache(1'000'000);
  w.control.options().latency_min = w.control.options().latency_max = absl::Milliseconds(400);
  const auto answer = w.Start(ReadWorld::Request("1"));
  w.world.RunFor(absl::Milliseconds(395));
  w.Write("1");
  w.Invalidate("1");
  w.world.RunUntilIdle();
  ASSERT_EQ(answer->response.body(), R"({"price":1})") << "the load has to begin before the write";
  w.Read("1");
  w.world.RunUntilIdle();
  ASSERT_EQ(w.divergences.size(), 1u);
  EXPECT_EQ(w.divergences[0].cause, "fill_race") << w.divergences[0].cause_evidence;
}

// ---- What cannot be judged ----

TEST(VerifierTest, ADatabaseThatNeverAnswersIsErroredAndNoDivergence) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache(1'000'000);
  w.Read("1");
  w.verification_control.FailAll(absl::UnavailableError("no connection"));
  w.Write("1");
  w.Read("1");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().errored, 1u);
  EXPECT_EQ(w.Counts().confirmed, 0u);
}

TEST(VerifierTest, ACacheThatGoesAwayIsInconclusive) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache(1'000'000);
  w.Read("1");
  w.Write("1");
  w.Read("1");
  w.redis.faults.down = true;
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().inconclusive, 1u);
}

TEST(VerifierTest, WithoutBudgetSamplesAreShed) {
  ReadWorld w({.verifier = {.queries_per_second = 0.001, .burst = 4}});
  for (int i = 0; i < 10; ++i) w.Write(absl::StrCat(i));
  w.RouteCache();
  for (int i = 0; i < 10; ++i) w.Read(absl::StrCat(i));
  w.RouteCache(1'000'000);
  for (int i = 0; i < 10; ++i) w.Read(absl::StrCat(i));
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().sampled, 10u);
  EXPECT_EQ(w.Counts().matched, 3u) << "a quarter of the bucket is kept for open episodes";
  EXPECT_EQ(w.Counts().shed, 7u);
  EXPECT_EQ(w.Metric(R"(shadowline_verification_shed_total{why="budget"})"), 7);
}

TEST(VerifierTest, AFullQueueShedsAndNeverGrows) {
  ReadWorld w({.verifier = {.samples_max = 5}});
  for (int i = 0; i < 20; ++i) w.Write(absl::StrCat(i));
  w.RouteCache();
  for (int i = 0; i < 20; ++i) w.Read(absl::StrCat(i));
  w.RouteCache(1'000'000);
  w.verification_control.Hang(true);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(w.Read(absl::StrCat(i))->status->ok());
  EXPECT_EQ(w.Counts().sampled, 20u);
  EXPECT_EQ(w.Counts().shed, 15u);
  EXPECT_EQ(w.Metric(R"(shadowline_verification_shed_total{why="queue"})"), 15);
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().errored, 5u);
}

TEST(VerifierTest, LargeAnswersCountByTheirBytes) {
  ReadWorld w({.verifier = {.bytes_max = 100'000}});
  w.database.Write(ReadWorld::Row("1"), "\"" + std::string(60'000, 'x') + "\"");
  w.RouteCache();
  w.Read("1");
  w.RouteCache(1'000'000);
  w.verification_control.Hang(true);
  const auto first = w.Start(ReadWorld::Request("1"));
  const auto second = w.Start(ReadWorld::Request("1"));
  w.world.RunFor(absl::Milliseconds(100));
  EXPECT_EQ(w.Counts().sampled, 2u);
  EXPECT_EQ(w.Counts().shed, 1u);
}

// ---- The end ----

TEST(VerifierTest, ShutdownShedsWhatIsOpenAndReportsWhatIsConfirmed) {
  ReadWorld w;
  for (int i = 0; i < 10; ++i) w.Write(absl::StrCat(i));
  w.RouteCache();
  for (int i = 0; i < 10; ++i) w.Read(absl::StrCat(i));
  w.RouteCache(1'000'000);
  for (int i = 0; i < 10; ++i) w.Write(absl::StrCat(i));
  for (int i = 0; i < 10; ++i) w.Read(absl::StrCat(i));
  RunUntilOneEnds(&w, 10);
  EXPECT_TRUE(w.divergences.empty()) << "its tags are still being asked about";
  bool stopped = false;
  w.verifier.Shutdown([&] {
    stopped = true;
    EXPECT_EQ(w.divergences.size(), w.Counts().confirmed);
  });
  w.world.RunUntilIdle();
  EXPECT_TRUE(stopped);
  EXPECT_EQ(w.Counts().Pending(), 0u);
  EXPECT_EQ(w.Counts().confirmed + w.Counts().shed, 10u);
  EXPECT_GT(w.Counts().shed, 0u);
  const uint64_t shed = w.Counts().shed;
  w.Read("1");
  w.world.RunUntilIdle();
  EXPECT_EQ(w.Counts().shed + w.Counts().candidate_misses, shed + 1);
  EXPECT_EQ(w.Counts().Pending(), 0u);
}

TEST(VerifierTest, AReadIsCountedAsConfirmedOnceItsDivergenceIsRecorded) {
  for (const bool cache : {false, true}) {
    ReadWorld w;
    w.on_recorded = [&w] { EXPECT_EQ(w.Counts().confirmed, 0u); };
    w.Write("1");
    w.RouteCache();
    w.Read("1");
    cache ? w.RouteCache(1'000'000) : w.RouteShadow();
    w.Write("1");
    for (int i = 0; i < 3; ++i) w.Read("1");
    while (w.world.executor()->RunOne()) {
      ASSERT_TRUE(w.Counts().confirmed == 0 || !w.divergences.empty()) << "counted, and nothing to show for it";
    }
    ASSERT_EQ(w.divergences.size(), 1u);
    EXPECT_EQ(w.Counts().confirmed, w.divergences[0].reads_affected);
    EXPECT_EQ(w.Counts().Pending(), 0u);
  }
}

TEST(VerifierTest, WhoDiesBeforeADivergenceIsRecordedHasItsReadsPendingToTheEnd) {
  ReadWorld w;
  w.Write("1");
  w.RouteCache(1'000'000);
  w.Read("1");
  w.Write("1");
  w.Read("1");
  RunUntilOneEnds(&w, 1);
  ASSERT_TRUE(w.divergences.empty()) << "its tags are still being asked about";
  EXPECT_EQ(w.Counts().confirmed, 0u);
  EXPECT_EQ(w.Counts().Pending(), 1u);
}

// ---- A hard world: many keys, writers that never stop, faults ----

struct Storm {
  uint64_t seed = 1;
  bool cache = false;                            // Mode CACHE instead of SHADOW.
  absl::Duration lag = absl::Milliseconds(300);  // Writers invalidate within this of their commit.
  absl::Duration judged_by = kDelta;             // The bound that the verifier goes by.
  uint32_t forgetful_ppm = 0;                    // Share of writes that nobody invalidates.
  bool faults = false;                           // Of the database and of Redis replies.
  bool stale_fills = false;                      // A cache without fences.
  bool made_up = false;                          // The statement makes up a field.
};

struct Outcome {
  diff::Counts counts;
  std::vector<diff::Divergence> divergences;
  uint64_t answered = 0;
  uint64_t wrong = 0;  // By the history: not held by the database within kDelta before the reply.
};

Outcome Weather(const Storm& storm) {
  SCOPED_TRACE(absl::StrCat("seed ", storm.seed));
  ReadWorld w({.seed = storm.seed, .freshness = storm.judged_by, .verifier = {.queries_per_second = 2000}});
  base::Random random(storm.seed * 7919);
  w.control.options().slow_share = storm.stale_fills ? 0.5 : 0.02;
  w.control.options().slow_latency = absl::Milliseconds(400);
  w.verification_control.options().slow_share = 0.02;
  w.redis.faults.fences_are_ignored = storm.stale_fills;
  if (storm.faults) {
    w.control.options().error_share = 0.02;
    w.verification_control.options().error_share = 0.1;
    w.redis.faults.lose_reply_ppm = 5'000;
  }
  if (storm.made_up) w.MakeNoise(MadeUpRank(storm.seed));
  storm.cache ? w.RouteCache(500'000) : w.RouteShadow();

  constexpr int kKeys = 12;
  constexpr absl::Duration kSpan = absl::Seconds(30);
  sim::SimExecutor* const executor = w.world.executor();
  const auto write = [&w, &random, &storm, executor](const std::string& id) {
    w.Write(id);
    if (random.Below(1'000'000) < storm.forgetful_ppm) return;
    executor->PostAfter(storm.lag * random.Unit(), [&w, id] { w.Invalidate(id); });
  };
  for (int i = 0; i < kKeys; ++i) w.Write(absl::StrCat(i));
  // Key 0 is written every second, come what may; the others at random.
  for (absl::Duration at; at < kSpan; at += absl::Seconds(1)) executor->PostAfter(at, [&write] { write("0"); });
  for (int i = 0; i < 200; ++i) {
    executor->PostAfter(kSpan * random.Unit(), [&write, id = absl::StrCat(1 + random.Below(kKeys - 1))] { write(id); });
  }
  std::vector<std::shared_ptr<ReadWorld::Answer>> answers;
  for (int i = 0; i < 3000; ++i) {
    executor->PostAfter(kSpan * random.Unit(), [&w, &answers, id = absl::StrCat(random.Below(kKeys))] {
      answers.push_back(w.Start(ReadWorld::Request(id)));
    });
  }

  uint64_t settled = 0;
  while (executor->RunOne()) {
    const diff::Counts counts = w.Counts();
    EXPECT_LE(counts.Settled(), counts.sampled);
    EXPECT_GE(counts.Settled(), settled);
    settled = counts.Settled();
    if (::testing::Test::HasFailure()) break;
  }

  Outcome outcome;
  outcome.counts = w.Counts();
  outcome.divergences = std::move(w.divergences);
  uint64_t drawn = 0;
  for (const auto& answer : answers) {
    EXPECT_TRUE(answer->status.has_value());
    if (!answer->status->ok()) continue;
    ++outcome.answered;
    if (storm.made_up) {
      std::string* body = answer->response.mutable_body();
      if (const size_t at = body->find(",\"rank\""); at != std::string::npos) body->replace(at, std::string::npos, "}");
    }
    outcome.wrong += !w.WasRight(*answer, kDelta);
    drawn += !storm.cache;
  }
  EXPECT_EQ(outcome.counts.Pending(), 0u) << "every sampled read has one verdict";
  const uint64_t accounted = outcome.counts.sampled + outcome.counts.candidate_misses + outcome.counts.candidate_errors;
  if (!storm.cache && !storm.faults) {
    EXPECT_EQ(accounted, drawn);
  } else {
    EXPECT_GE(accounted, drawn);
  }
  double verdicts = 0;
  for (const char* verdict : {"matched", "excused", "healed", "confirmed", "inconclusive", "errored", "shed"}) {
    verdicts += w.Metric(absl::StrCat("shadowline_verdicts_total{verdict=\"", verdict, "\"}"));
  }
  EXPECT_EQ(verdicts, static_cast<double>(outcome.counts.sampled)) << "metrics and ledger agree";
  return outcome;
}

constexpr uint64_t kSeeds = 20;

TEST(VerifierSimTest, ACorrectCacheIsNeverAccused) {
  for (const bool cache : {false, true}) {
    for (const bool faults : {false, true}) {
      diff::Counts sum;
      for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
        const Outcome outcome = Weather({.seed = seed, .cache = cache, .faults = faults});
        EXPECT_EQ(outcome.counts.confirmed, 0u) << "seed " << seed;
        EXPECT_EQ(outcome.wrong, 0u) << "seed " << seed;
        EXPECT_GT(Judged(outcome.counts), 500u) << "seed " << seed;
        sum.matched += outcome.counts.matched;
        sum.healed += outcome.counts.healed;
        if (::testing::Test::HasFailure()) return;
      }
      // The world is hard enough to tempt it.
      EXPECT_GT(sum.healed, 100u);
      EXPECT_GT(sum.matched, 10'000u);
    }
  }
}

TEST(VerifierSimTest, ACacheOfAnswersThatAreMadeUpInPartIsAccusedOfWhatIsStaleAlone) {
  for (const bool cache : {false, true}) {
    for (const uint32_t forgetful_ppm : {0u, 100'000u}) {
      uint64_t noise = 0;
      uint64_t confirmed = 0;
      for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
        const Outcome outcome =
            Weather({.seed = seed, .cache = cache, .forgetful_ppm = forgetful_ppm, .made_up = true});
        noise += outcome.counts.inconclusive;
        confirmed += outcome.divergences.size();
        if (forgetful_ppm == 0) {
          EXPECT_EQ(outcome.counts.confirmed, 0u) << "seed " << seed;
          EXPECT_EQ(outcome.wrong, 0u) << "seed " << seed;
        }
        for (const diff::Divergence& divergence : outcome.divergences) {
          EXPECT_THAT(divergence.patterns, ElementsAre("/price: value")) << "seed " << seed;
        }
        if (::testing::Test::HasFailure()) return;
      }
      EXPECT_GT(noise, 100u);
      EXPECT_GE(confirmed, forgetful_ppm > 0 ? kSeeds : 0);
    }
  }
}

TEST(VerifierSimTest, AVerifierThatDoesNotWaitOutTheBoundAccusesTheSameCache) {
  uint64_t confirmed = 0;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    confirmed += Weather({.seed = seed, .cache = true, .judged_by = absl::Milliseconds(10)}).counts.confirmed;
  }
  EXPECT_GT(confirmed, 0u);
}

TEST(VerifierSimTest, ForgottenInvalidationsAreConfirmedForWhatTheyAre) {
  uint64_t missed = 0;
  uint64_t all = 0;
  for (const bool cache : {false, true}) {
    for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
      const Outcome outcome = Weather({.seed = seed, .cache = cache, .forgetful_ppm = 100'000});
      ASSERT_FALSE(outcome.divergences.empty()) << "seed " << seed;
      for (const diff::Divergence& divergence : outcome.divergences) {
        // Another write's invalidation may come just as it is confirmed.
        EXPECT_THAT(divergence.cause, AnyOf("missed_invalidation", "unknown"))
            << "seed " << seed << ": " << divergence.cause_evidence;
        missed += divergence.cause == "missed_invalidation";
        ++all;
      }
      EXPECT_EQ(outcome.wrong > 0, cache) << "seed " << seed;
      if (::testing::Test::HasFailure()) return;
    }
  }
  EXPECT_GT(missed * 10, all * 8);
}

TEST(VerifierSimTest, StaleFillsOfACacheWithoutFencesAreConfirmed) {
  uint64_t races = 0;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    for (const diff::Divergence& divergence : Weather({.seed = seed, .cache = true, .stale_fills = true}).divergences) {
      races += divergence.cause == "fill_race";
    }
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GT(races, 5u);
}

}  // namespace
}  // namespace shadowline::server
