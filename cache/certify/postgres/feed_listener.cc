#include "cache/certify/postgres/feed_listener.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "cache/capture/postgres/connection.h"
#include "cache/certify/postgres/feed_sender.h"

namespace shadowline::cache {
namespace {

constexpr char kNewId[] = "SELECT pg_current_xact_id()::text";
// A statement's snapshot is there before anything in it is evaluated.
constexpr char kLook[] = "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text";
constexpr absl::Duration kAnswerWithin = absl::Seconds(10);

}  // namespace

// From the connection to the first error.
class FeedListener::Session {
 public:
  explicit Session(FeedListener* listener)
      : options_(listener->options_),
        deps_(listener->deps_),
        gaps_(listener->gaps_),
        worker_(listener->worker_),
        reader_(deps_.certifier) {}

  absl::Status Run(bool* worked) {
    ASSIGN_OR_RETURN(state_, Open(options_.state, "shadowline feed"));
    RETURN_IF_ERROR(state_->Query(absl::StrCat("LISTEN ", FeedChannel(options_.slot))).status());
    *worked = true;
    while (!worker_.stopping()) {
      RETURN_IF_ERROR(Hear());
      RETURN_IF_ERROR(Ask());
      RETURN_IF_ERROR(TakeAnswer());
      const absl::Duration now = deps_.clock->Steady();
      absl::Duration wait = absl::Seconds(10);
      if (!asked_.has_value() && reader_.wants_look().has_value()) wait = looked_at_ + options_.look - now;
      if (asked_.has_value()) wait = kAnswerWithin;
      WaitReadable({worker_.stop(), state_->socket(), asked_.has_value() ? source_->socket() : -1}, wait);
    }
    return absl::OkStatus();
  }

 private:
  // A question to the source that has no answer yet.
  struct Asked {
    bool look;
    uint64_t question;
    absl::Duration at;
  };

  absl::StatusOr<std::unique_ptr<Connection>> Open(const std::string& connection_string, const char* name) {
    return Connection::Open({.connection_string = connection_string, .application_name = name, .stop = worker_.stop()},
                            deps_.clock);
  }

  absl::Status Hear() {
    ASSIGN_OR_RETURN(const std::vector<std::string> payloads, state_->TakePayloads());
    const absl::Duration now = deps_.clock->Steady();
    for (const std::string& payload : payloads) reader_.Hear(payload, now);
    gaps_->Add(static_cast<double>(reader_.gaps() - std::exchange(gaps_counted_, reader_.gaps())));
    return absl::OkStatus();
  }

  absl::Status Ask() {
    if (asked_.has_value()) return absl::OkStatus();
    const absl::Duration now = deps_.clock->Steady();
    if (const auto question = reader_.wants_since()) {
      if (source_ == nullptr) {
        ASSIGN_OR_RETURN(source_, Open(options_.source, "shadowline certifier"));
      }
      asked_ = Asked{false, *question, now};
      return source_->Send(kNewId);
    }
    const auto question = reader_.wants_look();
    if (!question.has_value() || now - looked_at_ < options_.look) return absl::OkStatus();
    looked_at_ = now;
    asked_ = Asked{true, *question, now};
    return source_->Send(kLook);
  }

  absl::Status TakeAnswer() {
    if (!asked_.has_value()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const std::optional<Connection::Rows> rows, source_->Receive());
    const absl::Duration now = deps_.clock->Steady();
    if (!rows.has_value()) {
      if (now - asked_->at > kAnswerWithin) return absl::UnavailableError("the source database has fallen silent");
      return absl::OkStatus();
    }
    const Asked asked = *std::exchange(asked_, std::nullopt);
    if (rows->size() != 1) return absl::InternalError("the source database answered without a row");
    const auto& row = (*rows)[0];
    if (!asked.look) {
      uint64_t since = 0;
      if (!absl::SimpleAtoi(row.at(0).value_or(""), &since)) return absl::InternalError("no transaction id");
      reader_.Began(asked.question, since);
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(DatabaseSnapshot snapshot, ParseSnapshot(row.at(0).value_or("")));
    const std::optional<Lsn> end = ParseLsn(row.at(1).value_or(""));
    if (!end.has_value()) return absl::InternalError("no log position");
    reader_.Looked(asked.question, std::move(snapshot), *end, asked.at, now);
    return absl::OkStatus();
  }

  const Options& options_;
  const Deps& deps_;
  base::Counter* const gaps_;
  const Worker& worker_;
  FeedReader reader_;
  uint64_t gaps_counted_ = 0;
  std::unique_ptr<Connection> state_;
  std::unique_ptr<Connection> source_;
  std::optional<Asked> asked_;
  absl::Duration looked_at_ = -absl::InfiniteDuration();
};

FeedListener::FeedListener(Options options, Deps deps)
    : options_(std::move(options)),
      deps_(deps),
      failures_(deps_.metrics->AddCounter("shadowline_certification_failures_total",
                                          "Times that the feed of what was captured lost a connection.",
                                          {{"side", "listener"}})),
      gaps_(deps_.metrics->AddCounter("shadowline_certification_gaps_total",
                                      "Times that certification began anew: nothing loaded before is certified.")),
      worker_(
          {"feed-listener"},
          [this](bool* worked) {
            // Whatever ends it, nothing is known any more.
            const absl::Cleanup forget = [this] { deps_.certifier->Reset(); };
            return Session(this).Run(worked);
          },
          [this](const absl::Status& status) {
            failures_->Add();
            base::Log(base::Level::kWarning, "certification_feed_failed",
                      {{"side", "listener"}, {"error", status.ToString()}});
          }) {}

FeedListener::~FeedListener() { Stop(); }

void FeedListener::Start() { worker_.Start(); }

void FeedListener::Stop() { worker_.Stop(); }

}  // namespace shadowline::cache
