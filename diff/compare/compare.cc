#include "diff/compare/compare.h"

#include <simdjson.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/hash.h"
#include "base/status.h"
#include "diff/compare/decimal.h"
#include "diff/compare/instant.h"
#include "diff/compare/json.h"
#include "diff/compare/path.h"

namespace shadowline::diff {
namespace {

constexpr size_t kMaxRules = 256;
constexpr size_t kMaxToleranceBytes = 64;
// Items of an unordered array that are alike but for a tolerance, beyond which they are not matched against each other.
constexpr size_t kMaxAlike = 512;
// Pairs of such items that are tried and do not match, in one comparison.
constexpr size_t kMaxMisses = 500'000;

enum class RuleKind { kIgnore, kArrays, kTolerance, kInstants, kNullIsAbsent, kExtensible };

struct Rule {
  RuleKind kind = RuleKind::kIgnore;
  std::string label;  // As declared, for people.
  PathPattern pattern;
  std::optional<JsonPath> query;  // kIgnore: what it locates, in the place of the pattern.
  // kArrays: of neither, the order counts.
  bool multiset = false;
  std::string keyed_by;
  // kTolerance.
  std::optional<Decimal> absolute;
  std::optional<Decimal> relative;
};

// How far a rule's pattern has been matched on the way to a value.
struct Progress {
  uint16_t rule;
  uint16_t at;
  bool operator==(const Progress&) const = default;
};
using Where = absl::InlinedVector<Progress, 4>;

std::string Clip(std::string text) {
  if (text.size() <= kMaxShownBytes) return text;
  constexpr absl::string_view kEllipsis = "…";
  size_t end = kMaxShownBytes - kEllipsis.size();
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  text.resize(end);
  text.append(kEllipsis.data(), kEllipsis.size());
  return text;
}

void AppendPointerSegment(std::string* out, absl::string_view name) {
  out->push_back('/');
  while (true) {
    const auto special = std::find_if(name.begin(), name.end(), [](char c) {
      return c == '~' || c == '/' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    });
    out->append(name.begin(), special);
    if (special == name.end()) return;
    if (*special == '~') {
      out->append("~0");
    } else if (*special == '/') {
      out->append("~1");
    } else {
      absl::StrAppend(out, "\\u", absl::Hex(static_cast<int>(*special), absl::kZeroPad4));
    }
    name.remove_prefix(special + 1 - name.begin());
  }
}

// One comparison of two trees: collects differences and excuses into a Comparison.
class Walker {
 public:
  // By digests: what is equal by value is known by its digest, which both trees have then.
  Walker(const std::vector<Rule>& rules, bool by_digests, const Show& show, Comparison* result)
      : rules_(rules), by_digests_(by_digests), show_(show), result_(result) {}

  void Run(const Json& control, const Json& candidate) {
    Where where;
    JsonPath::Work work;
    for (size_t i = 0; i < rules_.size(); ++i) {
      if (!rules_[i].query.has_value()) {
        where.push_back({static_cast<uint16_t>(i), 0});
        continue;
      }
      for (const Json* root : {&control, &candidate}) {
        const auto nodes = rules_[i].query->Locate(*root, &work);
        if (!nodes.ok()) {
          result_->verdict = Comparison::Verdict::kError;
          result_->error = absl::StrCat(rules_[i].label, ": ", nodes.status().message());
          return;
        }
        for (const Json* node : *nodes) located_.emplace(node, &rules_[i]);
      }
    }
    Walk(control, candidate, where);
    result_->patterns.assign(patterns_.begin(), patterns_.end());
    if (GaveUp()) {
      *result_ = Comparison();
      result_->verdict = Comparison::Verdict::kError;
      result_->error =
          "comparing takes too many steps; compare unordered arrays as keyed:FIELD, or without a tolerance inside them";
    } else if (result_->differences_total > 0) {
      result_->verdict = Comparison::Verdict::kDiffer;
    } else if (!result_->excuses.empty()) {
      result_->verdict = Comparison::Verdict::kExcused;
      result_->compared = Compares(control, where) || Compares(candidate, where);
    }
  }

  // Whether the rules leave anything of `value` to be compared.
  bool Compares(const Json& value, const Where& where) {
    if (IgnoreRule(where, value) != nullptr) return false;
    if (value.size == 0) return true;
    if (value.type == Json::Type::kArray) {
      for (size_t i = 0; i < value.size; ++i) {
        if (Compares(value.children[i], Down(where, Item(value, i)))) return true;
      }
      return false;
    }
    if (value.type != Json::Type::kObject) return true;
    return std::any_of(value.items().begin(), value.items().end(),
                       [&](const Json& member) { return Compares(member, Down(where, Member(member.name))); });
  }

