// Evidence in PostgreSQL: the tables evidence, episode, noise, divergence and replica of Shadowline's schema.
//
// A replica writes its own rows only, with a sequence number, so flushes need no locks between replicas and may be
// repeated. Its row in `replica` is its heartbeat, and what serialises it with a sweep that takes it for dead.
//
// Ownership: borrows the sessions.
// Threads:   thread-safe. Blocking.
// Errors:    those of base/postgres/session.h. kUnavailable, kAborted, kDeadlineExceeded: the same call may be
// repeated.
#ifndef SHADOWLINE_DIFF_EVIDENCE_POSTGRES_EVIDENCE_H_
#define SHADOWLINE_DIFF_EVIDENCE_POSTGRES_EVIDENCE_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/postgres/session.h"
#include "diff/evidence/evidence.h"
#include "diff/evidence/evidence_reader.h"

namespace shadowline::diff {

class PostgresEvidence final : public EvidenceStore, public EvidenceReader {
 public:
  // `replica` is a UUID that belongs to this process alone, never to its successor. `name` is for people. A replica
  // whose heartbeat is older than `lapse` does not live.
  PostgresEvidence(base::PostgresSessions* sessions, std::string replica, std::string name, absl::Duration lapse);

  // The watermark that is kept is the database's time, so that those of all replicas are by one clock.
  absl::Status Apply(const Flush& flush) override;
  absl::Status ApplyLast(const std::string& replica, const std::string& name, const Flush& flush) override;
  // Waits for a flip of the same target that is under way, and makes the next one wait: a divergence is seen by the
  // flip or comes after it, never beside it.
  absl::Status Record(const Divergence& divergence) override;
  // A clean stop, after the last flush: what is pending now is lost at the next sweep, without waiting for a lapse.
  absl::Status Stop();
  // Replicas that live, as of the last flush that was applied, with this one; 0 before the first.
  uint64_t live() const { return live_.load(std::memory_order_relaxed); }

  // Turns the pending reads of replicas that stopped, or whose heartbeat is older than `lapse`, into lost ones; returns
  // how many. Any replica may call it, any number of times. A replica that was only asleep takes its reads back as it
  // settles them.
  absl::StatusOr<uint64_t> SweepLost(absl::Duration lapse);

  // Removes what was sealed until a time that is past; returns of how many divergences. Any replica may call it.
  absl::StatusOr<uint64_t> ExpireSeals();
  // Removes what is older than `retention` and of no target's present window, at most kRetireBatch rows of each table;
  // returns how many. Replicas that have been silent for so long go with it, and the noise that they
  // saw; noise under an earlier revision of the catalog goes at once. Any replica may call it.
  static constexpr int kRetireBatch = 10'000;
  absl::StatusOr<uint64_t> Retire(absl::Duration retention);

  absl::StatusOr<std::vector<DivergenceGroup>> Groups(const std::string& family, const std::string& fingerprint,
                                                      uint32_t limit) override;
  absl::StatusOr<std::vector<Divergence>> Divergences(const std::string& family, const std::string& tenant,
                                                      const std::string& fingerprint, uint32_t limit) override;
  absl::StatusOr<Divergence> Find(const std::string& id) override;
  absl::StatusOr<LedgerTotals> FamilyLedger(const std::string& family) override;
  absl::StatusOr<std::vector<Noise>> FamilyNoise(const std::string& family) override;

 private:
  const base::SystemClock clock_;
  base::PostgresSessions* const sessions_;
  const std::string replica_;
  const std::string name_;
  const absl::Duration lapse_;
  std::atomic<uint64_t> live_{0};
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_EVIDENCE_POSTGRES_EVIDENCE_H_
