#include "cache/origin/postgres/control_pool.h"

#include <libpq-fe.h>
#include <sys/socket.h>

#include <algorithm>
#include <pqxx/pqxx>
#include <set>
#include <utility>

#include "absl/numeric/bits.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/postgres/session.h"
#include "base/status.h"
#include "cache/key/text.h"
#include "cache/origin/statement.h"

namespace shadowline::cache {
namespace {

// PostgreSQL's own timeout comes first; the watchdog is for a server that does not answer at all.
constexpr absl::Duration kGrace = absl::Milliseconds(50);
constexpr int kConnectTimeoutSeconds = 2;
// A connection keeps the statements of so many definitions; then it is replaced by one that has none.
constexpr size_t kPreparedMost = 1000;

// `connection_string` with a limit on how long connecting may take, and with signs of life on an idle connection.
std::string WithDefaults(const std::string& connection_string) {
  char* error = nullptr;
  PQconninfoOption* parsed = PQconninfoParse(connection_string.c_str(), &error);
  if (parsed == nullptr) {
    PQfreemem(error);
    return connection_string;  // Connecting will say what is wrong with it.
  }
  std::map<std::string, std::string> options = {{"connect_timeout", absl::StrCat(kConnectTimeoutSeconds)},
                                                {"application_name", "shadowline"},
                                                {"keepalives_idle", "5"},
                                                {"keepalives_interval", "2"},
                                                {"keepalives_count", "3"}};
  for (const PQconninfoOption* option = parsed; option->keyword != nullptr; ++option) {
    if (option->val != nullptr) options[option->keyword] = option->val;
  }
  PQconninfoFree(parsed);
  std::string text;
  for (const auto& [name, value] : options) {
    absl::StrAppend(&text, text.empty() ? "" : " ", name, "='");
    for (const char c : value) {
      if (c == '\'' || c == '\\') text.push_back('\\');
      text.push_back(c);
    }
    text.push_back('\'');
  }
  return text;
}

// What may be said of an error. PostgreSQL quotes values in some of its messages; those that it composes of names and
// of the statement's own text are told apart by their class.
std::string Explain(const std::string& sqlstate, absl::string_view what) {
  static constexpr absl::string_view kNamesOnly[] = {"0A", "25", "26", "40", "42", "53", "54", "55", "57"};
  const auto is_class = [&](absl::string_view prefix) { return absl::StartsWith(sqlstate, prefix); };
  if (is_class("22")) return absl::StrCat("PostgreSQL ", sqlstate, ": a parameter's value does not fit the statement");
  if (std::any_of(std::begin(kNamesOnly), std::end(kNamesOnly), is_class)) {
    return absl::StrCat("PostgreSQL ", sqlstate, ": ", PrimaryMessage(what));
  }
  return absl::StrCat("PostgreSQL ", sqlstate, ": the statement failed; the server's log has the message");
}

// Inside a catch block. The codes are base's, reduced to those that Control promises.
absl::Status LoadError(const Endpoint& endpoint) {
  const absl::Status status = base::CurrentExceptionToStatus();
  try {
    throw;
  } catch (const pqxx::sql_error& error) {
    const std::string& state = error.sqlstate();
    if (state.empty()) return base::Annotate(status, endpoint.name);
    if (state == "21000") {
      return absl::InternalError(absl::StrCat(
          endpoint.name, ": PostgreSQL 21000: more than one row, where `result: row` or a subquery takes at most one"));
    }
    // The prepared statement is gone: a pooler gave another session.
    absl::StatusCode code = state == "26000" ? absl::StatusCode::kFailedPrecondition : status.code();
    if (code == absl::StatusCode::kAborted)
      code = absl::StatusCode::kUnavailable;  // A conflict on a standby: try again.
    if (code == absl::StatusCode::kPermissionDenied || code == absl::StatusCode::kAlreadyExists) {
      code = absl::StatusCode::kInternal;
    }
    return absl::Status(code, absl::StrCat(endpoint.name, ": ", Explain(state, error.what())));
  } catch (...) {
    return base::Annotate(status, endpoint.name);
  }
}

absl::Status DeadlineExceeded(const Endpoint& endpoint, absl::string_view when) {
  return absl::DeadlineExceededError(absl::StrCat(endpoint.name, ": the deadline passed ", when));
}

// For the present transaction.
std::string Timeout(absl::Duration left) {
  return absl::StrCat(
      "SET LOCAL statement_timeout=", absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))), ";");
}

