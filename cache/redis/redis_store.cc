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
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/hash.h"
#include "base/log.h"

namespace shadowline::cache {
namespace {

constexpr size_t kInputBytes = 64 << 10;
// hiredis moves what is left of its buffer after each reply, so it is fed little at a time.
constexpr size_t kFeedBytes = 8 << 10;
// The scripts are sent in full (EVAL) instead of by digest: only fills and invalidations use them, a digest would save
// Redis two of six microseconds, and there is no state to load again after a restart, a failover or SCRIPT FLUSH. They
// read with pcall and compare bytes, so a key of another type is simply not what they look for.

// The fence that stands under this mark; where there is none, the one that was brought.
constexpr absl::string_view kEnsureFence = R"(
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' and string.sub(held, 1, 1) == 'F' and string.sub(held, 18, 25) == ARGV[1] then
  if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
  return held
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return ARGV[2])";

// The transactions that the old fence names are kept behind the new ones, also those of another mark.
constexpr absl::string_view kReplaceFence = R"(
local held = redis.pcall('GET', KEYS[1])
local transactions = ARGV[2]
if type(held) == 'string' and #held >= 33 and string.sub(held, 1, 1) == 'F' then
  transactions = transactions .. string.sub(held, 34)
end
local kept = {}
for transaction in string.gmatch(transactions, ' %d+') do
  kept[#kept + 1] = transaction
  if #kept == tonumber(ARGV[4]) then break end
end
local ttl = math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[3]))
redis.call('SET', KEYS[1], ARGV[1] .. table.concat(kept), 'PX', ttl)
return 1)";

constexpr absl::string_view kPut = R"(
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' and #held >= 18 and string.sub(held, 1, 1) == 'V' and string.sub(held, 2, 17) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1)";

constexpr absl::string_view kDiscard = R"(
local held = redis.pcall('GET', KEYS[1])
if type(held) ~= 'string' or string.sub(held, 1, 17) ~= 'V' .. ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1]))";

constexpr absl::string_view kRenewLease = R"(
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2]))";

constexpr absl::string_view kReleaseLease = R"(
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1]))";

constexpr size_t kMarkBytes = 8;
constexpr size_t kTimeBytes = 8;

// PX wants at least one.
std::string Milliseconds(absl::Duration ttl) {
  return absl::StrCat(std::max<int64_t>(absl::ToInt64Milliseconds(ttl), 1));
}

// A key's parts are escaped, so that no value's own key can end in this.
std::string LeaseKey(absl::string_view key) { return absl::StrCat(key, ":lease"); }

// 'F', token, mark, microseconds since 1970 (big-endian; 0: never invalidated). Transactions follow, each after a
// blank.
std::string FenceHead(absl::string_view token, absl::string_view mark, absl::Time invalidated_at) {
  const uint64_t micros = invalidated_at == absl::InfinitePast() ? 0 : absl::ToUnixMicros(invalidated_at);
  std::string head = absl::StrCat("F", token, mark);
  for (int shift = 56; shift >= 0; shift -= 8) head.push_back(static_cast<char>(micros >> shift));
  return head;
}

// 'V', the fill's id, how many fences (one byte), their tokens, the envelope.
std::string ValueBytes(const Fill& fill) {
  const char fences = static_cast<char>(fill.fences.size() / kTokenBytes);
  return absl::StrCat("V", fill.id, absl::string_view(&fences, 1), fill.fences, fill.envelope);
}

Slot ToSlot(std::string&& bytes) {
  constexpr size_t kHeadBytes = 1 + kTokenBytes + 1;
  Slot slot;
  slot.kind = Slot::Kind::kForeign;
  if (bytes.size() < kHeadBytes || bytes[0] != 'V') return slot;
  const size_t fences = static_cast<unsigned char>(bytes[kHeadBytes - 1]) * kTokenBytes;
  if (bytes.size() < kHeadBytes + fences) return slot;
  slot.kind = Slot::Kind::kValue;
  slot.fill = bytes.substr(1, kTokenBytes);
  slot.fences = bytes.substr(kHeadBytes, fences);
  bytes.erase(0, kHeadBytes + fences);
  slot.bytes = std::move(bytes);
  return slot;
}

// The value of `name:value` in what INFO prints.
absl::string_view InfoField(absl::string_view info, absl::string_view name) {
  for (absl::string_view line : absl::StrSplit(info, "\r\n")) {
    if (absl::ConsumePrefix(&line, name) && absl::ConsumePrefix(&line, ":")) return line;
  }
  return "";
}

