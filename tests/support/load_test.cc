// The load neither waits for a server that stalls nor leaves its stalling out of the figures.
#include "tests/support/load.h"

#include <gtest/gtest.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"

namespace shadowline::support {
namespace {

// Answers each read at once, except those of the tenant "stuck", which it keeps until it is released.
class StuckServer final : public shadowline::v1::ReadService::Service {
 public:
  StuckServer() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  std::shared_ptr<grpc::Channel> Connect() const {
    return grpc::CreateChannel(absl::StrCat("127.0.0.1:", port_), grpc::InsecureChannelCredentials());
  }
  void Release() {
    base::MutexLock lock(&mutex_);
    released_ = true;
  }
  grpc::Status Read(grpc::ServerContext*, const shadowline::v1::ReadRequest* request,
                    shadowline::v1::ReadResponse*) override {
    if (request->tenant() != "stuck") return grpc::Status::OK;
    base::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&released_));
    return grpc::Status::OK;
  }

 private:
  base::Mutex mutex_;
  bool released_ ABSL_GUARDED_BY(mutex_) = false;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

class OpenLoopTest : public testing::Test {
 protected:
  OpenLoopTest() {
    stuck_.set_tenant("stuck");
    quick_.set_tenant("quick");
  }

  base::SystemClock clock_;
  StuckServer server_;
  shadowline::v1::ReadRequest stuck_;
  shadowline::v1::ReadRequest quick_;
};

TEST_F(OpenLoopTest, AReadThatStallsDelaysNoOtherAndKeepsItsWholeLatency) {
  std::vector<absl::Duration> latencies(200);
  absl::Duration first_due;
  absl::Duration release_due;
  std::atomic<size_t> answered{0};
  std::atomic<size_t> asked{0};
  OpenLoop load(
      {.channels = {server_.Connect()}, .rate = 2000}, &clock_,
      [&] {
        const size_t id = std::min<size_t>(asked++, latencies.size() - 1);
        return Question{id, id == 0 ? &stuck_ : &quick_};
      },
      [&](const Reply& reply) {
        EXPECT_TRUE(reply.status.ok());
        EXPECT_LE(reply.due, reply.sent);
        latencies[reply.id] = reply.latency();
        if (reply.id == 0) first_due = reply.due;
        if (++answered != 150) return;
        // All others are answered while the first is stuck.
        EXPECT_EQ(latencies[0], absl::ZeroDuration());
        release_due = reply.due;
        server_.Release();
      });
  base::Mutex mutex;
  base::MutexLock lock(&mutex);
  const auto enough = +[](std::atomic<size_t>* count) { return *count >= 160; };
  while (!mutex.AwaitWithTimeout(absl::Condition(enough, &answered), absl::Milliseconds(1))) {
  }
  load.Stop();
  EXPECT_EQ(load.sent(), answered);
  EXPECT_GT(latencies[0], release_due - first_due);
  EXPECT_GT(release_due - first_due, absl::Milliseconds(20));
  EXPECT_EQ(load.dropped(), 0);
}

TEST_F(OpenLoopTest, WhatIsDueBeyondTheLimitIsDroppedAndCounted) {
  size_t answered = 0;
  OpenLoop load(
      {.channels = {server_.Connect()}, .rate = 2000, .outstanding = 5}, &clock_,
      [&] {
        return Question{0, &stuck_};
      },
      [&](const Reply&) { ++answered; });
  base::Mutex mutex;
  base::MutexLock lock(&mutex);
  const auto dropped = +[](OpenLoop* l) { return l->dropped() >= 10; };
  while (!mutex.AwaitWithTimeout(absl::Condition(dropped, &load), absl::Milliseconds(1))) {
  }
  EXPECT_EQ(load.sent(), 5);
  server_.Release();
  load.Stop();
  EXPECT_EQ(load.sent(), answered);
}

TEST_F(OpenLoopTest, AClosedLoopAnswersAsManyReadsAsItWasAskedFor) {
  std::atomic<int> asked{0};
  std::atomic<int> answered{0};
  ClosedLoop load(
      {.channels = {server_.Connect()}, .threads = 2, .outstanding = 5, .reads = 1001}, &clock_,
      [&](size_t) {
        return Question{static_cast<size_t>(asked++), &quick_};
      },
      [&](size_t, const Reply& reply) {
        EXPECT_TRUE(reply.status.ok());
        EXPECT_LE(reply.sent, reply.received);
        ++answered;
      });
  load.Wait();
  EXPECT_EQ(asked, 1001);
  EXPECT_EQ(answered, 1001);
}

TEST_F(OpenLoopTest, AClosedLoopHasNoMoreUnderWayThanItMay) {
  std::atomic<int> asked{0};
  std::atomic<int> answered{0};
  ClosedLoop load(
      {.channels = {server_.Connect()}, .outstanding = 3}, &clock_,
      [&](size_t) {
        ++asked;
        return Question{0, &stuck_};
      },
      [&](size_t, const Reply&) { ++answered; });
  base::Mutex mutex;
  base::MutexLock lock(&mutex);
  const auto full = +[](std::atomic<int>* count) { return *count >= 3; };
  while (!mutex.AwaitWithTimeout(absl::Condition(full, &asked), absl::Milliseconds(1))) {
  }
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(answered, 0);
  server_.Release();
  load.Stop();
  EXPECT_EQ(asked, answered);
}

}  // namespace
}  // namespace shadowline::support
