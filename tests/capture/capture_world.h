// What the tests of change capture share: a PostgreSQL with an application's tables, a catalog over them, and a sink
// that remembers.
#ifndef SHADOWLINE_TESTS_CAPTURE_CAPTURE_WORLD_H_
#define SHADOWLINE_TESTS_CAPTURE_CAPTURE_WORLD_H_

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <pqxx/pqxx>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "base/postgres/session.h"
#include "cache/capture/postgres/stream.h"
#include "cache/capture/sink.h"
#include "cache/catalog/parse.h"
#include "server/postgres/migrate.h"
#include "tests/support/await.h"
#include "tests/support/private_servers.h"

namespace shadowline::cache {

constexpr absl::Duration kPatience = absl::Seconds(30);

// Remembers what it was told; acknowledges at once, unless it is told to hold or to fail.
class RecordingSink final : public Sink {
 public:
  void Apply(Transaction transaction, Done done) override {
    {
      base::MutexLock lock(&mutex_);
      if (failures_ > 0) {
        --failures_;
      } else {
        for (const TenantTag& tag : transaction.effects.tags) ++tags_[absl::StrCat(tag.tenant, "/", tag.tag)];
        for (const FamilyDrop& drop : transaction.effects.drops) {
          ++tags_[absl::StrCat(drop.tenant.empty() ? "*" : drop.tenant, "!", drop.family)];
        }
        transactions_.push_back(std::move(transaction));
        if (hold_) {
          held_.push_back(std::move(done));
          return;
        }
        done_ = true;
      }
    }
    done(std::exchange(done_, false) ? absl::OkStatus() : absl::UnavailableError("the sink was told to fail"));
  }
  void Alarm(std::set<std::string> families, std::string why, Done done) override {
    {
      base::MutexLock lock(&mutex_);
      alarms_.push_back(std::move(why));
      alarmed_ = std::move(families);
      if (hold_) {
        held_.push_back(std::move(done));
        return;
      }
    }
    done(absl::OkStatus());
  }

  void Hold() {
    base::MutexLock lock(&mutex_);
    hold_ = true;
  }
  void Release() {
    std::vector<Done> held;
    {
      base::MutexLock lock(&mutex_);
      hold_ = false;
      held = std::exchange(held_, {});
    }
    for (Done& done : held) done(absl::OkStatus());
  }
  void Fail(int times) {
    base::MutexLock lock(&mutex_);
    failures_ = times;
  }

  // How often a tag was fenced ("tenant/tag") or a family dropped ("tenant!family").
  int Times(const std::string& what) {
    base::MutexLock lock(&mutex_);
    const auto found = tags_.find(what);
    return found == tags_.end() ? 0 : found->second;
  }
  [[nodiscard]] bool Await(const std::string& what, int times = 1) {
    return support::AwaitTrue(kPatience, [&] { return Times(what) >= times; });
  }
  std::vector<Transaction> transactions() {
    base::MutexLock lock(&mutex_);
    return transactions_;
  }
  std::vector<std::string> alarms() {
    base::MutexLock lock(&mutex_);
    return alarms_;
  }
  std::set<std::string> alarmed() {
    base::MutexLock lock(&mutex_);
    return alarmed_;
  }

 private:
  base::Mutex mutex_;
  bool done_ = false;  // The calling thread's own: there is one.
  bool hold_ ABSL_GUARDED_BY(mutex_) = false;
  int failures_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Done> held_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int> tags_ ABSL_GUARDED_BY(mutex_);
  std::vector<Transaction> transactions_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> alarms_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> alarmed_ ABSL_GUARDED_BY(mutex_);
};

class CaptureWorld : public testing::Test {
 protected:
  static support::PrivatePostgres* Postgres() {
    static support::PrivatePostgres postgres({"max_replication_slots = 60", "max_wal_senders = 60"});
    return &postgres;
  }

