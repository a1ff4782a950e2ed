// Evidence in memory: one SimEvidence is the database that several replicas' stores write to. The conformance suite
// that runs on PostgreSQL runs on it too.
//
//   SimEvidence evidence(world.clock());
//   auto store = evidence.StoreOf("replica-a");
//   evidence.FailNext(3, absl::UnavailableError("away"));     // the next three writes, of any replica
//
// Threads: compatible.
#ifndef SHADOWLINE_TESTS_SIM_SIM_EVIDENCE_H_
#define SHADOWLINE_TESTS_SIM_SIM_EVIDENCE_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status.h"
#include "diff/evidence/evidence.h"
#include "diff/evidence/evidence_reader.h"

namespace shadowline::sim {

class SimEvidence final : public diff::EvidenceReader {
 public:
  explicit SimEvidence(const base::Clock* clock) : clock_(clock) {}

  struct Replica {
    absl::Time heartbeat_at;
    absl::Time watermark = absl::InfinitePast();
    uint64_t sequence = 0;
    bool stopped = false;
    bool swept = false;
  };

  std::unique_ptr<diff::EvidenceStore> StoreOf(const std::string& replica) {
    return std::make_unique<Store>(this, replica);
  }
  void Stop(const std::string& replica) { replicas_[replica].stopped = true; }

  uint64_t SweepLost(absl::Duration lapse) {
    uint64_t lost = 0;
    for (auto& [name, replica] : replicas_) {
      if (replica.swept || (!replica.stopped && replica.heartbeat_at >= clock_->Now() - lapse)) continue;
      replica.swept = true;
      for (auto& [key, row] : rows_) {
        if (key.first != name) continue;
        lost += row.counts.Pending() - row.lost;
        row.lost = row.counts.Pending();
      }
    }
    return lost;
  }

  // The next `times` calls of Apply or Record change nothing and return `status`.
  void FailNext(int times, absl::Status status) {
    failures_ = times;
    failure_ = std::move(status);
  }

  const std::map<std::string, Replica>& replicas() const { return replicas_; }
  const std::map<std::string, diff::Divergence>& divergences() const { return divergences_; }
  // The sequences that were applied, in order, those that changed nothing included.
  const std::vector<uint64_t>& applied() const { return applied_; }
  // (key without its minute, episode id), each once.
  const std::set<std::pair<diff::EvidenceKey, uint64_t>>& episodes() const { return episodes_; }

  absl::StatusOr<std::vector<diff::DivergenceGroup>> Groups(const std::string& family, const std::string& fingerprint,
                                                            uint32_t limit) override {
    std::map<std::tuple<std::string, std::string, std::string>, std::vector<const diff::Divergence*>> grouped;
    for (const diff::Divergence* divergence : NewestFirst(family, "", fingerprint)) {
      grouped[{divergence->evidence.family, divergence->evidence.endpoint, divergence->fingerprint}].push_back(
          divergence);
    }
    std::vector<diff::DivergenceGroup> groups;
    for (const auto& [key, members] : grouped) {
      diff::DivergenceGroup& group = groups.emplace_back();
      std::tie(group.family, group.endpoint, group.fingerprint) = key;
      std::set<std::string> tenants;
      std::set<std::pair<std::string, std::string>> keys;
      std::map<std::string, uint64_t> reads;  // By key.
      for (const diff::Divergence* member : members) {
        tenants.insert(member->evidence.tenant);
        keys.emplace(member->evidence.tenant, member->key);
        group.reads_affected += member->reads_affected;
        reads[member->key] += member->reads_affected;
        group.unsafe = std::max(group.unsafe, member->unsafe);
      }
      for (const auto& [name, count] : reads) group.example_keys.push_back(name);
      std::stable_sort(group.example_keys.begin(), group.example_keys.end(),
                       [&](const std::string& a, const std::string& b) { return reads[a] > reads[b]; });
      if (group.example_keys.size() > diff::kExampleKeys) group.example_keys.resize(diff::kExampleKeys);
      group.patterns = members.front()->patterns;
      group.cause = members.front()->cause;
      group.cause_evidence = members.front()->cause_evidence;
      group.divergences = members.size();
      group.tenants = tenants.size();
      group.keys = keys.size();
      group.first_at = members.back()->confirmed_at;
      group.last_at = members.front()->confirmed_at;
      group.example_id = members.front()->id;
    }
    std::sort(groups.begin(), groups.end(), [](const auto& a, const auto& b) {
      return std::tie(b.last_at, a.example_id) < std::tie(a.last_at, b.example_id);
    });
    if (groups.size() > limit) groups.resize(limit);
    return groups;
  }

