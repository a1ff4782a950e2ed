#include "rollout/postgres/epochs.h"

#include "absl/strings/str_cat.h"
#include "flags/flag.h"

namespace shadowline::rollout {

absl::Status BeginEpochs(base::PostgresSessions* sessions, const std::string& family, const std::string& tenant,
                         const std::string& why) {
  return sessions->Transact([&](pqxx::work& work) -> absl::Status {
    work.exec("SET LOCAL idle_in_transaction_session_timeout = '5s'; SET LOCAL lock_timeout = '5s'");
    // In the order of every writer of targets: the targets by tenant, then the flags' revision.
    const pqxx::result targets = work.exec_params(
        "SELECT tenant FROM shadowline.target WHERE family = $1 AND ($2 = '' OR tenant = $2) AND mode <> 'DATABASE' "
        "ORDER BY tenant FOR UPDATE",
        family, tenant);
    if (targets.empty()) return absl::OkStatus();  // What a DATABASE target has cached is never read again.
    const uint64_t revision =
        work.exec1("UPDATE shadowline.flag_state SET revision = revision + 1 RETURNING revision")[0].as<uint64_t>();
    work.exec_params(
        "UPDATE shadowline.target SET epoch = epoch + 1, window_no = window_no + 1, window_since = clock_timestamp(), "
        "revision = $3, reason = $4, changed_at = clock_timestamp() "
        "WHERE family = $1 AND ($2 = '' OR tenant = $2) AND mode <> 'DATABASE'",
        family, tenant, revision, why);
    work.exec_params("SELECT pg_notify($1, $2)", std::string(flags::kChangedChannel), absl::StrCat(revision));
    return absl::OkStatus();
  });
}

}  // namespace shadowline::rollout
