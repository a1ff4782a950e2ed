// Keys: the same question has one key, and nothing that a caller sends can forge another.
//
//   sl:<tenant>:<family>/<endpoint>:v<schema>.<epoch>:<32 hexadecimal digits: definition and canonical parameters>
//   sl:tag:<tenant>:<tag>
//
// Tenant, names and tags are percent-encoded: every byte outside [A-Za-z0-9_.~/-] (and, in tenants, also '/').
#ifndef SHADOWLINE_CACHE_KEY_KEY_H_
#define SHADOWLINE_CACHE_KEY_KEY_H_

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

std::string TagKey(absl::string_view tenant, absl::string_view tag);

// The tags of one read, with parameters filled in, not yet keys. A NULL fills in as nothing.
std::vector<std::string> RenderTags(const Endpoint& endpoint, absl::string_view tenant,
                                    const std::vector<std::optional<std::string>>& arguments);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_KEY_KEY_H_
