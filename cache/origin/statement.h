// How an endpoint's SELECT becomes the statement that is prepared: the server renders the JSON, and says with the
// answer in which session it ran. Pure.
//
// The prepared statement returns one row: body (NULL: not found), snapshot, stamp; and the database's clock in Unix
// microseconds where the endpoint says when its answers were committed.
//
// The form for a set of reads returns one row for each of them, and in front of it the read's number from 1 on:
//
//   SELECT reads.n, (SELECT ... FROM (<endpoint's SELECT, ($3)[reads.n] in the place of $2>) AS answer) AS body, ...
//   FROM unnest($2) AS reads(n)
//
// Why each body is byte for byte that of the single form: an element of an array of a type is to PostgreSQL an
// expression of that type with no name of its own, as the parameter is; the SELECT around it is a scalar subquery, as
// there, run for each row anew. Where an aggregate takes nothing but parameters, PostgreSQL would count it to the
// statement around it; then `reads.n` makes preparing fail (42803), and the endpoint has no form for sets.
#ifndef SHADOWLINE_CACHE_ORIGIN_STATEMENT_H_
#define SHADOWLINE_CACHE_ORIGIN_STATEMENT_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "cache/catalog/catalog.h"
#include "cache/origin/control.h"

namespace shadowline::cache {

// PostgreSQL's type of a parameter: "text", "bigint", "numeric", "boolean", "text[]", "bigint[]".
absl::string_view SqlType(ParameterType type);

// An expression that names the session a statement runs in: users, search_path, TimeZone, read-only, recovery,
// database. Equal stamps mean that a statement means the same.
absl::string_view SessionStamp();
// Whether that session is of a server in recovery, which a standby always is.
bool IsInRecovery(absl::string_view stamp);

// One statement that sets up a session, whatever the role's or the database's own defaults are: the same text must
// mean, and print, the same everywhere. The search path is given as a quoted literal; `local`: for the present
// transaction alone.
std::string SessionSetup(const std::string& search_path_literal, bool local = false);

// The first line of what PostgreSQL said, without "ERROR:": no DETAIL, no CONTEXT, nothing of the statement.
std::string PrimaryMessage(absl::string_view what);

// `PREPARE "<statement_id>" (types) AS SELECT ...`.
std::string PrepareText(const Endpoint& endpoint);

// The same for sets, under the name SetStatementId. Takes the tenant, then what SetArguments returns.
std::string SetStatementId(const Endpoint& endpoint);
std::string PrepareSetText(const Endpoint& endpoint);

// Array literals: the reads' numbers; then for each parameter an array of its values, or, for one that is a list
// itself, the elements of all lists one after the other, where each list begins, and where it ends. Nothing where a
// list is no plain array literal.
std::optional<std::vector<std::string>> SetArguments(const Endpoint& endpoint, const std::vector<Arguments>& arguments);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_ORIGIN_STATEMENT_H_
