// Applying catalogs to a real PostgreSQL: what is stored, who is told, and every statement that is refused.
#include "cache/catalog/postgres/catalog_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "server/postgres/migrate.h"
#include "tests/support/private_servers.h"

namespace shadowline::cache {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

support::PrivatePostgres* Postgres() {
  static support::PrivatePostgres postgres;
  return &postgres;
}

// The application's schema: also what docs/catalog.md is written for.
constexpr char kApplication[] = R"(
  CREATE TABLE account (tenant text, account bigint, name text, balance numeric, region text, PRIMARY KEY (tenant, account));
  CREATE TABLE payment (tenant text, account bigint, paid_at timestamptz, amount numeric);
  CREATE SEQUENCE ticket;
  INSERT INTO account VALUES ('acme', 1, 'one', 10, 'eu'), ('globex', 1, 'eins', 20, 'eu');
  CREATE VIEW rich AS SELECT * FROM account WHERE balance > 15;
  CREATE FUNCTION writes(t text) RETURNS int LANGUAGE sql AS 'INSERT INTO payment (tenant) VALUES (t) RETURNING 1';
  CREATE FUNCTION reads(t text) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM payment WHERE tenant = t';
  CREATE VIEW sly AS SELECT tenant, set_config('a.b', tenant, false) AS was FROM account;
  CREATE VIEW locking AS SELECT * FROM account FOR SHARE;
)";

class CatalogStoreTest : public testing::Test {
 protected:
  CatalogStoreTest() {
    EXPECT_TRUE(server::Migrate(&state_).ok());
    Sql(&source_, kApplication);
  }

  static void Sql(base::PostgresSessions* sessions, const std::string& sql) {
    const absl::Status status = sessions->Transact([&sql](pqxx::work& work) {
      work.exec(sql);
      return absl::OkStatus();
    });
    ASSERT_TRUE(status.ok()) << status;
  }
  static std::string Scalar(base::PostgresSessions* sessions, const std::string& sql) {
    std::string value;
    const absl::Status status = sessions->Transact([&](pqxx::work& work) {
      const pqxx::result result = work.exec(sql);
      value = result.empty() || result[0][0].is_null() ? "" : result[0][0].c_str();
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
    return value;
  }
  std::string State(const std::string& sql) { return Scalar(&state_, sql); }
  std::string Tenants() { return State("SELECT string_agg(tenant, ',' ORDER BY tenant) FROM shadowline.tenant"); }
  std::string FlagRevision() { return State("SELECT revision FROM shadowline.flag_state"); }

  absl::StatusOr<ApplyResult> Apply(const std::string& yaml, uint64_t expected_revision = 0) {
    return store_.Apply(yaml, /*dry_run=*/false, "somebody", expected_revision);
  }
  absl::StatusOr<ApplyResult> DryRun(const std::string& yaml) {
    return store_.Apply(yaml, /*dry_run=*/true, "somebody", 0);
  }

  static std::string Catalog(const std::string& sql, const std::string& rest = "") {
    return absl::StrCat(
        "version: 1\ntenants: {list: [acme, globex]}\nfamilies:\n  billing:\n    endpoints:\n      account:\n"
        "        tags: [accounts]\n        sql: |-\n          ",
        absl::StrReplaceAll(sql, {{"\n", "\n          "}}), "\n", rest);
  }
  // What is said of a catalog whose only endpoint is `sql`; the catalog that was there stays.
  std::string Refusal(const std::string& sql, const std::string& rest = "") {
    const auto result = Apply(Catalog(sql, rest));
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << result.status();
    EXPECT_EQ(store_.Active().status().code(), absl::StatusCode::kNotFound);
    EXPECT_EQ(State("SELECT count(*) FROM shadowline.tenant"), "0");
    EXPECT_EQ(FlagRevision(), "1");
    return std::string(result.status().message());
  }

  base::PostgresSessions state_{Postgres()->ConnectionString(Postgres()->CreateDatabase()), 2};
  // One connection: whatever a check leaves behind on it, the next one meets.
  base::PostgresSessions source_{Postgres()->ConnectionString(Postgres()->CreateDatabase()), 1};
  PostgresCatalogStore store_{{.changed_channel = "shadowline_flags"}, &state_, &source_};
};

const char kGood[] = "SELECT name FROM account WHERE tenant = :tenant";

// ---- What applying does ----

TEST_F(CatalogStoreTest, ACatalogIsStoredAsWritten) {
  EXPECT_EQ(store_.Active().status().code(), absl::StatusCode::kNotFound);
  const auto result = Apply(Catalog(kGood));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->revision, 1u);
  EXPECT_TRUE(result->changed);
  EXPECT_THAT(result->changes, ElementsAre("~ tenants: list changed", "+ billing/account"));
  const auto active = store_.Active();
  ASSERT_TRUE(active.ok()) << active.status();
  EXPECT_EQ(active->revision, 1u);
  EXPECT_EQ(active->yaml, Catalog(kGood));
  EXPECT_EQ(active->applied_by, "somebody");
  EXPECT_EQ(Tenants(), "acme,globex");
  EXPECT_EQ(FlagRevision(), "2");
}

TEST_F(CatalogStoreTest, TheSameCatalogAgainChangesNothing) {
  ASSERT_TRUE(Apply(Catalog(kGood)).ok());
  const auto again = Apply(Catalog(kGood) + "# with a remark\n");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->revision, 1u);
  EXPECT_FALSE(again->changed);
  EXPECT_THAT(again->changes, IsEmpty());
  EXPECT_EQ(FlagRevision(), "2");
}

