#include "diff/compare/redact.h"

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "diff/compare/decimal.h"
#include "diff/compare/json.h"

namespace shadowline::diff {
namespace {

// A text that is the same for equal values and for no others: each part says how long it is.
void AppendCanonical(const Json& value, std::string* out) {
  switch (value.type) {
    case Json::Type::kNull:
    case Json::Type::kBoolean:
      absl::StrAppend(out, value.text);
      break;
    case Json::Type::kNumber: {
      const Decimal number = Decimal::Parse(value.text);
      absl::StrAppend(out, number.negative ? "-" : "+", number.digits, "e");
      // 128 bits, which StrAppend does not know.
      const absl::uint128 exponent = static_cast<absl::uint128>(number.exponent);
      absl::StrAppend(out, absl::Uint128High64(exponent), ".", absl::Uint128Low64(exponent), "e", number.far_exponent,
                      ";");
      break;
    }
    case Json::Type::kString:
      absl::StrAppend(out, "\"", value.string.size(), ":", value.string);
      break;
    case Json::Type::kArray:
      absl::StrAppend(out, "[", value.size, ":");
      for (const Json& item : value.items()) AppendCanonical(item, out);
      break;
    case Json::Type::kObject:
      absl::StrAppend(out, "{", value.size, ":");
      for (const Json* member : value.SortedMembers()) {
        absl::StrAppend(out, member->name.size(), ":", member->name);
        AppendCanonical(*member, out);
      }
      break;
  }
}

}  // namespace

std::string Redactor::operator()(absl::string_view value) const {
  const auto parsed = JsonDocument::Parse(value);
  if (!parsed.ok()) {
    return absl::StrCat("\"not JSON, ", value.size(), " bytes, #", base::KeyedDigest(secret_, value), "\"");
  }
  const Json& root = (*parsed)->root();
  std::string canonical;
  AppendCanonical(root, &canonical);
  const std::string digest = base::KeyedDigest(secret_, canonical);
  switch (root.type) {
    case Json::Type::kNull:
      return "null";
    case Json::Type::kBoolean:
      return absl::StrCat("\"boolean, #", digest, "\"");
    case Json::Type::kNumber:
      return absl::StrCat("\"number, #", digest, "\"");
    case Json::Type::kString:
      return absl::StrCat("\"string, ", root.string.size(), " bytes, #", digest, "\"");
    case Json::Type::kArray:
      return absl::StrCat("\"array, ", root.size, " items, #", digest, "\"");
    case Json::Type::kObject:
      break;
  }
  return absl::StrCat("\"object, ", root.size, " members, #", digest, "\"");
}

}  // namespace shadowline::diff
