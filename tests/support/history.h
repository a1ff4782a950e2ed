// History judges answers by what the database held, and by nothing that the tested software says of itself.
//
// Terminology
//   scope     a part of the data with a version of its own, for example one price book
//   version   counts a scope's changes; a write bumps it in its own transaction
//   witness   a scope and its version as an answer names them: which data the answer was computed from
//
// A writer tells when it is about to commit a version and when the commit had returned. The commit itself took effect
// somewhere between the two, so version v was the newest at some time in [Committing(v), Committed(v + 1)] and at no
// other. An answer that was sent for at s and received at r is right when there is an instant in [s - delta, r] at
// which all of its witnesses were the newest at once. Where the two ends leave a doubt, the answer is given the benefit
// of it.
//
//   history.Committing("book/acme", 2, clock.Steady());
//   work.commit();
//   history.Committed("book/acme", 2, clock.Steady());
//   history.Judge(*ParseWitnesses(body), sent, received, delta).verdict
//
// All times are of one steady clock. Every scope starts at version 1.
//
// Threads: thread-safe.
#ifndef SHADOWLINE_TESTS_SUPPORT_HISTORY_H_
#define SHADOWLINE_TESTS_SUPPORT_HISTORY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace shadowline::support {

struct Witness {
  std::string scope;
  int64_t version = 0;

  bool operator==(const Witness&) const = default;
};

// The witnesses that an answer names: the text of its first member "versions", `scope=version` separated by blanks.
// Empty where it has none or is malformed.
std::optional<std::vector<Witness>> ParseWitnesses(absl::string_view body);

// What an answer came to.
enum class Judgement {
  kRight,
  kStale,  // The database once held it, but not within delta.
  kTorn,   // Each part was held once, but not all at the same time.
  kNever,  // A version that nobody had begun to commit by then.
};

absl::string_view JudgementName(Judgement judgement);

class History {
 public:
  History() = default;
  History(const History&) = delete;
  History& operator=(const History&) = delete;

  // REQUIRES: called before the commit is sent. The same version again, after a commit whose outcome was unknown, is
  // fine.
  void Committing(absl::string_view scope, int64_t version, absl::Duration now);
  // Called after the commit had returned. A commit whose outcome is unknown is never reported: its predecessor then
  // counts as the newest until a later version is committed.
  void Committed(absl::string_view scope, int64_t version, absl::Duration now);

  Judgement Judge(const std::vector<Witness>& witnesses, absl::Duration sent, absl::Duration received,
                  absl::Duration delta) const;

  // Whether `body` is what this question was answered with whenever it named the same witnesses. An answer is a
  // function of the versions that it names, so other bytes are somebody else's answer, or a broken one.
  bool SameBytes(absl::string_view question, const std::vector<Witness>& witnesses, absl::string_view body);

  // Commits that were reported, of all scopes.
  uint64_t commits() const;

 private:
  struct Commit {
    absl::Duration begun = absl::InfiniteDuration();
    absl::Duration ended = absl::InfiniteDuration();
  };

  mutable base::Mutex mutex_;
  // commits[i] is of version i + 2: version 1 was there from the start.
  absl::flat_hash_map<std::string, std::vector<Commit>> scopes_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, uint64_t> bodies_ ABSL_GUARDED_BY(mutex_);
  uint64_t commits_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace shadowline::support

#endif  // SHADOWLINE_TESTS_SUPPORT_HISTORY_H_
