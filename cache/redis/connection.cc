#include "cache/redis/connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
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
constexpr size_t kMarkBytes = 8;
// How often it is asked whether the fleet uses a life by now.
constexpr absl::Duration kAwaitUse = absl::Milliseconds(50);

// One executor writes a counter, so it needs no atomic addition.
template <typename Number>
void Add(std::atomic<Number>* counter, int64_t amount = 1) {
  counter->store(counter->load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
}

// The waiter for one command alone.
class Callback final : public RedisConnection::Waiter {
 public:
  explicit Callback(RedisConnection::ReplyDone done) : done_(std::move(done)) {}
  void OnReply(uint32_t, RedisConnection*, absl::StatusOr<Reply*> reply) override { done_(std::move(reply)); }

 private:
  RedisConnection::ReplyDone done_;
};

// For a reply that nobody needs.
class Nobody final : public RedisConnection::Waiter {
 public:
  void OnReply(uint32_t, RedisConnection*, absl::StatusOr<Reply*>) override {}
};

}  // namespace

absl::string_view InfoField(absl::string_view info, absl::string_view name) {
  for (absl::string_view line : absl::StrSplit(info, "\r\n")) {
    if (absl::ConsumePrefix(&line, name) && absl::ConsumePrefix(&line, ":")) return line;
  }
  return "";
}

absl::Status Answered(absl::string_view address, const Reply& reply) {
  if (reply.type != Reply::Type::kError) {
    return absl::InternalError(absl::StrCat("redis ", address, ": a reply of another type"));
  }
  const std::string message = absl::StrCat("redis ", address, ": ", absl::string_view(reply.text).substr(0, 120));
  for (const char* passing : {"LOADING", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "TRYAGAIN"}) {
    if (absl::StartsWith(reply.text, passing)) return absl::UnavailableError(message);
  }
  return absl::InternalError(message);
}

RedisConnection::RedisConnection(Options options, std::vector<RedisAddress> addresses, base::Executor* executor,
                                 const base::Clock* clock, base::Random* random, RedisStats* stats)
    : options_(std::move(options)),
      addresses_(std::move(addresses)),
      executor_(executor),
      clock_(clock),
      random_(random),
      stats_(stats),
      input_(kInputBytes, '\0') {
  if (options_.breaker.has_value()) breaker_.emplace(*options_.breaker, random_);
  if (!addresses_.empty()) target_ = addresses_.front();
}

RedisConnection::~RedisConnection() {
  if (broken_) Add(&stats_->broken, -1);
  if (descriptor_ >= 0) close(descriptor_);
  if (resolver_.joinable()) resolver_.join();
}

void RedisConnection::Shutdown() {
  if (link_ == Link::kShut) return;
  Close("shut down");
  link_ = Link::kShut;
}

// Commands.

absl::Status RedisConnection::Admit() const {
  if (link_ != Link::kUp) return absl::UnavailableError(absl::StrCat("redis ", target_.text(), ": not connected"));
  if (!Used()) {
    return absl::UnavailableError(absl::StrCat("redis ", target_.text(), ": another one has taken its place"));
  }
  if (pending_.size() >= options_.outstanding_max ||
      output_.size() + sealed_.size() - written_ >= options_.output_max_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("redis ", target_.text(), ": too many outstanding commands"));
  }
  return absl::OkStatus();
}

void RedisConnection::Send(std::initializer_list<absl::string_view> command, std::shared_ptr<Waiter> waiter,
                           uint32_t step) {
  if (absl::Status admitted = Admit(); !admitted.ok()) return Fail(std::move(waiter), step, std::move(admitted));
  AppendCommand(&output_, command);
  Enqueue(std::move(waiter), step);
}

void RedisConnection::Send(absl::Span<const std::string> command, bool asking, std::shared_ptr<Waiter> waiter,
                           uint32_t step) {
  if (absl::Status admitted = Admit(); !admitted.ok()) return Fail(std::move(waiter), step, std::move(admitted));
  if (asking) {
    AppendCommand(&output_, {"ASKING"});
    Enqueue(std::make_shared<Nobody>(), 0);
  }
  AppendCommand(&output_, command);
  Enqueue(std::move(waiter), step);
}

