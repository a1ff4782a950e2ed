#include "cache/capture/postgres/stream.h"

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/status.h"
#include "cache/capture/assembler.h"
#include "cache/capture/pgoutput.h"
#include "cache/capture/postgres/connection.h"
#include "cache/capture/postgres/table_check.h"
#include "cache/capture/postgres/tenant_query.h"
#include "cache/capture/progress.h"
#include "cache/origin/statement.h"

namespace shadowline::cache {
namespace {

constexpr char kUndefinedObject[] = "42704";
constexpr char kLimitExceeded[] = "53400";

// Frames that are read before everything else has its turn.
constexpr int kFramesPerTurn = 1000;
// A new slot waits for every transaction that is running now.
constexpr absl::Duration kSlotCreation = absl::Hours(1);

constexpr char kStateTime[] = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

bool Captures(const CompiledCatalog& catalog) { return !catalog.captured().empty(); }

std::set<std::string> CapturedFamilies(const CompiledCatalog& catalog) {
  std::set<std::string> families;
  for (const CapturedTable& table : catalog.captured()) families.insert(table.families.begin(), table.families.end());
  return families;
}

std::string QuoteTable(const std::string& name) {
  const size_t dot = name.find('.');
  return absl::StrCat(QuoteName(name.substr(0, dot)), ".", QuoteName(name.substr(dot + 1)));
}

uint64_t Number(const std::optional<std::string>& text) {
  uint64_t number = 0;
  return text.has_value() && absl::SimpleAtoi(*text, &number) ? number : 0;
}

Lsn Position(const std::optional<std::string>& text) { return text.has_value() ? ParseLsn(*text).value_or(0) : 0; }

// Not to be cured by trying again.
bool IsForAPerson(const absl::Status& status) {
  return absl::IsPermissionDenied(status) || SqlState(status) == kLimitExceeded;
}

}  // namespace

absl::string_view CaptureStateName(CaptureState state) {
  switch (state) {
    case CaptureState::kOff:
      return "off";
    case CaptureState::kDisconnected:
      return "disconnected";
    case CaptureState::kWaiting:
      return "waiting";
    case CaptureState::kStreaming:
      return "streaming";
    case CaptureState::kLagging:
      return "lagging";
    case CaptureState::kSlotLost:
      return "slot_lost";
    case CaptureState::kRefused:
      return "refused";
  }
  return "";
}

// What wakes the stream's thread.
class CaptureStream::Inbox {
 public:
  struct Answer {
    uint64_t session;                   // Answers to an earlier one are nothing to this.
    std::optional<size_t> transaction;  // Its number in Progress; nullopt: the alarm.
    absl::Time committed_at;
    absl::Status status;
  };

  void Post(Answer answer) {
    {
      base::MutexLock lock(&mutex_);
      answers_.push_back(std::move(answer));
    }
    signal_.Set();
  }
  std::vector<Answer> Take() {
    signal_.Clear();
    base::MutexLock lock(&mutex_);
    return std::exchange(answers_, {});
  }
  Signal* signal() { return &signal_; }

 private:
  Signal signal_;
  base::Mutex mutex_;
  std::vector<Answer> answers_ ABSL_GUARDED_BY(mutex_);
};

// From the first connection to the first error, or until the catalog is another.
class CaptureStream::Session {
 public:
  Session(CaptureStream* stream, std::shared_ptr<const CompiledCatalog> catalog)
      : stream_(*stream),
        options_(stream->options_),
        clock_(stream->deps_.clock),
        inbox_(stream->inbox_),
        catalog_(std::move(catalog)),
        families_(CapturedFamilies(*catalog_)),
        number_(++stream->sessions_),
        lookup_({{.connection_string = options_.source, .application_name = "shadowline tenants", .stop = Stop()},
                 options_.search_path,
                 options_.role},
                clock_),
        assembler_(catalog_, &lookup_, options_.tags_max) {}

  absl::Status Run(bool* worked) {
    RETURN_IF_ERROR(Connect());
    for (;;) {
      ASSIGN_OR_RETURN(const bool leads, TryLead());
      if (leads) break;
      stream_.SetState(CaptureState::kWaiting, "another replica leads");
      *worked = true;
      RETURN_IF_ERROR(Follow());
      if (Superseded()) return absl::OkStatus();
    }
    stream_.leading_->Set(1);
    const absl::Cleanup led = [this] { stream_.leading_->Set(0); };
    if (!Captures(*catalog_)) return Retire();
    RETURN_IF_ERROR(Prepare());
    *worked = true;
    return Stream();
  }

