// A Redis that is made of memory and virtual time, and the Store that speaks to it. Several SimStores (one for each
// executor, or each replica) share one SimRedis. The conformance suite that runs on the real Redis runs on this one
// too.
//
//   SimRedis redis(world.clock(), world.random());
//   SimStore store(&redis, world.executor());
//   redis.faults.hang = true;               // every command is answered by its timeout alone
//
// Commands of one store are executed, and answered, in the order they were sent, each after its own random latency.
#ifndef SHADOWLINE_TESTS_SIM_SIM_STORE_H_
#define SHADOWLINE_TESTS_SIM_SIM_STORE_H_

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/executor.h"
#include "base/random.h"
#include "cache/store.h"
#include "tests/sim/sim.h"

namespace shadowline::sim {

class SimRedis {
 public:
  struct Entry {
    cache::Slot slot;
    std::set<std::string> members;
    std::optional<absl::Time> mark;
    absl::Time expires = absl::InfiniteFuture();
  };

  struct Faults {
    bool down = false;            // Every call fails at once.
    bool hang = false;            // Nothing is answered; what was sent is executed when Thaw() is called.
    uint32_t lose_reply_ppm = 0;  // Executed, but the answer is lost and the connection with it.
    absl::Duration latency_min = absl::Microseconds(50);  // One way.
    absl::Duration latency_max = absl::Microseconds(500);
    uint32_t latency_slow_ppm = 0;  // This share takes ten times as long, and holds up what is behind it.
    absl::Duration timeout = absl::Milliseconds(50);
    // Planted, to see that a check can fail.
    bool commit_ignores_lease = false;                     // Writes whatever holds the key.
    bool commit_always_says_yes = false;                   // Refuses, and says that it wrote.
    std::function<void(const std::string&)> before_lease;  // Called with the key before a lease is asked for.
  };

  SimRedis(const base::Clock* clock, base::Random* random) : clock_(clock), random_(random) {}

  Faults faults;

  // The key is gone, as by eviction.
  void Evict(const std::string& key) { Write(key, std::nullopt); }
  // Somebody else wrote the key.
  void SetForeign(const std::string& key, std::string bytes) {
    Entry entry;
    entry.slot = {cache::Slot::Kind::kForeign, "", std::move(bytes)};
    Write(key, entry);
  }
  // An envelope that nobody can read, in a head that is right.
  void Corrupt(const std::string& key, std::string bytes) {
    if (Entry* entry = Find(key)) entry->slot.bytes = std::move(bytes);
  }
  // kill -9 without persistence: everything is gone, and so is every connection.
  void Restart() {
    entries_.clear();
    writes_.clear();
    hung_.clear();
    ++generation_;
  }
  // A failover to a replica that lacks the last `n` writes. A fence is acknowledged only when the replicas have it, so
  // it and what was written before it are kept.
  void Failover(size_t n) {
    for (; n > 0 && !writes_.empty() && !writes_.back().durable; --n) {
      Restore(writes_.back().key, std::move(writes_.back().before));
      writes_.pop_back();
    }
    writes_.clear();
    hung_.clear();
    ++generation_;
  }
  // Ends a hang: the commands that waited in the sockets are executed; nobody waits for their answers any more.
  void Thaw() {
    faults.hang = false;
    std::vector<base::Task> hung = std::exchange(hung_, {});
    for (base::Task& task : hung) task();
  }

  // Null: absent or expired.
  Entry* Find(const std::string& key) {
    auto found = entries_.find(key);
    if (found == entries_.end()) return nullptr;
    if (found->second.expires > clock_->Now()) return &found->second;
    entries_.erase(found);
    return nullptr;
  }
  void Write(const std::string& key, std::optional<Entry> entry, bool durable = false) {
    Entry* before = Find(key);
    writes_.push_back({key, before == nullptr ? std::nullopt : std::optional<Entry>(*before), durable});
    if (writes_.size() > 1024) writes_.pop_front();
    Restore(key, std::move(entry));
  }

  const base::Clock* clock() const { return clock_; }
  uint64_t generation() const { return generation_; }
  absl::Duration DrawLatency() {
    const absl::Duration latency = faults.latency_min + (faults.latency_max - faults.latency_min) * random_->Unit();
    return Draw(faults.latency_slow_ppm) ? latency * 10 : latency;
  }
  bool Draw(uint32_t ppm) { return ppm > 0 && random_->Below(1'000'000) < ppm; }
  void Hang(base::Task task) { hung_.push_back(std::move(task)); }

