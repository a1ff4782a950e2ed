// What a state store promises, on the fake and on PostgreSQL.
#include "rollout/state_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/postgres/session.h"
#include "rollout/journal/journal.h"
#include "rollout/postgres/state_store.h"
#include "server/postgres/migrate.h"
#include "tests/sim/fake_state_store.h"
#include "tests/sim/sim.h"
#include "tests/support/private_servers.h"

namespace shadowline::rollout {
namespace {

using sim::StoreWorld;
using testing::ElementsAre;

constexpr char kReplicaA[] = "00000000-0000-4000-8000-00000000000a";
constexpr char kReplicaB[] = "00000000-0000-4000-8000-00000000000b";

support::PrivatePostgres* Postgres() {
  static support::PrivatePostgres postgres;
  return &postgres;
}

// The other hands on PostgreSQL.
class PostgresWorld final : public StoreWorld {
 public:
  explicit PostgresWorld(base::PostgresSessions* sessions) : sessions_(sessions) {}

  void AddTenant(const std::string& tenant) override {
    Run([&](pqxx::work& work) { work.exec_params("INSERT INTO shadowline.tenant (tenant) VALUES ($1)", tenant); });
  }
  void SetCatalog(uint64_t revision) override {
    Run([&](pqxx::work& work) {
      work.exec_params("INSERT INTO shadowline.catalog (revision, yaml) VALUES ($1, '')", revision);
    });
  }
  void SetReplica(const std::string& replica, absl::Duration heartbeat_age, absl::Time watermark,
                  bool stopped) override {
    Run([&](pqxx::work& work) {
      work.exec_params(
          "INSERT INTO shadowline.replica (replica, name, heartbeat_at, watermark, stopped_at) VALUES ($1::uuid, '',"
          " clock_timestamp() - $2 * interval '1 second', timestamptz 'epoch' + $3::bigint * interval '1 microsecond',"
          " CASE WHEN $4 THEN clock_timestamp() END) ON CONFLICT (replica) DO UPDATE SET"
          " heartbeat_at = excluded.heartbeat_at, watermark = excluded.watermark, stopped_at = excluded.stopped_at",
          replica, absl::ToDoubleSeconds(heartbeat_age), absl::ToUnixMicros(watermark), stopped);
    });
  }
  void SetCounts(const std::string& replica, const Place& place, const diff::Counts& c, uint64_t lost) override {
    Run([&](pqxx::work& work) {
      std::string latency = "{";
      for (const uint64_t reads : c.candidate_latency) absl::StrAppend(&latency, latency.size() > 1 ? "," : "", reads);
      work.exec_params(
          "INSERT INTO shadowline.evidence (family, tenant, window_no, catalog_revision, endpoint, minute, replica, "
          "sequence,"
          " sampled, matched, excused, healed, confirmed, inconclusive, errored, shed, lost, candidate_misses,"
          " candidate_errors, candidate_latency) VALUES ($1, $2, $3, $4, $5, $18, $6::uuid, 1, $7, $8, $9, $10, $11, "
          "$12, $13,"
          " $14, $15, $16, $17, $19::bigint[])",
          place.family, place.tenant, place.window, place.catalog_revision, place.endpoint, replica, c.sampled,
          c.matched, c.excused, c.healed, c.confirmed, c.inconclusive, c.errored, c.shed, lost, c.candidate_misses,
          c.candidate_errors, ++minute_, latency + "}");
    });
  }
  void AddEpisode(const Place& place, const diff::Episode& episode) override {
    Run([&](pqxx::work& work) {
      work.exec_params("INSERT INTO shadowline.episode VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
                       place.family, place.tenant, place.window, place.catalog_revision, place.endpoint, episode.id,
                       episode.key, episode.exercised);
    });
  }
  void AddDivergence(const Place& place, const std::string& fingerprint, uint64_t reads_affected,
                     const std::string& unsafe) override {
    Run([&](pqxx::work& work) {
      work.exec_params(
          "INSERT INTO shadowline.divergence (id, family, tenant, endpoint, window_no, catalog_revision, fingerprint,"
          " reads_affected, minute, key, fill, patterns, cause, cause_evidence, after_cutover, confirmed_at,"
          " differences_total, difference_pointers, difference_kinds, difference_controls, difference_candidates, rule,"
          " freshness_us, filled_at, served_at, look_candidate_at_us, look_same_fill, look_control_at_us, "
          "look_differed,"
          " look_snapshot, tags, tag_invalidated_at_us, unsafe) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, '', '', "
          "'{}', '', "
          "'',"
          " false, now(), 0, '{}', '{}', '{}', '{}', '', 0, now(), now(), '{}', '{}', '{}', '{}', '{}', '{}', '{}', "
          "$9)",
          absl::StrCat("d", ++divergences_), place.family, place.tenant, place.endpoint, place.window,
          place.catalog_revision, fingerprint, reads_affected, unsafe);
    });
  }

