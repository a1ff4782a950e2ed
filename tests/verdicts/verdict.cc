#include "tests/verdicts/verdict.h"

#include <algorithm>

#include "absl/strings/match.h"

namespace shadowline::verdicts {
namespace {

// One of the clauses that ask for evidence, and not for time or for somebody else.
bool AsksForEvidence(const std::string& missing) {
  for (const char* what : {"episodes", "distinct keys", "sampled"}) {
    if (absl::StrContains(missing, what)) return true;
  }
  return false;
}

}  // namespace

bool IsUnsafe(const shadowline::v1::Divergence& divergence) { return !divergence.unsafe().empty(); }

std::string VerdictOf(const Shown& shown) {
  const bool unsafe = std::any_of(shown.divergences.begin(), shown.divergences.end(), IsUnsafe);
  if (unsafe && !shown.all_demoted) return "unsafe, and the family is served";
  if (!shown.divergences.empty() && shown.diverged_is_served) return "diverged, and promoted";
  if (unsafe) return "BLOCK+SEC";
  if (!shown.divergences.empty()) return "BLOCK";
  if (shown.promoted) {
    if (shown.ledger.excused() > 0 || shown.bytes_differ) {
      return shown.diverged_without_rule == false ? "excused without a rule" : "BENIGN";
    }
    return shown.ledger.healed() > 0 ? "TRANSIENT" : "CLEAN";
  }
  if (std::none_of(shown.missing.begin(), shown.missing.end(), AsksForEvidence)) return "undecided";
  return shown.ledger.excused() > 0 && shown.ledger.matched() == 0 ? "CONTROL" : "VACUOUS";
}

}  // namespace shadowline::verdicts