 private:
  struct Undo {
    std::string key;
    std::optional<Entry> before;
    bool durable;
  };

  void Restore(const std::string& key, std::optional<Entry> entry) {
    if (entry.has_value()) {
      entries_[key] = *std::move(entry);
    } else {
      entries_.erase(key);
    }
  }

  const base::Clock* const clock_;
  base::Random* const random_;
  uint64_t generation_ = 0;
  std::map<std::string, Entry> entries_;
  std::deque<Undo> writes_;
  std::vector<base::Task> hung_;
};

class SimStore final : public cache::Store {
 public:
  SimStore(SimRedis* redis, base::Executor* executor) : redis_(redis), executor_(executor) {}

  void Get(std::string key, absl::AnyInvocable<void(absl::StatusOr<cache::Slot>)> done) override {
    Call<cache::Slot>(
        [key = std::move(key)](SimRedis* redis) -> absl::StatusOr<cache::Slot> {
          const SimRedis::Entry* entry = redis->Find(key);
          return entry == nullptr ? cache::Slot() : entry->slot;
        },
        std::move(done));
  }

  void AcquireLease(std::string key, std::string lease_id, absl::Duration ttl,
                    absl::AnyInvocable<void(absl::StatusOr<cache::Lease>)> done) override {
    if (redis_->faults.before_lease) redis_->faults.before_lease(key);
    Call<cache::Lease>(
        [this, key = std::move(key), lease_id = std::move(lease_id),
         ttl](SimRedis* redis) -> absl::StatusOr<cache::Lease> {
          using Outcome = cache::Lease::Outcome;
          using Kind = cache::Slot::Kind;
          const SimRedis::Entry* entry = redis->Find(key);
          const Kind held = entry == nullptr ? Kind::kAbsent : entry->slot.kind;
          if (held == Kind::kValue) return cache::Lease{Outcome::kValue, false, 0, entry->slot};
          if (held == Kind::kLease) return cache::Lease{Outcome::kBusy, false, 0, {}};
          redis->Write(key, Holding(Kind::kLease, lease_id, "", ttl));
          return cache::Lease{Outcome::kGranted, held == Kind::kFence, term(), {}};
        },
        std::move(done));
  }

  void CommitFill(std::string key, std::string lease_id, uint64_t lease_term, std::string fill_id, std::string envelope,
                  absl::Duration ttl, absl::AnyInvocable<void(absl::StatusOr<bool>)> done) override {
    const bool same_term = lease_term == term();
    Call<bool>(
        [this, same_term, key = std::move(key), lease_id = std::move(lease_id), fill_id = std::move(fill_id),
         envelope = std::move(envelope), ttl](SimRedis* redis) -> absl::StatusOr<bool> {
          if (!redis->faults.commit_ignores_lease && (!same_term || !Leased(key, lease_id))) {
            return redis->faults.commit_always_says_yes;
          }
          redis->Write(key, Holding(cache::Slot::Kind::kValue, fill_id, envelope, ttl));
          return true;
        },
        std::move(done));
  }

  void ReleaseLease(std::string key, std::string lease_id) override {
    Call<bool>(
        [this, key = std::move(key), lease_id = std::move(lease_id)](SimRedis* redis) -> absl::StatusOr<bool> {
          if (Leased(key, lease_id)) redis->Write(key, std::nullopt);
          return true;
        },
        [](absl::StatusOr<bool>) {});
  }

  void AddToTag(std::string tag_key, std::string key, absl::Duration ttl,
                absl::AnyInvocable<void(absl::Status)> done) override {
    Call<bool>(
        [tag_key = std::move(tag_key), key = std::move(key), ttl](SimRedis* redis) -> absl::StatusOr<bool> {
          const SimRedis::Entry* before = redis->Find(tag_key);
          SimRedis::Entry entry = before == nullptr ? SimRedis::Entry() : *before;
          const absl::Time expires = redis->clock()->Now() + ttl;
          entry.expires = before == nullptr ? expires : std::max(before->expires, expires);
          entry.members.insert(key);
          redis->Write(tag_key, std::move(entry));
          return true;
        },
        [done = std::move(done)](absl::StatusOr<bool> added) mutable { done(added.status()); });
  }

  void TagMembers(std::string tag_key,
                  absl::AnyInvocable<void(absl::StatusOr<std::vector<std::string>>)> done) override {
    Call<std::vector<std::string>>(
        [tag_key = std::move(tag_key)](SimRedis* redis) -> absl::StatusOr<std::vector<std::string>> {
          const SimRedis::Entry* entry = redis->Find(tag_key);
          if (entry == nullptr) return std::vector<std::string>();
          return std::vector<std::string>(entry->members.begin(), entry->members.end());
        },
        std::move(done));
  }

