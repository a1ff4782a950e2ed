#include "cache/external/json_text.h"

#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "cache/key/text.h"

namespace shadowline::cache {
namespace {

// A pointer on its way: `matched` of its steps lead to the value that is being read.
struct Target {
  const JsonPointer* pointer;
  size_t matched = 0;
  absl::string_view found;
};

class Scanner {
 public:
  Scanner(absl::string_view text, std::span<const JsonPointer> pointers) : text_(text) {
    for (const JsonPointer& pointer : pointers) targets_.push_back({&pointer, 0, {}});
  }

  absl::StatusOr<std::vector<absl::string_view>> Run() {
    if (!IsText(text_)) return absl::DataLossError("json: not valid UTF-8");
    SkipBlanks();
    const bool whole = Value(0) && (SkipBlanks(), at_ == text_.size());
    if (!whole) return absl::DataLossError(absl::StrCat("json: ", fault_, " at byte ", at_));
    std::vector<absl::string_view> found;
    for (const Target& target : targets_) found.push_back(target.found);
    return found;
  }

 private:
  // Each of these reads what its name says, from `at_` on. False: it is not there.

  bool Value(size_t depth) {
    if (depth > kMaxJsonTextDepth) return Fault("too deep");
    const size_t begin = at_;
    if (!Bare(depth)) return false;
    for (Target& target : targets_) {
      if (target.matched == depth && target.pointer->size() == depth) target.found = text_.substr(begin, at_ - begin);
    }
    return true;
  }

  bool Bare(size_t depth) {
    switch (Peek()) {
      case '{':
        return Object(depth);
      case '[':
        return Array(depth);
      case '"':
        return String(nullptr);
      case 't':
        return Word("true");
      case 'f':
        return Word("false");
      case 'n':
        return Word("null");
      default:
        return Number();
    }
  }

  bool Object(size_t depth) {
    ++at_;
    SkipBlanks();
    if (Take('}')) return true;
    std::vector<const Target*> entered;  // Whose member was here already.
    do {
      SkipBlanks();
      std::string name;
      const bool wanted = OnTheWay(depth);
      if (Peek() != '"' || !String(wanted ? &name : nullptr)) return false;
      SkipBlanks();
      if (!Take(':')) return false;
      SkipBlanks();
      if (!wanted) {
        if (!Value(depth + 1)) return false;
      } else {
        for (const Target& target : targets_) {
          if (!Leads(target, depth, name)) continue;
          for (const Target* before : entered) {
            if (before == &target) return Fault("a member is there twice");
          }
          entered.push_back(&target);
        }
        if (!Step(depth, name)) return false;
      }
      SkipBlanks();
    } while (Take(','));
    return Take('}');
  }

  bool Array(size_t depth) {
    ++at_;
    SkipBlanks();
    if (Take(']')) return true;
    size_t index = 0;
    do {
      SkipBlanks();
      const bool read = OnTheWay(depth) ? Step(depth, absl::StrCat(index)) : Value(depth + 1);
      if (!read) return false;
      ++index;
      SkipBlanks();
    } while (Take(','));
    return Take(']');
  }

  // The value that the step `name` leads to.
  bool Step(size_t depth, const std::string& name) {
    for (Target& target : targets_) {
      if (Leads(target, depth, name)) target.matched = depth + 1;
    }
    if (!Value(depth + 1)) return false;
    for (Target& target : targets_) {
      if (target.matched == depth + 1) target.matched = depth;
    }
    return true;
  }

  bool OnTheWay(size_t depth) const {
    for (const Target& target : targets_) {
      if (target.matched == depth && target.pointer->size() > depth) return true;
    }
    return false;
  }
  static bool Leads(const Target& target, size_t depth, const std::string& name) {
    return target.matched == depth && target.pointer->size() > depth && (*target.pointer)[depth] == name;
  }

  // Its characters go to `out`, where they are wanted.
  bool String(std::string* out) {
    ++at_;
    for (;;) {
      const size_t plain = at_;
      while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' && !IsControl(text_[at_])) ++at_;
      if (out != nullptr) out->append(text_.data() + plain, at_ - plain);
      if (Take('"')) return true;
      if (!Take('\\')) return Fault("a string is not closed");
      if (!Escape(out)) return Fault("an escape is not known");
    }
  }

