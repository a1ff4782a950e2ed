// Parsers of one line each; the first byte picks one.
#include <array>
#include <optional>

#include "absl/strings/str_cat.h"
#include "cache/capture/lsn.h"
#include "cache/external/json_text.h"
#include "cache/origin/snapshot.h"
#include "diff/compare/decimal.h"
#include "diff/compare/instant.h"
#include "diff/compare/json.h"
#include "tests/fuzz/check.h"

namespace shadowline {
namespace {

// Nothing: `text` is no JSON number.
std::optional<diff::Decimal> Number(absl::string_view text) {
  const auto document = diff::JsonDocument::Parse(text);
  if (!document.ok() || (*document)->root().type != diff::Json::Type::kNumber) return std::nullopt;
  return diff::Decimal::Parse((*document)->root().text);
}

// Two numbers and a bound.
void FuzzDecimal(absl::string_view text) {
  const std::optional<diff::Decimal> first = Number(fuzz::TakePart(&text));
  const std::optional<diff::Decimal> second = Number(fuzz::TakePart(&text));
  std::optional<diff::Decimal> third = Number(text);
  if (!first.has_value() || !second.has_value() || !third.has_value()) return;
  const diff::Decimal& a = *first;
  const diff::Decimal& b = *second;
  third->negative = false;
  const diff::Decimal& bound = *third;
  FUZZ_CHECK(a == a && (a == b) == (b == a));
  FUZZ_CHECK(diff::LessThan(a, b) + diff::LessThan(b, a) + (a == b) == 1);
  if (!bound.far_exponent.empty()) return;
  FUZZ_CHECK(diff::WithinAbsolute(a, a, bound) && diff::WithinRelative(a, a, bound));
  FUZZ_CHECK(diff::WithinAbsolute(a, b, bound) == diff::WithinAbsolute(b, a, bound));
  FUZZ_CHECK(diff::WithinRelative(a, b, bound) == diff::WithinRelative(b, a, bound));
  FUZZ_CHECK(diff::WithinAbsolute(a, b, diff::Decimal()) == (a == b));
}

void FuzzInstant(absl::string_view text) {
  const auto instant = diff::Instant::Parse(text);
  if (!instant.has_value()) return;
  FUZZ_CHECK(instant == diff::Instant::Parse(std::string(text)));
  FUZZ_CHECK(instant->fraction.size() <= 9);
}

void FuzzSnapshot(absl::string_view text) {
  const auto snapshot = cache::ParseSnapshot(text);
  if (!snapshot.ok()) return;
  FUZZ_CHECK(cache::ParseSnapshot(snapshot->ToString()).value() == *snapshot);
  FUZZ_CHECK(cache::SeesAllOf(*snapshot, *snapshot));
}

void FuzzLsn(absl::string_view text) {
  const auto lsn = cache::ParseLsn(text);
  if (lsn.has_value()) FUZZ_CHECK(cache::ParseLsn(cache::FormatLsn(*lsn)) == lsn);
}

// A JSON Pointer, and a text to find it in.
void FuzzPointer(absl::string_view text) {
  const auto pointer = cache::ParseJsonPointer(fuzz::TakePart(&text));
  if (!pointer.ok()) return;
  const auto found = cache::FindInJson(text, std::array{*pointer});
  if (!found.ok() || (*found)[0].empty()) return;
  FUZZ_CHECK((*found)[0].data() >= text.data() && (*found)[0].size() <= text.size());
  FUZZ_CHECK(cache::FindInJson((*found)[0], std::array{cache::JsonPointer()}).ok());
}

}  // namespace
}  // namespace shadowline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const absl::string_view rest = shadowline::fuzz::Text(data + 1, size - 1);
  switch (data[0]) {
    case 'd':
      shadowline::FuzzDecimal(rest);
      break;
    case 'i':
      shadowline::FuzzInstant(rest);
      break;
    case 's':
      shadowline::FuzzSnapshot(rest);
      break;
    case 'l':
      shadowline::FuzzLsn(rest);
      break;
    case 'p':
      shadowline::FuzzPointer(rest);
      break;
    default:
      return -1;  // Not kept.
  }
  return 0;
}
