// Application is a small application that caches for itself, carefully: it reads the cache first, fills it on a miss,
// and writes through it after each commit. It does one thing at a time, so that nothing of it races. Carelessness is
// what the bugs add (bugs.h).
//
// With Mode::kManaged it caches nothing: it writes the database, tells nobody, and its reads are Shadowline's.
//
// Threads: compatible.
#ifndef SHADOWLINE_TESTS_VERDICTS_APPLICATION_H_
#define SHADOWLINE_TESTS_VERDICTS_APPLICATION_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "cache/redis/reply.h"
#include "tests/verdicts/world.h"

namespace shadowline::verdicts {

// One connection to Redis, whose commands and replies are two steps: what was asked and not waited for is still to
// come.
class Wire {
 public:
  explicit Wire(const std::string& unix_socket);
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;
  ~Wire();

  void Send(const std::vector<std::string>& command);
  // The next reply; nullopt: the connection has ended.
  std::optional<cache::Reply> Receive();
  // The same, if it is here already.
  std::optional<cache::Reply> Poll();
  cache::Reply Ask(const std::vector<std::string>& command);
  bool ended() const { return ended_; }

 private:
  std::optional<cache::Reply> Next(bool wait);

  int descriptor_ = -1;
  bool ended_ = false;
  cache::ReplyReader reader_{64 << 20};
};

// Of the managed endpoints, and where nothing may be wrong for longer: more than a busy machine stands still.
inline constexpr absl::Duration kManagedFreshness = absl::Seconds(1);

// What an application reads, and how it caches it.
struct Endpoint {
  std::string family;  // The endpoint is `family/read`.
  // `:tenant`, `:id` and `:who` are what they are in the catalog.
  std::string sql = "SELECT tenant, id, version, name FROM item WHERE tenant = :tenant AND id = :id";
  bool rows = false;
  std::vector<std::string> who;  // The values of the parameter `who`; empty: there is none.
  bool identity = false;         // It is an identity: row-level security sees it.
  std::string key;               // Empty: "<family>:{tenant}:{id}", and ":{who}" where there is one.
  std::string update = "UPDATE item SET version = version + 1 WHERE tenant = :tenant AND id = :id";
  std::string declared;  // Further fields of the catalog, whoever caches.
  std::string external;  // Further fields of its section `external`.
  std::string managed;   // Further fields of a managed endpoint.
  std::string tags = "\"item:{id}\"";
  absl::Duration freshness = absl::Milliseconds(300);
  // What the application makes of an answer before it stores it.
  std::function<std::string(std::string)> form;
};

// Its section of the catalog's families.
std::string ExternalFamily(const Endpoint& endpoint, absl::string_view policy);
std::string ManagedFamily(const Endpoint& endpoint, absl::string_view policy);

class Application {
 public:
  enum class Mode { kExternal, kManaged };

  Application(World* world, const Endpoint& endpoint, Mode mode);

  World& world() { return *world_; }
  const Endpoint& endpoint() const { return endpoint_; }
  bool managed() const { return mode_ == Mode::kManaged; }
  Wire& redis() { return redis_; }
  pqxx::connection& database() { return *database_; }
  std::string ReadName() const { return endpoint_.family + "/read"; }
  std::string Key(const Question& question) const;

  // What the database says, to whoever asks; nullopt: there is no such row.
  std::optional<std::string> Load(const Question& question) { return Load(question, database_.get()); }
  std::optional<std::string> Load(const Question& question, pqxx::connection* connection);
  // One statement in a transaction of its own; `:tenant`, `:id` and `:who` are filled in.
  void Execute(const std::string& sql, const Question& question);
  std::string Fill(const std::string& sql, const Question& question);

  // ---- Its cache ----
  // As it is stored; nullopt: a miss.
  std::optional<std::string> Cached(const Question& question);
  void Store(const Question& question, const std::optional<std::string>& answer);
  void Drop(const Question& question);
  // The application's own read: from the cache, filled on a miss.
  std::optional<std::string> Get(const Question& question);
  // Commits a change of the row, and stores what it is then, for all who read it. `between` comes before the latter.
  void Write(const Question& question, const std::function<void()>& between = nullptr);
  // The same, and the cache is forgotten.
  void Update(const Question& question);

  // When the row was changed last, as this application knows; a bulk change is of all rows of its tenant.
  absl::Duration ChangedAt(const Question& question) const;
  void NoteChange(const Question& question);
  void NoteBulkChange(const std::string& tenant);

  // A bug's own ways, in place of what the application would do.
  std::function<void(const Question&, const std::optional<std::string>&)> store_instead;
  std::function<void(const Question&)> before_get;
  std::function<void(const Question&)> after_write;

 private:
  World* const world_;
  const Endpoint endpoint_;
  const Mode mode_;
  Wire redis_;
  std::unique_ptr<pqxx::connection> database_;
  std::map<std::pair<std::string, int64_t>, absl::Duration> changed_;
  std::map<std::string, absl::Duration> bulk_changed_;
};

}  // namespace shadowline::verdicts

#endif  // SHADOWLINE_TESTS_VERDICTS_APPLICATION_H_
