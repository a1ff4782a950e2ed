// Redis' replies: bytes that come in two pieces give what they give in one, and commands are read as they were written.
#include "cache/redis/reply.h"

#include <vector>

#include "tests/fuzz/check.h"

namespace shadowline::cache {
namespace {

constexpr size_t kMaxBytes = 1 << 20;

void Render(const Reply& reply, std::string* out) {
  out->append(std::to_string(static_cast<int>(reply.type)));
  if (reply.type == Reply::Type::kInteger) out->append(std::to_string(reply.integer));
  if (reply.type == Reply::Type::kText || reply.type == Reply::Type::kStatus || reply.type == Reply::Type::kError) {
    out->append(std::to_string(reply.text.size())).append(":").append(reply.text);
  }
  if (reply.type != Reply::Type::kArray) return;
  out->push_back('[');
  for (const Reply& element : reply.elements) Render(element, out);
  out->push_back(']');
}

// All replies that are complete; ends with '!' where the bytes are not Redis' protocol.
void ReadAll(ReplyReader* reader, std::string* out) {
  while (out->empty() || out->back() != '!') {
    const absl::StatusOr<Reply*> reply = reader->Next();
    if (!reply.ok()) {
      FUZZ_CHECK(absl::IsInternal(reply.status()));
      out->push_back('!');
      return;
    }
    if (*reply == nullptr) return;
    Render(**reply, out);
    out->push_back('\n');
  }
}

}  // namespace
}  // namespace shadowline::cache

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace shadowline::cache;
  const absl::string_view bytes = shadowline::fuzz::Text(data, size);
  std::string whole;
  ReplyReader reader(kMaxBytes);
  reader.Feed(bytes);
  ReadAll(&reader, &whole);

  std::string pieces;
  ReplyReader second(kMaxBytes);
  second.Feed(bytes.substr(0, size / 2));
  ReadAll(&second, &pieces);
  second.Feed(bytes.substr(size / 2));
  ReadAll(&second, &pieces);
  FUZZ_CHECK(whole == pieces);

  std::string command;
  AppendCommand(&command, {"SET", bytes, ""});
  ReplyReader third(kMaxBytes);
  third.Feed(command);
  const absl::StatusOr<Reply*> reply = third.Next();
  FUZZ_CHECK(reply.ok() && *reply != nullptr && (*reply)->elements.size() == 3);
  FUZZ_CHECK((*reply)->elements[1].text == bytes && (*reply)->elements[2].text.empty());
  return 0;
}
