#include "tests/verdicts/ledger_kills.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <pqxx/pqxx>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "base/random.h"
#include "tests/support/await.h"
#include "tests/support/load.h"
#include "tests/support/node.h"
#include "tests/support/private_servers.h"

namespace shadowline::verdicts {
namespace {

namespace v1 = shadowline::v1;

constexpr absl::Duration kLimit = absl::Seconds(90);
constexpr absl::Duration kLapse = absl::Seconds(2);
// Of the reads that a replica answered this long before it was killed, it may have told nobody: several flushes.
constexpr absl::Duration kUntold = absl::Seconds(1);
// By then everybody has told.
constexpr absl::Duration kFlushed = absl::Seconds(20);
// Between two times at which all is at rest.
constexpr uint64_t kRoundsToRest = 8;
constexpr size_t kCallers = 2;
constexpr const char* kTenants[] = {"acme", "globex"};

constexpr char kCatalog[] = R"(version: 1
tenants: {list: [acme, globex]}
families:
  stock:
    endpoints:
      item:
        sql: SELECT version FROM item WHERE tenant = :tenant AND id = :id
        parameters: {id: {type: integer}}
        tags: ["item:{id}"]
        freshness: 300ms
        ttl: 10m
        timeout: 2s
)";

// Of one target, in one statement, so of one moment. A row may have nothing pending unless its replica is still
// awaited.
constexpr char kBalance[] = R"sql(
SELECT coalesce(max(abs(sampled - settled - lost - pending)), 0), sum(sampled), sum(settled), sum(lost), sum(pending)
FROM (SELECT e.tenant, sum(sampled) AS sampled, sum(settled) AS settled, sum(lost) AS lost,
             sum(CASE WHEN r.swept_at IS NULL THEN greatest(sampled - settled - lost, 0) ELSE 0 END) AS pending
      FROM (SELECT *, matched + excused + healed + confirmed + inconclusive + errored + shed AS settled
            FROM shadowline.evidence) e
      JOIN shadowline.replica r ON r.replica = e.replica GROUP BY e.tenant, e.endpoint) t
)sql";

// Of the processes that live, which are the last ones of their names: nothing is pending of who holds nothing.
constexpr char kAtRest[] = R"sql(
SELECT coalesce(sum(abs(sampled - settled - lost)), 0)::bigint, coalesce(sum(settled), 0)::bigint,
       coalesce(sum(sampled + candidate_misses + candidate_errors), 0)::bigint
FROM (SELECT *, matched + excused + healed + confirmed + inconclusive + errored + shed AS settled
      FROM shadowline.evidence) e
WHERE replica IN (SELECT DISTINCT ON (name) replica FROM shadowline.replica ORDER BY name, started_at DESC)
)sql";

struct AtRest {
  uint64_t residual = 0;
  uint64_t settled = 0;
  uint64_t counted = 0;  // Reads: sampled, or without a candidate.
};

struct Balance {
  int64_t residual = 0;
  uint64_t sampled = 0;
  uint64_t settled = 0;
  uint64_t lost = 0;
  uint64_t pending = 0;
};

class World {
 public:
  explicit World(const LedgerKillsOptions& options)
      : options_(options), source_database_(source_.CreateDatabase()), state_database_(state_.CreateDatabase()) {
    pqxx::connection connection(source());
    pqxx::work work(connection);
    work.exec("CREATE TABLE item (tenant text, id bigint, version bigint NOT NULL, PRIMARY KEY (tenant, id))");
    for (const char* tenant : kTenants) {
      work.exec(absl::StrCat("INSERT INTO item SELECT '", tenant, "', id, 1 FROM generate_series(0, ", options.rows - 1,
                             ") AS id"));
    }
    work.commit();
    for (size_t i = 0; i < options.replicas; ++i) {
      nodes_.push_back(std::make_unique<support::Node>(support::Shadowlined::Options{
          .name = absl::StrCat("replica-", i),
          .source = source(),
          .redis = "unix:" + redis_.socket(),
          .extra_config = absl::StrCat("lanes: 1\nstate: {url: \"", state(), "\"}\ncontroller: {tick: 200ms}\n",
                                       "evidence: {flush: 200ms, lapse: ", absl::FormatDuration(kLapse),
                                       ", spool: ", spool_.path(), "/spool}\n"),
          .await_ready = false}));
    }
    nodes_[0]->Apply(kCatalog);
    for (auto& node : nodes_) node->server.AwaitReady();
    Shadow();
  }

