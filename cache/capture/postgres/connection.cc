#include "cache/capture/postgres/connection.h"

#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/postgres/session.h"
#include "base/status.h"

namespace shadowline::cache {
namespace {

constexpr char kSqlState[] = "sqlstate";

using Result = std::unique_ptr<PGresult, decltype(&PQclear)>;

absl::Status ErrorOf(const PGresult* result) {
  const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char* message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  if (state == nullptr || message == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("PostgreSQL: ", absl::StripAsciiWhitespace(PQresultErrorMessage(result))));
  }
  absl::Status status(base::StatusCodeOf(state), absl::StrCat("PostgreSQL ", state, ": ", message));
  status.SetPayload(kSqlState, absl::Cord(state));
  return status;
}

}  // namespace

std::string SqlState(const absl::Status& status) {
  const absl::optional<absl::Cord> state = status.GetPayload(kSqlState);
  return state.has_value() ? std::string(*state) : "";
}

std::string QuoteName(absl::string_view name) {
  return absl::StrCat("\"", absl::StrReplaceAll(name, {{"\"", "\"\""}}), "\"");
}

std::string QuoteText(absl::string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "''"}}), "'");
}

Connection::Connection(PGconn* connection, Options options, const base::Clock* clock)
    : connection_(connection), options_(std::move(options)), clock_(clock) {}

Connection::~Connection() { PQfinish(connection_); }

absl::StatusOr<std::unique_ptr<Connection>> Connection::Open(const Options& options, const base::Clock* clock) {
  char* problem = nullptr;
  PQconninfoOption* given = PQconninfoParse(options.connection_string.c_str(), &problem);
  if (given == nullptr) {
    const absl::Cleanup free_problem = [&] { PQfreemem(problem); };
    // The problem may quote the string, which may hold a password.
    return absl::InvalidArgumentError("the connection string of the capture is not libpq's");
  }
  // What was given, and what a peer that vanished without a word is noticed by.
  std::vector<const char*> names = {"keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
                                    "application_name"};
  std::vector<const char*> values = {"5", "2", "3", "10000", options.application_name.c_str()};
  for (const PQconninfoOption* option = given; option->keyword != nullptr; ++option) {
    if (option->val == nullptr || std::strcmp(option->keyword, "application_name") == 0) continue;
    names.push_back(option->keyword);
    values.push_back(option->val);
  }
  if (options.replication) {
    names.push_back("replication");
    values.push_back("database");
  }
  names.push_back(nullptr);
  values.push_back(nullptr);
  PGconn* raw = PQconnectStartParams(names.data(), values.data(), 0);
  PQconninfoFree(given);
  if (raw == nullptr) return absl::ResourceExhaustedError("libpq has no memory for a connection");
  std::unique_ptr<Connection> connection(new Connection(raw, options, clock));

  const absl::Duration deadline = clock->Steady() + options.timeout;
  PostgresPollingStatusType next = PGRES_POLLING_WRITING;
  while (PQstatus(raw) != CONNECTION_BAD && next != PGRES_POLLING_OK) {
    RETURN_IF_ERROR(connection->Wait(next == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline, "connecting"));
    next = PQconnectPoll(raw);
  }
  if (PQstatus(raw) != CONNECTION_OK) return connection->Error("connecting");
  if (PQsetnonblocking(raw, 1) != 0) return connection->Error("connecting");
  // What a server has to say beside answers is not for standard error.
  PQsetNoticeReceiver(
      raw, [](void*, const PGresult*) {}, nullptr);
  return connection;
}

int Connection::socket() const { return PQsocket(connection_); }

absl::Status Connection::Error(absl::string_view doing) const {
  return absl::UnavailableError(
      absl::StrCat("PostgreSQL, ", doing, ": ", absl::StripAsciiWhitespace(PQerrorMessage(connection_))));
}

