#include "cache/key/key.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/status.h"
#include "cache/invalidate/invalidator.h"
#include "cache/key/text.h"

namespace shadowline::cache {
namespace {

using shadowline::v1::Parameter;
using shadowline::v1::ReadRequest;
using shadowline::v1::Value;

constexpr int kMaxParameters = 64;

constexpr char kHexUpper[] = "0123456789ABCDEF";
constexpr char kHexLower[] = "0123456789abcdef";

// Bytes that stand for themselves in a key. A slash is added where it cannot be mistaken for the one in
// family/endpoint.
constexpr std::array<bool, 256> PlainBytes(bool slash) {
  std::array<bool, 256> plain{};
  for (int c = 'a'; c <= 'z'; ++c) plain[c] = true;
  for (int c = 'A'; c <= 'Z'; ++c) plain[c] = true;
  for (int c = '0'; c <= '9'; ++c) plain[c] = true;
  for (const char c : {'_', '.', '~', '-'}) plain[static_cast<unsigned char>(c)] = true;
  plain['/'] = slash;
  return plain;
}
constexpr std::array<bool, 256> kPlain = PlainBytes(false);
constexpr std::array<bool, 256> kPlainOrSlash = PlainBytes(true);

void AppendEncoded(absl::string_view bytes, const std::array<bool, 256>& plain, std::string* out) {
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (plain[byte]) {
      out->push_back(c);
    } else {
      const char encoded[] = {'%', kHexUpper[byte >> 4], kHexUpper[byte & 15]};
      out->append(encoded, sizeof(encoded));
    }
  }
}

template <typename Number>
void AppendNumber(Number number, std::string* out) {
  char buffer[32];
  out->append(buffer, std::to_chars(buffer, buffer + sizeof(buffer), number).ptr);
}

absl::string_view TypeName(ParameterType type) {
  switch (type) {
    case ParameterType::kText:
      return "a text";
    case ParameterType::kInteger:
      return "an integer";
    case ParameterType::kNumber:
      return "a number";
    case ParameterType::kBoolean:
      return "a boolean";
    case ParameterType::kTextSet:
    case ParameterType::kTextList:
      return "a list of texts";
    case ParameterType::kIntegerSet:
    case ParameterType::kIntegerList:
      return "a list of integers";
  }
  return "";
}

absl::string_view KindName(Value::KindCase kind) {
  switch (kind) {
    case Value::kText:
      return "a text";
    case Value::kInteger:
      return "an integer";
    case Value::kNumber:
      return "a number";
    case Value::kBoolean:
      return "a boolean";
    case Value::kTexts:
      return "a list of texts";
    case Value::kIntegers:
      return "a list of integers";
    case Value::KIND_NOT_SET:
      return "NULL";
  }
  return "";
}

Value::KindCase KindOf(ParameterType type) {
  switch (type) {
    case ParameterType::kText:
      return Value::kText;
    case ParameterType::kInteger:
      return Value::kInteger;
    case ParameterType::kNumber:
      return Value::kNumber;
    case ParameterType::kBoolean:
      return Value::kBoolean;
    case ParameterType::kTextSet:
    case ParameterType::kTextList:
      return Value::kTexts;
    case ParameterType::kIntegerSet:
    case ParameterType::kIntegerList:
      return Value::kIntegers;
  }
  return Value::KIND_NOT_SET;
}

absl::Status CheckText(const ParameterDecl& declared, absl::string_view text) {
  if (text.size() > declared.max_length) {
    return absl::InvalidArgumentError(
        absl::StrCat("it has ", text.size(), " bytes; at most ", declared.max_length, " are accepted"));
  }
  if (!IsText(text)) return absl::InvalidArgumentError("it is not valid UTF-8 without NUL");
  return absl::OkStatus();
}

absl::Status CheckCount(const ParameterDecl& declared, int count) {
  if (static_cast<uint32_t>(count) <= declared.max_length) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("it has ", count, " elements; at most ", declared.max_length, " are accepted"));
}

