// The scenarios: what happens to a fleet of real replicas, and what nobody may notice of it. Each builds its own
// servers.
//
// Each has a freshness bound, for the catalog and for the judge. Where no invalidation is lost it is only broken by a
// machine that stands still for as long, so a test that may share its machine gives more.
//
// Errors: std::exception where a scenario cannot be run at all.
#ifndef SHADOWLINE_TESTS_CHAOS_SCENARIOS_H_
#define SHADOWLINE_TESTS_CHAOS_SCENARIOS_H_

#include <cstdint>

#include "absl/time/time.h"
#include "tests/support/scenarios.h"

namespace shadowline::chaos {

using support::Outcome;
using support::Progress;

// Reads against writers, invalidations before and after the commit, loads that are slower than their lease, open
// transactions, replicas that stand still for a moment, and for the last third a Redis that evicts values and fences
// alike.
//
//   reads, older_than_invalidation, outside_bound   the judge's count; the latter two have to be 0
struct StormSize {
  uint64_t reads = 1'000'000;
  size_t rows = 6000;
  size_t threads = 2;
  double writes_per_second = 150;
  absl::Duration freshness = absl::Seconds(2);
};
Outcome Storm(const StormSize& size, const Progress& progress);

// The same where nobody invalidates but change capture, and everybody who writes reads what was written, by its log
// position, through another replica.
//
//   captured_outside_bound     has to be 0, as long as capture does not lag by more than the bound
//   captured_writes_not_read   has to be 0
Outcome CapturedStorm(const StormSize& size, const Progress& progress);

// The same storm with a fault planted into it, over and over, until the judge reports it: a writer that forgets its
// invalidation, one that only pretends it, and a Redis into which an old value is put back together with its fence.
//
//   planted_in_storm, planted_in_storm_caught
Outcome PlantedStorm(absl::Duration freshness, const Progress& progress);

// Misses of one key at the same time on all replicas; then again, with the replica that loads killed.
//
//   stampede_queries      control queries for one key, the most in any round
//   stampede_takeover_ms  from the kill until a survivor loads
struct StampedeSize {
  size_t reads = 400;
  int rounds = 20;
  int kills = 5;
};
Outcome Stampede(const StampedeSize& size, const Progress& progress);

// Redis killed and started again, empty; then frozen and thawed. As much load as the replicas take.
//
//   failed_reads_redis_killed, failed_reads_redis_frozen
//   back_to_cache_s, back_to_cache_after_thaw_s             until the share from the cache is nine tenths of what it
//   was control_concurrency, control_concurrency_limit          statements at PostgreSQL at once, the most that was
//   seen
struct OutageSize {
  size_t outstanding = 64;  // Reads under way, over all replicas.
  size_t threads = 2;
  size_t rows = 2000;
  uint64_t reads = 40'000;  // While Redis is away.
  double writes_per_second = 30;
  absl::Duration freshness = absl::Seconds(2);
  uint64_t slow_percent = 1;  // Of the reads; a tenth of their loads takes up to 1.3 s.
};
Outcome Outage(const OutageSize& size, const Progress& progress);

// A Redis Cluster of three masters, each with a replica: slots move under load, a master is killed and its replica
// takes over, and more slots move to the one that came back.
//
//   cluster_failed_reads, cluster_older_than_invalidation, cluster_outside_bound   all have to be 0
//   cluster_back_to_cache_s   from the moment at which the cluster is whole again, after its master was killed
struct ClusterSize {
  size_t outstanding = 64;
  size_t threads = 2;
  size_t rows = 2000;
  int moves = 6;  // Of a hundred slots each.
  double writes_per_second = 30;
  absl::Duration freshness = absl::Seconds(2);
};
Outcome Cluster(const ClusterSize& size, const Progress& progress);

// A real application's accesses. Its clock is the trace's own: where an entry's TTL would have ended, the entry is
// removed from Redis, as Redis would have done. So the hit ratio can be compared with that of a cache that forgets
// exactly what was changed, and nothing else.
//
//   trace_operations, trace_hit_ratio, trace_hit_ratio_exact, trace_outside_bound, trace_generated (1: see TraceData)
struct TraceSize {
  size_t operations = 100'000;
  size_t threads = 8;
  absl::Duration freshness = absl::Seconds(2);
};
Outcome Trace(const TraceSize& size, const Progress& progress);

}  // namespace shadowline::chaos

#endif  // SHADOWLINE_TESTS_CHAOS_SCENARIOS_H_
