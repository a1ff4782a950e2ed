// What every Store promises, on the simulated Redis, on a real one and on a real cluster.
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cache/store.h"
#include "gtest/gtest.h"
#include "tests/cache/cluster_world.h"
#include "tests/cache/redis_world.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_store.h"

namespace shadowline::cache {
namespace {

const std::string kLeaseA(kTokenBytes, 'a');
const std::string kLeaseB(kTokenBytes, 'b');
const std::string kFill(kTokenBytes, 'f');
const std::string kNextFill(kTokenBytes, 'g');
const std::string kToken(kTokenBytes, 'x');

// A Store, and a way to call it and wait for its answer.
class World {
 public:
  virtual ~World() = default;
  virtual Store* store() = 0;
  // Runs `start` on the store's executor, and waits until the function it was given is called.
  virtual void Drive(std::function<void(std::function<void()>)> start) = 0;
  // Somebody else writes the key.
  virtual void SetForeign(const std::string& key, const std::string& bytes) = 0;
  virtual void SetList(const std::string& key) = 0;
};

class SimulatedWorld final : public World {
 public:
  Store* store() override { return &store_; }
  void Drive(std::function<void(std::function<void()>)> start) override {
    bool finished = false;
    start([&finished] { finished = true; });
    while (!finished) ASSERT_TRUE(world_.executor()->RunOne());
  }
  void SetForeign(const std::string& key, const std::string& bytes) override { redis_.SetForeign(key, bytes); }
  void SetList(const std::string& key) override { redis_.SetOtherType(key); }

 private:
  sim::SimWorld world_{7};
  sim::SimRedis redis_{world_.clock(), world_.random()};
  sim::SimStore store_{&redis_, world_.executor()};
};

class RealWorld final : public World {
 public:
  Store* store() override { return redis_.store(); }
  void Drive(std::function<void(std::function<void()>)> start) override { redis_.Drive(std::move(start)); }
  void SetForeign(const std::string& key, const std::string& bytes) override { redis_.Command({"SET", key, bytes}); }
  void SetList(const std::string& key) override { redis_.Command({"RPUSH", key, "a"}); }

 private:
  RedisWorld redis_;
};

// One cluster for all tests: it takes seconds to make.
class RealCluster final : public World {
 public:
  RealCluster() : cluster_(Cluster()) {
    for (int shard = 0; shard < Cluster()->shards(); ++shard) {
      support::AskRedis(Cluster()->Master(shard)->socket(), {"FLUSHALL"});
    }
  }
  Store* store() override { return cluster_.store(); }
  void Drive(std::function<void(std::function<void()>)> start) override { cluster_.Drive(std::move(start)); }
  void SetForeign(const std::string& key, const std::string& bytes) override {
    EXPECT_EQ(cluster_.Command(key, {"SET", key, bytes}).type, Reply::Type::kStatus);
  }
  void SetList(const std::string& key) override {
    EXPECT_EQ(cluster_.Command(key, {"RPUSH", key, "a"}).type, Reply::Type::kInteger);
  }

 private:
  static support::PrivateRedisCluster* Cluster() {
    static support::PrivateRedisCluster cluster;
    return &cluster;
  }

  ClusterWorld cluster_;
};

class StoreTest : public testing::TestWithParam<const char*> {
 protected:
  StoreTest() {
    if (GetParam() == std::string("simulated")) {
      world_ = std::make_unique<SimulatedWorld>();
    } else if (GetParam() == std::string("redis")) {
      world_ = std::make_unique<RealWorld>();
    } else {
      world_ = std::make_unique<RealCluster>();
    }
  }

  // The answer to one call: Await<absl::StatusOr<Found>>([&](auto done) { store()->Read(key, {}, done); }).
  template <typename Reply>
  Reply Await(std::function<void(std::function<void(Reply)>)> call) {
    std::optional<Reply> reply;
    world_->Drive([&](std::function<void()> finished) {
      call([&reply, finished](Reply answered) {
        EXPECT_FALSE(reply.has_value()) << "called back twice";
        reply.emplace(std::move(answered));
        finished();
      });
      EXPECT_FALSE(reply.has_value()) << "called back inside the call";
    });
    return *std::move(reply);
  }

