// TagMap says what a change of a row makes wrong in the cache: the tags of the row that was and of the row that is, as
// the catalog's capture section maps them. A row that moves from one set to another therefore invalidates both.
//
// What cannot be known is never passed over: a template over a value that was not sent (an unchanged large one, or an
// old one outside the replica identity), a TRUNCATE, a row whose tenant nobody knows, a transaction with too many tags,
// a column that is gone. Each becomes a FamilyDrop of the families whose endpoints carry the tag.
//
// Values become the text that the endpoint's own parameters would become (cache/key/key.h), so that a tag of a change
// and the tag of a read are the same bytes. A value that no parameter accepts needs no tag: nobody can ask for it.
//
//   TagMap map(catalog, &lookup, 10'000);
//   RETURN_IF_ERROR(map.Learn(relation));          // as the stream brings it
//   RETURN_IF_ERROR(map.Map(change, &effects));    // adds to what the transaction has so far
//
// Ownership: borrows the lookup. Threads: compatible. Pure, but for what the lookup does.
// Errors:    kInvalidArgument: a change that its relation's description does not fit; the lookup's.
// Limits:    `tags_max` tags a transaction.
#ifndef SHADOWLINE_CACHE_CAPTURE_TAG_MAP_H_
#define SHADOWLINE_CACHE_CAPTURE_TAG_MAP_H_

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cache/capture/pgoutput.h"
#include "cache/capture/sink.h"
#include "cache/capture/tenant_lookup.h"
#include "cache/catalog/catalog.h"

namespace shadowline::cache {

class TagMap {
 public:
  TagMap(std::shared_ptr<const CompiledCatalog> catalog, TenantLookup* lookup, size_t tags_max);

  void Learn(const Relation& relation);
  absl::Status Map(const Change& change, Effects* effects);
  absl::Status Map(const Truncate& truncate, Effects* effects);

 private:
  // A relation that changes come for; `table` is null where the catalog does not name it.
  struct Bound {
    const CapturedTable* table = nullptr;
    size_t cells = 0;
    std::vector<int> cell;       // Of each of table->columns; -1: there is no such column.
    std::vector<uint32_t> type;  // pg_type.oid, likewise.
    std::vector<bool> identity;
  };
  // The values of table->columns in one row; nullopt: not known.
  using Values = std::vector<std::optional<Cell>>;

  absl::StatusOr<const Bound*> Find(uint32_t relation) const;
  static Values ReadValues(const Bound& bound, const Row& row, const Row* other);
  absl::Status AddRow(const Bound& bound, const Values& values, Effects* effects);
  // nullopt: not known. Empty: nobody's.
  absl::StatusOr<std::optional<std::string>> TenantOf(const Bound& bound, const Values& values);

  const std::shared_ptr<const CompiledCatalog> catalog_;
  TenantLookup* const lookup_;
  const size_t tags_max_;
  std::map<uint32_t, Bound> bound_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CAPTURE_TAG_MAP_H_
