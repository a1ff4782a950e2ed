// Invalidator replaces the fences of tags, so that neither a value that is cached under them nor one that is being
// loaded now can be served afterwards. One step for each tag, however much is cached under it. Every acknowledgement of
// an invalidation, by whatever way it came, goes through here: so it is here that near caches are waited for.
//
// Ownership: borrows Store, Clock and Random. Threads: belongs to its store's executor.
// Errors:    the first of the store's. Repeating a call is harmless: it fences again.
// Limits:    `batch` commands under way for each call; kMaxTagsPerCall tags for a call from outside.
#ifndef SHADOWLINE_CACHE_INVALIDATE_INVALIDATOR_H_
#define SHADOWLINE_CACHE_INVALIDATE_INVALIDATOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/random.h"
#include "cache/key/key.h"
#include "cache/store.h"

namespace shadowline::cache {

inline constexpr size_t kMaxTagsPerCall = 256;
inline constexpr size_t kMaxTagBytes = 256;

// kInvalidArgument, naming the tag's position: no tag, too many, empty or too long.
absl::Status CheckTags(const std::vector<std::string>& tags);

class Invalidator {
 public:
  struct Options {
    // How long a fence stands that nothing is cached behind: longer than it takes a transaction that it names to become
    // visible, and than people remember to ask when a tag was invalidated.
    absl::Duration fence_ttl = absl::Minutes(2);
    size_t batch = 256;  // Commands under way at once.
    // Runs its task once no near cache can serve what fences that stand now have outdated (cache/near/near_terms.h).
    // None: at once.
    std::function<void(base::Task)> settle;
  };

  // The fences of these tags were replaced. Called on the store's executor, before Invalidate's own callback.
  using Fenced = std::function<void(const std::vector<TenantTag>&)>;

  Invalidator(Options options, Store* store, const base::Clock* clock, base::Random* random, Fenced fenced = nullptr);

  // `done` is called once all fences stand, and that is settled. On error some may stand: call again. `transactions`:
  // pg_current_xact_id() of writers that other statements may not see yet.
  void Invalidate(std::vector<TenantTag> tags, std::vector<uint64_t> transactions,
                  absl::AnyInvocable<void(absl::Status)> done);

 private:
  struct Call;

  // Keeps `batch` commands under way.
  void Advance(const std::shared_ptr<Call>& call);

  const Options options_;
  Store* const store_;
  const base::Clock* const clock_;
  base::Random* const random_;
  const Fenced fenced_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_INVALIDATE_INVALIDATOR_H_
