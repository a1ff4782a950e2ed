// A JSON text as a tree that keeps what comparing needs and parsers usually throw away: numbers as they were written,
// the text of every value, whether a member was there twice; and a digest of every value, by which equal ones are
// known.
//
// Strict RFC 8259: valid UTF-8, no lone surrogates (unless asked for), no duplicate members, nothing after the value.
// simdjson finds where values and strings begin; the grammar is checked here, because general parsers turn numbers into
// doubles or refuse the large ones.
//
// Ownership: a tree points into its text, which must outlive it.
// Threads:   compatible.
// Limits:    kMaxJsonBytes, kMaxJsonDepth; beyond them a text is refused. Time and memory are linear in the text, but
//            for the sorting of large objects' members. At most some 85 bytes of memory for each two bytes of text
//            ("[1,1,1").
#ifndef SHADOWLINE_DIFF_COMPARE_JSON_H_
#define SHADOWLINE_DIFF_COMPARE_JSON_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace shadowline::diff {

inline constexpr size_t kMaxJsonBytes = 16 << 20;
inline constexpr int kMaxJsonDepth = 1000;

// Equal for values that are equal (1 = 1.0, whatever the escapes and the order of members), and for no others that
// anybody will ever meet, not even on purpose; digest.h says why. It holds within this process: never store, send or
// print one.
struct Digest {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const Digest&) const = default;
};

struct Json {
  enum class Type : uint8_t { kNull, kBoolean, kNumber, kString, kArray, kObject };

  Type type = Type::kNull;
  uint32_t size = 0;               // Items or members.
  const Json* children = nullptr;  // Items in order; members in any.
  absl::string_view name;          // Of a member, unescaped.
  absl::string_view text;          // The value as it is written.
  absl::string_view string;        // kString: unescaped.
  Digest digest;                   // Of the value, without its name.

  std::span<const Json> items() const { return {children, size}; }
  // Null: there is no such member. O(log members).
  const Json* Find(absl::string_view member) const;
  // By name.
  std::vector<const Json*> SortedMembers() const;
};

// What a lone surrogate in a string is: an error, or the three bytes that UTF-8 would give it, so that a text about a
// bad text can be read.
enum class LoneSurrogates { kRefuse, kKeep };

// Reads one text after another into the same memory.
class JsonReader {
 public:
  JsonReader();
  ~JsonReader();
  JsonReader(JsonReader&&) noexcept;
  JsonReader& operator=(JsonReader&&) noexcept;

  // The root of the tree, which lives until the next Read.
  // kInvalidArgument: not JSON. kFailedPrecondition: JSON, but with a duplicate member, a lone surrogate, or beyond the
  // limits. The message says at which byte what was expected; it never repeats what is there.
  absl::StatusOr<const Json*> Read(absl::string_view text, LoneSurrogates lone = LoneSurrogates::kRefuse);
  // The same tree, sooner, where much of `text` is byte for byte what another reader has read: this one's tree shares
  // those parts. `other_text` and its root `other` must outlive it.
  absl::StatusOr<const Json*> ReadBeside(absl::string_view text, absl::string_view other_text, const Json& other);

  // What it holds on to for the next text.
  size_t held_bytes() const;

 private:
  struct Memory;
  absl::StatusOr<const Json*> Read(absl::string_view text, LoneSurrogates lone, absl::string_view twin_text,
                                   const Json* twin);

  std::unique_ptr<Memory> memory_;
};

// One text and its tree.
class JsonDocument {
 public:
  // As JsonReader::Read.
  static absl::StatusOr<std::unique_ptr<const JsonDocument>> Parse(absl::string_view text,
                                                                   LoneSurrogates lone = LoneSurrogates::kRefuse);

  const Json& root() const { return *root_; }

 private:
  JsonDocument() = default;

  JsonReader reader_;
  const Json* root_ = nullptr;
};

// Appends the code point `code`. REQUIRES: at most 0x10ffff.
void AppendUtf8(std::string* out, uint32_t code);
// Appends `text` (UTF-8) as a JSON string.
void AppendQuoted(std::string* out, absl::string_view text);

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_COMPARE_JSON_H_
