// What a look-up in the near cache costs a lane, and what it costs to keep it.
#include <benchmark/benchmark.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "cache/near/near_cache.h"

namespace shadowline::cache {
namespace {

const std::vector<std::string> kFenceKeys = {"sl:fence:tenant-0017:account:4217"};

std::string KeyOf(uint64_t row) {
  return absl::StrCat("sl:tenant-0017:pricing/quote:v1.3:", absl::Hex(row, absl::kZeroPad16), "00112233");
}

NearCache::Value ValueOf(size_t bytes) {
  NearCache::Value value;
  value.answer.found = true;
  value.answer.body = std::string(bytes, 'x');
  value.answer.snapshot = "1000:1000:";
  value.fill_id = std::string(16, 'f');
  return value;
}

// By entries held; values of 1 KiB.
void BM_Hit(benchmark::State& state) {
  const auto count = static_cast<uint64_t>(state.range(0));
  NearCache near({.max_bytes = count * 4096});
  near.TrackingBegan();
  near.Renew(absl::Hours(1));
  std::vector<std::string> keys;
  for (uint64_t row = 0; row < count; ++row) {
    keys.push_back(KeyOf(row));
    near.Insert(near.Begin(), keys.back(), ValueOf(1024), kFenceKeys, absl::InfiniteDuration());
  }
  base::Random random(1);
  std::vector<uint32_t> order;
  for (int i = 0; i < 1 << 16; ++i) order.push_back(static_cast<uint32_t>(random.Below(count)));
  size_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(near.Lookup(keys[order[++next & 0xffff]], absl::Hours(1)));
  }
  state.counters["missed"] = static_cast<double>(near.stats().misses);
}
BENCHMARK(BM_Hit)->Arg(1000)->Arg(100'000);

void BM_Miss(benchmark::State& state) {
  NearCache near({});
  near.TrackingBegan();
  near.Renew(absl::Hours(1));
  for (uint64_t row = 0; row < 10'000; ++row) {
    near.Insert(near.Begin(), KeyOf(row), ValueOf(1024), kFenceKeys, absl::InfiniteDuration());
  }
  const std::string absent = KeyOf(1'000'000);
  for (auto _ : state) benchmark::DoNotOptimize(near.Lookup(absent, absl::Hours(1)));
}
BENCHMARK(BM_Miss);

// Into a full cache: each one evicts. The making of the value is part of it.
void BM_Insert(benchmark::State& state) {
  NearCache near({.max_bytes = 16 << 20});
  near.TrackingBegan();
  uint64_t row = 0;
  for (auto _ : state) near.Insert(near.Begin(), KeyOf(++row), ValueOf(1024), kFenceKeys, absl::InfiniteDuration());
  state.counters["evicted"] = static_cast<double>(near.stats().evicted);
}
BENCHMARK(BM_Insert);

// Of a fence that 10,000 entries hang on, and of one that nobody does.
void BM_Invalidated(benchmark::State& state) {
  NearCache near({});
  near.TrackingBegan();
  for (uint64_t row = 0; row < 10'000; ++row) {
    near.Insert(near.Begin(), KeyOf(row), ValueOf(1024), kFenceKeys, absl::InfiniteDuration());
  }
  for (auto _ : state) near.Invalidated("sl:fence:tenant-0017:account:4217");
}
BENCHMARK(BM_Invalidated);

}  // namespace
}  // namespace shadowline::cache

BENCHMARK_MAIN();
