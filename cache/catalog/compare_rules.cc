#include "cache/catalog/compare_rules.h"

namespace shadowline::cache {

diff::Rules RulesFrom(const shadowline::v1::CompareRules& declared) {
  diff::Rules rules;
  rules.ignore.assign(declared.ignore().begin(), declared.ignore().end());
  rules.arrays.insert(declared.arrays().begin(), declared.arrays().end());
  for (const auto& tolerance : declared.tolerance()) {
    rules.tolerance.push_back({tolerance.path(), tolerance.absolute(), tolerance.relative()});
  }
  rules.instants.assign(declared.instants().begin(), declared.instants().end());
  rules.null_is_absent.assign(declared.null_is_absent().begin(), declared.null_is_absent().end());
  rules.extensible.assign(declared.extensible().begin(), declared.extensible().end());
  return rules;
}

}  // namespace shadowline::cache
