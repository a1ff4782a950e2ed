#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tests/chaos/fleet.h"
#include "tests/chaos/scenarios.h"
#include "tests/chaos/traffic.h"
#include "tests/support/private_redis.h"

namespace shadowline::chaos {

Outcome Cluster(const ClusterSize& size, const Progress& progress) {
  support::PrivateRedisCluster redis;
  Fleet fleet({.redis = absl::StrCat("{cluster: [\"", absl::StrJoin(redis.addresses(), "\", \""), "\"]}"),
               .rows = size.rows,
               .freshness = size.freshness});
  Outcome outcome;
  Readers readers(
      &fleet,
      {.threads = size.threads, .outstanding = size.outstanding / size.threads, .near_percent = 10, .slow_percent = 0});
  // Fences get lost with a master, so these all invalidate after their commit.
  Writers writers(&fleet, {.rate = size.writes_per_second, .ahead = false});
  const double usual = readers.AwaitSteadyShare();
  outcome.Expect(usual > 0.5, "the cache did not get warm");
  progress(absl::StrFormat("cluster: %.1f%% from the cache", 100 * usual));

  const auto suffer = [&](const std::string& name, const std::function<void()>& change) {
    const Tally before = readers.tally();
    const absl::Duration begun = fleet.clock().Steady();
    change();
    const absl::Duration lasted = fleet.clock().Steady() - begun;
    const absl::Duration recovered = readers.AwaitShare(0.9 * usual);
    const Tally all = readers.tally().Since(before);
    outcome.Expect(recovered < absl::InfiniteDuration(), "the cache did not come back after " + name);
    progress(absl::StrFormat("cluster: %s took %.1f s: %s; back after %.2f s", name, absl::ToDoubleSeconds(lasted),
                             all.ToString(), absl::ToDoubleSeconds(recovered)));
    return recovered;
  };
  suffer("moving slots", [&] {
    for (int i = 0; i < size.moves; ++i) redis.MoveSlots(i % 3, (i + 1) % 3, 100);
  });
  outcome.figures["cluster_back_to_cache_s"] = absl::ToDoubleSeconds(suffer("killing a master", [&] {
    redis.KillMaster(1);
    redis.AwaitHealthy();
  }));
  suffer("reviving it and moving slots to its shard", [&] {
    redis.Revive(1);
    redis.AwaitHealthy();
    for (int i = 0; i < size.moves; ++i) redis.MoveSlots(i % 2 == 0 ? 0 : 2, 1, 100);
  });
  writers.Stop();
  readers.Stop();

  const Tally tally = readers.tally();
  progress("cluster: " + tally.ToString());
  for (const std::string& fault : readers.faults()) progress(fault);
  outcome.figures["cluster_reads"] = static_cast<double>(tally.reads);
  outcome.figures["cluster_failed_reads"] = static_cast<double>(tally.failed);
  outcome.figures["cluster_older_than_invalidation"] = static_cast<double>(tally.older_than_invalidation);
  outcome.figures["cluster_outside_bound"] = static_cast<double>(tally.outside_bound);
  outcome.Expect(tally.failed == 0, absl::StrCat(tally.failed, " reads failed"));
  outcome.Expect(tally.older_than_invalidation == 0, "an answer was older than an acknowledged invalidation");
  outcome.Expect(tally.outside_bound == 0, "an answer was none that the database held within the bound");
  return outcome;
}

}  // namespace shadowline::chaos
