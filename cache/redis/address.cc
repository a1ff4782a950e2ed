#include "cache/redis/address.h"

#include <netdb.h>
#include <sys/un.h>

#include <cstring>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace shadowline::cache {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

// The addresses of a host; `flags` AI_NUMERICHOST never asks for a name. Null, and `*error`, where there is none.
Addresses Look(const std::string& host, const std::string& port, int flags, int* error) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  *error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  return Addresses(*error == 0 ? found : nullptr, &freeaddrinfo);
}

}  // namespace

absl::StatusOr<RedisAddress> RedisAddress::Parse(absl::string_view text) {
  const absl::Status refused = absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is no address of a Redis: expected unix:/path, host:port or [ipv6]:port"));
  RedisAddress address;
  address.text_ = std::string(text);
  absl::string_view rest = text;
  if (absl::ConsumePrefix(&rest, "unix:")) {
    if (rest.empty() || rest.size() >= sizeof(sockaddr_un::sun_path)) return refused;
    address.path_ = std::string(rest);
    return address;
  }
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return refused;
  absl::string_view host = text.substr(0, colon);
  if (absl::ConsumePrefix(&host, "[")) {
    if (!absl::ConsumeSuffix(&host, "]")) return refused;
  } else if (host.find(':') != absl::string_view::npos) {
    return refused;
  }
  uint32_t port = 0;
  if (host.empty() || !absl::SimpleAtoi(text.substr(colon + 1), &port) || port == 0 || port > 65535) return refused;
  address.host_ = std::string(host);
  address.port_ = absl::StrCat(port);
  int error = 0;
  address.named_ = Look(address.host_, address.port_, AI_NUMERICHOST, &error) == nullptr;
  return address;
}

absl::StatusOr<RedisAddress> RedisAddress::Of(absl::string_view host, absl::string_view port) {
  const bool brackets = host.find(':') != absl::string_view::npos;
  return Parse(brackets ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port));
}

absl::StatusOr<SocketAddress> RedisAddress::Resolve(uint32_t attempt) const {
  SocketAddress address;
  if (!path_.empty()) {
    sockaddr_un local = {};
    local.sun_family = AF_UNIX;
    std::memcpy(local.sun_path, path_.data(), path_.size());
    std::memcpy(&address.storage, &local, sizeof(local));
    address.length = sizeof(local);
    return address;
  }
  int error = 0;
  const Addresses found = Look(host_, port_, 0, &error);
  if (found == nullptr)
    return absl::UnavailableError(absl::StrCat("cannot resolve ", host_, ": ", gai_strerror(error)));
  const addrinfo* chosen = found.get();
  for (; attempt > 0; --attempt) chosen = chosen->ai_next != nullptr ? chosen->ai_next : found.get();
  std::memcpy(&address.storage, chosen->ai_addr, chosen->ai_addrlen);
  address.length = chosen->ai_addrlen;
  return address;
}

}  // namespace shadowline::cache