  std::string source() const { return source_.ConnectionString(source_database_); }
  std::string state() const { return state_.ConnectionString(state_database_); }
  support::PrivatePostgres& state_server() { return state_; }
  std::vector<std::unique_ptr<support::Node>>& nodes() { return nodes_; }

  Balance Look(pqxx::connection* connection) {
    pqxx::nontransaction work(*connection);
    const pqxx::row row = work.exec1(kBalance);
    Balance balance;
    balance.residual = row[0].as<int64_t>();
    balance.sampled = row[1].is_null() ? 0 : row[1].as<uint64_t>();
    balance.settled = row[2].is_null() ? 0 : row[2].as<uint64_t>();
    balance.lost = row[3].is_null() ? 0 : row[3].as<uint64_t>();
    balance.pending = row[4].is_null() ? 0 : row[4].as<uint64_t>();
    return balance;
  }

  AtRest LookAtRest() {
    pqxx::connection connection(state());
    pqxx::nontransaction work(connection);
    const pqxx::row row = work.exec1(kAtRest);
    return {row[0].as<uint64_t>(), row[1].as<uint64_t>(), row[2].as<uint64_t>()};
  }
  // Reads that any process has counted, dead or alive.
  uint64_t Counted() {
    pqxx::connection connection(state());
    pqxx::nontransaction work(connection);
    return work
        .exec1(
            "SELECT coalesce(sum(sampled + candidate_misses + candidate_errors), 0)::bigint FROM shadowline.evidence")
            [0]
        .as<uint64_t>();
  }
  // The sum over all replicas.
  double Metric(const std::string& name) const {
    double sum = 0;
    for (const auto& node : nodes_) sum += node->Metric(name);
    return sum;
  }
  // By the replicas' own account, there is no sampled read that waits for its verdict.
  bool HoldsNothing() const {
    return Metric("shadowline_verification_samples") + Metric("shadowline_verification_episodes") == 0;
  }

  // Processes that nobody takes for dead, as an array of their ids.
  std::string Living() {
    pqxx::connection connection(state());
    pqxx::nontransaction work(connection);
    return work
        .exec_params1(
            "SELECT coalesce(array_agg(replica), '{}')::text FROM shadowline.replica WHERE stopped_at IS NULL AND "
            "swept_at IS NULL AND heartbeat_at > clock_timestamp() - $1::bigint * interval '1 microsecond'",
            absl::ToInt64Microseconds(kLapse))[0]
        .c_str();
  }
  uint64_t LostOf(const std::string& replicas) {
    pqxx::connection connection(state());
    pqxx::nontransaction work(connection);
    return work
        .exec_params1("SELECT coalesce(sum(lost), 0)::bigint FROM shadowline.evidence WHERE replica = ANY ($1::uuid[])",
                      replicas)[0]
        .as<uint64_t>();
  }
  // How many of these divergences the store has.
  uint64_t Stored(const std::set<std::string>& ids) {
    pqxx::connection connection(state());
    pqxx::nontransaction work(connection);
    uint64_t stored = 0;
    for (const pqxx::row& row : work.exec("SELECT id FROM shadowline.divergence")) stored += ids.count(row[0].c_str());
    return stored;
  }

 private:
  // Every target is SHADOW and verified in full, and stays so: there is no rollout that would stop it.
  void Shadow() {
    pqxx::connection connection(state());
    pqxx::work work(connection);
    const auto revision =
        work.exec1("UPDATE shadowline.flag_state SET revision = revision + 1 RETURNING revision")[0].as<int64_t>();
    for (const char* tenant : kTenants) {
      work.exec_params(
          "INSERT INTO shadowline.target (family, tenant, mode, sample_ppm, window_no, catalog_revision, revision) "
          "VALUES ('stock', $1, 'SHADOW', 1000000, 1, 1, $2)",
          tenant, revision);
    }
    work.commit();
  }

