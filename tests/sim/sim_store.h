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
    cache::Fence fence;
    uint64_t life = 0;  // Of the Redis that the fence was written to.
    std::string lease;
    bool other_type = false;
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
    bool fences_are_ignored = false;        // A value is an answer whatever its fences.
    bool absent_fence_admits = false;       // A tag without a fence stands in nobody's way.
    bool lives_are_ignored = false;         // A fence of before a restart or a failover is as good as another.
    bool transactions_are_lost = false;     // Fences name no transactions.
    bool readers_see_first_fences = false;  // A read reports the fences that the key's first reader saw.
  };

  SimRedis(const base::Clock* clock, base::Random* random) : clock_(clock), random_(random) {}

  Faults faults;
  // Hears of every key that is written, as client tracking would.
  std::function<void(const std::string& key)> on_write;

  // The key is gone, as by eviction.
  void Evict(const std::string& key) { Write(key, std::nullopt); }
  // Somebody else wrote the key.
  void SetForeign(const std::string& key, std::string bytes) {
    Entry entry;
    entry.slot = {cache::Slot::Kind::kForeign, "", "", std::move(bytes)};
    Write(key, entry);
  }
  // A list, a hash, a set: no string.
  void SetOtherType(const std::string& key) {
    Entry entry;
    entry.slot.kind = cache::Slot::Kind::kForeign;
    entry.other_type = true;
    Write(key, entry);
  }
  // An envelope that nobody can read, behind fences that are right.
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
  // A failover to a replica that lacks the last `n` writes, acknowledged or not.
  void Failover(size_t n) {
    for (; n > 0 && !writes_.empty(); --n) {
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
  void Write(const std::string& key, std::optional<Entry> entry) {
    Entry* before = Find(key);
    ++writes_total_;
    writes_.push_back({key, before == nullptr ? std::nullopt : std::optional<Entry>(*before)});
    if (writes_.size() > 1024) writes_.pop_front();
    Restore(key, std::move(entry));
    if (on_write != nullptr) on_write(key);
  }

  absl::Time reached_again_at = absl::InfinitePast();  // As of cache::Found.

  std::map<std::string, cache::Fences> first_fences;  // For the fault readers_see_first_fences.

  const base::Clock* clock() const { return clock_; }
  base::Random* random() const { return random_; }
  // Counts its lives: a restart or a failover begins a new one.
  uint64_t generation() const { return generation_; }
  // Everybody's.
  uint64_t writes() const { return writes_total_; }
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
  uint64_t writes_total_ = 0;
  std::map<std::string, Entry> entries_;
  std::deque<Undo> writes_;
  std::vector<base::Task> hung_;
};

class SimStore final : public cache::Store {
 public:
  SimStore(SimRedis* redis, base::Executor* executor) : redis_(redis), executor_(executor) {}

  // Calls of Read.
  uint64_t reads() const { return reads_; }

  bool Reachable() const override { return !redis_->faults.down; }

  void Read(std::string key, std::vector<std::string> fence_keys,
            absl::AnyInvocable<void(absl::StatusOr<cache::Found>)> done) override {
    ++reads_;
    Call<cache::Found>(
        [this, key = std::move(key),
         fence_keys = std::move(fence_keys)](SimRedis* redis) -> absl::StatusOr<cache::Found> {
          cache::Found found = Look(key, fence_keys);
          if (redis->faults.readers_see_first_fences && found.fences.complete) {
            found.fences = redis->first_fences.try_emplace(key, found.fences).first->second;
          }
          return found;
        },
        std::move(done));
  }

  void ReadRaw(std::string key, absl::AnyInvocable<void(absl::StatusOr<cache::Found>)> done) override {
    Call<cache::Found>(
        [key = std::move(key)](SimRedis* redis) -> absl::StatusOr<cache::Found> {
          cache::Found found;
          if (const SimRedis::Entry* entry = redis->Find(key)) {
            found.slot.kind = entry->other_type ? cache::Slot::Kind::kForeign : cache::Slot::Kind::kRaw;
            found.slot.bytes = entry->slot.bytes;
          }
          return found;
        },
        std::move(done));
  }

  void EnsureFences(std::vector<std::string> fence_keys, absl::Duration ttl,
                    absl::AnyInvocable<void(absl::StatusOr<cache::Fences>)> done) override {
    Call<cache::Fences>(
        [this, fence_keys = std::move(fence_keys), ttl](SimRedis* redis) -> absl::StatusOr<cache::Fences> {
          cache::Fences fences;
          const absl::Time expires = redis->clock()->Now() + ttl;
          for (const std::string& key : fence_keys) {
            if (Standing(key).token.empty()) {
              redis->Write(key, Holding({redis->random()->Id(), absl::InfinitePast(), {}}, expires));
            } else {
              SimRedis::Entry* entry = redis->Find(key);
              entry->expires = std::max(entry->expires, expires);
            }
            fences.Add(Standing(key));
          }
          return fences;
        },
        std::move(done));
  }

  void ReplaceFence(std::string fence_key, std::string token, absl::Time at, std::vector<uint64_t> transactions,
                    absl::Duration ttl, absl::AnyInvocable<void(absl::Status)> done) override {
    Call<bool>(
        [this, fence_key = std::move(fence_key), token = std::move(token), at, transactions = std::move(transactions),
         ttl](SimRedis* redis) mutable -> absl::StatusOr<bool> {
          absl::Time expires = redis->clock()->Now() + ttl;
          if (const SimRedis::Entry* old = redis->Find(fence_key)) {
            expires = std::max(expires, old->expires);
            transactions.insert(transactions.end(), old->fence.transactions.begin(), old->fence.transactions.end());
          }
          if (transactions.size() > cache::kFenceTransactionsMax) transactions.resize(cache::kFenceTransactionsMax);
          // Redis keeps microseconds.
          redis->Write(fence_key, Holding({std::move(token), absl::FromUnixMicros(absl::ToUnixMicros(at)),
                                           std::move(transactions)},
                                          expires));
          return true;
        },
        [done = std::move(done)](absl::StatusOr<bool> replaced) mutable { done(replaced.status()); });
  }

  void ReadFence(std::string fence_key, absl::AnyInvocable<void(absl::StatusOr<cache::Fence>)> done) override {
    Call<cache::Fence>([this, fence_key = std::move(fence_key)](
                           SimRedis* redis) -> absl::StatusOr<cache::Fence> { return Standing(fence_key); },
                       std::move(done));
  }

  void AcquireLease(std::string key, std::string lease_id, absl::Duration ttl, std::vector<std::string> fence_keys,
                    absl::AnyInvocable<void(absl::StatusOr<cache::Lease>)> done) override {
    Call<cache::Lease>(
        [this, key = std::move(key), lease_id = std::move(lease_id), ttl,
         fence_keys = std::move(fence_keys)](SimRedis* redis) -> absl::StatusOr<cache::Lease> {
          cache::Lease lease;
          lease.granted = redis->Find(LeaseKey(key)) == nullptr;
          if (lease.granted) {
            SimRedis::Entry entry;
            entry.lease = lease_id;
            entry.expires = redis->clock()->Now() + ttl;
            redis->Write(LeaseKey(key), std::move(entry));
          }
          lease.found = Look(key, fence_keys);
          return lease;
        },
        std::move(done));
  }

  void RenewLease(std::string key, std::string lease_id, absl::Duration ttl) override {
    Quietly([key = std::move(key), lease_id = std::move(lease_id), ttl](SimRedis* redis) {
      SimRedis::Entry* entry = redis->Find(LeaseKey(key));
      if (entry != nullptr && entry->lease == lease_id) entry->expires = redis->clock()->Now() + ttl;
    });
  }

  void ReleaseLease(std::string key, std::string lease_id) override {
    Quietly([key = std::move(key), lease_id = std::move(lease_id)](SimRedis* redis) {
      const SimRedis::Entry* entry = redis->Find(LeaseKey(key));
      if (entry != nullptr && entry->lease == lease_id) redis->Write(LeaseKey(key), std::nullopt);
    });
  }

  void Put(std::string key, std::string seen, cache::Fill fill,
           absl::AnyInvocable<void(absl::StatusOr<bool>)> done) override {
    Call<bool>(
        [key = std::move(key), seen = std::move(seen),
         fill = std::move(fill)](SimRedis* redis) -> absl::StatusOr<bool> {
          const SimRedis::Entry* held = redis->Find(key);
          if (held != nullptr && held->slot.kind == cache::Slot::Kind::kValue && held->slot.fill != seen) return false;
          SimRedis::Entry entry;
          entry.slot = {cache::Slot::Kind::kValue, fill.id, fill.fences, fill.envelope};
          entry.expires = redis->clock()->Now() + fill.ttl;
          redis->Write(key, std::move(entry));
          return true;
        },
        std::move(done));
  }

  void Discard(std::string key, std::string fill, absl::AnyInvocable<void(absl::Status)> done) override {
    Call<bool>(
        [key = std::move(key), fill = std::move(fill)](SimRedis* redis) -> absl::StatusOr<bool> {
          const SimRedis::Entry* held = redis->Find(key);
          if (held != nullptr && held->slot.fill == fill) redis->Write(key, std::nullopt);
          return true;
        },
        [done = std::move(done)](absl::StatusOr<bool> discarded) mutable { done(discarded.status()); });
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
    executor_->PostAfter(sent + redis_->faults.timeout - redis_->clock()->Now(), [done = std::move(done)]() mutable {
      done(absl::DeadlineExceededError("redis: no reply in time"));
    });
  }

  void Quietly(absl::AnyInvocable<void(SimRedis*)> execute) {
    Call<bool>(
        [execute = std::move(execute)](SimRedis* redis) mutable -> absl::StatusOr<bool> {
          execute(redis);
          return true;
        },
        [](absl::StatusOr<bool>) {});
  }

  static std::string LeaseKey(const std::string& key) { return key + ":lease"; }
  SimRedis::Entry Holding(cache::Fence fence, absl::Time expires) const {
    SimRedis::Entry entry;
    entry.fence = std::move(fence);
    entry.life = redis_->generation();
    entry.expires = expires;
    return entry;
  }
  cache::Fence Standing(const std::string& fence_key) const {
    const SimRedis::Entry* entry = redis_->Find(fence_key);
    if (entry == nullptr) return {};
    if (entry->life != redis_->generation() && !redis_->faults.lives_are_ignored) return {};
    cache::Fence fence = entry->fence;
    if (redis_->faults.transactions_are_lost) fence.transactions.clear();
    return fence;
  }
  cache::Found Look(const std::string& key, const std::vector<std::string>& fence_keys) const {
    cache::Found found;
    found.reached_again_at = redis_->reached_again_at;
    if (const SimRedis::Entry* entry = redis_->Find(key)) found.slot = entry->slot;
    for (size_t i = 0; i < fence_keys.size(); ++i) {
      cache::Fence fence = Standing(fence_keys[i]);
      const std::string named =
          found.slot.fences.substr(std::min(i * cache::kTokenBytes, found.slot.fences.size()), cache::kTokenBytes);
      if (redis_->faults.fences_are_ignored || (redis_->faults.absent_fence_admits && fence.token.empty())) {
        if (!named.empty()) fence.token = named;
      }
      found.fences.Add(fence);
    }
    return found;
  }

  SimRedis* const redis_;
  base::Executor* const executor_;
  uint64_t reads_ = 0;
  absl::Time next_execution_ = absl::InfinitePast();
  absl::Time next_reply_ = absl::InfinitePast();
};

}  // namespace shadowline::sim

#endif  // SHADOWLINE_TESTS_SIM_SIM_STORE_H_
