// A near cache on the client tracking of a real Redis, whose connections are killed, frozen and refused.
#include "cache/redis/near_feed.h"

#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/event_loop.h"
#include "cache/near/near_cache.h"
#include "tests/cache/redis_client.h"
#include "tests/support/private_servers.h"

namespace shadowline::cache {
namespace {

const std::string kFill(kTokenBytes, 'f');

// A replica's lane (the near cache, its feed and a loop) and another replica that writes.
class FeedWorld {
 public:
  explicit FeedWorld(const std::vector<std::string>& redis_arguments = {}, const std::string& user = "",
                     const std::string& password = "")
      : redis_(redis_arguments) {
    RedisNearFeed::Options options;
    options.redis.address = RedisAddress::Parse(absl::StrCat("unix:", redis_.socket())).value();
    options.redis.user = user;
    options.redis.password = password;
    options.redis.command_timeout = absl::Seconds(10);
    options.redis.reconnect_min = absl::Milliseconds(1);
    options.idle_interval = absl::Milliseconds(1);
    options.retry = absl::Milliseconds(1);
    feed_ = std::make_unique<RedisNearFeed>(options, &loop_, &clock_, &random_, &near_);
    RedisStore::Options writer;
    writer.address = options.redis.address;
    writer.command_timeout = absl::Seconds(10);
    writer_ = std::make_unique<RedisStore>(writer, &loop_, &clock_, &random_);
    loop_.Attach(writer_.get());
    loop_.Post([this] { feed_->Start(&loop_); });
    while (!writer_->stats().up.load() || !feed_->store()->stats().up.load()) Turn();
  }
  ~FeedWorld() {
    Drive([this](std::function<void()> finished) {
      feed_->Shutdown();
      writer_->Shutdown();
      finished();
    });
    loop_.Stop();
  }

  // Runs `start` on the loop, and waits until the function it was given is called.
  void Drive(std::function<void(std::function<void()>)> start) {
    std::promise<void> done;
    loop_.Post([&] { start([&done] { done.set_value(); }); });
    done.get_future().wait();
  }
  void Turn() {
    Drive([](std::function<void()> finished) { finished(); });
  }
  // The loop goes on for so long.
  void Pass(absl::Duration time) {
    Drive([this, time](std::function<void()> finished) { loop_.PostAfter(time, std::move(finished)); });
  }

  // Writes `key` behind the fence of `tag`, as it stands or as it is made.
  void Fill(const std::string& key, const std::string& fence_key, const std::string& envelope) {
    Drive([&](std::function<void()> finished) {
      writer_->EnsureFences({fence_key}, absl::Minutes(1), [&, finished](absl::StatusOr<Fences> fences) {
        writer_->Put(key, "", {kFill, fences->tokens, envelope, absl::Minutes(1)},
                     [finished](absl::StatusOr<bool> put) {
                       EXPECT_TRUE(put.ok() && *put);
                       finished();
                     });
      });
    });
  }
  // As a read of a near endpoint does; false: it was not kept.
  bool ReadIntoNear(const std::string& key, const std::string& fence_key) {
    bool kept = false;
    Drive([&](std::function<void()> finished) {
      const NearCache::Ticket ticket = near_.Begin();
      feed_->store()->Read(key, {fence_key}, [&, ticket, finished](absl::StatusOr<Found> found) {
        if (found.ok() && Admits(*found)) {
          NearCache::Value value;
          value.answer.body = found->slot.bytes;
          kept = near_.Insert(ticket, key, std::move(value), {fence_key}, absl::InfiniteDuration());
        }
        finished();
      });
    });
    return kept;
  }
  bool Served(const std::string& key) {
    bool served = false;
    Drive([&](std::function<void()> finished) {
      served = near_.Lookup(key, clock_.Steady()) != nullptr;
      finished();
    });
    return served;
  }
  // Until it is, which takes a PING: asking is what sends them.
  void AwaitServed(const std::string& key, const std::string& fence_key) {
    while (!Served(key)) ReadIntoNear(key, fence_key);
  }
  void ReplaceFence(const std::string& fence_key) {
    Drive([&](std::function<void()> finished) {
      writer_->ReplaceFence(fence_key, random_.Id(), clock_.Now(), {}, absl::Minutes(1),
                            [finished](absl::Status replaced) {
                              EXPECT_TRUE(replaced.ok()) << replaced;
                              finished();
                            });
    });
  }
  // Ends those of Redis' clients whose line in CLIENT LIST has `what`, and says how many.
  int KillClients(const std::string& what) {
    RedisClient client(redis_.socket());
    int killed = 0;
    for (absl::string_view line : absl::StrSplit(client.Command({"CLIENT", "LIST"}).text, '\n', absl::SkipEmpty())) {
      if (!absl::StrContains(line, what)) continue;
      const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
      killed += static_cast<int>(client.Command({"CLIENT", "KILL", "ID", words[0].substr(3)}).integer);
    }
    return killed;
  }