  void Report(DifferenceKind kind, const Show& show, absl::string_view control, absl::string_view candidate) {
    different_ = true;
    if (quiet_) return;
    ++result_->differences_total;
    if (patterns_.size() < kMaxDifferences)
      patterns_.insert(absl::StrCat(Pointer(/*pattern=*/true), ": ", KindName(kind)));
    if (result_->differences.size() >= kMaxDifferences) return;
    result_->differences.push_back({Pointer(/*pattern=*/false), kind, control.empty() ? "" : Clip(show(control)),
                                    candidate.empty() ? "" : Clip(show(candidate))});
  }

 private:
  using Matches = std::vector<std::pair<size_t, size_t>>;  // Indices of items: control's, candidate's.

  // --- Rules on the way down.

  Where Down(const Where& where, const PathStep& step) const {
    Where down;
    for (const Progress& progress : where) {
      const PathPattern& pattern = rules_[progress.rule].pattern;
      if (pattern.everywhere()) {
        down.push_back(progress);
        continue;
      }
      if (progress.at == pattern.size()) continue;
      const auto add = [&](uint16_t at) {
        const Progress next{progress.rule, at};
        if (std::find(down.begin(), down.end(), next) == down.end()) down.push_back(next);
      };
      if (pattern.Deep(progress.at)) add(progress.at);
      if (pattern.Matches(progress.at, step)) add(progress.at + 1);
    }
    return down;
  }

  // Calls `use` with the rules of `kind` that point at `where`, in the order they were declared, until it returns true.
  template <typename Use>
  bool AnyRule(RuleKind kind, const Where& where, Use use) const {
    for (const Progress& progress : where) {
      const Rule& rule = rules_[progress.rule];
      if (rule.kind != kind || (!rule.pattern.everywhere() && progress.at != rule.pattern.size())) continue;
      if (use(rule)) return true;
    }
    return false;
  }
  const Rule* FindRule(RuleKind kind, const Where& where) const {
    const Rule* found = nullptr;
    AnyRule(kind, where, [&](const Rule& rule) {
      found = &rule;
      return true;
    });
    return found;
  }
  // The rule by which `value`, at `where`, is ignored.
  const Rule* IgnoreRule(const Where& where, const Json& value) const {
    if (const Rule* rule = FindRule(RuleKind::kIgnore, where)) return rule;
    if (located_.empty() || exactly_) return nullptr;
    const auto found = located_.find(&value);
    return found == located_.end() ? nullptr : found->second;
  }
  // A rule that names a place goes before one for everywhere.
  const Rule* ArrayRule(const Where& where) const {
    const Rule* found = nullptr;
    AnyRule(RuleKind::kArrays, where, [&](const Rule& rule) {
      found = &rule;
      return !rule.pattern.everywhere();
    });
    return found;
  }

  void Excuse(const Rule& rule) {
    if (!quiet_) ++result_->excuses[rule.label];
  }

  // --- Where the walk is.

  std::string Pointer(bool pattern) const {
    std::string pointer;
    for (const PathStep& step : path_) {
      if (step.is_item) {
        absl::StrAppend(&pointer, "/", pattern ? "*" : absl::StrCat(step.index));
      } else {
        AppendPointerSegment(&pointer, step.name);
      }
      if (pointer.size() > kMaxShownBytes) break;
    }
    return Clip(std::move(pointer));
  }
  static PathStep Member(absl::string_view name) { return {name, 0, /*is_item=*/false}; }
  // The step to `array`'s child `i`: to where the document has it, should others have been taken out before it.
  PathStep Item(const Json& array, size_t i) const {
    if (kept_.empty()) return {"", i, /*is_item=*/true};
    const auto kept = kept_.find(array.children);
    return {"", kept == kept_.end() ? i : kept->second->indices[i], /*is_item=*/true};
  }

  // --- Items that a query locates: they are taken out, each on its own side, before lists and multisets are lined up.

  struct Kept {
    std::vector<Json> items;
    std::vector<size_t> indices;  // Where they were.
    Json array;
  };

  // `array` without them; itself where there are none.
  const Json& WithoutLocated(const Json& array) {
    const auto located = [this](const Json& item) { return located_.contains(&item); };
    if (located_.empty() || std::none_of(array.items().begin(), array.items().end(), located)) return array;
    std::unique_ptr<Kept>& kept = shortened_[&array];
    if (kept == nullptr) {
      kept = std::make_unique<Kept>();
      kept->items.reserve(array.size);
      for (size_t i = 0; i < array.size; ++i) {
        if (located(array.children[i])) continue;
        kept->items.push_back(array.children[i]);
        kept->indices.push_back(i);
      }
      kept->array = array;
      kept->array.children = kept->items.data();
      kept->array.size = static_cast<uint32_t>(kept->items.size());
      if (!kept->items.empty()) kept_[kept->array.children] = kept.get();
    }
    return kept->array;
  }

