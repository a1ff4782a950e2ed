// The gate judges one window: a list of named clauses, each met or not, with a sentence for people and how long it will
// take at the present rate. A window is clean when every clause is met. "No data" meets nothing: it never promotes, and
// as no divergence either, it never rolls back.
//
// Terminology
//   judged_until  the moment up to which a window is judged. It is fixed when everything else is met; the verdict
//   counts once
//                 the watermark of every live replica has passed it, and is taken again on the evidence that has come
//                 by then. So no replica holds back a verdict on a read that was sampled before that moment.
//
// Pure: no I/O, no clock.
#ifndef SHADOWLINE_ROLLOUT_GATE_GATE_H_
#define SHADOWLINE_ROLLOUT_GATE_GATE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "diff/evidence/evidence_reader.h"
#include "rollout/commands.h"

namespace shadowline::rollout {

struct EndpointEvidence {
  uint64_t episodes = 0;  // Distinct (key, fill) that were verified and found right.
  uint64_t distinct_keys = 0;
  uint64_t exercised = 0;  // Episodes whose fill followed an invalidation.

  bool operator==(const EndpointEvidence&) const = default;
};

// What was counted under one target's present window and catalog revision, by all replicas.
struct Evidence {
  std::map<std::string, EndpointEvidence> endpoints;  // By "family/endpoint".
  diff::LedgerTotals ledger;
  uint64_t confirmed = 0;  // Stored divergences, not their reads.
  // Unsafe divergences of the whole family, whichever target's, since this target's window began: somebody was, or
  // would have been, shown what is not for them. What is wrong with one target's cache there is wrong with all.
  uint64_t unsafe = 0;
  // Pending reads of replicas that are not live any more: unknown until they are swept into `lost`.
  uint64_t unswept = 0;
};

// The replicas that could hold back evidence.
struct Fleet {
  uint64_t live = 0;
  absl::Time watermark = absl::UnixEpoch();  // The least of the live ones.
};

struct WindowInput {
  Policy policy;
  std::vector<std::string> endpoints;  // All of the family, "family/endpoint".
  absl::Time since;
  std::optional<absl::Time> judged_until;
  Evidence evidence;
  Fleet fleet;
  absl::Time now;
};

// How far the clocks of two replicas may be apart: a watermark counts as past a moment only by this much.
inline constexpr absl::Duration kClockSkew = absl::Milliseconds(500);

inline constexpr char kWatermarkClause[] = "watermark";

// In the order of the policy; `episodes` and `distinct_keys` come once for each endpoint. The watermark clause is last.
std::vector<Clause> Judge(const WindowInput& window);

// True: every clause but the watermark's is met.
bool ReadyToJudge(const std::vector<Clause>& clauses);
// True: every clause is met.
bool Clean(const std::vector<Clause>& clauses);
// The longest of what is missing; absent where one is unknown.
std::optional<absl::Duration> Eta(const std::vector<Clause>& clauses);

// kInvalidArgument names the field and what was expected.
absl::Status CheckPolicy(const Policy& policy);

// "1,204".
std::string Grouped(uint64_t number);

}  // namespace shadowline::rollout

#endif  // SHADOWLINE_ROLLOUT_GATE_GATE_H_
