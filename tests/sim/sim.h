// A world without sleeps: one thread, one virtual clock, one queue of tasks in time order. Everything that the product
// runs on executors runs here in an order that the seed alone decides.
//
//   SimWorld world(seed);
//   world.executor()->PostAfter(absl::Hours(1), [] { ... });
//   world.RunUntilIdle();            // returns at once; an hour has passed
#ifndef SHADOWLINE_TESTS_SIM_SIM_H_
#define SHADOWLINE_TESTS_SIM_SIM_H_

#include <cstdint>
#include <map>
#include <utility>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/random.h"

namespace shadowline::sim {

class SimClock final : public base::Clock {
 public:
  absl::Time Now() const override { return now_ + jumped_; }
  absl::Duration Steady() const override { return now_ - Origin(); }

  void AdvanceTo(absl::Time time) { now_ = time - jumped_; }
  void Advance(absl::Duration by) { now_ += by; }
  // The machine's clock is set: Now() alone is another from here on, and no time has passed.
  void Jump(absl::Duration by) { jumped_ += by; }

 private:
  static absl::Time Origin() { return absl::FromUnixSeconds(1'700'000'000); }

  absl::Time now_ = Origin() + absl::Hours(1);
  absl::Duration jumped_;
};

class SimExecutor final : public base::Executor {
 public:
  // With a `random`, tasks that are due at the same instant run in a random order.
  explicit SimExecutor(SimClock* clock, base::Random* random = nullptr) : clock_(clock), random_(random) {}

  void Post(base::Task task) override { PostAfter(absl::ZeroDuration(), std::move(task)); }
  void PostAfter(absl::Duration delay, base::Task task) override {
    const uint64_t order = random_ == nullptr ? next_++ : (random_->Next() >> 20 << 20) + (next_++ & 0xfffff);
    tasks_.emplace(std::make_pair(clock_->Steady() + delay, order), std::move(task));
  }

  // Runs the next task, having moved the clock to its time. False: there is none.
  bool RunOne() {
    if (tasks_.empty()) return false;
    auto first = tasks_.begin();
    base::Task task = std::move(first->second);
    if (first->first.first > clock_->Steady()) clock_->Advance(first->first.first - clock_->Steady());
    tasks_.erase(first);
    task();
    return true;
  }
  // Runs everything that is due within `span`, then moves the clock to its end.
  void RunFor(absl::Duration span) {
    const absl::Duration end = clock_->Steady() + span;
    while (!tasks_.empty() && tasks_.begin()->first.first <= end) RunOne();
    clock_->Advance(end - clock_->Steady());
  }
  // Runs until no task is left: only for worlds without recurring timers.
  void RunUntilIdle() {
    while (RunOne()) {
    }
  }

 private:
  SimClock* const clock_;
  base::Random* const random_;
  uint64_t next_ = 0;
  std::map<std::pair<absl::Duration, uint64_t>, base::Task> tasks_;  // By Clock::Steady().
};

class SimWorld {
 public:
  explicit SimWorld(uint64_t seed) : random_(seed), executor_(&clock_, &random_) {}

  SimClock* clock() { return &clock_; }
  SimExecutor* executor() { return &executor_; }
  base::Random* random() { return &random_; }
  void RunFor(absl::Duration span) { executor_.RunFor(span); }
  void RunUntilIdle() { executor_.RunUntilIdle(); }

 private:
  SimClock clock_;
  base::Random random_;
  SimExecutor executor_;
};

}  // namespace shadowline::sim

#endif  // SHADOWLINE_TESTS_SIM_SIM_H_
