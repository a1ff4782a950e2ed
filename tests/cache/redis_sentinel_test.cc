// RedisStore with a real master, a real replica and real sentinels.
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/event_loop.h"
#include "base/random.h"
#include "cache/redis/redis_store.h"
#include "gtest/gtest.h"
#include "tests/support/await.h"
#include "tests/support/private_redis.h"

namespace shadowline::cache {
namespace {

RedisStore::Options OptionsFor(const std::vector<std::string>& sentinels, const std::string& password = "") {
  RedisStore::Options options;
  options.command_timeout = absl::Seconds(1);
  options.reconnect_min = absl::Milliseconds(1);
  options.sentinel.emplace();
  for (const std::string& sentinel : sentinels) {
    options.sentinel->addresses.push_back(RedisAddress::Parse(sentinel).value());
  }
  options.sentinel->master = "main";
  options.sentinel->password = password;
  return options;
}

class SentinelWorld {
 public:
  explicit SentinelWorld(const RedisStore::Options& options) : store_(options, &loop_, &clock_, &random_) {
    loop_.Attach(&store_);
  }
  ~SentinelWorld() {
    Drive([this](std::function<void()> finished) {
      store_.Shutdown();
      finished();
    });
    loop_.Stop();
  }
  RedisStore* store() { return &store_; }
  void Drive(std::function<void(std::function<void()>)> start) {
    std::promise<void> done;
    loop_.Post([&] { start([&done] { done.set_value(); }); });
    done.get_future().wait();
  }
  void AwaitUp(bool up = true) {
    while (store_.stats().up.load() != up) {
      Drive([](std::function<void()> finished) { finished(); });
    }
  }
  // The fence, made where there is none. Once more until there is an answer.
  std::string Ensure() {
    std::optional<absl::StatusOr<Fences>> fences;
    do {
      Drive([&](std::function<void()> finished) {
        store_.EnsureFences({"fence"}, absl::Minutes(5), [&, finished](absl::StatusOr<Fences> ensured) {
          fences = std::move(ensured);
          finished();
        });
      });
    } while (!fences->ok());
    return (*fences)->tokens;
  }

 private:
  base::SystemClock clock_;
  base::Random random_{1};
  base::EventLoop loop_{&clock_, "sentinel-test"};
  RedisStore store_;
};

TEST(RedisSentinelTest, APromotedReplicaIsFoundAndItsFencesAreNotTheOldOnes) {
  support::PrivateSentinels sentinels;
  SentinelWorld world(OptionsFor(sentinels.addresses()));
  const std::string tokens = world.Ensure();
  support::PrivateRedis* const master = sentinels.Master();
  support::PrivateRedis* const replica = sentinels.Replica();
  EXPECT_EQ(support::AskRedis(master->socket(), {"WAIT", "1", "10000"}).integer, 1);
  master->Kill();
  world.AwaitUp(false);
  sentinels.AwaitNamed(*replica);
  EXPECT_EQ(support::AskRedis(replica->socket(), {"GET", "fence"}).text.substr(1, kTokenBytes), tokens);
  EXPECT_NE(world.Ensure(), tokens);
  EXPECT_NE(support::AskRedis(replica->socket(), {"GET", "fence"}).text.substr(1, kTokenBytes), tokens);
}

TEST(RedisSentinelTest, AMasterThatWasReplacedWhileItHungIsNotUsedAgain) {
  support::PrivateSentinels sentinels;
  SentinelWorld world(OptionsFor(sentinels.addresses()));
  world.Ensure();
  support::PrivateRedis* const master = sentinels.Master();
  support::PrivateRedis* const replica = sentinels.Replica();
  master->Freeze();
  sentinels.AwaitNamed(*replica);
  const std::string there = world.Ensure();
  master->Thaw();
  EXPECT_EQ(support::AskRedis(replica->socket(), {"GET", "fence"}).text.substr(1, kTokenBytes), there);
  EXPECT_EQ(world.Ensure(), there);
}

TEST(RedisSentinelTest, AMasterThatIsReplacedWhileItLivesIsLeft) {
  support::PrivateSentinels sentinels(1);
  SentinelWorld world(OptionsFor(sentinels.addresses()));
  const std::string tokens = world.Ensure();
  support::PrivateRedis* const replica = sentinels.Replica();
  EXPECT_EQ(support::AskRedis(sentinels.Master()->socket(), {"WAIT", "1", "10000"}).integer, 1);
  // A sentinel has to have looked at the replica a moment ago.
  EXPECT_TRUE(support::AwaitTrue(absl::Minutes(1), [&] {
    return support::AskRedis(sentinels.socket(0), {"SENTINEL", "FAILOVER", "main"}).text == "OK";
  }));
  sentinels.AwaitNamed(*replica);
  while (world.Ensure() == tokens) {
  }
  EXPECT_NE(support::AskRedis(replica->socket(), {"GET", "fence"}).text.substr(1, kTokenBytes), tokens);
}

TEST(RedisSentinelTest, SentinelsThatAreDeadOrKnowNothingGiveWayToTheNext) {
  support::PrivateSentinels sentinels(1, "secret");
  const support::PrivateRedis stranger;
  const std::vector<std::string> addresses = {absl::StrCat("127.0.0.1:", support::FreePort()),
                                              absl::StrCat("127.0.0.1:", stranger.port()), sentinels.addresses()[0]};
  {
    SentinelWorld world(OptionsFor(addresses, "secret"));
    EXPECT_FALSE(world.Ensure().empty());
  }
  RedisStore::Options wrong = OptionsFor(addresses, "wrong");
  RedisStore::Options other = OptionsFor(addresses, "secret");
  other.sentinel->master = "other";
  for (const RedisStore::Options& options : {wrong, other}) {
    SentinelWorld world(options);
    while (world.store()->stats().attempts.load() < 12) {
    }
    EXPECT_FALSE(world.store()->stats().up.load());
  }
}

}  // namespace
}  // namespace shadowline::cache
