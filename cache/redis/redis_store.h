// RedisStore is the Store on a real Redis: one connection, pipelined, driven by a loop.
//
//   RedisStore store({.address = RedisAddress::Parse("127.0.0.1:6379").value()}, loop, clock, random);
//   loop->Attach(&store);  // connects from the loop's first turn on, and again whenever the connection is lost
//
// Commands of one turn leave in one write. A read, the hot path, is a GET of the value and one of each fence: no
// script, and one copy of each reply; everything that compares before it writes is a small script on one key.
//
// A fence bears the mark of the Redis that it was written to: of its process, and of its time as a master (INFO: run_id
// and master_replid). After a restart or a failover that mark is another one, and so every fence counts as absent: the
// one that had replaced it may be what was forgotten. The mark is read with each connection and every `mark_interval`,
// and a Redis that is no master is given up.
//
// A reply can be matched to its command only by order. So when one does not come in time the connection is given up,
// and every command on it fails: an answer that comes late is never read. While there is no connection every call fails
// at once, which is what lets a reader go to the database without waiting. A new connection counts as up only once its
// INFO was answered.
//
// With a breaker (cache/redis/breaker.h) reads of a Redis that is slow or failing fail at once; other operations only
// follow reads, or are worth a try.
//
// Ownership: borrows executor, clock and random. As a Pollable it must outlive its loop's thread.
// Threads:   all calls on the executor, callbacks too; stats() from any thread.
// Errors:    as in cache/store.h. Their messages name the address and Redis' own error, never a key or a value.
// Limits:    outstanding_max commands and output_max_bytes of unsent output, then kResourceExhausted; a reply above
//            reply_max_bytes costs the connection.
#ifndef SHADOWLINE_CACHE_REDIS_REDIS_STORE_H_
#define SHADOWLINE_CACHE_REDIS_REDIS_STORE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/event_loop.h"
#include "base/executor.h"
#include "base/random.h"
#include "cache/redis/address.h"
#include "cache/redis/breaker.h"
#include "cache/redis/reply.h"
#include "cache/store.h"

namespace shadowline::cache {

class RedisStore final : public Store, public base::Pollable {
 public:
  struct Options {
    RedisAddress address;
    std::string user;      // Empty: Redis' default user.
    std::string password;  // Empty: no AUTH.
    int database = 0;
    // From the turn in which a command was queued to its reply.
    absl::Duration command_timeout = absl::Milliseconds(50);
    // From the attempt to the answered INFO.
    absl::Duration connect_timeout = absl::Milliseconds(500);
    // Between attempts: doubles from the first to the second, each jittered by half.
    absl::Duration reconnect_min = absl::Milliseconds(20);
    absl::Duration reconnect_max = absl::Seconds(1);
    size_t outstanding_max = 16384;
    size_t output_max_bytes = 64 << 20;
    size_t reply_max_bytes = 64 << 20;
    // How often it is asked whether this still is the same master.
    absl::Duration mark_interval = absl::Milliseconds(500);
    // Keeps reads from a Redis that is slow or failing. None: every read is tried.
    std::optional<Breaker::Options> breaker;
  };

  struct Stats {
    std::atomic<bool> up{false};
    std::atomic<bool> broken{false};  // The breaker keeps reads from this Redis, in part at least.
    std::atomic<uint64_t> outstanding{0};
    std::atomic<uint64_t> commands{0};
    std::atomic<uint64_t> timeouts{0};     // Connections given up because a reply did not come in time.
    std::atomic<uint64_t> attempts{0};     // Connections tried,
    std::atomic<uint64_t> connections{0};  // and those that came up.
    std::atomic<uint64_t> failed{0};       // Commands that were not answered by Redis, or refused at once.
  };

  RedisStore(Options options, base::Executor* executor, const base::Clock* clock, base::Random* random);
  RedisStore(const RedisStore&) = delete;
  RedisStore& operator=(const RedisStore&) = delete;
  // Callbacks that are still outstanding are destroyed without being called: call Shutdown first.
  ~RedisStore() override;

  // Closes for good: what is outstanding, and every later call, is answered with kUnavailable. On the executor.
  void Shutdown();

  const Stats& stats() const { return stats_; }

