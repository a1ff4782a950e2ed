// Reading a catalog document: YAML -> message -> compiled catalog. Pure; the database is asked elsewhere.
#ifndef SHADOWLINE_CACHE_CATALOG_PARSE_H_
#define SHADOWLINE_CACHE_CATALOG_PARSE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cache/catalog/catalog.h"
#include "cache/catalog/yaml.h"

namespace shadowline::cache {

// kInvalidArgument: every finding on a line of its own, `line:column: field: what is wrong; what was expected`. Unknown
// fields, durations without a unit, and values out of range are findings.
absl::StatusOr<std::shared_ptr<const CompiledCatalog>> ParseCatalog(absl::string_view yaml, uint64_t revision);

// A compiled catalog that still knows where its fields stand in the document, for findings that only a database can
// make.
struct ParsedCatalog {
  std::shared_ptr<const CompiledCatalog> catalog;
  // By path, such as `families.pricing.endpoints.quote.sql`.
  std::map<std::string, Position> positions;

  // Of the field, or of the nearest one around it.
  Position At(absl::string_view path) const;
};
absl::StatusOr<ParsedCatalog> ParseCatalogWithPositions(absl::string_view yaml, uint64_t revision);

// One line for each difference between two documents, as a person would say it: `+ pricing/quote`,
// `~ pricing/quote: ttl 30s -> 60s`, `- pricing/old`.
std::vector<std::string> DescribeChanges(const shadowline::v1::Catalog& before, const shadowline::v1::Catalog& after);

// kInvalidArgument: one finding a line, `field: what is wrong; what was expected`. Fields that are not set are fine.
absl::Status CheckPolicy(const shadowline::v1::Policy& policy);

// The policy of `family` with every default filled in. `override_with` may be empty; its set fields win; whoever takes
// it from a caller checks it first.
shadowline::v1::Policy EffectivePolicy(const shadowline::v1::Catalog& catalog, const std::string& family,
                                       const shadowline::v1::Policy& override_with = {});

// "250ms", "30s", "5m", "1h30m". A bare number is refused, as are negative and infinite ones.
absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CATALOG_PARSE_H_
