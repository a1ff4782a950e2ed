#include "diff/compare/path.h"

#include <simdjson.h>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status.h"

namespace shadowline::diff {
namespace {

constexpr size_t kMaxPathBytes = 1024;
constexpr size_t kMaxSegments = 64;

bool IsNameByte(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' ||
         static_cast<unsigned char>(c) >= 0x80;
}

// An index as both notations write it: no sign, no leading zero.
bool ParseIndex(absl::string_view text, size_t* index) {
  if (text.empty() || text.size() > 9 || (text.size() > 1 && text[0] == '0')) return false;
  *index = 0;
  for (const char c : text) {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(c))) return false;
    *index = *index * 10 + static_cast<size_t>(c - '0');
  }
  return true;
}

absl::Status Expected(absl::string_view path, absl::string_view rest, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("path \"", path, "\": at byte ", rest.data() - path.data(), ": expected ", what));
}

// `rest` starts behind the opening quote; takes what is quoted and the closing quote.
absl::Status TakeQuoted(absl::string_view path, absl::string_view* rest, char quote, std::string* name) {
  while (!rest->empty() && rest->front() != quote) {
    if (rest->front() == '\\') {
      rest->remove_prefix(1);
      if (rest->empty() || (rest->front() != '\\' && rest->front() != '\'' && rest->front() != '"')) {
        return Expected(path, *rest, "\\\\, \\' or \\\"; no other escape is known");
      }
    }
    name->push_back(rest->front());
    rest->remove_prefix(1);
  }
  if (rest->empty()) return Expected(path, *rest, "the closing quote");
  rest->remove_prefix(1);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PathPattern> PathPattern::Parse(absl::string_view path) {
  if (path.size() > kMaxPathBytes || !simdjson::validate_utf8(path.data(), path.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("a path of ", path.size(), " bytes: expected UTF-8, at most ", kMaxPathBytes));
  }
  if (path == "*") {
    PathPattern everywhere;
    everywhere.everywhere_ = true;
    return everywhere;
  }
  ASSIGN_OR_RETURN(PathPattern pattern, absl::StartsWith(path, "/") ? ParsePointer(path) : ParseJsonPath(path));
  if (pattern.size() > kMaxSegments) {
    return absl::InvalidArgumentError(
        absl::StrCat("path \"", path, "\": expected at most ", kMaxSegments, " segments"));
  }
  return pattern;
}

absl::StatusOr<PathPattern> PathPattern::ParsePointer(absl::string_view path) {
  PathPattern pattern;
  for (const absl::string_view part : absl::StrSplit(path.substr(1), '/')) {
    for (size_t tilde = part.find('~'); tilde != absl::string_view::npos; tilde = part.find('~', tilde + 1)) {
      if (tilde + 1 == part.size() || (part[tilde + 1] != '0' && part[tilde + 1] != '1')) {
        return Expected(path, part.substr(tilde), "~0 or ~1");
      }
    }
    Segment segment;
    if (part != "*") {
      segment.name = absl::StrReplaceAll(part, {{"~1", "/"}, {"~0", "~"}});
      segment.kind = ParseIndex(part, &segment.index) ? Kind::kNameOrIndex : Kind::kName;
    }
    pattern.segments_.push_back(std::move(segment));
  }
  return pattern;
}

absl::StatusOr<PathPattern> PathPattern::ParseJsonPath(absl::string_view path) {
  absl::string_view rest = path;
  if (!absl::ConsumePrefix(&rest, "$")) {
    return Expected(path, rest,
                    "a JSON Pointer (/a/b), a JSONPath ($.a.b, $ alone is the whole answer), or * for everywhere");
  }
  PathPattern pattern;
  while (!rest.empty()) {
    Segment segment;
    segment.deep = absl::ConsumePrefix(&rest, "..");
    const bool dotted = !segment.deep && absl::ConsumePrefix(&rest, ".");
    if (!dotted && absl::ConsumePrefix(&rest, "[")) {
      if (absl::ConsumePrefix(&rest, "'")) {
        segment.kind = Kind::kName;
        RETURN_IF_ERROR(TakeQuoted(path, &rest, '\'', &segment.name));
      } else if (absl::ConsumePrefix(&rest, "\"")) {
        segment.kind = Kind::kName;
        RETURN_IF_ERROR(TakeQuoted(path, &rest, '"', &segment.name));
      } else if (!absl::ConsumePrefix(&rest, "*")) {
        const absl::string_view index = rest.substr(0, rest.find(']'));
        segment.kind = Kind::kIndex;
        if (!ParseIndex(index, &segment.index)) {
          return Expected(path, rest, "'name', an index or * (no filter, slice, union or negative index)");
        }
        rest.remove_prefix(index.size());
      }
      if (!absl::ConsumePrefix(&rest, "]")) return Expected(path, rest, "]");
    } else if (dotted || segment.deep) {
      if (!absl::ConsumePrefix(&rest, "*")) {
        size_t length = 0;
        while (length < rest.size() && IsNameByte(rest[length])) ++length;
        if (length == 0) return Expected(path, rest, "a name or *");
        segment.kind = Kind::kName;
        segment.name = std::string(rest.substr(0, length));
        rest.remove_prefix(length);
      }
    } else {
      return Expected(path, rest, ".name, ['name'], [0], [*], .* or ..name");
    }
    pattern.segments_.push_back(std::move(segment));
  }
  return pattern;
}

bool PathPattern::Matches(size_t at, const PathStep& step) const {
  const Segment& segment = segments_[at];
  switch (segment.kind) {
    case Kind::kName:
      return !step.is_item && step.name == segment.name;
    case Kind::kIndex:
      return step.is_item && step.index == segment.index;
    case Kind::kNameOrIndex:
      return step.is_item ? step.index == segment.index : step.name == segment.name;
    case Kind::kAny:
      break;
  }
  return true;
}

}  // namespace shadowline::diff
