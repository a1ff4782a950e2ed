// RedisConnection is one connection to one Redis: pipelined, driven by a loop, made again whenever it is lost.
//
//   RedisConnection connection({}, {RedisAddress::Parse("127.0.0.1:6379").value()}, loop, clock, random, &stats);
//   loop->Attach(&connection);  // connects from the loop's first turn on
//   connection.Send({"GET", key}, waiter, step);
//
// Commands of one turn leave in one write. A reply can be matched to its command only by order. So when one does not
// come in time the connection is given up, and every command on it fails: an answer that comes late is never read.
// While there is no connection every command fails at once, which is what lets a reader go to the database without
// waiting. A new connection counts as up only once all of its greeting was answered.
//
// A master's connection knows the life of the Redis that it leads to: its process, and its time as a master (INFO:
// run_id and master_replid). After a restart or a failover it is another one. It is read with each connection and every
// `mark_interval`; a Redis that is no master, or not the same any more, is given up. So is one whose life the fleet
// does not use any more; one that it does not use yet comes up once it does. The mark, which fences bear, is that of
// the life; in a cluster also that of the epoch with which the node serves its slots.
//
// With a breaker (cache/redis/breaker.h) reads of a Redis that is slow or failing are refused at once.
//
// Ownership: borrows executor, clock, random and stats. As a Pollable it must outlive its loop's thread; one that is in
// no
//            loop any more may go once it was shut down and is idle().
// Threads:   all calls on the executor, waiters and hooks too.
// Errors:    kUnavailable (no connection, or it broke), kDeadlineExceeded (no reply in time), kResourceExhausted (too
// many
//            outstanding commands). Their messages name the address and Redis' own error, never a key or a value.
// Limits:    outstanding_max commands and output_max_bytes of unsent output, then kResourceExhausted; a reply above
//            reply_max_bytes costs the connection.
#ifndef SHADOWLINE_CACHE_REDIS_CONNECTION_H_
#define SHADOWLINE_CACHE_REDIS_CONNECTION_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/event_loop.h"
#include "base/executor.h"
#include "base/random.h"
#include "cache/redis/address.h"
#include "cache/redis/breaker.h"
#include "cache/redis/lives.h"
#include "cache/redis/reply.h"
#include "cache/redis/tls.h"

namespace shadowline::cache {

// What the connections of one store count, together. One executor writes, any thread reads.
struct RedisStats {
  std::atomic<bool> up{false};      // Every key can be asked for: whoever owns the connections sets it.
  std::atomic<uint64_t> broken{0};  // Connections whose breaker keeps reads from them, in part at least.
  std::atomic<uint64_t> outstanding{0};
  std::atomic<uint64_t> commands{0};
  std::atomic<uint64_t> timeouts{0};     // Connections given up because a reply did not come in time.
  std::atomic<uint64_t> attempts{0};     // Connections tried,
  std::atomic<uint64_t> connections{0};  // and those that came up.
  std::atomic<uint64_t> moved{0};        // Commands that were sent again: their slot is elsewhere,
  std::atomic<uint64_t> asked{0};        // or is moving there.
  std::atomic<uint64_t> failed{0};       // Commands that were not answered by Redis, or refused at once.
};

class RedisConnection final : public base::Pollable {
 public:
  struct Options {
    std::string user;      // Empty: Redis' default user.
    std::string password;  // Empty: no AUTH.
    int database = 0;
    // Whether this has to be a master, whose mark is known. Otherwise anything that answers a PING will do.
    bool master = true;
    // Of a Redis Cluster. Slots that a node is given come with a new epoch of the node, hence another mark: what they
    // hold may be older than what was in them when the node had served them before.
    bool cluster = false;
    // From the turn in which a command was queued to its reply.
    absl::Duration command_timeout = absl::Milliseconds(50);
    // From the attempt to the answered greeting.
    absl::Duration connect_timeout = absl::Milliseconds(500);
    // Between attempts: doubles from the first to the second, each jittered by half.
    absl::Duration reconnect_min = absl::Milliseconds(20);
    absl::Duration reconnect_max = absl::Seconds(1);
    // Without a connection for longer than this, it was out of reach (reached_again_at).
    absl::Duration out_of_reach = absl::Milliseconds(500);
    size_t outstanding_max = 16384;
    size_t output_max_bytes = 64 << 20;
    size_t reply_max_bytes = 64 << 20;
    // How often it is asked whether this still is the same master, or still answers.
    absl::Duration mark_interval = absl::Milliseconds(500);
    // Keeps reads from a Redis that is slow or failing. None: every read is tried.
    std::optional<Breaker::Options> breaker;
    // Which masters' lives may be used. Null: every one. Borrowed.
    Lives* lives = nullptr;
    // With it the connection is TLS.
    std::shared_ptr<const TlsContext> tls;
    // Called for each new connection: may Introduce() more commands before it counts as up.
    std::function<void(RedisConnection*)> greet;
  };

