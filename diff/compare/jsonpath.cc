#include "diff/compare/jsonpath.h"

#include <simdjson.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status.h"
#include "diff/compare/decimal.h"
#include "diff/compare/iregexp.h"

namespace shadowline::diff {
namespace {

constexpr int64_t kMaxInteger = (int64_t{1} << 53) - 1;

enum class Function { kLength, kCount, kMatch, kSearch, kValue };

// A query inside a filter: from the node that is tested, or from the root.
struct Query {
  bool from_root = false;
  std::vector<JsonPath::Segment> segments;

  // It selects one node at most.
  bool singular() const {
    return std::all_of(segments.begin(), segments.end(), [](const JsonPath::Segment& segment) {
      return !segment.descendant && segment.selectors.size() == 1 &&
             (segment.selectors[0].kind == JsonPath::Selector::Kind::kName ||
              segment.selectors[0].kind == JsonPath::Selector::Kind::kIndex);
    });
  }
};

struct Literal {
  std::string bytes;  // What `json` points into.
  Json json;
};

}  // namespace

// An expression of a filter. What it gives is known when it is parsed.
struct JsonPath::Filter {
  enum class Kind { kOr, kAnd, kNot, kCompare, kQuery, kFunction, kLiteral };
  enum class Operator { kEqual, kUnequal, kLess, kAtMost, kGreater, kAtLeast };
  using Ptr = std::shared_ptr<const Filter>;

  Kind kind = Kind::kLiteral;
  std::vector<Ptr> operands;  // Of logic, of a comparison, of a function.
  Operator comparison = Operator::kEqual;
  Function function = Function::kLength;
  Query query;
  Literal literal;
  std::shared_ptr<const IRegexp> regexp;  // Of kMatch and kSearch, where it is written out.

  // Gives true or false.
  bool logical() const {
    return kind == Kind::kOr || kind == Kind::kAnd || kind == Kind::kNot || kind == Kind::kCompare ||
           (kind == Kind::kFunction && (function == Function::kMatch || function == Function::kSearch));
  }
  // Gives a value, or nothing.
  bool value() const {
    return kind == Kind::kLiteral || (kind == Kind::kQuery && query.singular()) ||
           (kind == Kind::kFunction && !logical());
  }
};

namespace {

using Filter = JsonPath::Filter;
using Segment = JsonPath::Segment;
using Selector = JsonPath::Selector;

bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }
bool IsNameFirst(char c) {
  return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}
bool IsNameByte(char c) { return IsNameFirst(c) || IsDigit(c); }

class Parser {
 public:
  explicit Parser(absl::string_view path) : path_(path), rest_(path) {}

  absl::StatusOr<std::vector<Segment>> Run() {
    if (!Take("$")) return Expected("$");
    ASSIGN_OR_RETURN(std::vector<Segment> segments, Segments(0));
    if (!rest_.empty()) return Expected(".name, ..name, or [selectors]");
    return segments;
  }

 private:
  using FilterOr = absl::StatusOr<Filter::Ptr>;

  absl::Status Expected(absl::string_view what) const { return ExpectedAt(rest_, what); }
  absl::Status ExpectedAt(absl::string_view rest, absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("path \"", path_, "\": at byte ", rest.data() - path_.data(), ": expected ", what));
  }

  bool Take(absl::string_view token) { return absl::ConsumePrefix(&rest_, token); }
  bool At(absl::string_view token) const { return absl::StartsWith(rest_, token); }
  char Peek() const { return rest_.empty() ? '\0' : rest_[0]; }
  void SkipBlanks() {
    while (Peek() == ' ' || Peek() == '\t' || Peek() == '\n' || Peek() == '\r') rest_.remove_prefix(1);
  }

  // --- Segments and selectors.