// Sets the identity for the present transaction and executes the prepared statement, of one read or of a set.
absl::StatusOr<std::string> ExecuteText(pqxx::transaction_base& work, const QuerySet& queries,
                                        absl::string_view statement) {
  const Endpoint& endpoint = *queries.endpoint;
  const bool one = queries.arguments.size() == 1;
  const auto quote = [&work](const std::optional<std::string>& argument) {
    return argument ? work.quote(*argument) : "NULL";
  };
  std::string text;
  std::string bound = work.quote(queries.tenant);
  for (size_t i = 0; i < endpoint.parameters.size(); ++i) {
    const std::optional<std::string>& argument = queries.arguments[0][i];
    if (endpoint.parameters[i].identity) {
      absl::StrAppend(&text, "SET LOCAL \"shadowline.", endpoint.parameters[i].name,
                      "\"=", argument ? quote(argument) : "''", ";");
    }
    if (one) absl::StrAppend(&bound, ",", quote(argument));
  }
  if (!one) {
    const std::optional<std::vector<std::string>> arrays = SetArguments(endpoint, queries.arguments);
    if (!arrays.has_value()) return absl::UnimplementedError(absl::StrCat(endpoint.name, ": a list of lists"));
    for (const std::string& array : *arrays) absl::StrAppend(&bound, ",", work.quote(array));
  }
  return absl::StrCat(text, "EXECUTE \"", statement, "\"(", bound, ")");
}

// What that statement returned; `stamp` is of the session as it was set up.
absl::StatusOr<std::vector<ControlAnswer>> ReadAnswers(const pqxx::result& result, const QuerySet& queries,
                                                       absl::string_view stamp, absl::Time started_at,
                                                       absl::Time answered_at) {
  const Endpoint& endpoint = *queries.endpoint;
  const bool one = queries.arguments.size() == 1;
  if (result.size() != queries.arguments.size()) {
    return absl::InternalError(
        absl::StrCat(endpoint.name, ": ", result.size(), " answers to ", queries.arguments.size(), " reads"));
  }
  std::vector<ControlAnswer> answers;
  answers.reserve(result.size());
  for (const pqxx::row& row : result) {
    // The number of the read, and then what the single form returns.
    const pqxx::row_size_type body = one ? 0 : 1;
    if (!one && row[0].as<size_t>() != answers.size() + 1) {
      return absl::InternalError(absl::StrCat(endpoint.name, ": the answers to its reads are out of order"));
    }
    if (const absl::string_view ran_in = row[body + 2].c_str(); ran_in != stamp) {
      return absl::FailedPreconditionError(absl::StrCat(endpoint.name,
                                                        ": the statement ran in another session than declared: `",
                                                        ran_in, "` instead of `", stamp, "`"));
    }
    ControlAnswer& answer = answers.emplace_back();
    answer.started_at = started_at;
    answer.answered_at = answered_at;
    answer.found = !row[body].is_null();
    if (answer.found) answer.body.assign(row[body].c_str(), row[body].size());
    answer.snapshot = row[body + 1].c_str();
    answer.standby = IsInRecovery(stamp);
    if (!endpoint.committed_at.empty()) answer.database_clock = absl::FromUnixMicros(row[body + 3].as<int64_t>());
  }
  return answers;
}

}  // namespace

// A single query is a set of one.
struct PostgresControl::Job {
  QuerySet queries;
  bool twice = false;       // The single query is made twice, in one snapshot.
  absl::Duration deadline;  // Clock::Steady()
  base::Executor* reply_on;
  SetCallback done;             // Guarded by mutex_ until it is answered.
  Deadlines::iterator watched;  // The same.
  bool answered = false;        // The same.
  Worker* worker = nullptr;     // The same; runs it now.
};

struct PostgresControl::Session {
  // All but `socket` belong to the worker's thread.
  std::unique_ptr<pqxx::connection> connection;
  std::string stamp;  // Of the session as it was set up.
  std::set<std::string> prepared;
  int socket = -1;  // Guarded by mutex_: the watchdog must not shut down a descriptor that is another's by now.
};

struct PostgresControl::Worker {
  Session session;
  Session twin;  // Not connected before two answers are asked for.
};

