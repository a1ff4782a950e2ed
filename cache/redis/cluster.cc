#include "cache/redis/cluster.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/numbers.h"
#include "base/log.h"

namespace shadowline::cache {
namespace {

constexpr size_t kNodesMax = 1024;
// However many redirects there are.
constexpr absl::Duration kAskAtMostEvery = absl::Milliseconds(50);
// How long an answer from an older epoch is not taken after a younger one was last confirmed.
constexpr absl::Duration kEpochStands = absl::Seconds(5);
// How long a node that serves nothing is kept after a redirect has named it: slots may be on their way there.
constexpr absl::Duration kRedirectStands = absl::Seconds(10);

}  // namespace

ClusterNodes::ClusterNodes(RedisConnection::Options options, std::vector<RedisAddress> seeds, base::Executor* executor,
                           const base::Clock* clock, base::Random* random, RedisStats* stats)
    : options_([&options] {
        options.cluster = true;
        return std::move(options);
      }()),
      seeds_(std::move(seeds)),
      executor_(executor),
      clock_(clock),
      random_(random),
      stats_(stats),
      owners_(kSlots, nullptr) {}

ClusterNodes::~ClusterNodes() = default;

void ClusterNodes::Shutdown() {
  shut_ = true;
  if (scout_ != nullptr) scout_->Shutdown();
  for (auto& [address, node] : nodes_) node.connection->Shutdown();
  stats_->up.store(false, std::memory_order_relaxed);
}

bool ClusterNodes::Reachable() const {
  return std::any_of(nodes_.begin(), nodes_.end(),
                     [](const auto& node) { return node.second.serves && node.second.connection->Reachable(); });
}

void ClusterNodes::Flush() {
  if (!std::exchange(begun_, true)) Tick();
  polled_.Flush();
}

std::optional<RedisNodes::Detour> ClusterNodes::Follow(const Reply& error, const RedisConnection& from) {
  const std::optional<Redirect> redirect = ParseRedirect(error.text, from.target());
  if (!redirect.has_value() || shut_) return std::nullopt;
  std::atomic<uint64_t>& counted = redirect->ask ? stats_->asked : stats_->moved;
  counted.store(counted.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  Node* const node = At(redirect->to);
  if (node == nullptr) return std::nullopt;
  node->redirected_at = clock_->Steady();
  if (!redirect->ask) {
    owners_[redirect->slot] = node->connection.get();
    AskSoon(redirect->to.text());
  }
  return Detour{node->connection.get(), redirect->ask};
}

std::unique_ptr<RedisConnection> ClusterNodes::Connect(RedisConnection::Options options,
                                                       std::vector<RedisAddress> addresses) {
  auto connection =
      std::make_unique<RedisConnection>(std::move(options), std::move(addresses), executor_, clock_, random_, stats_);
  polled_.Add(connection.get());
  return connection;
}

ClusterNodes::Node* ClusterNodes::At(const RedisAddress& address) {
  if (const auto found = nodes_.find(address.text()); found != nodes_.end()) return &found->second;
  if (nodes_.size() >= kNodesMax) return nullptr;
  Node& node = nodes_[address.text()];
  node.connection = Connect(options_, {address});
  node.connection->hooks()->changed = [this](bool up) {
    UpdateUp();
    if (!up) return AskSoon("");
    if (scout_ != nullptr) Retire(std::move(scout_));
  };
  return &node;
}

void ClusterNodes::Retire(std::unique_ptr<RedisConnection> connection) {
  connection->Shutdown();
  polled_.Remove(connection.get());
  retired_.push_back(std::move(connection));
}

void ClusterNodes::Later(absl::Duration delay, base::Task task) {
  executor_->PostAfter(delay, [this, alive = std::weak_ptr<bool>(alive_), task = std::move(task)]() mutable {
    if (!alive.expired() && !shut_) task();
  });
}

void ClusterNodes::Tick() {
  // What was retired before the last tick has heard of all its commands.
  std::erase_if(leaving_, [](const auto& connection) { return connection->idle(); });
  std::move(retired_.begin(), retired_.end(), std::back_inserter(leaving_));
  retired_.clear();
  Ask();
  Later(options_.mark_interval, [this] { Tick(); });
}

void ClusterNodes::AskSoon(const std::string& first) {
  if (!first.empty()) first_ = first;
  if (std::exchange(ask_soon_, true)) return;
  Later(std::max(asked_at_ + kAskAtMostEvery - clock_->Steady(), absl::ZeroDuration()), [this] {
    ask_soon_ = false;
    Ask();
  });
}

void ClusterNodes::Ask() {
  std::vector<RedisConnection*> up;
  for (const auto& [address, node] : nodes_) {
    if (!node.connection->up()) continue;
    if (address == first_) up.assign(1, node.connection.get());
    if (address == first_) break;
    up.push_back(node.connection.get());
  }
  first_.clear();
  RedisConnection* whom = up.empty() ? nullptr : up[turn_++ % up.size()];
  if (whom == nullptr && scout_ != nullptr && scout_->up()) whom = scout_.get();
  if (whom == nullptr) {
    if (scout_ != nullptr) return;
    std::vector<RedisAddress> addresses = seeds_;
    for (const auto& [address, node] : nodes_) addresses.push_back(node.connection->target());
    RedisConnection::Options options = options_;
    options.master = false;
    options.breaker.reset();
    options.greet = nullptr;
    scout_ = Connect(std::move(options), std::move(addresses));
    scout_->hooks()->changed = [this](bool is_up) {
      if (is_up) AskSoon("");
    };
    return;
  }
  asked_at_ = clock_->Steady();
  auto epoch = std::make_shared<uint64_t>(0);
  whom->Send({"CLUSTER", "INFO"}, [epoch](absl::StatusOr<Reply*> reply) {
    // Without a number the answer counts as of the oldest epoch.
    if (reply.ok() && !absl::SimpleAtoi(InfoField((*reply)->text, "cluster_current_epoch"), epoch.get())) *epoch = 0;
  });
  whom->Send({"CLUSTER", "SLOTS"}, [this, epoch, whom](absl::StatusOr<Reply*> reply) {
    if (reply.ok() && !shut_) Take(**reply, *epoch, *whom);
  });
}

void ClusterNodes::Take(const Reply& slots, uint64_t epoch, const RedisConnection& from) {
  const absl::StatusOr<std::vector<SlotRange>> ranges = ParseSlots(slots, from.target());
  if (!ranges.ok() || ranges->empty()) {
    base::Log(base::Level::kWarning, "redis_cluster",
              {{"asked", from.address()},
               {"answer", slots.type == Reply::Type::kError ? absl::string_view(slots.text).substr(0, 120)
                                                            : "no slots are served"}});
    // Another seed may lead to the cluster that is meant.
    if (&from == scout_.get()) scout_->Drop("it knows of no cluster");
    return;
  }
  const absl::Duration now = clock_->Steady();
  if (epoch < epoch_ && now - epoch_at_ < kEpochStands) return;
  epoch_ = epoch;
  epoch_at_ = now;

  for (auto& [address, node] : nodes_) node.serves = false;
  std::fill(owners_.begin(), owners_.end(), nullptr);
  for (const SlotRange& range : *ranges) {
    Node* const node = At(range.master);
    if (node == nullptr) continue;
    node->serves = true;
    std::fill(owners_.begin() + range.first, owners_.begin() + range.last + 1, node->connection.get());
  }
  covered_ = std::find(owners_.begin(), owners_.end(), nullptr) == owners_.end();
  for (auto it = nodes_.begin(); it != nodes_.end();) {
    Node& node = it->second;
    if (node.serves || now - node.redirected_at < kRedirectStands) {
      ++it;
      continue;
    }
    base::Log(base::Level::kInfo, "redis_cluster", {{"left", it->first}});
    Retire(std::move(node.connection));
    it = nodes_.erase(it);
  }
  UpdateUp();
}

void ClusterNodes::UpdateUp() {
  const bool up = covered_ && std::all_of(nodes_.begin(), nodes_.end(), [](const auto& node) {
                    return !node.second.serves || node.second.connection->up();
                  });
  stats_->up.store(up && !shut_, std::memory_order_relaxed);
}

}  // namespace shadowline::cache
