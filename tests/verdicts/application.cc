#include "tests/verdicts/application.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "cache/redis/address.h"

namespace shadowline::verdicts {
namespace {

// How long the application keeps what it caches. It stands for twenty times as much (kRetryScale).
constexpr char kTtlMs[] = "4000";

}  // namespace

// ---- Wire ----

Wire::Wire(const std::string& unix_socket) {
  const cache::SocketAddress address =
      cache::RedisAddress::Parse(absl::StrCat("unix:", unix_socket)).value().Resolve().value();
  descriptor_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(descriptor_, reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0) {
    throw std::runtime_error("Redis cannot be reached");
  }
}

Wire::~Wire() { close(descriptor_); }

void Wire::Send(const std::vector<std::string>& command) {
  std::string out;
  cache::AppendCommand(&out, command);
  if (send(descriptor_, out.data(), out.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(out.size())) ended_ = true;
}

std::optional<cache::Reply> Wire::Next(bool wait) {
  while (!ended_) {
    if (cache::Reply* reply = reader_.Next().value()) return *reply;
    char bytes[16384];
    const ssize_t got = recv(descriptor_, bytes, sizeof(bytes), wait ? 0 : MSG_DONTWAIT);
    if (got < 0 && !wait && (errno == EAGAIN || errno == EWOULDBLOCK)) return std::nullopt;
    if (got <= 0) {
      ended_ = true;
      break;
    }
    reader_.Feed({bytes, static_cast<size_t>(got)});
  }
  return std::nullopt;
}

std::optional<cache::Reply> Wire::Receive() { return Next(true); }
std::optional<cache::Reply> Wire::Poll() { return Next(false); }

cache::Reply Wire::Ask(const std::vector<std::string>& command) {
  Send(command);
  std::optional<cache::Reply> reply = Receive();
  if (!reply.has_value()) throw std::runtime_error("Redis closed the connection of " + command[0]);
  return *std::move(reply);
}

// ---- Catalog ----

namespace {

std::string FamilyOf(const Endpoint& endpoint, absl::string_view name, absl::string_view policy,
                     absl::Duration freshness, const std::string& cached) {
  return absl::StrCat(
      "  ", name, ":\n    policy: ", policy, "\n    endpoints:\n      read:\n        sql: |\n          ", endpoint.sql,
      "\n        parameters: {id: {type: integer}", endpoint.who.empty() ? "" : ", who: {type: text}", "}\n",
      endpoint.identity ? "        identity: [who]\n" : "", endpoint.rows ? "        result: rows\n" : "",
      "        freshness: ", absl::FormatDuration(freshness), "\n", endpoint.declared, cached);
}

}  // namespace

std::string ExternalFamily(const Endpoint& endpoint, absl::string_view policy) {
  const std::string key = endpoint.key.empty()
                              ? absl::StrCat(endpoint.family, ":{tenant}:{id}", endpoint.who.empty() ? "" : ":{who}")
                              : endpoint.key;
  return FamilyOf(endpoint, endpoint.family, policy, endpoint.freshness,
                  absl::StrCat("        external: {key: \"", key, "\", not_found: \"null\"", endpoint.external, "}\n"));
}

std::string ManagedFamily(const Endpoint& endpoint, absl::string_view policy) {
  return FamilyOf(endpoint, endpoint.family + "m", policy, kManagedFreshness,
                  absl::StrCat("        ttl: 10m\n        negative_ttl: 10m\n        tags: [", endpoint.tags, "]\n",
                               endpoint.managed));
}

// ---- Application ----

Application::Application(World* world, const Endpoint& endpoint, Mode mode)
    : world_(world),
      endpoint_([&] {
        Endpoint own = endpoint;
        if (mode == Mode::kManaged) own.family += "m";
        return own;
      }()),
      mode_(mode),
      redis_(world->redis().socket()),
      database_(std::make_unique<pqxx::connection>(world->source())) {}

std::string Application::Key(const Question& question) const {
  const std::string form = endpoint_.key.empty()
                               ? absl::StrCat(endpoint_.family, ":{tenant}:{id}", question.who.empty() ? "" : ":{who}")
                               : endpoint_.key;
  return absl::StrReplaceAll(
      form, {{"{tenant}", question.tenant}, {"{id}", absl::StrCat(question.id)}, {"{who}", question.who}});
}

std::string Application::Fill(const std::string& sql, const Question& question) {
  return absl::StrReplaceAll(sql, {{":tenant", database_->quote(question.tenant)},
                                   {":id", absl::StrCat(question.id)},
                                   {":who", database_->quote(question.who)}});
}

std::optional<std::string> Application::Load(const Question& question, pqxx::connection* connection) {
  pqxx::work work(*connection);
  if (endpoint_.identity) {
    work.exec("SET LOCAL ROLE reader");
    work.exec_params("SELECT set_config('shadowline.who', $1, true)", question.who);
  }
  const std::string sql = Fill(endpoint_.sql, question);
  const pqxx::result result =
      work.exec(endpoint_.rows ? absl::StrCat("SELECT coalesce(json_agg(q), '[]')::text FROM (", sql, ") AS q")
                               : absl::StrCat("SELECT to_json(q)::text FROM (", sql, ") AS q"));
  if (result.empty()) return std::nullopt;
  return result[0][0].as<std::string>();
}

void Application::Execute(const std::string& sql, const Question& question) {
  pqxx::work work(*database_);
  work.exec(Fill(sql, question));
  work.commit();
  NoteChange(question);
}

std::optional<std::string> Application::Cached(const Question& question) {
  cache::Reply reply = redis_.Ask({"GET", Key(question)});
  if (reply.type != cache::Reply::Type::kText) return std::nullopt;
  return std::move(reply.text);
}

void Application::Store(const Question& question, const std::optional<std::string>& answer) {
  if (store_instead) return store_instead(question, answer);
  const std::string stored = !answer.has_value()         ? "null"
                             : endpoint_.form != nullptr ? endpoint_.form(*answer)
                                                         : *answer;
  redis_.Ask({"SET", Key(question), stored, "PX", kTtlMs});
}

void Application::Drop(const Question& question) { redis_.Ask({"DEL", Key(question)}); }

std::optional<std::string> Application::Get(const Question& question) {
  if (before_get) before_get(question);
  if (std::optional<std::string> cached = Cached(question)) return cached;
  Store(question, Load(question));
  return Cached(question);
}

void Application::Update(const Question& question) { Execute(endpoint_.update, question); }

void Application::Write(const Question& question, const std::function<void()>& between) {
  Update(question);
  if (managed()) return;
  if (between) between();
  if (after_write) return after_write(question);
  if (endpoint_.who.empty()) return Store(question, Load(question));
  for (const std::string& who : endpoint_.who) {
    const Question of_one{question.tenant, question.id, who};
    Store(of_one, Load(of_one));
  }
}

absl::Duration Application::ChangedAt(const Question& question) const {
  absl::Duration at = -absl::InfiniteDuration();
  if (auto row = changed_.find({question.tenant, question.id}); row != changed_.end()) at = row->second;
  if (auto bulk = bulk_changed_.find(question.tenant); bulk != bulk_changed_.end()) at = std::max(at, bulk->second);
  return at;
}

void Application::NoteChange(const Question& question) {
  changed_[{question.tenant, question.id}] = world_->clock().Steady();
}
void Application::NoteBulkChange(const std::string& tenant) { bulk_changed_[tenant] = world_->clock().Steady(); }

}  // namespace shadowline::verdicts
