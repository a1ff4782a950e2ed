#include "base/event_loop.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <utility>

namespace shadowline::base {

TaskQueue::TaskQueue(const Clock* clock, std::function<void()> wake) : clock_(clock), wake_(std::move(wake)) {}

void TaskQueue::Add(Task task) {
  bool first;
  {
    MutexLock lock(&mutex_);
    first = ready_.empty();
    ready_.push_back(std::move(task));
    has_ready_.store(true, std::memory_order_release);
  }
  if (first) wake_();
}

void TaskQueue::AddAfter(absl::Duration delay, Task task) {
  const absl::Duration due = clock_->Steady() + delay;
  bool soonest;
  {
    MutexLock lock(&mutex_);
    auto added = timers_.emplace(due, std::move(task));
    soonest = added == timers_.begin();
    next_timer_ns_.store(absl::ToInt64Nanoseconds(timers_.begin()->first), std::memory_order_release);
  }
  if (soonest) wake_();
}

size_t TaskQueue::RunDue() {
  const bool timer_due = next_timer_ns_.load(std::memory_order_acquire) != INT64_MAX &&
                         next_timer_ns_.load(std::memory_order_acquire) <= absl::ToInt64Nanoseconds(clock_->Steady());
  if (!timer_due && !has_ready_.load(std::memory_order_acquire)) return 0;
  std::vector<Task> due;
  {
    MutexLock lock(&mutex_);
    due.swap(ready_);
    has_ready_.store(false, std::memory_order_release);
    const absl::Duration now = clock_->Steady();
    while (!timers_.empty() && timers_.begin()->first <= now) {
      due.push_back(std::move(timers_.begin()->second));
      timers_.erase(timers_.begin());
    }
    next_timer_ns_.store(timers_.empty() ? INT64_MAX : absl::ToInt64Nanoseconds(timers_.begin()->first),
                         std::memory_order_release);
  }
  for (Task& task : due) task();
  return due.size();
}

absl::Duration TaskQueue::UntilNext() const {
  if (has_ready_.load(std::memory_order_acquire)) return absl::ZeroDuration();
  const int64_t next = next_timer_ns_.load(std::memory_order_acquire);
  if (next == INT64_MAX) return absl::InfiniteDuration();
  return std::max(absl::Nanoseconds(next) - clock_->Steady(), absl::ZeroDuration());
}

EventLoop::EventLoop(const Clock* clock, std::string name)
    : wake_descriptor_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), tasks_(clock, [this] { Wake(); }) {
  thread_ = StartThread(name, [this] { Run(); });
}

EventLoop::~EventLoop() {
  Stop();
  close(wake_descriptor_);
}

void EventLoop::Stop() {
  stopping_.store(true);
  Wake();
  if (thread_.joinable()) thread_.join();
}

void EventLoop::Post(Task task) { tasks_.Add(std::move(task)); }

void EventLoop::PostAfter(absl::Duration delay, Task task) { tasks_.AddAfter(delay, std::move(task)); }

void EventLoop::Attach(Pollable* pollable) {
  // Through the mailbox, so that only the loop's thread ever touches the list.
  Post([this, pollable] { pollables_.push_back(pollable); });
}

void EventLoop::Wake() {
  const uint64_t one = 1;
  // The counter cannot overflow, and a full one wakes the loop as well.
  [[maybe_unused]] const ssize_t written = write(wake_descriptor_, &one, sizeof(one));
}

void EventLoop::Run() {
  std::vector<pollfd> waits;
  while (!stopping_.load()) {
    tasks_.RunDue();
    waits.assign(1, pollfd{wake_descriptor_, POLLIN, 0});
    for (Pollable* pollable : pollables_) {
      pollable->Flush();
      waits.push_back(pollfd{pollable->Descriptor(), pollable->Events(), 0});
    }
    const absl::Duration wait = tasks_.UntilNext();
    timespec timeout = absl::ToTimespec(wait);
    ppoll(waits.data(), waits.size(), wait == absl::InfiniteDuration() ? nullptr : &timeout, nullptr);
    if (waits[0].revents != 0) {
      uint64_t count;
      [[maybe_unused]] const ssize_t got = read(wake_descriptor_, &count, sizeof(count));
    }
    const size_t polled = waits.size() - 1;
    for (size_t i = 0; i < polled; ++i) {
      if (waits[i + 1].revents != 0) pollables_[i]->OnReady(waits[i + 1].revents);
    }
  }
}

}  // namespace shadowline::base
