// The hot path's machinery over real gRPC: calls come in, are answered by the lane's reader, and end when the server
// does.
#include "server/rpc/lane.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "server/rpc/read_service.h"

namespace shadowline::server {
namespace {

using shadowline::v1::ReadRequest;
using shadowline::v1::ReadResponse;

// Answers with the tenant's name; holds the calls of tenant "held" until they are released.
class EchoReader final : public Reader {
 public:
  explicit EchoReader(Lane* lane) : lane_(lane) {}

  void Read(const ReadRequest& request, ReadResponse* response, absl::Duration timeout, Done done) override {
    last_timeout = timeout;
    if (request.tenant() == "unknown") return done(absl::NotFoundError("tenant unknown: not in the catalog"));
    response->set_found(true);
    response->set_body(request.tenant());
    if (request.tenant() != "held") return done(absl::OkStatus());
    held_.push_back(std::move(done));
    if (held_.size() == expected_held) all_held.Notify();
  }

  // From another thread, as a database's answer arrives.
  void Release() {
    lane_->Post([this] {
      for (Done& done : std::exchange(held_, {})) done(absl::OkStatus());
    });
  }

  size_t expected_held = 0;
  absl::Notification all_held;
  absl::Duration last_timeout;

 private:
  Lane* const lane_;
  std::vector<Done> held_;
};

class LaneTest : public testing::Test {
 protected:
  void Start(ReadService::Options options) {
    service_ = std::make_unique<ReadService>(options, &metrics_);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_->service());
    lane_ = std::make_unique<Lane>(&clock_, "lane", builder.AddCompletionQueue());
    reader_ = std::make_unique<EchoReader>(lane_.get());
    server_ = builder.BuildAndStart();
    service_->Serve(lane_.get(), reader_.get());
    lane_->Start();
    stub_ = shadowline::v1::ReadService::NewStub(
        grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials()));
  }

  void TearDown() override {
    server_->Shutdown();
    lane_->Stop();
  }

  grpc::Status Read(const std::string& tenant, ReadResponse* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    ReadRequest request;
    request.set_tenant(tenant);
    return stub_->Read(&context, request, response);
  }

  base::SystemClock clock_;
  base::Metrics metrics_;
  std::unique_ptr<ReadService> service_;
  std::unique_ptr<Lane> lane_;
  std::unique_ptr<EchoReader> reader_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<shadowline::v1::ReadService::Stub> stub_;
};

TEST_F(LaneTest, AnswersManyCallsWithoutMixingThemUp) {
  Start({});
  std::vector<std::thread> clients;
  for (int c = 0; c < 4; ++c) {
    clients.emplace_back([this, c] {
      for (int i = 0; i < 250; ++i) {
        const std::string tenant = std::to_string(c) + "-" + std::to_string(i);
        ReadResponse response;
        ASSERT_TRUE(Read(tenant, &response).ok());
        ASSERT_EQ(response.body(), tenant);
      }
    });
  }
  for (std::thread& client : clients) client.join();
}

TEST_F(LaneTest, AnErrorIsAStatusWithItsMessage) {
  Start({});
  ReadResponse response;
  const grpc::Status status = Read("unknown", &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), "tenant unknown: not in the catalog");
}

TEST_F(LaneTest, TheCallersDeadlineReachesTheReader) {
  Start({});
  ReadResponse response;
  ASSERT_TRUE(Read("a", &response).ok());
  EXPECT_GT(reader_->last_timeout, absl::Seconds(20));
  EXPECT_LT(reader_->last_timeout, absl::Seconds(31));  // gRPC rounds what it sends upwards.
}

TEST_F(LaneTest, CallsBeyondTheLimitAreRefusedAndThoseInFlightAreAnswered) {
  Start({.in_flight_max = 2});
  reader_->expected_held = 2;
  std::vector<std::thread> clients;
  for (int i = 0; i < 2; ++i) {
    clients.emplace_back([this] {
      ReadResponse response;
      EXPECT_TRUE(Read("held", &response).ok());
    });
  }
  reader_->all_held.WaitForNotification();
  ReadResponse response;
  EXPECT_EQ(Read("third", &response).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  reader_->Release();
  for (std::thread& client : clients) client.join();
  EXPECT_TRUE(Read("fourth", &response).ok());
  EXPECT_NE(metrics_.Expose().find("shadowline_reads_refused_total 1"), std::string::npos);
}

TEST_F(LaneTest, TasksFromOtherThreadsRunWhileNoCallArrives) {
  Start({});
  absl::Notification ran, timer;
  lane_->Post([&] { ran.Notify(); });
  lane_->PostAfter(absl::Milliseconds(5), [&] { timer.Notify(); });
  ran.WaitForNotification();
  timer.WaitForNotification();
}

}  // namespace
}  // namespace shadowline::server
