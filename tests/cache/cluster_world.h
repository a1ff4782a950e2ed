// A RedisStore of a cluster on an event loop, and a way to what somebody else does to the same cluster.
#ifndef SHADOWLINE_TESTS_CACHE_CLUSTER_WORLD_H_
#define SHADOWLINE_TESTS_CACHE_CLUSTER_WORLD_H_

#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/event_loop.h"
#include "base/random.h"
#include "cache/redis/redis_store.h"
#include "cache/redis/slots.h"
#include "tests/support/private_redis.h"

namespace shadowline::cache {

class ClusterWorld {
 public:
  static RedisStore::Options Patient() {
    RedisStore::Options options;
    options.command_timeout = absl::Seconds(10);
    return options;
  }
  static std::vector<RedisAddress> Parse(const std::vector<std::string>& texts) {
    std::vector<RedisAddress> addresses;
    for (const std::string& text : texts) addresses.push_back(RedisAddress::Parse(text).value());
    return addresses;
  }

  // Without seeds in `options`: all of the cluster's nodes.
  explicit ClusterWorld(support::PrivateRedisCluster* cluster, RedisStore::Options options = Patient())
      : cluster_(cluster) {
    if (options.cluster.empty()) options.cluster = Parse(cluster->addresses());
    store_ = std::make_unique<RedisStore>(options, &loop_, &clock_, &random_);
    loop_.Attach(store_.get());
    AwaitUp();
  }
  ~ClusterWorld() {
    Drive([this](std::function<void()> finished) {
      store_->Shutdown();
      finished();
    });
    loop_.Stop();
  }

  support::PrivateRedisCluster* cluster() { return cluster_; }
  RedisStore* store() { return store_.get(); }
  base::EventLoop* loop() { return &loop_; }
  base::Random* random() { return &random_; }  // On the loop.

  // Runs `start` on the loop, and waits until the function it was given is called.
  void Drive(std::function<void(std::function<void()>)> start) {
    std::promise<void> done;
    loop_.Post([&] { start([&done] { done.set_value(); }); });
    done.get_future().wait();
  }
  // Turns the loop until every slot can be asked for.
  void AwaitUp() {
    while (!store_->stats().up.load()) {
      Drive([](std::function<void()> finished) { finished(); });
    }
  }
  // A command of somebody else's, to the node that serves `key`.
  Reply Command(const std::string& key, const std::vector<std::string>& command) {
    return support::AskRedis(cluster_->OwnerOf(static_cast<int>(SlotOf(key)))->socket(), command);
  }

 private:
  support::PrivateRedisCluster* const cluster_;
  base::SystemClock clock_;
  base::Random random_{1};
  base::EventLoop loop_{&clock_, "cluster-test"};
  std::unique_ptr<RedisStore> store_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_TESTS_CACHE_CLUSTER_WORLD_H_
