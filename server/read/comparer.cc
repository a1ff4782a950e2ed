#include "server/read/comparer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/log.h"
#include "cache/catalog/compare_rules.h"
#include "diff/compare/redact.h"

namespace shadowline::server {

Compared Comparer::Compare(const cache::Query& query, const diff::Answer& control, const diff::Answer& candidate) {
  // Two tenants have two secrets.
  const std::string secret = base::Digest128(absl::StrCat(redaction_secret_, absl::string_view("\0", 1), query.tenant));
  const diff::Redactor redact(secret);
  if (!query.endpoint->show_values) return {diff::Compare(control, candidate, RulesOf(query), redact), {}};
  // Both forms of a value in one text; the first has no NUL.
  Compared result = {diff::Compare(control, candidate, RulesOf(query),
                                   [&](absl::string_view value) {
                                     return absl::StrCat(redact(value), absl::string_view("\0", 1),
                                                         diff::ShowValue(value));
                                   }),
                     {}};
  const auto split = [](std::string* both) {
    const size_t at = both->find('\0');
    std::string value = at == std::string::npos ? "" : both->substr(at + 1);
    both->resize(std::min(at, both->size()));
    return value;
  };
  for (diff::Difference& difference : result.differences) {
    std::string of_control = split(&difference.control);
    result.values.emplace_back(std::move(of_control), split(&difference.candidate));
  }
  return result;
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
