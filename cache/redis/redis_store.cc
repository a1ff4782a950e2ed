#include "cache/redis/redis_store.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/log.h"

namespace shadowline::cache {
namespace {

constexpr size_t kInputBytes = 64 << 10;
// hiredis moves what is left of its buffer after each reply, so it is fed little at a time.
constexpr size_t kFeedBytes = 8 << 10;
constexpr absl::string_view kScanCount = "1000";

// The scripts are sent in full (EVAL) instead of by digest: only fills and tags use them, a digest would save Redis two
// of six microseconds, and there is no state to load again after a restart, a failover or SCRIPT FLUSH. They read with
// pcall and compare whole values, so a key of another type is simply not what they look for.

// 1: granted. 2: granted in the place of a fence. 0: somebody else's lease. Otherwise the value that is there.
constexpr absl::string_view kAcquireLease = R"(
local held = redis.pcall('GET', KEYS[1])
local fenced = 0
if type(held) == 'string' then
  local kind = string.sub(held, 1, 1)
  if kind == 'V' and #held >= 17 then return held end
  if kind == 'L' and #held == 17 then return 0 end
  if kind == 'F' and #held == 17 then fenced = 1 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1 + fenced)";

constexpr absl::string_view kCommitFill = R"(
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1)";

constexpr absl::string_view kReleaseLease = R"(
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1]))";

// A tag is a sorted set, scored by the time until which the key's registration lasts. Each addition sweeps a few that
// are over, so a tag that is never idle does not grow for ever. That loses no registration: whoever registers a key
// again sets its time anew, in one step with the sweep.
constexpr absl::string_view kAddToTag = R"(
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = now + ARGV[2]
local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not before or tonumber(before) < last then redis.call('ZADD', KEYS[1], last, ARGV[1]) end
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now, 'LIMIT', 0, 8)
if #over > 0 then redis.call('ZREM', KEYS[1], unpack(over)) end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1)";

std::string Head(char kind, absl::string_view token) { return absl::StrCat(absl::string_view(&kind, 1), token); }

// PX wants at least one.
std::string Milliseconds(absl::Duration ttl) {
  return absl::StrCat(std::max<int64_t>(absl::ToInt64Milliseconds(ttl), 1));
}

// A tag's characters are escaped, so that no tag's own key can end in this.
std::string MarkKey(absl::string_view tag_key) { return absl::StrCat(tag_key, ":at"); }

Slot ToSlot(std::string bytes) {
  constexpr size_t kHeadBytes = 1 + kTokenBytes;
  Slot slot;
  slot.kind = Slot::Kind::kForeign;
  if (bytes.size() < kHeadBytes) return slot;
  const bool bare = bytes.size() == kHeadBytes;
  switch (bytes[0]) {
    case 'V':
      slot.kind = Slot::Kind::kValue;
      break;
    case 'L':
      if (bare) slot.kind = Slot::Kind::kLease;
      break;
    case 'F':
      if (bare) slot.kind = Slot::Kind::kFence;
      break;
    default:
      break;
  }
  if (slot.kind == Slot::Kind::kForeign) return slot;
  slot.token = bytes.substr(1, kTokenBytes);
  bytes.erase(0, kHeadBytes);
  slot.bytes = std::move(bytes);
  return slot;
}

bool IsWrongType(const Reply& reply) {
  return reply.type == Reply::Type::kError && reply.text.compare(0, 9, "WRONGTYPE") == 0;
}

}  // namespace

// What a scan has found so far.
struct RedisStore::Collected {
  std::string tag_key;
  std::vector<std::string> members;
  absl::AnyInvocable<void(absl::StatusOr<std::vector<std::string>>)> done;
};

RedisStore::RedisStore(Options options, base::Executor* executor, const base::Clock* clock, base::Random* random)
    : options_(std::move(options)), executor_(executor), clock_(clock), random_(random), input_(kInputBytes, '\0') {}

RedisStore::~RedisStore() {
  if (descriptor_ >= 0) close(descriptor_);
  if (resolver_.joinable()) resolver_.join();
}

void RedisStore::Shutdown() {
  if (link_ == Link::kShut) return;
  Close("shut down");
  link_ = Link::kShut;
}

