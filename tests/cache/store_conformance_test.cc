// What every Store promises, on the simulated Redis and on the real one.
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cache/store.h"
#include "gtest/gtest.h"
#include "tests/cache/redis_world.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_store.h"

namespace shadowline::cache {
namespace {

const std::string kLeaseA(kTokenBytes, 'a');
const std::string kLeaseB(kTokenBytes, 'b');
const std::string kFill(kTokenBytes, 'f');
const std::string kFence(kTokenBytes, 'x');

// A Store, and a way to call it and wait for its answer.
class World {
 public:
  virtual ~World() = default;
  virtual Store* store() = 0;
  // Runs `start` on the store's executor, and waits until the function it was given is called.
  virtual void Drive(std::function<void(std::function<void()>)> start) = 0;
  // Somebody else writes the key.
  virtual void SetForeign(const std::string& key, const std::string& bytes) = 0;
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

 private:
  RedisWorld redis_;
};

class StoreTest : public testing::TestWithParam<const char*> {
 protected:
  StoreTest() {
    if (GetParam() == std::string("simulated")) {
      world_ = std::make_unique<SimulatedWorld>();
    } else {
      world_ = std::make_unique<RealWorld>();
    }
  }

  // The answer to one call: Await<absl::StatusOr<Slot>>([&](auto done) { store()->Get(key, done); }).
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

  Slot Get(const std::string& key) {
    return Await<absl::StatusOr<Slot>>([&](auto done) { store()->Get(key, std::move(done)); }).value();
  }
  Lease Acquire(const std::string& key, const std::string& lease, absl::Duration ttl = absl::Minutes(1)) {
    return Await<absl::StatusOr<Lease>>([&](auto done) { store()->AcquireLease(key, lease, ttl, std::move(done)); })
        .value();
  }
  bool Commit(const std::string& key, const std::string& lease, uint64_t term, const std::string& envelope,
              absl::Duration ttl = absl::Minutes(1)) {
    return Await<absl::StatusOr<bool>>(
               [&](auto done) { store()->CommitFill(key, lease, term, kFill, envelope, ttl, std::move(done)); })
        .value();
  }
  void FenceKey(const std::string& key) {
    EXPECT_TRUE(
        Await<absl::Status>([&](auto done) { store()->Fence(key, kFence, absl::Minutes(1), std::move(done)); }).ok());
  }
  void AddToTag(const std::string& tag, const std::string& key, absl::Duration ttl = absl::Minutes(1)) {
    EXPECT_TRUE(Await<absl::Status>([&](auto done) { store()->AddToTag(tag, key, ttl, std::move(done)); }).ok());
  }
  std::set<std::string> Members(const std::string& tag) {
    const std::vector<std::string> members = Await<absl::StatusOr<std::vector<std::string>>>([&](auto done) {
                                               store()->TagMembers(tag, std::move(done));
                                             }).value();
    return {members.begin(), members.end()};
  }
  void AwaitAbsent(const std::string& key) {
    while (Get(key).kind != Slot::Kind::kAbsent) {
    }
  }

  Store* store() { return world_->store(); }

