// Judge knows every answer that each question ever had, and when. It is told by the writer, who knows, or asks the
// database itself in the writing transaction, what its questions will be answered with from then on. So an answer is
// compared as a whole, byte by byte, with what the database would have said, and nothing that the tested software says
// of itself is believed.
//
// An answer that came twice in a question's life (deleted, written, deleted again) is given the benefit of the doubt:
// it is taken for the newest that it can have been when it was received.
//
// Threads: thread-safe; but the changes of one question are told in the order of their commits.
#ifndef SHADOWLINE_TESTS_SUPPORT_JUDGE_H_
#define SHADOWLINE_TESTS_SUPPORT_JUDGE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "tests/support/history.h"

namespace shadowline::support {

struct Opinion {
  Judgement judgement = Judgement::kNever;
  // It shows the time before a write whose invalidation had been acknowledged when the read was sent. Worse than stale:
  // it is wrong however short that time was.
  bool older_than_invalidation = false;
};

class Judge {
 public:
  // `first` are the questions' answers before any write; questions are named by their index. `delta` is the freshness
  // bound.
  Judge(const std::vector<std::string>& first, absl::Duration delta);

  // The version that `body` is: a new one where it differs from the newest. Called before the commit is sent.
  int64_t Committing(size_t question, absl::string_view body, absl::Duration now);
  // Called with what Committing returned, after the commit had returned.
  void Committed(size_t question, int64_t version, absl::Duration now);
  // An invalidation that was begun after `version` had been committed was acknowledged.
  void Invalidated(size_t question, int64_t version, absl::Duration now);

  Opinion Of(size_t question, absl::string_view body, absl::Duration sent, absl::Duration received) const;

 private:
  // From `since` on, `version` is the oldest that a read may be answered with.
  struct Floor {
    absl::Duration since;
    int64_t version = 0;
  };
  struct Life {
    std::string scope;              // The question's name in history_.
    std::vector<uint64_t> answers;  // Digests; answers[i] is version i + 1.
    std::vector<Floor> floors;      // Both members rise.
  };

  const absl::Duration delta_;
  History history_;
  mutable base::Mutex mutex_;
  std::vector<Life> lives_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace shadowline::support

#endif  // SHADOWLINE_TESTS_SUPPORT_JUDGE_H_