// Commands.

void RedisStore::Get(std::string key, SlotDone done) {
  if (absl::Status admitted = Admit(); !admitted.ok()) return Fail(std::move(done), std::move(admitted));
  AppendCommand(&output_, {"GET", key});
  Enqueue(std::move(done));
}

void RedisStore::AcquireLease(std::string key, std::string lease_id, absl::Duration ttl,
                              absl::AnyInvocable<void(absl::StatusOr<Lease>)> done) {
  Send({"EVAL", kAcquireLease, "1", key, Head('L', lease_id), Milliseconds(ttl)},
       [this, done = std::move(done)](absl::StatusOr<Reply*> reply) mutable {
         if (!reply.ok()) return done(reply.status());
         Lease lease;
         if ((*reply)->type == Reply::Type::kText) {
           lease.outcome = Lease::Outcome::kValue;
           lease.slot = ToSlot(std::move((*reply)->text));
         } else if ((*reply)->type == Reply::Type::kInteger) {
           const int64_t granted = (*reply)->integer;
           lease.outcome = granted == 0 ? Lease::Outcome::kBusy : Lease::Outcome::kGranted;
           lease.after_fence = granted == 2;
           lease.term = term_;
         } else {
           return done(Answered(**reply));
         }
         done(std::move(lease));
       });
}

void RedisStore::CommitFill(std::string key, std::string lease_id, uint64_t term, std::string fill_id,
                            std::string envelope, absl::Duration ttl,
                            absl::AnyInvocable<void(absl::StatusOr<bool>)> done) {
  if (term != term_) {
    executor_->Post([done = std::move(done)]() mutable { done(false); });
    return;
  }
  Send({"EVAL", kCommitFill, "1", key, Head('L', lease_id), absl::StrCat("V", fill_id, envelope), Milliseconds(ttl)},
       [this, done = std::move(done)](absl::StatusOr<Reply*> reply) mutable {
         if (!reply.ok()) return done(reply.status());
         if ((*reply)->type != Reply::Type::kInteger) return done(Answered(**reply));
         done((*reply)->integer == 1);
       });
}

void RedisStore::ReleaseLease(std::string key, std::string lease_id) {
  Send({"EVAL", kReleaseLease, "1", key, Head('L', lease_id)}, [](absl::StatusOr<Reply*>) {});
}

void RedisStore::AddToTag(std::string tag_key, std::string key, absl::Duration ttl,
                          absl::AnyInvocable<void(absl::Status)> done) {
  Send({"EVAL", kAddToTag, "1", tag_key, key, Milliseconds(ttl)},
       [this, done = std::move(done)](absl::StatusOr<Reply*> reply) mutable {
         if (!reply.ok()) return done(reply.status());
         done((*reply)->type == Reply::Type::kInteger ? absl::OkStatus() : Answered(**reply));
       });
}

void RedisStore::TagMembers(std::string tag_key,
                            absl::AnyInvocable<void(absl::StatusOr<std::vector<std::string>>)> done) {
  auto collected = std::make_unique<Collected>();
  collected->tag_key = std::move(tag_key);
  collected->done = std::move(done);
  ScanTag("0", std::move(collected));
}

// A cursor means something only to the server that gave it. The next page is asked for from the callback of the last,
// so it leaves on the same connection or not at all.
void RedisStore::ScanTag(absl::string_view cursor, std::unique_ptr<Collected> collected) {
  const std::string tag_key = collected->tag_key;
  Send({"ZSCAN", tag_key, cursor, "COUNT", kScanCount},
       [this, collected = std::move(collected)](absl::StatusOr<Reply*> reply) mutable {
         if (!reply.ok()) return collected->done(reply.status());
         Reply& page = **reply;
         if (page.type != Reply::Type::kArray || page.elements.size() != 2) return collected->done(Answered(page));
         std::vector<Reply>& found = page.elements[1].elements;
         for (size_t i = 0; i + 1 < found.size(); i += 2) collected->members.push_back(std::move(found[i].text));
         if (collected->members.size() > options_.members_max) {
           return collected->done(absl::ResourceExhaustedError(
               absl::StrCat("a tag has more than ", options_.members_max, " keys: declare narrower tags")));
         }
         const std::string next = std::move(page.elements[0].text);
         if (next == "0") return collected->done(std::move(collected->members));
         ScanTag(next, std::move(collected));
       });
}

