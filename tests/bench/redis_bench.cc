// Pipelined GETs of 1 KiB values from one thread: RedisStore on an event loop beside hiredis' own asynchronous context
// on a bare poll(2) loop, in one run on one private Redis. The argument is how many GETs are under way at once.
#include <benchmark/benchmark.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <poll.h>

#include <future>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/event_loop.h"
#include "base/random.h"
#include "cache/redis/redis_store.h"
#include "tests/support/private_servers.h"

namespace shadowline::cache {
namespace {

constexpr int kBatch = 20'000;  // GETs for each iteration.

support::PrivateRedis* Redis() {
  static auto* const redis = [] {
    auto* started = new support::PrivateRedis;
    redisContext* context = redisConnectUnix(started->socket().c_str());
    const std::string value =
        absl::StrCat("V", std::string(kTokenBytes, 'f'), absl::string_view("\0", 1), std::string(1024, 'v'));
    freeReplyObject(redisCommand(context, "SET key %b", value.data(), value.size()));
    redisFree(context);
    return started;
  }();
  return redis;
}

// Keeps `window` GETs under way until `left` have been started, then says so.
struct StoreLoad {
  Store* store;
  int left;
  int under_way = 0;
  std::promise<void> done;

  void Start() {
    --left;
    ++under_way;
    store->Read("key", {}, [this](absl::StatusOr<Found> found) {
      if (!found.ok() || found->slot.bytes.size() != 1024) std::abort();
      --under_way;
      if (left > 0) return Start();
      if (under_way == 0) done.set_value();
    });
  }
};

void BM_RedisStore(benchmark::State& state) {
  base::SystemClock clock;
  base::Random random(1);
  base::EventLoop loop(&clock, "bench");
  RedisStore::Options options;
  options.address = RedisAddress::Parse(absl::StrCat("unix:", Redis()->socket())).value();
  options.command_timeout = absl::Seconds(10);
  RedisStore store(options, &loop, &clock, &random);
  loop.Attach(&store);
  while (!store.stats().up.load()) {
  }
  for (auto _ : state) {
    StoreLoad load{&store, kBatch};
    loop.Post([&load, window = state.range(0)] {
      for (int i = 0; i < window; ++i) load.Start();
    });
    load.done.get_future().wait();
  }
  loop.Stop();
  state.SetItemsProcessed(state.iterations() * kBatch);
}

struct HiredisLoad {
  redisAsyncContext* context;
  int left;
  int under_way = 0;

  void Start() {
    --left;
    ++under_way;
    redisAsyncCommand(context, &HiredisLoad::Answered, this, "GET %s", "key");
  }
  static void Answered(redisAsyncContext*, void* reply, void* self) {
    auto* const load = static_cast<HiredisLoad*>(self);
    if (reply == nullptr || static_cast<redisReply*>(reply)->len != 1 + kTokenBytes + 1024) std::abort();
    --load->under_way;
    if (load->left > 0) load->Start();
  }
};

void BM_HiredisAsync(benchmark::State& state) {
  redisAsyncContext* const context = redisAsyncConnectUnix(Redis()->socket().c_str());
  short events = 0;  // NOLINT: poll(2)'s own type
  context->ev.data = &events;
  context->ev.addRead = [](void* wanted) { *static_cast<short*>(wanted) |= POLLIN; };     // NOLINT
  context->ev.delRead = [](void* wanted) { *static_cast<short*>(wanted) &= ~POLLIN; };    // NOLINT
  context->ev.addWrite = [](void* wanted) { *static_cast<short*>(wanted) |= POLLOUT; };   // NOLINT
  context->ev.delWrite = [](void* wanted) { *static_cast<short*>(wanted) &= ~POLLOUT; };  // NOLINT
  events = POLLIN | POLLOUT;
  for (auto _ : state) {
    HiredisLoad load{context, kBatch};
    for (int i = 0; i < state.range(0); ++i) load.Start();
    while (load.under_way > 0) {
      pollfd wait = {context->c.fd, events, 0};
      poll(&wait, 1, -1);
      if ((wait.revents & POLLIN) != 0) redisAsyncHandleRead(context);
      if ((wait.revents & POLLOUT) != 0) redisAsyncHandleWrite(context);
    }
  }
  redisAsyncFree(context);
  state.SetItemsProcessed(state.iterations() * kBatch);
}

BENCHMARK(BM_RedisStore)->Arg(1)->Arg(16)->Arg(64)->Arg(256)->MeasureProcessCPUTime()->UseRealTime();
BENCHMARK(BM_HiredisAsync)->Arg(1)->Arg(16)->Arg(64)->Arg(256)->MeasureProcessCPUTime()->UseRealTime();

}  // namespace
}  // namespace shadowline::cache

BENCHMARK_MAIN();
