// Whole rollouts in virtual time: two controllers, replicas whose evidence comes late, operators, and a store that
// fails. An oracle that knows everything looks at each commit. All of it follows from a seed, which is printed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/metrics.h"
#include "rollout/controller/controller.h"
#include "rollout/controller/store_commands.h"
#include "rollout/journal/journal.h"
#include "rollout/machine/machine.h"
#include "tests/sim/fake_state_store.h"
#include "tests/sim/sim.h"

namespace shadowline::rollout {
namespace {

using sim::FakeStateStore;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kFamily[] = "pricing";
constexpr char kEndpoint[] = "pricing/quote";
constexpr absl::Duration kTick = absl::Milliseconds(500);

class World {
 public:
  World(uint64_t seed, int tenants) : sim_(seed), store_(sim_.clock()) {
    base::SetLogLevel(base::Level::kError);
    for (int i = 0; i < tenants; ++i) store_.AddTenant(absl::StrCat("t", i));
    store_.SetCatalog(catalog_);
    policy.duration = absl::Seconds(20);
    policy.episodes = 60;
    policy.distinct_keys = 10;
    policy.exercised = 5;
    policy.slo_ppm = 50'000;
    policy.soak = absl::Seconds(5);
    const CatalogSource source = [this](const std::string&) { return CatalogFacts{catalog_, {kEndpoint}}; };
    for (int i = 0; i < 2; ++i) {
      leaderships_.push_back(std::make_unique<sim::FakeLeadership>(&store_, absl::StrCat("replica-", i)));
      Controller::Deps deps;
      deps.clock = sim_.clock();
      deps.store = &store_;
      deps.leadership = leaderships_.back().get();
      deps.metrics = &metrics_;
      deps.catalog = source;
      controllers_.push_back(std::make_unique<Controller>(Controller::Options{kTick, seed + i}, std::move(deps)));
      replicas_.emplace_back();
      Repeat(kTick, [this, i] { controllers_[i]->Tick().IgnoreError(); });
      Repeat(absl::Milliseconds(300), [this, i] { ReadAndFlush(i); });
    }
    commands_ = std::make_unique<StoreCommands>(StoreCommands::Options{seed},
                                                StoreCommands::Deps{sim_.clock(), &store_, source});
  }

  absl::Status Start(std::vector<Cohort> cohorts) {
    StartRequest request;
    request.family = kFamily;
    request.cohorts = std::move(cohorts);
    request.policy = policy;
    request.catalog_revision = catalog_;
    request.endpoints = {kEndpoint};
    const absl::Status started = commands_->Start(request).status();
    Look();
    return started;
  }
  absl::Status Execute(Verb verb, const std::string& tenant = "") {
    Command command;
    command.rollout = kFamily;
    command.verb = verb;
    command.tenant = tenant;
    command.reason = "because";
    const absl::Status done = commands_->Execute(command).status();
    Look();
    return done;
  }
  // A replica confirms a divergence of the present window now.
  void Confirm(const std::string& tenant) {
    const Window window{tenant, FlagOf(tenant).window, catalog_};
    store_.AddDivergence({kFamily, tenant, kEndpoint, FlagOf(tenant).window, catalog_}, "f", 1);
    ++divergences_[window];
  }
  void ChangeCatalog() { store_.SetCatalog(++catalog_); }

  void RunFor(absl::Duration span) {
    const absl::Time end = sim_.clock()->Now() + span;
    while (sim_.clock()->Now() < end && sim_.executor()->RunOne()) Look();
  }
  bool RunUntil(RolloutState state, absl::Duration limit) {
    const absl::Time end = sim_.clock()->Now() + limit;
    while (sim_.clock()->Now() < end) {
      if (Document().state == state) return true;
      if (!sim_.executor()->RunOne()) break;
      Look();
    }
    return Document().state == state;
  }
  // Runs until `tenant` is served from the cache.
  bool RunUntilCutover(const std::string& tenant, absl::Duration limit) {
    const absl::Time end = sim_.clock()->Now() + limit;
    while (sim_.clock()->Now() < end && FlagOf(tenant).mode != flags::Mode::kCache && sim_.executor()->RunOne()) Look();
    return FlagOf(tenant).mode == flags::Mode::kCache;
  }

