#include "cache/capture/pgoutput.h"

#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace shadowline::cache {
namespace {

// PostgreSQL counts microseconds from the year 2000.
absl::Time PostgresEpoch() { return absl::FromUnixSeconds(946'684'800); }

// Reads big-endian fields in turn. Once something was missing every further field is zero or empty, and Result says so:
// a caller checks once, at the end, and before it lets a number decide how much it does.
class Reader {
 public:
  explicit Reader(absl::string_view bytes) : left_(bytes) {}

  uint8_t Byte() { return static_cast<uint8_t>(Number(1)); }
  uint16_t Short() { return static_cast<uint16_t>(Number(2)); }
  uint32_t Int() { return static_cast<uint32_t>(Number(4)); }
  uint64_t Long() { return Number(8); }
  absl::Time Time() { return PostgresEpoch() + absl::Microseconds(static_cast<int64_t>(Long())); }

  absl::string_view Bytes(size_t count) {
    if (count > left_.size()) {
      complete_ = false;
      count = 0;
    }
    const absl::string_view bytes = left_.substr(0, count);
    left_.remove_prefix(count);
    return bytes;
  }

  // Up to a zero byte.
  absl::string_view Text() {
    const size_t end = left_.find('\0');
    if (end == absl::string_view::npos) {
      complete_ = false;
      return {};
    }
    const absl::string_view text = Bytes(end);
    left_.remove_prefix(1);
    return text;
  }

  absl::string_view Rest() { return std::exchange(left_, {}); }
  bool complete() const { return complete_; }

  absl::Status Result(absl::string_view what) const {
    if (!complete_) return absl::InvalidArgumentError(absl::StrCat(what, " of the replication stream is cut short"));
    if (!left_.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, " of the replication stream is followed by ", left_.size(), " unknown bytes"));
    }
    return absl::OkStatus();
  }

 private:
  uint64_t Number(size_t size) {
    uint64_t number = 0;
    const absl::string_view bytes = Bytes(size);
    for (const char c : bytes) number = number << 8 | static_cast<uint8_t>(c);
    return number;
  }

  absl::string_view left_;
  bool complete_ = true;
};

absl::Status Unknown(absl::string_view what, uint8_t code) {
  return absl::InvalidArgumentError(
      absl::StrCat("the replication stream has an unknown ", what, ", code ", static_cast<int>(code)));
}

absl::StatusOr<Row> ReadRow(bool identity_only, Reader* reader) {
  Row row;
  row.identity_only = identity_only;
  const uint16_t count = reader->Short();
  for (uint16_t i = 0; i < count && reader->complete(); ++i) {
    const uint8_t kind = reader->Byte();
    if (kind == 'n') {
      row.cells.push_back({Cell::Kind::kNull, {}});
    } else if (kind == 'u') {
      row.cells.push_back({Cell::Kind::kUnchanged, {}});
    } else if (kind == 't') {
      const uint32_t size = reader->Int();
      row.cells.push_back({Cell::Kind::kText, reader->Bytes(size)});
    } else if (reader->complete()) {
      return Unknown("kind of value", kind);  // Binary values are not asked for.
    }
  }
  return row;
}

absl::StatusOr<Event> ReadRelation(Reader* reader) {
  Relation relation;
  relation.id = reader->Int();
  relation.schema = std::string(reader->Text());
  relation.table = std::string(reader->Text());
  if (relation.schema.empty()) relation.schema = "pg_catalog";
  reader->Byte();  // The kind of replica identity; which columns it has is said by each of them.
  const uint16_t count = reader->Short();
  for (uint16_t i = 0; i < count && reader->complete(); ++i) {
    RelationColumn& column = relation.columns.emplace_back();
    column.identity = (reader->Byte() & 1) != 0;
    column.name = std::string(reader->Text());
    column.type = reader->Int();
    reader->Int();  // The type's modifier.
  }
  RETURN_IF_ERROR(reader->Result("the description of a table"));
  return relation;
}