bool IsWrongType(const Reply& reply) {
  return reply.type == Reply::Type::kError && reply.text.compare(0, 9, "WRONGTYPE") == 0;
}

}  // namespace

RedisStore::RedisStore(Options options, base::Executor* executor, const base::Clock* clock, base::Random* random)
    : options_(std::move(options)), executor_(executor), clock_(clock), random_(random), input_(kInputBytes, '\0') {
  if (options_.breaker.has_value()) breaker_.emplace(*options_.breaker, random_);
}

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

bool RedisStore::Reachable() const {
  return link_ == Link::kUp && (!breaker_.has_value() || breaker_->state(clock_->Steady()) != Breaker::State::kOpen);
}

void RedisStore::Read(std::string key, std::vector<std::string> fence_keys, ReadDone done) {
  auto reading = std::make_shared<Reading>();
  reading->done = std::move(done);
  absl::Status admitted;
  if (breaker_.has_value()) {
    reading->permit = breaker_->Admit(clock_->Steady(), base::DrawPpm("warm", key));
    if (!reading->permit.has_value()) {
      admitted = absl::UnavailableError(absl::StrCat("redis ", options_.address.text(), ": its breaker is open"));
    }
  }
  if (admitted.ok()) admitted = Admit();
  if (!admitted.ok()) return Fail(ValueStep{std::move(reading)}, std::move(admitted));
  AppendRead(key, fence_keys, std::move(reading));
}

void RedisStore::AppendRead(const std::string& key, const std::vector<std::string>& fence_keys,
                            std::shared_ptr<Reading> reading) {
  for (const std::string& fence_key : fence_keys) {
    AppendCommand(&output_, {"GET", fence_key});
    Enqueue(FenceStep{reading});
  }
  AppendCommand(&output_, {"GET", key});
  Enqueue(ValueStep{std::move(reading)});
}

void RedisStore::Report(const Breaker::Permit& permit, bool ok) {
  const absl::Duration now = clock_->Steady();
  ok ? breaker_->Succeeded(permit, now) : breaker_->Failed(permit, now);
  const bool broken = breaker_->state(now) != Breaker::State::kClosed;
  if (broken == stats_.broken.exchange(broken, std::memory_order_relaxed)) return;
  base::Log(base::Level::kWarning, "redis_breaker",
            {{"address", options_.address.text()}, {"state", BreakerStateName(breaker_->state(now))}});
}

void RedisStore::EnsureFences(std::vector<std::string> fence_keys, absl::Duration ttl,
                              absl::AnyInvocable<void(absl::StatusOr<Fences>)> done) {
  struct Ensuring {
    size_t left;
    absl::Status failed;
    Fences fences;
    absl::AnyInvocable<void(absl::StatusOr<Fences>)> done;
  };
  auto ensuring = std::make_shared<Ensuring>(Ensuring{fence_keys.size(), {}, {}, std::move(done)});
  for (const std::string& fence_key : fence_keys) {
    const std::string fresh = FenceHead(random_->Id(), mark_, absl::InfinitePast());
    Send({"EVAL", kEnsureFence, "1", fence_key, mark_, fresh, Milliseconds(ttl)},
         [this, ensuring](absl::StatusOr<Reply*> reply) {
           if (!reply.ok()) {
             ensuring->failed.Update(reply.status());
           } else if ((*reply)->type != Reply::Type::kText) {
             ensuring->failed.Update(Answered(**reply));
           } else {
             ensuring->fences.Add(ToFence((*reply)->text));
           }
           if (--ensuring->left > 0) return;
           if (!ensuring->failed.ok()) return ensuring->done(ensuring->failed);
           ensuring->done(std::move(ensuring->fences));
         });
  }
}

void RedisStore::ReplaceFence(std::string fence_key, std::string token, absl::Time at,
                              std::vector<uint64_t> transactions, absl::Duration ttl,
                              absl::AnyInvocable<void(absl::Status)> done) {
  std::string named;
  for (const uint64_t transaction : transactions) absl::StrAppend(&named, " ", transaction);
  Send({"EVAL", kReplaceFence, "1", fence_key, FenceHead(token, mark_, at), named, Milliseconds(ttl),
        absl::StrCat(kFenceTransactionsMax)},
       [this, done = std::move(done)](absl::StatusOr<Reply*> reply) mutable {
         if (!reply.ok()) return done(reply.status());
         done((*reply)->type == Reply::Type::kInteger ? absl::OkStatus() : Answered(**reply));
       });
}

