// Warmer loads what was just invalidated before anyone asks for it: of each tag, the keys that were read most often.
//
//   fences of tags are replaced -> Fenced -> (gather) lanes say which of their keys are hot -> queue -> one load at a
//   time, `per_second` of them
//
// Which keys: of each endpoint that is declared `warm: N`, the N of each tag that the lanes of this replica have read
// most often, and at least once since they were taken last. So a tag that is invalidated all the time costs no more
// than the reads of its keys would. What waits in the queue is not queued again.
//
// A warming is a refresh (cache/fill/filler.h): nobody waits for it, it comes behind callers, and it ends where the key
// holds an answer or somebody else loads it. One that was loaded before a captured change became visible is not cached.
//
// Ownership: borrows everything in Deps and the sources; each must outlive the executors' last tasks.
// Threads:   belongs to `executor`; sources are asked on their own. AddSource before anything else.
// Errors:    a warming that fails is counted, and not tried again.
// Limits:    Options. What exceeds them is dropped, and counted.
#ifndef SHADOWLINE_CACHE_WARM_WARMER_H_
#define SHADOWLINE_CACHE_WARM_WARMER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/metrics.h"
#include "cache/catalog/catalog.h"
#include "cache/fill/filler.h"
#include "cache/key/key.h"
#include "cache/warm/hot_keys.h"

namespace shadowline::cache {

class Warmer {
 public:
  struct Options {
    double per_second = 50;
    size_t queue_max = 4096;  // Keys that wait.
    size_t loads_max = 16;    // That are under way.
    // How long tags are gathered before the lanes are asked, and how many.
    absl::Duration gather = absl::Milliseconds(20);
    size_t tags_max = 4096;
  };

  struct Deps {
    Filler* filler = nullptr;  // On `executor`, over a control that callers come before.
    base::Executor* executor = nullptr;
    const base::Clock* clock = nullptr;
    base::Metrics* metrics = nullptr;
    // The catalog of this moment; null: none yet.
    std::function<std::shared_ptr<const CompiledCatalog>()> catalog;
    // The epoch that a target's cached values belong to; none where its reads do not touch the cache.
    std::function<std::optional<uint64_t>(const std::string& tenant, const std::string& family)> epoch;
  };

  Warmer(Options options, Deps deps);
  Warmer(const Warmer&) = delete;
  Warmer& operator=(const Warmer&) = delete;
  ~Warmer();

  // The keys of a lane, and the executor that they belong to.
  void AddSource(base::Executor* executor, HotKeys* keys) { sources_.push_back({executor, keys}); }

  // The fences of `tags` were replaced.
  void Fenced(const std::vector<TenantTag>& tags);

  // For whoever asks: the hot keys under `tags`, also those that nobody has read since they were warmed last. `done`
  // gets how many were queued. kResourceExhausted: the queue is full.
  void Warm(const std::vector<TenantTag>& tags, absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done);

 private:
  struct Source {
    base::Executor* executor;
    HotKeys* keys;
  };
  struct Counters;
  using Tags = absl::flat_hash_set<uint64_t>;
  using Taken = absl::AnyInvocable<void(std::vector<HotKey>)>;

  // Does any endpoint want it?
  bool Declared();
  // Asks every source; `done` gets what they have together, the most often read first.
  void Ask(Tags tags, bool all, Taken done);
  // Returns how many were queued.
  uint64_t Enqueue(const Tags& tags, const std::vector<HotKey>& keys);
  // Starts what the rate and the limit allow.
  void Pump();
  void Load(const Question& question);

  const Options options_;
  const Deps deps_;
  const std::unique_ptr<Counters> counters_;
  std::vector<Source> sources_;
  std::shared_ptr<const CompiledCatalog> checked_;  // By Declared.
  bool declared_ = false;
  Tags gathered_;
  std::deque<std::shared_ptr<const Question>> queue_;
  absl::flat_hash_set<uint64_t> queued_;  // Their ids.
  size_t under_way_ = 0;
  absl::Duration next_load_at_ = -absl::InfiniteDuration();
  bool timer_ = false;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_WARM_WARMER_H_
