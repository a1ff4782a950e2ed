// What was confirmed and counted outlives kill -9 while the store is away: the file, and the flusher that uses it.
#include "diff/evidence/spool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "diff/evidence/file/file_spool.h"
#include "diff/evidence/flusher.h"
#include "diff/evidence/ledger.h"
#include "diff/evidence/record.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_evidence.h"
#include "tests/support/private_servers.h"

namespace shadowline::diff {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

EvidenceKey Key(const std::string& tenant, int64_t minute = 0) {
  return {.tenant = tenant,
          .family = "pricing",
          .endpoint = "pricing/quote",
          .window = 1,
          .catalog_revision = 3,
          .minute = minute};
}

// Every field has a value that is not its default.
Divergence Found(const std::string& id) {
  const absl::Time at = absl::FromUnixMicros(1'760'000'000'123'456);
  Divergence divergence;
  divergence.id = id;
  divergence.evidence = Key("acme", 29'000'000);
  divergence.fingerprint = "00000000000000ab";
  divergence.key = std::string("sl:acme\0:q", 10);
  divergence.fill = "00ff";
  divergence.differences = {{"/a", DifferenceKind::kType, "\"number, #1\"", "null"},
                            {"", DifferenceKind::kShape, "", ""}};
  divergence.differences_total = 70;
  divergence.patterns = {"/a: type"};
  divergence.rule = "by_commit";
  divergence.freshness = absl::Milliseconds(1500);
  divergence.filled_at = at - absl::Seconds(9);
  divergence.served_at = at - absl::Seconds(3);
  divergence.observations = {{at, true, at + absl::Seconds(1), true, "10:20:11"}, {at, false, at, false, ""}};
  divergence.tags = {{"account:7", absl::InfinitePast()}, {"all", at}};
  divergence.cause = "missed_invalidation";
  divergence.cause_evidence = "None.";
  divergence.reads_affected = 5;
  divergence.after_cutover = true;
  divergence.confirmed_at = at;
  divergence.unsafe = "another_tenant";
  divergence.committed_at = at - absl::Seconds(4);
  divergence.transaction = 77;
  divergence.sealed = std::string("\x01\0\xff", 3);
  divergence.sealed_until = at + absl::Hours(1);
  return divergence;
}

Flush Counted(uint64_t sequence) {
  Flush flush;
  flush.sequence = sequence;
  flush.watermark = absl::Seconds(9);
  Counts counts;
  uint64_t value = 1;
  for (uint64_t Counts::*counter :
       {&Counts::sampled, &Counts::matched, &Counts::excused, &Counts::healed, &Counts::confirmed,
        &Counts::inconclusive, &Counts::errored, &Counts::shed, &Counts::candidate_misses, &Counts::candidate_errors}) {
    counts.*counter = value++;
  }
  for (uint64_t& bucket : counts.candidate_latency) bucket = value++;
  std::array<uint64_t, Weighted::kFigures> figures;
  for (uint64_t& figure : figures) figure = value++;
  counts.weighted = Weighted::Of(figures);
  flush.counts[Key("acme", 7)] = counts;
  flush.counts[Key("globex", 8)].sampled = sequence;
  flush.episodes[Key("acme")] = {{.id = ~0ull, .key = 1, .exercised = true}, {.id = 2}};
  flush.catalog_revision = 3;
  flush.flag_revision = 4;
  return flush;
}

// --- Records.

TEST(RecordTest, EveryFieldOfADivergenceIsReadBack) {
  const std::string record = EncodeDivergence(Found("d"));
  const absl::StatusOr<Divergence> read = DecodeDivergence(record);
  ASSERT_TRUE(read.ok()) << read.status();
  // Encoded again it is the same, so nothing was lost; and each field was something.
  EXPECT_EQ(EncodeDivergence(*read), record);
  EXPECT_EQ(read->key, Found("d").key);
  EXPECT_EQ(read->observations[0].snapshot, "10:20:11");
  EXPECT_EQ(read->tags[0].second, absl::InfinitePast());
  EXPECT_EQ(read->unsafe, "another_tenant");
  EXPECT_EQ(read->sealed, Found("d").sealed);
  EXPECT_EQ(read->sealed_until, Found("d").sealed_until);
}

TEST(RecordTest, EveryFieldOfAFlushIsReadBack) {
  const std::string record = EncodeFlush(Counted(5));
  const absl::StatusOr<Flush> read = DecodeFlush(record);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(EncodeFlush(*read), record);
  EXPECT_EQ(read->counts.at(Key("acme", 7)).candidate_latency, Counted(5).counts.at(Key("acme", 7)).candidate_latency);
  EXPECT_EQ(read->counts.at(Key("acme", 7)).weighted, Counted(5).counts.at(Key("acme", 7)).weighted);
  EXPECT_EQ(read->episodes.at(Key("acme"))[0].id, ~0ull);
}

TEST(RecordTest, WhatIsCutShortOrFlippedIsAnErrorOrAnotherRecordAndNothingWorse) {
  const std::string record = EncodeDivergence(Found("d"));
  for (size_t size = 0; size < record.size(); ++size) EXPECT_FALSE(DecodeDivergence(record.substr(0, size)).ok());
  base::Random random(7);
  for (int i = 0; i < 20'000; ++i) {
    std::string flipped = i % 2 == 0 ? record : EncodeFlush(Counted(5));
    for (uint64_t n = 1 + random.Below(4); n > 0; --n) {
      flipped[random.Below(flipped.size())] = static_cast<char>(random.Below(256));
    }
    DecodeDivergence(flipped).IgnoreError();
    DecodeFlush(flipped).IgnoreError();
  }
}

// --- The file.

class FileSpoolTest : public testing::Test {
 protected:
  std::unique_ptr<FileSpool> Open(const std::string& replica, size_t max_bytes = 1 << 20) {
    auto spool =
        FileSpool::Open({.folder = folder(), .replica = replica, .name = "name of " + replica, .max_bytes = max_bytes});
    EXPECT_TRUE(spool.ok()) << spool.status();
    return *std::move(spool);
  }
  std::string folder() const { return scratch_.path() + "/spool"; }
  fs::path File(const std::string& replica) const { return folder() + "/" + replica + ".spool"; }
  std::string Bytes(const std::string& replica) const {
    std::ifstream in(File(replica), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  // As a process leaves its file that was killed: with these bytes, and locked by nobody.
  void Leave(const std::string& replica, const std::string& bytes) {
    std::ofstream(File(replica), std::ios::binary) << bytes;
  }
  static std::vector<std::string> Ids(const Legacy& legacy) {
    std::vector<std::string> ids;
    for (const Divergence& divergence : legacy.divergences) ids.push_back(divergence.id);
    return ids;
  }

  support::ScratchFolder scratch_{"spool"};
};

TEST_F(FileSpoolTest, WhatADeadProcessLeftIsInheritedOnceAndForgotten) {
  auto dead = Open("dead");
  ASSERT_TRUE(dead->Append(Found("1")).ok());
  ASSERT_TRUE(dead->Append(Found("2")).ok());
  const Flush flush = Counted(9);
  ASSERT_TRUE(dead->Replace({Found("1"), Found("2")}, &flush).ok());
  ASSERT_TRUE(dead->Append(Found("3")).ok());
  auto heir = Open("heir");
  auto rival = Open("rival");
  EXPECT_FALSE(heir->Inherit()->has_value()) << "its process lives";
  dead.reset();
  const auto legacy = heir->Inherit();
  ASSERT_TRUE(legacy.ok() && legacy->has_value());
  EXPECT_EQ((*legacy)->replica, "dead");
  EXPECT_EQ((*legacy)->replica_name, "name of dead");
  EXPECT_THAT(Ids(**legacy), ElementsAre("1", "2", "3"));
  EXPECT_EQ((*legacy)->flush->sequence, 9u);
  EXPECT_EQ((*legacy)->flush->counts.size(), 2u);
  EXPECT_FALSE(rival->Inherit()->has_value()) << "it has an heir";
  EXPECT_FALSE(heir->Inherit()->has_value());
  ASSERT_TRUE(heir->Forget((*legacy)->id).ok());
  EXPECT_FALSE(fs::exists(File("dead")));
  EXPECT_FALSE(rival->Inherit()->has_value());
}

TEST_F(FileSpoolTest, AnHeirThatDiesLeavesTheLegacyToTheNext) {
  Open("dead")->Append(Found("1")).IgnoreError();
  auto heir = Open("heir");
  ASSERT_TRUE(heir->Inherit()->has_value());
  heir.reset();
  EXPECT_TRUE(Open("next")->Inherit()->has_value());
}

TEST_F(FileSpoolTest, AFileThatHoldsNothingGoesWithItsProcess) {
  auto spool = Open("a");
  EXPECT_TRUE(fs::exists(File("a")));
  ASSERT_TRUE(spool->Append(Found("1")).ok());
  ASSERT_TRUE(spool->Replace({}, nullptr).ok());
  spool.reset();
  EXPECT_THAT(fs::directory_iterator(folder()), testing::Eq(fs::directory_iterator()));
}

// Cut at every byte, and with garbage behind: everything whole that stands before the tear is there.
TEST_F(FileSpoolTest, ATornTailIsIgnored) {
  std::vector<size_t> ends;
  std::string whole;
  {
    auto dead = Open("dead");
    ends.push_back(Bytes("dead").size());
    for (const char* id : {"1", "2"}) {
      ASSERT_TRUE(dead->Append(Found(id)).ok());
      ends.push_back(Bytes("dead").size());
    }
    whole = Bytes("dead");
  }
  auto heir = Open("heir");
  for (size_t size = ends[0]; size <= whole.size(); size += 3) {
    for (const std::string& garbage : {std::string(), std::string(40, '\0'), std::string(40, '\xff')}) {
      const std::string left = whole.substr(0, size) + garbage;
      Leave("dead", left);
      const auto legacy = heir->Inherit();
      ASSERT_TRUE(legacy.ok() && legacy->has_value()) << size;
      // Garbage may happen to be what is missing.
      const auto is_whole = [&](size_t end) { return left.compare(0, end, whole, 0, end) == 0; };
      EXPECT_EQ((*legacy)->divergences.size(), (is_whole(ends[1]) ? 1u : 0u) + (is_whole(ends[2]) ? 1u : 0u)) << size;
      ASSERT_TRUE(heir->Forget("dead").ok());
    }
  }
}

TEST_F(FileSpoolTest, WhatCannotBeReadIsLeftWhereItIs) {
  auto heir = Open("heir");
  Leave("foreign", "SLSPOOL9 of a program to come");
  Leave("empty", "");
  EXPECT_FALSE(heir->Inherit()->has_value());
  EXPECT_FALSE(heir->Inherit()->has_value());
  EXPECT_TRUE(fs::exists(File("foreign")));
}

TEST_F(FileSpoolTest, AtItsLimitDivergencesGoBeforeCountsAndCountsBeforeEpisodes) {
  const size_t divergence = EncodeDivergence(Found("1")).size() + 13;
  Flush without = Counted(1);
  without.episodes.clear();
  const size_t counts = EncodeFlush(without).size() + 13;
  const Flush flush = Counted(1);
  const auto kept = [&](size_t room) {
    const size_t head = [&] {
      auto empty = Open("dead");
      return Bytes("dead").size();
    }();
    Open("dead", head + room)->Replace({Found("1"), Found("2")}, &flush).IgnoreError();
    auto heir = Open("heir");
    const Legacy legacy = *heir->Inherit().value();
    EXPECT_TRUE(heir->Forget("dead").ok());
    return std::make_tuple(legacy.divergences.size(), legacy.flush.has_value(),
                           legacy.flush.has_value() && !legacy.flush->episodes.empty());
  };
  EXPECT_EQ(kept(divergence), std::make_tuple(1u, false, false));
  EXPECT_EQ(kept(2 * divergence), std::make_tuple(2u, false, false));
  EXPECT_EQ(kept(2 * divergence + counts), std::make_tuple(2u, true, false));
  EXPECT_EQ(kept(2 * divergence + counts + 1000), std::make_tuple(2u, true, true));
  auto full = Open("full", 100 + divergence);
  EXPECT_TRUE(full->Append(Found("1")).ok());
  EXPECT_EQ(full->Append(Found("2")).code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(FileSpoolTest, AFolderThatCannotBeHadIsSaidAtOnce) {
  const auto spool = FileSpool::Open({.folder = scratch_.path() + "/no/such", .replica = "r"});
  EXPECT_EQ(spool.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(spool.status().message(), "/no/such"));
}

// --- The flusher.

class SpoolingTest : public testing::Test {
 protected:
  // A process, which dies when it is destroyed: nothing of it runs any more.
  struct Process {
    Process(SpoolingTest* test, const std::string& replica)
        : ledger(test->world_.clock()),
          store(test->evidence_.StoreOf(replica)),
          spool(FileSpool::Open({.folder = test->scratch_.path() + "/spool", .replica = replica, .name = replica})
                    .value()) {
      flusher.emplace(
          &ledger, store.get(), &executor,
          [this](base::Task task) {
            executor.PostAfter(absl::Milliseconds(5), std::move(task));
            return true;
          },
          Flusher::Options{.spool = spool.get()});
      executor.on = test->world_.executor();
      flusher->Start();
    }
    ~Process() { *executor.alive = false; }

    // The world's executor, for as long as this process lives.
    struct Mortal final : base::Executor {
      void Post(base::Task task) override { PostAfter(absl::ZeroDuration(), std::move(task)); }
      void PostAfter(absl::Duration delay, base::Task task) override {
        on->PostAfter(delay, [alive = alive, task = std::move(task)]() mutable {
          if (*alive) task();
        });
      }
      base::Executor* on = nullptr;
      std::shared_ptr<bool> alive = std::make_shared<bool>(true);
    };

    Ledger ledger;
    std::unique_ptr<EvidenceStore> store;
    std::unique_ptr<FileSpool> spool;
    Mortal executor;
    std::optional<Flusher> flusher;
  };

  void TakeTheStoreAway() { evidence_.FailNext(1'000'000, absl::UnavailableError("away")); }
  void BringItBack() { evidence_.FailNext(0, absl::OkStatus()); }
  size_t Files() {
    const std::string folder = scratch_.path() + "/spool";
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
  }

  support::ScratchFolder scratch_{"spool"};
  sim::SimWorld world_{5};
  sim::SimEvidence evidence_{world_.clock()};
};

TEST_F(SpoolingTest, ADivergenceIsSafeBeforeTheStoreIsAsked) {
  std::optional<Process> process(std::in_place, this, "a");
  world_.RunFor(absl::Milliseconds(1500));
  TakeTheStoreAway();
  process->flusher->Record(Found("1"));
  world_.RunFor(absl::Milliseconds(6));
  process.reset();
  BringItBack();
  Process heir(this, "b");
  world_.RunFor(absl::Seconds(1));
  EXPECT_THAT(evidence_.divergences(), SizeIs(1));
  EXPECT_EQ(heir.flusher->stats().inherited, 1u);
  EXPECT_EQ(Files(), 1u);
}

TEST_F(SpoolingTest, WhatWasCountedWhileTheStoreWasAwayOutlivesItsReplica) {
  std::optional<Process> process(std::in_place, this, "a");
  process->ledger.Shed(Key("acme"));
  auto open = process->ledger.Sampled(Key("acme"));
  world_.RunFor(absl::Seconds(1));
  TakeTheStoreAway();
  process->ledger.Verified(Key("acme"), {.id = 1});
  auto another = process->ledger.Sampled(Key("acme"));
  world_.RunFor(absl::Seconds(5));
  open->Settle(Verdict::kMatched);
  process->ledger.Verified(Key("acme"), {.id = 2});
  process->ledger.Shed(Key("globex"));
  world_.RunFor(absl::Seconds(5));
  EXPECT_EQ(evidence_.FamilyLedger("pricing")->counts.sampled, 2u);
  *process->executor.alive = false;
  another.reset();
  open.reset();
  process.reset();
  BringItBack();

  Process heir(this, "b");
  world_.RunFor(absl::Seconds(3));
  const LedgerTotals totals = evidence_.FamilyLedger("pricing").value();
  EXPECT_EQ(totals.counts.sampled, 4u);
  EXPECT_EQ(totals.counts.matched, 1u);
  EXPECT_EQ(totals.counts.shed, 2u);
  EXPECT_EQ(totals.pending, 1u);
  EXPECT_THAT(evidence_.episodes(), SizeIs(2));
  EXPECT_EQ(evidence_.SweepLost(absl::Hours(1)), 1u) << "it is known to be dead";
}

TEST_F(SpoolingTest, TheSameProcessStoresWhatItSpooledAndEmptiesTheSpool) {
  Process process(this, "a");
  world_.RunFor(absl::Seconds(1));
  TakeTheStoreAway();
  for (int i = 0; i < 3; ++i) {
    process.flusher->Record(Found(std::to_string(i)));
    process.ledger.Shed(Key("acme"));
    world_.RunFor(absl::Seconds(4));
  }
  BringItBack();
  world_.RunFor(absl::Seconds(5));
  EXPECT_THAT(evidence_.divergences(), SizeIs(3));
  EXPECT_EQ(evidence_.FamilyLedger("pricing")->counts.sampled, 3u);
  for (size_t i = 1; i < evidence_.applied().size(); ++i) EXPECT_GT(evidence_.applied()[i], evidence_.applied()[i - 1]);
  Process other(this, "b");
  world_.RunFor(absl::Minutes(3));
  EXPECT_EQ(other.flusher->stats().inherited, 0u);
}

TEST_F(SpoolingTest, TheLegacyWaitsForAStoreThatIsAwayAndForThisProcesssOwn) {
  {
    Process dead(this, "dead");
    TakeTheStoreAway();
    dead.flusher->Record(Found("old"));
    world_.RunFor(absl::Seconds(1));
  }
  Process heir(this, "heir");
  heir.flusher->Record(Found("new"));
  world_.RunFor(absl::Seconds(30));
  EXPECT_THAT(evidence_.divergences(), IsEmpty());
  BringItBack();
  world_.RunFor(absl::Minutes(1));
  EXPECT_THAT(evidence_.divergences(), SizeIs(2));
}

TEST_F(SpoolingTest, ADrainWithoutAStoreLeavesEverythingInTheSpool) {
  std::optional<Process> process(std::in_place, this, "a");
  world_.RunFor(absl::Seconds(1));
  TakeTheStoreAway();
  process->ledger.Shed(Key("acme"));
  std::optional<absl::Status> drained;
  process->flusher->FlushNow([&](absl::Status status) { drained = status; });
  world_.RunFor(absl::Milliseconds(20));
  ASSERT_TRUE(drained.has_value());
  EXPECT_EQ(drained->code(), absl::StatusCode::kUnavailable);
  process.reset();
  BringItBack();
  Process heir(this, "b");
  world_.RunFor(absl::Seconds(1));
  EXPECT_EQ(evidence_.FamilyLedger("pricing")->counts.sampled, 1u);
}

TEST_F(SpoolingTest, ASpoolThatFailsStopsNothing) {
  class Broken final : public Spool {
    absl::Status Append(const Divergence&) override { return absl::ResourceExhaustedError("full"); }
    absl::Status Replace(const std::vector<Divergence>&, const Flush*) override {
      return absl::ResourceExhaustedError("full");
    }
    absl::StatusOr<std::optional<Legacy>> Inherit() override { return absl::FailedPreconditionError("gone"); }
    absl::Status Forget(const std::string&) override { return absl::FailedPreconditionError("gone"); }
  } broken;
  Ledger ledger(world_.clock());
  const auto store = evidence_.StoreOf("a");
  Flusher flusher(&ledger, store.get(), world_.executor(),
                  [this](base::Task task) {
                    world_.executor()->Post(std::move(task));
                    return true;
                  },
                  {.spool = &broken});
  flusher.Start();
  TakeTheStoreAway();
  flusher.Record(Found("1"));
  ledger.Shed(Key("acme"));
  world_.RunFor(absl::Seconds(10));
  BringItBack();
  world_.RunFor(absl::Seconds(3));
  EXPECT_THAT(evidence_.divergences(), SizeIs(1));
  EXPECT_EQ(evidence_.FamilyLedger("pricing")->counts.sampled, 1u);
  EXPECT_GT(flusher.stats().spool_failures, 2u);
}

// Killed at any moment, with a store that comes and goes: what was ever stored or spooled is there in the end, once.
TEST_F(SpoolingTest, NothingThatWasKeptIsLostAndNothingIsCountedTwice) {
  base::Random random(99);
  uint64_t kept = 0;
  for (int life = 0; life < 12; ++life) {
    Process process(this, absl::StrCat("life-", life));
    uint64_t recorded = 0;
    for (int step = 0; step < 30; ++step) {
      if (random.Below(6) == 0) TakeTheStoreAway();
      if (random.Below(6) == 0) BringItBack();
      process.ledger.Shed(Key("acme"));
      if (random.Below(3) == 0) process.flusher->Record(Found(absl::StrCat(life, "-", recorded++)));
      world_.RunFor(absl::Milliseconds(1 + random.Below(1500)));
    }
    // Whatever comes last may be on its way when it dies: all but that counts.
    if (recorded > 0) kept += recorded - 1;
  }
  BringItBack();
  Process last(this, "last");
  world_.RunFor(absl::Minutes(5));
  EXPECT_GE(evidence_.divergences().size(), kept);
  const LedgerTotals totals = evidence_.FamilyLedger("pricing").value();
  EXPECT_LE(totals.counts.sampled, 12u * 30);
  EXPECT_GE(totals.counts.sampled, 12u * 30 * 9 / 10) << "at most the last moments of a life are unknown";
  EXPECT_EQ(totals.counts.sampled, totals.counts.shed);
}

}  // namespace
}  // namespace shadowline::diff
