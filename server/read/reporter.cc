#include "server/read/reporter.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "cache/key/key.h"
#include "diff/verdict/cause.h"

namespace shadowline::server {
namespace {

// How long an invalidation may take from its beginning, which its fences tell, to its last fence.
constexpr absl::Duration kInvalidationTime = absl::Milliseconds(100);

// Confirmed keys belong to one burst as long as the next one comes within this.
constexpr absl::Duration kBurstGap = absl::Seconds(2);
// Entries of the small memories below; each is forgotten as a whole where they are more.
constexpr size_t kRemembered = 10'000;

base::Counter* RepairCounter(base::Metrics* metrics, const char* outcome) {
  return metrics->AddCounter("shadowline_repairs_total", "Entries that were confirmed to be stale and removed.",
                             {{"outcome", outcome}});
}

// Those that a parameter is part of: their keys have something in common with what was wrong. A tag of a whole tenant
// would take all that is right along.
std::vector<std::string> SpecificTags(const cache::Query& query) {
  const std::vector<std::string> tags = cache::RenderTags(*query.endpoint, query.tenant, query.arguments);
  std::vector<std::string> specific;
  for (size_t i = 0; i < tags.size(); ++i) {
    const std::vector<cache::TagPiece>& pieces = query.endpoint->tags[i];
    if (std::any_of(pieces.begin(), pieces.end(), [](const cache::TagPiece& piece) { return piece.parameter >= 0; })) {
      specific.push_back(tags[i]);
    }
  }
  return specific;
}

}  // namespace

struct Reporter::Open {
  Finding finding;
  absl::AnyInvocable<void()> done;
  diff::Divergence divergence;
  diff::CauseInputs inputs;
  std::vector<std::pair<std::string, absl::StatusOr<absl::Time>>> tags;
  size_t waiting = 0;
};

Reporter::Reporter(Keeper keeper, Deps deps)
    : keeper_(std::move(keeper)),
      deps_(std::move(deps)),
      announcer_(deps_.metrics),
      removed_(RepairCounter(deps_.metrics, "done")),
      not_removed_(RepairCounter(deps_.metrics, "failed")),
      fenced_(RepairCounter(deps_.metrics, "fenced")),
      not_fenced_(RepairCounter(deps_.metrics, "not_fenced")) {}

Reporter::~Reporter() = default;

void Reporter::Report(Finding finding, absl::AnyInvocable<void()> done) {
  const cache::Query query = finding.query;
  if (!query.endpoint->external.has_value()) {
    // Only this very fill: what has replaced it is not known to be wrong.
    deps_.store->Discard(finding.key, finding.fill,
                         [this](absl::Status discarded) { (discarded.ok() ? removed_ : not_removed_)->Add(); });
  }
  diff::Divergence divergence = DivergenceOf(finding);
  keeper_.Seal(query, finding.difference, &divergence);
  diff::CauseInputs inputs = CauseInputsOf(finding);
  CountBurst(finding, &inputs);

  auto owned = std::make_unique<Open>(
      Open{std::move(finding), std::move(done), std::move(divergence), std::move(inputs), {}, 0});
  Open* const open = owned.get();
  open_[open] = std::move(owned);
  const std::vector<std::string> tags = cache::RenderTags(*query.endpoint, query.tenant, query.arguments);
  const std::vector<std::string> redacted = keeper_.RedactedTags(query);
  open->waiting = tags.size();
  if (tags.empty()) return Conclude(open);
  for (size_t i = 0; i < tags.size(); ++i) {
    open->tags.emplace_back(redacted[i], absl::UnknownError("not asked yet"));
    deps_.store->ReadFence(cache::FenceKey(query.tenant, tags[i]), [this, open, i](absl::StatusOr<cache::Fence> fence) {
      if (fence.ok()) {
        open->tags[i].second = fence->invalidated_at;
      } else {
        open->tags[i].second = fence.status();
      }
      if (--open->waiting == 0) Conclude(open);
    });
  }
}

void Reporter::CountBurst(const Finding& finding, diff::CauseInputs* inputs) {
  if (bursts_.size() >= kRemembered) bursts_.clear();
  const absl::Time now = finding.confirmed_at;
  Burst& burst = bursts_[absl::StrCat(finding.query.endpoint->name, absl::string_view("\0", 1), finding.query.tenant)];
  if (burst.keys == 0 || now - burst.last > kBurstGap) burst = {.since = now};
  burst.last = now;
  inputs->burst = ++burst.keys;
  inputs->burst_since = burst.since;
}

void Reporter::Conclude(Open* open) {
  // An invalidation that was under way during the confirming look may not have replaced the tag's fence by then, and
  // the fence that it left no longer tells when the one before it was.
  const absl::Time known_until = open->inputs.confirmed_at - kInvalidationTime;
  std::string unknown;
  for (auto& [tag, at] : open->tags) {
    if (at.ok() && *at <= known_until) {
      open->divergence.tags.emplace_back(tag, *at);
    } else if (unknown.empty()) {
      unknown = at.ok() ? absl::StrCat("Tag ", tag, " was invalidated while this was being confirmed.")
                        : absl::StrCat("When tag ", tag, " was invalidated last is not known: ", at.status().message());
    }
  }
  open->inputs.tags = open->divergence.tags;
  diff::Cause cause = unknown.empty() || open->inputs.external ? diff::ProbableCause(open->inputs)
                                                               : diff::Cause{"unknown", std::move(unknown)};
  open->divergence.cause = std::move(cause.name);
  open->divergence.cause_evidence = std::move(cause.evidence);
  if (const std::string& noise = open->finding.noise; !noise.empty()) {
    absl::StrAppend(&open->divergence.cause_evidence, " ", noise);
  }
  announcer_.Announce(open->divergence);
  Fence(open->finding);
  deps_.record(std::move(open->divergence));
  absl::AnyInvocable<void()> done = std::move(open->done);
  open_.erase(open);
  done();
}

// Once in a freshness bound for each tag: its other keys, if they are wrong as well, are loaded again by then.
void Reporter::Fence(const Finding& finding) {
  if (deps_.invalidator == nullptr || finding.query.endpoint->external.has_value()) return;
  if (repaired_.size() >= kRemembered) repaired_.clear();
  const std::string& tenant = finding.query.tenant;
  std::vector<cache::TenantTag> tags;
  for (std::string& tag : SpecificTags(finding.query)) {
    auto [repaired, first] =
        repaired_.try_emplace(absl::StrCat(tenant, absl::string_view("\0", 1), tag), finding.confirmed_at);
    if (!first && finding.confirmed_at - repaired->second < finding.query.endpoint->freshness) continue;
    repaired->second = finding.confirmed_at;
    tags.push_back({tenant, std::move(tag)});
  }
  if (tags.empty()) return;
  deps_.invalidator->Invalidate(std::move(tags), {},
                                [this](absl::Status fenced) { (fenced.ok() ? fenced_ : not_fenced_)->Add(); });
}

}  // namespace shadowline::server