  // One excuse for each that has no equal on the other side, in their order.
  void ExcuseLocated(const Json& control, const Json& candidate) {
    std::vector<const Json*> a, b;
    for (const auto& [array, items] : {std::make_pair(&control, &a), std::make_pair(&candidate, &b)}) {
      for (const Json& item : array->items()) {
        if (located_.contains(&item)) items->push_back(&item);
      }
    }
    for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
      if (i < a.size() && i < b.size() && FoldExactly(*a[i]) == FoldExactly(*b[i])) continue;
      Excuse(*located_.at(i < a.size() ? a[i] : b[i]));
    }
  }

  // --- Folding: a hash that is the same for values that are the same under the rules of `where` (under none: by
  // value). The reverse does not hold where a tolerance or an extensible object is inside, which fold to constants.

  uint64_t Fold(const Json& value, const Where& where) {
    ++steps_;
    if (IgnoreRule(where, value) != nullptr) return 1;
    switch (value.type) {
      case Json::Type::kNull:
      case Json::Type::kBoolean:
        return base::Hash64(value.text);
      case Json::Type::kNumber: {
        if (FindRule(RuleKind::kTolerance, where) != nullptr) return 2;
        const Decimal number = Decimal::Parse(value.text);
        return absl::HashOf(number.negative, number.digits, number.exponent, number.far_exponent);
      }
      case Json::Type::kString: {
        if (FindRule(RuleKind::kInstants, where) != nullptr) {
          if (const auto instant = Instant::Parse(value.string)) {
            return absl::HashOf(instant->seconds, instant->fraction, instant->has_offset, instant->infinite);
          }
        }
        return base::Hash64(value.string, /*seed=*/3);
      }
      case Json::Type::kArray: {
        const Rule* rule = ArrayRule(where);
        const bool ordered = rule == nullptr || !Unordered(*rule);
        uint64_t hash = 4;
        for (size_t i = 0; i < value.size; ++i) {
          const Where down = Down(where, Item(value, i));
          if (IgnoreRule(down, value.children[i]) != nullptr) continue;
          const uint64_t item = Fold(value.children[i], down);
          hash = ordered ? absl::HashOf(hash, item) : hash + absl::HashOf(item);
        }
        return absl::HashOf(hash);
      }
      case Json::Type::kObject:
        break;
    }
    if (FindRule(RuleKind::kExtensible, where) != nullptr) return 5;
    uint64_t hash = 6;
    for (const Json& member : value.items()) {
      const Where down = Down(where, Member(member.name));
      if (IgnoreRule(down, member) != nullptr) continue;
      if (member.type == Json::Type::kNull && FindRule(RuleKind::kNullIsAbsent, down) != nullptr) continue;
      hash += absl::HashOf(member.name, Fold(member, down));  // In any order.
    }
    return absl::HashOf(hash);
  }
  uint64_t FoldExactly(const Json& value) {
    if (by_digests_) return value.digest.low;
    const bool exactly = std::exchange(exactly_, true);
    const uint64_t fold = Fold(value, Where());
    exactly_ = exactly;
    return fold;
  }

  bool GaveUp() const { return steps_ > kMaxSteps || misses_ > kMaxMisses; }

  static bool Unordered(const Rule& rule) { return rule.multiset || !rule.keyed_by.empty(); }

  // --- Walking.

  // Whether they are known to be equal, without a look at what is inside.
  bool Known(const Json& control, const Json& candidate) const {
    return by_digests_ ? control.digest == candidate.digest : control.text == candidate.text;
  }

  void Walk(const Json& control, const Json& candidate, const Where& where) {
    if (++steps_; GaveUp() || (quiet_ && different_)) return;
    if (Known(control, candidate)) return;
    const Rule* rule = IgnoreRule(where, control);
    if (rule == nullptr) rule = IgnoreRule(where, candidate);
    if (rule != nullptr) {
      if (FoldExactly(control) != FoldExactly(candidate)) Excuse(*rule);
      return;
    }
    if (control.type != candidate.type) return Report(DifferenceKind::kType, control, candidate);
    switch (control.type) {
      case Json::Type::kNull:
        return;
      case Json::Type::kBoolean:
        return Report(DifferenceKind::kValue, control, candidate);
      case Json::Type::kNumber:
        return WalkNumbers(control, candidate, where);
      case Json::Type::kString:
        return WalkStrings(control, candidate, where);
      case Json::Type::kArray:
        return WalkArrays(control, candidate, where);
      case Json::Type::kObject:
        return WalkObjects(control, candidate, where);
    }
  }

  void WalkDown(const Json& control, const Json& candidate, const Where& where, const PathStep& step) {
    path_.push_back(step);
    Walk(control, candidate, Down(where, step));
    path_.pop_back();
  }