  Rollout Document() {
    const Rollout* newest = store_.Newest(kFamily);
    return newest == nullptr ? Rollout() : *newest;
  }
  flags::Flag FlagOf(const std::string& tenant) { return store_.Row(kFamily, tenant).flag; }

  // Its writers forget to invalidate: from now on its cached answers are wrong.
  std::set<std::string> liars;
  Policy policy;
  // How long a replica takes from a sample to its verdict.
  absl::Duration verdict_delay = absl::Seconds(2);
  // What the oracle has against the product.
  std::vector<std::string> violations;

  FakeStateStore& store() { return store_; }
  sim::FakeLeadership& leadership(int i) { return *leaderships_[i]; }
  base::Random& random() { return *sim_.random(); }
  Commands& commands() { return *commands_; }
  absl::Time now() { return sim_.clock()->Now(); }

 private:
  using Window = std::tuple<std::string, uint64_t, uint64_t>;  // Tenant, window, catalog revision.

  // A read that was sampled, and whose verdict is not known to the store yet.
  struct Sample {
    Window window;
    absl::Time at;
    bool wrong;
    diff::Episode episode;
  };
  struct Replica {
    std::deque<Sample> samples;
    std::map<Window, diff::Counts> counts;
  };

  void Repeat(absl::Duration interval, std::function<void()> body) {
    sim_.executor()->PostAfter(interval, [this, interval, body = std::move(body)]() mutable {
      body();
      Repeat(interval, std::move(body));
    });
  }

  void ReadAndFlush(int index) {
    Replica& replica = replicas_[index];
    const absl::Time now = sim_.clock()->Now();
    // One replica's clock is ahead of the other's.
    const absl::Time own_now = now + index * absl::Milliseconds(200);
    for (const std::string& tenant : store_.tenants()) {
      const flags::Flag flag = FlagOf(tenant);
      if (flag.mode == flags::Mode::kDatabase) continue;
      const Window window{tenant, flag.window, catalog_};
      for (int i = 0; i < 2; ++i) {
        const uint64_t id = ++next_episode_;
        const bool wrong = liars.contains(tenant) && random().Below(4) == 0;
        replica.samples.push_back({window, own_now, wrong, {id, random().Below(40), random().Below(3) == 0}});
        ++replica.counts[window].sampled;
      }
    }
    while (!replica.samples.empty() && replica.samples.front().at + verdict_delay <= own_now) {
      const Sample& sample = replica.samples.front();
      const auto& [tenant, window, catalog] = sample.window;
      const sim::StoreWorld::Place place{kFamily, tenant, kEndpoint, window, catalog};
      diff::Counts& counts = replica.counts[sample.window];
      ++counts.candidate_latency[1];
      if (sample.wrong) {
        ++counts.confirmed;
        store_.AddDivergence(place, "f", 1);
        ++divergences_[sample.window];
      } else {
        ++counts.matched;
        store_.AddEpisode(place, sample.episode);
        ++episodes_[sample.window];
      }
      replica.samples.pop_front();
    }
    const std::string name = absl::StrCat("replica-", index);
    for (const auto& [window, counts] : replica.counts) {
      store_.SetCounts(name, {kFamily, std::get<0>(window), kEndpoint, std::get<1>(window), std::get<2>(window)},
                       counts, 0);
    }
    store_.SetReplica(name, absl::ZeroDuration(), replica.samples.empty() ? own_now : replica.samples.front().at,
                      false);
  }

  uint64_t DivergencesOf(const std::string& tenant, const flags::Flag& flag) {
    uint64_t found = 0;
    for (const auto& [window, count] : divergences_) {
      if (std::get<0>(window) == tenant && std::get<1>(window) == flag.window &&
          std::get<2>(window) >= flag.catalog_revision) {
        found += count;
      }
    }
    return found;
  }

