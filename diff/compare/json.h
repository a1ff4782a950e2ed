// A JSON text as a tree that keeps what comparing needs and parsers usually throw away: numbers as they were written,
// the text of every value, and whether a member was there twice.
//
// Strict RFC 8259: valid UTF-8 (checked by simdjson), no lone surrogates (unless asked for), no duplicate members,
// nothing after the value. The grammar is parsed here because general parsers turn numbers into doubles or refuse the
// large ones.
//
// Ownership: a tree points into its text, which must outlive it.
// Threads:   compatible.
// Limits:    kMaxJsonBytes, kMaxJsonDepth; beyond them a text is refused. Time and memory are linear in the text, but
// for the
//            sorting of an object's members.
#ifndef SHADOWLINE_DIFF_COMPARE_JSON_H_
#define SHADOWLINE_DIFF_COMPARE_JSON_H_

#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace shadowline::diff {

inline constexpr size_t kMaxJsonBytes = 16 << 20;
inline constexpr int kMaxJsonDepth = 1000;

struct Json {
  enum class Type : uint8_t { kNull, kBoolean, kNumber, kString, kArray, kObject };

  Type type = Type::kNull;
  uint32_t size = 0;               // Items or members.
  const Json* children = nullptr;  // Items in order; members sorted by name.
  absl::string_view name;          // Of a member, unescaped.
  absl::string_view text;          // The value as it is written.
  absl::string_view string;        // kString: unescaped.

  std::span<const Json> items() const { return {children, size}; }
  // Null: there is no such member.
  const Json* Find(absl::string_view member) const;
};

// What a lone surrogate in a string is: an error, or the three bytes that UTF-8 would give it, so that a text about a
// bad text can be read.
enum class LoneSurrogates { kRefuse, kKeep };

class JsonDocument {
 public:
  // kInvalidArgument: not JSON. kFailedPrecondition: JSON, but with a duplicate member, a lone surrogate, or beyond the
  // limits. The message says at which byte what was expected; it never repeats what is there.
  static absl::StatusOr<std::unique_ptr<const JsonDocument>> Parse(absl::string_view text,
                                                                   LoneSurrogates lone = LoneSurrogates::kRefuse);

  const Json& root() const { return root_; }

 private:
  JsonDocument() = default;

  std::pmr::monotonic_buffer_resource memory_;
  Json root_;
};

// Appends the code point `code`. REQUIRES: at most 0x10ffff.
void AppendUtf8(std::string* out, uint32_t code);
// Appends `text` (UTF-8) as a JSON string.
void AppendQuoted(std::string* out, absl::string_view text);

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_COMPARE_JSON_H_
