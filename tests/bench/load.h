// Runs h2load (Debian's nghttp2-client) against a gRPC method and reads what it measured. h2load costs a fraction of
// what a gRPC client does, so the server is the bottleneck even when both share two cores.
#ifndef SHADOWLINE_TESTS_BENCH_LOAD_H_
#define SHADOWLINE_TESTS_BENCH_LOAD_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace shadowline::bench {

struct LoadOptions {
  int port = 0;
  std::string method;   // "/package.Service/Method"
  std::string message;  // Serialized request.
  int requests = 100'000;
  int connections = 8;
  int streams = 32;        // Concurrent calls per connection.
  int rate = 0;            // Calls per second over all connections; 0: as fast as it goes.
  std::string cpus = "1";  // Where h2load runs.
  pid_t server = 0;        // Its CPU time is counted.
};

struct LoadResult {
  double calls_per_second = 0;
  double cpu_us_per_call = 0;  // User and system time of the server.
  double p50_us = 0;
  double p99_us = 0;
  double bytes_per_call = 0;         // Of reply bodies with their framing: a gRPC error has none.
  int64_t failed = 0;                // No reply, or an HTTP status other than 200.
  std::vector<double> durations_us;  // Of the calls that did not fail, sorted.
};

// Aborts with h2load's output where it cannot run.
LoadResult RunLoad(const LoadOptions& options);

// The least of `sorted` that `share` of them does not exceed; 0 of none.
double Percentile(const std::vector<double>& sorted, double share);

struct Spread {
  double median = 0;
  double least = 0;
  double greatest = 0;
};

Spread SpreadOf(std::vector<double> values);

}  // namespace shadowline::bench

#endif  // SHADOWLINE_TESTS_BENCH_LOAD_H_
