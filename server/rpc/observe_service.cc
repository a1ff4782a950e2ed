#include "server/rpc/observe_service.h"

#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "server/read/decider.h"
#include "server/read/observer.h"
#include "server/rpc/places.h"
#include "server/rpc/status.h"
#include "shadowline/v1/observe.grpc.pb.h"

namespace shadowline::server {

namespace v1 = shadowline::v1;

class ObserveService::Rpc final : public v1::ObserveService::Service {
 public:
  Rpc(Options options, Decider* decider, Observer* observer)
      : decider_(decider), observer_(observer), decisions_(options.decisions_max), reports_(options.reports_max) {}

  grpc::Status Decide(grpc::ServerContext* context, const v1::DecideRequest* request,
                      v1::DecideResponse* response) override {
    if (!decisions_.Take()) return Full("decisions");
    const absl::Cleanup leave = [this] { decisions_.Leave(); };
    absl::StatusOr<v1::DecideResponse> decided = decider_->Decide(*request);
    if (!decided.ok()) return ToGrpc(decided.status());
    *response = *std::move(decided);
    return grpc::Status::OK;
  }

  grpc::Status Observe(grpc::ServerContext* context, const v1::ObserveRequest* request,
                       v1::ObserveResponse* response) override {
    if (!reports_.Take()) return Full("reports");
    const absl::Cleanup leave = [this] { reports_.Leave(); };
    if (request->reads().empty() || request->reads_size() > kReportsMax) {
      return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "reads: expected 1 to 64");
    }
    for (const v1::ObservedRead& observation : request->reads()) {
      v1::ObserveResult* const result = response->add_results();
      absl::StatusOr<v1::Judgement> judged = observer_->Observe(observation);
      if (judged.ok()) {
        *result->mutable_judgement() = *std::move(judged);
      } else if (absl::IsUnavailable(judged.status())) {
        // What was judged before is answered alike when the call is made again.
        return ToGrpc(judged.status());
      } else {
        result->mutable_error()->set_code(static_cast<int32_t>(judged.status().code()));
        result->mutable_error()->set_message(std::string(judged.status().message()));
      }
    }
    return grpc::Status::OK;
  }

 private:
  static grpc::Status Full(const char* what) {
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                        std::string("too many ") + what + " are under way; retry with backoff");
  }

  Decider* const decider_;
  Observer* const observer_;
  Places decisions_;
  Places reports_;
};

ObserveService::ObserveService(Options options, Decider* decider, Observer* observer)
    : rpc_(std::make_unique<Rpc>(options, decider, observer)) {}

ObserveService::~ObserveService() = default;

grpc::Service* ObserveService::service() { return rpc_.get(); }

}  // namespace shadowline::server
