// What it costs a lane to certify an answer.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "cache/certify/certifier.h"

namespace shadowline::cache {
namespace {

constexpr uint64_t kMap = 7;
constexpr uint32_t kRows = 100'000;

// The keys of the fences of one read.
std::vector<std::string> FencesOf(uint32_t row) {
  return {absl::StrCat("sl:fence:tenant-0017:account:", row), "sl:fence:tenant-0017:prices"};
}

Endpoint OfFamily() {
  Endpoint endpoint;
  endpoint.family = "pricing";
  return endpoint;
}

// As the reader does it: hash the fences' keys, then ask. `fill` is every answer's snapshot.
void Run(benchmark::State& state, const Certifier& certifier, const std::string& fill, Certificate expected) {
  const Endpoint endpoint = OfFamily();
  std::vector<std::vector<std::string>> fences;
  base::Random random(1);
  for (int i = 0; i < 1 << 14; ++i) fences.push_back(FencesOf(static_cast<uint32_t>(random.Below(kRows))));
  size_t next = 0;
  for (auto _ : state) {
    const TagHashes hashes = HashesOf(endpoint, "tenant-0017", fences[++next & (fences.size() - 1)]);
    const Certificate certificate = certifier.Check(kMap, hashes, fill, absl::Seconds(1), absl::Seconds(1));
    if (certificate != expected) state.SkipWithError("another outcome");
  }
}

void Touch(Certifier* certifier, uint64_t first, uint32_t rows) {
  for (uint32_t i = 0; i < rows; ++i) {
    const std::vector<uint32_t> hash = {TagHash(FencesOf(i)[0])};
    certifier->Touch(first + i, hash, absl::UnixEpoch(), absl::ZeroDuration());
  }
}

// Nothing has touched the tags since it was loaded.
void BM_Quiet(benchmark::State& state) {
  Certifier certifier({});
  certifier.Begin(kMap, 100);
  Touch(&certifier, 101, kRows);
  certifier.Advance(ParseSnapshot("300000:300000:").value(), absl::Seconds(1), absl::Seconds(1));
  Run(state, certifier, "200200:200200:", Certificate::kCertified);
}
BENCHMARK(BM_Quiet);

// Its tags were touched while as many transactions were in progress as the argument says.
void BM_Busy(benchmark::State& state) {
  Certifier certifier({});
  certifier.Begin(kMap, 100);
  std::string fill = "200:200200:";
  for (int64_t i = 0; i < state.range(0); ++i) absl::StrAppend(&fill, i == 0 ? "" : ",", 200 + i);
  Touch(&certifier, 200 + static_cast<uint64_t>(state.range(0)), kRows);
  certifier.Advance(ParseSnapshot("300000:300000:").value(), absl::Seconds(1), absl::Seconds(1));
  // What was forgotten is unknown; the look is the same.
  Run(state, certifier, fill, Certificate::kUnknown);
}
BENCHMARK(BM_Busy)->Arg(1)->Arg(10)->Arg(50);

}  // namespace
}  // namespace shadowline::cache

BENCHMARK_MAIN();