  bool EqualUnderRules(const Json& control, const Json& candidate, const Where& where) {
    const bool quiet = std::exchange(quiet_, true);
    const bool different = std::exchange(different_, false);
    Walk(control, candidate, where);
    quiet_ = quiet;
    return !std::exchange(different_, different);
  }

  void WalkNumbers(const Json& control, const Json& candidate, const Where& where) {
    const Decimal a = Decimal::Parse(control.text);
    const Decimal b = Decimal::Parse(candidate.text);
    if (a == b) return;
    const bool near = AnyRule(RuleKind::kTolerance, where, [&](const Rule& rule) {
      if (!(rule.absolute && WithinAbsolute(a, b, *rule.absolute)) &&
          !(rule.relative && WithinRelative(a, b, *rule.relative))) {
        return false;
      }
      Excuse(rule);
      return true;
    });
    if (!near) Report(DifferenceKind::kValue, control, candidate);
  }

  void WalkStrings(const Json& control, const Json& candidate, const Where& where) {
    if (control.string == candidate.string) return;
    if (const Rule* rule = FindRule(RuleKind::kInstants, where)) {
      const std::optional<Instant> a = Instant::Parse(control.string);
      if (a.has_value() && a == Instant::Parse(candidate.string)) return Excuse(*rule);
    }
    Report(DifferenceKind::kValue, control, candidate);
  }

  void WalkObjects(const Json& control, const Json& candidate, const Where& where) {
    using Members = absl::InlinedVector<const Json*, 16>;
    Members a, b;
    const size_t overlap = std::min(control.size, candidate.size);
    for (size_t i = 0; i < std::max(control.size, candidate.size); ++i) {
      // Most are written in one order and the same, and are soon out of the way.
      if (i < overlap && Known(control.children[i], candidate.children[i]) &&
          control.children[i].name == candidate.children[i].name) {
        continue;
      }
      if (i < control.size) a.push_back(&control.children[i]);
      if (i < candidate.size) b.push_back(&candidate.children[i]);
    }
    for (Members* members : {&a, &b}) {
      std::sort(members->begin(), members->end(), [](const Json* x, const Json* y) { return x->name < y->name; });
    }
    for (size_t i = 0, j = 0; i < a.size() || j < b.size();) {
      if (j == b.size() || (i < a.size() && a[i]->name < b[j]->name)) {
        Lone(*a[i++], DifferenceKind::kMissing, where);
      } else if (i == a.size() || b[j]->name < a[i]->name) {
        Lone(*b[j++], DifferenceKind::kExtra, where);
      } else {
        WalkDown(*a[i], *b[j], where, Member(a[i]->name));
        ++i;
        ++j;
      }
    }
  }

  // A member that only one side has.
  void Lone(const Json& member, DifferenceKind kind, const Where& where) {
    ++steps_;
    const PathStep step = Member(member.name);
    const Where down = Down(where, step);
    if (const Rule* rule = IgnoreRule(down, member)) return Excuse(*rule);
    if (member.type == Json::Type::kNull) {
      if (const Rule* rule = FindRule(RuleKind::kNullIsAbsent, down)) return Excuse(*rule);
    }
    if (kind == DifferenceKind::kExtra) {
      if (const Rule* rule = FindRule(RuleKind::kExtensible, where)) return Excuse(*rule);
    }
    ReportLone(member, kind, step);
  }

  void WalkArrays(const Json& control, const Json& candidate, const Where& where) {
    const Rule* rule = ArrayRule(where);
    if (rule != nullptr && !rule->keyed_by.empty() && WalkKeyed(control, candidate, where, *rule)) return;
    const Json& a = WithoutLocated(control);
    const Json& b = WithoutLocated(candidate);
    if (&a != &control || &b != &candidate) ExcuseLocated(control, candidate);
    if (rule != nullptr && rule->multiset) return WalkMultisets(a, b, where, *rule);
    WalkLists(a, b, where);
  }

