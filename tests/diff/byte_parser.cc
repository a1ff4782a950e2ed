#include "tests/diff/byte_parser.h"

#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace shadowline::diff {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

constexpr absl::string_view kTooDeep = "at most 1000 levels";
static_assert(kMaxJsonDepth == 1000);

class Parser {
 public:
  Parser(absl::string_view text, LoneSurrogates lone, std::pmr::memory_resource* memory)
      : begin_(text.data()), at_(begin_), end_(begin_ + text.size()), lone_(lone), memory_(memory) {}

  absl::Status ParseAll(Json* root) {
    if (!ParseValue(root, 0)) return error_;
    SkipSpace();
    if (at_ != end_) Error("nothing after the value");
    return error_;
  }

 private:
  // The functions below return whether they went well, and leave what went wrong here. (Statuses on the way would cost
  // stack at every level.)
  bool Error(absl::string_view expected) { return Fail(absl::StatusCode::kInvalidArgument, expected); }
  // The grammar allows it, but two readers may read two things, or none.
  bool Refuse(absl::string_view expected) { return Fail(absl::StatusCode::kFailedPrecondition, expected); }
  bool Fail(absl::StatusCode code, absl::string_view expected) {
    error_ = absl::Status(code, absl::StrCat("at byte ", at_ - begin_, ": expected ", expected));
    return false;
  }

  void SkipSpace() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  bool Take(char c) {
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }

  bool ParseValue(Json* value, int depth) {
    SkipSpace();
    if (at_ == end_) return Error("a value");
    const char* start = at_;
    switch (*at_) {
      case '{':
        if (!ParseObject(value, depth)) return false;
        break;
      case '[':
        if (!ParseArray(value, depth)) return false;
        break;
      case '"':
        value->type = Json::Type::kString;
        if (!ParseString(&value->string)) return false;
        break;
      case 't':
        if (!ParseWord("true", Json::Type::kBoolean, value)) return false;
        break;
      case 'f':
        if (!ParseWord("false", Json::Type::kBoolean, value)) return false;
        break;
      case 'n':
        if (!ParseWord("null", Json::Type::kNull, value)) return false;
        break;
      default:
        value->type = Json::Type::kNumber;
        if (!ParseNumber()) return false;
    }
    value->text = absl::string_view(start, at_ - start);
    return true;
  }

  bool ParseWord(absl::string_view word, Json::Type type, Json* value) {
    if (static_cast<size_t>(end_ - at_) < word.size() || std::memcmp(at_, word.data(), word.size()) != 0) {
      return Error(word);
    }
    at_ += word.size();
    value->type = type;
    return true;
  }

  bool ParseDigits() {
    if (at_ == end_ || !IsDigit(*at_)) return Error("a digit");
    while (at_ != end_ && IsDigit(*at_)) ++at_;
    return true;
  }

  bool ParseNumber() {
    if (*at_ != '-' && !IsDigit(*at_)) return Error("a value");
    Take('-');
    if (!Take('0') && !ParseDigits()) return false;
    if (Take('.') && !ParseDigits()) return false;
    if (Take('e') || Take('E')) {
      if (!Take('+')) Take('-');
      if (!ParseDigits()) return false;
    }
    return true;
  }

  bool ParseHex(uint32_t* code) {
    *code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      if (at_ == end_ || !std::isxdigit(static_cast<unsigned char>(*at_))) return Error("four hexadecimal digits");
      const char c = *at_;
      *code = *code << 4 | static_cast<uint32_t>(IsDigit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return true;
  }

  bool ParseEscape() {
    if (at_ == end_) return Error("an escape");
    static constexpr absl::string_view kLetters = "\"\\/bfnrt";
    static constexpr absl::string_view kMeanings = "\"\\/\b\f\n\r\t";
    if (const size_t found = kLetters.find(*at_); found != absl::string_view::npos) {
      ++at_;
      unescaped_.push_back(kMeanings[found]);
      return true;
    }
    if (!Take('u')) return Error("an escape");
    uint32_t code = 0;
    if (!ParseHex(&code)) return false;
    if (code >= 0xd800 && code < 0xe000) {
      const char* after = at_;
      uint32_t low = 0;
      if (code < 0xdc00 && Take('\\') && Take('u') && !ParseHex(&low)) return false;
      if (low >= 0xdc00 && low < 0xe000) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
      } else if (lone_ == LoneSurrogates::kKeep) {
        at_ = after;
      } else {
        return Refuse("a surrogate pair, not a lone surrogate");
      }
    }
    AppendUtf8(&unescaped_, code);
    return true;
  }

