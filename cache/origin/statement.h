// How an endpoint's SELECT becomes the statement that is prepared: the server renders the JSON, and says with the
// answer in which session it ran. Pure.
//
// The prepared statement returns one row: body (NULL: not found), snapshot, stamp.
#ifndef SHADOWLINE_CACHE_ORIGIN_STATEMENT_H_
#define SHADOWLINE_CACHE_ORIGIN_STATEMENT_H_

#include <string>

#include "absl/strings/string_view.h"
#include "cache/catalog/catalog.h"

namespace shadowline::cache {

// PostgreSQL's type of a parameter: "text", "bigint", "numeric", "boolean", "text[]", "bigint[]".
absl::string_view SqlType(ParameterType type);

// An expression that names the session a statement runs in: users, search_path, TimeZone, read-only, recovery,
// database. Equal stamps mean that a statement means the same.
absl::string_view SessionStamp();

// One statement that sets up a session, whatever the role's or the database's own defaults are: the same text must
// mean, and print, the same everywhere. The search path is given as a quoted literal; `local`: for the present
// transaction alone.
std::string SessionSetup(const std::string& search_path_literal, bool local = false);

// The first line of what PostgreSQL said, without "ERROR:": no DETAIL, no CONTEXT, nothing of the statement.
std::string PrimaryMessage(absl::string_view what);

// `PREPARE "<statement_id>" (types) AS SELECT ...`.
std::string PrepareText(const Endpoint& endpoint);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_ORIGIN_STATEMENT_H_
