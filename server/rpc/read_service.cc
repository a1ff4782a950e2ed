#include "server/rpc/read_service.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/async_unary_call.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "server/rpc/deadline.h"
#include "server/rpc/status.h"

namespace shadowline::server {

namespace v1 = shadowline::v1;

// What differs between the methods: how gRPC is asked for the next call, and how one is answered. Serve answers within
// the call or later; it sets `places` before.

struct ReadService::ReadMethod {
  using Request = v1::ReadRequest;
  using Response = v1::ReadResponse;
  static constexpr auto kReceive = &v1::ReadService::AsyncService::RequestRead;
  static constexpr size_t kArmed = 64;
  // Messages are kept with the memory that they have grown.
  static constexpr bool kKeepsMemory = true;

  static void Serve(LaneCalls* lane, const Request& request, Response* response, absl::Duration timeout, size_t* places,
                    Reader::Done done);
};

struct ReadService::BatchReadMethod {
  using Request = v1::BatchReadRequest;
  using Response = v1::BatchReadResponse;
  static constexpr auto kReceive = &v1::ReadService::AsyncService::RequestBatchRead;
  static constexpr size_t kArmed = 16;
  // They may have grown by megabytes.
  static constexpr bool kKeepsMemory = false;

  static void Serve(LaneCalls* lane, const Request& request, Response* response, absl::Duration timeout, size_t* places,
                    Reader::Done done);
};

// The calls of one method on one lane. A fixed number is always armed to receive; a call that is done is armed again or
// kept for reuse.
template <typename Method>
class ReadService::Calls {
 public:
  explicit Calls(LaneCalls* lane) : lane_(lane) {}

  void Begin() {
    for (size_t i = 0; i < Method::kArmed; ++i) Arm();
  }
  void Arm() {
    if (idle_.empty()) {
      calls_.push_back(std::make_unique<Call<Method>>(lane_, this));
      idle_.push_back(calls_.back().get());
    }
    Call<Method>* const call = idle_.back();
    idle_.pop_back();
    call->Arm();
  }
  void Recycle(Call<Method>* call) { idle_.push_back(call); }

 private:
  LaneCalls* const lane_;
  std::vector<std::unique_ptr<Call<Method>>> calls_;
  std::vector<Call<Method>*> idle_;
};

// What the calls of one lane share.
class ReadService::LaneCalls {
 public:
  LaneCalls(ReadService* owner, Lane* lane, Reader* reader, BatchReader* batch_reader)
      : owner_(owner), lane_(lane), reader_(reader), batch_reader_(batch_reader) {}

  void Begin() {
    reads_.Begin();
    batches_.Begin();
  }

  // Takes places for so many reads; false where there are not so many left.
  bool Admit(size_t reads) {
    if (reads > owner_->options_.in_flight_max - in_flight_) {
      owner_->refused_->Add(static_cast<double>(reads));
      return false;
    }
    in_flight_ += reads;
    return true;
  }
  void Leave(size_t reads) { in_flight_ -= reads; }

  ReadService* owner() { return owner_; }
  Lane* lane() { return lane_; }
  Reader* reader() { return reader_; }
  BatchReader* batch_reader() { return batch_reader_; }

 private:
  ReadService* const owner_;
  Lane* const lane_;
  Reader* const reader_;
  BatchReader* const batch_reader_;
  size_t in_flight_ = 0;
  Calls<ReadMethod> reads_{this};
  Calls<BatchReadMethod> batches_{this};
};

// One call: armed -> serving -> finishing -> idle.
template <typename Method>
class ReadService::Call final : public Lane::Event {
 public:
  Call(LaneCalls* lane, Calls<Method>* calls) : lane_(lane), calls_(calls) {}

  void Arm() {
    state_ = State::kArmed;
    if constexpr (Method::kKeepsMemory) {
      request_.Clear();
      response_.Clear();
    }
    writer_.reset();
    context_.emplace();
    writer_.emplace(&*context_);
    grpc::ServerCompletionQueue* const queue = lane_->lane()->queue();
    (lane_->owner()->service_.*Method::kReceive)(&*context_, &request_, &*writer_, queue, queue,
                                                 static_cast<Event*>(this));
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
        lane_->Leave(std::exchange(places_, 0));
        if constexpr (!Method::kKeepsMemory) {
          request_ = {};
          response_ = {};
        }
        calls_->Recycle(this);
        return;
    }
  }

 private:
  enum class State { kArmed, kServing, kFinishing };

  void Serve() {
    state_ = State::kServing;
    Method::Serve(lane_, request_, &response_, TimeLeft(*context_, lane_->owner()->options_.default_timeout), &places_,
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

  LaneCalls* const lane_;
  Calls<Method>* const calls_;
  State state_ = State::kArmed;
  size_t places_ = 0;  // Of the lane's, that this call has taken.
  typename Method::Request request_;
  typename Method::Response response_;
  // gRPC wants a new context for every call.
  std::optional<grpc::ServerContext> context_;
  std::optional<grpc::ServerAsyncResponseWriter<typename Method::Response>> writer_;
};

void ReadService::ReadMethod::Serve(LaneCalls* lane, const Request& request, Response* response, absl::Duration timeout,
                                    size_t* places, Reader::Done done) {
  if (!lane->Admit(1)) {
    return done(absl::ResourceExhaustedError("this replica has too many reads in flight; retry with backoff"));
  }
  *places = 1;
  lane->reader()->Read(request, response, timeout, std::move(done));
}

void ReadService::BatchReadMethod::Serve(LaneCalls* lane, const Request& request, Response* response,
                                         absl::Duration timeout, size_t* places, Reader::Done done) {
  const auto admit = [lane, places](size_t reads) {
    if (!lane->Admit(reads)) return false;
    *places = reads;
    return true;
  };
  lane->batch_reader()->Read(request, response, timeout, admit, std::move(done));
}

ReadService::ReadService(Options options, base::Metrics* metrics)
    : options_(options),
      refused_(
          metrics->AddCounter("shadowline_reads_refused_total", "Reads refused because too many were in flight.")) {}

ReadService::~ReadService() = default;

void ReadService::Serve(Lane* lane, Reader* reader, BatchReader* batch_reader) {
  lanes_.push_back(std::make_unique<LaneCalls>(this, lane, reader, batch_reader));
  lanes_.back()->Begin();
}

}  // namespace shadowline::server
