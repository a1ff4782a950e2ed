#include "tests/bench/load.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "tests/support/private_servers.h"

namespace shadowline::bench {
namespace {

double CpuSeconds(pid_t process) {
  std::ifstream in(absl::StrCat("/proc/", process, "/stat"));
  std::string text(std::istreambuf_iterator<char>(in), {});
  // The name, in parentheses, may hold anything; user and system time are fields 14 and 15, counted from the state's 3.
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string field;
  double ticks = 0;
  for (int i = 3; fields >> field && i <= 15; ++i) {
    if (i >= 14) ticks += std::atof(field.c_str());
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

double Percentile(const std::vector<double>& sorted, double share) {
  if (sorted.empty()) return 0;
  return sorted[std::min(sorted.size() - 1, static_cast<size_t>(share * static_cast<double>(sorted.size())))];
}

LoadResult RunLoad(const LoadOptions& options) {
  const support::ScratchFolder folder("load");
  const std::string body = folder.path() + "/body";
  const std::string log = folder.path() + "/log";
  const std::string output = folder.path() + "/output";
  {
    // gRPC's framing: uncompressed, then the length, big-endian.
    std::ofstream out(body, std::ios::binary);
    const auto size = static_cast<uint32_t>(options.message.size());
    const char head[5] = {0, static_cast<char>(size >> 24), static_cast<char>(size >> 16), static_cast<char>(size >> 8),
                          static_cast<char>(size)};
    out.write(head, sizeof(head));
    out << options.message;
  }
  std::vector<std::string> command = {"taskset",
                                      "-c",
                                      options.cpus,
                                      "h2load",
                                      "-n",
                                      absl::StrCat(options.requests),
                                      "-c",
                                      absl::StrCat(options.connections),
                                      "-m",
                                      absl::StrCat(options.streams),
                                      "-d",
                                      body,
                                      "-H",
                                      "content-type: application/grpc",
                                      "-H",
                                      "te: trailers",
                                      absl::StrCat("--log-file=", log)};
  if (options.rate > 0) {
    command.push_back("--rps");
    command.push_back(absl::StrCat(std::max(1, options.rate / options.connections)));
  }
  command.push_back(absl::StrCat("http://127.0.0.1:", options.port, options.method));

  const double cpu_before = options.server != 0 ? CpuSeconds(options.server) : 0;
  support::ChildProcess load(command, output);
  const int status = load.Wait();
  const double cpu_after = options.server != 0 ? CpuSeconds(options.server) : 0;

  std::ifstream in(output);
  const std::string text(std::istreambuf_iterator<char>(in), {});
  const size_t finished = text.find("finished in ");
  const size_t rate = text.find(", ", finished);
  if (status != 0 || finished == std::string::npos || rate == std::string::npos) {
    std::fprintf(stderr, "h2load ended with %d:\n%s\n", status, text.c_str());
    std::abort();
  }
  LoadResult result;
  result.calls_per_second = std::atof(text.c_str() + rate + 2);
  // "..., 43.88MB (46012500) data"
  const size_t data_end = text.rfind(") data");
  const size_t data = text.rfind('(', data_end);
  if (data != std::string::npos) result.bytes_per_call = std::atof(text.c_str() + data + 1) / options.requests;
  result.cpu_us_per_call = (cpu_after - cpu_before) * 1e6 / options.requests;

  // One line a request: start (us), HTTP status, duration (us).
  std::vector<double> durations;
  durations.reserve(static_cast<size_t>(options.requests));
  std::ifstream lines(log);
  int64_t start;
  int http_status;
  double duration;
  while (lines >> start >> http_status >> duration) {
    if (http_status == 200) durations.push_back(duration);
  }
  result.failed = options.requests - static_cast<int64_t>(durations.size());
  std::sort(durations.begin(), durations.end());
  result.p50_us = Percentile(durations, 0.50);
  result.p99_us = Percentile(durations, 0.99);
  result.durations_us = std::move(durations);
  return result;
}

Spread SpreadOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  if (values.empty()) return {};
  return {values[values.size() / 2], values.front(), values.back()};
}

}  // namespace shadowline::bench
