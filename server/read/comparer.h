// Comparer compares what the control said with what was served, as the endpoint's declaration in the catalog has it:
// under its rules. Differences are redacted; where the endpoint shows values, they are in `values` as well.
//
// Rules are compiled once for each catalog revision.
//
// Threads: compatible.
#ifndef SHADOWLINE_SERVER_READ_COMPARER_H_
#define SHADOWLINE_SERVER_READ_COMPARER_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "cache/catalog/catalog.h"
#include "cache/origin/control.h"
#include "diff/compare/compare.h"

namespace shadowline::server {

// A comparison whose differences are redacted.
struct Compared : diff::Comparison {
  // Both sides of each of `differences` as they are; of endpoints that show values alone.
  std::vector<std::pair<std::string, std::string>> values;
};

class Comparer {
 public:
  // `redaction_secret` is that of the digests that stand for values. Digests of two tenants cannot be compared.
  explicit Comparer(std::string redaction_secret) : redaction_secret_(std::move(redaction_secret)) {}

  Compared Compare(const cache::Query& query, const diff::Answer& control, const diff::Answer& candidate);

 private:
  const diff::CompiledRules& RulesOf(const cache::Query& query);

  const std::string redaction_secret_;
  std::shared_ptr<const cache::CompiledCatalog> catalog_;  // That the rules are of.
  absl::flat_hash_map<const cache::Endpoint*, diff::CompiledRules> rules_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_COMPARER_H_
