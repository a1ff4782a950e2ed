#include "tests/support/load.h"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "base/executor.h"

namespace shadowline::support {

Pace::Pace(const base::Clock* clock, double rate, uint64_t seed, absl::Duration late_max)
    : clock_(clock), mean_gap_(absl::Seconds(1) / rate), late_max_(late_max), random_(seed), due_(clock->Steady()) {}

absl::Duration Pace::Next() {
  const absl::Duration now = clock_->Steady();
  due_ = std::max(due_ + mean_gap_ * -std::log(1 - random_.Unit()), now - late_max_);
  if (due_ > now) {
    // Precise to some tens of microseconds, which gRPC's own timers are not.
    const timespec wait = absl::ToTimespec(due_ - now);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, nullptr);
  }
  return due_;
}

struct OpenLoop::Call {
  size_t id = 0;
  absl::Duration due;
  absl::Duration sent;
  grpc::ClientContext context;
  grpc::Status status;
  shadowline::v1::ReadResponse response;
  std::unique_ptr<grpc::ClientAsyncResponseReader<shadowline::v1::ReadResponse>> reader;
};

OpenLoop::OpenLoop(Options options, const base::Clock* clock, std::function<Question()> next,
                   std::function<void(const Reply&)> done)
    : options_(std::move(options)), clock_(clock), next_(std::move(next)), done_(std::move(done)) {
  for (const auto& channel : options_.channels) stubs_.push_back(shadowline::v1::ReadService::NewStub(channel));
  receiver_ = base::StartThread("load-receive", [this] { Receive(); });
  sender_ = base::StartThread("load-send", [this] { Send(); });
}

void OpenLoop::Stop() {
  if (stopping_.exchange(true)) return;
  sender_.join();
  queue_.Shutdown();
  receiver_.join();
}

void OpenLoop::Send() {
  Pace pace(clock_, options_.rate, options_.seed);
  for (uint64_t turn = 0; !stopping_; ++turn) {
    const absl::Duration due = pace.Next();
    if (sent_ - received_ >= options_.outstanding) {
      ++dropped_;
      continue;
    }
    const Question question = next_();
    auto* call = new Call;
    call->id = question.id;
    call->due = due;
    call->sent = clock_->Steady();
    call->context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(options_.timeout));
    call->reader = stubs_[turn % stubs_.size()]->AsyncRead(&call->context, *question.request, &queue_);
    call->reader->Finish(&call->response, &call->status, call);
    ++sent_;
  }
}

void OpenLoop::Receive() {
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) {
    const std::unique_ptr<Call> call(static_cast<Call*>(tag));
    const absl::Duration received = clock_->Steady();
    ++received_;
    done_({call->id, call->status, call->response, call->due, call->sent, received});
  }
}

struct ClosedLoop::Call {
  size_t id = 0;
  absl::Duration sent;
  std::optional<grpc::ClientContext> context;
  grpc::Status status;
  shadowline::v1::ReadResponse response;
  std::unique_ptr<grpc::ClientAsyncResponseReader<shadowline::v1::ReadResponse>> reader;
};

ClosedLoop::ClosedLoop(Options options, const base::Clock* clock, std::function<Question(size_t)> next,
                       std::function<void(size_t, const Reply&)> done)
    : options_(std::move(options)), clock_(clock), next_(std::move(next)), done_(std::move(done)) {
  for (const auto& channel : options_.channels) stubs_.push_back(shadowline::v1::ReadService::NewStub(channel));
  for (size_t i = 0; i < options_.threads; ++i) {
    threads_.push_back(base::StartThread("load", [this, i] { Run(i); }));
  }
}

void ClosedLoop::Stop() {
  stopping_ = true;
  Wait();
}

void ClosedLoop::Wait() {
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void ClosedLoop::Run(size_t thread) {
  grpc::CompletionQueue queue;
  std::vector<Call> calls(options_.outstanding);
  size_t under_way = 0;
  size_t turn = thread;
  const auto send = [&](Call* call) {
    if (stopping_ || (options_.reads > 0 && sent_.fetch_add(1) >= options_.reads)) return;
    const Question question = next_(thread);
    call->id = question.id;
    call->response.Clear();
    call->context.emplace();
    call->context->set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(options_.timeout));
    call->sent = clock_->Steady();
    call->reader = stubs_[turn++ % stubs_.size()]->AsyncRead(&*call->context, *question.request, &queue);
    call->reader->Finish(&call->response, &call->status, call);
    ++under_way;
  };
  for (Call& call : calls) send(&call);
  void* tag = nullptr;
  bool ok = false;
  while (under_way > 0 && queue.Next(&tag, &ok)) {
    auto* call = static_cast<Call*>(tag);
    --under_way;
    done_(thread, {call->id, call->status, call->response, call->sent, call->sent, clock_->Steady()});
    send(call);
  }
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
}

}  // namespace shadowline::support
