// JSONPath (RFC 9535): all of it, evaluated on a Json tree. Numbers are compared as exact decimals.
//
//   ASSIGN_OR_RETURN(JsonPath path, JsonPath::Parse("$.rows[?@.state == 'draft' && @.total < 10].note"));
//   JsonPath::Work work;
//   ASSIGN_OR_RETURN(std::vector<const Json*> nodes, path.Locate(document.root(), &work));
//
// Refused beyond the RFC: a regular expression that is written out in the path and is none (the RFC lets it match
// nothing).
//
// Threads: immutable once parsed.
// Limits:  kMaxPathBytes, kMaxSegments in a path, kMaxExpressionDepth of parentheses, filters and calls inside each
// other,
//          iregexp.h's; a Work of kMaxPathSteps, whatever the path and the document.
#ifndef SHADOWLINE_DIFF_COMPARE_JSONPATH_H_
#define SHADOWLINE_DIFF_COMPARE_JSONPATH_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "diff/compare/json.h"

namespace shadowline::diff {

inline constexpr size_t kMaxPathBytes = 1024;
inline constexpr size_t kMaxSegments = 64;
inline constexpr int kMaxExpressionDepth = 32;
inline constexpr uint64_t kMaxPathSteps = 20'000'000;

class JsonPath {
 public:
  struct Filter;

  struct Selector {
    enum class Kind { kName, kWildcard, kIndex, kSlice, kFilter };

    Kind kind = Kind::kWildcard;
    std::string name;
    int64_t index = 0;  // Negative: from the end.
    std::optional<int64_t> start;
    std::optional<int64_t> end;
    int64_t step = 1;
    std::shared_ptr<const Filter> filter;
  };

  struct Segment {
    bool descendant = false;
    std::vector<Selector> selectors;
  };

  // What evaluations have cost so far, in steps of about a visit to a node.
  struct Work {
    uint64_t steps = 0;
  };

  // kInvalidArgument says at which byte of `path` what was expected.
  static absl::StatusOr<JsonPath> Parse(absl::string_view path);

  // The nodes that the path selects, in the document's order of items and the tree's order of members; one that it
  // selects twice is there twice. kResourceExhausted: `work` went beyond kMaxPathSteps, or a regular expression that
  // the document holds is beyond its limits.
  absl::StatusOr<std::vector<const Json*>> Locate(const Json& root, Work* work) const;

  const std::vector<Segment>& segments() const { return segments_; }

 private:
  std::vector<Segment> segments_;
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_COMPARE_JSONPATH_H_
