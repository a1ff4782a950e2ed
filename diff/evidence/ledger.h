// Ledger counts what became of every sampled read of this process, so that at any moment
//   sampled = settled + pending
// holds, per key and in every flush.
//
//   std::optional<Ledger::Ticket> ticket = ledger.Sampled(key);   // at the read
//   if (!ticket) return;                                          // the ledger is full: the read is not verified
//   ...
//   ledger.Verified(key, episode);                                // before the verdict, so that both are in one flush
//   ticket->Settle(Verdict::kMatched);                            // once; a ticket that is dropped counts as shed
//
// The ledger stamps the sampling itself, under its lock, so that its watermark is exact: a read that is sampled after a
// flush was built is no older than that flush's watermark. `EvidenceKey::minute` of an argument is ignored and filled
// in here. All of that goes by Clock::Steady(); minutes are those of the machine's clock at the ledger's making,
// counted on from there. So the machine's clock may jump: no minute that is over begins again (its counts are absolute,
// and would be replaced by smaller ones), and no watermark promises more than was seen.
//
// Ownership: borrows the clock. Must outlive its tickets.
// Threads:   thread-safe; one mutex, held for a table look-up (a few hundred nanoseconds), and by BuildFlush and
// Flushed for
//            O(keys that changed) and O(keys).
// Limits:    Limits below. At accounts_max and tickets_max a read is not sampled, or is shed: verification suffers,
// never the read.
#ifndef SHADOWLINE_DIFF_EVIDENCE_LEDGER_H_
#define SHADOWLINE_DIFF_EVIDENCE_LEDGER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/container/node_hash_map.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "diff/evidence/evidence.h"

namespace shadowline::diff {

class Ledger {
 private:
  struct Account;

 public:
  struct Limits {
    size_t accounts_max = 100'000;  // Keys x minutes that are counted, or wait for their flush.
    size_t tickets_max = 65'536;    // Sampled reads without a verdict.
    size_t episodes_max =
        65'536;  // Episodes that wait for their flush; more are forgotten (which only costs evidence).
    size_t recent_max = 1'048'576;  // Episodes remembered so that a hot key is not reported twice.
  };

  // One sampled read that has no verdict yet. Move-only.
  class Ticket {
   public:
    Ticket(Ticket&& other) noexcept;
    Ticket& operator=(Ticket&& other) noexcept;
    ~Ticket() { Settle(Verdict::kShed); }

    // The first call counts, later ones change nothing.
    void Settle(Verdict verdict);
    // The key that the read is counted under, with its minute; valid until settled.
    const EvidenceKey& key() const;
    absl::Duration sampled_at() const { return *place_; }  // Clock::Steady()
    const Inclusion& inclusion() const { return inclusion_; }

   private:
    friend class Ledger;
    using Place = std::multiset<absl::Duration>::iterator;
    Ticket(Ledger* ledger, Account* account, Place place, Inclusion inclusion)
        : ledger_(ledger), account_(account), place_(place), inclusion_(inclusion) {}

    Ledger* ledger_;
    Account* account_;
    Place place_;
    Inclusion inclusion_;
  };

  explicit Ledger(const base::Clock* clock) : Ledger(clock, Limits()) {}
  Ledger(const base::Clock* clock, Limits limits);
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;
  ~Ledger();

  // A read was sampled, its candidate had an answer after `candidate_latency`. Nothing: the ledger is full. At
  // tickets_max the read is counted as shed.
  std::optional<Ticket> Sampled(const EvidenceKey& key, std::optional<absl::Duration> candidate_latency = std::nullopt,
                                Inclusion inclusion = {});
  // A read was sampled and given up at once: no budget, no room in a queue.
  void Shed(const EvidenceKey& key);

  // A sampled read whose candidate had nothing, or failed: it served nothing, and is no part of the balance.
  void CandidateMiss(const EvidenceKey& key);
  void CandidateError(const EvidenceKey& key);
  void CandidateLatency(const EvidenceKey& key, absl::Duration latency);

  // An episode was found right (matched, excused, healed).
  void Verified(const EvidenceKey& key, const Episode& episode);

  // What has changed since the last call, with the next sequence number. Leaves the revisions at 0. Each flush has to
  // reach the store, in order: keep it until it has, then say so with Flushed.
  Flush BuildFlush();
  // The flush has reached the store: keys of past minutes in it that are settled are forgotten.
  void Flushed(uint64_t sequence);

  // Since the start, over all keys. `refused` are reads and events that found the ledger full and are not in `counts`.
  struct Totals {
    Counts counts;
    uint64_t refused = 0;
    uint64_t episodes_dropped = 0;
    size_t accounts = 0;
  };
  Totals totals() const;

 private:
  // One key and minute. `totals_` and the account are changed together, through Count.
  struct Account {
    EvidenceKey key;
    Counts counts;
    uint64_t open = 0;
    uint64_t sent_in = 0;  // The last flush that carried it.
    bool changed = false;
  };

  absl::Duration Now() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t MinuteOf(absl::Duration steady) const { return absl::ToUnixSeconds(wall_origin_ + steady) / 60; }
  // Null when full.
  Account* Find(const EvidenceKey& key, absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Count(Account* account, uint64_t Counts::*counter) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Touch(Account* account) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountLatency(Account* account, absl::Duration latency) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountAlone(const EvidenceKey& key, uint64_t Counts::*counter);
  void Settle(Account* account, Ticket::Place place, Verdict verdict, Inclusion inclusion);

  const base::Clock* const clock_;
  const Limits limits_;
  const absl::Time wall_origin_;
  mutable base::Mutex mutex_;
  absl::Duration now_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();  // Never goes back.
  uint64_t sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::node_hash_map<EvidenceKey, Account> accounts_ ABSL_GUARDED_BY(mutex_);
  std::vector<Account*> changed_ ABSL_GUARDED_BY(mutex_);
  std::multiset<absl::Duration> open_ ABSL_GUARDED_BY(mutex_);  // Sampling times of the open tickets.
  std::map<EvidenceKey, std::vector<Episode>> episodes_ ABSL_GUARDED_BY(mutex_);
  size_t episodes_waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  // Two generations: when the younger is full, the older is forgotten.
  absl::flat_hash_set<uint64_t> recent_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<uint64_t> recent_before_ ABSL_GUARDED_BY(mutex_);
  Totals totals_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_EVIDENCE_LEDGER_H_