  absl::StatusOr<std::vector<Segment>> Segments(int depth) {
    std::vector<Segment> segments;
    for (;;) {
      const absl::string_view before = rest_;
      SkipBlanks();
      if (!At(".") && !At("[")) {
        rest_ = before;  // Blanks belong to what follows a path, not to it.
        return segments;
      }
      if (segments.size() == kMaxSegments) return Expected(absl::StrCat("at most ", kMaxSegments, " segments"));
      Segment& segment = segments.emplace_back();
      segment.descendant = Take("..");
      if (Take("[")) {
        RETURN_IF_ERROR(Bracketed(depth, &segment.selectors));
        continue;
      }
      if (!segment.descendant) Take(".");
      Selector& selector = segment.selectors.emplace_back();
      if (Take("*")) continue;
      selector.kind = Selector::Kind::kName;
      if (!IsNameFirst(Peek())) {
        return Expected(segment.descendant ? "a name, * or [" : "a name or *; other names are written ['name']");
      }
      selector.name = std::string(TakeName());
    }
  }

  absl::string_view TakeName() {
    size_t size = 0;
    while (size < rest_.size() && IsNameByte(rest_[size])) ++size;
    const absl::string_view name = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return name;
  }

  // Behind the opening bracket; takes the closing one.
  absl::Status Bracketed(int depth, std::vector<Selector>* selectors) {
    do {
      SkipBlanks();
      ASSIGN_OR_RETURN(Selector selector, OneSelector(depth));
      selectors->push_back(std::move(selector));
      SkipBlanks();
    } while (Take(","));
    if (!Take("]")) return Expected(", or ]");
    return absl::OkStatus();
  }

  absl::StatusOr<Selector> OneSelector(int depth) {
    Selector selector;
    if (Take("*")) return selector;
    if (At("'") || At("\"")) {
      selector.kind = Selector::Kind::kName;
      ASSIGN_OR_RETURN(selector.name, String());
      return selector;
    }
    if (Take("?")) {
      selector.kind = Selector::Kind::kFilter;
      SkipBlanks();
      ASSIGN_OR_RETURN(selector.filter, Test(depth + 1));
      return selector;
    }
    if (!IsDigit(Peek()) && !At("-") && !At(":")) return Expected("'name', an index, a slice, * or ?filter");
    if (!At(":")) {
      ASSIGN_OR_RETURN(selector.index, Integer());
      const absl::string_view before = rest_;
      SkipBlanks();
      if (!At(":")) {
        rest_ = before;
        selector.kind = Selector::Kind::kIndex;
        return selector;
      }
      selector.start = selector.index;
    }
    selector.kind = Selector::Kind::kSlice;
    Take(":");
    SkipBlanks();
    if (IsDigit(Peek()) || At("-")) {
      ASSIGN_OR_RETURN(selector.end, Integer());
      SkipBlanks();
    }
    if (Take(":")) {
      SkipBlanks();
      if (IsDigit(Peek()) || At("-")) {
        ASSIGN_OR_RETURN(selector.step, Integer());
      }
    }
    return selector;
  }

  absl::StatusOr<int64_t> Integer() {
    const absl::string_view start = rest_;
    const bool negative = Take("-");
    if (!IsDigit(Peek())) return Expected("a digit");
    if (Peek() == '0') {
      rest_.remove_prefix(1);
      if (negative || IsDigit(Peek())) return ExpectedAt(start, "an integer without a leading zero, and not -0");
      return 0;
    }
    int64_t value = 0;
    while (IsDigit(Peek())) {
      value = value * 10 + (Peek() - '0');
      if (value > kMaxInteger) return ExpectedAt(start, "an integer from -(2^53-1) to 2^53-1");
      rest_.remove_prefix(1);
    }
    return negative ? -value : value;
  }

  absl::StatusOr<std::string> String() {
    const char quote = Peek();
    rest_.remove_prefix(1);
    std::string out;
    for (;;) {
      if (rest_.empty()) return Expected("the closing quote");
      const char c = Peek();
      if (static_cast<unsigned char>(c) < 0x20) return Expected("a character, control characters as escapes");
      if (c == '\\') {
        RETURN_IF_ERROR(Escape(quote, &out));
        continue;
      }
      rest_.remove_prefix(1);
      if (c == quote) return out;
      out.push_back(c);
    }
  }