  // Most strings have no escapes and stay where they are.
  bool ParseString(absl::string_view* string) {
    if (!Take('"')) return Error("a string");
    const char* start = at_;
    bool escaped = false;
    while (true) {
      const char* run = at_;
      while (at_ != end_ && *at_ != '"' && *at_ != '\\' && static_cast<unsigned char>(*at_) >= 0x20) ++at_;
      if (at_ == end_ || static_cast<unsigned char>(*at_) < 0x20) return Error("the end of a string");
      if (*at_ == '"' && !escaped) {
        *string = absl::string_view(start, at_ - start);
        break;
      }
      if (!escaped) {
        escaped = true;
        unescaped_.clear();
      }
      unescaped_.append(run, at_ - run);
      if (*at_ == '"') {
        *string = Keep(unescaped_);
        break;
      }
      ++at_;
      if (!ParseEscape()) return false;
    }
    ++at_;
    return true;
  }

  bool ParseArray(Json* value, int depth) {
    if (depth >= kMaxJsonDepth) return Refuse(kTooDeep);
    ++at_;
    value->type = Json::Type::kArray;
    const size_t first = pending_.size();
    SkipSpace();
    if (Take(']')) return true;
    do {
      Json item;
      if (!ParseValue(&item, depth + 1)) return false;
      pending_.push_back(item);
      SkipSpace();
    } while (Take(','));
    if (!Take(']')) return Error("',' or ']'");
    KeepChildren(first, value);
    return true;
  }

  bool ParseObject(Json* value, int depth) {
    if (depth >= kMaxJsonDepth) return Refuse(kTooDeep);
    ++at_;
    value->type = Json::Type::kObject;
    const size_t first = pending_.size();
    SkipSpace();
    if (Take('}')) return true;
    do {
      Json member;
      SkipSpace();
      if (!ParseString(&member.name)) return false;
      SkipSpace();
      if (!Take(':')) return Error("':'");
      if (!ParseValue(&member, depth + 1)) return false;
      pending_.push_back(member);
      SkipSpace();
    } while (Take(','));
    if (!Take('}')) return Error("',' or '}'");
    const auto by_name = [](const Json& a, const Json& b) { return a.name < b.name; };
    if (!std::is_sorted(pending_.begin() + first, pending_.end(), by_name)) {
      std::sort(pending_.begin() + first, pending_.end(), by_name);
    }
    const auto twice = std::adjacent_find(pending_.begin() + first, pending_.end(),
                                          [](const Json& a, const Json& b) { return a.name == b.name; });
    if (twice != pending_.end()) return Refuse("each member of the object that ends here once, not a duplicate");
    KeepChildren(first, value);
    return true;
  }

  // Moves what was parsed since `first` to its place.
  void KeepChildren(size_t first, Json* value) {
    const size_t size = pending_.size() - first;
    auto* children = static_cast<Json*>(memory_->allocate(size * sizeof(Json), alignof(Json)));
    std::uninitialized_copy(pending_.begin() + first, pending_.end(), children);
    pending_.resize(first);
    value->children = children;
    value->size = static_cast<uint32_t>(size);
  }

  absl::string_view Keep(absl::string_view text) {
    auto* copy = static_cast<char*>(memory_->allocate(std::max<size_t>(text.size(), 1), 1));
    std::copy(text.begin(), text.end(), copy);
    return absl::string_view(copy, text.size());
  }

  const char* const begin_;
  const char* at_;
  const char* const end_;
  const LoneSurrogates lone_;
  std::pmr::memory_resource* const memory_;
  std::vector<Json> pending_;  // Children of the containers that are open.
  std::string unescaped_;
  absl::Status error_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const ByteDocument>> ByteDocument::Parse(absl::string_view text) {
  if (text.size() > kMaxJsonBytes) {
    return absl::FailedPreconditionError(absl::StrCat("expected at most ", kMaxJsonBytes, " bytes, not ", text.size()));
  }
  if (!simdjson::validate_utf8(text.data(), text.size())) return absl::InvalidArgumentError("expected valid UTF-8");
  std::unique_ptr<ByteDocument> document(new ByteDocument());
  RETURN_IF_ERROR(Parser(text, LoneSurrogates::kRefuse, &document->memory_).ParseAll(&document->root_));
  return document;
}

}  // namespace shadowline::diff
