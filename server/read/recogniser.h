// Recogniser says of an answer that an application's cache served, and that is not the control's, whether it is
// somebody else's: by the owner that it names, where the endpoint declares that, or by what the control has said lately
// to others (diff/verdict/strangers.h).
//
// Threads: thread-safe. Answers are read with no lock held.
#ifndef SHADOWLINE_SERVER_READ_RECOGNISER_H_
#define SHADOWLINE_SERVER_READ_RECOGNISER_H_

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "cache/catalog/catalog.h"
#include "cache/origin/control.h"
#include "diff/verdict/strangers.h"

namespace shadowline::server {

diff::Question QuestionOf(const cache::Query& query);

// Why nobody may be served such an answer, as diff::Divergence::unsafe; empty: it is wrong, and no more.
std::string UnsafeBecause(const cache::Endpoint& endpoint, diff::Stranger stranger);

class Recogniser {
 public:
  struct Recognised {
    diff::Stranger stranger = diff::Stranger::kNobody;
    bool named = false;  // By the answer itself: wrong at once.
    // Otherwise, when the other was first heard to have it: what is served later than that by more than the freshness
    // bound is wrong, whosever it was before.
    absl::Duration since = absl::InfiniteDuration();
  };

  // `served` and `control` are both sides' JSON texts, `control` empty for "not found".
  Recognised Recognise(const cache::Endpoint& endpoint, absl::string_view tenant, const diff::Question& question,
                       absl::string_view served, absl::string_view control, absl::Duration now);
  // What the control says is somebody's answer from now on: after Recognise, since it was nobody's when that was
  // served.
  void Heard(const diff::Question& question, absl::string_view control, absl::Duration now);

 private:
  // By when the memory is asked: its time never goes back.
  absl::Duration Latest(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  base::Mutex mutex_;
  absl::Duration latest_ ABSL_GUARDED_BY(mutex_);
  diff::Strangers strangers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_RECOGNISER_H_
