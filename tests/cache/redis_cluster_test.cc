// RedisStore against a real Redis Cluster whose slots move and whose masters die.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "cache/redis/redis_store.h"
#include "cache/redis/slots.h"
#include "gtest/gtest.h"
#include "tests/cache/cluster_world.h"
#include "tests/support/private_redis.h"

namespace shadowline::cache {
namespace {

constexpr absl::Duration kTtl = absl::Minutes(5);

const std::string kFill(kTokenBytes, 'f');

// Keys that are served by the first, the second and the third shard.
const std::string kOn[] = {"b", "c", "a"};

absl::StatusOr<Found> Read(ClusterWorld* world, const std::string& key, const std::vector<std::string>& fence_keys) {
  std::optional<absl::StatusOr<Found>> found;
  world->Drive([&](std::function<void()> finished) {
    world->store()->Read(key, fence_keys, [&found, finished](absl::StatusOr<Found> answered) {
      found = std::move(answered);
      finished();
    });
  });
  return *std::move(found);
}

absl::StatusOr<Fences> Ensure(ClusterWorld* world, const std::vector<std::string>& fence_keys) {
  std::optional<absl::StatusOr<Fences>> fences;
  world->Drive([&](std::function<void()> finished) {
    world->store()->EnsureFences(fence_keys, kTtl, [&fences, finished](absl::StatusOr<Fences> ensured) {
      fences = std::move(ensured);
      finished();
    });
  });
  return *std::move(fences);
}

absl::Status Replace(ClusterWorld* world, const std::string& fence_key) {
  std::optional<absl::Status> replaced;
  world->Drive([&](std::function<void()> finished) {
    world->store()->ReplaceFence(fence_key, world->random()->Id(), absl::UnixEpoch() + absl::Seconds(1), {}, kTtl,
                                 [&replaced, finished](absl::Status status) {
                                   replaced = std::move(status);
                                   finished();
                                 });
  });
  return *std::move(replaced);
}

void Put(ClusterWorld* world, const std::string& key, const std::string& fences, const std::string& bytes) {
  world->Drive([&](std::function<void()> finished) {
    world->store()->Put(key, "", {kFill, fences, bytes, kTtl}, [finished](absl::StatusOr<bool> put) {
      EXPECT_TRUE(put.ok() && *put) << put.status();
      finished();
    });
  });
}

// Once more until it succeeds; whatever is wrong passes.
template <typename Call>
auto Eventually(Call call) {
  auto answer = call();
  while (!answer.ok()) answer = call();
  return answer;
}

// Reads and invalidations of a few keys, all at once, against a database that is a number for each tag. It holds what a
// read may say: no value from before an invalidation that had been acknowledged when the read began.
class Traffic {
 public:
  explicit Traffic(ClusterWorld* world) : world_(world), written_(kTags, 0), acknowledged_(kTags, 0) {
    world_->Drive([this](std::function<void()> finished) {
      for (int i = 0; i < kReaders; ++i) ReadOne(i);
      for (int i = 0; i < kWriters; ++i) Invalidate(i);
      finished();
    });
  }
  // Ends what is under way. Nothing may be called afterwards.
  ~Traffic() { Stop(); }

  void Stop() {
    world_->Drive([this](std::function<void()> finished) {
      stopped_ = std::move(finished);
      if (running_ == 0) std::exchange(stopped_, nullptr)();
    });
  }
  // Waits for so many more answers from the cache, invalidations and fills.
  void AwaitMore(int64_t hits, int64_t invalidations) {
    const int64_t until_hits = hits_ + hits;
    const int64_t until_invalidations = invalidations_ + invalidations;
    while (hits_ < until_hits || invalidations_ < until_invalidations) {
      world_->Drive([](std::function<void()> finished) { finished(); });
    }
  }
  // Until nothing fails any more.
  void AwaitQuiet() {
    int64_t errors = -1;
    while (std::exchange(errors, errors_.load()) != errors_.load()) AwaitMore(200, 20);
  }
  // Of all keys.
  static std::vector<int> slots() {
    std::vector<int> slots;
    for (int i = 0; i < kTags; ++i) {
      slots.push_back(static_cast<int>(SlotOf(Tag(i))));
      slots.push_back(static_cast<int>(SlotOf(Key(i))));
    }
    return slots;
  }
  int64_t errors() const { return errors_; }
  int64_t stale() const { return stale_; }
  int64_t hits() const { return hits_; }

