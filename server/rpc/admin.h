// Admin answers operators: each method checks one request, asks the room that knows, converts the answer, and logs what
// was changed, by whom and from where. It knows no gRPC; admin_services.h puts it behind the network.
//
// Ownership: borrows everything in Deps; each must outlive it.
// Threads:   thread-safe. Blocking, but for Invalidate, Warm, Purge, Inspect, GetFlag and ListFlags.
// Statuses:  those that the contract (proto/shadowline/v1) lists for each RPC. Nothing was changed where a request is
// refused.
#ifndef SHADOWLINE_SERVER_RPC_ADMIN_H_
#define SHADOWLINE_SERVER_RPC_ADMIN_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "cache/catalog/catalog.h"
#include "cache/catalog/catalog_store.h"
#include "cache/invalidate/invalidator.h"
#include "diff/evidence/evidence_reader.h"
#include "flags/board.h"
#include "rollout/commands.h"
#include "shadowline/v1/cache.pb.h"
#include "shadowline/v1/catalog.pb.h"
#include "shadowline/v1/divergence.pb.h"
#include "shadowline/v1/flags.pb.h"
#include "shadowline/v1/rollout.pb.h"

namespace shadowline::server {

inline constexpr size_t kMaxCatalogBytes = 4 << 20;
inline constexpr size_t kMaxFlagsListed = 10'000;

class Admin {
 public:
  using Invalidated = absl::AnyInvocable<void(absl::Status)>;
  using Warmed = absl::AnyInvocable<void(absl::StatusOr<uint64_t>)>;
  using Purged = absl::AnyInvocable<void(absl::StatusOr<uint64_t>)>;
  using Replayed = absl::AnyInvocable<void(absl::StatusOr<v1::ReplayDivergenceResponse>)>;
  using Inspected = absl::AnyInvocable<void(absl::StatusOr<v1::InspectResponse>)>;

  struct Deps {
    cache::CatalogStore* catalogs = nullptr;
    rollout::Commands* rollouts = nullptr;
    diff::EvidenceReader* evidence = nullptr;
    const flags::Board* board = nullptr;
    const base::Clock* clock = nullptr;
    // The catalog that this replica reads by; null before the first.
    std::function<std::shared_ptr<const cache::CompiledCatalog>()> catalog;
    // cache::Invalidator on its own executor. Calls back once, on any thread; dropping the callback means unavailable.
    std::function<void(std::vector<cache::TenantTag> tags, std::vector<uint64_t> transactions, Invalidated done)>
        invalidate;
    // Begins the epochs of a request that was checked. Calls back, as above, once no replica answers from an old one;
    // with how many targets began one.
    std::function<void(const v1::PurgeRequest& request, Purged done)> purge;
    // server::Inspector on its own executor. Calls back as the others.
    std::function<void(const v1::InspectRequest& request, Inspected done)> inspect;
    // server::Replayer on its own executor. Calls back as the others.
    std::function<void(const diff::Divergence& divergence, Replayed done)> replay;
    // Puts values that may be shown in the place of their digests. None: there are none.
    std::function<void(diff::Divergence* divergence)> reveal;
    // cache::Warmer on its own executor. Calls back as `invalidate` does, with how many keys were queued.
    std::function<void(std::vector<cache::TenantTag> tags, Warmed done)> warm;
  };

  explicit Admin(Deps deps);

  // `peer` is where the call comes from, for the log.
  absl::Status ApplyCatalog(const v1::ApplyCatalogRequest& request, const std::string& peer,
                            v1::ApplyCatalogResponse* response);
  absl::Status GetCatalog(const v1::GetCatalogRequest& request, const std::string& peer,
                          v1::GetCatalogResponse* response);

  absl::Status StartRollout(const v1::StartRolloutRequest& request, const std::string& peer, v1::Rollout* response);
  absl::Status ListRollouts(const v1::ListRolloutsRequest& request, const std::string& peer,
                            v1::ListRolloutsResponse* response);
  absl::Status GetRollout(const v1::GetRolloutRequest& request, const std::string& peer, v1::Rollout* response);
  absl::Status PauseRollout(const v1::RolloutCommand& request, const std::string& peer, v1::Rollout* response);
  absl::Status ResumeRollout(const v1::RolloutCommand& request, const std::string& peer, v1::Rollout* response);
  absl::Status ApproveRollout(const v1::RolloutCommand& request, const std::string& peer, v1::Rollout* response);
  absl::Status PromoteRollout(const v1::RolloutCommand& request, const std::string& peer, v1::Rollout* response);
  absl::Status RollbackRollout(const v1::RolloutCommand& request, const std::string& peer, v1::Rollout* response);
  absl::Status AbortRollout(const v1::RolloutCommand& request, const std::string& peer, v1::Rollout* response);

  absl::Status GetFlag(const v1::GetFlagRequest& request, const std::string& peer, v1::Flag* response);
  absl::Status ListFlags(const v1::ListFlagsRequest& request, const std::string& peer, v1::ListFlagsResponse* response);

  absl::Status ListDivergenceGroups(const v1::ListDivergenceGroupsRequest& request, const std::string& peer,
                                    v1::ListDivergenceGroupsResponse* response);
  absl::Status ListDivergences(const v1::ListDivergencesRequest& request, const std::string& peer,
                               v1::ListDivergencesResponse* response);
  absl::Status GetDivergence(const v1::GetDivergenceRequest& request, const std::string& peer,
                             v1::Divergence* response);
  absl::Status GetReport(const v1::GetReportRequest& request, const std::string& peer, v1::Report* response);

  // Does not block: `done` is called once all fences stand, or cannot, on any thread, also inside this call.
  void Invalidate(const v1::InvalidateRequest& request, const std::string& peer, Invalidated done);
  // Likewise, once the keys to be loaded are queued.
  void Warm(const v1::WarmRequest& request, const std::string& peer, Warmed done);
  // Likewise, once no replica answers with what was dropped.
  void Purge(const v1::PurgeRequest& request, const std::string& peer, Purged done);
  // Blocks for the evidence store alone; `done` is called as above, once cache and control have answered.
  void ReplayDivergence(const v1::ReplayDivergenceRequest& request, const std::string& peer, Replayed done);
  // Likewise, once Redis has answered.
  void Inspect(const v1::InspectRequest& request, const std::string& peer, Inspected done);

 private:
  absl::Status Execute(rollout::Verb verb, const v1::RolloutCommand& command, const std::string& peer,
                       v1::Rollout* response);
  absl::StatusOr<rollout::StartRequest> ReadStart(const v1::StartRolloutRequest& request);
  // kUnavailable where this replica has none yet.
  absl::StatusOr<std::shared_ptr<const flags::Snapshot>> Flags() const;
  // kInvalidArgument, kNotFound as of Invalidate.
  absl::StatusOr<std::vector<cache::TenantTag>> ReadTags(
      const std::string& tenant, const google::protobuf::RepeatedPtrField<std::string>& tags) const;
  bool HasFamily(const std::string& family) const;
  absl::Status CheckPurge(const v1::PurgeRequest& request) const;

  const Deps deps_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_RPC_ADMIN_H_
