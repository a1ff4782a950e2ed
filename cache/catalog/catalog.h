// The compiled catalog: what the read path needs of a catalog document, checked and immutable.
//
// Ownership: shared_ptr<const CompiledCatalog>; endpoints live as long as it does.
// Threads:   immutable.
#ifndef SHADOWLINE_CACHE_CATALOG_CATALOG_H_
#define SHADOWLINE_CACHE_CATALOG_CATALOG_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "shadowline/v1/catalog.pb.h"

namespace shadowline::cache {

enum class ParameterType { kText, kInteger, kNumber, kBoolean, kTextSet, kIntegerSet, kTextList, kIntegerList };

struct ParameterDecl {
  std::string name;
  ParameterType type = ParameterType::kText;
  std::optional<std::string> default_text;  // As bound: PostgreSQL's text form.
  bool fold_case = false;
  bool identity = false;
  uint32_t max_length = 1024;
};

enum class ResultShape { kRow, kRows };

// A piece of a tag template: literal text, or the parameter at `parameter`.
struct TagPiece {
  std::string literal;
  int parameter = -1;  // Index into Endpoint::parameters, -1 for a literal, -2 for the tenant.
};

struct Endpoint {
  std::string name;  // "family/endpoint"
  std::string family;
  std::string sql;                        // As declared, with :names replaced by $1.. ; $1 is always the tenant.
  std::vector<ParameterDecl> parameters;  // Sorted by name; parameters[i] is bound as $(i+2).
  ResultShape shape = ResultShape::kRow;
  absl::Duration freshness;
  absl::Duration ttl;
  absl::Duration negative_ttl;
  absl::Duration timeout;
  std::vector<std::vector<TagPiece>> tags;
  uint32_t schema = 1;
  shadowline::v1::CompareRules compare;
  bool show_values = false;  // Evidence is shown as it is instead of redacted.
  uint32_t compress_above = 4096;
  // Names the prepared statement: a digest over sql, shape and parameter types, so that revisions with the same
  // statement share it.
  std::string statement_id;
  // A digest over everything that a cached value depends on beside the arguments: statement, identity, tags. Part of
  // every key, so that replicas that run under different revisions never read each other's values of a changed
  // endpoint.
  std::string definition_id;
};

class CompiledCatalog {
 public:
  CompiledCatalog(uint64_t revision, shadowline::v1::Catalog document, std::vector<Endpoint> endpoints);

  uint64_t revision() const { return revision_; }
  const shadowline::v1::Catalog& document() const { return document_; }
  const std::vector<Endpoint>& endpoints() const { return endpoints_; }
  // Null: no such endpoint. `name` is "family/endpoint".
  const Endpoint* Find(absl::string_view name) const;

 private:
  const uint64_t revision_;
  const shadowline::v1::Catalog document_;
  const std::vector<Endpoint> endpoints_;
  absl::flat_hash_map<std::string, const Endpoint*> index_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CATALOG_CATALOG_H_
