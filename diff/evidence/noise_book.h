// NoiseBook counts the pairs that one replica has read, and where they differed (diff/verdict/noise.h).
//
//   book.Add(key, Compare(first, second, rules).patterns);
//   flush.noise = book.TakeChanged();
//
// Threads: thread-safe.
// Limits:  kEndpointsMost, and kPatternsMost of each: more are not told apart (they still count as `differed`).
#ifndef SHADOWLINE_DIFF_EVIDENCE_NOISE_BOOK_H_
#define SHADOWLINE_DIFF_EVIDENCE_NOISE_BOOK_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "diff/verdict/noise.h"

namespace shadowline::diff {

class NoiseBook {
 public:
  static constexpr size_t kEndpointsMost = 4096;
  static constexpr size_t kPatternsMost = 64;

  NoiseBook() = default;
  NoiseBook(const NoiseBook&) = delete;
  NoiseBook& operator=(const NoiseBook&) = delete;

  // One pair, and where its answers differed: nowhere, if `patterns` is empty. A pair of an older catalog than the
  // newest one that was counted is dropped.
  void Add(const NoiseKey& key, const std::vector<std::string>& patterns);
  // Nothing was counted: zeros.
  NoiseCounts Counts(const NoiseKey& key) const;

  // Absolute counts of the endpoints that changed since the last call. Each has to reach the store, or be replaced by a
  // later one.
  std::map<NoiseKey, NoiseCounts> TakeChanged();

 private:
  struct Entry {
    NoiseCounts counts;
    bool changed = false;
  };

  mutable base::Mutex mutex_;
  uint64_t newest_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<NoiseKey, Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_EVIDENCE_NOISE_BOOK_H_
