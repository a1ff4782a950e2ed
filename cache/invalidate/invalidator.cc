#include "cache/invalidate/invalidator.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

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
  std::vector<TenantTag> tags;
  std::vector<uint64_t> transactions;
  absl::AnyInvocable<void(absl::Status)> done;

  size_t asked = 0;
  size_t under_way = 0;
  absl::Status failed;
};

Invalidator::Invalidator(Options options, Store* store, const base::Clock* clock, base::Random* random, Fenced fenced)
    : options_(std::move(options)), store_(store), clock_(clock), random_(random), fenced_(std::move(fenced)) {}

void Invalidator::Invalidate(std::vector<TenantTag> tags, std::vector<uint64_t> transactions,
                             absl::AnyInvocable<void(absl::Status)> done) {
  auto call = std::make_shared<Call>();
  call->began = clock_->Now();
  call->tags = std::move(tags);
  call->transactions = std::move(transactions);
  call->done = std::move(done);
  Advance(call);
}

void Invalidator::Advance(const std::shared_ptr<Call>& call) {
  while (call->failed.ok() && call->under_way < options_.batch && call->asked < call->tags.size()) {
    const TenantTag& tag = call->tags[call->asked++];
    ++call->under_way;
    store_->ReplaceFence(FenceKey(tag.tenant, tag.tag), random_->Id(), call->began, call->transactions,
                         options_.fence_ttl, [this, call](absl::Status replaced) {
                           --call->under_way;
                           call->failed.Update(replaced);
                           Advance(call);
                         });
  }
  if (call->under_way > 0) return;
  if (!call->failed.ok()) return call->done(call->failed);
  if (fenced_ != nullptr) fenced_(call->tags);
  if (options_.settle == nullptr) return call->done(absl::OkStatus());
  options_.settle([call] { call->done(absl::OkStatus()); });
}

}  // namespace shadowline::cache
