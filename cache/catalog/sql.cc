#include "cache/catalog/sql.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace shadowline::cache {
namespace {

bool IsNameStart(char c) { return absl::ascii_isalpha(c) || c == '_' || (static_cast<unsigned char>(c) & 0x80) != 0; }
bool IsNamePart(char c) { return IsNameStart(c) || absl::ascii_isdigit(c) || c == '$'; }

// Cuts PostgreSQL's text into tokens as far as that is needed to know what is code.
class Scanner {
 public:
  Scanner(absl::string_view sql, const std::vector<std::string>& parameters) : sql_(sql), parameters_(parameters) {}

  absl::StatusOr<ScannedSql> Run() {
    while (at_ < sql_.size() && error_.empty()) Token();
    if (error_.empty() && !nesting_.empty())
      error_ = absl::StrCat("`", nesting_.substr(nesting_.size() - 1), "` is never closed");
    if (error_.empty() && first_word_.empty()) error_ = "it is empty; expected one SELECT";
    if (error_.empty() && first_word_ != "select" && first_word_ != "with") {
      error_ = absl::StrCat("it begins with `", first_word_, "`; expected one SELECT");
    }
    if (!error_.empty()) return absl::InvalidArgumentError(error_);
    return std::move(result_);
  }

  std::string RunForReplacement(absl::FunctionRef<std::string(size_t)> replacement) {
    replacement_ = &replacement;
    while (at_ < sql_.size() && error_.empty()) Token();
    return std::move(result_.text);
  }

  // The names that a parenthesis follows; what cannot be read ends the search.
  std::set<std::string> RunForCalls() {
    calls_only_ = true;
    while (at_ < sql_.size() && error_.empty()) Token();
    return std::move(called_);
  }

 private:
  char Peek(size_t ahead = 0) const { return at_ + ahead < sql_.size() ? sql_[at_ + ahead] : '\0'; }

  void Token() {
    const char c = Peek();
    if (absl::ascii_isspace(c)) return Copy(1);
    if (c == '-' && Peek(1) == '-') return Copy(std::min(sql_.find_first_of("\r\n", at_), sql_.size()) - at_);
    if (c == '/' && Peek(1) == '*') return BlockComment();
    if (ended_ && !calls_only_) {
      if (c != ';') error_ = "there is something after the semicolon; expected one statement";
      return Skip();
    }
    if (c == ';') {
      ended_ = true;
      return Skip();
    }
    if (c == '\'' && after_escapes_) {
      // PostgreSQL may read it as the rest of that text, with backslashes and all.
      error_ = "a text follows an E'' text; write them as one, or join them by ||";
      return;
    }
    after_escapes_ = false;
    if (c == '(' && !last_name_.empty()) called_.insert(last_name_);
    // `a.b (`: what is called is b of a.
    const std::string before = std::exchange(last_name_, "");
    if (c == '.') {
      qualifier_ = before.empty() ? "" : before.substr(before.rfind('.') + 1) + ".";
      return Copy(1);
    }
    const std::string qualifier = std::exchange(qualifier_, "");
    if (IsNameStart(c)) return Word(qualifier);
    if (absl::ascii_isdigit(c)) return Number();
    if (first_word_.empty() && c != '(') first_word_ = std::string(1, c);
    if (c == '\'') return Quoted('\'', /*backslash=*/false, "text");
    if (c == '"') return QuotedName(qualifier);
    if (c == '$') return Dollar();
    if (c == ':') return Colon();
    if (c == '(' || c == '[') nesting_.push_back(c);
    if ((c == ')' || c == ']') && !calls_only_) {
      const char opening = c == ')' ? '(' : '[';
      if (nesting_.empty() || nesting_.back() != opening) {
        error_ = absl::StrCat("`", std::string(1, c), "` closes nothing");
        return;
      }
      nesting_.pop_back();
    }
    Copy(1);
  }

  void Skip() { ++at_; }
  void Copy(size_t count) {
    result_.text.append(sql_.data() + at_, count);
    at_ += count;
  }

  void BlockComment() {
    size_t end = at_ + 2;
    for (int depth = 1; depth > 0; ++end) {
      if (end + 1 >= sql_.size()) {
        error_ = "a comment is never closed";
        return;
      }
      const absl::string_view pair = sql_.substr(end, 2);
      if (pair == "/*" || pair == "*/") {
        depth += pair == "/*" ? 1 : -1;
        ++end;
      }
    }
    Copy(end - at_);
  }

