// How fast two answers are compared, beside nlohmann::json (both parsed, json::diff) and RapidJSON (both parsed, ==),
// on documents of three sizes, in three cases: the same bytes, the members of every object in another order, one field
// that differs. The contestants take turns in every round; the figures are medians over the rounds of the ratios within
// a round. Only the ratios mean something: machines differ.
//
//   bench_compare --json FILE [--rounds 15] [--milliseconds 20]
#include "diff/compare/compare.h"

#include <rapidjson/document.h>
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/bench/compare/documents.h"

namespace shadowline::bench {
namespace {

// So many that no predictor learns them by heart.
constexpr size_t kDocumentsOfASize = 16;

using Pair = std::pair<std::string, std::string>;
// Whether the two are the same.
using Contestant = bool (*)(const Pair&);

bool Shadowline(const Pair& pair) {
  static const diff::CompiledRules rules;
  return diff::Compare({true, pair.first}, {true, pair.second}, rules).verdict == diff::Comparison::Verdict::kEqual;
}

bool Nlohmann(const Pair& pair) {
  const nlohmann::json a = nlohmann::json::parse(pair.first);
  const nlohmann::json b = nlohmann::json::parse(pair.second);
  return nlohmann::json::diff(a, b).empty();
}

bool RapidJson(const Pair& pair) {
  rapidjson::Document a, b;
  a.Parse(pair.first.data(), pair.first.size());
  b.Parse(pair.second.data(), pair.second.size());
  return a == b;
}

const std::vector<std::pair<std::string, Contestant>>& Contestants() {
  static const auto* const kContestants = new std::vector<std::pair<std::string, Contestant>>{
      {"shadowline", Shadowline}, {"nlohmann", Nlohmann}, {"rapidjson", RapidJson}};
  return *kContestants;
}

// Of this thread: what else the machine does costs no one anything here.
double CpuNanoseconds() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

double NanosecondsPerPair(Contestant contestant, const std::vector<Pair>& pairs, double at_least) {
  for (size_t repeats = 1;; repeats *= 2) {
    size_t same = 0;
    const double start = CpuNanoseconds();
    for (size_t i = 0; i < repeats; ++i) {
      for (const Pair& pair : pairs) same += contestant(pair);
    }
    const double taken = CpuNanoseconds() - start;
    if (same > repeats * pairs.size()) std::abort();  // Keeps the compiler from leaving work out.
    if (taken >= at_least) return taken / static_cast<double>(repeats * pairs.size());
  }
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Measured {
  std::string name;  // Of the case.
  size_t bytes;
  std::vector<Pair> pairs;
  std::map<std::string, std::vector<double>> nanoseconds;  // By contestant, one for each round.
};

std::vector<Measured> Cases() {
  std::vector<Measured> cases;
  for (const size_t bytes : {1024, 10 * 1024, 100 * 1024}) {
    std::vector<Pair> identical, reordered, one_field;
    for (size_t i = 0; i < kDocumentsOfASize; ++i) {
      const Documents documents = MakeDocuments(/*seed=*/i + 1, bytes);
      identical.emplace_back(documents.control, std::string(documents.control));
      reordered.emplace_back(documents.control, documents.reordered);
      one_field.emplace_back(documents.control, documents.one_field);
    }
    cases.push_back({"identical", bytes, std::move(identical), {}});
    cases.push_back({"reordered", bytes, std::move(reordered), {}});
    cases.push_back({"one_field", bytes, std::move(one_field), {}});
  }
  return cases;
}

// All must say the same, or the figures mean nothing.
void CheckVerdicts(const std::vector<Measured>& cases) {
  for (const Measured& measured : cases) {
    for (const auto& [name, contestant] : Contestants()) {
      for (const Pair& pair : measured.pairs) {
        if (contestant(pair) == (measured.name != "one_field")) continue;
        std::fprintf(stderr, "bench_compare: %s calls %s wrong\n", name.c_str(), measured.name.c_str());
        std::exit(1);
      }
    }
  }
}

int Run(const std::string& json_path, int rounds, double at_least) {
  std::vector<Measured> cases = Cases();
  CheckVerdicts(cases);
  for (int round = 0; round < rounds; ++round) {
    for (Measured& measured : cases) {
      for (const auto& [name, contestant] : Contestants()) {
        measured.nanoseconds[name].push_back(NanosecondsPerPair(contestant, measured.pairs, at_least));
      }
    }
  }

  nlohmann::json report = {{"rounds", rounds}, {"documents_of_a_size", kDocumentsOfASize}};
  for (const Measured& measured : cases) {
    const std::vector<double>& ours = measured.nanoseconds.at("shadowline");
    nlohmann::json row = {{"case", measured.name}, {"bytes", measured.bytes}, {"shadowline_ns", Median(ours)}};
    for (const char* other : {"nlohmann", "rapidjson"}) {
      const std::vector<double>& theirs = measured.nanoseconds.at(other);
      std::vector<double> ratios;
      for (int i = 0; i < rounds; ++i) ratios.push_back(theirs[i] / ours[i]);
      const double ratio = Median(ratios);
      const auto [least, most] = std::minmax_element(ratios.begin(), ratios.end());
      row[std::string(other) + "_ns"] = Median(theirs);
      row["over_" + std::string(other)] = {{"median", ratio}, {"min", *least}, {"max", *most}};
      nlohmann::json& least_of_sizes = report[measured.name + "_over_" + other];
      if (least_of_sizes.is_null() || ratio < least_of_sizes) least_of_sizes = ratio;
    }
    std::printf("%-10s %7zu bytes: %9.0f ns, nlohmann %6.1f times, RapidJSON %6.1f times that\n", measured.name.c_str(),
                measured.bytes, Median(ours), row["over_nlohmann"]["median"].get<double>(),
                row["over_rapidjson"]["median"].get<double>());
    report["sizes"].push_back(std::move(row));
  }
  std::ofstream(json_path) << report.dump(2) << "\n";
  return 0;
}

}  // namespace
}  // namespace shadowline::bench

int main(int argc, char** argv) {
  CLI::App app("Comparing, beside two JSON libraries");
  std::string json_path = "/dev/null";
  int rounds = 15, milliseconds = 20;
  app.add_option("--json", json_path, "where the figures go");
  app.add_option("--rounds", rounds)->check(CLI::PositiveNumber);
  app.add_option("--milliseconds", milliseconds, "for each figure of a round")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  return shadowline::bench::Run(json_path, rounds, milliseconds * 1e6);
}
