// Invalidator fences every cached key of a tag, so that neither a cached value nor one that is being loaded now can be
// served afterwards.
//
// It removes no key from its tag: a loader that registers the key again at that moment would lose its registration, and
// with it the next invalidation. Members go when their own time is over (cache/store.h).
//
// What it cannot know: a tag that Redis evicted. Run Redis with `noeviction`, or with `volatile-ttl`: a tag outlives
// the values that are registered under it, so they are evicted first.
//
// Ownership: borrows Store, Clock and Random. Threads: belongs to its store's executor.
// Errors:    the first of the store's. Repeating a call is harmless: it fences again.
// Limits:    kMaxTagsPerCall tags; `batch` commands under way for each call.
#ifndef SHADOWLINE_CACHE_INVALIDATE_INVALIDATOR_H_
#define SHADOWLINE_CACHE_INVALIDATE_INVALIDATOR_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/random.h"
#include "cache/store.h"

namespace shadowline::cache {

inline constexpr size_t kMaxTagsPerCall = 256;
inline constexpr size_t kMaxTagBytes = 256;

// kInvalidArgument, naming the tag's position: no tag, too many, empty or too long.
absl::Status CheckTags(const std::vector<std::string>& tags);

class Invalidator {
 public:
  struct Options {
    // How long it is remembered that the key was invalidated. Not what protects it: a lease that is gone is enough.
    absl::Duration fence_ttl = absl::Minutes(2);
    size_t batch = 256;  // Commands under way at once.
  };

  Invalidator(Options options, Store* store, const base::Clock* clock, base::Random* random);

  // `done` gets how many keys were fenced, once all fences stand. On error some may stand: call again. REQUIRES:
  // CheckTags is OK.
  void Invalidate(absl::string_view tenant, std::vector<std::string> tags,
                  absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done);

 private:
  struct Call;
  using CallPtr = std::shared_ptr<Call>;

  // Each keeps `batch` commands under way, and goes on to what follows when all are answered.
  void ReadTags(const CallPtr& call);
  void FenceKeys(const CallPtr& call);

  const Options options_;
  Store* const store_;
  const base::Clock* const clock_;
  base::Random* const random_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_INVALIDATE_INVALIDATOR_H_
