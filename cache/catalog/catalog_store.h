// CatalogStore keeps the applied catalogs and the tenants, in PostgreSQL, so that all replicas agree.
//
// Threads: thread-safe. Blocking: call it from a thread that may block.
// Statuses: kUnavailable (state store away), beside those named below.
#ifndef SHADOWLINE_CACHE_CATALOG_CATALOG_STORE_H_
#define SHADOWLINE_CACHE_CATALOG_CATALOG_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "cache/catalog/catalog.h"

namespace shadowline::cache {

struct AppliedCatalog {
  uint64_t revision = 0;
  std::string yaml;
  absl::Time applied_at;
  std::string applied_by;
};

struct ApplyResult {
  uint64_t revision = 0;
  bool changed = false;
  std::vector<std::string> changes;
};

class CatalogStore {
 public:
  virtual ~CatalogStore() = default;

  // Parses `yaml`, checks every statement against the database (prepared, explained, read-only, binds its tenant), and
  // stores it as the newest revision in one transaction, which also opens a new window for every target of a family
  // that changed and refreshes the tenants. kInvalidArgument: one finding a line. kAborted: `expected_revision` (not 0)
  // is not the active one.
  virtual absl::StatusOr<ApplyResult> Apply(absl::string_view yaml, bool dry_run, absl::string_view who,
                                            uint64_t expected_revision) = 0;
  // The active catalog. kNotFound: none yet.
  virtual absl::StatusOr<AppliedCatalog> Active() = 0;
  // Reads the tenants' query again and stores what changed. Called by the leader.
  virtual absl::Status RefreshTenants() = 0;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CATALOG_CATALOG_STORE_H_
