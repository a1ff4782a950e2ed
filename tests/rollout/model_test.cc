// The state machine over every short history: from a family whose first cohort has begun, all sequences of what
// operators, replicas and time can do, up to a depth, without visiting a situation twice.
#include <gtest/gtest.h>

#include <cstdio>
#include <deque>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/rollout/family.h"

namespace shadowline::rollout {
namespace {

constexpr int kDepth = 24;

enum class Event {
  kTick,
  kEvidence,
  kDivergenceA,
  kDivergenceB,
  kCatalog,
  kPause,
  kResume,
  kApprove,
  kPromoteA,
  kRollbackA,
  kRollback,
  kAbort,
};
constexpr Event kEvents[] = {Event::kTick,     Event::kEvidence,  Event::kDivergenceA, Event::kDivergenceB,
                             Event::kCatalog,  Event::kPause,     Event::kResume,      Event::kApprove,
                             Event::kPromoteA, Event::kRollbackA, Event::kRollback,    Event::kAbort};
constexpr const char* kNames[] = {"tick",   "evidence", "divergence a", "divergence b", "catalog",  "pause",
                                  "resume", "approve",  "promote a",    "rollback a",   "rollback", "abort"};

struct Situation {
  Family family;
  std::vector<std::string> history;
  uint64_t catalog_changes = 0;
};

void Happen(Event event, Situation* situation) {
  Family& family = situation->family;
  switch (event) {
    case Event::kTick:
      family.Tick();
      break;
    case Event::kEvidence:
      family.SatisfyAll();
      break;
    case Event::kDivergenceA:
      family.Diverge("a");
      break;
    case Event::kDivergenceB:
      family.Diverge("b");
      break;
    case Event::kCatalog:
      family.facts_->revision = ++family.state_.catalog_revision;
      ++situation->catalog_changes;
      break;
    case Event::kPause:
      family.Execute(Verb::kPause).IgnoreError();
      break;
    case Event::kResume:
      family.Execute(Verb::kResume).IgnoreError();
      break;
    case Event::kApprove:
      family.Execute(Verb::kApprove).IgnoreError();
      break;
    case Event::kPromoteA:
      family.Execute(Verb::kPromote, "a").IgnoreError();
      break;
    case Event::kRollbackA:
      family.Execute(Verb::kRollback, "a").IgnoreError();
      break;
    case Event::kRollback:
      family.Execute(Verb::kRollback).IgnoreError();
      break;
    case Event::kAbort:
      family.Execute(Verb::kAbort).IgnoreError();
      break;
  }
}

// What makes two situations the same for all that can follow: no times, and no numbers that only grow.
std::string Essence(const Situation& situation) {
  const Family& family = situation.family;
  const Rollout& rollout = family.rollout();
  std::string essence =
      absl::StrCat(StateName(rollout.state), rollout.cohort, rollout.cohort_begun, rollout.cohort_approved);
  for (const auto& [tenant, progress] : rollout.targets) {
    const flags::Flag flag = family.FlagOf(tenant);
    const Evidence evidence = family.state_.EvidenceOf(tenant);
    absl::StrAppend(&essence, "|", StateName(progress.state), progress.step, progress.forced,
                    progress.judged_until.has_value(), RoutingName(flag), evidence.confirmed > 0,
                    !evidence.endpoints.empty(), evidence.ledger.counts.matched > progress.judged_at_step,
                    flag.catalog_revision == family.state_.catalog_revision);
  }
  return essence;
}

// `before` has become `after` by `event`.
void CheckStep(const Situation& before, Event event, const Situation& after) {
  const Family& was = before.family;
  const Family& is = after.family;
  for (const std::string& tenant : is.state_.tenants) {
    const flags::Flag from = was.FlagOf(tenant);
    const flags::Flag to = is.FlagOf(tenant);
    const Evidence evidence = was.state_.EvidenceOf(tenant);
    if (to.mode == flags::Mode::kCache && to.serve_ppm > from.serve_ppm) {
      // P4: the only way towards the cache.
      ASSERT_EQ(event, Event::kTick);
      ASSERT_EQ(was.rollout().state, RolloutState::kRunning);
      ASSERT_TRUE(is.rollout().state == RolloutState::kRunning || is.rollout().state == RolloutState::kSettled);
      const Progress& progress = was.progress(tenant);
      ASSERT_EQ(evidence.confirmed, 0u);
      ASSERT_EQ(from.catalog_revision, was.state_.catalog_revision);
      if (!progress.forced) {
        ASSERT_FALSE(evidence.endpoints.empty());
        ASSERT_TRUE(progress.judged_until.has_value());
        ASSERT_TRUE(was.rollout().cohort_approved || progress.state == TargetState::kRamping);
      }
      const uint32_t step = from.mode == flags::Mode::kCache ? progress.step + 1 : 0;
      ASSERT_EQ(to.serve_ppm, is.policy_.ramp_ppm[step]) << "one step at a time";
      ASSERT_EQ(to.window, from.window);
    }
    if (event == Event::kTick && evidence.confirmed > 0) {
      ASSERT_NE(to.mode, flags::Mode::kCache);
    }
    if (event == Event::kRollback || (event == Event::kRollbackA && tenant == "a")) {
      ASSERT_EQ(to.mode, flags::Mode::kDatabase) << "P5";
    }
    if (from.mode == flags::Mode::kDatabase && to.mode == flags::Mode::kShadow) {
      ASSERT_GT(to.window, from.window) << "a retry starts on fresh evidence";
      ASSERT_GT(to.epoch, from.epoch) << "and on fresh values";
      ASSERT_EQ(is.state_.EvidenceOf(tenant).confirmed, 0u);
    }
    if (to.catalog_revision != from.catalog_revision) {
      ASSERT_GT(to.window, from.window);
    }
  }
  const bool stopped = is.rollout().state == RolloutState::kStopped;
  for (const auto& [tenant, progress] : is.rollout().targets) {
    const flags::Mode mode = is.FlagOf(tenant).mode;
    switch (progress.state) {
      case TargetState::kShadow:
      case TargetState::kAwaitingApproval:
        ASSERT_EQ(mode, flags::Mode::kShadow);
        break;
      case TargetState::kBlocked:
        ASSERT_NE(mode, flags::Mode::kCache);
        break;
      case TargetState::kRamping:
      case TargetState::kSettled:
        ASSERT_EQ(mode, flags::Mode::kCache);
        break;
      case TargetState::kRolledBack:
        ASSERT_EQ(mode, flags::Mode::kDatabase);
        break;
      case TargetState::kWaiting:
        FAIL() << "a target in the document has begun";
    }
    const bool lies = progress.state == TargetState::kBlocked || progress.state == TargetState::kRolledBack;
    if (lies) {
      ASSERT_TRUE(stopped || Ended(is.rollout().state));
    }
    if (is.rollout().state == RolloutState::kSettled) {
      ASSERT_EQ(is.FlagOf(tenant).serve_ppm, 1'000'000u);
    }
  }
}

TEST(ModelTest, EveryShortHistoryKeepsThePromises) {
  Situation first;
  first.family.state_.tenants = {"a", "b", "c"};
  first.family.policy_.duration = absl::ZeroDuration();
  first.family.policy_.soak = absl::ZeroDuration();
  first.family.policy_.approval = true;
  first.family.policy_.ramp_ppm = {250'000, 1'000'000};
  ASSERT_TRUE(first.family.Start({{"first", {"a", "b"}, 0}, {"rest", {}, 1'000'000}}).ok());
  first.family.Tick();

  std::set<std::string> seen = {Essence(first)};
  std::set<RolloutState> states;
  std::set<TargetState> target_states;
  std::deque<Situation> frontier = {first};
  uint64_t steps = 0;
  while (!frontier.empty()) {
    const Situation situation = std::move(frontier.front());
    frontier.pop_front();
    states.insert(situation.family.rollout().state);
    for (const auto& [tenant, progress] : situation.family.rollout().targets) target_states.insert(progress.state);
    if (situation.history.size() == kDepth) continue;
    for (const Event event : kEvents) {
      if (event == Event::kCatalog && situation.catalog_changes > 0) continue;
      Situation next = situation;
      next.history.emplace_back(kNames[static_cast<size_t>(event)]);
      Happen(event, &next);
      CheckStep(situation, event, next);
      ++steps;
      ASSERT_FALSE(testing::Test::HasFatalFailure()) << absl::StrJoin(next.history, ", ");
      if (seen.insert(Essence(next)).second) frontier.push_back(std::move(next));
    }
  }
  std::printf("%zu situations, %llu steps\n", seen.size(), static_cast<unsigned long long>(steps));
  EXPECT_EQ(states.size(), 6u) << "every state of a rollout was reached";
  EXPECT_EQ(target_states.size(), 6u) << "and every state of a target that has begun";
}

}  // namespace
}  // namespace shadowline::rollout