  // Waits for the replies to the commands of one operation. One waiter for all of them spares the hot path an
  // allocation for each.
  class Waiter {
   public:
    virtual ~Waiter() = default;
    // The reply to the command that was sent as `step`, or why there is none. The reply may be moved from. An error
    // that Redis answered is a Reply too.
    virtual void OnReply(uint32_t step, RedisConnection* from, absl::StatusOr<Reply*> reply) = 0;
  };
  using ReplyDone = absl::AnyInvocable<void(absl::StatusOr<Reply*>)>;

  // What its owner hears of. Set before the first turn.
  struct Hooks {
    // Replies that nobody asked for: messages of a subscription. Without it they cost the connection.
    std::function<void(const Reply&)> message;
    // It came up, or was lost; also when an attempt failed.
    std::function<void(bool up)> changed;
  };

  // `addresses` are tried in turn, attempt after attempt; none: see SetAddresses.
  RedisConnection(Options options, std::vector<RedisAddress> addresses, base::Executor* executor,
                  const base::Clock* clock, base::Random* random, RedisStats* stats);
  RedisConnection(const RedisConnection&) = delete;
  RedisConnection& operator=(const RedisConnection&) = delete;
  // Waiters that are still outstanding are destroyed without being called: call Shutdown first.
  ~RedisConnection() override;

  Hooks* hooks() { return &hooks_; }
  bool up() const { return link_ == Link::kUp; }
  // Of the connection that is up, or of the attempt under way.
  const RedisAddress& target() const { return target_; }
  const std::string& address() const { return target_.text(); }
  // What fences bear that are written here; empty where it need not be a master.
  const std::string& mark() const { return mark_; }
  // Does the fleet use this Redis, for all that this replica knows, and does it know that for certain? Without it, what
  // was written here may not be read by others.
  bool Vouched() const;
  // As of Found::reached_again_at: when it came up after it had been out of reach. The very first time does not count.
  absl::Time reached_again_at() const { return reached_again_at_; }
  // Numbers the connections: a descriptor may be the same number again.
  uint64_t term() const { return term_; }
  // Nothing is under way on another thread.
  bool idle() const { return !resolving_; }

  // Closes for good: what is outstanding, and every later command, is answered with kUnavailable.
  void Shutdown();
  // Where it is from now on; none: nowhere, until another call. A connection to elsewhere is given up. An address other
  // than the last one is tried at once; the same one when it is due. Whoever calls needs no Hooks::changed.
  void SetAddresses(std::vector<RedisAddress> addresses);
  // Gives this connection up, fails what is outstanding, and tries again later.
  void Drop(absl::string_view cause);

  // Why no command may be queued now; OK where one may.
  absl::Status Admit() const;
  // Queues a command, or answers soon with the reason why not.
  void Send(std::initializer_list<absl::string_view> command, std::shared_ptr<Waiter> waiter, uint32_t step = 0);
  void Send(std::initializer_list<absl::string_view> command, ReplyDone done);
  // With `asking`, right behind an ASKING.
  void Send(absl::Span<const std::string> command, bool asking, std::shared_ptr<Waiter> waiter, uint32_t step = 0);
  // Queues a command of the greeting, from Options::greet alone. The connection is given up where Redis answers with an
  // error.
  void Introduce(std::initializer_list<absl::string_view> command, ReplyDone done);

  // False: a read would fail at once.
  bool Reachable() const;
  // Leave for one read, as the breaker gives it; without a breaker there is always leave.
  std::optional<Breaker::Permit> AdmitRead(uint32_t draw_ppm);
  // Tells the breaker what a read came to.
  void Report(const Breaker::Permit& permit, bool ok);

