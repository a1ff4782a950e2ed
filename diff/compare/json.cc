#include "diff/compare/json.h"

#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "diff/compare/digest.h"

namespace shadowline::diff {
namespace {

// Up to so many members stay as they are written and are looked up one by one; those of larger objects are sorted.
constexpr uint32_t kFewMembers = 32;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
bool ByName(const Json& a, const Json& b) { return a.name < b.name; }

// Writes the UTF-8 of `code` and returns where it ends.
char* WriteUtf8(char* out, uint32_t code) {
  if (code < 0x80) {
    *out++ = static_cast<char>(code);
    return out;
  }
  if (code < 0x800) {
    *out++ = static_cast<char>(0xc0 | code >> 6);
  } else if (code < 0x10000) {
    *out++ = static_cast<char>(0xe0 | code >> 12);
    *out++ = static_cast<char>(0x80 | (code >> 6 & 0x3f));
  } else {
    *out++ = static_cast<char>(0xf0 | code >> 18);
    *out++ = static_cast<char>(0x80 | (code >> 12 & 0x3f));
    *out++ = static_cast<char>(0x80 | (code >> 6 & 0x3f));
  }
  *out++ = static_cast<char>(0x80 | (code & 0x3f));
  return out;
}

constexpr absl::string_view kTooDeep = "at most 1000 levels";
static_assert(kMaxJsonDepth == 1000);

// Memory that keeps its size from one text to the next. What was in it is lost when it grows.
template <typename T>
class Block {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  T* AtLeast(size_t size) {
    if (size > size_) {
      memory_.reset();
      memory_.reset(static_cast<T*>(::operator new(size * sizeof(T))));
      size_ = size;
    }
    return memory_.get();
  }
  size_t bytes() const { return size_ * sizeof(T); }

 private:
  struct Free {
    void operator()(T* memory) const { ::operator delete(memory); }
  };
  std::unique_ptr<T, Free> memory_;
  size_t size_ = 0;
};

}  // namespace

struct JsonReader::Memory {
  std::unique_ptr<simdjson::internal::dom_parser_implementation> simdjson;
  Block<Json> nodes;
  Block<char> unescaped;        // Strings that had escapes.
  std::vector<uint64_t> names;  // Of the members of the objects that are open: half of their names' digests.
};

namespace {

// How much of two texts is the same, from their beginning and, behind that, from their end.
struct Overlap {
  Overlap(absl::string_view a, absl::string_view b) {
    constexpr size_t kStep = 64;
    const size_t size = std::min(a.size(), b.size());
    while (prefix + kStep <= size && std::memcmp(&a[prefix], &b[prefix], kStep) == 0) prefix += kStep;
    while (prefix < size && a[prefix] == b[prefix]) ++prefix;
    const char* const a_end = a.data() + a.size();
    const char* const b_end = b.data() + b.size();
    while (prefix + suffix + kStep <= size && std::memcmp(a_end - suffix - kStep, b_end - suffix - kStep, kStep) == 0) {
      suffix += kStep;
    }
    while (prefix + suffix < size &&
           a_end[-1 - static_cast<ptrdiff_t>(suffix)] == b_end[-1 - static_cast<ptrdiff_t>(suffix)]) {
      ++suffix;
    }
  }
  size_t prefix = 0;
  size_t suffix = 0;
};

// Reads a text by what simdjson found in it: the places of { } [ ] : , outside of strings, where strings begin, and
// where other runs of characters do. That strings end and hold no control characters, and that all is UTF-8, has been
// seen to.
class Parser {
 public:
  // The next of the places, none of which is passed over.
  using Next = const uint32_t*;

  // `nodes` has room for MaxNodes. `twin` may be empty.
  Parser(absl::string_view text, LoneSurrogates lone, absl::string_view twin, Json* nodes, size_t nodes_size,
         Block<char>* unescaped, std::vector<uint64_t>* names)
      : begin_(text.data()),
        end_(begin_ + text.size()),
        lone_(lone),
        twin_begin_(twin.data()),
        twin_end_(twin.data() + twin.size()),
        overlap_(text, twin),
        open_(nodes),
        closed_(nodes + nodes_size),
        unescaped_(unescaped),
        names_(*names),
        digester_(Digester::OfThisProcess()) {
    names_.clear();
  }

  // How many values can be met before the end or an error: each has a place, and so has the comma or bracket behind
  // each but the last of every container that is open.
  static size_t MaxNodes(size_t places) { return std::min(places, places / 2 + kMaxJsonDepth / 2 + 1) + 1; }

