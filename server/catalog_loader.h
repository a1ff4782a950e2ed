// CatalogLoader brings the active catalog into this replica whenever something has changed, and tries again while the
// state database is away.
//
// Ownership: borrows everything; the executors must have stopped when it is destroyed.
// Threads:   Load from any thread. `announce` and `observer` are called on the pool.
#ifndef SHADOWLINE_SERVER_CATALOG_LOADER_H_
#define SHADOWLINE_SERVER_CATALOG_LOADER_H_

#include <atomic>
#include <functional>

#include "absl/status/status.h"
#include "base/executor.h"
#include "cache/catalog/catalog_store.h"
#include "server/read/catalog_holder.h"

namespace shadowline::server {

class CatalogLoader {
 public:
  // `pool` may block; `timers` must not. `announce` hears of each new catalog before a reader does, one after the
  // other; `observer` how each attempt ended.
  CatalogLoader(cache::CatalogStore* store, CatalogHolder* holder, base::ThreadPool* pool, base::Executor* timers,
                std::function<void(const cache::CompiledCatalog&)> announce,
                std::function<void(absl::Status)> observer);

  // Soon, and once for calls that come while one waits.
  void Load();

 private:
  absl::Status LoadNow();
  void LoadLater();

  cache::CatalogStore* const store_;
  CatalogHolder* const holder_;
  base::ThreadPool* const pool_;
  base::Executor* const timers_;
  const std::function<void(const cache::CompiledCatalog&)> announce_;
  const std::function<void(absl::Status)> observer_;
  std::atomic<bool> wanted_{false};
  base::Mutex loading_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_CATALOG_LOADER_H_