  Found Read(const std::string& key, const std::vector<std::string>& fence_keys = {}) {
    return Await<absl::StatusOr<Found>>([&](auto done) { store()->Read(key, fence_keys, std::move(done)); }).value();
  }
  Slot Get(const std::string& key) { return Read(key).slot; }
  Fences Ensure(const std::vector<std::string>& fence_keys, absl::Duration ttl = absl::Minutes(1)) {
    return Await<absl::StatusOr<Fences>>([&](auto done) { store()->EnsureFences(fence_keys, ttl, std::move(done)); })
        .value();
  }
  void Replace(const std::string& fence_key, const std::string& token, std::vector<uint64_t> transactions = {},
               absl::Duration ttl = absl::Minutes(1)) {
    EXPECT_TRUE(Await<absl::Status>([&](auto done) {
                  store()->ReplaceFence(fence_key, token, kAt, transactions, ttl, std::move(done));
                }).ok());
  }
  Fence FenceAt(const std::string& fence_key) {
    return Await<absl::StatusOr<Fence>>([&](auto done) { store()->ReadFence(fence_key, std::move(done)); }).value();
  }
  Lease Acquire(const std::string& key, const std::string& lease, absl::Duration ttl = absl::Minutes(1)) {
    return Await<absl::StatusOr<Lease>>([&](auto done) { store()->AcquireLease(key, lease, ttl, {}, std::move(done)); })
        .value();
  }
  void Quietly(std::function<void()> call) {
    world_->Drive([&](std::function<void()> finished) {
      call();
      finished();
    });
  }
  bool Put(const std::string& key, const std::string& envelope, const std::string& seen = "",
           const std::string& fences = "", const std::string& fill = kFill, absl::Duration ttl = absl::Minutes(1)) {
    return Await<absl::StatusOr<bool>>([&](auto done) {
             store()->Put(key, seen, {fill, fences, envelope, ttl}, std::move(done));
           })
        .value();
  }
  void Discard(const std::string& key, const std::string& fill) {
    EXPECT_TRUE(Await<absl::Status>([&](auto done) { store()->Discard(key, fill, std::move(done)); }).ok());
  }
  void AwaitAbsent(const std::string& key) {
    while (Get(key).kind != Slot::Kind::kAbsent) {
    }
  }

