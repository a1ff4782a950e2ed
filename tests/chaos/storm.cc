#include <atomic>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/executor.h"
#include "base/random.h"
#include "tests/cache/redis_client.h"
#include "tests/chaos/fleet.h"
#include "tests/chaos/scenarios.h"
#include "tests/chaos/traffic.h"
#include "tests/support/await.h"

namespace shadowline::chaos {
namespace {

// Transactions that do nothing but stay open for a while: snapshots in which much is invisible.
class OpenTransactions {
 public:
  explicit OpenTransactions(const std::string& source) {
    for (uint64_t i = 0; i < 3; ++i) {
      threads_[i] = base::StartThread("open", [this, source, i] {
        base::Random random(i);
        pqxx::connection connection(source);
        while (!stopping_) {
          pqxx::work work(connection);
          work.exec("SELECT pg_current_xact_id()");
          work.exec_params("SELECT pg_sleep($1)", 0.5 * random.Unit());
          work.commit();
        }
      });
    }
  }
  ~OpenTransactions() {
    stopping_ = true;
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<bool> stopping_{false};
  std::thread threads_[3];
};

// A number out of INFO.
uint64_t Info(cache::RedisClient* client, const std::string& section, const std::string& member) {
  const std::string text = client->Command({"INFO", section}).text;
  const size_t at = text.find("\n" + member + ":");
  uint64_t value = 0;
  if (at == std::string::npos ||
      !absl::SimpleAtoi(text.substr(at + member.size() + 2, text.find('\r', at) - at - member.size() - 2), &value)) {
    throw std::runtime_error("INFO " + section + ": " + text);
  }
  return value;
}

// From now on Redis has less room than it uses.
void Evict(const support::PrivateRedis& redis) {
  cache::RedisClient client(redis.socket());
  const uint64_t used = Info(&client, "memory", "used_memory");
  client.Command({"CONFIG", "SET", "maxmemory-policy", "allkeys-random"});
  client.Command({"CONFIG", "SET", "maxmemory", absl::StrCat(used - used / 20)});
}

uint64_t Evicted(const support::PrivateRedis& redis) {
  cache::RedisClient client(redis.socket());
  return Info(&client, "stats", "evicted_keys");
}

}  // namespace

Outcome Storm(const StormSize& size, const Progress& progress) {
  support::PrivateRedis redis;
  Fleet fleet({.redis = "unix:" + redis.socket(), .rows = size.rows, .freshness = size.freshness, .sample_ppm = 5000});
  const OpenTransactions open(fleet.source());
  const Freezer freezer(&fleet);
  Outcome outcome;
  Tally total;
  uint64_t writes = 0;
  const auto blow = [&](const std::string& name, uint64_t reads, bool fences_get_lost) {
    Readers readers(&fleet, {.threads = size.threads, .reads = reads, .seed = fences_get_lost ? 3u : 1u});
    Writers writers(&fleet, {.rate = size.writes_per_second, .fences_get_lost = fences_get_lost});
    readers.Wait(name, progress);
    writers.Stop();
    total.Add(readers.tally());
    writes += writers.writes();
    for (const std::string& fault : readers.faults()) progress(fault);
  };
  const absl::Duration begun = fleet.clock().Steady();
  blow("storm", size.reads - size.reads / 3, false);
  Evict(redis);
  blow("storm, Redis evicting", size.reads / 3, true);
  const double seconds = absl::ToDoubleSeconds(fleet.clock().Steady() - begun);

  const uint64_t evicted = Evicted(redis);
  const double confirmed = fleet.Metric("shadowline_divergences_total");
  const auto count = [&outcome](const char* name, uint64_t value) {
    outcome.figures[name] = static_cast<double>(value);
  };
  count("reads", total.reads);
  count("older_than_invalidation", total.older_than_invalidation);
  count("outside_bound", total.outside_bound);
  count("storm_failed_reads", total.failed);
  count("storm_not_found", total.not_found);
  count("storm_near_hits", total.from_near);
  count("storm_writes", writes);
  count("storm_evicted_keys", evicted);
  outcome.figures["storm_share_from_cache"] = total.ShareFromCache();
  outcome.figures["storm_confirmed_divergences"] = confirmed;
  outcome.figures["storm_seconds"] = seconds;
  outcome.Expect(total.older_than_invalidation == 0, "an answer was older than an acknowledged invalidation");
  outcome.Expect(total.outside_bound == 0, "an answer was none that the database held within the bound");
  outcome.Expect(confirmed == 0, "verification confirmed a divergence");
  // A storm in which nothing met would prove nothing.
  outcome.Expect(total.from_cache > total.reads / 10, "hardly anything came from the cache");
  outcome.Expect(total.failed < total.reads / 10, "many reads failed");
  outcome.Expect(total.not_found > 0 && writes > 0 && evicted > 0, "there was no storm");
  return outcome;
}

Outcome CapturedStorm(const StormSize& size, const Progress& progress) {
  support::PrivateRedis redis;
  Fleet fleet({.redis = "unix:" + redis.socket(), .rows = size.rows, .freshness = size.freshness, .capture = true});
  // Nothing is served from the cache before capture has begun.
  for (size_t i = 0; i < fleet.size(); ++i) {
    const bool captures = support::AwaitTrue(
        kLimit, [&] { return fleet.node(i).Read(fleet.Request(Fleet::Id(0, Endpoint::kItem))).FromCache(); });
    if (!captures) throw std::runtime_error("nothing is captured:\n" + fleet.Logs());
  }
  const OpenTransactions open(fleet.source());
  Readers readers(&fleet, {.threads = size.threads, .reads = size.reads, .seed = 5});
  Writers writers(&fleet, {.rate = size.writes_per_second, .captured = true});
  readers.Wait("captured", progress);
  writers.Stop();
  for (const std::string& fault : readers.faults()) progress(fault);
  const Tally tally = readers.tally();
  const double transactions = fleet.Metric("shadowline_capture_transactions_total");
  const double alarms = fleet.Metric("shadowline_capture_alarms_total");
  Outcome outcome;
  outcome.figures = {{"captured_reads", static_cast<double>(tally.reads)},
                     {"captured_outside_bound", static_cast<double>(tally.outside_bound)},
                     {"captured_writes", static_cast<double>(writers.writes())},
                     {"captured_writes_not_read", static_cast<double>(writers.unread())},
                     {"captured_share_from_cache", tally.ShareFromCache()},
                     {"captured_transactions", transactions},
                     {"captured_alarms", alarms}};
  outcome.Expect(tally.outside_bound == 0, "an answer was none that the database held within the bound");
  outcome.Expect(writers.unread() == 0, "one who knew of a write was answered without it");
  outcome.Expect(tally.from_cache > tally.reads / 10, "hardly anything came from the cache");
  outcome.Expect(transactions > 0, "nothing was captured");
  return outcome;
}

Outcome PlantedStorm(absl::Duration freshness, const Progress& progress) {
  support::PrivateRedis redis;
  Fleet fleet({.redis = "unix:" + redis.socket(), .rows = 400, .freshness = freshness});
  Outcome outcome;
  double caught = 0;
  const auto plant = [&](const std::string& what, Writers::Options options, uint64_t Tally::*seen) {
    options.rate = 40;
    options.ahead = false;
    Readers readers(&fleet, {.outstanding = 24, .near_percent = 0, .brief_percent = 0, .slow_percent = 0});
    Writers writers(&fleet, options);
    const bool found = support::AwaitTrue(kLimit, [&] { return readers.tally().*seen > 0; });
    writers.Stop();
    readers.Stop();
    fleet.Heal();
    progress(absl::StrCat("planted: ", what, ": ", found ? "caught; " : "NOT CAUGHT; ", readers.tally().ToString()));
    outcome.Expect(found, "the judge did not notice " + what);
    caught += found;
  };
  // An old value that comes back with the fence that it was loaded behind, as from a replica that a failover promotes.
  plant("a value put back with its fence",
        {.around =
             [&](size_t row) {
               const std::string fence = fleet.FenceKey(row);
               const std::string key = fleet.CacheKey(Fleet::Id(row, Endpoint::kItem));
               cache::RedisClient client(redis.socket());
               return [old_fence = client.Command({"GET", fence}).text, old_value = client.Command({"GET", key}).text,
                       fence, key, path = redis.socket()] {
                 cache::RedisClient again(path);
                 if (old_value.empty() || old_fence.empty()) return;
                 again.Command({"SET", fence, old_fence});
                 again.Command({"SET", key, old_value});
               };
             }},
        &Tally::older_than_invalidation);
  plant("an invalidation that was only pretended", {.plant = [](Fleet::Write* how) { how->pretend = true; }},
        &Tally::older_than_invalidation);
  plant("an invalidation that was forgotten", {.plant = [](Fleet::Write* how) { how->forget = true; }},
        &Tally::outside_bound);
  outcome.figures = {{"planted_in_storm", 3}, {"planted_in_storm_caught", caught}};
  return outcome;
}

}  // namespace shadowline::chaos
