// Writes the messages of a replication stream as PostgreSQL does, for tests of what reads them.
#ifndef SHADOWLINE_TESTS_CAPTURE_MESSAGES_H_
#define SHADOWLINE_TESTS_CAPTURE_MESSAGES_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace shadowline::cache {

class Bytes {
 public:
  Bytes& Number(uint64_t number, int size) {
    for (int shift = 8 * (size - 1); shift >= 0; shift -= 8) bytes_.push_back(static_cast<char>(number >> shift));
    return *this;
  }
  Bytes& Byte(char byte) { return Number(static_cast<uint8_t>(byte), 1); }
  Bytes& Short(uint64_t number) { return Number(number, 2); }
  Bytes& Int(uint64_t number) { return Number(number, 4); }
  Bytes& Long(uint64_t number) { return Number(number, 8); }
  Bytes& Text(absl::string_view text) {
    bytes_.append(text.data(), text.size());
    return Byte(0);
  }
  Bytes& Raw(absl::string_view text) {
    bytes_.append(text.data(), text.size());
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

struct ColumnBytes {
  const char* name;
  uint32_t type;
  bool identity;
};

inline std::string BeginBytes(uint32_t xid, uint64_t lsn = 100) {
  return Bytes().Byte('B').Long(lsn).Long(1'000'000).Int(xid).bytes();
}

inline std::string CommitBytes(uint64_t end, uint64_t lsn = 100) {
  return Bytes().Byte('C').Byte(0).Long(lsn).Long(end).Long(1'000'000).bytes();
}

inline std::string RelationBytes(uint32_t id, absl::string_view schema, absl::string_view table,
                                 const std::vector<ColumnBytes>& columns) {
  Bytes bytes;
  bytes.Byte('R').Int(id).Text(schema).Text(table).Byte('d').Short(columns.size());
  for (const ColumnBytes& column : columns) {
    bytes.Byte(column.identity ? 1 : 0).Text(column.name).Int(column.type).Int(0xffffffff);
  }
  return bytes.bytes();
}

// A value of a row; null stands for NULL, "\x01" for one that was not sent because it did not change.
inline constexpr const char* kToasted = "\x01";
using RowBytes = std::vector<const char*>;

inline std::string Tuple(char kind, const RowBytes& row) {
  Bytes bytes;
  bytes.Byte(kind).Short(row.size());
  for (const char* value : row) {
    if (value == nullptr) {
      bytes.Byte('n');
    } else if (absl::string_view(value) == kToasted) {
      bytes.Byte('u');
    } else {
      bytes.Byte('t').Int(absl::string_view(value).size()).Raw(value);
    }
  }
  return bytes.bytes();
}

inline std::string InsertBytes(uint32_t id, const RowBytes& row) {
  return Bytes().Byte('I').Int(id).Raw(Tuple('N', row)).bytes();
}
// `old_kind`: 'K' for the replica identity alone, 'O' for the whole row.
inline std::string UpdateBytes(uint32_t id, char old_kind, const RowBytes& before, const RowBytes& after) {
  return Bytes().Byte('U').Int(id).Raw(Tuple(old_kind, before)).Raw(Tuple('N', after)).bytes();
}
inline std::string UpdateBytes(uint32_t id, const RowBytes& after) {
  return Bytes().Byte('U').Int(id).Raw(Tuple('N', after)).bytes();
}
inline std::string DeleteBytes(uint32_t id, char old_kind, const RowBytes& before) {
  return Bytes().Byte('D').Int(id).Raw(Tuple(old_kind, before)).bytes();
}
inline std::string TruncateBytes(std::initializer_list<uint32_t> ids) {
  Bytes bytes;
  bytes.Byte('T').Int(ids.size()).Byte(1);
  for (const uint32_t id : ids) bytes.Int(id);
  return bytes.bytes();
}

}  // namespace shadowline::cache

#endif  // SHADOWLINE_TESTS_CAPTURE_MESSAGES_H_
