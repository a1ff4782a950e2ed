// Where a Redis is: "unix:/run/redis.sock", "host:port" or "[ipv6]:port".
#ifndef SHADOWLINE_CACHE_REDIS_ADDRESS_H_
#define SHADOWLINE_CACHE_REDIS_ADDRESS_H_

#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace shadowline::cache {

// An address that a socket can be connected to.
struct SocketAddress {
  sockaddr_storage storage = {};
  socklen_t length = 0;
};

class RedisAddress {
 public:
  // kInvalidArgument: says what was expected.
  static absl::StatusOr<RedisAddress> Parse(absl::string_view text);

  // A host, IPv6 without brackets, and its port.
  static absl::StatusOr<RedisAddress> Of(absl::string_view host, absl::string_view port);

  // Without brackets; empty for a unix socket.
  const std::string& host() const { return host_; }
  const std::string& text() const { return text_; }
  // Whether Resolve() has to ask for a name, hence may block for seconds.
  bool named() const { return named_; }
  // A name may have several addresses: attempt after attempt goes to the next. kUnavailable: it has none at present.
  absl::StatusOr<SocketAddress> Resolve(uint32_t attempt = 0) const;

 private:
  std::string text_;
  std::string path_;  // A unix socket, or empty.
  std::string host_;
  std::string port_;
  bool named_ = false;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_REDIS_ADDRESS_H_
