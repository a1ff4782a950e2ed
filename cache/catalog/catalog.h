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

namespace shadowline::diff {
class MessageReader;
}

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

// Where an application keeps its own answers, and how they are read.
struct ExternalCache {
  enum class Format { kJson, kEnvelope, kProtobuf };
  enum class Compression { kNone, kGzip, kZstd };

  std::vector<TagPiece> key;
  // Every byte between two values of the key that is neither a letter nor a digit. A read with one of them in a value
  // has no key: another read could have the same.
  std::string delimiters;
  Format format = Format::kJson;
  std::shared_ptr<const diff::MessageReader> message;  // kProtobuf.
  std::string payload;                                 // JSON Pointers into an envelope, or a message.
  std::string version;
  Compression compression = Compression::kNone;
  std::optional<std::string> not_found;
  // The key may be another read's as well: its value is verified, and never served.
  bool partial_key = false;
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
  bool captured = false;  // The family is invalidated by change capture.
  bool near = false;
  bool refresh_early = true;
  bool stale_while_revalidate = false;
  uint32_t warm = 0;                      // Keys of a tag that are loaded again after an invalidation.
  std::optional<ExternalCache> external;  // The application fills the cache.
  std::string owner;                      // Where the answer names its tenant; empty: nowhere.
  bool authorization = false;             // The answer decides who may do or see what.
  std::string committed_at;               // Where the answer says when it was committed; empty: nowhere.
  std::string row_version;                // Where it says which version it is, an integer that grows; empty: nowhere.
  uint32_t noise_ppm = 10'000;            // Share of the verified reads whose control is read twice.
  bool observed = false;                  // The application reads both sides; there is no statement.
  absl::Duration evidence_ttl;            // How long shown values are kept.
  // Names the prepared statement: a digest over sql, shape and parameter types, so that revisions with the same
  // statement share it.
  std::string statement_id;
  // A digest over everything that a cached value depends on beside the arguments: statement, identity, tags. Part of
  // every key, so that replicas that run under different revisions never read each other's values of a changed
  // endpoint.
  std::string definition_id;
};

// A piece of a template over the columns of a table.
struct CapturePiece {
  static constexpr int kLiteral = -1;
  static constexpr int kTenant = -2;

  std::string literal;
  int column = kLiteral;  // Index into CapturedTable::columns.
  ParameterDecl form;     // The parameter whose canonical text the column's value takes.
};

struct CapturedTag {
  std::vector<CapturePiece> pieces;
  std::vector<std::string> families;  // Whose endpoints carry the tag.
};

// A table whose changes invalidate tags (cache/capture/tag_map.h).
struct CapturedTable {
  std::string name;                  // "schema.table", as PostgreSQL has them.
  std::vector<std::string> columns;  // That templates use.
  std::vector<CapturePiece> tenant;  // Empty: its rows are every tenant's.
  std::string tenant_sql;            // Turns what `tenant` fills in, as $1, into the tenant. Empty: it is the tenant.
  // A declared tag is here once for each way in which endpoints write its parameters.
  std::vector<CapturedTag> tags;
  std::vector<std::string> families;  // What is dropped where no tag can be known.
};

class CompiledCatalog {
 public:
  CompiledCatalog(uint64_t revision, shadowline::v1::Catalog document, std::vector<Endpoint> endpoints,
                  std::vector<CapturedTable> captured = {});

  uint64_t revision() const { return revision_; }
  const shadowline::v1::Catalog& document() const { return document_; }
  const std::vector<Endpoint>& endpoints() const { return endpoints_; }
  // Sorted by name.
  const std::vector<CapturedTable>& captured() const { return captured_; }
  // A digest: equal for equal maps, of tables and of what their values are made into.
  const std::string& capture_map() const { return capture_map_; }
  // Some endpoint is served from near caches.
  bool any_near() const { return any_near_; }
  // Null: no such endpoint. `name` is "family/endpoint".
  const Endpoint* Find(absl::string_view name) const;

 private:
  const uint64_t revision_;
  const shadowline::v1::Catalog document_;
  const std::vector<Endpoint> endpoints_;
  const std::vector<CapturedTable> captured_;
  const std::string capture_map_;
  bool any_near_ = false;
  absl::flat_hash_map<std::string, const Endpoint*> index_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CATALOG_CATALOG_H_