  static constexpr char kTables[] = R"(
    CREATE SCHEMA saas;
    CREATE TABLE saas.account (account_id int PRIMARY KEY, slug text NOT NULL UNIQUE);
    INSERT INTO saas.account VALUES (1, 'acme'), (2, 'globex');
    CREATE TABLE saas.price (account text, region text, tier text, amount numeric, notes text, PRIMARY KEY (account, region, tier));
    CREATE TABLE saas.product (account_id int REFERENCES saas.account ON DELETE CASCADE, id int, name text,
                               PRIMARY KEY (account_id, id));
    CREATE TABLE saas.sale (account text, id int, day date, PRIMARY KEY (account, id, day)) PARTITION BY RANGE (day);
    CREATE TABLE saas.sale_1 PARTITION OF saas.sale FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
    CREATE TABLE saas.sale_2 PARTITION OF saas.sale FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
    CREATE TABLE saas.page (account text, id int PRIMARY KEY, slug text);
    ALTER TABLE saas.page ALTER slug SET STORAGE EXTERNAL;
    ALTER TABLE saas.page REPLICA IDENTITY FULL;
    CREATE TABLE saas.currency (code text PRIMARY KEY, rate numeric);
    CREATE TABLE saas.unkeyed (account text, id int);
  )";

  static constexpr char kFamilies[] = R"(version: 1
tenants: {list: [acme, globex]}
families:
  pricing:
    endpoints:
      list:
        sql: SELECT 1 AS x WHERE :tenant = :region AND :tier = ''
        parameters: {region: {type: text}, tier: {type: text}}
        tags: ["prices:{region}:{tier}"]
  shop:
    endpoints:
      one:
        sql: SELECT 1 AS x WHERE :tenant = 'a' AND :id = 1
        parameters: {id: {type: integer}}
        tags: ["item:{id}"]
      page:
        sql: SELECT 1 AS x WHERE :tenant = :slug
        parameters: {slug: {type: text, max_length: 10000}}
        tags: ["pages", "page:{slug}"]
capture:
  tables:
)";
  static constexpr char kPrice[] = "    saas.price: {tenant: \"{account}\", tags: [\"prices:{region}:{tier}\"]}\n";
  static constexpr char kAll[] = R"(    saas.price: {tenant: "{account}", tags: ["prices:{region}:{tier}"]}
    saas.product:
      tenant: "{account_id}"
      tenant_query: SELECT slug FROM saas.account WHERE account_id = :key::int
      tags: ["item:{id}"]
    saas.sale: {tenant: "{account}", tags: ["item:{id}"]}
    saas.page: {tenant: "{account}", tags: ["page:{slug}"]}
    saas.currency: {families: [pricing, shop]}
)";

  void SetUp() override {
    const absl::Status migrated = server::Migrate(&sessions_);
    ASSERT_TRUE(migrated.ok()) << migrated;
    Sql(kTables);
  }
  // Slots belong to the whole server, and keep its log.
  void TearDown() override {
    EXPECT_TRUE(support::AwaitTrue(kPatience, [&] {
      return Scalar("SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = '" + slot_ + "'") == "0";
    }));
    Sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '" + slot_ + "'");
  }

  static std::shared_ptr<const CompiledCatalog> Catalog(absl::string_view tables) {
    auto catalog = ParseCatalog(absl::StrCat(kFamilies, tables), 1);
    EXPECT_TRUE(catalog.ok()) << catalog.status();
    return *std::move(catalog);
  }

  void Sql(const std::string& sql) {
    pqxx::connection connection(Url());
    pqxx::nontransaction work(connection);
    work.exec(sql);
  }
  std::string Scalar(const std::string& sql) {
    pqxx::connection connection(Url());
    pqxx::nontransaction work(connection);
    const pqxx::result rows = work.exec(sql);
    return rows.empty() || rows[0][0].is_null() ? "" : rows[0][0].c_str();
  }
  std::string Url() const { return Postgres()->ConnectionString(database_); }

  CaptureStream::Options Options() const {
    CaptureStream::Options options;
    options.source = options.state = Url();
    options.slot = slot_;
    options.check = absl::Milliseconds(100);
    options.publish = absl::Milliseconds(20);
    options.pause_max = absl::Milliseconds(200);
    options.patience = absl::Seconds(1);
    return options;
  }

  const std::string database_ = Postgres()->CreateDatabase();
  const std::string slot_ = "slot_" + database_;
  base::PostgresSessions sessions_{Url(), 1};
  base::SystemClock clock_;
  base::Metrics metrics_;
  RecordingSink sink_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_TESTS_CAPTURE_CAPTURE_WORLD_H_