absl::StatusOr<std::string> TextArray(const ParameterDecl& declared, const shadowline::v1::TextList& list) {
  RETURN_IF_ERROR(CheckCount(declared, list.values_size()));
  std::vector<std::string> texts(list.values().begin(), list.values().end());
  for (std::string& text : texts) {
    RETURN_IF_ERROR(CheckText(declared, text));
    if (declared.fold_case) absl::AsciiStrToLower(&text);
  }
  if (declared.type == ParameterType::kTextSet) {
    std::sort(texts.begin(), texts.end());
    texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  }
  // PostgreSQL's array literal, with every element quoted: NULL and the empty text then need no special case.
  std::string literal = "{";
  for (const std::string& text : texts) {
    if (literal.size() > 1) literal.push_back(',');
    literal.push_back('"');
    for (const char c : text) {
      if (c == '"' || c == '\\') literal.push_back('\\');
      literal.push_back(c);
    }
    literal.push_back('"');
  }
  literal.push_back('}');
  return literal;
}

absl::StatusOr<std::string> IntegerArray(const ParameterDecl& declared, const shadowline::v1::IntegerList& list) {
  RETURN_IF_ERROR(CheckCount(declared, list.values_size()));
  std::vector<int64_t> integers(list.values().begin(), list.values().end());
  if (declared.type == ParameterType::kIntegerSet) {
    std::sort(integers.begin(), integers.end());
    integers.erase(std::unique(integers.begin(), integers.end()), integers.end());
  }
  std::string literal = "{";
  for (const int64_t integer : integers) {
    if (literal.size() > 1) literal.push_back(',');
    AppendNumber(integer, &literal);
  }
  literal.push_back('}');
  return literal;
}

absl::Status CheckTagLengths(const Endpoint& endpoint, absl::string_view tenant,
                             const std::vector<std::optional<std::string>>& arguments) {
  for (size_t i = 0; i < endpoint.tags.size(); ++i) {
    size_t length = 0;
    for (const TagPiece& piece : endpoint.tags[i]) {
      if (piece.parameter >= 0) {
        const std::optional<std::string>& argument = arguments[piece.parameter];
        length += argument ? argument->size() : 0;
      } else {
        length += piece.parameter == -2 ? tenant.size() : piece.literal.size();
      }
    }
    if (length > kMaxTagBytes) {
      return absl::InvalidArgumentError(absl::StrCat(endpoint.name, ": with these parameters, tag ", i + 1, " has ",
                                                     length, " bytes; Invalidate takes at most ", kMaxTagBytes));
    }
  }
  return absl::OkStatus();
}

void AppendDigest(absl::string_view bytes, std::string* out) {
  for (const char c : base::Digest128(bytes)) {
    const auto byte = static_cast<unsigned char>(c);
    out->push_back(kHexLower[byte >> 4]);
    out->push_back(kHexLower[byte & 15]);
  }
}

}  // namespace

absl::StatusOr<std::string> CanonicalValue(const ParameterDecl& declared, const Value& value) {
  if (value.kind_case() != KindOf(declared.type)) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected ", TypeName(declared.type), ", got ", KindName(value.kind_case())));
  }
  std::string result;
  switch (declared.type) {
    case ParameterType::kText:
      RETURN_IF_ERROR(CheckText(declared, value.text()));
      result = value.text();
      if (declared.fold_case) absl::AsciiStrToLower(&result);
      return result;
    case ParameterType::kInteger:
      AppendNumber(value.integer(), &result);
      return result;
    case ParameterType::kNumber:
      if (!std::isfinite(value.number())) return absl::InvalidArgumentError("expected a finite number");
      // The shortest text that reads back as this very number; adding zero turns -0 into 0.
      AppendNumber(value.number() + 0.0, &result);
      return result;
    case ParameterType::kBoolean:
      return value.boolean() ? "true" : "false";
    case ParameterType::kTextSet:
    case ParameterType::kTextList:
      return TextArray(declared, value.texts());
    case ParameterType::kIntegerSet:
    case ParameterType::kIntegerList:
      return IntegerArray(declared, value.integers());
  }
  return absl::InternalError("unknown parameter type");
}

