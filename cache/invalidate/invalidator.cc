#include "cache/invalidate/invalidator.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cache/key/key.h"

namespace shadowline::cache {

absl::Status CheckTags(const std::vector<std::string>& tags) {
  if (tags.empty()) return absl::InvalidArgumentError("tags: at least one is needed");
  if (tags.size() > kMaxTagsPerCall) {
    return absl::InvalidArgumentError(
        absl::StrCat("tags: ", tags.size(), " are more than the ", kMaxTagsPerCall, " of one call; split it"));
  }
  for (size_t i = 0; i < tags.size(); ++i) {
    if (tags[i].empty()) return absl::InvalidArgumentError(absl::StrCat("tags[", i, "]: is empty"));
    if (tags[i].size() > kMaxTagBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("tags[", i, "]: its ", tags[i].size(), " bytes are more than the ", kMaxTagBytes, " of a tag"));
    }
  }
  return absl::OkStatus();
}

struct Invalidator::Call {
  absl::Time began;
  std::vector<std::string> tag_keys;
  absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done;

  std::vector<std::string> keys;  // Members of all tags; distinct from the fencing on.
  size_t tags_asked = 0;
  size_t keys_asked = 0;
  size_t under_way = 0;
  absl::Status failed;
};

Invalidator::Invalidator(Options options, Store* store, const base::Clock* clock, base::Random* random)
    : options_(options), store_(store), clock_(clock), random_(random) {}

void Invalidator::Invalidate(absl::string_view tenant, std::vector<std::string> tags,
                             absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done) {
  auto call = std::make_shared<Call>();
  call->began = clock_->Now();
  call->done = std::move(done);
  call->tag_keys.reserve(tags.size());
  for (const std::string& tag : tags) call->tag_keys.push_back(TagKey(tenant, tag));
  ReadTags(call);
}

void Invalidator::ReadTags(const CallPtr& call) {
  while (call->failed.ok() && call->under_way < options_.batch && call->tags_asked < call->tag_keys.size()) {
    ++call->under_way;
    store_->TagMembers(call->tag_keys[call->tags_asked++],
                       [this, call](absl::StatusOr<std::vector<std::string>> members) {
                         --call->under_way;
                         call->failed.Update(members.status());
                         if (members.ok()) std::move(members->begin(), members->end(), std::back_inserter(call->keys));
                         ReadTags(call);
                       });
  }
  if (call->under_way > 0) return;
  if (!call->failed.ok()) return call->done(call->failed);
  std::sort(call->keys.begin(), call->keys.end());
  call->keys.erase(std::unique(call->keys.begin(), call->keys.end()), call->keys.end());
  FenceKeys(call);
}

void Invalidator::FenceKeys(const CallPtr& call) {
  while (call->failed.ok() && call->under_way < options_.batch && call->keys_asked < call->keys.size()) {
    ++call->under_way;
    store_->Fence(call->keys[call->keys_asked++], random_->Id(), options_.fence_ttl, [this, call](absl::Status fenced) {
      --call->under_way;
      call->failed.Update(fenced);
      FenceKeys(call);
    });
  }
  if (call->under_way > 0) return;
  if (!call->failed.ok()) return call->done(call->failed);
  for (const std::string& tag_key : call->tag_keys) store_->MarkInvalidated(tag_key, call->began);
  call->done(call->keys.size());
}

}  // namespace shadowline::cache