  const LedgerKillsOptions options_;
  support::PrivatePostgres source_{{"max_connections = 100"}};
  support::PrivatePostgres state_{{"max_connections = 100"}};
  support::PrivateRedis redis_;
  const support::ScratchFolder spool_{"kills"};
  const std::string source_database_;
  const std::string state_database_;
  std::vector<std::unique_ptr<support::Node>> nodes_;
};

// Callers who read random rows through random replicas, each verified. They know what the ledger has to know.
class Callers {
 public:
  struct Told {
    uint64_t reads = 0;
    uint64_t verified = 0;  // Answered, and to be verified.
    uint64_t failed = 0;    // Verified or not.
  };

  Callers(World* world, const LedgerKillsOptions& options)
      : world_(world), rows_(options.rows), seed_(options.seed * 100), recent_(options.replicas) {}
  ~Callers() { Stop(); }

  void Start() {
    stopping_ = false;
    for (size_t i = 0; i < kCallers; ++i) {
      threads_.push_back(base::StartThread("caller", [this, seed = seed_++] {
        base::Random random(seed);
        support::Pace pace(&clock_, 400, seed, absl::Seconds(1));
        while (!stopping_) {
          pace.Next();
          Read(&random);
        }
      }));
    }
  }
  // Returns once every read has been answered.
  void Stop() {
    stopping_ = true;
    for (std::thread& thread : std::exchange(threads_, {})) thread.join();
  }

  Told told() {
    base::MutexLock lock(&mutex_);
    return told_;
  }
  // Of those to be verified, those that this replica answered last; each caller may be about to count one more.
  uint64_t MaybeUntold(size_t node) {
    base::MutexLock lock(&mutex_);
    Forget(&recent_[node]);
    return recent_[node].size() + kCallers;
  }

 private:
  void Read(base::Random* random) {
    v1::ReadRequest request;
    request.set_tenant(kTenants[random->Below(2)]);
    request.set_endpoint("stock/item");
    auto* parameter = request.add_parameters();
    parameter->set_name("id");
    parameter->mutable_value()->set_integer(static_cast<int64_t>(random->Below(rows_)));
    const size_t node = random->Below(recent_.size());
    const support::Answer answer = world_->nodes()[node]->Read(request, absl::Seconds(1));
    base::MutexLock lock(&mutex_);
    ++told_.reads;
    told_.failed += !answer.status.ok();
    // A replica that has no flags yet verifies nothing.
    if (!answer.status.ok() || answer.response.reason() != v1::READ_REASON_MODE_SHADOW) return;
    ++told_.verified;
    recent_[node].push_back(clock_.Steady());
    Forget(&recent_[node]);
  }
  void Forget(std::deque<absl::Duration>* recent) {
    while (!recent->empty() && recent->front() < clock_.Steady() - kUntold) recent->pop_front();
  }

  World* const world_;
  const size_t rows_;
  const base::SystemClock clock_;
  uint64_t seed_;
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
  base::Mutex mutex_;
  Told told_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::deque<absl::Duration>> recent_ ABSL_GUARDED_BY(mutex_);
};

constexpr absl::string_view kId = "\"id\":\"";

// What a replica has said in all of its lives.
struct Said {
  std::set<std::string> confirmed;
  std::set<std::string> kept;
  uint64_t replayed = 0;

  void Hear(const std::string& log) {
    for (const absl::string_view line : absl::StrSplit(log, '\n')) {
      if (absl::StrContains(line, "\"event\":\"spool_replayed\"")) ++replayed;
      const bool is_kept = absl::StrContains(line, "\"event\":\"divergence_kept\"");
      if (!is_kept && !absl::StrContains(line, "divergence_confirmed\"")) continue;
      const size_t at = line.find(kId);
      if (at == absl::string_view::npos) continue;
      const absl::string_view rest = line.substr(at + kId.size());
      (is_kept ? kept : confirmed).emplace(rest.substr(0, rest.find('"')));
    }
  }
};

// By how much it is outside of [least, most].
uint64_t OutOf(uint64_t value, uint64_t least, uint64_t most) {
  return value < least ? least - value : value > most ? value - most : 0;
}

}  // namespace

