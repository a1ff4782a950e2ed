#include "diff/verdict/freshness.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace shadowline::diff {
namespace {

Step Settled(Verdict verdict, std::string why) {
  Step step;
  step.verdict = verdict;
  step.why = std::move(why);
  return step;
}

// A look that comes a little late settles the case; one that comes a little early costs a round.
absl::Duration Margin(absl::Duration delta) {
  return std::clamp(delta / 64, absl::Milliseconds(1), absl::Milliseconds(50));
}

}  // namespace

absl::string_view VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kMatched:
      return "matched";
    case Verdict::kExcused:
      return "excused";
    case Verdict::kHealed:
      return "healed";
    case Verdict::kConfirmed:
      return "confirmed";
    case Verdict::kInconclusive:
      return "inconclusive";
    case Verdict::kErrored:
      return "errored";
    case Verdict::kShed:
      return "shed";
  }
  return "unknown";
}

absl::string_view ProofName(Proof proof) {
  switch (proof) {
    case Proof::kByObservation:
      return "by_observation";
    case Proof::kByCommit:
      return "by_commit";
    case Proof::kByVersion:
      return "by_version";
    case Proof::kAtOnce:
      return "at_once";
  }
  return "unknown";
}

FreshnessCase::FreshnessCase(Options options, absl::Time served_at) : options_(options), served_at_(served_at) {}

Step FreshnessCase::Add(const Look& look) {
  looks_.push_back(look);
  if (look.control != Look::Control::kUnknown) control_answered_ = true;
  const bool differs = look.control == Look::Control::kDiffers;
  const bool counts = differs && look.control_after_fill;

  std::optional<Step> wrong = Wrong(look);
  // A difference says something about the fill whether or not the cache could be read: fills have ids and never come
  // back.
  if (differs && !first_difference_.has_value()) first_difference_ = look.control_at;
  if (counts && !differed_since_.has_value()) differed_since_ = look.control_at;

  if (wrong.has_value()) return *std::move(wrong);
  if (look.candidate == Look::Candidate::kReplaced && first_difference_.has_value()) return Gone(look);
  if (look.control == Look::Control::kEqual || look.control == Look::Control::kExcused) return Equal(look);
  return Again(look);
}

Step FreshnessCase::Learn(absl::Time committed_by) {
  Look& look = looks_.back();
  look.committed_by = std::min(look.committed_by, committed_by);
  std::optional<Step> wrong = Wrong(look);
  return wrong.has_value() ? *std::move(wrong) : Again(look);
}

std::optional<Step> FreshnessCase::Wrong(const Look& look) const {
  if (look.control != Look::Control::kDiffers) return std::nullopt;
  const auto confirmed = [](Proof proof, std::string why) {
    Step step = Settled(Verdict::kConfirmed, std::move(why));
    step.proof = proof;
    return step;
  };
  if (look.never_right) return confirmed(Proof::kAtOnce, "no age excuses such an answer");
  if (look.versions == Versions::kSame) {
    return confirmed(Proof::kByVersion, "the database says otherwise under the same version");
  }
  if (look.versions == Versions::kNewer && look.control_after_fill) {
    return confirmed(Proof::kByVersion, "its version is newer than the database's, which was asked later");
  }
  if (look.candidate != Look::Candidate::kSameFill || !look.control_after_fill) return std::nullopt;
  const absl::Time bound = look.candidate_at - options_.delta;
  if (look.control_after_candidate && look.committed_by <= bound) {
    return confirmed(Proof::kByCommit,
                     absl::StrCat("the fill was served ", absl::FormatDuration(look.candidate_at - look.committed_by),
                                  " after what the database says instead was committed"));
  }
  if (differed_since_.has_value() && *differed_since_ <= bound) {
    return confirmed(Proof::kByObservation, absl::StrCat("the same fill was still served ",
                                                         absl::FormatDuration(look.candidate_at - *differed_since_),
                                                         " after the database differed from it, and it differs now"));
  }
  return std::nullopt;
}

// The database says what was served. Where it said otherwise before, nobody knows how long c was wrong in between.
Step FreshnessCase::Equal(const Look& look) const {
  if (differed_since_.has_value()) {
    return Settled(Verdict::kInconclusive, "the database differed and then went back to the answer that was served");
  }
  if (look.control == Look::Control::kExcused) return Settled(Verdict::kExcused, "the same under the declared rules");
  return Settled(Verdict::kMatched, "the same");
}

// The fill is no longer served, after the database differed from it.
Step FreshnessCase::Gone(const Look& look) const {
  if (differed_since_.has_value() && look.candidate_at - *differed_since_ > 2 * options_.delta + options_.retry) {
    return Settled(Verdict::kInconclusive, "the fill was replaced, but the look came too late to tell whether in time");
  }
  Step step = Settled(Verdict::kHealed, "the fill was replaced");
  step.healed_after = std::max(look.candidate_at - *first_difference_, absl::ZeroDuration());
  return step;
}

Step FreshnessCase::Again(const Look& look) const {
  const int rounds = static_cast<int>(looks_.size()) - 1;
  if (rounds >= options_.max_rounds) {
    if (!control_answered_)
      return Settled(Verdict::kErrored, absl::StrCat("the database never answered in ", rounds + 1, " looks"));
    return Settled(Verdict::kInconclusive, absl::StrCat("still undecided after ", rounds + 1, " looks"));
  }
  Step step;
  if (look.control == Look::Control::kUnknown || look.candidate == Look::Candidate::kUnknown ||
      !differed_since_.has_value()) {
    step.look_again_in = options_.retry;
    step.why = look.control == Look::Control::kUnknown       ? "the database did not answer"
               : look.candidate == Look::Candidate::kUnknown ? "the cache did not answer"
                                                             : "the database may have been read before the fill";
  }
  // Sooner than delta after the first difference that counts, a look can prove nothing.
  if (differed_since_.has_value()) {
    const absl::Time now = std::max(look.control_at, look.candidate_at);
    const absl::Duration rest = *differed_since_ + options_.delta - now + Margin(options_.delta);
    step.look_again_in = std::max(step.look_again_in, std::max(rest, Margin(options_.delta)));
    // What was committed long ago lacks only a control that was asked after the candidate.
    if (look.committed_by <= look.candidate_at - options_.delta) step.look_again_in = Margin(options_.delta);
    if (step.why.empty()) step.why = "it differs, which is not wrong yet";
  }
  // It lacks only a control that is known to come after the fill.
  if (look.versions == Versions::kNewer) step.look_again_in = Margin(options_.delta);
  return step;
}

}  // namespace shadowline::diff
