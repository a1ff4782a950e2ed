#include "diff/evidence/ledger.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/hash/hash.h"

namespace shadowline::diff {
namespace {

uint64_t Counts::*CounterOf(Verdict verdict) {
  switch (verdict) {
    case Verdict::kMatched:
      return &Counts::matched;
    case Verdict::kExcused:
      return &Counts::excused;
    case Verdict::kHealed:
      return &Counts::healed;
    case Verdict::kConfirmed:
      return &Counts::confirmed;
    case Verdict::kInconclusive:
      return &Counts::inconclusive;
    case Verdict::kErrored:
      return &Counts::errored;
    case Verdict::kShed:
      break;
  }
  return &Counts::shed;
}

bool IsJudged(Verdict verdict) {
  return verdict == Verdict::kMatched || verdict == Verdict::kExcused || verdict == Verdict::kHealed ||
         verdict == Verdict::kConfirmed;
}

}  // namespace

Ledger::Ticket::Ticket(Ticket&& other) noexcept
    : ledger_(std::exchange(other.ledger_, nullptr)),
      account_(other.account_),
      place_(other.place_),
      inclusion_(other.inclusion_) {}

Ledger::Ticket& Ledger::Ticket::operator=(Ticket&& other) noexcept {
  if (this == &other) return *this;
  Settle(Verdict::kShed);
  ledger_ = std::exchange(other.ledger_, nullptr);
  account_ = other.account_;
  place_ = other.place_;
  inclusion_ = other.inclusion_;
  return *this;
}

const EvidenceKey& Ledger::Ticket::key() const { return account_->key; }

void Ledger::Ticket::Settle(Verdict verdict) {
  if (Ledger* ledger = std::exchange(ledger_, nullptr)) ledger->Settle(account_, place_, verdict, inclusion_);
}

Ledger::Ledger(const base::Clock* clock, Limits limits)
    : clock_(clock), limits_(limits), wall_origin_(clock->Now() - clock->Steady()) {}

Ledger::~Ledger() = default;

absl::Duration Ledger::Now() {
  now_ = std::max(now_, clock_->Steady());
  return now_;
}

Ledger::Account* Ledger::Find(const EvidenceKey& key, absl::Duration now) {
  EvidenceKey with_minute = key;
  with_minute.minute = MinuteOf(now);
  if (auto found = accounts_.find(with_minute); found != accounts_.end()) return &found->second;
  if (accounts_.size() >= limits_.accounts_max) {
    ++totals_.refused;
    return nullptr;
  }
  Account* account = &accounts_[with_minute];
  account->key = std::move(with_minute);
  return account;
}

void Ledger::Touch(Account* account) {
  if (std::exchange(account->changed, true)) return;
  changed_.push_back(account);
}

void Ledger::Count(Account* account, uint64_t Counts::*counter) {
  Touch(account);
  ++(account->counts.*counter);
  ++(totals_.counts.*counter);
}

void Ledger::CountAlone(const EvidenceKey& key, uint64_t Counts::*counter) {
  base::MutexLock lock(&mutex_);
  if (Account* account = Find(key, Now())) Count(account, counter);
}

std::optional<Ledger::Ticket> Ledger::Sampled(const EvidenceKey& key, std::optional<absl::Duration> candidate_latency,
                                              Inclusion inclusion) {
  base::MutexLock lock(&mutex_);
  const absl::Duration now = Now();
  Account* account = Find(key, now);
  if (account == nullptr) return std::nullopt;
  if (candidate_latency.has_value()) CountLatency(account, *candidate_latency);
  Count(account, &Counts::sampled);
  if (open_.size() >= limits_.tickets_max) {
    Count(account, &Counts::shed);
    return std::nullopt;
  }
  ++account->open;
  return Ticket(this, account, open_.insert(open_.end(), now), inclusion);
}

void Ledger::Settle(Account* account, Ticket::Place place, Verdict verdict, Inclusion inclusion) {
  base::MutexLock lock(&mutex_);
  Count(account, CounterOf(verdict));
  if (IsJudged(verdict)) {
    account->counts.weighted.Add(inclusion, verdict == Verdict::kConfirmed);
    totals_.counts.weighted.Add(inclusion, verdict == Verdict::kConfirmed);
  }
  --account->open;
  open_.erase(place);
}

void Ledger::Shed(const EvidenceKey& key) {
  base::MutexLock lock(&mutex_);
  Account* account = Find(key, Now());
  if (account == nullptr) return;
  Count(account, &Counts::sampled);
  Count(account, &Counts::shed);
}

void Ledger::CandidateMiss(const EvidenceKey& key) { CountAlone(key, &Counts::candidate_misses); }

void Ledger::CandidateError(const EvidenceKey& key) { CountAlone(key, &Counts::candidate_errors); }

void Ledger::CandidateLatency(const EvidenceKey& key, absl::Duration latency) {
  base::MutexLock lock(&mutex_);
  if (Account* account = Find(key, Now())) CountLatency(account, latency);
}

void Ledger::CountLatency(Account* account, absl::Duration latency) {
  const auto bound =
      std::lower_bound(kLatencyBoundsUs.begin(), kLatencyBoundsUs.end(), absl::ToInt64Microseconds(latency));
  const size_t bucket = bound - kLatencyBoundsUs.begin();
  Touch(account);
  ++account->counts.candidate_latency[bucket];
  ++totals_.counts.candidate_latency[bucket];
}

void Ledger::Verified(const EvidenceKey& key, const Episode& episode) {
  EvidenceKey group = key;
  group.minute = 0;
  const uint64_t identity = absl::HashOf(group, episode.id);
  base::MutexLock lock(&mutex_);
  if (recent_.contains(identity) || recent_before_.contains(identity)) return;
  if (episodes_waiting_ >= limits_.episodes_max) {
    ++totals_.episodes_dropped;
    return;
  }
  if (recent_.size() >= limits_.recent_max / 2) {
    recent_before_ = std::move(recent_);
    recent_.clear();
  }
  recent_.insert(identity);
  episodes_[std::move(group)].push_back(episode);
  ++episodes_waiting_;
}

Flush Ledger::BuildFlush() {
  Flush flush;
  base::MutexLock lock(&mutex_);
  flush.sequence = ++sequence_;
  flush.watermark = Now();
  if (!open_.empty()) flush.watermark = *open_.begin();
  for (Account* account : changed_) {
    account->changed = false;
    account->sent_in = flush.sequence;
    flush.counts.emplace(account->key, account->counts);
  }
  changed_.clear();
  flush.episodes = std::exchange(episodes_, {});
  episodes_waiting_ = 0;
  return flush;
}

void Ledger::Flushed(uint64_t sequence) {
  base::MutexLock lock(&mutex_);
  // Counts are absolute, so a key may only be forgotten when it can never be counted again: its minute is over, every
  // read in it is settled, and the store has its last state.
  const int64_t minute = MinuteOf(Now());
  absl::erase_if(accounts_, [&](const auto& entry) {
    const Account& account = entry.second;
    return !account.changed && account.open == 0 && account.sent_in <= sequence && account.key.minute < minute;
  });
}

Ledger::Totals Ledger::totals() const {
  base::MutexLock lock(&mutex_);
  Totals totals = totals_;
  totals.accounts = accounts_.size();
  return totals;
}

}  // namespace shadowline::diff
