#include "server/rpc/admin.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "cache/catalog/parse.h"
#include "server/rpc/convert.h"

namespace shadowline::server {
namespace {

constexpr uint32_t kDefaultListed = 50;
constexpr uint32_t kMaxListed = 500;
constexpr uint32_t kFlipsReported = 200;

std::string Who(const std::string& who) { return who.empty() ? "unknown" : who; }

base::Level LevelOf(const absl::Status& status) { return status.ok() ? base::Level::kInfo : base::Level::kWarning; }

absl::Status CheckWhoAndReason(const std::string& who, const std::string& reason) {
  RETURN_IF_ERROR(CheckText("who", who, kMaxNameBytes, false));
  return CheckText("reason", reason, kMaxReasonBytes, false);
}

absl::StatusOr<uint32_t> ReadLimit(uint32_t limit) {
  if (limit > kMaxListed) {
    return absl::InvalidArgumentError(
        absl::StrCat("limit: ", limit, " is out of range; expected at most ", kMaxListed));
  }
  return limit == 0 ? kDefaultListed : limit;
}

absl::string_view VerbName(rollout::Verb verb) {
  switch (verb) {
    case rollout::Verb::kPause:
      return "pause";
    case rollout::Verb::kResume:
      return "resume";
    case rollout::Verb::kApprove:
      return "approve";
    case rollout::Verb::kPromote:
      return "promote";
    case rollout::Verb::kRollback:
      return "rollback";
    case rollout::Verb::kAbort:
      return "abort";
  }
  return "unknown";
}

}  // namespace

Admin::Admin(Deps deps) : deps_(std::move(deps)) {}

absl::Status Admin::ApplyCatalog(const v1::ApplyCatalogRequest& request, const std::string& peer,
                                 v1::ApplyCatalogResponse* response) {
  if (request.yaml().empty()) return absl::InvalidArgumentError("yaml: is missing; it is required");
  if (request.yaml().size() > kMaxCatalogBytes) {
    return absl::InvalidArgumentError(absl::StrCat("yaml: is too long; expected at most ", kMaxCatalogBytes, " bytes"));
  }
  RETURN_IF_ERROR(CheckText("who", request.who(), kMaxNameBytes, false));
  const auto applied =
      deps_.catalogs->Apply(request.yaml(), request.dry_run(), Who(request.who()), request.expected_revision());
  if (!request.dry_run()) {
    base::Log(LevelOf(applied.status()), "catalog_apply",
              {{"revision", applied.ok() ? applied->revision : 0},
               {"changed", applied.ok() && applied->changed},
               {"who", Who(request.who())},
               {"peer", peer},
               {"status", absl::StatusCodeToString(applied.status().code())}});
  }
  if (!applied.ok()) return applied.status();
  response->set_revision(applied->revision);
  response->set_changed(applied->changed);
  response->mutable_changes()->Assign(applied->changes.begin(), applied->changes.end());
  return absl::OkStatus();
}

absl::Status Admin::GetCatalog(const v1::GetCatalogRequest& request, const std::string& peer,
                               v1::GetCatalogResponse* response) {
  ASSIGN_OR_RETURN(const cache::AppliedCatalog active, deps_.catalogs->Active());
  response->set_revision(active.revision);
  response->set_yaml(active.yaml);
  response->set_applied_at_us(ToMicros(active.applied_at));
  response->set_applied_by(active.applied_by);
  return absl::OkStatus();
}

absl::StatusOr<rollout::StartRequest> Admin::ReadStart(const v1::StartRolloutRequest& request) {
  rollout::StartRequest start;
  RETURN_IF_ERROR(CheckText("family", request.family(), kMaxNameBytes, true));
  RETURN_IF_ERROR(CheckWhoAndReason(request.who(), request.reason()));
  ASSIGN_OR_RETURN(start.cohorts, FromProto(request.cohorts()));
  ASSIGN_OR_RETURN(const auto flags, Flags());
  for (const rollout::Cohort& cohort : start.cohorts) {
    for (const std::string& tenant : cohort.tenants) {
      if (!flags->HasTenant(tenant)) {
        return absl::NotFoundError(absl::StrCat("tenant ", tenant, " of cohort ", cohort.name, " is unknown"));
      }
    }
  }

  const auto active = deps_.catalogs->Active();
  if (absl::IsNotFound(active.status())) return absl::NotFoundError("no catalog is applied yet; apply one first");
  RETURN_IF_ERROR(active.status());
  ASSIGN_OR_RETURN(const auto catalog, cache::ParseCatalog(active->yaml, active->revision));
  if (!catalog->document().families().contains(request.family())) {
    return absl::NotFoundError(
        absl::StrCat("family ", request.family(), " is not in catalog revision ", catalog->revision()));
  }
  ASSIGN_OR_RETURN(start.policy,
                   FromProto(cache::EffectivePolicy(catalog->document(), request.family(), request.policy())));
  for (const cache::Endpoint& endpoint : catalog->endpoints()) {
    if (endpoint.family == request.family()) start.endpoints.push_back(endpoint.name);
  }
  start.family = request.family();
  start.catalog_revision = catalog->revision();
  start.who = Who(request.who());
  start.reason = request.reason();
  return start;
}

absl::Status Admin::StartRollout(const v1::StartRolloutRequest& request, const std::string& peer,
                                 v1::Rollout* response) {
  ASSIGN_OR_RETURN(const rollout::StartRequest start, ReadStart(request));
  const auto started = deps_.rollouts->Start(start);
  base::Log(LevelOf(started.status()), "rollout_start",
            {{"family", start.family},
             {"rollout", started.ok() ? started->id : ""},
             {"catalog_revision", start.catalog_revision},
             {"who", start.who},
             {"reason", start.reason},
             {"peer", peer},
             {"status", absl::StatusCodeToString(started.status().code())}});
  if (!started.ok()) return started.status();
  *response = ToProto(*started);
  return absl::OkStatus();
}

absl::Status Admin::ListRollouts(const v1::ListRolloutsRequest& request, const std::string& peer,
                                 v1::ListRolloutsResponse* response) {
  RETURN_IF_ERROR(CheckText("family", request.family(), kMaxNameBytes, false));
  ASSIGN_OR_RETURN(const auto rollouts, deps_.rollouts->List(request.family(), request.ended()));
  for (const rollout::RolloutView& rollout : rollouts) *response->add_rollouts() = ToProto(rollout);
  return absl::OkStatus();
}

absl::Status Admin::GetRollout(const v1::GetRolloutRequest& request, const std::string& peer, v1::Rollout* response) {
  RETURN_IF_ERROR(CheckText("rollout", request.rollout(), kMaxNameBytes, true));
  ASSIGN_OR_RETURN(const rollout::RolloutView rollout, deps_.rollouts->Get(request.rollout()));
  *response = ToProto(rollout);
  return absl::OkStatus();
}

absl::Status Admin::Execute(rollout::Verb verb, const v1::RolloutCommand& command, const std::string& peer,
                            v1::Rollout* response) {
  RETURN_IF_ERROR(CheckText("rollout", command.rollout(), kMaxNameBytes, true));
  RETURN_IF_ERROR(CheckText("tenant", command.tenant(), kMaxNameBytes, false));
  RETURN_IF_ERROR(CheckWhoAndReason(command.who(), command.reason()));
  if (!command.tenant().empty() && verb != rollout::Verb::kPromote && verb != rollout::Verb::kRollback) {
    return absl::InvalidArgumentError(
        absl::StrCat("tenant: cannot be given to ", VerbName(verb), "; only promote and rollback take one"));
  }
  if (verb == rollout::Verb::kPromote && command.reason().empty()) {
    return absl::InvalidArgumentError("reason: is missing; a promotion past the evidence has to say why");
  }
  const auto result =
      deps_.rollouts->Execute({command.rollout(), verb, command.tenant(), Who(command.who()), command.reason()});
  base::Log(LevelOf(result.status()), "rollout_command",
            {{"verb", std::string(VerbName(verb))},
             {"rollout", command.rollout()},
             {"tenant", command.tenant()},
             {"who", Who(command.who())},
             {"reason", command.reason()},
             {"peer", peer},
             {"status", absl::StatusCodeToString(result.status().code())}});
  if (!result.ok()) return result.status();
  *response = ToProto(*result);
  return absl::OkStatus();
}

absl::Status Admin::PauseRollout(const v1::RolloutCommand& request, const std::string& peer, v1::Rollout* response) {
  return Execute(rollout::Verb::kPause, request, peer, response);
}

absl::Status Admin::ResumeRollout(const v1::RolloutCommand& request, const std::string& peer, v1::Rollout* response) {
  return Execute(rollout::Verb::kResume, request, peer, response);
}

absl::Status Admin::ApproveRollout(const v1::RolloutCommand& request, const std::string& peer, v1::Rollout* response) {
  return Execute(rollout::Verb::kApprove, request, peer, response);
}

absl::Status Admin::PromoteRollout(const v1::RolloutCommand& request, const std::string& peer, v1::Rollout* response) {
  return Execute(rollout::Verb::kPromote, request, peer, response);
}

absl::Status Admin::RollbackRollout(const v1::RolloutCommand& request, const std::string& peer, v1::Rollout* response) {
  return Execute(rollout::Verb::kRollback, request, peer, response);
}

absl::Status Admin::AbortRollout(const v1::RolloutCommand& request, const std::string& peer, v1::Rollout* response) {
  return Execute(rollout::Verb::kAbort, request, peer, response);
}

absl::StatusOr<std::shared_ptr<const flags::Snapshot>> Admin::Flags() const {
  std::shared_ptr<const flags::Snapshot> snapshot = deps_.board->Current();
  if (snapshot == nullptr) return absl::UnavailableError("this replica has no flags yet; retry with backoff");
  return snapshot;
}

bool Admin::HasFamily(const std::string& family) const {
  const std::shared_ptr<const cache::CompiledCatalog> catalog = deps_.catalog();
  return catalog != nullptr && catalog->document().families().contains(family);
}

absl::Status Admin::GetFlag(const v1::GetFlagRequest& request, const std::string& peer, v1::Flag* response) {
  RETURN_IF_ERROR(CheckText("tenant", request.tenant(), kMaxNameBytes, true));
  RETURN_IF_ERROR(CheckText("family", request.family(), kMaxNameBytes, true));
  ASSIGN_OR_RETURN(const auto flags, Flags());
  if (!flags->HasTenant(request.tenant())) {
    return absl::NotFoundError(absl::StrCat("tenant ", request.tenant(), " is unknown"));
  }
  if (!HasFamily(request.family()) && !flags->targets().contains({request.family(), request.tenant()})) {
    return absl::NotFoundError(absl::StrCat("family ", request.family(), " is unknown"));
  }
  *response = ToProto(request.tenant(), request.family(), *flags->Find(request.tenant(), request.family()));
  return absl::OkStatus();
}

absl::Status Admin::ListFlags(const v1::ListFlagsRequest& request, const std::string& peer,
                              v1::ListFlagsResponse* response) {
  RETURN_IF_ERROR(CheckText("tenant", request.tenant(), kMaxNameBytes, false));
  RETURN_IF_ERROR(CheckText("family", request.family(), kMaxNameBytes, false));
  ASSIGN_OR_RETURN(const auto flags, Flags());
  response->set_revision(flags->revision());
  for (const auto& [target, flag] : flags->targets()) {
    const auto& [family, tenant] = target;
    if (!request.family().empty() && request.family() != family) continue;
    if (!request.tenant().empty() && request.tenant() != tenant) continue;
    if (response->flags_size() == static_cast<int>(kMaxFlagsListed)) {
      return absl::ResourceExhaustedError(
          absl::StrCat("there are more than ", kMaxFlagsListed, " flags; name a tenant or a family"));
    }
    *response->add_flags() = ToProto(tenant, family, flag);
  }
  return absl::OkStatus();
}

absl::Status Admin::ListDivergenceGroups(const v1::ListDivergenceGroupsRequest& request, const std::string& peer,
                                         v1::ListDivergenceGroupsResponse* response) {
  RETURN_IF_ERROR(CheckText("family", request.family(), kMaxNameBytes, false));
  ASSIGN_OR_RETURN(const uint32_t limit, ReadLimit(request.limit()));
  RETURN_IF_ERROR(CheckText("fingerprint", request.fingerprint(), kMaxNameBytes, false));
  ASSIGN_OR_RETURN(const auto groups, deps_.evidence->Groups(request.family(), request.fingerprint(), limit));
  for (const diff::DivergenceGroup& group : groups) *response->add_groups() = ToProto(group);
  return absl::OkStatus();
}

absl::Status Admin::ListDivergences(const v1::ListDivergencesRequest& request, const std::string& peer,
                                    v1::ListDivergencesResponse* response) {
  RETURN_IF_ERROR(CheckText("family", request.family(), kMaxNameBytes, false));
  RETURN_IF_ERROR(CheckText("tenant", request.tenant(), kMaxNameBytes, false));
  RETURN_IF_ERROR(CheckText("fingerprint", request.fingerprint(), kMaxNameBytes, false));
  ASSIGN_OR_RETURN(const uint32_t limit, ReadLimit(request.limit()));
  ASSIGN_OR_RETURN(const auto divergences,
                   deps_.evidence->Divergences(request.family(), request.tenant(), request.fingerprint(), limit));
  for (const diff::Divergence& divergence : divergences) *response->add_divergences() = ToProto(divergence);
  return absl::OkStatus();
}

absl::Status Admin::GetDivergence(const v1::GetDivergenceRequest& request, const std::string& peer,
                                  v1::Divergence* response) {
  RETURN_IF_ERROR(CheckText("id", request.id(), kMaxNameBytes, true));
  ASSIGN_OR_RETURN(diff::Divergence divergence, deps_.evidence->Find(request.id()));
  if (deps_.reveal != nullptr) deps_.reveal(&divergence);
  *response = ToProto(divergence);
  return absl::OkStatus();
}

absl::Status Admin::GetReport(const v1::GetReportRequest& request, const std::string& peer, v1::Report* response) {
  const std::string& family = request.family();
  RETURN_IF_ERROR(CheckText("family", family, kMaxNameBytes, true));
  const auto rollout = deps_.rollouts->Get(family);
  if (!rollout.ok() && !absl::IsNotFound(rollout.status())) return rollout.status();
  const bool has_rollout = rollout.ok() && rollout->family == family;  // An id is no family.
  if (!has_rollout && !HasFamily(family)) return absl::NotFoundError(absl::StrCat("family ", family, " is unknown"));

  ASSIGN_OR_RETURN(const diff::LedgerTotals ledger, deps_.evidence->FamilyLedger(family));
  ASSIGN_OR_RETURN(const auto groups, deps_.evidence->Groups(family, "", kDefaultListed));
  ASSIGN_OR_RETURN(const auto noise, deps_.evidence->FamilyNoise(family));
  ASSIGN_OR_RETURN(const auto flips, deps_.rollouts->Flips(family, kFlipsReported));
  response->set_family(family);
  if (const auto catalog = deps_.catalog(); catalog != nullptr) response->set_catalog_revision(catalog->revision());
  *response->mutable_ledger() = ToProto(ledger);
  if (has_rollout) {
    for (const rollout::TargetView& target : rollout->targets) *response->add_targets() = ToReport(family, target);
  }
  for (const diff::DivergenceGroup& group : groups) *response->add_groups() = ToProto(group);
  for (const diff::Noise& of_pattern : noise) *response->add_noise() = ToProto(of_pattern);
  for (const rollout::Flip& flip : flips) *response->add_flips() = ToProto(flip);
  response->set_at_us(ToMicros(deps_.clock->Now()));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<cache::TenantTag>> Admin::ReadTags(
    const std::string& tenant, const google::protobuf::RepeatedPtrField<std::string>& tags) const {
  RETURN_IF_ERROR(CheckText("tenant", tenant, kMaxNameBytes, true));
  RETURN_IF_ERROR(cache::CheckTags({tags.begin(), tags.end()}));
  ASSIGN_OR_RETURN(const auto flags, Flags());
  if (!flags->HasTenant(tenant)) return absl::NotFoundError(absl::StrCat("tenant ", tenant, " is unknown"));
  std::vector<cache::TenantTag> of_tenant;
  for (const std::string& tag : tags) of_tenant.push_back({tenant, tag});
  return of_tenant;
}

void Admin::Invalidate(const v1::InvalidateRequest& request, const std::string& peer, Invalidated done) {
  if (static_cast<size_t>(request.transactions_size()) > cache::kFenceTransactionsMax) {
    return done(
        absl::InvalidArgumentError(absl::StrCat("transactions: ", request.transactions_size(), " are more than the ",
                                                cache::kFenceTransactionsMax, " of one call; split it")));
  }
  auto tags = ReadTags(request.tenant(), request.tags());
  if (!tags.ok()) return done(tags.status());
  // Writers call this all day: the line is for those who look for it.
  base::Log(base::Level::kDebug, "cache_invalidate",
            {{"tenant", request.tenant()}, {"tags", tags->size()}, {"peer", peer}});
  deps_.invalidate(*std::move(tags), {request.transactions().begin(), request.transactions().end()}, std::move(done));
}

void Admin::Warm(const v1::WarmRequest& request, const std::string& peer, Warmed done) {
  auto tags = ReadTags(request.tenant(), request.tags());
  if (!tags.ok()) return done(tags.status());
  base::Log(base::Level::kInfo, "cache_warm", {{"tenant", request.tenant()}, {"tags", tags->size()}, {"peer", peer}});
  deps_.warm(*std::move(tags), std::move(done));
}

absl::Status Admin::CheckPurge(const v1::PurgeRequest& request) const {
  RETURN_IF_ERROR(CheckText("family", request.family(), kMaxNameBytes, true));
  RETURN_IF_ERROR(CheckText("tenant", request.tenant(), kMaxNameBytes, false));
  RETURN_IF_ERROR(CheckText("who", request.who(), kMaxNameBytes, false));
  RETURN_IF_ERROR(CheckText("reason", request.reason(), kMaxReasonBytes, true));
  ASSIGN_OR_RETURN(const auto flags, Flags());
  if (!HasFamily(request.family())) {
    return absl::NotFoundError(absl::StrCat("family ", request.family(), " is unknown"));
  }
  if (!request.tenant().empty() && !flags->HasTenant(request.tenant())) {
    return absl::NotFoundError(absl::StrCat("tenant ", request.tenant(), " is unknown"));
  }
  return absl::OkStatus();
}

void Admin::Purge(const v1::PurgeRequest& request, const std::string& peer, Purged done) {
  if (const absl::Status checked = CheckPurge(request); !checked.ok()) return done(checked);
  v1::PurgeRequest order = request;
  order.set_who(Who(request.who()));
  deps_.purge(order, [order, peer, done = std::move(done)](absl::StatusOr<uint64_t> targets) mutable {
    base::Log(LevelOf(targets.status()), "cache_purge",
              {{"family", order.family()},
               {"tenant", order.tenant()},
               {"targets", targets.value_or(0)},
               {"who", order.who()},
               {"reason", order.reason()},
               {"peer", peer},
               {"status", absl::StatusCodeToString(targets.status().code())}});
    done(std::move(targets));
  });
}

void Admin::ReplayDivergence(const v1::ReplayDivergenceRequest& request, const std::string& peer, Replayed done) {
  absl::Status checked = CheckText("id", request.id(), kMaxNameBytes, true);
  if (!checked.ok()) return done(std::move(checked));
  const absl::StatusOr<diff::Divergence> divergence = deps_.evidence->Find(request.id());
  if (!divergence.ok()) return done(divergence.status());
  base::Log(base::Level::kInfo, "divergence_replayed", {{"id", request.id()}, {"peer", peer}});
  deps_.replay(*divergence, std::move(done));
}

void Admin::Inspect(const v1::InspectRequest& request, const std::string& peer, Inspected done) {
  absl::Status checked = CheckText("tenant", request.tenant(), kMaxNameBytes, true);
  checked.Update(CheckText("endpoint", request.endpoint(), kMaxNameBytes, true));
  if (!checked.ok()) return done(std::move(checked));
  deps_.inspect(request, std::move(done));
}

}  // namespace shadowline::server
