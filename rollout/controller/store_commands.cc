#include "rollout/controller/store_commands.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "rollout/controller/view.h"
#include "rollout/machine/machine.h"

namespace shadowline::rollout {

StoreCommands::StoreCommands(Options options, Deps deps)
    : options_(options), deps_(std::move(deps)), random_(options.seed) {}

absl::Time StoreCommands::Now() const { return absl::FromUnixMicros(absl::ToUnixMicros(deps_.clock->Now())); }

std::string StoreCommands::NewId(const std::string& family) {
  base::MutexLock lock(&mutex_);
  return absl::StrCat(family, "-", absl::BytesToHexString(random_.Id().substr(0, 4)));
}

absl::Status StoreCommands::Change(const std::string& family,
                                   absl::FunctionRef<absl::StatusOr<Outcome>(const FamilyState&, absl::Time)> decide) {
  absl::Status written;
  for (int attempt = 0; attempt < options_.attempts; ++attempt) {
    ASSIGN_OR_RETURN(const FamilyState state, deps_.store->Load(family, Detail::kRouting));
    Commit commit;
    commit.family = family;
    commit.now = Now();
    ASSIGN_OR_RETURN(Outcome outcome, decide(state, commit.now));
    if (outcome.empty()) return absl::OkStatus();
    commit.rollout = std::move(outcome.rollout);
    for (TargetChange& change : outcome.targets) commit.targets.push_back({std::move(change), std::nullopt});
    written = deps_.store->Write(commit);
    if (!absl::IsAborted(written)) return written;
  }
  return written;
}

absl::StatusOr<RolloutView> StoreCommands::Start(const StartRequest& request) {
  StartRequest named = request;
  if (named.who.empty()) named.who = "operator";
  const std::string id = NewId(request.family);
  RETURN_IF_ERROR(Change(request.family, [&](const FamilyState& state, absl::Time now) -> absl::StatusOr<Outcome> {
    if (named.catalog_revision != state.catalog_revision) {
      return absl::AbortedError(absl::StrCat("family ", named.family, ": this replica has catalog revision ",
                                             named.catalog_revision, ", the active one is ", state.catalog_revision,
                                             "; try again in a moment"));
    }
    return rollout::Start(state, named, id, now);
  }));
  return Get(id);
}

absl::StatusOr<RolloutView> StoreCommands::Execute(const Command& command) {
  Command named = command;
  if (named.who.empty()) named.who = "operator";
  ASSIGN_OR_RETURN(const Rollout found, deps_.store->FindRollout(named.rollout));
  RETURN_IF_ERROR(Change(found.family, [&](const FamilyState& state, absl::Time now) -> absl::StatusOr<Outcome> {
    if (state.rollout.has_value() && state.rollout->id != found.id && named.rollout == found.id) {
      return absl::FailedPreconditionError(absl::StrCat("rollout ", found.id, " is ", StateName(found.state),
                                                        " and was followed by ", state.rollout->id, "; name that one"));
    }
    return Apply(state, named, now);
  }));
  return Get(found.family == named.rollout ? found.family : found.id);
}

absl::StatusOr<RolloutView> StoreCommands::Get(const std::string& rollout) {
  ASSIGN_OR_RETURN(const Rollout found, deps_.store->FindRollout(rollout));
  ASSIGN_OR_RETURN(const FamilyState state, deps_.store->Load(found.family, Detail::kEvidence));
  const std::optional<CatalogFacts> facts = deps_.catalog(found.family);
  if (state.rollout.has_value() && (state.rollout->id == found.id || rollout == found.family)) {
    return ViewOf(*state.rollout, &state, facts, Now());
  }
  return ViewOf(found, nullptr, facts, Now());
}

absl::StatusOr<std::vector<RolloutView>> StoreCommands::List(const std::string& family, bool ended) {
  ASSIGN_OR_RETURN(const std::vector<Rollout> rollouts, deps_.store->ListRollouts(family, ended));
  std::vector<RolloutView> views;
  for (const Rollout& rollout : rollouts) {
    if (Ended(rollout.state)) {
      views.push_back(ViewOf(rollout, nullptr, std::nullopt, Now()));
      continue;
    }
    ASSIGN_OR_RETURN(const FamilyState state, deps_.store->Load(rollout.family, Detail::kEvidence));
    const bool same = state.rollout.has_value() && state.rollout->id == rollout.id;
    views.push_back(same ? ViewOf(*state.rollout, &state, deps_.catalog(rollout.family), Now())
                         : ViewOf(rollout, nullptr, std::nullopt, Now()));
  }
  return views;
}

absl::StatusOr<std::vector<Flip>> StoreCommands::Flips(const std::string& family, uint32_t limit) {
  return deps_.store->Flips(family, limit);
}

}  // namespace shadowline::rollout
