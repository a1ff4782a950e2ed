#include "flags/postgres/lives.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "flags/flag.h"

namespace shadowline::flags {
namespace {

// Older ones are of no interest: every one of them was replaced, or belongs to a process that is long gone.
constexpr int kLivesKept = 1000;

}  // namespace

absl::Status RegisterLife(base::PostgresSessions* sessions, const FoundLife& life) {
  return sessions->Transact([&](pqxx::work& work) -> absl::Status {
    // Together less than kLongestRegistration.
    work.exec("SET LOCAL idle_in_transaction_session_timeout = '5s'; SET LOCAL statement_timeout = '2s'");
    const std::string mark = absl::BytesToHexString(life.mark);
    if (!work.exec_params("SELECT FROM shadowline.cache_life WHERE mark = $1", mark).empty()) return absl::OkStatus();
    // Also the lock under which the first of all is told from the second.
    const auto revision =
        work.exec1("UPDATE shadowline.flag_state SET revision = revision + 1 RETURNING revision")[0].as<uint64_t>();
    work.exec_params(
        "INSERT INTO shadowline.cache_life (mark, lineage, replaces, address, began_at) SELECT $1, $2, $3, $4, "
        "CASE WHEN EXISTS (SELECT FROM shadowline.cache_life) THEN clock_timestamp() ELSE '-infinity' END "
        "ON CONFLICT DO NOTHING",
        mark, life.lineage, life.replaces, life.address);
    work.exec_params(
        "DELETE FROM shadowline.cache_life WHERE number <= (SELECT max(number) FROM shadowline.cache_life) - $1",
        kLivesKept);
    work.exec_params("SELECT pg_notify($1, $2)", std::string(kChangedChannel), absl::StrCat(revision));
    return absl::OkStatus();
  });
}

}  // namespace shadowline::flags
