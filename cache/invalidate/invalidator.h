// Invalidator fences every cached key of a tag, so that neither a cached value nor one that is being loaded now can be
// served afterwards.
//
// Ownership: borrows Store, Clock and Random. Threads: belongs to its store's executor.
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
    absl::Duration fence_ttl = absl::Minutes(2);  // Longer than the longest load.
    size_t batch = 256;                           // Fences under way at once.
  };

  Invalidator(Options options, Store* store, const base::Clock* clock, base::Random* random);

  // `done` gets how many keys were fenced, once all fences stand. On error some may stand: call again.
  void Invalidate(absl::string_view tenant, std::vector<std::string> tags,
                  absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done);

 private:
  const Options options_;
  Store* const store_;
  const base::Clock* const clock_;
  base::Random* const random_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_INVALIDATE_INVALIDATOR_H_
