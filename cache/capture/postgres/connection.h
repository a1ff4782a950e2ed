// Connection is one session with PostgreSQL on libpq itself: libpqxx has no replication, and cannot be waited for
// together with other sockets.
//
// Every call ends when `stop` becomes readable (kCancelled), and after the timeout (kUnavailable). After any error of
// the connection itself, make another.
//
// Threads: compatible. Errors: base::StatusCodeOf(SQLSTATE); SqlState() tells which one.
#ifndef SHADOWLINE_CACHE_CAPTURE_POSTGRES_CONNECTION_H_
#define SHADOWLINE_CACHE_CAPTURE_POSTGRES_CONNECTION_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"

struct pg_conn;  // libpq's PGconn.

namespace shadowline::cache {

// The five characters of the error that PostgreSQL gave; empty for an error that is not PostgreSQL's.
std::string SqlState(const absl::Status& status);

// `name` as an SQL identifier, `text` as an SQL literal, for statements that take no parameters.
std::string QuoteName(absl::string_view name);
std::string QuoteText(absl::string_view text);

class Connection {
 public:
  struct Options {
    std::string connection_string;  // libpq's: a URL, or keywords.
    std::string application_name;
    bool replication = false;  // Speaks the replication protocol; statements have no parameters then.
    int stop = -1;             // A descriptor; -1: nothing stops it.
    absl::Duration timeout = absl::Seconds(10);
  };
  using Rows = std::vector<std::vector<std::optional<std::string>>>;

  static absl::StatusOr<std::unique_ptr<Connection>> Open(const Options& options, const base::Clock* clock);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  // Runs it and waits. Parameters are $1, $2, ..., as texts; without them there may be several statements, and the
  // answer is the last one's. `timeout` instead of the connection's own.
  absl::StatusOr<Rows> Query(const std::string& sql, const std::vector<std::string>& parameters = {},
                             std::optional<absl::Duration> timeout = std::nullopt);

  // The same in two steps, for who waits for other things too: nullopt while there is no answer yet. One at a time.
  absl::Status Send(const std::string& sql, const std::vector<std::string>& parameters = {});
  absl::StatusOr<std::optional<Rows>> Receive();

  // Whether a notification has come since the last call, for a session that LISTENs; or what they carry, in their
  // order.
  absl::StatusOr<bool> TakeNotifications();
  absl::StatusOr<std::vector<std::string>> TakePayloads();

  // Runs a statement after which both sides send frames: START_REPLICATION.
  absl::Status StartCopy(const std::string& sql);
  // False: no whole frame has come yet. kUnavailable: the server ended the stream.
  absl::StatusOr<bool> ReadFrame(std::string* frame);
  // What does not fit into the socket's buffer now is sent by later calls.
  absl::Status WriteFrame(absl::string_view frame);

  // To wait on, for reading.
  int socket() const;

 private:
  Connection(pg_conn* connection, Options options, const base::Clock* clock);

  absl::Status Error(absl::string_view doing) const;
  absl::Status Wait(short events, absl::Duration deadline,
                    absl::string_view doing) const;  // NOLINT: poll(2)'s own type
  // Collects results up to the last.
  absl::StatusOr<Rows> TakeResults();

  pg_conn* const connection_;
  const Options options_;
  const base::Clock* const clock_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CAPTURE_POSTGRES_CONNECTION_H_
