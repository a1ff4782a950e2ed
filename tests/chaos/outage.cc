#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/executor.h"
#include "tests/chaos/fleet.h"
#include "tests/chaos/scenarios.h"
#include "tests/chaos/traffic.h"
#include "tests/support/await.h"

namespace shadowline::chaos {
namespace {

// Looks all the time how many of the replicas' statements PostgreSQL runs at once.
class Concurrency {
 public:
  explicit Concurrency(const std::string& source)
      : thread_(base::StartThread("concurrency", [this, source] {
          pqxx::connection connection(source);
          while (!stopping_) {
            pqxx::nontransaction work(connection);
            const int now = work.exec1(
                                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                                    " AND application_name = 'shadowline' AND state <> 'idle'")[0]
                                .as<int>();
            most_ = std::max<int>(most_, now);
          }
        })) {}
  ~Concurrency() { Stop(); }

  // The most that was seen.
  int Stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
    return most_;
  }

 private:
  std::atomic<bool> stopping_{false};
  std::atomic<int> most_{0};
  std::thread thread_;
};

}  // namespace

Outcome Outage(const OutageSize& size, const Progress& progress) {
  support::PrivateRedis redis;
  Fleet fleet({.redis = "unix:" + redis.socket(), .rows = size.rows, .freshness = size.freshness});
  Outcome outcome;
  Readers readers(&fleet, {.threads = size.threads,
                           .outstanding = size.outstanding / size.threads,
                           .near_percent = 0,
                           .brief_percent = 0,
                           .slow_percent = size.slow_percent});
  // An invalidation that is ahead of its commit is no use while fences get lost; these all come after it.
  Writers writers(&fleet, {.rate = size.writes_per_second, .ahead = false});
  const double usual = readers.AwaitSteadyShare();
  outcome.Expect(usual > 0.5, "the cache did not get warm");
  progress(absl::StrFormat("outage: %.1f%% from the cache", 100 * usual));

  const auto suffer = [&](const std::string& name, const std::string& back_name, const std::function<void()>& away,
                          const std::function<void()>& back) {
    const Tally before = readers.tally();
    const absl::Duration begun = fleet.clock().Steady();
    away();
    outcome.Expect(readers.AwaitMore(size.reads), "the reads stopped while Redis was " + name);
    const Tally during = readers.tally().Since(before);
    const absl::Duration lasted = fleet.clock().Steady() - begun;
    back();
    const absl::Duration recovered = readers.AwaitShare(0.9 * usual);
    const Tally all = readers.tally().Since(before);
    outcome.figures[back_name] = absl::ToDoubleSeconds(recovered);
    outcome.figures["failed_reads_redis_" + name] = static_cast<double>(all.failed);
    outcome.figures["reads_redis_" + name] = static_cast<double>(during.reads);
    outcome.Expect(all.failed == 0, absl::StrCat(all.failed, " reads failed when Redis was ", name));
    outcome.Expect(recovered < absl::InfiniteDuration(), "the cache did not come back after Redis was " + name);
    progress(
        absl::StrFormat("outage: Redis %s for %.1f s: %u reads, %.1f%% from the cache, %u failed; back after %.2f s",
                        name, absl::ToDoubleSeconds(lasted), during.reads, 100 * during.ShareFromCache(), all.failed,
                        absl::ToDoubleSeconds(recovered)));
  };
  Concurrency concurrency(fleet.source());
  suffer(
      "killed", "back_to_cache_s", [&] { redis.Kill(); }, [&] { redis.Start(); });
  suffer(
      "frozen", "back_to_cache_after_thaw_s", [&] { redis.Freeze(); }, [&] { redis.Thaw(); });
  const int most = concurrency.Stop();
  writers.Stop();
  readers.Stop();

  // Callers' and verification's.
  const int limit = static_cast<int>(fleet.size()) * (kConnections + kVerifyConnections);
  const Tally tally = readers.tally();
  progress("outage: " + tally.ToString());
  for (const std::string& fault : readers.faults()) progress(fault);
  outcome.figures["control_concurrency"] = most;
  outcome.figures["control_concurrency_limit"] = limit;
  outcome.figures["outage_older_than_invalidation"] = static_cast<double>(tally.older_than_invalidation);
  outcome.figures["outage_outside_bound"] = static_cast<double>(tally.outside_bound);
  outcome.figures["outage_invalidations_sent_again"] = static_cast<double>(writers.repeated());
  outcome.Expect(most <= limit, absl::StrCat(most, " statements at PostgreSQL at once"));
  outcome.Expect(tally.older_than_invalidation == 0, "an answer was older than an acknowledged invalidation");
  outcome.Expect(tally.outside_bound == 0, "an answer was none that the database held within the bound");
  return outcome;
}

}  // namespace shadowline::chaos
