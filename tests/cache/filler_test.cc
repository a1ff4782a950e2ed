#include "cache/fill/filler.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cache/fill_world.h"

namespace shadowline::cache {
namespace {

// Reads the row at once, and answers when it is told to.
class HeldControl final : public Control {
 public:
  explicit HeldControl(FillWorld* world) : world_(world) {}

  void Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) override {
    const sim::SimDatabase::Value value = world_->database.Read(world_->DatabaseRow(query.arguments[0].value())).value;
    ControlAnswer answer;
    answer.found = value.has_value();
    answer.body = value.value_or("");
    answer.started_at = answer.answered_at = world_->sim.clock()->Now();
    held_.push_back([reply_on, answer = std::move(answer), done = std::move(done)]() mutable {
      reply_on->Post([answer = std::move(answer), done = std::move(done)]() mutable { done(std::move(answer)); });
    });
  }
  size_t held() const { return held_.size(); }
  void Release() {
    for (base::Task& task : std::exchange(held_, {})) task();
  }

 private:
  FillWorld* const world_;
  std::vector<base::Task> held_;
};

class FillerTest : public testing::Test {
 protected:
  using Result = FillWorld::Result;

  FillerTest() {
    world_.Write("42", "old");
    // Long enough for a test to act in the middle of a load.
    world_.control.options().latency_min = world_.control.options().latency_max = absl::Milliseconds(20);
  }

  // Virtual time goes on until `condition` holds.
  template <typename Condition>
  void RunUntil(Condition condition) {
    while (!condition()) ASSERT_TRUE(world_.sim.executor()->RunOne());
  }
  Filled Fill(Replica* replica, const std::string& row = "42") {
    Result result;
    replica->Fill(&world_, row, &result);
    while (!result.has_value() && world_.sim.executor()->RunOne()) {
    }
    return result.value().value();
  }
  void Invalidate(Replica* replica, const std::string& row = "42") { Invalidate(replica, row, {}); }
  void Invalidate(Replica* replica, const std::string& row, std::vector<uint64_t> transactions) {
    std::optional<absl::Status> fenced;
    replica->invalidator.Invalidate({{"acme", world_.TagOf(row)}}, std::move(transactions),
                                    [&](absl::Status status) { fenced = status; });
    RunUntil([&] { return fenced.has_value(); });
    ASSERT_TRUE(fenced->ok()) << *fenced;
  }
  // Is there an answer in the cache?
  bool Cached(const std::string& row = "42") {
    std::optional<absl::StatusOr<Found>> found;
    other_.store.Read(world_.KeyOf(row), {world_.FenceOf(row)}, [&](absl::StatusOr<Found> read) { found = read; });
    RunUntil([&] { return found.has_value(); });
    return Admits(found->value());
  }
  Slot::Kind Held(const std::string& row = "42") {
    const sim::SimRedis::Entry* entry = world_.redis.Find(world_.KeyOf(row));
    return entry == nullptr ? Slot::Kind::kAbsent : entry->slot.kind;
  }