  absl::Status Escape(char quote, std::string* out) {
    const absl::string_view start = rest_;
    rest_.remove_prefix(1);
    static constexpr absl::string_view kLetters = "\\/bfnrt";
    static constexpr absl::string_view kMeanings = "\\/\b\f\n\r\t";
    const char c = Peek();
    const size_t known = rest_.empty() ? absl::string_view::npos : kLetters.find(c);
    if (!rest_.empty() && (c == quote || known != absl::string_view::npos)) {
      out->push_back(c == quote ? quote : kMeanings[known]);
      rest_.remove_prefix(1);
      return absl::OkStatus();
    }
    if (!Take("u"))
      return ExpectedAt(start, absl::StrCat("\\b \\f \\n \\r \\t \\/ \\\\ \\u0000 or \\", std::string(1, quote)));
    uint32_t code = 0;
    RETURN_IF_ERROR(Hex4(&code));
    if (code >= 0xd800 && code < 0xe000) {
      uint32_t low = 0;
      if (code >= 0xdc00 || !Take("\\u")) return ExpectedAt(start, "a surrogate pair, not a lone surrogate");
      RETURN_IF_ERROR(Hex4(&low));
      if (low < 0xdc00 || low >= 0xe000) return ExpectedAt(start, "a surrogate pair, not a lone surrogate");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    AppendUtf8(out, code);
    return absl::OkStatus();
  }

  absl::Status Hex4(uint32_t* code) {
    for (int i = 0; i < 4; ++i) {
      if (!absl::ascii_isxdigit(static_cast<unsigned char>(Peek()))) return Expected("four hexadecimal digits");
      const char c = absl::ascii_tolower(static_cast<unsigned char>(Peek()));
      *code = *code << 4 | static_cast<uint32_t>(IsDigit(c) ? c - '0' : c - 'a' + 10);
      rest_.remove_prefix(1);
    }
    return absl::OkStatus();
  }

  // --- Filters.

  // What may stand behind `?`, in parentheses, and between && and ||: something that is true or false. A query is true
  // where it selects something.
  FilterOr Test(int depth) {
    const absl::string_view start = rest_;
    ASSIGN_OR_RETURN(Filter::Ptr filter, Or(depth));
    RETURN_IF_ERROR(CheckLogical(*filter, start));
    return filter;
  }

  absl::Status CheckLogical(const Filter& filter, absl::string_view start) const {
    if (filter.logical() || filter.kind == Filter::Kind::kQuery) return absl::OkStatus();
    return ExpectedAt(start, filter.kind == Filter::Kind::kLiteral ? "a comparison, a path or a call, not a value alone"
                                                                   : "a comparison; this function gives a value");
  }

  FilterOr Or(int depth) {
    return Chain(depth, "||", Filter::Kind::kOr, [this](int inner) {
      return Chain(inner, "&&", Filter::Kind::kAnd, [this](int innermost) { return Basic(innermost); });
    });
  }

  // One operand, or several with `token` between them.
  template <typename Operand>
  FilterOr Chain(int depth, absl::string_view token, Filter::Kind kind, Operand operand) {
    absl::string_view start = rest_;
    ASSIGN_OR_RETURN(Filter::Ptr first, operand(depth));
    std::shared_ptr<Filter> chain;
    for (;;) {
      const absl::string_view before = rest_;
      SkipBlanks();
      if (!Take(token)) {
        rest_ = before;
        return chain == nullptr ? FilterOr(std::move(first)) : FilterOr(std::move(chain));
      }
      if (chain == nullptr) {
        RETURN_IF_ERROR(CheckLogical(*first, start));
        chain = std::make_shared<Filter>();
        chain->kind = kind;
        chain->operands.push_back(std::move(first));
      }
      SkipBlanks();
      start = rest_;
      ASSIGN_OR_RETURN(Filter::Ptr next, operand(depth));
      RETURN_IF_ERROR(CheckLogical(*next, start));
      chain->operands.push_back(std::move(next));
    }
  }

  FilterOr Basic(int depth) {
    if (depth > kMaxExpressionDepth) {
      return Expected(
          absl::StrCat("at most ", kMaxExpressionDepth, " filters, calls and parentheses inside each other"));
    }
    if (Take("!")) {
      SkipBlanks();
      const absl::string_view start = rest_;
      auto negated = std::make_shared<Filter>();
      negated->kind = Filter::Kind::kNot;
      if (At("(")) {
        ASSIGN_OR_RETURN(negated->operands.emplace_back(), Parenthesized(depth));
      } else {
        ASSIGN_OR_RETURN(Filter::Ptr operand, Operand(depth));
        RETURN_IF_ERROR(CheckLogical(*operand, start));
        negated->operands.push_back(std::move(operand));
      }
      return negated;
    }
    if (At("(")) return Parenthesized(depth);

    const absl::string_view start = rest_;
    ASSIGN_OR_RETURN(Filter::Ptr left, Operand(depth));
    const absl::string_view before = rest_;
    SkipBlanks();
    static constexpr std::pair<absl::string_view, Filter::Operator> kOperators[] = {
        {"==", Filter::Operator::kEqual},   {"!=", Filter::Operator::kUnequal}, {"<=", Filter::Operator::kAtMost},
        {">=", Filter::Operator::kAtLeast}, {"<", Filter::Operator::kLess},     {">", Filter::Operator::kGreater}};
    for (const auto& [token, comparison] : kOperators) {
      if (!Take(token)) continue;
      RETURN_IF_ERROR(CheckValue(*left, start));
      SkipBlanks();
      const absl::string_view right_start = rest_;
      ASSIGN_OR_RETURN(Filter::Ptr right, Operand(depth));
      RETURN_IF_ERROR(CheckValue(*right, right_start));
      auto compared = std::make_shared<Filter>();
      compared->kind = Filter::Kind::kCompare;
      compared->comparison = comparison;
      compared->operands = {std::move(left), std::move(right)};
      return compared;
    }
    rest_ = before;
    return left;
  }

  absl::Status CheckValue(const Filter& filter, absl::string_view start) const {
    if (filter.value()) return absl::OkStatus();
    return ExpectedAt(start, filter.kind == Filter::Kind::kQuery
                                 ? "a path that selects one value: names and indices only, no *, slice, filter or .."
                                 : "a value; this function gives true or false");
  }

  FilterOr Parenthesized(int depth) {
    Take("(");
    SkipBlanks();
    ASSIGN_OR_RETURN(Filter::Ptr inner, Test(depth + 1));
    SkipBlanks();
    if (!Take(")")) return Expected(")");
    return inner;
  }

  // A literal, a path, or a call.
  FilterOr Operand(int depth) {
    if (At("@") || At("$")) {
      auto query = std::make_shared<Filter>();
      query->kind = Filter::Kind::kQuery;
      query->query.from_root = At("$");
      rest_.remove_prefix(1);
      ASSIGN_OR_RETURN(query->query.segments, Segments(depth));
      return query;
    }
    if (At("'") || At("\"")) {
      auto literal = std::make_shared<Filter>();
      ASSIGN_OR_RETURN(literal->literal.bytes, String());
      literal->literal.json.type = Json::Type::kString;
      literal->literal.json.string = literal->literal.bytes;
      return literal;
    }
    if (IsDigit(Peek()) || At("-")) return Number();
    if (absl::ascii_islower(static_cast<unsigned char>(Peek()))) return Word(depth);
    return Expected("a path (@ or $), a value, a call, ! or (");
  }

  FilterOr Number() {
    const absl::string_view start = rest_;
    const auto digits = [this] {
      if (!IsDigit(Peek())) return false;
      while (IsDigit(Peek())) rest_.remove_prefix(1);
      return true;
    };
    Take("-");
    if (!Take("0") && !digits()) return Expected("a digit");
    if (Take(".") && !digits()) return Expected("a digit");
    if ((Take("e") || Take("E")) && ((Take("-") || Take("+") || true) && !digits())) return Expected("a digit");
    return MakeLiteral(Json::Type::kNumber, start.substr(0, start.size() - rest_.size()));
  }

  static Filter::Ptr MakeLiteral(Json::Type type, absl::string_view text) {
    auto literal = std::make_shared<Filter>();
    literal->literal.bytes = std::string(text);
    literal->literal.json.type = type;
    literal->literal.json.text = literal->literal.bytes;
    return literal;
  }

  // true, false, null, or a call.
  FilterOr Word(int depth) {
    const absl::string_view start = rest_;
    size_t size = 0;
    while (size < rest_.size() && (absl::ascii_islower(static_cast<unsigned char>(rest_[size])) || rest_[size] == '_' ||
                                   IsDigit(rest_[size]))) {
      ++size;
    }
    const absl::string_view name = rest_.substr(0, size);
    rest_.remove_prefix(size);
    if (!At("(")) {
      if (name == "null") return MakeLiteral(Json::Type::kNull, name);
      if (name == "true" || name == "false") return MakeLiteral(Json::Type::kBoolean, name);
      return ExpectedAt(start, "true, false, null, or a call such as length(@)");
    }
    static constexpr std::pair<absl::string_view, Function> kFunctions[] = {{"length", Function::kLength},
                                                                            {"count", Function::kCount},
                                                                            {"match", Function::kMatch},
                                                                            {"search", Function::kSearch},
                                                                            {"value", Function::kValue}};
    const auto* known = std::find_if(std::begin(kFunctions), std::end(kFunctions),
                                     [name](const auto& function) { return function.first == name; });
    if (known == std::end(kFunctions)) return ExpectedAt(start, "length, count, match, search or value");
    return Call(depth, known->second);
  }

  // At the parenthesis.
  FilterOr Call(int depth, Function function) {
    if (depth >= kMaxExpressionDepth) {
      return Expected(
          absl::StrCat("at most ", kMaxExpressionDepth, " filters, calls and parentheses inside each other"));
    }
    Take("(");
    auto call = std::make_shared<Filter>();
    call->kind = Filter::Kind::kFunction;
    call->function = function;
    const bool of_nodes = function == Function::kCount || function == Function::kValue;
    const size_t arguments = function == Function::kMatch || function == Function::kSearch ? 2 : 1;
    while (call->operands.size() < arguments) {
      SkipBlanks();
      if (!call->operands.empty()) {
        if (!Take(",")) return Expected(", and a second argument");
        SkipBlanks();
      }
      const absl::string_view start = rest_;
      ASSIGN_OR_RETURN(Filter::Ptr argument, Operand(depth + 1));
      if (of_nodes && argument->kind != Filter::Kind::kQuery) return ExpectedAt(start, "a path");
      if (!of_nodes) RETURN_IF_ERROR(CheckValue(*argument, start));
      if (call->operands.size() == 1 && argument->literal.json.type == Json::Type::kString) {
        absl::StatusOr<std::shared_ptr<const IRegexp>> regexp = IRegexp::Parse(argument->literal.bytes);
        if (!regexp.ok()) return ExpectedAt(start, absl::StrCat("an I-Regexp; ", regexp.status().message()));
        call->regexp = *std::move(regexp);
      }
      call->operands.push_back(std::move(argument));
    }
    SkipBlanks();
    if (!Take(")")) return Expected(")");
    return call;
  }

  const absl::string_view path_;
  absl::string_view rest_;
};

// A value of a filter: a node, a number that was counted, or nothing.
struct Value {
  const Json* node = nullptr;
  std::optional<uint64_t> number;

