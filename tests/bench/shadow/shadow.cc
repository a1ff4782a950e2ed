// What the caller notices of verification while the cache hangs: reads of a target in SHADOW with every read sampled
// and a Redis that accepts connections and never answers, beside the same reads of a target in DATABASE. In turn, at a
// fixed rate, many short rounds in one run, so that a change of the machine's speed meets both. The figure is the ratio
// of the p99s over all calls of each; that of single rounds tells how noisy the machine was.
//
//   bench_shadow --json FILE [--rounds 40] [--requests 4000] [--rate 2000]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/bench/load.h"
#include "tests/bench/promoted_server.h"

namespace shadowline::bench {
namespace {

int Run(const std::string& json_path, int rounds, int requests, int rate) {
  PromotedServer promoted({{.name = "direct", .database = true}, {.name = "shadowed", .cache = false}}, {});
  promoted.redis().Freeze();
  std::map<std::string, std::vector<double>> all;
  std::vector<double> ratios;
  nlohmann::json runs = nlohmann::json::array();
  // The first round warms up and is not counted.
  for (int round = -1; round < rounds; ++round) {
    std::map<std::string, double> tail;
    // The order alternates, so that neither always runs on a machine that the other has warmed.
    const std::vector<std::string> order = round % 2 == 0 ? std::vector<std::string>{"direct", "shadowed"}
                                                          : std::vector<std::string>{"shadowed", "direct"};
    for (const std::string& family : order) {
      const LoadResult result = RunLoad({.port = promoted.server().port(),
                                         .method = kReadMethod,
                                         .message = PromotedServer::Request(family, 1),
                                         .requests = requests,
                                         .connections = 4,
                                         .streams = 8,
                                         .rate = rate,
                                         .cpus = "0,1",
                                         .server = promoted.server().pid()});
      if (result.failed != 0 || result.bytes_per_call < kBodyBytes) {
        std::fprintf(stderr, "%s: %ld calls failed, %.0f bytes a reply\n", family.c_str(), result.failed,
                     result.bytes_per_call);
        return 1;
      }
      if (round < 0) continue;
      tail[family] = result.p99_us;
      all[family].insert(all[family].end(), result.durations_us.begin(), result.durations_us.end());
      runs.push_back({{"round", round},
                      {"family", family},
                      {"rps", result.calls_per_second},
                      {"p50_us", result.p50_us},
                      {"p99_us", result.p99_us},
                      {"cpu_us", result.cpu_us_per_call}});
    }
    if (round < 0) continue;
    ratios.push_back(tail["shadowed"] / tail["direct"]);
    std::printf("round %2d  p99 DATABASE %7.0f us  SHADOW with a hanging Redis %7.0f us  ratio %.3f\n", round,
                tail["direct"], tail["shadowed"], ratios.back());
  }
  const Spread ratio = SpreadOf(ratios);
  const auto over_all = [&all](const std::string& family, double share) {
    std::sort(all[family].begin(), all[family].end());
    return Percentile(all[family], share);
  };
  const double database = over_all("direct", 0.99), shadow = over_all("shadowed", 0.99);
  std::printf(
      "SHADOW / DATABASE p99 over %zu calls each: %.3f (%.0f / %.0f us); median of the rounds %.3f (%.3f to %.3f)\n",
      all["direct"].size(), shadow / database, shadow, database, ratio.median, ratio.least, ratio.greatest);
  const nlohmann::json report = {{"shadow_over_database_p99", shadow / database},
                                 {"median_of_rounds", ratio.median},
                                 {"spread_of_rounds", {ratio.least, ratio.greatest}},
                                 {"database_p99_us", database},
                                 {"shadow_p99_us", shadow},
                                 {"database_p50_us", over_all("direct", 0.50)},
                                 {"shadow_p50_us", over_all("shadowed", 0.50)},
                                 {"runs", runs}};
  if (!json_path.empty()) std::ofstream(json_path) << report.dump(2) << "\n";
  return 0;
}

}  // namespace
}  // namespace shadowline::bench

int main(int argc, char** argv) {
  CLI::App app("The caller's latency in SHADOW with a hanging Redis, beside DATABASE.");
  std::string json_path;
  int rounds = 40;
  int requests = 4'000;
  int rate = 2'000;
  app.add_option("--json", json_path, "Write the figures to this file");
  app.add_option("--rounds", rounds, "Rounds; medians are taken over them")->check(CLI::Range(1, 1000));
  app.add_option("--requests", requests, "Calls per measurement")->check(CLI::Range(100, 1'000'000));
  app.add_option("--rate", rate, "Calls per second")->check(CLI::Range(10, 100'000));
  CLI11_PARSE(app, argc, argv);
  return shadowline::bench::Run(json_path, rounds, requests, rate);
}
