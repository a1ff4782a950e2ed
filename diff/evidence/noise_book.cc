#include "diff/evidence/noise_book.h"

#include <iterator>

namespace shadowline::diff {

void NoiseBook::Add(const NoiseKey& key, const std::vector<std::string>& patterns) {
  base::MutexLock lock(&mutex_);
  if (key.catalog_revision < newest_) return;
  if (key.catalog_revision > newest_) {
    newest_ = key.catalog_revision;
    // What has not been taken yet goes with the next call of TakeChanged.
    std::erase_if(entries_, [](const auto& entry) { return !entry.second.changed; });
  }
  if (entries_.size() >= kEndpointsMost && !entries_.contains(key)) return;
  Entry& entry = entries_[key];
  entry.changed = true;
  ++entry.counts.pairs;
  if (patterns.empty()) return;
  ++entry.counts.differed;
  for (const std::string& pattern : patterns) {
    if (entry.counts.patterns.size() < kPatternsMost || entry.counts.patterns.contains(pattern)) {
      ++entry.counts.patterns[pattern];
    }
  }
}

NoiseCounts NoiseBook::Counts(const NoiseKey& key) const {
  base::MutexLock lock(&mutex_);
  const auto found = entries_.find(key);
  return found == entries_.end() ? NoiseCounts() : found->second.counts;
}

std::map<NoiseKey, NoiseCounts> NoiseBook::TakeChanged() {
  std::map<NoiseKey, NoiseCounts> changed;
  base::MutexLock lock(&mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    if (entry->second.changed) changed.emplace(entry->first, entry->second.counts);
    entry->second.changed = false;
    entry = entry->first.catalog_revision < newest_ ? entries_.erase(entry) : std::next(entry);
  }
  return changed;
}

}  // namespace shadowline::diff
