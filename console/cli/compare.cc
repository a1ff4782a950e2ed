#include "console/cli/compare.h"

#include <fstream>
#include <iterator>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "diff/compare/compare.h"
#include "diff/compare/json.h"
#include "diff/compare/patch.h"
#include "diff/message/message_reader.h"

namespace shadowline::console {
namespace {

using diff::Comparison;
using diff::Json;
using diff::JsonDocument;

absl::Status Expected(absl::string_view where, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("rules: ", where, ": expected ", what));
}

// A list of paths, one path, or true for everywhere.
absl::Status ReadPaths(const Json& value, std::vector<std::string>* paths) {
  if (value.text == "true") {
    paths->push_back("*");
    return absl::OkStatus();
  }
  if (value.text == "false" || value.type == Json::Type::kNull) return absl::OkStatus();
  if (value.type == Json::Type::kString) {
    paths->emplace_back(value.string);
    return absl::OkStatus();
  }
  if (value.type != Json::Type::kArray) return Expected(value.name, "a list of paths");
  for (const Json& path : value.items()) {
    if (path.type != Json::Type::kString) return Expected(value.name, "a list of paths");
    paths->emplace_back(path.string);
  }
  return absl::OkStatus();
}

absl::Status ReadArrays(const Json& value, std::map<std::string, std::string>* arrays) {
  if (value.type == Json::Type::kNull) return absl::OkStatus();
  if (value.type == Json::Type::kString) {
    arrays->emplace("*", value.string);
    return absl::OkStatus();
  }
  if (value.type != Json::Type::kObject) return Expected("arrays", "a mode, or an object of paths and modes");
  for (const Json& mode : value.items()) {
    if (mode.type != Json::Type::kString) return Expected("arrays", "list, multiset or keyed:FIELD for each path");
    arrays->emplace(mode.name, mode.string);
  }
  return absl::OkStatus();
}

// The text of a number that is written as a number or as a text.
std::optional<std::string> NumberText(const Json& value) {
  if (value.type == Json::Type::kNumber) return std::string(value.text);
  if (value.type == Json::Type::kString) return std::string(value.string);
  return std::nullopt;
}

// "0.01", or {"absolute": ..., "relative": ...}; a member "path" is left to the caller.
absl::Status ReadTolerance(const std::string& path, const Json& value, diff::Rules* rules) {
  diff::Rules::Tolerance tolerance;
  tolerance.path = path;
  if (const auto number = NumberText(value)) {
    tolerance.absolute = *number;
  } else if (value.type == Json::Type::kObject) {
    for (const Json& member : value.items()) {
      if (member.name == "path") continue;
      const auto bound = NumberText(member);
      if (!bound || (member.name != "absolute" && member.name != "relative")) {
        return Expected("tolerance", "decimals under absolute and relative");
      }
      (member.name == "absolute" ? tolerance.absolute : tolerance.relative) = *bound;
    }
  } else {
    return Expected("tolerance", "a decimal, or an object with absolute and relative");
  }
  rules->tolerance.push_back(std::move(tolerance));
  return absl::OkStatus();
}

absl::Status ReadTolerances(const Json& value, diff::Rules* rules) {
  if (value.type == Json::Type::kNull) return absl::OkStatus();
  if (value.type == Json::Type::kArray) {
    for (const Json& item : value.items()) {
      const Json* path = item.type == Json::Type::kObject ? item.Find("path") : nullptr;
      if (path == nullptr || path->type != Json::Type::kString) return Expected("tolerance", "a path in each item");
      RETURN_IF_ERROR(ReadTolerance(std::string(path->string), item, rules));
    }
    return absl::OkStatus();
  }
  const bool everywhere =
      value.type != Json::Type::kObject || value.Find("absolute") != nullptr || value.Find("relative") != nullptr;
  if (everywhere) return ReadTolerance("*", value, rules);
  for (const Json& member : value.items()) RETURN_IF_ERROR(ReadTolerance(std::string(member.name), member, rules));
  return absl::OkStatus();
}

absl::StatusOr<diff::CompiledRules> ReadRules(const Json* value) {
  diff::Rules rules;
  if (value == nullptr || value->type == Json::Type::kNull) return diff::CompiledRules();
  if (value->type != Json::Type::kObject) return absl::InvalidArgumentError("rules: expected an object");
  for (const Json& member : value->items()) {
    if (member.name == "ignore") {
      RETURN_IF_ERROR(ReadPaths(member, &rules.ignore));
    } else if (member.name == "arrays") {
      RETURN_IF_ERROR(ReadArrays(member, &rules.arrays));
    } else if (member.name == "tolerance") {
      RETURN_IF_ERROR(ReadTolerances(member, &rules));
    } else if (member.name == "instants") {
      RETURN_IF_ERROR(ReadPaths(member, &rules.instants));
    } else if (member.name == "null_is_absent") {
      RETURN_IF_ERROR(ReadPaths(member, &rules.null_is_absent));
    } else if (member.name == "extensible") {
      RETURN_IF_ERROR(ReadPaths(member, &rules.extensible));
    } else {
      return Expected(member.name, "ignore, arrays, tolerance, instants, null_is_absent or extensible");
    }
  }
  return diff::CompiledRules::Compile(rules);
}

// Unlike Compare alone, which knows who rendered its sides, asks of both whether they are JSON at all.
Comparison CompareTexts(absl::string_view a, absl::string_view b, const diff::CompiledRules& rules) {
  Comparison error;
  error.verdict = Comparison::Verdict::kError;
  if (const absl::Status status = diff::CheckJson(a); !status.ok()) {
    error.error = absl::StrCat("a cannot be compared: ", status.message());
    return error;
  }
  if (const absl::Status status = diff::CheckJson(b); absl::IsInvalidArgument(status)) {
    error.error = absl::StrCat("b is not JSON: ", status.message());
    return error;
  }
  return diff::Compare({true, a}, {true, b}, rules);
}

// What a line calls its sides.
struct SideNames {
  absl::string_view a = "a";
  absl::string_view b = "b";
};

SideNames NamesIn(const Json& line) {
  const bool named =
      line.type == Json::Type::kObject && (line.Find("control") != nullptr || line.Find("candidate") != nullptr);
  return named ? SideNames{"control", "candidate"} : SideNames{};
}

absl::StatusOr<Comparison> CompareLine(const Json& line, const SideNames& names) {
  if (line.type != Json::Type::kObject) {
    return absl::InvalidArgumentError("expected an object with id, a and b (or control and candidate), and rules");
  }
  std::vector<absl::string_view> texts;
  for (const absl::string_view name : {names.a, names.b}) {
    const Json* side = line.Find(name);
    if (side == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": expected a JSON text as a string, or a JSON value"));
    }
    texts.push_back(side->type == Json::Type::kString ? side->string : side->text);
  }
  if (names.a != "a" && (line.Find("a") != nullptr || line.Find("b") != nullptr)) {
    return absl::InvalidArgumentError("expected a and b, or control and candidate");
  }
  ASSIGN_OR_RETURN(const diff::CompiledRules rules, ReadRules(line.Find("rules")));
  return CompareTexts(texts[0], texts[1], rules);
}

