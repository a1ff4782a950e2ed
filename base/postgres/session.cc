#include "base/postgres/session.h"

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace shadowline::base {

absl::StatusCode StatusCodeOf(absl::string_view sqlstate) {
  if (sqlstate == "57014") return absl::StatusCode::kDeadlineExceeded;
  if (sqlstate == "40001" || sqlstate == "40P01" || sqlstate == "55P03") return absl::StatusCode::kAborted;
  if (sqlstate == "23505") return absl::StatusCode::kAlreadyExists;
  if (sqlstate == "57P01" || sqlstate == "57P02" || sqlstate == "57P03") return absl::StatusCode::kUnavailable;
  if (sqlstate == "42501" || sqlstate == "25006") return absl::StatusCode::kPermissionDenied;
  if (absl::StartsWith(sqlstate, "08")) return absl::StatusCode::kUnavailable;
  if (absl::StartsWith(sqlstate, "53")) return absl::StatusCode::kResourceExhausted;
  if (absl::StartsWith(sqlstate, "22")) return absl::StatusCode::kInvalidArgument;
  return absl::StatusCode::kInternal;
}

namespace {

std::string Trimmed(const char* text) { return std::string(absl::StripAsciiWhitespace(text)); }

}  // namespace

absl::Status CurrentExceptionToStatus() {
  try {
    throw;
  } catch (const pqxx::broken_connection& error) {
    return absl::UnavailableError(absl::StrCat("PostgreSQL: ", Trimmed(error.what())));
  } catch (const pqxx::in_doubt_error& error) {
    return absl::UnavailableError(
        absl::StrCat("PostgreSQL: the connection broke during a commit: ", Trimmed(error.what())));
  } catch (const pqxx::sql_error& error) {
    // libpqxx leaves the state empty where the connection died under the statement.
    if (error.sqlstate().empty()) return absl::UnavailableError(absl::StrCat("PostgreSQL: ", Trimmed(error.what())));
    return absl::Status(StatusCodeOf(error.sqlstate()),
                        absl::StrCat("PostgreSQL ", error.sqlstate(), ": ", Trimmed(error.what())));
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("PostgreSQL: ", Trimmed(error.what())));
  }
}

PostgresSessions::PostgresSessions(std::string connection_string, size_t size)
    : connection_string_(std::move(connection_string)), size_(size) {}

PostgresSessions::~PostgresSessions() = default;

std::unique_ptr<pqxx::connection> PostgresSessions::Take() {
  MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(this, &PostgresSessions::Available));
  ++in_use_;
  if (idle_.empty()) return nullptr;
  std::unique_ptr<pqxx::connection> connection = std::move(idle_.back());
  idle_.pop_back();
  return connection;
}

void PostgresSessions::Give(std::unique_ptr<pqxx::connection> connection) {
  MutexLock lock(&mutex_);
  --in_use_;
  if (connection != nullptr) idle_.push_back(std::move(connection));
}

absl::Status PostgresSessions::Transact(absl::FunctionRef<absl::Status(pqxx::work&)> body) {
  std::unique_ptr<pqxx::connection> connection = Take();
  const absl::Cleanup give_back = [&] { Give(std::move(connection)); };
  try {
    if (connection == nullptr) connection = std::make_unique<pqxx::connection>(connection_string_);
    pqxx::work work(*connection);
    absl::Status status = body(work);
    if (status.ok()) work.commit();
    return status;
  } catch (...) {
    absl::Status status = CurrentExceptionToStatus();
    if (status.code() == absl::StatusCode::kUnavailable || (connection != nullptr && !connection->is_open())) {
      connection.reset();
    }
    return status;
  }
}

}  // namespace shadowline::base
