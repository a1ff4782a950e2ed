// RedisStore over TLS, to a real Redis and a real cluster that speak nothing else.
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/event_loop.h"
#include "base/random.h"
#include "cache/redis/redis_store.h"
#include "cache/redis/tls.h"
#include "gtest/gtest.h"
#include "tests/cache/cluster_world.h"
#include "tests/support/private_redis.h"

namespace shadowline::cache {
namespace {

const std::string kFill(kTokenBytes, 'f');

TlsContext::Options Right(const support::PrivateAuthority& authority) {
  return {.ca = authority.ca(), .certificate = authority.client_certificate(), .key = authority.client_key()};
}

// Whether a store with these is up after a few attempts.
bool ComesUp(const std::string& address, const std::optional<TlsContext::Options>& tls) {
  RedisStore::Options options;
  options.address = RedisAddress::Parse(address).value();
  options.reconnect_min = absl::Milliseconds(1);
  options.connect_timeout = absl::Seconds(3);
  if (tls.has_value()) options.tls = TlsContext::Load(*tls).value();
  base::SystemClock clock;
  base::Random random(3);
  base::EventLoop loop(&clock, "tls-test");
  RedisStore store(options, &loop, &clock, &random);
  loop.Attach(&store);
  while (!store.stats().up.load() && store.stats().attempts.load() < 3) {
  }
  loop.Stop();
  return store.stats().up.load();
}

TEST(RedisTlsTest, ComesUpOnlyWhereBothSidesAreWhoTheyShouldBe) {
  const support::PrivateAuthority authority;
  const support::PrivateAuthority other;
  const support::PrivateRedis redis(authority.ServerArguments());
  const std::string address = absl::StrCat("127.0.0.1:", redis.port());
  EXPECT_TRUE(ComesUp(address, Right(authority)));

  TlsContext::Options tls = Right(authority);
  tls.server_name = "redis.test";
  EXPECT_TRUE(ComesUp(address, tls));
  tls.server_name = "other.test";
  EXPECT_FALSE(ComesUp(address, tls)) << "somebody else's certificate";
  EXPECT_FALSE(ComesUp(absl::StrCat("localhost:", redis.port()), Right(authority))) << "not the name it was asked by";

  tls = Right(authority);
  tls.ca = other.ca();
  EXPECT_FALSE(ComesUp(address, tls)) << "an authority that is not trusted";
  tls.ca.clear();
  EXPECT_FALSE(ComesUp(address, tls)) << "nor does the system know it";

  EXPECT_FALSE(ComesUp(address, TlsContext::Options{.ca = authority.ca()})) << "no certificate of the client's";
  tls = Right(other);
  tls.ca = authority.ca();
  EXPECT_FALSE(ComesUp(address, tls)) << "one that the server does not trust";

  EXPECT_FALSE(ComesUp(address, std::nullopt)) << "no TLS";
  const support::PrivateRedis plain;
  EXPECT_FALSE(ComesUp(absl::StrCat("127.0.0.1:", plain.port()), Right(authority))) << "a server without TLS";
  EXPECT_FALSE(ComesUp(absl::StrCat("unix:", plain.socket()), Right(authority))) << "a socket has no name";
}

TEST(RedisTlsTest, WhatCannotBeLoadedIsNamed) {
  const support::PrivateAuthority authority;
  const support::PrivateAuthority other;
  for (const auto& [tls, file] : std::vector<std::pair<TlsContext::Options, std::string>>{
           {{.ca = "/nonexistent/ca.crt"}, "/nonexistent/ca.crt"},
           {{.ca = authority.client_key()}, authority.client_key()},
           {{.ca = authority.ca(), .certificate = "/nonexistent", .key = authority.client_key()}, "/nonexistent"},
           {{.ca = authority.ca(), .certificate = authority.client_certificate(), .key = other.client_key()},
            other.client_key()}}) {
    const absl::Status refused = TlsContext::Load(tls).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(refused.message().find(file), absl::string_view::npos) << refused;
  }
}

TEST(RedisTlsTest, AClusterWorksTheSame) {
  const support::PrivateAuthority authority;
  std::vector<std::string> settings = authority.ServerArguments();
  settings.insert(settings.end(), {"--tls-cluster", "yes"});
  support::PrivateRedisCluster cluster(3, settings);
  RedisStore::Options options = ClusterWorld::Patient();
  options.tls = TlsContext::Load(Right(authority)).value();
  ClusterWorld world(&cluster, options);
  // On all three shards, some larger than what TLS and the socket take at once.
  constexpr int kValues = 60;
  const auto value = [](int i) { return std::string(i % 10 == 0 ? 3 << 20 : 100, static_cast<char>('a' + i % 26)); };
  int left = kValues;
  world.Drive([&](std::function<void()> finished) {
    for (int i = 0; i < kValues; ++i) {
      world.store()->Put(absl::StrCat("key", i), "", {kFill, "", value(i), absl::Minutes(1)},
                         [&, finished](absl::StatusOr<bool> put) {
                           EXPECT_TRUE(put.ok() && *put) << put.status();
                           if (--left == 0) finished();
                         });
    }
  });
  cluster.MoveSlot(static_cast<int>(SlotOf("key0")), 0);
  cluster.MoveSlot(static_cast<int>(SlotOf("key0")), 1);
  left = kValues;
  world.Drive([&](std::function<void()> finished) {
    for (int i = 0; i < kValues; ++i) {
      world.store()->Read(absl::StrCat("key", i), {}, [&, i, finished](absl::StatusOr<Found> found) {
        EXPECT_TRUE(found.ok() && found->slot.bytes == value(i)) << i << ": " << found.status();
        if (--left == 0) finished();
      });
    }
  });
  EXPECT_GE(world.store()->stats().moved.load(), 1u);
}

}  // namespace
}  // namespace shadowline::cache
