// The port for machines that watch a replica, and what they are told.
#include "server/rpc/http.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "server/rpc/readiness.h"

namespace shadowline::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

TEST(ReadinessTest, IsReadyOnceEveryConditionIsMet) {
  Readiness readiness({"database", "flags"});
  EXPECT_FALSE(readiness.ready());
  EXPECT_THAT(readiness.conditions(), ElementsAre(Pair("database", "not known yet"), Pair("flags", "not known yet")));
  readiness.SetMet("database");
  EXPECT_FALSE(readiness.ready());
  readiness.SetMet("flags");
  EXPECT_TRUE(readiness.ready());
  readiness.SetUnmet("database", "connection refused");
  EXPECT_FALSE(readiness.ready());
  EXPECT_THAT(readiness.conditions(), ElementsAre(Pair("database", "connection refused"), Pair("flags", "")));
}

TEST(ReadinessTest, AConditionMayBeAddedLater) {
  Readiness readiness({});
  EXPECT_TRUE(readiness.ready());
  readiness.SetUnmet("drain", "shutting down");
  EXPECT_FALSE(readiness.ready());
}

TEST(ReadinessTest, TheObserverHearsOfChangesAndOfNothingElse) {
  std::vector<bool> heard;
  Readiness readiness({"database", "flags"}, [&](bool ready) { heard.push_back(ready); });
  readiness.SetMet("database");
  readiness.SetMet("flags");
  readiness.SetMet("flags");
  readiness.SetUnmet("flags", "lease lapsed");
  readiness.SetUnmet("database", "connection refused");
  readiness.SetMet("flags");
  EXPECT_THAT(heard, ElementsAre(true, false));
}

TEST(ReadinessTest, TheObserverMayChangeAConditionItself) {
  Readiness* self = nullptr;
  std::vector<bool> heard;
  Readiness readiness({"database"}, [&](bool ready) {
    heard.push_back(ready);
    if (ready) self->SetUnmet("database", "away again");
  });
  self = &readiness;
  readiness.SetMet("database");
  EXPECT_THAT(heard, ElementsAre(true, false));
}

TEST(ReadinessTest, WhoeverChangesItTheLastWordIsTheTruth) {
  std::atomic<bool> last{false};
  Readiness readiness({"a", "b"}, [&](bool ready) { last = ready; });
  std::vector<std::thread> threads;
  for (const char* name : {"a", "b"}) {
    threads.emplace_back([&readiness, name] {
      for (int i = 0; i < 1000; ++i) {
        readiness.SetUnmet(name, "flapping");
        readiness.SetMet(name);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(readiness.ready());
  EXPECT_TRUE(last);
}

class HttpPortTest : public testing::Test {
 protected:
  HttpPortTest() {
    auto port = HttpPort::Start("127.0.0.1", 0, &metrics_, &readiness_);
    EXPECT_TRUE(port.ok()) << port.status();
    http_ = *std::move(port);
    client_ = std::make_unique<httplib::Client>("127.0.0.1", http_->port());
  }

  base::Metrics metrics_;
  Readiness readiness_{{"database", "catalog"}};
  std::unique_ptr<HttpPort> http_;
  std::unique_ptr<httplib::Client> client_;
};

TEST_F(HttpPortTest, AnswersWhetherTheProcessLives) {
  const auto reply = client_->Get("/healthz");
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->status, 200);
}

TEST_F(HttpPortTest, SaysWhatKeepsItFromBeingReady) {
  readiness_.SetMet("catalog");
  readiness_.SetUnmet("database", "connection refused");
  auto reply = client_->Get("/readyz");
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->status, 503);
  EXPECT_EQ(reply->body, "catalog: ok\ndatabase: connection refused\n");

  readiness_.SetMet("database");
  reply = client_->Get("/readyz");
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->status, 200);
}

TEST_F(HttpPortTest, ShowsEveryMetric) {
  metrics_.AddCounter("shadowline_test_total", "A counter.", {{"kind", "x"}})->Add(3);
  const auto reply = client_->Get("/metrics");
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->status, 200);
  EXPECT_THAT(reply->get_header_value("Content-Type"), HasSubstr("version=0.0.4"));
  EXPECT_THAT(reply->body, HasSubstr("shadowline_test_total{kind=\"x\"} 3"));
}

TEST_F(HttpPortTest, RefusesWhatItDoesNotServe) {
  auto reply = client_->Get("/");
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->status, 404);
  reply = client_->Post("/metrics", "x", "text/plain");
  ASSERT_TRUE(reply);
  EXPECT_GE(reply->status, 400);
}

TEST_F(HttpPortTest, APortThatIsTakenIsAnError) {
  const auto second = HttpPort::Start("127.0.0.1", http_->port(), &metrics_, &readiness_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("http_listen: 127.0.0.1:"));
}

TEST_F(HttpPortTest, StopsTwiceAndAtOnce) {
  http_->Stop();
  http_->Stop();
  EXPECT_FALSE(client_->Get("/healthz"));
}

TEST_F(HttpPortTest, ConnectionsThatAskNothingDoNotKeepItFromAnswering) {
  std::vector<int> idle;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(http_->port()));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (int i = 0; i < 4; ++i) {
    idle.push_back(socket(AF_INET, SOCK_STREAM, 0));
    ASSERT_EQ(connect(idle.back(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  client_->set_read_timeout(20);
  const auto reply = client_->Get("/healthz");
  for (const int descriptor : idle) close(descriptor);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->status, 200);
}

}  // namespace
}  // namespace shadowline::server