void RedisStore::MarkInvalidated(std::string tag_key, absl::Time at) {
  Send({"SET", MarkKey(tag_key), absl::StrCat(absl::ToUnixMicros(at)), "PX", Milliseconds(options_.mark_ttl)},
       [](absl::StatusOr<Reply*>) {});
}

void RedisStore::LastInvalidated(std::string tag_key, absl::AnyInvocable<void(absl::StatusOr<absl::Time>)> done) {
  Send({"GET", MarkKey(tag_key)}, [this, done = std::move(done)](absl::StatusOr<Reply*> reply) mutable {
    if (!reply.ok()) return done(reply.status());
    if ((*reply)->type == Reply::Type::kNil) return done(absl::InfinitePast());
    int64_t micros = 0;
    if ((*reply)->type != Reply::Type::kText || !absl::SimpleAtoi((*reply)->text, &micros)) {
      return done(Answered(**reply));
    }
    done(absl::FromUnixMicros(micros));
  });
}

void RedisStore::Fence(std::string key, std::string fence_id, absl::Duration ttl,
                       absl::AnyInvocable<void(absl::Status)> done) {
  Send({"SET", key, Head('F', fence_id), "PX", Milliseconds(ttl)},
       [this, done = std::move(done)](absl::StatusOr<Reply*> reply) mutable {
         if (!reply.ok()) return done(reply.status());
         done((*reply)->type == Reply::Type::kStatus ? absl::OkStatus() : Answered(**reply));
       });
}

absl::Status RedisStore::Admit() {
  if (link_ != Link::kUp) {
    return absl::UnavailableError(absl::StrCat("redis ", options_.address.text(), ": not connected"));
  }
  if (pending_.size() >= options_.outstanding_max || output_.size() - written_ >= options_.output_max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("redis ", options_.address.text(), ": too many outstanding commands"));
  }
  return absl::OkStatus();
}

void RedisStore::Send(std::initializer_list<absl::string_view> command, ReplyDone done) {
  if (absl::Status admitted = Admit(); !admitted.ok()) return Fail(std::move(done), std::move(admitted));
  AppendCommand(&output_, command);
  Enqueue(std::move(done));
}

void RedisStore::Enqueue(Pending pending) {
  pending_.push_back(std::move(pending));
  ++sent_;
  stats_.commands.fetch_add(1, std::memory_order_relaxed);
  stats_.outstanding.store(pending_.size(), std::memory_order_relaxed);
}

void RedisStore::Fail(Pending pending, absl::Status status) {
  stats_.failed.fetch_add(1, std::memory_order_relaxed);
  executor_->Post([pending = std::move(pending), status = std::move(status)]() mutable {
    std::visit([&status](auto& done) { done(std::move(status)); }, pending);
  });
}

absl::Status RedisStore::Answered(const Reply& reply) const {
  return absl::InternalError(absl::StrCat(
      "redis ", options_.address.text(), ": ",
      reply.type == Reply::Type::kError ? absl::string_view(reply.text).substr(0, 120) : "a reply of another type"));
}

// The connection.

void RedisStore::Flush() {
  if (link_ == Link::kIdle) Connect();
  if (link_ == Link::kUp && sent_ > (batches_.empty() ? answered_ : batches_.back().last)) {
    batches_.push_back(Batch{sent_, clock_->Steady() + options_.command_timeout});
    if (!watching_) WatchDeadlines(options_.command_timeout);
  }
  if (link_ == Link::kUp || link_ == Link::kGreeting) Write();
}

short RedisStore::Events() const {  // NOLINT: poll(2)'s own type
  if (link_ == Link::kConnecting) return POLLOUT;
  if (link_ != Link::kUp && link_ != Link::kGreeting) return 0;
  return written_ < output_.size() ? POLLIN | POLLOUT : POLLIN;
}

