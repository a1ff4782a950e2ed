#include "server/read/comparer.h"

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/log.h"
#include "cache/catalog/compare_rules.h"
#include "diff/compare/redact.h"

namespace shadowline::server {

diff::Comparison Comparer::Compare(const cache::Query& query, const diff::Answer& control,
                                   const diff::Answer& candidate) {
  if (query.endpoint->show_values) return diff::Compare(control, candidate, RulesOf(query), diff::ShowValue);
  // Two tenants have two secrets.
  const std::string secret = base::Digest128(absl::StrCat(redaction_secret_, absl::string_view("\0", 1), query.tenant));
  return diff::Compare(control, candidate, RulesOf(query), diff::Redactor(secret));
}

const diff::CompiledRules& Comparer::RulesOf(const cache::Query& query) {
  if (catalog_ != query.catalog) {
    catalog_ = query.catalog;
    rules_.clear();
  }
  auto [entry, added] = rules_.try_emplace(query.endpoint);
  if (added) {
    // The catalog was checked when it was applied; should rules be refused all the same, nothing is excused.
    absl::StatusOr<diff::CompiledRules> compiled =
        diff::CompiledRules::Compile(cache::RulesFrom(query.endpoint->compare));
    if (compiled.ok()) {
      entry->second = *std::move(compiled);
    } else {
      base::Log(base::Level::kError, "compare_rules_refused",
                {{"endpoint", query.endpoint->name}, {"error", compiled.status().message()}});
    }
  }
  return entry->second;
}

}  // namespace shadowline::server
