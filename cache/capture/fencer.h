// Fencer is the Sink of a replica: it fences the tags of captured transactions, and has families dropped.
//
// A change can be read from the log before other statements see it. So a transaction is fenced at once, in its own name
// (what is loaded without seeing it is not cached behind that fence), and acknowledged only when it has become visible
// and its fences are found to stand: one that Redis lost in between has kept nothing out, and is put up again.
//
// Ownership: borrows everything in Deps; each must outlive the executor's last task.
// Threads:   as Sink; everything happens on `executor`, which store and invalidator belong to.
// Errors:    those of the store and of Deps' functions: the capture begins again with what was not acknowledged.
#ifndef SHADOWLINE_CACHE_CAPTURE_FENCER_H_
#define SHADOWLINE_CACHE_CAPTURE_FENCER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/executor.h"
#include "cache/capture/sink.h"
#include "cache/invalidate/invalidator.h"
#include "cache/store.h"

namespace shadowline::cache {

class Fencer final : public Sink {
 public:
  struct Options {
    // Between two looks at transactions that are not visible yet.
    absl::Duration look_again = absl::Milliseconds(5);
    // A transaction with more tags is fenced anew instead of being looked at tag by tag.
    size_t verify_max = 256;
  };
  struct Deps {
    Store* store = nullptr;
    Invalidator* invalidator = nullptr;
    base::Executor* executor = nullptr;
    // Which of these transactions a statement that begins now does not see. Calls back once, on any thread.
    std::function<void(std::vector<uint64_t>, absl::AnyInvocable<void(absl::StatusOr<std::set<uint64_t>>)>)> invisible;
    // Calls back once, on any thread, when no replica reads what is cached of them now.
    std::function<void(std::set<FamilyDrop>, absl::AnyInvocable<void(absl::Status)>)> drop;
  };

  Fencer(Options options, Deps deps) : options_(options), deps_(std::move(deps)) {}

  void Apply(Transaction transaction, Done done) override;
  void Alarm(std::set<std::string> families, std::string why, Done done) override;

 private:
  struct Call;
  using CallPtr = std::shared_ptr<Call>;

  // One of the call's parts is done; the last one acknowledges.
  static void Finish(const CallPtr& call, const absl::Status& status);
  void AwaitVisible(const CallPtr& call);
  void Look();
  // Puts up again what does not stand any more.
  void Verify(const CallPtr& call);

  const Options options_;
  const Deps deps_;
  // The executor's own: fenced, and not known to be visible.
  std::vector<CallPtr> waiting_;
  bool looking_ = false;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CAPTURE_FENCER_H_