  // What survives a round trip.
  const absl::Time kAt = absl::FromUnixMicros(1'700'000'000'123'456);

  Store* store() { return world_->store(); }

  std::unique_ptr<World> world_;
};

INSTANTIATE_TEST_SUITE_P(Stores, StoreTest, testing::Values("simulated", "redis", "cluster"),
                         [](const auto& parameter) { return std::string(parameter.param); });

TEST_P(StoreTest, AnUnknownKeyIsAbsent) { EXPECT_EQ(Get("key").kind, Slot::Kind::kAbsent); }

TEST_P(StoreTest, AFillIsReadUntilItsTimeIsOver) {
  EXPECT_TRUE(Put("key", "envelope"));
  const Slot slot = Get("key");
  EXPECT_EQ(slot.kind, Slot::Kind::kValue);
  EXPECT_EQ(slot.fill, kFill);
  EXPECT_EQ(slot.fences, "");
  EXPECT_EQ(slot.bytes, "envelope");
  EXPECT_TRUE(Put("brief", "envelope", "", "", kFill, absl::Milliseconds(1)));
  AwaitAbsent("brief");
}

TEST_P(StoreTest, AFillIsAnAnswerWhileItsFencesStand) {
  const std::vector<std::string> keys = {"fence:a", "fence:b"};
  EXPECT_FALSE(Read("key", keys).fences.complete);
  const Fences fences = Ensure(keys);
  EXPECT_TRUE(fences.complete);
  EXPECT_EQ(fences.tokens.size(), 2 * kTokenBytes);
  EXPECT_EQ(fences.invalidated_at, absl::InfinitePast());
  EXPECT_TRUE(Put("key", "envelope", "", fences.tokens));
  Found found = Read("key", keys);
  EXPECT_TRUE(Admits(found));
  EXPECT_EQ(found.slot.bytes, "envelope");
  EXPECT_FALSE(Admits(Read("key", {"fence:b", "fence:a"}))) << "their order counts";

  Replace("fence:b", kToken);
  found = Read("key", keys);
  EXPECT_EQ(found.slot.kind, Slot::Kind::kValue);
  EXPECT_FALSE(Admits(found));
  EXPECT_EQ(found.fences.tokens, fences.tokens.substr(0, kTokenBytes) + kToken);
  EXPECT_EQ(found.fences.invalidated_at, kAt);
}

TEST_P(StoreTest, AStandingFenceIsNotMadeAnew) {
  Replace("fence", kToken, {7});
  const Fences fences = Ensure({"fence", "other"});
  EXPECT_EQ(fences.tokens.substr(0, kTokenBytes), kToken);
  EXPECT_EQ(fences.transactions, std::vector<uint64_t>{7});
  EXPECT_EQ(Ensure({"fence", "other"}).tokens, fences.tokens);
}

TEST_P(StoreTest, AFenceNamesItsLatestTransactions) {
  Replace("fence", kToken, {1, 2});
  Replace("fence", kToken, {});
  Replace("fence", kToken, {18446744073709551615u, 3});
  EXPECT_EQ(FenceAt("fence").transactions, (std::vector<uint64_t>{18446744073709551615u, 3, 1, 2}));
  for (uint64_t i = 100; i < 120; ++i) Replace("fence", kToken, {i});
  const Fence fence = FenceAt("fence");
  ASSERT_EQ(fence.transactions.size(), kFenceTransactionsMax);
  EXPECT_EQ(fence.transactions.front(), 119u);
  EXPECT_EQ(fence.transactions.back(), 104u);
}

TEST_P(StoreTest, AFencesTimeIsExtendedAndNeverShortened) {
  Replace("lasting", kToken);
  Replace("lasting", kToken, {}, absl::Milliseconds(1));
  Ensure({"lasting"}, absl::Milliseconds(1));
  Replace("extended", kToken, {}, absl::Milliseconds(20));
  Ensure({"extended"});
  Replace("brief", kToken, {}, absl::Milliseconds(21));
  while (!FenceAt("brief").token.empty()) {
  }
  EXPECT_EQ(FenceAt("lasting").token, kToken);
  EXPECT_EQ(FenceAt("extended").token, kToken);
}

TEST_P(StoreTest, WhatIsNoFenceCountsAsNone) {
  for (const std::string& foreign : {std::string(), std::string("F"), std::string(200, 'F')}) {
    world_->SetForeign("fence", foreign);
    EXPECT_FALSE(Read("key", {"fence"}).fences.complete);
    EXPECT_TRUE(FenceAt("fence").token.empty());
    EXPECT_TRUE(Ensure({"fence"}).complete);
  }
}

TEST_P(StoreTest, AFillIsPutOnlyInThePlaceOfTheOneThatWasSeen) {
  EXPECT_TRUE(Put("key", "first"));
  EXPECT_FALSE(Put("key", "slow", /*seen=*/"", "", kNextFill)) << "its loader had seen nothing there";
  EXPECT_EQ(Get("key").bytes, "first");
  EXPECT_TRUE(Put("key", "second", /*seen=*/kFill, "", kNextFill));
  EXPECT_FALSE(Put("key", "slow", /*seen=*/kFill, "", kFill));
  EXPECT_EQ(Get("key").bytes, "second");
  Discard("key", kNextFill);
  EXPECT_TRUE(Put("key", "third", /*seen=*/kNextFill)) << "nothing is in the way";
}

TEST_P(StoreTest, OnlyTheFillThatWasMeantIsDiscarded) {
  Put("key", "envelope");
  Discard("key", kNextFill);
  EXPECT_EQ(Get("key").kind, Slot::Kind::kValue);
  Discard("key", kFill);
  EXPECT_EQ(Get("key").kind, Slot::Kind::kAbsent);
  Discard("key", kFill);
}

TEST_P(StoreTest, OneLoaderHoldsTheLease) {
  Put("key", "envelope");
  const Lease first = Acquire("key", kLeaseA);
  EXPECT_TRUE(first.granted);
  EXPECT_EQ(first.found.slot.bytes, "envelope") << "a lease hides no value";
  EXPECT_FALSE(Acquire("key", kLeaseB).granted);
  Quietly([&] { store()->ReleaseLease("key", kLeaseB); });
  EXPECT_FALSE(Acquire("key", kLeaseB).granted) << "only its holder gives it back";
  Quietly([&] { store()->ReleaseLease("key", kLeaseA); });
  EXPECT_TRUE(Acquire("key", kLeaseB).granted);
}

TEST_P(StoreTest, ALeaseExpiresUnlessItIsRenewed) {
  Acquire("brief", kLeaseA, absl::Milliseconds(1));
  while (!Acquire("brief", kLeaseB).granted) {
  }
  Acquire("kept", kLeaseA, absl::Milliseconds(200));
  Quietly([&] { store()->RenewLease("kept", kLeaseA, absl::Minutes(1)); });
  Quietly([&] { store()->RenewLease("kept", kLeaseB, absl::Milliseconds(1)); });
  Acquire("later", kLeaseA, absl::Milliseconds(201));
  while (!Acquire("later", kLeaseB).granted) {
  }
  EXPECT_FALSE(Acquire("kept", kLeaseB).granted);
}

TEST_P(StoreTest, BytesOfAnyKindAndSizeComeBackUnchanged) {
  std::string key("key with \r\n, \0 and \xff", 21);
  for (const std::string& envelope : {std::string(), std::string("\r\n$-1\r\n\0V", 9), std::string(3 << 20, '\0')}) {
    EXPECT_TRUE(Put(key, envelope, kFill));
    EXPECT_TRUE(Get(key).bytes == envelope);
  }
}

TEST_P(StoreTest, AForeignValueIsToldApartAndOverwritten) {
  for (const std::string& foreign :
       {std::string(), std::string("V"), std::string("{\"json\": \"of another application\"}"),
        absl::StrCat("V", kFill, "\xff", "more fences than bytes")}) {
    world_->SetForeign("key", foreign);
    EXPECT_EQ(Get("key").kind, Slot::Kind::kForeign) << foreign;
  }
  world_->SetForeign("key", "of another application");
  EXPECT_TRUE(Put("key", "envelope"));
  EXPECT_EQ(Get("key").bytes, "envelope");
}

TEST_P(StoreTest, AnApplicationsValueIsReadAsItIs) {
  const auto raw = [this](const std::string& key) {
    return Await<absl::StatusOr<Found>>([&](auto done) { store()->ReadRaw(key, std::move(done)); }).value();
  };
  EXPECT_EQ(raw("key").slot.kind, Slot::Kind::kAbsent);
  const std::string key("quote:acme:\r\n\0\xff", 15);
  for (const std::string& bytes :
       {std::string(), std::string("{\"price\": 1}"), std::string("\x1f\x8b\0\r\n", 5), std::string(3 << 20, 'x'),
        // What looks like a value of Shadowline's own is nothing else here.
        absl::StrCat("V", kFill, absl::string_view("\0", 1), "envelope"), absl::StrCat("F", kToken)}) {
    world_->SetForeign(key, bytes);
    const Found found = raw(key);
    EXPECT_EQ(found.slot.kind, Slot::Kind::kRaw);
    EXPECT_TRUE(found.slot.bytes == bytes);
    EXPECT_EQ(found.slot.fill, "");
    EXPECT_EQ(found.fences.tokens, "");
  }
  world_->SetList("list");
  EXPECT_EQ(raw("list").slot.kind, Slot::Kind::kForeign);
  EXPECT_EQ(Get("list").kind, Slot::Kind::kForeign);
}

TEST_P(StoreTest, CommandsOfOneTurnToOneNodeAreAnsweredInOrder) {
  Put("{node}b", "envelope");
  std::vector<Slot::Kind> kinds;
  world_->Drive([&](std::function<void()> finished) {
    store()->Read("{node}a", {}, [&](absl::StatusOr<Found> found) { kinds.push_back(found.value().slot.kind); });
    store()->Read("{node}b", {}, [&](absl::StatusOr<Found> found) { kinds.push_back(found.value().slot.kind); });
    store()->Read("{node}a", {}, [&, finished](absl::StatusOr<Found> found) {
      kinds.push_back(found.value().slot.kind);
      finished();
    });
  });
  EXPECT_EQ(kinds, (std::vector<Slot::Kind>{Slot::Kind::kAbsent, Slot::Kind::kValue, Slot::Kind::kAbsent}));
}

}  // namespace
}  // namespace shadowline::cache