  bool nothing() const { return node == nullptr && !number.has_value(); }
  bool is(Json::Type type) const { return number.has_value() ? type == Json::Type::kNumber : node->type == type; }
  Decimal decimal() const {
    return Decimal::Parse(number.has_value() ? absl::StrCat(*number) : std::string(node->text));
  }
};

class Evaluator {
 public:
  Evaluator(const Json& root, JsonPath::Work* work) : root_(root), work_(work) {}

  std::vector<const Json*> Select(const Json& from, const std::vector<Segment>& segments) {
    std::vector<const Json*> nodes = {&from};
    for (const Segment& segment : segments) {
      std::vector<const Json*> next;
      for (const Json* node : nodes) {
        if (!segment.descendant) {
          Apply(segment, *node, &next);
          continue;
        }
        std::vector<const Json*> open = {node};
        while (!open.empty() && !failed()) {
          const Json* visited = open.back();
          open.pop_back();
          Apply(segment, *visited, &next);
          Spend(visited->size);
          for (size_t i = visited->size; i-- > 0;) {
            if (visited->children[i].size > 0) open.push_back(&visited->children[i]);
          }
        }
      }
      if (failed()) return {};
      nodes = std::move(next);
    }
    return nodes;
  }

  absl::Status status() const { return status_; }

