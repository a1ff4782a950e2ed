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

#include "absl/strings/match.h"
#include "absl/synchronization/notification.h"
#include "server/rpc/read_service.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;
using shadowline::v1::ReadRequest;
using shadowline::v1::ReadResponse;

// Answers with the tenant's name; holds the reads of tenants "held..." until they are released.
class EchoReader final : public Reader {
 public:
  explicit EchoReader(Lane* lane) : lane_(lane) {}

  struct Echo final : Prepared {
    explicit Echo(std::string what) : tenant(std::move(what)) {}
    std::string Question() const override { return tenant; }
    const std::string tenant;
  };

  absl::StatusOr<std::unique_ptr<Prepared>> Prepare(const ReadRequest& request) override {
    if (request.tenant() == "unknown") return absl::NotFoundError("tenant unknown: not in the catalog");
    return std::make_unique<Echo>(request.tenant());
  }
  void Start(std::unique_ptr<Prepared> read, ReadResponse* response, absl::Duration timeout, Done done) override {
    last_timeout = timeout;
    response->set_found(true);
    response->set_body(read->Question());
    if (!absl::StartsWith(response->body(), "held")) return done(absl::OkStatus());
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
    batch_reader_ = std::make_unique<BatchReader>(BatchReader::Options(), reader_.get(), &metrics_);
    service_->Serve(lane_.get(), reader_.get(), batch_reader_.get());
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

  grpc::Status BatchRead(const std::vector<std::string>& tenants, v1::BatchReadResponse* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    v1::BatchReadRequest request;
    for (const std::string& tenant : tenants) request.add_reads()->set_tenant(tenant);
    return stub_->BatchRead(&context, request, response);
  }

  base::SystemClock clock_;
  base::Metrics metrics_;
  std::unique_ptr<ReadService> service_;
  std::unique_ptr<Lane> lane_;
  std::unique_ptr<EchoReader> reader_;
  std::unique_ptr<BatchReader> batch_reader_;
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

TEST_F(LaneTest, ABatchIsAnsweredInOrderItsErrorsInTheirPlaces) {
  Start({});
  v1::BatchReadResponse response;
  ASSERT_TRUE(BatchRead({"a", "unknown", "b", "a"}, &response).ok());
  ASSERT_EQ(response.results_size(), 4);
  EXPECT_EQ(response.results(0).answer().body(), "a");
  EXPECT_EQ(response.results(1).error().code(), static_cast<int>(grpc::StatusCode::NOT_FOUND));
  EXPECT_EQ(response.results(1).error().message(), "tenant unknown: not in the catalog");
  EXPECT_EQ(response.results(2).answer().body(), "b");
  EXPECT_EQ(response.results(3).answer().body(), "a");
  EXPECT_GT(reader_->last_timeout, absl::Seconds(20));
}

TEST_F(LaneTest, ABatchTakesAsManyPlacesAsItHasDifferentReads) {
  Start({.in_flight_max = 3});
  reader_->expected_held = 2;
  std::thread client([this] {
    v1::BatchReadResponse response;
    EXPECT_TRUE(BatchRead({"held1", "held2", "held1", "held2", "unknown"}, &response).ok());
  });
  reader_->all_held.WaitForNotification();
  v1::BatchReadResponse response;
  const grpc::Status two = BatchRead({"a", "b"}, &response);
  EXPECT_EQ(two.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(two.error_message().find("too many reads in flight"), std::string::npos) << two.error_message();
  EXPECT_TRUE(BatchRead({"a", "a"}, &response).ok()) << "there is one place left";
  ReadResponse one;
  EXPECT_TRUE(Read("a", &one).ok());
  reader_->Release();
  client.join();
  EXPECT_TRUE(BatchRead({"a", "b", "c"}, &response).ok()) << "places are not given back";
  EXPECT_EQ(BatchRead({"a", "b", "c", "d"}, &response).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(LaneTest, ABatchHasOneReadAtLeastAnd256AtMost) {
  Start({});
  v1::BatchReadResponse response;
  for (const size_t count : {0, 257}) {
    const grpc::Status status = BatchRead(std::vector<std::string>(count, "a"), &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_NE(status.error_message().find("expected 1 to 256"), std::string::npos) << status.error_message();
  }
  ASSERT_TRUE(BatchRead(std::vector<std::string>(256, "a"), &response).ok());
  EXPECT_EQ(response.results_size(), 256);
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
