// The feed tells every replica which transactions touched which tags. One replica captures changes and writes it; each,
// that one included, reads it into its certifier. It goes through the state database, as notifications on one channel.
//
//   capture -> FeedWriter -> notifications -> FeedReader -> Certifier
//              (one)                          (each replica)
//
// A message is a line of base64: the writer's run, its number within the run, the digest of the map that the capture
// works by, transactions with the hashes of what they touched, and a position: whatever was committed in the log before
// it is in this message or an earlier one of its run. What the outbox says is told in messages of their own, without a
// run: it only adds to what is known.
//
// No message is asked for again. A number that does not follow the one before it, another run, a lost connection: the
// reader forgets everything and begins anew. So does the writer where it would have to wait: a run has a limit of what
// it keeps, and beyond it another one begins. Capture never waits for its feed.
//
// BEGINNING. The first message that is heard says that the writer streams. After it the database is asked for a new
// transaction id: what begins later will be told, and what does not is nothing that a certified fill may have missed
// (Certifier, `since`). A snapshot would not do: what the log had before the first message may become visible after any
// snapshot.
//
// ADVANCING. The reader asks the database for a snapshot and, evaluated after it, for the end of the log. All that the
// snapshot sees had its commit in the log by then, so once a message's position is there, it is in the array. Each
// replica asks for itself, so that no two clocks are compared.
#ifndef SHADOWLINE_CACHE_CERTIFY_FEED_H_
#define SHADOWLINE_CACHE_CERTIFY_FEED_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "cache/capture/lsn.h"
#include "cache/capture/sink.h"
#include "cache/certify/certifier.h"

namespace shadowline::cache {

struct FeedMessage {
  struct Touched {
    uint64_t transaction = 0;
    absl::Time committed_at;  // By the database's clock.
    std::vector<uint32_t> hashes;
  };

  // PostgreSQL takes payloads of less than 8,000 bytes.
  static constexpr size_t kMost = 7900;

  uint64_t run = 0;  // 0: what the outbox says; number, map and position mean nothing then.
  uint64_t number = 0;
  uint64_t map = 0;  // CaptureMapHash
  Lsn position = 0;
  std::vector<Touched> touched;
};

std::string EncodeFeed(const FeedMessage& message);
// kInvalidArgument: not a message, or another version's.
absl::StatusOr<FeedMessage> DecodeFeed(absl::string_view text);

// The hashes of what a transaction touched: of its tags, and of the families that it drops.
std::vector<uint32_t> HashesOf(const Effects& effects);

// What a capture knows, until it is sent.
//
// Threads: thread-safe. `wake` is called, on the caller's thread, when there is something to send at once.
// Limits:  kHashesMost; beyond it what waits is dropped and another run begins.
class FeedWriter {
 public:
  static constexpr size_t kHashesMost = 1 << 18;

  // `name` is this replica's, and no other's.
  FeedWriter(std::string name, absl::AnyInvocable<void()> wake) : name_(std::move(name)), wake_(std::move(wake)) {}

  // ---- For captures.

  // A stream begins, with this map; every change from now on is told by Add, in the order of the log.
  void Begin(uint64_t map);
  void Add(const Transaction& transaction);
  // The stream has handed over everything before `position`.
  void Passed(Lsn position);
  // It has ended. What it has added is still sent.
  void End();
  // From the outbox.
  void AddFromOutbox(const Transaction& transaction);

  // ---- For whoever sends.

  // There is a stream, or something to send.
  bool active() const;
  bool waiting() const;
  // What was taken may not have been sent.
  void BeginRun();
  // The next messages, and where nothing waits one that tells the position alone. None: there is no stream.
  std::vector<std::string> Take();

  // Times that another run had to begin.
  uint64_t overflows() const;

 private:
  void Push(const Transaction& transaction, std::deque<FeedMessage::Touched>* queue)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NextRun() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string name_;
  absl::AnyInvocable<void()> wake_;
  mutable base::Mutex mutex_;
  bool streaming_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t runs_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t overflows_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t run_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t number_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t map_ ABSL_GUARDED_BY(mutex_) = 0;
  Lsn passed_ ABSL_GUARDED_BY(mutex_) = 0;
  Lsn told_ ABSL_GUARDED_BY(mutex_) = 0;  // In this run.
  std::deque<FeedMessage::Touched> touched_ ABSL_GUARDED_BY(mutex_);
  std::deque<FeedMessage::Touched> outbox_ ABSL_GUARDED_BY(mutex_);
  size_t hashes_ ABSL_GUARDED_BY(mutex_) = 0;  // Of both.
};

// Reads messages into a certifier. It says what it has to be told of the database; whoever drives it asks.
//
// Ownership: borrows the certifier, and is the only one to change it. Threads: compatible. Pure.
class FeedReader {
 public:
  explicit FeedReader(Certifier* certifier) : certifier_(certifier) { certifier_->Reset(); }

  // A payload; `now` is Clock::Steady(). What is no message of this version is a gap.
  void Hear(absl::string_view payload, absl::Duration now);

  // A transaction id that is assigned from now on is asked for; nullopt: none is needed. What it is for is handed back
  // with the answer, which counts for nothing where a gap has come between.
  std::optional<uint64_t> wants_since() const { return heard_ && !began_ ? std::optional(gaps_) : std::nullopt; }
  void Began(uint64_t question, uint64_t since);

  // A snapshot and then the end of the log; the answer of one that was asked before a gap is dropped likewise.
  std::optional<uint64_t> wants_look() const {
    return began_ && !look_.has_value() ? std::optional(gaps_) : std::nullopt;
  }
  void Looked(uint64_t question, DatabaseSnapshot snapshot, Lsn end, absl::Duration asked_at,
              absl::Duration answered_at);

  // Beginnings so far, and those that were none of the first.
  uint64_t gaps() const { return gaps_; }

 private:
  struct Look {
    DatabaseSnapshot snapshot;
    Lsn end;
    absl::Duration asked_at, answered_at;
  };

  void Gap(const FeedMessage& message);
  void Advance();

  Certifier* const certifier_;
  bool heard_ = false;
  bool began_ = false;
  uint64_t gaps_ = 0;
  uint64_t run_ = 0;
  uint64_t number_ = 0;
  uint64_t map_ = 0;
  Lsn position_ = 0;
  std::optional<Look> look_;  // That the feed has not come to.
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CERTIFY_FEED_H_
