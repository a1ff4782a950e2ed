#include "cache/certify/certifier.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/hash.h"
#include "cache/key/key.h"

namespace shadowline::cache {
namespace {

constexpr int kPairBits = 20;  // Of a recent pair's word, below the transaction.

// A snapshot's text in its parts; nothing is copied. False: it is none.
struct SnapshotText {
  uint64_t xmin = 0;
  uint64_t xmax = 0;
  absl::string_view in_progress;  // "xip,xip,...", ascending.

  static bool TakeNumber(absl::string_view* text, uint64_t* number) {
    size_t digits = 0;
    uint64_t value = 0;
    for (; digits < text->size() && (*text)[digits] >= '0' && (*text)[digits] <= '9'; ++digits) {
      value = value * 10 + static_cast<uint64_t>((*text)[digits] - '0');
    }
    text->remove_prefix(digits);
    *number = value;
    return digits > 0;
  }
  static bool Take(absl::string_view* text, char expected) {
    if (text->empty() || text->front() != expected) return false;
    text->remove_prefix(1);
    return true;
  }
  bool Parse(absl::string_view text) {
    if (!TakeNumber(&text, &xmin) || !Take(&text, ':') || !TakeNumber(&text, &xmax) || !Take(&text, ':')) return false;
    in_progress = text;
    return true;
  }
};

}  // namespace

absl::string_view CertificateName(Certificate certificate) {
  switch (certificate) {
    case Certificate::kUnknown:
      return "unknown";
    case Certificate::kOutdated:
      return "outdated";
    case Certificate::kCertified:
      return "certified";
  }
  return "";
}

uint32_t TagHash(absl::string_view fence_key) { return static_cast<uint32_t>(base::Hash64(fence_key)); }

uint32_t FamilyHash(absl::string_view family, absl::string_view tenant) {
  // Every fence's key begins with "sl:", and no family's name has a colon.
  return static_cast<uint32_t>(base::Hash64(family, tenant.empty() ? 1 : base::Hash64(tenant)));
}

TagHashes HashesOf(const Endpoint& endpoint, absl::string_view tenant, const std::vector<std::string>& fence_keys) {
  TagHashes hashes;
  for (const std::string& key : fence_keys) hashes.push_back(TagHash(key));
  hashes.push_back(FamilyHash(endpoint.family, ""));
  hashes.push_back(FamilyHash(endpoint.family, tenant));
  return hashes;
}

uint64_t CaptureMapHash(const CompiledCatalog& catalog) { return base::Hash64(catalog.capture_map()); }

Certifier::Certifier(Options options)
    : buckets_(std::max<size_t>(std::bit_floor(options.max_bytes / sizeof(Bucket)), 1)),
      mask_(static_cast<uint32_t>(std::min<size_t>(buckets_.size() - 1, UINT32_MAX))),
      recent_(std::max(buckets_.size() / 4, kWays)) {}

// ---- Reading ----

Certifier::Sight Certifier::Look(std::span<const uint32_t> hashes, absl::string_view snapshot, uint64_t* newest) const {
  uint64_t greatest = 0;
  for (const uint32_t hash : hashes) {
    greatest = std::max(greatest, BucketOf(hash).newest.load(std::memory_order_acquire));
  }
  *newest = greatest;
  SnapshotText seen;
  if (!seen.Parse(snapshot)) return Sight::kUnknown;
  if (greatest >= seen.xmax) return Sight::kMissesSome;
  Sight sight = seen.xmin > since_.load(std::memory_order_acquire) ? Sight::kSeesAll : Sight::kUnknown;
  if (greatest < seen.xmin) return sight;
  absl::string_view rest = seen.in_progress;
  for (uint64_t id = 0; SnapshotText::TakeNumber(&rest, &id) && id <= greatest; SnapshotText::Take(&rest, ',')) {
    for (const uint32_t hash : hashes) {
      const uint64_t touched_by = BucketOf(hash).newest.load(std::memory_order_acquire);
      if (touched_by == id || (touched_by > id && Recent(id, hash & mask_))) return Sight::kMissesSome;
    }
    // After the look: what goes raises it first.
    if (id <= forgotten_.load(std::memory_order_acquire)) sight = Sight::kUnknown;
  }
  return sight;
}

Certificate Certifier::Check(uint64_t map, std::span<const uint32_t> hashes, absl::string_view fill, absl::Duration now,
                             absl::Duration freshness) const {
  const uint64_t period = period_.load(std::memory_order_acquire);
  if (map_.load(std::memory_order_acquire) != map) return Certificate::kUnknown;
  // Before the array, which then has everything up to there.
  const int64_t as_of = as_of_.load(std::memory_order_acquire);
  uint64_t newest = 0;
  const Sight sight = Look(hashes, fill, &newest);
  if (period % 2 != 0 || period_.load(std::memory_order_acquire) != period) return Certificate::kUnknown;
  if (sight == Sight::kMissesSome) return Certificate::kOutdated;
  if (sight == Sight::kUnknown || as_of == kNever || now - absl::Nanoseconds(as_of) > freshness) {
    return Certificate::kUnknown;
  }
  return Certificate::kCertified;
}

Standing Certifier::Of(uint64_t map, std::span<const uint32_t> hashes, absl::string_view fill) const {
  Standing standing;
  base::MutexLock lock(&mutex_);  // Nothing is forgotten meanwhile.
  if (map_.load(std::memory_order_acquire) != map) return standing;
  const int64_t as_of = as_of_.load(std::memory_order_acquire);
  const Sight sight = Look(hashes, fill, &standing.newest);
  if (as_of != kNever) standing.as_of = absl::Nanoseconds(as_of);
  if (sight == Sight::kMissesSome) {
    standing.certificate = Certificate::kOutdated;
  } else if (sight == Sight::kSeesAll && as_of != kNever) {
    standing.certificate = Certificate::kCertified;
  }
  int64_t known_at = kNever;
  for (const uint32_t hash : hashes) {
    known_at = std::max(known_at, BucketOf(hash).known_at.load(std::memory_order_acquire));
  }
  if (known_at != kNever) standing.known_at = absl::Nanoseconds(known_at);
  if (const auto found = committed_.find(standing.newest); found != committed_.end()) {
    standing.committed_at = found->second;
  }
  return standing;
}

bool Certifier::CompleteTo(absl::string_view snapshot) const {
  const absl::StatusOr<DatabaseSnapshot> parsed = ParseSnapshot(snapshot);
  base::MutexLock lock(&mutex_);
  return parsed.ok() && !marks_.empty() && SeesAllOf(marks_.back().snapshot, *parsed);
}

std::optional<absl::Duration> Certifier::UnchangedSince(uint64_t map, std::span<const uint32_t> hashes,
                                                        absl::string_view control) const {
  const absl::StatusOr<DatabaseSnapshot> parsed = ParseSnapshot(control);
  base::MutexLock lock(&mutex_);
  if (!parsed.ok() || map_.load(std::memory_order_acquire) != map) return std::nullopt;
  if (marks_.empty() || !SeesAllOf(marks_.back().snapshot, *parsed)) return std::nullopt;
  for (const Mark& mark : marks_) {
    uint64_t newest = 0;
    if (Look(hashes, mark.text, &newest) == Sight::kSeesAll) return mark.answered_at;
  }
  return std::nullopt;
}

// ---- The feed ----

void Certifier::Reset() {
  base::MutexLock lock(&mutex_);
  // What is stored from here on is seen by nobody who does not see that it is odd.
  period_.fetch_add(1, std::memory_order_acq_rel);
  map_.store(0, std::memory_order_release);
  since_.store(UINT64_MAX, std::memory_order_release);
  as_of_.store(kNever, std::memory_order_release);
  for (Bucket& bucket : buckets_) {
    bucket.newest.store(0, std::memory_order_release);
    bucket.known_at.store(kNever, std::memory_order_release);
  }
  for (std::atomic<uint64_t>& word : recent_) word.store(0, std::memory_order_release);
  forgotten_.store(0, std::memory_order_release);
  marks_.clear();
  committed_.clear();
  committed_order_.clear();
  period_.fetch_add(1, std::memory_order_acq_rel);
}

void Certifier::Begin(uint64_t map, uint64_t since) {
  if (!enabled()) return;
  base::MutexLock lock(&mutex_);
  since_.store(since, std::memory_order_release);
  map_.store(map, std::memory_order_release);
}

void Certifier::Touch(uint64_t transaction, std::span<const uint32_t> hashes, absl::Time committed_at,
                      absl::Duration known_at) {
  if (!enabled()) return;
  {
    base::MutexLock lock(&mutex_);
    if (committed_.emplace(transaction, committed_at).second) committed_order_.push_back(transaction);
    if (committed_order_.size() > kCommits) {
      committed_.erase(committed_order_.front());
      committed_order_.pop_front();
    }
  }
  for (const uint32_t hash : hashes) {
    // Among the recent ones first: whoever sees a greater id of the bucket finds this one there.
    Remember(transaction, hash & mask_);
    Bucket& bucket = buckets_[hash & mask_];
    if (transaction > bucket.newest.load(std::memory_order_relaxed)) {
      bucket.newest.store(transaction, std::memory_order_release);
    }
    bucket.known_at.store(absl::ToInt64Nanoseconds(known_at), std::memory_order_release);
  }
}

void Certifier::Advance(DatabaseSnapshot snapshot, absl::Duration asked_at, absl::Duration answered_at) {
  if (!enabled()) return;
  base::MutexLock lock(&mutex_);
  if (marks_.size() >= kMarks) {
    // Every second one of the older half: it is never more than the distance to the next that is lost.
    std::deque<Mark> kept;
    for (size_t i = 0; i < marks_.size(); ++i) {
      if (i >= kMarks / 2 || i % 2 == 0) kept.push_back(std::move(marks_[i]));
    }
    marks_ = std::move(kept);
  }
  std::string text = snapshot.ToString();
  marks_.push_back({std::move(snapshot), std::move(text), answered_at});
  as_of_.store(absl::ToInt64Nanoseconds(asked_at), std::memory_order_release);
}

// ---- The recent pairs ----

Certifier::Pair Certifier::PairOf(uint64_t transaction, uint32_t bucket) const {
  const uint64_t mixed = (transaction * 0x9e3779b97f4a7c15 ^ bucket) * 0xd6e8feb86659fd93;
  const uint64_t mark = mixed >> (64 - kPairBits);
  return {((mixed ^ mixed >> 29) & 0xffffffff) % (recent_.size() / kWays) * kWays, transaction << kPairBits | mark};
}

bool Certifier::Recent(uint64_t transaction, uint32_t bucket) const {
  const Pair pair = PairOf(transaction, bucket);
  for (size_t way = 0; way < kWays; ++way) {
    if (recent_[pair.set + way].load(std::memory_order_acquire) == pair.word) return true;
  }
  return false;
}

void Certifier::Remember(uint64_t transaction, uint32_t bucket) {
  const Pair pair = PairOf(transaction, bucket);
  size_t lowest = pair.set;
  for (size_t way = pair.set; way < pair.set + kWays; ++way) {
    const uint64_t word = recent_[way].load(std::memory_order_relaxed);
    if (word == pair.word) return;
    if (word < recent_[lowest].load(std::memory_order_relaxed)) lowest = way;
  }
  const uint64_t least = recent_[lowest].load(std::memory_order_relaxed);
  // The pair itself, where it is of a transaction that took longer than the others.
  const uint64_t gone = std::min(least, pair.word) >> kPairBits;
  if (gone > forgotten_.load(std::memory_order_relaxed)) forgotten_.store(gone, std::memory_order_release);
  if (least < pair.word) recent_[lowest].store(pair.word, std::memory_order_release);
}

}  // namespace shadowline::cache