  void MarkInvalidated(std::string tag_key, absl::Time at) override {
    Call<bool>(
        [tag_key = std::move(tag_key), at](SimRedis* redis) -> absl::StatusOr<bool> {
          SimRedis::Entry entry;
          entry.mark = at;
          redis->Write(tag_key + ":at", std::move(entry));
          return true;
        },
        [](absl::StatusOr<bool>) {});
  }

  void LastInvalidated(std::string tag_key, absl::AnyInvocable<void(absl::StatusOr<absl::Time>)> done) override {
    Call<absl::Time>(
        [tag_key = std::move(tag_key)](SimRedis* redis) -> absl::StatusOr<absl::Time> {
          const SimRedis::Entry* entry = redis->Find(tag_key + ":at");
          return entry == nullptr ? absl::InfinitePast() : *entry->mark;
        },
        std::move(done));
  }

  void Fence(std::string key, std::string fence_id, absl::Duration ttl,
             absl::AnyInvocable<void(absl::Status)> done) override {
    Call<bool>(
        [this, key = std::move(key), fence_id = std::move(fence_id), ttl](SimRedis* redis) -> absl::StatusOr<bool> {
          redis->Write(key, Holding(cache::Slot::Kind::kFence, fence_id, "", ttl), /*durable=*/true);
          return true;
        },
        [done = std::move(done)](absl::StatusOr<bool> fenced) mutable { done(fenced.status()); });
  }

 private:
  template <typename Reply>
  void Call(absl::AnyInvocable<absl::StatusOr<Reply>(SimRedis*)> execute,
            absl::AnyInvocable<void(absl::StatusOr<Reply>)> done) {
    if (redis_->faults.down) {
      executor_->Post([done = std::move(done)]() mutable { done(absl::UnavailableError("redis: not connected")); });
      return;
    }
    const absl::Time sent = redis_->clock()->Now();
    next_execution_ = std::max(next_execution_ + absl::Nanoseconds(1), sent + redis_->DrawLatency());
    executor_->PostAfter(next_execution_ - sent, [this, sent, generation = redis_->generation(),
                                                  execute = std::move(execute), done = std::move(done)]() mutable {
      if (generation != redis_->generation()) return done(absl::UnavailableError("redis: connection lost"));
      if (redis_->faults.hang) {
        redis_->Hang([this, execute = std::move(execute)]() mutable { (void)execute(redis_); });
        return TimeOut<Reply>(sent, std::move(done));
      }
      absl::StatusOr<Reply> reply = execute(redis_);
      if (redis_->Draw(redis_->faults.lose_reply_ppm)) return TimeOut<Reply>(sent, std::move(done));
      const absl::Time now = redis_->clock()->Now();
      next_reply_ = std::max(next_reply_ + absl::Nanoseconds(1), now + redis_->DrawLatency());
      executor_->PostAfter(next_reply_ - now,
                           [reply = std::move(reply), done = std::move(done)]() mutable { done(std::move(reply)); });
    });
  }

  template <typename Reply>
  void TimeOut(absl::Time sent, absl::AnyInvocable<void(absl::StatusOr<Reply>)> done) {
    executor_->PostAfter(sent + redis_->faults.timeout - redis_->clock()->Now(),
                         [this, done = std::move(done)]() mutable {
                           ++reconnects_;
                           done(absl::DeadlineExceededError("redis: no reply in time"));
                         });
  }

  SimRedis::Entry Holding(cache::Slot::Kind kind, std::string token, std::string bytes, absl::Duration ttl) const {
    SimRedis::Entry entry;
    entry.slot = {kind, std::move(token), std::move(bytes)};
    entry.expires = redis_->clock()->Now() + ttl;
    return entry;
  }
  bool Leased(const std::string& key, const std::string& lease_id) const {
    const SimRedis::Entry* entry = redis_->Find(key);
    return entry != nullptr && entry->slot.kind == cache::Slot::Kind::kLease && entry->slot.token == lease_id;
  }
  uint64_t term() const { return (redis_->generation() << 32) + reconnects_; }

  SimRedis* const redis_;
  base::Executor* const executor_;
  uint64_t reconnects_ = 0;
  absl::Time next_execution_ = absl::InfinitePast();
  absl::Time next_reply_ = absl::InfinitePast();
};

}  // namespace shadowline::sim

#endif  // SHADOWLINE_TESTS_SIM_SIM_STORE_H_
