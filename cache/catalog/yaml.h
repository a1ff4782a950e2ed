// A YAML document as a plain tree with positions, read under limits: hostile text is refused in bounded time and
// memory.
//
// Aliases share the node of their anchor. What a document becomes once all of them are followed counts against the same
// limit as what is written in it, so that nine lines cannot stand for a billion nodes.
//
// Threads: immutable once read.
#ifndef SHADOWLINE_CACHE_CATALOG_YAML_H_
#define SHADOWLINE_CACHE_CATALOG_YAML_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace shadowline::cache {

inline constexpr size_t kMaxYamlBytes = 4 << 20;
inline constexpr size_t kMaxYamlWeight = 200'000;  // A node weighs 1, and a long scalar more: see YamlNode::weight.
inline constexpr size_t kYamlBytesPerWeight = 256;
inline constexpr size_t kMaxYamlDepth = 32;
// Brackets and braces that are not closed, wherever they stand: the parser looks for the end of each before it says
// that it has begun.
inline constexpr size_t kMaxYamlOpen = 1000;

// Both count from 1.
struct Position {
  int line = 1;
  int column = 1;
};

struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMap };

  Kind kind = Kind::kNull;
  Position position;
  std::string scalar;
  bool quoted = false;  // A quoted `true` is a text.
  std::vector<std::shared_ptr<const YamlNode>> sequence;
  // In the document's order. Keys are scalars.
  std::vector<std::pair<std::shared_ptr<const YamlNode>, std::shared_ptr<const YamlNode>>> map;
  size_t weight = 1;  // Nodes in this tree, aliases followed, and one more for every kYamlBytesPerWeight of text.
};

// kInvalidArgument, as `line:column: what is wrong; what was expected`: not YAML, more than one document, a limit, a
// key that is repeated or no scalar, a tag, or bytes that are not UTF-8. Never throws.
absl::StatusOr<std::shared_ptr<const YamlNode>> ReadYaml(absl::string_view text);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CATALOG_YAML_H_