  // Item by item. That a list is reordered, or that something was put in or taken out, is said as such.
  void WalkLists(const Json& control, const Json& candidate, const Where& where) {
    const size_t overlap = std::min(control.size, candidate.size);
    if (quiet_) {
      if (AnyCounts(control, overlap, control.size, where) || AnyCounts(candidate, overlap, candidate.size, where)) {
        return Report(DifferenceKind::kLength, control, candidate);
      }
      for (size_t i = 0; i < overlap; ++i)
        WalkDown(control.children[i], candidate.children[i], where, Item(control, i));
      return;
    }
    std::vector<uint64_t> a = FoldItems(control);
    std::vector<uint64_t> b = FoldItems(candidate);
    const size_t prefix = std::mismatch(a.begin(), a.begin() + overlap, b.begin()).first - a.begin();
    size_t suffix = 0;
    while (suffix < overlap - prefix && a[a.size() - 1 - suffix] == b[b.size() - 1 - suffix]) ++suffix;
    if (a.size() == b.size()) {
      const auto sorted_middle = [&](const std::vector<uint64_t>& folds) {
        std::vector<uint64_t> middle(folds.begin() + prefix, folds.end() - suffix);
        std::sort(middle.begin(), middle.end());
        return middle;
      };
      if (prefix + suffix < a.size() && sorted_middle(a) == sorted_middle(b) &&
          !EqualUnderRules(control, candidate, where)) {
        return Report(DifferenceKind::kOrder, control, candidate);
      }
      for (size_t i = 0; i < overlap; ++i)
        WalkDown(control.children[i], candidate.children[i], where, Item(control, i));
      return;
    }
    if (AnyCounts(control, overlap - suffix, a.size() - suffix, where) ||
        AnyCounts(candidate, overlap - suffix, b.size() - suffix, where)) {
      Report(DifferenceKind::kLength, control, candidate);
    }
    for (size_t i = prefix; i < overlap - suffix; ++i) {
      WalkDown(control.children[i], candidate.children[i], where, Item(control, i));
    }
    for (size_t i = overlap - suffix; i < a.size() - suffix; ++i) LoneItem(control, i, DifferenceKind::kMissing, where);
    for (size_t i = overlap - suffix; i < b.size() - suffix; ++i) LoneItem(candidate, i, DifferenceKind::kExtra, where);
  }

  // Whether an item from `first` to before `last` is not ignored.
  bool AnyCounts(const Json& array, size_t first, size_t last, const Where& where) const {
    for (size_t i = first; i < last; ++i) {
      if (IgnoreRule(Down(where, Item(array, i)), array.children[i]) == nullptr) return true;
    }
    return false;
  }

  std::vector<uint64_t> FoldItems(const Json& array) {
    std::vector<uint64_t> folds;
    folds.reserve(array.size);
    for (const Json& item : array.items()) folds.push_back(FoldExactly(item));
    return folds;
  }

  void LoneItem(const Json& array, size_t index, DifferenceKind kind, const Where& where) {
    ++steps_;
    const PathStep step = Item(array, index);
    if (const Rule* rule = IgnoreRule(Down(where, step), array.children[index])) return Excuse(*rule);
    ReportLone(array.children[index], kind, step);
  }

  // Each item of one side against the one item of the other that it equals. Which could equal is known by folding;
  // where tolerances leave a choice, the largest matching is found, so that no choice can make up a difference.
  void WalkMultisets(const Json& control, const Json& candidate, const Where& where, const Rule& rule) {
    struct Bucket {
      std::vector<size_t> control;
      std::vector<size_t> candidate;
    };
    absl::flat_hash_map<uint64_t, Bucket> buckets;
    std::vector<uint64_t> order;  // Of the control's items, so that the output does not depend on the hash.
    for (size_t i = 0; i < control.size; ++i) {
      order.push_back(Fold(control.children[i], Down(where, Item(control, i))));
      buckets[order.back()].control.push_back(i);
    }
    for (size_t i = 0; i < candidate.size; ++i) {
      order.push_back(Fold(candidate.children[i], Down(where, Item(candidate, i))));
      buckets[order.back()].candidate.push_back(i);
    }
    Matches matches;
    std::vector<size_t> missing, extra;
    for (const uint64_t fold : order) {
      Bucket bucket = std::exchange(buckets[fold], {});
      Match(control, candidate, where, &bucket.control, &bucket.candidate, &matches);
      missing.insert(missing.end(), bucket.control.begin(), bucket.control.end());
      extra.insert(extra.end(), bucket.candidate.begin(), bucket.candidate.end());
    }
    std::sort(missing.begin(), missing.end());
    std::sort(extra.begin(), extra.end());
    // One item that changed is easier to read as a change than as a loss and a gain.
    if (missing.size() == 1 && extra.size() == 1) {
      matches.emplace_back(missing[0], extra[0]);
      missing.clear();
      extra.clear();
    }
    WalkMatches(control, candidate, where, rule, std::move(matches));
    for (const size_t i : missing) LoneItem(control, i, DifferenceKind::kMissing, where);
    for (const size_t i : extra) LoneItem(candidate, i, DifferenceKind::kExtra, where);
  }

