#include "cache/redis/reply.h"

#include <hiredis/read.h>

#include <charconv>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace shadowline::cache {
namespace {

constexpr int kElementsMax = 1 << 18;

// hiredis builds a tree through these, top down. Objects live in the reader's root, so nothing is ever freed.
Reply* Place(const redisReadTask* task) {
  if (task->parent != nullptr) return &static_cast<Reply*>(task->parent->obj)->elements[task->idx];
  ReplyRoot* const root = static_cast<ReplyRoot*>(task->privdata);
  root->reply.elements.clear();
  root->elements = 0;
  return &root->reply;
}

void* CreateText(const redisReadTask* task, char* bytes, size_t length) {
  Reply* const reply = Place(task);
  reply->type = task->type == REDIS_REPLY_ERROR    ? Reply::Type::kError
                : task->type == REDIS_REPLY_STATUS ? Reply::Type::kStatus
                                                   : Reply::Type::kText;
  reply->text.assign(bytes, length);
  return reply;
}

void* CreateArray(const redisReadTask* task, int elements) {
  Reply* const reply = Place(task);
  ReplyRoot* const root = static_cast<ReplyRoot*>(task->privdata);
  // hiredis takes it for a lack of memory, which is what it would come to.
  if (elements > kElementsMax - root->elements) return nullptr;
  root->elements += elements;
  reply->type = Reply::Type::kArray;
  reply->elements.resize(elements);
  return reply;
}

void* CreateInteger(const redisReadTask* task, long long value) {  // NOLINT: hiredis' type
  Reply* const reply = Place(task);
  reply->type = Reply::Type::kInteger;
  reply->integer = value;
  return reply;
}

void* CreateNil(const redisReadTask* task) {
  Reply* const reply = Place(task);
  reply->type = Reply::Type::kNil;
  return reply;
}

void FreeNothing(void*) {}

redisReplyObjectFunctions functions = {CreateText, CreateArray, CreateInteger, CreateNil, FreeNothing};

void AppendNumber(std::string* out, char kind, size_t number) {
  char digits[24];
  digits[0] = kind;
  char* end = std::to_chars(digits + 1, digits + sizeof(digits) - 2, number).ptr;
  *end++ = '\r';
  *end++ = '\n';
  out->append(digits, end - digits);
}

template <typename Arguments>
void Append(std::string* out, const Arguments& command) {
  AppendNumber(out, '*', command.size());
  for (const auto& argument : command) {
    AppendNumber(out, '$', argument.size());
    out->append(argument.data(), argument.size());
    out->append("\r\n", 2);
  }
}

}  // namespace

ReplyReader::ReplyReader(size_t max_bytes)
    : max_bytes_(max_bytes), reader_(redisReaderCreateWithFunctions(&functions)) {
  reader_->privdata = &root_;
}

ReplyReader::~ReplyReader() { redisReaderFree(reader_); }

void ReplyReader::Feed(absl::string_view bytes) { redisReaderFeed(reader_, bytes.data(), bytes.size()); }

absl::StatusOr<Reply*> ReplyReader::Next() {
  void* reply = nullptr;
  if (redisReaderGetReply(reader_, &reply) != REDIS_OK) return absl::InternalError(reader_->errstr);
  if (reply == nullptr && reader_->len - reader_->pos > max_bytes_) {
    return absl::InternalError(absl::StrCat("a reply of more than ", max_bytes_, " bytes"));
  }
  return static_cast<Reply*>(reply);
}

void AppendCommand(std::string* out, std::initializer_list<absl::string_view> command) { Append(out, command); }

void AppendCommand(std::string* out, absl::Span<const std::string> command) { Append(out, command); }

}  // namespace shadowline::cache
