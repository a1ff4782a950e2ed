// ClusterNodes are the masters of a Redis Cluster, one connection to each.
//
// Who serves which slots is asked of any node (CLUSTER SLOTS): every `mark_interval`, and soon after a node was lost or
// has sent a command elsewhere. While no node is up, the seeds and all nodes of the last answer are asked in turn, over
// a connection that exists for it alone. An answer that comes from an older epoch of the cluster than the one before is
// not taken for a while: a node on the wrong side of a partition goes on telling what it knew.
//
//   MOVED   the slot is where it says from now on, and the nodes are asked.
//   ASK     this command alone goes there, behind an ASKING.
//   others  (CLUSTERDOWN, TRYAGAIN, LOADING, ...) are answers: the caller goes to the database.
//
// A node that is in no answer any more, and was not lately named by a redirect, is given up. A node that is named first
// by a redirect is not connected yet, so what was sent there fails.
//
// A node's connection may only be asked about a slot that it serves: it refuses others itself (MOVED), so a map that is
// behind costs a detour and never a wrong answer.
//
// Ownership: owns the connections.
// Threads:   all calls on the executor; the stats are written there.
// Limits:    1024 connections; what a map or a redirect names beyond them is not reached.
#ifndef SHADOWLINE_CACHE_REDIS_CLUSTER_H_
#define SHADOWLINE_CACHE_REDIS_CLUSTER_H_

#include <cstddef>
#include <cstdint>
#include <map>
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
#include "cache/redis/slots.h"

namespace shadowline::cache {

class ClusterNodes final : public RedisNodes {
 public:
  // `seeds`: at least one; any nodes of the cluster.
  ClusterNodes(RedisConnection::Options options, std::vector<RedisAddress> seeds, base::Executor* executor,
               const base::Clock* clock, base::Random* random, RedisStats* stats);
  ~ClusterNodes() override;

  RedisConnection* Owner(absl::string_view key) override { return owners_[SlotOf(key)]; }
  std::optional<Detour> Follow(const Reply& error, const RedisConnection& from) override;
  bool Reachable() const override;
  void Shutdown() override;

  int Descriptor() const override { return polled_.Descriptor(); }
  short Events() const override { return polled_.Events(); }        // NOLINT: poll(2)'s own type
  void OnReady(short events) override { polled_.OnReady(events); }  // NOLINT
  void Flush() override;
  bool Busy() const override { return polled_.Busy(); }

 private:
  struct Node {
    std::unique_ptr<RedisConnection> connection;
    bool serves = false;  // As the last answer has it.
    absl::Duration redirected_at = -absl::InfiniteDuration();
  };

  // The node there, a new one if need be; null where there are too many.
  Node* At(const RedisAddress& address);
  std::unique_ptr<RedisConnection> Connect(RedisConnection::Options options, std::vector<RedisAddress> addresses);
  void Retire(std::unique_ptr<RedisConnection> connection);
  void Later(absl::Duration delay, base::Task task);
  void Tick();
  // Asks who serves what, before long: `first` (an address), if it is up.
  void AskSoon(const std::string& first);
  void Ask();
  void Take(const Reply& slots, uint64_t epoch, const RedisConnection& from);
  void UpdateUp();

  const RedisConnection::Options options_;
  const std::vector<RedisAddress> seeds_;
  base::Executor* const executor_;
  const base::Clock* const clock_;
  base::Random* const random_;
  RedisStats* const stats_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  PollSet polled_;

  std::map<std::string, Node> nodes_;                                // By address.
  std::vector<RedisConnection*> owners_;                             // By slot.
  std::unique_ptr<RedisConnection> scout_;                           // While no node is up.
  std::vector<std::unique_ptr<RedisConnection>> retired_, leaving_;  // Until nothing is under way on them.

  bool begun_ = false;
  bool shut_ = false;
  bool covered_ = false;     // Every slot has an owner.
  uint64_t epoch_ = 0;       // Of the map,
  absl::Duration epoch_at_;  // and when a node last confirmed it.
  size_t turn_ = 0;          // Which node to ask next.
  std::string first_;        // Whom to ask instead.
  bool ask_soon_ = false;
  absl::Duration asked_at_ = -absl::InfiniteDuration();
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_REDIS_CLUSTER_H_
