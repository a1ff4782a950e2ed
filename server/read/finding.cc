#include "server/read/finding.h"

#include "absl/strings/escaping.h"
#include "base/log.h"
#include "diff/compare/compare.h"
#include "server/read/recogniser.h"

namespace shadowline::server {

diff::Divergence DivergenceOf(const Finding& finding) {
  const cache::Endpoint& endpoint = *finding.query.endpoint;
  diff::Divergence divergence;
  divergence.id = finding.id;
  divergence.evidence = finding.evidence;
  divergence.fingerprint = diff::Fingerprint(endpoint.name, finding.difference.patterns);
  divergence.key = finding.key;
  divergence.fill = absl::BytesToHexString(finding.fill);
  divergence.differences = finding.difference.differences;
  divergence.differences_total = finding.difference.differences_total;
  divergence.patterns = finding.difference.patterns;
  divergence.rule = std::string(diff::ProofName(finding.proof));
  divergence.committed_at = finding.committed_by;
  divergence.transaction = finding.transaction;
  divergence.unsafe = UnsafeBecause(endpoint, finding.stranger);
  divergence.freshness = endpoint.freshness;
  divergence.filled_at = finding.loaded_at.value_or(absl::UnixEpoch());
  divergence.served_at = finding.rule.served_at();
  for (const diff::Look& look : finding.rule.looks()) {
    divergence.observations.push_back({look.candidate_at, look.candidate == diff::Look::Candidate::kSameFill,
                                       look.control_at, look.control == diff::Look::Control::kDiffers, look.snapshot});
  }
  divergence.reads_affected = finding.reads;
  divergence.after_cutover = finding.after_cutover;
  divergence.confirmed_at = finding.confirmed_at;
  return divergence;
}

diff::CauseInputs CauseInputsOf(const Finding& finding) {
  diff::CauseInputs inputs;
  inputs.control_found = finding.control_found;
  inputs.candidate_found = finding.candidate_found;
  // Where nobody knows, the time by which it was there.
  inputs.filled_at = finding.loaded_at.value_or(finding.rule.served_at());
  inputs.confirmed_at = finding.rule.looks().back().candidate_at;
  inputs.freshness = finding.query.endpoint->freshness;
  inputs.external = !finding.loaded_at.has_value();
  inputs.stranger = finding.stranger;
  inputs.named = finding.named;
  inputs.patterns = finding.difference.patterns;
  if (finding.proof == diff::Proof::kByVersion) inputs.versions = finding.rule.looks().back().versions;
  inputs.captured = finding.captured;
  return inputs;
}

Announcer::Announcer(base::Metrics* metrics)
    : divergences_(metrics->AddCounter("shadowline_divergences_total", "Confirmed divergences.")),
      unsafe_(metrics->AddCounter("shadowline_unsafe_divergences_total",
                                  "Confirmed divergences that nobody may be served, not even rarely.")) {}

void Announcer::Announce(const diff::Divergence& divergence) const {
  const bool unsafe = !divergence.unsafe.empty();
  divergences_->Add();
  if (unsafe) unsafe_->Add();
  base::Log(unsafe ? base::Level::kError : base::Level::kWarning,
            unsafe ? "unsafe_divergence_confirmed" : "divergence_confirmed",
            {{"id", divergence.id},
             {"unsafe", divergence.unsafe},
             {"endpoint", divergence.evidence.endpoint},
             {"fingerprint", divergence.fingerprint},
             {"cause", divergence.cause},
             {"after_cutover", divergence.after_cutover}});
}

}  // namespace shadowline::server
