#include "diff/evidence/postgres/evidence.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"

namespace shadowline::diff {
namespace {

// PostgreSQL's text cannot hold a NUL; a tag made from a parameter can.
std::string Text(absl::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for (const char c : text) {
    if (c == '\0') {
      clean.append("\xef\xbf\xbd");  // U+FFFD
    } else {
      clean.push_back(c);
    }
  }
  return clean;
}

// Unix microseconds, within what timestamptz can hold.
int64_t Micros(absl::Time time) {
  return absl::ToUnixMicros(
      std::clamp(time, absl::UnixEpoch(), absl::FromCivil(absl::CivilDay(9999), absl::UTCTimeZone())));
}

// InfinitePast is null.
std::optional<int64_t> MicrosOrNull(absl::Time time) {
  if (time == absl::InfinitePast()) return std::nullopt;
  return Micros(time);
}

// A PostgreSQL array literal, element by element.
class Array {
 public:
  void AddText(absl::string_view text) {
    Comma();
    literal_.push_back('"');
    for (const char c : Text(text)) {
      if (c == '"' || c == '\\') literal_.push_back('\\');
      literal_.push_back(c);
    }
    literal_.push_back('"');
  }
  template <typename Number>
  void Add(Number number) {
    Comma();
    absl::StrAppend(&literal_, number);
  }
  void AddUnsigned(uint64_t number) { Add(static_cast<int64_t>(number)); }
  void AddBoolean(bool value) { Add(value ? "t" : "f"); }
  void AddNull() { Add("NULL"); }

  std::string Literal() const { return literal_ + "}"; }

