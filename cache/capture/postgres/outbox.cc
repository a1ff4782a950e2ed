#include "cache/capture/postgres/outbox.h"

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status.h"
#include "cache/capture/postgres/connection.h"
#include "cache/invalidate/invalidator.h"

namespace shadowline::cache {
namespace {

constexpr char kUndefinedTable[] = "42P01";

// The oldest rows, with a line for each of their tags.
constexpr char kLook[] =
    "SELECT o.id, o.xid, o.tenant, t.tag, (extract(epoch FROM o.written_at) * 1000000)::bigint FROM "
    "(SELECT * FROM shadowline.outbox ORDER BY id LIMIT $1::int) AS o "
    "LEFT JOIN LATERAL unnest(o.tags) AS t (tag) ON true ORDER BY o.id";

// What a sink still has to say about a batch.
class Batch {
 public:
  explicit Batch(size_t waiting) : waiting_(waiting) {}

  void Answer(absl::Status status) {
    {
      base::MutexLock lock(&mutex_);
      --waiting_;
      if (result_.ok()) result_ = std::move(status);
    }
    signal_.Set();
  }
  bool Ended(absl::Status* result) {
    signal_.Clear();
    base::MutexLock lock(&mutex_);
    *result = result_;
    return waiting_ == 0;
  }
  int descriptor() const { return signal_.descriptor(); }

 private:
  Signal signal_;
  base::Mutex mutex_;
  size_t waiting_ ABSL_GUARDED_BY(mutex_);
  absl::Status result_ ABSL_GUARDED_BY(mutex_);
};

template <typename Number>
Number NumberOf(const std::optional<std::string>& text) {
  Number number = 0;
  return text.has_value() && absl::SimpleAtoi(*text, &number) ? number : 0;
}

}  // namespace

OutboxDrain::OutboxDrain(Options options, Deps deps)
    : options_(std::move(options)),
      deps_(deps),
      rows_(deps_.metrics->AddCounter("shadowline_outbox_rows_total", "Rows of the outbox that were fenced.")),
      failures_(deps_.metrics->AddCounter("shadowline_outbox_failures_total",
                                          "Times that draining the outbox stopped and had to begin again.")),
      worker_(
          {"outbox", options_.pause_min, options_.pause_max}, [this](bool* worked) { return Serve(worked); },
          [this](const absl::Status& status) {
            failures_->Add();
            base::Log(base::Level::kWarning, "outbox_failed",
                      {{"error", SqlState(status) == kUndefinedTable
                                     ? "there is no table shadowline.outbox; create it as docs/capture.md says"
                                     : status.ToString()}});
          }) {}

OutboxDrain::~OutboxDrain() { Stop(); }

void OutboxDrain::Start() { worker_.Start(); }

void OutboxDrain::Stop() { worker_.Stop(); }

absl::Status OutboxDrain::Serve(bool* worked) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Connection> connection,
                   Connection::Open({.connection_string = options_.connection_string,
                                     .application_name = "shadowline outbox",
                                     .stop = worker_.stop()},
                                    deps_.clock));
  RETURN_IF_ERROR(connection
                      ->Query(absl::StrCat("SET idle_session_timeout = ", absl::ToInt64Milliseconds(options_.lapse),
                                           "; SET search_path = ''; SET statement_timeout = '5s'"))
                      .status());
  for (;;) {
    ASSIGN_OR_RETURN(const Connection::Rows lock,
                     connection->Query("SELECT pg_try_advisory_lock(hashtextextended('shadowline outbox', 0))"));
    *worked = true;
    if (lock.at(0).at(0) == "t") break;
    WaitReadable({worker_.stop()}, options_.poll);
    if (worker_.stopping()) return absl::OkStatus();
  }
  // Before the first look: what is written after it is told.
  RETURN_IF_ERROR(connection->Query("LISTEN shadowline_outbox").status());
  while (!worker_.stopping()) {
    ASSIGN_OR_RETURN(const int rows, DrainOnce(connection.get()));
    ASSIGN_OR_RETURN(const bool told, connection->TakeNotifications());
    if (rows == options_.batch || told) continue;
    WaitReadable({worker_.stop(), connection->socket()}, options_.poll);
  }
  return absl::OkStatus();
}

absl::StatusOr<int> OutboxDrain::DrainOnce(Connection* connection) {
  ASSIGN_OR_RETURN(const Connection::Rows lines, connection->Query(kLook, {std::to_string(options_.batch)}));
  if (lines.empty()) return 0;
  std::vector<std::string> ids;
  std::map<uint64_t, Transaction> transactions;
  for (const auto& line : lines) {
    if (ids.empty() || ids.back() != *line[0]) ids.push_back(*line[0]);
    Transaction& transaction = transactions[NumberOf<uint64_t>(line[1])];
    transaction.xid = NumberOf<uint64_t>(line[1]);
    transaction.committed_at = absl::FromUnixMicros(NumberOf<int64_t>(line[4]));
    const std::string& tenant = *line[2];
    if (!tenant.empty() && line[3].has_value() && !line[3]->empty() && line[3]->size() <= kMaxTagBytes) {
      transaction.effects.tags.insert({tenant, *line[3]});
    }
  }
  const auto batch = std::make_shared<Batch>(transactions.size());
  for (auto& [xid, transaction] : transactions) {
    if (transaction.effects.empty()) {
      batch->Answer(absl::OkStatus());
    } else {
      if (deps_.feed != nullptr) deps_.feed->AddFromOutbox(transaction);
      deps_.sink->Apply(std::move(transaction), [batch](absl::Status status) { batch->Answer(std::move(status)); });
    }
  }
  absl::Status result;
  while (!batch->Ended(&result)) {
    WaitReadable({worker_.stop(), batch->descriptor()}, options_.poll);
    if (worker_.stopping()) return absl::CancelledError("it is being stopped");
    RETURN_IF_ERROR(connection->Query("SELECT 1").status());  // Still the leader.
  }
  RETURN_IF_ERROR(base::Annotate(result, "fencing what the outbox says"));
  RETURN_IF_ERROR(connection
                      ->Query("DELETE FROM shadowline.outbox WHERE id = ANY($1::bigint[])",
                              {absl::StrCat("{", absl::StrJoin(ids, ","), "}")})
                      .status());
  rows_->Add(static_cast<double>(ids.size()));
  return static_cast<int>(ids.size());
}

}  // namespace shadowline::cache
