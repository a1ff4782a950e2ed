// What a replica believes about its flags, and for how long.
#include "flags/board.h"

#include <gtest/gtest.h>

#include "tests/sim/sim.h"

namespace shadowline::flags {
namespace {

std::shared_ptr<const Snapshot> At(uint64_t revision, Mode mode = Mode::kCache) {
  Flag flag;
  flag.mode = mode;
  flag.revision = revision;
  return std::make_shared<const Snapshot>(revision, absl::flat_hash_set<std::string>{"acme"},
                                          Snapshot::Targets{{{"pricing", "acme"}, flag}});
}

class BoardTest : public testing::Test {
 protected:
  sim::SimClock clock_;
  Board board_{&clock_, absl::Seconds(2)};
};

TEST_F(BoardTest, KnowsNothingBeforeTheFirstSnapshot) {
  EXPECT_EQ(board_.Current(), nullptr);
  EXPECT_FALSE(board_.Leased());
  EXPECT_EQ(board_.version(), 0u);
}

TEST_F(BoardTest, ATargetWithoutAFlagIsDatabase) {
  board_.Publish(At(1), clock_.Steady());
  const auto snapshot = board_.Current();
  EXPECT_EQ(snapshot->Find("acme", "pricing")->mode, Mode::kCache);
  EXPECT_EQ(snapshot->Find("acme", "permissions")->mode, Mode::kDatabase);
  EXPECT_EQ(snapshot->Find("pricing", "acme")->mode, Mode::kDatabase);
  EXPECT_TRUE(snapshot->HasTenant("acme"));
  EXPECT_FALSE(snapshot->HasTenant("globex"));
}

TEST_F(BoardTest, P5TheLeaseCountsFromTheQuestionNotFromTheAnswer) {
  const absl::Duration asked = clock_.Steady();
  clock_.Advance(absl::Milliseconds(1500));
  board_.Publish(At(1), asked);
  EXPECT_TRUE(board_.Leased());
  clock_.Advance(absl::Milliseconds(499));
  EXPECT_TRUE(board_.Leased());
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_FALSE(board_.Leased());
}

TEST_F(BoardTest, RenewingTheRevisionThatIsHeldExtendsTheLease) {
  board_.Publish(At(7), clock_.Steady());
  clock_.Advance(absl::Seconds(1));
  board_.Renew(7, clock_.Steady());
  clock_.Advance(absl::Milliseconds(1900));
  EXPECT_TRUE(board_.Leased());
}

TEST_F(BoardTest, P5ARevisionThatIsNotHeldRenewsNothing) {
  board_.Publish(At(7), clock_.Steady());
  clock_.Advance(absl::Seconds(1));
  board_.Renew(8, clock_.Steady());
  clock_.Advance(absl::Seconds(1));
  EXPECT_FALSE(board_.Leased());
}

TEST_F(BoardTest, P5ASnapshotFromThePastIsDroppedAndRenewsNothing) {
  board_.Publish(At(7, Mode::kDatabase), clock_.Steady());
  clock_.Advance(absl::Seconds(1));
  board_.Publish(At(6, Mode::kCache), clock_.Steady());
  EXPECT_EQ(board_.Current()->Find("acme", "pricing")->mode, Mode::kDatabase);
  EXPECT_EQ(board_.version(), 1u);
  clock_.Advance(absl::Seconds(1));
  EXPECT_FALSE(board_.Leased());
}

TEST_F(BoardTest, AnAnswerThatWasOvertakenNeverShortensTheLease) {
  const absl::Duration early = clock_.Steady();
  clock_.Advance(absl::Seconds(1));
  board_.Publish(At(7), clock_.Steady());
  board_.Renew(7, early);
  clock_.Advance(absl::Milliseconds(1500));
  EXPECT_TRUE(board_.Leased());
}

TEST_F(BoardTest, TheVersionMovesWithEverySnapshot) {
  board_.Publish(At(1), clock_.Steady());
  board_.Publish(At(1), clock_.Steady());
  EXPECT_EQ(board_.version(), 1u);
  board_.Publish(At(2), clock_.Steady());
  EXPECT_EQ(board_.version(), 2u);
}

}  // namespace
}  // namespace shadowline::flags
