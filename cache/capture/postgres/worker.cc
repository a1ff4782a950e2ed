#include "cache/capture/postgres/worker.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/executor.h"

namespace shadowline::cache {

Signal::Signal() : descriptor_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Signal::~Signal() { close(descriptor_); }

void Signal::Set() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(descriptor_, &one, sizeof(one));
}

void Signal::Clear() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t taken = read(descriptor_, &count, sizeof(count));
}

void WaitReadable(std::initializer_list<int> descriptors, absl::Duration timeout) {
  std::vector<pollfd> waited;
  for (const int descriptor : descriptors) waited.push_back({descriptor, POLLIN, 0});  // poll(2) leaves -1 out.
  // Rounded up: a wait that ends just before its time would be followed by one of no length, many times.
  const int64_t milliseconds = absl::ToInt64Milliseconds(timeout + absl::Microseconds(999));
  poll(waited.data(), waited.size(), static_cast<int>(std::clamp<int64_t>(milliseconds, 0, 3'600'000)));
}

Worker::Worker(Options options, Body body, std::function<void(const absl::Status&)> on_failure)
    : options_(std::move(options)), body_(std::move(body)), on_failure_(std::move(on_failure)) {}

Worker::~Worker() { Stop(); }

void Worker::Start() {
  thread_ = base::StartThread(options_.name, [this] { Run(); });
}

void Worker::Stop() {
  if (!thread_.joinable()) return;
  stop_.Set();
  thread_.join();
}

bool Worker::stopping() const {
  pollfd waited{stop(), POLLIN, 0};
  return poll(&waited, 1, 0) > 0;
}

void Worker::Run() {
  absl::Duration pause = options_.pause_min;
  while (!stopping()) {
    bool worked = false;
    const absl::Status status = body_(&worked);
    if (worked || status.ok()) pause = options_.pause_min;
    if (status.ok() || stopping()) continue;
    on_failure_(status);
    WaitReadable({stop()}, pause);
    pause = std::min(pause * 2, options_.pause_max);
  }
}

}  // namespace shadowline::cache