  // The oracle: every commit since the last look.
  void Look() {
    for (; looked_at_ < store_.commits().size(); ++looked_at_) {
      const Commit& commit = store_.commits()[looked_at_];
      if (commit.leader_epoch.has_value()) {
        Expect(*commit.leader_epoch >= newest_epoch_, "a deposed leader wrote");
        newest_epoch_ = *commit.leader_epoch;
      }
      for (const TargetWrite& write : commit.targets) LookAt(commit, write);
    }
  }
  void LookAt(const Commit& commit, const TargetWrite& write) {
    const TargetChange& change = write.change;
    const flags::Flag& before = change.before.flag;
    const flags::Flag& after = change.after.flag;
    const bool was_served = before.mode == flags::Mode::kCache;
    const std::string where = absl::StrCat(change.tenant, " ", RoutingName(before), " -> ", RoutingName(after), ": ");
    if (write.receipt.has_value()) {
      Expect(receipts_.insert(write.receipt->id).second, where + "one receipt for two decisions");
      const absl::StatusOr<TargetDecision> replayed = Replay(*write.receipt);
      Expect(replayed.ok(), where + "its receipt replays otherwise");
    }
    if (was_served && after.mode != flags::Mode::kCache) retired_[change.tenant] = before.window;
    if (after.mode != flags::Mode::kCache || (was_served && after.serve_ppm <= before.serve_ppm)) return;

    // P4, for every step towards the cache.
    Expect(write.receipt.has_value(), where + "no receipt in the same transaction");
    if (!write.receipt.has_value()) return;
    Expect(write.receipt->decision == (was_served ? "ramp" : "cut_over"), where + "the receipt is of another decision");
    Expect(commit.leader_epoch.has_value(), where + "not by a leader");
    Expect(DivergencesOf(change.tenant, after) == 0, where + "past a confirmed divergence");
    Expect(after.catalog_revision == catalog_, where + "under an old catalog");
    Expect(retired_.count(change.tenant) == 0 || retired_[change.tenant] < after.window,
           where + "again, on the evidence of before the rollback");
    const auto step = std::find(policy.ramp_ppm.begin(), policy.ramp_ppm.end(), after.serve_ppm);
    Expect(step != policy.ramp_ppm.end() && (step == policy.ramp_ppm.begin() ? 0u : *(step - 1)) == before.serve_ppm,
           where + "not the next ramp step");
    const Progress& progress = change.basis->first.progress;
    if (progress.forced) return;
    const Window window{change.tenant, after.window, after.catalog_revision};
    Expect(episodes_[window] >= policy.episodes, where + "on too little evidence");
    for (const Replica& replica : replicas_) {
      for (const Sample& sample : replica.samples) {
        Expect(sample.window != window || sample.at >= *progress.judged_until,
               where + "while evidence was outstanding");
      }
    }
  }
  void Expect(bool held, const std::string& violation) {
    if (!held) violations.push_back(violation);
  }

  sim::SimWorld sim_;
  base::Metrics metrics_;
  FakeStateStore store_;
  uint64_t catalog_ = 1;
  std::vector<std::unique_ptr<sim::FakeLeadership>> leaderships_;
  std::vector<std::unique_ptr<Controller>> controllers_;
  std::unique_ptr<StoreCommands> commands_;
  std::vector<Replica> replicas_;
  uint64_t next_episode_ = 0;

