// What a database has to be for its changes to be captured. Asked when a catalog is applied, where each answer is a
// finding, and again by the capture itself, because a database changes.
//
// Threads: pure, but for the questions.
#ifndef SHADOWLINE_CACHE_CAPTURE_POSTGRES_TABLE_CHECK_H_
#define SHADOWLINE_CACHE_CAPTURE_POSTGRES_TABLE_CHECK_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "cache/catalog/catalog.h"

namespace shadowline::cache {

using AskedRows = std::vector<std::vector<std::optional<std::string>>>;
// Runs one statement with text parameters.
using Ask =
    absl::FunctionRef<absl::StatusOr<AskedRows>(const std::string& sql, const std::vector<std::string>& parameters)>;

// Each line says what is wrong, and the remedy; none: the table can be captured as declared. Errors are those of `ask`.
absl::StatusOr<std::vector<std::string>> CheckTable(const CapturedTable& table, Ask ask);

// The same for the server: wal_level.
absl::StatusOr<std::vector<std::string>> CheckServer(Ask ask);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CAPTURE_POSTGRES_TABLE_CHECK_H_
