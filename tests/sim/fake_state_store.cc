#include "tests/sim/fake_state_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "rollout/journal/journal.h"
#include "rollout/machine/machine.h"

namespace shadowline::sim {

using rollout::Rollout;

namespace {

constexpr absl::Duration kReplicaLapse = absl::Seconds(10);

absl::Status Away() { return absl::UnavailableError("the store is away"); }

}  // namespace

FakeStateStore::Fault FakeStateStore::NextFault() {
  ++calls_;
  return calls_ >= fail_from_ && calls_ < fail_until_ ? fault_ : Fault::kNone;
}

bool FakeStateStore::Live(const std::string& replica) const {
  const auto found = replicas_.find(replica);
  return found != replicas_.end() && !found->second.stopped &&
         found->second.heartbeat_at > clock_->Now() - kReplicaLapse;
}

bool FakeStateStore::Counts(const Divergence& divergence, const std::string& family, const std::string& tenant,
                            const rollout::Target& target) const {
  const Place& place = divergence.place;
  return place.family == family && place.tenant == tenant && place.window == target.flag.window &&
         place.catalog_revision >= target.flag.catalog_revision;
}

uint64_t FakeStateStore::Unsafe(const std::string& family, const rollout::Target& target) const {
  return std::count_if(divergences_.begin(), divergences_.end(), [&](const Divergence& divergence) {
    return divergence.unsafe && divergence.place.family == family &&
           divergence.recorded_at >= target.window_since - rollout::kClockSkew;
  });
}

const Rollout* FakeStateStore::Newest(const std::string& family) const {
  const Rollout* newest = nullptr;
  for (const Rollout& rollout : rollouts_) {
    if (rollout.family == family) newest = &rollout;
  }
  return newest;
}

absl::StatusOr<std::vector<std::string>> FakeStateStore::Families() {
  if (NextFault() != Fault::kNone) return Away();
  std::set<std::string> families;
  for (const Rollout& rollout : rollouts_) families.insert(rollout.family);
  for (const auto& [key, target] : targets_) {
    if (target.flag.mode != flags::Mode::kDatabase) families.insert(key.first);
  }
  return std::vector<std::string>(families.begin(), families.end());
}

absl::StatusOr<rollout::FamilyState> FakeStateStore::Load(const std::string& family, rollout::Detail detail) {
  if (NextFault() != Fault::kNone) return Away();
  rollout::FamilyState state;
  state.family = family;
  if (const Rollout* newest = Newest(family)) state.rollout = *newest;
  state.tenants = tenants_;
  state.catalog_revision = catalog_revision_;
  for (const auto& [replica, row] : replicas_) {
    if (!Live(replica)) continue;
    state.fleet.watermark = state.fleet.live == 0 ? row.watermark : std::min(state.fleet.watermark, row.watermark);
    ++state.fleet.live;
  }
  std::map<std::string, uint64_t> groups;
  for (const auto& [key, target] : targets_) {
    if (key.first != family) continue;
    const std::string& tenant = key.second;
    state.targets[tenant] = target;
    for (const Divergence& divergence : divergences_) {
      if (!Counts(divergence, family, tenant, target)) continue;
      ++state.evidence[tenant].confirmed;
      groups[divergence.fingerprint] += divergence.reads_affected;
    }
    if (const uint64_t unsafe = Unsafe(family, target); unsafe > 0) state.evidence[tenant].unsafe = unsafe;
    if (detail == rollout::Detail::kRouting) continue;

    const auto present = [&](const Place& place) {
      return place.family == family && place.tenant == tenant && place.window == target.flag.window &&
             place.catalog_revision == target.flag.catalog_revision;
    };
    for (const auto& [place, episodes] : episodes_) {
      if (!present(place) || target.flag.mode == flags::Mode::kDatabase) continue;
      rollout::EndpointEvidence& endpoint = state.evidence[tenant].endpoints[place.endpoint];
      std::set<uint64_t> keys;
      for (const auto& [id, episode] : episodes) {
        ++endpoint.episodes;
        if (episode.exercised) ++endpoint.exercised;
        keys.insert(episode.key);
      }
      endpoint.distinct_keys += keys.size();
    }
    for (const auto& [where, entry] : counts_) {
      if (!present(where.second)) continue;
      const auto& [counts, lost] = entry;
      rollout::Evidence& evidence = state.evidence[tenant];
      diff::Counts& sum = evidence.ledger.counts;
      sum.sampled += counts.sampled;
      sum.matched += counts.matched;
      sum.excused += counts.excused;
      sum.healed += counts.healed;
      sum.confirmed += counts.confirmed;
      sum.inconclusive += counts.inconclusive;
      sum.errored += counts.errored;
      sum.shed += counts.shed;
      sum.candidate_misses += counts.candidate_misses;
      sum.candidate_errors += counts.candidate_errors;
      for (size_t i = 0; i < sum.candidate_latency.size(); ++i) sum.candidate_latency[i] += counts.candidate_latency[i];
      const uint64_t ended = counts.Settled() + lost;
      const uint64_t pending = counts.sampled - std::min(counts.sampled, ended);
      evidence.ledger.lost += lost;
      evidence.ledger.pending += pending;
      if (!Live(where.first)) evidence.unswept += pending;
    }
  }
  std::vector<std::pair<uint64_t, std::string>> ranked;
  for (const auto& [fingerprint, reads] : groups) ranked.emplace_back(reads, fingerprint);
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  for (size_t i = 0; i < std::min<size_t>(ranked.size(), 8); ++i) state.fingerprints.push_back(ranked[i].second);
  return state;
}

absl::Status FakeStateStore::Write(const rollout::Commit& commit) {
  const Fault fault = NextFault();
  if (fault == Fault::kBefore) return Away();
  if (before_write) std::exchange(before_write, nullptr)();
  RETURN_IF_ERROR(Apply(commit));
  commits_.push_back(commit);
  return fault == Fault::kAfter ? Away() : absl::OkStatus();
}

absl::Status FakeStateStore::Apply(const rollout::Commit& commit) {
  if (commit.leader_epoch.has_value() && *commit.leader_epoch != leader_epoch) {
    return absl::AbortedError(
        absl::StrCat("leader epoch ", *commit.leader_epoch, " is over, it is ", leader_epoch, " now"));
  }
  Rollout* stored = nullptr;
  if (commit.rollout.has_value()) {
    for (Rollout& rollout : rollouts_) {
      if (rollout.id == commit.rollout->id) stored = &rollout;
    }
    if (commit.rollout->version == 0) {
      if (const Rollout* newest = Newest(commit.family); newest != nullptr && !rollout::Ended(newest->state)) {
        return absl::AlreadyExistsError(
            absl::StrCat("family ", commit.family, ": rollout ", newest->id, " has not ended"));
      }
    } else if (stored == nullptr || stored->version != commit.rollout->version) {
      return absl::AbortedError(absl::StrCat("rollout ", commit.rollout->id, ": it changed meanwhile"));
    }
  }
  for (const rollout::TargetWrite& write : commit.targets) {
    const rollout::TargetChange& change = write.change;
    const rollout::Target& row = targets_[{commit.family, change.tenant}];
    if (row != change.before)
      return absl::AbortedError(absl::StrCat("target ", change.tenant, ": it changed meanwhile"));
    if (!change.promotes) continue;
    for (const Divergence& divergence : divergences_) {
      if (!skip_recount && Counts(divergence, commit.family, change.tenant, row)) {
        return absl::AbortedError(absl::StrCat("target ", change.tenant, ": a divergence was confirmed meanwhile"));
      }
    }
    if (Unsafe(commit.family, row) > 0) {
      return absl::AbortedError(absl::StrCat("target ", change.tenant, ": a divergence was confirmed meanwhile"));
    }
    if (catalog_revision_ != change.after.flag.catalog_revision) {
      return absl::AbortedError(absl::StrCat("target ", change.tenant, ": the catalog changed meanwhile"));
    }
  }

  if (commit.rollout.has_value()) {
    // Through the document format, as in PostgreSQL.
    Rollout copy = *rollout::DecodeRollout(rollout::EncodeRollout(*commit.rollout));
    copy.version = commit.rollout->version + 1;
    if (stored != nullptr) {
      *stored = std::move(copy);
    } else {
      rollouts_.push_back(std::move(copy));
    }
  }
  if (commit.targets.empty()) return absl::OkStatus();
  ++revision_;
  for (const rollout::TargetWrite& write : commit.targets) {
    const rollout::TargetChange& change = write.change;
    rollout::Target& row = targets_[{commit.family, change.tenant}];
    row = change.after;
    row.flag.revision = revision_;
    row.flag.changed_at = commit.now;
    if (write.receipt.has_value()) receipts_[write.receipt->id] = *write.receipt;
    const std::string from = rollout::RoutingName(change.before.flag);
    const std::string to = rollout::RoutingName(change.after.flag);
    if (from == to) continue;
    flips_.push_back({change.tenant, commit.family, from, to, change.who, change.why, commit.now,
                      write.receipt.has_value() ? write.receipt->id : ""});
  }
  return absl::OkStatus();
}

absl::StatusOr<Rollout> FakeStateStore::FindRollout(const std::string& rollout) {
  if (NextFault() != Fault::kNone) return Away();
  for (const Rollout& candidate : rollouts_) {
    if (candidate.id == rollout) return candidate;
  }
  if (const Rollout* newest = Newest(rollout)) return *newest;
  return absl::NotFoundError(absl::StrCat("rollout ", rollout, ": unknown"));
}

absl::StatusOr<std::vector<Rollout>> FakeStateStore::ListRollouts(const std::string& family, bool ended) {
  if (NextFault() != Fault::kNone) return Away();
  std::vector<Rollout> found;
  for (const Rollout& rollout : rollouts_) {
    if ((family.empty() || rollout.family == family) && (ended || !rollout::Ended(rollout.state)))
      found.push_back(rollout);
  }
  std::reverse(found.begin(), found.end());
  return found;
}

absl::StatusOr<std::vector<rollout::Flip>> FakeStateStore::Flips(const std::string& family, uint32_t limit) {
  if (NextFault() != Fault::kNone) return Away();
  std::vector<rollout::Flip> found;
  for (auto flip = flips_.rbegin(); flip != flips_.rend() && found.size() < limit; ++flip) {
    if (family.empty() || flip->family == family) found.push_back(*flip);
  }
  return found;
}

absl::StatusOr<rollout::Receipt> FakeStateStore::FindReceipt(const std::string& id) {
  if (NextFault() != Fault::kNone) return Away();
  const auto found = receipts_.find(id);
  if (found == receipts_.end()) return absl::NotFoundError(absl::StrCat("receipt ", id, ": unknown"));
  return found->second;
}

absl::StatusOr<std::optional<uint64_t>> FakeLeadership::Hold() {
  if (deluded) return epoch_;
  if (store_->leader.empty()) {
    store_->leader = replica_;
    ++store_->leader_epoch;
  }
  epoch_.reset();
  if (store_->leader == replica_) epoch_ = store_->leader_epoch;
  return epoch_;
}

void FakeLeadership::Release() {
  epoch_.reset();
  if (store_->leader == replica_) store_->leader.clear();
}

}  // namespace shadowline::sim
