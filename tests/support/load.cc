#include "tests/support/load.h"

#include <time.h>

#include <cmath>
#include <utility>

#include "base/executor.h"

namespace shadowline::support {
namespace {

// Precise to some tens of microseconds, which gRPC's own timers are not.
void SleepUntil(const base::Clock& clock, absl::Duration due) {
  const absl::Duration left = due - clock.Steady();
  if (left <= absl::ZeroDuration()) return;
  const timespec wait = absl::ToTimespec(left);
  clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, nullptr);
}

}  // namespace

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
    : options_(std::move(options)),
      clock_(clock),
      next_(std::move(next)),
      done_(std::move(done)),
      random_(options_.seed) {
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
  const absl::Duration mean_gap = absl::Seconds(1) / options_.rate;
  absl::Duration due = clock_->Steady();
  for (uint64_t turn = 0; !stopping_; ++turn) {
    due += mean_gap * -std::log(1 - random_.Unit());
    SleepUntil(*clock_, due);
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

}  // namespace shadowline::support
