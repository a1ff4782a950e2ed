// The state store and the leadership on PostgreSQL, in the schema `shadowline`.
//
// A Write locks in one order (leader, rollout, targets by tenant, flag state), so that two of them never deadlock; and
// gives up after seconds where it is frozen in the middle, so that a stopped replica cannot hold up a rollback.
#ifndef SHADOWLINE_ROLLOUT_POSTGRES_STATE_STORE_H_
#define SHADOWLINE_ROLLOUT_POSTGRES_STATE_STORE_H_

#include <memory>
#include <string>
#include <vector>

#include "base/postgres/session.h"
#include "rollout/state_store.h"

namespace shadowline::rollout {

class PostgresStateStore final : public StateStore {
 public:
  struct Options {
    // A replica whose last heartbeat is older is not live: its watermark holds up no judgement, its pending reads are
    // lost.
    absl::Duration replica_lapse = absl::Seconds(10);
  };

  // `sessions` must outlive the store.
  PostgresStateStore(base::PostgresSessions* sessions, Options options) : sessions_(sessions), options_(options) {}

  absl::StatusOr<std::vector<std::string>> Families() override;
  absl::StatusOr<FamilyState> Load(const std::string& family, Detail detail) override;
  absl::Status Write(const Commit& commit) override;
  absl::StatusOr<Rollout> FindRollout(const std::string& rollout) override;
  absl::StatusOr<std::vector<Rollout>> ListRollouts(const std::string& family, bool ended) override;
  absl::StatusOr<std::vector<Flip>> Flips(const std::string& family, uint32_t limit) override;
  absl::StatusOr<Receipt> FindReceipt(const std::string& id) override;

 private:
  base::PostgresSessions* const sessions_;
  const Options options_;
};

// An advisory lock on a connection of its own, and an epoch that every new leader raises. The server ends the session
// of a leader that has been silent for `lapse`, so that a frozen process gives way like a dead one.
class PostgresLeadership final : public Leadership {
 public:
  struct Options {
    std::string connection_string;
    std::string replica;  // A UUID; recorded.
    absl::Duration lapse = absl::Seconds(5);
  };

  explicit PostgresLeadership(Options options) : options_(std::move(options)) {}
  ~PostgresLeadership() override { Release(); }

  absl::StatusOr<std::optional<uint64_t>> Hold() override;
  void Release() override;

 private:
  std::optional<uint64_t> TryHold();

  const Options options_;
  std::unique_ptr<pqxx::connection> connection_;
  int backend_ =
      0;  // The server process that holds the lock: libpqxx may reconnect silently, and the lock would be gone.
  std::optional<uint64_t> epoch_;
};

}  // namespace shadowline::rollout

#endif  // SHADOWLINE_ROLLOUT_POSTGRES_STATE_STORE_H_
