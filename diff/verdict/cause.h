// The probable cause of a confirmed divergence, with the evidence for it in one sentence, and what to do about it. A
// guess from what is known here: it decides nothing.
//
// Pure. Threads: everything here is a value.
#ifndef SHADOWLINE_DIFF_VERDICT_CAUSE_H_
#define SHADOWLINE_DIFF_VERDICT_CAUSE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "diff/verdict/strangers.h"
#include "diff/verdict/versions.h"

namespace shadowline::diff {

// What change capture knows of the tables that the key depends on, since the fill was loaded.
struct CapturedWrites {
  bool any = false;
  uint64_t transaction = 0;  // The last one.
  absl::Time at;             // Of it.
};

struct CauseInputs {
  bool control_found = true;
  bool candidate_found = true;
  absl::Time filled_at;     // When the fill's load began. Of an external cache: when the fill was first seen.
  absl::Time confirmed_at;  // When the look that confirmed it was taken.
  absl::Duration freshness;
  // The key's tags, and when each was last invalidated before the confirmation; InfinitePast is never.
  std::vector<std::pair<std::string, absl::Time>> tags;
  // The application fills the cache and invalidates it; tags say when it could have known, and no more.
  bool external = false;
  // Whose answer it is instead. `named`: by the answer itself.
  Stranger stranger = Stranger::kNobody;
  bool named = false;
  std::vector<std::string> patterns;       // As Comparison::patterns.
  std::optional<CapturedWrites> captured;  // Absent: changes are not captured, or not all of them are known.
  Versions versions = Versions::kUnknown;  // Where they are the proof.
  // Keys of the endpoint and tenant that were confirmed since `burst_since`, this one included.
  size_t burst = 1;
  absl::Time burst_since;
};

struct Cause {
  // cross_tenant, key_collision, same_version, never_held, schema_skew, fill_race, negative_stale,
  // hidden_input, out_of_band_writer, missed_invalidation, stale_entry or unknown
  std::string name;
  std::string evidence;  // For people; names tags, never values.
};

Cause ProbableCause(const CauseInputs& inputs);

// Members came, went or changed their type, and no value differs: "/name: missing", "/lines/*/id: type". A whole answer
// or item that is not there is another matter.
bool IsOtherShape(const std::vector<std::string>& patterns);

// What to do about a cause, as a clause for people that goes on "next: ...". `tags` are the key's; empty where none are
// known, or many keys are meant.
std::string AdviceOn(absl::string_view cause, const std::vector<std::string>& tags);

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_VERDICT_CAUSE_H_
