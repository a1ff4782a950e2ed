#include "server/read/replayer.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cache/key/key.h"
#include "server/read/candidate.h"

namespace shadowline::server {

namespace v1 = shadowline::v1;

namespace {

void AddDifference(const diff::Difference& difference, const std::string& control, const std::string& candidate,
                   v1::ReplayDivergenceResponse* response) {
  v1::Difference* const out = response->add_differences();
  out->set_pointer(difference.pointer);
  out->set_kind(std::string(diff::KindName(difference.kind)));
  out->set_control(control);
  out->set_candidate(candidate);
}

}  // namespace

struct Replayer::Run {
  cache::Query query;
  std::string fill;  // Hexadecimal; of the divergence.
  v1::ReplayDivergenceResponse response;
  bool cached = false;
  cache::CachedAnswer candidate;
  Done done;
};

absl::StatusOr<cache::Query> Replayer::QueryOf(const diff::Divergence& divergence) const {
  ASSIGN_OR_RETURN(const diff::SealedContents contents, deps_.keeper->Open(divergence, deps_.clock->Now()));
  cache::Query query;
  query.catalog = deps_.catalog->Current();
  query.tenant = divergence.evidence.tenant;
  const auto flags = deps_.board->Current();
  if (query.catalog == nullptr || flags == nullptr) {
    return absl::UnavailableError("this replica has no catalog or no flags yet; retry with backoff");
  }
  const std::string& name = divergence.evidence.endpoint;
  query.endpoint = query.catalog->Find(name);
  if (query.endpoint == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("endpoint ", name, ": not in catalog revision ",
                                                      query.catalog->revision(), "; apply a catalog that has it"));
  }
  if (!flags->HasTenant(query.tenant)) {
    return absl::FailedPreconditionError(
        absl::StrCat("tenant ", query.tenant, ": no longer among the catalog's tenants"));
  }
  for (const cache::ParameterDecl& declared : query.endpoint->parameters) {
    const auto kept = std::find_if(contents.parameters.begin(), contents.parameters.end(),
                                   [&](const auto& parameter) { return parameter.name == declared.name; });
    if (kept == contents.parameters.end() || kept->type != TypeName(declared.type)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "endpoint ", name, ": parameter `", declared.name, "` of catalog revision ", query.catalog->revision(),
          kept == contents.parameters.end() ? " did not exist" : " was of another type", " under revision ",
          divergence.evidence.catalog_revision, "; the read cannot be made again"));
    }
    query.arguments.push_back(kept->is_null ? std::optional<std::string>() : kept->value);
  }
  if (contents.parameters.size() != query.arguments.size()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "endpoint ", name, ": catalog revision ", query.catalog->revision(), " has fewer parameters than revision ",
        divergence.evidence.catalog_revision, "; the read cannot be made again"));
  }
  if (!HasCandidate(*query.endpoint, query.tenant, query.arguments)) {
    return absl::FailedPreconditionError(
        absl::StrCat("endpoint ", name, ": the cache may no longer be asked for this read"));
  }
  return query;
}

absl::StatusOr<v1::ReplayDivergenceResponse> Replayer::Kept(const diff::Divergence& divergence,
                                                            const cache::Endpoint& endpoint, uint64_t revision) const {
  if (divergence.sealed_until == absl::InfinitePast() && !Keeper::IsOfDigests(divergence)) {
    if (!endpoint.show_values) {
      return absl::FailedPreconditionError(absl::StrCat(
          "divergence ", divergence.id, ": only the application can read endpoint ", endpoint.name,
          " again, which is `observed`, and no value of it was kept; declare `evidence: show` to keep them"));
    }
    if (divergence.evidence.catalog_revision != revision) {
      return absl::FailedPreconditionError(absl::StrCat(
          "divergence ", divergence.id, ": no value of it was kept; under catalog revision ",
          divergence.evidence.catalog_revision, " endpoint ", endpoint.name,
          " did not declare `evidence: show`, or the replica that confirmed it had no evidence.key, which has to be "
          "set"));
    }
  }
  const absl::Time now = deps_.clock->Now();
  RETURN_IF_ERROR(deps_.keeper->Open(divergence, now).status());
  diff::Divergence shown = divergence;
  deps_.keeper->Reveal(now, &shown);
  v1::ReplayDivergenceResponse response;
  response.set_id(divergence.id);
  response.set_verdict("not_read");
  response.set_key(shown.key);
  response.set_catalog_revision(revision);
  response.set_differences_total(shown.differences_total);
  for (const diff::Difference& difference : shown.differences) {
    AddDifference(difference, difference.control, difference.candidate, &response);
  }
  return response;
}

