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

// An index as a pointer writes it: no sign, no leading zero.
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

}  // namespace

absl::StatusOr<PathPattern> PathPattern::Parse(absl::string_view path) {
  ASSIGN_OR_RETURN(Place place, ParsePlace(path));
  if (place.query.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("path \"", path,
                     "\": expected names, indices from 0, * and .. only; filters, slices, several selectors in "
                     "brackets and negative indices are for ignore"));
  }
  return std::move(place.pattern);
}

absl::StatusOr<Place> ParsePlace(absl::string_view path) {
  if (path.size() > kMaxPathBytes || !simdjson::validate_utf8(path.data(), path.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("a path of ", path.size(), " bytes: expected UTF-8, at most ", kMaxPathBytes));
  }
  Place place;
  if (path == "*") {
    place.pattern.everywhere_ = true;
    return place;
  }
  if (absl::StartsWith(path, "/")) {
    ASSIGN_OR_RETURN(place.pattern, PathPattern::ParsePointer(path));
    return place;
  }
  if (!absl::StartsWith(path, "$")) {
    return Expected(path, path,
                    "a JSON Pointer (/a/b), a JSONPath ($.a.b, $ alone is the whole answer), or * for everywhere");
  }
  ASSIGN_OR_RETURN(JsonPath query, JsonPath::Parse(path));
  if (std::optional<PathPattern> pattern = PathPattern::FromJsonPath(query)) {
    place.pattern = *std::move(pattern);
  } else {
    place.query = std::move(query);
  }
  return place;
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
    if (pattern.size() > kMaxSegments) {
      return Expected(path, part, absl::StrCat("at most ", kMaxSegments, " segments"));
    }
  }
  return pattern;
}

std::optional<PathPattern> PathPattern::FromJsonPath(const JsonPath& path) {
  PathPattern pattern;
  for (const JsonPath::Segment& from : path.segments()) {
    if (from.selectors.size() != 1) return std::nullopt;
    const JsonPath::Selector& selector = from.selectors[0];
    Segment& segment = pattern.segments_.emplace_back();
    segment.deep = from.descendant;
    switch (selector.kind) {
      case JsonPath::Selector::Kind::kName:
        segment.kind = Kind::kName;
        segment.name = selector.name;
        break;
      case JsonPath::Selector::Kind::kWildcard:
        break;
      case JsonPath::Selector::Kind::kIndex:
        if (selector.index < 0) return std::nullopt;
        segment.kind = Kind::kIndex;
        segment.index = static_cast<size_t>(selector.index);
        break;
      case JsonPath::Selector::Kind::kSlice:
      case JsonPath::Selector::Kind::kFilter:
        return std::nullopt;
    }
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
