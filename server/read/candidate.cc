#include "server/read/candidate.h"

#include <utility>

#include "cache/external/external.h"
#include "cache/key/key.h"

namespace shadowline::server {

using cache::Found;
using cache::Slot;

bool HasCandidate(const cache::Endpoint& endpoint, absl::string_view tenant, const Arguments& arguments) {
  return !endpoint.external.has_value() || cache::ExternalKey(endpoint, tenant, arguments).has_value();
}

std::vector<std::string> CandidateFences(const cache::Endpoint& endpoint, absl::string_view tenant,
                                         const Arguments& arguments) {
  if (endpoint.external.has_value()) return {};
  return cache::FenceKeys(endpoint, tenant, arguments);
}

void ReadCandidate(cache::Store* store, const cache::Endpoint& endpoint, absl::string_view tenant,
                   const Arguments& arguments, std::string key, std::vector<std::string> fence_keys,
                   absl::AnyInvocable<void(absl::StatusOr<Found>)> done) {
  if (!endpoint.external.has_value()) return store->Read(std::move(key), std::move(fence_keys), std::move(done));
  // Nothing is ever under the empty key.
  store->ReadRaw(cache::ExternalKey(endpoint, tenant, arguments).value_or(""), std::move(done));
}

absl::StatusOr<cache::CachedAnswer> DecodeCandidate(const cache::Endpoint& endpoint, const std::string& key,
                                                    Found* found) {
  Slot& slot = found->slot;
  if (slot.kind == Slot::Kind::kForeign) return absl::DataLossError("another kind of value");
  if (!endpoint.external.has_value()) {
    if (!cache::Admits(*found)) return absl::NotFoundError("");
    return cache::DecodeEnvelope(key, slot.bytes);
  }
  if (slot.kind != Slot::Kind::kRaw) return absl::NotFoundError("");
  absl::StatusOr<cache::ExternalAnswer> decoded = cache::DecodeExternal(endpoint, slot.bytes);
  if (!decoded.ok()) return std::move(decoded).status();
  slot.fill = std::move(decoded->fill);
  return std::move(decoded->answer);
}

}  // namespace shadowline::server
