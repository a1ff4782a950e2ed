// Between the contract's messages and the rooms' types.
#include "server/rpc/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace shadowline::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

const absl::Time kNow = absl::UnixEpoch() + absl::Microseconds(1'700'000'000'123'456);

TEST(ConvertTest, ATimeThatIsNotKnownIsZero) {
  EXPECT_EQ(ToMicros(kNow), 1'700'000'000'123'456);
  EXPECT_EQ(ToMicros(absl::InfinitePast()), 0);
}

TEST(ConvertTest, AFlagKeepsEverything) {
  flags::Flag flag;
  flag.mode = flags::Mode::kCache;
  flag.serve_ppm = 50'000;
  flag.sample_ppm = 100'000;
  flag.epoch = 3;
  flag.revision = 17;
  flag.window = 4;
  flag.reason = "clean";
  flag.changed_at = kNow;
  EXPECT_EQ(ToProto("acme", "pricing", flag).ShortDebugString(),
            "tenant: \"acme\" family: \"pricing\" mode: MODE_CACHE serve_ppm: 50000 sample_ppm: 100000 epoch: 3 "
            "revision: 17 window: 4 reason: \"clean\" changed_at_us: 1700000000123456");
  flag.mode = flags::Mode::kShadow;
  EXPECT_EQ(ToProto("acme", "pricing", flag).serve_ppm(), 0u) << "only CACHE serves a share";
}

TEST(ConvertTest, APolicyComesBackAsItWent) {
  rollout::Policy policy;
  EXPECT_EQ(*FromProto(ToProto(policy)), policy) << "the defaults";
  policy.duration = absl::Seconds(90);
  policy.candidate_p95 = absl::Milliseconds(1500);
  policy.soak = absl::ZeroDuration();
  policy.episodes = 7;
  policy.distinct_keys = 5;
  policy.exercised = 3;
  policy.slo_ppm = 100;
  policy.confidence_ppm = 990'000;
  policy.unjudged_ppm = 0;
  policy.shadow_sample_ppm = 0;
  policy.cache_sample_ppm = 1'000'000;
  policy.strata = {1, 2, 3, 4, 0};
  policy.sample_by_key = true;
  policy.ramp_ppm = {1'000'000};
  policy.approval = true;
  const auto back = FromProto(ToProto(policy));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, policy);
  EXPECT_EQ(ToProto(policy).duration(), "90s");
  EXPECT_EQ(ToProto(policy).candidate_p95(), "1500ms");
}

struct BadPolicy {
  std::string starts_with;
  std::function<void(v1::Policy*)> spoil;
};

TEST(ConvertTest, ABadPolicyIsRefusedWithItsField) {
  const std::vector<BadPolicy> cases = {
      {"policy.duration: \"48\" is not a duration", [](v1::Policy* p) { p->set_duration("48"); }},
      {"policy.candidate_p95: ", [](v1::Policy* p) { p->set_candidate_p95("fast"); }},
      {"policy.soak: ", [](v1::Policy* p) { p->set_soak("-1s"); }},
      {"policy.slo_ppm: 0 is out of range", [](v1::Policy* p) { p->set_slo_ppm(0); }},
      {"policy.confidence_ppm: 1000000 is out of range", [](v1::Policy* p) { p->set_confidence_ppm(1'000'000); }},
      {"policy.unjudged_ppm: 1000001", [](v1::Policy* p) { p->set_unjudged_ppm(1'000'001); }},
      {"policy.shadow_sample_ppm: ", [](v1::Policy* p) { p->set_shadow_sample_ppm(2'000'000); }},
      {"policy.sample_recent_ppm: ", [](v1::Policy* p) { p->set_sample_recent_ppm(2'000'000); }},
      {"policy.sample_cold_ppm: ", [](v1::Policy* p) { p->set_sample_cold_ppm(2'000'000); }},
      {"policy.cache_sample_ppm: ", [](v1::Policy* p) { p->set_cache_sample_ppm(2'000'000); }},
      {"policy.sample_by: \"luck\" is unknown", [](v1::Policy* p) { p->set_sample_by("luck"); }},
      {"policy.ramp_ppm: does not end at 1000000", [](v1::Policy* p) { p->mutable_ramp_ppm()->RemoveLast(); }},
      {"policy.ramp_ppm: does not end at 1000000", [](v1::Policy* p) { p->clear_ramp_ppm(); }},
      {"policy.ramp_ppm: does not ascend", [](v1::Policy* p) { p->set_ramp_ppm(0, 900'000); }},
      {"policy.ramp_ppm: has too many steps",
       [](v1::Policy* p) {
         for (int i = 0; i < 20; ++i) p->add_ramp_ppm(1'000'001 + i);
       }},
  };
  for (const BadPolicy& bad : cases) {
    v1::Policy policy = ToProto(rollout::Policy{});
    bad.spoil(&policy);
    const auto refused = FromProto(policy);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument) << bad.starts_with;
    EXPECT_THAT(std::string(refused.status().message()), StartsWith(bad.starts_with));
  }
}

v1::StartRolloutRequest WithCohorts(std::vector<v1::Cohort> cohorts) {
  v1::StartRolloutRequest request;
  request.mutable_cohorts()->Assign(cohorts.begin(), cohorts.end());
  return request;
}

v1::Cohort MakeCohort(const std::string& name, const std::vector<std::string>& tenants, uint32_t share_ppm = 0) {
  v1::Cohort cohort;
  cohort.set_name(name);
  cohort.mutable_tenants()->Assign(tenants.begin(), tenants.end());
  cohort.set_share_ppm(share_ppm);
  return cohort;
}

TEST(ConvertTest, CohortsKeepTheirOrder) {
  const auto cohorts =
      FromProto(WithCohorts({MakeCohort("canary", {"acme", "zen"}), MakeCohort("rest", {}, 1'000'000)}).cohorts());
  ASSERT_TRUE(cohorts.ok()) << cohorts.status();
  ASSERT_EQ(cohorts->size(), 2u);
  EXPECT_EQ((*cohorts)[0].name, "canary");
  EXPECT_THAT((*cohorts)[0].tenants, ElementsAre("acme", "zen"));
  EXPECT_EQ((*cohorts)[1].share_ppm, 1'000'000u);
}

TEST(ConvertTest, BadCohortsAreRefusedWithTheirPlace) {
  const std::vector<std::pair<std::string, std::vector<v1::Cohort>>> cases = {
      {"cohorts[0].name: is missing", {MakeCohort("", {"a"})}},
      {"cohorts[0].name: holds a control character", {MakeCohort("a\nb", {"a"})}},
      {"cohorts[0].name: is too long", {MakeCohort(std::string(129, 'x'), {"a"})}},
      {"cohorts[1].name: is taken", {MakeCohort("a", {"a"}), MakeCohort("a", {"b"})}},
      {"cohorts[0]: needs either", {MakeCohort("a", {})}},
      {"cohorts[0]: needs either", {MakeCohort("a", {"a"}, 5)}},
      {"cohorts[0].share_ppm: 1000001 is out of range", {MakeCohort("a", {}, 1'000'001)}},
      {"cohorts[0].tenants[1]: is missing", {MakeCohort("a", {"a", ""})}},
      {"cohorts[1].tenants[0]: is named twice", {MakeCohort("a", {"a"}), MakeCohort("b", {"a"})}},
      {"cohorts: are too many", std::vector<v1::Cohort>(65, MakeCohort("a", {"a"}))},
  };
  for (const auto& [starts_with, cohorts] : cases) {
    const auto refused = FromProto(WithCohorts(cohorts).cohorts());
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument) << starts_with;
    EXPECT_THAT(std::string(refused.status().message()), StartsWith(starts_with));
  }
}

TEST(ConvertTest, EveryStateHasItsOwnWord) {
  using R = rollout::RolloutState;
  for (const auto& [state, word, final] :
       std::vector<std::tuple<R, v1::RolloutState, bool>>{{R::kRunning, v1::ROLLOUT_STATE_RUNNING, false},
                                                          {R::kPaused, v1::ROLLOUT_STATE_PAUSED, false},
                                                          {R::kStopped, v1::ROLLOUT_STATE_STOPPED, false},
                                                          {R::kSettled, v1::ROLLOUT_STATE_SETTLED, true},
                                                          {R::kRolledBack, v1::ROLLOUT_STATE_ROLLED_BACK, true},
                                                          {R::kAborted, v1::ROLLOUT_STATE_ABORTED, true}}) {
    EXPECT_EQ(ToProto(state), word);
    EXPECT_EQ(IsFinal(word), final);
  }
  using T = rollout::TargetState;
  for (const auto& [state, word] :
       std::vector<std::pair<T, v1::TargetState>>{{T::kWaiting, v1::TARGET_STATE_WAITING},
                                                  {T::kShadow, v1::TARGET_STATE_SHADOW},
                                                  {T::kAwaitingApproval, v1::TARGET_STATE_AWAITING_APPROVAL},
                                                  {T::kRamping, v1::TARGET_STATE_RAMPING},
                                                  {T::kSettled, v1::TARGET_STATE_SETTLED},
                                                  {T::kBlocked, v1::TARGET_STATE_BLOCKED},
                                                  {T::kRolledBack, v1::TARGET_STATE_ROLLED_BACK}}) {
    EXPECT_EQ(ToProto(state), word);
  }
  EXPECT_EQ(ToProto(flags::Mode::kDatabase), v1::MODE_DATABASE);
  EXPECT_EQ(ToProto(flags::Mode::kShadow), v1::MODE_SHADOW);
  EXPECT_EQ(ToProto(flags::Mode::kCache), v1::MODE_CACHE);
}

rollout::RolloutView ViewWithTarget() {
  rollout::RolloutView view;
  view.id = "r1";
  view.family = "pricing";
  view.cohort = 1;
  view.cohorts = {{"canary", {"acme"}, 0}};
  view.started_at = view.changed_at = kNow;
  view.fingerprints = {"00ff"};
  rollout::TargetView target;
  target.tenant = "acme";
  target.cohort = "canary";
  target.state = rollout::TargetState::kShadow;
  target.mode = flags::Mode::kShadow;
  target.window = 2;
  target.window_since = kNow;
  target.clauses = {{"duration", true, "5s of 5s", absl::ZeroDuration()},
                    {"episodes", false, "12 of 1000", absl::Seconds(3)},
                    {"slo", false, "not rejected yet", std::nullopt}};
  target.ledger.counts.sampled = 10;
  target.ledger.counts.matched = 6;
  target.ledger.counts.shed = 1;
  target.ledger.lost = 2;
  target.ledger.pending = 1;
  target.episodes = 12;
  view.targets = {target};
  return view;
}

TEST(ConvertTest, ARolloutKeepsWhatIsKnownAndSaysWhatIsNot) {
  const v1::Rollout rollout = ToProto(ViewWithTarget());
  EXPECT_EQ(rollout.id(), "r1");
  EXPECT_EQ(rollout.cohort(), 1u);
  EXPECT_EQ(rollout.started_at_us(), 1'700'000'000'123'456);
  EXPECT_EQ(rollout.eta_us(), -1) << "unknown";
  EXPECT_THAT(rollout.fingerprints(), ElementsAre("00ff"));
  ASSERT_EQ(rollout.targets_size(), 1);
  const auto& clauses = rollout.targets(0).clauses();
  ASSERT_EQ(clauses.size(), 3);
  EXPECT_EQ(clauses[0].eta_us(), 0);
  EXPECT_EQ(clauses[1].eta_us(), 3'000'000);
  EXPECT_EQ(clauses[2].eta_us(), -1);
}

TEST(ConvertTest, AReportNamesOnlyWhatIsMissing) {
  const v1::TargetReport report = ToReport("pricing", ViewWithTarget().targets[0]);
  EXPECT_EQ(report.family(), "pricing");
  EXPECT_EQ(report.episodes(), 12u);
  EXPECT_THAT(report.missing(), ElementsAre("episodes: 12 of 1000", "slo: not rejected yet"));
  EXPECT_EQ(report.ledger().sampled(), 10u);
  EXPECT_EQ(report.ledger().matched() + report.ledger().shed() + report.ledger().lost() + report.ledger().pending(),
            10u);
}

TEST(ConvertTest, AReportEstimatesWhereSomethingWasJudged) {
  rollout::TargetView target = ViewWithTarget().targets[0];
  target.ledger.counts.weighted = {};
  EXPECT_FALSE(ToReport("pricing", target).has_estimate());
  diff::Inclusion old{.ppm = 500'000};
  old.strata.Add(diff::Stratum::kOld);
  for (int i = 0; i < 10; ++i) target.ledger.counts.weighted.Add({.ppm = 100'000}, false);
  for (int i = 0; i < 10; ++i) target.ledger.counts.weighted.Add(old, i == 0);
  const v1::TargetReport report = ToReport("pricing", target);
  EXPECT_EQ(report.estimate().reads(), 120u);
  EXPECT_NEAR(report.estimate().wrong_ppm(), 2e6 / 120, 1e-6) << "the one stands for two";
  EXPECT_GT(report.estimate().standard_error_ppm(), 0);
  EXPECT_LT(report.estimate().low_ppm(), report.estimate().wrong_ppm());
  ASSERT_EQ(report.strata_size(), static_cast<int>(diff::kStrata));
  EXPECT_EQ(report.strata(3).name(), "old");
  EXPECT_EQ(report.strata(3).judged(), 10u);
  EXPECT_EQ(report.strata(3).confirmed(), 1u);
  target.sample_by_key = true;
  EXPECT_FALSE(ToReport("pricing", target).estimate().has_low_ppm()) << "keys are drawn, and reads of a key are alike";
}

TEST(ConvertTest, ADivergenceKeepsItsProof) {
  diff::Divergence divergence;
  divergence.id = "d1";
  divergence.evidence = {"acme", "pricing", "pricing/quote", 3, 9, 0};
  divergence.differences = {{"/total", diff::DifferenceKind::kValue, "1", "2"}};
  divergence.differences_total = 70;
  divergence.rule = "by_observation";
  divergence.freshness = absl::Seconds(2);
  divergence.filled_at = kNow;
  divergence.observations = {{kNow, true, kNow + absl::Seconds(1), true, "1:2:"}};
  divergence.tags = {{"account:1", absl::InfinitePast()}, {"account:2", kNow}};
  divergence.cause = "missed_invalidation";
  divergence.after_cutover = true;
  const v1::Divergence shown = ToProto(divergence);
  EXPECT_EQ(shown.tenant(), "acme");
  EXPECT_EQ(shown.endpoint(), "pricing/quote");
  EXPECT_EQ(shown.window(), 3u);
  EXPECT_EQ(shown.catalog_revision(), 9u);
  EXPECT_EQ(shown.differences(0).kind(), "value");
  EXPECT_EQ(shown.differences_total(), 70u);
  EXPECT_EQ(shown.proof().freshness_us(), 2'000'000);
  EXPECT_EQ(shown.proof().observations(0).control_at_us(), 1'700'000'001'123'456);
  EXPECT_TRUE(shown.proof().observations(0).same_fill());
  EXPECT_EQ(shown.proof().tags(0).last_invalidated_at_us(), 0) << "never";
  EXPECT_EQ(shown.proof().tags(1).last_invalidated_at_us(), 1'700'000'000'123'456);
  EXPECT_TRUE(shown.after_cutover());
}

}  // namespace
}  // namespace shadowline::server
