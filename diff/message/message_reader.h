// MessageReader turns a serialized Protobuf message into the JSON text that Compare takes, so that answers that are
// messages are compared by field, under the same rules.
//
//   ASSIGN_OR_RETURN(auto reader, MessageReader::Create(descriptor_set, "shop.v1.Quote"));
//   ASSIGN_OR_RETURN(std::string json, reader->ToJson(bytes));   // {"id":7,"price":"1.50","tags":["a"]}
//
// What becomes of a field:
// - Members have the fields' names as the .proto file has them; extensions "[full.name]".
// - Integers of all sizes are numbers, exact; float and double the shortest number that reads back the same; NaN,
//   Infinity and -Infinity texts. bytes are Base64 texts. An enum is its value's name, or the number if it has none.
// - A map is an object. Repeated fields are arrays.
// - A field without presence (proto3's plain fields, repeated, map) is always there, with its default where the bytes
//   have none: the two are one message. A field with presence (optional, oneof, messages, proto2) is there when it is
//   set, its default included.
// - google.protobuf.Timestamp is an RFC 3339 text in UTC, and a wrapper (StringValue, ...) the value in it. Other
//   well-known types are messages like any other.
// - What the descriptor does not know is under "#unknown", by number, so that a difference in it is found: varints and
//   fixed numbers as unsigned numbers, all else as Base64; several of one number as an array.
//
// Threads: immutable, thread-safe.
// Limits:  kMaxMessageJsonBytes, or the caller's fewer, of text; Protobuf's own 100 levels.
#ifndef SHADOWLINE_DIFF_MESSAGE_MESSAGE_READER_H_
#define SHADOWLINE_DIFF_MESSAGE_MESSAGE_READER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace shadowline::diff {

inline constexpr size_t kMaxMessageJsonBytes = 16 << 20;

class MessageReader {
 public:
  // `descriptor_set` is a serialized google.protobuf.FileDescriptorSet, with all imports in it (protoc
  // --include_imports --descriptor_set_out); `message` the full name of a message.
  // kInvalidArgument: no descriptor set, or a file of it is wrong or imports what is not there: it is named. kNotFound:
  // there is no such message.
  static absl::StatusOr<std::shared_ptr<const MessageReader>> Create(absl::string_view descriptor_set,
                                                                     absl::string_view message);
  ~MessageReader();

  // kDataLoss: the bytes are no such message (cut short, deeper than the limit, a text that is not UTF-8, a required
  // field missing). kResourceExhausted: they, or their JSON, are larger than `max_bytes`. Neither repeats what is
  // there.
  absl::StatusOr<std::string> ToJson(absl::string_view bytes, size_t max_bytes = kMaxMessageJsonBytes) const;

 private:
  struct Impl;
  explicit MessageReader(std::unique_ptr<const Impl> impl);

  const std::unique_ptr<const Impl> impl_;
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_MESSAGE_MESSAGE_READER_H_
