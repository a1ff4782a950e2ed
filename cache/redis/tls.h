// TLS for connections to Redis. A TlsSession only turns bytes into bytes; the socket stays its connection's own.
//
// Whoever answers has to show a certificate that leads to a trusted authority, for the very name or address that was
// meant. There is no way to leave that out.
//
// Threads: a TlsContext is thread-safe; a TlsSession compatible (one thread at a time).
#ifndef SHADOWLINE_CACHE_REDIS_TLS_H_
#define SHADOWLINE_CACHE_REDIS_TLS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct ssl_ctx_st;
struct ssl_st;

namespace shadowline::cache {

// What is trusted, and what is shown.
class TlsContext {
 public:
  struct Options {
    std::string ca;           // A file of certificates in PEM. Empty: the system's.
    std::string certificate;  // A file with a chain in PEM, for servers that ask for one; and its key. Empty: none.
    std::string key;
    std::string server_name;  // What certificates have to be for, instead of the host that was connected to.
  };

  // kInvalidArgument: a file cannot be read, is not what it should be, or does not belong to another one.
  static absl::StatusOr<std::shared_ptr<const TlsContext>> Load(const Options& options);

  explicit TlsContext(std::string server_name);
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;
  ~TlsContext();

 private:
  friend class TlsSession;

  ssl_ctx_st* const context_;
  const std::string server_name_;
};

class TlsSession {
 public:
  // As the client of `host`, a name or an address.
  TlsSession(std::shared_ptr<const TlsContext> context, const std::string& host);
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;
  ~TlsSession();

  // Both fail with kUnavailable: the handshake was refused, by which side and why; or this is no TLS. What `sealed` got
  // is worth sending even then.
  //
  // Takes what `plain` holds, once the handshake is over, and appends to `sealed` what has to be sent now.
  absl::Status Seal(std::string* plain, std::string* sealed);
  // Takes what was received, and appends to `plain` what it says. A Seal is due afterwards.
  absl::Status Open(absl::string_view sealed, std::string* plain);

 private:
  // What the last call, which returned `result`, came to; OK where it only needs more bytes.
  absl::Status Outcome(int result) const;

  const std::shared_ptr<const TlsContext> context_;
  ssl_st* const session_;
  absl::Status refused_;  // Without a name there is nothing to verify.
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_REDIS_TLS_H_
