#include "cache/redis/redis_store.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/hash.h"
#include "cache/redis/breaker.h"
#include "cache/redis/cluster.h"

namespace shadowline::cache {
namespace {

// The scripts are sent in full (EVAL) instead of by digest: only fills and invalidations use them, a digest would save
// Redis two of six microseconds, and there is no state to load again after a restart, a failover or SCRIPT FLUSH. They
// read with pcall and compare bytes, so a key of another type is simply not what they look for.

// A fence: 'F', token, mark, microseconds since 1970 (big-endian; 0: never invalidated). Transactions follow, each
// after a blank.
constexpr size_t kMarkBytes = 8;
constexpr size_t kTimeBytes = 8;
constexpr size_t kFenceHeadBytes = 1 + kTokenBytes + kMarkBytes + kTimeBytes;

// The fence that stands under this mark; where there is none, a new one. ARGV: mark, token, ttl. A life that is too
// short is made twice as long, so that it is rarely touched: client tracking takes that for a change.
constexpr absl::string_view kEnsureFence = R"(
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' and string.sub(held, 1, 1) == 'F' and string.sub(held, 18, 25) == ARGV[1] then
  if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], 2 * ARGV[3]) end
  return held
end
local fresh = 'F' .. ARGV[2] .. ARGV[1] .. string.rep('\0', 8)
redis.call('SET', KEYS[1], fresh, 'PX', ARGV[3])
return fresh)";

// The transactions that the old fence names are kept behind the new ones, also those of another mark. ARGV: mark,
// token, time, transactions, ttl, most transactions.
constexpr absl::string_view kReplaceFence = R"(
local held = redis.pcall('GET', KEYS[1])
local transactions = ARGV[4]
if type(held) == 'string' and #held >= 33 and string.sub(held, 1, 1) == 'F' then
  transactions = transactions .. string.sub(held, 34)
end
local kept = {}
for transaction in string.gmatch(transactions, ' %d+') do
  kept[#kept + 1] = transaction
  if #kept == tonumber(ARGV[6]) then break end
end
local ttl = math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[5]))
redis.call('SET', KEYS[1], 'F' .. ARGV[2] .. ARGV[1] .. ARGV[3] .. table.concat(kept), 'PX', ttl)
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

// PX wants at least one.
std::string Milliseconds(absl::Duration ttl) {
  return absl::StrCat(std::max<int64_t>(absl::ToInt64Milliseconds(ttl), 1));
}

// In the same slot as its key: what is between braces decides. A key's parts are escaped, so that no value's or fence's
// key holds a brace.
std::string LeaseKey(absl::string_view key) { return absl::StrCat("sl:lease:{", key, "}"); }

std::string TimeBytes(absl::Time time) {
  const uint64_t micros = absl::ToUnixMicros(time);
  std::string bytes;
  for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(micros >> shift));
  return bytes;
}

// The fence in `bytes`; absent where it bears another mark.
Fence ToFence(absl::string_view bytes, absl::string_view mark) {
  if (bytes.size() < kFenceHeadBytes || bytes[0] != 'F' || bytes.substr(1 + kTokenBytes, kMarkBytes) != mark) return {};
  Fence fence;
  fence.token = std::string(bytes.substr(1, kTokenBytes));
  uint64_t micros = 0;
  for (const char byte : bytes.substr(kFenceHeadBytes - kTimeBytes, kTimeBytes)) {
    micros = micros << 8 | static_cast<unsigned char>(byte);
  }
  if (micros != 0) fence.invalidated_at = absl::FromUnixMicros(static_cast<int64_t>(micros));
  for (absl::string_view text : absl::StrSplit(bytes.substr(kFenceHeadBytes), ' ', absl::SkipEmpty())) {
    uint64_t transaction = 0;
    // What cannot be read is no transaction that could ever be seen: nothing is cached behind this fence.
    if (!absl::SimpleAtoi(text, &transaction)) transaction = UINT64_MAX;
    fence.transactions.push_back(transaction);
  }
  return fence;
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

// Each command, or each step of a read, is sent again so often at most.
constexpr uint32_t kDetoursMax = 4;
absl::Status SentAround() { return absl::UnavailableError("redis: the nodes send a command from one to the other"); }
absl::Status Unowned() { return absl::UnavailableError("redis: no node is known that serves the key"); }

bool IsWrongType(const Reply& reply) {
  return reply.type == Reply::Type::kError && reply.text.compare(0, 9, "WRONGTYPE") == 0;
}

}  // namespace

