// What base promises: executors that run everything once and in order, hashes and random numbers that stay what they
// are.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/executor.h"
#include "base/hash.h"
#include "base/metrics.h"
#include "base/random.h"
#include "base/status.h"

namespace shadowline::base {
namespace {

TEST(ThreadPoolTest, RunsEveryTaskOnceEvenWhileItEnds) {
  std::atomic<int> ran{0};
  {
    ThreadPool pool({.name = "test", .threads = 3, .queue_limit = 1000});
    for (int i = 0; i < 1000; ++i) ASSERT_TRUE(pool.TrySubmit([&](size_t) { ++ran; }));
  }
  EXPECT_EQ(ran, 1000);
}

TEST(ThreadPoolTest, AFullQueueRefuses) {
  std::promise<void> begun, release;
  ThreadPool pool({.name = "test", .threads = 1, .queue_limit = 2});
  ASSERT_TRUE(pool.TrySubmit([&](size_t) {
    begun.set_value();
    release.get_future().wait();
  }));
  begun.get_future().wait();
  EXPECT_TRUE(pool.TrySubmit([](size_t) {}));
  EXPECT_TRUE(pool.TrySubmit([](size_t) {}));
  EXPECT_FALSE(pool.TrySubmit([](size_t) {}));
  release.set_value();
}

TEST(ThreadPoolTest, EachTaskLearnsItsThread) {
  Mutex mutex;
  std::set<size_t> seen;
  {
    ThreadPool pool({.name = "test", .threads = 4, .queue_limit = 400});
    for (int i = 0; i < 400; ++i) {
      ASSERT_TRUE(pool.TrySubmit([&](size_t thread) {
        MutexLock lock(&mutex);
        seen.insert(thread);
      }));
    }
  }
  EXPECT_LE(*seen.rbegin(), 3u);
}

TEST(EventLoopTest, RunsTasksOfOneThreadInTheirOrder) {
  SystemClock clock;
  EventLoop loop(&clock, "test");
  std::vector<int> order;
  std::promise<void> done;
  for (int i = 0; i < 100; ++i) loop.Post([&order, i] { order.push_back(i); });
  loop.Post([&] { done.set_value(); });
  done.get_future().wait();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(EventLoopTest, TimersRunInTheOrderOfTheirTimeNotBeforeIt) {
  SystemClock clock;
  EventLoop loop(&clock, "test");
  std::vector<int> order;
  std::promise<void> done;
  const absl::Duration start = clock.Steady();
  absl::Duration end;
  loop.PostAfter(absl::Milliseconds(20), [&] {
    order.push_back(2);
    end = clock.Steady();
    done.set_value();
  });
  loop.PostAfter(absl::Milliseconds(10), [&] { order.push_back(1); });
  done.get_future().wait();
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
  EXPECT_GE(end - start, absl::Milliseconds(20));
}

TEST(EventLoopTest, TasksAfterTheEndAreDestroyedWithoutBeingRun) {
  SystemClock clock;
  auto owned = std::make_shared<int>(1);
  bool ran = false;
  {
    EventLoop loop(&clock, "test");
    loop.Stop();
    loop.Post([owned, &ran] { ran = true; });
  }
  EXPECT_FALSE(ran);
  EXPECT_EQ(owned.use_count(), 1);
}

// A pipe's reading end, as a stand-in for a connection.
class Pipe final : public Pollable {
 public:
  Pipe() { EXPECT_EQ(pipe(ends_), 0); }
  ~Pipe() override {
    close(ends_[0]);
    close(ends_[1]);
  }
  int Descriptor() const override { return ends_[0]; }
  short Events() const override { return 1; }  // POLLIN
  void OnReady(short) override {
    char byte;
    EXPECT_EQ(read(ends_[0], &byte, 1), 1);
    received_ += byte;
    got.set_value();
  }
  void Flush() override { flushed_ = true; }
  bool Busy() const override { return false; }
  void Send(char byte) { EXPECT_EQ(write(ends_[1], &byte, 1), 1); }

  std::promise<void> got;
  std::string received_;
  bool flushed_ = false;

 private:
  int ends_[2];
};

TEST(EventLoopTest, AttachedDescriptorsAreServed) {
  SystemClock clock;
  Pipe pipe;
  EventLoop loop(&clock, "test");
  loop.Attach(&pipe);
  pipe.Send('a');
  pipe.got.get_future().wait();
  loop.Stop();
  EXPECT_EQ(pipe.received_, "a");
  EXPECT_TRUE(pipe.flushed_);
}

TEST(SystemClockTest, SteadyTimeNeverGoesBack) {
  SystemClock clock;
  absl::Duration last = clock.Steady();
  for (int i = 0; i < 1000; ++i) {
    const absl::Duration now = clock.Steady();
    EXPECT_GE(now, last);
    last = now;
  }
}

// Keys and shares outlive a release: these values must never change.
TEST(HashTest, ValuesThatAreStoredStayTheSame) {
  EXPECT_EQ(Hash64("shadowline"), Hash64("shadowline"));
  EXPECT_EQ(Digest128("abc"),
            absl::string_view("\xba\x78\x16\xbf\x8f\x01\xcf\xea\x41\x41\x40\xde\x5d\xae\x22\x23", 16));
  EXPECT_EQ(KeyedDigest("key", "The quick brown fox jumps over the lazy dog"), "f7bc83f430538424");
}

TEST(HashTest, SharesAreEvenAndLargerOnesContainSmallerOnes) {
  int below_tenth = 0;
  for (int i = 0; i < 100'000; ++i) below_tenth += DrawPpm("salt", std::to_string(i)) < 100'000;
  EXPECT_NEAR(below_tenth, 10'000, 500);
  EXPECT_NE(DrawPpm("salt", "7"), DrawPpm("pepper", "7"));
}

TEST(RandomTest, TheSameSeedGivesTheSameNumbers) {
  Random a(42), b(42), c(43);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a.Next(), b.Next());
  EXPECT_NE(a.Next(), c.Next());
  EXPECT_EQ(a.Id().size(), 16u);
  for (int i = 0; i < 1000; ++i) EXPECT_LT(a.Below(7), 7u);
}

TEST(MetricsTest, ExposesWhatWasCounted) {
  Metrics metrics;
  Counter* const counter = metrics.AddCounter("shadowline_test_total", "Help.", {{"side", "cache"}});
  counter->Add();
  counter->Add(2);
  EXPECT_EQ(metrics.AddCounter("shadowline_test_total", "Help.", {{"side", "cache"}}), counter);
  EXPECT_NE(metrics.Expose().find("shadowline_test_total{side=\"cache\"} 3"), std::string::npos) << metrics.Expose();
}

TEST(StatusTest, AnAnnotationKeepsTheCode) {
  EXPECT_TRUE(Annotate(absl::OkStatus(), "x").ok());
  const absl::Status status = Annotate(absl::NotFoundError("no row"), "catalog");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "catalog: no row");
}

}  // namespace
}  // namespace shadowline::base
