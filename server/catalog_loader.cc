#include "server/catalog_loader.h"

#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "cache/catalog/parse.h"

namespace shadowline::server {
namespace {

constexpr absl::Duration kRetry = absl::Seconds(1);

}  // namespace

CatalogLoader::CatalogLoader(cache::CatalogStore* store, CatalogHolder* holder, base::ThreadPool* pool,
                             base::Executor* timers, std::function<void(const cache::CompiledCatalog&)> announce,
                             std::function<void(absl::Status)> observer)
    : store_(store),
      holder_(holder),
      pool_(pool),
      timers_(timers),
      announce_(std::move(announce)),
      observer_(std::move(observer)) {}

void CatalogLoader::Load() {
  if (wanted_.exchange(true)) return;
  const bool taken = pool_->TrySubmit([this](size_t) {
    wanted_.store(false);
    const absl::Status loaded = LoadNow();
    observer_(loaded);
    // Without any catalog there is nothing to try again: applying one tells every replica.
    if (!loaded.ok() && !absl::IsNotFound(loaded)) LoadLater();
  });
  if (!taken) {
    wanted_.store(false);
    LoadLater();
  }
}

void CatalogLoader::LoadLater() {
  timers_->PostAfter(kRetry, [this] { Load(); });
}

absl::Status CatalogLoader::LoadNow() {
  // One at a time, so that an older catalog never replaces a newer one.
  base::MutexLock lock(&loading_);
  ASSIGN_OR_RETURN(const cache::AppliedCatalog active, store_->Active());
  const auto current = holder_->Current();
  if (current != nullptr && current->revision() >= active.revision) return absl::OkStatus();
  ASSIGN_OR_RETURN(auto compiled, cache::ParseCatalog(active.yaml, active.revision));
  announce_(*compiled);
  holder_->Publish(std::move(compiled));
  base::Log(base::Level::kInfo, "catalog_loaded", {{"revision", active.revision}});
  return absl::OkStatus();
}

}  // namespace shadowline::server