// A read under way: a GET of each fence, and of the value, each at the node that owns its key.
class RedisStore::Reading final : public RedisConnection::Waiter, public std::enable_shared_from_this<Reading> {
 public:
  // `raw`: the value is an application's.
  Reading(RedisNodes* nodes, std::string key, std::vector<std::string> fence_keys, bool raw, ReadDone done)
      : nodes_(nodes), key_(std::move(key)), fence_keys_(std::move(fence_keys)), raw_(raw), done_(std::move(done)) {
    fences_.resize(fence_keys_.size());
  }

  // Steps: the fences, in the order of their tags, and then the value.
  uint32_t steps() const { return fence_keys_.size() + 1; }
  const std::string& KeyOf(uint32_t step) const { return step < fence_keys_.size() ? fence_keys_[step] : key_; }

  // Makes ready to send one more step to `node`, with leave of its breaker where `permit` says so.
  absl::Status Admit(RedisConnection* node, bool permit) {
    for (Part& part : parts_) {
      if (part.node != node) continue;
      ++part.left;
      return absl::OkStatus();
    }
    Part part{node};
    if (permit) {
      part.permit = node->AdmitRead(base::DrawPpm("warm", key_));
      if (!part.permit.has_value()) {
        return absl::UnavailableError(absl::StrCat("redis ", node->address(), ": its breaker is open"));
      }
    }
    if (absl::Status admitted = node->Admit(); !admitted.ok()) {
      if (part.permit.has_value()) node->Report(*part.permit, false);
      return admitted;
    }
    parts_.push_back(part);
    return absl::OkStatus();
  }

  void OnReply(uint32_t step, RedisConnection* from, absl::StatusOr<Reply*> reply) override {
    if (reply.ok() && (*reply)->type == Reply::Type::kError) {
      if (const auto detour = nodes_->Follow(**reply, *from)) {
        Settle(step, from, true);
        return TakeDetour(step & ~kAgain, *detour);
      }
    }
    const absl::Status taken =
        reply.ok() ? Take(step & ~kAgain, *from, *reply) : absl::Status(std::move(reply).status());
    Settle(step, from, taken.ok());
    if (!taken.ok()) return Fail(taken);
    if (++answered_ < steps() || done_ == nullptr) return;
    Found found{std::move(slot_), {}, reached_again_at_};
    for (const Fence& fence : fences_) found.fences.Add(fence);
    std::exchange(done_, nullptr)(std::move(found));
  }

  // The read has failed; what else is under way only matters to the breakers.
  void Fail(absl::Status status) {
    if (done_ != nullptr) std::exchange(done_, nullptr)(std::move(status));
  }

 private:
  // What one node was asked.
  struct Part {
    RedisConnection* node;
    std::optional<Breaker::Permit> permit;
    uint32_t left = 1;
    bool ok = true;
  };

  absl::Status Take(uint32_t step, const RedisConnection& from, Reply* reply) {
    if (!raw_) reached_again_at_ = std::max(reached_again_at_, from.reached_again_at());
    const bool text = reply->type == Reply::Type::kText;
    const bool wrong_type = IsWrongType(*reply);
    if (!text && !wrong_type && reply->type != Reply::Type::kNil) return Answered(from.address(), *reply);
    if (step < fence_keys_.size()) {
      if (text) fences_[step] = ToFence(reply->text, from.mark());
    } else if (text && raw_) {
      slot_.kind = Slot::Kind::kRaw;
      slot_.bytes = std::move(reply->text);
    } else if (text) {
      slot_ = ToSlot(std::move(reply->text));
    } else if (wrong_type) {
      slot_.kind = Slot::Kind::kForeign;
    }
    return absl::OkStatus();
  }