  // Moves as many pairs of equal items as possible from `left` and `right` to `matches` (Kuhn's augmenting paths).
  void Match(const Json& control, const Json& candidate, const Where& where, std::vector<size_t>* left,
             std::vector<size_t>* right, Matches* matches) {
    if (left->empty() || right->empty()) return;
    const auto equal = [&](size_t i, size_t j) {
      const Json& item = control.children[(*left)[i]];
      const bool same = EqualUnderRules(item, candidate.children[(*right)[j]], Down(where, Item(control, (*left)[i])));
      if (!same) ++misses_;
      return same;
    };
    constexpr size_t kNone = static_cast<size_t>(-1);
    std::vector<size_t> partner(right->size(), kNone);  // Of each on the right.
    std::vector<bool> matched(left->size());
    std::vector<size_t> open;  // On the right, the next one last.
    for (size_t j = right->size(); j-- > 0;) open.push_back(j);
    for (size_t i = 0; i < left->size() && !open.empty() && !GaveUp(); ++i) {
      for (size_t k = open.size(); k-- > 0 && !GaveUp();) {
        if (!equal(i, open[k])) continue;
        partner[open[k]] = i;
        matched[i] = true;
        open.erase(open.begin() + k);
        break;
      }
    }
    if (!open.empty() && std::find(matched.begin(), matched.end(), false) != matched.end()) {
      if (left->size() > kMaxAlike || right->size() > kMaxAlike) misses_ = kMaxMisses + 1;
      std::vector<bool> tried;
      const std::function<bool(size_t)> augment = [&](size_t i) {
        for (size_t j = 0; j < right->size() && !GaveUp(); ++j) {
          if (tried[j] || !equal(i, j)) continue;
          tried[j] = true;
          if (partner[j] != kNone && !augment(partner[j])) continue;
          partner[j] = i;
          matched[i] = true;
          return true;
        }
        return false;
      };
      for (size_t i = 0; i < left->size(); ++i) {
        tried.assign(right->size(), false);
        if (!matched[i]) augment(i);
      }
    }
    std::vector<size_t> left_over, right_over;
    for (size_t i = 0; i < left->size(); ++i) {
      if (!matched[i]) left_over.push_back((*left)[i]);
    }
    for (size_t j = 0; j < right->size(); ++j) {
      if (partner[j] == kNone) {
        right_over.push_back((*right)[j]);
      } else {
        matches->emplace_back((*left)[partner[j]], (*right)[j]);
      }
    }
    *left = std::move(left_over);
    *right = std::move(right_over);
  }

  // False: not every item of both sides is an object with a scalar of its own under that name.
  bool WalkKeyed(const Json& control, const Json& candidate, const Where& where, const Rule& rule) {
    absl::flat_hash_map<uint64_t, size_t> keys, candidate_keys;
    if (!KeysOf(control, rule.keyed_by, &keys) || !KeysOf(candidate, rule.keyed_by, &candidate_keys)) return false;
    Matches matches;
    std::vector<bool> met(candidate.size);
    for (size_t i = 0; i < control.size; ++i) {
      const auto found = candidate_keys.find(FoldExactly(*control.children[i].Find(rule.keyed_by)));
      if (found == candidate_keys.end()) {
        LoneItem(control, i, DifferenceKind::kMissing, where);
      } else {
        matches.emplace_back(i, found->second);
        met[found->second] = true;
      }
    }
    WalkMatches(control, candidate, where, rule, std::move(matches));
    for (size_t i = 0; i < candidate.size; ++i) {
      if (!met[i]) LoneItem(candidate, i, DifferenceKind::kExtra, where);
    }
    return true;
  }

  bool KeysOf(const Json& array, absl::string_view field, absl::flat_hash_map<uint64_t, size_t>* keys) {
    for (size_t i = 0; i < array.size; ++i) {
      const Json* key = array.children[i].type == Json::Type::kObject ? array.children[i].Find(field) : nullptr;
      if (key == nullptr || key->type == Json::Type::kArray || key->type == Json::Type::kObject) return false;
      if (!keys->emplace(FoldExactly(*key), i).second) return false;
    }
    return true;
  }

  void WalkMatches(const Json& control, const Json& candidate, const Where& where, const Rule& rule, Matches matches) {
    std::sort(matches.begin(), matches.end());
    if (!std::is_sorted(matches.begin(), matches.end(),
                        [](const auto& a, const auto& b) { return a.second < b.second; })) {
      Excuse(rule);
    }
    for (const auto& [i, j] : matches) WalkDown(control.children[i], candidate.children[j], where, Item(control, i));
  }

  void Report(DifferenceKind kind, const Json& control, const Json& candidate) {
    Report(kind, show_, control.text, candidate.text);
  }
  void ReportLone(const Json& value, DifferenceKind kind, const PathStep& step) {
    path_.push_back(step);
    const bool missing = kind == DifferenceKind::kMissing;
    Report(kind, show_, missing ? value.text : "", missing ? "" : value.text);
    path_.pop_back();
  }