  // `next` is the first place; behind the last one is the size of the text. The root is the first of `nodes`.
  absl::Status ParseAll(Next next, const Json* twin) {
    Json* root = new (open_++) Json();
    next = ParseValue(next, twin, root, 0);
    if (next != nullptr && At(next) != end_) Error(At(next), "nothing after the value");
    return error_;
  }

 private:
  // The functions below take the next place and return the one behind what they have read; or null, and leave what went
  // wrong here. (Statuses on the way would cost stack at every level.)
  Next Error(const char* at, absl::string_view expected) {
    return Fail(absl::StatusCode::kInvalidArgument, at, expected);
  }
  // The grammar allows it, but two readers may read two things, or none.
  Next Refuse(const char* at, absl::string_view expected) {
    return Fail(absl::StatusCode::kFailedPrecondition, at, expected);
  }
  ABSL_ATTRIBUTE_NOINLINE Next Fail(absl::StatusCode code, const char* at, absl::string_view expected) {
    error_ = absl::Status(code, absl::StrCat("at byte ", at - begin_, ": expected ", expected));
    return nullptr;
  }

  const char* At(Next next) const { return begin_ + *next; }
  bool Is(char c, Next next) const { return At(next) != end_ && *At(next) == c; }

  // In each loop over children, so that only containers cost a call.
  ABSL_ATTRIBUTE_ALWAYS_INLINE Next ParseValue(Next next, const Json* twin, Json* value, int depth) {
    const char* at = At(next);
    if (at == end_) return Error(at, "a value");
    ++next;
    switch (*at) {
      case '{':
        return IsTwin(twin, at) ? Share(*twin, at, next, value) : ParseObject(at, next, twin, value, depth);
      case '[':
        return IsTwin(twin, at) ? Share(*twin, at, next, value) : ParseArray(at, next, twin, value, depth);
      case '"':
        if (IsTwin(twin, at)) return Share(*twin, at, next, value);
        value->type = Json::Type::kString;
        if (!ParseString(at, next, &value->text, &value->string, &value->digest)) return nullptr;
        value->digest = digester_.String(value->digest);
        return next;
      case 't':
        value->type = Json::Type::kBoolean;
        value->digest = digester_.Boolean(true);
        return ParseWord(at, next, "true", value);
      case 'f':
        value->type = Json::Type::kBoolean;
        value->digest = digester_.Boolean(false);
        return ParseWord(at, next, "false", value);
      case 'n':
        value->type = Json::Type::kNull;
        value->digest = digester_.Null();
        return ParseWord(at, next, "null", value);
      default:
        value->type = Json::Type::kNumber;
        return ParseNumber(at, next, value);
    }
  }

  // Whether the container or string at `at` is byte for byte the one in the other text that has been read already.
  bool IsTwin(const Json* twin, const char* at) const {
    if (twin == nullptr) return false;
    const char* const there = twin->text.data();
    if (at - begin_ == there - twin_begin_) {
      return static_cast<size_t>(at - begin_) + twin->text.size() <= overlap_.prefix;
    }
    return end_ - at == twin_end_ - there && static_cast<size_t>(end_ - at) <= overlap_.suffix;
  }
  // Which makes it as good as read.
  Next Share(const Json& twin, const char* at, Next next, Json* value) const {
    const absl::string_view name = value->name;
    *value = twin;
    value->name = name;
    const char* const behind = at + twin.text.size();
    while (At(next) < behind) ++next;
    return next;
  }
  // The other text's child that is likely to be the same as this one's number `index`.
  static const Json* Twin(const Json* twin, size_t index) {
    return twin != nullptr && index < twin->size ? &twin->children[index] : nullptr;
  }

  // A run of characters may go on behind a word or number.
  Next EndsHere(const char* at, Next next) {
    return at == At(next) || IsSpace(*at) ? next : Error(at, "',', ']', '}' or the end");
  }

  Next ParseWord(const char* at, Next next, absl::string_view word, Json* value) {
    if (static_cast<size_t>(end_ - at) < word.size() || std::memcmp(at, word.data(), word.size()) != 0) {
      return Error(at, word);
    }
    value->text = absl::string_view(at, word.size());
    return EndsHere(at + word.size(), next);
  }