 private:
  struct Slot {
    bool exists = false;
    std::string foreign;  // Why it is not one of ours; empty: it may be.
    std::string backend;  // Of who streams from it now.
    bool invalidated = false;
    uint64_t behind = 0;
    Lsn confirmed = 0;
  };

  int Stop() const { return stream_.worker_.stop(); }

  bool Superseded() const {
    base::MutexLock lock(&stream_.mutex_);
    return stream_.catalog_ != catalog_;
  }

  absl::Status Refuse(const std::string& why) {
    stream_.SetState(CaptureState::kRefused, why);
    return absl::FailedPreconditionError(why);
  }

  // ---- Becoming the leader

  absl::Status Connect() {
    ASSIGN_OR_RETURN(control_, Connection::Open({.connection_string = options_.source,
                                                 .application_name = "shadowline capture leader",
                                                 .stop = Stop()},
                                                clock_));
    // A process that was frozen gives way like one that died. A statement that waits is given up with its client.
    RETURN_IF_ERROR(control_
                        ->Query(absl::StrCat("SET idle_session_timeout = ", absl::ToInt64Milliseconds(options_.lapse),
                                             "; SET client_connection_check_interval = 1000", "; SET search_path = ''"))
                        .status());
    ASSIGN_OR_RETURN(
        state_,
        Connection::Open(
            {.connection_string = options_.state, .application_name = "shadowline capture", .stop = Stop()}, clock_));
    return absl::OkStatus();
  }

  absl::StatusOr<bool> TryLead() {
    ASSIGN_OR_RETURN(const Connection::Rows rows,
                     control_->Query("SELECT CASE WHEN $2::bool THEN pg_try_advisory_lock(hashtextextended("
                                     "'shadowline capture ' || $1, 0)) ELSE false END, "
                                     "EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)",
                                     {options_.slot, options_.lead ? "t" : "f"}));
    slot_seen_ = rows.at(0).at(1) == "t";
    return rows[0][0] == "t";
  }

  // Until the lock is to be tried again.
  absl::Status Follow() {
    const absl::Duration end = clock_->Steady() + options_.check;
    while (clock_->Steady() < end && !stream_.worker_.stopping() && !Superseded()) {
      const absl::Duration asked_at = clock_->Steady();
      ASSIGN_OR_RETURN(const Connection::Rows rows,
                       // A time to come is as doubtful as one that is long past: the clock was set back.
                       state_->Query("SELECT fenced_lsn, CASE WHEN settled AND map = $2 THEN "
                                     "abs((extract(epoch FROM clock_timestamp() - fenced_at) * 1000000)::bigint) END "
                                     "FROM shadowline.capture WHERE slot = $1",
                                     {options_.slot, catalog_->capture_map()}));
      // Without a slot the database has failed over: what was published is a position of another log.
      const bool known = !rows.empty() && slot_seen_;
      stream_.deps_.watermark->Set(known ? Position(rows[0][0]) : 0);
      if (known && rows[0][1].has_value()) {
        stream_.deps_.watermark->Cover(asked_at - absl::Microseconds(Number(rows[0][1])) + options_.patience);
      } else {
        stream_.deps_.watermark->Uncover();
      }
      WaitReadable({Stop(), inbox_->signal()->descriptor()}, std::min(options_.publish, end - clock_->Steady()));
      inbox_->Take();
    }
    return absl::OkStatus();
  }

  // ---- Making the slot and the publication what the catalog needs

  absl::StatusOr<Slot> LookAtSlot() {
    ASSIGN_OR_RETURN(
        const Connection::Rows rows,
        control_->Query("SELECT slot_type, plugin, database, current_database(), active_pid, wal_status, "
                        "pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint, confirmed_flush_lsn "
                        "FROM pg_replication_slots WHERE slot_name = $1",
                        {options_.slot}));
    Slot slot;
    if (rows.empty()) return slot;
    const auto& row = rows[0];
    slot.exists = true;
    if (row[0] != "logical" || row[1] != "pgoutput" || row[2] != row[3]) {
      slot.foreign = absl::StrCat("there is a replication slot ", options_.slot, " of another kind (",
                                  row[0].value_or(""), ", plugin ", row[1].value_or("none"), ", database ",
                                  row[2].value_or("none"), "); choose another name for the slot, or drop that one");
    }
    slot.backend = row[4].value_or("");
    slot.invalidated = row[5] == "lost";
    slot.behind = Number(row[6]);
    slot.confirmed = Position(row[7]);
    return slot;
  }

