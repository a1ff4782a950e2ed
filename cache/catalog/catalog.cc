#include "cache/catalog/catalog.h"

#include <utility>

namespace shadowline::cache {

CompiledCatalog::CompiledCatalog(uint64_t revision, shadowline::v1::Catalog document, std::vector<Endpoint> endpoints,
                                 std::vector<CapturedTable> captured)
    : revision_(revision),
      document_(std::move(document)),
      endpoints_(std::move(endpoints)),
      captured_(std::move(captured)) {
  index_.reserve(endpoints_.size());
  for (const Endpoint& endpoint : endpoints_) {
    index_.emplace(endpoint.name, &endpoint);
    any_near_ = any_near_ || endpoint.near;
  }
}

const Endpoint* CompiledCatalog::Find(absl::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : found->second;
}

}  // namespace shadowline::cache
