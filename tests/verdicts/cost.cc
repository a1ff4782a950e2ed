#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/mutex.h"
#include "base/random.h"
#include "tests/support/await.h"
#include "tests/support/load.h"
#include "tests/verdicts/scenarios.h"
#include "tests/verdicts/world.h"

namespace shadowline::verdicts {
namespace {

namespace v1 = shadowline::v1;

constexpr int64_t kKeys = 1000;
constexpr char kTenant[] = "payer";

std::string Family(const std::string& name, int sample_ppm) {
  return absl::StrCat("  ", name, ":\n    policy: {ramp_ppm: [1000000], cache_sample_ppm: ", sample_ppm,
                      "}\n    endpoints:\n      read:\n        sql: SELECT body FROM item WHERE tenant = :tenant AND "
                      "id = :id\n        parameters: {id: {type: integer}}\n"
                      "        tags: [\"item:{id}\"]\n        ttl: 24h\n");
}

// What a process and its children have used of a processor so far, in microseconds. One that ends takes its part along.
double ProcessorMicroseconds(pid_t pid) {
  const std::string process = absl::StrCat("/proc/", pid);
  double used = 0;
  std::error_code gone;
  for (const auto& thread : std::filesystem::directory_iterator(process + "/task", gone)) {
    double nanoseconds = 0;
    std::ifstream(thread.path() / "schedstat") >> nanoseconds;
    used += nanoseconds / 1000;
  }
  std::ifstream children(absl::StrCat(process, "/task/", pid, "/children"));
  for (pid_t child = 0; children >> child;) used += ProcessorMicroseconds(child);
  return used;
}

double Percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

// The latencies of one round.
struct Round {
  std::vector<double> sampled, unsampled;
};

// Of all calls of these rounds.
double PercentileOf(const std::vector<const Round*>& rounds, std::vector<double> Round::*of, double share) {
  std::vector<double> all;
  for (const Round* round : rounds) all.insert(all.end(), (round->*of).begin(), (round->*of).end());
  return Percentile(std::move(all), share);
}

double P99Ratio(const std::vector<const Round*>& rounds) {
  return PercentileOf(rounds, &Round::sampled, 0.99) / PercentileOf(rounds, &Round::unsampled, 0.99);
}

// Where the ratio lies in 95 of 100 draws of as many rounds out of these (B. Efron's bootstrap): a second in which the
// machine was another's is in some draws, and not in others.
std::pair<double, double> P99RatioInterval(const std::vector<const Round*>& rounds) {
  constexpr int kDraws = 400;
  base::Random random(1);
  std::vector<double> ratios;
  for (int draw = 0; draw < kDraws; ++draw) {
    std::vector<const Round*> drawn;
    for (size_t i = 0; i < rounds.size(); ++i) drawn.push_back(rounds[random.Below(rounds.size())]);
    ratios.push_back(P99Ratio(drawn));
  }
  return {Percentile(ratios, 0.025), Percentile(ratios, 0.975)};
}

class Measured {
 public:
  explicit Measured(World* world) : world_(world) {}

  // Reads of a family at a steady rate, over all keys: how long each took, in microseconds.
  std::vector<double> Read(const std::string& family, double rate, int count, int64_t keys = kKeys) {
    std::vector<v1::ReadRequest> requests;
    for (int64_t id = 0; id < keys; ++id) requests.push_back(RequestOf(family + "/read", {kTenant, id, ""}));
    std::vector<double> took;
    std::atomic<int> done{0};
    base::Random random(static_cast<uint64_t>(++rounds_));
    support::OpenLoop loop(
        {.channels = world_->channels(), .rate = rate, .seed = random.Next()}, &world_->clock(),
        [&] {
          const size_t id = random.Below(requests.size());
          return support::Question{id, &requests[id]};
        },
        [&](const support::Reply& reply) {
          failed_ += !reply.status.ok();
          from_cache_ += reply.response.source() == v1::SOURCE_CACHE;
          ++reads_;
          took.push_back(absl::ToDoubleMicroseconds(reply.latency()));
          ++done;
        });
    if (!support::AwaitTrue(10 * kLimit, [&] { return done >= count; })) throw std::runtime_error("the reads stopped");
    loop.Stop();
    return took;
  }

  uint64_t failed() const { return failed_; }
  double from_cache() const { return reads_ == 0 ? 0 : static_cast<double>(from_cache_) / static_cast<double>(reads_); }

