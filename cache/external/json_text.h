// Finds values in a JSON text without changing a byte of them: a payload leaves an envelope as it was written, numbers
// of any length included.
//
// Pure.
#ifndef SHADOWLINE_CACHE_EXTERNAL_JSON_TEXT_H_
#define SHADOWLINE_CACHE_EXTERNAL_JSON_TEXT_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace shadowline::cache {

inline constexpr int kMaxJsonTextDepth = 1000;

// A JSON Pointer (RFC 6901): the names and indexes on the way.
using JsonPointer = std::vector<std::string>;

// kInvalidArgument says what a pointer looks like.
absl::StatusOr<JsonPointer> ParseJsonPointer(absl::string_view text);

// The text of the value at each pointer, without the blanks around it; empty where there is none.
// kDataLoss: `text` is not one JSON value (RFC 8259, valid UTF-8), is deeper than kMaxJsonTextDepth, or has a member
// twice on the way to a pointer's value. The message never repeats what is there.
absl::StatusOr<std::vector<absl::string_view>> FindInJson(absl::string_view text,
                                                          std::span<const JsonPointer> pointers);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_EXTERNAL_JSON_TEXT_H_
