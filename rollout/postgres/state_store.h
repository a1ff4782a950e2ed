// The state store and the leadership on PostgreSQL, in the schema `shadowline`.
//
// A Write locks in one order (leader, rollout, targets by tenant, flag state), so that two of them never deadlock; and
// gives up after seconds where it is frozen in the middle, so that a stopped replica cannot hold up a rollback.
#ifndef SHADOWLINE_ROLLOUT_POSTGRES_STATE_STORE_H_
#define SHADOWLINE_ROLLOUT_POSTGRES_STATE_STORE_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/postgres/session.h"
#include "rollout/state_store.h"

namespace shadowline::rollout {

class PostgresStateStore final : public StateStore {
 public:
  struct Options {
    // A replica whose last heartbeat is older is not live: its watermark holds up no judgement, its pending reads are
    // lost.
    absl::Duration replica_lapse = absl::Seconds(10);
    // Counting a family's evidence reads every row of its windows. After a count that took t, the next one comes no
    // sooner than this many t later, and loads until then see the counted evidence together with the watermarks of that
    // moment: older, but as consistent. Confirmed divergences are always those of now. 0: count for every load.
    int rest_factor = 10;
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
  // What one count of a family's evidence came to.
  struct Count {
    struct Window {
      uint64_t window = 0;
      uint64_t catalog_revision = 0;
      Evidence evidence;
    };
    absl::Duration usable_until;  // By Clock::Steady()
    Fleet fleet;
    std::map<std::string, Window> windows;  // By tenant.
  };

  // The last count of `family`, where it may still be used.
  std::shared_ptr<const Count> Counted(const std::string& family);
  // Counts within the transaction that has loaded `state`, and keeps it for others.
  std::shared_ptr<const Count> CountNow(pqxx::work& work, const FamilyState& state);

  base::PostgresSessions* const sessions_;
  const Options options_;
  const base::SystemClock clock_;  // How long a count took is real time.
  base::Mutex mutex_;
  std::map<std::string, std::shared_ptr<const Count>> counts_ ABSL_GUARDED_BY(mutex_);  // By family.
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