void RedisStore::ReadFence(std::string fence_key, absl::AnyInvocable<void(absl::StatusOr<Fence>)> done) {
  Send({"GET", fence_key}, [this, done = std::move(done)](absl::StatusOr<Reply*> reply) mutable {
    if (!reply.ok()) return done(reply.status());
    if ((*reply)->type == Reply::Type::kNil) return done(Fence());
    if ((*reply)->type != Reply::Type::kText) return done(Answered(**reply));
    done(ToFence((*reply)->text));
  });
}

void RedisStore::AcquireLease(std::string key, std::string lease_id, absl::Duration ttl,
                              std::vector<std::string> fence_keys,
                              absl::AnyInvocable<void(absl::StatusOr<Lease>)> done) {
  // The answer to the first command waits for those of the read behind it.
  auto granted = std::make_shared<absl::StatusOr<bool>>(false);
  if (absl::Status admitted = Admit(); !admitted.ok()) {
    return Fail([done = std::move(done)](absl::StatusOr<Reply*> reply) mutable { done(reply.status()); }, admitted);
  }
  Send({"SET", LeaseKey(key), lease_id, "NX", "PX", Milliseconds(ttl)}, [this, granted](absl::StatusOr<Reply*> reply) {
    if (!reply.ok()) {
      *granted = reply.status();
    } else if ((*reply)->type == Reply::Type::kStatus || (*reply)->type == Reply::Type::kNil) {
      *granted = (*reply)->type == Reply::Type::kStatus;
    } else {
      *granted = Answered(**reply);
    }
  });
  auto reading = std::make_shared<Reading>();
  reading->done = [granted, done = std::move(done)](absl::StatusOr<Found> found) mutable {
    if (!granted->ok()) return done(granted->status());
    if (!found.ok()) return done(found.status());
    done(Lease{**granted, *std::move(found)});
  };
  AppendRead(key, fence_keys, std::move(reading));
}

void RedisStore::RenewLease(std::string key, std::string lease_id, absl::Duration ttl) {
  Send({"EVAL", kRenewLease, "1", LeaseKey(key), lease_id, Milliseconds(ttl)}, [](absl::StatusOr<Reply*>) {});
}

void RedisStore::ReleaseLease(std::string key, std::string lease_id) {
  Send({"EVAL", kReleaseLease, "1", LeaseKey(key), lease_id}, [](absl::StatusOr<Reply*>) {});
}

void RedisStore::Put(std::string key, std::string seen, Fill fill,
                     absl::AnyInvocable<void(absl::StatusOr<bool>)> done) {
  Send({"EVAL", kPut, "1", key, seen, ValueBytes(fill), Milliseconds(fill.ttl)},
       [this, done = std::move(done)](absl::StatusOr<Reply*> reply) mutable {
         if (!reply.ok()) return done(reply.status());
         if ((*reply)->type != Reply::Type::kInteger) return done(Answered(**reply));
         done((*reply)->integer == 1);
       });
}

void RedisStore::Discard(std::string key, std::string fill, absl::AnyInvocable<void(absl::Status)> done) {
  Send({"EVAL", kDiscard, "1", key, fill}, [this, done = std::move(done)](absl::StatusOr<Reply*> reply) mutable {
    if (!reply.ok()) return done(reply.status());
    done((*reply)->type == Reply::Type::kInteger ? absl::OkStatus() : Answered(**reply));
  });
}

Fence RedisStore::ToFence(absl::string_view bytes) const {
  constexpr size_t kHeadBytes = 1 + kTokenBytes + kMarkBytes + kTimeBytes;
  if (bytes.size() < kHeadBytes || bytes[0] != 'F' || bytes.substr(1 + kTokenBytes, kMarkBytes) != mark_) return {};
  Fence fence;
  fence.token = std::string(bytes.substr(1, kTokenBytes));
  uint64_t micros = 0;
  for (const char byte : bytes.substr(kHeadBytes - kTimeBytes, kTimeBytes)) {
    micros = micros << 8 | static_cast<unsigned char>(byte);
  }
  if (micros != 0) fence.invalidated_at = absl::FromUnixMicros(static_cast<int64_t>(micros));
  for (absl::string_view text : absl::StrSplit(bytes.substr(kHeadBytes), ' ', absl::SkipEmpty())) {
    uint64_t transaction = 0;
    // What cannot be read is no transaction that could ever be seen: nothing is cached behind this fence.
    if (!absl::SimpleAtoi(text, &transaction)) transaction = UINT64_MAX;
    fence.transactions.push_back(transaction);
  }
  return fence;
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
  executor_->Post([this, pending = std::move(pending), status = std::move(status)]() mutable {
    Complete(std::move(pending), std::move(status));
  });
}