PostgresControl::PostgresControl(Options options, const base::Clock* clock, base::Metrics* metrics)
    : options_(std::move(options)),
      connection_string_(WithDefaults(options_.connection_string)),
      clock_(clock),
      queries_(metrics->AddCounter("shadowline_control_statements_total", "Control statements that were run.",
                                   {{"pool", options_.name}})),
      failures_(metrics->AddCounter("shadowline_control_failures_total", "Control statements that gave no answer.",
                                    {{"pool", options_.name}})),
      seconds_(metrics->AddHistogram("shadowline_control_seconds", "Time of a control statement, without its queue.",
                                     {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5},
                                     {{"pool", options_.name}})) {
  for (size_t i = 0; i < options_.connections; ++i) workers_.push_back(std::make_unique<Worker>());
  pool_ = std::make_unique<base::ThreadPool>(base::ThreadPool::Options{
      .name = options_.name, .threads = options_.connections, .queue_limit = options_.queue_limit});
  watchdog_ = base::StartThread(options_.name + "-watch", [this] { Watch(); });
}

PostgresControl::~PostgresControl() {
  pool_.reset();
  {
    base::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  watchdog_.join();
}

void PostgresControl::Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) {
  QuerySet queries{std::move(query.catalog), query.endpoint, std::move(query.tenant), {}};
  queries.arguments.push_back(std::move(query.arguments));
  LoadSet(std::move(queries), timeout, reply_on, [done = std::move(done)](Answers answers) mutable {
    if (!answers.ok()) return done(std::move(answers).status());
    done(std::move(answers->front()));
  });
}

void PostgresControl::LoadSet(QuerySet queries, absl::Duration timeout, base::Executor* reply_on, SetCallback done) {
  auto job = std::make_shared<Job>();
  job->deadline = clock_->Steady() + std::min(timeout, queries.endpoint->timeout);
  job->queries = std::move(queries);
  job->reply_on = reply_on;
  job->done = std::move(done);
  Submit(std::move(job));
}

void PostgresControl::LoadTwice(Query query, absl::Duration timeout, base::Executor* reply_on, TwinsCallback done) {
  auto job = std::make_shared<Job>();
  job->twice = true;
  job->deadline = clock_->Steady() + std::min(timeout, 2 * query.endpoint->timeout);
  job->queries = {std::move(query.catalog), query.endpoint, std::move(query.tenant), {}};
  job->queries.arguments.push_back(std::move(query.arguments));
  job->reply_on = reply_on;
  job->done = [done = std::move(done)](Answers answers) mutable {
    if (!answers.ok()) return done(std::move(answers).status());
    done(Twins(std::move(answers->at(0)), std::move(answers->at(1))));
  };
  Submit(std::move(job));
}

void PostgresControl::Submit(std::shared_ptr<Job> job) {
  {
    base::MutexLock lock(&mutex_);
    job->watched = deadlines_.emplace(job->deadline, job);
  }
  if (!pool_->TrySubmit([this, job](size_t thread) { Run(workers_[thread].get(), job); })) {
    Answer(job, absl::ResourceExhaustedError("the database queue is full; retry with backoff"));
  }
}

void PostgresControl::Run(Worker* worker, const std::shared_ptr<Job>& job) {
  {
    base::MutexLock lock(&mutex_);
    if (job->answered) return;
    job->worker = worker;
  }
  Answers answers = Execute(worker, *job);
  Answer(job, std::move(answers));
}

PostgresControl::Answers PostgresControl::Execute(Worker* worker, const Job& job) {
  const Endpoint& endpoint = *job.queries.endpoint;
  // libpq's texts end at a NUL: what follows it would be dropped in silence.
  const bool all_texts =
      IsText(job.queries.tenant) &&
      std::all_of(job.queries.arguments.begin(), job.queries.arguments.end(), [](const auto& one) {
        return std::all_of(one.begin(), one.end(), [](const auto& argument) { return !argument || IsText(*argument); });
      });
  if (!all_texts) {
    return absl::InvalidArgumentError(absl::StrCat(endpoint.name, ": a parameter is not valid UTF-8 without NUL"));
  }
  for (;;) {
    if (clock_->Steady() >= job.deadline) return DeadlineExceeded(endpoint, "before the database was asked");
    std::vector<Session*> sessions = {&worker->session};
    if (job.twice) sessions.push_back(&worker->twin);
    bool reused = false;
    for (Session* session : sessions) {
      if (session->prepared.size() >= kPreparedMost) Disconnect(session);
      if (session->connection != nullptr) {
        reused = true;
      } else if (absl::Status connected = Connect(session); !connected.ok()) {
        Report(job, absl::ZeroDuration(), connected);
        return connected;
      }
    }
    queries_->Add(static_cast<double>(sessions.size()));
    const absl::Duration started = clock_->Steady();
    Answers answers = job.twice ? AskTwice(worker, job) : Ask(&worker->session, job);
    const absl::Duration took = clock_->Steady() - started;
    seconds_->Observe(absl::ToDoubleSeconds(took) / static_cast<double>(sessions.size()));
    if (!answers.ok()) failures_->Add();
    const bool broken = absl::IsUnavailable(answers.status()) || absl::IsFailedPrecondition(answers.status());
    // A pair that failed has left transactions behind.
    if (broken || (job.twice && !answers.ok())) {
      for (Session* session : sessions) Disconnect(session);
    }
    // It may have died while it was idle, as all do when the server restarts, or may be a pooler's.
    if (broken && reused) continue;
    Report(job, took, answers.status());
    return answers;
  }
}