 private:
  bool failed() const { return !status_.ok(); }
  // What is spent is counted before it is done.
  void Spend(uint64_t steps) {
    work_->steps += steps;
    if (work_->steps > kMaxPathSteps && status_.ok()) {
      status_ = absl::ResourceExhaustedError("it takes too many steps; expected a path that looks at fewer values");
    }
  }

  void Apply(const Segment& segment, const Json& node, std::vector<const Json*>* out) {
    for (const Selector& selector : segment.selectors) {
      Spend(1);
      if (failed()) return;
      switch (selector.kind) {
        case Selector::Kind::kName:
          if (node.type != Json::Type::kObject) break;
          if (const Json* member = node.Find(selector.name)) out->push_back(member);
          break;
        case Selector::Kind::kIndex: {
          if (node.type != Json::Type::kArray) break;
          const int64_t index = selector.index < 0 ? selector.index + node.size : selector.index;
          if (index >= 0 && index < node.size) out->push_back(&node.children[index]);
          break;
        }
        case Selector::Kind::kSlice:
          if (node.type == Json::Type::kArray) Slice(selector, node, out);
          break;
        case Selector::Kind::kWildcard:
          Spend(node.size);
          if (failed()) return;
          for (const Json& child : node.items()) out->push_back(&child);
          break;
        case Selector::Kind::kFilter:
          for (const Json& child : node.items()) {
            if (failed()) return;
            if (Holds(*selector.filter, child)) out->push_back(&child);
          }
      }
    }
  }