 private:
  static constexpr int kTags = 24;
  static constexpr int kReaders = 8;
  static constexpr int kWriters = 2;

  static std::string Tag(int tag) { return absl::StrCat("sl:fence:acme:tag", tag); }

  static std::string Key(int tag) { return absl::StrCat("sl:acme:key", tag); }

  // One reader: reads, fills where there is no answer, and begins again.
  struct Turn {
    int reader;
    int tags[2];
    std::vector<std::string> fence_keys;
    std::string key;
    int64_t least[2];
  };

  void ReadOne(int reader) {
    if (stopped_ != nullptr) return;
    ++running_;
    auto turn = std::make_shared<Turn>();
    turn->reader = reader;
    turn->tags[0] = static_cast<int>(world_->random()->Below(kTags));
    turn->tags[1] = (turn->tags[0] + 1) % kTags;
    for (int i = 0; i < 2; ++i) {
      turn->fence_keys.push_back(Tag(turn->tags[i]));
      turn->least[i] = acknowledged_[turn->tags[i]];
    }
    turn->key = Key(turn->tags[0]);
    world_->store()->Read(turn->key, turn->fence_keys, [this, turn](absl::StatusOr<Found> found) {
      if (!found.ok()) return Failed(turn);
      if (!Admits(*found)) return Fill(turn, found->slot.fill);
      ++hits_;
      const std::vector<std::string> said = absl::StrSplit(found->slot.bytes, ' ');
      for (int i = 0; i < 2; ++i) {
        int64_t version = -1;
        if (!absl::SimpleAtoi(said[i], &version) || version < turn->least[i]) ++stale_;
      }
      Next(turn);
    });
  }
  void Fill(const std::shared_ptr<Turn>& turn, std::string seen) {
    world_->store()->EnsureFences(turn->fence_keys, kTtl, [this, turn, seen](absl::StatusOr<Fences> fences) {
      if (!fences.ok()) return Failed(turn);
      const std::string loaded = absl::StrCat(written_[turn->tags[0]], " ", written_[turn->tags[1]]);
      // The load takes its time: invalidations overtake it.
      world_->loop()->PostAfter(absl::Milliseconds(1), [this, turn, seen, loaded, tokens = fences->tokens] {
        world_->store()->Put(turn->key, seen, {world_->random()->Id(), tokens, loaded, kTtl},
                             [this, turn](absl::StatusOr<bool> put) { put.ok() ? Next(turn) : Failed(turn); });
      });
    });
  }
  void Invalidate(int writer) {
    if (stopped_ != nullptr) return;
    ++running_;
    const int tag = static_cast<int>(world_->random()->Below(kTags));
    const int64_t version = ++written_[tag];
    world_->store()->ReplaceFence(Tag(tag), world_->random()->Id(), absl::UnixEpoch() + absl::Seconds(1), {}, kTtl,
                                  [this, writer, tag, version](absl::Status replaced) {
                                    if (replaced.ok()) {
                                      acknowledged_[tag] = std::max(acknowledged_[tag], version);
                                      ++invalidations_;
                                    } else {
                                      ++errors_;
                                    }
                                    Again(absl::Milliseconds(10), [this, writer] { Invalidate(writer); });
                                  });
  }
  void Failed(const std::shared_ptr<Turn>& turn) {
    ++errors_;
    Again(absl::Milliseconds(5), [this, reader = turn->reader] { ReadOne(reader); });
  }
  void Next(const std::shared_ptr<Turn>& turn) {
    Again(absl::Milliseconds(1), [this, reader = turn->reader] { ReadOne(reader); });
  }
  void Again(absl::Duration delay, std::function<void()> what) {
    world_->loop()->PostAfter(delay, [this, what = std::move(what)] {
      --running_;
      if (stopped_ == nullptr) return what();
      if (running_ == 0) std::exchange(stopped_, nullptr)();
    });
  }

