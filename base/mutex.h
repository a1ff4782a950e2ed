// Mutex is absl::Mutex, and under ThreadSanitizer a standard one of the same shape: Debian's Abseil is not instrumented, so there
// a correct program looks like a race, above all in Await, where Abseil itself reads what the lock guards.
#ifndef SHADOWLINE_BASE_MUTEX_H_
#define SHADOWLINE_BASE_MUTEX_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#if defined(__SANITIZE_THREAD__)
#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "absl/time/time.h"
#endif

namespace shadowline::base {

class ABSL_LOCKABLE Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

#if !defined(__SANITIZE_THREAD__)
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.Lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.Unlock(); }
  // Blocks until `condition` holds; the lock is released meanwhile.
  void Await(const absl::Condition& condition) ABSL_EXCLUSIVE_LOCKS_REQUIRED(this) { mutex_.Await(condition); }
  // The same for at most `timeout` of real time; returns whether the condition holds.
  bool AwaitWithTimeout(const absl::Condition& condition, absl::Duration timeout) ABSL_EXCLUSIVE_LOCKS_REQUIRED(this) {
    return mutex_.AwaitWithTimeout(condition, timeout);
  }

 private:
  absl::Mutex mutex_;
#else
  void Lock() { mutex_.lock(); }
  void Unlock() {
    changed_.notify_all();
    mutex_.unlock();
  }
  void Await(const absl::Condition& condition) { AwaitWithTimeout(condition, absl::InfiniteDuration()); }
  bool AwaitWithTimeout(const absl::Condition& condition, absl::Duration timeout) {
    // A day stands for ever: no test waits longer, and the standard library overflows beyond.
    const auto limit = absl::ToChronoNanoseconds(std::min(timeout, absl::Hours(24)));
    std::unique_lock<std::mutex> lock(mutex_, std::adopt_lock);
    const bool held = changed_.wait_for(lock, limit, [&] { return condition.Eval(); });
    lock.release();
    return held;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
#endif
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) { mutex_->Lock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_->Unlock(); }

 private:
  Mutex* const mutex_;
};

}  // namespace shadowline::base

#endif  // SHADOWLINE_BASE_MUTEX_H_
