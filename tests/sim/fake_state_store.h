// The state store in memory: what PostgreSQL does, without PostgreSQL, and with faults on demand. The conformance suite
// of tests/rollout holds it to the real one.
//
// Threads: compatible.
#ifndef SHADOWLINE_TESTS_SIM_FAKE_STATE_STORE_H_
#define SHADOWLINE_TESTS_SIM_FAKE_STATE_STORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "diff/evidence/evidence.h"
#include "rollout/state_store.h"

namespace shadowline::sim {

// What others than the rollout write to the store: the catalog, and the replicas with their evidence.
class StoreWorld {
 public:
  // What a piece of evidence is counted under.
  struct Place {
    std::string family;
    std::string tenant;
    std::string endpoint;  // "family/endpoint"
    uint64_t window = 0;
    uint64_t catalog_revision = 0;

    auto operator<=>(const Place&) const = default;
  };

  virtual ~StoreWorld() = default;
  virtual void AddTenant(const std::string& tenant) = 0;
  virtual void SetCatalog(uint64_t revision) = 0;
  // `replica` is a UUID.
  virtual void SetReplica(const std::string& replica, absl::Duration heartbeat_age, absl::Time watermark,
                          bool stopped) = 0;
  virtual void SetCounts(const std::string& replica, const Place& place, const diff::Counts& counts, uint64_t lost) = 0;
  virtual void AddEpisode(const Place& place, const diff::Episode& episode) = 0;
  // As of now. `unsafe` as diff::Divergence has it.
  virtual void AddDivergence(const Place& place, const std::string& fingerprint, uint64_t reads_affected,
                             const std::string& unsafe) = 0;
  void AddDivergence(const Place& place, const std::string& fingerprint, uint64_t reads_affected) {
    AddDivergence(place, fingerprint, reads_affected, "");
  }
};

class FakeStateStore final : public rollout::StateStore, public StoreWorld {
 public:
  enum class Fault {
    kNone,
    kBefore,  // kUnavailable, nothing happened.
    kAfter,   // It happened, but the answer is kUnavailable.
  };

  explicit FakeStateStore(const base::Clock* clock) : clock_(clock) {}

  absl::StatusOr<std::vector<std::string>> Families() override;
  absl::StatusOr<rollout::FamilyState> Load(const std::string& family, rollout::Detail detail) override;
  absl::Status Write(const rollout::Commit& commit) override;
  absl::StatusOr<rollout::Rollout> FindRollout(const std::string& rollout) override;
  absl::StatusOr<std::vector<rollout::Rollout>> ListRollouts(const std::string& family, bool ended) override;
  absl::StatusOr<std::vector<rollout::Flip>> Flips(const std::string& family, uint32_t limit) override;
  absl::StatusOr<rollout::Receipt> FindReceipt(const std::string& id) override;

  void AddTenant(const std::string& tenant) override { tenants_.insert(tenant); }
  void SetCatalog(uint64_t revision) override { catalog_revision_ = revision; }
  void SetReplica(const std::string& replica, absl::Duration heartbeat_age, absl::Time watermark,
                  bool stopped) override {
    replicas_[replica] = {clock_->Now() - heartbeat_age, watermark, stopped};
  }
  void SetCounts(const std::string& replica, const Place& place, const diff::Counts& counts, uint64_t lost) override {
    counts_[{replica, place}] = {counts, lost};
  }
  void AddEpisode(const Place& place, const diff::Episode& episode) override {
    episodes_[place].emplace(episode.id, episode);
  }
  using StoreWorld::AddDivergence;
  void AddDivergence(const Place& place, const std::string& fingerprint, uint64_t reads_affected,
                     const std::string& unsafe) override {
    divergences_.push_back({place, fingerprint, reads_affected, !unsafe.empty(), clock_->Now()});
  }

  // The calls from the `n`-th on (1 is the next) for `times` calls get `fault`.
  void FailCalls(uint64_t n, uint64_t times, Fault fault) {
    fail_from_ = calls_ + n;
    fail_until_ = fail_from_ + times;
    fault_ = fault;
  }
  bool fault_was_reached() const { return calls_ >= fail_from_; }

  // What a test looks at after each step.
  const std::vector<rollout::Commit>& commits() const { return commits_; }
  uint64_t revision() const { return revision_; }
  const std::set<std::string>& tenants() const { return tenants_; }
  // Null: the family never had one.
  const rollout::Rollout* Newest(const std::string& family) const;
  const rollout::Target& Row(const std::string& family, const std::string& tenant) {
    return targets_[{family, tenant}];
  }

  uint64_t leader_epoch = 0;
  std::string leader;
  // Planted fault: a promotion does not look for divergences again.
  bool skip_recount = false;
  // Runs inside the next Write, before it takes effect: what else may happen at that moment.
  std::function<void()> before_write;

 private:
  struct Replica {
    absl::Time heartbeat_at;
    absl::Time watermark;
    bool stopped;
  };
  struct Divergence {
    Place place;
    std::string fingerprint;
    uint64_t reads_affected;
    bool unsafe;
    absl::Time recorded_at;
  };

  Fault NextFault();
  bool Live(const std::string& replica) const;
  bool Counts(const Divergence& divergence, const std::string& family, const std::string& tenant,
              const rollout::Target& target) const;
  // Divergences that are unsafe for `target`, one of the family's.
  uint64_t Unsafe(const std::string& family, const rollout::Target& target) const;
  absl::Status Apply(const rollout::Commit& commit);

  const base::Clock* const clock_;
  std::set<std::string> tenants_;
  uint64_t catalog_revision_ = 0;
  std::map<std::string, Replica> replicas_;
  std::map<std::pair<std::string, Place>, std::pair<diff::Counts, uint64_t>> counts_;
  std::map<Place, std::map<uint64_t, diff::Episode>> episodes_;
  std::vector<Divergence> divergences_;

  uint64_t revision_ = 1;
  std::map<std::pair<std::string, std::string>, rollout::Target> targets_;  // By family and tenant.
  std::vector<rollout::Rollout> rollouts_;                                  // In the order in which they started.
  std::vector<rollout::Flip> flips_;
  std::map<std::string, rollout::Receipt> receipts_;
  std::vector<rollout::Commit> commits_;

  uint64_t calls_ = 0;
  uint64_t fail_from_ = UINT64_MAX;
  uint64_t fail_until_ = UINT64_MAX;
  Fault fault_ = Fault::kNone;
};

// One replica's claim to the seat in `store`.
class FakeLeadership final : public rollout::Leadership {
 public:
  FakeLeadership(FakeStateStore* store, std::string replica) : store_(store), replica_(std::move(replica)) {}

  absl::StatusOr<std::optional<uint64_t>> Hold() override;
  void Release() override;

  // It believes in its last epoch, whoever leads by now: a process that was stopped between asking and writing.
  bool deluded = false;

 private:
  FakeStateStore* const store_;
  const std::string replica_;
  std::optional<uint64_t> epoch_;
};

}  // namespace shadowline::sim

#endif  // SHADOWLINE_TESTS_SIM_FAKE_STATE_STORE_H_