absl::StatusOr<std::vector<std::optional<std::string>>> CanonicalArguments(const Endpoint& endpoint,
                                                                           const ReadRequest& request) {
  if (request.parameters_size() > kMaxParameters) {
    return absl::InvalidArgumentError(absl::StrCat(endpoint.name, ": ", request.parameters_size(),
                                                   " parameters; at most ", kMaxParameters, " are accepted"));
  }
  const std::vector<ParameterDecl>& declared = endpoint.parameters;
  std::vector<std::optional<std::string>> arguments(declared.size());
  uint64_t given = 0;  // One bit for each declared parameter: an endpoint has at most kMaxParameters.
  for (const Parameter& parameter : request.parameters()) {
    const auto at =
        std::lower_bound(declared.begin(), declared.end(), parameter.name(),
                         [](const ParameterDecl& left, const std::string& right) { return left.name < right; });
    if (at == declared.end() || at->name != parameter.name()) {
      // The name comes from the caller: shown only where it can be one.
      const bool shown = parameter.name().size() <= 63 && IsText(parameter.name());
      return absl::InvalidArgumentError(
          absl::StrCat(endpoint.name, ": unknown parameter", shown ? absl::StrCat(" `", parameter.name(), "`") : ""));
    }
    const size_t index = at - declared.begin();
    const uint64_t bit = uint64_t{1} << index;
    if ((given & bit) != 0) {
      return absl::InvalidArgumentError(absl::StrCat(endpoint.name, ": parameter `", at->name, "` is given twice"));
    }
    given |= bit;
    if (parameter.value().kind_case() == Value::KIND_NOT_SET) continue;  // NULL
    absl::StatusOr<std::string> value = CanonicalValue(*at, parameter.value());
    if (!value.ok()) {
      return base::Annotate(value.status(), absl::StrCat(endpoint.name, ": parameter `", at->name, "`"));
    }
    arguments[index] = *std::move(value);
  }
  for (size_t i = 0; i < declared.size(); ++i) {
    if ((given >> i & 1) != 0) continue;
    if (!declared[i].default_text) {
      return absl::InvalidArgumentError(absl::StrCat(endpoint.name, ": parameter `", declared[i].name,
                                                     "` is missing; expected ", TypeName(declared[i].type)));
    }
    arguments[i] = declared[i].default_text;
  }
  RETURN_IF_ERROR(CheckTagLengths(endpoint, request.tenant(), arguments));
  return arguments;
}

std::string CacheKey(const Endpoint& endpoint, absl::string_view tenant, uint64_t epoch,
                     const std::vector<std::optional<std::string>>& arguments) {
  // What is digested: the definition, and each parameter's name, and its value after its length, so that nothing can
  // run into its neighbour.
  std::string canonical;
  canonical.reserve(256);
  canonical.append(endpoint.definition_id);
  for (size_t i = 0; i < arguments.size(); ++i) {
    canonical.append(endpoint.parameters[i].name);
    if (!arguments[i]) {
      canonical.push_back('!');
      continue;
    }
    canonical.push_back('=');
    AppendNumber(arguments[i]->size(), &canonical);
    canonical.push_back(':');
    canonical.append(*arguments[i]);
  }

  std::string key;
  key.reserve(64 + tenant.size() + endpoint.name.size());
  key.append("sl:");
  AppendEncoded(tenant, kPlain, &key);
  key.push_back(':');
  AppendEncoded(endpoint.name, kPlainOrSlash, &key);
  key.append(":v");
  AppendNumber(endpoint.schema, &key);
  key.push_back('.');
  AppendNumber(epoch, &key);
  key.push_back(':');
  AppendDigest(canonical, &key);
  return key;
}

std::string FenceKey(absl::string_view tenant, absl::string_view tag) {
  std::string key = "sl:fence:";
  key.reserve(64 + tenant.size());
  AppendEncoded(tenant, kPlain, &key);
  key.push_back(':');
  AppendDigest(tag, &key);
  return key;
}

std::vector<std::string> RenderTags(const Endpoint& endpoint, absl::string_view tenant,
                                    const std::vector<std::optional<std::string>>& arguments) {
  std::vector<std::string> tags;
  tags.reserve(endpoint.tags.size());
  for (const std::vector<TagPiece>& pieces : endpoint.tags) {
    std::string& tag = tags.emplace_back();
    for (const TagPiece& piece : pieces) {
      if (piece.parameter >= 0) {
        tag.append(arguments[piece.parameter].value_or(""));
      } else if (piece.parameter == -2) {
        tag.append(tenant.data(), tenant.size());
      } else {
        tag.append(piece.literal);
      }
    }
  }
  return tags;
}

std::vector<std::string> FenceKeys(const Endpoint& endpoint, absl::string_view tenant,
                                   const std::vector<std::optional<std::string>>& arguments) {
  std::vector<std::string> keys = RenderTags(endpoint, tenant, arguments);
  for (std::string& key : keys) key = FenceKey(tenant, key);
  return keys;
}

}  // namespace shadowline::cache