  bool Escape(std::string* out) {
    constexpr absl::string_view kEscapes = "\"\\/bfnrt";
    constexpr absl::string_view kMeanings = "\"\\/\b\f\n\r\t";
    if (Take('u')) {
      uint32_t unit = 0;
      if (!Hex4(&unit)) return false;
      // A name with a character beyond the first plane is one that no pointer of a catalog means.
      if (out != nullptr) AppendUtf8(unit, out);
      return true;
    }
    const size_t known = at_ < text_.size() ? kEscapes.find(text_[at_]) : absl::string_view::npos;
    if (known == absl::string_view::npos) return false;
    ++at_;
    if (out != nullptr) out->push_back(kMeanings[known]);
    return true;
  }

  bool Hex4(uint32_t* unit) {
    for (int i = 0; i < 4; ++i, ++at_) {
      if (at_ >= text_.size() || !absl::ascii_isxdigit(text_[at_])) return false;
      const char c = absl::ascii_tolower(text_[at_]);
      *unit = *unit * 16 + (absl::ascii_isdigit(c) ? c - '0' : c - 'a' + 10);
    }
    return true;
  }

  static void AppendUtf8(uint32_t unit, std::string* out) {
    if (unit < 0x80) {
      out->push_back(static_cast<char>(unit));
    } else if (unit < 0x800) {
      out->push_back(static_cast<char>(0xc0 | unit >> 6));
      out->push_back(static_cast<char>(0x80 | (unit & 0x3f)));
    } else {
      out->push_back(static_cast<char>(0xe0 | unit >> 12));
      out->push_back(static_cast<char>(0x80 | (unit >> 6 & 0x3f)));
      out->push_back(static_cast<char>(0x80 | (unit & 0x3f)));
    }
  }

  bool Number() {
    Take('-');
    if (!Take('0') && !Digits()) return false;
    if (Take('.') && !Digits()) return false;
    if (Take('e') || Take('E')) {
      if (!Take('+')) Take('-');
      if (!Digits()) return false;
    }
    return true;
  }
  bool Digits() {
    const size_t begin = at_;
    while (absl::ascii_isdigit(Peek())) ++at_;
    return at_ > begin;
  }

  bool Word(absl::string_view word) {
    if (!absl::StartsWith(text_.substr(at_), word)) return false;
    at_ += word.size();
    return true;
  }

  void SkipBlanks() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) {
      ++at_;
    }
  }
  static bool IsControl(char c) { return static_cast<unsigned char>(c) < 0x20; }
  // NUL, which no text has, stands for the end.
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool Take(char c) {
    if (Peek() != c) return false;
    ++at_;
    return true;
  }
  bool Fault(absl::string_view what) {
    fault_ = what;
    return false;
  }

  const absl::string_view text_;
  std::vector<Target> targets_;
  size_t at_ = 0;
  absl::string_view fault_ = "not JSON";
};

}  // namespace

absl::StatusOr<JsonPointer> ParseJsonPointer(absl::string_view text) {
  constexpr char kExpected[] = "expected a JSON Pointer such as /data/row, with ~1 for a slash and ~0 for a tilde";
  if (!absl::StartsWith(text, "/")) return absl::InvalidArgumentError(kExpected);
  JsonPointer pointer;
  for (absl::string_view step : absl::StrSplit(text.substr(1), '/')) {
    std::string& name = pointer.emplace_back();
    for (size_t i = 0; i < step.size(); ++i) {
      if (step[i] != '~') {
        name.push_back(step[i]);
        continue;
      }
      ++i;
      if (i == step.size() || (step[i] != '0' && step[i] != '1')) return absl::InvalidArgumentError(kExpected);
      name.push_back(step[i] == '0' ? '~' : '/');
    }
  }
  return pointer;
}

absl::StatusOr<std::vector<absl::string_view>> FindInJson(absl::string_view text,
                                                          std::span<const JsonPointer> pointers) {
  return Scanner(text, pointers).Run();
}

}  // namespace shadowline::cache
