// How targets and rollouts move, by the pure function alone.
#include "rollout/machine/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "rollout/journal/journal.h"
#include "tests/rollout/family.h"

namespace shadowline::rollout {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

class MachineTest : public testing::Test {
 protected:
  // Both targets of the first cohort are SETTLED.
  void SettleFirstCohort() {
    for (int i = 0; i < 5; ++i) {
      family_.SatisfyAll();
      family_.TickFor(absl::Minutes(1));
      if (family_.rollout().cohort == 1) return;
    }
    FAIL() << "the first cohort never settled: " << EncodeRollout(family_.rollout());
  }

  Family family_;
};

TEST_F(MachineTest, ACohortBeginsInShadowWithANewWindowAndEpoch) {
  ASSERT_TRUE(family_.Start().ok());
  family_.Tick();
  EXPECT_EQ(family_.StateOf("acme"), TargetState::kShadow);
  EXPECT_EQ(family_.FlagOf("acme").mode, flags::Mode::kShadow);
  EXPECT_EQ(family_.FlagOf("acme").window, 1u);
  EXPECT_EQ(family_.FlagOf("acme").epoch, 1u);
  EXPECT_EQ(family_.FlagOf("acme").sample_ppm, 1'000'000u);
  EXPECT_EQ(family_.FlagOf("acme").catalog_revision, 1u);
  EXPECT_FALSE(family_.rollout().targets.contains("initech")) << "its cohort has not begun";
  EXPECT_EQ(family_.FlagOf("initech").mode, flags::Mode::kDatabase);
}

TEST_F(MachineTest, ACleanTargetGoesThroughTheRampOnItsOwn) {
  ASSERT_TRUE(family_.Start().ok());
  family_.Tick();
  family_.Satisfy("acme");
  family_.TickFor(absl::Seconds(63));
  EXPECT_EQ(family_.StateOf("acme"), TargetState::kRamping);
  EXPECT_EQ(family_.FlagOf("acme").serve_ppm, 50'000u);
  EXPECT_EQ(family_.FlagOf("acme").sample_ppm, 100'000u);
  EXPECT_EQ(family_.FlagOf("acme").strata, Policy().strata);
  EXPECT_EQ(family_.StateOf("globex"), TargetState::kShadow) << "no data never promotes";

  family_.TickFor(absl::Minutes(5));
  EXPECT_EQ(family_.FlagOf("acme").serve_ppm, 50'000u) << "the soak wants a new verdict";
  family_.Satisfy("acme");
  family_.TickFor(absl::Seconds(3));
  EXPECT_EQ(family_.FlagOf("acme").serve_ppm, 250'000u);
  family_.Satisfy("acme");
  family_.TickFor(absl::Seconds(25));
  EXPECT_EQ(family_.FlagOf("acme").serve_ppm, 250'000u) << "each step has its soak";
  family_.TickFor(absl::Seconds(10));
  EXPECT_EQ(family_.FlagOf("acme").serve_ppm, 1'000'000u);
  EXPECT_EQ(family_.StateOf("acme"), TargetState::kSettled);
  EXPECT_EQ(family_.FlagOf("acme").window, 1u) << "one window from shadow to the end";
  EXPECT_EQ(family_.rollout().cohort, 0u);
}

TEST_F(MachineTest, TheNextCohortBeginsWhenAllOfThisOneIsSettled) {
  ASSERT_TRUE(family_.Start().ok());
  SettleFirstCohort();
  EXPECT_EQ(family_.StateOf("initech"), TargetState::kShadow);
  for (int i = 0; i < 5; ++i) {
    family_.SatisfyAll();
    family_.TickFor(absl::Minutes(1));
  }
  EXPECT_EQ(family_.rollout().state, RolloutState::kSettled);
  EXPECT_EQ(family_.FlagOf("initech").serve_ppm, 1'000'000u);
}

TEST_F(MachineTest, ADivergenceInShadowBlocksAndStops) {
  ASSERT_TRUE(family_.Start().ok());
  family_.Tick();
  family_.SatisfyAll();
  family_.TickFor(absl::Seconds(59));
  family_.Diverge("acme");
  const Outcome outcome = family_.Tick(absl::Seconds(10));
  EXPECT_THAT(outcome.targets, SizeIs(0)) << "globex was due, but nobody is promoted in the step that stops";
  EXPECT_EQ(family_.StateOf("acme"), TargetState::kBlocked);
  EXPECT_EQ(family_.FlagOf("acme").mode, flags::Mode::kShadow);
  EXPECT_EQ(family_.rollout().state, RolloutState::kStopped);
  EXPECT_THAT(family_.rollout().reason, HasSubstr("acme: 1 divergence confirmed before the cutover"));
  family_.TickFor(absl::Minutes(10));
  EXPECT_EQ(family_.StateOf("globex"), TargetState::kShadow);
}

TEST_F(MachineTest, P7AnUnsafeAnswerTakesTheWholeFamilyOffTheCache) {
  ASSERT_TRUE(family_.Start().ok());
  SettleFirstCohort();
  ASSERT_EQ(family_.StateOf("acme"), TargetState::kSettled);
  ASSERT_EQ(family_.StateOf("initech"), TargetState::kShadow);
  // One that no rollout knows is no exception.
  family_.state_.targets["umbrella"].flag.mode = flags::Mode::kCache;
  family_.Endanger();
  family_.Tick();
  for (const char* served : {"acme", "globex"}) {
    EXPECT_EQ(family_.StateOf(served), TargetState::kRolledBack);
    EXPECT_EQ(family_.FlagOf(served).mode, flags::Mode::kDatabase);
  }
  EXPECT_EQ(family_.FlagOf("umbrella").mode, flags::Mode::kDatabase);
  EXPECT_EQ(family_.StateOf("initech"), TargetState::kBlocked);
  EXPECT_EQ(family_.rollout().state, RolloutState::kStopped);
  EXPECT_THAT(family_.rollout().reason, HasSubstr("acme: an unsafe answer was confirmed in the family"));
}

TEST_F(MachineTest, ADivergenceAfterCutoverRollsBackWhateverTheRolloutIsDoing) {
  for (const Verb verb : {Verb::kResume, Verb::kPause}) {
    family_ = Family();
    ASSERT_TRUE(family_.Start().ok());
    family_.Tick();
    family_.SatisfyAll();
    family_.TickFor(absl::Seconds(63));
    ASSERT_EQ(family_.StateOf("acme"), TargetState::kRamping);
    ASSERT_TRUE(family_.Execute(verb).ok());
    family_.Diverge("acme");
    const Outcome outcome = family_.Tick();
    ASSERT_THAT(outcome.targets, SizeIs(1));
    EXPECT_EQ(family_.StateOf("acme"), TargetState::kRolledBack);
    EXPECT_EQ(family_.FlagOf("acme").mode, flags::Mode::kDatabase);
    EXPECT_EQ(family_.FlagOf("acme").serve_ppm, 0u);
    EXPECT_EQ(family_.rollout().state, RolloutState::kStopped);
    EXPECT_EQ(family_.FlagOf("globex").mode, flags::Mode::kCache) << "the others stay where they are";
  }
}

TEST_F(MachineTest, ASettledRolloutIsWatchedStill) {
  ASSERT_TRUE(family_.Start({{"all", {"acme"}, 0}}).ok());
  for (int i = 0; i < 5; ++i) {
    family_.SatisfyAll();
    family_.TickFor(absl::Minutes(1));
  }
  ASSERT_EQ(family_.rollout().state, RolloutState::kSettled);
  family_.Diverge("acme");
  family_.Tick();
  EXPECT_EQ(family_.FlagOf("acme").mode, flags::Mode::kDatabase);
  EXPECT_EQ(family_.rollout().state, RolloutState::kStopped) << "so that it can be resumed";
}

TEST_F(MachineTest, ATargetThatNoRolloutKnowsIsWatchedStill) {
  flags::Flag& flag = family_.state_.targets["acme"].flag;
  flag.mode = flags::Mode::kCache;
  flag.serve_ppm = 1'000'000;
  flag.catalog_revision = 1;
  EXPECT_TRUE(family_.Tick().empty());
  family_.Diverge("acme");
  family_.Tick();
  EXPECT_EQ(family_.FlagOf("acme").mode, flags::Mode::kDatabase);
}

TEST_F(MachineTest, ResumeAfterAStopOpensNewWindowsForThoseThatStoppedIt) {
  ASSERT_TRUE(family_.Start().ok());
  family_.Tick();
  family_.SatisfyAll();
  family_.Diverge("acme");
  family_.Tick();
  ASSERT_EQ(family_.StateOf("acme"), TargetState::kBlocked);
  ASSERT_TRUE(family_.Execute(Verb::kResume).ok());
  EXPECT_EQ(family_.StateOf("acme"), TargetState::kShadow);
  EXPECT_EQ(family_.FlagOf("acme").window, 2u);
  EXPECT_EQ(family_.FlagOf("acme").epoch, 2u) << "stale values are dropped";
  EXPECT_EQ(family_.FlagOf("globex").window, 1u);
  SettleFirstCohort();
}

TEST_F(MachineTest, WhilePausedNothingIsPromoted) {
  ASSERT_TRUE(family_.Start().ok());
  family_.Tick();
  ASSERT_TRUE(family_.Execute(Verb::kPause).ok());
  family_.SatisfyAll();
  family_.TickFor(absl::Minutes(5));
  EXPECT_EQ(family_.StateOf("acme"), TargetState::kShadow);
  ASSERT_TRUE(family_.Execute(Verb::kResume).ok());
  family_.TickFor(absl::Seconds(3));
  EXPECT_EQ(family_.StateOf("acme"), TargetState::kRamping);
}

TEST_F(MachineTest, APersonApprovesEachCohort) {
  family_.policy_.approval = true;
  ASSERT_TRUE(family_.Start().ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(family_.Execute(Verb::kApprove)));
  family_.Tick();
  family_.SatisfyAll();
  family_.TickFor(absl::Minutes(3));
  EXPECT_EQ(family_.StateOf("acme"), TargetState::kAwaitingApproval);
  EXPECT_EQ(family_.FlagOf("acme").mode, flags::Mode::kShadow);
  ASSERT_TRUE(family_.Execute(Verb::kApprove).ok());
  family_.TickFor(absl::Seconds(3));
  EXPECT_EQ(family_.StateOf("acme"), TargetState::kRamping);
  SettleFirstCohort();
  for (int i = 0; i < 3; ++i) {
    family_.Satisfy("initech");
    family_.TickFor(absl::Minutes(1));
  }
  EXPECT_EQ(family_.StateOf("initech"), TargetState::kAwaitingApproval) << "an approval is for one cohort";
}

TEST_F(MachineTest, AnApprovalJudgesWhatCameSince) {
  family_.policy_.approval = true;
  ASSERT_TRUE(family_.Start().ok());
  family_.Tick();
  family_.SatisfyAll();
  family_.TickFor(absl::Minutes(3));
  ASSERT_TRUE(family_.Execute(Verb::kApprove).ok());
  family_.now_ += absl::Seconds(1);
  const absl::Time approved_at = family_.now_;
  family_.state_.fleet.watermark = family_.now_ - absl::Minutes(1);
  Outcome outcome = Step(family_.state_, family_.facts_, family_.now_);
  EXPECT_TRUE(outcome.targets.empty());
  EXPECT_EQ(outcome.rollout->targets.at("acme").judged_until, approved_at);
}

TEST_F(MachineTest, ADivergenceWhileWaitingForAnApprovalActsAtOnce) {
  family_.policy_.approval = true;
  ASSERT_TRUE(family_.Start().ok());
  family_.Tick();
  family_.SatisfyAll();
  family_.TickFor(absl::Minutes(3));
  family_.Diverge("acme");
  family_.Tick();
  EXPECT_EQ(family_.StateOf("acme"), TargetState::kBlocked);
  EXPECT_TRUE(absl::IsFailedPrecondition(family_.Execute(Verb::kApprove)));
}

TEST_F(MachineTest, P4TheWatermarkOfEveryReplicaIsWaitedFor) {
  ASSERT_TRUE(family_.Start().ok());
  family_.Tick();
  family_.SatisfyAll();
  family_.now_ += absl::Minutes(2);
  family_.state_.fleet = {2, family_.now_};
  Outcome outcome = Step(family_.state_, family_.facts_, family_.now_);
  EXPECT_TRUE(outcome.targets.empty()) << "a watermark of this very moment may hide what is sampled now";
  ASSERT_TRUE(outcome.rollout.has_value());
  EXPECT_EQ(outcome.rollout->targets.at("acme").judged_until, family_.now_);
}

TEST_F(MachineTest, P4ANewCatalogOpensANewWindowAndKeepsTheRouting) {
  ASSERT_TRUE(family_.Start().ok());
  family_.Tick();
  family_.Satisfy("acme");
  family_.TickFor(absl::Seconds(63));
  ASSERT_EQ(family_.StateOf("acme"), TargetState::kRamping);
  family_.state_.catalog_revision = 2;
  EXPECT_TRUE(family_.Tick().empty()) << "this replica does not know the new catalog yet";
  family_.facts_->revision = 2;
  family_.Tick();
  for (const char* tenant : {"acme", "globex"}) {
    EXPECT_EQ(family_.FlagOf(tenant).window, 2u);
    EXPECT_EQ(family_.FlagOf(tenant).catalog_revision, 2u);
  }
  EXPECT_EQ(family_.FlagOf("acme").serve_ppm, 50'000u);
  EXPECT_EQ(family_.FlagOf("globex").mode, flags::Mode::kShadow);
  family_.TickFor(absl::Minutes(10));
  EXPECT_EQ(family_.FlagOf("acme").serve_ppm, 50'000u) << "the evidence of the old catalog does not count";
  family_.Satisfy("acme");
  family_.TickFor(absl::Seconds(3));
  EXPECT_EQ(family_.FlagOf("acme").serve_ppm, 250'000u);
}

TEST_F(MachineTest, P4WithoutItsCatalogAReplicaPromotesNobodyButRollsBack) {
  ASSERT_TRUE(family_.Start().ok());
  family_.Tick();
  family_.Satisfy("acme");
  family_.TickFor(absl::Seconds(63));
  family_.SatisfyAll();
  family_.facts_.reset();
  family_.TickFor(absl::Minutes(10));
  EXPECT_EQ(family_.FlagOf("acme").serve_ppm, 50'000u);
  EXPECT_EQ(family_.StateOf("globex"), TargetState::kShadow);
  family_.Diverge("acme");
  family_.Tick();
  EXPECT_EQ(family_.FlagOf("acme").mode, flags::Mode::kDatabase);
}

TEST_F(MachineTest, AnOperatorPromotesPastTheEvidence) {
  ASSERT_TRUE(family_.Start().ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(family_.Execute(Verb::kPromote, "acme"))) << "its cohort has not begun";
  family_.Tick();
  EXPECT_TRUE(absl::IsInvalidArgument(family_.Execute(Verb::kPromote, "acme", "")));
  EXPECT_TRUE(absl::IsNotFound(family_.Execute(Verb::kPromote, "nobody")));
  ASSERT_TRUE(family_.Execute(Verb::kPromote, "acme", "we are sure").ok());
  const Outcome outcome = family_.Tick();
  ASSERT_THAT(outcome.targets, SizeIs(1));
  EXPECT_THAT(outcome.targets[0].why, HasSubstr("promoted by bob: we are sure"));
  EXPECT_EQ(family_.FlagOf("acme").serve_ppm, 50'000u);
  family_.TickFor(absl::Seconds(65));
  EXPECT_EQ(family_.StateOf("acme"), TargetState::kSettled) << "it goes on by its soaks";
  EXPECT_TRUE(absl::IsFailedPrecondition(family_.Execute(Verb::kPromote, "acme")));
}

TEST_F(MachineTest, NobodyPromotesPastADivergence) {
  ASSERT_TRUE(family_.Start().ok());
  family_.Tick();
  family_.Diverge("acme");
  EXPECT_TRUE(absl::IsFailedPrecondition(family_.Execute(Verb::kPromote, "acme")));
  EXPECT_TRUE(absl::IsFailedPrecondition(family_.Execute(Verb::kPromote))) << "nor the cohort with it";
  family_.Tick();
  EXPECT_TRUE(absl::IsFailedPrecondition(family_.Execute(Verb::kPromote, "globex"))) << "stopped";
}

TEST_F(MachineTest, P5RollbackOfOneTenantStopsTheRollout) {
  ASSERT_TRUE(family_.Start().ok());
  SettleFirstCohort();
  ASSERT_TRUE(family_.Execute(Verb::kRollback, "acme").ok());
  EXPECT_EQ(family_.FlagOf("acme").mode, flags::Mode::kDatabase);
  EXPECT_EQ(family_.FlagOf("globex").mode, flags::Mode::kCache);
  EXPECT_EQ(family_.StateOf("acme"), TargetState::kRolledBack);
  EXPECT_EQ(family_.rollout().state, RolloutState::kStopped);
  ASSERT_TRUE(family_.Execute(Verb::kRollback, "acme").ok()) << "idempotent";
  EXPECT_TRUE(absl::IsNotFound(family_.Execute(Verb::kRollback, "nobody")));
}

TEST_F(MachineTest, P5RollbackOfTheFamilyWorksInEveryState) {
  for (const Verb before : {Verb::kResume, Verb::kPause, Verb::kAbort}) {
    family_ = Family();
    ASSERT_TRUE(family_.Start().ok());
    SettleFirstCohort();
    ASSERT_TRUE(family_.Execute(before).ok());
    ASSERT_EQ(family_.FlagOf("acme").mode, flags::Mode::kCache);
    ASSERT_TRUE(family_.Execute(Verb::kRollback).ok());
    for (const std::string& tenant : family_.state_.tenants) {
      EXPECT_EQ(family_.FlagOf(tenant).mode, flags::Mode::kDatabase) << tenant;
    }
    EXPECT_TRUE(Ended(family_.rollout().state));
    family_.SatisfyAll();
    family_.TickFor(absl::Minutes(5));
    for (const std::string& tenant : family_.state_.tenants) {
      EXPECT_EQ(family_.FlagOf(tenant).mode, flags::Mode::kDatabase) << tenant;
    }
  }
}

TEST_F(MachineTest, AbortKeepsOnlyWhatIsSettled) {
  ASSERT_TRUE(family_.Start().ok());
  SettleFirstCohort();
  ASSERT_EQ(family_.FlagOf("initech").mode, flags::Mode::kShadow);
  ASSERT_TRUE(family_.Execute(Verb::kAbort).ok());
  EXPECT_EQ(family_.FlagOf("initech").mode, flags::Mode::kDatabase);
  EXPECT_EQ(family_.FlagOf("acme").serve_ppm, 1'000'000u);
  EXPECT_EQ(family_.rollout().state, RolloutState::kAborted);
  EXPECT_TRUE(absl::IsFailedPrecondition(family_.Execute(Verb::kResume)));
  EXPECT_TRUE(absl::IsFailedPrecondition(family_.Execute(Verb::kPause)));
}

TEST_F(MachineTest, ANewRolloutTakesOverWhatAnEarlierOneSettled) {
  ASSERT_TRUE(family_.Start().ok());
  EXPECT_TRUE(absl::IsAlreadyExists(family_.Start()));
  SettleFirstCohort();
  ASSERT_TRUE(family_.Execute(Verb::kAbort).ok());
  ASSERT_TRUE(family_.Start({{"all", {}, 1'000'000}}).ok());
  family_.Tick();
  EXPECT_EQ(family_.StateOf("acme"), TargetState::kSettled);
  EXPECT_EQ(family_.FlagOf("acme").serve_ppm, 1'000'000u);
  EXPECT_EQ(family_.StateOf("initech"), TargetState::kShadow);
  EXPECT_EQ(family_.FlagOf("initech").window, 2u);
}

TEST_F(MachineTest, ARowThatSomebodyElseTookFromTheCacheIsBelieved) {
  ASSERT_TRUE(family_.Start().ok());
  SettleFirstCohort();
  family_.state_.targets["acme"].flag.mode = flags::Mode::kDatabase;
  family_.state_.targets["acme"].flag.serve_ppm = 0;
  family_.Tick();
  EXPECT_EQ(family_.StateOf("acme"), TargetState::kRolledBack);
  EXPECT_EQ(family_.rollout().state, RolloutState::kStopped);
}

TEST_F(MachineTest, ATenantThatHasGoneHoldsNobodyUp) {
  ASSERT_TRUE(family_.Start().ok());
  family_.Tick();
  family_.state_.tenants.erase("globex");
  for (int i = 0; i < 4; ++i) {
    family_.Satisfy("acme");
    family_.TickFor(absl::Minutes(1));
  }
  EXPECT_EQ(family_.rollout().cohort, 1u);
}

TEST_F(MachineTest, AStartThatMakesNoSenseIsRefused) {
  EXPECT_TRUE(absl::IsNotFound(family_.Start({{"first", {"nobody"}, 0}})));
  EXPECT_TRUE(absl::IsInvalidArgument(family_.Start({{"first", {}, 0}})));
  EXPECT_TRUE(absl::IsInvalidArgument(family_.Start({{"first", {"acme"}, 1}})));
  EXPECT_TRUE(absl::IsInvalidArgument(family_.Start({{"first", {}, 1'000'001}})));
  family_.policy_.ramp_ppm = {1};
  EXPECT_TRUE(absl::IsInvalidArgument(family_.Start()));
}

TEST(CohortTest, AShareIsOfThoseThatAreLeftAndStable) {
  std::set<std::string> tenants;
  for (int i = 0; i < 1'000; ++i) tenants.insert(absl::StrCat("tenant-", i));
  std::map<std::string, Progress> taken;
  const std::vector<std::string> first = ResolveCohort(kFamily, 0, {"first", {}, 250'000}, tenants, taken);
  EXPECT_NEAR(first.size(), 250, 50);
  EXPECT_EQ(first, ResolveCohort(kFamily, 0, {"first", {}, 250'000}, tenants, taken));
  for (const std::string& tenant : first) taken[tenant];
  const std::vector<std::string> second = ResolveCohort(kFamily, 1, {"second", {}, 500'000}, tenants, taken);
  EXPECT_NEAR(second.size(), 375, 60);
  for (const std::string& tenant : second) {
    EXPECT_FALSE(taken.contains(tenant));
    taken[tenant];
  }
  const std::vector<std::string> rest = ResolveCohort(kFamily, 2, {"rest", {}, 1'000'000}, tenants, taken);
  EXPECT_EQ(first.size() + second.size() + rest.size(), tenants.size());
}

TEST(CohortTest, AShareOfFewTenantsTakesAtLeastOne) {
  EXPECT_THAT(ResolveCohort(kFamily, 0, {"first", {}, 1}, {"acme", "globex"}, {}), SizeIs(1));
  EXPECT_THAT(ResolveCohort(kFamily, 0, {"first", {}, 1}, {}, {}), SizeIs(0));
}

TEST(JournalTest, AReceiptThatWasTouchedIsFound) {
  TargetInput input;
  input.now = absl::FromUnixSeconds(1);
  Receipt receipt = MakeReceipt("id", 1, input, Decide(input));
  ASSERT_TRUE(Replay(receipt).ok());
  Receipt touched = receipt;
  touched.inputs.replace(touched.inputs.find("\"rollout\":\"RUNNING\""), 19, "\"rollout\":\"PAUSED\" ");
  EXPECT_TRUE(absl::IsDataLoss(Replay(touched).status()));
  touched = receipt;
  touched.inputs.pop_back();
  EXPECT_TRUE(absl::IsDataLoss(Replay(touched).status()));
}

TEST(JournalTest, WhatWasWrittenBeforeThereWereStrataIsDerivedAgainAsItWas) {
  TargetInput input;
  input.now = absl::FromUnixSeconds(1);
  input.policy.strata = {};
  const Receipt receipt = MakeReceipt("id", 1, input, Decide(input));
  EXPECT_THAT(receipt.inputs, testing::Not(testing::HasSubstr("strata"))) << "as it was then";
  EXPECT_TRUE(Replay(receipt).ok());
  input.policy.strata.old_ppm = 1;
  EXPECT_TRUE(Replay(MakeReceipt("id", 1, input, Decide(input))).ok());
  Rollout rollout;
  rollout.policy.strata = {.recent_ppm = 7};
  EXPECT_EQ(DecodeRollout(EncodeRollout(rollout))->policy.strata, rollout.policy.strata);
}

TEST(JournalTest, ADecisionThatThisProgramWouldNotTakeIsFound) {
  TargetInput input;
  input.now = absl::FromUnixSeconds(1);
  TargetDecision decision = Decide(input);
  decision.action = Action::kCutOver;
  EXPECT_TRUE(absl::IsFailedPrecondition(Replay(MakeReceipt("id", 1, input, decision)).status()));
}

TEST(JournalTest, ADocumentThatCannotBeReadIsAnError) {
  EXPECT_TRUE(absl::IsDataLoss(DecodeRollout("").status()));
  EXPECT_TRUE(absl::IsDataLoss(DecodeRollout("{}").status()));
}

}  // namespace
}  // namespace shadowline::rollout