void Replayer::Replay(const diff::Divergence& divergence, Done done) {
  if (const auto catalog = deps_.catalog->Current(); catalog != nullptr) {
    const cache::Endpoint* const endpoint = catalog->Find(divergence.evidence.endpoint);
    if (endpoint != nullptr && endpoint->observed) return done(Kept(divergence, *endpoint, catalog->revision()));
  }
  absl::StatusOr<cache::Query> query = QueryOf(divergence);
  if (!query.ok()) return done(query.status());
  auto run = std::make_shared<Run>();
  run->query = *std::move(query);
  run->fill = divergence.fill;
  run->done = std::move(done);
  run->response.set_id(divergence.id);
  run->response.set_catalog_revision(run->query.catalog->revision());

  const cache::Endpoint& endpoint = *run->query.endpoint;
  const auto flags = deps_.board->Current();
  const auto* const flag = flags->Find(run->query.tenant, endpoint.family);
  const std::string key =
      cache::CacheKey(endpoint, run->query.tenant, flag == nullptr ? 0 : flag->epoch, run->query.arguments);
  // The candidate first, as always: what the control says afterwards was true then or later.
  ReadCandidate(
      deps_.store, endpoint, run->query.tenant, run->query.arguments, key,
      CandidateFences(endpoint, run->query.tenant, run->query.arguments),
      [this, run, key](absl::StatusOr<cache::Found> found) {
        if (!found.ok()) return run->done(found.status());
        auto candidate = DecodeCandidate(*run->query.endpoint, key, &*found);
        if (candidate.ok()) {
          run->cached = true;
          run->candidate = *std::move(candidate);
          const std::string fill = absl::BytesToHexString(found->slot.fill);
          run->response.set_fill(fill);
          run->response.set_same_fill(fill == run->fill);
          run->response.set_age_us(run->query.endpoint->external.has_value()
                                       ? -1
                                       : absl::ToInt64Microseconds(deps_.clock->Now() - run->candidate.loaded_at));
        }
        deps_.control->Load(run->query, run->query.endpoint->timeout, deps_.executor,
                            [this, run](absl::StatusOr<cache::ControlAnswer> truth) {
                              if (!truth.ok()) return run->done(truth.status());
                              Conclude(run.get(), *truth);
                            });
      });
}

void Replayer::Conclude(Run* run, const cache::ControlAnswer& truth) {
  v1::ReplayDivergenceResponse& response = run->response;
  response.set_control_found(truth.found);
  response.set_control_snapshot(truth.snapshot);
  if (!run->cached) {
    response.set_verdict("not_cached");
    return run->done(std::move(response));
  }
  response.set_candidate_found(run->candidate.found);
  const Compared result =
      comparer_.Compare(run->query, {truth.found, truth.body}, {run->candidate.found, run->candidate.body});
  switch (result.verdict) {
    case diff::Comparison::Verdict::kEqual:
      response.set_verdict("matched");
      break;
    case diff::Comparison::Verdict::kExcused:
      response.set_verdict("excused");
      break;
    case diff::Comparison::Verdict::kDiffer:
      response.set_verdict("differs");
      break;
    case diff::Comparison::Verdict::kError:
      response.set_verdict("errored");
      break;
  }
  response.set_differences_total(result.differences_total);
  for (size_t i = 0; i < result.differences.size(); ++i) {
    const diff::Difference& difference = result.differences[i];
    // Where the endpoint shows values, nothing is kept of them here.
    const bool shown = i < result.values.size();
    AddDifference(difference, shown ? result.values[i].first : difference.control,
                  shown ? result.values[i].second : difference.candidate, &response);
  }
  run->done(std::move(response));
}

}  // namespace shadowline::server
