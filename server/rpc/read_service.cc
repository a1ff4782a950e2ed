#include "server/rpc/read_service.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/async_unary_call.h>

#include <optional>
#include <utility>

#include "server/rpc/deadline.h"
#include "server/rpc/status.h"

namespace shadowline::server {

using shadowline::v1::ReadRequest;
using shadowline::v1::ReadResponse;

// The calls of one lane. A fixed number is always armed to receive; a call that is done is armed again or kept for
// reuse, with the memory that its messages have grown.
class ReadService::LaneCalls {
 public:
  static constexpr size_t kArmed = 64;

  LaneCalls(ReadService* owner, Lane* lane, Reader* reader) : owner_(owner), lane_(lane), reader_(reader) {}
  ~LaneCalls();

  void Arm();
  void Recycle(Call* call) { idle_.push_back(call); }
  // Takes a place for a call; false where all are taken.
  bool Admit() { return in_flight_ < owner_->options_.in_flight_max && ++in_flight_ > 0; }
  void Leave() { --in_flight_; }

  ReadService* owner() { return owner_; }
  Lane* lane() { return lane_; }
  Reader* reader() { return reader_; }

 private:
  ReadService* const owner_;
  Lane* const lane_;
  Reader* const reader_;
  size_t in_flight_ = 0;
  std::vector<std::unique_ptr<Call>> calls_;
  std::vector<Call*> idle_;
};

// One call: armed -> serving -> finishing -> idle.
class ReadService::Call final : public Lane::Event {
 public:
  explicit Call(LaneCalls* calls) : calls_(calls) {}

  void Arm() {
    state_ = State::kArmed;
    request_.Clear();
    response_.Clear();
    writer_.reset();
    context_.emplace();
    writer_.emplace(&*context_);
    grpc::ServerCompletionQueue* const queue = calls_->lane()->queue();
    calls_->owner()->service_.RequestRead(&*context_, &request_, &*writer_, queue, queue, static_cast<Event*>(this));
  }

  void Proceed(bool ok) override {
    switch (state_) {
      case State::kArmed:
        if (!ok) return;  // The server is shutting down.
        calls_->Arm();
        Serve();
        return;
      case State::kServing:
        return;
      case State::kFinishing:
        if (admitted_) calls_->Leave();
        calls_->Recycle(this);
        return;
    }
  }

 private:
  enum class State { kArmed, kServing, kFinishing };

  void Serve() {
    state_ = State::kServing;
    admitted_ = calls_->Admit();
    if (!admitted_) {
      calls_->owner()->refused_->Add();
      Finish(absl::ResourceExhaustedError("this replica has too many reads in flight; retry with backoff"));
      return;
    }
    calls_->reader()->Read(request_, &response_, TimeLeft(*context_, calls_->owner()->options_.default_timeout),
                           [this](absl::Status status) { Finish(status); });
  }

  void Finish(const absl::Status& status) {
    state_ = State::kFinishing;
    if (status.ok()) {
      writer_->Finish(response_, grpc::Status::OK, static_cast<Event*>(this));
    } else {
      writer_->FinishWithError(ToGrpc(status), static_cast<Event*>(this));
    }
  }

  LaneCalls* const calls_;
  State state_ = State::kArmed;
  bool admitted_ = false;
  ReadRequest request_;
  ReadResponse response_;
  // gRPC wants a new context for every call.
  std::optional<grpc::ServerContext> context_;
  std::optional<grpc::ServerAsyncResponseWriter<ReadResponse>> writer_;
};

ReadService::LaneCalls::~LaneCalls() = default;

void ReadService::LaneCalls::Arm() {
  if (idle_.empty()) {
    calls_.push_back(std::make_unique<Call>(this));
    idle_.push_back(calls_.back().get());
  }
  Call* const call = idle_.back();
  idle_.pop_back();
  call->Arm();
}

ReadService::ReadService(Options options, base::Metrics* metrics)
    : options_(options),
      refused_(
          metrics->AddCounter("shadowline_reads_refused_total", "Reads refused because too many were in flight.")) {}

ReadService::~ReadService() = default;

void ReadService::Serve(Lane* lane, Reader* reader) {
  lanes_.push_back(std::make_unique<LaneCalls>(this, lane, reader));
  for (size_t i = 0; i < LaneCalls::kArmed; ++i) lanes_.back()->Arm();
}

}  // namespace shadowline::server
