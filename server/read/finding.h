// Finding is what a case knows of an answer once it has confirmed that it is wrong, whoever looked: the Verifier or the
// Observer. What both say of it alike is made of it here.
//
// Threads: values; Announcer is thread-safe.
#ifndef SHADOWLINE_SERVER_READ_FINDING_H_
#define SHADOWLINE_SERVER_READ_FINDING_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "base/metrics.h"
#include "cache/origin/control.h"
#include "diff/evidence/evidence.h"
#include "diff/verdict/cause.h"
#include "diff/verdict/freshness.h"
#include "diff/verdict/strangers.h"
#include "server/read/comparer.h"

namespace shadowline::server {

struct Finding {
  cache::Query query;  // Of an observed read perhaps without arguments.
  diff::EvidenceKey evidence;
  // As Divergence::id. Of the fill, so that whoever confirms it again, here or on another replica, reports the same
  // divergence.
  std::string id;
  std::string key;  // Never an application's own: that has values in it.
  std::string fill;
  std::optional<absl::Time> loaded_at;  // When the fill's load began. Absent: the application fills its cache.
  Compared difference;                  // What is wrong.
  diff::FreshnessCase rule;             // With its looks,
  diff::Proof proof = diff::Proof::kByObservation;  // and what confirmed it.
  bool control_found = true;
  bool candidate_found = true;
  diff::Stranger stranger = diff::Stranger::kNobody;
  bool named = false;  // By the answer itself.
  // Proof::kByCommit: as Divergence::committed_at and ::transaction.
  absl::Time committed_by = absl::InfinitePast();
  uint64_t transaction = 0;
  std::optional<diff::CapturedWrites> captured;
  std::string noise;  // What is known of the control's own at these places, as a sentence.
  uint64_t reads = 1;
  bool after_cutover = false;
  absl::Time confirmed_at;
};

// Without tags and cause; nothing is sealed.
diff::Divergence DivergenceOf(const Finding& finding);

// Without tags and burst.
diff::CauseInputs CauseInputsOf(const Finding& finding);

// Counts what was confirmed, and logs it.
class Announcer {
 public:
  explicit Announcer(base::Metrics* metrics);

  void Announce(const diff::Divergence& divergence) const;

 private:
  base::Counter* const divergences_;
  base::Counter* const unsafe_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_FINDING_H_
