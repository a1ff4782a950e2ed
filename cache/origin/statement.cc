#include "cache/origin/statement.h"

#include "absl/strings/str_cat.h"

namespace shadowline::cache {

absl::string_view SqlType(ParameterType type) {
  switch (type) {
    case ParameterType::kText:
      return "text";
    case ParameterType::kInteger:
      return "bigint";
    case ParameterType::kNumber:
      return "double precision";
    case ParameterType::kBoolean:
      return "boolean";
    case ParameterType::kTextSet:
    case ParameterType::kTextList:
      return "text[]";
    case ParameterType::kIntegerSet:
    case ParameterType::kIntegerList:
      return "bigint[]";
  }
  return "text";
}

absl::string_view SessionStamp() {
  return "concat_ws(E'\\x1f', session_user, current_user, current_database(), current_setting('search_path'), "
         "current_setting('TimeZone'), current_setting('transaction_read_only'), pg_is_in_recovery())";
}

std::string PrepareText(const Endpoint& endpoint) {
  std::string types = "text";
  for (const ParameterDecl& parameter : endpoint.parameters) absl::StrAppend(&types, ", ", SqlType(parameter.type));
  // A scalar subquery is NULL without a row and an error (21000) with two, which is what `row` promises. The newline ends a
  // comment that the statement may end in.
  const std::string body =
      endpoint.shape == ResultShape::kRow
          ? absl::StrCat("(SELECT row_to_json(answer)::text FROM (", endpoint.sql, "\n) AS answer)")
          : absl::StrCat("(SELECT coalesce(json_agg(row_to_json(answer)), '[]')::text FROM (", endpoint.sql,
                         "\n) AS answer)");
  return absl::StrCat("PREPARE \"", endpoint.statement_id, "\" (", types, ") AS SELECT ", body,
                      " AS body, pg_current_snapshot()::text AS snapshot, ", SessionStamp(), " AS stamp");
}

}  // namespace shadowline::cache
