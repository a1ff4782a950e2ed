// Finds the parameters of a declared statement: `:name` becomes `$1`, `$2`, ..., wherever it is not part of a literal,
// of a quoted identifier, of a comment or of a cast. PostgreSQL judges the rest.
//
// Pure.
#ifndef SHADOWLINE_CACHE_CATALOG_SQL_H_
#define SHADOWLINE_CACHE_CATALOG_SQL_H_

#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace shadowline::cache {

struct ScannedSql {
  std::string text;            // With every known parameter replaced; without the final semicolon.
  std::set<std::string> used;  // Every :name in it, known or not.
};

// `parameters[i]` becomes $(i+1); a name that is not among them is left as it is, and reported in `used`.
// kInvalidArgument says what is wrong: not one SELECT, a `$1`, something that is opened and never closed.
absl::StatusOr<ScannedSql> ScanSql(absl::string_view sql, const std::vector<std::string>& parameters);

// `sql`, as ScanSql left it, with each $n replaced by `replacement(n)`.
std::string ReplaceParameters(absl::string_view sql, absl::FunctionRef<std::string(size_t)> replacement);

// Every name in `text` that a parenthesis follows, as PostgreSQL would look it up: functions, beside types and
// keywords. For statements, and for the expressions of a plan.
std::set<std::string> CalledNames(absl::string_view text);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CATALOG_SQL_H_
