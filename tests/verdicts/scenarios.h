// What `./dev bench verdicts` measures. Each scenario builds its own servers, and says what should not have been.
//
// Errors: std::exception where a scenario cannot be run at all.
#ifndef SHADOWLINE_TESTS_VERDICTS_SCENARIOS_H_
#define SHADOWLINE_TESTS_VERDICTS_SCENARIOS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/support/scenarios.h"

namespace shadowline::verdicts {

using support::Outcome;
using support::Progress;

// The bugs, each in an application's own cache and against the managed one, and afterwards a search for the canary
// texts that Shadowline was shown in all ways (canaries.h).
//
//   bugs_total, bugs_right, managed_right
//   bugs: [{"id", "expected", "got", "seconds_to_detect", "naive", "managed", ...}]
//   naive: {tool: {"missed", "cried_wolf"}}
//   canaries_found   in Shadowline's tables, in what it wrote to Redis (the values of cached answers apart: they are
//   the
//                    cache), in logs and in metrics
struct BugsSize {
  std::vector<std::string> only;  // Ids; empty: all.
  uint64_t reads = 4000;          // Of each, in each mode.
  size_t side_by_side = 4;
  absl::Duration without_flags = absl::Seconds(10);  // Of a replica that starts.
};
Outcome Bugs(const BugsSize& size, const Progress& progress);

// A managed cache that is right, under hard writing with hot keys: half of the writes are invalidated by their writer,
// the others are captured. First in SHADOW, where each read is compared with its own control; then in CACHE, where many
// verdicts rest on an earlier match of the same fill.
//
//   comparisons, comparisons_shadow, comparisons_cache   of a read's answer with what the control said for that read
//   verdicts_cache                                       in CACHE, also those that rest on another read's comparison
//   false_alarms                                         divergences that were recorded: has to be 0
struct AlarmsSize {
  uint64_t comparisons = 300'000;  // In SHADOW; a tenth of it in CACHE.
  double writes_per_second = 200;
  absl::Duration freshness = absl::Seconds(2);
};
Outcome Alarms(const AlarmsSize& size, const Progress& progress);

// An application that forgets to write its cache for 2 to 4 times the freshness bound, on keys that are written from
// once an hour to ten times a second. Whoever waits for it reads such a key twenty times a second.
//
//   recall, episodes_injected, episodes_confirmed, recall_by_rate: {"10/s": {...}, ...}
//   recall_false_alarms   divergences that are of no such episode: has to be 0
struct RecallSize {
  absl::Duration freshness = absl::Milliseconds(500);
  absl::Duration lasts = absl::Seconds(90);
};
Outcome Recall(const RecallSize& size, const Progress& progress);

// What verification costs those whose reads it verifies: reads from the cache with each of them sampled, beside the
// same with none.
//
//   p99_ratio_sampled_over_unsampled       over all calls of each; ..._low and ..._high are its interval of 95 %
//   verification_us_of_replica_per_read, ..._of_database_per_read   processor time that verifying adds
//   verified_share                         of the sampled reads, those that came to a verdict
struct CostSize {
  int rounds = 120;
  double rate = 1000;
  int requests = 1000;  // Of each round, each.
};
Outcome Cost(const CostSize& size, const Progress& progress);

// What the verifier holds while the database hangs: large answers, each read sampled, and more keys of them than there
// is room for.
//
//   verifier_bytes_peak, verifier_bytes_cap, verifier_rss_growth_bytes
//   shed_while_the_database_hung   has to be more than 0; every other read is judged once the database is back
struct MemorySize {
  int keys = 1500;
  int passes = 3;  // Over all keys, while it hangs.
  double rate = 300;
};
Outcome Memory(const MemorySize& size, const Progress& progress);

}  // namespace shadowline::verdicts

#endif  // SHADOWLINE_TESTS_VERDICTS_SCENARIOS_H_