  std::string TablesSql() const {
    return absl::StrJoin(catalog_->captured(), ", ", [](std::string* out, const CapturedTable& table) {
      absl::StrAppend(out, QuoteTable(table.name));
    });
  }

  std::string TableLines() const {
    return absl::StrJoin(catalog_->captured(), "\n",
                         [](std::string* out, const CapturedTable& table) { out->append(table.name); });
  }

  // What has to be run to have the publication; empty: it is there.
  absl::StatusOr<std::string> PublicationStatement(bool* exists) {
    constexpr char kOptions[] = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true";
    const std::string name = QuoteName(options_.publication);
    ASSIGN_OR_RETURN(const Connection::Rows publication,
                     control_->Query("SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate AND "
                                     "pubviaroot FROM pg_publication WHERE pubname = $1",
                                     {options_.publication}));
    *exists = !publication.empty();
    if (!*exists)
      return absl::StrCat("CREATE PUBLICATION ", name, " FOR TABLE ", TablesSql(), " WITH (", kOptions, ")");
    const std::string set_options = absl::StrCat("ALTER PUBLICATION ", name, " SET (", kOptions, ")");
    const std::string set_tables = absl::StrCat("ALTER PUBLICATION ", name, " SET TABLE ", TablesSql());
    const bool all_tables = publication[0][0] == "t";
    const bool fits = publication[0][1] == "t";
    if (all_tables) return fits ? "" : set_options;
    // Whole tables: a filter on rows or columns would keep changes from us.
    ASSIGN_OR_RETURN(
        const Connection::Rows tables,
        control_->Query("SELECT n.nspname || '.' || c.relname FROM pg_publication_rel AS r "
                        "JOIN pg_publication AS p ON p.oid = r.prpubid JOIN pg_class AS c ON c.oid = r.prrelid "
                        "JOIN pg_namespace AS n ON n.oid = c.relnamespace "
                        "WHERE p.pubname = $1 AND r.prqual IS NULL AND r.prattrs IS NULL",
                        {options_.publication}));
    std::set<std::string> missing;
    for (const CapturedTable& table : catalog_->captured()) missing.insert(table.name);
    for (const auto& row : tables) missing.erase(*row[0]);
    std::vector<std::string> statements;
    if (!fits) statements.push_back(set_options);
    if (!missing.empty()) statements.push_back(set_tables);
    return absl::StrJoin(statements, "; ");
  }

  absl::Status CheckDatabase() {
    const auto ask = [this](const std::string& sql, const std::vector<std::string>& parameters) {
      return control_->Query(sql, parameters);
    };
    ASSIGN_OR_RETURN(std::vector<std::string> wrong, CheckServer(ask));
    for (const CapturedTable& table : catalog_->captured()) {
      ASSIGN_OR_RETURN(const std::vector<std::string> of_table, CheckTable(table, ask));
      wrong.insert(wrong.end(), of_table.begin(), of_table.end());
    }
    if (wrong.empty()) return absl::OkStatus();
    return Refuse(absl::StrJoin(wrong, "; "));
  }