  Next ParseNumber(const char* start, Next next, Json* value) {
    const char* at = start;
    uint64_t mantissa = 0;
    const auto take_digits = [&] {
      if (at == end_ || !IsDigit(*at)) return false;
      do {
        mantissa = mantissa * 10 + static_cast<uint64_t>(*at++ - '0');
      } while (at != end_ && IsDigit(*at));
      return true;
    };
    const bool negative = *at == '-';
    if (negative) ++at;
    const char* digits = at;
    if (at != end_ && *at == '0') {
      ++at;
    } else if (!take_digits()) {
      return Error(at, negative ? "a digit" : "a value");
    }
    int64_t exponent = 0;
    if (at != end_ && *at == '.') {
      const char* fraction = ++at;
      if (!take_digits()) return Error(at, "a digit");
      exponent = fraction - at;
    }
    bool fits = static_cast<size_t>(at - digits) <= Digester::kMaxMantissaDigits;
    if (at != end_ && (*at == 'e' || *at == 'E')) {
      ++at;
      if (at != end_ && (*at == '+' || *at == '-')) ++at;
      if (!take_digits()) return Error(at, "a digit");
      fits = false;
    }
    value->text = absl::string_view(start, at - start);
    value->digest =
        fits ? digester_.Number(negative, mantissa, exponent) : digester_.Number(Decimal::Parse(value->text));
    return EndsHere(at, next);
  }

  // `text` is with its quotes. Most strings have no escapes and stay where they are.
  bool ParseString(const char* start, Next next, absl::string_view* text, absl::string_view* string, Digest* digest) {
    // Between its last quote and the next place there is white space at most.
    const char* last = At(next) - 1;
    while (*last != '"') --last;
    *text = absl::string_view(start, last + 1 - start);
    if (escape_ < start) {
      const void* found = std::memchr(start, '\\', end_ - start);
      escape_ = found == nullptr ? end_ : static_cast<const char*>(found);
    }
    if (escape_ < last) {
      if (!Unescape(start + 1, last, string)) return false;
      *digest = digester_.Text(*string);
    } else {
      *string = absl::string_view(start + 1, last - start - 1);
      *digest = digester_.Text(*string, end_);
    }
    return true;
  }

  ABSL_ATTRIBUTE_NOINLINE bool Unescape(const char* at, const char* end, absl::string_view* string) {
    if (unescaped_end_ == nullptr) unescaped_end_ = unescaped_->AtLeast(end_ - begin_);  // Escapes only shrink.
    char* start = unescaped_end_;
    while (at != end) {
      if (*at != '\\') {
        *unescaped_end_++ = *at++;
      } else if (!ParseEscape(&at, end)) {
        return false;
      }
    }
    *string = absl::string_view(start, unescaped_end_ - start);
    return true;
  }

