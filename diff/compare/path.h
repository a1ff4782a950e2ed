// Where a rule applies: a JSON Pointer or a piece of JSONPath, matched one step at a time on the way down a tree.
//
//   /lines/*/price      JSON Pointer (RFC 6901); a segment `*` is any member or item
//   $.lines[*].price    JSONPath: $  .name  ['name']  [0]  [*]  .*  ..name
//   *                   everywhere
//
// Filters, slices, unions and negative indices are refused: a rule that excuses must be readable at a glance.
//
// Threads: immutable once parsed.
#ifndef SHADOWLINE_DIFF_COMPARE_PATH_H_
#define SHADOWLINE_DIFF_COMPARE_PATH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace shadowline::diff {

// One step down: to a member, or to an item.
struct PathStep {
  absl::string_view name;
  size_t index = 0;
  bool is_item = false;
};

class PathPattern {
 public:
  // kInvalidArgument says what was expected, and where.
  static absl::StatusOr<PathPattern> Parse(absl::string_view path);

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
  };

  static absl::StatusOr<PathPattern> ParsePointer(absl::string_view path);
  static absl::StatusOr<PathPattern> ParseJsonPath(absl::string_view path);

  std::vector<Segment> segments_;
  bool everywhere_ = false;
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_COMPARE_PATH_H_
