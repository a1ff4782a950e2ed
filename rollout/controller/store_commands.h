// Commands on the state store, for every replica, leader or not. A command is one transaction on what was loaded just
// before; where that lost a race it is decided again. A rollback or an abort flips its flags in that transaction, so it
// is in force when the call returns; everything else changes the rollout's document, and the leader acts on its next
// tick.
//
// Ownership: borrows everything in Deps; each must outlive it.
#ifndef SHADOWLINE_ROLLOUT_CONTROLLER_STORE_COMMANDS_H_
#define SHADOWLINE_ROLLOUT_CONTROLLER_STORE_COMMANDS_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/random.h"
#include "rollout/commands.h"
#include "rollout/controller/controller.h"
#include "rollout/state_store.h"

namespace shadowline::rollout {

class StoreCommands final : public Commands {
 public:
  struct Options {
    uint64_t seed = 0;  // For the ids of rollouts.
    int attempts = 20;  // Races lost in a row before kAborted is the answer.
  };
  struct Deps {
    const base::Clock* clock = nullptr;
    StateStore* store = nullptr;
    CatalogSource catalog;
  };

  StoreCommands(Options options, Deps deps);

  absl::StatusOr<RolloutView> Start(const StartRequest& request) override;
  absl::StatusOr<RolloutView> Execute(const Command& command) override;
  absl::StatusOr<RolloutView> Get(const std::string& rollout) override;
  absl::StatusOr<std::vector<RolloutView>> List(const std::string& family, bool ended) override;
  absl::StatusOr<std::vector<Flip>> Flips(const std::string& family, uint32_t limit) override;

 private:
  // Loads, decides and writes, again while the write is aborted.
  absl::Status Change(const std::string& family,
                      absl::FunctionRef<absl::StatusOr<Outcome>(const FamilyState&, absl::Time)> decide);
  std::string NewId(const std::string& family);
  absl::Time Now() const;

  const Options options_;
  const Deps deps_;
  base::Mutex mutex_;
  base::Random random_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace shadowline::rollout

#endif  // SHADOWLINE_ROLLOUT_CONTROLLER_STORE_COMMANDS_H_
