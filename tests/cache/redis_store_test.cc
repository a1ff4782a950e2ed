// RedisStore against a real Redis that is killed, frozen, locked and lied about.
#include "cache/redis/redis_store.h"

#include <poll.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/executor.h"
#include "gtest/gtest.h"
#include "tests/cache/redis_world.h"
#include "tests/sim/sim.h"
#include "tests/support/private_servers.h"

namespace shadowline::cache {
namespace {

using absl::StatusCode;

// Long enough for a busy machine to answer in time.
constexpr absl::Duration kTimeout = absl::Milliseconds(300);

const std::string kFill(kTokenBytes, 'f');

absl::StatusOr<Slot> Get(RedisWorld* world, const std::string& key) {
  std::optional<absl::StatusOr<Slot>> slot;
  world->Drive([&](std::function<void()> finished) {
    world->store()->Read(key, {}, [&slot, finished](absl::StatusOr<Found> found) {
      slot = found.ok() ? absl::StatusOr<Slot>(std::move(found->slot)) : found.status();
      finished();
    });
  });
  return *std::move(slot);
}

void PutValue(RedisWorld* world, const std::string& key, const std::string& envelope) {
  ASSERT_EQ(world->Command({"SET", key, absl::StrCat("V", kFill, absl::string_view("\0", 1), envelope)}).type,
            Reply::Type::kStatus);
}

TEST(RedisStoreTest, RecoversFromAKilledRedisWithoutARestart) {
  RedisWorld world(kTimeout);
  for (int round = 0; round < 3; ++round) {
    PutValue(&world, "key", absl::StrCat("round ", round));
    EXPECT_EQ(Get(&world, "key")->bytes, absl::StrCat("round ", round));
    world.redis()->Kill();
    EXPECT_EQ(Get(&world, "key").status().code(), StatusCode::kUnavailable);
    EXPECT_EQ(Get(&world, "key").status().code(), StatusCode::kUnavailable);
    EXPECT_FALSE(world.store()->stats().up.load());
    world.redis()->Start();
    world.AwaitUp();
  }
  EXPECT_EQ(world.store()->stats().timeouts.load(), 0u);
  EXPECT_EQ(world.store()->stats().connections.load(), 4u);
}

// A loop that waits on more than sockets looks at a store only while it is busy: a lane without calls.
TEST(RedisStoreTest, ItIsBusyUntilItIsConnected) {
  const support::PrivateRedis redis;
  sim::SimWorld world(1);
  RedisStore::Options options;
  options.address = RedisAddress::Parse(absl::StrCat("127.0.0.1:", redis.port())).value();
  RedisStore store(options, world.executor(), world.clock(), world.random());
  EXPECT_FALSE(store.Busy());
  store.Flush();
  while (!store.stats().up.load()) {
    ASSERT_TRUE(store.Busy());
    pollfd wait{store.Descriptor(), store.Events(), 0};
    ASSERT_EQ(poll(&wait, 1, -1), 1);
    store.OnReady(wait.revents);
    store.Flush();
  }
  EXPECT_FALSE(store.Busy());
  store.Shutdown();
}

TEST(RedisStoreTest, AFrozenRedisCostsOneDeadlineAndThenNothing) {
  RedisWorld world(kTimeout);
  world.redis()->Freeze();
  EXPECT_EQ(Get(&world, "key").status().code(), StatusCode::kDeadlineExceeded);
  // It still accepts connections. Not having answered a PING it is not up, so each of these fails without waiting: one
  // turn of the loop is enough.
  for (int i = 0; i < 100; ++i) {
    bool answered = false;
    world.Drive([&](std::function<void()> finished) {
      EXPECT_FALSE(world.store()->Reachable());
      world.store()->Read("key", {}, [&](absl::StatusOr<Found> slot) {
        answered = true;
        EXPECT_EQ(slot.status().code(), StatusCode::kUnavailable);
      });
      world.loop()->Post(finished);
    });
    EXPECT_TRUE(answered);
  }
  EXPECT_EQ(world.store()->stats().timeouts.load(), 1u);
  world.redis()->Thaw();
  world.AwaitUp();
  world.Drive([&](std::function<void()> finished) {
    EXPECT_TRUE(world.store()->Reachable());
    finished();
  });
  EXPECT_EQ(Get(&world, "key")->kind, Slot::Kind::kAbsent);
}

TEST(RedisStoreTest, SaysWhenItsRedisWasReachedAgainAfterALongWhile) {
  RedisWorld world(kTimeout);
  const base::SystemClock clock;
  const auto reached_again_at = [&world] {
    absl::Time at = absl::InfiniteFuture();
    world.Drive([&](std::function<void()> finished) {
      world.store()->Read("key", {"fence"}, [&at, finished](absl::StatusOr<Found> found) {
        if (found.ok()) at = found->reached_again_at;
        finished();
      });
    });
    return at;
  };
  EXPECT_EQ(reached_again_at(), absl::InfinitePast());
  world.redis()->Freeze();
  Get(&world, "key").IgnoreError();
  const absl::Duration lost = clock.Steady();
  world.Drive([&](std::function<void()> finished) { world.loop()->PostAfter(absl::Milliseconds(600), finished); });
  EXPECT_GT(clock.Steady() - lost, absl::Milliseconds(500));
  const absl::Time thawed = clock.Now();
  world.redis()->Thaw();
  world.AwaitUp();
  EXPECT_GE(reached_again_at(), thawed);
  EXPECT_LE(reached_again_at(), clock.Now());
  // What an application caches was never to be invalidated here.
  absl::Time raw = absl::InfiniteFuture();
  world.Drive([&](std::function<void()> finished) {
    world.store()->ReadRaw("key", [&raw, finished](absl::StatusOr<Found> found) {
      if (found.ok()) raw = found->reached_again_at;
      finished();
    });
  });
  EXPECT_EQ(raw, absl::InfinitePast());
}

TEST(RedisStoreTest, EveryOutstandingCommandFailsWithItsConnection) {
  RedisWorld world(kTimeout);
  world.redis()->Freeze();
  std::vector<StatusCode> codes;
  world.Drive([&](std::function<void()> finished) {
    for (int i = 0; i < 10; ++i) {
      world.store()->Read("key", {}, [&codes, finished](absl::StatusOr<Found> found) {
        codes.push_back(found.status().code());
        if (codes.size() == 10) finished();
      });
    }
  });
  EXPECT_EQ(codes, std::vector<StatusCode>(10, StatusCode::kDeadlineExceeded));
  world.redis()->Thaw();
}

TEST(RedisStoreTest, AReplyThatComesLateIsNeverTakenForAnothers) {
  RedisWorld world(kTimeout);
  for (int i = 0; i < 50; ++i) PutValue(&world, absl::StrCat("key", i), absl::StrCat("value", i));
  for (int round = 0; round < 3; ++round) {
    world.redis()->Freeze();
    EXPECT_EQ(Get(&world, "key0").status().code(), StatusCode::kDeadlineExceeded);
    world.redis()->Thaw();
    world.AwaitUp();
    for (int i = 0; i < 50; ++i) EXPECT_EQ(Get(&world, absl::StrCat("key", i))->bytes, absl::StrCat("value", i));
  }
}

Fences Ensure(RedisWorld* world, const std::vector<std::string>& fence_keys) {
  std::optional<absl::StatusOr<Fences>> fences;
  world->Drive([&](std::function<void()> finished) {
    world->store()->EnsureFences(fence_keys, absl::Minutes(1), [&fences, finished](absl::StatusOr<Fences> ensured) {
      fences = std::move(ensured);
      finished();
    });
  });
  return fences->value();
}

TEST(RedisStoreTest, AFenceOutlivesItsConnectionButNotTheLifeOfItsRedis) {
  RedisWorld world(kTimeout);
  const std::string before = Ensure(&world, {"fence"}).tokens;
  world.redis()->Freeze();
  EXPECT_FALSE(Get(&world, "key").ok());
  world.redis()->Thaw();
  world.AwaitUp();
  EXPECT_EQ(Ensure(&world, {"fence"}).tokens, before);

  // What a restart may have forgotten is not known, so it counts as having forgotten all.
  const std::string bytes = world.Command({"GET", "fence"}).text;
  world.redis()->Kill();
  EXPECT_FALSE(Get(&world, "key").ok());
  world.redis()->Start();
  world.AwaitUp();
  world.Command({"SET", "fence", bytes});
  EXPECT_NE(Ensure(&world, {"fence"}).tokens, before);
}

TEST(RedisStoreTest, ANewLifeAsAMasterIsNoticedOnALivingConnection) {
  RedisStore::Options options;
  options.mark_interval = absl::Milliseconds(1);
  RedisWorld world(options);
  const std::string before = Ensure(&world, {"fence"}).tokens;
  const uint64_t connections = world.store()->stats().connections.load();
  // Somebody else's replica, and a master again.
  const support::PrivateRedis other;
  EXPECT_EQ(world.Command({"REPLICAOF", "127.0.0.1", absl::StrCat(other.port())}).type, Reply::Type::kStatus);
  while (world.store()->stats().up.load()) world.Drive([](std::function<void()> finished) { finished(); });
  EXPECT_FALSE(Get(&world, "key").ok()) << "a replica may be behind its master";
  EXPECT_EQ(world.Command({"REPLICAOF", "NO", "ONE"}).type, Reply::Type::kStatus);
  world.AwaitUp();
  EXPECT_GT(world.store()->stats().connections.load(), connections);
  EXPECT_NE(Ensure(&world, {"fence"}).tokens, before);
}

TEST(RedisStoreTest, ABreakerKeepsReadsFromARedisThatHangsUntilItAnswersAgain) {
  RedisStore::Options options;
  options.command_timeout = kTimeout;
  options.reconnect_min = absl::Milliseconds(1);
  options.breaker = Breaker::Options{.slow = kTimeout, .slow_in_a_row = 1, .warm_up = absl::ZeroDuration()};
  RedisWorld world(options);
  PutValue(&world, "key", "envelope");
  EXPECT_TRUE(Get(&world, "key").ok());
  EXPECT_FALSE(world.store()->stats().broken.load());
  world.redis()->Freeze();
  EXPECT_EQ(Get(&world, "key").status().code(), StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(world.store()->stats().broken.load());
  EXPECT_TRUE(absl::StrContains(Get(&world, "key").status().message(), "breaker is open"));
  world.Drive([&](std::function<void()> finished) {
    EXPECT_FALSE(world.store()->Reachable());
    finished();
  });
  world.redis()->Thaw();
  while (!Get(&world, "key").ok()) {
  }
  while (world.store()->stats().broken.load())
    EXPECT_NE(Get(&world, "key").status().code(), StatusCode::kDeadlineExceeded);
}

TEST(RedisStoreTest, OutstandingCommandsAreBounded) {
  RedisStore::Options options;
  options.outstanding_max = 4;
  options.command_timeout = absl::Seconds(10);
  RedisWorld world(options);
  std::vector<StatusCode> codes;
  world.Drive([&](std::function<void()> finished) {
    for (int i = 0; i < 6; ++i) {
      world.store()->Read("key", {}, [&codes, finished](absl::StatusOr<Found> found) {
        codes.push_back(found.status().code());
        if (codes.size() == 6) finished();
      });
    }
    EXPECT_EQ(world.store()->stats().outstanding.load(), 4u);
  });
  EXPECT_EQ(std::count(codes.begin(), codes.end(), StatusCode::kOk), 4);
  EXPECT_EQ(std::count(codes.begin(), codes.end(), StatusCode::kResourceExhausted), 2);
}

TEST(RedisStoreTest, ShutdownAnswersWhatIsOutstandingAndWhatComesAfter) {
  RedisWorld world;
  world.redis()->Freeze();
  std::vector<StatusCode> codes;
  world.Drive([&](std::function<void()> finished) {
    const auto done = [&codes, finished](absl::StatusOr<Found> found) {
      codes.push_back(found.status().code());
      if (codes.size() == 2) finished();
    };
    world.store()->Read("before", {}, done);
    world.store()->Shutdown();
    world.store()->Read("after", {}, done);
    EXPECT_TRUE(codes.empty()) << "called back inside the call";
  });
  EXPECT_EQ(codes, std::vector<StatusCode>(2, StatusCode::kUnavailable));
}

TEST(RedisStoreTest, KeysOfAnotherTypeAreForeign) {
  RedisWorld world;
  for (const char* key : {"list", "fence", "put"}) world.Command({"LPUSH", key, "element"});
  EXPECT_EQ(Get(&world, "list")->kind, Slot::Kind::kForeign);
  EXPECT_TRUE(Ensure(&world, {"fence"}).complete);
  std::optional<absl::StatusOr<bool>> put;
  world.Drive([&](std::function<void()> finished) {
    world.store()->Put("put", "", {kFill, "", "envelope", absl::Minutes(1)}, [&put, finished](absl::StatusOr<bool> is) {
      put = std::move(is);
      finished();
    });
  });
  EXPECT_TRUE(put->value());
  EXPECT_EQ(Get(&world, "put")->bytes, "envelope");
  EXPECT_TRUE(world.store()->stats().up.load()) << "none of it costs the connection";
}

// Whether a store with these options is up after a few attempts.
bool ComesUp(RedisStore::Options options) {
  base::SystemClock clock;
  base::Random random(3);
  base::EventLoop loop(&clock, "redis-test");
  options.reconnect_min = absl::Milliseconds(1);
  options.connect_timeout = absl::Seconds(10);
  RedisStore store(options, &loop, &clock, &random);
  loop.Attach(&store);
  while (!store.stats().up.load() && store.stats().attempts.load() < 3) {
  }
  loop.Stop();
  return store.stats().up.load();
}

TEST(RedisStoreTest, ConnectsOverTcpByNumberAndByName) {
  support::PrivateRedis redis;
  for (const char* host : {"127.0.0.1", "localhost"}) {
    RedisStore::Options options;
    options.address = RedisAddress::Parse(absl::StrCat(host, ":", redis.port())).value();
    EXPECT_TRUE(ComesUp(options)) << host;
  }
}

TEST(RedisStoreTest, ComesUpOnlyWithTheRightPasswordAndDatabase) {
  support::PrivateRedis redis({"--requirepass", "secret"});
  RedisStore::Options options;
  options.address = RedisAddress::Parse(absl::StrCat("unix:", redis.socket())).value();
  EXPECT_FALSE(ComesUp(options));
  options.password = "wrong";
  EXPECT_FALSE(ComesUp(options));
  options.password = "secret";
  EXPECT_TRUE(ComesUp(options));
  options.user = "default";
  options.database = 3;
  EXPECT_TRUE(ComesUp(options));
  options.database = 99;
  EXPECT_FALSE(ComesUp(options));
}

// Accepts connections one after the other and says the same thing to each, whatever it is asked.
class LyingServer {
 public:
  explicit LyingServer(std::string reply) : path_(folder_.path() + "/socket"), reply_(std::move(reply)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener_, 16), 0);
    thread_ = base::StartThread("lying-server", [this] { Serve(); });
  }
  ~LyingServer() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  std::string address() const { return absl::StrCat("unix:", path_); }

