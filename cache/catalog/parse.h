// Reading a catalog document: YAML -> message -> compiled catalog. Pure; the database is asked elsewhere.
#ifndef SHADOWLINE_CACHE_CATALOG_PARSE_H_
#define SHADOWLINE_CACHE_CATALOG_PARSE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cache/catalog/catalog.h"

namespace shadowline::cache {

// kInvalidArgument: every finding on a line of its own, `line:column: field: what is wrong; what was expected`. Unknown
// fields, durations without a unit, and values out of range are findings.
absl::StatusOr<std::shared_ptr<const CompiledCatalog>> ParseCatalog(absl::string_view yaml, uint64_t revision);

// The policy of `family` with every default filled in. `override_with` may be empty; its set fields win.
shadowline::v1::Policy EffectivePolicy(const shadowline::v1::Catalog& catalog, const std::string& family,
                                       const shadowline::v1::Policy& override_with = {});

// "250ms", "30s", "5m", "48h". A bare number is refused.
absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CATALOG_PARSE_H_
