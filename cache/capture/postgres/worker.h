// Worker is the thread of a capture: it runs its body again and again, with a growing pause after every failure, until
// it is stopped. Signal is what wakes such a thread.
//
// Threads: Signal is thread-safe. A worker's Start and Stop are called by one thread.
#ifndef SHADOWLINE_CACHE_CAPTURE_POSTGRES_WORKER_H_
#define SHADOWLINE_CACHE_CAPTURE_POSTGRES_WORKER_H_

#include <functional>
#include <initializer_list>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace shadowline::cache {

// An eventfd: poll(2) sees it as readable from Set until Clear.
class Signal {
 public:
  Signal();
  Signal(const Signal&) = delete;
  Signal& operator=(const Signal&) = delete;
  ~Signal();

  void Set();
  void Clear();
  int descriptor() const { return descriptor_; }

 private:
  const int descriptor_;
};

// Waits until one of the descriptors is readable, or for `timeout`. A descriptor of -1 is left out.
void WaitReadable(std::initializer_list<int> descriptors, absl::Duration timeout);

class Worker {
 public:
  struct Options {
    std::string name;  // Of the thread; at most 15 bytes.
    absl::Duration pause_min = absl::Milliseconds(50);
    absl::Duration pause_max = absl::Seconds(2);
  };
  // Sets `*worked` once it did what it is for: the next pause is the shortest again. OK: run it again at once.
  using Body = std::function<absl::Status(bool* worked)>;

  // `on_failure` is told of every failure that is followed by a pause.
  Worker(Options options, Body body, std::function<void(const absl::Status&)> on_failure);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker();

  void Start();
  // Returns when the thread has ended. Idempotent.
  void Stop();

  // Readable once Stop was called; the body returns then.
  int stop() const { return stop_.descriptor(); }
  bool stopping() const;

 private:
  void Run();

  const Options options_;
  const Body body_;
  const std::function<void(const absl::Status&)> on_failure_;
  Signal stop_;
  std::thread thread_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CAPTURE_POSTGRES_WORKER_H_
