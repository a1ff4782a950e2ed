#include "tests/verdicts/controls.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <pqxx/pqxx>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "tests/support/await.h"
#include "tests/support/load.h"
#include "tests/verdicts/application.h"
#include "tests/verdicts/world.h"

namespace shadowline::verdicts {
namespace {

namespace v1 = shadowline::v1;
using nlohmann::json;

constexpr int64_t kKeys = 100;
constexpr char kTenant[] = "alone";
constexpr char kPolicy[] = "{ramp_ppm: [1000000], soak: 1ms, cache_sample_ppm: 1000000}";

// `dawdle` and `told` are declared STABLE, as all functions of the catalog's statements have to be.
std::string Schema() {
  return absl::StrCat(R"sql(
CREATE TABLE item (tenant text, id bigint, version bigint NOT NULL DEFAULT 1, name text NOT NULL, PRIMARY KEY (tenant, id));
CREATE FUNCTION told(id bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
  BEGIN PERFORM pg_notify('loads', id::text); PERFORM pg_sleep(0.02); RETURN true; END $$;
INSERT INTO item SELECT ')sql",
                      kTenant, "', id, 1, 'row ' || id FROM generate_series(0, ", kKeys - 1, ") AS id;\n");
}

Endpoint Read(const std::string& family) {
  Endpoint endpoint;
  endpoint.family = family;
  endpoint.sql = "SELECT tenant, id, version, name FROM item WHERE tenant = :tenant AND id = :id AND told(id)";
  endpoint.declared = "        timeout: 2s\n";
  return endpoint;
}

std::string Catalog(const Endpoint& endpoint) {
  return absl::StrCat("version: 1\ntenants: {list: [", kTenant, "]}\nfamilies:\n", ExternalFamily(endpoint, kPolicy),
                      ManagedFamily(endpoint, kPolicy));
}

void Promote(World* world, const std::string& family) {
  Operator& by = world->by_operator();
  by.Start(family, {{kTenant}});
  for (size_t i = 0; i < world->size(); ++i) {
    Operator at(world->node(i).channel);
    const bool promoted = support::AwaitTrue(kLimit, [&] {
      if (at.Mode(kTenant, family) == v1::MODE_CACHE) return true;
      (void)by.Promote(family, kTenant);
      return false;
    });
    if (!promoted) throw std::runtime_error(family + " was not promoted");
  }
}

// Collects what does not hold.
struct Checks {
  std::vector<std::string> broken;
  void Expect(bool holds, const std::string& otherwise) {
    if (!holds) broken.push_back(otherwise);
  }
  std::string Verdict() const { return broken.empty() ? "CONTROL" : absl::StrJoin(broken, "; "); }
};

class Loads final : public pqxx::notification_receiver {
 public:
  explicit Loads(pqxx::connection* connection) : pqxx::notification_receiver(*connection, "loads"), own_(connection) {}
  int Count() {
    {
      pqxx::nontransaction work(*own_);
      work.exec("SELECT 1");
    }
    own_->get_notifs();
    return count_;
  }
  void operator()(const std::string&, int) override { ++count_; }

 private:
  pqxx::connection* const own_;
  int count_ = 0;
};

// Until it is stopped: the most statements of Shadowline's that PostgreSQL runs at once.
class Concurrency {
 public:
  explicit Concurrency(const std::string& source)
      : thread_(base::StartThread("concurrency", [this, source] {
          pqxx::connection connection(source);
          while (!stopping_) {
            pqxx::nontransaction work(connection);
            most_ =
                std::max<int>(most_, work.exec1("SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND"
                                                " datname = current_database() AND application_name = 'shadowline'")[0]
                                         .as<int>());
          }
        })) {}
  ~Concurrency() { Stop(); }
  int Stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
    return most_;
  }

 private:
  std::atomic<bool> stopping_{false};
  std::atomic<int> most_{0};
  std::thread thread_;
};

json Stampede(World* world, Application* app) {
  const std::string family = app->endpoint().family;
  std::vector<v1::ReadRequest> requests;
  for (int64_t id = 0; id < kKeys; ++id) requests.push_back(RequestOf(app->ReadName(), {kTenant, id, ""}));
  Promote(world, family);
  // The application stores what it was answered with, as after any miss; all with the same TTL.
  base::Mutex redis;
  const auto store = [&](size_t id, const v1::ReadResponse& response) {
    if (app->managed()) return;
    base::MutexLock lock(&redis);
    app->redis().Ask({"SET", app->Key({kTenant, static_cast<int64_t>(id), ""}), response.body(), "EX", "600"});
  };
  std::atomic<uint64_t> failed{0}, from_cache{0};
  const auto reads = [&](uint64_t count, size_t outstanding) {
    std::atomic<size_t> next{0};
    support::ClosedLoop loop(
        {.channels = world->channels(), .outstanding = outstanding, .reads = count}, &world->clock(),
        [&](size_t) {
          const size_t id = next++ % kKeys;
          return support::Question{id, &requests[id]};
        },
        [&](size_t, const support::Reply& reply) {
          if (!reply.status.ok()) {
            ++failed;
            return;
          }
          const bool hit = reply.response.source() == v1::SOURCE_CACHE;
          from_cache += hit;
          if (!hit) store(reply.id, reply.response);
        });
    loop.Wait();
  };
  reads(3 * kKeys, 4);
  failed = 0;
  pqxx::connection listening(world->source());
  Loads loads(&listening);
  Checks checks;

  const int before = loads.Count();
  Concurrency concurrency(world->source());
  {
    base::MutexLock lock(&redis);
    app->redis().Ask({"FLUSHALL"});
  }
  reads(20 * kKeys, 128);
  const int most = concurrency.Stop();
  const int queries = loads.Count() - before;
  checks.Expect(failed == 0, absl::StrCat(failed.load(), " reads failed"));
  // An application's misses are its own to coalesce. Ours cost one load each, and what is verified one more.
  if (app->managed()) {
    checks.Expect(queries <= 3 * kKeys, absl::StrCat(queries, " loads of ", kKeys, " keys"));
  }
  // Callers' and verification's connections, of both replicas.
  checks.Expect(most <= 2 * (8 + 2), absl::StrCat(most, " statements at once"));

  // The database stops answering. What is cached is served; what is verified cannot be.
  const auto errored = [&] {
    return world->Metric("shadowline_verdicts_total", "verdict=\"errored\"") +
           world->Metric("shadowline_verdicts_total", "verdict=\"inconclusive\"");
  };
  const double errored_before = errored();
  reads(3 * kKeys, 4);
  from_cache = 0;
  {
    pqxx::connection connection(world->source());
    pqxx::work lock(connection);
    lock.exec("LOCK TABLE item IN ACCESS EXCLUSIVE MODE");
    const uint64_t failed_before = failed;
    reads(2 * kKeys, 4);
    checks.Expect(failed == failed_before && from_cache >= 2 * kKeys * 9 / 10,
                  absl::StrCat("of ", 2 * kKeys, " reads of cached keys ", from_cache.load(), " were from the cache"));
    const bool judged = support::AwaitTrue(kLimit, [&] { return errored() > errored_before; });
    checks.Expect(judged, "what could not be verified came to no verdict");
  }
  (void)support::AwaitTrue(kLimit, [&] { return world->by_operator().Report(family).ledger().pending() == 0; });
  const v1::Report report = world->by_operator().Report(family);
  checks.Expect(world->by_operator().Divergences(family).empty() && report.ledger().confirmed() == 0,
                "what could not be read was taken for a divergence");
  checks.Expect(world->by_operator().Mode(kTenant, family) == v1::MODE_CACHE, "it was taken off the cache");
  return {{"got", checks.Verdict()},
          {"control_queries", queries},
          {"keys", kKeys},
          {"statements_at_once", most},
          {"errored", report.ledger().errored()},
          {"inconclusive", report.ledger().inconclusive()},
          {"divergences", report.ledger().confirmed()}};
}

}  // namespace

json StampedeAfterExpiry() {
  const Endpoint endpoint = Read("t03");
  World world({.schema = Schema(), .catalog = Catalog(endpoint)});
  Application external(&world, endpoint, Application::Mode::kExternal);
  json result = Stampede(&world, &external);
  Application managed(&world, endpoint, Application::Mode::kManaged);
  result["managed"] = Stampede(&world, &managed);
  result["managed"]["how"] = "misses of one key are one load, admitted in its turn; what was not read is errored";
  result["id"] = "T03";
  return result;
}

json ColdStart(absl::Duration without_flags) {
  Endpoint endpoint = Read("c05");
  endpoint.sql = "SELECT tenant, id, version, name FROM item WHERE tenant = :tenant AND id = :id";
  World world({.schema = Schema(), .catalog = Catalog(endpoint), .own_state = true});
  Application app(&world, endpoint, Application::Mode::kExternal);
  const base::Clock& clock = world.clock();
  const std::vector<std::string> names = {"c05/read", "c05m/read"};
  for (const char* family : {"c05", "c05m"}) Promote(&world, family);
  for (int64_t id = 0; id < kKeys; ++id) {
    const Question row{kTenant, id, ""};
    app.Store(row, app.Load(row));
    app.redis().Ask({"PERSIST", app.Key(row)});
    (void)world.node(0).Read(RequestOf(names[1], row));
  }

  world.state().Kill();
  const std::unique_ptr<support::Node> cold = world.AnotherNode("cold");
  uint64_t tried = 0, from_cache = 0, from_database = 0;
  bool ready = false;
  const absl::Duration until = clock.Steady() + without_flags;
  while (clock.Steady() < until) {
    // One that cannot start is started again.
    if (!cold->server.Running()) cold->server.Start();
    ready |= !cold->server.Get("/readyz").empty();
    for (const std::string& name : names) {
      const support::Answer answer =
          cold->Read(RequestOf(name, {kTenant, static_cast<int64_t>(tried++) % kKeys, ""}), absl::Milliseconds(200));
      from_cache += answer.FromCache();
      from_database += answer.status.ok() && !answer.FromCache();
    }
    Pass(clock, absl::Milliseconds(20));
  }
  world.state().Start();
  const bool came = support::AwaitTrue(kLimit, [&] {
    if (!cold->server.Running()) cold->server.Start();
    return !cold->server.Get("/readyz").empty();
  });
  (void)cold->channel->WaitForConnected(absl::ToChronoTime(absl::Now() + kLimit));
  // From its first ready moment on.
  json result = {{"id", "C05"}};
  Checks both;
  for (const std::string& name : names) {
    Checks checks;
    uint64_t burst = 0, failed = 0;
    for (int64_t id = 0; came && id < kKeys; ++id) {
      const support::Answer answer = cold->Read(RequestOf(name, {kTenant, id, ""}));
      failed += !answer.status.ok();
      burst += answer.status.ok() && !answer.FromCache();
    }
    checks.Expect(!ready, "it was ready without flags");
    checks.Expect(from_cache == 0, absl::StrCat(from_cache, " answers from the cache without flags"));
    checks.Expect(came, "it did not become ready");
    checks.Expect(failed == 0, absl::StrCat(failed, " reads failed once it was ready"));
    checks.Expect(burst == 0, absl::StrCat(burst, " of ", kKeys, " first reads went to the database"));
    json one = {{"got", checks.Verdict()},
                {"tried_without_flags", tried},
                {"answered_from_database_without_flags", from_database},
                {"answered_from_cache_without_flags", from_cache},
                {"database_reads_once_ready", burst}};
    if (name == names[0]) {
      result.update(one);
    } else {
      one["how"] = "without a flag snapshot a replica is not ready and serves nothing from the cache";
      result["managed"] = one;
    }
  }
  return result;
}

}  // namespace shadowline::verdicts
