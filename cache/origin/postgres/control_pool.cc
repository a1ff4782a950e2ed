#include "cache/origin/postgres/control_pool.h"

#include <algorithm>
#include <atomic>
#include <pqxx/pqxx>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/postgres/session.h"
#include "base/status.h"
#include "cache/origin/statement.h"

namespace shadowline::cache {
namespace {

// How much longer than its statement's timeout a caller waits for a database that says nothing.
constexpr absl::Duration kSilence = absl::Milliseconds(50);

// The exception that is being handled, without anything that a row or a parameter may have put into its text: PostgreSQL quotes
// values in its messages, so only those about the schema or the server itself are passed on.
absl::Status StatementError(const std::string& endpoint) {
  const absl::Status status = base::CurrentExceptionToStatus();
  try {
    throw;
  } catch (const pqxx::sql_error& error) {
    const std::string& state = error.sqlstate();
    if (state == "21000") {
      return absl::InternalError(
          absl::StrCat(endpoint, ": the statement returned more than one row; declare `result: rows`"));
    }
    if (state == "57014") return absl::DeadlineExceededError(absl::StrCat(endpoint, ": the statement timed out"));
    // The session is not the one that prepared it.
    if (state == "26000") {
      return absl::FailedPreconditionError(absl::StrCat(endpoint, ": the statement ran in another session"));
    }
    if (state.empty() || absl::StartsWith(state, "42") || absl::StartsWith(state, "08") || absl::StartsWith(state, "53") ||
        absl::StartsWith(state, "57")) {
      return base::Annotate(status, endpoint);
    }
    return absl::Status(status.code(), absl::StrCat(endpoint, ": PostgreSQL refused it with ", state));
  } catch (...) {
    return base::Annotate(status, endpoint);
  }
}

}  // namespace

// One thread's connection; used by that thread alone.
class PostgresControl::Connection {
 public:
  Connection(const Options* options, const base::Clock* clock) : options_(options), clock_(clock) {}

  bool open() const { return connection_ != nullptr; }
  void Close() { connection_.reset(); }

  // Connects unless it is connected, or was refused a moment ago.
  absl::Status Open() {
    if (open()) return absl::OkStatus();
    if (clock_->Steady() < retry_at_) return refused_;
    try {
      connection_ = std::make_unique<pqxx::connection>(options_->connection_string);
      pqxx::nontransaction work(*connection_);
      work.exec("SET TimeZone = 'UTC'");
      work.exec(absl::StrCat("SET search_path = ", options_->search_path));
      if (!options_->role.empty()) work.exec(absl::StrCat("SET ROLE ", work.quote_name(options_->role)));
      stamp_ = work.exec(absl::StrCat("SET TRANSACTION READ ONLY; SELECT ", SessionStamp())).at(0)[0].as<std::string>();
      prepared_.clear();
      backoff_ = absl::ZeroDuration();
      return absl::OkStatus();
    } catch (...) {
      connection_.reset();
      backoff_ = std::clamp(backoff_ * 2, options_->reconnect_min, options_->reconnect_max);
      retry_at_ = clock_->Steady() + backoff_;
      refused_ = base::CurrentExceptionToStatus();
      // Whatever the reason, there is no connection, and there may be one later.
      refused_ = absl::UnavailableError(refused_.message());
      return refused_;
    }
  }

  // REQUIRES: open().
  absl::StatusOr<ControlAnswer> Execute(const Query& query, absl::Duration timeout) {
    const Endpoint& endpoint = *query.endpoint;
    try {
      pqxx::nontransaction work(*connection_);
      if (!prepared_.contains(endpoint.statement_id)) {
        // Beyond this the catalog has been changed many times: start over rather than grow.
        if (prepared_.size() >= kPreparedMax) {
          work.exec("DEALLOCATE ALL");
          prepared_.clear();
        }
        work.exec(PrepareText(endpoint));
        prepared_.insert(endpoint.statement_id);
      }
      std::string text = absl::StrCat("SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = ",
                                      std::max<int64_t>(absl::ToInt64Milliseconds(timeout), 1), "; ");
      for (size_t i = 0; i < endpoint.parameters.size(); ++i) {
        if (!endpoint.parameters[i].identity) continue;
        absl::StrAppend(&text, "SET LOCAL \"shadowline.", endpoint.parameters[i].name,
                        "\" = ", work.quote(query.arguments[i].value_or("")), "; ");
      }
      absl::StrAppend(&text, "EXECUTE \"", endpoint.statement_id, "\" (", work.quote(query.tenant));
      for (const std::optional<std::string>& argument : query.arguments) {
        absl::StrAppend(&text, ", ", argument.has_value() ? work.quote(*argument) : "NULL");
      }
      text += ")";

      ControlAnswer answer;
      answer.started_at = clock_->Now();
      const pqxx::result result = work.exec(text);
      answer.answered_at = clock_->Now();
      const pqxx::row row = result.at(0);
      if (row[2].as<std::string>() != stamp_) {
        return absl::FailedPreconditionError(absl::StrCat(endpoint.name, ": the statement ran in another session"));
      }
      answer.found = !row[0].is_null();
      if (answer.found) answer.body.assign(row[0].c_str(), row[0].size());
      answer.snapshot = row[1].as<std::string>();
      return answer;
    } catch (...) {
      return StatementError(endpoint.name);
    }
  }