  void TakeDetour(uint32_t step, const RedisNodes::Detour& detour) {
    if (done_ == nullptr) return;
    if (++detours_ > kDetoursMax * steps()) return Fail(SentAround());
    const std::string command[] = {"GET", KeyOf(step)};
    detour.to->Send(command, detour.asking, shared_from_this(), step | kAgain);
  }

  // What was sent again is in no part: no breaker gave leave for it.
  void Settle(uint32_t step, RedisConnection* from, bool ok) {
    if ((step & kAgain) != 0) return;
    for (Part& part : parts_) {
      if (part.node != from) continue;
      part.ok = part.ok && ok;
      if (--part.left == 0 && part.permit.has_value()) from->Report(*part.permit, part.ok);
    }
  }

  static constexpr uint32_t kAgain = 1u << 31;  // In a step: sent again.

  RedisNodes* const nodes_;
  const std::string key_;
  const std::vector<std::string> fence_keys_;
  const bool raw_;
  ReadDone done_;
  absl::InlinedVector<Part, 1> parts_;
  absl::InlinedVector<Fence, 2> fences_;
  Slot slot_;
  absl::Time reached_again_at_ = absl::InfinitePast();
  uint32_t answered_ = 0;
  uint32_t detours_ = 0;
};

// Any other operation's command, kept until it is answered where its key is.
class RedisStore::Command final : public RedisConnection::Waiter, public std::enable_shared_from_this<Command> {
 public:
  Command(RedisNodes* nodes, std::vector<std::string> arguments, size_t mark, CommandDone done)
      : nodes_(nodes), arguments_(std::move(arguments)), mark_(mark), done_(std::move(done)) {}

  void Send(const RedisNodes::Detour& there) {
    if (mark_ != 0) arguments_[mark_] = there.to->mark();
    there.to->Send(arguments_, there.asking, shared_from_this());
  }

  void Refuse(absl::Status status) { done_(nullptr, std::move(status)); }

  void OnReply(uint32_t, RedisConnection* from, absl::StatusOr<Reply*> reply) override {
    if (reply.ok() && (*reply)->type == Reply::Type::kError) {
      if (const auto detour = nodes_->Follow(**reply, *from)) {
        return ++detours_ > kDetoursMax ? done_(from, SentAround()) : Send(*detour);
      }
    }
    done_(from, std::move(reply));
  }

 private:
  RedisNodes* const nodes_;
  std::vector<std::string> arguments_;
  const size_t mark_;
  CommandDone done_;
  uint32_t detours_ = 0;
};

RedisStore::RedisStore(Options options, base::Executor* executor, const base::Clock* clock, base::Random* random)
    : executor_(executor), random_(random), nodes_(MakeNodes(std::move(options), executor, clock, random, &stats_)) {}

std::unique_ptr<RedisNodes> RedisStore::MakeNodes(Options options, base::Executor* executor, const base::Clock* clock,
                                                  base::Random* random, RedisStats* stats) {
  if (!options.cluster.empty()) {
    return std::make_unique<ClusterNodes>(options, options.cluster, executor, clock, random, stats);
  }
  if (options.sentinel.has_value()) {
    return std::make_unique<SentinelNodes>(options, *options.sentinel, executor, clock, random, stats);
  }
  return std::make_unique<SingleNode>(options, options.address, executor, clock, random, stats);
}

RedisStore::~RedisStore() = default;

void RedisStore::Shutdown() { nodes_->Shutdown(); }

bool RedisStore::Reachable() const { return nodes_->Reachable(); }

void RedisStore::Read(std::string key, std::vector<std::string> fence_keys, ReadDone done) {
  StartRead(
      std::make_shared<Reading>(nodes_.get(), std::move(key), std::move(fence_keys), /*raw=*/false, std::move(done)),
      /*permit=*/true);
}

void RedisStore::ReadRaw(std::string key, ReadDone done) {
  StartRead(std::make_shared<Reading>(nodes_.get(), std::move(key), std::vector<std::string>(), /*raw=*/true,
                                      std::move(done)),
            /*permit=*/true);
}