  // What the oracle knows.
  std::map<Window, uint64_t> episodes_;
  std::map<Window, uint64_t> divergences_;
  std::map<std::string, uint64_t> retired_;  // The window in which a target was last taken from the cache.
  std::set<std::string> receipts_;
  uint64_t newest_epoch_ = 0;
  size_t looked_at_ = 0;
};

const std::vector<Cohort> kCohorts = {{"canary", {"t0"}, 0}, {"some", {}, 300'000}, {"rest", {}, 1'000'000}};

// Newest first.
std::vector<Flip> AllFlips(FakeStateStore& store) { return *store.Flips(kFamily, 100'000); }

// The ways that a tenant was routed, in order.
std::vector<std::string> Path(FakeStateStore& store, const std::string& tenant) {
  std::vector<std::string> path;
  for (const Flip& flip : AllFlips(store)) {
    if (flip.tenant == tenant) path.insert(path.begin(), flip.to);
  }
  return path;
}

TEST(RolloutSimTest, AnHonestFamilyMovesTenantByTenant) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    World world(seed, 8);
    ASSERT_TRUE(world.Start(kCohorts).ok());
    ASSERT_TRUE(world.RunUntil(RolloutState::kSettled, absl::Minutes(10))) << EncodeRollout(world.Document());
    EXPECT_THAT(world.violations, IsEmpty());
    for (int i = 0; i < 8; ++i) {
      EXPECT_THAT(Path(world.store(), absl::StrCat("t", i)),
                  ElementsAre("SHADOW", "CACHE 5 %", "CACHE 25 %", "CACHE 100 %"));
    }
    for (const Flip& flip : AllFlips(world.store())) {
      if (flip.receipt_id.empty()) continue;
      const absl::StatusOr<TargetDecision> replayed = Replay(*world.store().FindReceipt(flip.receipt_id));
      EXPECT_TRUE(replayed.ok()) << replayed.status();
    }
  }
}

TEST(RolloutSimTest, AFamilyThatLiesIsStoppedAtItsFirstCohortAndGoesOnOnceItIsMended) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    World world(seed, 8);
    for (int i = 0; i < 8; ++i) world.liars.insert(absl::StrCat("t", i));
    ASSERT_TRUE(world.Start(kCohorts).ok());
    ASSERT_TRUE(world.RunUntil(RolloutState::kStopped, absl::Minutes(1)));
    world.RunFor(absl::Minutes(5));
    EXPECT_EQ(world.Document().targets.at("t0").state, TargetState::kBlocked);
    EXPECT_EQ(world.Document().targets.size(), 1u);
    EXPECT_THAT(Path(world.store(), "t0"), ElementsAre("SHADOW"));

    const absl::StatusOr<RolloutView> view = world.commands().Get(kFamily);
    ASSERT_TRUE(view.ok()) << view.status();
    EXPECT_EQ(view->state, RolloutState::kStopped);
    EXPECT_GT(view->targets.at(0).confirmed, 0u);
    EXPECT_THAT(view->fingerprints, ElementsAre("f"));

    world.liars.clear();
    world.RunFor(absl::Seconds(5));
    ASSERT_TRUE(world.Execute(Verb::kResume).ok());
    ASSERT_TRUE(world.RunUntil(RolloutState::kSettled, absl::Minutes(10))) << EncodeRollout(world.Document());
    EXPECT_EQ(world.FlagOf("t0").window, 2u);
    EXPECT_THAT(world.violations, IsEmpty());
  }
}

TEST(RolloutSimTest, P5ADivergenceAfterCutoverRollsBackWithinTwoTicks) {
  for (const bool pause : {false, true}) {
    World world(11, 8);
    ASSERT_TRUE(world.Start(kCohorts).ok());
    ASSERT_TRUE(world.RunUntilCutover("t0", absl::Minutes(2)));
    if (pause) {
      ASSERT_TRUE(world.Execute(Verb::kPause).ok());
    }
    world.Confirm("t0");
    world.RunFor(2 * kTick);
    EXPECT_EQ(world.FlagOf("t0").mode, flags::Mode::kDatabase);
    EXPECT_EQ(world.Document().state, RolloutState::kStopped);
    const Flip flip = world.store().Flips(kFamily, 1)->front();
    EXPECT_EQ(flip.to, "DATABASE");
    EXPECT_THAT(flip.why, HasSubstr("1 divergence confirmed after the cutover"));
    EXPECT_TRUE(Replay(*world.store().FindReceipt(flip.receipt_id)).ok());
    EXPECT_THAT(world.violations, IsEmpty());
  }
}

TEST(RolloutSimTest, P5ControllersThatDoNotKnowTheyWereDeposedChangeNothing) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    World world(seed, 6);
    ASSERT_TRUE(world.Start(kCohorts).ok());
    for (int i = 0; i < 600 && world.Document().state != RolloutState::kSettled; ++i) {
      world.RunFor(absl::Seconds(1));
      if (world.random().Below(3) != 0) continue;
      // The seat changes hands, and the old leader goes on believing.
      const int old = world.store().leader == "replica-0" ? 0 : 1;
      world.leadership(1 - old).deluded = false;
      world.store().leader.clear();
      world.leadership(1 - old).Hold().IgnoreError();
      world.leadership(old).deluded = true;
    }
    EXPECT_EQ(world.Document().state, RolloutState::kSettled);
    EXPECT_GT(world.store().leader_epoch, 5u);
    EXPECT_THAT(world.violations, IsEmpty());
  }
}

