#include "cache/catalog/postgres/catalog_store.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "cache/capture/postgres/table_check.h"
#include "cache/catalog/sql.h"
#include "cache/key/text.h"
#include "cache/origin/statement.h"

namespace shadowline::cache {
namespace {

constexpr size_t kMaxTenantBytes = 128;
constexpr size_t kMaxTenants = 1'000'000;

// Volatile functions that only read: their answers differ from call to call, and that is all.
constexpr absl::string_view kHarmless =
    "random,clock_timestamp,timeofday,gen_random_uuid,uuid_generate_v1,uuid_generate_v4";

// Is it the statement's fault, rather than the server's or the connection's?
bool IsAboutTheStatement(const pqxx::sql_error& error) {
  const std::string& state = error.sqlstate();
  for (const absl::string_view other : {"08", "40", "53", "55", "57", "58", "XX"}) {
    if (absl::StartsWith(state, other)) return false;
  }
  return !state.empty();
}

// The first line of PostgreSQL's message, which is about the statement: there are no values yet that it could hold.
std::string Reason(const pqxx::sql_error& error) {
  return absl::StrCat("PostgreSQL refuses it: ", PrimaryMessage(error.what()), " (", error.sqlstate(), ")");
}

std::string NullArguments(const Endpoint& endpoint) {
  std::string text = "NULL";
  for (size_t i = 0; i < endpoint.parameters.size(); ++i) text += ", NULL";
  return text;
}

// PostgreSQL's literal of a text array, to be bound as text[].
std::string TextArray(const std::set<std::string>& values) {
  std::string text = "{";
  for (const std::string& value : values) {
    if (text.size() > 1) text += ',';
    text += '"';
    for (const char c : value) {
      if (c == '"' || c == '\\') text += '\\';
      text += c;
    }
    text += '"';
  }
  return text + "}";
}

// The first function among `names` that PostgreSQL has to assume changes something; empty where there is none.
//
// A read-only transaction keeps it from writing to tables, and from little else: settings, locks, sequences, large
// objects, notifications and other servers are all open to a volatile function.
std::string VolatileFunction(pqxx::transaction_base* work, const std::set<std::string>& names) {
  const pqxx::result rows = work->exec_params(
      "SELECT p.oid::regprocedure::text FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = "
      "p.pronamespace "
      "WHERE p.provolatile = 'v' AND p.proname <> ALL(string_to_array($2, ',')) AND "
      "(n.nspname || '.' || p.proname = ANY($1::text[]) OR "
      "(p.proname = ANY($1::text[]) AND pg_catalog.pg_function_is_visible(p.oid))) ORDER BY 1 LIMIT 1",
      TextArray(names), std::string(kHarmless));
  return rows.empty() ? "" : rows[0][0].as<std::string>();
}

std::string CallsMoreThanReading(const std::string& function) {
  return absl::StrCat("calls ", function,
                      ", which is VOLATILE: PostgreSQL has to assume that it does more than read; if it only "
                      "reads, declare it STABLE");
}

// Prepares and plans `sql`, and has it refused unless it only reads. False: nothing more can be asked about it.
bool OnlyReads(pqxx::transaction_base* work, const std::string& sql, const std::string& types,
               const std::string& arguments, absl::FunctionRef<void(absl::string_view)> refuse) {
  // By itself: it has to be a whole statement, not one that is completed by what is put around it.
  work->exec(absl::StrCat("PREPARE shadowline_alone (", types, ") AS ", sql));
  std::string plan;
  for (const pqxx::row& row :
       work->exec(absl::StrCat("EXPLAIN (VERBOSE, COSTS OFF) EXECUTE shadowline_alone (", arguments, ")"))) {
    absl::StrAppend(&plan, row[0].c_str(), "\n");
  }
  for (const absl::string_view node : {"ModifyTable", "Insert on ", "Update on ", "Delete on ", "Merge on "}) {
    if (absl::StrContains(plan, node)) refuse("writes; expected a statement that only reads");
  }
  if (absl::StrContains(plan, "LockRows")) {
    refuse("locks rows (FOR UPDATE or FOR SHARE); expected a statement that only reads");
  }
  // As written, and as planned: a view's functions are only in the plan, and a LIMIT's only in the statement.
  std::set<std::string> called = CalledNames(sql);
  called.merge(CalledNames(plan));
  const std::string function = VolatileFunction(work, called);
  if (!function.empty()) refuse(CallsMoreThanReading(function));
  return function.empty();
}

bool IsTextType(pqxx::oid type) {
  constexpr pqxx::oid kTexts[] = {/*name*/ 19, /*text*/ 25, /*bpchar*/ 1042, /*varchar*/ 1043};
  return std::find(std::begin(kTexts), std::end(kTexts), type) != std::end(kTexts);
}

// Makes the stored tenants those of `tenants`; true where that changed anything.
bool StoreTenants(pqxx::work* work, const std::set<std::string>& tenants) {
  const std::string array = TextArray(tenants);
  const auto gone = work->exec_params("DELETE FROM shadowline.tenant WHERE tenant <> ALL($1::text[])", array);
  const auto added = work->exec_params(
      "INSERT INTO shadowline.tenant (tenant) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", array);
  return gone.affected_rows() + added.affected_rows() > 0;
}

// Locks the flags' revision, so that one change follows the other, and raises it.
uint64_t RaiseRevision(pqxx::work* work, const std::string& channel) {
  const auto revision =
      work->exec1("UPDATE shadowline.flag_state SET revision = revision + 1 RETURNING revision")[0].as<uint64_t>();
  work->exec_params("SELECT pg_notify($1, $2)", channel, std::to_string(revision));
  return revision;
}

std::optional<AppliedCatalog> ReadActive(pqxx::work* work) {
  const pqxx::result rows = work->exec(
      "SELECT revision, yaml, (extract(epoch FROM applied_at) * 1000000)::bigint, applied_by FROM shadowline.catalog "
      "ORDER BY revision DESC LIMIT 1");
  if (rows.empty()) return std::nullopt;
  return AppliedCatalog{.revision = rows[0][0].as<uint64_t>(),
                        .yaml = rows[0][1].as<std::string>(),
                        .applied_at = absl::FromUnixMicros(rows[0][2].as<int64_t>()),
                        .applied_by = rows[0][3].as<std::string>()};
}

}  // namespace

PostgresCatalogStore::PostgresCatalogStore(Options options, base::PostgresSessions* state,
                                           base::PostgresSessions* source)
    : options_(std::move(options)), state_(state), source_(source) {}

void PostgresCatalogStore::BecomeControl(pqxx::work* work) const {
  work->exec("SET TRANSACTION READ ONLY");
  if (!options_.role.empty()) work->exec(absl::StrCat("SET LOCAL ROLE ", work->quote_name(options_.role)));
  work->exec(SessionSetup(work->quote(options_.search_path), /*local=*/true));
  // The plan of any arguments, not one that has folded these away.
  work->exec("SET LOCAL plan_cache_mode = force_generic_plan");
  work->exec("SET LOCAL statement_timeout = '30s'");
}

void PostgresCatalogStore::CheckEndpoint(pqxx::work* work, const ParsedCatalog& parsed, const Endpoint& endpoint,
                                         Findings* findings) const {
  const std::vector<std::string> names = absl::StrSplit(endpoint.name, '/');
  const std::string path = absl::StrCat("families.", names[0], ".endpoints.", names[1], ".sql");
  const auto refuse = [&](absl::string_view what) { findings->Add(parsed.At(path), path, what); };
  try {
    // Undone at the end, so that a finding in one endpoint does not hide those of the others. A prepared statement is
    // not undone with its transaction: one of an endpoint that was refused half-way would be met again.
    work->exec("DEALLOCATE ALL");
    pqxx::subtransaction attempt(*work, "endpoint");
    for (const ParameterDecl& parameter : endpoint.parameters) {
      if (parameter.identity) attempt.exec(absl::StrCat("SET LOCAL \"shadowline.", parameter.name, "\" = ''"));
    }
    std::string types = "text";
    for (const ParameterDecl& parameter : endpoint.parameters) absl::StrAppend(&types, ", ", SqlType(parameter.type));
    if (!OnlyReads(&attempt, endpoint.sql, types, NullArguments(endpoint), refuse)) return;

    // In the form in which the control runs it.
    attempt.exec(PrepareText(endpoint));

    // Its columns become the members of a JSON object: they need names, and different ones.
    attempt.exec(absl::StrCat("PREPARE shadowline_columns (", types, ") AS SELECT * FROM (", endpoint.sql,
                              "\n) AS answer LIMIT 0"));
    const pqxx::result columns =
        attempt.exec(absl::StrCat("EXECUTE shadowline_columns (", NullArguments(endpoint), ")"));
    std::set<std::string> seen;
    for (pqxx::row_size_type i = 0; i < columns.columns(); ++i) {
      const std::string name = columns.column_name(i);
      if (name == "?column?") refuse(absl::StrCat("column ", i + 1, " has no name; expected `AS name`"));
      if (!seen.insert(name).second) refuse(absl::StrCat("two columns are named ", name, "; expected different names"));
    }
    if (columns.columns() == 0) refuse("returns no column; expected at least one");
    attempt.abort();
  } catch (const pqxx::sql_error& error) {
    if (!IsAboutTheStatement(error)) throw;
    refuse(Reason(error));
  }
}

void PostgresCatalogStore::CheckCapture(pqxx::work* work, const ParsedCatalog& parsed, Findings* findings) const {
  if (parsed.catalog->captured().empty()) return;
  const auto ask = [work](const std::string& sql,
                          const std::vector<std::string>& parameters) -> absl::StatusOr<AskedRows> {
    AskedRows rows;
    for (const pqxx::row& row : work->exec_params(sql, pqxx::prepare::make_dynamic_params(parameters))) {
      auto& answer = rows.emplace_back();
      for (const pqxx::field& field : row) {
        answer.push_back(field.is_null() ? std::nullopt : std::optional<std::string>(field.c_str()));
      }
    }
    return rows;
  };
  const auto add = [&](const std::string& path, const absl::StatusOr<std::vector<std::string>>& wrong) {
    for (const std::string& what : *wrong) findings->Add(parsed.At(path), path, what);
  };
  add("capture", CheckServer(ask));
  for (const CapturedTable& table : parsed.catalog->captured()) {
    const std::string path = absl::StrCat("capture.tables.", table.name);
    add(path, CheckTable(table, ask));
    if (!table.tenant_sql.empty()) CheckTenantQuery(work, parsed, path + ".tenant_query", table.tenant_sql, findings);
  }
}

void PostgresCatalogStore::CheckTenantQuery(pqxx::work* work, const ParsedCatalog& parsed, const std::string& path,
                                            const std::string& sql, Findings* findings) const {
  const auto refuse = [&](absl::string_view what) { findings->Add(parsed.At(path), path, what); };
  try {
    work->exec("DEALLOCATE ALL");
    pqxx::subtransaction attempt(*work, "tenant_query");
    if (!OnlyReads(&attempt, sql, "text", "NULL", refuse)) return;
    attempt.exec(absl::StrCat("PREPARE shadowline_tenant (text) AS SELECT * FROM (", sql, "\n) AS tenant LIMIT 0"));
    const pqxx::result columns = attempt.exec("EXECUTE shadowline_tenant (NULL)");
    if (columns.columns() != 1) {
      refuse(absl::StrCat("returns ", columns.columns(), " columns; expected one, of type text"));
    } else if (!IsTextType(columns.column_type(0))) {
      refuse("returns a column of another type than text; cast it, as in `id::text`");
    }
    attempt.abort();
  } catch (const pqxx::sql_error& error) {
    if (!IsAboutTheStatement(error)) throw;
    refuse(Reason(error));
  }
}

std::set<std::string> PostgresCatalogStore::ReadTenants(pqxx::work* work, const ParsedCatalog& parsed,
                                                        Findings* findings) const {
  const auto& declared = parsed.catalog->document().tenants();
  std::set<std::string> tenants(declared.list().begin(), declared.list().end());
  if (declared.query().empty()) return tenants;
  const std::string path = "tenants.query";
  const auto refuse = [&](absl::string_view what) { findings->Add(parsed.At(path), path, what); };
  try {
    pqxx::subtransaction attempt(*work, "tenants");
    if (const std::string function = VolatileFunction(&attempt, CalledNames(declared.query())); !function.empty()) {
      refuse(CallsMoreThanReading(function));
      return tenants;
    }
    const pqxx::result rows =
        attempt.exec(absl::StrCat("SELECT * FROM (", declared.query(), "\n) AS tenants LIMIT ", kMaxTenants + 1));
    if (rows.columns() != 1) {
      refuse(absl::StrCat("returns ", rows.columns(), " columns; expected one, of type text"));
      return tenants;
    }
    if (!IsTextType(rows.column_type(0))) {
      refuse("returns a column of another type than text; cast it, as in `id::text`");
      return tenants;
    }
    if (rows.size() > kMaxTenants) refuse(absl::StrCat("returns more than ", kMaxTenants, " tenants"));
    for (const pqxx::row& row : rows) {
      const std::string tenant = row[0].is_null() ? "" : row[0].as<std::string>();
      if (tenant.empty() || tenant.size() > kMaxTenantBytes || !IsText(tenant)) {
        refuse(absl::StrCat("returns a tenant that is empty or longer than ", kMaxTenantBytes, " bytes"));
        break;
      }
      tenants.insert(tenant);
    }
    attempt.abort();
  } catch (const pqxx::sql_error& error) {
    if (!IsAboutTheStatement(error)) throw;
    refuse(Reason(error));
  }
  return tenants;
}

absl::StatusOr<ApplyResult> PostgresCatalogStore::Apply(absl::string_view yaml, bool dry_run, absl::string_view who,
                                                        uint64_t expected_revision) {
  ASSIGN_OR_RETURN(const ParsedCatalog parsed, ParseCatalogWithPositions(yaml, 0));
  std::set<std::string> tenants;
  RETURN_IF_ERROR(source_->Transact([&](pqxx::work& work) -> absl::Status {
    Findings findings;
    BecomeControl(&work);
    for (const Endpoint& endpoint : parsed.catalog->endpoints()) {
      if (!endpoint.observed) CheckEndpoint(&work, parsed, endpoint, &findings);
    }
    CheckCapture(&work, parsed, &findings);
    tenants = ReadTenants(&work, parsed, &findings);
    return findings.Result();
  }));

  ApplyResult result;
  RETURN_IF_ERROR(state_->Transact([&](pqxx::work& work) -> absl::Status {
    work.exec("SELECT revision FROM shadowline.flag_state FOR UPDATE");
    const std::optional<AppliedCatalog> active = ReadActive(&work);
    const uint64_t revision = active.has_value() ? active->revision : 0;
    if (expected_revision != 0 && expected_revision != revision) {
      return absl::AbortedError(absl::StrCat("revision ", revision, " is active, not ", expected_revision,
                                             ": another catalog was applied meanwhile; look at it and apply again"));
    }
    shadowline::v1::Catalog before;
    if (active.has_value()) {
      // A catalog that an earlier program accepted may be refused by this one; then everything counts as new.
      if (const auto old = ParseCatalog(active->yaml, revision); old.ok()) before = (*old)->document();
    }
    result.changes = DescribeChanges(before, parsed.catalog->document());
    result.changed = !active.has_value() || !result.changes.empty();
    result.revision = result.changed ? revision + 1 : revision;
    if (dry_run) return absl::OkStatus();
    const bool moved = StoreTenants(&work, tenants);
    if (!result.changed && !moved) return absl::OkStatus();
    const uint64_t flags = RaiseRevision(&work, options_.changed_channel);
    if (!result.changed) return absl::OkStatus();
    work.exec_params("INSERT INTO shadowline.catalog (revision, yaml, applied_by) VALUES ($1, $2, $3)", result.revision,
                     std::string(yaml), std::string(who));
    // Evidence of another revision never counts, so every target starts a new window. Cached values of an endpoint that
    // changed are out of reach already: its definition is part of their keys.
    work.exec_params(
        "UPDATE shadowline.target SET window_no = window_no + 1, window_since = clock_timestamp(), catalog_revision = "
        "$1, "
        "revision = $2, changed_at = clock_timestamp()",
        result.revision, flags);
    return absl::OkStatus();
  }));
  return result;
}

absl::StatusOr<AppliedCatalog> PostgresCatalogStore::Active() {
  std::optional<AppliedCatalog> active;
  RETURN_IF_ERROR(state_->Transact([&](pqxx::work& work) {
    active = ReadActive(&work);
    return absl::OkStatus();
  }));
  if (!active.has_value()) return absl::NotFoundError("no catalog was applied yet; use `shadowline apply -f FILE`");
  return *std::move(active);
}

absl::Status PostgresCatalogStore::RefreshTenants() {
  absl::StatusOr<AppliedCatalog> active = Active();
  if (absl::IsNotFound(active.status())) return absl::OkStatus();
  RETURN_IF_ERROR(active.status());
  ASSIGN_OR_RETURN(const ParsedCatalog parsed, ParseCatalogWithPositions(active->yaml, active->revision));
  if (parsed.catalog->document().tenants().query().empty()) return absl::OkStatus();
  std::set<std::string> tenants;
  RETURN_IF_ERROR(source_->Transact([&](pqxx::work& work) -> absl::Status {
    Findings findings;
    BecomeControl(&work);
    tenants = ReadTenants(&work, parsed, &findings);
    return findings.Result();
  }));
  return state_->Transact([&](pqxx::work& work) -> absl::Status {
    work.exec("SELECT revision FROM shadowline.flag_state FOR UPDATE");
    // Another catalog may have other tenants: it brought them itself.
    const std::optional<AppliedCatalog> now = ReadActive(&work);
    if (!now.has_value() || now->revision != active->revision) return absl::OkStatus();
    if (StoreTenants(&work, tenants)) RaiseRevision(&work, options_.changed_channel);
    return absl::OkStatus();
  });
}

}  // namespace shadowline::cache