 private:
  World* const world_;
  int rounds_ = 0;
  uint64_t failed_ = 0, from_cache_ = 0, reads_ = 0;
};

}  // namespace

Outcome Cost(const CostSize& size, const Progress& progress) {
  World world(
      {.schema = absl::StrCat("CREATE TABLE item (tenant text, id bigint, body text NOT NULL,"
                              " PRIMARY KEY (tenant, id));\nINSERT INTO item SELECT '",
                              kTenant, "', id, repeat('x', 1000) FROM generate_series(0, ", kKeys - 1, ") AS id;\n"),
       .catalog = absl::StrCat("version: 1\ntenants: {list: [", kTenant, "]}\nfamilies:\n", Family("unsampled", 0),
                               Family("sampled", 1'000'000)),
       .replicas = 1,
       .hurried = false,
       .own_state = true});
  Operator& by = world.by_operator();
  for (const char* family : {"unsampled", "sampled"}) {
    by.Start(family, {{kTenant}});
    const bool promoted = support::AwaitTrue(kLimit, [&] {
      if (by.Mode(kTenant, family) == v1::MODE_CACHE) return true;
      (void)by.Promote(family, kTenant);
      return false;
    });
    if (!promoted) throw std::runtime_error(absl::StrCat(family, " was not promoted"));
  }
  Measured measured(&world);
  Outcome outcome;

  std::vector<Round> rounds(size.rounds);
  std::vector<const Round*> all;
  const pid_t replica = world.node(0).server.pid(), database = world.postgres().pid();
  double by_replica = 0, by_database = 0;  // Processor time of sampled reads more than of others.
  for (const char* family : {"unsampled", "sampled"}) {
    for (int64_t id = 0; id < kKeys; ++id)
      (void)world.node(0).Read(RequestOf(absl::StrCat(family, "/read"), {kTenant, id, ""}));
    (void)measured.Read(family, size.rate, size.requests);
  }
  for (int number = 0; number < size.rounds; ++number) {
    Round& round = rounds[number];
    all.push_back(&round);
    // The order alternates, so that neither always runs on a machine that the other has warmed.
    for (bool first : {true, false}) {
      const bool is_sampled = first == (number % 2 == 0);
      const double sign = is_sampled ? 1 : -1;
      by_replica -= sign * ProcessorMicroseconds(replica);
      by_database -= sign * ProcessorMicroseconds(database);
      (is_sampled ? round.sampled : round.unsampled) =
          measured.Read(is_sampled ? "sampled" : "unsampled", size.rate, size.requests);
      by_replica += sign * ProcessorMicroseconds(replica);
      by_database += sign * ProcessorMicroseconds(database);
    }
    if (number % 10 == 9) {
      const std::vector<const Round*> last(all.end() - 10, all.end());
      progress(absl::StrFormat("rounds to %3d  p99 sampled %7.0f us  unsampled %7.0f us  ratio %.3f", number,
                               PercentileOf(last, &Round::sampled, 0.99), PercentileOf(last, &Round::unsampled, 0.99),
                               P99Ratio(last)));
    }
  }
  const v1::Ledger ledger = by.Report("sampled").ledger();
  const double reads = static_cast<double>(size.rounds) * size.requests;
  const auto [low, high] = P99RatioInterval(all);
  outcome.figures = {{"p99_ratio_sampled_over_unsampled", P99Ratio(all)},
                     {"p99_ratio_sampled_over_unsampled_low", low},
                     {"p99_ratio_sampled_over_unsampled_high", high},
                     {"p50_ratio_sampled_over_unsampled",
                      PercentileOf(all, &Round::sampled, 0.5) / PercentileOf(all, &Round::unsampled, 0.5)},
                     {"p99_sampled_us", PercentileOf(all, &Round::sampled, 0.99)},
                     {"p99_unsampled_us", PercentileOf(all, &Round::unsampled, 0.99)},
                     {"verified_share", 1 - static_cast<double>(ledger.shed()) /
                                                static_cast<double>(std::max<uint64_t>(ledger.sampled(), 1))},
                     {"verification_us_of_replica_per_read", by_replica / reads},
                     {"verification_us_of_database_per_read", by_database / reads},
                     {"cost_from_cache", measured.from_cache()}};
  outcome.Expect(measured.failed() == 0, absl::StrCat(measured.failed(), " reads failed"));
  return outcome;
}

}  // namespace shadowline::verdicts
