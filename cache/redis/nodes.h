// RedisNodes knows the connections of one store, and which of them leads to the node that owns a key.
//
// Threads: all calls on the executor of its connections.
#ifndef SHADOWLINE_CACHE_REDIS_NODES_H_
#define SHADOWLINE_CACHE_REDIS_NODES_H_

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/event_loop.h"
#include "cache/redis/connection.h"
#include "cache/redis/reply.h"

namespace shadowline::cache {

class RedisNodes : public base::Pollable {
 public:
  // Where `key` is; it may be down. Null: no node is known to own it.
  virtual RedisConnection* Owner(absl::string_view key) = 0;
  // Where a command has to be sent again whose reply was this error, and whether behind an ASKING. Nothing: nowhere.
  struct Detour {
    RedisConnection* to;
    bool asking;
  };
  virtual std::optional<Detour> Follow(const Reply& error, const RedisConnection& from) = 0;
  // False: every read would fail at once.
  virtual bool Reachable() const = 0;
  virtual void Shutdown() = 0;
};

// One Redis that owns every key.
class SingleNode final : public RedisNodes {
 public:
  SingleNode(RedisConnection::Options options, const RedisAddress& address, base::Executor* executor,
             const base::Clock* clock, base::Random* random, RedisStats* stats)
      : stats_(stats), connection_(std::move(options), {address}, executor, clock, random, stats) {
    connection_.hooks()->changed = [this](bool up) { stats_->up.store(up, std::memory_order_relaxed); };
  }

  RedisConnection* Owner(absl::string_view) override { return &connection_; }
  std::optional<Detour> Follow(const Reply&, const RedisConnection&) override { return std::nullopt; }
  bool Reachable() const override { return connection_.Reachable(); }
  void Shutdown() override {
    connection_.Shutdown();
    stats_->up.store(false, std::memory_order_relaxed);
  }

  int Descriptor() const override { return connection_.Descriptor(); }
  short Events() const override { return connection_.Events(); }        // NOLINT: poll(2)'s own type
  void OnReady(short events) override { connection_.OnReady(events); }  // NOLINT
  void Flush() override { connection_.Flush(); }
  bool Busy() const override { return connection_.Busy(); }

 private:
  RedisStats* const stats_;
  RedisConnection connection_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_REDIS_NODES_H_
