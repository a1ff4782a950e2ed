#include <algorithm>
#include <atomic>
#include <pqxx/pqxx>
#include <stdexcept>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/executor.h"
#include "base/random.h"
#include "tests/support/await.h"
#include "tests/support/load.h"
#include "tests/verdicts/scenarios.h"
#include "tests/verdicts/world.h"

namespace shadowline::verdicts {
namespace {

namespace v1 = shadowline::v1;

constexpr size_t kRowsOfAlarms = 400;
constexpr size_t kHot = 8;
constexpr size_t kWriters = 2;
constexpr char kTenant[] = "calm";

// Half of all reads and writes are of the hot rows.
size_t AnyRow(base::Random* random) {
  return random->Below(2) == 0 ? random->Below(kHot) : random->Below(kRowsOfAlarms);
}

// Writers who invalidate, or leave that to capture, in turn. Each row has one writer.
class Writers {
 public:
  Writers(World* world, double rate) {
    for (size_t i = 0; i < kWriters; ++i) {
      threads_.push_back(base::StartThread("writer", [this, world, rate, i] {
        base::Random random(i + 1);
        pqxx::connection connection(world->source());
        support::Pace pace(&world->clock(), rate / kWriters, random.Next(), absl::Seconds(1));
        for (uint64_t turn = 0; !stopping_; ++turn) {
          pace.Next();
          const size_t row = AnyRow(&random) / kWriters * kWriters + i;
          {
            pqxx::work work(connection);
            work.exec(absl::StrCat("UPDATE item SET version = version + 1 WHERE id = ", row));
            work.commit();
          }
          ++writes_;
          if (turn % 2 == 0) (void)world->node(turn % world->size()).Invalidate(kTenant, {absl::StrCat("item:", row)});
        }
      }));
    }
  }
  ~Writers() { Stop(); }
  uint64_t Stop() {
    stopping_ = true;
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
    return writes_;
  }

 private:
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> writes_{0};
  std::vector<std::thread> threads_;
};

// Reads that were compared with an answer that the control gave for them.
double Comparisons(World* world) {
  return world->Metric("shadowline_verification_comparisons_total", "look=\"first\"");
}

// All that say something about the candidate, also those that rest on the comparison of another read of the same fill.
double Verdicts(World* world) {
  double sum = 0;
  for (const char* verdict : {"matched", "excused", "healed", "confirmed", "inconclusive"}) {
    sum += world->Metric("shadowline_verdicts_total", absl::StrCat("verdict=\"", verdict, "\""));
  }
  return sum;
}

}  // namespace

Outcome Alarms(const AlarmsSize& size, const Progress& progress) {
  World world({.schema = absl::StrCat("CREATE TABLE item (tenant text, id bigint, version bigint NOT NULL,"
                                      " PRIMARY KEY (tenant, id));\nINSERT INTO item SELECT '",
                                      kTenant, "', id, 1 FROM generate_series(0, ", kRowsOfAlarms - 1, ") AS id;\n"),
               .catalog = absl::StrCat(
                   "version: 1\ntenants: {list: [", kTenant,
                   "]}\nfamilies:\n  stock:\n    policy: {ramp_ppm: [1000000], cache_sample_ppm: 1000000,"
                   " approval: true}\n    endpoints:\n      read:\n        sql: SELECT id, version FROM"
                   " item WHERE tenant = :tenant AND id = :id\n        parameters: {id: {type: integer}}"
                   "\n        tags: [\"item:{id}\"]\n        freshness: ",
                   absl::FormatDuration(size.freshness),
                   "\ncapture:\n  tables:\n    public.item: {tenant: \"{tenant}\", tags: [\"item:{id}\"]}\n"),
               .extra_config = "verification: {budget_per_second: 5000, connections: 4, queue: 100000}\n"});
  Operator& by = world.by_operator();
  by.Start("stock", {{kTenant}});
  by.Bring(kTenant, "stock", v1::MODE_SHADOW);

  std::vector<v1::ReadRequest> requests;
  for (size_t i = 0; i < kRowsOfAlarms; ++i)
    requests.push_back(RequestOf("stock/read", {kTenant, static_cast<int64_t>(i), ""}));
  base::Random random(7);
  std::atomic<uint64_t> failed{0};
  Writers writers(&world, size.writes_per_second);
  // Until so many have been made.
  const auto compare = [&](const std::string& name, double wanted) {
    const double before = Comparisons(&world);
    support::ClosedLoop loop(
        {.channels = world.channels(), .outstanding = 32}, &world.clock(),
        [&](size_t) {
          const size_t row = AnyRow(&random);
          return support::Question{row, &requests[row]};
        },
        [&](size_t, const support::Reply& reply) { failed += !reply.status.ok(); });
    absl::Duration told = world.clock().Steady();
    const bool enough = support::AwaitTrue(absl::Hours(1), [&] {
      const double now = Comparisons(&world) - before;
      if (world.clock().Steady() - told > absl::Seconds(10)) {
        told = world.clock().Steady();
        progress(absl::StrFormat("%s: %.0f comparisons, %u divergences", name, now, by.Divergences("stock").size()));
      }
      return now >= wanted;
    });
    loop.Stop();
    if (!enough) throw std::runtime_error("the comparisons do not come");
    return Comparisons(&world) - before;
  };
  const double shadow = compare("SHADOW", static_cast<double>(size.comparisons));
  by.Bring(kTenant, "stock", v1::MODE_CACHE);
  const double verdicts = Verdicts(&world);
  const double cache = compare("CACHE", static_cast<double>(size.comparisons) / 10);
  const uint64_t writes = writers.Stop();
  (void)support::AwaitTrue(kLimit, [&] { return by.Report("stock").ledger().pending() == 0; });

  const size_t alarms = by.Divergences("stock").size();
  const v1::Ledger ledger = by.Report("stock").ledger();
  Outcome outcome;
  outcome.figures = {{"comparisons", static_cast<uint64_t>(shadow + cache)},
                     {"comparisons_shadow", static_cast<uint64_t>(shadow)},
                     {"comparisons_cache", static_cast<uint64_t>(cache)},
                     {"verdicts_cache", static_cast<uint64_t>(Verdicts(&world) - verdicts)},
                     {"comparisons_healed", ledger.healed()},
                     {"comparisons_inconclusive", ledger.inconclusive()},
                     {"comparisons_shed", ledger.shed()},
                     {"comparisons_writes", writes},
                     {"false_alarms", alarms}};
  outcome.Expect(alarms == 0, absl::StrCat(alarms, " divergences of a cache that was right"));
  outcome.Expect(failed == 0, absl::StrCat(failed.load(), " reads failed"));
  return outcome;
}

}  // namespace shadowline::verdicts
