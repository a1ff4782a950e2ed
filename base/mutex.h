// Mutex is absl::Mutex that ThreadSanitizer understands: Debian's Abseil is not instrumented, so a correct program looks
// like a race without these annotations.
#ifndef SHADOWLINE_BASE_MUTEX_H_
#define SHADOWLINE_BASE_MUTEX_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#if defined(__SANITIZE_THREAD__)
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#define SHADOWLINE_TSAN_ACQUIRE(address) __tsan_acquire(address)
#define SHADOWLINE_TSAN_RELEASE(address) __tsan_release(address)
#else
#define SHADOWLINE_TSAN_ACQUIRE(address) ((void)0)
#define SHADOWLINE_TSAN_RELEASE(address) ((void)0)
#endif

namespace shadowline::base {

class ABSL_LOCKABLE Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    mutex_.Lock();
    SHADOWLINE_TSAN_ACQUIRE(this);
  }
  void Unlock() ABSL_UNLOCK_FUNCTION() {
    SHADOWLINE_TSAN_RELEASE(this);
    mutex_.Unlock();
  }
  // Blocks until `condition` holds; the lock is released meanwhile.
  void Await(const absl::Condition& condition) ABSL_EXCLUSIVE_LOCKS_REQUIRED(this) {
    SHADOWLINE_TSAN_RELEASE(this);
    mutex_.Await(condition);
    SHADOWLINE_TSAN_ACQUIRE(this);
  }
  // The same for at most `timeout` of real time; returns whether the condition holds.
  bool AwaitWithTimeout(const absl::Condition& condition, absl::Duration timeout) ABSL_EXCLUSIVE_LOCKS_REQUIRED(this) {
    SHADOWLINE_TSAN_RELEASE(this);
    const bool held = mutex_.AwaitWithTimeout(condition, timeout);
    SHADOWLINE_TSAN_ACQUIRE(this);
    return held;
  }

 private:
  absl::Mutex mutex_;
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