void RedisConnection::Send(std::initializer_list<absl::string_view> command, ReplyDone done) {
  Send(command, std::make_shared<Callback>(std::move(done)));
}

void RedisConnection::Introduce(std::initializer_list<absl::string_view> command, ReplyDone done) {
  AppendCommand(&output_, command);
  ReplyDone answered = [this, term = term_, done = std::move(done)](absl::StatusOr<Reply*> reply) mutable {
    if (reply.ok() && term == term_ && (*reply)->type == Reply::Type::kError) {
      return Drop(Answered(target_.text(), **reply).message());
    }
    done(std::move(reply));
  };
  Enqueue(std::make_shared<Callback>(std::move(answered)), 0);
}

void RedisConnection::Enqueue(std::shared_ptr<Waiter> waiter, uint32_t step) {
  pending_.push_back(Pending{std::move(waiter), step});
  ++sent_;
  Add(&stats_->commands);
  Add(&stats_->outstanding);
}

void RedisConnection::Fail(std::shared_ptr<Waiter> waiter, uint32_t step, absl::Status status) {
  Add(&stats_->failed);
  executor_->Post([this, waiter = std::move(waiter), step, status = std::move(status)]() mutable {
    waiter->OnReply(step, this, std::move(status));
  });
}

bool RedisConnection::Reachable() const {
  return link_ == Link::kUp && Used() &&
         (!breaker_.has_value() || breaker_->state(clock_->Steady()) != Breaker::State::kOpen);
}

std::optional<Breaker::Permit> RedisConnection::AdmitRead(uint32_t draw_ppm) {
  if (!breaker_.has_value()) return Breaker::Permit();
  return breaker_->Admit(clock_->Steady(), draw_ppm);
}

void RedisConnection::Report(const Breaker::Permit& permit, bool ok) {
  if (!breaker_.has_value()) return;
  const absl::Duration now = clock_->Steady();
  ok ? breaker_->Succeeded(permit, now) : breaker_->Failed(permit, now);
  const bool broken = breaker_->state(now) != Breaker::State::kClosed;
  if (broken == std::exchange(broken_, broken)) return;
  Add(&stats_->broken, broken ? 1 : -1);
  base::Log(base::Level::kWarning, "redis_breaker",
            {{"address", target_.text()}, {"state", BreakerStateName(breaker_->state(now))}});
}

// The connection.

void RedisConnection::Later(absl::Duration delay, absl::AnyInvocable<void()> task) {
  executor_->PostAfter(delay, [alive = std::weak_ptr<bool>(alive_), task = std::move(task)]() mutable {
    if (!alive.expired()) task();
  });
}

void RedisConnection::Flush() {
  if (link_ == Link::kIdle && !addresses_.empty()) Connect();
  if (link_ == Link::kUp && sent_ > (batches_.empty() ? answered_ : batches_.back().last)) {
    batches_.push_back(Batch{sent_, clock_->Steady() + options_.command_timeout});
    if (!watching_) WatchDeadlines(options_.command_timeout);
  }
  if (link_ == Link::kUp || link_ == Link::kGreeting) Write();
}

short RedisConnection::Events() const {  // NOLINT: poll(2)'s own type
  if (link_ == Link::kConnecting) return POLLOUT;
  if (link_ != Link::kUp && link_ != Link::kGreeting) return 0;
  return written_ < Wire().size() ? POLLIN | POLLOUT : POLLIN;
}

