// EventLoop is one thread with sockets, timers and a mailbox. The sockets belong to Pollables: a Redis connection attaches
// itself to a loop and is from then on touched by that loop's thread alone.
//
// A Pollable is driven in turns: the loop runs all tasks that are due, calls Flush() on every Pollable (so that what a turn
// queued leaves in one write), then waits.
#ifndef SHADOWLINE_BASE_EVENT_LOOP_H_
#define SHADOWLINE_BASE_EVENT_LOOP_H_

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/mutex.h"

namespace shadowline::base {

// Something with a socket, driven by a loop. All calls come from the loop's thread.
class Pollable {
 public:
  virtual ~Pollable() = default;

  // The descriptor to wait on, -1 for none at present, and the poll(2) events that matter now.
  virtual int Descriptor() const = 0;
  virtual short Events() const = 0;  // NOLINT: poll(2)'s own type
  // poll(2) reported these events.
  virtual void OnReady(short events) = 0;  // NOLINT
  // Writes what was queued since the last turn.
  virtual void Flush() = 0;
  // An answer is due soon: worth waiting for before anything else.
  virtual bool Busy() const = 0;
};

// An executor that also drives Pollables.
class Loop : public Executor {
 public:
  // `pollable` must outlive the loop's thread. Call before the loop runs, or from its own tasks.
  virtual void Attach(Pollable* pollable) = 0;
};

// The tasks and timers of a loop, whatever it waits on. Shared by EventLoop and by the lanes of server/rpc.
//
// Threads: Add and AddAfter from any thread; RunDue and NextTimer from the loop's thread.
class TaskQueue {
 public:
  // `wake` is called, from any thread, when a task was added while the loop may be waiting.
  TaskQueue(const Clock* clock, std::function<void()> wake);

  void Add(Task task);
  void AddAfter(absl::Duration delay, Task task);

  // Runs what was due when the call began; returns how many tasks ran.
  size_t RunDue();
  // How long the loop may wait before the next timer; zero when tasks wait already.
  absl::Duration UntilNext() const;

 private:
  const Clock* const clock_;
  const std::function<void()> wake_;
  mutable Mutex mutex_;
  std::vector<Task> ready_ ABSL_GUARDED_BY(mutex_);
  std::multimap<absl::Duration, Task> timers_ ABSL_GUARDED_BY(mutex_);  // by Clock::Steady()
  // Lets an idle turn see that there is nothing to run without taking the lock.
  std::atomic<bool> has_ready_{false};
  std::atomic<int64_t> next_timer_ns_{INT64_MAX};
};

// The loop without gRPC: poll(2) over its Pollables and an eventfd.
class EventLoop final : public Loop {
 public:
  // Starts the thread.
  EventLoop(const Clock* clock, std::string name);
  // Stops after the present turn; tasks that did not run are destroyed.
  ~EventLoop() override;

  void Post(Task task) override;
  void PostAfter(absl::Duration delay, Task task) override;
  void Attach(Pollable* pollable) override;

  // Stops and joins; idempotent. After it returns no task runs any more.
  void Stop();

 private:
  void Run();
  void Wake();

  int wake_descriptor_;
  std::atomic<bool> stopping_{false};
  TaskQueue tasks_;
  std::vector<Pollable*> pollables_;
  std::thread thread_;
};

}  // namespace shadowline::base

#endif  // SHADOWLINE_BASE_EVENT_LOOP_H_