LedgerKillsOutcome LedgerKills(const LedgerKillsOptions& options,
                               const std::function<void(const std::string& line)>& progress) {
  LedgerKillsOutcome outcome;
  World world(options);
  base::Random random(options.seed);
  const base::SystemClock clock;
  std::atomic<bool> stop{false};
  const auto rest = [&](absl::Duration span) {
    const absl::Duration until = clock.Steady() + span;
    (void)support::AwaitTrue(span + kLimit, [&] { return stop.load() || clock.Steady() >= until; });
  };
  Callers callers(&world, options);
  callers.Start();
  // Nobody invalidates what it writes: all that is cached of it becomes wrong.
  std::thread writer = base::StartThread("writer", [&] {
    base::Random own(options.seed * 100 + 50);
    pqxx::connection connection(world.source());
    while (!stop.load()) {
      {
        pqxx::work work(connection);
        work.exec_params("UPDATE item SET version = version + 1 WHERE tenant = $1 AND id = $2", kTenants[own.Below(2)],
                         static_cast<int64_t>(own.Below(options.rows)));
        work.commit();
      }
      rest(absl::Milliseconds(50 + own.Below(300)));
    }
  });

  std::unique_ptr<pqxx::connection> connection;
  uint64_t sampled = 0;
  // Looks once, if the store is there. Nothing that was counted is ever uncounted.
  const auto look = [&] {
    try {
      if (connection == nullptr) connection = std::make_unique<pqxx::connection>(world.state());
      const Balance balance = world.Look(connection.get());
      ++outcome.looks;
      outcome.residual_max = std::max(outcome.residual_max, static_cast<uint64_t>(balance.residual));
      if (balance.sampled < sampled) outcome.faults.push_back("reads that were counted are not any more");
      sampled = balance.sampled;
      return balance;
    } catch (const std::exception&) {
      connection.reset();
      return Balance();
    }
  };
  const auto look_for = [&](absl::Duration span) {
    const absl::Duration until = clock.Steady() + span;
    (void)support::AwaitTrue(span + kLimit, [&] {
      look();
      return clock.Steady() >= until;
    });
  };

  // Nobody reads, all are alive, and none of them holds anything: what it has counted is settled.
  const auto come_to_rest = [&] {
    callers.Stop();
    if (!support::AwaitTrue(kLimit, [&] { return world.HoldsNothing(); })) {
      outcome.faults.push_back("reads stay held, and nobody judges them");
    }
    const double verdicts = world.Metric("shadowline_verdicts_total");
    AtRest at_rest;
    (void)support::AwaitTrue(kFlushed, [&] {
      at_rest = world.LookAtRest();
      return at_rest.residual == 0 && static_cast<double>(at_rest.settled) >= verdicts;
    });
    ++outcome.rests;
    outcome.residual_max = std::max(outcome.residual_max, at_rest.residual);
    return at_rest;
  };

  if (progress != nullptr) progress("all are ready");
  uint64_t reported = 0;
  for (uint64_t round = 0; outcome.kills < options.kills; ++round) {
    look_for(absl::Milliseconds(200 + random.Below(1000)));
    const bool outage = round % 3 == 1;
    if (outage) {
      connection.reset();
      world.state_server().Kill();
      ++outcome.outages;
      look_for(absl::Milliseconds(300 + random.Below(2000)));
    }
    // Several may be dead at once, but one is left to read from.
    const uint64_t most = std::max<uint64_t>(world.nodes().size() - 1, 1);
    const uint64_t count = 1 + random.Below(std::min(most, options.kills - outcome.kills));
    std::set<size_t> victims;
    while (victims.size() < count) {
      const size_t victim = random.Below(world.nodes().size());
      if (!victims.insert(victim).second) continue;
      look_for(absl::Milliseconds(random.Below(400)));
      world.nodes()[victim]->server.Kill();
      outcome.untold_most += callers.MaybeUntold(victim);
      ++outcome.kills;
      outcome.kills_in_outages += outage;
    }
    if (outage) world.state_server().Start();
    look_for(absl::Milliseconds(random.Below(1000)));
    for (const size_t victim : victims) world.nodes()[victim]->server.Start();
    for (const size_t victim : victims) {
      support::Shadowlined& server = world.nodes()[victim]->server;
      const bool ready = support::AwaitTrue(kLimit, [&] {
        look();
        return !server.Get("/readyz").empty();
      });
      if (!ready) outcome.faults.push_back("a replica does not come back:\n" + server.Log());
    }
    if (round % kRoundsToRest == 0) {
      (void)come_to_rest();
      callers.Start();
    }
    if (progress != nullptr && outcome.kills / 10 > reported) {
      reported = outcome.kills / 10;
      progress(absl::StrCat(outcome.kills, " of ", options.kills, " kills, ", outcome.looks, " looks, residual ",
                            outcome.residual_max));
    }
  }

  if (progress != nullptr) progress("all kills are done");
  // The living find the dead, whose reads become lost.
  look_for(kLapse + absl::Seconds(1));
  // From here on nobody dies with what was not told: every read that is answered is in the ledger.
  const AtRest before = come_to_rest();
  const Callers::Told told_before = callers.told();
  callers.Start();
  look_for(absl::Seconds(3));
  const AtRest after = come_to_rest();
  stop.store(true);
  writer.join();
  const Callers::Told told = callers.told();
  outcome.reads = told.reads;
  outcome.reads_in_peace = told.verified - told_before.verified;
  const uint64_t counted = after.counted - before.counted;
  outcome.uncounted = OutOf(counted, outcome.reads_in_peace, outcome.reads_in_peace + told.failed - told_before.failed);
  const std::string living = world.Living();
  for (auto& node : world.nodes()) {
    if (const int code = node->server.Terminate(); code != 0) {
      outcome.faults.push_back(absl::StrCat("a replica that was told to stop ended with ", code));
    }
  }
  // One more life, whose controller sweeps what the others have left open, and which stores what is left in spools.
  world.nodes()[0]->server.Start();
  world.nodes()[0]->server.AwaitReady();
  Balance last;
  const bool closed = support::AwaitTrue(kLimit, [&] {
    last = look();
    return connection != nullptr && last.pending == 0;
  });
  if (!closed) outcome.faults.push_back(absl::StrCat(last.pending, " reads are pending, and nobody judges them"));
  Said said;
  for (auto& node : world.nodes()) said.Hear(node->server.Log());
  (void)support::AwaitTrue(kLimit, [&] {
    outcome.divergences_stored = world.Stored(said.kept);
    return outcome.divergences_stored == said.kept.size();
  });
  // Of all lives together. What the dead have left in spools is stored by and by.
  const uint64_t least = told.verified - std::min(told.verified, outcome.untold_most);
  uint64_t counted_in_all = 0;
  (void)support::AwaitTrue(kLimit, [&] { return (counted_in_all = world.Counted()) >= least; });
  outcome.untold = told.verified - std::min(told.verified, counted_in_all);
  outcome.uncounted = std::max(outcome.uncounted, OutOf(counted_in_all, least, told.verified + told.failed));
  outcome.lost_in_order = world.LostOf(living);
  if (outcome.lost_in_order != 0) {
    outcome.faults.push_back(
        absl::StrCat(outcome.lost_in_order, " reads of those that ended in order have no verdict"));
  }
  outcome.spools_replayed = said.replayed;
  outcome.sampled = last.sampled;
  outcome.settled = last.settled;
  outcome.lost = last.lost;
  if (last.sampled != last.settled + last.lost) {
    outcome.residual_max = std::max(outcome.residual_max, last.sampled - last.settled - last.lost);
  }
  if (outcome.uncounted != 0) {
    outcome.residual_max = std::max(outcome.residual_max, outcome.uncounted);
    outcome.faults.push_back(absl::StrCat("the ledger and the callers differ by ", outcome.uncounted, " reads"));
  }

  outcome.divergences_confirmed = said.confirmed.size();
  outcome.divergences_logged = said.kept.size();
  if (outcome.divergences_stored != outcome.divergences_logged) {
    outcome.faults.push_back(absl::StrCat(outcome.divergences_logged - outcome.divergences_stored,
                                          " divergences were said to be kept, and are not there"));
  }
  if (outcome.residual_max != 0) {
    outcome.faults.push_back(absl::StrCat("a ledger did not balance, by ", outcome.residual_max));
  }
  return outcome;
}

}  // namespace shadowline::verdicts