void PostgresControl::Report(const Job& job, absl::Duration took, const absl::Status& status) const {
  const size_t reads = job.queries.arguments.size();
  if (options_.ran == nullptr || job.twice || (reads > 1 && absl::IsDeadlineExceeded(status))) return;
  const Endpoint& endpoint = *job.queries.endpoint;
  options_.ran(reads == 1 ? endpoint.statement_id : absl::StrCat(SetStatementId(endpoint), "/", absl::bit_width(reads)),
               took, status);
}

PostgresControl::Answers PostgresControl::Ask(Session* session, const Job& job) {
  const QuerySet& queries = job.queries;
  const Endpoint& endpoint = *queries.endpoint;
  const bool one = queries.arguments.size() == 1;
  const absl::Duration left = job.deadline - clock_->Steady();
  if (left <= absl::ZeroDuration()) return DeadlineExceeded(endpoint, "before the database was asked");
  try {
    pqxx::nontransaction work(*session->connection);
    const std::string begin = absl::StrCat("SET TRANSACTION READ ONLY;", Timeout(left));
    const std::string statement = one ? endpoint.statement_id : SetStatementId(endpoint);
    if (!session->prepared.contains(statement)) {
      try {
        work.exec(begin + (one ? PrepareText(endpoint) : PrepareSetText(endpoint)));
      } catch (const pqxx::sql_error& error) {
        // What is wrong with the endpoint's own SELECT, its single form will say.
        const std::string& state = error.sqlstate();
        if (one || (!absl::StartsWith(state, "42") && !absl::StartsWith(state, "0A"))) throw;
        return absl::UnimplementedError(absl::StrCat(endpoint.name, ": ", Explain(error.sqlstate(), error.what())));
      }
      session->prepared.insert(statement);
    }
    ASSIGN_OR_RETURN(const std::string execute, ExecuteText(work, queries, statement));
    const absl::Time started_at = clock_->Now();
    const pqxx::result result = work.exec(begin + execute);
    return ReadAnswers(result, queries, session->stamp, started_at, clock_->Now());
  } catch (...) {
    return LoadError(endpoint);
  }
}

PostgresControl::Answers PostgresControl::AskTwice(Worker* worker, const Job& job) {
  const QuerySet& queries = job.queries;
  const Endpoint& endpoint = *queries.endpoint;
  const std::string& statement = endpoint.statement_id;
  std::vector<ControlAnswer> twins;
  try {
    pqxx::nontransaction first(*worker->session.connection);
    pqxx::nontransaction second(*worker->twin.connection);
    std::string exported;
    for (auto [session, work] : {std::pair{&worker->session, &first}, std::pair{&worker->twin, &second}}) {
      // Each read may take what a read of this endpoint may take.
      const absl::Duration left = std::min(job.deadline - clock_->Steady(), endpoint.timeout);
      if (left <= absl::ZeroDuration()) return DeadlineExceeded(endpoint, "before the database was asked");
      // Outside of the transaction: preparing takes a snapshot.
      if (!session->prepared.contains(statement)) {
        work->exec(absl::StrCat("SET TRANSACTION READ ONLY;", Timeout(left), PrepareText(endpoint)));
        session->prepared.insert(statement);
      }
      const std::string begin = absl::StrCat("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;", Timeout(left));
      if (exported.empty()) {
        exported = work->exec(absl::StrCat(begin, "SELECT pg_export_snapshot()")).at(0)[0].c_str();
      } else {
        try {
          work->exec(absl::StrCat(begin, "SET TRANSACTION SNAPSHOT ", work->quote(exported)));
        } catch (const pqxx::sql_error& error) {
          if (error.sqlstate().empty()) throw;  // The connection broke.
          return absl::FailedPreconditionError(
              absl::StrCat(endpoint.name, ": two sessions cannot share a snapshot: ", Explain("25", error.what())));
        }
      }
      ASSIGN_OR_RETURN(const std::string execute, ExecuteText(*work, queries, statement));
      const absl::Time started_at = clock_->Now();
      const pqxx::result result = work->exec(execute);
      ASSIGN_OR_RETURN(std::vector<ControlAnswer> answer,
                       ReadAnswers(result, queries, session->stamp, started_at, clock_->Now()));
      twins.push_back(std::move(answer[0]));
    }
    first.exec("COMMIT");
    second.exec("COMMIT");
  } catch (...) {
    return LoadError(endpoint);
  }
  if (twins[0].snapshot != twins[1].snapshot) {
    return absl::FailedPreconditionError(absl::StrCat(endpoint.name, ": two sessions did not share a snapshot"));
  }
  return twins;
}

