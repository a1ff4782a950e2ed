// Where a rule applies: a JSON Pointer or a JSONPath, matched one step at a time on the way down a tree where that is
// possible.
//
//   /lines/*/price      JSON Pointer (RFC 6901); a segment `*` is any member or item
//   $.lines[*].price    JSONPath (RFC 9535): $  .name  ['name']  [0]  [*]  .*  ..name
//   *                   everywhere
//
// A JSONPath with a filter, a slice, several selectors in one pair of brackets or a negative index needs the document
// (jsonpath.h); ParsePlace gives it back as a query.
//
// Threads: immutable once parsed.
#ifndef SHADOWLINE_DIFF_COMPARE_PATH_H_
#define SHADOWLINE_DIFF_COMPARE_PATH_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "diff/compare/jsonpath.h"

namespace shadowline::diff {

// One step down: to a member, or to an item.
struct PathStep {
  absl::string_view name;
  size_t index = 0;
  bool is_item = false;
};

class PathPattern {
 public:
  // kInvalidArgument says what was expected, and where. Refuses what needs the document.
  static absl::StatusOr<PathPattern> Parse(absl::string_view path);

  bool operator==(const PathPattern&) const = default;

  bool everywhere() const { return everywhere_; }
  // How many segments there are: a walk that has matched them all is where the pattern points.
  size_t size() const { return segments_.size(); }
  // Whether `step` matches the segment number `at`.
  bool Matches(size_t at, const PathStep& step) const;
  // Whether the segment number `at` may match any number of steps further down.
  bool Deep(size_t at) const { return segments_[at].deep; }

 private:
  enum class Kind { kName, kIndex, kNameOrIndex, kAny };
  struct Segment {
    Kind kind = Kind::kAny;
    std::string name;
    size_t index = 0;
    bool deep = false;
    bool operator==(const Segment&) const = default;
  };

  friend absl::StatusOr<struct Place> ParsePlace(absl::string_view path);
  static absl::StatusOr<PathPattern> ParsePointer(absl::string_view path);
  // Nothing: it needs the document.
  static std::optional<PathPattern> FromJsonPath(const JsonPath& path);

  std::vector<Segment> segments_;
  bool everywhere_ = false;
};

struct Place {
  PathPattern pattern;
  std::optional<JsonPath> query;  // Goes before the pattern.
};

absl::StatusOr<Place> ParsePlace(absl::string_view path);

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_COMPARE_PATH_H_
