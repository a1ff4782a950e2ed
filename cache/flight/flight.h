// Flight lets concurrent callers of one key share one load (single-flight), across executors, without ever handing a
// caller an answer that was read before that caller arrived, unless it is proven to have been current until after.
//
//   const uint64_t arrival = flight.Arrive();
//   Flight<R>::Lead lead;
//   switch (flight.Join(key, arrival, executor, [](std::shared_ptr<const R> r) { r == nullptr ? StartOver() : Use(*r);
//   }, &lead)) {
//     case Joined::kLead: lead.Mark(); Load(..., [&](R r) { lead.Land(std::move(r), /*proven=*/false); }); break;
//     case Joined::kWait: break;          // the callback comes
//     case Joined::kFull: LoadAlone();    // the callback does not come
//   }
//
// TERMINOLOGY
//   arrival   when a caller asked. A caller who starts over keeps its arrival.
//   mark      set by the leader before it reads: all that the flight will answer was read after its last mark.
//   closed    a flight that nobody can join any more; the next caller of the key leads a new one.
//   proven    the leader's promise: from before the mark until the flight closed, what was read did not become
//   outdated.
//
// A waiter gets the result if it arrived before the mark, or if the result is proven: it joined before the flight
// closed. Otherwise it is told to start over, once: the flight it joins or leads then was opened after the first one
// had closed, hence marked after the waiter's arrival.
//
// Ownership: a Lead borrows its Flight. A Lead that is destroyed without Land tells its waiters to start over, so a
// loader
//            that vanishes strands nobody.
// Threads:   Flight is thread-safe; a Lead belongs to one executor. Callbacks are posted to their own executors.
// Limits:    `waiters_max` callers wait for one key; a caller beyond that gets kFull.
#ifndef SHADOWLINE_CACHE_FLIGHT_FLIGHT_H_
#define SHADOWLINE_CACHE_FLIGHT_FLIGHT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
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

  // A number for a caller that has just arrived.
  uint64_t Arrive() { return order_.fetch_add(1); }

  // kLead: the caller loads, through `lead`. kWait: `landed` will be posted to `executor`.
  Joined Join(const std::string& key, uint64_t arrival, base::Executor* executor, Landed landed, Lead* lead) {
    base::MutexLock lock(&mutex_);
    std::shared_ptr<Plane>& plane = open_[key];
    if (plane == nullptr) {
      plane = std::make_shared<Plane>();
      *lead = Lead(this, key, plane);
      return Joined::kLead;
    }
    if (plane->waiters.size() >= waiters_max_) return Joined::kFull;
    plane->waiters.push_back(Waiter{arrival, executor, std::move(landed)});
    return Joined::kWait;
  }

 private:
  struct Waiter {
    uint64_t arrival;
    base::Executor* executor;
    Landed landed;
  };
  // `waiters` is guarded by mutex_ while the flight is open, and the leader's alone once it is closed.
  struct Plane {
    std::vector<Waiter> waiters;
  };

  void Close(const std::string& key, const std::shared_ptr<Plane>& plane) {
    base::MutexLock lock(&mutex_);
    auto found = open_.find(key);
    if (found != open_.end() && found->second == plane) open_.erase(found);
  }

  const size_t waiters_max_;
  std::atomic<uint64_t> order_{1};
  base::Mutex mutex_;
  absl::flat_hash_map<std::string, std::shared_ptr<Plane>> open_ ABSL_GUARDED_BY(mutex_);
};

template <typename Result>
class Flight<Result>::Lead {
 public:
  Lead() = default;
  Lead(Lead&& other) noexcept { *this = std::move(other); }
  Lead& operator=(Lead&& other) noexcept {
    Finish(nullptr, false);
    flight_ = std::exchange(other.flight_, nullptr);
    key_ = std::move(other.key_);
    plane_ = std::move(other.plane_);
    mark_ = other.mark_;
    return *this;
  }
  ~Lead() { Finish(nullptr, false); }

  // Whether this leads a flight that has not landed.
  explicit operator bool() const { return flight_ != nullptr; }

  // The last mark counts. Without one nobody shares a result that is not proven.
  void Mark() {
    if (flight_ != nullptr) mark_ = flight_->order_.fetch_add(1);
  }
  // Nobody joins from here on.
  void Close() {
    if (flight_ != nullptr) flight_->Close(key_, plane_);
  }
  // Ends the flight. `proven` requires that Close() was called before the moment for which the proof holds.
  void Land(const Result& result, bool proven) {
    if (flight_ == nullptr) return;
    Close();
    Finish(plane_->waiters.empty() ? nullptr : std::make_shared<const Result>(result), proven);
  }

 private:
  friend class Flight;

  Lead(Flight* flight, std::string key, std::shared_ptr<Plane> plane)
      : flight_(flight), key_(std::move(key)), plane_(std::move(plane)) {}

  void Finish(std::shared_ptr<const Result> result, bool proven) {
    if (flight_ == nullptr) return;
    Close();
    flight_ = nullptr;
    for (Waiter& waiter : plane_->waiters) {
      const bool share = proven || waiter.arrival < mark_;
      waiter.executor->Post([landed = std::move(waiter.landed), result = share ? result : nullptr]() mutable {
        landed(std::move(result));
      });
    }
    plane_.reset();
  }

  Flight* flight_ = nullptr;
  std::string key_;
  std::shared_ptr<Plane> plane_;
  uint64_t mark_ = 0;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_FLIGHT_FLIGHT_H_
