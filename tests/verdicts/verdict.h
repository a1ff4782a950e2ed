// What a run of a bug came to, by what Shadowline shows of it to an operator. Nothing here knows which bug it was.
//
//   BLOCK       a divergence was recorded, and no target that has one can be promoted, not even by force
//   BLOCK+SEC   the same, one is marked unsafe, and no tenant of the family is served from the cache any more
//   TRANSIENT   healed in time, counted apart, and promoted all the same
//   BENIGN      promoted with excuses that are counted, or where the sides differ in their bytes alone; and recorded as
//               a divergence where no rule excuses it
//   VACUOUS     nothing was found and nothing was promoted: the window says what evidence it lacks
//   CONTROL     what was excused is counted apart, and does not promote by itself (other faults of a controller have
//               checks of their own: controls.h)
//   CLEAN       promoted, and there was nothing to see
//
// Anything else is a fault of Shadowline's, in words.
#ifndef SHADOWLINE_TESTS_VERDICTS_VERDICT_H_
#define SHADOWLINE_TESTS_VERDICTS_VERDICT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "shadowline/v1/divergence.pb.h"

namespace shadowline::verdicts {

struct Shown {
  shadowline::v1::Ledger ledger;
  std::vector<shadowline::v1::Divergence> divergences;
  // A target with a divergence was promoted, or is served from the cache.
  bool diverged_is_served = false;
  // No target of the family is served from the cache.
  bool all_demoted = false;
  // Everything waited for an approval alone, was approved, and is served from the cache.
  bool promoted = false;
  // What the windows lack.
  std::vector<std::string> missing;
  // Of the reads compared, most differed in their bytes, by the harness' own look.
  bool bytes_differ = false;
  // Of the same reads without the rule, where there are such.
  std::optional<bool> diverged_without_rule;
};

bool IsUnsafe(const shadowline::v1::Divergence& divergence);

std::string VerdictOf(const Shown& shown);

}  // namespace shadowline::verdicts

#endif  // SHADOWLINE_TESTS_VERDICTS_VERDICT_H_
