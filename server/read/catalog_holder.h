// CatalogHolder holds the catalog that this replica runs under, and LocalCopy lets a reader use it, or the flags,
// without a lock: it keeps its own pointer and compares one number per read.
//
//   LocalCopy<CatalogHolder> catalog(&holder);
//   if (catalog.Refresh() == nullptr) return absl::UnavailableError("...");
//
// Threads: CatalogHolder is thread-safe; a LocalCopy belongs to one executor.
#ifndef SHADOWLINE_SERVER_READ_CATALOG_HOLDER_H_
#define SHADOWLINE_SERVER_READ_CATALOG_HOLDER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "base/mutex.h"
#include "cache/catalog/catalog.h"

namespace shadowline::server {

class CatalogHolder {
 public:
  void Publish(std::shared_ptr<const cache::CompiledCatalog> catalog) {
    base::MutexLock lock(&mutex_);
    current_ = std::move(catalog);
    version_.fetch_add(1, std::memory_order_release);
  }
  // Null before the first catalog: no read can be answered yet.
  std::shared_ptr<const cache::CompiledCatalog> Current() const {
    base::MutexLock lock(&mutex_);
    return current_;
  }
  // Grows with every Publish, after it.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  mutable base::Mutex mutex_;
  std::shared_ptr<const cache::CompiledCatalog> current_ ABSL_GUARDED_BY(mutex_);
  std::atomic<uint64_t> version_{0};
};

// `Source` has Current() and version(), like CatalogHolder and flags::Board.
template <typename Source>
class LocalCopy {
 public:
  using Pointer = decltype(std::declval<const Source&>().Current());

  explicit LocalCopy(const Source* source) : source_(source) {}

  // What the source holds now; valid until the next call.
  const Pointer& Refresh() {
    // The number is read before the pointer: should the pointer be newer, it is only fetched once more.
    if (const uint64_t version = source_->version(); version != version_) {
      pointer_ = source_->Current();
      version_ = version;
    }
    return pointer_;
  }
  // Of the last Refresh.
  uint64_t version() const { return version_; }

 private:
  const Source* const source_;
  uint64_t version_ = 0;
  Pointer pointer_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_CATALOG_HOLDER_H_
