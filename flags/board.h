// Board holds the flags that this replica knows: an immutable snapshot, replaced as a whole, and the lease until which
// it may be believed.
//
// A replica that cannot renew its lease does not know whether a rollback was commanded, so it stops serving from the
// cache (promise P5). The lease counts from the moment the truth was *asked*, not from when the answer came: a rollback
// committed after that moment may be missing in the answer.
//
// A reader asks Leased() first and takes the snapshot after it: then what it serves by is at least as new as the lease
// it relies on, however long its thread was stopped in between.
//
// Threads: thread-safe; reading takes one short lock and copies a pointer.
#ifndef SHADOWLINE_FLAGS_BOARD_H_
#define SHADOWLINE_FLAGS_BOARD_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "flags/flag.h"
#include "flags/lives.h"

namespace shadowline::flags {

// Everything that was true at one revision.
class Snapshot {
 public:
  using Targets = std::map<std::pair<std::string, std::string>, Flag>;  // by (family, tenant)

  // `catalog_revision`: of the catalog that was the active one then; 0: not known.
  Snapshot(uint64_t revision, absl::flat_hash_set<std::string> tenants, Targets targets, Lives lives = {},
           uint64_t catalog_revision = 0);

  uint64_t revision() const { return revision_; }
  uint64_t catalog_revision() const { return catalog_revision_; }
  bool HasTenant(absl::string_view tenant) const { return tenants_.contains(tenant); }
  const absl::flat_hash_set<std::string>& tenants() const { return tenants_; }
  // A target without a flag is DATABASE. Never null; lives as long as the snapshot.
  const Flag* Find(absl::string_view tenant, absl::string_view family) const;
  const Targets& targets() const { return targets_; }
  const Lives& lives() const { return lives_; }

 private:
  const uint64_t revision_;
  const absl::flat_hash_set<std::string> tenants_;
  const Targets targets_;
  const Lives lives_;
  const uint64_t catalog_revision_;
  absl::flat_hash_map<std::string, const Flag*> index_;  // by tenant, NUL, family
};

class Board {
 public:
  // `lease`: how long a snapshot may be believed (design: 2 s).
  Board(const base::Clock* clock, absl::Duration lease);

  // Null before the first snapshot: no read can be answered yet.
  std::shared_ptr<const Snapshot> Current() const;
  // Grows with every snapshot that Current() changes to, after the change: a reader keeps its copy until this has
  // moved, so that a read takes no lock.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }
  absl::Duration lease() const { return lease_; }
  // May this replica still serve from the cache?
  bool Leased() const;

  // `asked_at` is Clock::Steady() from before the truth was asked. A snapshot of an older revision than the one that is
  // held only renews nothing and is dropped.
  void Publish(std::shared_ptr<const Snapshot> snapshot, absl::Duration asked_at);
  // The truth was asked at `asked_at` and `revision` is still the newest: extends the lease if this board holds it.
  void Renew(uint64_t revision, absl::Duration asked_at);

 private:
  const base::Clock* const clock_;
  const absl::Duration lease_;
  mutable base::Mutex mutex_;
  std::shared_ptr<const Snapshot> current_ ABSL_GUARDED_BY(mutex_);
  std::atomic<uint64_t> version_{0};
  std::atomic<int64_t> leased_until_ns_{0};  // by Clock::Steady()
};

}  // namespace shadowline::flags

#endif  // SHADOWLINE_FLAGS_BOARD_H_
