// The freshness rule: unequal is not wrong yet.
//
// Terminology
//   c       the answer that was served, of one fill
//   delta   the endpoint's freshness bound
//   look    one reading of both sides: the candidate first, the control after it
//
// A Case judges one episode, that is one (key, fill). It is confirmed
//
//   by observation  when the same fill is still served by a look at time t, the control differed from c in an earlier
//                   look by t - delta or before, and differs now. The database need not stand still between the two: a
//                   key that is written every second is judged like any other;
//   by commit       when a look at time t found the fill, its control was asked after that and differs from c, and what
//                   the control said was committed by t - delta. No waiting;
//   by version      when a look's control differs from c under the same version, or when the control had seen what the
//                   fill's load saw and c bears a newer version. The database never held c then. No waiting;
//   at once         when the answer is one that no time excuses: somebody else's, or no answer at all.
//
// A look whose control may have been read before the fill was loaded proves nothing about the fill by observation or by
// commit, and counts neither as the earlier look nor as the later one. Equal versions are proof all the same.
//
// A fill that was replaced is healed if the look that saw it came within twice delta of the first difference that
// counts (no look can come sooner than delta). Later than that nobody knows whether it was in time: inconclusive.
// docs/freshness.md has the argument, and what this rule cannot see.
//
// Pure: the caller reads both sides, compares, and asks again when told to.
// Threads: compatible.
#ifndef SHADOWLINE_DIFF_VERDICT_FRESHNESS_H_
#define SHADOWLINE_DIFF_VERDICT_FRESHNESS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "diff/verdict/versions.h"

namespace shadowline::diff {

enum class Verdict { kMatched, kExcused, kHealed, kConfirmed, kInconclusive, kErrored, kShed };

// "matched", "excused", ...
absl::string_view VerdictName(Verdict verdict);

// Which rule confirmed a divergence.
enum class Proof { kByObservation, kByCommit, kByVersion, kAtOnce };

// "by_observation", "by_commit", "by_version", "at_once"
absl::string_view ProofName(Proof proof);

// What one look at both sides saw.
struct Look {
  enum class Candidate { kSameFill, kReplaced, kUnknown };      // kUnknown: the cache could not be read
  enum class Control { kEqual, kExcused, kDiffers, kUnknown };  // against c; kUnknown: failed or timed out

  Candidate candidate = Candidate::kSameFill;
  absl::Time candidate_at;  // When its reading began: the fill was still served then, or later.
  Control control = Control::kUnknown;
  absl::Time control_at;  // When its answer was here: what it saw is no younger.
  // The control's statement is known to have seen at least what the fill's load saw (by snapshots, or because it began
  // after the fill was first seen).
  bool control_after_fill = false;
  std::string snapshot;
  // The control was asked when the candidate had been read: what it saw is no older than the serving of the fill.
  bool control_after_candidate = true;
  // By when all that the control saw, and that the answer depends on, was committed and visible. InfiniteFuture: nobody
  // knows.
  absl::Time committed_by = absl::InfiniteFuture();
  // c's against the control's. Counts only where the control differs; kNewer only where that is no server that may be
  // behind the one that c was loaded from.
  Versions versions = Versions::kUnknown;
  // c is wrong whatever its age. Counts only where the control differs.
  bool never_right = false;
};

// What to do next.
struct Step {
  std::optional<Verdict> verdict;       // Settled, or
  absl::Duration look_again_in;         // look again after this long.
  absl::Duration healed_after;          // kHealed: how long after the first difference the fill was gone, at most.
  Proof proof = Proof::kByObservation;  // kConfirmed
  std::string why;                      // One clause for people.
};

class FreshnessCase {
 public:
  struct Options {
    absl::Duration delta;
    int max_rounds = 5;                              // Looks after the first, before it is inconclusive.
    absl::Duration retry = absl::Milliseconds(200);  // Between looks that proved nothing.
  };

  FreshnessCase(Options options, absl::Time served_at);

  // The first look is the sampled read itself. Looks come in order of time, until one settles the case.
  Step Add(const Look& look);

  // By when what the last look's control saw was committed is known by now. REQUIRES: that look did not settle the
  // case.
  Step Learn(absl::Time committed_by);

  const std::vector<Look>& looks() const { return looks_; }
  absl::Time served_at() const { return served_at_; }

 private:
  std::optional<Step> Wrong(const Look& look) const;
  Step Equal(const Look& look) const;
  Step Gone(const Look& look) const;
  Step Again(const Look& look) const;

  Options options_;
  absl::Time served_at_;
  std::vector<Look> looks_;
  bool control_answered_ = false;
  std::optional<absl::Time> first_difference_;  // Earliest control_at of a difference, whether or not it counts.
  std::optional<absl::Time> differed_since_;    // Earliest control_at that counts.
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_VERDICT_FRESHNESS_H_