  FillWorld world_{11};
  Replica replica_{&world_};
  Replica other_{&world_};
};

TEST_F(FillerTest, AMissIsLoadedAndCached) {
  const Filled filled = Fill(&replica_);
  EXPECT_EQ(filled.answer.body, "old");
  EXPECT_TRUE(filled.cached);
  EXPECT_FALSE(filled.from_store);
  const Filled again = Fill(&other_);
  EXPECT_EQ(again.answer.body, "old");
  EXPECT_TRUE(again.from_store);
  EXPECT_EQ(again.fill_id, filled.fill_id);
  EXPECT_LT(filled.answer.started_at - again.answer.started_at, absl::Microseconds(1))
      << "its age counts from the load";
  EXPECT_EQ(again.answer.snapshot, filled.answer.snapshot);
  EXPECT_EQ(world_.control.queries(), 1u);
}

TEST_F(FillerTest, ConcurrentMissesOfOneProcessCostOneLoad) {
  std::vector<Result> results(50);
  for (Result& result : results) replica_.Fill(&world_, "42", &result);
  world_.sim.RunUntilIdle();
  for (const Result& result : results) EXPECT_EQ(result->value().answer.body, "old");
  EXPECT_EQ(world_.control.queries(), 1u);
}

TEST_F(FillerTest, AFenceOutlivesWhatIsPutBehindIt) {
  Fill(&replica_);
  // The value's TTL has ended, and the fence was made for 65 s.
  world_.sim.RunFor(absl::Seconds(61));
  Fill(&replica_);
  world_.sim.RunFor(absl::Seconds(50));
  EXPECT_TRUE(Cached());
}

TEST_F(FillerTest, AnotherReplicaWaitsForTheLoaderThatHoldsTheLease) {
  Result first, second;
  replica_.Fill(&world_, "42", &first);
  other_.Fill(&world_, "42", &second);
  world_.sim.RunUntilIdle();
  EXPECT_EQ(first->value().answer.body, "old");
  EXPECT_EQ(second->value().answer.body, "old");
  EXPECT_EQ(first->value().fill_id, second->value().fill_id);
  EXPECT_EQ(world_.control.queries(), 1u);
}

TEST_F(FillerTest, AFillAfterAnInvalidationSaysSo) {
  Fill(&replica_);
  world_.Write("42", "new");
  Invalidate(&replica_);
  const Filled filled = Fill(&replica_);
  EXPECT_EQ(filled.answer.body, "new");
  EXPECT_TRUE(filled.after_fence);
  EXPECT_TRUE(Fill(&other_).after_fence) << "also for who reads it from the cache";
}

TEST_F(FillerTest, AnInvalidationDuringTheLoadKeepsItOutOfTheCache) {
  Result slow;
  replica_.Fill(&world_, "42", &slow);
  RunUntil([&] { return world_.control.queries() == 1; });
  Invalidate(&other_);
  RunUntil([&] { return slow.has_value(); });
  EXPECT_FALSE(Cached()) << "it was put behind a fence that is gone";
}

TEST_F(FillerTest, ACallerWhoCameAfterTheInvalidationIsNotAnsweredByTheLoadBeforeIt) {
  HeldControl control(&world_);
  Replica replica(&world_, &control);
  Result slow, late;
  replica.Fill(&world_, "42", &slow);
  RunUntil([&] { return control.held() == 1; });
  world_.Write("42", "new");
  Invalidate(&other_);
  replica.Fill(&world_, "42", &late);
  control.Release();
  RunUntil([&] { return control.held() == 1; });
  control.Release();
  world_.sim.RunUntilIdle();
  EXPECT_EQ(slow->value().answer.body, "old");
  EXPECT_EQ(late->value().answer.body, "new");
}

TEST_F(FillerTest, CallersWhoSawTheNewFenceShareOneMoreLoad) {
  std::vector<Result> late(20);
  Result slow;
  replica_.Fill(&world_, "42", &slow);
  RunUntil([&] { return world_.control.queries() == 1; });
  Invalidate(&other_);
  for (Result& result : late) replica_.Fill(&world_, "42", &result);
  world_.sim.RunUntilIdle();
  for (const Result& result : late) EXPECT_TRUE(result->value().cached);
  EXPECT_EQ(world_.control.queries(), 2u);
  EXPECT_TRUE(Cached());
}

TEST_F(FillerTest, ASlowLoadDoesNotTakeThePlaceOfANewerOne) {
  HeldControl control(&world_);
  Replica slow_replica(&world_, &control);
  Result slow;
  slow_replica.Fill(&world_, "42", &slow);
  RunUntil([&] { return control.held() == 1; });
  Invalidate(&other_);
  // Its lease is renewed for as long as it lives, so another loader has to find it gone.
  world_.redis.Evict(world_.KeyOf("42") + ":lease");
  const Filled fresh = Fill(&other_);
  control.Release();
  RunUntil([&] { return slow.has_value(); });
  EXPECT_FALSE(slow->value().cached);
  EXPECT_EQ(Fill(&other_).fill_id, fresh.fill_id);
}

TEST_F(FillerTest, WhatWasLoadedWithoutATransactionOfTheFenceIsNotCached) {
  const uint64_t writer = world_.database.Begin();
  Invalidate(&other_, "42", {writer});
  EXPECT_EQ(Fill(&replica_).answer.body, "old");
  EXPECT_FALSE(Cached());
  world_.database.Write(writer, world_.DatabaseRow("42"), "new");
  world_.database.Commit(writer);
  EXPECT_EQ(Fill(&replica_).answer.body, "new");
  EXPECT_TRUE(Cached());
}

TEST_F(FillerTest, ACallerWhoCameAfterTheCommitIsNotAnsweredByALoadWithoutIt) {
  HeldControl control(&world_);
  Replica replica(&world_, &control);
  const uint64_t writer = world_.database.Begin();
  world_.database.Write(writer, world_.DatabaseRow("42"), "new");
  Invalidate(&other_, "42", {writer});
  Result early, late;
  replica.Fill(&world_, "42", &early);
  RunUntil([&] { return control.held() == 1; });
  world_.database.Commit(writer);
  replica.Fill(&world_, "42", &late);
  control.Release();
  RunUntil([&] { return control.held() == 1; });
  control.Release();
  world_.sim.RunUntilIdle();
  EXPECT_EQ(early->value().answer.body, "old");
  EXPECT_EQ(late->value().answer.body, "new");
}

TEST_F(FillerTest, ATagWhoseFenceWasEvictedHasNoAnswers) {
  Fill(&replica_);
  world_.redis.Evict(world_.FenceOf("42"));
  world_.Write("42", "new");
  Invalidate(&other_);
  EXPECT_EQ(Fill(&replica_).answer.body, "new");
  world_.redis.Evict(world_.FenceOf("42"));
  EXPECT_FALSE(Cached());
  EXPECT_TRUE(Fill(&replica_).cached);
}

TEST_F(FillerTest, NotFoundIsCachedForItsOwnTime) {
  const Filled filled = Fill(&replica_, "missing");
  EXPECT_FALSE(filled.answer.found);
  EXPECT_TRUE(filled.cached);
  EXPECT_EQ(Fill(&other_, "missing").fill_id, filled.fill_id);
  world_.sim.RunFor(absl::Seconds(10));
  EXPECT_EQ(Held("missing"), Slot::Kind::kAbsent);
}

TEST_F(FillerTest, AnAnswerThatIsTooLargeIsGivenAndNotCached) {
  world_.Write("large", std::string((8 << 20) + 1, 'x'));
  const Filled filled = Fill(&replica_, "large");
  EXPECT_EQ(filled.answer.body.size(), (8u << 20) + 1);
  EXPECT_FALSE(filled.cached);
  EXPECT_FALSE(Cached("large"));
}

TEST_F(FillerTest, TimesToLiveAreSpreadOverATenth) {
  absl::Duration shortest = absl::InfiniteDuration(), longest;
  for (int row = 0; row < 200; ++row) {
    const std::string name = std::to_string(row);
    world_.Write(name, "value");
    Fill(&replica_, name);
    const absl::Duration left = world_.redis.Find(world_.KeyOf(name))->expires - world_.sim.clock()->Now();
    shortest = std::min(shortest, left);
    longest = std::max(longest, left);
  }
  EXPECT_GT(shortest, absl::Seconds(53.9));
  EXPECT_LT(shortest, absl::Seconds(55));
  EXPECT_GT(longest, absl::Seconds(59));
  EXPECT_LE(longest, absl::Seconds(60));
}

TEST_F(FillerTest, AFenceOutlivesTheValue) {
  world_.control.options().latency_min = world_.control.options().latency_max = absl::Seconds(4);
  Fill(&replica_);
  const sim::SimRedis::Entry* fence = world_.redis.Find(world_.FenceOf("42"));
  ASSERT_NE(fence, nullptr);
  EXPECT_GT(fence->expires, world_.redis.Find(world_.KeyOf("42"))->expires);
}

TEST_F(FillerTest, AnErrorGivesTheLeaseBackAndIsNeverCached) {
  world_.control.FailNext(absl::InternalError("planted"));
  Result leader, waiter;
  replica_.Fill(&world_, "42", &leader);
  replica_.Fill(&world_, "42", &waiter);
  world_.sim.RunUntilIdle();
  EXPECT_EQ(leader->status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(waiter->status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Held(), Slot::Kind::kAbsent);
  EXPECT_TRUE(Fill(&replica_).cached);
}

TEST_F(FillerTest, ALeadersShortDeadlineIsNotItsWaiters) {
  Result hasty, patient;
  replica_.Fill(&world_, "42", &hasty, absl::Milliseconds(10));
  replica_.Fill(&world_, "42", &patient, absl::Seconds(5));
  world_.sim.RunUntilIdle();
  EXPECT_EQ(hasty->status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(patient->value().answer.body, "old");
}

TEST_F(FillerTest, AWaiterDoesNotWaitLongerThanItsOwnTime) {
  Result leader, hasty;
  replica_.Fill(&world_, "42", &leader);
  replica_.Fill(&world_, "42", &hasty, absl::Milliseconds(10));
  const absl::Time began = world_.sim.clock()->Now();
  RunUntil([&] { return hasty.has_value(); });
  EXPECT_EQ(hasty->status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LE(world_.sim.clock()->Now() - began, absl::Milliseconds(10 + 1)) << "and the look-up before";
  world_.sim.RunUntilIdle();
  EXPECT_TRUE(leader->ok());
}

TEST_F(FillerTest, WithoutRedisTheAnswerComesFromTheDatabase) {
  world_.redis.faults.down = true;
  const Filled filled = Fill(&replica_);
  EXPECT_EQ(filled.answer.body, "old");
  EXPECT_FALSE(filled.cached);
}

TEST_F(FillerTest, ARedisThatBeginsToHangCostsOneOfItsDeadlines) {
  for (const bool complete : {true, false}) {
    world_.redis.faults.hang = true;
    const absl::Time began = world_.sim.clock()->Now();
    Result result;
    replica_.filler.Fill(world_.MissOf("42", {.complete = complete}), absl::Seconds(5),
                         [&](absl::StatusOr<Filled> filled) { result = std::move(filled); });
    RunUntil([&] { return result.has_value(); });
    EXPECT_EQ(result->value().answer.body, "old");
    EXPECT_LE(world_.sim.clock()->Now() - began, absl::Milliseconds(50 + 20 + 1));
    world_.redis.Thaw();
  }
}

TEST_F(FillerTest, ARestartDuringTheLoadKeepsItOutOfTheCache) {
  Result slow;
  replica_.Fill(&world_, "42", &slow);
  RunUntil([&] { return world_.control.queries() == 1; });
  world_.redis.Restart();
  RunUntil([&] { return slow.has_value(); });
  EXPECT_EQ(slow->value().answer.body, "old");
  EXPECT_FALSE(Cached());
}

TEST_F(FillerTest, AFailoverThatForgetsAnInvalidationBringsNoValueBack) {
  Fill(&replica_);
  world_.Write("42", "new");
  Invalidate(&other_);
  world_.redis.Failover(1);
  ASSERT_EQ(Held(), Slot::Kind::kValue) << "the value survived, and the fence before it";
  EXPECT_FALSE(Cached());
  EXPECT_EQ(Fill(&replica_).answer.body, "new");
}

TEST_F(FillerTest, AValueThatNobodyCanReadIsReplaced) {
  Fill(&replica_);
  world_.redis.Corrupt(world_.KeyOf("42"), "garbage");
  const Filled filled = Fill(&replica_);
  EXPECT_EQ(filled.answer.body, "old");
  EXPECT_TRUE(filled.cached);
  EXPECT_FALSE(filled.after_fence) << "garbage is no write";
  world_.redis.SetForeign(world_.KeyOf("42"), "another application's");
  EXPECT_TRUE(Fill(&replica_).cached);
}

TEST_F(FillerTest, ALoaderThatDiedDelaysTheOthersOnlyForItsLease) {
  Replica dead(&world_);
  bool leased = false;
  dead.store.AcquireLease(world_.KeyOf("42"), std::string(kTokenBytes, 'd'), absl::Seconds(1), {},
                          [&](absl::StatusOr<Lease> lease) { leased = lease->granted; });
  RunUntil([&] { return leased; });
  const absl::Time began = world_.sim.clock()->Now();
  EXPECT_TRUE(Fill(&replica_).cached);
  EXPECT_LE(world_.sim.clock()->Now() - began, absl::Milliseconds(1050));
}

TEST_F(FillerTest, ALongLoadKeepsItsLease) {
  world_.control.options().latency_min = world_.control.options().latency_max = absl::Seconds(2);
  Result slow, waiter;
  replica_.Fill(&world_, "42", &slow);
  RunUntil([&] { return world_.control.queries() == 1; });
  other_.Fill(&world_, "42", &waiter, absl::Seconds(20));
  world_.sim.RunUntilIdle();
  EXPECT_EQ(waiter->value().fill_id, slow->value().fill_id);
  EXPECT_EQ(world_.control.queries(), 1u);
}

// ---- Refreshes ----

class RefreshTest : public FillerTest {
 protected:
  void Start(Replica* replica, std::string replaced, Result* result) {
    replica->filler.Refresh(world_.MissOf("42", {}), std::move(replaced), absl::Seconds(5),
                            [result](absl::StatusOr<Filled> filled) {
                              EXPECT_FALSE(result->has_value()) << "answered twice";
                              *result = std::move(filled);
                            });
  }
  absl::StatusOr<Filled> Refresh(Replica* replica, std::string replaced) {
    Result result;
    Start(replica, std::move(replaced), &result);
    RunUntil([&] { return result.has_value(); });
    return *std::move(result);
  }
};

TEST_F(RefreshTest, TakesThePlaceOfTheAnswerThatItWasAskedToReplace) {
  const Filled old = Fill(&replica_);
  world_.Write("42", "new");
  const absl::StatusOr<Filled> refreshed = Refresh(&other_, old.fill_id);
  ASSERT_TRUE(refreshed.ok()) << refreshed.status();
  EXPECT_TRUE(refreshed->cached);
  EXPECT_FALSE(refreshed->after_fence);
  const Filled found = Fill(&replica_);
  EXPECT_EQ(found.answer.body, "new");
  EXPECT_EQ(found.fill_id, refreshed->fill_id);
}

TEST_F(RefreshTest, LeavesAnyOtherAnswerAlone) {
  const Filled held = Fill(&replica_);
  EXPECT_TRUE(absl::IsAlreadyExists(Refresh(&other_, std::string(kTokenBytes, 'x')).status()));
  EXPECT_TRUE(absl::IsAlreadyExists(Refresh(&other_, "").status()));
  EXPECT_EQ(Fill(&replica_).fill_id, held.fill_id);
  EXPECT_EQ(world_.control.queries(), 1u);
}

TEST_F(RefreshTest, FillsAKeyThatHoldsNoAnswer) {
  EXPECT_TRUE(Refresh(&replica_, "").value().cached);
  Invalidate(&other_);
  EXPECT_TRUE(Refresh(&replica_, "").value().after_fence);
  EXPECT_TRUE(Fill(&other_).from_store);
}

TEST_F(RefreshTest, IsDoneByOneInTheProcessAndInTheFleet) {
  const Filled old = Fill(&replica_);
  Result first, second, elsewhere;
  Start(&replica_, old.fill_id, &first);
  Start(&replica_, old.fill_id, &second);
  Start(&other_, old.fill_id, &elsewhere);
  world_.sim.RunUntilIdle();
  int done = 0;
  for (const Result* result : {&first, &second, &elsewhere}) {
    done += (*result)->ok();
    if (!(*result)->ok()) {
      EXPECT_TRUE(absl::IsAlreadyExists((*result)->status()));
    }
  }
  EXPECT_EQ(done, 1);
  EXPECT_EQ(world_.control.queries(), 2u);
}

TEST_F(RefreshTest, NoMissWaitsForIt) {
  const Filled old = Fill(&replica_);
  HeldControl held(&world_);
  Filler refresher({}, &replica_.store, &held, &replica_.flight, world_.sim.executor(), world_.sim.clock(),
                   world_.sim.random());
  Result refresh;
  refresher.Refresh(world_.MissOf("42", {}), old.fill_id, absl::Seconds(5),
                    [&](absl::StatusOr<Filled> filled) { refresh = std::move(filled); });
  RunUntil([&] { return held.held() == 1; });
  world_.redis.Evict(world_.KeyOf("42"));
  const absl::Time asked_at = world_.sim.clock()->Now();
  const Filled filled = Fill(&replica_);
  EXPECT_LT(world_.sim.clock()->Now() - asked_at, absl::Milliseconds(30));
  EXPECT_TRUE(filled.cached);
  held.Release();
  RunUntil([&] { return refresh.has_value(); });
  EXPECT_FALSE(refresh->value().cached) << "it would have replaced what it had not seen";
  EXPECT_EQ(Fill(&other_).fill_id, filled.fill_id);
}

TEST_F(RefreshTest, AnInvalidationMeanwhileKeepsItOutOfTheCache) {
  const Filled old = Fill(&replica_);
  Result refresh;
  Start(&replica_, old.fill_id, &refresh);
  RunUntil([&] { return world_.control.queries() == 2; });
  Invalidate(&other_);
  RunUntil([&] { return refresh.has_value(); });
  EXPECT_FALSE(Cached());
}

TEST_F(RefreshTest, GivesUpWhereTheCacheIsAwayOrTheDatabaseFails) {
  const Filled old = Fill(&replica_);
  world_.control.FailNext(absl::ResourceExhaustedError("the line is full"));
  EXPECT_TRUE(absl::IsResourceExhausted(Refresh(&replica_, old.fill_id).status()));
  EXPECT_EQ(Fill(&other_).fill_id, old.fill_id);
  world_.redis.faults.down = true;
  EXPECT_TRUE(absl::IsUnavailable(Refresh(&replica_, old.fill_id).status()));
  EXPECT_EQ(world_.control.queries(), 2u) << "what cannot be cached is not loaded";
}

}  // namespace
}  // namespace shadowline::cache
