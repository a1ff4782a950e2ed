#include "diff/compare/iregexp.h"

#include <re2/re2.h>

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace shadowline::diff {
namespace {

constexpr int kMaxGroups = 16;  // Inside each other.
constexpr int64_t kMaxMemory = 1 << 20;

// Reads an I-Regexp and writes what RE2 reads.
class Translator {
 public:
  explicit Translator(absl::string_view text) : text_(text) {}

  absl::StatusOr<std::string> Run() {
    RETURN_IF_ERROR(Alternatives(0));
    if (at_ < text_.size()) return Expected("the end of the expression, or \\)");
    return std::move(out_);
  }

 private:
  absl::Status Expected(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat("at byte ", at_, " of the expression: expected ", what));
  }
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool At(char c) const { return at_ < text_.size() && text_[at_] == c; }
  bool Take(char c) {
    if (!At(c)) return false;
    ++at_;
    return true;
  }

  absl::Status Alternatives(int depth) {
    for (;;) {
      while (at_ < text_.size() && !At('|') && !At(')')) RETURN_IF_ERROR(Piece(depth));
      if (!Take('|')) return absl::OkStatus();
      out_.push_back('|');
    }
  }

  absl::Status Piece(int depth) {
    if (Take('(')) {
      if (depth == kMaxGroups) return Expected(absl::StrCat("at most ", kMaxGroups, " groups inside each other"));
      out_.append("(?:");
      RETURN_IF_ERROR(Alternatives(depth + 1));
      if (!Take(')')) return Expected(")");
      out_.push_back(')');
    } else {
      RETURN_IF_ERROR(Atom());
    }
    return Quantifier();
  }

  absl::Status Atom() {
    if (Take('.')) {
      out_.append("[^\\n\\r]");
      return absl::OkStatus();
    }
    if (Take('[')) return Class();
    if (At('\\')) return Escape();
    if (absl::StrContains("*+?{}])", absl::string_view(text_.data() + at_, 1))) {
      return Expected("a character; this one is written with a backslash before it");
    }
    out_.push_back(text_[at_++]);
    return absl::OkStatus();
  }

  absl::Status Quantifier() {
    if (At('*') || At('+') || At('?')) {
      out_.push_back(text_[at_++]);
      return absl::OkStatus();
    }
    if (!Take('{')) return absl::OkStatus();
    out_.push_back('{');
    RETURN_IF_ERROR(Digits());
    if (Take(',')) {
      out_.push_back(',');
      if (!At('}')) RETURN_IF_ERROR(Digits());
    }
    if (!Take('}')) return Expected("}");
    out_.push_back('}');
    return absl::OkStatus();
  }

  absl::Status Digits() {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(Peek()))) return Expected("a digit");
    while (absl::ascii_isdigit(static_cast<unsigned char>(Peek()))) out_.push_back(text_[at_++]);
    return absl::OkStatus();
  }

  // A character that is escaped, or a category. Both are written the same for RE2.
  absl::Status Escape() {
    const size_t start = at_++;
    const char c = Peek();
    if (c == 'p' || c == 'P') {
      ++at_;
      if (!Take('{')) return Expected("{");
      static constexpr absl::string_view kCategories[] = {"Llmotu", "Mcen",  "Ndlo", "Pcdefios",
                                                          "Zlps",   "Sckmo", "Ccfo"};
      const absl::string_view* letters = nullptr;
      for (const absl::string_view& category : kCategories) {
        if (At(category[0])) letters = &category;
      }
      if (letters == nullptr) return Expected("a category such as L or Lu");
      ++at_;
      if (at_ < text_.size() && absl::StrContains(letters->substr(1), text_.substr(at_, 1))) ++at_;
      if (!Take('}')) return Expected("a category such as L or Lu, and }");
    } else if (at_ < text_.size() && absl::StrContains("()*+-.?[\\]^nrt{|}", text_.substr(at_, 1))) {
      ++at_;
    } else {
      return Expected("a character that is escaped, or a category such as \\p{Lu}");
    }
    absl::StrAppend(&out_, text_.substr(start, at_ - start));
    return absl::OkStatus();
  }

  absl::Status Class() {
    out_.push_back('[');
    if (Take('^')) out_.push_back('^');
    if (At(']')) return Expected("a character of the class");
    if (Take('-')) out_.append("\\-");
    while (at_ < text_.size() && !At(']')) {
      if (At('-') && text_.substr(at_, 2) == "-]") {
        ++at_;
        out_.append("\\-");
        break;
      }
      const bool category = text_.substr(at_, 2) == "\\p" || text_.substr(at_, 2) == "\\P";
      RETURN_IF_ERROR(ClassCharacter());
      if (category || !At('-') || text_.substr(at_, 2) == "-]") continue;
      ++at_;
      out_.push_back('-');
      if (text_.substr(at_, 2) == "\\p" || text_.substr(at_, 2) == "\\P")
        return Expected("a character, not a category");
      RETURN_IF_ERROR(ClassCharacter());
    }
    if (!Take(']')) return Expected("]");
    out_.push_back(']');
    return absl::OkStatus();
  }

  absl::Status ClassCharacter() {
    if (At('\\')) return Escape();
    if (at_ == text_.size() || At('-') || At('[') || At(']')) {
      return Expected("a character of the class; -, [ and ] are written with a backslash before them");
    }
    if (absl::ascii_ispunct(static_cast<unsigned char>(Peek()))) out_.push_back('\\');
    do {
      out_.push_back(text_[at_++]);
    } while (at_ < text_.size() && (static_cast<unsigned char>(text_[at_]) & 0xc0) == 0x80);
    return absl::OkStatus();
  }

  const absl::string_view text_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

IRegexp::IRegexp(std::unique_ptr<const re2::RE2> compiled) : compiled_(std::move(compiled)) {}
IRegexp::~IRegexp() = default;

absl::StatusOr<std::shared_ptr<const IRegexp>> IRegexp::Parse(absl::string_view text) {
  if (text.size() > kMaxRegexpBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("expected an expression of at most ", kMaxRegexpBytes, " bytes, not ", text.size()));
  }
  ASSIGN_OR_RETURN(const std::string translated, Translator(text).Run());
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_never_capture(true);
  options.set_max_mem(kMaxMemory);
  auto compiled = std::make_unique<const re2::RE2>(translated, options);
  const bool large = compiled->error_code() == re2::RE2::ErrorRepeatSize ||
                     compiled->error_code() == re2::RE2::ErrorPatternTooLarge ||
                     (compiled->ok() && compiled->ProgramSize() > kMaxRegexpProgram);
  if (large) {
    return absl::ResourceExhaustedError("expected a smaller expression: fewer, or shorter, counted repetitions");
  }
  if (!compiled->ok()) {
    return absl::InvalidArgumentError(absl::StrCat("expected a regular expression: ", compiled->error()));
  }
  return std::shared_ptr<const IRegexp>(new IRegexp(std::move(compiled)));
}

bool IRegexp::Matches(absl::string_view text) const {
  return re2::RE2::FullMatch(re2::StringPiece(text.data(), text.size()), *compiled_);
}

bool IRegexp::Finds(absl::string_view text) const {
  return re2::RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), *compiled_);
}

uint64_t IRegexp::Cost(size_t bytes) const {
  // At worst every state is alive at every byte.
  return 1 + bytes / 4 + bytes * static_cast<uint64_t>(compiled_->ProgramSize()) / 64;
}

}  // namespace shadowline::diff