absl::StatusOr<Event> ReadChange(Change::Kind kind, Reader* reader) {
  Change change;
  change.kind = kind;
  change.relation = reader->Int();
  uint8_t part = reader->Byte();
  if (kind != Change::Kind::kInsert && (part == 'K' || part == 'O')) {
    ASSIGN_OR_RETURN(change.before, ReadRow(part == 'K', reader));
    if (kind == Change::Kind::kUpdate) part = reader->Byte();
  }
  if (kind != Change::Kind::kDelete && part == 'N') {
    ASSIGN_OR_RETURN(change.after, ReadRow(false, reader));
  }
  RETURN_IF_ERROR(reader->Result("a change"));
  if ((kind == Change::Kind::kDelete ? change.before : change.after).has_value()) return change;
  return Unknown("part of a change", part);
}

absl::StatusOr<Event> ReadTruncate(Reader* reader) {
  Truncate truncate;
  const uint32_t count = reader->Int();
  reader->Byte();  // CASCADE, RESTART IDENTITY: the tables are all listed anyway.
  for (uint32_t i = 0; i < count && reader->complete(); ++i) truncate.relations.push_back(reader->Int());
  RETURN_IF_ERROR(reader->Result("a TRUNCATE"));
  return truncate;
}

}  // namespace

absl::StatusOr<Event> DecodeEvent(absl::string_view message) {
  Reader reader(message);
  const uint8_t kind = reader.Byte();
  switch (kind) {
    case 'B': {
      Begin begin;
      begin.commit_lsn = reader.Long();
      begin.committed_at = reader.Time();
      begin.xid = reader.Int();
      RETURN_IF_ERROR(reader.Result("the begin of a transaction"));
      return begin;
    }
    case 'C': {
      Commit commit;
      reader.Byte();  // Flags: none are defined.
      commit.commit_lsn = reader.Long();
      commit.end_lsn = reader.Long();
      commit.committed_at = reader.Time();
      RETURN_IF_ERROR(reader.Result("the end of a transaction"));
      return commit;
    }
    case 'R':
      return ReadRelation(&reader);
    case 'I':
      return ReadChange(Change::Kind::kInsert, &reader);
    case 'U':
      return ReadChange(Change::Kind::kUpdate, &reader);
    case 'D':
      return ReadChange(Change::Kind::kDelete, &reader);
    case 'T':
      return ReadTruncate(&reader);
    case 'O':
    case 'Y':
    case 'M':
      return Ignored{};
    default:
      return Unknown("message", kind);
  }
}

absl::StatusOr<Frame> DecodeFrame(absl::string_view frame) {
  Reader reader(frame);
  const uint8_t kind = reader.Byte();
  if (kind == 'w') {
    WalData data;
    data.start = reader.Long();
    reader.Long();  // The end of the log, on the server.
    reader.Long();  // The server's clock.
    data.message = reader.Rest();
    RETURN_IF_ERROR(reader.Result("a frame"));
    return data;
  }
  if (kind == 'k') {
    Keepalive keepalive;
    keepalive.end = reader.Long();
    reader.Long();  // The server's clock.
    keepalive.reply = reader.Byte() != 0;
    RETURN_IF_ERROR(reader.Result("a keepalive"));
    return keepalive;
  }
  return Unknown("frame", kind);
}

std::string EncodeStatus(Lsn received, Lsn flushed, absl::Time now, bool ask_reply) {
  std::string bytes = "r";
  const auto append = [&bytes](uint64_t number) {
    for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(number >> shift));
  };
  append(received);
  append(flushed);
  append(flushed);  // Applied.
  append(static_cast<uint64_t>(absl::ToInt64Microseconds(now - PostgresEpoch())));
  bytes.push_back(ask_reply ? 1 : 0);
  return bytes;
}

uint64_t ExtendXid(uint32_t xid, uint64_t reference) {
  // The nearest to `reference` of all numbers that end in these bits.
  const auto distance = static_cast<int32_t>(xid - static_cast<uint32_t>(reference));
  const int64_t extended = static_cast<int64_t>(reference) + distance;
  return extended < 0 ? xid : static_cast<uint64_t>(extended);
}

}  // namespace shadowline::cache
