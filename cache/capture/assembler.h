// Assembler makes transactions of the stream's messages: it begins at Begin, gathers the effects of every change, and
// has a transaction to hand over at Commit.
//
// Ownership: borrows the lookup. Threads: compatible.
// Errors:    kInvalidArgument: the messages are not those of a stream; the lookup's. Either ends the stream: begin
// again with
//            another assembler, since tables are described anew on every connection.
#ifndef SHADOWLINE_CACHE_CAPTURE_ASSEMBLER_H_
#define SHADOWLINE_CACHE_CAPTURE_ASSEMBLER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "cache/capture/pgoutput.h"
#include "cache/capture/sink.h"
#include "cache/capture/tag_map.h"

namespace shadowline::cache {

class Assembler {
 public:
  Assembler(std::shared_ptr<const CompiledCatalog> catalog, TenantLookup* lookup, size_t tags_max);

  // Any 64-bit transaction id of the last days; needed before the first transaction, and again now and then.
  void SetCurrentXid(uint64_t xid) { current_xid_ = xid; }

  // A transaction that is whole now: with no effects where nothing in it is cached.
  absl::StatusOr<std::optional<Transaction>> Feed(const Event& event);

  // A transaction has begun that has not ended yet.
  bool open() const { return open_.has_value(); }

 private:
  TagMap map_;
  uint64_t current_xid_ = 0;
  std::optional<Transaction> open_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CAPTURE_ASSEMBLER_H_