  bool Reachable() const override;
  void Read(std::string key, std::vector<std::string> fence_keys,
            absl::AnyInvocable<void(absl::StatusOr<Found>)> done) override;
  void EnsureFences(std::vector<std::string> fence_keys, absl::Duration ttl,
                    absl::AnyInvocable<void(absl::StatusOr<Fences>)> done) override;
  void ReplaceFence(std::string fence_key, std::string token, absl::Time at, std::vector<uint64_t> transactions,
                    absl::Duration ttl, absl::AnyInvocable<void(absl::Status)> done) override;
  void ReadFence(std::string fence_key, absl::AnyInvocable<void(absl::StatusOr<Fence>)> done) override;
  void AcquireLease(std::string key, std::string lease_id, absl::Duration ttl, std::vector<std::string> fence_keys,
                    absl::AnyInvocable<void(absl::StatusOr<Lease>)> done) override;
  void RenewLease(std::string key, std::string lease_id, absl::Duration ttl) override;
  void ReleaseLease(std::string key, std::string lease_id) override;
  void Put(std::string key, std::string seen, Fill fill, absl::AnyInvocable<void(absl::StatusOr<bool>)> done) override;
  void Discard(std::string key, std::string fill, absl::AnyInvocable<void(absl::Status)> done) override;

  int Descriptor() const override { return descriptor_; }
  short Events() const override;        // NOLINT: poll(2)'s own type
  void OnReady(short events) override;  // NOLINT
  void Flush() override;
  // Connecting counts: until it is done, every read goes to the database.
  bool Busy() const override { return descriptor_ >= 0 && (link_ == Link::kConnecting || !pending_.empty()); }

 private:
  enum class Link { kIdle, kWaiting, kConnecting, kGreeting, kUp, kShut };

  using ReadDone = absl::AnyInvocable<void(absl::StatusOr<Found>)>;
  // Gets the reply, or why there is none. The reply may be moved from. An error that Redis answered is a Reply too.
  using ReplyDone = absl::AnyInvocable<void(absl::StatusOr<Reply*>)>;
  // A read under way. Its replies come in the order of its commands: the fences, and then the value.
  struct Reading {
    absl::Status failed;
    Fences fences;
    ReadDone done;
    std::optional<Breaker::Permit> permit;
  };
  struct FenceStep {
    std::shared_ptr<Reading> reading;
  };
  struct ValueStep {
    std::shared_ptr<Reading> reading;
  };
  // The steps of a read spare the hot path a wrapper for each, hence an allocation.
  using Pending = std::variant<FenceStep, ValueStep, ReplyDone>;
  // The commands up to the one numbered `last` were flushed together and are due together.
  struct Batch {
    uint64_t last;
    absl::Duration due;
  };

  // Why no command may be queued now; OK where one may.
  absl::Status Admit();
  // Queues a command, or answers `done` soon with the reason why not.
  void Send(std::initializer_list<absl::string_view> command, ReplyDone done);
  void Enqueue(Pending pending);
  void Fail(Pending pending, absl::Status status);
  void Complete(Pending pending, absl::StatusOr<Reply*> reply);
  void AppendRead(const std::string& key, const std::vector<std::string>& fence_keys, std::shared_ptr<Reading> reading);
  // Tells the breaker what a read came to.
  void Report(const Breaker::Permit& permit, bool ok);
  // The fence in a reply; absent where it bears another mark.
  Fence ToFence(absl::string_view bytes) const;

  void Connect();
  void Open(const absl::StatusOr<SocketAddress>& address);
  void Greet();
  // Asks for this Redis' mark; `then` runs if it is a master, and has not changed since it was asked last.
  void AskMark(absl::AnyInvocable<void()> then);
  void WatchMark();
  // Gives the connection up, fails what is outstanding, and tries again later.
  void Drop(absl::string_view cause);
  void Close(absl::string_view cause);
  void Write();
  void Read();
  void Dispatch(Reply* reply);
  void WatchDeadlines(absl::Duration delay);
  void CheckDeadlines();
  absl::Status Answered(const Reply& reply) const;

  const Options options_;
  base::Executor* const executor_;
  const base::Clock* const clock_;
  base::Random* const random_;
  Stats stats_;
  std::optional<Breaker> breaker_;

  Link link_ = Link::kIdle;
  int descriptor_ = -1;
  uint64_t term_ = 0;      // Numbers the connections.
  std::string mark_;       // Of the Redis that this connection leads to.
  uint32_t failures_ = 0;  // Attempts since the connection was last up.
  // Where the address is a name.
  std::thread resolver_;
  bool resolving_ = false;
  std::optional<SocketAddress> resolved_;  // For the next attempt.
  std::unique_ptr<ReplyReader> reader_;
  std::string input_;  // What one recv() can take.
  std::string output_;
  size_t written_ = 0;  // Of output_.
  std::deque<Pending> pending_;
  std::deque<Batch> batches_;
  uint64_t sent_ = 0;      // Commands queued on this connection,
  uint64_t answered_ = 0;  // and answered.
  bool watching_ = false;  // A deadline timer is under way.
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_REDIS_REDIS_STORE_H_