 private:
  static constexpr size_t kPreparedMax = 1000;

  const Options* const options_;
  const base::Clock* const clock_;
  std::unique_ptr<pqxx::connection> connection_;
  std::string stamp_;
  absl::flat_hash_set<std::string> prepared_;
  absl::Duration backoff_;
  absl::Duration retry_at_ = -absl::InfiniteDuration();
  absl::Status refused_;
};

// One caller's reply: given once, by the thread that ran the statement or by the timer that ran out.
struct PostgresControl::Reply {
  base::Executor* executor;
  Callback done;
  std::atomic<bool> given{false};

  void Give(absl::StatusOr<ControlAnswer> answer) {
    if (given.exchange(true)) return;
    executor->Post([done = std::move(done), answer = std::move(answer)]() mutable { done(std::move(answer)); });
  }
};

PostgresControl::PostgresControl(Options options, const base::Clock* clock, base::Metrics* metrics)
    : options_(std::move(options)),
      clock_(clock),
      queries_(metrics->AddCounter("shadowline_control_statements_total", "Control statements that were run.",
                                   {{"pool", options_.name}})),
      failures_(metrics->AddCounter("shadowline_control_failures_total", "Control statements that gave no answer.",
                                    {{"pool", options_.name}})),
      seconds_(metrics->AddHistogram("shadowline_control_seconds", "Time of a control statement, without its queue.",
                                     {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5},
                                     {{"pool", options_.name}})),
      pool_({.name = options_.name, .threads = options_.connections, .queue_limit = options_.queue_limit}) {
  for (size_t i = 0; i < options_.connections; ++i) connections_.push_back(std::make_unique<Connection>(&options_, clock_));
}

PostgresControl::~PostgresControl() = default;

void PostgresControl::Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) {
  timeout = std::min(timeout, query.endpoint->timeout);
  const absl::Duration deadline = clock_->Steady() + timeout;
  auto reply = std::make_shared<Reply>();
  reply->executor = reply_on;
  reply->done = std::move(done);
  const bool taken = pool_.TrySubmit([this, reply, query = std::move(query), deadline](size_t thread) {
    if (!reply->given.load()) reply->Give(Run(thread, query, deadline));
  });
  if (!taken) {
    reply->Give(absl::ResourceExhaustedError("the queue for the database is full; retry with backoff"));
    return;
  }
  reply_on->PostAfter(timeout + kSilence, [reply] {
    reply->Give(absl::DeadlineExceededError("the database did not answer in time"));
  });
}

absl::StatusOr<ControlAnswer> PostgresControl::Run(size_t thread, const Query& query, absl::Duration deadline) {
  Connection* const connection = connections_[thread].get();
  // A connection that broke while it was idle says so only when it is used, or libpqxx replaces it by a session that nobody has set
  // up, which the stamp shows. Reading again does no harm.
  for (bool first_try = true;; first_try = false) {
    const bool was_open = connection->open();
    RETURN_IF_ERROR(connection->Open());
    const absl::Duration started = clock_->Steady();
    if (deadline - started < absl::Milliseconds(1)) {
      return absl::DeadlineExceededError("no time was left when the statement came to its turn; it was not run");
    }
    queries_->Add();
    absl::StatusOr<ControlAnswer> answer = connection->Execute(query, deadline - started);
    seconds_->Observe(absl::ToDoubleSeconds(clock_->Steady() - started));
    if (answer.ok()) return answer;
    failures_->Add();
    if (!absl::IsUnavailable(answer.status()) && !absl::IsFailedPrecondition(answer.status())) return answer;
    connection->Close();
    if (!was_open || !first_try) return answer;
  }
}

}  // namespace shadowline::cache