absl::Status PostgresControl::Connect(Session* session) {
  {
    base::MutexLock lock(&mutex_);
    const absl::Duration now = clock_->Steady();
    if (backoff_ > absl::ZeroDuration()) {
      if (now < retry_at_) {
        return absl::UnavailableError(absl::StrCat("the database cannot be reached: ", last_failure_));
      }
      // One thread tries; the others go on failing at once meanwhile.
      retry_at_ = now + absl::Seconds(kConnectTimeoutSeconds);
    }
  }
  absl::Status status;
  try {
    session->connection = std::make_unique<pqxx::connection>(connection_string_);
    {
      base::MutexLock lock(&mutex_);
      session->socket = session->connection->sock();
    }
    pqxx::nontransaction work(*session->connection);
    if (!options_.role.empty()) work.exec("SET ROLE " + work.quote_name(options_.role));
    work.exec(SessionSetup(work.quote(options_.search_path)));
    session->stamp = work.exec(absl::StrCat("SELECT ", SessionStamp())).at(0)[0].c_str();
  } catch (...) {
    status = base::CurrentExceptionToStatus();
  }
  if (!status.ok()) Disconnect(session);

  base::MutexLock lock(&mutex_);
  if (status.ok()) {
    backoff_ = absl::ZeroDuration();
    return status;
  }
  last_failure_ = PrimaryMessage(status.message());
  backoff_ = std::clamp(backoff_ * 2, options_.reconnect_min, options_.reconnect_max);
  retry_at_ = clock_->Steady() + backoff_;
  // Whatever the reason, there is no connection, and there may be one later.
  return absl::UnavailableError(absl::StrCat("the database cannot be reached: ", last_failure_));
}

void PostgresControl::Disconnect(Session* session) {
  {
    base::MutexLock lock(&mutex_);
    session->socket = -1;
  }
  session->prepared.clear();
  session->connection.reset();
}

void PostgresControl::Answer(const std::shared_ptr<Job>& job, Answers answers) {
  SetCallback done;
  {
    base::MutexLock lock(&mutex_);
    job->worker = nullptr;
    if (job->answered) return;
    job->answered = true;
    deadlines_.erase(job->watched);
    done = std::move(job->done);
  }
  job->reply_on->Post([done = std::move(done), answers = std::move(answers)]() mutable { done(std::move(answers)); });
}

bool PostgresControl::WatchIsDue() const {
  return stopping_ || (!deadlines_.empty() && deadlines_.begin()->first + kGrace < watching_until_);
}

void PostgresControl::Watch() {
  for (;;) {
    std::vector<std::pair<std::shared_ptr<Job>, SetCallback>> late;
    {
      base::MutexLock lock(&mutex_);
      const absl::Duration now = clock_->Steady();
      watching_until_ = deadlines_.empty() ? absl::InfiniteDuration() : deadlines_.begin()->first + kGrace;
      if (watching_until_ > now) {
        mutex_.AwaitWithTimeout(absl::Condition(this, &PostgresControl::WatchIsDue), watching_until_ - now);
      }
      if (stopping_) return;
      while (!deadlines_.empty() && deadlines_.begin()->first + kGrace <= clock_->Steady()) {
        const std::shared_ptr<Job> job = deadlines_.begin()->second;
        deadlines_.erase(deadlines_.begin());
        job->answered = true;
        // The thread that waits for this socket wakes up with a broken connection.
        if (job->worker != nullptr) {
          for (const int socket : {job->worker->session.socket, job->worker->twin.socket}) {
            if (socket >= 0) ::shutdown(socket, SHUT_RDWR);
          }
        }
        late.emplace_back(job, std::move(job->done));
      }
    }
    for (auto& [job, done] : late) {
      job->reply_on->Post(
          [done = std::move(done),
           status = DeadlineExceeded(*job->queries.endpoint, "while the database was asked")]() mutable {
            done(std::move(status));
          });
    }
  }
}

}  // namespace shadowline::cache
