#include "cache/near/near_cache.h"

#include <algorithm>

#include "base/hash.h"

namespace shadowline::cache {
namespace {

// Beside what is counted by length: pointers of lists, what allocations round up, and places in tables, which keep two
// to four for each that is used once they have grown.
constexpr size_t kEntryOverhead = 112;
constexpr size_t kFenceOverhead = 176;
constexpr size_t kTextOverhead = 16;

}  // namespace

const NearCache::Value* NearCache::Lookup(absl::string_view key, absl::Duration now) {
  if (proven_ < now - options_.grace) {
    Count(&stats_.lapsed);
    return nullptr;
  }
  const auto found = entries_.find(key);
  if (found == entries_.end()) {
    Count(&stats_.misses);
    return nullptr;
  }
  Entry& entry = *found->second;
  if (now >= entry.expires_at || !Stands(entry)) {
    Count(&stats_.misses);
    // Somebody asks for it, so it has earned its place when it comes back.
    Remember(key);
    Remove(found->second);
    CountEntries();
    return nullptr;
  }
  Count(&stats_.hits);
  if (entry.hits < kHitsMost) ++entry.hits;
  return &entry.value;
}

const NearCache::Value* NearCache::Peek(absl::string_view key, absl::Duration now) const {
  if (proven_ < now - options_.grace) return nullptr;
  const auto found = entries_.find(key);
  if (found == entries_.end() || now >= found->second->expires_at || !Stands(*found->second)) return nullptr;
  return &found->second->value;
}

NearCache::Ticket NearCache::Begin() const {
  Ticket ticket;
  if (tracking_) ticket.order = order_;
  return ticket;
}

bool NearCache::Insert(Ticket ticket, std::string key, Value value, const std::vector<std::string>& fence_keys,
                       absl::Duration expires_at) {
  const auto outdated = [&](absl::string_view redis_key) { return LastInvalidated(redis_key) > ticket.order; };
  if (ticket.order < order_least_ || outdated(key) || std::any_of(fence_keys.begin(), fence_keys.end(), outdated)) {
    Count(&stats_.refused);
    return false;
  }
  if (const auto old = entries_.find(key); old != entries_.end()) {
    Remember(key);
    Remove(old->second);
  }
  Entry entry;
  entry.key = std::move(key);
  entry.value = std::move(value);
  entry.expires_at = expires_at;
  entry.bytes = BytesOf(entry, fence_keys);
  if (entry.bytes > options_.max_bytes / 10) {
    CountEntries();
    return false;
  }
  entry.fences.reserve(fence_keys.size());
  for (const std::string& fence_key : fence_keys) entry.fences.push_back(Watch(fence_key));
  entry.in_main = Recall(entry.key);
  Queue& queue = QueueOf(entry);
  queue.bytes += entry.bytes;
  queue.entries.push_front(std::move(entry));
  const Place place = queue.entries.begin();
  entries_[place->key] = place;
  MakeRoom();
  CountEntries();
  return true;
}

void NearCache::TrackingBegan() {
  tracking_ = true;
  stats_.tracked.store(true, std::memory_order_relaxed);
}

void NearCache::TrackingEnded() {
  tracking_ = false;
  stats_.tracked.store(false, std::memory_order_relaxed);
  proven_ = -absl::InfiniteDuration();
  DropAll();
}

void NearCache::Renew(absl::Duration sent_at) {
  if (tracking_) proven_ = std::max(proven_, sent_at);
}

void NearCache::Invalidated(absl::string_view redis_key) {
  Count(&stats_.invalidated);
  LastInvalidated(redis_key) = ++order_;
  if (const auto entry = entries_.find(redis_key); entry != entries_.end()) {
    Remember(redis_key);
    Remove(entry->second);
    CountEntries();
  }
  if (const auto fence = watched_.find(redis_key); fence != watched_.end()) {
    fence->second->standing = false;
    watched_.erase(fence);
  }
}

void NearCache::DropAll() {
  order_least_ = ++order_;
  entries_.clear();
  watched_.clear();
  small_ = {};
  main_ = {};
  ghosts_.clear();
  ghost_numbers_.clear();
  CountEntries();
}

void NearCache::CountEntries() {
  stats_.entries.store(entries_.size(), std::memory_order_relaxed);
  stats_.bytes.store(bytes(), std::memory_order_relaxed);
}

bool NearCache::Stands(const Entry& entry) {
  return std::all_of(entry.fences.begin(), entry.fences.end(),
                     [](const std::shared_ptr<Watched>& fence) { return fence->standing; });
}

size_t NearCache::BytesOf(const Entry& entry, const std::vector<std::string>& fence_keys) {
  const auto text = [](const std::string& bytes) { return bytes.capacity() + kTextOverhead; };
  size_t bytes = sizeof(Entry) + kEntryOverhead + text(entry.key) + text(entry.value.fill_id) +
                 text(entry.value.answer.body) + text(entry.value.answer.snapshot) +
                 entry.value.tag_hashes.capacity() * sizeof(uint32_t);
  for (const std::string& fence_key : fence_keys) {
    // As if it was this entry's alone.
    bytes += sizeof(Watched) + kFenceOverhead + fence_key.size() + kTextOverhead;
  }
  return bytes;
}

uint64_t& NearCache::LastInvalidated(absl::string_view redis_key) {
  return last_invalidated_[base::Hash64(redis_key) % kBuckets];
}

std::shared_ptr<NearCache::Watched> NearCache::Watch(const std::string& fence_key) {
  if (const auto found = watched_.find(fence_key); found != watched_.end()) return found->second;
  auto watched = std::make_shared<Watched>();
  watched->key = fence_key;
  watched_[watched->key] = watched;
  return watched;
}

void NearCache::Remove(Place place) {
  for (const std::shared_ptr<Watched>& fence : place->fences) {
    // The table holds one reference, this entry the last other one.
    if (fence->standing && fence.use_count() == 2) watched_.erase(fence->key);
  }
  entries_.erase(place->key);
  Queue& queue = QueueOf(*place);
  queue.bytes -= place->bytes;
  queue.entries.erase(place);
}

void NearCache::MakeRoom() {
  while (bytes() > options_.max_bytes) {
    if (!small_.entries.empty() && (small_.bytes > options_.max_bytes / 10 || main_.entries.empty())) {
      EvictFromSmall();
    } else {
      EvictFromMain();
    }
  }
  // As many as there are entries: what is forgotten sooner has no chance to come back, and more would be a third queue.
  while (ghosts_.size() > entries_.size()) {
    const auto [hash, number] = ghosts_.front();
    ghosts_.pop_front();
    if (const auto found = ghost_numbers_.find(hash); found != ghost_numbers_.end() && found->second == number) {
      ghost_numbers_.erase(found);
    }
  }
}

void NearCache::EvictFromSmall() {
  const Place oldest = std::prev(small_.entries.end());
  if (Stands(*oldest) && oldest->hits >= 2) {
    oldest->in_main = true;
    oldest->hits = 0;
    small_.bytes -= oldest->bytes;
    main_.bytes += oldest->bytes;
    main_.entries.splice(main_.entries.begin(), small_.entries, oldest);
    return;
  }
  Count(&stats_.evicted);
  if (Stands(*oldest)) Remember(oldest->key);
  Remove(oldest);
}

void NearCache::EvictFromMain() {
  const Place oldest = std::prev(main_.entries.end());
  if (Stands(*oldest) && oldest->hits > 0) {
    --oldest->hits;
    main_.entries.splice(main_.entries.begin(), main_.entries, oldest);
    return;
  }
  Count(&stats_.evicted);
  Remove(oldest);
}

void NearCache::Remember(absl::string_view key) {
  const uint64_t hash = base::Hash64(key);
  ghost_numbers_[hash] = ++next_ghost_;
  ghosts_.emplace_back(hash, next_ghost_);
}

bool NearCache::Recall(absl::string_view key) { return ghost_numbers_.erase(base::Hash64(key)) > 0; }

}  // namespace shadowline::cache
