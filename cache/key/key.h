// Keys: the same question has one key, and nothing that a caller sends can forge another.
//
//   sl:<tenant>:<family>/<endpoint>:v<schema>.<epoch>:<32 hexadecimal digits: definition and canonical parameters>
//   sl:fence:<tenant>:<32 hexadecimal digits: the tag>
//
// Tenant and names are percent-encoded: every byte outside [A-Za-z0-9_.~/-] (and, in tenants, also '/').
#ifndef SHADOWLINE_CACHE_KEY_KEY_H_
#define SHADOWLINE_CACHE_KEY_KEY_H_

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cache/catalog/catalog.h"
#include "shadowline/v1/read.pb.h"

namespace shadowline::cache {

// One value as it is bound: PostgreSQL's text form, case folded, sets sorted and without duplicates, numbers in one
// form. kInvalidArgument says what was expected, and never the value.
absl::StatusOr<std::string> CanonicalValue(const ParameterDecl& declared, const shadowline::v1::Value& value);

// The arguments of a read as they are bound: aligned with endpoint.parameters, each by CanonicalValue, defaults filled,
// an explicit NULL as nullopt. kInvalidArgument names the parameter and what was expected.
absl::StatusOr<std::vector<std::optional<std::string>>> CanonicalArguments(const Endpoint& endpoint,
                                                                           const shadowline::v1::ReadRequest& request);

std::string CacheKey(const Endpoint& endpoint, absl::string_view tenant, uint64_t epoch,
                     const std::vector<std::optional<std::string>>& arguments);

// What an invalidation is about. A tag belongs to one tenant.
struct TenantTag {
  std::string tenant;
  std::string tag;  // With parameters filled in.

  friend auto operator<=>(const TenantTag&, const TenantTag&) = default;
};

std::string FenceKey(absl::string_view tenant, absl::string_view tag);

// The tags of one read, with parameters filled in. A NULL fills in as nothing.
std::vector<std::string> RenderTags(const Endpoint& endpoint, absl::string_view tenant,
                                    const std::vector<std::optional<std::string>>& arguments);
// The keys of their fences, in the same order.
std::vector<std::string> FenceKeys(const Endpoint& endpoint, absl::string_view tenant,
                                   const std::vector<std::optional<std::string>>& arguments);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_KEY_KEY_H_
