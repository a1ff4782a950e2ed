#include "cache/redis/sentinel.h"

#include <algorithm>
#include <utility>

namespace shadowline::cache {
namespace {

// A sentinel that names a master which cannot be reached may be behind the others.
constexpr int kMissedMax = 3;

RedisConnection::Options OfSentinel(RedisConnection::Options options, const SentinelNodes::Sentinels& sentinels) {
  options.user = sentinels.user;
  options.password = sentinels.password;
  options.database = 0;
  options.master = false;
  options.command_timeout = std::max(options.command_timeout, options.connect_timeout);  // No read waits for it.
  options.breaker.reset();
  options.greet = nullptr;
  return options;
}

}  // namespace

SentinelNodes::SentinelNodes(const RedisConnection::Options& options, const Sentinels& sentinels,
                             base::Executor* executor, const base::Clock* clock, base::Random* random,
                             RedisStats* stats)
    : executor_(executor),
      stats_(stats),
      name_(sentinels.master),
      interval_(options.mark_interval),
      master_(options, {}, executor, clock, random, stats),
      sentinel_(OfSentinel(options, sentinels), sentinels.addresses, executor, clock, random, stats) {
  master_.hooks()->changed = [this](bool up) { MasterChanged(up); };
  sentinel_.hooks()->changed = [this](bool up) {
    missed_ = 0;
    asking_ = false;
    if (up) Ask();
  };
  polled_.Add(&master_);
  polled_.Add(&sentinel_);
}

void SentinelNodes::Shutdown() {
  master_.Shutdown();
  sentinel_.Shutdown();
  stats_->up.store(false, std::memory_order_relaxed);
}

void SentinelNodes::MasterChanged(bool up) {
  stats_->up.store(up, std::memory_order_relaxed);
  if (up) {
    missed_ = 0;
    return;
  }
  // Whether it still is the master has to be asked first.
  master_.SetAddresses({});
  if (++missed_ >= kMissedMax) return sentinel_.Drop("the master that it names cannot be reached");
  Ask();
}

void SentinelNodes::Ask() {
  if (!sentinel_.up() || std::exchange(asking_, true)) return;
  sentinel_.Send({"SENTINEL", "GET-MASTER-ADDR-BY-NAME", name_}, [this](absl::StatusOr<Reply*> reply) {
    if (!reply.ok()) return;
    asking_ = false;
    Take(**reply);
  });
}

void SentinelNodes::AskLater() {
  if (std::exchange(ask_later_, true)) return;
  executor_->PostAfter(interval_, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    ask_later_ = false;
    Ask();
  });
}

void SentinelNodes::Take(const Reply& answer) {
  if (answer.type == Reply::Type::kError) return sentinel_.Drop(Answered(sentinel_.address(), answer).message());
  if (answer.elements.size() != 2) return sentinel_.Drop("it knows no master of that name");
  absl::StatusOr<RedisAddress> named = RedisAddress::Of(answer.elements[0].text, answer.elements[1].text);
  if (!named.ok()) return sentinel_.Drop(named.status().message());
  master_.SetAddresses({*std::move(named)});
  stats_->up.store(master_.up(), std::memory_order_relaxed);
  AskLater();
}

}  // namespace shadowline::cache