TEST(RolloutSimTest, P4ADivergenceBetweenDecisionAndFlipIsSeen) {
  // With the planted fault the same history must be noticed, or the oracle is blind.
  for (const bool planted : {false, true}) {
    World world(3, 1);
    world.store().skip_recount = planted;
    ASSERT_TRUE(world.Start({{"all", {"t0"}, 0}}).ok());
    bool reached = false;
    for (int i = 0; i < 200 && !reached; ++i) {
      world.store().before_write = [&] {
        const std::optional<absl::Time> judged = world.Document().targets["t0"].judged_until;
        if (!judged.has_value()) return;
        reached = true;
        world.Confirm("t0");
      };
      world.RunFor(kTick);
    }
    ASSERT_TRUE(reached);
    world.RunFor(absl::Seconds(5));
    if (planted) {
      EXPECT_THAT(world.violations, Contains(HasSubstr("past a confirmed divergence")));
    } else {
      EXPECT_THAT(world.violations, IsEmpty());
      EXPECT_EQ(world.Document().targets.at("t0").state, TargetState::kBlocked);
      EXPECT_THAT(Path(world.store(), "t0"), ElementsAre("SHADOW"));
    }
  }
}

TEST(RolloutSimTest, P5ARollbackBetweenDecisionAndFlipWins) {
  for (const Verb verb : {Verb::kRollback, Verb::kAbort}) {
    World world(4, 1);
    ASSERT_TRUE(world.Start({{"all", {"t0"}, 0}}).ok());
    bool reached = false;
    for (int i = 0; i < 200 && !reached; ++i) {
      world.store().before_write = [&] {
        if (!world.Document().targets["t0"].judged_until.has_value()) return;
        reached = true;
        EXPECT_TRUE(world.Execute(verb).ok());
      };
      world.RunFor(kTick);
    }
    ASSERT_TRUE(reached);
    EXPECT_EQ(world.FlagOf("t0").mode, flags::Mode::kDatabase);
    world.RunFor(absl::Minutes(5));
    EXPECT_THAT(Path(world.store(), "t0"), ElementsAre("SHADOW", "DATABASE"));
    EXPECT_THAT(world.violations, IsEmpty());
  }
}

TEST(RolloutSimTest, WhicheverCallOfTheStoreFailsTheRolloutArrives) {
  for (const FakeStateStore::Fault fault : {FakeStateStore::Fault::kBefore, FakeStateStore::Fault::kAfter}) {
    for (uint64_t n = 1;; ++n) {
      SCOPED_TRACE(testing::Message() << "call " << n
                                      << (fault == FakeStateStore::Fault::kAfter ? ", after its effect" : ""));
      World world(5, 2);
      world.policy.duration = absl::Seconds(4);
      world.policy.episodes = 10;
      world.policy.slo_ppm = 200'000;
      world.policy.soak = absl::Seconds(1);
      ASSERT_TRUE(world.Start({{"first", {"t0"}, 0}, {"rest", {}, 1'000'000}}).ok());
      world.store().FailCalls(n, 1, fault);
      world.RunUntil(RolloutState::kSettled, absl::Minutes(2));
      const bool reached = world.store().fault_was_reached();
      world.store().FailCalls(1, 0, FakeStateStore::Fault::kNone);
      ASSERT_EQ(world.Document().state, RolloutState::kSettled);
      ASSERT_THAT(world.violations, IsEmpty());
      for (const char* tenant : {"t0", "t1"}) {
        ASSERT_THAT(Path(world.store(), tenant), ElementsAre("SHADOW", "CACHE 5 %", "CACHE 25 %", "CACHE 100 %"));
      }
      if (!reached) break;
    }
  }
}