  const NearCache::Stats& stats() const { return near_.stats(); }
  support::PrivateRedis* redis() { return &redis_; }
  Reply Command(std::initializer_list<absl::string_view> command) {
    return RedisClient(redis_.socket()).Command(command);
  }

 private:
  support::PrivateRedis redis_;
  base::SystemClock clock_;
  base::Random random_{5};
  base::EventLoop loop_{&clock_, "near-test"};
  NearCache near_{{.max_bytes = 1 << 20}};
  std::unique_ptr<RedisNearFeed> feed_;
  std::unique_ptr<RedisStore> writer_;
};

TEST(NearFeedTest, ServesWhatItsStoreHasReadUntilItIsChanged) {
  FeedWorld w;
  w.Fill("key", "fence", "envelope");
  w.AwaitServed("key", "fence");
  for (int round = 0; round < 100; ++round) {
    w.ReplaceFence("fence");
    // This is when an invalidation is acknowledged.
    w.Pass(kNearGrace);
    EXPECT_FALSE(w.Served("key"));
    EXPECT_FALSE(w.ReadIntoNear("key", "fence")) << "it is no answer any more";
    w.Command({"DEL", "key"});
    w.Fill("key", "fence", "envelope");
    w.AwaitServed("key", "fence");
  }
  EXPECT_GE(w.stats().invalidated.load(), 100u);
}

TEST(NearFeedTest, AKeyThatIsDeletedOrExpiresIsServedNoLonger) {
  FeedWorld w;
  for (const bool expires : {false, true}) {
    w.Fill("key", "fence", "envelope");
    w.AwaitServed("key", "fence");
    expires ? w.Command({"PEXPIRE", "key", "1"}) : w.Command({"DEL", "key"});
    w.Pass(kNearGrace);
    EXPECT_FALSE(w.Served("key"));
  }
}

TEST(NearFeedTest, FlushingRedisDropsAll) {
  for (const char* command : {"FLUSHALL", "FLUSHDB"}) {
    FeedWorld w;
    w.Fill("key", "fence", "envelope");
    w.AwaitServed("key", "fence");
    w.Command({command});
    w.Pass(kNearGrace);
    EXPECT_FALSE(w.Served("key"));
    EXPECT_EQ(w.stats().entries.load(), 0u);
  }
}

TEST(NearFeedTest, WhicheverConnectionIsLostNothingIsServedThatChangedMeanwhile) {
  // In CLIENT LIST: of a subscription, of a client whose reads are tracked.
  for (const char* connection : {" flags=P", " flags=t"}) {
    SCOPED_TRACE(connection);
    FeedWorld w;
    for (int round = 0; round < 20; ++round) {
      w.Command({"DEL", "key"});
      w.Fill("key", "fence", "envelope");
      w.AwaitServed("key", "fence");
      EXPECT_EQ(w.KillClients(connection), 1);
      w.ReplaceFence("fence");
      w.Pass(kNearGrace);
      EXPECT_FALSE(w.Served("key"));
    }
  }
}

TEST(NearFeedTest, ARedisThatHangsProvesNothing) {
  FeedWorld w;
  w.Fill("key", "fence", "envelope");
  w.AwaitServed("key", "fence");
  w.redis()->Freeze();
  w.Pass(kNearGrace);
  EXPECT_FALSE(w.Served("key"));
  EXPECT_EQ(w.stats().entries.load(), 1u) << "it is not lost";
  w.redis()->Thaw();
  while (!w.Served("key")) w.Turn();
}

TEST(NearFeedTest, ARestartedRedisIsTrackedAnew) {
  FeedWorld w;
  w.Fill("key", "fence", "envelope");
  w.AwaitServed("key", "fence");
  w.redis()->Kill();
  while (w.stats().tracked.load()) w.Turn();
  EXPECT_EQ(w.stats().entries.load(), 0u);
  w.redis()->Start();
  while (!w.stats().tracked.load()) w.Turn();
  EXPECT_FALSE(w.Served("key"));
}

TEST(NearFeedTest, WhereRedisRefusesTrackingNothingIsKeptAndReadsGoOn) {
  FeedWorld w({"--user", "reader", "on", ">secret", "~*", "&*", "+@all", "-client|tracking"}, "reader", "secret");
  w.Fill("key", "fence", "envelope");
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(w.ReadIntoNear("key", "fence"));
  EXPECT_FALSE(w.stats().tracked.load());
  w.Command({"ACL", "SETUSER", "reader", "+client|tracking"});
  w.AwaitServed("key", "fence");
}

}  // namespace
}  // namespace shadowline::cache