  const std::vector<Rule>& rules_;
  const bool by_digests_;
  const Show& show_;
  Comparison* const result_;
  absl::flat_hash_map<const Json*, const Rule*> located_;              // By the queries of rules, in either document.
  absl::flat_hash_map<const Json*, std::unique_ptr<Kept>> shortened_;  // By the array.
  absl::flat_hash_map<const Json*, const Kept*> kept_;                 // By the first of the items.
  absl::InlinedVector<PathStep, 8> path_;
  std::set<std::string> patterns_;
  uint64_t steps_ = 0;
  size_t misses_ = 0;
  bool quiet_ = false;  // Only whether they differ is asked: nothing is collected, the first difference ends it.
  bool different_ = false;
  bool exactly_ = false;  // No query counts.
};

// A reader of this thread's, so that most comparisons allocate nothing for it.
class BorrowedReader {
 public:
  BorrowedReader() {
    if (Spare().empty()) return;
    reader_ = std::move(Spare().back());
    Spare().pop_back();
  }
  ~BorrowedReader() {
    if (reader_.held_bytes() <= kMaxHeldBytes && Spare().size() < 2) Spare().push_back(std::move(reader_));
  }
  BorrowedReader(const BorrowedReader&) = delete;
  BorrowedReader& operator=(const BorrowedReader&) = delete;

  JsonReader* operator->() { return &reader_; }

 private:
  static constexpr size_t kMaxHeldBytes = 4 << 20;
  static std::vector<JsonReader>& Spare() {
    static thread_local std::vector<JsonReader> spare;
    return spare;
  }

  JsonReader reader_;
};

absl::StatusOr<std::optional<Decimal>> ParseTolerance(const std::string& text, absl::string_view rule) {
  if (text.empty()) return std::nullopt;
  const auto parsed = JsonDocument::Parse(text);
  if (!parsed.ok() || (*parsed)->root().type != Json::Type::kNumber || text.size() > kMaxToleranceBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(rule, ": expected a decimal of at most ", kMaxToleranceBytes, " characters, not \"", text, "\""));
  }
  Decimal decimal = Decimal::Parse((*parsed)->root().text);
  if (decimal.negative || !decimal.far_exponent.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(rule, ": expected zero or more, not \"", text, "\""));
  }
  return decimal;
}

