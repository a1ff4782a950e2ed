#include "cache/origin/statement.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "cache/catalog/sql.h"

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

bool IsInRecovery(absl::string_view stamp) { return absl::EndsWith(stamp, "|t"); }

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

namespace {

// A scalar subquery is NULL without a row and an error (21000) with two, which is what `row` promises. The newline ends
// a comment that the statement may end in.
std::string BodyOf(const Endpoint& endpoint, absl::string_view sql) {
  return endpoint.shape == ResultShape::kRow
             ? absl::StrCat("(SELECT row_to_json(answer)::text FROM (", sql, "\n) AS answer)")
             : absl::StrCat("(SELECT coalesce(json_agg(row_to_json(answer)), '[]')::text FROM (", sql,
                            "\n) AS answer)");
}

bool IsList(ParameterType type) {
  switch (type) {
    case ParameterType::kTextSet:
    case ParameterType::kTextList:
    case ParameterType::kIntegerSet:
    case ParameterType::kIntegerList:
      return true;
    default:
      return false;
  }
}

// How many elements there are between the braces of an array literal of one dimension.
std::optional<size_t> CountElements(absl::string_view inside) {
  if (inside.empty()) return 0;
  size_t count = 1;
  bool quoted = false;
  for (size_t i = 0; i < inside.size(); ++i) {
    switch (inside[i]) {
      case '\\':
        if (++i == inside.size()) return std::nullopt;
        break;
      case '"':
        quoted = !quoted;
        break;
      case ',':
        if (!quoted) ++count;
        break;
      case '{':
      case '}':
        if (!quoted) return std::nullopt;
        break;
    }
  }
  return quoted ? std::nullopt : std::optional<size_t>(count);
}

// An element of an array literal: quoted, nothing in it means anything.
void AppendElement(const std::optional<std::string>& element, std::string* out) {
  if (!element.has_value()) {
    out->append("NULL");
    return;
  }
  out->push_back('"');
  for (const char c : *element) {
    if (c == '"' || c == '\\') out->push_back('\\');
    out->push_back(c);
  }
  out->push_back('"');
}

std::string ClockOf(const Endpoint& endpoint) {
  return endpoint.committed_at.empty() ? "" : ", (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS clock";
}

}  // namespace

std::string PrepareText(const Endpoint& endpoint) {
  std::string types = "text";
  for (const ParameterDecl& parameter : endpoint.parameters) absl::StrAppend(&types, ", ", SqlType(parameter.type));
  return absl::StrCat("PREPARE \"", endpoint.statement_id, "\" (", types, ") AS SELECT ",
                      BodyOf(endpoint, endpoint.sql), " AS body, pg_current_snapshot()::text AS snapshot, ",
                      SessionStamp(), " AS stamp", ClockOf(endpoint));
}

std::string SetStatementId(const Endpoint& endpoint) { return absl::StrCat(endpoint.statement_id, "_set"); }

std::string PrepareSetText(const Endpoint& endpoint) {
  // The endpoint's own SELECT cannot use this name: it holds a digest of that SELECT.
  const std::string reads = absl::StrCat("\"", SetStatementId(endpoint), "\"");

  std::string types = "text, int[]";
  std::vector<std::string> elements = {"$1"};  // In the place of $1, $2, ...
  size_t next = 3;
  for (const ParameterDecl& parameter : endpoint.parameters) {
    // Wrapped, so that what follows, another subscript even, applies to the whole.
    if (IsList(parameter.type)) {
      absl::StrAppend(&types, ", ", SqlType(parameter.type), ", int[], int[]");
      elements.push_back(
          absl::StrCat("(($", next, ")[($", next + 1, ")[", reads, ".n] : ($", next + 2, ")[", reads, ".n]])"));
      next += 3;
    } else {
      absl::StrAppend(&types, ", ", SqlType(parameter.type), "[]");
      elements.push_back(absl::StrCat("(($", next, ")[", reads, ".n])"));
      next += 1;
    }
  }
  const std::string sql =
      ReplaceParameters(endpoint.sql, [&elements](size_t number) { return elements.at(number - 1); });
  return absl::StrCat("PREPARE \"", SetStatementId(endpoint), "\" (", types, ") AS SELECT ", reads, ".n, ",
                      BodyOf(endpoint, sql), " AS body, pg_current_snapshot()::text AS snapshot, (SELECT ",
                      SessionStamp(), ") AS stamp", ClockOf(endpoint), " FROM unnest($2) AS ", reads, "(n) ORDER BY ",
                      reads, ".n");
}

std::optional<std::vector<std::string>> SetArguments(const Endpoint& endpoint,
                                                     const std::vector<Arguments>& arguments) {
  std::vector<std::string> literals = {"{"};
  for (size_t i = 1; i <= arguments.size(); ++i) absl::StrAppend(&literals[0], i > 1 ? "," : "", i);
  literals[0].push_back('}');
  for (size_t p = 0; p < endpoint.parameters.size(); ++p) {
    std::string values = "{";
    if (!IsList(endpoint.parameters[p].type)) {
      for (const Arguments& of_one : arguments) {
        if (values.size() > 1) values.push_back(',');
        AppendElement(of_one[p], &values);
      }
      literals.push_back(values + "}");
      continue;
    }
    std::string begins = "{", ends = "{";
    size_t total = 0;
    for (const Arguments& of_one : arguments) {
      if (begins.size() > 1) {
        begins.push_back(',');
        ends.push_back(',');
      }
      if (!of_one[p].has_value()) {
        begins += "NULL";
        ends += "NULL";
        continue;
      }
      absl::string_view inside = *of_one[p];
      if (!absl::ConsumePrefix(&inside, "{") || !absl::ConsumeSuffix(&inside, "}")) return std::nullopt;
      const std::optional<size_t> count = CountElements(inside);
      if (!count.has_value()) return std::nullopt;
      if (*count > 0) absl::StrAppend(&values, values.size() > 1 ? "," : "", inside);
      absl::StrAppend(&begins, total + 1);
      absl::StrAppend(&ends, total += *count);
    }
    literals.push_back(values + "}");
    literals.push_back(begins + "}");
    literals.push_back(ends + "}");
  }
  return literals;
}

}  // namespace shadowline::cache
