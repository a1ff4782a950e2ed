#include "server/postgres/migrate.h"

#include "absl/strings/str_cat.h"
#include "server/postgres/migrations.h"

namespace shadowline::server {
namespace {

// Any fixed number: replicas that migrate at once wait for each other on it.
constexpr int64_t kMigrationLock = 0x5ad0711e;

}  // namespace

absl::Status Migrate(base::PostgresSessions* sessions) {
  return sessions->Transact([](pqxx::work& work) -> absl::Status {
    work.exec(absl::StrCat("SELECT pg_advisory_xact_lock(", kMigrationLock, ")"));
    work.exec("SET LOCAL client_min_messages = warning");
    work.exec("CREATE SCHEMA IF NOT EXISTS shadowline");
    work.exec("CREATE TABLE IF NOT EXISTS shadowline.schema_version (version int NOT NULL)");
    const int version = work.exec1("SELECT coalesce(max(version), 0) FROM shadowline.schema_version")[0].as<int>();
    const int newest = static_cast<int>(std::size(kMigrations));
    if (version > newest) {
      return absl::FailedPreconditionError(absl::StrCat("schema shadowline is at version ", version,
                                                        ", this program knows ", newest, ": run a newer shadowlined"));
    }
    for (int i = version; i < newest; ++i) {
      work.exec(kMigrations[i]);
      work.exec(absl::StrCat("INSERT INTO shadowline.schema_version VALUES (", i + 1, ")"));
    }
    return absl::OkStatus();
  });
}

}  // namespace shadowline::server
