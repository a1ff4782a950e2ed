// What every evidence store promises, on the one in memory and on PostgreSQL, so that what is tested on the first is
// true of the second.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <memory>

#include "absl/strings/str_cat.h"
#include "diff/evidence/evidence.h"
#include "diff/evidence/evidence_reader.h"
#include "diff/evidence/postgres/evidence.h"
#include "server/postgres/migrate.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_evidence.h"
#include "tests/support/private_servers.h"

namespace shadowline::diff {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr absl::Duration kLapse = absl::Seconds(10);

support::PrivatePostgres* Postgres() {
  static support::PrivatePostgres postgres;
  return &postgres;
}

// A store's world, as far as the suite needs it.
class World {
 public:
  virtual ~World() = default;
  // Replicas are numbered; asking again gives the same one.
  virtual EvidenceStore* Replica(int number) = 0;
  virtual EvidenceReader* reader() = 0;
  virtual void Stop(int number) = 0;
  // Makes the replica's heartbeat older than kLapse.
  virtual void Silence(int number) = 0;
  virtual uint64_t SweepLost() = 0;
  virtual uint64_t EpisodesStored() = 0;
  // By another replica.
  virtual absl::Status ApplyLast(int number, const Flush& flush) = 0;
  // How long ago the watermark that is kept was, by the store's clock.
  virtual absl::Duration WatermarkAge(int number) = 0;
  virtual absl::Duration Steady() = 0;
};

class MemoryWorld final : public World {
 public:
  EvidenceStore* Replica(int number) override {
    auto& store = stores_[number];
    if (store == nullptr) store = evidence_.StoreOf(absl::StrCat(number));
    return store.get();
  }
  EvidenceReader* reader() override { return &evidence_; }
  void Stop(int number) override { evidence_.Stop(absl::StrCat(number)); }
  void Silence(int) override { clock_.Advance(2 * kLapse); }
  uint64_t SweepLost() override { return evidence_.SweepLost(kLapse); }
  uint64_t EpisodesStored() override { return evidence_.episodes().size(); }
  absl::Status ApplyLast(int number, const Flush& flush) override {
    return Replica(0)->ApplyLast(absl::StrCat(number), "", flush);
  }
  absl::Duration WatermarkAge(int number) override {
    return clock_.Now() - evidence_.replicas().at(absl::StrCat(number)).watermark;
  }
  absl::Duration Steady() override { return clock_.Steady(); }

 private:
  sim::SimClock clock_;
  sim::SimEvidence evidence_{&clock_};
  std::map<int, std::unique_ptr<EvidenceStore>> stores_;
};

class PostgresWorld final : public World {
 public:
  PostgresWorld() { EXPECT_TRUE(server::Migrate(&sessions_).ok()); }

  PostgresEvidence* Replica(int number) override {
    auto& store = stores_[number];
    if (store == nullptr)
      store = std::make_unique<PostgresEvidence>(&sessions_, Uuid(number), absl::StrCat("r-", number), kLapse);
    return store.get();
  }
  EvidenceReader* reader() override { return Replica(0); }
  void Stop(int number) override { EXPECT_TRUE(Replica(number)->Stop().ok()); }
  void Silence(int number) override {
    Query(
        absl::StrCat("UPDATE shadowline.replica SET heartbeat_at = heartbeat_at - interval '1 hour' WHERE replica = '",
                     Uuid(number), "' RETURNING 1"));
  }
  uint64_t SweepLost() override { return Replica(0)->SweepLost(kLapse).value(); }
  uint64_t EpisodesStored() override { return Query("SELECT count(*) FROM shadowline.episode"); }
  absl::Status ApplyLast(int number, const Flush& flush) override {
    return Replica(0)->ApplyLast(Uuid(number), "dead", flush);
  }
  absl::Duration WatermarkAge(int number) override {
    return absl::Microseconds(
        Query(absl::StrCat("SELECT (extract(epoch FROM clock_timestamp() - watermark) * 1000000)::bigint "
                           "FROM shadowline.replica WHERE replica = '",
                           Uuid(number), "'")));
  }
  absl::Duration Steady() override { return base::SystemClock().Steady(); }

  base::PostgresSessions* sessions() { return &sessions_; }

