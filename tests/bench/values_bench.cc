// What one cached read spends on its key and its envelope: the part of the hot path that belongs to cache/.
#include <benchmark/benchmark.h>

#include "cache/envelope/envelope.h"
#include "cache/key/key.h"

namespace shadowline::cache {
namespace {

Endpoint MakeEndpoint() {
  Endpoint endpoint;
  endpoint.name = "pricing/quote";
  const auto declare = [&](const char* name, ParameterType type) {
    ParameterDecl& declared = endpoint.parameters.emplace_back();
    declared.name = name;
    declared.type = type;
  };
  declare("account", ParameterType::kInteger);
  declare("currency", ParameterType::kText);
  declare("quantity", ParameterType::kInteger);
  endpoint.tags = {{{"account:", -1}, {"", 0}}};
  return endpoint;
}

shadowline::v1::ReadRequest MakeRequest() {
  shadowline::v1::ReadRequest request;
  request.set_tenant("tenant-0017");
  request.set_endpoint("pricing/quote");
  auto* account = request.add_parameters();
  account->set_name("account");
  account->mutable_value()->set_integer(4217);
  auto* currency = request.add_parameters();
  currency->set_name("currency");
  currency->mutable_value()->set_text("EUR");
  auto* quantity = request.add_parameters();
  quantity->set_name("quantity");
  quantity->mutable_value()->set_integer(25);
  return request;
}

void BM_Arguments(benchmark::State& state) {
  const Endpoint endpoint = MakeEndpoint();
  const shadowline::v1::ReadRequest request = MakeRequest();
  for (auto _ : state) benchmark::DoNotOptimize(CanonicalArguments(endpoint, request));
}
BENCHMARK(BM_Arguments);

void BM_Key(benchmark::State& state) {
  const Endpoint endpoint = MakeEndpoint();
  const shadowline::v1::ReadRequest request = MakeRequest();
  const auto arguments = *CanonicalArguments(endpoint, request);
  for (auto _ : state) benchmark::DoNotOptimize(CacheKey(endpoint, request.tenant(), 3, arguments));
}
BENCHMARK(BM_Key);

// By body size; a second argument of 1 compresses.
void BM_Decode(benchmark::State& state) {
  CachedAnswer answer;
  answer.found = true;
  while (answer.body.size() < static_cast<size_t>(state.range(0))) answer.body += R"({"role":"editor","since":17},)";
  answer.loaded_at = absl::FromUnixSeconds(1'700'000'000);
  answer.snapshot = "1234567:1234570:1234568";
  const std::string key = "sl:tenant-0017:pricing/quote:v1.3:0123456789abcdef0123456789abcdef";
  const std::string bytes = EncodeEnvelope(key, answer, state.range(1) != 0 ? 1 : 0);
  for (auto _ : state) benchmark::DoNotOptimize(DecodeEnvelope(key, bytes));
}
BENCHMARK(BM_Decode)->Args({1024, 0})->Args({16384, 0})->Args({16384, 1});

void BM_Encode(benchmark::State& state) {
  CachedAnswer answer;
  answer.found = true;
  while (answer.body.size() < static_cast<size_t>(state.range(0))) answer.body += R"({"role":"editor","since":17},)";
  const std::string key = "sl:tenant-0017:pricing/quote:v1.3:0123456789abcdef0123456789abcdef";
  for (auto _ : state) benchmark::DoNotOptimize(EncodeEnvelope(key, answer, state.range(1) != 0 ? 1 : 0));
}
BENCHMARK(BM_Encode)->Args({1024, 0})->Args({16384, 1});

}  // namespace
}  // namespace shadowline::cache

BENCHMARK_MAIN();