void RedisStore::StartRead(const std::shared_ptr<Reading>& reading, bool permit) {
  for (uint32_t step = 0; step < reading->steps(); ++step) {
    const std::string& wanted = reading->KeyOf(step);
    RedisConnection* const node = nodes_->Owner(wanted);
    if (absl::Status admitted = node == nullptr ? Unowned() : reading->Admit(node, permit); !admitted.ok()) {
      stats_.failed.fetch_add(1, std::memory_order_relaxed);
      return executor_->Post([reading, admitted] { reading->Fail(admitted); });
    }
    node->Send({"GET", wanted}, reading, step);
  }
}

void RedisStore::Run(std::vector<std::string> arguments, size_t key, size_t mark, CommandDone done) {
  RedisConnection* const node = nodes_->Owner(arguments[key]);
  auto command = std::make_shared<Command>(nodes_.get(), std::move(arguments), mark, std::move(done));
  if (node != nullptr) return command->Send({node, /*asking=*/false});
  stats_.failed.fetch_add(1, std::memory_order_relaxed);
  executor_->Post([command] { command->Refuse(Unowned()); });
}

void RedisStore::EnsureFences(std::vector<std::string> fence_keys, absl::Duration ttl,
                              absl::AnyInvocable<void(absl::StatusOr<Fences>)> done) {
  struct Ensuring {
    size_t left;
    absl::Status failed;
    std::vector<Fence> fences;
    absl::AnyInvocable<void(absl::StatusOr<Fences>)> done;
  };
  auto ensuring = std::make_shared<Ensuring>();
  ensuring->left = fence_keys.size();
  ensuring->fences.resize(fence_keys.size());
  ensuring->done = std::move(done);
  for (size_t i = 0; i < fence_keys.size(); ++i) {
    Run({"EVAL", std::string(kEnsureFence), "1", std::move(fence_keys[i]), "", random_->Id(), Milliseconds(ttl)},
        /*key=*/3, /*mark=*/4, [i, ensuring](RedisConnection* from, absl::StatusOr<Reply*> reply) {
          if (!reply.ok()) {
            ensuring->failed.Update(reply.status());
          } else if ((*reply)->type != Reply::Type::kText) {
            ensuring->failed.Update(Answered(from->address(), **reply));
          } else {
            ensuring->fences[i] = ToFence((*reply)->text, from->mark());
          }
          if (--ensuring->left > 0) return;
          if (!ensuring->failed.ok()) return ensuring->done(ensuring->failed);
          Fences fences;
          for (const Fence& fence : ensuring->fences) fences.Add(fence);
          ensuring->done(std::move(fences));
        });
  }
}

void RedisStore::ReplaceFence(std::string fence_key, std::string token, absl::Time at,
                              std::vector<uint64_t> transactions, absl::Duration ttl,
                              absl::AnyInvocable<void(absl::Status)> done) {
  std::string named;
  for (const uint64_t transaction : transactions) absl::StrAppend(&named, " ", transaction);
  Run({"EVAL", std::string(kReplaceFence), "1", std::move(fence_key), "", std::move(token), TimeBytes(at),
       std::move(named), Milliseconds(ttl), absl::StrCat(kFenceTransactionsMax)},
      /*key=*/3, /*mark=*/4, [done = std::move(done)](RedisConnection* from, absl::StatusOr<Reply*> reply) mutable {
        if (!reply.ok()) return done(reply.status());
        if ((*reply)->type != Reply::Type::kInteger) return done(Answered(from->address(), **reply));
        if (!from->Vouched()) {
          return done(absl::UnavailableError(absl::StrCat(
              "redis ", from->address(), ": fenced, but whether others use this Redis is not certain; retry")));
        }
        done(absl::OkStatus());
      });
}