void RedisConnection::OnReady(short events) {  // NOLINT: poll(2)'s own type
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

void RedisConnection::Connect() {
  link_ = Link::kConnecting;
  ++term_;
  Add(&stats_->attempts);
  LimitGreeting();
  if (resolved_.has_value()) return Open(*std::exchange(resolved_, std::nullopt));
  // A name can take many seconds, and this executor has none to spare. It may be longer than this attempt: then the
  // next takes what was found.
  if (resolving_) return;
  target_ = addresses_[turn_ % addresses_.size()];
  const uint32_t attempt = turn_++ / addresses_.size();
  if (!target_.named()) return Open(target_.Resolve());
  resolving_ = true;
  if (resolver_.joinable()) resolver_.join();
  resolver_ =
      base::StartThread("redis-resolve", [this, alive = std::weak_ptr<bool>(alive_), address = target_, attempt] {
        executor_->Post([this, alive, text = address.text(), found = address.Resolve(attempt)] {
          if (alive.expired()) return;
          resolving_ = false;
          const bool wanted = text == target_.text();
          if (link_ == Link::kConnecting && descriptor_ < 0) return wanted ? Open(found) : Connect();
          if (wanted && found.ok()) resolved_ = *found;
        });
      });
}

void RedisConnection::LimitGreeting() {
  awaiting_use_ = false;
  Later(options_.connect_timeout, [this, term = term_, greeting = ++greetings_] {
    if (term != term_ || greeting != greetings_ || awaiting_use_) return;
    if (link_ == Link::kConnecting || link_ == Link::kGreeting) Drop("it does not answer");
  });
}

void RedisConnection::Open(const absl::StatusOr<SocketAddress>& address) {
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

void RedisConnection::Greet() {
  link_ = Link::kGreeting;
  reader_ = std::make_unique<ReplyReader>(options_.reply_max_bytes);
  if (options_.tls != nullptr) tls_ = std::make_unique<TlsSession>(options_.tls, target_.host());
  const auto nothing = [](absl::StatusOr<Reply*>) {};
  if (!options_.password.empty() && options_.user.empty()) Introduce({"AUTH", options_.password}, nothing);
  if (!options_.user.empty()) Introduce({"AUTH", options_.user, options_.password}, nothing);
  if (options_.database != 0) Introduce({"SELECT", absl::StrCat(options_.database)}, nothing);
  life_.clear();
  mark_.clear();
  if (options_.greet) options_.greet(this);
  Watch([this] {
    link_ = Link::kUp;
    failures_ = 0;
    if (lost_at_.has_value() && clock_->Steady() - *lost_at_ > options_.out_of_reach) reached_again_at_ = clock_->Now();
    Add(&stats_->connections);
    base::Log(base::Level::kInfo, "redis_up", {{"address", target_.text()}});
    WatchLater();
    if (hooks_.changed) hooks_.changed(true);
  });
}

void RedisConnection::Watch(absl::AnyInvocable<void()> then) {
  if (options_.master) return AskMark(std::move(then));
  Introduce({"PING"}, [this, term = term_, then = std::move(then)](absl::StatusOr<Reply*> reply) mutable {
    if (reply.ok() && term == term_) then();
  });
}

void RedisConnection::AskMark(absl::AnyInvocable<void()> then) {
  struct Told {
    std::string process;
    std::string epoch;
  };
  auto told = std::make_shared<Told>();
  const auto ask = [&](std::initializer_list<absl::string_view> command, const char* field, std::string Told::*into) {
    Introduce(command, [this, term = term_, told, field, into](absl::StatusOr<Reply*> reply) {
      if (!reply.ok() || term != term_) return;
      (*told).*into = std::string(InfoField((*reply)->text, field));
      if (((*told).*into).empty()) Drop(absl::StrCat("it does not say its ", field));
    });
  };
  ask({"INFO", "server"}, "run_id", &Told::process);
  if (options_.cluster) ask({"CLUSTER", "INFO"}, "cluster_my_epoch", &Told::epoch);
  Introduce({"INFO", "replication"},
            [this, term = term_, told, then = std::move(then)](absl::StatusOr<Reply*> reply) mutable {
              if (!reply.ok() || term != term_) return;
              if (InfoField((*reply)->text, "role") != "master") return Drop("it is not a master");
              const absl::string_view replication = InfoField((*reply)->text, "master_replid");
              if (replication.empty()) return Drop("it does not say its master_replid");
              const std::string life = base::Digest128(absl::StrCat(told->process, replication)).substr(0, kMarkBytes);
              if (!life_.empty() && life_ != life) return Drop("it began a new life as a master");
              if (life_.empty()) used_version_ = 0;
              life_ = life;
              mark_ = options_.cluster ? base::Digest128(absl::StrCat(life, told->epoch)).substr(0, kMarkBytes) : life;
              absl::string_view replaces = InfoField((*reply)->text, "master_replid2");
              if (replaces.find_first_not_of('0') == absl::string_view::npos) replaces = "";
              AwaitUse({life, std::string(replication), std::string(replaces), target_.text()}, std::move(then));
            });
}

void RedisConnection::AwaitUse(RedisLife life, absl::AnyInvocable<void()> then) {
  if (options_.lives == nullptr) return then();
  const uint64_t version = options_.lives->version();
  used_ = options_.lives->Usable(life_);
  used_version_ = version;
  if (used_) return then();
  if (link_ == Link::kUp) return Drop("another one has taken its place");
  options_.lives->Found(life);
  awaiting_use_ = true;
  Later(kAwaitUse, [this, term = term_, then = std::move(then)]() mutable {
    if (term != term_ || link_ != Link::kGreeting) return;
    LimitGreeting();
    AskMark(std::move(then));
  });
}

bool RedisConnection::Used() const {
  if (options_.lives == nullptr || !options_.master) return true;
  if (const uint64_t version = options_.lives->version(); version != used_version_) {
    used_ = options_.lives->Usable(life_);
    used_version_ = version;
  }
  return used_;
}

bool RedisConnection::Vouched() const { return options_.lives == nullptr || (options_.lives->Certain() && Used()); }

void RedisConnection::WatchLater() {
  Later(options_.mark_interval, [this, term = term_] {
    if (term != term_ || link_ != Link::kUp) return;
    Watch([this] { WatchLater(); });
  });
}

void RedisConnection::SetAddresses(std::vector<RedisAddress> addresses) {
  if (link_ == Link::kShut) return;
  addresses_ = std::move(addresses);
  const bool same = std::any_of(addresses_.begin(), addresses_.end(),
                                [this](const RedisAddress& address) { return address.text() == target_.text(); });
  if (same) return;
  if (link_ != Link::kWaiting && link_ != Link::kIdle) {
    base::Log(base::Level::kInfo, "redis_left", {{"address", target_.text()}});
    Close("it is not to be used any more");
    link_ = Link::kIdle;
  }
  if (addresses_.empty()) return;  // Should it be the same one again, it is tried when it is due.
  target_ = addresses_.front();
  resolved_.reset();
  turn_ = failures_ = 0;
  link_ = Link::kIdle;
}

void RedisConnection::Drop(absl::string_view cause) {
  if (link_ == Link::kShut) return;
  if (failures_++ == 0) base::Log(base::Level::kWarning, "redis_down", {{"address", target_.text()}, {"cause", cause}});
  Close(cause);
  link_ = Link::kWaiting;
  absl::Duration delay = options_.reconnect_min * (uint64_t{1} << std::min<uint32_t>(failures_ - 1, 20));
  delay = std::min(delay, options_.reconnect_max) * (0.5 + random_->Unit() / 2);
  Later(delay, [this, term = term_] {
    if (term != term_ || link_ != Link::kWaiting) return;
    link_ = Link::kIdle;
    if (!addresses_.empty()) Connect();
  });
  if (hooks_.changed) hooks_.changed(false);
}

void RedisConnection::Close(absl::string_view cause) {
  if (descriptor_ >= 0) close(std::exchange(descriptor_, -1));
  if (link_ == Link::kUp) lost_at_ = clock_->Steady();
  ++term_;
  tls_.reset();
  output_.clear();
  sealed_.clear();
  written_ = 0;
  // A batch that is over its time says so; the rest only lost its connection.
  const absl::Duration now = clock_->Steady();
  uint64_t late = answered_;
  for (const Batch& batch : batches_) {
    if (batch.due <= now) late = batch.last;
  }
  std::deque<Pending> pending = std::exchange(pending_, {});
  Add(&stats_->outstanding, -static_cast<int64_t>(pending.size()));
  for (Pending& command : pending) {
    Fail(std::move(command.waiter), command.step,
         ++answered_ <= late ? absl::DeadlineExceededError(absl::StrCat("redis ", target_.text(), ": no reply in ",
                                                                        absl::FormatDuration(options_.command_timeout)))
                             : absl::UnavailableError(absl::StrCat("redis ", target_.text(), ": ", cause)));
  }
  batches_.clear();
  sent_ = answered_ = 0;
}

void RedisConnection::Write() {
  const absl::Status sealed = tls_ != nullptr ? tls_->Seal(&output_, &sealed_) : absl::OkStatus();
  std::string& wire = Wire();
  while (written_ < wire.size()) {
    const ssize_t sent = send(descriptor_, wire.data() + written_, wire.size() - written_, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) break;
      return Drop(std::strerror(errno));
    }
    written_ += sent;
  }
  if (!sealed.ok()) return Drop(sealed.message());
  if (written_ < wire.size()) {
    // Keeps a slow reader's backlog from being carried along for ever.
    if (written_ >= wire.size() / 2) {
      wire.erase(0, written_);
      written_ = 0;
    }
    return;
  }
  wire.clear();
  if (wire.capacity() > (1 << 20)) wire.shrink_to_fit();
  written_ = 0;
}

void RedisConnection::Read() {
  const uint64_t term = term_;
  while (true) {
    const ssize_t got = recv(descriptor_, input_.data(), input_.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (got <= 0) return Drop(got == 0 ? "the connection was closed" : std::strerror(errno));
    const absl::string_view received(input_.data(), got);
    if (tls_ == nullptr) {
      if (!Feed(received)) return;
    } else {
      plain_.clear();
      const absl::Status opened = tls_->Open(received, &plain_);
      if (!Feed(plain_)) return;
      Write();  // The handshake has its turns too, and an alert says what it failed for.
      if (term != term_) return;
      if (!opened.ok()) return Drop(opened.message());
    }
    if (static_cast<size_t>(got) < input_.size()) return;
  }
}

bool RedisConnection::Feed(absl::string_view bytes) {
  // A waiter may shut this connection down, or a reply be reason to give it up: then the term has changed.
  const uint64_t term = term_;
  for (size_t begin = 0; begin < bytes.size(); begin += kFeedBytes) {
    reader_->Feed(bytes.substr(begin, kFeedBytes));
    while (true) {
      absl::StatusOr<Reply*> reply = reader_->Next();
      if (!reply.ok()) {
        Drop(reply.status().message());
        return false;
      }
      if (*reply == nullptr) break;
      Dispatch(*reply);
      if (term != term_) return false;
    }
  }
  return true;
}

void RedisConnection::Dispatch(Reply* reply) {
  if (hooks_.message && reply->type == Reply::Type::kArray && !reply->elements.empty() &&
      reply->elements[0].text == "message") {
    return hooks_.message(*reply);
  }
  if (pending_.empty()) return Drop("a reply to nothing");
  const Pending pending = std::move(pending_.front());
  pending_.pop_front();
  ++answered_;
  while (!batches_.empty() && batches_.front().last <= answered_) batches_.pop_front();
  Add(&stats_->outstanding, -1);
  pending.waiter->OnReply(pending.step, this, reply);
}

void RedisConnection::WatchDeadlines(absl::Duration delay) {
  watching_ = true;
  Later(delay, [this] {
    watching_ = false;
    CheckDeadlines();
  });
}

void RedisConnection::CheckDeadlines() {
  if (link_ != Link::kUp || batches_.empty()) return;
  const absl::Duration now = clock_->Steady();
  // Should it be this loop that was late, the replies are here already.
  if (batches_.front().due <= now) Read();
  if (link_ != Link::kUp || batches_.empty()) return;
  if (batches_.front().due > now) {
    if (!watching_) WatchDeadlines(batches_.front().due - now);
    return;
  }
  Add(&stats_->timeouts);
  Drop(absl::StrCat("no reply in ", absl::FormatDuration(options_.command_timeout)));
}

}  // namespace shadowline::cache