  absl::StatusOr<std::vector<diff::Divergence>> Divergences(const std::string& family, const std::string& tenant,
                                                            const std::string& fingerprint, uint32_t limit) override {
    std::vector<diff::Divergence> found;
    for (const diff::Divergence* divergence : NewestFirst(family, tenant, fingerprint)) {
      if (found.size() < limit) found.push_back(*divergence);
    }
    return found;
  }

  absl::StatusOr<diff::Divergence> Find(const std::string& id) override {
    const auto found = divergences_.find(id);
    if (found == divergences_.end()) return absl::NotFoundError(absl::StrCat("divergence ", id, " does not exist"));
    return found->second;
  }

  absl::StatusOr<diff::LedgerTotals> FamilyLedger(const std::string& family) override {
    diff::LedgerTotals totals;
    for (const auto& [key, row] : rows_) {
      if (key.second.family != family) continue;
      for (uint64_t diff::Counts::*counter :
           {&diff::Counts::sampled, &diff::Counts::matched, &diff::Counts::excused, &diff::Counts::healed,
            &diff::Counts::confirmed, &diff::Counts::inconclusive, &diff::Counts::errored, &diff::Counts::shed,
            &diff::Counts::candidate_misses, &diff::Counts::candidate_errors}) {
        totals.counts.*counter += row.counts.*counter;
      }
      for (size_t i = 0; i < row.counts.candidate_latency.size(); ++i) {
        totals.counts.candidate_latency[i] += row.counts.candidate_latency[i];
      }
      std::array<uint64_t, diff::Weighted::kFigures> figures = totals.counts.weighted.Figures();
      for (size_t i = 0; i < figures.size(); ++i) figures[i] += row.counts.weighted.Figures()[i];
      totals.counts.weighted = diff::Weighted::Of(figures);
      totals.lost += row.lost;
    }
    totals.pending = totals.counts.Pending() - totals.lost;
    return totals;
  }

  absl::StatusOr<std::vector<diff::Noise>> FamilyNoise(const std::string& family) override {
    std::map<std::string, std::pair<uint64_t, diff::NoiseCounts>> newest;  // By endpoint, with its revision.
    for (const auto& [key, row] : noise_) {
      const diff::NoiseKey& of = key.second;
      if (of.family != family) continue;
      auto& [revision, sum] = newest[of.endpoint];
      if (of.catalog_revision < revision) continue;
      if (of.catalog_revision > revision) {
        revision = of.catalog_revision;
        sum = {};
      }
      sum.pairs += row.counts.pairs;
      sum.differed += row.counts.differed;
      for (const auto& [pattern, count] : row.counts.patterns) sum.patterns[pattern] += count;
    }
    std::vector<diff::Noise> noise;
    for (const auto& [endpoint, found] : newest) {
      const diff::NoiseCounts& sum = found.second;
      noise.push_back({endpoint, "", sum.pairs, sum.differed});
      for (const auto& [pattern, count] : sum.patterns) noise.push_back({endpoint, pattern, sum.pairs, count});
    }
    return noise;
  }

 private:
  struct Row {
    uint64_t sequence = 0;
    diff::Counts counts;
    uint64_t lost = 0;
  };

  struct NoiseRow {
    uint64_t sequence = 0;
    diff::NoiseCounts counts;
  };

