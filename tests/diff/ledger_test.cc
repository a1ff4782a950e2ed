// The ledger balances at every moment, and its flushes say so; the flusher brings each of them to the store once.
#include "diff/evidence/ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <optional>

#include "base/executor.h"
#include "base/random.h"
#include "diff/evidence/flusher.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_evidence.h"

namespace shadowline::diff {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

EvidenceKey Key(const std::string& tenant, uint64_t window = 1) {
  return {.tenant = tenant, .family = "pricing", .endpoint = "pricing/quote", .window = window, .catalog_revision = 3};
}

constexpr Verdict kVerdicts[] = {Verdict::kMatched,      Verdict::kExcused, Verdict::kHealed, Verdict::kConfirmed,
                                 Verdict::kInconclusive, Verdict::kErrored, Verdict::kShed};

class LedgerTest : public testing::Test {
 protected:
  // The counts of the only key in a flush.
  static Counts Only(const Flush& flush) {
    EXPECT_EQ(flush.counts.size(), 1u);
    return flush.counts.empty() ? Counts() : flush.counts.begin()->second;
  }

  sim::SimWorld world_{1};
  Ledger ledger_{world_.clock()};
};

TEST_F(LedgerTest, EachVerdictHasItsCounter) {
  for (const Verdict verdict : kVerdicts) ledger_.Sampled(Key("a"))->Settle(verdict);
  const Counts counts = Only(ledger_.BuildFlush());
  EXPECT_EQ(counts.sampled, 7u);
  EXPECT_EQ(counts.Pending(), 0u);
  for (uint64_t Counts::*counter : {&Counts::matched, &Counts::excused, &Counts::healed, &Counts::confirmed,
                                    &Counts::inconclusive, &Counts::errored, &Counts::shed}) {
    EXPECT_EQ(counts.*counter, 1u);
  }
}

TEST_F(LedgerTest, AJudgedReadCountsAsTheReadsThatItStandsFor) {
  Inclusion old{.ppm = 400'000};
  old.strata.Add(Stratum::kOld);
  for (const Verdict verdict : kVerdicts) ledger_.Sampled(Key("a"), std::nullopt, old)->Settle(verdict);
  std::optional<Ledger::Ticket> moved = ledger_.Sampled(Key("a"), std::nullopt, {.ppm = 100'000});
  Ledger::Ticket there = *std::move(moved);
  there.Settle(Verdict::kMatched);
  const Weighted weighted = Only(ledger_.BuildFlush()).weighted;
  EXPECT_EQ(weighted.judged, 4 * 2'500'000u + 10'000'000u) << "the other three are not judged";
  EXPECT_EQ(weighted.wrong, 2'500'000u);
  EXPECT_EQ(weighted.judged_squares, 4 * 6'250u + 100'000u);
  EXPECT_EQ(weighted.wrong_squares, 6'250u);
  EXPECT_EQ(weighted.judged_of[static_cast<size_t>(Stratum::kOld)], 4u);
  EXPECT_EQ(weighted.wrong_of[static_cast<size_t>(Stratum::kOld)], 1u);
  EXPECT_EQ(weighted, Weighted::Of(weighted.Figures()));
  EXPECT_EQ(ledger_.totals().counts.weighted, weighted);
}

TEST_F(LedgerTest, ATicketSettlesOnceAndOneThatIsDroppedIsShed) {
  std::optional<Ledger::Ticket> ticket = ledger_.Sampled(Key("a"));
  Ledger::Ticket moved = *std::move(ticket);
  ticket.reset();
  moved.Settle(Verdict::kMatched);
  moved.Settle(Verdict::kConfirmed);
  { const auto dropped = ledger_.Sampled(Key("a")); }
  ledger_.Shed(Key("a"));
  const Counts counts = Only(ledger_.BuildFlush());
  EXPECT_EQ(counts.sampled, 3u);
  EXPECT_EQ(counts.matched, 1u);
  EXPECT_EQ(counts.shed, 2u);
  EXPECT_EQ(counts.Pending(), 0u);
}

TEST_F(LedgerTest, ACandidateWithoutAnAnswerIsNoPartOfTheBalance) {
  ledger_.CandidateMiss(Key("a"));
  ledger_.CandidateError(Key("a"));
  ledger_.CandidateLatency(Key("a"), absl::Microseconds(250));
  ledger_.CandidateLatency(Key("a"), absl::Microseconds(251));
  ledger_.CandidateLatency(Key("a"), absl::Seconds(9));
  const Counts counts = Only(ledger_.BuildFlush());
  EXPECT_EQ(counts.sampled, 0u);
  EXPECT_EQ(counts.candidate_misses, 1u);
  EXPECT_EQ(counts.candidate_errors, 1u);
  EXPECT_THAT(counts.candidate_latency, ElementsAre(1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1));
}

TEST_F(LedgerTest, TheWatermarkIsTheOldestOpenRead) {
  const absl::Duration start = world_.clock()->Steady();
  std::optional<Ledger::Ticket> oldest = ledger_.Sampled(Key("a"));
  world_.RunFor(absl::Seconds(3));
  std::optional<Ledger::Ticket> younger = ledger_.Sampled(Key("b"));
  world_.RunFor(absl::Seconds(3));
  EXPECT_EQ(ledger_.BuildFlush().watermark, start);
  oldest->Settle(Verdict::kMatched);
  EXPECT_EQ(ledger_.BuildFlush().watermark, start + absl::Seconds(3));
  younger->Settle(Verdict::kMatched);
  EXPECT_EQ(ledger_.BuildFlush().watermark, start + absl::Seconds(6));
}

TEST_F(LedgerTest, AFlushCarriesWhatChangedAndItsSequenceGrows) {
  ledger_.Shed(Key("a"));
  ledger_.Shed(Key("b"));
  const Flush first = ledger_.BuildFlush();
  EXPECT_EQ(first.sequence, 1u);
  EXPECT_EQ(first.counts.size(), 2u);
  ledger_.Shed(Key("b"));
  const Flush second = ledger_.BuildFlush();
  EXPECT_EQ(second.sequence, 2u);
  EXPECT_EQ(Only(second).sampled, 2u);
  EXPECT_THAT(ledger_.BuildFlush().counts, IsEmpty());
}

TEST_F(LedgerTest, ReadsAreCountedInTheMinuteTheyWereSampledAndMinutesAreForgottenOnceStored) {
  std::optional<Ledger::Ticket> ticket = ledger_.Sampled(Key("a"));
  const int64_t minute = ticket->key().minute;
  EXPECT_EQ(minute, absl::ToUnixSeconds(world_.clock()->Now()) / 60);
  world_.RunFor(absl::Minutes(2));
  ledger_.Flushed(ledger_.BuildFlush().sequence);
  EXPECT_EQ(ledger_.totals().accounts, 1u);  // Its read is open.
  ticket->Settle(Verdict::kMatched);
  EXPECT_EQ(ledger_.totals().accounts, 1u);
  const Flush flush = ledger_.BuildFlush();
  EXPECT_EQ(flush.counts.begin()->first.minute, minute);
  EXPECT_EQ(ledger_.totals().accounts, 1u);  // The store does not have it yet.
  ledger_.Flushed(flush.sequence);
  EXPECT_EQ(ledger_.totals().accounts, 0u);
  ledger_.Shed(Key("a"));
  ledger_.Flushed(ledger_.BuildFlush().sequence);
  EXPECT_EQ(ledger_.totals().accounts, 1u);  // Its minute is not over.
}

TEST_F(LedgerTest, AnEpisodeIsReportedOnce) {
  ledger_.Verified(Key("a"), {.id = 1, .key = 9});
  ledger_.Verified(Key("a"), {.id = 1, .key = 9});
  ledger_.Verified(Key("a"), {.id = 2, .key = 9, .exercised = true});
  ledger_.Verified(Key("b"), {.id = 1, .key = 9});
  ledger_.Verified(Key("a", /*window=*/2), {.id = 1, .key = 9});
  const Flush flush = ledger_.BuildFlush();
  EXPECT_EQ(flush.episodes.size(), 3u);
  EXPECT_EQ(flush.episodes.at(Key("a")).size(), 2u);
  world_.RunFor(absl::Minutes(5));
  ledger_.Verified(Key("a"), {.id = 1, .key = 9});
  EXPECT_THAT(ledger_.BuildFlush().episodes, IsEmpty());
}

TEST_F(LedgerTest, LimitsHoldAndTheBalanceWithThem) {
  Ledger small(world_.clock(), {.accounts_max = 2, .tickets_max = 3, .episodes_max = 2, .recent_max = 4});
  std::vector<std::optional<Ledger::Ticket>> tickets;
  for (int i = 0; i < 5; ++i) tickets.push_back(small.Sampled(Key("a")));
  EXPECT_TRUE(tickets[2].has_value());
  EXPECT_FALSE(tickets[3].has_value());
  small.Shed(Key("b"));
  EXPECT_FALSE(small.Sampled(Key("c")).has_value());
  small.CandidateMiss(Key("c"));
  for (uint64_t id = 0; id < 9; ++id) small.Verified(Key("a"), {.id = id});
  const Flush flush = small.BuildFlush();
  EXPECT_EQ(flush.counts.size(), 2u);
  EXPECT_EQ(flush.counts.begin()->second.sampled, 5u);
  EXPECT_EQ(flush.counts.begin()->second.shed, 2u);
  EXPECT_EQ(flush.episodes.begin()->second.size(), 2u);
  EXPECT_EQ(small.totals().refused, 2u);
  EXPECT_EQ(small.totals().episodes_dropped, 7u);
}

// The machine's clock is set by hours, forth and back, in the middle of everything.
TEST_F(LedgerTest, AJumpOfTheClockMovesNeitherWatermarkNorMinutes) {
  std::optional<Ledger::Ticket> open = ledger_.Sampled(Key("a"));
  const absl::Duration sampled = world_.clock()->Steady();
  const int64_t minute = open->key().minute;
  world_.clock()->Jump(absl::Hours(5));
  EXPECT_EQ(ledger_.Sampled(Key("a"))->key().minute, minute);
  EXPECT_EQ(ledger_.BuildFlush().watermark, sampled);
  world_.clock()->Jump(-absl::Hours(30));
  world_.RunFor(absl::Minutes(3));
  EXPECT_EQ(ledger_.Sampled(Key("a"))->key().minute, minute + 3);
  EXPECT_EQ(ledger_.BuildFlush().watermark, sampled);
  open->Settle(Verdict::kMatched);
  const Flush flush = ledger_.BuildFlush();
  EXPECT_EQ(flush.watermark, world_.clock()->Steady());
  EXPECT_GE(ledger_.Sampled(Key("a"))->sampled_at(), flush.watermark);
}

// What the store has is what was counted, however the clock jumps: no minute is begun a second time once it was
// forgotten.
TEST_F(LedgerTest, TheBalanceOutlivesClockJumpsAndEverySortOfOverload) {
  base::Random random(20'26);
  sim::SimEvidence evidence(world_.clock());
  const auto store = evidence.StoreOf("r");
  Ledger ledger(world_.clock(), {.accounts_max = 40, .tickets_max = 30, .episodes_max = 5, .recent_max = 8});
  std::vector<Ledger::Ticket> open;
  uint64_t sampled = 0;
  absl::Duration watermark;
  absl::Time kept = absl::InfinitePast();
  for (int step = 0; step < 20'000; ++step) {
    const EvidenceKey key = Key(std::string(1, static_cast<char>('a' + random.Below(12))));
    const uint64_t refused = ledger.totals().refused;
    switch (random.Below(10)) {
      case 0:
        world_.clock()->Jump(absl::Minutes(static_cast<int64_t>(random.Below(600)) - 300));
        break;
      case 1:
        world_.RunFor(absl::Seconds(random.Below(40)));
        break;
      case 2: {
        const Flush flush = ledger.BuildFlush();
        ASSERT_GE(flush.watermark, watermark);
        watermark = flush.watermark;
        for (const auto& [counted, counts] : flush.counts) ASSERT_LE(counts.Settled(), counts.sampled);
        ASSERT_TRUE(store->Apply(flush).ok());
        ledger.Flushed(flush.sequence);
        const LedgerTotals totals = evidence.FamilyLedger("pricing").value();
        ASSERT_EQ(totals.counts.sampled, sampled);
        ASSERT_EQ(totals.pending, open.size());
        ASSERT_GE(evidence.replicas().at("r").watermark, kept);
        kept = evidence.replicas().at("r").watermark;
        break;
      }
      case 3:
        ledger.Shed(key);
        sampled += ledger.totals().refused == refused ? 1 : 0;
        break;
      case 4:
        ledger.Verified(key, {.id = random.Below(40)});
        break;
      case 5:
      case 6:
        if (open.empty()) break;
        std::swap(open[random.Below(open.size())], open.back());
        if (random.Below(4) > 0) open.back().Settle(kVerdicts[random.Below(std::size(kVerdicts))]);
        open.pop_back();  // Shed, where it is not settled.
        break;
      default:
        if (auto ticket = ledger.Sampled(key)) open.push_back(*std::move(ticket));
        sampled += ledger.totals().refused == refused ? 1 : 0;
        break;
    }
    ASSERT_EQ(ledger.totals().counts.Pending(), open.size());
  }
  EXPECT_GT(ledger.totals().refused, 0u) << "the ledger was never full";
  EXPECT_GT(ledger.totals().counts.shed, 1000u);
}

// Many threads sample and settle while another flushes: every flush balances, grows, and its watermark keeps its word.
TEST(LedgerConcurrencyTest, EveryFlushBalancesAndTheLastHasEverything) {
  base::SystemClock clock;
  Ledger ledger(&clock);
  constexpr int kThreads = 4;
  constexpr int kReads = 20'000;
  std::atomic<int> running{kThreads};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.push_back(base::StartThread("sampler", [&ledger, &running, i] {
      base::Random random(100 + i);
      std::vector<Ledger::Ticket> open;
      for (int n = 0; n < kReads; ++n) {
        const EvidenceKey key = Key(std::string(1, static_cast<char>('a' + random.Below(5))));
        if (auto ticket = ledger.Sampled(key)) open.push_back(*std::move(ticket));
        if (random.Below(10) == 0) ledger.Shed(key);
        if (random.Below(10) == 0) ledger.Verified(key, {.id = random.Below(1000)});
        while (open.size() > random.Below(20)) {
          const size_t pick = random.Below(open.size());
          open[pick].Settle(kVerdicts[random.Below(std::size(kVerdicts))]);
          open.erase(open.begin() + pick);
        }
      }
      open.clear();
      running.fetch_sub(1);
    }));
  }
  std::map<EvidenceKey, Counts> latest;
  absl::Duration watermark;
  uint64_t sequence = 0;
  bool last = false;
  while (!last) {
    last = running.load() == 0;
    const Flush flush = ledger.BuildFlush();
    ASSERT_EQ(flush.sequence, ++sequence);
    ASSERT_GE(flush.watermark, watermark);
    watermark = flush.watermark;
    for (const auto& [key, counts] : flush.counts) {
      ASSERT_LE(counts.Settled(), counts.sampled);
      Counts& before = latest[key];
      for (uint64_t Counts::*counter : {&Counts::sampled, &Counts::matched, &Counts::excused, &Counts::healed,
                                        &Counts::confirmed, &Counts::inconclusive, &Counts::errored, &Counts::shed}) {
        ASSERT_GE(counts.*counter, before.*counter);
      }
      before = counts;
    }
    ledger.Flushed(flush.sequence);
  }
  for (std::thread& thread : threads) thread.join();
  Counts sum;
  for (const auto& [key, counts] : latest) {
    EXPECT_EQ(counts.Pending(), 0u);
    sum.sampled += counts.sampled;
  }
  EXPECT_EQ(sum.sampled, ledger.totals().counts.sampled);
  EXPECT_EQ(ledger.totals().counts.Pending(), 0u);
  EXPECT_GE(sum.sampled, static_cast<uint64_t>(kThreads) * kReads);
}

// --- Flusher.

class FlusherTest : public testing::Test {
 protected:
  void Start() {
    flusher_.emplace(
        &ledger_, store_.get(), world_.executor(),
        [this](base::Task task) {
          if (pool_is_full_) return false;
          world_.executor()->PostAfter(absl::Milliseconds(5), std::move(task));
          return true;
        },
        Flusher::Options{.divergences_max = 4, .revisions = [] {
                           return Flusher::Revisions{7, 8};
                         }});
    flusher_->Start();
  }
  static Divergence Found(const std::string& id) {
    Divergence divergence;
    divergence.id = id;
    divergence.evidence = Key("a");
    return divergence;
  }
  uint64_t Stored() { return evidence_.FamilyLedger("pricing")->counts.sampled; }

  sim::SimWorld world_{3};
  Ledger ledger_{world_.clock()};
  sim::SimEvidence evidence_{world_.clock()};
  std::unique_ptr<EvidenceStore> store_ = evidence_.StoreOf("r");
  bool pool_is_full_ = false;
  std::optional<Flusher> flusher_;
};

TEST_F(FlusherTest, FlushesAtOnceAndEveryInterval) {
  ledger_.Shed(Key("a"));
  Start();
  world_.RunFor(absl::Milliseconds(10));
  EXPECT_EQ(Stored(), 1u);
  ledger_.Shed(Key("a"));
  world_.RunFor(absl::Milliseconds(1010));
  EXPECT_EQ(Stored(), 2u);
  world_.RunFor(absl::Seconds(5));
  EXPECT_EQ(evidence_.replicas().at("r").heartbeat_at, world_.clock()->Now() - absl::Milliseconds(15));
}

TEST_F(FlusherTest, AFailedFlushIsRepeatedWithItsSequenceBeforeTheNext) {
  Start();
  world_.RunFor(absl::Milliseconds(10));
  ledger_.Shed(Key("a"));
  evidence_.FailNext(4, absl::UnavailableError("away"));
  world_.RunFor(absl::Seconds(10));
  ledger_.Shed(Key("a"));
  world_.RunFor(absl::Seconds(3));
  EXPECT_EQ(Stored(), 2u);
  EXPECT_EQ(flusher_->stats().failures, 4u);
  for (size_t i = 0; i < evidence_.applied().size(); ++i) EXPECT_EQ(evidence_.applied()[i], i + 1);
}

TEST_F(FlusherTest, AFullPoolIsAFailureLikeAnyOther) {
  pool_is_full_ = true;
  Start();
  ledger_.Shed(Key("a"));
  world_.RunFor(absl::Seconds(3));
  EXPECT_EQ(Stored(), 0u);
  pool_is_full_ = false;
  world_.RunFor(absl::Seconds(3));
  EXPECT_EQ(Stored(), 1u);
}

TEST_F(FlusherTest, ADivergenceIsWrittenThroughAtOnceAndRetried) {
  Start();
  world_.RunFor(absl::Milliseconds(100));
  flusher_->Record(Found("1"));
  world_.RunFor(absl::Milliseconds(10));
  EXPECT_EQ(evidence_.divergences().size(), 1u);
  evidence_.FailNext(2, absl::AbortedError("deadlock"));
  flusher_->Record(Found("2"));
  flusher_->Record(Found("3"));
  world_.RunFor(absl::Seconds(3));
  EXPECT_EQ(evidence_.divergences().size(), 3u);
}

TEST_F(FlusherTest, ADivergenceThatTheStoreRefusesDoesNotHoldUpTheOthers) {
  Start();
  world_.RunFor(absl::Milliseconds(100));
  evidence_.FailNext(1, absl::InvalidArgumentError("never"));
  flusher_->Record(Found("bad"));
  flusher_->Record(Found("good"));
  world_.RunFor(absl::Milliseconds(100));
  EXPECT_EQ(evidence_.divergences().size(), 1u);
  EXPECT_EQ(flusher_->stats().divergences_dropped, 1u);
}

TEST_F(FlusherTest, DivergencesThatWaitAreBounded) {
  evidence_.FailNext(1000, absl::UnavailableError("away"));
  Start();
  for (int i = 0; i < 10; ++i) flusher_->Record(Found(std::to_string(i)));
  world_.RunFor(absl::Seconds(1));
  EXPECT_EQ(flusher_->stats().divergences_waiting, 4u);
  EXPECT_EQ(flusher_->stats().divergences_dropped, 6u);
}

TEST_F(FlusherTest, FlushNowIsDoneWhenEverythingBeforeItIsStored) {
  Start();
  world_.RunFor(absl::Milliseconds(1001));  // A flush is under way.
  ledger_.Shed(Key("a"));
  flusher_->Record(Found("1"));
  std::optional<absl::Status> done;
  flusher_->FlushNow([&](absl::Status status) {
    done = status;
    EXPECT_EQ(Stored(), 1u);
    EXPECT_EQ(evidence_.divergences().size(), 1u);
  });
  world_.RunFor(absl::Milliseconds(100));
  EXPECT_EQ(done, absl::OkStatus());
}

TEST_F(FlusherTest, FlushNowDoesNotWaitForAStoreThatIsAway) {
  Start();
  world_.RunFor(absl::Milliseconds(100));
  evidence_.FailNext(1000, absl::UnavailableError("away"));
  std::optional<absl::Status> done;
  flusher_->FlushNow([&](absl::Status status) { done = status; });
  world_.RunFor(absl::Seconds(3));
  ASSERT_TRUE(done.has_value());
  EXPECT_EQ(done->code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace shadowline::diff
