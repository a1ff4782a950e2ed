// Observed endpoints: what Decide decides, and what becomes of the reads that an application reports. The application
// here has a clock of its own, and a network between it and the replicas.
#include "server/read/observer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/event_loop.h"
#include "cache/catalog/parse.h"
#include "server/read/decider.h"
#include "tests/sim/sim.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr absl::Duration kDelta = absl::Seconds(1);
constexpr absl::Duration kPatience = absl::Seconds(30);

constexpr char kCatalog[] = R"(version: 1
tenants: {list: [acme, globex]}
families:
  stock:
    endpoints:
      level:
        observed: true
        parameters: {id: {type: text}}
        freshness: 1s
        compare: {ignore: ["$.at"]}
        row_version: /version
)";

std::shared_ptr<const cache::CompiledCatalog> Catalog(uint64_t revision) {
  const auto catalog = cache::ParseCatalog(kCatalog, revision);
  EXPECT_TRUE(catalog.ok()) << catalog.status();
  return *catalog;
}

// What one side says; nothing: "not found".
using Side = std::optional<std::string>;
std::string Level(int level) { return absl::StrCat(R"({"level":)", level, "}"); }

// One replica: what it knows, and what it counts.
struct Replica {
  Replica(sim::SimWorld* world, uint64_t id, Observer::Options options, const std::string& secret)
      : board(world->clock(), absl::Hours(10'000)),
        ledger(world->clock()),
        tokens(secret, id, world->clock()),
        decider({.seed = id}, {&board, &catalog, &tokens, &metrics}),
        observer(WithSecret(std::move(options)),
                 {&catalog, &tokens, world->executor(), world->clock(), &ledger, &metrics,
                  [this](diff::Divergence divergence) { divergences.push_back(std::move(divergence)); }}) {
    catalog.Publish(Catalog(1));
  }
  static Observer::Options WithSecret(Observer::Options options) {
    options.redaction_secret = "a secret of this test";
    return options;
  }
  diff::Counts Counts() const { return ledger.totals().counts; }
  double Metric(const std::string& sample) const {
    const std::string text = metrics.Expose();
    const size_t at = text.find(absl::StrCat("\n", sample, " "));
    return at == std::string::npos ? -1 : std::stod(text.substr(at + sample.size() + 2));
  }

  flags::Board board;
  CatalogHolder catalog;
  diff::Ledger ledger;
  base::Metrics metrics;
  std::vector<diff::Divergence> divergences;
  Tokens tokens;
  Decider decider;
  Observer observer;
};

class ObservedWorld {
 public:
  explicit ObservedWorld(Observer::Options options = {}, uint64_t seed = 1)
      : world(seed), a(&world, 1, options, "one secret"), b(&world, 2, options, "one secret") {
    Route({.mode = flags::Mode::kShadow, .sample_ppm = 1'000'000});
  }
  ~ObservedWorld() {
    world.RunUntilIdle();
    for (const Replica* replica : {&a, &b}) {
      EXPECT_EQ(replica->Counts().Pending(), 0u);
      EXPECT_EQ(replica->Metric("shadowline_observed_reads"), 0);
    }
  }

  void Route(flags::Flag flag) {
    flag.window = 7;
    ++flag_revision_;
    for (Replica* replica : {&a, &b}) {
      flags::Snapshot::Targets targets;
      for (const char* tenant : {"acme", "globex"}) targets[{"stock", tenant}] = flag;
      replica->board.Publish(
          std::make_shared<flags::Snapshot>(flag_revision_, absl::flat_hash_set<std::string>{"acme", "globex"},
                                            std::move(targets), flags::Lives(), 1),
          world.clock()->Steady());
    }
  }

  static v1::DecideRequest Request(const std::string& id, const std::string& request_id = "",
                                   const std::string& tenant = "acme") {
    v1::DecideRequest request;
    request.mutable_read()->set_tenant(tenant);
    request.mutable_read()->set_endpoint("stock/level");
    request.mutable_read()->set_request_id(request_id);
    auto* parameter = request.mutable_read()->add_parameters();
    parameter->set_name("id");
    parameter->mutable_value()->set_text(id);
    return request;
  }
  v1::DecideResponse Decide(const std::string& id, const std::string& request_id = "") {
    const auto decided = a.decider.Decide(Request(id, request_id));
    EXPECT_TRUE(decided.ok()) << decided.status();
    return decided.value_or(v1::DecideResponse());
  }

  static void Say(const Side& side, v1::ObservedAnswer* answer) {
    answer->set_outcome(side.has_value() ? v1::OBSERVED_OUTCOME_FOUND : v1::OBSERVED_OUTCOME_NOT_FOUND);
    if (side.has_value()) answer->set_json(*side);
  }
  // Both sides, read one after the other within 4 ms.
  v1::ObservedRead Read(const Side& candidate, const Side& control) {
    v1::ObservedRead observation;
    Say(candidate, observation.mutable_candidate());
    Say(control, observation.mutable_control());
    observation.mutable_candidate()->set_began_us_ago(4'000);
    observation.mutable_candidate()->set_took_us(1'000);
    observation.mutable_control()->set_began_us_ago(3'000);
    observation.mutable_control()->set_took_us(2'000);
    world.RunFor(absl::Milliseconds(4));
    return observation;
  }
  v1::ObservedRead FirstRead(const std::string& id, const Side& candidate, const Side& control) {
    const std::string decision = Decide(id).decision();
    v1::ObservedRead observation = Read(candidate, control);
    observation.set_decision(decision);
    return observation;
  }
  // Reads again when it was told to, or after `waited`.
  v1::ObservedRead NextRead(const v1::Judgement& told, const Side& candidate, const Side& control,
                            std::optional<absl::Duration> waited = std::nullopt) {
    const absl::Duration wait = waited.value_or(absl::Microseconds(told.look_again_in_us()));
    world.RunFor(wait);
    v1::ObservedRead observation = Read(candidate, control);
    observation.set_episode(told.episode());
    observation.set_waited_us(absl::ToInt64Microseconds(wait));
    return observation;
  }
  v1::Judgement Observe(const v1::ObservedRead& observation, Replica* replica = nullptr) {
    const auto judged = (replica == nullptr ? a : *replica).observer.Observe(observation);
    EXPECT_TRUE(judged.ok()) << judged.status();
    return judged.value_or(v1::Judgement());
  }
  v1::Judgement Report(const std::string& id, const Side& candidate, const Side& control) {
    return Observe(FirstRead(id, candidate, control));
  }
  std::vector<diff::Episode> Episodes(Replica* replica) {
    std::vector<diff::Episode> all;
    for (const auto& [key, episodes] : replica->ledger.BuildFlush().episodes) {
      EXPECT_EQ(key.window, 7u);
      EXPECT_EQ(key.catalog_revision, 1u);
      EXPECT_EQ(key.endpoint, "stock/level");
      EXPECT_EQ(key.family, "stock");
      EXPECT_EQ(key.tenant, "acme");
      all.insert(all.end(), episodes.begin(), episodes.end());
    }
    return all;
  }

  sim::SimWorld world;
  Replica a;
  Replica b;

 private:
  uint64_t flag_revision_ = 0;
};

// ---- Deciding ----

TEST(DeciderTest, FollowsTheTargetsMode) {
  ObservedWorld w;
  const v1::DecideResponse shadow = w.Decide("1");
  EXPECT_EQ(shadow.source(), v1::SOURCE_DATABASE);
  EXPECT_EQ(shadow.reason(), v1::READ_REASON_MODE_SHADOW);
  EXPECT_TRUE(shadow.verify());
  EXPECT_EQ(shadow.good_for_us(), absl::ToInt64Microseconds(absl::Minutes(5)));
  EXPECT_LE(shadow.decision().size(), 1024u);

  w.Route({.mode = flags::Mode::kCache, .serve_ppm = 1'000'000, .sample_ppm = 0});
  const v1::DecideResponse cache = w.Decide("1");
  EXPECT_EQ(cache.source(), v1::SOURCE_CACHE);
  EXPECT_EQ(cache.reason(), v1::READ_REASON_CACHE_HIT);
  EXPECT_FALSE(cache.verify());
  EXPECT_EQ(cache.decision(), "");
  v1::DecideRequest fresh = ObservedWorld::Request("1");
  fresh.mutable_read()->set_consistency(v1::CONSISTENCY_FRESH);
  EXPECT_EQ(w.a.decider.Decide(fresh)->reason(), v1::READ_REASON_CONSISTENCY);

  w.Route({.mode = flags::Mode::kDatabase, .sample_ppm = 1'000'000});
  const v1::DecideResponse database = w.Decide("1");
  EXPECT_EQ(database.source(), v1::SOURCE_DATABASE);
  EXPECT_FALSE(database.verify());
  EXPECT_EQ(w.a.Metric(R"(shadowline_observed_decisions_total{source="cache",verify="no"})"), 1);
}

TEST(DeciderTest, ARetryIsDecidedAlikeOnEveryReplicaAndALargerShareHoldsASmallerOne) {
  ObservedWorld w;
  int verified = 0;
  std::vector<bool> at_ten;
  for (const uint32_t sample_ppm : {100'000u, 400'000u}) {
    w.Route({.mode = flags::Mode::kCache, .serve_ppm = sample_ppm, .sample_ppm = sample_ppm});
    for (int i = 0; i < 500; ++i) {
      const auto request = ObservedWorld::Request(absl::StrCat(i), absl::StrCat("request ", i));
      const auto one = w.a.decider.Decide(request);
      const auto retry = w.b.decider.Decide(request);
      EXPECT_EQ(one->verify(), retry->verify());
      EXPECT_EQ(one->source(), retry->source());
      if (sample_ppm == 100'000) at_ten.push_back(one->verify());
      EXPECT_TRUE(one->verify() || !at_ten[i]);
      verified += one->verify();
    }
  }
  EXPECT_NEAR(verified, 250, 50);
}

TEST(DeciderTest, WithoutTheLeaseTheDatabaseIsAskedAndNothingVerified) {
  ObservedWorld w;
  w.Route({.mode = flags::Mode::kCache, .serve_ppm = 1'000'000, .sample_ppm = 1'000'000});
  w.world.RunFor(absl::Hours(10'001));
  const v1::DecideResponse decided = w.Decide("1");
  EXPECT_EQ(decided.source(), v1::SOURCE_DATABASE);
  EXPECT_EQ(decided.reason(), v1::READ_REASON_LEASE_LAPSED);
  EXPECT_FALSE(decided.verify());
}

TEST(DeciderTest, WhatCannotBeDecidedIsRefused) {
  ObservedWorld w;
  const auto status = [&](auto edit) {
    v1::DecideRequest request = ObservedWorld::Request("1");
    edit(request.mutable_read());
    return w.a.decider.Decide(request).status();
  };
  EXPECT_THAT(status([](auto* read) { read->set_tenant("nobody"); }).ToString(), HasSubstr("NOT_FOUND: tenant nobody"));
  EXPECT_THAT(status([](auto* read) { read->set_endpoint("stock/other"); }).ToString(), HasSubstr("NOT_FOUND"));
  EXPECT_THAT(status([](auto* read) { read->clear_tenant(); }).ToString(), HasSubstr("INVALID_ARGUMENT: read.tenant"));
  EXPECT_THAT(status([](auto* read) { read->clear_parameters(); }).ToString(), HasSubstr("INVALID_ARGUMENT"));
  EXPECT_THAT(status([](auto* read) { read->set_at_least("16/B374D848"); }).ToString(), HasSubstr("read.at_least"));
}

// ---- Equal ----

TEST(ObserverTest, TheSameAnswerIsMatched) {
  ObservedWorld w;
  const v1::Judgement judgement = w.Report("1", Level(1), R"({ "level": 1.0 })");
  EXPECT_EQ(judgement.state(), v1::Judgement::STATE_SETTLED);
  EXPECT_EQ(judgement.verdict(), "matched");
  EXPECT_EQ(w.Report("2", std::nullopt, std::nullopt).verdict(), "matched");
  EXPECT_EQ(w.Report("3", R"({"level":1,"at":1})", R"({"level":1,"at":2})").verdict(), "excused");
  EXPECT_EQ(w.a.Counts().sampled, 3u);
  EXPECT_EQ(w.a.Counts().matched, 2u);
  EXPECT_EQ(w.a.Counts().excused, 1u);
  EXPECT_EQ(w.a.Counts().candidate_latency[2], 3u) << "of the candidate, 1 ms";
  EXPECT_EQ(w.Episodes(&w.a).size(), 3u);
}

TEST(ObserverTest, AReadStandsForThoseThatWereNotDrawn) {
  ObservedWorld w;
  w.Route({.mode = flags::Mode::kShadow, .sample_ppm = 250'000});
  std::string decision;
  for (int i = 0; decision.empty(); ++i) decision = w.Decide("1", absl::StrCat(i)).decision();
  v1::ObservedRead read = w.Read(Level(1), Level(1));
  read.set_decision(decision);
  EXPECT_EQ(w.Observe(read).verdict(), "matched");
  EXPECT_EQ(w.a.Counts().weighted.judged, 4'000'000u);
}

TEST(ObserverTest, AnEpisodeIsExercisedWhenItsKeyHeldAnotherAnswerBefore) {
  ObservedWorld w;
  w.Report("1", Level(1), Level(1));
  w.Report("1", Level(2), Level(2));
  w.Report("1", Level(2), Level(2));
  w.Report("2", Level(1), Level(1));
  const std::vector<diff::Episode> episodes = w.Episodes(&w.a);
  ASSERT_EQ(episodes.size(), 3u);
  EXPECT_FALSE(episodes[0].exercised);
  EXPECT_TRUE(episodes[1].exercised);
  EXPECT_FALSE(episodes[2].exercised);
}

TEST(ObserverTest, WithoutACandidateThereIsNothingToJudge) {
  ObservedWorld w;
  v1::ObservedRead miss = w.FirstRead("1", std::nullopt, Level(1));
  miss.mutable_candidate()->set_outcome(v1::OBSERVED_OUTCOME_MISS);
  EXPECT_EQ(w.Observe(miss).state(), v1::Judgement::STATE_NO_CANDIDATE);
  EXPECT_EQ(w.Observe(miss).state(), v1::Judgement::STATE_NO_CANDIDATE) << "a retry";
  v1::ObservedRead failed = w.FirstRead("1", std::nullopt, Level(1));
  failed.mutable_candidate()->set_outcome(v1::OBSERVED_OUTCOME_FAILED);
  EXPECT_EQ(w.Observe(failed).state(), v1::Judgement::STATE_NO_CANDIDATE);
  EXPECT_EQ(w.a.Counts().candidate_misses, 1u);
  EXPECT_EQ(w.a.Counts().candidate_errors, 1u);
  EXPECT_EQ(w.a.Counts().sampled, 0u);
}

TEST(ObserverTest, AReadOfOneSideAloneIsShed) {
  ObservedWorld w;
  v1::ObservedRead no_control = w.FirstRead("1", Level(1), Level(1));
  no_control.clear_control();
  v1::ObservedRead no_candidate = w.FirstRead("1", Level(1), Level(1));
  no_candidate.clear_candidate();
  EXPECT_EQ(w.Observe(no_control).verdict(), "shed");
  EXPECT_EQ(w.Observe(no_candidate).verdict(), "shed");
  EXPECT_EQ(w.a.Counts().sampled, 2u);
  EXPECT_EQ(w.a.Counts().shed, 2u);
}

// ---- Unequal ----

TEST(ObserverTest, TheSameAnswerAfterTheBoundIsConfirmed) {
  ObservedWorld w;
  w.Route({.mode = flags::Mode::kCache, .serve_ppm = 1'000'000, .sample_ppm = 1'000'000});
  const absl::Time began_at = w.world.clock()->Now();
  const v1::Judgement told = w.Report("1", Level(1), Level(2));
  EXPECT_EQ(told.state(), v1::Judgement::STATE_LOOK_AGAIN);
  EXPECT_EQ(told.verdict(), "");
  EXPECT_GE(told.look_again_in_us(), absl::ToInt64Microseconds(kDelta));
  EXPECT_LE(told.look_again_in_us(), absl::ToInt64Microseconds(kDelta * 1.1));
  EXPECT_EQ(told.good_for_us(), told.look_again_in_us() + absl::ToInt64Microseconds(kPatience));
  EXPECT_LE(told.episode().size(), 4096u);
  EXPECT_EQ(w.a.Counts().sampled, 1u);
  EXPECT_EQ(w.a.Counts().Pending(), 1u);

  const v1::Judgement judgement = w.Observe(w.NextRead(told, Level(1), Level(3)));
  EXPECT_EQ(judgement.state(), v1::Judgement::STATE_SETTLED);
  EXPECT_EQ(judgement.verdict(), "confirmed");
  EXPECT_EQ(w.a.Counts().sampled, 1u);
  EXPECT_EQ(w.a.Counts().confirmed, 1u);
  ASSERT_EQ(w.a.divergences.size(), 1u);
  const diff::Divergence& divergence = w.a.divergences[0];
  EXPECT_EQ(divergence.id, judgement.divergence());
  EXPECT_EQ(divergence.evidence.tenant, "acme");
  EXPECT_EQ(divergence.evidence.endpoint, "stock/level");
  EXPECT_EQ(divergence.evidence.window, 7u);
  EXPECT_THAT(divergence.key, StartsWith("sl:acme:stock/level:"));
  EXPECT_EQ(divergence.rule, "by_observation");
  EXPECT_EQ(divergence.freshness, kDelta);
  EXPECT_THAT(divergence.patterns, ElementsAre("/level: value"));
  ASSERT_EQ(divergence.differences.size(), 1u);
  EXPECT_THAT(divergence.differences[0].control, HasSubstr("#")) << "redacted";
  ASSERT_EQ(divergence.observations.size(), 2u);
  EXPECT_GE(divergence.observations[1].candidate_at - divergence.observations[0].control_at, kDelta);
  EXPECT_TRUE(divergence.observations[1].same_fill);
  EXPECT_GE(divergence.served_at, began_at);
  EXPECT_EQ(divergence.cause, "stale_entry");
  EXPECT_EQ(divergence.reads_affected, 1u);
  EXPECT_TRUE(divergence.after_cutover);
  EXPECT_TRUE(w.Episodes(&w.a).empty());
}

TEST(ObserverTest, AnAnswerThatIsReplacedInTimeHeals) {
  ObservedWorld w;
  const v1::Judgement told = w.Report("1", Level(1), Level(2));
  EXPECT_EQ(w.Observe(w.NextRead(told, Level(2), Level(2))).verdict(), "healed");
  // Gone from the cache is gone.
  const v1::Judgement again = w.Report("2", Level(1), Level(2));
  v1::ObservedRead miss = w.NextRead(again, std::nullopt, Level(2));
  miss.mutable_candidate()->set_outcome(v1::OBSERVED_OUTCOME_MISS);
  EXPECT_EQ(w.Observe(miss).verdict(), "healed");
  EXPECT_EQ(w.a.Counts().healed, 2u);
  EXPECT_EQ(w.Episodes(&w.a).size(), 2u);
}

TEST(ObserverTest, ADatabaseThatWentBackIsInconclusive) {
  ObservedWorld w;
  const v1::Judgement told = w.Report("1", Level(1), Level(2));
  EXPECT_EQ(w.Observe(w.NextRead(told, Level(1), Level(1))).verdict(), "inconclusive");
}

TEST(ObserverTest, AVersionTellsAnAnswerThatCameBackFromOneThatStayed) {
  for (const bool versioned : {false, true}) {
    ObservedWorld w;
    v1::ObservedRead first = w.FirstRead("1", Level(1), Level(2));
    if (versioned) first.mutable_candidate()->set_version("12");
    v1::ObservedRead next = w.NextRead(w.Observe(first), Level(1), Level(2));
    if (versioned) next.mutable_candidate()->set_version("14");
    EXPECT_EQ(w.Observe(next).verdict(), versioned ? "healed" : "confirmed");
  }
}

TEST(ObserverTest, ADatabaseReadBeforeTheCacheProvesNothingYet) {
  ObservedWorld w;
  v1::ObservedRead beside = w.FirstRead("1", Level(2), Level(1));
  beside.mutable_control()->set_began_us_ago(4'000);  // At the same time.
  const v1::Judgement told = w.Observe(beside);
  EXPECT_EQ(told.state(), v1::Judgement::STATE_LOOK_AGAIN);
  EXPECT_LT(told.look_again_in_us(), absl::ToInt64Microseconds(kDelta));
  EXPECT_EQ(w.Observe(w.NextRead(told, Level(2), Level(2))).verdict(), "matched");
}

TEST(ObserverTest, ALookThatComesTooEarlyCostsARound) {
  ObservedWorld w({.max_rounds = 2});
  const v1::Judgement told = w.Report("1", Level(1), Level(2));
  const v1::Judgement early = w.Observe(w.NextRead(told, Level(1), Level(2), kDelta / 2));
  EXPECT_EQ(early.state(), v1::Judgement::STATE_LOOK_AGAIN);
  EXPECT_EQ(w.Observe(w.NextRead(early, Level(1), Level(2), absl::Milliseconds(1))).verdict(), "inconclusive");
  EXPECT_EQ(w.a.Counts().inconclusive, 1u);
}

TEST(ObserverTest, WhatTheDatabaseNeverSaidIsErrored) {
  ObservedWorld w({.max_rounds = 1});
  v1::ObservedRead first = w.FirstRead("1", Level(1), std::nullopt);
  first.mutable_control()->set_outcome(v1::OBSERVED_OUTCOME_FAILED);
  const v1::Judgement told = w.Observe(first);
  EXPECT_EQ(told.state(), v1::Judgement::STATE_LOOK_AGAIN);
  v1::ObservedRead next = w.NextRead(told, Level(1), std::nullopt);
  next.clear_control();
  EXPECT_EQ(w.Observe(next).verdict(), "errored");

  v1::ObservedRead other = w.FirstRead("2", Level(1), std::nullopt);
  other.mutable_control()->set_outcome(v1::OBSERVED_OUTCOME_FAILED);
  EXPECT_EQ(w.Observe(w.NextRead(w.Observe(other), Level(2), Level(2))).verdict(), "errored") << "replaced unseen";
  EXPECT_EQ(w.a.Counts().errored, 2u);
}

TEST(ObserverTest, NobodyCameBackIsInconclusive) {
  ObservedWorld w;
  const v1::Judgement told = w.Report("1", Level(1), Level(2));
  w.world.RunFor(absl::Microseconds(told.good_for_us()) - absl::Milliseconds(1));
  EXPECT_EQ(w.a.Counts().Pending(), 1u);
  w.world.RunFor(absl::Milliseconds(2));
  EXPECT_EQ(w.a.Counts().inconclusive, 1u);
  EXPECT_EQ(w.a.Counts().Pending(), 0u);
  EXPECT_EQ(w.a.Metric("shadowline_observed_given_up_total"), 1);
  // Too late: it has been counted, and another replica will not have it either.
  const v1::ObservedRead late = w.NextRead(told, Level(1), Level(2), absl::Milliseconds(1));
  EXPECT_EQ(w.Observe(late).verdict(), "inconclusive");
  const auto elsewhere = w.b.observer.Observe(late);
  EXPECT_THAT(elsewhere.status().ToString(), HasSubstr("FAILED_PRECONDITION: episode: too old"));
  EXPECT_EQ(w.a.Counts().sampled, 1u);
  EXPECT_EQ(w.b.Counts().sampled, 0u);
}

TEST(ObserverTest, EachLookerIsWaitedForAsLongAsItWasTold) {
  ObservedWorld w;
  const v1::Judgement late = w.Report("1", Level(1), Level(2));
  // Told to come back soon, since its control proves nothing yet; it never does.
  v1::ObservedRead beside = w.FirstRead("1", Level(1), Level(2));
  beside.mutable_control()->set_began_us_ago(4'000);
  const v1::Judgement soon = w.Observe(beside);
  ASSERT_LT(soon.good_for_us(), late.good_for_us() - 100'000);
  w.world.RunFor(absl::Microseconds(soon.good_for_us()));
  EXPECT_EQ(w.a.Counts().inconclusive, 1u);
  EXPECT_EQ(w.a.Counts().Pending(), 1u);
  const absl::Duration waited = absl::Microseconds(soon.good_for_us());
  v1::ObservedRead next = w.Read(Level(1), Level(2));
  next.set_episode(late.episode());
  next.set_waited_us(absl::ToInt64Microseconds(waited));
  EXPECT_EQ(w.Observe(next).verdict(), "confirmed");
}

TEST(ObserverTest, ALookerWhoGoesOnKeepsNobodyWaitingWhoDoesNot) {
  ObservedWorld w({.lookers_max = 2, .max_rounds = 100});
  v1::Judgement told = w.Report("1", Level(1), Level(2));
  w.Report("1", Level(1), Level(2));  // Does not come back.
  EXPECT_EQ(w.Report("1", Level(1), Level(2)).state(), v1::Judgement::STATE_JOINED);
  for (int i = 0; i < 4; ++i) {
    v1::ObservedRead next = w.NextRead(told, Level(1), std::nullopt, absl::Seconds(10));
    next.clear_control();
    told = w.Observe(next);
    ASSERT_EQ(told.state(), v1::Judgement::STATE_LOOK_AGAIN);
  }
  EXPECT_EQ(w.a.Counts().inconclusive, 1u);
  EXPECT_EQ(w.a.Counts().Pending(), 2u);
  EXPECT_EQ(w.Report("1", Level(1), Level(2)).state(), v1::Judgement::STATE_LOOK_AGAIN) << "in its place";
  w.world.RunFor(absl::Seconds(40));
  EXPECT_EQ(w.a.Counts().inconclusive, 4u);
}

TEST(ObserverTest, ReadsOfTheSameAnswerJoinOneEpisode) {
  ObservedWorld w;
  std::vector<v1::Judgement> told;
  for (int i = 0; i < 10; ++i) told.push_back(w.Report("1", Level(1), Level(2)));
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(told[i].state(), i < 3 ? v1::Judgement::STATE_LOOK_AGAIN : v1::Judgement::STATE_JOINED);
  }
  EXPECT_EQ(w.a.Metric("shadowline_observed_episodes"), 1);
  EXPECT_EQ(w.Report("2", Level(1), Level(2)).state(), v1::Judgement::STATE_LOOK_AGAIN) << "another key";
  // The second looker is the first to come back; what it says is said of the fill.
  EXPECT_EQ(w.Observe(w.NextRead(told[1], Level(1), Level(2))).verdict(), "confirmed");
  EXPECT_EQ(w.a.Counts().confirmed, 10u);
  ASSERT_EQ(w.a.divergences.size(), 1u);
  EXPECT_EQ(w.a.divergences[0].reads_affected, 10u);
  EXPECT_EQ(w.Observe(w.NextRead(told[0], Level(1), Level(2))).verdict(), "confirmed");
  EXPECT_EQ(w.a.Counts().confirmed, 10u);
  EXPECT_EQ(w.a.divergences.size(), 1u);
}

TEST(ObserverTest, WhatIsSaidOfOneReadLeavesTheOtherLookersGoing) {
  ObservedWorld w({.lookers_max = 2});
  const v1::Judgement one = w.Report("1", Level(1), Level(2));
  const v1::Judgement other = w.Report("1", Level(1), Level(3));
  EXPECT_EQ(w.Report("1", Level(1), Level(3)).state(), v1::Judgement::STATE_JOINED);
  EXPECT_EQ(w.Observe(w.NextRead(one, Level(1), Level(1))).verdict(), "inconclusive");
  EXPECT_EQ(w.a.Counts().Pending(), 2u);
  EXPECT_EQ(w.Observe(w.NextRead(other, Level(1), Level(4))).verdict(), "confirmed");
  EXPECT_EQ(w.a.Counts().confirmed, 2u);
  EXPECT_EQ(w.a.Counts().inconclusive, 1u);
}

TEST(ObserverTest, ReadsThatNobodyLooksAfterAnyMoreShareTheLastLookersVerdict) {
  ObservedWorld w({.lookers_max = 1});
  const v1::Judgement told = w.Report("1", Level(1), Level(2));
  w.Report("1", Level(1), Level(2));
  EXPECT_EQ(w.Observe(w.NextRead(told, Level(1), Level(1))).verdict(), "inconclusive");
  EXPECT_EQ(w.a.Counts().inconclusive, 2u);
}

TEST(ObserverTest, ARetryIsCountedOnce) {
  ObservedWorld w;
  const v1::ObservedRead equal = w.FirstRead("1", Level(1), Level(1));
  EXPECT_EQ(w.Observe(equal).verdict(), "matched");
  EXPECT_EQ(w.Observe(equal).verdict(), "matched");
  EXPECT_EQ(w.a.Counts().sampled, 1u);

  const v1::ObservedRead unequal = w.FirstRead("2", Level(1), Level(2));
  w.Observe(unequal);
  const v1::Judgement told = w.Observe(unequal);
  EXPECT_EQ(told.state(), v1::Judgement::STATE_LOOK_AGAIN);
  EXPECT_EQ(w.a.Counts().sampled, 2u);
  const v1::ObservedRead next = w.NextRead(told, Level(1), Level(2));
  const v1::Judgement judgement = w.Observe(next);
  EXPECT_EQ(w.Observe(next).divergence(), judgement.divergence());
  EXPECT_EQ(w.a.Counts().sampled, 2u);
  EXPECT_EQ(w.a.Counts().confirmed, 1u);
  EXPECT_EQ(w.a.divergences.size(), 1u);
}

// ---- Digests ----

TEST(ObserverTest, DigestsAreComparedForEqualityAlone) {
  ObservedWorld w;
  const auto digests = [](v1::ObservedRead observation, const std::string& candidate, const std::string& control) {
    observation.mutable_candidate()->set_digest(candidate);
    observation.mutable_control()->set_digest(control);
    return observation;
  };
  EXPECT_EQ(w.Observe(digests(w.FirstRead("1", "", ""), "\1\2", "\1\2")).verdict(), "matched");
  const v1::Judgement told = w.Observe(digests(w.FirstRead("2", "", ""), "\1\2", "\1\3"));
  const v1::Judgement judgement = w.Observe(digests(w.NextRead(told, "", ""), "\1\2", "\1\4"));
  EXPECT_EQ(judgement.verdict(), "confirmed");
  ASSERT_EQ(w.a.divergences.size(), 1u);
  EXPECT_THAT(w.a.divergences[0].patterns, ElementsAre(": value"));
  EXPECT_THAT(w.a.divergences[0].differences[0].candidate, HasSubstr("#"));

  // Against "not found", too.
  v1::ObservedRead missing = digests(w.FirstRead("3", "", ""), "\1", "\1");
  ObservedWorld::Say(std::nullopt, missing.mutable_candidate());
  missing.mutable_candidate()->clear_content();
  v1::ObservedRead next = digests(w.NextRead(w.Observe(missing), "", ""), "\1", "\1");
  ObservedWorld::Say(std::nullopt, next.mutable_candidate());
  next.mutable_candidate()->clear_content();
  EXPECT_EQ(w.Observe(next).verdict(), "confirmed");
  EXPECT_THAT(w.a.divergences[1].patterns, ElementsAre(": missing"));

  v1::ObservedRead mixed = digests(w.FirstRead("4", "", ""), "\1", "\1");
  mixed.mutable_control()->set_json(Level(1));
  EXPECT_THAT(w.a.observer.Observe(mixed).status().ToString(), HasSubstr("INVALID_ARGUMENT: control: a digest"));
  const v1::Judgement open = w.Report("5", Level(1), Level(2));
  EXPECT_THAT(w.a.observer.Observe(digests(w.NextRead(open, "", ""), "\1", "\2")).status().ToString(),
              HasSubstr("INVALID_ARGUMENT: candidate: json and digests"));
}

// ---- Wrong at once ----

// Long enough to be somebody's own.
std::string Statement(absl::string_view whose, int balance) {
  return absl::StrCat(R"({"tenant":")", whose, R"(","balance":)", balance, R"(,"currency":"EUR"})");
}

// Reads of others, by which it is known that no two get the same.
void HearOthers(ObservedWorld* w) {
  for (int i = 100; i < 110; ++i) {
    w->Report(absl::StrCat(i), Statement("a", 1'000'000 + i), Statement("a", 1'000'000 + i));
  }
}

TEST(ObserverTest, SomebodyElsesAnswerIsConfirmedByTheFirstLookAndUnsafe) {
  ObservedWorld w;
  HearOthers(&w);
  EXPECT_EQ(w.Report("1", Statement("a", 100), Statement("a", 100)).verdict(), "matched");
  w.world.RunFor(2 * kDelta);
  v1::ObservedRead read;
  read.set_decision(w.a.decider.Decide(ObservedWorld::Request("1", "", "globex"))->decision());
  v1::ObservedRead both = w.Read(Statement("a", 100), Statement("b", 7));
  both.set_decision(read.decision());
  const v1::Judgement judgement = w.Observe(both);
  EXPECT_EQ(judgement.verdict(), "confirmed");
  ASSERT_EQ(w.a.divergences.size(), 1u);
  EXPECT_EQ(w.a.divergences[0].unsafe, "another_tenant");
  EXPECT_EQ(w.a.divergences[0].rule, "at_once");
  EXPECT_EQ(w.a.divergences[0].evidence.tenant, "globex");
  EXPECT_EQ(w.a.divergences[0].cause, "cross_tenant");
  EXPECT_EQ(w.a.Metric("shadowline_unsafe_divergences_total"), 1);
}

TEST(ObserverTest, RepliesThatAreOneOffOnAConnectionAreConfirmedAlthoughNobodySeesThemAgain) {
  // Each key was given the answer of the one before it, once.
  ObservedWorld w;
  for (int id = 0; id < 3; ++id) {
    w.Report(absl::StrCat(id), Statement("a", 100 + id), Statement("a", 100 + id));
  }
  HearOthers(&w);
  EXPECT_EQ(w.Report("3", Statement("a", 100), Statement("a", 103)).state(), v1::Judgement::STATE_LOOK_AGAIN)
      << "it may have moved within the bound";
  w.world.RunFor(2 * kDelta);
  EXPECT_EQ(w.Report("1", Statement("a", 100), Statement("a", 101)).verdict(), "confirmed");
  EXPECT_EQ(w.Report("2", Statement("a", 101), Statement("a", 102)).verdict(), "confirmed");
  ASSERT_EQ(w.a.divergences.size(), 2u);
  EXPECT_EQ(w.a.divergences[0].rule, "at_once");
  EXPECT_EQ(w.a.divergences[0].unsafe, "") << "of one tenant";
  EXPECT_EQ(w.a.divergences[0].cause, "key_collision");
  // One's own past is no stranger's.
  EXPECT_EQ(w.Report("2", Statement("a", 102), Statement("a", 103)).state(), v1::Judgement::STATE_LOOK_AGAIN);
}

TEST(ObserverTest, OfDigestsNobodyIsRecognised) {
  ObservedWorld w;
  const auto digests = [&](const std::string& id, const std::string& candidate, const std::string& control) {
    v1::ObservedRead read = w.FirstRead(id, "", "");
    read.mutable_candidate()->set_digest(candidate);
    read.mutable_control()->set_digest(control);
    return w.Observe(read);
  };
  const std::string of_an_empty_list(32, 'e');
  digests("1", of_an_empty_list, of_an_empty_list);
  EXPECT_EQ(digests("2", of_an_empty_list, std::string(32, 'f')).state(), v1::Judgement::STATE_LOOK_AGAIN);
}

TEST(ObserverTest, WhatIsNoJsonWasNeverRight) {
  ObservedWorld w;
  EXPECT_EQ(w.Report("1", "{\"level\":", Level(2)).verdict(), "confirmed");
  EXPECT_EQ(w.a.divergences.at(0).rule, "at_once");
}

std::string Versioned(int version, int level) {
  return absl::StrCat(R"({"version":)", version, R"(,"level":)", level, "}");
}

TEST(ObserverTest, WhatTheDatabaseNeverHeldUnderThatVersionIsConfirmedByTheFirstLook) {
  ObservedWorld w;
  EXPECT_EQ(w.Report("1", Versioned(3, 1), Versioned(3, 2)).verdict(), "confirmed");
  EXPECT_EQ(w.Report("2", Versioned(4, 1), Versioned(3, 2)).verdict(), "confirmed");
  ASSERT_EQ(w.a.divergences.size(), 2u);
  EXPECT_EQ(w.a.divergences[0].rule, "by_version");
  EXPECT_EQ(w.a.divergences[0].cause, "same_version");
  EXPECT_EQ(w.a.divergences[1].cause, "never_held");
  EXPECT_EQ(w.Report("3", Versioned(2, 1), Versioned(3, 2)).state(), v1::Judgement::STATE_LOOK_AGAIN);

  // A control that was asked beside the candidate may be the older one.
  v1::ObservedRead beside = w.FirstRead("4", Versioned(4, 1), Versioned(3, 2));
  beside.mutable_control()->set_began_us_ago(3'500);
  const v1::Judgement told = w.Observe(beside);
  EXPECT_EQ(told.state(), v1::Judgement::STATE_LOOK_AGAIN);
  EXPECT_LE(told.look_again_in_us(), 50'000);
  EXPECT_EQ(w.Observe(w.NextRead(told, Versioned(4, 1), Versioned(4, 1))).verdict(), "matched");
}

// ---- Tokens ----

TEST(ObserverTest, AForgedOrMixedUpTokenIsRefused) {
  ObservedWorld w;
  const v1::ObservedRead good = w.FirstRead("1", Level(1), Level(2));
  const auto refusal = [&](v1::ObservedRead observation) {
    return std::string(w.a.observer.Observe(observation).status().ToString());
  };
  for (size_t i = 0; i < good.decision().size(); ++i) {
    v1::ObservedRead bad = good;
    (*bad.mutable_decision())[i] ^= 1;
    ASSERT_THAT(refusal(bad), HasSubstr("INVALID_ARGUMENT: decision: not one of this service's")) << i;
  }
  for (const size_t size : {size_t{0}, size_t{1}, size_t{15}, size_t{16}, good.decision().size() - 1}) {
    v1::ObservedRead bad = good;
    bad.mutable_decision()->resize(size);
    EXPECT_THAT(refusal(bad), HasSubstr("INVALID_ARGUMENT: decision: not one of"));
  }
  v1::ObservedRead as_episode = good;
  as_episode.set_episode(good.decision());
  as_episode.set_waited_us(1);
  EXPECT_THAT(refusal(as_episode), HasSubstr("INVALID_ARGUMENT: episode: not one of"));
  v1::ObservedRead as_decision = good;
  as_decision.set_decision(w.Observe(good).episode());
  EXPECT_THAT(refusal(as_decision), HasSubstr("INVALID_ARGUMENT: decision: not one of"));

  Replica stranger(&w.world, 3, {}, "another secret");
  EXPECT_THAT(stranger.observer.Observe(good).status().ToString(), HasSubstr("INVALID_ARGUMENT: decision: not one of"));
  // Another tenant's name in it breaks the seal like any other change.
  v1::ObservedRead other = good;
  const size_t at = other.decision().find("acme");
  other.mutable_decision()->replace(at, 4, "glob");
  EXPECT_THAT(refusal(other), HasSubstr("INVALID_ARGUMENT"));
  EXPECT_EQ(w.a.Counts().sampled, 1u);
}

TEST(ObserverTest, AnOldDecisionIsRefused) {
  ObservedWorld w;
  const v1::ObservedRead observation = w.FirstRead("1", Level(1), Level(1));
  w.world.RunFor(absl::Minutes(5));
  EXPECT_THAT(w.a.observer.Observe(observation).status().ToString(),
              HasSubstr("FAILED_PRECONDITION: decision: too old"));
  EXPECT_EQ(w.a.Counts().sampled, 0u);
}

TEST(ObserverTest, WhatIsMissingOrContradictsIsRefusedByName) {
  ObservedWorld w;
  const auto refusal = [&](auto edit) {
    v1::ObservedRead observation = w.FirstRead("1", Level(1), Level(2));
    edit(&observation);
    const auto judged = w.a.observer.Observe(observation);
    EXPECT_TRUE(absl::IsInvalidArgument(judged.status())) << judged.status();
    return std::string(judged.status().message());
  };
  EXPECT_THAT(refusal([](auto* o) { o->clear_decision(); }), StartsWith("decision: missing"));
  EXPECT_THAT(refusal([](auto* o) { o->mutable_candidate()->clear_outcome(); }),
              StartsWith("candidate.outcome: missing"));
  EXPECT_THAT(refusal([](auto* o) { o->mutable_control()->clear_content(); }), StartsWith("control.json: missing"));
  EXPECT_THAT(refusal([](auto* o) { o->mutable_control()->set_outcome(v1::OBSERVED_OUTCOME_MISS); }),
              StartsWith("control.outcome: only a cache"));
  EXPECT_THAT(refusal([](auto* o) { o->mutable_candidate()->set_outcome(v1::OBSERVED_OUTCOME_NOT_FOUND); }),
              StartsWith("candidate.outcome: there is an answer"));
  EXPECT_THAT(refusal([](auto* o) { o->mutable_candidate()->set_json(std::string((1 << 20) + 1, ' ')); }),
              StartsWith("candidate.json: longer"));
  EXPECT_THAT(refusal([](auto* o) { o->mutable_candidate()->set_digest(std::string(65, 'x')); }),
              StartsWith("candidate.digest: expected 1 to 64"));
  EXPECT_THAT(refusal([](auto* o) { o->mutable_candidate()->set_version(std::string(129, 'x')); }),
              StartsWith("candidate.version: longer"));
  EXPECT_THAT(refusal([](auto* o) { o->mutable_control()->set_version("1"); }), StartsWith("control.version"));
  EXPECT_THAT(refusal([](auto* o) { o->mutable_control()->set_took_us(3'001); }), StartsWith("control.took_us"));
  EXPECT_THAT(refusal([](auto* o) { o->mutable_control()->set_began_us_ago(-1); }), StartsWith("control.began_us_ago"));
  EXPECT_THAT(refusal([](auto* o) { o->mutable_control()->set_began_us_ago(1'000'000'000'000); }),
              StartsWith("control.began_us_ago: out of range"));
  EXPECT_THAT(refusal([](auto* o) { o->set_served(v1::SOURCE_NEAR_CACHE); }), StartsWith("served"));
  EXPECT_THAT(refusal([](auto* o) { o->mutable_control()->set_json("{\"level\":"); }), StartsWith("control.json: "));
  EXPECT_EQ(w.a.Counts().sampled, 0u);
  EXPECT_EQ(w.a.Metric(R"(shadowline_observed_reports_total{outcome="refused"})"), 14);
}

// ---- Time ----

TEST(ObserverTest, TimesThatCannotBeAreRefused) {
  ObservedWorld w;
  v1::ObservedRead before = w.FirstRead("1", Level(1), Level(2));
  before.mutable_control()->set_began_us_ago(3'000'000);  // Milliseconds, taken for microseconds and turned about.
  EXPECT_THAT(w.a.observer.Observe(before).status().ToString(),
              HasSubstr("INVALID_ARGUMENT: candidate.began_us_ago: before the decision"));
  const v1::Judgement told = w.Report("1", Level(1), Level(2));
  v1::ObservedRead next = w.NextRead(told, Level(1), Level(2), absl::Milliseconds(20));
  next.set_waited_us(20'000'000);
  EXPECT_THAT(w.a.observer.Observe(next).status().ToString(), HasSubstr("INVALID_ARGUMENT: waited_us: "));
  next.set_waited_us(0);
  EXPECT_THAT(w.a.observer.Observe(next).status().ToString(), HasSubstr("INVALID_ARGUMENT: waited_us: missing"));
}

TEST(ObserverTest, ASlowNetworkProvesNothing) {
  // Each report travels for many times delta; what was read lay close together.
  ObservedWorld w;
  const v1::ObservedRead first = w.FirstRead("1", Level(1), Level(2));
  w.world.RunFor(10 * kDelta);
  const v1::Judgement told = w.Observe(first);
  ASSERT_EQ(told.state(), v1::Judgement::STATE_LOOK_AGAIN);
  w.world.RunFor(10 * kDelta);  // The reply,
  const v1::ObservedRead next = w.NextRead(told, Level(1), Level(2), kDelta / 2);
  w.world.RunFor(10 * kDelta);  // and the next report.
  EXPECT_EQ(w.Observe(next).state(), v1::Judgement::STATE_LOOK_AGAIN);
  EXPECT_EQ(w.a.Counts().confirmed, 0u);
}

// ---- More than one replica ----

TEST(ObserverTest, AnyReplicaGoesOnWithACase) {
  ObservedWorld w;
  const v1::Judgement told = w.Report("1", Level(1), Level(2));
  const v1::ObservedRead next = w.NextRead(told, Level(1), Level(2));
  const v1::Judgement judgement = w.Observe(next, &w.b);
  EXPECT_EQ(judgement.verdict(), "confirmed");
  EXPECT_EQ(w.b.Counts().sampled, 1u);
  EXPECT_EQ(w.b.Counts().confirmed, 1u);
  ASSERT_EQ(w.b.divergences.size(), 1u);
  EXPECT_EQ(w.b.divergences[0].observations.size(), 2u);
  // A replay counts nothing, and the replica of the first report gives it up.
  EXPECT_EQ(w.Observe(next, &w.b).verdict(), "confirmed");
  EXPECT_EQ(w.b.Counts().sampled, 1u);
  w.world.RunUntilIdle();
  EXPECT_EQ(w.a.Counts().sampled, 1u);
  EXPECT_EQ(w.a.Counts().inconclusive, 1u);
}

TEST(ObserverTest, ReplicasThatConfirmTheSameFillReportOneDivergence) {
  ObservedWorld w;
  const v1::Judgement told = w.Report("1", Level(1), Level(2));
  const v1::ObservedRead next = w.NextRead(told, Level(1), Level(2));
  EXPECT_EQ(w.Observe(next, &w.a).divergence(), w.Observe(next, &w.b).divergence());
}

TEST(ObserverTest, ACaseThatNeedsMoreLooksWaitsWhereItCameLast) {
  ObservedWorld w;
  const v1::Judgement told = w.Report("1", Level(1), Level(2));
  const v1::Judgement early = w.Observe(w.NextRead(told, Level(1), Level(2), kDelta / 2), &w.b);
  ASSERT_EQ(early.state(), v1::Judgement::STATE_LOOK_AGAIN);
  EXPECT_EQ(w.b.Counts().Pending(), 1u);
  EXPECT_EQ(w.Observe(w.NextRead(early, Level(1), Level(2)), &w.a).verdict(), "confirmed");
  EXPECT_EQ(w.a.Counts().confirmed, 1u);
  w.world.RunUntilIdle();
  EXPECT_EQ(w.b.Counts().inconclusive, 1u);
}

// ---- Limits and ends ----

TEST(ObserverTest, WhatThereIsNoRoomForIsShed) {
  ObservedWorld w({.reads_max = 2});
  const v1::Judgement told = w.Report("1", Level(1), Level(2));
  w.Report("2", Level(1), Level(2));
  const v1::Judgement shed = w.Report("3", Level(1), Level(2));
  EXPECT_EQ(shed.state(), v1::Judgement::STATE_SETTLED);
  EXPECT_EQ(shed.verdict(), "shed");
  EXPECT_EQ(w.Report("4", Level(1), Level(1)).verdict(), "matched");
  EXPECT_EQ(w.Observe(w.NextRead(told, Level(2), Level(2))).verdict(), "healed");
  EXPECT_EQ(w.Report("3", Level(1), Level(2)).state(), v1::Judgement::STATE_LOOK_AGAIN);
}

TEST(ObserverTest, AnotherCatalogShedsWhatIsOpen) {
  ObservedWorld w;
  const v1::Judgement told = w.Report("1", Level(1), Level(2));
  const v1::ObservedRead decided_before = w.FirstRead("2", Level(1), Level(1));
  w.a.catalog.Publish(Catalog(2));
  EXPECT_EQ(w.Observe(decided_before).verdict(), "shed");
  EXPECT_EQ(w.Observe(w.NextRead(told, Level(1), Level(2))).verdict(), "shed");
  EXPECT_EQ(w.a.Counts().sampled, 2u);
  EXPECT_EQ(w.a.Counts().shed, 2u);
  EXPECT_EQ(w.a.Metric(R"(shadowline_verification_shed_total{why="catalog"})"), 2);
}

TEST(ObserverTest, AShutdownShedsWhatIsOpen) {
  ObservedWorld w;
  const v1::Judgement told = w.Report("1", Level(1), Level(2));
  w.a.observer.Shutdown();
  EXPECT_EQ(w.a.Counts().shed, 1u);
  EXPECT_TRUE(absl::IsUnavailable(w.a.observer.Observe(w.NextRead(told, Level(1), Level(2))).status()));
}

TEST(ObserverTest, CountsWhatWasServedAgainstTheFlag) {
  ObservedWorld w;
  v1::ObservedRead observation = w.FirstRead("1", Level(1), Level(1));
  observation.set_served(v1::SOURCE_CACHE);
  w.Observe(observation);
  EXPECT_EQ(w.a.Metric("shadowline_observed_against_flag_total"), 1);
}

TEST(ObserverThreadsTest, EachReportIsCountedOnce) {
  const base::SystemClock clock;
  base::EventLoop loop(&clock, "observer");
  flags::Board board(&clock, absl::Hours(1));
  CatalogHolder catalog;
  diff::Ledger ledger(&clock);
  base::Metrics metrics;
  const Tokens tokens("secret", 1, &clock);
  Decider decider({.seed = 1}, {&board, &catalog, &tokens, &metrics});
  std::atomic<int> divergences = 0;
  Observer observer({.patience = absl::Hours(1)},
                    {&catalog, &tokens, &loop, &clock, &ledger, &metrics, [&](diff::Divergence) { ++divergences; }});
  catalog.Publish(Catalog(1));
  board.Publish(std::make_shared<flags::Snapshot>(
                    1, absl::flat_hash_set<std::string>{"acme"},
                    flags::Snapshot::Targets{
                        {{"stock", "acme"}, {.mode = flags::Mode::kShadow, .sample_ppm = 1'000'000, .window = 7}}}),
                clock.Steady());

  // All report the same keys; half of the answers differ, and each is reported twice.
  constexpr int kThreads = 4, kReads = 200;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.push_back(base::StartThread("reports", [&, t] {
      for (int i = 0; i < kReads; ++i) {
        const auto decided = decider.Decide(ObservedWorld::Request(absl::StrCat(i % 5)));
        v1::ObservedRead read;
        read.set_decision(decided->decision());
        ObservedWorld::Say(Level(i % 5), read.mutable_candidate());
        ObservedWorld::Say(Level(i % 2 == 0 ? i % 5 : t + 10), read.mutable_control());
        const auto first = observer.Observe(read);
        const auto second = observer.Observe(read);
        EXPECT_EQ(first->state() == v1::Judgement::STATE_SETTLED, i % 2 == 0);
        EXPECT_EQ(first->state(), second->state());
      }
    }));
  }
  for (std::thread& thread : threads) thread.join();
  observer.Shutdown();
  loop.Stop();
  const diff::Counts counts = ledger.totals().counts;
  EXPECT_EQ(counts.sampled, static_cast<uint64_t>(kThreads * kReads));
  EXPECT_EQ(counts.matched, static_cast<uint64_t>(kThreads * kReads / 2));
  EXPECT_EQ(counts.shed, static_cast<uint64_t>(kThreads * kReads / 2));
  EXPECT_EQ(divergences, 0);
}

// ---- A model ----

// An application whose cache is behind by a random time, two replicas, and a network that delays everything, also for
// longer than delta. Nothing is confirmed that the cache did not serve for delta after the database had changed; what
// is never invalidated is confirmed; and both ledgers balance.
TEST(ObserverModelTest, NothingIsConfirmedThatWasRightWithinTheBound) {
  uint64_t confirmed = 0, healed = 0, sampled = 0;
  for (uint64_t seed = 1; seed <= 2'000; ++seed) {
    ObservedWorld w({}, seed);
    base::Random random(seed);
    const auto within = [&](absl::Duration most) {
      return absl::Microseconds(static_cast<int64_t>(random.Below(absl::ToInt64Microseconds(most))));
    };
    // The level counts up; the cache holds each level from some time after it was written. Half of the caches lag for
    // less than delta, always.
    const absl::Time start = w.world.clock()->Now();
    const bool good = random.Below(2) == 0;
    std::vector<std::pair<absl::Time, absl::Time>> levels = {{start, start}};  // Written, cached.
    for (absl::Time at = start; at < start + absl::Seconds(20);) {
      at += within(absl::Seconds(2));
      const absl::Duration lag = good ? within(kDelta * 0.9) : within(absl::Seconds(6));
      levels.push_back({at, std::max(at + lag, levels.back().second)});
    }
    const auto level_at = [&](absl::Time time, bool cached) {
      int level = 0;
      for (size_t i = 0; i < levels.size(); ++i) {
        if ((cached ? levels[i].second : levels[i].first) <= time) level = static_cast<int>(i);
      }
      return level;
    };
    int served = 0;
    const auto read = [&](v1::ObservedRead* observation) {
      const absl::Time began = w.world.clock()->Now();
      const absl::Duration candidate_took = within(absl::Milliseconds(20));
      const absl::Duration control_took = within(absl::Milliseconds(50));
      const absl::Time candidate_read = began + candidate_took * 0.5;
      served = level_at(candidate_read, true);
      const absl::Duration pause = random.Below(4) == 0 ? -candidate_took : within(absl::Milliseconds(5));
      const absl::Time control_began = began + candidate_took + pause;
      ObservedWorld::Say(Level(served), observation->mutable_candidate());
      ObservedWorld::Say(Level(level_at(control_began + control_took * 0.5, false)), observation->mutable_control());
      w.world.RunFor(absl::Milliseconds(80));
      const absl::Time now = w.world.clock()->Now();
      observation->mutable_candidate()->set_began_us_ago(absl::ToInt64Microseconds(now - began));
      observation->mutable_candidate()->set_took_us(absl::ToInt64Microseconds(candidate_took));
      observation->mutable_control()->set_began_us_ago(absl::ToInt64Microseconds(now - control_began));
      observation->mutable_control()->set_took_us(absl::ToInt64Microseconds(control_took));
    };
    const auto travel = [&] { w.world.RunFor(within(random.Below(3) == 0 ? 2 * kDelta : absl::Milliseconds(10))); };
    const auto replica = [&] { return random.Below(3) == 0 ? &w.b : &w.a; };
    w.world.RunFor(within(absl::Seconds(10)));
    v1::ObservedRead observation;
    observation.set_decision(w.Decide("1").decision());
    travel();
    read(&observation);
    travel();
    v1::Judgement judgement = w.Observe(observation, replica());
    while (judgement.state() == v1::Judgement::STATE_LOOK_AGAIN) {
      travel();
      const absl::Duration wait = absl::Microseconds(judgement.look_again_in_us()) + within(absl::Milliseconds(100));
      w.world.RunFor(wait);
      v1::ObservedRead next;
      next.set_episode(judgement.episode());
      next.set_waited_us(absl::ToInt64Microseconds(wait));
      read(&next);
      travel();
      judgement = w.Observe(next, replica());
    }
    ASSERT_EQ(judgement.state(), v1::Judgement::STATE_SETTLED);
    if (judgement.verdict() == "confirmed") {
      ++confirmed;
      ASSERT_FALSE(good) << "seed " << seed;
      // It was served for delta after the next level had been written.
      ASSERT_GT(levels[served + 1].second - levels[served + 1].first, kDelta) << "seed " << seed;
    }
    healed += judgement.verdict() == "healed";
    w.world.RunUntilIdle();
    for (const Replica* one : {&w.a, &w.b}) {
      ASSERT_EQ(one->Counts().Pending(), 0u);
      sampled += one->Counts().sampled;
    }
  }
  EXPECT_GT(confirmed, 100u);
  EXPECT_GT(healed, 100u);
  EXPECT_GE(sampled, 2'000u);
}

}  // namespace
}  // namespace shadowline::server