  class Store final : public diff::EvidenceStore {
   public:
    Store(SimEvidence* evidence, std::string replica) : evidence_(evidence), replica_(std::move(replica)) {}
    absl::Status Apply(const diff::Flush& flush) override { return evidence_->Apply(replica_, flush); }
    absl::Status ApplyLast(const std::string& replica, const std::string&, const diff::Flush& flush) override {
      return evidence_->ApplyLast(replica, flush);
    }
    absl::Status Record(const diff::Divergence& divergence) override { return evidence_->Record(divergence); }

   private:
    SimEvidence* const evidence_;
    const std::string replica_;
  };

  absl::Status TakeFailure() {
    if (failures_ == 0) return absl::OkStatus();
    --failures_;
    return failure_;
  }

  absl::Status Apply(const std::string& name, const diff::Flush& flush) {
    RETURN_IF_ERROR(TakeFailure());
    applied_.push_back(flush.sequence);
    Replica& replica = replicas_[name];
    replica.heartbeat_at = clock_->Now();
    replica.swept = false;
    replica.sequence = std::max(replica.sequence, flush.sequence);
    replica.watermark = std::max(replica.watermark, clock_->Now() - (clock_->Steady() - flush.watermark));
    Add(name, flush);
    return absl::OkStatus();
  }

  absl::Status ApplyLast(const std::string& name, const diff::Flush& flush) {
    RETURN_IF_ERROR(TakeFailure());
    Replica& replica = replicas_[name];
    replica.stopped = true;
    replica.swept = false;
    replica.sequence = std::max(replica.sequence, flush.sequence);
    Add(name, flush);
    return absl::OkStatus();
  }

  void Add(const std::string& name, const diff::Flush& flush) {
    for (const auto& [key, counts] : flush.counts) {
      Row& row = rows_[{name, key}];
      if (row.sequence < flush.sequence) row = {flush.sequence, counts, 0};
    }
    for (const auto& [key, counts] : flush.noise) {
      NoiseRow& row = noise_[{name, key}];
      if (row.sequence < flush.sequence) row = {flush.sequence, counts};
    }
    for (const auto& [key, found] : flush.episodes) {
      diff::EvidenceKey group = key;
      group.minute = 0;
      for (const diff::Episode& episode : found) episodes_.emplace(group, episode.id);
    }
  }

  absl::Status Record(const diff::Divergence& divergence) {
    RETURN_IF_ERROR(TakeFailure());
    const auto [place, is_new] = divergences_.emplace(divergence.id, divergence);
    place->second.reads_affected = std::max(place->second.reads_affected, divergence.reads_affected);
    return absl::OkStatus();
  }

  std::vector<const diff::Divergence*> NewestFirst(const std::string& family, const std::string& tenant,
                                                   const std::string& fingerprint) const {
    std::vector<const diff::Divergence*> found;
    for (const auto& [id, divergence] : divergences_) {
      if (!family.empty() && divergence.evidence.family != family) continue;
      if (!tenant.empty() && divergence.evidence.tenant != tenant) continue;
      if (!fingerprint.empty() && divergence.fingerprint != fingerprint) continue;
      found.push_back(&divergence);
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const auto* a, const auto* b) { return a->confirmed_at > b->confirmed_at; });
    return found;
  }

  const base::Clock* const clock_;
  std::map<std::string, Replica> replicas_;
  std::map<std::pair<std::string, diff::EvidenceKey>, Row> rows_;
  std::map<std::pair<std::string, diff::NoiseKey>, NoiseRow> noise_;
  std::set<std::pair<diff::EvidenceKey, uint64_t>> episodes_;
  std::map<std::string, diff::Divergence> divergences_;
  std::vector<uint64_t> applied_;
  int failures_ = 0;
  absl::Status failure_;
};

}  // namespace shadowline::sim

#endif  // SHADOWLINE_TESTS_SIM_SIM_EVIDENCE_H_
