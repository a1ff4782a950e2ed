#include "cache/capture/fencer.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace shadowline::cache {

struct Fencer::Call {
  Transaction transaction;
  Done done;
  size_t parts = 0;
  absl::Status failed;
};

void Fencer::Apply(Transaction transaction, Done done) {
  auto call = std::make_shared<Call>();
  call->transaction = std::move(transaction);
  call->done = std::move(done);
  deps_.executor->Post([this, call] {
    const Effects& effects = call->transaction.effects;
    call->parts = 1 + (effects.drops.empty() ? 0 : 1);
    if (!effects.drops.empty()) {
      deps_.drop(effects.drops, [this, call](absl::Status dropped) {
        deps_.executor->Post([call, dropped = std::move(dropped)] { Finish(call, dropped); });
      });
    }
    if (effects.tags.empty()) return Finish(call, absl::OkStatus());
    deps_.invalidator->Invalidate({effects.tags.begin(), effects.tags.end()}, {call->transaction.xid},
                                  [this, call](absl::Status fenced) {
                                    if (!fenced.ok()) return Finish(call, fenced);
                                    AwaitVisible(call);
                                  });
  });
}

void Fencer::Alarm(std::set<std::string> families, std::string why, Done done) {
  base::Log(base::Level::kError, "capture_alarm", {{"families", families.size()}, {"why", why}});
  std::set<FamilyDrop> drops;
  for (const std::string& family : families) drops.insert({family, ""});
  deps_.drop(std::move(drops), std::move(done));
}

void Fencer::Finish(const CallPtr& call, const absl::Status& status) {
  call->failed.Update(status);
  if (--call->parts == 0) call->done(call->failed);
}

void Fencer::AwaitVisible(const CallPtr& call) {
  waiting_.push_back(call);
  if (!std::exchange(looking_, true)) Look();
}

void Fencer::Look() {
  std::vector<uint64_t> transactions;
  for (const CallPtr& call : waiting_) transactions.push_back(call->transaction.xid);
  auto looked_at = std::make_shared<std::vector<CallPtr>>(std::exchange(waiting_, {}));
  deps_.invisible(std::move(transactions), [this, looked_at](absl::StatusOr<std::set<uint64_t>> invisible) {
    deps_.executor->Post([this, looked_at, invisible = std::move(invisible)] {
      looking_ = false;
      bool pause = false;
      for (const CallPtr& call : *looked_at) {
        if (!invisible.ok()) {
          Finish(call, invisible.status());
        } else if (invisible->contains(call->transaction.xid)) {
          waiting_.push_back(call);
          pause = true;
        } else {
          Verify(call);
        }
      }
      if (waiting_.empty() || std::exchange(looking_, true)) return;
      pause ? deps_.executor->PostAfter(options_.look_again, [this] { Look(); }) : Look();
    });
  });
}

void Fencer::Verify(const CallPtr& call) {
  struct Standing {
    size_t left;
    absl::Status failed;
    std::vector<TenantTag> lost;
  };
  const std::set<TenantTag>& tags = call->transaction.effects.tags;
  if (tags.size() > options_.verify_max) {
    return deps_.invalidator->Invalidate({tags.begin(), tags.end()}, {},
                                         [call](absl::Status fenced) { Finish(call, fenced); });
  }
  auto standing = std::make_shared<Standing>(Standing{tags.size(), {}, {}});
  for (const TenantTag& tag : tags) {
    deps_.store->ReadFence(FenceKey(tag.tenant, tag.tag), [this, call, standing, tag](absl::StatusOr<Fence> fence) {
      if (!fence.ok()) {
        standing->failed.Update(fence.status());
      } else if (std::find(fence->transactions.begin(), fence->transactions.end(), call->transaction.xid) ==
                 fence->transactions.end()) {
        standing->lost.push_back(tag);
      }
      if (--standing->left > 0) return;
      if (!standing->failed.ok() || standing->lost.empty()) return Finish(call, standing->failed);
      deps_.invalidator->Invalidate(std::move(standing->lost), {},
                                    [call](absl::Status fenced) { Finish(call, fenced); });
    });
  }
}

}  // namespace shadowline::cache