  std::unique_ptr<World> world_;
};

INSTANTIATE_TEST_SUITE_P(Stores, StoreTest, testing::Values("simulated", "redis"),
                         [](const auto& parameter) { return std::string(parameter.param); });

TEST_P(StoreTest, AnUnknownKeyIsAbsent) { EXPECT_EQ(Get("key").kind, Slot::Kind::kAbsent); }

TEST_P(StoreTest, OneLoaderHoldsTheLease) {
  const Lease first = Acquire("key", kLeaseA);
  EXPECT_EQ(first.outcome, Lease::Outcome::kGranted);
  EXPECT_FALSE(first.after_fence);
  EXPECT_EQ(Acquire("key", kLeaseB).outcome, Lease::Outcome::kBusy);
  const Slot slot = Get("key");
  EXPECT_EQ(slot.kind, Slot::Kind::kLease);
  EXPECT_EQ(slot.token, kLeaseA);
}

TEST_P(StoreTest, ACommittedFillIsServedUntilItsTimeIsOver) {
  const Lease lease = Acquire("key", kLeaseA);
  EXPECT_TRUE(Commit("key", kLeaseA, lease.term, "envelope"));
  const Slot slot = Get("key");
  EXPECT_EQ(slot.kind, Slot::Kind::kValue);
  EXPECT_EQ(slot.token, kFill);
  EXPECT_EQ(slot.bytes, "envelope");
  const Lease taken = Acquire("key", kLeaseB);
  EXPECT_EQ(taken.outcome, Lease::Outcome::kValue);
  EXPECT_EQ(taken.slot.token, kFill);
  EXPECT_EQ(taken.slot.bytes, "envelope");

  const Lease brief = Acquire("brief", kLeaseA);
  EXPECT_TRUE(Commit("brief", kLeaseA, brief.term, "envelope", absl::Milliseconds(1)));
  AwaitAbsent("brief");
}

TEST_P(StoreTest, OnlyTheLeaseThatStandsCanCommit) {
  EXPECT_FALSE(Commit("key", kLeaseA, 1, "never leased"));
  EXPECT_EQ(Get("key").kind, Slot::Kind::kAbsent);
  const Lease lease = Acquire("key", kLeaseA);
  EXPECT_FALSE(Commit("key", kLeaseB, lease.term, "another's lease"));
  EXPECT_FALSE(Commit("key", kLeaseA, lease.term + 1, "another term"));
  EXPECT_EQ(Get("key").kind, Slot::Kind::kLease);
  EXPECT_TRUE(Commit("key", kLeaseA, lease.term, "right"));
  EXPECT_FALSE(Commit("key", kLeaseA, lease.term, "twice"));
  EXPECT_EQ(Get("key").bytes, "right");
}

TEST_P(StoreTest, AFenceRefusesAFillThatBeganBefore) {
  const Lease before = Acquire("key", kLeaseA);
  FenceKey("key");
  EXPECT_FALSE(Commit("key", kLeaseA, before.term, "stale"));
  const Slot slot = Get("key");
  EXPECT_EQ(slot.kind, Slot::Kind::kFence);
  EXPECT_EQ(slot.token, kFence);
  const Lease after = Acquire("key", kLeaseB);
  EXPECT_EQ(after.outcome, Lease::Outcome::kGranted);
  EXPECT_TRUE(after.after_fence);
  EXPECT_FALSE(Commit("key", kLeaseA, before.term, "stale")) << "also once a new loader holds the key";
  EXPECT_TRUE(Commit("key", kLeaseB, after.term, "fresh"));
  EXPECT_EQ(Get("key").bytes, "fresh");
}

TEST_P(StoreTest, AFenceTakesTheValueAway) {
  const Lease lease = Acquire("key", kLeaseA);
  EXPECT_TRUE(Commit("key", kLeaseA, lease.term, "envelope"));
  FenceKey("key");
  EXPECT_EQ(Get("key").kind, Slot::Kind::kFence);
  EXPECT_TRUE(Get("key").bytes.empty());
}

TEST_P(StoreTest, OnlyItsHolderReleasesALease) {
  Acquire("key", kLeaseA);
  world_->Drive([&](std::function<void()> finished) {
    store()->ReleaseLease("key", kLeaseB);
    finished();
  });
  EXPECT_EQ(Get("key").kind, Slot::Kind::kLease);
  world_->Drive([&](std::function<void()> finished) {
    store()->ReleaseLease("key", kLeaseA);
    finished();
  });
  EXPECT_EQ(Get("key").kind, Slot::Kind::kAbsent);
}

TEST_P(StoreTest, ALeaseExpiresAndItsLateFillIsRefused) {
  const Lease late = Acquire("key", kLeaseA, absl::Milliseconds(1));
  AwaitAbsent("key");
  EXPECT_FALSE(Commit("key", kLeaseA, late.term, "late"));
  EXPECT_EQ(Acquire("key", kLeaseB).outcome, Lease::Outcome::kGranted);
  EXPECT_FALSE(Commit("key", kLeaseA, late.term, "later"));
}

TEST_P(StoreTest, BytesOfAnyKindAndSizeComeBackUnchanged) {
  std::string key("key with \r\n, \0 and \xff", 21);
  for (const std::string& envelope : {std::string(), std::string("\r\n$-1\r\n\0V", 9), std::string(3 << 20, '\0')}) {
    const Lease lease = Acquire(key, kLeaseA);
    ASSERT_EQ(lease.outcome, Lease::Outcome::kGranted);
    EXPECT_TRUE(Commit(key, kLeaseA, lease.term, envelope));
    EXPECT_TRUE(Get(key).bytes == envelope);
    EXPECT_TRUE(Acquire(key, kLeaseB).slot.bytes == envelope);
    FenceKey(key);
  }
}

TEST_P(StoreTest, AForeignValueIsToldApartAndOverwritten) {
  for (const char* foreign : {"", "V", "{\"json\": \"of another application\"}", "Lease of the wrong length"}) {
    world_->SetForeign("key", foreign);
    EXPECT_EQ(Get("key").kind, Slot::Kind::kForeign) << foreign;
    EXPECT_EQ(Acquire("key", kLeaseA).outcome, Lease::Outcome::kGranted) << foreign;
  }
}

TEST_P(StoreTest, ATagHoldsItsKeys) {
  EXPECT_TRUE(Members("tag").empty());
  AddToTag("tag", "one");
  AddToTag("tag", "two");
  AddToTag("tag", "two");
  EXPECT_EQ(Members("tag"), (std::set<std::string>{"one", "two"}));
  EXPECT_EQ(Members("tag").size(), 2u) << "reading removes nothing";
}

TEST_P(StoreTest, ALargeTagIsReturnedWhole) {
  constexpr int kKeys = 5000;
  world_->Drive([&](std::function<void()> finished) {
    auto left = std::make_shared<int>(kKeys);
    for (int i = 0; i < kKeys; ++i) {
      store()->AddToTag("tag", absl::StrCat("key", i), absl::Minutes(1), [left, finished](absl::Status added) {
        EXPECT_TRUE(added.ok()) << added;
        if (--*left == 0) finished();
      });
    }
  });
  EXPECT_EQ(Members("tag").size(), static_cast<size_t>(kKeys));
}

TEST_P(StoreTest, ATagsTimeIsExtendedAndNeverShortened) {
  AddToTag("lasting", "one", absl::Minutes(1));
  AddToTag("lasting", "two", absl::Milliseconds(1));
  AddToTag("brief", "one", absl::Milliseconds(1));
  while (!Members("brief").empty()) {
  }
  EXPECT_TRUE(Members("lasting").count("one"));
  AddToTag("extended", "one", absl::Milliseconds(1));
  AddToTag("extended", "one", absl::Minutes(1));
  AddToTag("brief", "two", absl::Milliseconds(20));
  while (!Members("brief").empty()) {
  }
  EXPECT_TRUE(Members("extended").count("one"));
}

TEST_P(StoreTest, TheLastInvalidationIsRemembered) {
  auto last = [&] {
    return Await<absl::StatusOr<absl::Time>>([&](auto done) { store()->LastInvalidated("tag", std::move(done)); });
  };
  EXPECT_EQ(last().value(), absl::InfinitePast());
  const absl::Time at = absl::FromUnixMicros(1'700'000'000'123'456);
  world_->Drive([&](std::function<void()> finished) {
    store()->MarkInvalidated("tag", at);
    finished();
  });
  EXPECT_EQ(last().value(), at);
  EXPECT_TRUE(Members("tag").empty()) << "the mark is not in the way of the tag's keys";
}

TEST_P(StoreTest, CommandsOfOneTurnAreAnsweredInOrder) {
  Acquire("b", kLeaseA);
  std::vector<Slot::Kind> kinds;
  world_->Drive([&](std::function<void()> finished) {
    store()->Get("a", [&](absl::StatusOr<Slot> slot) { kinds.push_back(slot.value().kind); });
    store()->Get("b", [&](absl::StatusOr<Slot> slot) { kinds.push_back(slot.value().kind); });
    store()->Get("a", [&, finished](absl::StatusOr<Slot> slot) {
      kinds.push_back(slot.value().kind);
      finished();
    });
  });
  EXPECT_EQ(kinds, (std::vector<Slot::Kind>{Slot::Kind::kAbsent, Slot::Kind::kLease, Slot::Kind::kAbsent}));
}

}  // namespace
}  // namespace shadowline::cache
