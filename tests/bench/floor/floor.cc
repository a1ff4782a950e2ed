// What a cached read costs beside a bare gRPC echo: both on one core, loaded by h2load on the other, in turn, several
// rounds in one run. Only the ratios mean something: machines differ, and these are shared.
//
//   bench_floor --json FILE [--rounds 5] [--requests 150000]
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <pqxx/pqxx>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "tests/bench/load.h"
#include "tests/bench/promoted_server.h"

namespace shadowline::bench {
namespace {

// One prepared point read after the other on one libpqxx connection, beside the pinned servers' core.
double PointReadsPerSecond(const std::string& connection_string, int count) {
  pqxx::connection connection(connection_string);
  connection.prepare("point", "SELECT body FROM item WHERE tenant = $1 AND id = $2");
  pqxx::nontransaction work(connection);
  const absl::Time start = absl::Now();
  for (int i = 0; i < count; ++i) work.exec_prepared("point", "t1", i % 1000 + 1);
  return count / absl::ToDoubleSeconds(absl::Now() - start);
}

std::string FirstLine(support::ChildProcess* process, const std::string& path) {
  for (int i = 0; i < 1000; ++i) {
    std::ifstream in(path);
    std::string line;
    if (std::getline(in, line) && !in.eof()) return line;
    if (!process->Running()) break;
    usleep(10'000);  // Waits for another process.
  }
  std::fprintf(stderr, "floor_echo did not start\n");
  std::abort();
}

int Run(const std::string& json_path, int rounds, int requests) {
  const std::vector<std::string> pinned = {"taskset", "-c", "0"};
  const support::ScratchFolder folder("floor");
  PromotedServer promoted({{.name = "plain", .sample_ppm = 0},
                           {.name = "sampled", .sample_ppm = 100'000},
                           {.name = "near", .near = true, .sample_ppm = 0}},
                          pinned);
  support::ChildProcess echo({"taskset", "-c", "0", support::ProgramFolder() + "/floor_echo"}, folder.path() + "/echo");
  const int echo_port = std::stoi(FirstLine(&echo, folder.path() + "/echo"));

  std::map<std::string, LoadOptions> variants;
  variants["echo"] = {.port = echo_port, .server = echo.pid()};
  variants["cached"] = {.port = promoted.server().port(), .server = promoted.server().pid()};
  variants["sampled"] = variants["near"] = variants["cached"];
  for (auto& [name, options] : variants) {
    options.method = kReadMethod;
    options.message = PromotedServer::Request(name == "sampled" || name == "near" ? name : "plain", 1);
    options.requests = requests / 10;
    RunLoad(options);  // Warm-up, not counted.
    options.requests = requests;
  }

  nlohmann::json runs = nlohmann::json::array();
  std::map<std::string, std::vector<double>> rates, cpu, p50, p99;
  std::vector<double> point_reads, cached_over_echo, sampled_over_cached, near_over_echo;
  std::printf("%-8s %10s %10s %9s %9s\n", "", "calls/s", "CPU us", "p50 us", "p99 us");
  for (int round = 0; round < rounds; ++round) {
    std::map<std::string, double> rate;
    for (const char* name : {"echo", "cached", "sampled", "near"}) {
      const LoadResult result = RunLoad(variants[name]);
      if (result.failed != 0 || result.bytes_per_call < kBodyBytes) {
        std::fprintf(stderr, "%s: %ld calls failed, %.0f bytes a reply\n", name, result.failed, result.bytes_per_call);
        return 1;
      }
      rate[name] = result.calls_per_second;
      rates[name].push_back(result.calls_per_second);
      cpu[name].push_back(result.cpu_us_per_call);
      p50[name].push_back(result.p50_us);
      p99[name].push_back(result.p99_us);
      runs.push_back({{"round", round},
                      {"server", name},
                      {"rps", result.calls_per_second},
                      {"cpu_us", result.cpu_us_per_call},
                      {"p50_us", result.p50_us},
                      {"p99_us", result.p99_us}});
      std::printf("%-8s %10.0f %10.1f %9.0f %9.0f\n", name, result.calls_per_second, result.cpu_us_per_call,
                  result.p50_us, result.p99_us);
    }
    point_reads.push_back(PointReadsPerSecond(promoted.postgres().ConnectionString(promoted.database()), 20'000));
    runs.push_back({{"round", round}, {"server", "point_read"}, {"rps", point_reads.back()}});
    std::printf("%-8s %10.0f\n", "libpqxx", point_reads.back());
    cached_over_echo.push_back(rate["cached"] / rate["echo"]);
    sampled_over_cached.push_back(rate["sampled"] / rate["cached"]);
    near_over_echo.push_back(rate["near"] / rate["echo"]);
  }

  nlohmann::json report = {{"echo_rps", SpreadOf(rates["echo"]).median},
                           {"cached_rps", SpreadOf(rates["cached"]).median},
                           {"sampled_rps", SpreadOf(rates["sampled"]).median},
                           {"near_rps", SpreadOf(rates["near"]).median},
                           {"point_read_rps", SpreadOf(point_reads).median},
                           {"cached_over_echo", SpreadOf(cached_over_echo).median},
                           {"sampled_over_cached", SpreadOf(sampled_over_cached).median},
                           {"near_over_echo", SpreadOf(near_over_echo).median}};
  for (const char* name : {"echo", "cached", "sampled", "near"}) {
    report["spread"][name] = {{"rps", {SpreadOf(rates[name]).least, SpreadOf(rates[name]).greatest}},
                              {"cpu_us", SpreadOf(cpu[name]).median},
                              {"p50_us", SpreadOf(p50[name]).median},
                              {"p99_us", SpreadOf(p99[name]).median}};
  }
  report["spread"]["cached_over_echo"] = {SpreadOf(cached_over_echo).least, SpreadOf(cached_over_echo).greatest};
  report["spread"]["sampled_over_cached"] = {SpreadOf(sampled_over_cached).least,
                                             SpreadOf(sampled_over_cached).greatest};
  report["spread"]["near_over_echo"] = {SpreadOf(near_over_echo).least, SpreadOf(near_over_echo).greatest};
  report["runs"] = runs;
  std::printf("cached / echo    %.3f (%.3f to %.3f, round by round)\n", SpreadOf(cached_over_echo).median,
              SpreadOf(cached_over_echo).least, SpreadOf(cached_over_echo).greatest);
  std::printf("sampled / cached %.3f (%.3f to %.3f)\n", SpreadOf(sampled_over_cached).median,
              SpreadOf(sampled_over_cached).least, SpreadOf(sampled_over_cached).greatest);
  std::printf("near / echo      %.3f (%.3f to %.3f)\n", SpreadOf(near_over_echo).median, SpreadOf(near_over_echo).least,
              SpreadOf(near_over_echo).greatest);
  if (!json_path.empty()) std::ofstream(json_path) << report.dump(2) << "\n";
  return 0;
}

}  // namespace
}  // namespace shadowline::bench

int main(int argc, char** argv) {
  CLI::App app("What a cached read costs beside a bare gRPC echo.");
  std::string json_path;
  int rounds = 5;
  int requests = 150'000;
  app.add_option("--json", json_path, "Write the figures to this file");
  app.add_option("--rounds", rounds, "Rounds; medians are taken over them")->check(CLI::Range(1, 100));
  app.add_option("--requests", requests, "Calls per measurement")->check(CLI::Range(1000, 10'000'000));
  CLI11_PARSE(app, argc, argv);
  return shadowline::bench::Run(json_path, rounds, requests);
}
