// Flight lets concurrent callers share one load (single-flight), across executors.
//
//   Flight<R>::Lead lead;
//   switch (flight.Join(group, executor, [](std::shared_ptr<const R> r) { r == nullptr ? StartOver() : Use(*r); },
//   &lead)) {
//     case Joined::kLead: Load(..., [&](R r) { lead.Land(std::move(r)); }); break;
//     case Joined::kWait: break;          // the callback comes
//     case Joined::kFull: LoadAlone();    // the callback does not come
//   }
//
// Who may share is the caller's to say, by the name of the group: a waiter gets whatever its leader landed, also where
// that was read before the waiter arrived. A leader that wants nobody to join from some moment on closes its flight.
//
// Ownership: a Lead borrows its Flight. A Lead that is destroyed without Land tells its waiters to start over, so a
// loader
//            that vanishes strands nobody.
// Threads:   Flight is thread-safe; a Lead belongs to one executor. Callbacks are posted to their own executors.
// Limits:    `waiters_max` callers wait in one group; a caller beyond that gets kFull.
#ifndef SHADOWLINE_CACHE_FLIGHT_FLIGHT_H_
#define SHADOWLINE_CACHE_FLIGHT_FLIGHT_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "base/executor.h"
#include "base/mutex.h"

namespace shadowline::cache {

enum class Joined { kLead, kWait, kFull };

template <typename Result>
class Flight {
 public:
  // Null: start over.
  using Landed = absl::AnyInvocable<void(std::shared_ptr<const Result>)>;

  class Lead;

  explicit Flight(size_t waiters_max = 1024) : waiters_max_(waiters_max) {}
  Flight(const Flight&) = delete;
  Flight& operator=(const Flight&) = delete;

  // kLead: the caller loads, through `lead`. kWait: `landed` will be posted to `executor`.
  Joined Join(const std::string& group, base::Executor* executor, Landed landed, Lead* lead) {
    base::MutexLock lock(&mutex_);
    auto [entry, first] = waiters_.try_emplace(group);
    if (first) {
      *lead = Lead(this, group);
      return Joined::kLead;
    }
    if (entry->second.size() >= waiters_max_) return Joined::kFull;
    entry->second.push_back(Waiter{executor, std::move(landed)});
    return Joined::kWait;
  }

  // Leads, if nobody does. For a load that is not worth waiting for.
  bool TryLead(const std::string& group, Lead* lead) {
    base::MutexLock lock(&mutex_);
    if (!waiters_.try_emplace(group).second) return false;
    *lead = Lead(this, group);
    return true;
  }

 private:
  struct Waiter {
    base::Executor* executor;
    Landed landed;
  };

  // The next caller of the group leads a new flight.
  std::vector<Waiter> Close(const std::string& group) {
    base::MutexLock lock(&mutex_);
    auto entry = waiters_.find(group);
    std::vector<Waiter> waiters = std::move(entry->second);
    waiters_.erase(entry);
    return waiters;
  }

  const size_t waiters_max_;
  base::Mutex mutex_;
  absl::flat_hash_map<std::string, std::vector<Waiter>> waiters_
      ABSL_GUARDED_BY(mutex_);  // By group that has a leader.
};

template <typename Result>
class Flight<Result>::Lead {
 public:
  Lead() = default;
  Lead(Lead&& other) noexcept { *this = std::move(other); }
  Lead& operator=(Lead&& other) noexcept {
    Finish(nullptr);
    flight_ = std::exchange(other.flight_, nullptr);
    group_ = std::move(other.group_);
    closed_ = other.closed_;
    waiters_ = std::move(other.waiters_);
    return *this;
  }
  ~Lead() { Finish(nullptr); }

  // Whether this leads a flight that has not landed.
  explicit operator bool() const { return flight_ != nullptr; }

  void Close() {
    if (flight_ == nullptr || std::exchange(closed_, true)) return;
    waiters_ = flight_->Close(group_);
  }
  void Land(const Result& result) { Finish(&result); }

 private:
  friend class Flight;

  Lead(Flight* flight, std::string group) : flight_(flight), group_(std::move(group)) {}

  // Null: the waiters start over.
  void Finish(const Result* result) {
    if (flight_ == nullptr) return;
    Close();
    flight_ = nullptr;
    std::vector<Waiter> waiters = std::exchange(waiters_, {});
    if (waiters.empty()) return;
    const auto shared = result == nullptr ? nullptr : std::make_shared<const Result>(*result);
    for (Waiter& waiter : waiters) {
      waiter.executor->Post([landed = std::move(waiter.landed), shared]() mutable { landed(std::move(shared)); });
    }
  }

  Flight* flight_ = nullptr;
  std::string group_;
  bool closed_ = false;
  std::vector<Waiter> waiters_;  // Once closed.
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_FLIGHT_FLIGHT_H_
