// What Redis answers, and the reader that makes it from bytes: hiredis' protocol parser, building into one reused
// Reply.
//
// Threads: compatible (one thread at a time).
#ifndef SHADOWLINE_CACHE_REDIS_REPLY_H_
#define SHADOWLINE_CACHE_REDIS_REPLY_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

struct redisReader;

namespace shadowline::cache {

struct Reply {
  enum class Type { kNil, kText, kStatus, kError, kInteger, kArray };

  Type type = Type::kNil;
  int64_t integer = 0;
  std::string text;  // kText, kStatus, kError.
  std::vector<Reply> elements;
};

// A reply that is being built.
struct ReplyRoot {
  Reply reply;
  int elements = 0;  // Of all its arrays.
};

class ReplyReader {
 public:
  // A reply that needs more than `max_bytes` is refused, and one whose arrays, inside each other, claim more than 2^18
  // elements: each is room that a dozen bytes can ask for.
  explicit ReplyReader(size_t max_bytes);
  ReplyReader(const ReplyReader&) = delete;
  ReplyReader& operator=(const ReplyReader&) = delete;
  ~ReplyReader();

  void Feed(absl::string_view bytes);
  // The next reply, valid until the next call; null: it is not complete yet. kInternal: this is not Redis' protocol, or
  // too large; the reader is of no use afterwards.
  absl::StatusOr<Reply*> Next();

 private:
  const size_t max_bytes_;
  redisReader* const reader_;
  ReplyRoot root_;
};

// Appends `command` and its arguments as Redis' protocol wants them.
void AppendCommand(std::string* out, std::initializer_list<absl::string_view> command);
void AppendCommand(std::string* out, absl::Span<const std::string> command);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_REDIS_REPLY_H_
