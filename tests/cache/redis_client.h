// A blocking connection to a Redis, for tests.
#ifndef SHADOWLINE_TESTS_CACHE_REDIS_CLIENT_H_
#define SHADOWLINE_TESTS_CACHE_REDIS_CLIENT_H_

#include <sys/socket.h>
#include <unistd.h>

#include <initializer_list>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "cache/redis/address.h"
#include "cache/redis/reply.h"
#include "gtest/gtest.h"

namespace shadowline::cache {

class RedisClient {
 public:
  explicit RedisClient(const std::string& unix_socket) {
    const SocketAddress address = RedisAddress::Parse(absl::StrCat("unix:", unix_socket)).value().Resolve().value();
    descriptor_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(connect(descriptor_, reinterpret_cast<const sockaddr*>(&address.storage), address.length), 0);
  }
  RedisClient(const RedisClient&) = delete;
  RedisClient& operator=(const RedisClient&) = delete;
  ~RedisClient() { close(descriptor_); }

  Reply Command(std::initializer_list<absl::string_view> command) {
    std::string out;
    AppendCommand(&out, command);
    EXPECT_EQ(send(descriptor_, out.data(), out.size(), MSG_NOSIGNAL), static_cast<ssize_t>(out.size()));
    while (true) {
      if (Reply* reply = reader_.Next().value()) return *reply;
      char bytes[4096];
      const ssize_t got = recv(descriptor_, bytes, sizeof(bytes), 0);
      if (got <= 0) {
        ADD_FAILURE() << "Redis closed the connection";
        return Reply();
      }
      reader_.Feed({bytes, static_cast<size_t>(got)});
    }
  }

 private:
  int descriptor_ = -1;
  ReplyReader reader_{64 << 20};
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_TESTS_CACHE_REDIS_CLIENT_H_
