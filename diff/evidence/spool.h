// Spool keeps, on this machine, what was confirmed and counted and has not reached the evidence store yet, so that
// kill -9 while the store is away loses none of it. It is replayed by the same process, which still has it in memory,
// or by whoever comes after it on this machine.
//
// What is in it is what the store would have got: redacted or sealed.
//
// Threads: one call at a time. Blocking; called from a thread that may block.
#ifndef SHADOWLINE_DIFF_EVIDENCE_SPOOL_H_
#define SHADOWLINE_DIFF_EVIDENCE_SPOOL_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "diff/evidence/evidence.h"

namespace shadowline::diff {

// What a process that has died had not stored.
struct Legacy {
  std::string id;  // Of the spool that it is in.
  std::string replica;
  std::string replica_name;
  std::vector<Divergence> divergences;
  std::optional<Flush> flush;
};

// Implementations: evidence/file, tests/sim.
class Spool {
 public:
  virtual ~Spool() = default;

  // Both are on the disk once this returns OK. kResourceExhausted: beyond the limit, or the disk is full; what was in
  // the spool before still is.
  virtual absl::Status Append(const Divergence& divergence) = 0;
  // Instead of everything that was in it. `flush` may be null. At the limit divergences go before counts, and counts
  // before episodes; kResourceExhausted then says what was left out.
  virtual absl::Status Replace(const std::vector<Divergence>& divergences, const Flush* flush) = 0;

  // The spool of some process that has died, which is then this process's alone until it forgets it or ends; nothing:
  // there is none.
  virtual absl::StatusOr<std::optional<Legacy>> Inherit() = 0;
  // All of it is stored.
  virtual absl::Status Forget(const std::string& id) = 0;
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_EVIDENCE_SPOOL_H_