  void Slice(const Selector& slice, const Json& array, std::vector<const Json*>* out) {
    const int64_t size = array.size;
    if (slice.step == 0) return;
    const auto from_start = [size](int64_t index) { return index < 0 ? index + size : index; };
    const bool up = slice.step > 0;
    const int64_t start = from_start(slice.start.value_or(up ? 0 : size - 1));
    // Without an end a slice goes down to the first item: before it.
    const int64_t end = slice.end.has_value() ? from_start(*slice.end) : (up ? size : -1);
    if (up) {
      for (int64_t i = std::clamp<int64_t>(start, 0, size); i < std::min(end, size); i += slice.step) {
        Spend(1);
        out->push_back(&array.children[i]);
      }
    } else {
      for (int64_t i = std::clamp<int64_t>(start, -1, size - 1); i > std::max<int64_t>(end, -1); i += slice.step) {
        Spend(1);
        out->push_back(&array.children[i]);
      }
    }
  }

  bool Holds(const Filter& filter, const Json& node) {
    Spend(1);
    if (failed()) return false;
    const auto holds = [&](const Filter::Ptr& operand) { return Holds(*operand, node); };
    switch (filter.kind) {
      case Filter::Kind::kOr:
        return std::any_of(filter.operands.begin(), filter.operands.end(), holds);
      case Filter::Kind::kAnd:
        return std::all_of(filter.operands.begin(), filter.operands.end(), holds);
      case Filter::Kind::kNot:
        return !holds(filter.operands[0]);
      case Filter::Kind::kCompare:
        return Compares(filter, node);
      case Filter::Kind::kQuery:
        return !Nodes(filter.query, node).empty();
      case Filter::Kind::kFunction:
        return Matches(filter, node);
      case Filter::Kind::kLiteral:
        break;
    }
    return false;
  }

