#include "rollout/controller/controller.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/executor.h"
#include "base/log.h"
#include "base/status.h"
#include "rollout/journal/journal.h"
#include "rollout/machine/machine.h"

namespace shadowline::rollout {
namespace {

// A random (version 4) UUID.
std::string Uuid(base::Random* random) {
  std::string bytes = random->Id();
  bytes[6] = static_cast<char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<char>((bytes[8] & 0x3f) | 0x80);
  const std::string hex = absl::BytesToHexString(bytes);
  return absl::StrCat(hex.substr(0, 8), "-", hex.substr(8, 4), "-", hex.substr(12, 4), "-", hex.substr(16, 4), "-",
                      hex.substr(20));
}

// What receipts keep, so that a replay decides on the very same moment.
absl::Time ToMicros(absl::Time time) { return absl::FromUnixMicros(absl::ToUnixMicros(time)); }

}  // namespace

Controller::Controller(Options options, Deps deps)
    : options_(options),
      deps_(std::move(deps)),
      random_(options.seed),
      leader_gauge_(deps_.metrics->AddGauge("shadowline_controller_leading", "1 while this replica is the leader.")),
      promotions_(deps_.metrics->AddCounter("shadowline_controller_flips_total", "Flips of flags by the controller.",
                                            {{"direction", "to_cache"}})),
      rollbacks_(deps_.metrics->AddCounter("shadowline_controller_flips_total", "Flips of flags by the controller.",
                                           {{"direction", "to_database"}})),
      failures_(deps_.metrics->AddCounter("shadowline_controller_failed_ticks_total",
                                          "Ticks that could not be finished; the next one goes on.")),
      hooks_run_at_(deps_.hooks.size()) {}

Controller::~Controller() { Stop(); }

void Controller::Start() {
  thread_ = base::StartThread("controller", [this] { Run(); });
}

void Controller::Stop() {
  if (!thread_.joinable()) return;
  {
    base::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
  leading_ = false;
  deps_.leadership->Release();
}

void Controller::Run() {
  while (true) {
    if (const absl::Status ticked = Tick(); !ticked.ok()) {
      base::Log(base::Level::kWarning, "controller_tick_failed", {{"error", ticked.ToString()}});
    }
    base::MutexLock lock(&mutex_);
    if (mutex_.AwaitWithTimeout(absl::Condition(this, &Controller::stopping), options_.interval)) return;
  }
}

absl::Status Controller::Tick() {
  const absl::StatusOr<std::optional<uint64_t>> epoch = deps_.leadership->Hold();
  const bool leads = epoch.ok() && epoch->has_value();
  if (leading_.exchange(leads) != leads) {
    base::Log(base::Level::kInfo, leads ? "leadership_taken" : "leadership_lost",
              {{"epoch", leads ? **epoch : uint64_t{0}}});
  }
  leader_gauge_->Set(leads ? 1 : 0);
  absl::Status result = epoch.status();
  if (leads) {
    const absl::StatusOr<std::vector<std::string>> families = deps_.store->Families();
    result.Update(families.status());
    if (families.ok()) {
      for (const std::string& family : *families) {
        result.Update(base::Annotate(TickFamily(family, **epoch), absl::StrCat("family ", family)));
      }
    }
    result.Update(RunHooks());
  }
  if (!result.ok()) failures_->Add();
  return result;
}

absl::Status Controller::TickFamily(const std::string& family, uint64_t epoch) {
  ASSIGN_OR_RETURN(FamilyState state, deps_.store->Load(family, Detail::kRouting));
  if (state.rollout.has_value() && state.rollout->state == RolloutState::kRunning) {
    ASSIGN_OR_RETURN(state, deps_.store->Load(family, Detail::kEvidence));
  }
  Commit commit;
  commit.family = family;
  commit.leader_epoch = epoch;
  commit.now = ToMicros(deps_.clock->Now());
  Outcome outcome = Step(state, deps_.catalog(family), commit.now);
  if (outcome.empty()) return absl::OkStatus();

  commit.rollout = std::move(outcome.rollout);
  for (TargetChange& change : outcome.targets) {
    TargetWrite write;
    if (change.basis.has_value()) {
      write.receipt = MakeReceipt(Uuid(&random_), epoch, change.basis->first, change.basis->second);
    }
    write.change = std::move(change);
    commit.targets.push_back(std::move(write));
  }
  const absl::Status written = deps_.store->Write(commit);
  if (absl::IsAborted(written)) {
    base::Log(base::Level::kInfo, "controller_lost_race",
              {{"family", family}, {"why", std::string(written.message())}});
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(written);
  for (const TargetWrite& write : commit.targets) {
    const flags::Flag& before = write.change.before.flag;
    const flags::Flag& after = write.change.after.flag;
    const bool to_database = before.mode == flags::Mode::kCache && after.mode != flags::Mode::kCache;
    if (write.change.promotes) promotions_->Add();
    if (to_database) rollbacks_->Add();
    base::Log(to_database ? base::Level::kWarning : base::Level::kInfo, "target_moved",
              {{"family", family},
               {"from", RoutingName(before)},
               {"to", RoutingName(after)},
               {"window", after.window},
               {"why", write.change.why}});
  }
  return absl::OkStatus();
}

absl::Status Controller::RunHooks() {
  absl::Status result;
  for (size_t i = 0; i < deps_.hooks.size(); ++i) {
    const Hook& hook = deps_.hooks[i];
    const absl::Duration now = deps_.clock->Steady();
    if (hooks_run_at_[i].has_value() && now - *hooks_run_at_[i] < hook.interval) continue;
    hooks_run_at_[i] = now;
    result.Update(base::Annotate(hook.run(), hook.name));
  }
  return result;
}

}  // namespace shadowline::rollout
