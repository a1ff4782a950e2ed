#include "diff/verdict/versions.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"
#include "diff/compare/decimal.h"
#include "diff/verdict/cause.h"
#include "diff/verdict/owner.h"

namespace shadowline::diff {
namespace {

std::optional<Decimal> VersionIn(absl::string_view body, absl::string_view pointer) {
  const std::set<std::string> texts = TextsAt(body, pointer);
  if (texts.size() != 1) return std::nullopt;
  const std::string& text = *texts.begin();
  absl::string_view digits = text;
  absl::ConsumePrefix(&digits, "-");
  const bool integer = !digits.empty() && std::all_of(digits.begin(), digits.end(), absl::ascii_isdigit) &&
                       (digits.size() == 1 || digits[0] != '0');
  return integer ? std::optional(Decimal::Parse(text)) : std::nullopt;
}

}  // namespace

Versions CompareVersions(absl::string_view candidate, absl::string_view control, absl::string_view pointer,
                         const Comparison& difference) {
  if (pointer.empty()) return Versions::kUnknown;
  const std::optional<Decimal> ours = VersionIn(candidate, pointer);
  const std::optional<Decimal> theirs = VersionIn(control, pointer);
  if (!ours.has_value() || !theirs.has_value()) return Versions::kUnknown;
  if (*ours == *theirs) return IsOtherShape(difference.patterns) ? Versions::kUnknown : Versions::kSame;
  return LessThan(*ours, *theirs) ? Versions::kOlder : Versions::kNewer;
}

}  // namespace shadowline::diff
