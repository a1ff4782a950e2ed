// SentinelNodes is the one master that sentinels name. A sentinel is asked for its address at every `mark_interval`,
// and whenever the connection to it was lost or could not be made; it is connected to only on an answer, and only if it
// says itself that it is a master. A sentinel that does not answer, knows no such master or names one that cannot be
// reached gives way to the next.
//
// Ownership: owns the connections: one to the master, one to a sentinel.
// Threads:   all calls on the executor; the stats are written there.
#ifndef SHADOWLINE_CACHE_REDIS_SENTINEL_H_
#define SHADOWLINE_CACHE_REDIS_SENTINEL_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/random.h"
#include "cache/redis/address.h"
#include "cache/redis/connection.h"
#include "cache/redis/nodes.h"
#include "cache/redis/poll_set.h"
#include "cache/redis/reply.h"

namespace shadowline::cache {

class SentinelNodes final : public RedisNodes {
 public:
  struct Sentinels {
    std::vector<RedisAddress> addresses;  // At least one.
    std::string master;                   // As they call it.
    std::string user;                     // Of the sentinels themselves.
    std::string password;
  };

  SentinelNodes(const RedisConnection::Options& options, const Sentinels& sentinels, base::Executor* executor,
                const base::Clock* clock, base::Random* random, RedisStats* stats);

  RedisConnection* Owner(absl::string_view) override { return &master_; }
  std::optional<Detour> Follow(const Reply&, const RedisConnection&) override { return std::nullopt; }
  bool Reachable() const override { return master_.Reachable(); }
  void Shutdown() override;

  int Descriptor() const override { return polled_.Descriptor(); }
  short Events() const override { return polled_.Events(); }        // NOLINT: poll(2)'s own type
  void OnReady(short events) override { polled_.OnReady(events); }  // NOLINT
  void Flush() override { polled_.Flush(); }
  bool Busy() const override { return polled_.Busy(); }

 private:
  void Ask();
  void AskLater();
  void Take(const Reply& answer);
  void MasterChanged(bool up);

  base::Executor* const executor_;
  RedisStats* const stats_;
  const std::string name_;
  const absl::Duration interval_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  RedisConnection master_;
  RedisConnection sentinel_;
  PollSet polled_;
  bool asking_ = false;
  bool ask_later_ = false;
  int missed_ = 0;  // Attempts to reach the master that this sentinel names.
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_REDIS_SENTINEL_H_
