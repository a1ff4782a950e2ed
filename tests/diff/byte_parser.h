// Reads JSON one byte after the other, and knows nothing of digests: slow, and easy to see through. With
// diff::CompareSlowly it is what Compare is held against.
#ifndef SHADOWLINE_TESTS_DIFF_BYTE_PARSER_H_
#define SHADOWLINE_TESTS_DIFF_BYTE_PARSER_H_

#include <memory>
#include <memory_resource>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "diff/compare/json.h"

namespace shadowline::diff {

class ByteDocument {
 public:
  // The statuses of JsonDocument::Parse, but for texts that earn several.
  static absl::StatusOr<std::unique_ptr<const ByteDocument>> Parse(absl::string_view text);

  const Json& root() const { return root_; }

 private:
  ByteDocument() = default;

  std::pmr::monotonic_buffer_resource memory_;
  Json root_;
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_TESTS_DIFF_BYTE_PARSER_H_
