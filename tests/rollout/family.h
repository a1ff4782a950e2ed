// One family under the state machine alone: every outcome is applied as a store would, and every decision with a basis
// is replayed from its receipt.
#ifndef SHADOWLINE_TESTS_ROLLOUT_FAMILY_H_
#define SHADOWLINE_TESTS_ROLLOUT_FAMILY_H_

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "rollout/journal/journal.h"
#include "rollout/machine/machine.h"

namespace shadowline::rollout {

inline constexpr char kFamily[] = "pricing";

// A family under the machine: applies every outcome to itself, as a store would.
class Family {
 public:
  Family() {
    state_.family = kFamily;
    state_.catalog_revision = 1;
    state_.tenants = {"acme", "globex", "initech"};
    facts_ = CatalogFacts{1, {"pricing/quote"}};
    policy_.duration = absl::Minutes(1);
    policy_.episodes = 100;
    policy_.distinct_keys = 10;
    policy_.exercised = 5;
    policy_.slo_ppm = 100'000;
    policy_.soak = absl::Seconds(30);
  }

  absl::Status Start(std::vector<Cohort> cohorts = {{"first", {"acme", "globex"}, 0}, {"rest", {}, 1'000'000}}) {
    StartRequest request;
    request.family = kFamily;
    request.cohorts = std::move(cohorts);
    request.policy = policy_;
    request.catalog_revision = facts_->revision;
    request.endpoints = {"quote"};
    request.who = "ann";
    const absl::StatusOr<Outcome> outcome = rollout::Start(state_, request, "r1", now_);
    if (outcome.ok()) Take(*outcome);
    return outcome.status();
  }

  absl::Status Execute(Verb verb, const std::string& tenant = "", const std::string& reason = "because") {
    Command command;
    command.verb = verb;
    command.tenant = tenant;
    command.who = "bob";
    command.reason = reason;
    const absl::StatusOr<Outcome> outcome = Apply(state_, command, now_);
    if (outcome.ok()) Take(*outcome);
    return outcome.status();
  }

  Outcome Tick(absl::Duration after = absl::Seconds(1)) {
    now_ += after;
    state_.fleet = {2, now_};
    const Outcome outcome = Step(state_, facts_, now_);
    Take(outcome);
    return outcome;
  }
  void TickFor(absl::Duration span) {
    for (absl::Duration passed; passed < span; passed += absl::Seconds(1)) Tick();
  }

  // Enough clean evidence for the window as it is now.
  void Satisfy(const std::string& tenant) {
    Evidence& evidence = state_.evidence[tenant];
    evidence.endpoints["pricing/quote"] = {1'000, 100, 50};
    evidence.ledger.counts.sampled += 2'000;
    evidence.ledger.counts.matched += 2'000;
    evidence.ledger.counts.candidate_latency[0] += 2'000;
  }
  void SatisfyAll() {
    for (const std::string& tenant : state_.tenants) Satisfy(tenant);
  }
  void Diverge(const std::string& tenant) { ++state_.evidence[tenant].confirmed; }
  // An unsafe divergence, of whichever tenant.
  void Endanger() {
    for (const std::string& tenant : state_.tenants) ++state_.evidence[tenant].unsafe;
    for (const auto& [tenant, target] : state_.targets) {
      if (!state_.tenants.contains(tenant)) ++state_.evidence[tenant].unsafe;
    }
  }

  const Rollout& rollout() const { return *state_.rollout; }
  const Progress& progress(const std::string& tenant) const { return state_.rollout->targets.at(tenant); }
  TargetState StateOf(const std::string& tenant) const { return progress(tenant).state; }
  flags::Flag FlagOf(const std::string& tenant) const { return state_.TargetOf(tenant).flag; }

  FamilyState state_;
  std::optional<CatalogFacts> facts_;
  Policy policy_;
  absl::Time now_ = absl::FromUnixSeconds(1'700'000'000);

 private:
  void Take(const Outcome& outcome) {
    if (outcome.rollout.has_value()) {
      state_.rollout = outcome.rollout;
      ++state_.rollout->version;
    }
    for (const TargetChange& change : outcome.targets) {
      ASSERT_EQ(change.before, state_.TargetOf(change.tenant));
      // Evidence belongs to a window.
      if (change.after.flag.window != change.before.flag.window) state_.evidence.erase(change.tenant);
      state_.targets[change.tenant] = change.after;
      ++state_.targets[change.tenant].flag.revision;
      if (change.basis.has_value()) {
        const absl::StatusOr<TargetDecision> replayed =
            Replay(MakeReceipt("id", 1, change.basis->first, change.basis->second));
        ASSERT_TRUE(replayed.ok()) << replayed.status();
        ASSERT_EQ(*replayed, change.basis->second);
      }
    }
  }
};

}  // namespace shadowline::rollout

#endif  // SHADOWLINE_TESTS_ROLLOUT_FAMILY_H_
