#include "cache/catalog/catalog.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/hash.h"

namespace shadowline::cache {
namespace {

std::string MapDigest(const std::vector<CapturedTable>& captured) {
  std::string text;
  const auto add = [&text](absl::string_view part) { absl::StrAppend(&text, part.size(), ":", part); };
  const auto add_pieces = [&](const std::vector<CapturePiece>& pieces) {
    for (const CapturePiece& piece : pieces) {
      add(piece.literal);
      add(absl::StrCat(piece.column, ",", static_cast<int>(piece.form.type), ",", piece.form.fold_case));
    }
    add("");
  };
  for (const CapturedTable& table : captured) {
    add(table.name);
    for (const std::string& column : table.columns) add(column);
    add_pieces(table.tenant);
    add(table.tenant_sql);
    for (const CapturedTag& tag : table.tags) {
      add_pieces(tag.pieces);
      for (const std::string& family : tag.families) add(family);
    }
    for (const std::string& family : table.families) add(family);
  }
  return absl::BytesToHexString(base::Digest128(text));
}

}  // namespace

CompiledCatalog::CompiledCatalog(uint64_t revision, shadowline::v1::Catalog document, std::vector<Endpoint> endpoints,
                                 std::vector<CapturedTable> captured)
    : revision_(revision),
      document_(std::move(document)),
      endpoints_(std::move(endpoints)),
      captured_(std::move(captured)),
      capture_map_(MapDigest(captured_)) {
  index_.reserve(endpoints_.size());
  for (const Endpoint& endpoint : endpoints_) {
    index_.emplace(endpoint.name, &endpoint);
    any_near_ = any_near_ || endpoint.near;
  }
}

const Endpoint* CompiledCatalog::Find(absl::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : found->second;
}

}  // namespace shadowline::cache