void RedisStore::OnReady(short events) {  // NOLINT: poll(2)'s own type
  if (link_ == Link::kConnecting) {
    int error = 0;
    socklen_t length = sizeof(error);
    getsockopt(descriptor_, SOL_SOCKET, SO_ERROR, &error, &length);
    return error == 0 ? Greet() : Drop(std::strerror(error));
  }
  if (link_ != Link::kUp && link_ != Link::kGreeting) return;
  if ((events & ~POLLOUT) != 0) Read();
  if ((events & POLLOUT) != 0 && (link_ == Link::kUp || link_ == Link::kGreeting)) Write();
}

void RedisStore::Connect() {
  link_ = Link::kConnecting;
  const uint64_t term = ++term_;
  stats_.attempts.fetch_add(1, std::memory_order_relaxed);
  executor_->PostAfter(options_.connect_timeout, [this, term] {
    if (term == term_ && (link_ == Link::kConnecting || link_ == Link::kGreeting)) Drop("it does not answer");
  });
  if (!options_.address.named()) return Open(options_.address.Resolve());
  if (resolved_.has_value()) return Open(*std::exchange(resolved_, std::nullopt));
  // A name can take many seconds, and this executor has none to spare. It may be longer than this attempt: then the
  // next takes what was found.
  if (std::exchange(resolving_, true)) return;
  if (resolver_.joinable()) resolver_.join();
  resolver_ = base::StartThread("redis-resolve", [this, attempt = failures_] {
    executor_->Post([this, address = options_.address.Resolve(attempt)] {
      resolving_ = false;
      if (link_ == Link::kConnecting && descriptor_ < 0) return Open(address);
      if (address.ok()) resolved_ = *address;
    });
  });
}

void RedisStore::Open(const absl::StatusOr<SocketAddress>& address) {
  if (!address.ok()) return Drop(address.status().message());
  const int family = address->storage.ss_family;
  descriptor_ = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor_ < 0) return Drop(std::strerror(errno));
  if (family != AF_UNIX) {
    const int on = 1;
    setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }
  if (connect(descriptor_, reinterpret_cast<const sockaddr*>(&address->storage), address->length) == 0) return Greet();
  if (errno != EINPROGRESS) return Drop(std::strerror(errno));
}

void RedisStore::Greet() {
  link_ = Link::kGreeting;
  reader_ = std::make_unique<ReplyReader>(options_.reply_max_bytes);
  const uint64_t term = term_;
  const auto step = [&](std::initializer_list<absl::string_view> command, bool last) {
    AppendCommand(&output_, command);
    Enqueue([this, term, last](absl::StatusOr<Reply*> reply) {
      if (!reply.ok() || term != term_ || link_ != Link::kGreeting) return;
      if ((*reply)->type != Reply::Type::kStatus) return Drop(Answered(**reply).message());
      if (!last) return;
      link_ = Link::kUp;
      failures_ = 0;
      stats_.up.store(true, std::memory_order_relaxed);
      stats_.connections.fetch_add(1, std::memory_order_relaxed);
      base::Log(base::Level::kInfo, "redis_up", {{"address", options_.address.text()}});
    });
  };
  if (!options_.password.empty() && options_.user.empty()) step({"AUTH", options_.password}, false);
  if (!options_.user.empty()) step({"AUTH", options_.user, options_.password}, false);
  if (options_.database != 0) step({"SELECT", absl::StrCat(options_.database)}, false);
  step({"PING"}, true);
}

void RedisStore::Drop(absl::string_view cause) {
  if (failures_++ == 0) {
    base::Log(base::Level::kWarning, "redis_down", {{"address", options_.address.text()}, {"cause", cause}});
  }
  Close(cause);
  link_ = Link::kWaiting;
  absl::Duration delay = options_.reconnect_min * (uint64_t{1} << std::min<uint32_t>(failures_ - 1, 20));
  delay = std::min(delay, options_.reconnect_max) * (0.5 + random_->Unit() / 2);
  executor_->PostAfter(delay, [this] {
    if (link_ == Link::kWaiting) Connect();
  });
}