  absl::Status Prepare() {
    if (!stream_.distrust_.empty()) {
      stream_.deps_.watermark->Uncover();
      // First of all, so that whoever leads next knows it too.
      RETURN_IF_ERROR(
          state_->Query("UPDATE shadowline.capture SET settled = false WHERE slot = $1", {options_.slot}).status());
    }
    RETURN_IF_ERROR(CheckDatabase());
    ASSIGN_OR_RETURN(const Connection::Rows known,
                     state_->Query("SELECT settled, map FROM shadowline.capture WHERE slot = $1", {options_.slot}));
    ASSIGN_OR_RETURN(Slot slot, LookAtSlot());
    if (!slot.foreign.empty()) return Refuse(slot.foreign);
    if (!slot.backend.empty()) {
      // The stream of a leader that has lost the lock, and may not know it yet.
      RETURN_IF_ERROR(control_->Query("SELECT pg_terminate_backend($1::int)", {slot.backend}).status());
      return absl::UnavailableError("the slot is still in use by an earlier leader; ended its connection");
    }
    bool publication_exists = false;
    ASSIGN_OR_RETURN(const std::string publish, PublicationStatement(&publication_exists));

    // Why changes may have been missed; empty: they were not.
    std::string why;
    bool keep_slot = slot.exists;
    if (!slot.exists) {
      why = known.empty() ? "capture begins" : "the replication slot is gone";
    } else if (slot.invalidated) {
      why = "PostgreSQL has invalidated the slot: it was behind by more than max_slot_wal_keep_size";
      keep_slot = false;
    } else if (slot.behind > options_.lag_limit_bytes) {
      why = absl::StrCat("the slot is ", slot.behind, " bytes behind; the limit is ", options_.lag_limit_bytes);
      keep_slot = false;
    } else if (!publication_exists) {
      // Decoding looks for the publication as it was at the time of the change.
      why = "the publication was made after the slot";
      keep_slot = false;
    } else if (!stream_.distrust_.empty()) {
      why = stream_.distrust_;
      keep_slot = false;
    } else if (known.empty()) {
      why = "a slot that was there already is taken over";
    } else if (known[0][0] != "t") {
      why = "an earlier beginning was not finished";
    } else if (!publish.empty() || known[0][1] != catalog_->capture_map()) {
      why = "what is captured has changed";
    }
    if (!why.empty()) RETURN_IF_ERROR(Settle(why, !known.empty() && !keep_slot, keep_slot, slot.exists, publish));
    ASSIGN_OR_RETURN(
        const Connection::Rows term,
        state_->Query(
            absl::StrCat("UPDATE shadowline.capture SET term = term + 1 WHERE slot = $1 RETURNING term, ", kStateTime),
            {options_.slot}));
    if (term.empty()) return absl::UnavailableError("shadowline.capture has lost the slot's row");
    term_ = *term[0][0];
    NoteStateTime(term[0][1]);
    ASSIGN_OR_RETURN(slot, LookAtSlot());
    progress_ = Progress(slot.confirmed);
    return absl::OkStatus();
  }

  // Has everything dropped that may have missed a change, and leaves a slot that misses none from then on.
  absl::Status Settle(const std::string& why, bool was_lost, bool keep_slot, bool slot_exists,
                      const std::string& publish) {
    stream_.deps_.watermark->Set(0);
    stream_.deps_.watermark->Uncover();
    RETURN_IF_ERROR(state_
                        ->Query("INSERT INTO shadowline.capture (slot) VALUES ($1) ON CONFLICT (slot) DO UPDATE SET "
                                "settled = false, fenced_lsn = NULL, fenced_at = NULL, term = capture.term + 1",
                                {options_.slot})
                        .status());
    if (was_lost) {
      stream_.SetState(CaptureState::kSlotLost, why);
      RETURN_IF_ERROR(Alarm(why));
    }
    if (!publish.empty()) {
      const absl::Status done = control_->Query(publish).status();
      if (IsForAPerson(done)) {
        return Refuse(absl::StrCat(done.message(), "; have the tables' owner run: ", publish));
      }
      RETURN_IF_ERROR(done);
    }
    if (!keep_slot) {
      if (slot_exists) {
        RETURN_IF_ERROR(control_->Query("SELECT pg_drop_replication_slot($1)", {options_.slot}).status());
      }
      const absl::Status made =
          control_->Query("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", {options_.slot}, kSlotCreation)
              .status();
      if (IsForAPerson(made)) {
        return Refuse(absl::StrCat(made.message(),
                                   "; the user of the capture needs REPLICATION, and the server a free ",
                                   "slot (max_replication_slots)"));
      }
      RETURN_IF_ERROR(made);
      stream_.distrust_.clear();
    }
    RETURN_IF_ERROR(Alarm(why));
    return state_
        ->Query("UPDATE shadowline.capture SET settled = true, map = $2 WHERE slot = $1",
                {options_.slot, catalog_->capture_map()})
        .status();
  }