  int Descriptor() const override { return descriptor_; }
  short Events() const override;        // NOLINT: poll(2)'s own type
  void OnReady(short events) override;  // NOLINT
  void Flush() override;
  // Connecting counts: until it is done, every read goes to the database.
  bool Busy() const override { return descriptor_ >= 0 && (link_ == Link::kConnecting || !pending_.empty()); }

 private:
  enum class Link { kIdle, kWaiting, kConnecting, kGreeting, kUp, kShut };

  struct Pending {
    std::shared_ptr<Waiter> waiter;
    uint32_t step;
  };
  // The commands up to the one numbered `last` were flushed together and are due together.
  struct Batch {
    uint64_t last;
    absl::Duration due;
  };

  void Enqueue(std::shared_ptr<Waiter> waiter, uint32_t step);
  void Fail(std::shared_ptr<Waiter> waiter, uint32_t step, absl::Status status);
  // PostAfter, for as long as this object lives.
  void Later(absl::Duration delay, absl::AnyInvocable<void()> task);

  void Connect();
  void Open(const absl::StatusOr<SocketAddress>& address);
  void Greet();
  void Watch(absl::AnyInvocable<void()> then);
  // Asks for this Redis' mark; `then` runs if it is a master, and has not changed since it was asked last.
  void AskMark(absl::AnyInvocable<void()> then);
  // `then` runs if, or as soon as, the fleet uses this life.
  void AwaitUse(RedisLife life, absl::AnyInvocable<void()> then);
  bool Used() const;
  // Gives a connection up that is not up in time.
  void LimitGreeting();
  void WatchLater();
  void Close(absl::string_view cause);
  // What goes to the socket.
  std::string& Wire() { return tls_ != nullptr ? sealed_ : output_; }
  const std::string& Wire() const { return tls_ != nullptr ? sealed_ : output_; }
  void Write();
  void Read();
  // Takes replies apart; false: the connection is another one now.
  bool Feed(absl::string_view bytes);
  void Dispatch(Reply* reply);
  void WatchDeadlines(absl::Duration delay);
  void CheckDeadlines();

  const Options options_;
  std::vector<RedisAddress> addresses_;
  base::Executor* const executor_;
  const base::Clock* const clock_;
  base::Random* const random_;
  RedisStats* const stats_;
  Hooks hooks_;
  std::optional<Breaker> breaker_;
  bool broken_ = false;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  Link link_ = Link::kIdle;
  int descriptor_ = -1;
  uint64_t term_ = 0;
  RedisAddress target_;
  std::string life_;  // Of the Redis that this connection leads to,
  std::string mark_;  // and what fences there bear.
  // Whether the fleet uses `life_`, as of this version of Options::lives.
  mutable uint64_t used_version_ = 0;
  mutable bool used_ = false;
  bool awaiting_use_ = false;
  uint64_t greetings_ = 0;  // Numbers what LimitGreeting limits.
  uint32_t turn_ = 0;       // Attempts so far, hence which address is next.
  uint32_t failures_ = 0;   // Attempts since the connection was last up.
  // When it was last lost; nothing before that.
  std::optional<absl::Duration> lost_at_;
  absl::Time reached_again_at_ = absl::InfinitePast();
  // Where the address is a name.
  std::thread resolver_;
  bool resolving_ = false;
  std::optional<SocketAddress> resolved_;  // For the next attempt.
  std::unique_ptr<ReplyReader> reader_;
  std::string input_;  // What one recv() can take.
  std::unique_ptr<TlsSession> tls_;
  std::string plain_;   // With TLS: what input_ says.
  std::string output_;  // Commands,
  std::string sealed_;  // with TLS on their way through here.
  size_t written_ = 0;  // Of Wire().
  std::deque<Pending> pending_;
  std::deque<Batch> batches_;
  uint64_t sent_ = 0;      // Commands queued on this connection,
  uint64_t answered_ = 0;  // and answered.
  bool watching_ = false;  // A deadline timer is under way.
};

// An error that Redis answered, or a reply of a type that was not asked for, as a status. kUnavailable: Redis says that
// it cannot answer now (LOADING, CLUSTERDOWN, MASTERDOWN, READONLY, TRYAGAIN); kInternal otherwise.
absl::Status Answered(absl::string_view address, const Reply& reply);

// The value of `name:value` in what INFO prints; empty where there is none.
absl::string_view InfoField(absl::string_view info, absl::string_view name);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_REDIS_CONNECTION_H_