void RedisStore::Close(absl::string_view cause) {
  if (descriptor_ >= 0) close(std::exchange(descriptor_, -1));
  ++term_;
  stats_.up.store(false, std::memory_order_relaxed);
  stats_.outstanding.store(0, std::memory_order_relaxed);
  output_.clear();
  written_ = 0;
  // A batch that is over its time says so; the rest only lost its connection.
  const absl::Duration now = clock_->Steady();
  uint64_t late = answered_;
  for (const Batch& batch : batches_) {
    if (batch.due <= now) late = batch.last;
  }
  std::deque<Pending> pending = std::exchange(pending_, {});
  for (Pending& command : pending) {
    Fail(std::move(command),
         ++answered_ <= late
             ? absl::DeadlineExceededError(absl::StrCat("redis ", options_.address.text(), ": no reply in ",
                                                        absl::FormatDuration(options_.command_timeout)))
             : absl::UnavailableError(absl::StrCat("redis ", options_.address.text(), ": ", cause)));
  }
  batches_.clear();
  sent_ = answered_ = 0;
}

void RedisStore::Write() {
  while (written_ < output_.size()) {
    const ssize_t sent = send(descriptor_, output_.data() + written_, output_.size() - written_, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) break;
      return Drop(std::strerror(errno));
    }
    written_ += sent;
  }
  if (written_ < output_.size()) {
    // Keeps a slow reader's backlog from being carried along for ever.
    if (written_ >= output_.size() / 2) {
      output_.erase(0, written_);
      written_ = 0;
    }
    return;
  }
  output_.clear();
  if (output_.capacity() > (1 << 20)) output_.shrink_to_fit();
  written_ = 0;
}

void RedisStore::Read() {
  // A callback may shut this store down, or a reply be reason to give the connection up: then the term has changed.
  const uint64_t term = term_;
  while (true) {
    const ssize_t got = recv(descriptor_, input_.data(), input_.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (got <= 0) return Drop(got == 0 ? "the connection was closed" : std::strerror(errno));
    for (size_t begin = 0; begin < static_cast<size_t>(got); begin += kFeedBytes) {
      reader_->Feed({input_.data() + begin, std::min(kFeedBytes, got - begin)});
      while (true) {
        absl::StatusOr<Reply*> reply = reader_->Next();
        if (!reply.ok()) return Drop(reply.status().message());
        if (*reply == nullptr) break;
        if (pending_.empty()) return Drop("a reply to nothing");
        Dispatch(*reply);
        if (term != term_) return;
      }
    }
    if (static_cast<size_t>(got) < input_.size()) return;
  }
}

void RedisStore::Dispatch(Reply* reply) {
  Pending pending = std::move(pending_.front());
  pending_.pop_front();
  ++answered_;
  while (!batches_.empty() && batches_.front().last <= answered_) batches_.pop_front();
  stats_.outstanding.store(pending_.size(), std::memory_order_relaxed);
  if (ReplyDone* done = std::get_if<ReplyDone>(&pending)) return (*done)(reply);
  SlotDone& done = std::get<SlotDone>(pending);
  if (reply->type == Reply::Type::kText) return done(ToSlot(std::move(reply->text)));
  if (reply->type == Reply::Type::kNil) return done(Slot());
  if (IsWrongType(*reply)) return done(Slot{Slot::Kind::kForeign, "", ""});
  done(Answered(*reply));
}

void RedisStore::WatchDeadlines(absl::Duration delay) {
  watching_ = true;
  executor_->PostAfter(delay, [this] {
    watching_ = false;
    CheckDeadlines();
  });
}

void RedisStore::CheckDeadlines() {
  if (link_ != Link::kUp || batches_.empty()) return;
  const absl::Duration now = clock_->Steady();
  // Should it be this loop that was late, the replies are here already.
  if (batches_.front().due <= now) Read();
  if (link_ != Link::kUp || batches_.empty()) return;
  if (batches_.front().due > now) {
    if (!watching_) WatchDeadlines(batches_.front().due - now);
    return;
  }
  stats_.timeouts.fetch_add(1, std::memory_order_relaxed);
  Drop(absl::StrCat("no reply in ", absl::FormatDuration(options_.command_timeout)));
}

}  // namespace shadowline::cache
