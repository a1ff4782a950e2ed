// Sessions with PostgreSQL for the rooms that keep state there, and the one place where libpqxx's exceptions become Status.
//
//   absl::Status status = sessions->Transact([&](pqxx::work& work) -> absl::Status {
//     work.exec_params("UPDATE ... WHERE revision = $1", revision);
//     return absl::OkStatus();          // any other status rolls back and is returned
//   });
//
// Threads: thread-safe; a call takes one of `size` connections, or waits for one. Blocking.
#ifndef SHADOWLINE_BASE_POSTGRES_SESSION_H_
#define SHADOWLINE_BASE_POSTGRES_SESSION_H_

#include <memory>
#include <pqxx/pqxx>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/mutex.h"

namespace shadowline::base {

// What a caller should do next about an SQLSTATE:
//
//   08xxx (broken or refused connection)              kUnavailable
//   57014 (statement timeout, cancel)                 kDeadlineExceeded
//   40001, 40P01 (serialization, deadlock), 55P03     kAborted
//   23505 (unique violation)                          kAlreadyExists
//   57P01, 57P02, 57P03 (shutdown, starting up)       kUnavailable
//   53xxx (too many connections, disk or memory full) kResourceExhausted
//   22xxx (a value that does not fit)                 kInvalidArgument
//   42501 (privilege), 25006 (read-only)              kPermissionDenied
//   anything else of the database                     kInternal
absl::StatusCode StatusCodeOf(absl::string_view sqlstate);

// Call inside a catch block: the exception that is being handled as a Status, by the table above; kUnavailable also where it
// says nothing but that the connection broke.
absl::Status CurrentExceptionToStatus();

class PostgresSessions {
 public:
  // Connects lazily. `connection_string` is libpq's. `size` is the most connections that are open at once.
  PostgresSessions(std::string connection_string, size_t size);
  PostgresSessions(const PostgresSessions&) = delete;
  PostgresSessions& operator=(const PostgresSessions&) = delete;
  ~PostgresSessions();

  // Runs `body` in a read-write transaction and commits where it returns OK. A connection that turns out to be dead is
  // dropped; the call fails with kUnavailable and the next one connects anew. Nothing is retried: the caller knows
  // whether its statement may run twice.
  absl::Status Transact(absl::FunctionRef<absl::Status(pqxx::work&)> body);

  const std::string& connection_string() const { return connection_string_; }

 private:
  std::unique_ptr<pqxx::connection> Take();
  void Give(std::unique_ptr<pqxx::connection> connection);
  bool Available() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return in_use_ < size_; }

  const std::string connection_string_;
  const size_t size_;
  Mutex mutex_;
  std::vector<std::unique_ptr<pqxx::connection>> idle_ ABSL_GUARDED_BY(mutex_);
  size_t in_use_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace shadowline::base

#endif  // SHADOWLINE_BASE_POSTGRES_SESSION_H_
