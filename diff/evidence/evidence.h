// Evidence: what verification has found, counted so that it can be balanced, added up over replicas and judged.
//
// Every sampled read ends in exactly one verdict:
//   sampled = matched + excused + healed + confirmed + inconclusive + errored + shed + lost + pending
// A read is sampled once the candidate had an answer to judge; a sampled read whose candidate missed served nothing and
// is counted apart (candidate_misses).
#ifndef SHADOWLINE_DIFF_EVIDENCE_EVIDENCE_H_
#define SHADOWLINE_DIFF_EVIDENCE_EVIDENCE_H_

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "diff/compare/compare.h"
#include "diff/evidence/sampling.h"
#include "diff/verdict/freshness.h"
#include "diff/verdict/noise.h"

namespace shadowline::diff {

// What evidence is counted under. Evidence of another window or catalog revision never mixes in.
struct EvidenceKey {
  std::string tenant;
  std::string family;
  std::string endpoint;  // "family/endpoint"
  uint64_t window = 0;
  uint64_t catalog_revision = 0;
  int64_t minute = 0;  // Unix minutes of the sampling.

  auto operator<=>(const EvidenceKey&) const = default;
  template <typename H>
  friend H AbslHashValue(H state, const EvidenceKey& key) {
    return H::combine(std::move(state), key.tenant, key.family, key.endpoint, key.window, key.catalog_revision,
                      key.minute);
  }
};

// Upper bounds of the candidate latency buckets, in microseconds; the last bucket is open.
inline constexpr std::array<int64_t, 11> kLatencyBoundsUs = {250,    500,    1'000,   2'500,   5'000,    10'000,
                                                             25'000, 50'000, 100'000, 250'000, 1'000'000};

// Absolute counts of one replica since it started: the greatest flush wins, so that a flush may be repeated or
// reordered.
struct Counts {
  uint64_t sampled = 0;
  uint64_t matched = 0;
  uint64_t excused = 0;
  uint64_t healed = 0;
  uint64_t confirmed = 0;
  uint64_t inconclusive = 0;
  uint64_t errored = 0;
  uint64_t shed = 0;
  uint64_t candidate_misses = 0;
  uint64_t candidate_errors = 0;
  std::array<uint64_t, kLatencyBoundsUs.size() + 1> candidate_latency{};
  Weighted weighted;

  uint64_t Settled() const { return matched + excused + healed + confirmed + inconclusive + errored + shed; }
  uint64_t Pending() const { return sampled - Settled(); }
};

// One (key, fill) that was verified and found right (matched, excused or healed).
struct Episode {
  uint64_t id = 0;         // Hash of key and fill.
  uint64_t key = 0;        // Hash of key.
  bool exercised = false;  // The fill came after an invalidation of its key.
};

struct Observation {
  absl::Time candidate_at;
  bool same_fill = false;
  absl::Time control_at;
  bool differed = false;
  std::string snapshot;
};

// A confirmed divergence, ready to be stored: values are redacted already.
struct Divergence {
  std::string id;  // 32 hexadecimal digits
  EvidenceKey evidence;
  std::string fingerprint;
  std::string key;
  std::string fill;  // hexadecimal
  std::vector<Difference> differences;
  uint64_t differences_total = 0;
  std::vector<std::string> patterns;
  std::string rule;  // "by_commit", "by_observation", "by_version" or "at_once"
  absl::Duration freshness;
  absl::Time filled_at;
  absl::Time served_at;
  std::vector<Observation> observations;
  std::vector<std::pair<std::string, absl::Time>> tags;  // Tag and its last invalidation; InfinitePast is never.
  std::string cause;
  std::string cause_evidence;
  uint64_t reads_affected = 0;
  bool after_cutover = false;
  absl::Time confirmed_at;
  // "another_tenant", "another_identity", "authorization"; empty: it is stale or wrong, and no more.
  std::string unsafe;
  // by_commit: when what the fill does not have was committed, or a moment after that. InfinitePast: not known.
  absl::Time committed_at = absl::InfinitePast();
  uint64_t transaction = 0;  // by_commit, from change capture: the last one that changed what the key depends on.
  // The read's parameters, and its values where they may be kept: encrypted (docs/evidence.md). Empty: nothing is kept.
  std::string sealed;
  absl::Time sealed_until = absl::InfinitePast();
};

// What one flush carries.
struct Flush {
  uint64_t sequence = 0;  // Grows by one with each flush of a replica.
  // Every read that was sampled before this is settled, and its verdict is in this flush or an earlier one. By this
  // process's Clock::Steady(), which no jump of the machine's clock moves; a store makes a time of its own clock of it.
  absl::Duration watermark;
  std::map<EvidenceKey, Counts> counts;                  // Only those that changed since the last flush that succeeded.
  std::map<EvidenceKey, std::vector<Episode>> episodes;  // New since then.
  std::map<NoiseKey, NoiseCounts> noise;                 // Of endpoints that changed; absolute, as the counts are.
  uint64_t catalog_revision = 0;                         // What the replica runs under now.
  uint64_t flag_revision = 0;
};

// `newer` on top of `older`, as if both had been one flush: what is counted is absolute, what was found adds up.
// Episodes beyond `episodes_max` are left out; returns how many.
size_t Merge(Flush newer, size_t episodes_max, Flush* older);

// Where evidence is kept. Blocking; called from a thread that may block.
//
// Implementations: evidence/postgres, tests/sim.
class EvidenceStore {
 public:
  virtual ~EvidenceStore() = default;

  // Applies the flush as a whole, once, whatever the order, and is the replica's heartbeat. kUnavailable: try again.
  virtual absl::Status Apply(const Flush& flush) = 0;
  // The same for a process that has died, whose last flush was found. No heartbeat: what it left pending is lost at the
  // next sweep. Sequence 0: it left none.
  virtual absl::Status ApplyLast(const std::string& replica, const std::string& name, const Flush& flush) = 0;
  // Stores a confirmed divergence at once; the same id again changes nothing but reads_affected.
  virtual absl::Status Record(const Divergence& divergence) = 0;
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_EVIDENCE_EVIDENCE_H_
