// RedisStore is the Store on a real Redis.
//
//   RedisStore::Options options;
//   options.address = RedisAddress::Parse("127.0.0.1:6379").value();
//   RedisStore store(options, loop, clock, random);
//   loop->Attach(&store);  // connects from the loop's first turn on, and again whenever the connection is lost
//
// It is the Store's operations, as commands on single keys; where a key is, cache/redis/nodes.h says, and what happens
// on the way there is in cache/redis/connection.h. A read, the hot path, is a GET of the value and one of each fence:
// no script, and one copy of each reply; everything that compares before it writes is a small script on one key.
//
// A fence bears the mark of the Redis that it was written to, and is compared with the mark of the Redis that answered.
// Under another mark it counts as absent: after a restart or a failover, the one that had replaced it may be what was
// forgotten.
//
// The breaker keeps reads alone from a Redis that is slow or failing; other operations only follow reads, or are worth
// a try. A read that has failed on one node does not wait for the others.
//
// Ownership: borrows executor, clock and random. As a Pollable it must outlive its loop's thread.
// Threads:   all calls on the executor, callbacks too; stats() from any thread.
// Errors:    as in cache/store.h. Their messages name the address and Redis' own error, never a key or a value.
// Limits:    those of its connections.
#ifndef SHADOWLINE_CACHE_REDIS_REDIS_STORE_H_
#define SHADOWLINE_CACHE_REDIS_REDIS_STORE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/event_loop.h"
#include "base/executor.h"
#include "base/random.h"
#include "cache/redis/address.h"
#include "cache/redis/connection.h"
#include "cache/redis/nodes.h"
#include "cache/redis/reply.h"
#include "cache/redis/sentinel.h"
#include "cache/store.h"

namespace shadowline::cache {

class RedisStore final : public Store, public base::Pollable {
 public:
  struct Options : RedisConnection::Options {
    RedisAddress address;
    // Nodes of a Redis Cluster, any of them; none: the one Redis at `address`.
    std::vector<RedisAddress> cluster;
    // The one Redis that they name, instead.
    std::optional<SentinelNodes::Sentinels> sentinel;
  };
  using Stats = RedisStats;

  RedisStore(Options options, base::Executor* executor, const base::Clock* clock, base::Random* random);
  RedisStore(const RedisStore&) = delete;
  RedisStore& operator=(const RedisStore&) = delete;
  // Callbacks that are still outstanding are destroyed without being called: call Shutdown first.
  ~RedisStore() override;

  // Closes for good: what is outstanding, and every later call, is answered with kUnavailable. On the executor.
  void Shutdown();

  const Stats& stats() const { return stats_; }

  bool Reachable() const override;
  void Read(std::string key, std::vector<std::string> fence_keys,
            absl::AnyInvocable<void(absl::StatusOr<Found>)> done) override;
  void ReadRaw(std::string key, absl::AnyInvocable<void(absl::StatusOr<Found>)> done) override;
  void EnsureFences(std::vector<std::string> fence_keys, absl::Duration ttl,
                    absl::AnyInvocable<void(absl::StatusOr<Fences>)> done) override;
  void ReplaceFence(std::string fence_key, std::string token, absl::Time at, std::vector<uint64_t> transactions,
                    absl::Duration ttl, absl::AnyInvocable<void(absl::Status)> done) override;
  void ReadFence(std::string fence_key, absl::AnyInvocable<void(absl::StatusOr<Fence>)> done) override;
  void AcquireLease(std::string key, std::string lease_id, absl::Duration ttl, std::vector<std::string> fence_keys,
                    absl::AnyInvocable<void(absl::StatusOr<Lease>)> done) override;
  void RenewLease(std::string key, std::string lease_id, absl::Duration ttl) override;
  void ReleaseLease(std::string key, std::string lease_id) override;
  void Put(std::string key, std::string seen, Fill fill, absl::AnyInvocable<void(absl::StatusOr<bool>)> done) override;
  void Discard(std::string key, std::string fill, absl::AnyInvocable<void(absl::Status)> done) override;

  int Descriptor() const override { return nodes_->Descriptor(); }
  short Events() const override { return nodes_->Events(); }        // NOLINT: poll(2)'s own type
  void OnReady(short events) override { nodes_->OnReady(events); }  // NOLINT
  void Flush() override { nodes_->Flush(); }
  bool Busy() const override { return nodes_->Busy(); }

 private:
  class Reading;
  class Command;

  using ReadDone = absl::AnyInvocable<void(absl::StatusOr<Found>)>;
  // Gets the reply, and the connection that it came over; without a reply it may be null.
  using CommandDone = absl::AnyInvocable<void(RedisConnection*, absl::StatusOr<Reply*>)>;

  // With a permit of the breaker for each node that is asked, or regardless of it.
  void StartRead(const std::shared_ptr<Reading>& reading, bool permit);
  // Sends a command to the owner of its argument number `key`. The argument number `mark`, if there is one, becomes the
  // mark of the Redis that it is sent to.
  void Run(std::vector<std::string> arguments, size_t key, size_t mark, CommandDone done);

  static std::unique_ptr<RedisNodes> MakeNodes(Options options, base::Executor* executor, const base::Clock* clock,
                                               base::Random* random, RedisStats* stats);

  base::Executor* const executor_;
  base::Random* const random_;
  Stats stats_;
  const std::unique_ptr<RedisNodes> nodes_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_REDIS_REDIS_STORE_H_
