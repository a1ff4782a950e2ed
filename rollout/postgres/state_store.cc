#include "rollout/postgres/state_store.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "rollout/journal/journal.h"
#include "rollout/machine/machine.h"

namespace shadowline::rollout {
namespace {

// The advisory lock of the controllers; any number that nobody else uses in this database.
constexpr int64_t kLeaderLock = 0x5348'4144'4f57'4c4e;

constexpr char kTargetColumns[] =
    "tenant, mode, serve_ppm, sample_ppm, sample_by_key, epoch, revision, window_no, catalog_revision, reason,"
    " (extract(epoch FROM changed_at) * 1000000)::bigint, (extract(epoch FROM window_since) * 1000000)::bigint,"
    " sample_uncertified_ppm, sample_recent_ppm, sample_negative_ppm, sample_old_ppm, sample_cold_ppm";

// Evidence that counts: of the target's present window and of the catalog revision that it was opened under.
constexpr char kPresentEvidence[] =
    " JOIN shadowline.target t ON t.family = e.family AND t.tenant = e.tenant AND t.window_no = e.window_no"
    " AND t.catalog_revision = e.catalog_revision WHERE t.family = $1";

// A divergence counts also when a replica found it under a newer catalog than the window knows of yet.
constexpr char kPresentDivergences[] =
    " FROM shadowline.target t JOIN shadowline.divergence d ON d.family = t.family AND d.tenant = t.tenant"
    " AND d.window_no = t.window_no AND d.catalog_revision >= t.catalog_revision WHERE t.family = $1";

// Unsafe ones count for every target of the family, whose window began before: by the database's clock against a
// replica's, which may be a little ahead.
const std::string& UnsafeDivergences() {
  static const std::string text = absl::StrCat(
      " FROM shadowline.target t JOIN shadowline.divergence d ON d.family = t.family AND d.unsafe <> ''"
      " AND d.recorded_at >= t.window_since - interval '",
      absl::ToInt64Milliseconds(kClockSkew), " milliseconds' WHERE t.family = $1");
  return text;
}

constexpr char kRolloutColumns[] = "SELECT document::text, version FROM shadowline.rollout";
// One that has not ended is the newest whatever the clocks said.
constexpr char kNewestFirst[] = " ORDER BY (ended_at IS NULL) DESC, started_at DESC, id";

// Times go in as Unix microseconds: `At("$3")`.
std::string At(absl::string_view parameter) {
  return absl::StrCat("(timestamptz 'epoch' + ", parameter, "::bigint * interval '1 microsecond')");
}

Target ReadTarget(const pqxx::row& row) {
  Target target;
  target.flag.mode = flags::ParseMode(row[1].c_str());
  target.flag.serve_ppm = row[2].as<uint32_t>();
  target.flag.sample_ppm = row[3].as<uint32_t>();
  target.flag.sample_by_key = row[4].as<bool>();
  target.flag.epoch = row[5].as<uint64_t>();
  target.flag.revision = row[6].as<uint64_t>();
  target.flag.window = row[7].as<uint64_t>();
  target.flag.catalog_revision = row[8].as<uint64_t>();
  target.flag.reason = row[9].c_str();
  target.flag.changed_at = absl::FromUnixMicros(row[10].as<int64_t>());
  target.window_since = absl::FromUnixMicros(row[11].as<int64_t>());
  target.flag.strata = {row[12].as<uint32_t>(), row[13].as<uint32_t>(), row[14].as<uint32_t>(), row[15].as<uint32_t>(),
                        row[16].as<uint32_t>()};
  return target;
}

// Is the row still the one that a decision saw? Every writer of a row raises its revision.
bool SameRow(const Target& row, const Target& seen) {
  const flags::Flag& a = row.flag;
  const flags::Flag& b = seen.flag;
  return a.revision == b.revision && a.mode == b.mode && a.serve_ppm == b.serve_ppm && a.epoch == b.epoch &&
         a.window == b.window && a.catalog_revision == b.catalog_revision;
}

absl::StatusOr<Rollout> ReadRollout(const pqxx::row& row) {
  ASSIGN_OR_RETURN(Rollout rollout, DecodeRollout(row[0].c_str()));
  rollout.version = row[1].as<uint64_t>();
  return rollout;
}

using EvidenceByTenant = std::map<std::string, Evidence>;

void CountLedgers(pqxx::work& work, const std::string& family, double lapse_seconds, EvidenceByTenant* by_tenant) {
  std::string latency;
  for (size_t i = 1; i <= diff::Counts().candidate_latency.size(); ++i) {
    absl::StrAppend(&latency, ", coalesce(sum(candidate_latency[", i, "]), 0)");
  }
  std::string weighted;
  for (size_t i = 1; i <= diff::Weighted::kFigures; ++i) {
    absl::StrAppend(&weighted, ", least(coalesce(sum(weighted[", i, "]), 0), ", diff::Weighted::kMost, ")");
  }
  for (const pqxx::row& row : work.exec_params(
           absl::StrCat(
               "SELECT e.tenant, sum(sampled), sum(matched), sum(excused), sum(healed), sum(confirmed),"
               " sum(inconclusive), sum(errored), sum(shed), sum(candidate_misses), sum(candidate_errors), sum(lost),"
               " sum(pending), coalesce(sum(pending) FILTER (WHERE NOT live), 0)",
               latency, weighted,
               " FROM (SELECT e.*,"
               " greatest(sampled - matched - excused - healed - confirmed - inconclusive - errored - shed - lost, 0)"
               " AS pending, r.replica IS NOT NULL AND r.stopped_at IS NULL"
               " AND r.heartbeat_at > now() - $2 * interval '1 second' AS live"
               " FROM shadowline.evidence e LEFT JOIN shadowline.replica r ON r.replica = e.replica) e",
               kPresentEvidence, " GROUP BY e.tenant"),
           family, lapse_seconds)) {
    Evidence& evidence = (*by_tenant)[row[0].c_str()];
    diff::Counts& counts = evidence.ledger.counts;
    std::vector<uint64_t*> fields = {&counts.sampled,          &counts.matched,       &counts.excused,
                                     &counts.healed,           &counts.confirmed,     &counts.inconclusive,
                                     &counts.errored,          &counts.shed,          &counts.candidate_misses,
                                     &counts.candidate_errors, &evidence.ledger.lost, &evidence.ledger.pending,
                                     &evidence.unswept};
    for (uint64_t& reads : counts.candidate_latency) fields.push_back(&reads);
    std::array<uint64_t, diff::Weighted::kFigures> figures;
    for (uint64_t& figure : figures) fields.push_back(&figure);
    for (size_t i = 0; i < fields.size(); ++i) *fields[i] = row[static_cast<int>(i) + 1].as<uint64_t>();
    counts.weighted = diff::Weighted::Of(figures);
  }
}

void CountEpisodes(pqxx::work& work, const std::string& family, EvidenceByTenant* by_tenant) {
  // Grouped by key first: half the time of count(DISTINCT key), which sorts.
  for (const pqxx::row& row : work.exec_params(
           absl::StrCat(
               "SELECT tenant, endpoint, sum(episodes), count(*), sum(exercised) FROM (SELECT e.tenant, e.endpoint,"
               " count(*) AS episodes, count(*) FILTER (WHERE e.exercised) AS exercised FROM shadowline.episode e",
               kPresentEvidence,
               " AND t.mode <> 'DATABASE' GROUP BY e.tenant, e.endpoint, e.key) by_key GROUP BY tenant, endpoint"),
           family)) {
    (*by_tenant)[row[0].c_str()].endpoints[row[1].c_str()] = {row[2].as<uint64_t>(), row[3].as<uint64_t>(),
                                                              row[4].as<uint64_t>()};
  }
}

absl::Status WriteRollout(pqxx::work& work, const Rollout& rollout, absl::Time now) {
  const std::string document = EncodeRollout(rollout);
  const int64_t now_us = absl::ToUnixMicros(now);
  if (rollout.version == 0) {
    const pqxx::result open =
        work.exec_params("SELECT id FROM shadowline.rollout WHERE family = $1 AND ended_at IS NULL", rollout.family);
    if (!open.empty()) {
      return absl::AlreadyExistsError(
          absl::StrCat("family ", rollout.family, ": rollout ", open[0][0].c_str(), " has not ended; abort it first"));
    }
    work.exec_params(
        absl::StrCat("INSERT INTO shadowline.rollout (id, family, state, cohort, document, started_at, changed_at)"
                     " VALUES ($1, $2, $3, $4, $5::jsonb, ",
                     At("$6"), ", ", At("$6"), ")"),
        rollout.id, rollout.family, std::string(StateName(rollout.state)), rollout.cohort, document, now_us);
    return absl::OkStatus();
  }
  const pqxx::result updated = work.exec_params(
      absl::StrCat("UPDATE shadowline.rollout SET state = $3, cohort = $4, document = $5::jsonb, version = version + 1,"
                   " changed_at = ",
                   At("$6"), ", ended_at = CASE WHEN $7 THEN coalesce(ended_at, ", At("$6"),
                   ") END WHERE id = $1 AND version = $2"),
      rollout.id, rollout.version, std::string(StateName(rollout.state)), rollout.cohort, document, now_us,
      Ended(rollout.state));
  if (updated.affected_rows() == 1) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat("rollout ", rollout.id, ": it changed meanwhile"));
}

// Locks the row and makes sure that the decision still holds.
absl::Status LockTarget(pqxx::work& work, const std::string& family, const TargetChange& change) {
  work.exec_params("INSERT INTO shadowline.target (family, tenant) VALUES ($1, $2) ON CONFLICT DO NOTHING", family,
                   change.tenant);
  const pqxx::row row = work.exec_params1(
      absl::StrCat("SELECT ", kTargetColumns, " FROM shadowline.target WHERE family = $1 AND tenant = $2 FOR UPDATE"),
      family, change.tenant);
  if (!SameRow(ReadTarget(row), change.before)) {
    return absl::AbortedError(absl::StrCat("target ", family, "/", change.tenant, ": it changed meanwhile"));
  }
  if (!change.promotes) return absl::OkStatus();

  const uint64_t confirmed =
      work.exec_params1(absl::StrCat("SELECT count(*)", kPresentDivergences, " AND t.tenant = $2"), family,
                        change.tenant)[0]
          .as<uint64_t>();
  const uint64_t unsafe = work.exec_params1(absl::StrCat("SELECT count(*)", UnsafeDivergences(), " AND t.tenant = $2"),
                                            family, change.tenant)[0]
                              .as<uint64_t>();
  if (confirmed + unsafe > 0) {
    return absl::AbortedError(
        absl::StrCat("target ", family, "/", change.tenant, ": a divergence was confirmed meanwhile"));
  }
  const uint64_t catalog = work.exec1("SELECT coalesce(max(revision), 0) FROM shadowline.catalog")[0].as<uint64_t>();
  if (catalog != change.after.flag.catalog_revision) {
    return absl::AbortedError(absl::StrCat("target ", family, "/", change.tenant, ": the catalog changed meanwhile"));
  }
  return absl::OkStatus();
}

void WriteTarget(pqxx::work& work, const Commit& commit, const TargetWrite& write, uint64_t revision) {
  const TargetChange& change = write.change;
  const flags::Flag& before = change.before.flag;
  const flags::Flag& after = change.after.flag;
  const int64_t now_us = absl::ToUnixMicros(commit.now);
  work.exec_params(
      absl::StrCat(
          "UPDATE shadowline.target SET mode = $3, serve_ppm = $4, sample_ppm = $5, sample_by_key = $6, epoch = $7,"
          " revision = $8, window_no = $9, catalog_revision = $10, reason = $11, changed_at = ",
          At("$12"), ", window_since = ", At("$13"),
          ", sample_uncertified_ppm = $14, sample_recent_ppm = $15, sample_negative_ppm = $16, sample_old_ppm = $17,"
          " sample_cold_ppm = $18 WHERE family = $1 AND tenant = $2"),
      commit.family, change.tenant, std::string(flags::ModeName(after.mode)), after.serve_ppm, after.sample_ppm,
      after.sample_by_key, after.epoch, revision, after.window, after.catalog_revision, after.reason, now_us,
      absl::ToUnixMicros(change.after.window_since), after.strata.uncertified_ppm, after.strata.recent_ppm,
      after.strata.negative_ppm, after.strata.old_ppm, after.strata.cold_ppm);
  const std::string* receipt_id = nullptr;
  if (write.receipt.has_value()) {
    const Receipt& receipt = *write.receipt;
    receipt_id = &receipt.id;
    work.exec_params(
        absl::StrCat(
            "INSERT INTO shadowline.receipt (id, family, tenant, window_no, catalog_revision, leader_epoch, decision,"
            " inputs, digest, at) VALUES ($1::uuid, $2, $3, $4, $5, $6, $7, $8::jsonb, $9, ",
            At("$10"), ")"),
        receipt.id, receipt.family, receipt.tenant, receipt.window, receipt.catalog_revision, receipt.leader_epoch,
        receipt.decision, receipt.inputs, receipt.digest, absl::ToUnixMicros(receipt.at));
  }
  if (before.mode == after.mode && before.serve_ppm == after.serve_ppm) return;  // Only the window is new.
  work.exec_params(
      absl::StrCat(
          "INSERT INTO shadowline.flip (family, tenant, from_mode, from_serve_ppm, to_mode, to_serve_ppm, revision,"
          " who, why, receipt, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::uuid, ",
          At("$11"), ")"),
      commit.family, change.tenant, std::string(flags::ModeName(before.mode)), before.serve_ppm,
      std::string(flags::ModeName(after.mode)), after.serve_ppm, revision, change.who, change.why,
      receipt_id == nullptr ? nullptr : receipt_id->c_str(), now_us);
}

std::string Routing(const char* mode, uint32_t serve_ppm) {
  flags::Flag flag;
  flag.mode = flags::ParseMode(mode);
  flag.serve_ppm = serve_ppm;
  return RoutingName(flag);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> PostgresStateStore::Families() {
  std::vector<std::string> families;
  RETURN_IF_ERROR(sessions_->Transact([&](pqxx::work& work) {
    for (const pqxx::row& row :
         work.exec("SELECT family FROM shadowline.rollout UNION"
                   " SELECT family FROM shadowline.target WHERE mode <> 'DATABASE' ORDER BY 1")) {
      families.emplace_back(row[0].c_str());
    }
    return absl::OkStatus();
  }));
  return families;
}

absl::StatusOr<FamilyState> PostgresStateStore::Load(const std::string& family, Detail detail) {
  FamilyState state;
  state.family = family;
  const double lapse_seconds = absl::ToDoubleSeconds(options_.replica_lapse);
  RETURN_IF_ERROR(sessions_->Transact([&](pqxx::work& work) -> absl::Status {
    work.exec("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY");
    for (const pqxx::row& row :
         work.exec_params(absl::StrCat(kRolloutColumns, " WHERE family = $1", kNewestFirst, " LIMIT 1"), family)) {
      ASSIGN_OR_RETURN(state.rollout, ReadRollout(row));
    }
    for (const pqxx::row& row : work.exec_params(
             absl::StrCat("SELECT ", kTargetColumns, " FROM shadowline.target WHERE family = $1"), family)) {
      state.targets.emplace(row[0].c_str(), ReadTarget(row));
    }
    for (const pqxx::row& row : work.exec("SELECT tenant FROM shadowline.tenant"))
      state.tenants.emplace(row[0].c_str());
    state.catalog_revision = work.exec1("SELECT coalesce(max(revision), 0) FROM shadowline.catalog")[0].as<uint64_t>();
    for (const pqxx::row& row : work.exec_params(
             absl::StrCat("SELECT t.tenant, count(*)", kPresentDivergences, " GROUP BY t.tenant"), family)) {
      state.evidence[row[0].c_str()].confirmed = row[1].as<uint64_t>();
    }
    for (const pqxx::row& row : work.exec_params(
             absl::StrCat("SELECT t.tenant, count(*)", UnsafeDivergences(), " GROUP BY t.tenant"), family)) {
      state.evidence[row[0].c_str()].unsafe = row[1].as<uint64_t>();
    }
    for (const pqxx::row& row : work.exec_params(
             absl::StrCat("SELECT d.fingerprint", kPresentDivergences,
                          " GROUP BY d.fingerprint ORDER BY sum(d.reads_affected) DESC, d.fingerprint LIMIT 8"),
             family)) {
      state.fingerprints.emplace_back(row[0].c_str());
    }
    const pqxx::row fleet = work.exec_params1(
        "SELECT count(*), coalesce((extract(epoch FROM min(watermark)) * 1000000)::bigint, 0) FROM shadowline.replica"
        " WHERE stopped_at IS NULL AND heartbeat_at > now() - $1 * interval '1 second'",
        lapse_seconds);
    state.fleet = {fleet[0].as<uint64_t>(), absl::FromUnixMicros(fleet[1].as<int64_t>())};
    if (detail == Detail::kRouting) return absl::OkStatus();

    std::shared_ptr<const Count> count = Counted(family);
    if (count == nullptr) count = CountNow(work, state);
    state.fleet = count->fleet;
    for (const auto& [tenant, window] : count->windows) {
      const flags::Flag flag = state.TargetOf(tenant).flag;
      if (window.window != flag.window || window.catalog_revision != flag.catalog_revision) continue;
      const Evidence now = state.EvidenceOf(tenant);
      state.evidence[tenant] = window.evidence;
      state.evidence[tenant].confirmed = now.confirmed;
      state.evidence[tenant].unsafe = now.unsafe;
    }
    return absl::OkStatus();
  }));
  return state;
}

std::shared_ptr<const PostgresStateStore::Count> PostgresStateStore::Counted(const std::string& family) {
  const absl::Duration now = clock_.Steady();
  base::MutexLock lock(&mutex_);
  const auto found = counts_.find(family);
  return found != counts_.end() && now < found->second->usable_until ? found->second : nullptr;
}

std::shared_ptr<const PostgresStateStore::Count> PostgresStateStore::CountNow(pqxx::work& work,
                                                                              const FamilyState& state) {
  const absl::Duration began = clock_.Steady();
  EvidenceByTenant by_tenant;
  CountLedgers(work, state.family, absl::ToDoubleSeconds(options_.replica_lapse), &by_tenant);
  CountEpisodes(work, state.family, &by_tenant);
  auto count = std::make_shared<Count>();
  count->fleet = state.fleet;
  for (auto& [tenant, evidence] : by_tenant) {
    const flags::Flag flag = state.TargetOf(tenant).flag;
    count->windows.emplace(tenant, Count::Window{flag.window, flag.catalog_revision, std::move(evidence)});
  }
  const absl::Duration ended = clock_.Steady();
  count->usable_until = ended + (ended - began) * options_.rest_factor;
  base::MutexLock lock(&mutex_);
  counts_[state.family] = count;
  return count;
}

absl::Status PostgresStateStore::Write(const Commit& commit) {
  std::vector<const TargetWrite*> writes;
  for (const TargetWrite& write : commit.targets) writes.push_back(&write);
  std::sort(writes.begin(), writes.end(),
            [](const TargetWrite* a, const TargetWrite* b) { return a->change.tenant < b->change.tenant; });

  return sessions_->Transact([&](pqxx::work& work) -> absl::Status {
    work.exec("SET LOCAL idle_in_transaction_session_timeout = '5s'; SET LOCAL lock_timeout = '5s'");
    if (commit.leader_epoch.has_value()) {
      const uint64_t epoch = work.exec1("SELECT epoch FROM shadowline.leader FOR SHARE")[0].as<uint64_t>();
      if (epoch != *commit.leader_epoch) {
        return absl::AbortedError(
            absl::StrCat("leader epoch ", *commit.leader_epoch, " is over, it is ", epoch, " now"));
      }
    }
    if (commit.rollout.has_value()) RETURN_IF_ERROR(WriteRollout(work, *commit.rollout, commit.now));
    if (writes.empty()) return absl::OkStatus();

    for (const TargetWrite* write : writes) RETURN_IF_ERROR(LockTarget(work, commit.family, write->change));
    const uint64_t revision =
        work.exec1("UPDATE shadowline.flag_state SET revision = revision + 1 RETURNING revision")[0].as<uint64_t>();
    for (const TargetWrite* write : writes) WriteTarget(work, commit, *write, revision);
    work.exec_params("SELECT pg_notify($1, $2)", std::string(flags::kChangedChannel), absl::StrCat(revision));
    return absl::OkStatus();
  });
}

absl::StatusOr<Rollout> PostgresStateStore::FindRollout(const std::string& rollout) {
  std::optional<Rollout> found;
  RETURN_IF_ERROR(sessions_->Transact([&](pqxx::work& work) -> absl::Status {
    for (const char* column : {"id", "family"}) {
      for (const pqxx::row& row : work.exec_params(
               absl::StrCat(kRolloutColumns, " WHERE ", column, " = $1", kNewestFirst, " LIMIT 1"), rollout)) {
        ASSIGN_OR_RETURN(found, ReadRollout(row));
        return absl::OkStatus();
      }
    }
    return absl::NotFoundError(
        absl::StrCat("rollout ", rollout, ": no rollout has this id, and no family of this name has one"));
  }));
  return *std::move(found);
}

absl::StatusOr<std::vector<Rollout>> PostgresStateStore::ListRollouts(const std::string& family, bool ended) {
  std::vector<Rollout> rollouts;
  RETURN_IF_ERROR(sessions_->Transact([&](pqxx::work& work) -> absl::Status {
    for (const pqxx::row& row :
         work.exec_params(absl::StrCat(kRolloutColumns, " WHERE ($1 = '' OR family = $1) AND ($2 OR ended_at IS NULL)",
                                       kNewestFirst),
                          family, ended)) {
      ASSIGN_OR_RETURN(Rollout rollout, ReadRollout(row));
      rollouts.push_back(std::move(rollout));
    }
    return absl::OkStatus();
  }));
  return rollouts;
}

absl::StatusOr<std::vector<Flip>> PostgresStateStore::Flips(const std::string& family, uint32_t limit) {
  std::vector<Flip> flips;
  RETURN_IF_ERROR(sessions_->Transact([&](pqxx::work& work) {
    for (const pqxx::row& row : work.exec_params(
             "SELECT tenant, family, from_mode, from_serve_ppm, to_mode, to_serve_ppm, who, why,"
             " (extract(epoch FROM at) * 1000000)::bigint, coalesce(receipt::text, '') FROM shadowline.flip"
             " WHERE ($1 = '' OR family = $1) ORDER BY id DESC LIMIT $2",
             family, limit)) {
      Flip flip;
      flip.tenant = row[0].c_str();
      flip.family = row[1].c_str();
      flip.from = Routing(row[2].c_str(), row[3].as<uint32_t>());
      flip.to = Routing(row[4].c_str(), row[5].as<uint32_t>());
      flip.who = row[6].c_str();
      flip.why = row[7].c_str();
      flip.at = absl::FromUnixMicros(row[8].as<int64_t>());
      flip.receipt_id = row[9].c_str();
      flips.push_back(std::move(flip));
    }
    return absl::OkStatus();
  }));
  return flips;
}

absl::StatusOr<Receipt> PostgresStateStore::FindReceipt(const std::string& id) {
  Receipt receipt;
  RETURN_IF_ERROR(sessions_->Transact([&](pqxx::work& work) -> absl::Status {
    const pqxx::result rows = work.exec_params(
        "SELECT id::text, family, tenant, window_no, catalog_revision, leader_epoch, decision, inputs::text, digest,"
        " (extract(epoch FROM at) * 1000000)::bigint FROM shadowline.receipt WHERE id::text = $1",
        id);
    if (rows.empty()) return absl::NotFoundError(absl::StrCat("receipt ", id, ": unknown"));
    const pqxx::row row = rows[0];
    receipt.id = row[0].c_str();
    receipt.family = row[1].c_str();
    receipt.tenant = row[2].c_str();
    receipt.window = row[3].as<uint64_t>();
    receipt.catalog_revision = row[4].as<uint64_t>();
    receipt.leader_epoch = row[5].as<uint64_t>();
    receipt.decision = row[6].c_str();
    receipt.inputs = row[7].c_str();
    receipt.digest = row[8].c_str();
    receipt.at = absl::FromUnixMicros(row[9].as<int64_t>());
    return absl::OkStatus();
  }));
  return receipt;
}

absl::StatusOr<std::optional<uint64_t>> PostgresLeadership::Hold() {
  try {
    return TryHold();
  } catch (...) {
    absl::Status status = base::CurrentExceptionToStatus();
    epoch_.reset();
    connection_.reset();
    // Whatever went wrong: this replica does not know that it leads.
    return absl::UnavailableError(absl::StrCat("leadership: ", status.message()));
  }
}

std::optional<uint64_t> PostgresLeadership::TryHold() {
  if (connection_ == nullptr) {
    connection_ = std::make_unique<pqxx::connection>(options_.connection_string);
    pqxx::nontransaction work(*connection_);
    work.exec(
        absl::StrFormat("SET idle_session_timeout = %d; SET statement_timeout = '5s'; SET application_name = '%s'",
                        absl::ToInt64Milliseconds(options_.lapse), "shadowline leader"));
  }
  if (epoch_.has_value()) {
    pqxx::nontransaction work(*connection_);
    if (work.exec1("SELECT pg_backend_pid()")[0].as<int>() == backend_) return epoch_;
    epoch_.reset();
  }
  {
    pqxx::nontransaction work(*connection_);
    const pqxx::row row = work.exec1(absl::StrCat("SELECT pg_try_advisory_lock(", kLeaderLock, "), pg_backend_pid()"));
    if (!row[0].as<bool>()) return std::nullopt;
    backend_ = row[1].as<int>();
  }
  pqxx::work work(*connection_);
  const pqxx::row row = work.exec_params1(
      "UPDATE shadowline.leader SET epoch = epoch + 1, replica = $1::uuid, since = clock_timestamp()"
      " RETURNING epoch, pg_backend_pid()",
      options_.replica);
  if (row[1].as<int>() != backend_) throw pqxx::broken_connection("the session changed while it became the leader's");
  work.commit();
  epoch_ = row[0].as<uint64_t>();
  return epoch_;
}

void PostgresLeadership::Release() {
  if (epoch_.has_value()) {
    try {
      // The server drops the lock with its session too, but in its own time.
      pqxx::nontransaction work(*connection_);
      work.exec("SELECT pg_advisory_unlock_all()");
    } catch (...) {
      base::CurrentExceptionToStatus().IgnoreError();
    }
  }
  epoch_.reset();
  connection_.reset();
}

}  // namespace shadowline::rollout