  absl::Status Alarm(const std::string& why) {
    stream_.alarms_->Add();
    base::Log(base::Level::kWarning, "capture_alarm", {{"slot", options_.slot}, {"why", why}});
    stream_.deps_.sink->Alarm(families_, why, [inbox = inbox_, session = number_](absl::Status status) {
      inbox->Post({session, std::nullopt, absl::InfinitePast(), std::move(status)});
    });
    for (;;) {
      for (Inbox::Answer& answer : inbox_->Take()) {
        if (answer.session == number_ && !answer.transaction.has_value()) return answer.status;
      }
      if (stream_.worker_.stopping()) return absl::CancelledError("it is being stopped");
      WaitReadable({Stop(), inbox_->signal()->descriptor()}, options_.check);
      RETURN_IF_ERROR(control_->Query("SELECT 1").status());  // Still the leader.
    }
  }

  // Nothing is captured any more: the slot would keep the log for ever.
  absl::Status Retire() {
    ASSIGN_OR_RETURN(const Connection::Rows known,
                     state_->Query("SELECT 1 FROM shadowline.capture WHERE slot = $1", {options_.slot}));
    if (!known.empty()) {
      ASSIGN_OR_RETURN(const Slot slot, LookAtSlot());
      if (slot.exists && slot.foreign.empty()) {
        RETURN_IF_ERROR(control_->Query("SELECT pg_drop_replication_slot($1)", {options_.slot}).status());
      }
      RETURN_IF_ERROR(state_->Query("DELETE FROM shadowline.capture WHERE slot = $1", {options_.slot}).status());
    }
    stream_.deps_.watermark->Set(0);
    stream_.deps_.watermark->Uncover();
    stream_.SetState(CaptureState::kOff, "the catalog captures nothing");
    control_.reset();  // And the lead with it.
    state_.reset();
    while (!stream_.worker_.stopping() && !Superseded()) {
      WaitReadable({Stop(), inbox_->signal()->descriptor()}, absl::Hours(1));
      inbox_->Take();
    }
    return absl::OkStatus();
  }

  // ---- Streaming

  absl::Status Stream() {
    const absl::Status ended = StreamUntilError();
    if (SqlState(ended) == kUndefinedObject) stream_.distrust_ = "the publication was dropped and made again";
    return ended;
  }

  absl::Status StreamUntilError() {
    ASSIGN_OR_RETURN(replication_, Connection::Open({.connection_string = options_.source,
                                                     .application_name = "shadowline capture stream",
                                                     .replication = true,
                                                     .stop = Stop()},
                                                    clock_));
    // Values are to be written as the control's are.
    RETURN_IF_ERROR(replication_->Query(SessionSetup(QuoteText(""))).status());
    RETURN_IF_ERROR(
        replication_->Query(absl::StrCat("SET wal_sender_timeout = ", absl::ToInt64Milliseconds(options_.lapse)))
            .status());
    RETURN_IF_ERROR(Check(true));
    RETURN_IF_ERROR(replication_->StartCopy(absl::StrCat("START_REPLICATION SLOT ", QuoteName(options_.slot),
                                                         " LOGICAL 0/0 (proto_version '1', publication_names ",
                                                         QuoteText(QuoteName(options_.publication)), ")")));
    stream_.SetState(CaptureState::kStreaming, "");
    FeedWriter* const feed = stream_.deps_.feed;
    if (feed != nullptr) feed->Begin(CaptureMapHash(*catalog_));
    const absl::Cleanup ended = [feed] {
      if (feed != nullptr) feed->End();
    };
    heard_at_ = clock_->Steady();
    while (!Superseded()) {
      ASSIGN_OR_RETURN(const bool more, ReadFrames());
      RETURN_IF_ERROR(TakeAnswers());
      stream_.deps_.watermark->Set(progress_.fenced());
      if (feed != nullptr) feed->Passed(progress_.received());
      Cover();
      RETURN_IF_ERROR(Check(false));
      RETURN_IF_ERROR(Publish());
      RETURN_IF_ERROR(Confirm());
      const absl::Duration now = clock_->Steady();
      if (now - heard_at_ > options_.lapse) return absl::UnavailableError("the replication stream has fallen silent");
      if (stream_.worker_.stopping()) return absl::CancelledError("it is being stopped");
      // With its hands full it does not look at the stream at all.
      WaitReadable({Stop(), inbox_->signal()->descriptor(), Full() ? -1 : replication_->socket(),
                    checking_ ? control_->socket() : -1, publishing_.has_value() ? state_->socket() : -1},
                   more ? absl::ZeroDuration() : std::min(options_.publish, options_.check));
    }
    return absl::OkStatus();
  }

