// The probable cause of a confirmed divergence, with the evidence for it in one sentence. A guess from what is known
// here: it decides nothing.
//
// Pure. Threads: everything here is a value.
#ifndef SHADOWLINE_DIFF_VERDICT_CAUSE_H_
#define SHADOWLINE_DIFF_VERDICT_CAUSE_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace shadowline::diff {

struct CauseInputs {
  bool control_found = true;
  bool candidate_found = true;
  absl::Time filled_at;     // When the fill's load began. Of an external cache: when the fill was first seen.
  absl::Time confirmed_at;  // When the look that confirmed it was taken.
  // The key's tags, and when each was last invalidated before the confirmation; InfinitePast is never.
  std::vector<std::pair<std::string, absl::Time>> tags;
  // The application fills the cache and invalidates it; tags say when it could have known, and no more.
  bool external = false;
  // The control was read twice in one snapshot and gave two answers.
  bool control_repeats_itself = true;
};

struct Cause {
  std::string name;      // missed_invalidation, fill_race, negative_stale, stale_entry, non_deterministic or unknown
  std::string evidence;  // For people; names tags, never values.
};

Cause ProbableCause(const CauseInputs& inputs);

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_VERDICT_CAUSE_H_