void AppendSide(std::string* out, absl::string_view name, const std::string& text) {
  absl::StrAppend(out, ",\"", name, "\":");
  if (text.empty()) {
    absl::StrAppend(out, "null");
  } else {
    diff::AppendQuoted(out, text);
  }
}

std::string RenderLine(absl::string_view id, const SideNames& names, const absl::StatusOr<Comparison>& result) {
  const bool error = !result.ok() || result->verdict == Comparison::Verdict::kError;
  const bool differ = !error && result->verdict == Comparison::Verdict::kDiffer;
  std::string out = absl::StrCat("{\"id\":", id, ",\"verdict\":\"", error ? "error" : (differ ? "differ" : "equal"),
                                 "\",\"differences\":[");
  if (result.ok()) {
    for (const diff::Difference& difference : result->differences) {
      absl::StrAppend(&out, out.back() == '[' ? "" : ",", "{\"pointer\":");
      diff::AppendQuoted(&out, difference.pointer);
      absl::StrAppend(&out, ",\"kind\":\"", diff::KindName(difference.kind), "\"");
      AppendSide(&out, names.a, difference.control);
      AppendSide(&out, names.b, difference.candidate);
      absl::StrAppend(&out, "}");
    }
  }
  absl::StrAppend(&out, "]");
  if (result.ok() && result->differences_total > result->differences.size()) {
    absl::StrAppend(&out, ",\"differences_total\":", result->differences_total);
  }
  if (differ) {
    absl::StrAppend(&out, ",\"fingerprint\":\"", diff::Fingerprint(/*endpoint=*/"", result->patterns), "\"");
  }
  if (result.ok() && !result->excuses.empty()) {
    absl::StrAppend(&out, ",\"excuses\":{");
    for (const auto& [rule, times] : result->excuses) {
      if (out.back() != '{') out.push_back(',');
      diff::AppendQuoted(&out, rule);
      absl::StrAppend(&out, ":", times);
    }
    absl::StrAppend(&out, "}");
  }
  const std::string message = !result.ok() ? std::string(result.status().message()) : result->error;
  if (!message.empty()) {
    absl::StrAppend(&out, ",\"error\":");
    diff::AppendQuoted(&out, diff::ShowValue(message));  // It may quote what the line holds.
  }
  absl::StrAppend(&out, "}\n");
  return out;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  file.peek();  // A folder opens, and fails only here.
  if (!file.is_open() || file.bad()) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

absl::StatusOr<diff::CompiledRules> RulesIn(const std::string& rules_json) {
  if (rules_json.empty()) return diff::CompiledRules();
  const auto document = JsonDocument::Parse(rules_json);
  if (!document.ok()) return base::Annotate(document.status(), "rules");
  return ReadRules(&(*document)->root());
}

absl::StatusOr<Comparison> CompareFiles(const std::string& path_a, const std::string& path_b,
                                        const std::string& rules_json) {
  ASSIGN_OR_RETURN(const std::string a, ReadFile(path_a));
  ASSIGN_OR_RETURN(const std::string b, ReadFile(path_b));
  ASSIGN_OR_RETURN(const diff::CompiledRules rules, RulesIn(rules_json));
  Comparison result = CompareTexts(a, b, rules);
  if (result.verdict == Comparison::Verdict::kError) {
    return absl::InvalidArgumentError(absl::StrCat(path_a, " and ", path_b, ": ", result.error));
  }
  return result;
}

absl::StatusOr<std::string> PatchFiles(const std::string& path_a, const std::string& path_b,
                                       const std::string& rules_json) {
  ASSIGN_OR_RETURN(const std::string a, ReadFile(path_a));
  ASSIGN_OR_RETURN(const std::string b, ReadFile(path_b));
  ASSIGN_OR_RETURN(const diff::CompiledRules rules, RulesIn(rules_json));
  return diff::MakePatch(a, b, rules);
}

absl::StatusOr<Comparison> CompareMessages(const std::string& path_a, const std::string& path_b,
                                           const std::string& descriptors, const std::string& message,
                                           const std::string& rules_json) {
  ASSIGN_OR_RETURN(const std::string set, ReadFile(descriptors));
  auto reader = diff::MessageReader::Create(set, message);
  if (!reader.ok()) return base::Annotate(reader.status(), descriptors);
  ASSIGN_OR_RETURN(const std::string a, ReadFile(path_a));
  ASSIGN_OR_RETURN(const std::string b, ReadFile(path_b));
  ASSIGN_OR_RETURN(const diff::CompiledRules rules, RulesIn(rules_json));
  const absl::StatusOr<std::string> a_json = (*reader)->ToJson(a);
  if (!a_json.ok()) return base::Annotate(a_json.status(), path_a);
  const absl::StatusOr<std::string> b_json = (*reader)->ToJson(b);
  // What is no message is no JSON either: a shape.
  Comparison result = diff::Compare({true, *a_json}, {true, b_json.ok() ? *b_json : ""}, rules);
  if (!b_json.ok()) result.error = absl::StrCat(path_b, ": ", b_json.status().message());
  if (result.verdict == Comparison::Verdict::kError) return absl::InvalidArgumentError(result.error);
  return result;
}

int Report(const absl::StatusOr<Comparison>& result, std::ostream& out, std::ostream& err) {
  if (!result.ok()) {
    err << "compare: " << std::string(result.status().message()) << "\n";
    return 2;
  }
  for (const diff::Difference& difference : result->differences) {
    out << (difference.pointer.empty() ? "(whole)" : difference.pointer) << ": "
        << std::string(KindName(difference.kind));
    if (!difference.control.empty()) out << "\n  - " << difference.control;
    if (!difference.candidate.empty()) out << "\n  + " << difference.candidate;
    out << "\n";
  }
  if (!result->error.empty()) out << result->error << "\n";
  for (const auto& [rule, times] : result->excuses) out << "excused by " << rule << ": " << times << "\n";
  if (result->verdict != Comparison::Verdict::kDiffer) {
    out << (result->excuses.empty() ? "equal\n" : "equal under the rules\n");
    return 0;
  }
  out << result->differences_total << (result->differences_total == 1 ? " difference\n" : " differences\n");
  return 1;
}

}  // namespace

