// Executors run tasks. A task never blocks its executor except on a ThreadPool that exists for blocking calls.
//
// Three kinds exist: ThreadPool (blocking work: database calls), EventLoop (base/event_loop.h: one thread with sockets
// and timers), and the lanes of server/rpc, which drive gRPC. Simulations have a fourth, in tests/sim.
#ifndef SHADOWLINE_BASE_EXECUTOR_H_
#define SHADOWLINE_BASE_EXECUTOR_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace shadowline::base {

using Task = absl::AnyInvocable<void()>;

// One queue of tasks that run one after the other, in the order they were posted.
//
// Threads: Post and PostAfter may be called from any thread.
class Executor {
 public:
  virtual ~Executor() = default;

  // Runs `task` soon, never inside this call. For the continuation of work that was admitted already, so it has no
  // limit of its own. After the executor has stopped, `task` is destroyed without being run.
  virtual void Post(Task task) = 0;

  // Runs `task` no earlier than `delay` from now. The timer cannot be cancelled: a task checks whether it is still wanted.
  virtual void PostAfter(absl::Duration delay, Task task) = 0;
};

// A fixed number of threads over one bounded queue, for calls that block. Each task is told which thread it runs on, so
// that a thread can own a resource (a database connection) without a lock.
//
// Threads: thread-safe. The destructor runs what is queued, then joins; nothing may be submitted by then.
class ThreadPool {
 public:
  // Gets the index of its thread, 0 to threads-1.
  using IndexedTask = absl::AnyInvocable<void(size_t)>;

  struct Options {
    std::string name;        // Shown in thread lists; at most 15 bytes are kept.
    size_t threads = 1;
    size_t queue_limit = 1024;  // Tasks that wait, beside those that run.
  };

  explicit ThreadPool(Options options);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  // False: the queue is full (or the pool stops) and `task` was not taken.
  [[nodiscard]] bool TrySubmit(IndexedTask task);

  size_t queued() const;

 private:
  void Run(size_t index);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !queue_.empty() || stopping_; }

  const Options options_;
  mutable Mutex mutex_;
  std::deque<IndexedTask> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

// Starts a thread that runs `body` once, named `name`. The only other door to std::thread; whoever calls it joins it.
std::thread StartThread(const std::string& name, std::function<void()> body);

}  // namespace shadowline::base

#endif  // SHADOWLINE_BASE_EXECUTOR_H_
