// Comparisons under rules: control, candidate, and one rule a line (see ReadRules). Every text is the same as itself
// and as itself with a blank before it; where A differs from B, B differs from A.
#include "diff/compare/compare.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "diff/compare/json.h"
#include "tests/fuzz/check.h"

namespace shadowline::diff {
namespace {

// `ignore PATH`, `multiset PATH`, `list PATH`, `keyed FIELD PATH`, `near NUMBER PATH`, `share NUMBER PATH`, `instants
// PATH`, `null PATH`, `extensible PATH`.
Rules ReadRules(absl::string_view text) {
  Rules rules;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::pair<absl::string_view, absl::string_view> words = absl::StrSplit(line, absl::MaxSplits(' ', 1));
    const auto& [kind, rest] = words;
    const std::pair<std::string, std::string> more = absl::StrSplit(rest, absl::MaxSplits(' ', 1));
    if (kind == "ignore") rules.ignore.emplace_back(rest);
    if (kind == "multiset" || kind == "list") rules.arrays.emplace(rest, kind);
    if (kind == "keyed") rules.arrays.emplace(more.second, absl::StrCat("keyed:", more.first));
    if (kind == "near") rules.tolerance.push_back({more.second, more.first, ""});
    if (kind == "share") rules.tolerance.push_back({more.second, "", more.first});
    if (kind == "instants") rules.instants.emplace_back(rest);
    if (kind == "null") rules.null_is_absent.emplace_back(rest);
    if (kind == "extensible") rules.extensible.emplace_back(rest);
  }
  return rules;
}

// Whether the rules may judge A against B and B against A differently: what only the candidate has is excused in one
// direction, and inside arrays without an order an index is the control's.
bool OneWay(const Rules& rules, absl::string_view text) {
  const bool unordered =
      std::any_of(rules.arrays.begin(), rules.arrays.end(), [](const auto& rule) { return rule.second != "list"; });
  return !rules.extensible.empty() || (unordered && text.find_first_of("0123456789") != absl::string_view::npos);
}

}  // namespace
}  // namespace shadowline::diff

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace shadowline;
  using Verdict = diff::Comparison::Verdict;
  absl::string_view rest = fuzz::Text(data, size);
  const absl::string_view a = fuzz::TakePart(&rest);
  const absl::string_view b = fuzz::TakePart(&rest);
  const diff::Rules declared = diff::ReadRules(rest);
  const absl::StatusOr<diff::CompiledRules> rules = diff::CompiledRules::Compile(declared);
  if (!rules.ok()) {
    FUZZ_CHECK(absl::IsInvalidArgument(rules.status()));
    return 0;
  }
  const diff::Comparison forth = diff::Compare({true, a}, {true, b}, *rules);
  FUZZ_CHECK(forth.differences.size() <= diff::kMaxDifferences);
  FUZZ_CHECK(forth.differences.size() <= forth.differences_total);
  FUZZ_CHECK((forth.verdict == Verdict::kDiffer) == (forth.differences_total > 0));
  FUZZ_CHECK((forth.verdict == Verdict::kExcused) <= !forth.excuses.empty());
  for (const diff::Difference& difference : forth.differences) {
    FUZZ_CHECK(difference.pointer.size() <= diff::kMaxShownBytes);
    FUZZ_CHECK(difference.control.size() <= diff::kMaxShownBytes);
    FUZZ_CHECK(difference.candidate.size() <= diff::kMaxShownBytes);
  }
  const bool judged = diff::CheckJson(a).ok() && diff::CheckJson(b).ok();
  if (!judged) return 0;
  for (const absl::string_view side : {a, b}) {
    const diff::Comparison self = diff::Compare({true, side}, {true, absl::StrCat(" ", side)}, *rules);
    FUZZ_CHECK(self.verdict == Verdict::kEqual || self.verdict == Verdict::kError);
  }
  if (diff::OneWay(declared, rest)) return 0;
  const diff::Comparison back = diff::Compare({true, b}, {true, a}, *rules);
  if (forth.verdict == Verdict::kError || back.verdict == Verdict::kError) return 0;
  FUZZ_CHECK((forth.verdict == Verdict::kDiffer) == (back.verdict == Verdict::kDiffer));
  return 0;
}
