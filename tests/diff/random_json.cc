#include "tests/diff/random_json.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace shadowline::diff {
namespace {

using base::Random;

const char* RandomScalar(Random* random) {
  static constexpr const char* kScalars[] = {"null",
                                             "true",
                                             "false",
                                             "0",
                                             "-0",
                                             "0.0",
                                             "1",
                                             "1.0",
                                             "10e-1",
                                             "2",
                                             "-2",
                                             "20",
                                             "2e1",
                                             "1e400",
                                             "1e-400",
                                             "1E+2",
                                             "0.30",
                                             "12345678901234567890123",
                                             "12345678901234567890124",
                                             "1e99999999999999999999999999999999999999999",
                                             "1.25",
                                             "\"\"",
                                             "\"a\"",
                                             "\"\\u0061\"",
                                             "\"b\"",
                                             "\"\\n\"",
                                             "\"\\u000a\"",
                                             "\"\xc3\xa9\"",
                                             "\"\\u00e9\"",
                                             "\"\\/\"",
                                             "\"/\"",
                                             "\"\\ud83d\\ude00\"",
                                             "\"a text that is longer than sixteen bytes\"",
                                             "\"a text that is longer than sixteen bytez\"",
                                             "\"2026-01-01T00:00:00Z\"",
                                             "\"2026-01-01T01:00:00+01:00\"",
                                             "\"\\\\\"",
                                             "\"\\\"\""};
  return kScalars[random->Below(std::size(kScalars))];
}

const char* RandomName(Random* random) {
  static constexpr const char* kNames[] = {"a", "b",   "c",   "id",       "at",
                                           "",  "a/b", "m~n", "\\u0061b", "longer than sixteen bytes"};
  return kNames[random->Below(std::size(kNames))];
}

std::string Space(Random* random) {
  static constexpr const char* kSpaces[] = {"", "", "", " ", "\n", "\t ", "\r\n"};
  return kSpaces[random->Below(std::size(kSpaces))];
}

void Shuffle(Random* random, std::vector<std::string>* parts) {
  for (size_t i = parts->size(); i-- > 1;) std::swap((*parts)[i], (*parts)[random->Below(i + 1)]);
}

std::string Wrap(const char* brackets, const std::vector<std::string>& parts, const std::string& space) {
  return absl::StrCat(absl::string_view(brackets, 1), space, absl::StrJoin(parts, absl::StrCat(space, ",")),
                      absl::string_view(brackets + 1, 1));
}

std::string QuotedAnew(absl::string_view text, Random* random) {
  std::string out;
  if (random->Below(2) == 0) {
    AppendQuoted(&out, text);
    return out;
  }
  out = "\"";
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x80) {
      absl::StrAppend(&out, "\\u", absl::Hex(static_cast<int>(c), absl::kZeroPad4));
    } else {
      out.push_back(c);
    }
  }
  return out + "\"";
}

std::string NumberAnew(absl::string_view text, Random* random) {
  const bool has_exponent = text.find_first_of("eE") != absl::string_view::npos;
  switch (has_exponent ? 3 : random->Below(4)) {
    case 0:
      return absl::StrCat(text, "e0");
    case 1:
      return absl::StrCat(text, text.find('.') == absl::string_view::npos ? ".0" : "0");
    case 2:
      return absl::StrCat(text, "E-00");
    default:
      return std::string(text);
  }
}

}  // namespace

std::string RandomJson(Random* random, int depth) {
  const uint64_t kind = random->Below(10);
  if (depth == 0 || kind < 4) return RandomScalar(random);
  std::vector<std::string> parts;
  const size_t size = random->Below(5);
  if (kind < 7) {
    for (size_t i = 0; i < size; ++i) parts.push_back(RandomJson(random, depth - 1));
    return Wrap("[]", parts, "");
  }
  std::vector<std::string> names;
  for (size_t i = 0; i < size; ++i) {
    const std::string name = RandomName(random);
    // A name that is there twice is rare, or nothing else would be tried.
    if (random->Below(200) != 0 && std::find(names.begin(), names.end(), name) != names.end()) continue;
    names.push_back(name);
    parts.push_back(absl::StrCat("\"", name, "\":", RandomJson(random, depth - 1)));
  }
  // Now and then so many members that they are kept in another way.
  if (random->Below(50) == 0) {
    for (int i = 0; i < 40; ++i) parts.push_back(absl::StrCat("\"m", i, "\":", random->Below(2)));
  }
  return Wrap("{}", parts, "");
}

std::string WriteAnew(const Json& value, Random* random) {
  std::vector<std::string> parts;
  switch (value.type) {
    case Json::Type::kNull:
    case Json::Type::kBoolean:
      return std::string(value.text);
    case Json::Type::kNumber:
      return NumberAnew(value.text, random);
    case Json::Type::kString:
      return QuotedAnew(value.string, random);
    case Json::Type::kArray:
      for (const Json& item : value.items()) parts.push_back(Space(random) + WriteAnew(item, random));
      return Wrap("[]", parts, Space(random));
    case Json::Type::kObject:
      break;
  }
  for (const Json& member : value.items()) {
    parts.push_back(absl::StrCat(Space(random), QuotedAnew(member.name, random), Space(random), ":", Space(random),
                                 WriteAnew(member, random)));
  }
  Shuffle(random, &parts);
  return Wrap("{}", parts, Space(random));
}

std::string WriteChanged(const Json& value, Random* random) {
  if (random->Below(12) == 0) return RandomJson(random, 2);
  if (value.type != Json::Type::kArray && value.type != Json::Type::kObject) return std::string(value.text);
  const bool is_array = value.type == Json::Type::kArray;
  std::vector<std::string> parts;
  for (const Json& child : value.items()) {
    if (random->Below(15) == 0) continue;
    std::string part;
    if (!is_array) {
      AppendQuoted(&part, child.name);
      part.push_back(':');
    }
    parts.push_back(part + WriteChanged(child, random));
    if (is_array && random->Below(15) == 0) parts.push_back(RandomJson(random, 1));
  }
  if (random->Below(8) == 0) Shuffle(random, &parts);
  return Wrap(is_array ? "[]" : "{}", parts, "");
}

}  // namespace shadowline::diff
