// Decide and Observe over a real gRPC server: batches, their errors, and how many calls there may be.
#include "server/rpc/observe_service.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.pb.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/event_loop.h"
#include "cache/catalog/parse.h"
#include "server/read/decider.h"
#include "server/read/observer.h"
#include "shadowline/v1/catalog.pb.h"
#include "shadowline/v1/observe.grpc.pb.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;
using testing::HasSubstr;
using testing::StartsWith;

// The answers are messages that are at hand: Tolerance, some texts.
std::string Catalog() {
  google::protobuf::FileDescriptorSet set;
  v1::Tolerance::descriptor()->file()->CopyTo(set.add_file());
  return absl::StrCat(
      "version: 1\ntenants: {list: [acme]}\ndescriptors: {own: ", absl::Base64Escape(set.SerializeAsString()),
      "}\nfamilies: {stock: {endpoints: {level: {observed: true, message: shadowline.v1.Tolerance}}}}\n");
}

class ObserveServiceTest : public testing::Test {
 protected:
  void Start(ObserveService::Options options = {}) {
    service_ = std::make_unique<ObserveService>(options, &decider_, &observer_);
    grpc::ServerBuilder builder;
    builder.RegisterService(service_->service());
    server_ = builder.BuildAndStart();
    stub_ = v1::ObserveService::NewStub(server_->InProcessChannel({}));
    catalog_.Publish(*cache::ParseCatalog(Catalog(), 1));
    board_.Publish(std::make_shared<flags::Snapshot>(
                       1, absl::flat_hash_set<std::string>{"acme"},
                       flags::Snapshot::Targets{
                           {{"stock", "acme"}, {.mode = flags::Mode::kShadow, .sample_ppm = 1'000'000, .window = 7}}}),
                   clock_.Steady());
  }
  ~ObserveServiceTest() override {
    if (server_ != nullptr) server_->Shutdown();
    loop_.Stop();
  }

  grpc::Status Decide(const std::string& tenant, v1::DecideResponse* response) {
    grpc::ClientContext context;
    v1::DecideRequest request;
    request.mutable_read()->set_tenant(tenant);
    request.mutable_read()->set_endpoint("stock/level");
    return stub_->Decide(&context, request, response);
  }
  grpc::Status Observe(const v1::ObserveRequest& request, v1::ObserveResponse* response) {
    grpc::ClientContext context;
    return stub_->Observe(&context, request, response);
  }
  v1::ObservedRead Equal() {
    v1::DecideResponse decided;
    EXPECT_TRUE(Decide("acme", &decided).ok());
    v1::ObservedRead read;
    read.set_decision(decided.decision());
    for (v1::ObservedAnswer* answer : {read.mutable_candidate(), read.mutable_control()}) {
      answer->set_outcome(v1::OBSERVED_OUTCOME_FOUND);
      answer->set_digest("the same");
    }
    return read;
  }

  const base::SystemClock clock_;
  base::EventLoop loop_{&clock_, "observer"};
  flags::Board board_{&clock_, absl::Hours(1)};
  CatalogHolder catalog_;
  diff::Ledger ledger_{&clock_};
  base::Metrics metrics_;
  const Tokens tokens_{"secret", 1, &clock_};
  Decider decider_{{.seed = 1}, {&board_, &catalog_, &tokens_, &metrics_}};
  Observer observer_{{}, {&catalog_, &tokens_, &loop_, &clock_, &ledger_, &metrics_, [](diff::Divergence) {}}};
  std::unique_ptr<ObserveService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::ObserveService::Stub> stub_;
};

TEST_F(ObserveServiceTest, EachReadOfABatchHasItsOwnResult) {
  Start();
  v1::ObserveRequest request;
  *request.add_reads() = Equal();
  *request.add_reads() = Equal();
  request.mutable_reads(1)->mutable_decision()->append("x");
  *request.add_reads() = Equal();
  v1::ObserveResponse response;
  ASSERT_TRUE(Observe(request, &response).ok());
  ASSERT_EQ(response.results_size(), 3);
  EXPECT_EQ(response.results(0).judgement().verdict(), "matched");
  EXPECT_EQ(response.results(1).error().code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(response.results(1).error().message(), StartsWith("decision: not one of this service's"));
  EXPECT_EQ(response.results(2).judgement().verdict(), "matched");
  EXPECT_EQ(ledger_.totals().counts.matched, 2u);
}

TEST_F(ObserveServiceTest, AMessageThatCannotBeReadFailsNoOther) {
  Start();
  v1::Tolerance message;
  message.set_path("/price");
  v1::ObserveRequest request;
  for (const char* control : {"", "\xff"}) {
    v1::ObservedRead& read = *request.add_reads() = Equal();
    read.mutable_candidate()->set_message(message.SerializeAsString());
    read.mutable_control()->set_message(message.SerializeAsString() + control);
  }
  v1::ObserveResponse response;
  ASSERT_TRUE(Observe(request, &response).ok());
  EXPECT_EQ(response.results(0).judgement().verdict(), "matched");
  EXPECT_EQ(response.results(1).error().code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(response.results(1).error().message(), StartsWith("control.message: "));
}

TEST_F(ObserveServiceTest, ABatchHasALimit) {
  Start();
  v1::ObserveRequest request;
  v1::ObserveResponse response;
  EXPECT_EQ(Observe(request, &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  for (int i = 0; i < kReportsMax; ++i) *request.add_reads() = Equal();
  EXPECT_TRUE(Observe(request, &response).ok());
  EXPECT_EQ(response.results_size(), kReportsMax);
  *request.add_reads() = Equal();
  const grpc::Status refused = Observe(request, &response);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.error_message(), HasSubstr("reads: expected 1 to 64"));
}

TEST_F(ObserveServiceTest, RefusesWhatItHasNoPlaceFor) {
  Start({.decisions_max = 0, .reports_max = 0});
  v1::DecideResponse decided;
  EXPECT_EQ(Decide("acme", &decided).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  v1::ObserveResponse response;
  EXPECT_EQ(Observe({}, &response).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(ObserveServiceTest, AReplicaThatShutsDownIsUnavailable) {
  Start();
  v1::ObserveRequest request;
  *request.add_reads() = Equal();
  observer_.Shutdown();
  v1::ObserveResponse response;
  EXPECT_EQ(Observe(request, &response).error_code(), grpc::StatusCode::UNAVAILABLE);
  v1::DecideResponse decided;
  EXPECT_EQ(Decide("nobody", &decided).error_code(), grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace shadowline::server