 private:
  void Comma() {
    if (literal_.size() > 1) literal_.push_back(',');
  }
  std::string literal_ = "{";
};

// The elements of an array column as text; nothing is NULL.
std::vector<std::optional<std::string>> Elements(const pqxx::field& field) {
  std::vector<std::optional<std::string>> elements;
  pqxx::array_parser parser = field.as_array();
  while (true) {
    auto [juncture, element] = parser.get_next();
    switch (juncture) {
      case pqxx::array_parser::juncture::done:
        return elements;
      case pqxx::array_parser::juncture::string_value:
        elements.emplace_back(std::move(element));
        break;
      case pqxx::array_parser::juncture::null_value:
        elements.emplace_back();
        break;
      case pqxx::array_parser::juncture::row_start:
      case pqxx::array_parser::juncture::row_end:
        break;
    }
  }
}

std::vector<std::string> Texts(const pqxx::field& field) {
  std::vector<std::string> texts;
  for (std::optional<std::string>& element : Elements(field)) texts.push_back(std::move(element).value_or(""));
  return texts;
}

absl::Time TimeOf(const std::string& micros) { return absl::FromUnixMicros(std::stoll(micros)); }
absl::Time TimeOf(const pqxx::field& micros) { return absl::FromUnixMicros(micros.as<int64_t>()); }

DifferenceKind KindOf(absl::string_view name) {
  for (const DifferenceKind kind : {DifferenceKind::kMissing, DifferenceKind::kExtra, DifferenceKind::kType,
                                    DifferenceKind::kValue, DifferenceKind::kOrder, DifferenceKind::kLength}) {
    if (KindName(kind) == name) return kind;
  }
  return DifferenceKind::kShape;
}

// --- Writing.

// `age`: how long ago the watermark was, at a moment after the transaction began. Its own time, now(), is from before
// that, so what is kept is never later than the watermark was.
void WriteHeartbeat(pqxx::work& work, const std::string& replica, const std::string& name, const Flush& flush,
                    absl::Duration age) {
  work.exec_params(
      "INSERT INTO shadowline.replica AS r (replica, name, sequence, watermark, catalog_revision, flag_revision) "
      "VALUES ($1, $2, $3, now() - $4::bigint * interval '1 microsecond', $5, $6) "
      "ON CONFLICT (replica) DO UPDATE SET heartbeat_at = clock_timestamp(), swept_at = NULL, "
      "  sequence = GREATEST(r.sequence, excluded.sequence), watermark = GREATEST(r.watermark, excluded.watermark), "
      "  catalog_revision = CASE WHEN excluded.sequence >= r.sequence THEN excluded.catalog_revision "
      "                          ELSE r.catalog_revision END, "
      "  flag_revision = CASE WHEN excluded.sequence >= r.sequence THEN excluded.flag_revision ELSE r.flag_revision "
      "END",
      replica, Text(name), flush.sequence, absl::ToInt64Microseconds(age) + 1, flush.catalog_revision,
      flush.flag_revision);
}

// The row of a replica that has died, in want of a sweep. Its watermark holds up nobody any more.
void WriteEnd(pqxx::work& work, const std::string& replica, const std::string& name, const Flush& flush) {
  work.exec_params(
      "INSERT INTO shadowline.replica AS r (replica, name, stopped_at, sequence, watermark) "
      "VALUES ($1, $2, clock_timestamp(), $3, timestamptz 'epoch') "
      "ON CONFLICT (replica) DO UPDATE SET stopped_at = coalesce(r.stopped_at, excluded.stopped_at), swept_at = NULL, "
      "  sequence = GREATEST(r.sequence, excluded.sequence)",
      replica, Text(name), flush.sequence);
}

uint64_t CountLive(pqxx::work& work, absl::Duration lapse) {
  return work
      .exec_params1(
          "SELECT count(*) FROM shadowline.replica WHERE stopped_at IS NULL AND heartbeat_at > "
          "clock_timestamp() - $1::bigint * interval '1 microsecond'",
          absl::ToInt64Microseconds(lapse))[0]
      .as<uint64_t>();
}

// A row that was counted as lost while its replica slept is its own again.
void WriteCounts(pqxx::work& work, const std::string& replica, const Flush& flush) {
  static constexpr std::pair<const char*, uint64_t Counts::*> kColumns[] = {
      {"sampled", &Counts::sampled},
      {"matched", &Counts::matched},
      {"excused", &Counts::excused},
      {"healed", &Counts::healed},
      {"confirmed", &Counts::confirmed},
      {"inconclusive", &Counts::inconclusive},
      {"errored", &Counts::errored},
      {"shed", &Counts::shed},
      {"candidate_misses", &Counts::candidate_misses},
      {"candidate_errors", &Counts::candidate_errors},
  };
  Array families, tenants, windows, revisions, endpoints, minutes, latencies, weighted;
  std::array<Array, std::size(kColumns)> values;
  for (const auto& [key, counts] : flush.counts) {
    families.AddText(key.family);
    tenants.AddText(key.tenant);
    windows.AddUnsigned(key.window);
    revisions.AddUnsigned(key.catalog_revision);
    endpoints.AddText(key.endpoint);
    minutes.Add(key.minute);
    for (size_t i = 0; i < values.size(); ++i) values[i].AddUnsigned(counts.*kColumns[i].second);
    latencies.AddText(absl::StrCat("{", absl::StrJoin(counts.candidate_latency, ","), "}"));
    weighted.AddText(absl::StrCat("{", absl::StrJoin(counts.weighted.Figures(), ","), "}"));
  }
  const auto names = [](absl::string_view prefix) {
    return absl::StrJoin(kColumns, ", ",
                         [&](std::string* out, const auto& column) { absl::StrAppend(out, prefix, column.first); });
  };
  const std::string set = absl::StrJoin(kColumns, ", ", [](std::string* out, const auto& column) {
    absl::StrAppend(out, column.first, " = excluded.", column.first);
  });
  work.exec_params(
      absl::StrCat(
          "INSERT INTO shadowline.evidence AS e (family, tenant, window_no, catalog_revision, endpoint, minute, "
          "replica, "
          "sequence, ",
          names(""),
          ", candidate_latency, weighted) SELECT u.family, u.tenant, u.window_no, u.catalog_revision, u.endpoint, "
          "u.minute, "
          "$1::uuid, $2::bigint, ",
          names("u."),
          ", u.latency::bigint[], u.weighted::bigint[] FROM unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[], "
          "$7::text[], "
          "$8::bigint[], "
          "$9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], "
          "$16::bigint[], $17::bigint[], $18::bigint[], $19::text[], $20::text[]) "
          "AS u(family, tenant, window_no, catalog_revision, endpoint, minute, ",
          names(""),
          ", latency, weighted) ON CONFLICT (family, tenant, window_no, catalog_revision, endpoint, minute, replica) "
          "DO UPDATE "
          "SET "
          "sequence = excluded.sequence, lost = 0, candidate_latency = excluded.candidate_latency, weighted = "
          "excluded.weighted, ",
          set, " WHERE e.sequence < excluded.sequence"),
      replica, flush.sequence, families.Literal(), tenants.Literal(), windows.Literal(), revisions.Literal(),
      endpoints.Literal(), minutes.Literal(), values[0].Literal(), values[1].Literal(), values[2].Literal(),
      values[3].Literal(), values[4].Literal(), values[5].Literal(), values[6].Literal(), values[7].Literal(),
      values[8].Literal(), values[9].Literal(), latencies.Literal(), weighted.Literal());
}

// In one order, so that two replicas that saw the same episodes do not deadlock.
void WriteEpisodes(pqxx::work& work, const Flush& flush) {
  Array families, tenants, windows, revisions, endpoints, episodes, keys, exercised;
  for (const auto& [key, found] : flush.episodes) {
    for (const Episode& episode : found) {
      families.AddText(key.family);
      tenants.AddText(key.tenant);
      windows.AddUnsigned(key.window);
      revisions.AddUnsigned(key.catalog_revision);
      endpoints.AddText(key.endpoint);
      episodes.AddUnsigned(episode.id);
      keys.AddUnsigned(episode.key);
      exercised.AddBoolean(episode.exercised);
    }
  }
  work.exec_params(
      "INSERT INTO shadowline.episode (family, tenant, window_no, catalog_revision, endpoint, episode, key, exercised) "
      "SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], "
      "$7::bigint[], "
      "$8::boolean[]) ORDER BY 1, 2, 3, 4, 5, 6 ON CONFLICT DO NOTHING",
      families.Literal(), tenants.Literal(), windows.Literal(), revisions.Literal(), endpoints.Literal(),
      episodes.Literal(), keys.Literal(), exercised.Literal());
}

// A replica's row of an endpoint, and one of each of its patterns. `pairs` is the endpoint's in all of them.
void WriteNoise(pqxx::work& work, const std::string& replica, const Flush& flush) {
  Array families, endpoints, revisions, patterns, pairs, differed;
  for (const auto& [key, counts] : flush.noise) {
    const auto add = [&, &key = key, &counts = counts](absl::string_view pattern, uint64_t count) {
      families.AddText(key.family);
      endpoints.AddText(key.endpoint);
      revisions.AddUnsigned(key.catalog_revision);
      patterns.AddText(pattern);
      pairs.AddUnsigned(counts.pairs);
      differed.AddUnsigned(count);
    };
    add("", counts.differed);
    for (const auto& [pattern, count] : counts.patterns) add(pattern, count);
  }
  work.exec_params(
      "INSERT INTO shadowline.noise AS n (family, endpoint, catalog_revision, replica, pattern, sequence, pairs, "
      "differed) SELECT u.family, u.endpoint, u.revision, $1::uuid, u.pattern, $2::bigint, max(u.pairs), "
      "sum(u.differed) FROM unnest($3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[], $8::bigint[]) "
      "AS u(family, endpoint, revision, pattern, pairs, differed) GROUP BY 1, 2, 3, 5 "
      "ON CONFLICT (family, endpoint, catalog_revision, replica, pattern) DO UPDATE SET sequence = excluded.sequence, "
      "pairs = excluded.pairs, differed = excluded.differed WHERE n.sequence < excluded.sequence",
      replica, flush.sequence, families.Literal(), endpoints.Literal(), revisions.Literal(), patterns.Literal(),
      pairs.Literal(), differed.Literal());
}

void WriteFlush(pqxx::work& work, const std::string& replica, const Flush& flush) {
  if (!flush.counts.empty()) WriteCounts(work, replica, flush);
  if (!flush.episodes.empty()) WriteEpisodes(work, flush);
  if (!flush.noise.empty()) WriteNoise(work, replica, flush);
}

void WriteDivergence(pqxx::work& work, const Divergence& divergence) {
  Array patterns, pointers, kinds, controls, candidates;
  for (const std::string& pattern : divergence.patterns) patterns.AddText(pattern);
  for (const Difference& difference : divergence.differences) {
    pointers.AddText(difference.pointer);
    kinds.AddText(KindName(difference.kind));
    controls.AddText(difference.control);
    candidates.AddText(difference.candidate);
  }
  Array candidate_at, same_fill, control_at, differed, snapshots;
  for (const Observation& observation : divergence.observations) {
    candidate_at.Add(Micros(observation.candidate_at));
    same_fill.AddBoolean(observation.same_fill);
    control_at.Add(Micros(observation.control_at));
    differed.AddBoolean(observation.differed);
    snapshots.AddText(observation.snapshot);
  }
  Array tags, invalidated_at;
  for (const auto& [tag, at] : divergence.tags) {
    tags.AddText(tag);
    if (at == absl::InfinitePast()) {
      invalidated_at.AddNull();
    } else {
      invalidated_at.Add(Micros(at));
    }
  }
  const EvidenceKey& key = divergence.evidence;
  work.exec_params(
      "INSERT INTO shadowline.divergence AS d (id, family, tenant, endpoint, window_no, catalog_revision, minute, "
      "fingerprint, "
      "key, fill, patterns, cause, cause_evidence, reads_affected, after_cutover, confirmed_at, differences_total, "
      "difference_pointers, difference_kinds, difference_controls, difference_candidates, rule, freshness_us, "
      "filled_at, "
      "served_at, look_candidate_at_us, look_same_fill, look_control_at_us, look_differed, look_snapshot, tags, "
      "tag_invalidated_at_us, unsafe, transaction, committed_at, sealed, sealed_until) "
      "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, "
      "timestamptz 'epoch' + $16::bigint * interval '1 microsecond', $17, $18, $19, $20, $21, $22, $23, "
      "timestamptz 'epoch' + $24::bigint * interval '1 microsecond', "
      "timestamptz 'epoch' + $25::bigint * interval '1 microsecond', $26, $27, $28, $29, $30, $31, $32, $33, $34, "
      "timestamptz 'epoch' + $35::bigint * interval '1 microsecond', decode($36, 'hex'), "
      "timestamptz 'epoch' + $37::bigint * interval '1 microsecond') "
      "ON CONFLICT (id) DO UPDATE SET reads_affected = GREATEST(d.reads_affected, excluded.reads_affected)",
      Text(divergence.id), Text(key.family), Text(key.tenant), Text(key.endpoint), static_cast<int64_t>(key.window),
      static_cast<int64_t>(key.catalog_revision), key.minute, Text(divergence.fingerprint), Text(divergence.key),
      Text(divergence.fill), patterns.Literal(), Text(divergence.cause), Text(divergence.cause_evidence),
      static_cast<int64_t>(divergence.reads_affected), divergence.after_cutover, Micros(divergence.confirmed_at),
      static_cast<int64_t>(divergence.differences_total), pointers.Literal(), kinds.Literal(), controls.Literal(),
      candidates.Literal(), Text(divergence.rule), absl::ToInt64Microseconds(divergence.freshness),
      Micros(divergence.filled_at), Micros(divergence.served_at), candidate_at.Literal(), same_fill.Literal(),
      control_at.Literal(), differed.Literal(), snapshots.Literal(), tags.Literal(), invalidated_at.Literal(),
      Text(divergence.unsafe), static_cast<int64_t>(divergence.transaction), MicrosOrNull(divergence.committed_at),
      divergence.sealed.empty() ? std::optional<std::string>() : absl::BytesToHexString(divergence.sealed),
      MicrosOrNull(divergence.sealed_until));
}

// --- Reading.

constexpr char kMicrosOfConfirmed[] = "(extract(epoch FROM confirmed_at) * 1000000)::bigint";

const std::string& DivergenceColumns() {
  static const std::string columns = absl::StrCat(
      "id, family, tenant, endpoint, window_no, catalog_revision, minute, fingerprint, key, fill, patterns, cause, "
      "cause_evidence, reads_affected, after_cutover, ",
      kMicrosOfConfirmed,
      " AS confirmed_us, differences_total, difference_pointers, difference_kinds, difference_controls, "
      "difference_candidates, rule, freshness_us, (extract(epoch FROM filled_at) * 1000000)::bigint AS filled_us, "
      "(extract(epoch FROM served_at) * 1000000)::bigint AS served_us, look_candidate_at_us, look_same_fill, "
      "look_control_at_us, look_differed, look_snapshot, tags, tag_invalidated_at_us, unsafe, transaction, "
      "(extract(epoch FROM committed_at) * 1000000)::bigint AS committed_us, encode(sealed, 'hex') AS sealed_hex, "
      "(extract(epoch FROM sealed_until) * 1000000)::bigint AS sealed_until_us");
  return columns;
}

Divergence ReadDivergence(const pqxx::row& row) {
  Divergence divergence;
  divergence.id = row["id"].as<std::string>();
  divergence.evidence = {.tenant = row["tenant"].as<std::string>(),
                         .family = row["family"].as<std::string>(),
                         .endpoint = row["endpoint"].as<std::string>(),
                         .window = row["window_no"].as<uint64_t>(),
                         .catalog_revision = row["catalog_revision"].as<uint64_t>(),
                         .minute = row["minute"].as<int64_t>()};
  divergence.fingerprint = row["fingerprint"].as<std::string>();
  divergence.key = row["key"].as<std::string>();
  divergence.fill = row["fill"].as<std::string>();
  divergence.patterns = Texts(row["patterns"]);
  divergence.cause = row["cause"].as<std::string>();
  divergence.cause_evidence = row["cause_evidence"].as<std::string>();
  divergence.reads_affected = row["reads_affected"].as<uint64_t>();
  divergence.after_cutover = row["after_cutover"].as<bool>();
  divergence.confirmed_at = TimeOf(row["confirmed_us"]);
  divergence.differences_total = row["differences_total"].as<uint64_t>();
  const std::vector<std::string> pointers = Texts(row["difference_pointers"]);
  const std::vector<std::string> kinds = Texts(row["difference_kinds"]);
  const std::vector<std::string> controls = Texts(row["difference_controls"]);
  const std::vector<std::string> candidates = Texts(row["difference_candidates"]);
  for (size_t i = 0; i < pointers.size(); ++i) {
    divergence.differences.push_back({pointers[i], KindOf(kinds.at(i)), controls.at(i), candidates.at(i)});
  }
  divergence.rule = row["rule"].as<std::string>();
  divergence.freshness = absl::Microseconds(row["freshness_us"].as<int64_t>());
  divergence.filled_at = TimeOf(row["filled_us"]);
  divergence.served_at = TimeOf(row["served_us"]);
  const std::vector<std::string> candidate_at = Texts(row["look_candidate_at_us"]);
  const std::vector<std::string> same_fill = Texts(row["look_same_fill"]);
  const std::vector<std::string> control_at = Texts(row["look_control_at_us"]);
  const std::vector<std::string> differed = Texts(row["look_differed"]);
  const std::vector<std::string> snapshots = Texts(row["look_snapshot"]);
  for (size_t i = 0; i < candidate_at.size(); ++i) {
    divergence.observations.push_back({.candidate_at = TimeOf(candidate_at[i]),
                                       .same_fill = same_fill.at(i) == "t",
                                       .control_at = TimeOf(control_at.at(i)),
                                       .differed = differed.at(i) == "t",
                                       .snapshot = snapshots.at(i)});
  }
  const std::vector<std::string> tags = Texts(row["tags"]);
  const std::vector<std::optional<std::string>> invalidated_at = Elements(row["tag_invalidated_at_us"]);
  for (size_t i = 0; i < tags.size(); ++i) {
    divergence.tags.emplace_back(tags[i], invalidated_at.at(i) ? TimeOf(*invalidated_at[i]) : absl::InfinitePast());
  }
  divergence.unsafe = row["unsafe"].as<std::string>();
  divergence.transaction = row["transaction"].as<uint64_t>();
  if (!row["committed_us"].is_null()) divergence.committed_at = TimeOf(row["committed_us"]);
  if (!row["sealed_hex"].is_null()) divergence.sealed = absl::HexStringToBytes(row["sealed_hex"].as<std::string>());
  if (!row["sealed_until_us"].is_null()) divergence.sealed_until = TimeOf(row["sealed_until_us"]);
  return divergence;
}

}  // namespace

PostgresEvidence::PostgresEvidence(base::PostgresSessions* sessions, std::string replica, std::string name,
                                   absl::Duration lapse)
    : sessions_(sessions), replica_(std::move(replica)), name_(std::move(name)), lapse_(lapse) {}

absl::Status PostgresEvidence::Apply(const Flush& flush) {
  uint64_t live = 0;
  RETURN_IF_ERROR(sessions_->Transact([&](pqxx::work& work) {
    WriteHeartbeat(work, replica_, name_, flush, clock_.Steady() - flush.watermark);
    live = CountLive(work, lapse_);
    WriteFlush(work, replica_, flush);
    return absl::OkStatus();
  }));
  live_.store(live, std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status PostgresEvidence::ApplyLast(const std::string& replica, const std::string& name, const Flush& flush) {
  return sessions_->Transact([&](pqxx::work& work) {
    WriteEnd(work, replica, name, flush);
    WriteFlush(work, replica, flush);
    return absl::OkStatus();
  });
}

absl::Status PostgresEvidence::Record(const Divergence& divergence) {
  return sessions_->Transact([&](pqxx::work& work) {
    work.exec_params("SELECT 1 FROM shadowline.target WHERE family = $1 AND tenant = $2 FOR SHARE",
                     Text(divergence.evidence.family), Text(divergence.evidence.tenant));
    WriteDivergence(work, divergence);
    return absl::OkStatus();
  });
}

absl::Status PostgresEvidence::Stop() {
  return sessions_->Transact([&](pqxx::work& work) {
    work.exec_params("UPDATE shadowline.replica SET stopped_at = clock_timestamp() WHERE replica = $1", replica_);
    return absl::OkStatus();
  });
}

absl::StatusOr<uint64_t> PostgresEvidence::SweepLost(absl::Duration lapse) {
  uint64_t lost = 0;
  RETURN_IF_ERROR(sessions_->Transact([&](pqxx::work& work) {
    // From here on a flush of these replicas waits; what follows sees every flush that came before.
    const pqxx::result silent = work.exec_params(
        "UPDATE shadowline.replica SET swept_at = clock_timestamp() WHERE swept_at IS NULL AND (stopped_at IS NOT NULL "
        "OR "
        "heartbeat_at < clock_timestamp() - $1::bigint * interval '1 microsecond') RETURNING replica::text",
        absl::ToInt64Microseconds(lapse));
    Array replicas;
    for (const pqxx::row& row : silent) replicas.AddText(row[0].c_str());
    const std::string pending = "sampled - matched - excused - healed - confirmed - inconclusive - errored - shed";
    lost = work.exec_params1(absl::StrCat("SELECT coalesce(sum(", pending,
                                          " - lost), 0)::bigint "
                                          "FROM shadowline.evidence WHERE replica = ANY ($1::uuid[])"),
                             replicas.Literal())[0]
               .as<uint64_t>();
    work.exec_params(absl::StrCat("UPDATE shadowline.evidence SET lost = ", pending,
                                  " WHERE replica = ANY ($1::uuid[]) AND lost <> ", pending),
                     replicas.Literal());
    return absl::OkStatus();
  }));
  return lost;
}

absl::StatusOr<uint64_t> PostgresEvidence::ExpireSeals() {
  uint64_t expired = 0;
  RETURN_IF_ERROR(sessions_->Transact([&](pqxx::work& work) {
    expired = work.exec(
                      "UPDATE shadowline.divergence SET sealed = NULL WHERE sealed IS NOT NULL AND "
                      "sealed_until < clock_timestamp()")
                  .affected_rows();
    return absl::OkStatus();
  }));
  return expired;
}

absl::StatusOr<uint64_t> PostgresEvidence::Retire(absl::Duration retention) {
  // What a target is judged by, or was stopped by, stays however old it is.
  const auto not_present = [](const std::string& row) {
    return absl::StrCat("NOT EXISTS (SELECT 1 FROM shadowline.target t WHERE t.family = ", row,
                        ".family AND t.tenant = ", row, ".tenant AND t.window_no = ", row, ".window_no)");
  };
  const std::string before = "clock_timestamp() - $1::bigint * interval '1 microsecond'";
  const auto retire = [&](const std::string& table, const std::string& condition) {
    return absl::StrCat("DELETE FROM shadowline.", table, " WHERE ctid = ANY (ARRAY(SELECT x.ctid FROM shadowline.",
                        table, " x WHERE ", condition, " LIMIT ", kRetireBatch, "))");
  };
  const std::vector<std::string> statements = {
      retire("evidence", absl::StrCat("x.minute < extract(epoch FROM ", before, ") / 60 AND ", not_present("x"))),
      // An episode has no time; it goes after the counts of its window.
      retire("episode",
             absl::StrCat("$1::bigint > 0 AND ", not_present("x"),
                          " AND NOT EXISTS (SELECT 1 FROM shadowline.evidence e WHERE e.family = x.family AND "
                          "e.tenant = x.tenant AND e.window_no = x.window_no)")),
      retire("divergence", absl::StrCat("x.confirmed_at < ", before, " AND ", not_present("x"))),
      retire("replica",
             absl::StrCat("x.swept_at IS NOT NULL AND x.heartbeat_at < ", before,
                          " AND NOT EXISTS (SELECT 1 FROM shadowline.evidence e WHERE e.replica = x.replica)")),
      // It has no time either; it goes after its replica, and once a later revision has some of its own.
      retire(
          "noise",
          "$1::bigint > 0 AND (NOT EXISTS (SELECT 1 FROM shadowline.replica r WHERE r.replica = x.replica) OR EXISTS "
          "(SELECT 1 FROM shadowline.noise n WHERE n.family = x.family AND n.endpoint = x.endpoint AND "
          "n.catalog_revision > x.catalog_revision))"),
  };
  uint64_t retired = 0;
  for (const std::string& statement : statements) {
    RETURN_IF_ERROR(sessions_->Transact([&](pqxx::work& work) {
      retired += work.exec_params(statement, absl::ToInt64Microseconds(retention)).affected_rows();
      return absl::OkStatus();
    }));
  }
  return retired;
}

absl::StatusOr<std::vector<DivergenceGroup>> PostgresEvidence::Groups(const std::string& family,
                                                                      const std::string& fingerprint, uint32_t limit) {
  std::vector<DivergenceGroup> groups;
  RETURN_IF_ERROR(sessions_->Transact([&](pqxx::work& work) {
    const pqxx::result rows = work.exec_params(
        absl::StrCat(
            "SELECT g.*, d.patterns, d.cause, d.cause_evidence, k.keys AS example_keys FROM (SELECT family, endpoint, "
            "fingerprint, count(*) AS divergences, "
            "count(DISTINCT tenant) AS tenants, count(DISTINCT (tenant, key)) AS keys, "
            "max(unsafe) AS unsafe, sum(reads_affected)::bigint AS reads, min(",
            kMicrosOfConfirmed, ") AS first_us, max(", kMicrosOfConfirmed,
            ") AS last_us, (array_agg(id ORDER BY confirmed_at DESC, id))[1] AS example FROM shadowline.divergence "
            "WHERE ($1 = '' OR family = $1) AND ($3 = '' OR fingerprint = $3) GROUP BY family, endpoint, fingerprint "
            "ORDER BY last_us DESC, example LIMIT $2) g JOIN shadowline.divergence d ON d.id = g.example "
            "CROSS JOIN LATERAL (SELECT array_agg(key ORDER BY reads DESC, key) AS keys FROM (SELECT key, "
            "sum(reads_affected) AS reads FROM shadowline.divergence m WHERE m.family = g.family AND m.endpoint = "
            "g.endpoint AND m.fingerprint = g.fingerprint GROUP BY key ORDER BY 2 DESC, 1 LIMIT ",
            kExampleKeys, ") most) k ORDER BY g.last_us DESC, g.example"),
        Text(family), limit, Text(fingerprint));
    for (const pqxx::row& row : rows) {
      DivergenceGroup& group = groups.emplace_back();
      group.family = row["family"].as<std::string>();
      group.endpoint = row["endpoint"].as<std::string>();
      group.fingerprint = row["fingerprint"].as<std::string>();
      group.patterns = Texts(row["patterns"]);
      group.cause = row["cause"].as<std::string>();
      group.divergences = row["divergences"].as<uint64_t>();
      group.tenants = row["tenants"].as<uint64_t>();
      group.keys = row["keys"].as<uint64_t>();
      group.reads_affected = row["reads"].as<uint64_t>();
      group.first_at = TimeOf(row["first_us"]);
      group.last_at = TimeOf(row["last_us"]);
      group.example_id = row["example"].as<std::string>();
      group.cause_evidence = row["cause_evidence"].as<std::string>();
      group.unsafe = row["unsafe"].as<std::string>();
      group.example_keys = Texts(row["example_keys"]);
    }
    return absl::OkStatus();
  }));
  return groups;
}

absl::StatusOr<std::vector<Divergence>> PostgresEvidence::Divergences(const std::string& family,
                                                                      const std::string& tenant,
                                                                      const std::string& fingerprint, uint32_t limit) {
  std::vector<Divergence> divergences;
  RETURN_IF_ERROR(sessions_->Transact([&](pqxx::work& work) {
    const pqxx::result rows = work.exec_params(
        absl::StrCat("SELECT ", DivergenceColumns(),
                     " FROM shadowline.divergence WHERE ($1 = '' OR family = $1) AND ($2 = '' OR tenant = $2) AND "
                     "($3 = '' OR fingerprint = $3) ORDER BY confirmed_at DESC, id LIMIT $4"),
        Text(family), Text(tenant), Text(fingerprint), limit);
    for (const pqxx::row& row : rows) divergences.push_back(ReadDivergence(row));
    return absl::OkStatus();
  }));
  return divergences;
}

absl::StatusOr<Divergence> PostgresEvidence::Find(const std::string& id) {
  Divergence divergence;
  RETURN_IF_ERROR(sessions_->Transact([&](pqxx::work& work) -> absl::Status {
    const pqxx::result rows = work.exec_params(
        absl::StrCat("SELECT ", DivergenceColumns(), " FROM shadowline.divergence WHERE id = $1"), Text(id));
    if (rows.empty()) return absl::NotFoundError(absl::StrCat("divergence ", id, " does not exist"));
    divergence = ReadDivergence(rows[0]);
    return absl::OkStatus();
  }));
  return divergence;
}

absl::StatusOr<LedgerTotals> PostgresEvidence::FamilyLedger(const std::string& family) {
  LedgerTotals totals;
  RETURN_IF_ERROR(sessions_->Transact([&](pqxx::work& work) {
    Counts& counts = totals.counts;
    const std::pair<const char*, uint64_t*> sums[] = {
        {"sampled", &counts.sampled},
        {"matched", &counts.matched},
        {"excused", &counts.excused},
        {"healed", &counts.healed},
        {"confirmed", &counts.confirmed},
        {"inconclusive", &counts.inconclusive},
        {"errored", &counts.errored},
        {"shed", &counts.shed},
        {"lost", &totals.lost},
        {"candidate_misses", &counts.candidate_misses},
        {"candidate_errors", &counts.candidate_errors},
    };
    // One statement, so that the sums are of one moment.
    const std::string columns = absl::StrJoin(sums, ", ", [](std::string* out, const auto& sum) {
      absl::StrAppend(out, "coalesce(sum(", sum.first, "), 0)::bigint");
    });
    std::string buckets;
    for (size_t i = 0; i < counts.candidate_latency.size(); ++i) {
      absl::StrAppend(&buckets, ", coalesce(sum(candidate_latency[", i + 1, "]), 0)::bigint");
    }
    std::array<uint64_t, Weighted::kFigures> figures;
    for (size_t i = 0; i < figures.size(); ++i) {
      absl::StrAppend(&buckets, ", least(coalesce(sum(weighted[", i + 1, "]), 0), ", Weighted::kMost, ")");
    }
    const pqxx::row row = work.exec_params1(
        absl::StrCat("SELECT ", columns, buckets, " FROM shadowline.evidence WHERE family = $1"), Text(family));
    pqxx::row::size_type column = 0;
    for (const auto& [name, sum] : sums) *sum = row[column++].as<uint64_t>();
    for (uint64_t& bucket : counts.candidate_latency) bucket = row[column++].as<uint64_t>();
    for (uint64_t& figure : figures) figure = row[column++].as<uint64_t>();
    counts.weighted = Weighted::Of(figures);
    totals.pending = counts.Pending() - totals.lost;
    return absl::OkStatus();
  }));
  return totals;
}

absl::StatusOr<std::vector<Noise>> PostgresEvidence::FamilyNoise(const std::string& family) {
  std::vector<Noise> noise;
  RETURN_IF_ERROR(sessions_->Transact([&](pqxx::work& work) {
    // A replica that never saw a pattern has pairs all the same, in which it was not.
    const pqxx::result rows = work.exec_params(
        "SELECT endpoint, pattern, sum(differed)::bigint AS differed, (max(sum(pairs) FILTER (WHERE pattern = '')) "
        "OVER (PARTITION BY endpoint))::bigint AS pairs FROM shadowline.noise n WHERE family = $1 AND "
        "catalog_revision = (SELECT max(catalog_revision) FROM shadowline.noise WHERE family = $1 AND endpoint = "
        "n.endpoint) GROUP BY endpoint, pattern ORDER BY endpoint COLLATE \"C\", pattern COLLATE \"C\"",
        Text(family));
    for (const pqxx::row& row : rows) {
      noise.push_back({row["endpoint"].as<std::string>(), row["pattern"].as<std::string>(), row["pairs"].as<uint64_t>(),
                       row["differed"].as<uint64_t>()});
    }
    return absl::OkStatus();
  }));
  return noise;
}

}  // namespace shadowline::diff