 private:
  void Run(const std::function<void(pqxx::work&)>& body) {
    const absl::Status status = sessions_->Transact([&](pqxx::work& work) {
      body(work);
      return absl::OkStatus();
    });
    ASSERT_TRUE(status.ok()) << status;
  }

  base::PostgresSessions* const sessions_;
  int minute_ = 0;
  int divergences_ = 0;
};

// One store with its other hands and its leader's seat.
struct Subject {
  virtual ~Subject() = default;
  virtual StateStore* store() = 0;
  virtual StoreWorld* world() = 0;
  virtual std::unique_ptr<Leadership> NewLeadership(const std::string& replica) = 0;
};

struct FakeSubject final : Subject {
  StateStore* store() override { return &fake; }
  StoreWorld* world() override { return &fake; }
  std::unique_ptr<Leadership> NewLeadership(const std::string& replica) override {
    return std::make_unique<sim::FakeLeadership>(&fake, replica);
  }
  sim::SimClock clock;
  sim::FakeStateStore fake{&clock};
};

struct PostgresSubject final : Subject {
  PostgresSubject() {
    const absl::Status migrated = server::Migrate(&sessions);
    EXPECT_TRUE(migrated.ok()) << migrated;
  }
  StateStore* store() override { return &postgres_store; }
  StoreWorld* world() override { return &postgres_world; }
  std::unique_ptr<Leadership> NewLeadership(const std::string& replica) override {
    return std::make_unique<PostgresLeadership>(PostgresLeadership::Options{connection_string, replica});
  }
  std::string connection_string = Postgres()->ConnectionString(Postgres()->CreateDatabase());
  base::PostgresSessions sessions{connection_string, 2};
  PostgresStateStore postgres_store{&sessions, {.rest_factor = 0}};
  PostgresWorld postgres_world{&sessions};
};

class StateStoreTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam()) {
      subject_ = std::make_unique<PostgresSubject>();
    } else {
      subject_ = std::make_unique<FakeSubject>();
    }
    world()->AddTenant("acme");
    world()->AddTenant("globex");
    world()->SetCatalog(1);
  }

  StateStore* store() { return subject_->store(); }
  StoreWorld* world() { return subject_->world(); }

  static absl::Time At(int seconds) { return absl::FromUnixSeconds(1'700'000'000 + seconds); }

  static Rollout NewRollout(const std::string& id, int started_at = 0) {
    Rollout rollout;
    rollout.id = id;
    rollout.family = "pricing";
    rollout.cohorts = {{"first", {"acme"}, 0}, {"rest", {}, 1'000'000}};
    rollout.endpoints = {"pricing/quote"};
    rollout.catalog_revision = 1;
    rollout.targets["acme"].state = TargetState::kShadow;
    rollout.targets["acme"].judged_until = At(7);
    rollout.who = "ann";
    rollout.reason = "it's \"time\"";
    rollout.started_at = At(started_at);
    rollout.changed_at = At(started_at);
    return rollout;
  }

  absl::Status Put(const Rollout& rollout) {
    Commit commit;
    commit.family = rollout.family;
    commit.rollout = rollout;
    commit.now = rollout.started_at;
    return store()->Write(commit);
  }

  FamilyState Load(Detail detail = Detail::kEvidence) {
    absl::StatusOr<FamilyState> state = store()->Load("pricing", detail);
    EXPECT_TRUE(state.ok()) << state.status();
    return *std::move(state);
  }

  // A change of acme's row, as it is now, to `mode`.
  Commit Move(flags::Mode mode, bool promotes) {
    TargetChange change;
    change.tenant = "acme";
    change.before = Load(Detail::kRouting).TargetOf("acme");
    change.after = change.before;
    change.after.flag.mode = mode;
    change.after.flag.serve_ppm = mode == flags::Mode::kCache ? 50'000 : 0;
    if (mode == flags::Mode::kShadow) {
      change.after.flag.window += 1;
      change.after.flag.epoch += 1;
      change.after.flag.catalog_revision = 1;
      change.after.window_since = At(5);
    }
    change.who = "controller";
    change.why = "because";
    change.promotes = promotes;
    Commit commit;
    commit.family = "pricing";
    commit.targets.push_back({change, std::nullopt});
    commit.now = At(10);
    return commit;
  }

  StoreWorld::Place Here(uint64_t window = 1, uint64_t catalog = 1, const std::string& tenant = "acme") {
    return {"pricing", tenant, "pricing/quote", window, catalog};
  }

  std::unique_ptr<Subject> subject_;
};

TEST_P(StateStoreTest, ARolloutIsFoundByItsIdAndByItsFamily) {
  ASSERT_TRUE(Put(NewRollout("r1")).ok());
  for (const char* name : {"r1", "pricing"}) {
    const absl::StatusOr<Rollout> found = store()->FindRollout(name);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(EncodeRollout(*found), EncodeRollout(NewRollout("r1")));
    EXPECT_EQ(found->version, 1u);
  }
  EXPECT_TRUE(absl::IsNotFound(store()->FindRollout("permissions").status()));
  EXPECT_THAT(*store()->Families(), ElementsAre("pricing"));
}

TEST_P(StateStoreTest, AFamilyHasOneRolloutThatHasNotEnded) {
  ASSERT_TRUE(Put(NewRollout("r1")).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(Put(NewRollout("r2", 1))));

  Rollout ended = *store()->FindRollout("r1");
  ended.state = RolloutState::kSettled;
  ASSERT_TRUE(Put(ended).ok());
  ASSERT_TRUE(Put(NewRollout("r2", 1)).ok());
  EXPECT_EQ(store()->FindRollout("pricing")->id, "r2");
  EXPECT_EQ(Load().rollout->id, "r2");
  EXPECT_EQ(store()->ListRollouts("pricing", true)->size(), 2u);
  ASSERT_EQ(store()->ListRollouts("", false)->size(), 1u);
  EXPECT_EQ(store()->ListRollouts("", false)->front().id, "r2");
}

TEST_P(StateStoreTest, ASettledRolloutCanBeTakenUpAgain) {
  ASSERT_TRUE(Put(NewRollout("r1")).ok());
  Rollout rollout = *store()->FindRollout("r1");
  rollout.state = RolloutState::kSettled;
  ASSERT_TRUE(Put(rollout).ok());
  rollout = *store()->FindRollout("r1");
  rollout.state = RolloutState::kStopped;
  ASSERT_TRUE(Put(rollout).ok());
  EXPECT_EQ(store()->ListRollouts("pricing", false)->size(), 1u);
}

TEST_P(StateStoreTest, P5ADecisionOnAnOldDocumentChangesNothing) {
  ASSERT_TRUE(Put(NewRollout("r1")).ok());
  const Rollout seen = *store()->FindRollout("r1");
  ASSERT_TRUE(Put(seen).ok());

  Commit late = Move(flags::Mode::kShadow, false);
  late.rollout = seen;
  late.rollout->state = RolloutState::kPaused;
  EXPECT_TRUE(absl::IsAborted(store()->Write(late)));
  EXPECT_EQ(store()->FindRollout("r1")->state, RolloutState::kRunning);
  EXPECT_EQ(Load().TargetOf("acme").flag.mode, flags::Mode::kDatabase);
}

TEST_P(StateStoreTest, P5ADecisionOnAnOldRowChangesNothing) {
  ASSERT_TRUE(Put(NewRollout("r1")).ok());
  const Commit first = Move(flags::Mode::kShadow, false);
  Commit second = first;
  second.rollout = *store()->FindRollout("r1");
  ASSERT_TRUE(store()->Write(first).ok());
  EXPECT_TRUE(absl::IsAborted(store()->Write(second)));
  EXPECT_EQ(store()->FindRollout("r1")->version, 1u);
  EXPECT_EQ(Load().TargetOf("acme").flag.window, 1u);
  EXPECT_EQ(store()->Flips("pricing", 10)->size(), 1u);
}

TEST_P(StateStoreTest, P4AConfirmedDivergenceStopsAPromotionAtTheLastMoment) {
  ASSERT_TRUE(store()->Write(Move(flags::Mode::kShadow, false)).ok());
  const Commit promotion = Move(flags::Mode::kCache, true);
  world()->AddDivergence(Here(), "f1", 1);
  EXPECT_TRUE(absl::IsAborted(store()->Write(promotion)));
  EXPECT_EQ(Load().TargetOf("acme").flag.mode, flags::Mode::kShadow);
  EXPECT_EQ(Load().EvidenceOf("acme").confirmed, 1u);
  // What does not promote is not held up.
  EXPECT_TRUE(store()->Write(Move(flags::Mode::kDatabase, false)).ok());
}

TEST_P(StateStoreTest, P4OnlyDivergencesOfTheWindowAndItsCatalogOrANewerOneCount) {
  ASSERT_TRUE(store()->Write(Move(flags::Mode::kShadow, false)).ok());
  world()->AddDivergence(Here(2), "window", 1);
  world()->AddDivergence(Here(1, 0), "older", 1);
  world()->AddDivergence(Here(1, 1, "globex"), "tenant", 1);
  EXPECT_EQ(Load().EvidenceOf("acme").confirmed, 0u);
  EXPECT_TRUE(store()->Write(Move(flags::Mode::kCache, true)).ok());
  world()->AddDivergence(Here(1, 2), "newer", 3);
  world()->AddDivergence(Here(1, 1), "present", 7);
  EXPECT_EQ(Load(Detail::kRouting).EvidenceOf("acme").confirmed, 2u);
  EXPECT_THAT(Load().fingerprints, ElementsAre("present", "newer"));
}

TEST_P(StateStoreTest, P7AnUnsafeDivergenceCountsForEveryTargetOfTheFamilyUntilANewWindow) {
  ASSERT_TRUE(store()->Write(Move(flags::Mode::kShadow, false)).ok());
  const Commit promotion = Move(flags::Mode::kCache, true);
  world()->AddDivergence(Here(9, 9, "globex"), "f1", 1, "another_tenant");
  EXPECT_TRUE(absl::IsAborted(store()->Write(promotion)));
  for (const Detail detail : {Detail::kRouting, Detail::kEvidence}) {
    EXPECT_EQ(Load(detail).EvidenceOf("acme").unsafe, 1u);
    EXPECT_EQ(Load(detail).EvidenceOf("acme").confirmed, 0u);
  }
  Commit retry = Move(flags::Mode::kShadow, false);
  retry.targets[0].change.after.window_since = absl::Now() + absl::Hours(1);
  ASSERT_TRUE(store()->Write(retry).ok());
  EXPECT_EQ(Load().EvidenceOf("acme").unsafe, 0u);
  EXPECT_TRUE(store()->Write(Move(flags::Mode::kCache, true)).ok());
}

TEST_P(StateStoreTest, P4APromotionUnderAnOldCatalogIsAborted) {
  ASSERT_TRUE(store()->Write(Move(flags::Mode::kShadow, false)).ok());
  const Commit promotion = Move(flags::Mode::kCache, true);
  world()->SetCatalog(2);
  EXPECT_TRUE(absl::IsAborted(store()->Write(promotion)));
  EXPECT_EQ(Load().catalog_revision, 2u);
}

TEST_P(StateStoreTest, P5ADeposedLeaderWritesNothing) {
  const std::unique_ptr<Leadership> a = subject_->NewLeadership(kReplicaA);
  const std::unique_ptr<Leadership> b = subject_->NewLeadership(kReplicaB);
  const std::optional<uint64_t> first = *a->Hold();
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(*a->Hold(), first);
  EXPECT_EQ(*b->Hold(), std::nullopt);
  a->Release();
  const std::optional<uint64_t> second = *b->Hold();
  ASSERT_TRUE(second.has_value());
  EXPECT_GT(*second, *first);
  EXPECT_EQ(*a->Hold(), std::nullopt);

  Commit stale = Move(flags::Mode::kShadow, false);
  stale.leader_epoch = first;
  EXPECT_TRUE(absl::IsAborted(store()->Write(stale)));
  stale.leader_epoch = second;
  EXPECT_TRUE(store()->Write(stale).ok());
}

TEST_P(StateStoreTest, AFlipIsWrittenWithItsReceiptAndItsRevision) {
  Commit commit = Move(flags::Mode::kShadow, false);
  TargetInput input;
  input.family = "pricing";
  input.tenant = "acme";
  input.target = commit.targets[0].change.before;
  input.now = At(10);
  commit.targets[0].receipt =
      MakeReceipt("6f9619ff-8b86-4011-b42d-00cf4fc964ff", 3, input, {Action::kNone, {}, input.target, ""});
  ASSERT_TRUE(store()->Write(commit).ok());

  const Target row = Load().TargetOf("acme");
  EXPECT_EQ(row.flag.mode, flags::Mode::kShadow);
  EXPECT_EQ(row.flag.revision, 2u);
  EXPECT_EQ(row.flag.changed_at, At(10));
  EXPECT_EQ(row.window_since, At(5));
  const std::vector<Flip> flips = *store()->Flips("pricing", 10);
  ASSERT_EQ(flips.size(), 1u);
  EXPECT_EQ(flips[0].from, "DATABASE");
  EXPECT_EQ(flips[0].to, "SHADOW");
  EXPECT_EQ(flips[0].who, "controller");
  EXPECT_EQ(flips[0].at, At(10));
  const absl::StatusOr<Receipt> receipt = store()->FindReceipt(flips[0].receipt_id);
  ASSERT_TRUE(receipt.ok()) << receipt.status();
  EXPECT_EQ(receipt->leader_epoch, 3u);
  EXPECT_EQ(receipt->at, At(10));
  const absl::StatusOr<TargetDecision> replayed = Replay(*receipt);
  EXPECT_TRUE(replayed.ok()) << replayed.status();
  EXPECT_TRUE(absl::IsNotFound(store()->FindReceipt("nothing").status()));
}

TEST_P(StateStoreTest, ANewWindowIsNoFlip) {
  ASSERT_TRUE(store()->Write(Move(flags::Mode::kShadow, false)).ok());
  ASSERT_TRUE(store()->Write(Move(flags::Mode::kShadow, false)).ok());
  EXPECT_EQ(Load().TargetOf("acme").flag.window, 2u);
  EXPECT_EQ(store()->Flips("pricing", 10)->size(), 1u);
}

TEST_P(StateStoreTest, P4OnlyEvidenceOfTheWindowAndItsCatalogIsCounted) {
  ASSERT_TRUE(store()->Write(Move(flags::Mode::kShadow, false)).ok());
  diff::Counts counts;
  counts.sampled = 10;
  counts.matched = 5;
  counts.excused = 1;
  counts.shed = 1;
  counts.candidate_misses = 4;
  counts.candidate_latency[2] = 7;
  world()->SetReplica(kReplicaA, absl::ZeroDuration(), At(20), false);
  world()->SetCounts(kReplicaA, Here(), counts, 0);
  world()->SetCounts(kReplicaB, Here(), counts, 1);  // No heartbeat was ever seen.
  world()->SetCounts(kReplicaA, Here(2), counts, 0);
  world()->SetCounts(kReplicaA, Here(1, 2), counts, 0);
  world()->AddEpisode(Here(), {1, 7, true});
  world()->AddEpisode(Here(), {1, 7, true});
  world()->AddEpisode(Here(), {2, 7, false});
  world()->AddEpisode(Here(2), {3, 8, true});
  world()->AddEpisode(Here(1, 2), {4, 9, true});

  const Evidence evidence = Load().EvidenceOf("acme");
  EXPECT_EQ(evidence.ledger.counts.sampled, 20u);
  EXPECT_EQ(evidence.ledger.counts.matched, 10u);
  EXPECT_EQ(evidence.ledger.counts.candidate_misses, 8u);
  EXPECT_EQ(evidence.ledger.counts.candidate_latency[2], 14u);
  EXPECT_EQ(evidence.ledger.lost, 1u);
  EXPECT_EQ(evidence.ledger.pending, 5u);
  EXPECT_EQ(evidence.unswept, 2u);
  ASSERT_EQ(evidence.endpoints.size(), 1u);
  EXPECT_EQ(evidence.endpoints.at("pricing/quote"), (EndpointEvidence{2, 1, 1}));
  EXPECT_TRUE(Load(Detail::kRouting).EvidenceOf("acme").endpoints.empty());
}

TEST_P(StateStoreTest, OnlyLiveReplicasHoldTheWatermark) {
  EXPECT_EQ(Load().fleet.live, 0u);
  world()->SetReplica(kReplicaA, absl::Seconds(1), At(20), false);
  world()->SetReplica(kReplicaB, absl::Seconds(2), At(15), false);
  EXPECT_EQ(Load().fleet.live, 2u);
  EXPECT_EQ(Load().fleet.watermark, At(15));
  world()->SetReplica(kReplicaB, absl::Seconds(11), At(15), false);
  EXPECT_EQ(Load().fleet.live, 1u);
  EXPECT_EQ(Load().fleet.watermark, At(20));
  world()->SetReplica(kReplicaB, absl::ZeroDuration(), At(15), true);
  EXPECT_EQ(Load().fleet.live, 1u);
}

TEST_P(StateStoreTest, KnowsTheTenants) { EXPECT_THAT(Load().tenants, ElementsAre("acme", "globex")); }

INSTANTIATE_TEST_SUITE_P(Stores, StateStoreTest, testing::Bool(),
                         [](const testing::TestParamInfo<bool>& param) { return param.param ? "Postgres" : "Fake"; });

TEST(PostgresStateStoreTest, ACommitNotifiesTheReplicas) {
  PostgresSubject subject;
  subject.world()->AddTenant("acme");
  pqxx::connection listening(subject.connection_string);
  class Listener final : public pqxx::notification_receiver {
   public:
    using pqxx::notification_receiver::notification_receiver;
    void operator()(const std::string& payload, int) override { heard = payload; }
    std::string heard;
  } listener(listening, flags::kChangedChannel);

  TargetChange change;
  change.tenant = "acme";
  change.after.flag.mode = flags::Mode::kShadow;
  Commit commit;
  commit.family = "pricing";
  commit.targets.push_back({change, std::nullopt});
  commit.now = absl::FromUnixSeconds(1'700'000'000);
  ASSERT_TRUE(subject.store()->Write(commit).ok());
  listening.await_notification(10, 0);
  EXPECT_EQ(listener.heard, "2");
}

TEST(PostgresStateStoreTest, BetweenCountsEvidenceIsOlderButNeverMixedAndDivergencesAreNew) {
  PostgresSubject subject;
  PostgresStateStore resting(&subject.sessions, {.rest_factor = 1'000'000});
  TargetChange change;
  change.tenant = "acme";
  change.after.flag.mode = flags::Mode::kShadow;
  change.after.flag.window = 1;
  change.after.flag.catalog_revision = 1;
  Commit commit;
  commit.family = "pricing";
  commit.targets.push_back({change, std::nullopt});
  commit.now = absl::FromUnixSeconds(1'700'000'000);
  ASSERT_TRUE(resting.Write(commit).ok());

  const StoreWorld::Place place{"pricing", "acme", "pricing/quote", 1, 1};
  subject.world()->AddEpisode(place, {1, 1, true});
  subject.world()->SetReplica(kReplicaA, absl::ZeroDuration(), commit.now, false);
  ASSERT_EQ(resting.Load("pricing", Detail::kEvidence)->EvidenceOf("acme").endpoints.at("pricing/quote").episodes, 1u);

  subject.world()->AddEpisode(place, {2, 1, true});
  subject.world()->SetReplica(kReplicaA, absl::ZeroDuration(), commit.now + absl::Minutes(1), false);
  subject.world()->AddDivergence(place, "f", 1);
  FamilyState state = *resting.Load("pricing", Detail::kEvidence);
  EXPECT_EQ(state.EvidenceOf("acme").endpoints.at("pricing/quote").episodes, 1u);
  EXPECT_EQ(state.fleet.watermark, commit.now) << "the watermark that goes with that evidence";
  EXPECT_EQ(state.EvidenceOf("acme").confirmed, 1u);

  commit.targets[0].change.before = state.TargetOf("acme");
  commit.targets[0].change.after = state.TargetOf("acme");
  commit.targets[0].change.after.flag.window = 2;
  ASSERT_TRUE(resting.Write(commit).ok());
  state = *resting.Load("pricing", Detail::kEvidence);
  EXPECT_TRUE(state.EvidenceOf("acme").endpoints.empty()) << "a new window has none of it";
}

TEST(PostgresStateStoreTest, ALeaderThatFellSilentGivesWay) {
  PostgresSubject subject;
  PostgresLeadership silent({subject.connection_string, kReplicaA, absl::Milliseconds(200)});
  PostgresLeadership waiting({subject.connection_string, kReplicaB});
  const std::optional<uint64_t> first = *silent.Hold();
  ASSERT_TRUE(first.has_value());
  base::SystemClock clock;
  const absl::Duration give_up_at = clock.Steady() + absl::Seconds(20);
  std::optional<uint64_t> second;
  while (!second.has_value() && clock.Steady() < give_up_at) second = *waiting.Hold();
  ASSERT_TRUE(second.has_value());
  EXPECT_GT(*second, *first);
  const absl::StatusOr<std::optional<uint64_t>> woken = silent.Hold();
  EXPECT_TRUE(!woken.ok() || !woken->has_value());
}

TEST(PostgresStateStoreTest, AStoreThatIsAwaySaysSo) {
  base::PostgresSessions nowhere("host=/nonexistent dbname=none", 1);
  PostgresStateStore store(&nowhere, {});
  EXPECT_TRUE(absl::IsUnavailable(store.Load("pricing", Detail::kEvidence).status()));
  PostgresLeadership leadership({"host=/nonexistent dbname=none", kReplicaA});
  EXPECT_TRUE(absl::IsUnavailable(leadership.Hold().status()));
}

}  // namespace
}  // namespace shadowline::rollout
