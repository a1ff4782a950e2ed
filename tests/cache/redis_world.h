// A private Redis, a RedisStore on an event loop, and a plain connection for what somebody else does to the same Redis.
#ifndef SHADOWLINE_TESTS_CACHE_REDIS_WORLD_H_
#define SHADOWLINE_TESTS_CACHE_REDIS_WORLD_H_

#include <functional>
#include <future>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/event_loop.h"
#include "base/random.h"
#include "cache/redis/redis_store.h"
#include "tests/cache/redis_client.h"
#include "tests/support/private_servers.h"

namespace shadowline::cache {

class RedisWorld {
 public:
  // The default is patient: a busy machine is no failure.
  explicit RedisWorld(absl::Duration command_timeout = absl::Seconds(10)) : RedisWorld(Patient(command_timeout)) {}
  explicit RedisWorld(RedisStore::Options options) {
    options.address = RedisAddress::Parse(absl::StrCat("unix:", redis_.socket())).value();
    store_ = std::make_unique<RedisStore>(options, &loop_, &clock_, &random_);
    loop_.Attach(store_.get());
    AwaitUp();
  }
  ~RedisWorld() {
    Drive([this](std::function<void()> finished) {
      store_->Shutdown();
      finished();
    });
    loop_.Stop();
  }

  support::PrivateRedis* redis() { return &redis_; }
  RedisStore* store() { return store_.get(); }
  base::EventLoop* loop() { return &loop_; }

  // Runs `start` on the loop, and waits until the function it was given is called.
  void Drive(std::function<void(std::function<void()>)> start) {
    std::promise<void> done;
    loop_.Post([&] { start([&done] { done.set_value(); }); });
    done.get_future().wait();
  }
  // Turns the loop until the store is connected.
  void AwaitUp() {
    while (!store_->stats().up.load()) {
      Drive([](std::function<void()> finished) { finished(); });
    }
  }
  // A command on a connection of its own.
  Reply Command(std::initializer_list<absl::string_view> command) {
    return RedisClient(redis_.socket()).Command(command);
  }

 private:
  static RedisStore::Options Patient(absl::Duration command_timeout) {
    RedisStore::Options options;
    options.command_timeout = command_timeout;
    return options;
  }

  base::SystemClock clock_;
  base::Random random_{1};
  support::PrivateRedis redis_;
  base::EventLoop loop_{&clock_, "redis-test"};
  std::unique_ptr<RedisStore> store_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_TESTS_CACHE_REDIS_WORLD_H_