  ClusterWorld* const world_;
  // On the loop.
  std::vector<int64_t> written_, acknowledged_;
  int running_ = 0;
  std::function<void()> stopped_;
  std::atomic<int64_t> hits_{0}, invalidations_{0}, errors_{0}, stale_{0};
};

TEST(RedisClusterTest, NoAnswerIsOlderThanAnInvalidationWhileSlotsMove) {
  support::PrivateRedisCluster cluster;
  ClusterWorld world(&cluster);
  Traffic traffic(&world);
  traffic.AwaitMore(200, 20);
  EXPECT_EQ(traffic.errors(), 0);
  // Every slot that is used goes around: from shard to shard, to where it was and on.
  for (int to = 0; to < 5; ++to) {
    for (const int slot : traffic.slots()) cluster.MoveSlot(slot, to % 3);
    traffic.AwaitMore(50, 5);
  }
  EXPECT_GT(world.store()->stats().moved.load(), 0u);
  cluster.AwaitHealthy();
  world.AwaitUp();
  traffic.AwaitQuiet();
  traffic.Stop();
  EXPECT_EQ(traffic.stale(), 0);
}

TEST(RedisClusterTest, NoAnswerIsOlderThanAnInvalidationWhenAMasterDies) {
  support::PrivateRedisCluster cluster;
  ClusterWorld world(&cluster);
  Traffic traffic(&world);
  for (int shard = 0; shard < 2; ++shard) {
    traffic.AwaitMore(200, 20);
    cluster.KillMaster(shard);
    cluster.AwaitHealthy();
    world.AwaitUp();
    traffic.AwaitQuiet();
    cluster.Revive(shard);
  }
  traffic.Stop();
  EXPECT_EQ(traffic.stale(), 0);
  EXPECT_GT(traffic.errors(), 0);
}

TEST(RedisClusterTest, AFailoverThatForgotAnInvalidationBringsNothingBack) {
  support::PrivateRedisCluster cluster;
  ClusterWorld world(&cluster);
  // The value and its fence on different nodes.
  const std::string& key = kOn[1];
  const std::string& fence = kOn[0];
  const std::string tokens = Ensure(&world, {fence})->tokens;
  Put(&world, key, tokens, "old");
  EXPECT_TRUE(Admits(*Read(&world, key, {fence})));
  EXPECT_EQ(world.Command(fence, {"WAIT", "1", "10000"}).integer, 1);

  // The replica stands still and is cut off, so the invalidation reaches the master alone.
  support::PrivateRedis* const replica = cluster.Replica(0);
  replica->Freeze();
  world.Command(fence, {"CLIENT", "KILL", "TYPE", "replica"});
  EXPECT_TRUE(Replace(&world, fence).ok());
  cluster.KillMaster(0);
  replica->Thaw();
  cluster.AwaitHealthy();
  const std::string remembered = world.Command(fence, {"GET", fence}).text;
  EXPECT_EQ(remembered.substr(1, kTokenBytes), tokens) << "the test is about what was forgotten";

  const Found found = *Eventually([&] { return Read(&world, key, {fence}); });
  EXPECT_EQ(found.slot.bytes, "old");
  EXPECT_FALSE(Admits(found));
  EXPECT_NE(Ensure(&world, {fence})->tokens, tokens);
}

TEST(RedisClusterTest, AKeyOnTheWayToAnotherNodeIsFound) {
  support::PrivateRedisCluster cluster;
  ClusterWorld world(&cluster);
  const std::string& fence = kOn[0];
  const std::string slot = absl::StrCat(SlotOf(fence));
  support::PrivateRedis* const from = cluster.Master(0);
  support::PrivateRedis* const to = cluster.Master(1);
  const std::string before = Ensure(&world, {fence})->tokens;
  Put(&world, kOn[2], before, "value");
  const auto id = [](support::PrivateRedis* redis) {
    return support::AskRedis(redis->socket(), {"CLUSTER", "MYID"}).text;
  };
  support::AskRedis(to->socket(), {"CLUSTER", "SETSLOT", slot, "IMPORTING", id(from)});
  support::AskRedis(from->socket(), {"CLUSTER", "SETSLOT", slot, "MIGRATING", id(to)});
  EXPECT_TRUE(Admits(*Read(&world, kOn[2], {fence}))) << "it is still there";
  support::AskRedis(from->socket(), {"MIGRATE", "127.0.0.1", absl::StrCat(to->port()), fence, "0", "5000"});

  // It bears the mark of the node that it came from, so it counts as absent.
  EXPECT_FALSE(Read(&world, kOn[2], {fence})->fences.complete);
  EXPECT_GT(world.store()->stats().asked.load(), 0u);
  const Fences made = *Ensure(&world, {fence});
  EXPECT_TRUE(made.complete);
  EXPECT_NE(made.tokens, before);
  EXPECT_EQ(Read(&world, kOn[2], {fence})->fences.tokens, made.tokens) << "under the mark of the node that answered";
  EXPECT_TRUE(Replace(&world, fence).ok());
  EXPECT_NE(Read(&world, kOn[2], {fence})->fences.tokens, made.tokens);
  EXPECT_EQ(world.store()->stats().moved.load(), 0u);

  support::AskRedis(to->socket(), {"CLUSTER", "SETSLOT", slot, "NODE", id(to)});
  support::AskRedis(from->socket(), {"CLUSTER", "SETSLOT", slot, "NODE", id(to)});
  EXPECT_TRUE(Eventually([&] { return Read(&world, kOn[2], {fence}); }).ok());
  EXPECT_EQ(cluster.OwnerOf(static_cast<int>(SlotOf(fence))), to);
}

TEST(RedisClusterTest, NodesJoinAndLeave) {
  support::PrivateRedisCluster cluster;
  ClusterWorld world(&cluster);
  const std::string tokens = Ensure(&world, {kOn[0]})->tokens;
  const int added = cluster.AddShard();
  const std::string joined = absl::StrCat("127.0.0.1:", cluster.Master(added)->port());
  cluster.MoveSlot(static_cast<int>(SlotOf(kOn[0])), added);
  cluster.AwaitHealthy();
  EXPECT_EQ(cluster.OwnerOf(static_cast<int>(SlotOf(kOn[0]))), cluster.Master(added));
  const Fences there = *Eventually([&] { return Ensure(&world, {kOn[0]}); });
  EXPECT_NE(there.tokens, tokens) << "it was made by another node";
  world.AwaitUp();
  cluster.MoveSlot(static_cast<int>(SlotOf(kOn[0])), 0);
  cluster.AwaitHealthy();
  cluster.RemoveShard(added);
  EXPECT_NE(Eventually([&] { return Ensure(&world, {kOn[0]}); })->tokens, there.tokens);
  world.AwaitUp();
}

TEST(RedisClusterTest, ANodeThatHangsCostsItsOwnKeysADeadline) {
  // Nobody takes its place.
  support::PrivateRedisCluster cluster(3, {"--cluster-node-timeout", "10000"});
  support::PrivateRedis* const hung = cluster.Master(0);
  RedisStore::Options options;
  options.command_timeout = absl::Milliseconds(300);
  options.breaker = Breaker::Options{.slow = absl::Milliseconds(300), .slow_in_a_row = 1};
  ClusterWorld world(&cluster, options);
  for (int i = 0; i < 3; ++i) Put(&world, kOn[i], "", absl::StrCat("on ", i));
  for (int round = 0; round < 2; ++round) {
    hung->Freeze();
    EXPECT_EQ(Read(&world, kOn[0], {}).status().code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_EQ(Read(&world, kOn[0], {}).status().code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(Read(&world, kOn[1], {kOn[0]}).status().code(), absl::StatusCode::kUnavailable) << "its fence is there";
    EXPECT_EQ(Read(&world, kOn[1], {})->slot.bytes, "on 1");
    EXPECT_EQ(world.store()->stats().broken.load(), 1u) << "of the node, not of the others";
    EXPECT_FALSE(world.store()->stats().up.load());
    world.Drive([&](std::function<void()> finished) {
      EXPECT_TRUE(world.store()->Reachable());
      finished();
    });
    hung->Thaw();
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(Eventually([&] { return Read(&world, kOn[i], {}); })->slot.bytes, absl::StrCat("on ", i))
          << "never the reply to another's command";
    }
    world.AwaitUp();
  }
}

// docs/configuration.md says what a user needs.
TEST(RedisClusterTest, AUserNeedsNoMoreThanIsDocumented) {
  support::PrivateRedisCluster cluster(
      3, {"--user", "app", "on", ">secret", "~sl:*", "-@all", "+info", "+get", "+set", "+del", "+pttl", "+pexpire",
          "+eval", "+auth", "+select", "+ping", "+asking", "+cluster|info", "+cluster|slots"});
  RedisStore::Options options = ClusterWorld::Patient();
  options.user = "app";
  options.password = "secret";
  ClusterWorld world(&cluster, options);
  const std::vector<std::string> fence_keys = {"sl:fence:a", "sl:fence:b", "sl:fence:c"};
  const Fences fences = *Ensure(&world, fence_keys);
  const std::string key = "sl:acme:key";
  std::optional<absl::StatusOr<Lease>> lease;
  world.Drive([&](std::function<void()> finished) {
    world.store()->AcquireLease(key, kFill, kTtl, fence_keys, [&lease, finished](absl::StatusOr<Lease> acquired) {
      lease = std::move(acquired);
      finished();
    });
    world.store()->RenewLease(key, kFill, kTtl);
    world.store()->ReleaseLease(key, kFill);
  });
  EXPECT_TRUE(lease->ok() && (*lease)->granted) << lease->status();
  Put(&world, key, fences.tokens, "value");
  EXPECT_TRUE(Admits(*Read(&world, key, fence_keys)));

  // On the way to another node.
  const std::string slot = absl::StrCat(SlotOf(fence_keys[0]));
  support::PrivateRedis* const from = cluster.OwnerOf(static_cast<int>(SlotOf(fence_keys[0])));
  support::PrivateRedis* const to = cluster.Master(0) == from ? cluster.Master(1) : cluster.Master(0);
  const auto id = [](support::PrivateRedis* redis) {
    return support::AskRedis(redis->socket(), {"CLUSTER", "MYID"}).text;
  };
  support::AskRedis(to->socket(), {"CLUSTER", "SETSLOT", slot, "IMPORTING", id(from)});
  support::AskRedis(from->socket(), {"CLUSTER", "SETSLOT", slot, "MIGRATING", id(to)});
  support::AskRedis(from->socket(), {"MIGRATE", "127.0.0.1", absl::StrCat(to->port()), fence_keys[0], "0", "5000"});
  EXPECT_TRUE(Replace(&world, fence_keys[0]).ok());
  EXPECT_GT(world.store()->stats().asked.load(), 0u);
  world.Drive([&](std::function<void()> finished) {
    world.store()->Discard(key, kFill, [finished](absl::Status discarded) {
      EXPECT_TRUE(discarded.ok()) << discarded;
      finished();
    });
  });
}

TEST(RedisClusterTest, OneSeedThatLeadsThereIsEnough) {
  support::PrivateRedisCluster cluster;
  const support::PrivateRedis stranger;
  RedisStore::Options options = ClusterWorld::Patient();
  // Nobody, a Redis of its own, and a replica.
  options.cluster =
      ClusterWorld::Parse({absl::StrCat("127.0.0.1:", support::FreePort()), absl::StrCat("127.0.0.1:", stranger.port()),
                           absl::StrCat("127.0.0.1:", cluster.Replica(1)->port())});
  options.reconnect_min = absl::Milliseconds(1);
  ClusterWorld world(&cluster, options);
  EXPECT_TRUE(Ensure(&world, {kOn[0], kOn[1], kOn[2]})->complete);
  EXPECT_EQ(world.store()->stats().moved.load(), 0u);
}

}  // namespace
}  // namespace shadowline::cache
