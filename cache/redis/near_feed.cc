#include "cache/redis/near_feed.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"

namespace shadowline::cache {
namespace {

constexpr char kChannel[] = "__redis__:invalidate";

// Asks which process answers on a new connection.
void AskProcess(RedisConnection* connection, std::string* process) {
  process->clear();
  connection->Introduce({"INFO", "server"}, [process](absl::StatusOr<Reply*> reply) {
    if (!reply.ok()) return;
    const absl::string_view info = (*reply)->text;
    const size_t at = info.find("run_id:");
    if (at != absl::string_view::npos) *process = std::string(info.substr(at, info.find("\r\n", at) - at));
  });
}

}  // namespace

RedisNearFeed::RedisNearFeed(Options options, base::Executor* executor, const base::Clock* clock, base::Random* random,
                             NearCache* near)
    : options_(std::move(options)),
      executor_(executor),
      clock_(clock),
      near_(near),
      reads_(
          [this] {
            RedisStore::Options reads = options_.redis;
            // A new connection: what the one before it had read is forgotten.
            reads.greet = [this](RedisConnection* connection) {
              reading_ = connection;
              End();
              AskProcess(connection, &reads_process_);
            };
            return reads;
          }(),
          executor, clock, random),
      messages_(
          [this] {
            RedisConnection::Options messages = options_.redis;
            messages.master = false;
            messages.lives = nullptr;
            messages.breaker.reset();
            messages.greet = [this](RedisConnection* connection) {
              AskProcess(connection, &messages_process_);
              connection->Introduce({"CLIENT", "ID"}, [this](absl::StatusOr<Reply*> reply) {
                if (reply.ok()) messages_id_ = absl::StrCat((*reply)->integer);
              });
              connection->Introduce({"SUBSCRIBE", kChannel}, [](absl::StatusOr<Reply*>) {});
            };
            return messages;
          }(),
          {options_.redis.address}, executor, clock, random, &messages_stats_) {
  messages_.hooks()->message = [this](const Reply& message) { Heard(message); };
  messages_.hooks()->changed = [this](bool) { End(); };
}

void RedisNearFeed::Start(base::Loop* loop) {
  if (std::exchange(started_, true)) return;
  loop->Attach(&reads_);
  loop->Attach(&messages_);
  Tick();
}

void RedisNearFeed::Shutdown() {
  shut_ = true;
  End();
  reads_.Shutdown();
  messages_.Shutdown();
}

void RedisNearFeed::Tick() {
  if (shut_) return;
  const absl::Duration now = clock_->Steady();
  const bool up = reading_ != nullptr && reading_->up() && messages_.up();
  const bool in_use = InUse(now);
  if (!up) {
    if (asked_) End();
  } else if (!asked_) {
    if (now >= retry_at_) Track();
  } else if (tracked_ && in_use && !pinging_) {
    Ping();
  }
  executor_->PostAfter(in_use ? options_.ping_interval : options_.idle_interval, [this] { Tick(); });
}

void RedisNearFeed::Track() {
  // Behind one name there may be two, and the number of a client means something on its own alone.
  if (reads_process_ != messages_process_) return messages_.Drop("it leads to another Redis than the reads");
  asked_ = true;
  reading_->Send({"CLIENT", "TRACKING", "ON", "REDIRECT", messages_id_},
                 [this, term = term_](absl::StatusOr<Reply*> reply) {
                   if (term != term_) return;
                   if (reply.ok() && (*reply)->type == Reply::Type::kStatus) {
                     tracked_ = true;
                     refused_ = false;
                     near_->TrackingBegan();
                     return Ping();
                   }
                   End();
                   if (!reply.ok()) return;
                   retry_at_ = clock_->Steady() + options_.retry;
                   if (std::exchange(refused_, true)) return;
                   base::Log(base::Level::kWarning, "near_cache_off",
                             {{"error", Answered(reading_->address(), **reply).message()},
                              {"effect", "endpoints that are declared near are read from Redis"},
                              {"remedy", "let the Redis user use CLIENT TRACKING; Redis 6 or later"}});
                 });
}

void RedisNearFeed::Ping() {
  struct Proof {
    absl::Duration sent_at;
    int left;
    bool answered;
  };
  pinging_ = true;
  auto proof = std::make_shared<Proof>(Proof{clock_->Steady(), 2, true});
  for (RedisConnection* connection : {reading_, &messages_}) {
    connection->Send({"PING"}, [this, term = term_, proof](absl::StatusOr<Reply*> reply) {
      if (term != term_) return;
      proof->answered = proof->answered && reply.ok() && (*reply)->type != Reply::Type::kError;
      if (--proof->left > 0) return;
      pinging_ = false;
      if (proof->answered) near_->Renew(proof->sent_at);
    });
  }
}

void RedisNearFeed::End() {
  ++term_;
  asked_ = pinging_ = false;
  if (std::exchange(tracked_, false)) near_->TrackingEnded();
}

void RedisNearFeed::Heard(const Reply& message) {
  if (message.elements.size() != 3 || message.elements[1].text != kChannel) return;
  const Reply& keys = message.elements[2];
  if (keys.type != Reply::Type::kArray) return near_->DropAll();
  for (const Reply& key : keys.elements) near_->Invalidated(key.text);
}

bool RedisNearFeed::InUse(absl::Duration now) {
  const NearCache::Stats& stats = near_->stats();
  const uint64_t asks = stats.hits.load() + stats.misses.load() + stats.lapsed.load();
  if (asks != std::exchange(asks_, asks)) in_use_until_ = now + options_.idle_after;
  return now < in_use_until_;
}

}  // namespace shadowline::cache
