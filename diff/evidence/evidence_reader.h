// EvidenceReader answers people's questions about evidence: divergences, groups and the report of a family.
//
// Threads: thread-safe. Blocking. Statuses: kNotFound, kUnavailable.
#ifndef SHADOWLINE_DIFF_EVIDENCE_EVIDENCE_READER_H_
#define SHADOWLINE_DIFF_EVIDENCE_EVIDENCE_READER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "diff/evidence/evidence.h"

namespace shadowline::diff {

// One endpoint x fingerprint.
struct DivergenceGroup {
  std::string family;
  std::string endpoint;
  std::string fingerprint;
  std::vector<std::string> patterns;
  std::string cause;
  uint64_t divergences = 0;
  uint64_t tenants = 0;
  uint64_t keys = 0;
  uint64_t reads_affected = 0;
  absl::Time first_at;
  absl::Time last_at;
  std::string example_id;  // The newest one; cause and evidence are its.
  std::string cause_evidence;
  std::string unsafe;                     // As of a divergence; empty where none of the group is unsafe.
  std::vector<std::string> example_keys;  // At most kExampleKeys, those with most reads first.
};

inline constexpr size_t kExampleKeys = 20;

// Counts of all replicas, with the reads that dead replicas took with them.
struct LedgerTotals {
  Counts counts;
  uint64_t lost = 0;
  uint64_t pending = 0;
};

// How often two readings of one snapshot differed at a pattern, over all replicas; an empty pattern is at any place.
struct Noise {
  std::string endpoint;
  std::string pattern;
  uint64_t pairs = 0;  // Of the endpoint.
  uint64_t differed = 0;

  bool operator==(const Noise&) const = default;
};

class EvidenceReader {
 public:
  virtual ~EvidenceReader() = default;

  // Each filter may be empty: all. Newest first.
  virtual absl::StatusOr<std::vector<DivergenceGroup>> Groups(const std::string& family, const std::string& fingerprint,
                                                              uint32_t limit) = 0;
  virtual absl::StatusOr<std::vector<Divergence>> Divergences(const std::string& family, const std::string& tenant,
                                                              const std::string& fingerprint, uint32_t limit) = 0;
  virtual absl::StatusOr<Divergence> Find(const std::string& id) = 0;
  // Everything that was ever counted for a family.
  virtual absl::StatusOr<LedgerTotals> FamilyLedger(const std::string& family) = 0;
  // Each endpoint of which pairs were read, under the newest catalog revision for which they were: its pairs first,
  // then its patterns in their order.
  virtual absl::StatusOr<std::vector<Noise>> FamilyNoise(const std::string& family) = 0;
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_EVIDENCE_EVIDENCE_READER_H_