 private:
  void Serve() {
    while (true) {
      const int connection = accept(listener_, nullptr, nullptr);
      if (connection < 0) return;
      send(connection, reply_.data(), reply_.size(), MSG_NOSIGNAL);
      char bytes[256];
      while (recv(connection, bytes, sizeof(bytes), 0) > 0) {
      }
      close(connection);
    }
  }

  support::ScratchFolder folder_{"lying"};
  const std::string path_;
  const std::string reply_;
  int listener_ = -1;
  std::thread thread_;
};

TEST(RedisStoreTest, WhatIsNotRedisNeverComesUp) {
  for (const char* reply : {"HTTP/1.1 400 Bad Request\r\n\r\n", "$5\r\nhello\r\n", ":1\r\n", "*-5\r\n",
                            "*2147483647\r\n", "-NOAUTH Authentication required.\r\n", "$999999999999999999999\r\n"}) {
    LyingServer server(reply);
    RedisStore::Options options;
    options.address = RedisAddress::Parse(server.address()).value();
    EXPECT_FALSE(ComesUp(options)) << reply;
  }
}

TEST(RedisStoreTest, AReplyToNothingCostsTheConnection) {
  LyingServer server("$8\r\nrun_id:1\r\n$28\r\nrole:master\r\nmaster_replid:1\r\n$5\r\nhello\r\n");
  base::SystemClock clock;
  base::Random random(3);
  base::EventLoop loop(&clock, "redis-test");
  RedisStore::Options options;
  options.address = RedisAddress::Parse(server.address()).value();
  options.reconnect_min = absl::Milliseconds(1);
  RedisStore store(options, &loop, &clock, &random);
  loop.Attach(&store);
  while (store.stats().connections.load() < 3) {
  }
  loop.Stop();
}

TEST(RedisConnectionTest, ASubscriptionIsAnotherKindOfConnection) {
  support::PrivateRedis redis;
  base::SystemClock clock;
  base::Random random(3);
  base::EventLoop loop(&clock, "redis-test");
  RedisStats stats;
  RedisConnection::Options options;
  options.master = false;
  options.mark_interval = absl::Milliseconds(1);
  std::promise<int64_t> subscribed;
  options.greet = [&](RedisConnection* connection) {
    connection->Introduce({"SUBSCRIBE", "channel"}, [&subscribed](absl::StatusOr<Reply*> reply) {
      if (reply.ok()) subscribed.set_value(reply.value()->elements[2].integer);
    });
  };
  const RedisAddress address = RedisAddress::Parse(absl::StrCat("unix:", redis.socket())).value();
  RedisConnection connection(options, {address}, &loop, &clock, &random, &stats);
  std::promise<std::string> said;
  connection.hooks()->message = [&](const Reply& message) { said.set_value(message.elements[2].text); };
  loop.Attach(&connection);
  EXPECT_EQ(subscribed.get_future().get(), 1);
  while (stats.commands.load() < 4) {  // It is asked whether it still answers, and that is no message.
  }
  EXPECT_EQ(RedisClient(redis.socket()).Command({"PUBLISH", "channel", "hello"}).integer, 1);
  EXPECT_EQ(said.get_future().get(), "hello");
  EXPECT_EQ(stats.connections.load(), 1u);
  loop.Stop();
}

TEST(RedisConnectionTest, AGreetingThatIsRefusedNeverComesUp) {
  RedisStore::Options options;
  support::PrivateRedis redis;
  options.address = RedisAddress::Parse(absl::StrCat("unix:", redis.socket())).value();
  options.greet = [](RedisConnection* connection) {
    connection->Introduce({"NONSENSE"}, [](absl::StatusOr<Reply*>) {});
  };
  EXPECT_FALSE(ComesUp(options));
}

TEST(RedisAddressTest, SaysWhatItExpects) {
  EXPECT_TRUE(RedisAddress::Parse("unix:/run/redis.sock").ok());
  EXPECT_TRUE(RedisAddress::Parse("[::1]:6379").ok());
  EXPECT_FALSE(RedisAddress::Parse("127.0.0.1:6379")->named());
  EXPECT_TRUE(RedisAddress::Parse("redis.internal:6379")->named());
  for (const char* wrong :
       {"", "redis", "redis:", "redis:0", "redis:65536", "redis:port", ":6379", "unix:", "::1:6379", "[::1:6379"}) {
    const absl::Status status = RedisAddress::Parse(wrong).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << wrong;
    EXPECT_TRUE(absl::StrContains(status.message(), "expected unix:/path, host:port")) << status;
  }
}

}  // namespace
}  // namespace shadowline::cache