TEST(RolloutSimTest, AStoreThatIsAwayForAWhileDelaysTheRolloutOnly) {
  World world(6, 3);
  ASSERT_TRUE(world.Start(kCohorts).ok());
  world.RunFor(absl::Seconds(10));
  world.store().FailCalls(1, 400, FakeStateStore::Fault::kBefore);
  world.RunFor(absl::Minutes(10));
  EXPECT_EQ(world.Document().state, RolloutState::kSettled);
  EXPECT_THAT(world.violations, IsEmpty());
}

TEST(RolloutSimTest, HookFailuresDoNotStopTheRollout) {
  sim::SimClock clock;
  FakeStateStore store(&clock);
  sim::FakeLeadership leadership(&store, "a");
  base::Metrics metrics;
  int swept = 0;
  int refreshed = 0;
  Controller::Deps deps;
  deps.clock = &clock;
  deps.store = &store;
  deps.leadership = &leadership;
  deps.metrics = &metrics;
  deps.catalog = [](const std::string&) { return std::nullopt; };
  deps.hooks = {{"sweep", absl::Seconds(5), [&] { return ++swept, absl::UnavailableError("away"); }},
                {"refresh", absl::Seconds(60), [&] { return ++refreshed, absl::OkStatus(); }}};
  Controller controller({}, std::move(deps));
  for (int i = 0; i < 120; ++i) {
    controller.Tick().IgnoreError();
    clock.Advance(kTick);
  }
  EXPECT_EQ(swept, 12);
  EXPECT_EQ(refreshed, 1);
  EXPECT_TRUE(controller.leading());
}

// Everything at once.
TEST(RolloutSimTest, StormsBreakNoPromise) {
  std::map<RolloutState, int> ends;
  for (uint64_t seed = 1; seed <= 24; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    World world(seed, 5);
    base::Random dice(seed * 7919);
    world.policy.approval = dice.Below(2) == 0;
    world.Start(kCohorts).IgnoreError();
    for (int second = 0; second < 600; ++second) {
      world.RunFor(absl::Seconds(1));
      const std::string tenant = absl::StrCat("t", dice.Below(5));
      switch (dice.Below(60)) {
        case 0:
          world.liars.insert(tenant);
          break;
        case 1:
        case 2:
          world.liars.clear();
          break;
        case 3:
          world.Execute(Verb::kPause).IgnoreError();
          break;
        case 4:
        case 5:
        case 6:
        case 7:
          world.Execute(Verb::kResume).IgnoreError();
          break;
        case 8:
        case 9:
        case 10:
          world.Execute(Verb::kApprove).IgnoreError();
          break;
        case 11:
          world.Execute(Verb::kPromote, tenant).IgnoreError();
          break;
        case 12:
          if (world.Execute(Verb::kRollback, tenant).ok()) {
            EXPECT_NE(world.FlagOf(tenant).mode, flags::Mode::kCache);
          }
          break;
        case 13:
          if (dice.Below(8) == 0) world.Execute(dice.Below(2) == 0 ? Verb::kRollback : Verb::kAbort).IgnoreError();
          break;
        case 14:
          if (dice.Below(4) == 0) world.ChangeCatalog();
          break;
        case 15:
          world.store().FailCalls(1 + dice.Below(5), 1 + dice.Below(20),
                                  dice.Below(2) == 0 ? FakeStateStore::Fault::kBefore : FakeStateStore::Fault::kAfter);
          break;
        case 16:
          world.store().leader.clear();
          break;
        case 17:
        case 18:
          world.Start(kCohorts).IgnoreError();
          break;
        default:
          break;
      }
      ASSERT_THAT(world.violations, IsEmpty());
    }
    ++ends[world.Document().state];
  }
  for (const auto& [state, count] : ends) std::printf("%s: %d\n", std::string(StateName(state)).c_str(), count);
  EXPECT_GE(ends.size(), 4u) << "the storms are all alike";
}

}  // namespace
}  // namespace shadowline::rollout
