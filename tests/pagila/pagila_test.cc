// A real application's accesses, replayed through a real shadowlined over real data that somebody else made: every
// answer is checked against the database's own history. SHADOWLINE_FULL=1 replays all 100,000 operations, otherwise the
// first 5,000.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>

#include "tests/pagila/application.h"
#include "tests/pagila/replay.h"

namespace shadowline::pagila {
namespace {

using support::Judgement;

constexpr uint64_t kSeed = 20260704;

size_t Size() {
  const char* full = std::getenv("SHADOWLINE_FULL");
  return full != nullptr && std::string(full) == "1" ? 100'000 : 5'000;
}

TEST(ReplayTest, EveryAnswerIsOneThatTheDatabaseHeld) {
  support::PrivatePostgres postgres;
  std::unique_ptr<Application> application = LoadPagila(&postgres, Size());
  if (application == nullptr) application = LoadDemo(&postgres, Size(), kSeed);
  Replay replay(application.get());
  const absl::Duration begun = replay.clock().Steady();
  replay.Run(8);
  const Replay::Totals totals = replay.totals();
  std::cout << application->name() << ", seed " << kSeed << ", " << application->questions().size()
            << " questions: " << totals << ", " << absl::ToDoubleSeconds(replay.clock().Steady() - begun)
            << " seconds\n";
  EXPECT_EQ(totals.reads + totals.writes, Size());
  EXPECT_GT(totals.hits, totals.reads / 4);
  EXPECT_EQ(totals.failed, 0u);
  EXPECT_EQ(totals.wrong, 0u);
  EXPECT_EQ(totals.older_than_invalidation, 0u);
  uint64_t matched = 0;
  for (const std::string& family : replay.families()) {
    const shadowline::v1::Report report = replay.SettledReport(family);
    const shadowline::v1::Ledger& ledger = report.ledger();
    std::cout << "ledger of " << family << ": " << ledger.ShortDebugString() << "\n";
    EXPECT_EQ(ledger.sampled(), ledger.matched() + ledger.excused() + ledger.healed() + ledger.confirmed() +
                                    ledger.inconclusive() + ledger.errored() + ledger.shed() + ledger.lost());
    EXPECT_EQ(ledger.confirmed(), 0u);
    EXPECT_EQ(ledger.lost(), 0u);
    matched += ledger.matched();
  }
  EXPECT_GT(matched, 0u);
}

// The same on data of the project's own, and there the faults that the check is for.
class DemoReplayTest : public testing::Test {
 protected:
  // Until the answer comes from the cache.
  Replay::Answer Cached(size_t question) {
    const absl::Duration deadline = replay_.clock().Steady() + absl::Seconds(30);
    while (true) {
      Replay::Answer answer = replay_.Read(question);
      if (answer.response.source() == shadowline::v1::SOURCE_CACHE || replay_.clock().Steady() > deadline)
        return answer;
    }
  }

  support::PrivatePostgres postgres_;
  std::unique_ptr<Application> application_ = LoadDemo(&postgres_, 300, kSeed);
  Replay replay_{application_.get()};
};

TEST_F(DemoReplayTest, EveryAnswerIsRightAndPlantedFaultsAreSeen) {
  replay_.Run(4);
  EXPECT_EQ(replay_.totals().wrong, 0u) << replay_.totals();
  EXPECT_EQ(replay_.totals().older_than_invalidation, 0u) << replay_.totals();

  // A write whose invalidation was forgotten: right for as long as the freshness bound, and wrong from then on.
  EXPECT_EQ(Cached(0).opinion.judgement, Judgement::kRight);
  replay_.Write({Operation::kUpdate, 0}, Replay::Invalidation::kForgotten);
  const absl::Duration deadline = replay_.clock().Steady() + absl::Seconds(30);
  while (replay_.totals().wrong == 0 && replay_.clock().Steady() < deadline) replay_.Read(0);
  EXPECT_EQ(Cached(0).opinion.judgement, Judgement::kStale) << replay_.totals();
  EXPECT_EQ(replay_.totals().older_than_invalidation, 0u) << replay_.totals();

  // One that was acknowledged and never sent is caught by the next read.
  EXPECT_EQ(Cached(1).opinion.judgement, Judgement::kRight);
  replay_.Write({Operation::kUpdate, 1}, Replay::Invalidation::kPretended);
  EXPECT_TRUE(Cached(1).opinion.older_than_invalidation) << replay_.totals();
}

}  // namespace
}  // namespace shadowline::pagila
