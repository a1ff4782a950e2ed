#include "server/read/inspector.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cache/envelope/envelope.h"
#include "cache/key/key.h"

namespace shadowline::server {

namespace v1 = shadowline::v1;
using cache::Fence;
using cache::Found;
using cache::Slot;
using v1::InspectResponse;

struct Inspector::Look {
  std::string key;
  std::vector<std::string> tags;
  std::vector<std::string> fence_keys;

  Found found;
  std::vector<Fence> fences;
  size_t waiting = 0;
  absl::Status failed;
  Done done;

  // The token of the fence that the value was loaded behind.
  std::string TokenOfValue(size_t tag) const {
    const std::string& tokens = found.slot.fences;
    const size_t at = tag * cache::kTokenBytes;
    return at < tokens.size() ? tokens.substr(at, cache::kTokenBytes) : "";
  }

  std::string WhyOutdated() const {
    for (size_t i = 0; i < tags.size(); ++i) {
      if (fences[i].token.empty()) return absl::StrCat("tag ", tags[i], " has no fence");
      if (fences[i].token != TokenOfValue(i)) {
        return absl::StrCat("tag ", tags[i],
                            fences[i].invalidated_at == absl::InfinitePast()
                                ? " lost the fence that it was loaded behind"
                                : " was invalidated since it was loaded");
      }
    }
    return "a fence changed while it was looked at";
  }

  InspectResponse Describe(absl::Time now) const {
    InspectResponse response;
    response.set_key(key);
    for (size_t i = 0; i < tags.size(); ++i) {
      v1::InspectedFence* fence = response.add_fences();
      fence->set_tag(tags[i]);
      fence->set_stands(!fences[i].token.empty());
      fence->set_of_value(fence->stands() && fences[i].token == TokenOfValue(i));
      if (fences[i].invalidated_at > absl::InfinitePast()) {
        fence->set_invalidated_at_us(absl::ToUnixMicros(fences[i].invalidated_at));
      }
      fence->mutable_transactions()->Assign(fences[i].transactions.begin(), fences[i].transactions.end());
    }
    const Slot& slot = found.slot;
    if (slot.kind == Slot::Kind::kAbsent) {
      response.set_state(InspectResponse::STATE_ABSENT);
      response.set_why("nothing is cached for this read");
      return response;
    }
    response.set_stored_bytes(slot.fill.size() + slot.fences.size() + slot.bytes.size());
    if (slot.kind == Slot::Kind::kForeign) {
      response.set_state(InspectResponse::STATE_GARBAGE);
      response.set_why("another program wrote it");
      return response;
    }
    const absl::StatusOr<cache::CachedAnswer> answer = cache::DecodeEnvelope(key, slot.bytes);
    if (!answer.ok()) {
      response.set_state(InspectResponse::STATE_GARBAGE);
      response.set_why(std::string(answer.status().message()));
      return response;
    }
    if (cache::Admits(found)) {
      response.set_state(InspectResponse::STATE_ANSWER);
    } else {
      response.set_state(InspectResponse::STATE_OUTDATED);
      response.set_why(WhyOutdated());
    }
    response.set_found(answer->found);
    response.set_fill(absl::BytesToHexString(slot.fill));
    response.set_loaded_at_us(absl::ToUnixMicros(answer->loaded_at));
    if (answer->expires_at < absl::InfiniteFuture()) {
      response.set_ttl_us(absl::ToInt64Microseconds(std::max(answer->expires_at - now, absl::ZeroDuration())));
    }
    response.set_snapshot(answer->snapshot);
    response.set_catalog_revision(answer->catalog_revision);
    response.set_etag(answer->etag);
    response.set_body_bytes(answer->body.size());
    return response;
  }
};

void Inspector::Inspect(const v1::InspectRequest& request, Done done) {
  auto look = std::make_shared<Look>();
  if (absl::Status prepared = Prepare(request, look.get()); !prepared.ok()) return done(std::move(prepared));
  look->done = std::move(done);
  look->fences.resize(look->tags.size());
  look->waiting = 1 + look->tags.size();
  const auto finish = [this, look](const absl::Status& status) {
    look->failed.Update(status);
    if (--look->waiting > 0) return;
    if (!look->failed.ok()) return look->done(look->failed);
    look->done(look->Describe(deps_.clock->Now()));
  };
  deps_.store->Read(look->key, look->fence_keys, [look, finish](absl::StatusOr<Found> found) {
    if (found.ok()) look->found = *std::move(found);
    finish(found.status());
  });
  for (size_t i = 0; i < look->tags.size(); ++i) {
    deps_.store->ReadFence(look->fence_keys[i], [look, finish, i](absl::StatusOr<Fence> fence) {
      if (fence.ok()) look->fences[i] = *std::move(fence);
      finish(fence.status());
    });
  }
}

absl::Status Inspector::Prepare(const v1::InspectRequest& request, Look* look) const {
  const auto catalog = deps_.catalog->Current();
  if (catalog == nullptr) {
    return absl::UnavailableError("this replica has no catalog yet; apply one, or retry with backoff");
  }
  const auto flags = deps_.board->Current();
  if (flags == nullptr) return absl::UnavailableError("this replica has no flags yet; retry with backoff");
  const cache::Endpoint* endpoint = catalog->Find(request.endpoint());
  if (endpoint == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("endpoint ", request.endpoint(), ": not in catalog revision ", catalog->revision()));
  }
  if (!flags->HasTenant(request.tenant())) {
    return absl::NotFoundError(absl::StrCat("tenant ", request.tenant(), ": not among the catalog's tenants"));
  }
  if (endpoint->external.has_value()) {
    return absl::FailedPreconditionError(
        absl::StrCat("endpoint ", endpoint->name, ": the application fills its cache, under keys of its own"));
  }
  if (endpoint->observed) {
    return absl::FailedPreconditionError(
        absl::StrCat("endpoint ", endpoint->name, ": the application reads it, and its cache, itself"));
  }
  v1::ReadRequest read;
  *read.mutable_parameters() = request.parameters();
  ASSIGN_OR_RETURN(const auto arguments, cache::CanonicalArguments(*endpoint, read));
  const uint64_t epoch = flags->Find(request.tenant(), endpoint->family)->epoch;
  look->key = cache::CacheKey(*endpoint, request.tenant(), epoch, arguments);
  look->tags = cache::RenderTags(*endpoint, request.tenant(), arguments);
  look->fence_keys = cache::FenceKeys(*endpoint, request.tenant(), arguments);
  return absl::OkStatus();
}

}  // namespace shadowline::server