  std::vector<const Json*> Nodes(const Query& query, const Json& node) {
    return Select(query.from_root ? root_ : node, query.segments);
  }

  Value Evaluate(const Filter& filter, const Json& node) {
    Spend(1);
    if (failed()) return {};
    if (filter.kind == Filter::Kind::kLiteral) return {&filter.literal.json, {}};
    if (filter.kind == Filter::Kind::kQuery) return Singular(filter.query, node);
    const Filter& argument = *filter.operands[0];
    if (filter.function == Function::kCount) return {nullptr, Nodes(argument.query, node).size()};
    if (filter.function == Function::kValue) {
      const std::vector<const Json*> nodes = Nodes(argument.query, node);
      return {nodes.size() == 1 ? nodes[0] : nullptr, {}};
    }
    const Value value = Evaluate(argument, node);
    if (value.node == nullptr) return {};
    if (value.node->type == Json::Type::kArray || value.node->type == Json::Type::kObject) {
      return {nullptr, value.node->size};
    }
    if (value.node->type != Json::Type::kString) return {};
    const absl::string_view text = value.node->string;
    Spend(text.size() / 16);
    return {nullptr, static_cast<uint64_t>(std::count_if(text.begin(), text.end(), [](char c) {
              return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
            }))};
  }

  // Without the lists that other queries need.
  Value Singular(const Query& query, const Json& node) {
    const Json* at = query.from_root ? &root_ : &node;
    for (const Segment& segment : query.segments) {
      Spend(1);
      const Selector& selector = segment.selectors[0];
      if (selector.kind == Selector::Kind::kName) {
        at = at->type == Json::Type::kObject ? at->Find(selector.name) : nullptr;
      } else {
        const int64_t index = selector.index < 0 ? selector.index + at->size : selector.index;
        at = at->type == Json::Type::kArray && index >= 0 && index < at->size ? &at->children[index] : nullptr;
      }
      if (at == nullptr) return {};
    }
    return {at, {}};
  }

  bool Compares(const Filter& filter, const Json& node) {
    const Value left = Evaluate(*filter.operands[0], node);
    const Value right = Evaluate(*filter.operands[1], node);
    if (failed()) return false;
    switch (filter.comparison) {
      case Filter::Operator::kEqual:
        return Equal(left, right);
      case Filter::Operator::kUnequal:
        return !Equal(left, right);
      case Filter::Operator::kLess:
        return Less(left, right);
      case Filter::Operator::kAtMost:
        return Less(left, right) || Equal(left, right);
      case Filter::Operator::kGreater:
        return Less(right, left);
      case Filter::Operator::kAtLeast:
        return Less(right, left) || Equal(left, right);
    }
    return false;
  }

  bool Equal(const Value& a, const Value& b) {
    if (a.nothing() || b.nothing()) return a.nothing() && b.nothing();
    if (a.node != nullptr && b.node != nullptr) return Same(*a.node, *b.node);
    if (!a.is(Json::Type::kNumber) || !b.is(Json::Type::kNumber)) return false;
    return a.decimal() == b.decimal();
  }