  void Word(const std::string& qualifier) {
    size_t length = 1;
    while (IsNamePart(Peek(length))) ++length;
    const absl::string_view word = sql_.substr(at_, length);
    if (first_word_.empty()) first_word_ = absl::AsciiStrToLower(word);
    last_name_ = qualifier + absl::AsciiStrToLower(word);
    Copy(length);
    // E'...' alone knows backslashes; b'', x'', n'' and u&'' are read like ''.
    if ((word == "e" || word == "E") && Peek() == '\'') {
      Quoted('\'', /*backslash=*/true, "text");
      after_escapes_ = true;
    }
  }

  // Digits alone: in `1e'\'` and in `1$a$` PostgreSQL begins something new after the 1.
  void Number() {
    size_t length = 1;
    while (absl::ascii_isdigit(Peek(length))) ++length;
    if (first_word_.empty()) first_word_ = std::string(sql_.substr(at_, length));
    Copy(length);
  }

  void Quoted(char quote, bool backslash, absl::string_view what) {
    size_t end = at_ + 1;
    for (;; ++end) {
      if (end >= sql_.size()) {
        error_ = absl::StrCat("a quoted ", what, " is never closed");
        return;
      }
      if (backslash && sql_[end] == '\\') {
        ++end;
      } else if (sql_[end] == quote) {
        if (end + 1 >= sql_.size() || sql_[end + 1] != quote) break;
        ++end;
      }
    }
    Copy(end + 1 - at_);
  }

  void QuotedName(const std::string& qualifier) {
    const size_t begin = at_ + 1;
    Quoted('"', /*backslash=*/false, "name");
    if (!error_.empty()) return;
    last_name_ = qualifier + absl::StrReplaceAll(sql_.substr(begin, at_ - begin - 1), {{"\"\"", "\""}});
  }

  void Dollar() {
    if (absl::ascii_isdigit(Peek(1))) {
      if (calls_only_) return Copy(2);
      if (replacement_ != nullptr) return Replace();
      error_ = absl::StrCat("`$", std::string(1, Peek(1)), "` is no parameter here; write :name");
      return;
    }
    size_t length = 1;
    while (IsNameStart(Peek(length)) || (length > 1 && absl::ascii_isdigit(Peek(length)))) ++length;
    if (Peek(length) != '$') return Copy(1);
    const absl::string_view delimiter = sql_.substr(at_, length + 1);
    const size_t end = sql_.find(delimiter, at_ + delimiter.size());
    if (end == absl::string_view::npos) {
      error_ = "a dollar-quoted text is never closed";
      return;
    }
    Copy(end + delimiter.size() - at_);
  }

  void Replace() {
    size_t number = 0;
    for (++at_; absl::ascii_isdigit(Peek()); ++at_) number = number * 10 + (Peek() - '0');
    result_.text += (*replacement_)(number);
  }

  void Colon() {
    if (Peek(1) == ':' || Peek(1) == '=') return Copy(2);
    size_t length = 1;
    while (absl::ascii_isalnum(Peek(length)) || Peek(length) == '_') ++length;
    if (length == 1 || absl::ascii_isdigit(Peek(1))) return Copy(1);
    const absl::string_view name = sql_.substr(at_ + 1, length - 1);
    result_.used.emplace(name);
    const auto known = std::find(parameters_.begin(), parameters_.end(), name);
    if (known == parameters_.end()) return Copy(length);
    // A name before it would swallow the number.
    if (!result_.text.empty() && IsNamePart(result_.text.back())) result_.text.push_back(' ');
    absl::StrAppend(&result_.text, "$", known - parameters_.begin() + 1);
    at_ += length;
    if (IsNamePart(Peek())) result_.text.push_back(' ');
  }

  const absl::string_view sql_;
  const std::vector<std::string> parameters_;
  size_t at_ = 0;
  bool ended_ = false;
  bool after_escapes_ = false;  // Nothing but blanks and comments since an E'' text.
  bool calls_only_ = false;
  const absl::FunctionRef<std::string(size_t)>* replacement_ = nullptr;
  std::string last_name_;  // The name that was just read, with nothing but blanks and comments after it.
  std::string qualifier_;  // "a." where the name before was followed by a dot.
  std::set<std::string> called_;
  std::string first_word_;
  std::string nesting_;
  std::string error_;
  ScannedSql result_;
};

}  // namespace

absl::StatusOr<ScannedSql> ScanSql(absl::string_view sql, const std::vector<std::string>& parameters) {
  return Scanner(sql, parameters).Run();
}

std::string ReplaceParameters(absl::string_view sql, absl::FunctionRef<std::string(size_t)> replacement) {
  return Scanner(sql, {}).RunForReplacement(replacement);
}

std::set<std::string> CalledNames(absl::string_view text) { return Scanner(text, {}).RunForCalls(); }

}  // namespace shadowline::cache