void RedisStore::ReadFence(std::string fence_key, absl::AnyInvocable<void(absl::StatusOr<Fence>)> done) {
  Run({"GET", std::move(fence_key)}, /*key=*/1, /*mark=*/0,
      [done = std::move(done)](RedisConnection* from, absl::StatusOr<Reply*> reply) mutable {
        if (!reply.ok()) return done(reply.status());
        if ((*reply)->type == Reply::Type::kNil) return done(Fence());
        if ((*reply)->type != Reply::Type::kText) return done(Answered(from->address(), **reply));
        done(ToFence((*reply)->text, from->mark()));
      });
}

void RedisStore::AcquireLease(std::string key, std::string lease_id, absl::Duration ttl,
                              std::vector<std::string> fence_keys,
                              absl::AnyInvocable<void(absl::StatusOr<Lease>)> done) {
  // The lease is asked for where the value is, and before it.
  struct Leasing {
    std::optional<absl::StatusOr<bool>> granted;
    std::optional<absl::StatusOr<Found>> found;
    absl::AnyInvocable<void(absl::StatusOr<Lease>)> done;

    void Finish() {
      if (!granted.has_value() || !found.has_value()) return;
      if (!granted->ok()) return done(granted->status());
      if (!found->ok()) return done(found->status());
      done(Lease{**granted, **std::move(found)});
    }
  };
  auto leasing = std::make_shared<Leasing>();
  leasing->done = std::move(done);
  Run({"SET", LeaseKey(key), std::move(lease_id), "NX", "PX", Milliseconds(ttl)}, /*key=*/1, /*mark=*/0,
      [leasing](RedisConnection* from, absl::StatusOr<Reply*> reply) {
        if (!reply.ok()) {
          leasing->granted = reply.status();
        } else if ((*reply)->type == Reply::Type::kStatus || (*reply)->type == Reply::Type::kNil) {
          leasing->granted = (*reply)->type == Reply::Type::kStatus;
        } else {
          leasing->granted = Answered(from->address(), **reply);
        }
        leasing->Finish();
      });
  const auto read = [leasing](absl::StatusOr<Found> found) {
    leasing->found = std::move(found);
    leasing->Finish();
  };
  StartRead(std::make_shared<Reading>(nodes_.get(), std::move(key), std::move(fence_keys), /*raw=*/false, read),
            /*permit=*/false);
}

void RedisStore::RenewLease(std::string key, std::string lease_id, absl::Duration ttl) {
  Run({"EVAL", std::string(kRenewLease), "1", LeaseKey(key), std::move(lease_id), Milliseconds(ttl)}, /*key=*/3,
      /*mark=*/0, [](RedisConnection*, absl::StatusOr<Reply*>) {});
}

void RedisStore::ReleaseLease(std::string key, std::string lease_id) {
  Run({"EVAL", std::string(kReleaseLease), "1", LeaseKey(key), std::move(lease_id)}, /*key=*/3, /*mark=*/0,
      [](RedisConnection*, absl::StatusOr<Reply*>) {});
}

void RedisStore::Put(std::string key, std::string seen, Fill fill,
                     absl::AnyInvocable<void(absl::StatusOr<bool>)> done) {
  Run({"EVAL", std::string(kPut), "1", std::move(key), std::move(seen), ValueBytes(fill), Milliseconds(fill.ttl)},
      /*key=*/3, /*mark=*/0, [done = std::move(done)](RedisConnection* from, absl::StatusOr<Reply*> reply) mutable {
        if (!reply.ok()) return done(reply.status());
        if ((*reply)->type != Reply::Type::kInteger) return done(Answered(from->address(), **reply));
        done((*reply)->integer == 1);
      });
}

void RedisStore::Discard(std::string key, std::string fill, absl::AnyInvocable<void(absl::Status)> done) {
  Run({"EVAL", std::string(kDiscard), "1", std::move(key), std::move(fill)}, /*key=*/3, /*mark=*/0,
      [done = std::move(done)](RedisConnection* from, absl::StatusOr<Reply*> reply) mutable {
        if (!reply.ok()) return done(reply.status());
        done((*reply)->type == Reply::Type::kInteger ? absl::OkStatus() : Answered(from->address(), **reply));
      });
}

}  // namespace shadowline::cache
