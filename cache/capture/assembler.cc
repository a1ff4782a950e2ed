#include "cache/capture/assembler.h"

#include <utility>

#include "base/status.h"

namespace shadowline::cache {
namespace {

absl::Status OutOfPlace(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("the replication stream has ", what));
}

}  // namespace

Assembler::Assembler(std::shared_ptr<const CompiledCatalog> catalog, TenantLookup* lookup, size_t tags_max)
    : map_(std::move(catalog), lookup, tags_max) {}

absl::StatusOr<std::optional<Transaction>> Assembler::Feed(const Event& event) {
  std::optional<Transaction> whole;
  if (const auto* begin = std::get_if<Begin>(&event)) {
    if (open()) return OutOfPlace("a transaction within a transaction");
    open_ = Transaction{.xid = ExtendXid(begin->xid, current_xid_), .committed_at = begin->committed_at};
  } else if (const auto* commit = std::get_if<Commit>(&event)) {
    if (!open()) return OutOfPlace("the end of a transaction that did not begin");
    open_->end_lsn = commit->end_lsn;
    whole = std::exchange(open_, std::nullopt);
  } else if (const auto* relation = std::get_if<Relation>(&event)) {
    map_.Learn(*relation);
  } else if (const auto* change = std::get_if<Change>(&event)) {
    if (!open()) return OutOfPlace("a change outside of a transaction");
    RETURN_IF_ERROR(map_.Map(*change, &open_->effects));
  } else if (const auto* truncate = std::get_if<Truncate>(&event)) {
    if (!open()) return OutOfPlace("a change outside of a transaction");
    RETURN_IF_ERROR(map_.Map(*truncate, &open_->effects));
  }
  return whole;
}

}  // namespace shadowline::cache
