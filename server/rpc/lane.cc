#include "server/rpc/lane.h"

#include <grpc/support/time.h>
#include <poll.h>

#include <algorithm>
#include <utility>

namespace shadowline::server {
namespace {

// Completions handled before Redis gets its turn: enough to fill a batch, few enough to keep replies moving.
constexpr int kDrainLimit = 256;
// A Redis on this machine or rack answers within this time, so the thread waits for it rather than for the next call.
constexpr absl::Duration kReplyDue = absl::Microseconds(100);
// How often a Redis that is slower than that is looked at while the thread waits for calls.
constexpr absl::Duration kSlowReply = absl::Milliseconds(1);
// No wait is longer, so that nothing depends on a wake-up alone.
constexpr absl::Duration kLongestWait = absl::Milliseconds(500);

gpr_timespec QueueDeadline(absl::Duration wait) {
  if (wait <= absl::ZeroDuration()) return gpr_time_0(GPR_CLOCK_MONOTONIC);
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(absl::ToInt64Nanoseconds(wait), GPR_TIMESPAN));
}

}  // namespace

void Lane::WakeUp::Ring() {
  // One alarm at a time: it cannot be set again before it rang.
  if (!pending_.exchange(true)) alarm_.Set(queue_, gpr_time_0(GPR_CLOCK_MONOTONIC), static_cast<Event*>(this));
}

Lane::Lane(const base::Clock* clock, std::string name, std::unique_ptr<grpc::ServerCompletionQueue> queue)
    : name_(std::move(name)), queue_(std::move(queue)), wake_up_(queue_.get()), tasks_(clock, [this] {
        if (std::this_thread::get_id() != thread_id_.load(std::memory_order_relaxed)) wake_up_.Ring();
      }) {}

Lane::~Lane() { Stop(); }

void Lane::Post(base::Task task) { tasks_.Add(std::move(task)); }

void Lane::PostAfter(absl::Duration delay, base::Task task) { tasks_.AddAfter(delay, std::move(task)); }

void Lane::Attach(base::Pollable* pollable) {
  Post([this, pollable] { pollables_.push_back(pollable); });
}

void Lane::Start() {
  thread_ = base::StartThread(name_, [this] { Run(); });
}

void Lane::Stop() {
  if (!thread_.joinable()) return;
  // The thread shuts the queue down itself: an alarm must never be set on a queue that another thread has shut down.
  Post([this] { stopping_.store(true); });
  thread_.join();
}

void Lane::Run() {
  thread_id_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  bool shut_down = false;
  absl::Duration silent = absl::ZeroDuration();  // Since a due reply last showed up.
  while (true) {
    bool progress = false;
    if (!DrainQueue(&progress)) break;
    progress |= tasks_.RunDue() > 0;
    if (stopping_.load(std::memory_order_relaxed) && !shut_down) {
      shut_down = true;
      queue_->Shutdown();
    }
    for (base::Pollable* pollable : pollables_) pollable->Flush();

    const bool busy = AnyBusy();
    const bool wait_for_reply = busy && !progress && silent < kSlowReply;
    const bool replies = ServePollables(wait_for_reply ? kReplyDue : absl::ZeroDuration());
    silent = replies || !busy ? absl::ZeroDuration() : silent + (wait_for_reply ? kReplyDue : absl::ZeroDuration());
    if (progress || replies || (busy && silent < kSlowReply)) continue;

    const absl::Duration wait = std::min(tasks_.UntilNext(), busy ? kSlowReply : kLongestWait);
    if (!WaitInQueue(wait)) break;
  }
}

bool Lane::DrainQueue(bool* progress) {
  void* tag;
  bool ok;
  for (int i = 0; i < kDrainLimit; ++i) {
    switch (queue_->AsyncNext(&tag, &ok, QueueDeadline(absl::ZeroDuration()))) {
      case grpc::CompletionQueue::SHUTDOWN:
        return false;
      case grpc::CompletionQueue::TIMEOUT:
        return true;
      case grpc::CompletionQueue::GOT_EVENT:
        *progress = true;
        static_cast<Event*>(tag)->Proceed(ok);
    }
  }
  return true;
}

bool Lane::WaitInQueue(absl::Duration limit) {
  void* tag;
  bool ok;
  switch (queue_->AsyncNext(&tag, &ok, QueueDeadline(limit))) {
    case grpc::CompletionQueue::SHUTDOWN:
      return false;
    case grpc::CompletionQueue::TIMEOUT:
      return true;
    case grpc::CompletionQueue::GOT_EVENT:
      static_cast<Event*>(tag)->Proceed(ok);
  }
  return true;
}

bool Lane::ServePollables(absl::Duration wait) {
  pollfd waits[8];
  const size_t count = std::min(pollables_.size(), std::size(waits));
  for (size_t i = 0; i < count; ++i) waits[i] = {pollables_[i]->Descriptor(), pollables_[i]->Events(), 0};
  const timespec timeout = absl::ToTimespec(wait);
  if (ppoll(waits, count, &timeout, nullptr) <= 0) return false;
  for (size_t i = 0; i < count; ++i) {
    if (waits[i].revents != 0) pollables_[i]->OnReady(waits[i].revents);
  }
  return true;
}

bool Lane::AnyBusy() const {
  return std::any_of(pollables_.begin(), pollables_.end(), [](const base::Pollable* p) { return p->Busy(); });
}

}  // namespace shadowline::server