void RedisStore::Complete(Pending pending, absl::StatusOr<Reply*> reply) {
  if (ReplyDone* done = std::get_if<ReplyDone>(&pending)) return (*done)(std::move(reply));
  if (FenceStep* step = std::get_if<FenceStep>(&pending)) {
    Reading& reading = *step->reading;
    if (!reply.ok()) {
      reading.failed.Update(reply.status());
    } else if ((*reply)->type == Reply::Type::kText) {
      reading.fences.Add(ToFence((*reply)->text));
    } else if ((*reply)->type == Reply::Type::kNil || IsWrongType(**reply)) {
      reading.fences.Add(Fence());
    } else {
      reading.failed.Update(Answered(**reply));
    }
    return;
  }
  Reading& reading = *std::get<ValueStep>(pending).reading;
  reading.failed.Update(reply.status());
  if (reading.permit.has_value()) Report(*reading.permit, reading.failed.ok());
  if (!reading.failed.ok()) return reading.done(std::move(reading.failed));
  Found found;
  found.fences = std::move(reading.fences);
  if ((*reply)->type == Reply::Type::kText) {
    found.slot = ToSlot(std::move((*reply)->text));
  } else if (IsWrongType(**reply)) {
    found.slot.kind = Slot::Kind::kForeign;
  } else if ((*reply)->type != Reply::Type::kNil) {
    return reading.done(Answered(**reply));
  }
  reading.done(std::move(found));
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
  const auto step = [&](std::initializer_list<absl::string_view> command) {
    AppendCommand(&output_, command);
    Enqueue([this, term](absl::StatusOr<Reply*> reply) {
      if (!reply.ok() || term != term_ || link_ != Link::kGreeting) return;
      if ((*reply)->type != Reply::Type::kStatus) return Drop(Answered(**reply).message());
    });
  };
  if (!options_.password.empty() && options_.user.empty()) step({"AUTH", options_.password});
  if (!options_.user.empty()) step({"AUTH", options_.user, options_.password});
  if (options_.database != 0) step({"SELECT", absl::StrCat(options_.database)});
  mark_.clear();
  AskMark([this] {
    link_ = Link::kUp;
    failures_ = 0;
    stats_.up.store(true, std::memory_order_relaxed);
    stats_.connections.fetch_add(1, std::memory_order_relaxed);
    base::Log(base::Level::kInfo, "redis_up", {{"address", options_.address.text()}});
    WatchMark();
  });
}

void RedisStore::AskMark(absl::AnyInvocable<void()> then) {
  auto process = std::make_shared<std::string>();
  AppendCommand(&output_, {"INFO", "server"});
  Enqueue([this, term = term_, process](absl::StatusOr<Reply*> reply) {
    if (!reply.ok() || term != term_) return;
    if ((*reply)->type != Reply::Type::kText) return Drop(Answered(**reply).message());
    *process = std::string(InfoField((*reply)->text, "run_id"));
    if (process->empty()) Drop("INFO does not say which Redis it is");
  });
  AppendCommand(&output_, {"INFO", "replication"});
  Enqueue([this, term = term_, process, then = std::move(then)](absl::StatusOr<Reply*> reply) mutable {
    if (!reply.ok() || term != term_) return;
    if ((*reply)->type != Reply::Type::kText) return Drop(Answered(**reply).message());
    if (InfoField((*reply)->text, "role") != "master") return Drop("it is not a master");
    const absl::string_view replication = InfoField((*reply)->text, "master_replid");
    if (replication.empty()) return Drop("INFO does not say which Redis it is");
    const std::string mark = base::Digest128(absl::StrCat(*process, replication)).substr(0, kMarkBytes);
    if (!mark_.empty() && mark_ != mark) return Drop("it began a new life as a master");
    mark_ = mark;
    then();
  });
}

void RedisStore::WatchMark() {
  executor_->PostAfter(options_.mark_interval, [this, term = term_] {
    if (term != term_ || link_ != Link::kUp) return;
    AskMark([this] { WatchMark(); });
  });
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
  Complete(std::move(pending), reply);
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
