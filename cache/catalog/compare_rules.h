// A catalog's compare rules, as diff/compare takes them.
//
// Pure.
#ifndef SHADOWLINE_CACHE_CATALOG_COMPARE_RULES_H_
#define SHADOWLINE_CACHE_CATALOG_COMPARE_RULES_H_

#include "diff/compare/compare.h"
#include "shadowline/v1/catalog.pb.h"

namespace shadowline::cache {

diff::Rules RulesFrom(const shadowline::v1::CompareRules& declared);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CATALOG_COMPARE_RULES_H_