absl::Status Connection::Wait(short events, absl::Duration deadline, absl::string_view doing) const {  // NOLINT
  pollfd descriptors[] = {{PQsocket(connection_), events, 0}, {options_.stop, POLLIN, 0}};
  const absl::Duration left = std::max(deadline - clock_->Steady(), absl::ZeroDuration());
  poll(descriptors, options_.stop < 0 ? 1 : 2, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
  if (options_.stop >= 0 && descriptors[1].revents != 0) return absl::CancelledError("it is being stopped");
  if (clock_->Steady() >= deadline) {
    return absl::UnavailableError(absl::StrCat("PostgreSQL, ", doing, ": no answer in time"));
  }
  return absl::OkStatus();
}

absl::Status Connection::Send(const std::string& sql, const std::vector<std::string>& parameters) {
  int sent = 0;
  if (parameters.empty()) {
    sent = PQsendQuery(connection_, sql.c_str());
  } else {
    std::vector<const char*> values;
    for (const std::string& parameter : parameters) values.push_back(parameter.c_str());
    sent = PQsendQueryParams(connection_, sql.c_str(), static_cast<int>(values.size()), nullptr, values.data(), nullptr,
                             nullptr, 0);
  }
  if (sent != 1 || PQflush(connection_) < 0) return Error("asking");
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Connection::Rows>> Connection::Receive() {
  if (PQflush(connection_) < 0 || PQconsumeInput(connection_) != 1) return Error("waiting for an answer");
  if (PQisBusy(connection_) != 0) return std::optional<Rows>();
  ASSIGN_OR_RETURN(Rows rows, TakeResults());
  return std::optional<Rows>(std::move(rows));
}

absl::StatusOr<Connection::Rows> Connection::TakeResults() {
  Rows rows;
  absl::Status error;
  for (;;) {
    const Result result(PQgetResult(connection_), &PQclear);
    if (result == nullptr) break;
    const ExecStatusType status = PQresultStatus(result.get());
    if (status == PGRES_COPY_BOTH) break;  // Frames follow; there is no end of results to wait for.
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY) {
      error = ErrorOf(result.get());
      continue;
    }
    rows.clear();
    for (int i = 0; i < PQntuples(result.get()); ++i) {
      auto& row = rows.emplace_back();
      for (int j = 0; j < PQnfields(result.get()); ++j) {
        if (PQgetisnull(result.get(), i, j) != 0) {
          row.emplace_back();
        } else {
          row.emplace_back(PQgetvalue(result.get(), i, j));
        }
      }
    }
  }
  if (!error.ok()) return error;
  return rows;
}

absl::StatusOr<Connection::Rows> Connection::Query(const std::string& sql, const std::vector<std::string>& parameters,
                                                   std::optional<absl::Duration> timeout) {
  const absl::Duration deadline = clock_->Steady() + timeout.value_or(options_.timeout);
  RETURN_IF_ERROR(Send(sql, parameters));
  for (;;) {
    ASSIGN_OR_RETURN(std::optional<Rows> rows, Receive());
    if (rows.has_value()) return *std::move(rows);
    const bool unsent = PQflush(connection_) == 1;
    RETURN_IF_ERROR(Wait(unsent ? POLLIN | POLLOUT : POLLIN, deadline, "waiting for an answer"));
  }
}

absl::StatusOr<bool> Connection::TakeNotifications() {
  ASSIGN_OR_RETURN(const std::vector<std::string> payloads, TakePayloads());
  return !payloads.empty();
}

absl::StatusOr<std::vector<std::string>> Connection::TakePayloads() {
  if (PQconsumeInput(connection_) != 1) return Error("listening");
  std::vector<std::string> payloads;
  while (PGnotify* notification = PQnotifies(connection_)) {
    payloads.emplace_back(notification->extra);
    PQfreemem(notification);
  }
  return payloads;
}

absl::Status Connection::StartCopy(const std::string& sql) { return Query(sql).status(); }

absl::StatusOr<bool> Connection::ReadFrame(std::string* frame) {
  for (const bool consumed : {false, true}) {
    char* bytes = nullptr;
    const int size = PQgetCopyData(connection_, &bytes, /*async=*/1);
    if (size > 0) {
      frame->assign(bytes, size);
      PQfreemem(bytes);
      return true;
    }
    if (size == -1) {
      // The end of the copy; why is in the result.
      RETURN_IF_ERROR(TakeResults().status());
      return absl::UnavailableError("PostgreSQL ended the replication stream");
    }
    if (size < 0) return Error("streaming");
    if (!consumed && (PQflush(connection_) < 0 || PQconsumeInput(connection_) != 1)) return Error("streaming");
  }
  return false;
}

absl::Status Connection::WriteFrame(absl::string_view frame) {
  if (PQputCopyData(connection_, frame.data(), static_cast<int>(frame.size())) < 0 || PQflush(connection_) < 0) {
    return Error("streaming");
  }
  return absl::OkStatus();
}

}  // namespace shadowline::cache