  bool ParseHex(const char** at, const char* end, uint32_t* code) {
    *code = 0;
    for (int i = 0; i < 4; ++i, ++*at) {
      if (*at == end || !std::isxdigit(static_cast<unsigned char>(**at))) {
        return Error(*at, "four hexadecimal digits") != nullptr;
      }
      const char c = **at;
      *code = *code << 4 | static_cast<uint32_t>(IsDigit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return true;
  }

  // From its backslash to behind it. A quote that ends the string is never escaped, so there is a character.
  bool ParseEscape(const char** at, const char* end) {
    const char letter = *++*at;
    static constexpr absl::string_view kLetters = "\"\\/bfnrt";
    static constexpr absl::string_view kMeanings = "\"\\/\b\f\n\r\t";
    if (const size_t found = kLetters.find(letter); found != absl::string_view::npos) {
      ++*at;
      *unescaped_end_++ = kMeanings[found];
      return true;
    }
    if (letter != 'u') return Error(*at, "an escape") != nullptr;
    ++*at;
    uint32_t code = 0;
    if (!ParseHex(at, end, &code)) return false;
    if (code >= 0xd800 && code < 0xe000) {
      const char* after = *at;
      uint32_t low = 0;
      if (code < 0xdc00 && end - after >= 2 && after[0] == '\\' && after[1] == 'u') {
        *at += 2;
        if (!ParseHex(at, end, &low)) return false;
      }
      if (low >= 0xdc00 && low < 0xe000) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
      } else if (lone_ == LoneSurrogates::kKeep) {
        *at = after;
      } else {
        return Refuse(*at, "a surrogate pair, not a lone surrogate") != nullptr;
      }
    }
    unescaped_end_ = WriteUtf8(unescaped_end_, code);
    return true;
  }

  ABSL_ATTRIBUTE_NOINLINE Next ParseArray(const char* start, Next next, const Json* twin, Json* value, int depth) {
    if (depth >= kMaxJsonDepth) return Refuse(start, kTooDeep);
    value->type = Json::Type::kArray;
    Json* const first = open_;
    Digest items;
    if (!Is(']', next)) {
      for (;; ++next) {
        const Json* item_twin = Twin(twin, open_ - first);
        Json* item = new (open_++) Json();
        next = ParseValue(next, item_twin, item, depth + 1);
        if (next == nullptr) return nullptr;
        digester_.AddItem(item->digest, &items);
        if (!Is(',', next)) break;
      }
      if (!Is(']', next)) return Error(At(next), "',' or ']'");
    }
    Close(start, next, first, value);
    value->digest = digester_.Array(items, value->size);
    return next + 1;
  }

  ABSL_ATTRIBUTE_NOINLINE Next ParseObject(const char* start, Next next, const Json* twin, Json* value, int depth) {
    if (depth >= kMaxJsonDepth) return Refuse(start, kTooDeep);
    value->type = Json::Type::kObject;
    Json* const first = open_;
    const size_t first_name = names_.size();
    Digest members;
    if (!Is('}', next)) {
      for (;; ++next) {
        const char* at = At(next);
        if (!Is('"', next)) return Error(at, "a string");
        const Json* member_twin = Twin(twin, open_ - first);
        Json* member = new (open_++) Json();
        absl::string_view quoted;
        Digest name;
        if (!ParseString(at, ++next, &quoted, &member->name, &name)) return nullptr;
        names_.push_back(name.low);
        if (!Is(':', next)) return Error(At(next), "':'");
        next = ParseValue(next + 1, member_twin, member, depth + 1);
        if (next == nullptr) return nullptr;
        digester_.AddMember(name, member->digest, &members);
        if (!Is(',', next)) break;
      }
      if (!Is('}', next)) return Error(At(next), "',' or '}'");
    }
    if (AnyTwice(first, first_name)) {
      return Refuse(At(next) + 1, "each member of the object that ends here once, not a duplicate");
    }
    names_.resize(first_name);
    Close(start, next, first, value);
    value->digest = digester_.Object(members, value->size);
    return next + 1;
  }

  // Whether two of the members from `first` have the same name. Sorts them if they are many.
  bool AnyTwice(Json* first, size_t first_name) {
    if (open_ - first > kFewMembers) {
      std::sort(first, open_, ByName);
      return std::adjacent_find(first, open_, [](const Json& a, const Json& b) { return a.name == b.name; }) != open_;
    }
    bool twice = false;
    const uint64_t* names = names_.data() + first_name;
    const size_t size = names_.size() - first_name;
    for (size_t i = 1; i < size; ++i) {
      for (size_t j = 0; j < i; ++j) twice |= names[i] == names[j];
    }
    return twice;
  }

  // `value` ends at `next`. Moves its children, which are all that was opened since `first`, to their place.
  void Close(const char* start, Next next, Json* first, Json* value) {
    value->text = absl::string_view(start, At(next) + 1 - start);
    value->size = static_cast<uint32_t>(open_ - first);
    closed_ -= value->size;
    std::memmove(static_cast<void*>(closed_), first, value->size * sizeof(Json));
    value->children = closed_;
    open_ = first;
  }

  const char* const begin_;
  const char* const end_;
  const LoneSurrogates lone_;
  const char* const twin_begin_;
  const char* const twin_end_;
  const Overlap overlap_;
  // Nodes grow from both ends of their memory: up from the front those whose container is open, down from the back
  // those that have found their place. A node is in one of them, so they never meet.
  Json* open_;
  Json* closed_;
  const char* escape_ = nullptr;  // The first backslash at or behind the latest string; before it: not looked for.
  Block<char>* const unescaped_;
  char* unescaped_end_ = nullptr;
  std::vector<uint64_t>& names_;
  const Digester& digester_;
  absl::Status error_;
};

// Finds where things begin. REQUIRES: at most kMaxJsonBytes.
absl::Status Index(absl::string_view text, std::unique_ptr<simdjson::internal::dom_parser_implementation>* simdjson) {
  const size_t size = std::max<size_t>(text.size(), 1);
  simdjson::error_code error = simdjson::SUCCESS;
  if (*simdjson == nullptr) {
    error = simdjson::get_active_implementation()->create_dom_parser_implementation(size, /*max_depth=*/1, *simdjson);
  } else if ((*simdjson)->capacity() < size) {
    error = (*simdjson)->set_capacity(size);
  }
  if (error == simdjson::SUCCESS) {
    error =
        (*simdjson)->stage1(reinterpret_cast<const uint8_t*>(text.data()), text.size(), simdjson::stage1_mode::regular);
  }
  switch (error) {
    case simdjson::SUCCESS:
      return absl::OkStatus();
    case simdjson::EMPTY:
      return absl::InvalidArgumentError("at byte 0: expected a value");
    case simdjson::UTF8_ERROR:
      return absl::InvalidArgumentError("expected valid UTF-8");
    case simdjson::UNCLOSED_STRING:
      return absl::InvalidArgumentError(absl::StrCat("at byte ", text.size(), ": expected the end of a string"));
    case simdjson::UNESCAPED_CHARS:
      return absl::InvalidArgumentError("expected no control character in a string");
    default:
      return absl::ResourceExhaustedError(simdjson::error_message(error));
  }
}

}  // namespace

const Json* Json::Find(absl::string_view member) const {
  if (size <= kFewMembers) {
    const auto found = std::find_if(items().begin(), items().end(), [&](const Json& a) { return a.name == member; });
    return found != items().end() ? &*found : nullptr;
  }
  const auto found = std::lower_bound(items().begin(), items().end(), member,
                                      [](const Json& a, absl::string_view b) { return a.name < b; });
  return found != items().end() && found->name == member ? &*found : nullptr;
}

std::vector<const Json*> Json::SortedMembers() const {
  std::vector<const Json*> members;
  members.reserve(size);
  for (const Json& member : items()) members.push_back(&member);
  std::sort(members.begin(), members.end(), [](const Json* a, const Json* b) { return a->name < b->name; });
  return members;
}

JsonReader::JsonReader() : memory_(std::make_unique<Memory>()) {}
JsonReader::~JsonReader() = default;
JsonReader::JsonReader(JsonReader&&) noexcept = default;
JsonReader& JsonReader::operator=(JsonReader&&) noexcept = default;

absl::StatusOr<const Json*> JsonReader::Read(absl::string_view text, LoneSurrogates lone) {
  return Read(text, lone, "", nullptr);
}

absl::StatusOr<const Json*> JsonReader::ReadBeside(absl::string_view text, absl::string_view other_text,
                                                   const Json& other) {
  return Read(text, LoneSurrogates::kRefuse, other_text, &other);
}

absl::StatusOr<const Json*> JsonReader::Read(absl::string_view text, LoneSurrogates lone, absl::string_view twin_text,
                                             const Json* twin) {
  if (text.size() > kMaxJsonBytes) {
    return absl::FailedPreconditionError(absl::StrCat("expected at most ", kMaxJsonBytes, " bytes, not ", text.size()));
  }
  RETURN_IF_ERROR(Index(text, &memory_->simdjson));
  const size_t max_nodes = Parser::MaxNodes(memory_->simdjson->n_structural_indexes);
  Json* const nodes = memory_->nodes.AtLeast(max_nodes);
  RETURN_IF_ERROR(Parser(text, lone, twin_text, nodes, max_nodes, &memory_->unescaped, &memory_->names)
                      .ParseAll(memory_->simdjson->structural_indexes.get(), twin));
  return nodes;
}

size_t JsonReader::held_bytes() const {
  const size_t places = memory_->simdjson == nullptr ? 0 : memory_->simdjson->capacity() * sizeof(uint32_t);
  return places + memory_->nodes.bytes() + memory_->unescaped.bytes() + memory_->names.capacity() * sizeof(uint64_t);
}

absl::StatusOr<std::unique_ptr<const JsonDocument>> JsonDocument::Parse(absl::string_view text, LoneSurrogates lone) {
  std::unique_ptr<JsonDocument> document(new JsonDocument());
  ASSIGN_OR_RETURN(document->root_, document->reader_.Read(text, lone));
  return document;
}

void AppendUtf8(std::string* out, uint32_t code) {
  char bytes[4];
  out->append(bytes, WriteUtf8(bytes, code));
}

void AppendQuoted(std::string* out, absl::string_view text) {
  out->push_back('"');
  for (const char c : text) {
    switch (c) {
      case '"':
      case '\\':
        out->push_back('\\');
        out->push_back(c);
        break;
      case '\n':
        out->append("\\n");
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          absl::StrAppend(out, "\\u", absl::Hex(static_cast<int>(c), absl::kZeroPad4));
        } else {
          out->push_back(c);
        }
    }
  }
  out->push_back('"');
}

}  // namespace shadowline::diff
