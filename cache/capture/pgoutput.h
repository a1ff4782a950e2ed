// What PostgreSQL sends over a logical replication connection, from bytes to values: the frames of the copy stream, and
// in them the messages of the plugin `pgoutput`, protocol version 1 (transactions whole, in the order of their commits,
// values as text).
//
// Decoding trusts nothing: any bytes give an event or kInvalidArgument. Cells and WalData point into the bytes they
// were decoded from.
//
// Threads: pure.
#ifndef SHADOWLINE_CACHE_CAPTURE_PGOUTPUT_H_
#define SHADOWLINE_CACHE_CAPTURE_PGOUTPUT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "cache/capture/lsn.h"

namespace shadowline::cache {

// ---- Messages of the plugin

struct Begin {
  Lsn commit_lsn = 0;
  absl::Time committed_at;
  uint32_t xid = 0;
};

struct Commit {
  Lsn commit_lsn = 0;
  Lsn end_lsn = 0;  // Where the log goes on: everything of the transaction lies before.
  absl::Time committed_at;
};

struct RelationColumn {
  std::string name;
  uint32_t type = 0;      // pg_type.oid
  bool identity = false;  // Part of the replica identity; all columns are where that is FULL.
};

// Comes before the first change of a table, and again after its definition changed.
struct Relation {
  uint32_t id = 0;
  std::string schema;
  std::string table;
  std::vector<RelationColumn> columns;
};

struct Cell {
  enum class Kind : uint8_t {
    kNull,
    kUnchanged,  // A large value that the statement did not touch: it was not sent.
    kText,
  };
  Kind kind = Kind::kNull;
  absl::string_view text;
};

struct Row {
  // Only the columns of the replica identity are true; the others are sent as NULL, whatever they were.
  bool identity_only = false;
  std::vector<Cell> cells;  // As many as the relation's columns, or the change is refused by who knows the relation.
};

struct Change {
  // An insert has only `after`, a deletion only `before`. An update has `before` too where the replica identity is FULL
  // or one of its columns changed; without it, those columns are what they are in `after`.
  enum class Kind { kInsert, kUpdate, kDelete };
  Kind kind = Kind::kInsert;
  uint32_t relation = 0;
  std::optional<Row> before;
  std::optional<Row> after;
};

struct Truncate {
  std::vector<uint32_t> relations;
};

// Origin, Type, Message: nothing that a cache depends on.
struct Ignored {};

using Event = std::variant<Begin, Commit, Relation, Change, Truncate, Ignored>;

absl::StatusOr<Event> DecodeEvent(absl::string_view message);

// ---- Frames of the copy stream

struct WalData {
  Lsn start = 0;
  absl::string_view message;
};

struct Keepalive {
  Lsn end = 0;         // Every transaction that committed before it has been sent.
  bool reply = false;  // The server waits to hear that we live.
};

using Frame = std::variant<WalData, Keepalive>;

absl::StatusOr<Frame> DecodeFrame(absl::string_view frame);

// The answer: everything before `flushed` need not be sent again. `ask_reply`: the server shall send a keepalive at
// once.
std::string EncodeStatus(Lsn received, Lsn flushed, absl::Time now, bool ask_reply);

// ---- Transaction ids

// The 64-bit id of a recent transaction from the 32 bits that the stream carries; `reference` is any 64-bit id that was
// current within two thousand million transactions of it.
uint64_t ExtendXid(uint32_t xid, uint64_t reference);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CAPTURE_PGOUTPUT_H_