  // By value.
  bool Same(const Json& a, const Json& b) {
    Spend(1);
    if (failed() || a.type != b.type || a.size != b.size) return false;
    switch (a.type) {
      case Json::Type::kNull:
        return true;
      case Json::Type::kBoolean:
        return a.text == b.text;
      case Json::Type::kNumber:
        Spend((a.text.size() + b.text.size()) / 8);
        return a.text == b.text || Decimal::Parse(a.text) == Decimal::Parse(b.text);
      case Json::Type::kString:
        Spend(std::min(a.string.size(), b.string.size()) / 64);
        return a.string == b.string;
      case Json::Type::kArray:
        for (uint32_t i = 0; i < a.size; ++i) {
          if (!Same(a.children[i], b.children[i])) return false;
        }
        return true;
      case Json::Type::kObject:
        break;
    }
    for (const Json& member : a.items()) {
      const Json* other = b.Find(member.name);
      if (other == nullptr || !Same(member, *other)) return false;
    }
    return true;
  }

  // Numbers by value, strings by their code points, which UTF-8 sorts the same. Nothing else has an order.
  bool Less(const Value& a, const Value& b) {
    if (a.nothing() || b.nothing()) return false;
    if (a.is(Json::Type::kNumber) && b.is(Json::Type::kNumber)) {
      for (const Value* value : {&a, &b}) {
        if (value->node != nullptr) Spend(value->node->text.size() / 8);
      }
      return LessThan(a.decimal(), b.decimal());
    }
    if (!a.is(Json::Type::kString) || !b.is(Json::Type::kString)) return false;
    Spend(std::min(a.node->string.size(), b.node->string.size()) / 64);
    return a.node->string < b.node->string;
  }

  // match() and search().
  bool Matches(const Filter& filter, const Json& node) {
    const Value text = Evaluate(*filter.operands[0], node);
    if (failed() || text.node == nullptr || text.node->type != Json::Type::kString) return false;
    std::shared_ptr<const IRegexp> regexp = filter.regexp;
    if (regexp == nullptr) {
      const Value expression = Evaluate(*filter.operands[1], node);
      if (failed() || expression.node == nullptr || expression.node->type != Json::Type::kString) return false;
      regexp = Compiled(expression.node->string);
      if (regexp == nullptr) return false;
    }
    Spend(regexp->Cost(text.node->string.size()));
    if (failed()) return false;
    return filter.function == Function::kMatch ? regexp->Matches(text.node->string) : regexp->Finds(text.node->string);
  }

  // An expression that the document holds; most filters use one again and again. Null: it is none, and matches nothing.
  std::shared_ptr<const IRegexp> Compiled(absl::string_view expression) {
    constexpr uint64_t kCostOfCompiling = 5'000;
    if (last_expression_.has_value() && *last_expression_ == expression) return last_regexp_;
    Spend(kCostOfCompiling);
    if (failed()) return nullptr;
    absl::StatusOr<std::shared_ptr<const IRegexp>> regexp = IRegexp::Parse(expression);
    if (absl::IsResourceExhausted(regexp.status()) && status_.ok()) status_ = regexp.status();
    last_expression_ = expression;
    last_regexp_ = regexp.ok() ? *std::move(regexp) : nullptr;
    return last_regexp_;
  }

  const Json& root_;
  JsonPath::Work* const work_;
  absl::Status status_;
  std::optional<absl::string_view> last_expression_;
  std::shared_ptr<const IRegexp> last_regexp_;
};

}  // namespace

absl::StatusOr<JsonPath> JsonPath::Parse(absl::string_view path) {
  if (path.size() > kMaxPathBytes || !simdjson::validate_utf8(path.data(), path.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("a path of ", path.size(), " bytes: expected UTF-8, at most ", kMaxPathBytes));
  }
  JsonPath parsed;
  ASSIGN_OR_RETURN(parsed.segments_, Parser(path).Run());
  return parsed;
}

absl::StatusOr<std::vector<const Json*>> JsonPath::Locate(const Json& root, Work* work) const {
  Evaluator evaluator(root, work);
  std::vector<const Json*> nodes = evaluator.Select(root, segments_);
  RETURN_IF_ERROR(evaluator.status());
  return nodes;
}

}  // namespace shadowline::diff