  // Everything that was committed before a check has its fences once they have come to where the log was then.
  void Cover() {
    if (!looked_.has_value() || progress_.fenced() < looked_->position) return;
    covered_at_ = looked_->at;
    looked_.reset();
    stream_.deps_.watermark->Cover(covered_at_ + options_.patience);
  }

  bool Full() const { return progress_.waiting() >= options_.outstanding_max; }

  // True: there may be more at once.
  absl::StatusOr<bool> ReadFrames() {
    for (int i = 0; i < kFramesPerTurn; ++i) {
      if (Full()) return false;
      ASSIGN_OR_RETURN(const bool read, replication_->ReadFrame(&frame_));
      if (!read) return false;
      heard_at_ = clock_->Steady();
      RETURN_IF_ERROR(Handle(frame_));
    }
    return true;
  }

  absl::Status Handle(const std::string& bytes) {
    ASSIGN_OR_RETURN(const Frame frame, DecodeFrame(bytes));
    if (const auto* keepalive = std::get_if<Keepalive>(&frame)) {
      if (!assembler_.open()) progress_.Advance(keepalive->end);
      reply_due_ = reply_due_ || keepalive->reply;
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(const Event event, DecodeEvent(std::get<WalData>(frame).message));
    ASSIGN_OR_RETURN(std::optional<Transaction> whole, assembler_.Feed(event));
    if (!whole.has_value()) return absl::OkStatus();
    const size_t transaction = progress_.Begin(whole->end_lsn);
    if (whole->effects.empty()) {
      progress_.Acknowledge(transaction);
      return absl::OkStatus();
    }
    stream_.transactions_->Add();
    if (stream_.deps_.feed != nullptr) stream_.deps_.feed->Add(*whole);
    const absl::Time committed_at = whole->committed_at;
    stream_.deps_.sink->Apply(*std::move(whole),
                              [inbox = inbox_, session = number_, transaction, committed_at](absl::Status status) {
                                inbox->Post({session, transaction, committed_at, std::move(status)});
                              });
    return absl::OkStatus();
  }

  absl::Status TakeAnswers() {
    for (Inbox::Answer& answer : inbox_->Take()) {
      if (answer.session != number_ || !answer.transaction.has_value()) continue;
      RETURN_IF_ERROR(base::Annotate(answer.status, "fencing a captured change"));
      progress_.Acknowledge(*answer.transaction);
      stream_.seconds_->Observe(absl::ToDoubleSeconds(clock_->Now() - answer.committed_at));
    }
    return absl::OkStatus();
  }

  // Tells the server what it need not keep, and now and then that we live, and asks whether it does.
  absl::Status Confirm() {
    const absl::Duration now = clock_->Steady();
    const bool ask = now - asked_at_ >= options_.check;
    if (progress_.fenced() == confirmed_ && !reply_due_ && !ask) return absl::OkStatus();
    if (ask) asked_at_ = now;
    confirmed_ = progress_.fenced();
    reply_due_ = false;
    return replication_->WriteFrame(EncodeStatus(progress_.received(), confirmed_, clock_->Now(), ask));
  }

  // Looks at the slot, which also keeps the lead. `wait`: for the answer.
  absl::Status Check(bool wait) {
    const absl::Duration now = clock_->Steady();
    if (!checking_ && (wait || now - checked_at_ >= options_.check)) {
      RETURN_IF_ERROR(control_->Send(
          "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint, wal_status, "
          "pg_snapshot_xmax(pg_current_snapshot()), EXISTS (SELECT FROM pg_class AS c "
          "JOIN pg_namespace AS n ON n.oid = c.relnamespace CROSS JOIN pg_partition_tree(c.oid) AS t "
          "JOIN pg_class AS p ON p.oid = t.relid WHERE c.relkind = 'p' AND p.relreplident <> c.relreplident "
          "AND n.nspname || '.' || c.relname = ANY(string_to_array($2, E'\\n'))), "
          // What is on the disk: an asynchronous commit comes there by itself, half a second later.
          "pg_current_wal_flush_lsn() "
          "FROM pg_replication_slots WHERE slot_name = $1",
          {options_.slot, TableLines()}));
      checking_ = true;
      checked_at_ = now;
    }
    while (checking_) {
      ASSIGN_OR_RETURN(const std::optional<Connection::Rows> rows, control_->Receive());
      if (rows.has_value()) {
        checking_ = false;
        if (rows->empty()) return absl::UnavailableError("the replication slot is gone");
        return UseCheck((*rows)[0]);
      }
      if (clock_->Steady() - checked_at_ > options_.lapse) {
        return absl::UnavailableError("the leader's connection has fallen silent");
      }
      if (!wait) break;
      if (stream_.worker_.stopping()) return absl::CancelledError("it is being stopped");
      WaitReadable({Stop(), control_->socket()}, options_.check);
    }
    return absl::OkStatus();
  }

  absl::Status UseCheck(const std::vector<std::optional<std::string>>& row) {
    const uint64_t behind = Number(row[0]);
    stream_.lag_bytes_->Set(static_cast<double>(behind));
    if (behind > options_.lag_limit_bytes || row[1] == "lost") {
      return absl::UnavailableError(absl::StrCat("the slot is ", behind, " bytes behind: too far"));
    }
    assembler_.SetCurrentXid(Number(row[2]));
    // The last one first, or one that falls behind by more than a check would never have covered anything.
    if (!looked_.has_value()) looked_ = Look{checked_at_, Position(row[4])};
    if (row[3] == "t") {
      // Its old rows are taken for whole ones, and are not.
      stream_.distrust_ = "a partition was added that has another replica identity than its table";
      return absl::UnavailableError(stream_.distrust_);
    }
    if (stream_.state() == CaptureState::kStreaming || stream_.state() == CaptureState::kLagging) {
      const bool lags = behind > options_.lag_warning_bytes;
      stream_.SetState(lags ? CaptureState::kLagging : CaptureState::kStreaming,
                       lags ? absl::StrCat(behind, " bytes behind") : "");
    }
    return absl::OkStatus();
  }

  // Lets the other replicas know how far it is: soon after something was captured, else only now and then, since every
  // note of it is itself written to the log.
  absl::Status Publish() {
    const absl::Duration now = clock_->Steady();
    if (publishing_.has_value()) {
      ASSIGN_OR_RETURN(const std::optional<Connection::Rows> rows, state_->Receive());
      if (rows.has_value()) {
        if (rows->empty()) return absl::AbortedError("another replica leads the capture");
        NoteStateTime((*rows)[0][1]);
        published_ = *std::exchange(publishing_, std::nullopt);
      } else if (now - published_at_ > options_.lapse) {
        return absl::UnavailableError("the state database has fallen silent");
      }
      return absl::OkStatus();
    }
    const bool captured = progress_.fenced() != published_ && progress_.handed() != handed_;
    const bool news = progress_.fenced() != published_ || covered_at_ != covered_published_;
    if (!news || now - published_at_ < (captured ? options_.publish : options_.check)) return absl::OkStatus();
    publishing_ = progress_.fenced();
    covered_published_ = covered_at_;
    published_at_ = now;
    handed_ = progress_.handed();
    const bool covered = covered_at_ > absl::ZeroDuration();
    return state_->Send(
        absl::StrCat(
            "UPDATE shadowline.capture SET fenced_lsn = $1::pg_lsn, fenced_at = coalesce(timestamptz 'epoch' + "
            "nullif($4::bigint, 0) * interval '1 microsecond', fenced_at) "
            "WHERE slot = $2 AND term = $3::bigint RETURNING term, ",
            kStateTime),
        {FormatLsn(*publishing_), options_.slot, term_,
         absl::StrCat(covered ? absl::ToInt64Microseconds(state_time_ + covered_at_) : 0)});
  }

  // What the state database's clock shows at our steady zero, or less: the answer has been on its way for a while. What
  // is published as covered is then never later than it was.
  void NoteStateTime(const std::optional<std::string>& micros) {
    state_time_ = absl::Microseconds(Number(micros)) - clock_->Steady();
  }

  CaptureStream& stream_;
  const Options& options_;
  const base::Clock* const clock_;
  const std::shared_ptr<Inbox> inbox_;
  const std::shared_ptr<const CompiledCatalog> catalog_;
  const std::set<std::string> families_;
  const uint64_t number_;
  PostgresTenantLookup lookup_;
  Assembler assembler_;

  std::unique_ptr<Connection> control_;  // Holds the lock.
  std::unique_ptr<Connection> state_;
  std::unique_ptr<Connection> replication_;

  std::string term_;
  Progress progress_{0};
  std::string frame_;
  Lsn confirmed_ = 0;
  bool slot_seen_ = false;
  bool reply_due_ = false;
  bool checking_ = false;
  // Where the log was at a check that the fences have not come to yet.
  struct Look {
    absl::Duration at;
    Lsn position;
  };
  std::optional<Look> looked_;
  absl::Duration covered_at_;  // Zero: not known in this session.
  absl::Duration covered_published_;
  absl::Duration state_time_;
  std::optional<Lsn> publishing_;
  Lsn published_ = 0;
  size_t handed_ = 0;
  absl::Duration heard_at_, asked_at_, checked_at_, published_at_;
};

CaptureStream::CaptureStream(Options options, Deps deps)
    : options_(std::move(options)),
      deps_(std::move(deps)),
      leading_(deps_.metrics->AddGauge("shadowline_capture_leading", "1 while this replica captures changes.")),
      lag_bytes_(
          deps_.metrics->AddGauge("shadowline_capture_lag_bytes", "Log that is not confirmed yet, by the leader.")),
      transactions_(deps_.metrics->AddCounter("shadowline_capture_transactions_total",
                                              "Captured transactions that touched what is cached.")),
      alarms_(
          deps_.metrics->AddCounter("shadowline_capture_alarms_total",
                                    "Times that whole families were dropped because changes may have been missed.")),
      failures_(deps_.metrics->AddCounter("shadowline_capture_failures_total",
                                          "Times that capture stopped and had to begin again.")),
      seconds_(deps_.metrics->AddHistogram("shadowline_capture_seconds", "From the commit of a change to its fences.",
                                           {0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10})),
      inbox_(std::make_shared<Inbox>()),
      worker_(
          {"capture", options_.pause_min, options_.pause_max}, [this](bool* worked) { return Serve(worked); },
          [this](const absl::Status& status) {
            failures_->Add();
            // Where it connects again may be another log.
            deps_.watermark->Set(0);
            base::Log(base::Level::kWarning, "capture_failed", {{"slot", options_.slot}, {"error", status.ToString()}});
            const CaptureState now = this->state();
            if (now != CaptureState::kRefused && now != CaptureState::kSlotLost) {
              SetState(CaptureState::kDisconnected, std::string(status.message()));
            }
          }) {}

CaptureStream::~CaptureStream() { Stop(); }

void CaptureStream::Start() { worker_.Start(); }

void CaptureStream::Stop() { worker_.Stop(); }

void CaptureStream::SetCatalog(std::shared_ptr<const CompiledCatalog> catalog) {
  {
    base::MutexLock lock(&mutex_);
    catalog_ = std::move(catalog);
  }
  inbox_->signal()->Set();
}

CaptureState CaptureStream::state() const {
  base::MutexLock lock(&mutex_);
  return state_;
}

void CaptureStream::SetState(CaptureState state, const std::string& why) {
  {
    base::MutexLock lock(&mutex_);
    if (state_ == state) return;
    state_ = state;
  }
  base::Log(base::Level::kInfo, "capture_state",
            {{"slot", options_.slot}, {"state", CaptureStateName(state)}, {"why", why}});
  if (deps_.on_state) deps_.on_state(state, why);
}

absl::Status CaptureStream::Serve(bool* worked) {
  std::shared_ptr<const CompiledCatalog> catalog;
  {
    base::MutexLock lock(&mutex_);
    catalog = catalog_;
  }
  if (catalog == nullptr || (!options_.lead && !Captures(*catalog))) {
    WaitReadable({worker_.stop(), inbox_->signal()->descriptor()}, absl::Hours(1));
    inbox_->Take();
    return absl::OkStatus();
  }
  return Session(this, std::move(catalog)).Run(worked);
}

}  // namespace shadowline::cache
