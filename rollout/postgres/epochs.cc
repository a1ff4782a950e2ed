#include "rollout/postgres/epochs.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "flags/flag.h"

namespace shadowline::rollout {

absl::StatusOr<uint64_t> BeginEpochs(base::PostgresSessions* sessions, const NewEpochs& epochs) {
  uint64_t begun = 0;
  RETURN_IF_ERROR(sessions->Transact([&](pqxx::work& work) -> absl::Status {
    work.exec("SET LOCAL idle_in_transaction_session_timeout = '5s'; SET LOCAL lock_timeout = '5s'");
    // In the order of every writer of targets: the targets by tenant, then the flags' revision.
    const pqxx::result targets = work.exec_params(
        "SELECT tenant FROM shadowline.target WHERE family = $1 AND ($2 = '' OR tenant = $2) AND mode <> 'DATABASE' "
        "ORDER BY tenant FOR UPDATE",
        epochs.family, epochs.tenant);
    begun = targets.size();
    if (begun == 0) return absl::OkStatus();
    const uint64_t revision =
        work.exec1("UPDATE shadowline.flag_state SET revision = revision + 1 RETURNING revision")[0].as<uint64_t>();
    work.exec_params(
        "WITH changed AS (UPDATE shadowline.target SET epoch = epoch + 1, window_no = window_no + 1, "
        "window_since = clock_timestamp(), revision = $3, reason = $5, changed_at = clock_timestamp() "
        "WHERE family = $1 AND ($2 = '' OR tenant = $2) AND mode <> 'DATABASE' "
        "RETURNING tenant, mode, serve_ppm, epoch) "
        "INSERT INTO shadowline.flip (family, tenant, from_mode, from_serve_ppm, to_mode, to_serve_ppm, revision, who, "
        "why) SELECT $1, tenant, mode, serve_ppm, mode, serve_ppm, $3, $4, "
        "'epoch ' || (epoch - 1) || ' -> ' || epoch || ': ' || $5 FROM changed ORDER BY tenant",
        epochs.family, epochs.tenant, revision, epochs.who, epochs.why);
    work.exec_params("SELECT pg_notify($1, $2)", std::string(flags::kChangedChannel), absl::StrCat(revision));
    return absl::OkStatus();
  }));
  return begun;
}

}  // namespace shadowline::rollout