int CompareFiles(const std::string& path_a, const std::string& path_b, const std::string& rules_json, std::ostream& out,
                 std::ostream& err) {
  return Report(CompareFiles(path_a, path_b, rules_json), out, err);
}

int CompareMessages(const std::string& path_a, const std::string& path_b, const std::string& descriptors,
                    const std::string& message, const std::string& rules_json, std::ostream& out, std::ostream& err) {
  return Report(CompareMessages(path_a, path_b, descriptors, message, rules_json), out, err);
}

int PatchFiles(const std::string& path_a, const std::string& path_b, const std::string& rules_json, std::ostream& out,
               std::ostream& err) {
  const absl::StatusOr<std::string> patch = PatchFiles(path_a, path_b, rules_json);
  if (!patch.ok()) {
    err << "compare: " << std::string(patch.status().message()) << "\n";
    return 2;
  }
  out << *patch << "\n";
  return *patch == "[]" ? 0 : 1;
}

int CompareJsonLines(std::istream& in, std::ostream& out) {
  for (std::string line; std::getline(in, line);) {
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    const auto document = JsonDocument::Parse(line, diff::LoneSurrogates::kKeep);
    if (!document.ok()) {
      out << RenderLine("null", SideNames(), base::Annotate(document.status(), "the line is not JSON"));
      continue;
    }
    const Json& root = (*document)->root();
    const Json* id = root.type == Json::Type::kObject ? root.Find("id") : nullptr;
    const SideNames names = NamesIn(root);
    out << RenderLine(id == nullptr ? "null" : id->text, names, CompareLine(root, names));
  }
  out.flush();
  return out ? 0 : 2;
}

}  // namespace shadowline::console
