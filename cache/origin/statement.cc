#include "cache/origin/statement.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace shadowline::cache {

absl::string_view SqlType(ParameterType type) {
  switch (type) {
    case ParameterType::kText:
      return "text";
    case ParameterType::kInteger:
      return "bigint";
    case ParameterType::kNumber:
      // Becomes double precision by itself where it meets one; the other way round an index on numeric would not be
      // used.
      return "numeric";
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
  return "concat_ws('|', session_user, current_user, current_database(), current_setting('search_path'), "
         "current_setting('TimeZone'), current_setting('transaction_read_only'), pg_is_in_recovery())";
}

std::string SessionSetup(const std::string& search_path_literal, bool local) {
  static constexpr std::pair<absl::string_view, absl::string_view> kSettings[] = {
      {"TimeZone", "'UTC'"},           {"DateStyle", "'ISO, MDY'"},
      {"IntervalStyle", "'postgres'"}, {"extra_float_digits", "'1'"},
      {"bytea_output", "'hex'"},       {"standard_conforming_strings", "'on'"},
      {"client_encoding", "'UTF8'"},   {"default_transaction_read_only", "'on'"},
  };
  const absl::string_view scope = local ? "true" : "false";
  std::string text = absl::StrCat("SELECT set_config('search_path', ", search_path_literal, ", ", scope, ")");
  for (const auto& [name, value] : kSettings)
    absl::StrAppend(&text, ", set_config('", name, "', ", value, ", ", scope, ")");
  return text;
}

std::string PrimaryMessage(absl::string_view what) {
  absl::string_view line = what.substr(0, what.find('\n'));
  for (const absl::string_view severity : {"ERROR:", "FATAL:", "PANIC:"}) absl::ConsumePrefix(&line, severity);
  return std::string(absl::StripAsciiWhitespace(line));
}

std::string PrepareText(const Endpoint& endpoint) {
  std::string types = "text";
  for (const ParameterDecl& parameter : endpoint.parameters) absl::StrAppend(&types, ", ", SqlType(parameter.type));
  // A scalar subquery is NULL without a row and an error (21000) with two, which is what `row` promises. The newline
  // ends a comment that the statement may end in.
  const std::string body =
      endpoint.shape == ResultShape::kRow
          ? absl::StrCat("(SELECT row_to_json(answer)::text FROM (", endpoint.sql, "\n) AS answer)")
          : absl::StrCat("(SELECT coalesce(json_agg(row_to_json(answer)), '[]')::text FROM (", endpoint.sql,
                         "\n) AS answer)");
  return absl::StrCat("PREPARE \"", endpoint.statement_id, "\" (", types, ") AS SELECT ", body,
                      " AS body, pg_current_snapshot()::text AS snapshot, ", SessionStamp(), " AS stamp");
}

}  // namespace shadowline::cache