TEST_F(CatalogStoreTest, ADryRunSaysWhatWouldChangeAndChangesNothing) {
  const auto dry = DryRun(Catalog(kGood));
  ASSERT_TRUE(dry.ok()) << dry.status();
  EXPECT_EQ(dry->revision, 1u);
  EXPECT_TRUE(dry->changed);
  EXPECT_THAT(dry->changes, testing::Contains("+ billing/account"));
  EXPECT_EQ(store_.Active().status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Tenants(), "");
  EXPECT_EQ(FlagRevision(), "1");
  EXPECT_FALSE(DryRun(Catalog("SELECT nothing FROM account WHERE tenant = :tenant")).ok());
}

TEST_F(CatalogStoreTest, AnExpectedRevisionThatIsNotActiveIsAborted) {
  ASSERT_TRUE(Apply(Catalog(kGood)).ok());
  const std::string changed = Catalog(kGood, "        ttl: 5s\n");
  EXPECT_EQ(Apply(changed, 7).status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(store_.Active()->revision, 1u);
  const auto applied = Apply(changed, 1);
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_EQ(applied->revision, 2u);
  EXPECT_THAT(applied->changes, ElementsAre("~ billing/account: ttl default -> 5s"));
}

TEST_F(CatalogStoreTest, AChangedFamilyStartsANewWindowUnderTheNewRevision) {
  ASSERT_TRUE(Apply(Catalog(kGood)).ok());
  Sql(&state_,
      "INSERT INTO shadowline.target (family, tenant, mode, window_no, window_since, catalog_revision, reason) "
      "VALUES ('billing', 'acme', 'SHADOW', 4, '2020-01-01', 1, 'because')");
  ASSERT_TRUE(Apply(Catalog(kGood, "        ttl: 5s\n")).ok());
  EXPECT_EQ(State("SELECT concat_ws(' ', mode, window_no, window_since > now() - interval '1 minute', "
                  "catalog_revision, revision, "
                  "reason) FROM shadowline.target"),
            absl::StrCat("SHADOW 5 t 2 ", FlagRevision(), " because"));
}

TEST_F(CatalogStoreTest, ReplicasAreToldWhenItIsCommitted) {
  pqxx::connection listener(state_.connection_string());
  struct Receiver final : pqxx::notification_receiver {
    explicit Receiver(pqxx::connection_base& connection) : notification_receiver(connection, "shadowline_flags") {}
    void operator()(const std::string& payload, int) override { payloads.push_back(payload); }
    std::vector<std::string> payloads;
  } receiver(listener);
  { pqxx::nontransaction(listener).exec("SELECT 1"); }
  ASSERT_TRUE(Apply(Catalog(kGood)).ok());
  listener.await_notification(5, 0);
  EXPECT_THAT(receiver.payloads, ElementsAre(FlagRevision()));
}

TEST_F(CatalogStoreTest, EndpointsOfASecondCatalogAreCheckedAfterARefusedFirst) {
  // A refusal leaves nothing behind on the connection that would be in the next one's way.
  for (int i = 0; i < 2; ++i) {
    EXPECT_FALSE(Apply(Catalog("SELECT 1/0 AS n, :tenant AS t")).ok());
    EXPECT_FALSE(Apply(Catalog("SELECT name, name FROM account WHERE tenant = :tenant")).ok());
    EXPECT_FALSE(Apply(Catalog("SELECT name FROM account WHERE tenant = :tenant FOR UPDATE")).ok());
  }
  const auto result = Apply(Catalog(kGood));
  EXPECT_TRUE(result.ok()) << result.status();
}

TEST_F(CatalogStoreTest, TwoEndpointsMayShareAStatement) {
  const auto result =
      Apply(Catalog(kGood, absl::StrCat("      again:\n        tags: [x]\n        sql: ", kGood, "\n")));
  EXPECT_TRUE(result.ok()) << result.status();
}

// ---- Tenants ----

class TenantsTest : public CatalogStoreTest {
 protected:
  static std::string WithTenants(const std::string& tenants) {
    return absl::StrReplaceAll(Catalog(kGood), {{"{list: [acme, globex]}", tenants}});
  }
};

TEST_F(TenantsTest, AreTheListAndTheQuery) {
  const auto result = Apply(WithTenants("{list: [initech, acme], query: SELECT DISTINCT tenant FROM account}"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(Tenants(), "acme,globex,initech");
}

TEST_F(TenantsTest, AreReadAgainAndToldOnlyWhereTheyChanged) {
  ASSERT_TRUE(store_.RefreshTenants().ok()) << "without a catalog there is nothing to do";
  ASSERT_TRUE(Apply(WithTenants("{query: SELECT DISTINCT tenant FROM account}")).ok());
  const std::string before = FlagRevision();
  ASSERT_TRUE(store_.RefreshTenants().ok());
  EXPECT_EQ(FlagRevision(), before);
  Sql(&source_, "DELETE FROM account WHERE tenant = 'globex'; INSERT INTO account VALUES ('hooli''s {\"\\}', 1)");
  ASSERT_TRUE(store_.RefreshTenants().ok());
  EXPECT_EQ(Tenants(), "acme,hooli's {\"\\}");
  EXPECT_NE(FlagRevision(), before);
}

TEST_F(TenantsTest, AQueryMustReturnOneColumnOfTexts) {
  const auto refusal = [&](const std::string& query) {
    const auto result = Apply(WithTenants("{query: \"" + query + "\"}"));
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << result.status();
    return std::string(result.status().message());
  };
  EXPECT_THAT(refusal("SELECT tenant, name FROM account"),
              AllOf(HasSubstr("2:18: tenants.query: "), HasSubstr("expected one")));
  EXPECT_THAT(refusal("SELECT account FROM account"), HasSubstr("text"));
  EXPECT_THAT(refusal("SELECT tenant FROM nowhere"), HasSubstr("nowhere"));
  EXPECT_THAT(refusal("SELECT ''::text AS t"), HasSubstr("empty"));
  EXPECT_THAT(refusal("SELECT NULL::text AS t"), HasSubstr("empty"));
  EXPECT_THAT(refusal("SELECT repeat('x', 129) AS t"), HasSubstr("128"));
  EXPECT_THAT(refusal("SELECT writes('x')::text AS t"), HasSubstr("tenants.query"));
  EXPECT_EQ(Scalar(&source_, "SELECT count(*) FROM payment"), "0");
}

// ---- Statements that are refused, one by one ----

TEST_F(CatalogStoreTest, AFindingIsAtTheStatementsPlace) {
  EXPECT_THAT(Refusal("SELECT nothing FROM account WHERE tenant = :tenant"),
              AllOf(HasSubstr("8:14: families.billing.endpoints.account.sql: "),
                    HasSubstr("column \"nothing\" does not exist")));
}

TEST_F(CatalogStoreTest, EveryEndpointsFindingsAreReported) {
  const std::string refusal =
      Refusal("SELECT nothing FROM account WHERE tenant = :tenant",
              "      other:\n        tags: [x]\n        sql: SELECT a FROM nowhere WHERE t = :tenant\n");
  EXPECT_THAT(refusal,
              AllOf(HasSubstr("endpoints.account.sql"), HasSubstr("endpoints.other.sql"), HasSubstr("nowhere")));
  EXPECT_EQ(std::vector<std::string>(absl::StrSplit(refusal, '\n')).size(), 2u) << refusal;
}

TEST_F(CatalogStoreTest, RefusesAnInsert) {
  EXPECT_THAT(Refusal("INSERT INTO payment VALUES (:tenant)"), HasSubstr("one SELECT"));
}

TEST_F(CatalogStoreTest, RefusesAStatementWithoutItsTenant) {
  EXPECT_THAT(Refusal("SELECT name FROM account"), HasSubstr("it does not use :tenant"));
}

TEST_F(CatalogStoreTest, RefusesTwoStatements) {
  EXPECT_THAT(Refusal("SELECT :tenant AS t; DELETE FROM account"), HasSubstr("one statement"));
}

TEST_F(CatalogStoreTest, RefusesToLeaveTheSubquery) {
  EXPECT_THAT(Refusal("SELECT 1 AS n) AS q), (SELECT :tenant AS t"), HasSubstr("closes nothing"));
}

TEST_F(CatalogStoreTest, RefusesADataModifyingWith) {
  Refusal("WITH gone AS (DELETE FROM account WHERE tenant = :tenant RETURNING name) SELECT name FROM gone");
  EXPECT_EQ(Scalar(&source_, "SELECT count(*) FROM account"), "2");
}

TEST_F(CatalogStoreTest, RefusesSelectInto) { Refusal("SELECT name INTO copy FROM account WHERE tenant = :tenant"); }

TEST_F(CatalogStoreTest, RefusesForUpdate) {
  EXPECT_THAT(Refusal("SELECT name FROM account WHERE tenant = :tenant FOR UPDATE"), HasSubstr("locks rows"));
}

TEST_F(CatalogStoreTest, RefusesForShareInASubquery) {
  EXPECT_THAT(Refusal("SELECT (SELECT name FROM account WHERE tenant = :tenant LIMIT 1 FOR SHARE) AS name"),
              HasSubstr("locks rows"));
}

TEST_F(CatalogStoreTest, RefusesAViewThatLocks) {
  EXPECT_THAT(Refusal("SELECT name FROM locking WHERE tenant = :tenant"), HasSubstr("locks rows"));
}

TEST_F(CatalogStoreTest, RefusesAnotherTypeThanDeclared) {
  EXPECT_THAT(Refusal("SELECT name FROM account WHERE tenant = :tenant AND account = :a",
                      "        parameters: {a: {type: text}}\n"),
              HasSubstr("operator does not exist: bigint = text"));
  EXPECT_THAT(Refusal("SELECT name FROM account WHERE tenant = :tenant AND name = :a",
                      "        parameters: {a: {type: integer}}\n"),
              HasSubstr("operator does not exist: text = bigint"));
}

TEST_F(CatalogStoreTest, RefusesColumnsThatCannotBeMembers) {
  EXPECT_THAT(Refusal("SELECT name, balance AS name FROM account WHERE tenant = :tenant"),
              HasSubstr("two columns are named name"));
  EXPECT_THAT(Refusal("SELECT upper(name) AS n, 1 + 1 FROM account WHERE tenant = :tenant"),
              HasSubstr("column 2 has no name"));
  EXPECT_THAT(Refusal("SELECT FROM account WHERE tenant = :tenant"), HasSubstr("no column"));
}

// Every way to reach a function that does more than read.
TEST_F(CatalogStoreTest, RefusesAFunctionThatDoesMoreThanRead) {
  for (const std::string& call :
       {std::string("set_config('a.b', :tenant, false)"), std::string("\"set_config\"('a.b', :tenant, false)"),
        std::string("pg_catalog.set_config /* here */ ('a.b', :tenant, false)"),
        std::string("nextval('ticket')::text || :tenant"), std::string("pg_advisory_lock(1)::text || :tenant"),
        std::string("pg_try_advisory_xact_lock(hashtext(:tenant))"), std::string("pg_notify('c', :tenant)"),
        std::string("lo_create(length(:tenant)::oid)"), std::string("pg_terminate_backend(length(:tenant))"),
        std::string("query_to_xml(:tenant, true, false, '')::text")}) {
    SCOPED_TRACE(call);
    EXPECT_THAT(Refusal("SELECT " + call + " AS x"), HasSubstr("endpoints.account.sql: "));
  }
}

TEST_F(CatalogStoreTest, RefusesAVolatileFunctionOfTheApplication) {
  EXPECT_THAT(Refusal("SELECT writes(:tenant) AS n"),
              AllOf(HasSubstr("calls writes(text)"), HasSubstr("declare it STABLE")));
  const auto result = Apply(Catalog("SELECT reads(:tenant) AS n"));
  EXPECT_TRUE(result.ok()) << result.status();
}

TEST_F(CatalogStoreTest, RefusesAViewThatCallsOne) {
  EXPECT_THAT(Refusal("SELECT was FROM sly WHERE tenant = :tenant"), HasSubstr("set_config"));
}

TEST_F(CatalogStoreTest, AFunctionOfAnotherSchemaIsNotBlamedForItsName) {
  Sql(&source_, "CREATE SCHEMA audit; CREATE FUNCTION audit.upper(text) RETURNS int LANGUAGE sql AS 'SELECT 1'");
  const auto result = Apply(Catalog("SELECT upper(:tenant) AS t"));
  EXPECT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(DryRun(Catalog("SELECT audit.upper(:tenant) AS t")).ok());
}

TEST_F(CatalogStoreTest, RefusesOneInALimit) {
  EXPECT_THAT(Refusal("SELECT name FROM account WHERE tenant = :tenant LIMIT length(set_config('a.b', 'c', false))"),
              HasSubstr("calls set_config(text,text,boolean)"));
}

TEST_F(CatalogStoreTest, TheNameOfAFunctionInATextIsNone) {
  const auto result = Apply(Catalog("SELECT 'set_config(' || :tenant AS x, $$nextval('a')$$ AS y"));
  EXPECT_TRUE(result.ok()) << result.status();
}

TEST_F(CatalogStoreTest, RandomAndTheTimeAreReadings) {
  const auto result =
      Apply(Catalog("SELECT random() AS r, now() AS n, clock_timestamp() AS c, gen_random_uuid() AS u, :tenant AS t"));
  EXPECT_TRUE(result.ok()) << result.status();
}

TEST_F(CatalogStoreTest, AnIdentityMayBeReadFromItsSetting) {
  const auto result =
      Apply(Catalog("SELECT name FROM account WHERE tenant = :tenant AND name = current_setting('shadowline.viewer')",
                    "        parameters: {viewer: {type: text}}\n        identity: [viewer]\n"));
  EXPECT_TRUE(result.ok()) << result.status();
}

// ---- When a database is away ----

TEST_F(CatalogStoreTest, ADatabaseThatIsAwayIsUnavailable) {
  base::PostgresSessions nowhere(absl::StrCat("host=127.0.0.1 dbname=x port=", support::FreePort()), 1);
  PostgresCatalogStore no_state({.changed_channel = "c"}, &nowhere, &source_);
  PostgresCatalogStore no_source({.changed_channel = "c"}, &state_, &nowhere);
  EXPECT_EQ(no_state.Apply(Catalog(kGood), false, "", 0).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(no_source.Apply(Catalog(kGood), false, "", 0).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(no_state.Active().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(store_.Active().status().code(), absl::StatusCode::kNotFound);
}

// ---- The document ----

// The example of docs/catalog.md is applied as it stands there, to the schema that stands beside it.
TEST_F(CatalogStoreTest, TheExampleOfTheDocumentationIsAccepted) {
  const char* root = std::getenv("SHADOWLINE_SOURCE_DIR");
  ASSERT_NE(root, nullptr);
  std::ifstream file(std::string(root) + "/docs/catalog.md");
  std::stringstream text;
  text << file.rdbuf();
  const auto block = [&](const std::string& language) {
    const std::string document = text.str();
    const size_t begin = document.find("```" + language + "\n");
    if (begin == std::string::npos) return std::string();
    const size_t start = begin + 4 + language.size();
    return document.substr(start, document.find("```", start) - start);
  };
  Sql(&source_, "DROP SCHEMA public CASCADE; CREATE SCHEMA public; " + block("sql"));
  const auto result = Apply(block("yaml"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(result->changes, testing::Contains("+ billing/account"));
}

}  // namespace
}  // namespace shadowline::cache