 private:
  static std::string Uuid(int number) {
    return absl::StrCat("00000000-0000-4000-8000-", absl::Dec(number, absl::kZeroPad12));
  }
  int64_t Query(const std::string& sql) {
    int64_t value = 0;
    EXPECT_TRUE(sessions_
                    .Transact([&](pqxx::work& work) {
                      value = work.exec1(sql)[0].as<int64_t>();
                      return absl::OkStatus();
                    })
                    .ok());
    return value;
  }

  base::PostgresSessions sessions_{Postgres()->ConnectionString(Postgres()->CreateDatabase()), 4};
  std::map<int, std::unique_ptr<PostgresEvidence>> stores_;
};

EvidenceKey Key(const std::string& tenant = "acme", int64_t minute = 29'000'000) {
  return {.tenant = tenant,
          .family = "pricing",
          .endpoint = "pricing/quote",
          .window = 2,
          .catalog_revision = 3,
          .minute = minute};
}

Counts Counted(uint64_t sampled, uint64_t matched) {
  Counts counts;
  counts.sampled = sampled;
  counts.matched = matched;
  counts.candidate_latency[0] = sampled;
  counts.candidate_latency.back() = 1;
  return counts;
}

Flush MakeFlush(uint64_t sequence, std::map<EvidenceKey, Counts> counts = {}) {
  Flush flush;
  flush.sequence = sequence;
  flush.counts = std::move(counts);
  flush.catalog_revision = 3;
  flush.flag_revision = 4;
  return flush;
}

// Reads that were drawn with different probabilities, some of them wrong.
Counts Sampled(int reads) {
  Counts counts;
  Inclusion suspicious{.ppm = 250'000};
  suspicious.strata.Add(Stratum::kUncertified).Add(Stratum::kCold);
  for (int i = 0; i < reads; ++i) counts.weighted.Add(i % 3 == 0 ? suspicious : Inclusion{.ppm = 3}, i % 5 == 0);
  counts.sampled = counts.matched = reads;
  return counts;
}

Divergence Found(const std::string& id, absl::Time at) {
  Divergence divergence;
  divergence.id = id;
  divergence.evidence = Key();
  divergence.fingerprint = "00000000000000ab";
  divergence.key = "sl:acme:pricing/quote:v1.0:0011";
  divergence.fill = "00ff";
  divergence.differences = {{"/a\"b\\c,{}/0", DifferenceKind::kValue, "\"string, 3 bytes, #00\"", "null"},
                            {"", DifferenceKind::kShape, "", "not\nJSON ü"}};
  divergence.differences_total = 70;
  divergence.patterns = {"/a: value", "/b/*: extra"};
  divergence.rule = "by_observation";
  divergence.freshness = absl::Milliseconds(1500);
  divergence.filled_at = at - absl::Seconds(9);
  divergence.served_at = at - absl::Seconds(3);
  divergence.observations = {{at - absl::Seconds(3), true, at - absl::Seconds(2), true, "10:20:11,12"},
                             {at, true, at + absl::Microseconds(7), false, ""}};
  divergence.tags = {{"account:7", absl::InfinitePast()}, {std::string("a\0b NULL", 8), at - absl::Seconds(20)}};
  divergence.cause = "missed_invalidation";
  divergence.cause_evidence = "No tag of this key (account:7) was invalidated.";
  divergence.reads_affected = 5;
  divergence.after_cutover = true;
  divergence.confirmed_at = at;
  divergence.unsafe = "another_identity";
  divergence.committed_at = at - absl::Seconds(5);
  divergence.transaction = 731;
  divergence.sealed = std::string("\0\xff not a text", 13);
  divergence.sealed_until = at + absl::Hours(7);
  return divergence;
}

const absl::Time kNow = absl::FromUnixMicros(1'760'000'000'123'456);

class EvidenceConformanceTest : public testing::TestWithParam<bool> {
 protected:
  EvidenceConformanceTest() {
    if (GetParam()) {
      world_ = std::make_unique<PostgresWorld>();
    } else {
      world_ = std::make_unique<MemoryWorld>();
    }
  }

  // Asserts the balance, as every test here has to.
  LedgerTotals Ledger() {
    const LedgerTotals totals = world_->reader()->FamilyLedger("pricing").value();
    EXPECT_EQ(totals.counts.sampled, totals.counts.Settled() + totals.lost + totals.pending);
    return totals;
  }
  void Apply(int replica, const Flush& flush) {
    const absl::Status status = world_->Replica(replica)->Apply(flush);
    ASSERT_TRUE(status.ok()) << status;
  }

  std::unique_ptr<World> world_;
};

TEST_P(EvidenceConformanceTest, CountsOfAllReplicasAndKeysAddUp) {
  Apply(1, MakeFlush(1, {{Key(), Counted(10, 7)}, {Key("globex"), Counted(1, 1)}}));
  Apply(2, MakeFlush(1, {{Key(), Counted(5, 5)}}));
  const LedgerTotals totals = Ledger();
  EXPECT_EQ(totals.counts.sampled, 16u);
  EXPECT_EQ(totals.counts.matched, 13u);
  EXPECT_EQ(totals.pending, 3u);
  EXPECT_EQ(totals.counts.candidate_latency[0], 16u);
  EXPECT_EQ(totals.counts.candidate_latency.back(), 3u);
  EXPECT_EQ(world_->reader()->FamilyLedger("permissions")->counts.sampled, 0u);
}

TEST_P(EvidenceConformanceTest, NoiseOfAllReplicasAddsUpUnderTheNewestCatalog) {
  const NoiseKey quote = {"pricing", "pricing/quote", 3};
  Flush flush = MakeFlush(1);
  flush.noise[quote] = {.pairs = 10, .differed = 2, .patterns = {{"/at: value", 2}, {"/rank: value", 1}}};
  flush.noise[{"pricing", "pricing/list", 2}] = {.pairs = 9, .differed = 9, .patterns = {{": order", 9}}};
  flush.noise[{"pricing", "pricing/list", 3}] = {.pairs = 1, .differed = 0, .patterns = {}};
  flush.noise[{"permissions", "permissions/roles", 3}] = {.pairs = 5, .differed = 0, .patterns = {}};
  Apply(1, flush);
  Flush other = MakeFlush(1);
  other.noise[quote] = {.pairs = 20, .differed = 1, .patterns = {{"/at: value", 1}}};
  Apply(2, other);
  // Absolute counts, whatever the order.
  Flush later = MakeFlush(3), earlier = MakeFlush(2);
  later.noise[quote] = {.pairs = 12, .differed = 3, .patterns = {{"/at: value", 3}, {"/rank: value", 1}}};
  earlier.noise[quote] = {.pairs = 11, .differed = 2, .patterns = {{"/at: value", 2}, {"/rank: value", 1}}};
  Apply(1, later);
  Apply(1, earlier);
  Apply(1, later);
  EXPECT_THAT(world_->reader()->FamilyNoise("pricing").value(),
              ElementsAre(Noise{"pricing/list", "", 1, 0}, Noise{"pricing/quote", "", 32, 4},
                          Noise{"pricing/quote", "/at: value", 32, 4}, Noise{"pricing/quote", "/rank: value", 32, 1}));
  EXPECT_THAT(world_->reader()->FamilyNoise("nobody").value(), IsEmpty());
}

TEST_P(EvidenceConformanceTest, AFlushCountsOnceHoweverOftenItComesAndInWhateverOrder) {
  const Flush first = MakeFlush(1, {{Key(), Counted(10, 7)}});
  const Flush second = MakeFlush(2, {{Key(), Counted(20, 20)}});
  Apply(1, first);
  Apply(1, second);
  Apply(1, second);
  Apply(1, first);
  const LedgerTotals totals = Ledger();
  EXPECT_EQ(totals.counts.sampled, 20u);
  EXPECT_EQ(totals.counts.matched, 20u);
}

// Longer than anything here takes.
constexpr absl::Duration kPatience = absl::Minutes(5);

TEST_P(EvidenceConformanceTest, AnEmptyFlushIsAHeartbeatWithAWatermarkByTheStoresClock) {
  Flush flush = MakeFlush(1);
  flush.watermark = world_->Steady() - absl::Hours(2);
  Apply(1, flush);
  EXPECT_GE(world_->WatermarkAge(1), absl::Hours(2));
  EXPECT_LE(world_->WatermarkAge(1), absl::Hours(2) + kPatience);
  Flush next = MakeFlush(2);
  next.watermark = world_->Steady() - absl::Hours(1);
  Apply(1, next);
  EXPECT_GE(world_->WatermarkAge(1), absl::Hours(1));
  EXPECT_LE(world_->WatermarkAge(1), absl::Hours(1) + kPatience);
  // A flush that comes late takes nothing back.
  Apply(1, flush);
  EXPECT_LE(world_->WatermarkAge(1), absl::Hours(1) + kPatience);
}

TEST_P(EvidenceConformanceTest, AFlushThatWaitedKeepsItsWatermark) {
  Flush flush = MakeFlush(1);
  flush.watermark = world_->Steady();
  const absl::Duration built = world_->Steady();
  Apply(7, MakeFlush(1));
  world_->Silence(7);  // Time passes where time is simulated.
  Apply(1, flush);
  EXPECT_GE(world_->WatermarkAge(1), world_->Steady() - built - kPatience);
}

TEST_P(EvidenceConformanceTest, TheLastFlushOfTheDeadCountsAndWhatTheyLeftOpenIsLostAtOnce) {
  Apply(1, MakeFlush(1, {{Key(), Counted(10, 7)}}));
  const Flush last = MakeFlush(5, {{Key(), Counted(20, 16)}});
  ASSERT_TRUE(world_->ApplyLast(1, last).ok());
  ASSERT_TRUE(world_->ApplyLast(1, last).ok());
  EXPECT_EQ(Ledger().counts.sampled, 20u);
  EXPECT_EQ(Ledger().pending, 4u);
  EXPECT_EQ(world_->SweepLost(), 4u);
  EXPECT_EQ(Ledger().lost, 4u);
  // Again, after the sweep: by someone who did not know that it was stored.
  ASSERT_TRUE(world_->ApplyLast(1, last).ok());
  EXPECT_EQ(world_->SweepLost(), 0u);
  EXPECT_EQ(Ledger().lost, 4u);
}

TEST_P(EvidenceConformanceTest, TheDeadMayNeverHaveReachedTheStoreAndMayHaveLeftNothing) {
  ASSERT_TRUE(world_->ApplyLast(3, MakeFlush(2, {{Key(), Counted(3, 1)}})).ok());
  EXPECT_EQ(world_->SweepLost(), 2u);
  Apply(4, MakeFlush(1, {{Key(), Counted(5, 0)}}));
  ASSERT_TRUE(world_->ApplyLast(4, Flush()).ok());
  EXPECT_EQ(world_->SweepLost(), 5u);
  const LedgerTotals totals = Ledger();
  EXPECT_EQ(totals.counts.sampled, 8u);
  EXPECT_EQ(totals.lost, 7u);
}

TEST_P(EvidenceConformanceTest, AnEpisodeCountsOnceWhicheverReplicasSawIt) {
  Flush flush = MakeFlush(1);
  flush.episodes[Key()] = {{.id = ~0ull, .key = 1, .exercised = true}, {.id = 2, .key = 1}};
  Apply(1, flush);
  Apply(1, flush);
  flush.episodes[Key()].push_back({.id = 3, .key = 1});
  Apply(2, flush);
  EXPECT_EQ(world_->EpisodesStored(), 3u);
}

TEST_P(EvidenceConformanceTest, WhatASilentReplicaLeftOpenIsLostOnce) {
  Apply(1, MakeFlush(1, {{Key(), Counted(10, 7)}, {Key("globex"), Counted(4, 4)}}));
  Apply(2, MakeFlush(1, {{Key(), Counted(6, 1)}}));
  EXPECT_EQ(world_->SweepLost(), 0u);
  world_->Silence(1);
  Apply(2, MakeFlush(2));
  EXPECT_EQ(world_->SweepLost(), 3u);
  EXPECT_EQ(world_->SweepLost(), 0u);
  const LedgerTotals totals = Ledger();
  EXPECT_EQ(totals.lost, 3u);
  EXPECT_EQ(totals.pending, 5u);
}

TEST_P(EvidenceConformanceTest, AStoppedReplicaIsSweptWithoutWaiting) {
  Apply(1, MakeFlush(1, {{Key(), Counted(10, 9)}}));
  world_->Stop(1);
  EXPECT_EQ(world_->SweepLost(), 1u);
  EXPECT_EQ(Ledger().lost, 1u);
}

TEST_P(EvidenceConformanceTest, AReplicaThatWasOnlyAsleepTakesItsReadsBack) {
  Apply(1, MakeFlush(1, {{Key(), Counted(10, 7)}}));
  world_->Silence(1);
  EXPECT_EQ(world_->SweepLost(), 3u);
  Apply(1, MakeFlush(2));
  EXPECT_EQ(Ledger().lost, 3u);
  Apply(1, MakeFlush(3, {{Key(), Counted(12, 10)}}));
  EXPECT_EQ(Ledger().lost, 0u);
  EXPECT_EQ(Ledger().pending, 2u);
  world_->Silence(1);
  EXPECT_EQ(world_->SweepLost(), 2u);
}

TEST_P(EvidenceConformanceTest, ADivergenceIsReadAsItWasWritten) {
  const Divergence written = Found("0123456789abcdef0123456789abcdef", kNow);
  ASSERT_TRUE(world_->Replica(1)->Record(written).ok());
  const absl::StatusOr<Divergence> read = world_->reader()->Find(written.id);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->evidence, written.evidence);
  EXPECT_EQ(read->fingerprint, written.fingerprint);
  EXPECT_EQ(read->key, written.key);
  EXPECT_EQ(read->fill, written.fill);
  ASSERT_THAT(read->differences, SizeIs(2));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(read->differences[i].pointer, written.differences[i].pointer);
    EXPECT_EQ(read->differences[i].kind, written.differences[i].kind);
    EXPECT_EQ(read->differences[i].control, written.differences[i].control);
    EXPECT_EQ(read->differences[i].candidate, written.differences[i].candidate);
    EXPECT_EQ(read->observations[i].candidate_at, written.observations[i].candidate_at);
    EXPECT_EQ(read->observations[i].same_fill, written.observations[i].same_fill);
    EXPECT_EQ(read->observations[i].control_at, written.observations[i].control_at);
    EXPECT_EQ(read->observations[i].differed, written.observations[i].differed);
    EXPECT_EQ(read->observations[i].snapshot, written.observations[i].snapshot);
  }
  EXPECT_EQ(read->differences_total, 70u);
  EXPECT_EQ(read->patterns, written.patterns);
  EXPECT_EQ(read->rule, written.rule);
  EXPECT_EQ(read->freshness, written.freshness);
  EXPECT_EQ(read->filled_at, written.filled_at);
  EXPECT_EQ(read->served_at, written.served_at);
  ASSERT_THAT(read->tags, SizeIs(2));
  EXPECT_EQ(read->tags[0], written.tags[0]);
  EXPECT_EQ(read->tags[1].second, written.tags[1].second);
  EXPECT_EQ(read->cause, written.cause);
  EXPECT_EQ(read->cause_evidence, written.cause_evidence);
  EXPECT_EQ(read->reads_affected, 5u);
  EXPECT_TRUE(read->after_cutover);
  EXPECT_EQ(read->confirmed_at, written.confirmed_at);
  EXPECT_EQ(read->unsafe, written.unsafe);
  EXPECT_EQ(read->committed_at, written.committed_at);
  EXPECT_EQ(read->transaction, written.transaction);
  EXPECT_EQ(read->sealed, written.sealed);
  EXPECT_EQ(read->sealed_until, written.sealed_until);
  EXPECT_EQ(world_->reader()->Find("ffff").status().code(), absl::StatusCode::kNotFound);
}

TEST_P(EvidenceConformanceTest, TheSameDivergenceAgainOnlyRaisesTheReadsItAffected) {
  Divergence divergence = Found("d", kNow);
  ASSERT_TRUE(world_->Replica(1)->Record(divergence).ok());
  divergence.reads_affected = 9;
  divergence.cause = "unknown";
  ASSERT_TRUE(world_->Replica(1)->Record(divergence).ok());
  divergence.reads_affected = 3;
  ASSERT_TRUE(world_->Replica(2)->Record(divergence).ok());
  const Divergence read = world_->reader()->Find("d").value();
  EXPECT_EQ(read.reads_affected, 9u);
  EXPECT_EQ(read.cause, "missed_invalidation");
}

TEST_P(EvidenceConformanceTest, DivergencesAreFilteredAndGroupedNewestFirst) {
  Divergence one = Found("1", kNow);
  Divergence two = Found("2", kNow + absl::Seconds(1));
  two.evidence.tenant = "globex";
  two.cause = "fill_race";
  two.key = "sl:globex:pricing/quote:v1.0:0022";
  two.unsafe = "another_tenant";
  Divergence three = Found("3", kNow + absl::Seconds(2));
  three.fingerprint = "00000000000000cd";
  three.patterns = {"/c: type"};
  Divergence four = Found("4", kNow + absl::Seconds(3));
  four.evidence.family = "permissions";
  four.patterns = {};
  for (const Divergence& divergence : {one, two, three, four}) ASSERT_TRUE(world_->Replica(1)->Record(divergence).ok());

  const auto ids = [&](const std::string& family, const std::string& tenant, const std::string& fingerprint,
                       uint32_t limit) {
    std::vector<std::string> found;
    const auto divergences = world_->reader()->Divergences(family, tenant, fingerprint, limit);
    for (const Divergence& divergence : *divergences) found.push_back(divergence.id);
    return found;
  };
  EXPECT_THAT(ids("", "", "", 10), ElementsAre("4", "3", "2", "1"));
  EXPECT_THAT(ids("pricing", "", "", 2), ElementsAre("3", "2"));
  EXPECT_THAT(ids("pricing", "acme", "00000000000000ab", 10), ElementsAre("1"));
  EXPECT_THAT(ids("none", "", "", 10), IsEmpty());

  const std::vector<DivergenceGroup> groups = world_->reader()->Groups("pricing", "", 10).value();
  ASSERT_THAT(groups, SizeIs(2));
  EXPECT_EQ(groups[0].fingerprint, "00000000000000cd");
  EXPECT_THAT(groups[0].patterns, ElementsAre("/c: type"));
  EXPECT_EQ(groups[1].divergences, 2u);
  EXPECT_EQ(groups[1].tenants, 2u);
  EXPECT_EQ(groups[1].keys, 2u);
  EXPECT_EQ(groups[1].reads_affected, 10u);
  EXPECT_EQ(groups[1].cause, "fill_race");
  EXPECT_EQ(groups[1].example_id, "2");
  EXPECT_EQ(groups[1].first_at, one.confirmed_at);
  EXPECT_EQ(groups[1].last_at, two.confirmed_at);
  EXPECT_EQ(groups[1].cause_evidence, two.cause_evidence);
  EXPECT_EQ(groups[1].unsafe, "another_tenant");
  EXPECT_THAT(groups[1].example_keys, SizeIs(2));
  EXPECT_THAT(world_->reader()->Groups("", "", 10).value(), SizeIs(3));
  EXPECT_THAT(world_->reader()->Groups("", "", 1).value(), SizeIs(1));
  EXPECT_THAT(world_->reader()->Groups("pricing", "00000000000000cd", 10).value(), SizeIs(1));
}

TEST_P(EvidenceConformanceTest, WeightsAddUpExactlyAndTheLastOfAReplicaCount) {
  Apply(1, MakeFlush(1, {{Key(), Sampled(10)}}));
  Apply(1, MakeFlush(2, {{Key(), Sampled(30)}}));
  Apply(2, MakeFlush(1, {{Key(), Sampled(7)}, {Key("globex"), Counted(1, 1)}}));
  const auto one = Sampled(30).weighted.Figures();
  const auto other = Sampled(7).weighted.Figures();
  std::array<uint64_t, Weighted::kFigures> sum;
  for (size_t i = 0; i < sum.size(); ++i) sum[i] = one[i] + other[i];
  const Weighted stored = world_->reader()->FamilyLedger("pricing")->counts.weighted;
  EXPECT_EQ(stored, Weighted::Of(sum));
  EXPECT_EQ(stored.judged_of[static_cast<size_t>(Stratum::kCold)], 13u);
  EXPECT_EQ(stored.wrong_of[static_cast<size_t>(Stratum::kUncertified)], 3u);
}

INSTANTIATE_TEST_SUITE_P(Stores, EvidenceConformanceTest, testing::Bool(),
                         [](const auto& chosen) { return chosen.param ? "Postgres" : "Memory"; });

// --- What only PostgreSQL can show.

TEST(PostgresEvidenceTest, ADivergenceWaitsForAFlipOfItsTarget) {
  PostgresWorld world;
  ASSERT_TRUE(world.sessions()
                  ->Transact([](pqxx::work& work) {
                    work.exec("INSERT INTO shadowline.target (family, tenant) VALUES ('pricing', 'acme')");
                    return absl::OkStatus();
                  })
                  .ok());
  std::thread recorder;
  absl::Status recorded = absl::UnknownError("not yet");
  ASSERT_TRUE(
      world.sessions()
          ->Transact([&](pqxx::work& flip) {
            flip.exec("SELECT 1 FROM shadowline.target FOR UPDATE");
            recorder = base::StartThread("recorder", [&] { recorded = world.Replica(1)->Record(Found("1", kNow)); });
            // The recorder is at the lock once the database says that it waits.
            while (flip.exec1("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = "
                              "current_database()")[0]
                       .as<int>() == 0) {
              flip.exec("SELECT pg_stat_clear_snapshot()");
            }
            EXPECT_EQ(flip.exec1("SELECT count(*) FROM shadowline.divergence")[0].as<int>(), 0);
            return absl::OkStatus();
          })
          .ok());
  recorder.join();
  EXPECT_TRUE(recorded.ok()) << recorded;
}

TEST(PostgresEvidenceTest, AReplicaKnowsHowManyLiveAsOfItsLastFlush) {
  PostgresWorld world;
  EXPECT_EQ(world.Replica(1)->live(), 0u) << "it has not asked yet";
  ASSERT_TRUE(world.Replica(1)->Apply(MakeFlush(1)).ok());
  EXPECT_EQ(world.Replica(1)->live(), 1u);
  ASSERT_TRUE(world.Replica(2)->Apply(MakeFlush(1)).ok());
  ASSERT_TRUE(world.Replica(3)->Apply(MakeFlush(1)).ok());
  EXPECT_EQ(world.Replica(3)->live(), 3u);
  EXPECT_EQ(world.Replica(1)->live(), 1u);
  world.Stop(2);
  world.Silence(3);
  ASSERT_TRUE(world.Replica(1)->Apply(MakeFlush(2)).ok());
  EXPECT_EQ(world.Replica(1)->live(), 1u) << "neither who stopped nor who is silent";
}

TEST(PostgresEvidenceTest, AStoreThatIsAwayIsUnavailable) {
  base::PostgresSessions nowhere("host=/nonexistent dbname=postgres connect_timeout=1", 1);
  PostgresEvidence evidence(&nowhere, "00000000-0000-4000-8000-000000000001", "r", kLapse);
  EXPECT_EQ(evidence.Apply(MakeFlush(1)).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(evidence.live(), 0u);
  EXPECT_EQ(evidence.Record(Found("1", kNow)).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(evidence.FamilyLedger("pricing").status().code(), absl::StatusCode::kUnavailable);
}

TEST(PostgresEvidenceTest, AFlushOfManyKeysIsOneTransaction) {
  PostgresWorld world;
  Flush flush = MakeFlush(1);
  for (int i = 0; i < 5'000; ++i) flush.counts[Key(absl::StrCat("t", i))] = Counted(2, 1);
  for (uint64_t i = 0; i < 20'000; ++i) flush.episodes[Key()].push_back({.id = i * 7919, .key = i});
  ASSERT_TRUE(world.Replica(1)->Apply(flush).ok());
  EXPECT_EQ(world.reader()->FamilyLedger("pricing")->counts.sampled, 10'000u);
  EXPECT_EQ(world.EpisodesStored(), 20'000u);
}

class RetirementTest : public testing::Test {
 protected:
  void Sql(const std::string& sql) {
    const absl::Status done = world_.sessions()->Transact([&](pqxx::work& work) {
      work.exec(sql);
      return absl::OkStatus();
    });
    ASSERT_TRUE(done.ok()) << done;
  }
  int64_t Count(const std::string& table) {
    int64_t count = 0;
    EXPECT_TRUE(world_.sessions()
                    ->Transact([&](pqxx::work& work) {
                      count = work.exec1("SELECT count(*) FROM shadowline." + table)[0].as<int64_t>();
                      return absl::OkStatus();
                    })
                    .ok());
    return count;
  }

  PostgresWorld world_;
};

TEST_F(RetirementTest, SealsAreRemovedOnceTheyHaveExpiredAndNothingElseIs) {
  Divergence over = Found("over", kNow);
  over.sealed = "sealed";
  over.sealed_until = absl::FromUnixSeconds(1'000'000'000);
  Divergence kept = Found("kept", kNow);
  kept.sealed = std::string("\0sealed", 7);
  kept.sealed_until = absl::FromUnixSeconds(32'000'000'000);
  ASSERT_TRUE(world_.Replica(1)->Record(over).ok());
  ASSERT_TRUE(world_.Replica(1)->Record(kept).ok());
  EXPECT_EQ(world_.Replica(1)->ExpireSeals().value(), 1u);
  EXPECT_EQ(world_.Replica(1)->ExpireSeals().value(), 0u);
  const Divergence read = world_.reader()->Find("over").value();
  EXPECT_EQ(read.sealed, "");
  EXPECT_EQ(read.sealed_until, over.sealed_until) << "so that it can be said why it is gone";
  EXPECT_EQ(world_.reader()->Find("kept")->sealed, kept.sealed);
}

TEST_F(RetirementTest, WhatIsOldAndOfNoPresentWindowGoes) {
  // Minute and confirmation of these are years ago.
  Flush flush = MakeFlush(1, {{Key("acme"), Counted(5, 5)}, {Key("globex"), Counted(7, 7)}});
  flush.episodes[Key("acme")] = {{.id = 1, .key = 1}};
  flush.episodes[Key("globex")] = {{.id = 2, .key = 2}};
  ASSERT_TRUE(world_.Replica(1)->Apply(flush).ok());
  Divergence of_acme = Found("a", absl::FromUnixSeconds(1'700'000'000));
  Divergence of_globex = of_acme;
  of_globex.id = "g";
  of_globex.evidence.tenant = "globex";
  ASSERT_TRUE(world_.Replica(1)->Record(of_acme).ok());
  ASSERT_TRUE(world_.Replica(1)->Record(of_globex).ok());
  // Globex is still judged by it.
  Sql("INSERT INTO shadowline.target (family, tenant, window_no) VALUES ('pricing', 'acme', 9), ('pricing', 'globex', "
      "2)");

  EXPECT_EQ(world_.Replica(1)->Retire(absl::Hours(24 * 36'500)).value(), 0u) << "not old enough";
  world_.Silence(1);
  world_.SweepLost();
  EXPECT_EQ(world_.Replica(1)->Retire(absl::Hours(24)).value(), 3u);
  EXPECT_EQ(world_.reader()->FamilyLedger("pricing")->counts.sampled, 7u);
  EXPECT_EQ(Count("episode"), 1);
  EXPECT_EQ(world_.reader()->Find("a").status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(world_.reader()->Find("g").ok());
  EXPECT_EQ(Count("replica"), 1) << "it has counts";
  Sql("DELETE FROM shadowline.evidence; UPDATE shadowline.replica SET heartbeat_at = now() - interval '1 year'");
  EXPECT_EQ(world_.Replica(1)->Retire(absl::Hours(24)).value(), 1u);
  EXPECT_EQ(Count("replica"), 0);
}

TEST_F(RetirementTest, NoiseGoesWithItsReplicaAndOnceThereIsNewer) {
  Flush flush = MakeFlush(1, {});
  flush.noise[{"pricing", "pricing/quote", 2}] = {.pairs = 10, .differed = 2, .patterns = {{"/at: value", 2}}};
  flush.noise[{"pricing", "pricing/list", 2}] = {.pairs = 10, .differed = 0, .patterns = {}};
  ASSERT_TRUE(world_.Replica(1)->Apply(flush).ok());
  EXPECT_EQ(world_.Replica(1)->Retire(absl::Hours(24)).value(), 0u);
  flush.sequence = 2;
  flush.noise = {{{"pricing", "pricing/quote", 3}, {.pairs = 1, .differed = 0, .patterns = {}}}};
  ASSERT_TRUE(world_.Replica(1)->Apply(flush).ok());
  EXPECT_EQ(world_.Replica(1)->Retire(absl::Hours(24)).value(), 2u) << "of revision 2, where there is a later one";
  Sql("DELETE FROM shadowline.replica");
  EXPECT_EQ(world_.Replica(1)->Retire(absl::Hours(24)).value(), 2u);
  EXPECT_EQ(Count("noise"), 0);
}

}  // namespace
}  // namespace shadowline::diff
