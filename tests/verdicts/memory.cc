#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/support/await.h"
#include "tests/support/load.h"
#include "tests/verdicts/scenarios.h"
#include "tests/verdicts/world.h"

namespace shadowline::verdicts {
namespace {

namespace v1 = shadowline::v1;

constexpr char kTenant[] = "hoarder";
constexpr char kFamily[] = "large";
constexpr int kAnswerBytes = 64 << 10;
constexpr int64_t kCap = 64 << 20;  // docs/metrics.md: shadowline_verification_bytes.
// What the process may grow by: what is held, and half as much again for what the allocator does not give back, and for
// answers on their way.
constexpr int64_t kGrowthMost = kCap + kCap / 2;

int64_t ResidentBytes(pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  for (std::string line; std::getline(status, line);) {
    long long kilobytes = 0;
    if (std::sscanf(line.c_str(), "VmRSS: %lld kB", &kilobytes) == 1) return kilobytes << 10;
  }
  return 0;
}

// Passes over all keys at a steady rate, and the most that was held meanwhile.
class Passes {
 public:
  Passes(World* world, const MemorySize& size) : world_(world), rate_(size.rate) {
    for (int64_t id = 0; id < size.keys; ++id) {
      requests_.push_back(RequestOf(absl::StrCat(kFamily, "/read"), {kTenant, id, ""}));
    }
  }

  void Pass() {
    std::atomic<size_t> sent{0}, answered{0};
    support::OpenLoop loop(
        {.channels = world_->channels(), .rate = rate_}, &world_->clock(),
        [&] {
          const size_t id = sent++ % requests_.size();
          return support::Question{id, &requests_[id]};
        },
        [&](const support::Reply& reply) {
          failed += !reply.status.ok();
          from_cache += reply.status.ok() && reply.response.source() == v1::SOURCE_CACHE;
          ++reads;
          ++answered;
        });
    const bool passed = support::AwaitTrue(10 * kLimit, [&] {
      held_most = std::max(held_most, Held());
      resident_most = std::max(resident_most, ResidentBytes(world_->node(0).server.pid()));
      return answered >= requests_.size();
    });
    loop.Stop();
    if (!passed) throw std::runtime_error("the reads stopped");
  }
  int64_t Held() const { return static_cast<int64_t>(world_->Metric("shadowline_verification_bytes")); }

  std::atomic<uint64_t> reads{0}, failed{0}, from_cache{0};
  int64_t held_most = 0, resident_most = 0;

 private:
  World* const world_;
  const double rate_;
  std::vector<v1::ReadRequest> requests_;
};

}  // namespace

Outcome Memory(const MemorySize& size, const Progress& progress) {
  World world(
      {.schema = absl::StrCat("CREATE TABLE item (tenant text, id bigint, body text NOT NULL,"
                              " PRIMARY KEY (tenant, id));\nINSERT INTO item SELECT '",
                              kTenant, "', id, repeat(md5(id::text), ", kAnswerBytes / 32, ") FROM generate_series(0, ",
                              size.keys - 1, ") AS id;\n"),
       // No statement is given up while the database hangs, and a later read of the same fill is not proven by
       // the one that is asked already: each is held with its answer.
       .catalog = absl::StrCat("version: 1\ntenants: {list: [", kTenant, "]}\nfamilies:\n  ", kFamily,
                               ":\n    policy: {ramp_ppm: [1000000], cache_sample_ppm: 1000000}\n    endpoints:\n"
                               "      read:\n        sql: SELECT body FROM item WHERE tenant = :tenant AND id = :id\n"
                               "        parameters: {id: {type: integer}}\n        tags: [\"item:{id}\"]\n"
                               "        ttl: 24h\n        freshness: 1s\n        timeout: 60s\n"),
       .extra_config = "verification: {budget_per_second: 100000, queue: 100000}\n",
       .replicas = 1,
       .own_state = true});
  Operator& by = world.by_operator();
  by.Start(kFamily, {{kTenant}});
  by.Bring(kTenant, kFamily, v1::MODE_CACHE);

  const auto shed = [&] { return world.Metric("shadowline_verdicts_total", "verdict=\"shed\""); };
  const auto verdicts = [&] { return world.Metric("shadowline_verdicts_total"); };
  Passes before(&world, size);
  for (int i = 0; i < 2; ++i) before.Pass();  // The first fills the cache.
  if (!support::AwaitTrue(kLimit, [&] { return before.Held() == 0; })) throw std::runtime_error("samples stay held");
  const int64_t resident = ResidentBytes(world.node(0).server.pid());
  const double shed_before = shed();

  Passes during(&world, size);
  world.postgres().Freeze();
  for (int i = 0; i < size.passes; ++i) {
    during.Pass();
    progress(absl::StrFormat("%u reads, %.0f shed, %d bytes held, at most %d", during.reads.load(),
                             shed() - shed_before, during.Held(), during.held_most));
  }
  const double shed_then = shed() - shed_before;
  world.postgres().Thaw();
  // By the replica's own account; what it has told the state store by then must agree.
  const bool judged = support::AwaitTrue(
      kLimit, [&] { return during.Held() == 0 && world.Metric("shadowline_verification_episodes") == 0; });
  v1::Ledger ledger;
  const auto settled = [&] {
    return ledger.matched() + ledger.excused() + ledger.healed() + ledger.confirmed() + ledger.inconclusive() +
           ledger.errored() + ledger.shed() + ledger.lost();
  };
  const bool balanced = support::AwaitTrue(kLimit, [&] {
    ledger = by.Report(kFamily).ledger();
    return ledger.sampled() == settled() && ledger.shed() == static_cast<uint64_t>(shed());
  });
  const int64_t growth = during.resident_most - resident;
  Outcome outcome;
  outcome.figures = {{"verifier_bytes_peak", during.held_most},
                     {"verifier_bytes_cap", kCap},
                     {"verifier_rss_growth_bytes", growth},
                     {"reads_while_the_database_hung", during.reads.load()},
                     {"shed_while_the_database_hung", static_cast<uint64_t>(shed_then)},
                     {"judged_once_it_was_back", during.reads - static_cast<uint64_t>(shed_then)},
                     {"memory_ledger_residual", ledger.sampled() - settled()}};
  outcome.Expect(during.held_most >= kCap / 2, "the samples' bytes did not come near their cap");
  outcome.Expect(during.held_most <= kCap, "the samples' bytes were over their cap");
  outcome.Expect(shed_then > 0, "nothing was shed while the database hung");
  outcome.Expect(growth <= kGrowthMost, absl::StrCat("the process grew by ", growth, " bytes"));
  outcome.Expect(during.failed == 0 && during.from_cache == during.reads,
                 absl::StrCat("of ", during.reads.load(), " reads ", during.failed.load(), " failed and ",
                              during.from_cache.load(), " were answered by the cache"));
  outcome.Expect(judged && balanced, "the ledger does not close: " + ledger.ShortDebugString());
  outcome.Expect(ledger.errored() == 0 && ledger.confirmed() == 0, "not all was right: " + ledger.ShortDebugString());
  outcome.Expect(verdicts() == static_cast<double>(before.from_cache + during.from_cache),
                 absl::StrCat(before.from_cache + during.from_cache, " answers have ", verdicts(), " verdicts"));
  return outcome;
}

}  // namespace shadowline::verdicts