// Rules of which one takes the other back, or leaves it nothing to say.
absl::Status CheckContradictions(const std::vector<Rule>& rules) {
  for (const Rule& rule : rules) {
    const bool whole = !rule.query.has_value() && (rule.pattern.everywhere() || rule.pattern.size() == 0);
    for (const Rule& other : rules) {
      if (&other == &rule) continue;
      if (rule.kind == RuleKind::kIgnore && whole && other.label != rule.label) {
        return absl::InvalidArgumentError(absl::StrCat(rule.label, ": it excuses everything, beside ", other.label,
                                                       "; expected one without the other"));
      }
      if (rule.kind == RuleKind::kArrays && other.kind == RuleKind::kArrays && rule.pattern == other.pattern &&
          (rule.multiset != other.multiset || rule.keyed_by != other.keyed_by)) {
        return absl::InvalidArgumentError(
            absl::StrCat(rule.label, ": it contradicts ", other.label, "; expected one of them"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

struct CompiledRules::Impl {
  std::vector<Rule> rules;
  bool any_query = false;
};

CompiledRules::CompiledRules() : impl_(std::make_shared<Impl>()) {}

absl::StatusOr<CompiledRules> CompiledRules::Compile(const Rules& rules) {
  auto impl = std::make_shared<Impl>();
  const auto add = [&](RuleKind kind, absl::string_view name, const std::string& path) -> absl::StatusOr<Rule*> {
    Place place;
    if (kind == RuleKind::kIgnore) {
      absl::StatusOr<Place> parsed = ParsePlace(path);
      if (!parsed.ok()) return base::Annotate(parsed.status(), name);
      place = *std::move(parsed);
    } else {
      absl::StatusOr<PathPattern> pattern = PathPattern::Parse(path);
      if (!pattern.ok()) return base::Annotate(pattern.status(), name);
      place.pattern = *std::move(pattern);
    }
    if (impl->rules.size() >= kMaxRules) {
      return absl::InvalidArgumentError(absl::StrCat("expected at most ", kMaxRules, " rules"));
    }
    Rule& rule = impl->rules.emplace_back();
    rule.kind = kind;
    rule.label = absl::StrCat(name, " ", path);
    rule.pattern = std::move(place.pattern);
    rule.query = std::move(place.query);
    return &rule;
  };
  for (const std::string& path : rules.ignore) RETURN_IF_ERROR(add(RuleKind::kIgnore, "ignore", path).status());
  for (const auto& [path, mode] : rules.arrays) {
    ASSIGN_OR_RETURN(Rule * rule, add(RuleKind::kArrays, "arrays", path));
    absl::string_view field = mode;
    if (mode == "multiset") {
      rule->multiset = true;
    } else if (absl::ConsumePrefix(&field, "keyed:") && !field.empty()) {
      rule->keyed_by = std::string(field);
    } else if (mode != "list") {
      return absl::InvalidArgumentError(
          absl::StrCat(rule->label, ": expected list, multiset or keyed:FIELD, not \"", mode, "\""));
    }
    absl::StrAppend(&rule->label, " ", mode);
  }
  for (const Rules::Tolerance& tolerance : rules.tolerance) {
    ASSIGN_OR_RETURN(Rule * rule, add(RuleKind::kTolerance, "tolerance", tolerance.path));
    ASSIGN_OR_RETURN(rule->absolute, ParseTolerance(tolerance.absolute, absl::StrCat(rule->label, " absolute")));
    ASSIGN_OR_RETURN(rule->relative, ParseTolerance(tolerance.relative, absl::StrCat(rule->label, " relative")));
    if (!rule->absolute && !rule->relative) {
      return absl::InvalidArgumentError(absl::StrCat(rule->label, ": expected an absolute or a relative tolerance"));
    }
  }
  for (const std::string& path : rules.instants) RETURN_IF_ERROR(add(RuleKind::kInstants, "instants", path).status());
  for (const std::string& path : rules.null_is_absent) {
    RETURN_IF_ERROR(add(RuleKind::kNullIsAbsent, "null_is_absent", path).status());
  }
  for (const std::string& path : rules.extensible) {
    RETURN_IF_ERROR(add(RuleKind::kExtensible, "extensible", path).status());
  }
  RETURN_IF_ERROR(CheckContradictions(impl->rules));
  impl->any_query =
      std::any_of(impl->rules.begin(), impl->rules.end(), [](const Rule& rule) { return rule.query.has_value(); });
  CompiledRules compiled;
  compiled.impl_ = std::move(impl);
  return compiled;
}

absl::string_view KindName(DifferenceKind kind) {
  switch (kind) {
    case DifferenceKind::kMissing:
      return "missing";
    case DifferenceKind::kExtra:
      return "extra";
    case DifferenceKind::kType:
      return "type";
    case DifferenceKind::kValue:
      return "value";
    case DifferenceKind::kOrder:
      return "order";
    case DifferenceKind::kLength:
      return "length";
    case DifferenceKind::kShape:
      return "shape";
  }
  return "unknown";
}

std::string ShowValue(absl::string_view text) {
  std::string shown = Clip(std::string(text));
  // What is no JSON can be anything; what is kept of it is text.
  const bool is_text = simdjson::validate_utf8(shown);
  for (char& c : shown) {
    if (c == '\0' || (!is_text && static_cast<unsigned char>(c) >= 0x80)) c = '?';
  }
  return shown;
}

Comparison Compare(const Answer& control, const Answer& candidate, const CompiledRules& rules, const Show& show) {
  Comparison result;
  if (control.found == candidate.found && (!control.found || control.body == candidate.body)) return result;
  const auto differ = [&](DifferenceKind kind) {
    result.verdict = Comparison::Verdict::kDiffer;
    result.differences_total = 1;
    result.patterns = {absl::StrCat(": ", KindName(kind))};
    result.differences.push_back(
        {"", kind, control.found ? Clip(show(control.body)) : "", candidate.found ? Clip(show(candidate.body)) : ""});
    return result;
  };
  if (!control.found) return differ(DifferenceKind::kExtra);
  BorrowedReader control_reader;
  const absl::StatusOr<const Json*> control_root = control_reader->Read(control.body);
  if (!control_root.ok()) {
    result.verdict = Comparison::Verdict::kError;
    result.error = absl::StrCat("the control cannot be compared: ", control_root.status().message());
    return result;
  }
  if (!candidate.found) return differ(DifferenceKind::kMissing);
  BorrowedReader candidate_reader;
  // A query tells the nodes of one document from those of the other, so they cannot share any.
  const absl::StatusOr<const Json*> candidate_root =
      rules.impl().any_query ? candidate_reader->Read(candidate.body)
                             : candidate_reader->ReadBeside(candidate.body, control.body, **control_root);
  if (!candidate_root.ok()) {
    result.error = absl::StrCat("the candidate cannot be compared: ", candidate_root.status().message());
    return differ(DifferenceKind::kShape);
  }
  if ((*control_root)->digest == (*candidate_root)->digest) return result;
  Walker(rules.impl().rules, /*by_digests=*/true, show, &result).Run(**control_root, **candidate_root);
  return result;
}

Comparison CompareSlowly(const Json& control, const Json& candidate, const CompiledRules& rules, const Show& show) {
  Comparison result;
  Walker(rules.impl().rules, /*by_digests=*/false, show, &result).Run(control, candidate);
  return result;
}

absl::Status CheckJson(absl::string_view text) { return JsonDocument::Parse(text).status(); }

std::string Fingerprint(absl::string_view endpoint, const std::vector<std::string>& patterns) {
  std::string identity(endpoint);
  for (const std::string& pattern : patterns) absl::StrAppend(&identity, absl::string_view("\0", 1), pattern);
  return absl::StrCat(absl::Hex(base::Hash64(identity), absl::kZeroPad16));
}

}  // namespace shadowline::diff
