// The real `shadowlined` and `shadowline`, on a private PostgreSQL and Redis, as an operator and an application meet
// them: wrong input, servers that die, hang and come back, replicas that are stopped. Every answer is judged by the
// history of the writes, never by what Shadowline says of itself.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <pqxx/pqxx>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/random.h"
#include "cache/key/key.h"
#include "cache/redis/slots.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "shadowline/v1/cache.grpc.pb.h"
#include "shadowline/v1/catalog.grpc.pb.h"
#include "shadowline/v1/divergence.grpc.pb.h"
#include "shadowline/v1/flags.grpc.pb.h"
#include "shadowline/v1/read.grpc.pb.h"
#include "shadowline/v1/rollout.grpc.pb.h"
#include "tests/cache/redis_client.h"
#include "tests/support/await.h"
#include "tests/support/history.h"
#include "tests/support/load.h"
#include "tests/support/private_redis.h"
#include "tests/support/private_servers.h"
#include "tests/support/shadowlined.h"

namespace shadowline {
namespace {

using support::AwaitTrue;
using testing::AllOf;
using testing::AnyOf;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// Far more than anything here takes.
constexpr absl::Duration kLimit = absl::Seconds(30);
constexpr absl::Duration kLease = absl::Seconds(2);
constexpr absl::Duration kFreshness = absl::Seconds(2);
constexpr int kItems = 20;

// The same rows through three families: `stock` goes to the cache, `audited` too and is verified on every read, `plain`
// stays with the database.
constexpr char kCatalog[] = R"(version: 1
tenants: {list: [acme, globex]}
families:
  stock:
    endpoints:
      item: &item
        sql: SELECT 'item/' || tenant || '/' || id || '=' || version AS versions FROM item WHERE tenant = :tenant AND id = :id
        parameters: {id: {type: integer}}
        tags: ["item:{id}"]
        freshness: 2s
        ttl: 10m
    policy: {ramp_ppm: [1000000], cache_sample_ppm: 0}
  audited:
    endpoints: {item: *item}
    policy: {ramp_ppm: [1000000], cache_sample_ppm: 1000000}
  plain:
    endpoints: {item: *item}
)";

constexpr char kCapture[] = R"(capture:
  tables:
    public.item: {tenant: "{tenant}", tags: ["item:{id}"]}
)";

struct Outcome {
  int status = 0;
  std::string output;
};

// Runs one of the project's programs to its end.
Outcome RunProgram(const std::string& name, std::vector<std::string> arguments,
                   std::vector<std::string> environment = {}) {
  const support::ScratchFolder folder("run");
  arguments.insert(arguments.begin(), support::ProgramFolder() + "/" + name);
  support::ChildProcess process(std::move(arguments), folder.path() + "/output", std::move(environment));
  Outcome run;
  run.status = process.Wait();
  std::ifstream in(folder.path() + "/output");
  run.output.assign(std::istreambuf_iterator<char>(in), {});
  return run;
}

v1::ReadRequest Ask(const std::string& family, int64_t id, const std::string& tenant = "acme") {
  v1::ReadRequest request;
  request.set_tenant(tenant);
  request.set_endpoint(family + "/item");
  auto* parameter = request.add_parameters();
  parameter->set_name("id");
  parameter->mutable_value()->set_integer(id);
  return request;
}

struct Answer {
  grpc::Status status;
  v1::ReadResponse response;

  bool FromCache() const { return status.ok() && response.source() == v1::SOURCE_CACHE; }
  bool FromDatabase() const { return status.ok() && response.source() == v1::SOURCE_DATABASE; }
  // Of a row that exists.
  int64_t Version() const {
    const auto witnesses = support::ParseWitnesses(response.body());
    return status.ok() && witnesses.has_value() ? witnesses->at(0).version : -1;
  }
};

// gRPC's own second between two tries would only make the tests longer.
std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 100);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

// One replica, and an application's connection to it.
class Node {
 public:
  explicit Node(support::Shadowlined::Options options)
      : server(std::move(options)),
        channel(Connect(server.address())),
        reads_(v1::ReadService::NewStub(channel)),
        cache_(v1::CacheService::NewStub(channel)),
        catalogs_(v1::CatalogService::NewStub(channel)),
        rollouts_(v1::RolloutService::NewStub(channel)),
        flags_(v1::FlagService::NewStub(channel)),
        divergences_(v1::DivergenceService::NewStub(channel)) {}

  Answer Read(const v1::ReadRequest& request, absl::Duration timeout = absl::Seconds(10)) {
    Answer answer;
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    answer.status = reads_->Read(&context, request, &answer.response);
    return answer;
  }

  grpc::Status Invalidate(int64_t id, const std::string& tenant = "acme",
                          const std::vector<uint64_t>& transactions = {}) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
    v1::InvalidateRequest request;
    request.set_tenant(tenant);
    request.add_tags(absl::StrCat("item:", id));
    request.mutable_transactions()->Assign(transactions.begin(), transactions.end());
    v1::InvalidateResponse response;
    return cache_->Invalidate(&context, request, &response);
  }

  void Apply(const std::string& yaml) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    v1::ApplyCatalogRequest request;
    request.set_yaml(yaml);
    v1::ApplyCatalogResponse response;
    const grpc::Status status = catalogs_->ApplyCatalog(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  v1::GetCatalogResponse Catalog() {
    grpc::ClientContext context;
    v1::GetCatalogResponse response;
    catalogs_->GetCatalog(&context, {}, &response);
    return response;
  }

  // Of acme.
  v1::Mode Mode(const std::string& family) {
    grpc::ClientContext context;
    v1::GetFlagRequest request;
    request.set_tenant("acme");
    request.set_family(family);
    v1::Flag flag;
    return flags_->GetFlag(&context, request, &flag).ok() ? flag.mode() : v1::MODE_UNSPECIFIED;
  }

  void StartRollout(const std::string& family) {
    grpc::ClientContext context;
    v1::StartRolloutRequest request;
    request.set_family(family);
    auto* cohort = request.add_cohorts();
    cohort->set_name("all");
    cohort->set_share_ppm(1'000'000);
    v1::Rollout rollout;
    const grpc::Status status = rollouts_->StartRollout(&context, request, &rollout);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_TRUE(AwaitTrue(kLimit, [&] { return Mode(family) == v1::MODE_SHADOW; }));
  }

  // To CACHE, past all evidence.
  void Promote(const std::string& family) {
    StartRollout(family);
    ASSERT_TRUE(AwaitTrue(kLimit, [&] {
      if (Mode(family) == v1::MODE_CACHE) return true;
      grpc::ClientContext context;
      v1::RolloutCommand command = Command(family);
      v1::Rollout rollout;
      rollouts_->PromoteRollout(&context, command, &rollout);  // ABORTED where the controller was first: once more.
      return false;
    }));
  }

  grpc::Status Rollback(const std::string& family) {
    grpc::ClientContext context;
    v1::Rollout rollout;
    return rollouts_->RollbackRollout(&context, Command(family), &rollout);
  }

  v1::Ledger Ledger(const std::string& family) {
    grpc::ClientContext context;
    v1::GetReportRequest request;
    request.set_family(family);
    v1::Report report;
    const grpc::Status status = divergences_->GetReport(&context, request, &report);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return report.ledger();
  }

  // The sum of a metric's series whose labels contain `label`.
  double Metric(const std::string& name, const std::string& label = "") {
    double sum = 0;
    for (absl::string_view line : absl::StrSplit(server.Get("/metrics"), '\n')) {
      if (!absl::StartsWith(line, name + "{") && !absl::StartsWith(line, name + " ")) continue;
      double value = 0;
      if (absl::StrContains(line, label) && absl::SimpleAtod(line.substr(line.rfind(' ') + 1), &value)) sum += value;
    }
    return sum;
  }

  grpc::Status Health(grpc::health::v1::HealthCheckResponse* response) {
    grpc::ClientContext context;
    return grpc::health::v1::Health::NewStub(channel)->Check(&context, {}, response);
  }

  support::Shadowlined server;
  const std::shared_ptr<grpc::Channel> channel;

 private:
  static v1::RolloutCommand Command(const std::string& family) {
    v1::RolloutCommand command;
    command.set_rollout(family);
    command.set_who("test");
    command.set_reason("test");
    return command;
  }

  const std::unique_ptr<v1::ReadService::Stub> reads_;
  const std::unique_ptr<v1::CacheService::Stub> cache_;
  const std::unique_ptr<v1::CatalogService::Stub> catalogs_;
  const std::unique_ptr<v1::RolloutService::Stub> rollouts_;
  const std::unique_ptr<v1::FlagService::Stub> flags_;
  const std::unique_ptr<v1::DivergenceService::Stub> divergences_;
};

// HTTP status and body of a path, also where it is not 200.
std::pair<int, std::string> Http(const support::Shadowlined& server, const std::string& path) {
  httplib::Client client(("http://" + server.http_address()).c_str());
  const auto answer = client.Get(path.c_str());
  return answer ? std::make_pair(answer->status, answer->body) : std::make_pair(0, std::string());
}

// Each test has its own database, Redis and replicas; PostgreSQL itself is shared, and running whenever a test begins.
class ReplicaTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { postgres_ = new support::PrivatePostgres({"wal_level = logical"}); }
  static void TearDownTestSuite() { delete std::exchange(postgres_, nullptr); }

  ReplicaTest() : database_(postgres_->CreateDatabase()) {
    pqxx::connection connection(Source());
    pqxx::work work(connection);
    work.exec("CREATE TABLE item (tenant text, id bigint, version bigint NOT NULL, PRIMARY KEY (tenant, id))");
    work.exec(absl::StrCat("INSERT INTO item SELECT tenant, id, 1 FROM unnest(ARRAY['acme', 'globex']) tenant, ",
                           "generate_series(1, ", kItems, ") id"));
    work.commit();
  }

  std::string Source() const { return postgres_->ConnectionString(database_); }

  support::Shadowlined::Options OptionsOf(const std::string& name, bool captures = true) const {
    return {.name = name,
            .source = Source(),
            .redis = "unix:" + redis_.socket(),
            .extra_config = absl::StrCat("controller: {tick: 100ms}\nevidence: {flush: 100ms, lapse: 1s}\n",
                                         // Slots are PostgreSQL's, not a database's.
                                         "capture: {slot: ", database_,
                                         ", patience: 3s, enabled: ", captures ? "true" : "false", "}\n"),
            .await_ready = false};
  }

  // A replica that is ready, with the catalog.
  std::unique_ptr<Node> StartNode(const std::string& name = "a") {
    auto node = std::make_unique<Node>(OptionsOf(name));
    node->Apply(kCatalog);
    node->server.AwaitReady();
    return node;
  }

  // Until the replica answers every item of acme from the cache.
  void AwaitCached(Node* node, const std::string& family) {
    for (int id = 1; id <= kItems; ++id) {
      ASSERT_TRUE(AwaitTrue(kLimit, [&] { return node->Read(Ask(family, id)).FromCache(); })) << node->server.Log();
    }
  }

  // Leaves every item of acme in the cache, by a fill that no verification has looked at.
  void FillOnce(Node* node, const std::string& family) {
    for (int id = 1; id <= kItems; ++id) {
      ASSERT_TRUE(AwaitTrue(
          kLimit, [&] { return node->Read(Ask(family, id)).response.reason() == v1::READ_REASON_CACHE_MISS; }));
    }
  }

  // Reads every item of acme while the database is locked; how many came from the cache, to be verified.
  uint64_t ReadLocked(Node* node, const std::string& family) {
    uint64_t sampled = 0;
    for (int id = 1; id <= kItems; ++id) sampled += node->Read(Ask(family, id), absl::Milliseconds(500)).FromCache();
    EXPECT_GT(sampled, 0u);
    return sampled;
  }

  // Commits the next version of an item of acme, and returns it.
  int64_t Write(int64_t id) {
    pqxx::connection connection(Source());
    pqxx::work work(connection);
    const int64_t version = work.exec1(absl::StrCat("UPDATE item SET version = version + 1 WHERE tenant = 'acme' AND ",
                                                    "id = ", id, " RETURNING version"))[0]
                                .as<int64_t>();
    const std::string scope = absl::StrCat("item/acme/", id);
    history_.Committing(scope, version, clock_.Steady());
    work.commit();
    history_.Committed(scope, version, clock_.Steady());
    return version;
  }

  // The first column of the first row, if there is any.
  std::string Query(const std::string& sql) const {
    pqxx::connection connection(Source());
    pqxx::nontransaction work(connection);
    const pqxx::result rows = work.exec(sql);
    return rows.empty() ? "" : rows[0][0].c_str();
  }

  static support::PrivatePostgres* postgres_;

  const base::SystemClock clock_;
  const std::string database_;
  support::PrivateRedis redis_;
  support::History history_;
};

support::PrivatePostgres* ReplicaTest::postgres_ = nullptr;

// Reads all items of acme through some families, at a steady rate, and keeps what became of it.
class Load {
 public:
  struct Seen {
    std::string family;
    absl::Duration sent;
    absl::Duration received;
    grpc::StatusCode code;
    v1::Source source;
    bool right;
  };

  Load(const std::vector<Node*>& nodes, std::vector<std::string> families, const support::History* history,
       double rate = 300)
      : families_(std::move(families)) {
    for (const std::string& family : families_) {
      for (int id = 1; id <= kItems; ++id) requests_.push_back(Ask(family, id));
    }
    support::OpenLoop::Options options{.rate = rate, .timeout = absl::Seconds(5)};
    for (Node* node : nodes) options.channels.push_back(node->channel);
    loop_ = std::make_unique<support::OpenLoop>(
        std::move(options), &clock_,
        [this] {
          const size_t id = random_.Below(requests_.size());
          return support::Question{id, &requests_[id]};
        },
        [this, history](const support::Reply& reply) { Judge(reply, *history); });
  }

  void Stop() { loop_->Stop(); }

  [[nodiscard]] bool AwaitSent(uint64_t wanted) const {
    return AwaitTrue(kLimit, [&] { return loop_->sent() >= wanted; });
  }
  std::vector<Seen> All() const {
    base::MutexLock lock(&mutex_);
    return seen_;
  }
  size_t Count(const std::function<bool(const Seen&)>& matches) const {
    base::MutexLock lock(&mutex_);
    return static_cast<size_t>(std::count_if(seen_.begin(), seen_.end(), matches));
  }
  // Waits for that many more replies of the kind.
  [[nodiscard]] bool AwaitMore(size_t wanted, const std::function<bool(const Seen&)>& matches) const {
    const absl::Duration since = clock_.Steady();
    const auto fresh = [&](const Seen& seen) { return seen.sent >= since && matches(seen); };
    return AwaitTrue(kLimit, [&] { return Count(fresh) >= wanted; });
  }

  // Of the answers, those that the database did not hold within the freshness bound, or that are somebody else's.
  size_t Wrong() const {
    return Count([](const Seen& seen) { return seen.code == grpc::StatusCode::OK && !seen.right; });
  }
  std::vector<grpc::StatusCode> Failures() const {
    std::vector<grpc::StatusCode> failures;
    for (const Seen& seen : All()) {
      if (seen.code != grpc::StatusCode::OK) failures.push_back(seen.code);
    }
    return failures;
  }

 private:
  void Judge(const support::Reply& reply, const support::History& history) {
    const std::string& family = families_[reply.id / kItems];
    const auto witnesses = support::ParseWitnesses(reply.response.body());
    const bool right = witnesses.has_value() && witnesses->size() == 1 &&
                       witnesses->at(0).scope == absl::StrCat("item/acme/", reply.id % kItems + 1) &&
                       history.Judge(*witnesses, reply.sent, reply.received, kFreshness) == support::Judgement::kRight;
    base::MutexLock lock(&mutex_);
    seen_.push_back({family, reply.sent, reply.received, reply.status.error_code(), reply.response.source(), right});
  }

  const base::SystemClock clock_;
  const std::vector<std::string> families_;
  std::vector<v1::ReadRequest> requests_;
  base::Random random_{1};
  mutable base::Mutex mutex_;
  std::vector<Seen> seen_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<support::OpenLoop> loop_;  // Last: its threads end first.
};

bool Answered(const Load::Seen& seen) { return seen.code == grpc::StatusCode::OK; }
bool Hit(const Load::Seen& seen) { return Answered(seen) && seen.source == v1::SOURCE_CACHE; }
std::function<bool(const Load::Seen&)> In(const std::string& family, bool (*matches)(const Load::Seen&)) {
  return [=](const Load::Seen& seen) { return seen.family == family && matches(seen); };
}
bool Failed(const Load::Seen& seen) { return !Answered(seen); }

uint64_t Verdicts(const v1::Ledger& ledger) {
  return ledger.matched() + ledger.excused() + ledger.healed() + ledger.confirmed() + ledger.inconclusive() +
         ledger.errored() + ledger.shed() + ledger.lost();
}

// Holds a table so that no statement can read it.
class TableLock {
 public:
  explicit TableLock(const std::string& source) : connection_(source), work_(connection_) {
    work_.exec("LOCK TABLE item IN ACCESS EXCLUSIVE MODE");
  }
  void Release() { work_.commit(); }

  // Statements that wait for it.
  static int64_t Waiting(const std::string& source) {
    pqxx::connection connection(source);
    pqxx::nontransaction work(connection);
    return work.exec1("SELECT count(*) FROM pg_locks WHERE relation = 'item'::regclass AND NOT granted")[0]
        .as<int64_t>();
  }

 private:
  pqxx::connection connection_;
  pqxx::work work_;
};

// ---- What an operator gets wrong ----

class CommandLineTest : public testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = folder_.path() + "/" + name;
    std::ofstream(path) << text;
    return path;
  }

  const support::ScratchFolder folder_{"config"};
};

TEST_F(CommandLineTest, AWrongConfigurationIsRefusedWithEveryFindingAndItsPlace) {
  const std::string config = Write("server.yaml",
                                   "source:\n  url: host=/nonexistent\n  connections: many\n"
                                   "flags:\n  lease: 2\nredsi:\n  address: localhost:6379\n");
  const Outcome run = RunProgram("shadowlined", {"--config", config, "--evidence.flush", "never"});
  EXPECT_EQ(run.status, 64);
  EXPECT_THAT(run.output, AllOf(HasSubstr(config + ":3:16: source.connections: \"many\""),
                                HasSubstr(config + ":5:10: flags.lease: \"2\""), HasSubstr(config + ":6:1: redsi"),
                                HasSubstr("--evidence.flush: \"never\""), HasSubstr("expected")));
  EXPECT_THAT(run.output, Not(HasSubstr("starting"))) << "something was started";
}

TEST_F(CommandLineTest, AnUnknownFlagIsRefused) {
  const Outcome run = RunProgram("shadowlined", {"--source.url", "host=/nonexistent", "--lanse", "2"});
  EXPECT_EQ(run.status, 64);
  EXPECT_THAT(run.output, HasSubstr("--lanse"));
}

TEST_F(CommandLineTest, CheckStartsNothing) {
  const std::string config = Write("server.yaml", "source: {url: host=/nonexistent}\n");
  const Outcome right = RunProgram("shadowlined", {"--config", config, "--check"});
  EXPECT_EQ(right.status, 0) << right.output;
  EXPECT_EQ(right.output, "the configuration is right\n");
  EXPECT_EQ(RunProgram("shadowlined", {"--config", config, "--check", "--flags.lease", "soon"}).status, 64);
}

TEST_F(CommandLineTest, HelpNamesTheOptions) {
  const Outcome run = RunProgram("shadowlined", {"--help"});
  EXPECT_EQ(run.status, 0);
  EXPECT_THAT(run.output, AllOf(HasSubstr("--source.url"), HasSubstr("--flags.lease"), HasSubstr("--check")));
}

TEST_F(ReplicaTest, APortThatIsTakenEndsTheStartAndNamesIt) {
  const auto node = StartNode();
  const Outcome run = RunProgram("shadowlined", {"--source.url", Source(), "--redis.address", "unix:" + redis_.socket(),
                                                 "--listen", node->server.address(), "--http_listen", "127.0.0.1:0"});
  EXPECT_EQ(run.status, 1);
  EXPECT_THAT(run.output, HasSubstr("listen: " + node->server.address() + " cannot be had"));
}

TEST_F(ReplicaTest, AWrongCatalogIsRefusedWithItsPlaceAndNothingIsApplied) {
  const auto node = StartNode();
  const std::string before = node->Catalog().DebugString();
  const auto apply = [&](const std::string& sql, const std::string& extra = "") {
    const support::ScratchFolder folder("catalog");
    const std::string path = folder.path() + "/catalog.yaml";
    // The first family is right, so that a catalog that is applied by halves shows.
    std::ofstream(path) << kCatalog << "  broken:\n    endpoints:\n      item:\n        sql: " << sql
                        << "\n        parameters: {id: {type: integer}}\n        tags: [\"item:{id}\"]\n"
                        << extra;
    return RunProgram("shadowline", {"apply", "-f", path}, {"SHADOWLINE_SERVER=" + node->server.address()});
  };
  const std::string good = "SELECT version FROM item WHERE tenant = :tenant AND id = :id";

  const Outcome writes = apply("UPDATE item SET version = 0 WHERE tenant = :tenant AND id = :id RETURNING version");
  EXPECT_EQ(writes.status, 65);
  EXPECT_THAT(writes.output, AllOf(HasSubstr("21:14: families.broken.endpoints.item.sql"), HasSubstr("expected")));

  const Outcome hidden =
      apply("WITH gone AS (DELETE FROM item WHERE tenant = :tenant AND id = :id RETURNING version) SELECT * FROM gone");
  EXPECT_EQ(hidden.status, 65);
  EXPECT_THAT(hidden.output, HasSubstr("21:14: families.broken.endpoints.item.sql"));

  const Outcome nobodys = apply("SELECT version FROM item WHERE id = :id");
  EXPECT_EQ(nobodys.status, 65);
  EXPECT_THAT(nobodys.output, AllOf(HasSubstr("21:14: families.broken.endpoints.item.sql"), HasSubstr(":tenant")));

  const Outcome unknown = apply(good, "        freshnes: 2s\n");
  EXPECT_EQ(unknown.status, 65);
  EXPECT_THAT(unknown.output, AllOf(HasSubstr("24:9: families.broken.endpoints.item.freshnes"), HasSubstr("unknown")));

  const Outcome no_table = apply("SELECT version FROM itme WHERE tenant = :tenant AND id = :id");
  EXPECT_EQ(no_table.status, 65);
  EXPECT_THAT(no_table.output, AllOf(HasSubstr("21:14: families.broken.endpoints.item.sql"), HasSubstr("itme")));

  EXPECT_EQ(node->Catalog().DebugString(), before);
  pqxx::connection connection(Source());
  pqxx::nontransaction work(connection);
  EXPECT_EQ(work.exec1(absl::StrCat("SELECT count(*) FROM item WHERE version = 1"))[0].as<int>(), 2 * kItems);
}

// ---- What an application gets wrong ----

TEST_F(ReplicaTest, AReadThatTheCatalogDoesNotKnowIsNeverAQuery) {
  const auto node = StartNode();
  ASSERT_TRUE(AwaitTrue(kLimit, [&] { return node->Read(Ask("plain", 1)).status.ok(); }));
  const double statements = node->Metric("shadowline_control_statements_total");
  ASSERT_GT(statements, 0);

  const auto refused = [&](const v1::ReadRequest& request) { return node->Read(request).status; };
  const grpc::Status tenant = refused(Ask("plain", 1, "initech"));
  EXPECT_EQ(tenant.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(tenant.error_message(), HasSubstr("initech"));

  const grpc::Status endpoint = refused(Ask("plian", 1));
  EXPECT_EQ(endpoint.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(endpoint.error_message(), HasSubstr("plian/item"));

  v1::ReadRequest extra = Ask("plain", 1);
  extra.add_parameters()->set_name("colour");
  const grpc::Status parameter = refused(extra);
  EXPECT_EQ(parameter.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(parameter.error_message(), HasSubstr("colour"));

  v1::ReadRequest missing = Ask("plain", 1);
  missing.clear_parameters();
  const grpc::Status absent = refused(missing);
  EXPECT_EQ(absent.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(absent.error_message(), HasSubstr("id"));

  v1::ReadRequest text = Ask("plain", 1);
  text.mutable_parameters(0)->mutable_value()->set_text("1 OR 1 = 1");
  const grpc::Status type = refused(text);
  EXPECT_EQ(type.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(type.error_message(), AllOf(HasSubstr("id"), HasSubstr("integer")));

  EXPECT_EQ(node->Metric("shadowline_control_statements_total"), statements);
}

// ---- Health and reflection ----

TEST_F(ReplicaTest, AReadyReplicaIsServingAndListsItsServices) {
  const auto node = StartNode();
  grpc::health::v1::HealthCheckResponse health;
  ASSERT_TRUE(node->Health(&health).ok());
  EXPECT_EQ(health.status(), grpc::health::v1::HealthCheckResponse::SERVING);

  // ServerReflectionRequest{list_services: ""}: Debian has no generated client for it.
  grpc::GenericStub stub(node->channel);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kLimit));
  const auto await = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  const auto call =
      stub.PrepareCall(&context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  call->StartCall(nullptr);
  ASSERT_TRUE(await());
  const grpc::Slice bytes(std::string("\x3a\x00", 2));
  call->Write(grpc::ByteBuffer(&bytes, 1), nullptr);
  ASSERT_TRUE(await());
  grpc::ByteBuffer reply;
  call->Read(&reply, nullptr);
  ASSERT_TRUE(await());
  grpc::Slice slice;
  ASSERT_TRUE(reply.DumpToSingleSlice(&slice).ok());
  const std::string services(reinterpret_cast<const char*>(slice.begin()), slice.size());
  for (const char* service :
       {"shadowline.v1.ReadService", "shadowline.v1.CacheService", "shadowline.v1.CatalogService",
        "shadowline.v1.RolloutService", "shadowline.v1.FlagService", "shadowline.v1.DivergenceService",
        "shadowline.v1.ObserveService", "grpc.health.v1.Health"}) {
    EXPECT_THAT(services, HasSubstr(service));
  }
  context.TryCancel();
  grpc::Status status;
  call->Finish(&status, nullptr);
  await();
  queue.Shutdown();
}

// ---- PostgreSQL ----

TEST_F(ReplicaTest, WithoutPostgresItWaitsAndSaysSoAndNeedsNoRestart) {
  postgres_->Kill();
  Node node(OptionsOf("a"));
  ASSERT_TRUE(AwaitTrue(kLimit, [&] { return Http(node.server, "/healthz").first == 200; }));
  // The reason is PostgreSQL's own, once it was tried.
  ASSERT_TRUE(AwaitTrue(kLimit, [&] {
    const auto [status, body] = Http(node.server, "/readyz");
    return status == 503 && absl::StrContains(body, "database: PostgreSQL: ");
  })) << Http(node.server, "/readyz").second;
  grpc::health::v1::HealthCheckResponse health;
  EXPECT_FALSE(node.Health(&health).ok() && health.status() == grpc::health::v1::HealthCheckResponse::SERVING);
  EXPECT_TRUE(node.server.Running());

  postgres_->Start();
  node.Apply(kCatalog);
  node.server.AwaitReady();
  ASSERT_TRUE(node.Health(&health).ok());
  EXPECT_EQ(health.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  EXPECT_EQ(node.Read(Ask("plain", 1)).Version(), 1);
}

TEST_F(ReplicaTest, WhileItWaitsForPostgresItCanBeStopped) {
  support::Shadowlined::Options options = OptionsOf("a");
  options.source = "host=/nonexistent dbname=app";
  Node node(options);
  ASSERT_TRUE(AwaitTrue(kLimit, [&] { return absl::StrContains(node.server.Log(), "start_waits"); }));
  EXPECT_EQ(node.server.Terminate(), 0);
}

TEST_F(ReplicaTest, PostgresKilledUnderLoad) {
  const auto node = StartNode();
  node->Promote("stock");
  AwaitCached(node.get(), "stock");
  Load load({node.get()}, {"stock", "plain"}, &history_);
  ASSERT_TRUE(load.AwaitMore(50, In("stock", Hit)));
  ASSERT_TRUE(load.AwaitMore(50, In("plain", Answered)));

  postgres_->Kill();
  const absl::Duration killed = clock_.Steady();
  EXPECT_TRUE(load.AwaitMore(20, In("plain", Failed)));
  // The cache is trusted for as long as the flag lease holds, and no longer.
  EXPECT_TRUE(load.AwaitMore(20, In("stock", Hit)));
  EXPECT_TRUE(load.AwaitMore(50, In("stock", Failed)));
  EXPECT_TRUE(AwaitTrue(kLimit, [&] { return Http(node->server, "/readyz").first == 503; }));
  EXPECT_THAT(Http(node->server, "/readyz").second, HasSubstr("lease has lapsed"));
  const absl::Duration restarted = clock_.Steady();
  postgres_->Start();

  EXPECT_TRUE(load.AwaitMore(50, In("plain", Answered)));
  EXPECT_TRUE(load.AwaitMore(50, In("stock", Hit))) << "the flag lease was not renewed";
  EXPECT_TRUE(AwaitTrue(kLimit, [&] { return Http(node->server, "/readyz").first == 200; }));
  const absl::Duration recovered = clock_.Steady();
  const int64_t version = Write(1);
  ASSERT_TRUE(AwaitTrue(kLimit, [&] { return node->Invalidate(1).ok(); }));
  EXPECT_EQ(node->Read(Ask("stock", 1)).Version(), version);
  EXPECT_TRUE(load.AwaitMore(50, Answered));
  load.Stop();

  EXPECT_TRUE(node->server.Running());
  EXPECT_EQ(load.Wrong(), 0u);
  EXPECT_THAT(load.Failures(), Each(AnyOf(grpc::StatusCode::UNAVAILABLE, grpc::StatusCode::DEADLINE_EXCEEDED)));
  EXPECT_EQ(load.Count([&](const Load::Seen& seen) {
    return Hit(seen) && seen.sent > killed + kLease && seen.received < restarted;
  }),
            0u)
      << "served from the cache without a lease";
  EXPECT_EQ(load.Count([&](const Load::Seen& seen) { return Failed(seen) && seen.sent > recovered; }), 0u);
}

TEST_F(ReplicaTest, ACatalogFileWaitsForTheDatabaseThatItIsCheckedAgainst) {
  const support::ScratchFolder folder("catalog");
  std::ofstream(folder.path() + "/catalog.yaml") << kCatalog;
  const std::string later = absl::StrCat(database_, "_later");
  support::Shadowlined::Options options = OptionsOf("a");
  options.source = postgres_->ConnectionString(later);
  absl::StrAppend(&options.extra_config, "state: {url: \"", Source(), "\"}\ncatalog: ", folder.path(),
                  "/catalog.yaml\n");
  Node node(options);
  ASSERT_TRUE(AwaitTrue(kLimit, [&] {
    const auto [status, body] = Http(node.server, "/readyz");
    return !node.server.Running() || (status == 503 && absl::StrContains(body, later));
  }));
  ASSERT_TRUE(node.server.Running()) << node.server.Log();
  // It is whole when it appears: a catalog that does not fit to it would be an error.
  const std::string made = postgres_->CreateDatabase();
  {
    pqxx::connection connection(postgres_->ConnectionString(made));
    pqxx::nontransaction work(connection);
    work.exec("CREATE TABLE item AS SELECT 'acme'::text AS tenant, 1::bigint AS id, 1::bigint AS version");
  }
  {
    pqxx::connection connection(Source());
    pqxx::nontransaction work(connection);
    work.exec(absl::StrCat("ALTER DATABASE ", made, " RENAME TO ", later));
  }
  node.server.AwaitReady();
  EXPECT_EQ(node.Read(Ask("plain", 1)).Version(), 1);
}

// ---- Redis ----

TEST_F(ReplicaTest, ReadinessWaitsForRedisAtTheStartAndNotForLong) {
  redis_.Freeze();
  support::Shadowlined::Options options = OptionsOf("a");
  options.await_ready = false;
  Node node(options);
  node.Apply(kCatalog);
  EXPECT_TRUE(AwaitTrue(kLimit, [&] {
    const auto [status, body] = Http(node.server, "/readyz");
    return status == 503 && absl::StrContains(body, "Redis is not reached yet");
  }));
  node.server.AwaitReady();
  EXPECT_TRUE(node.Read(Ask("plain", 1)).status.ok());
  redis_.Thaw();
}

TEST_F(ReplicaTest, RedisKilledUnderLoadFailsNoRead) {
  const auto node = StartNode();
  node->Promote("stock");
  AwaitCached(node.get(), "stock");
  Load load({node.get()}, {"stock"}, &history_);
  ASSERT_TRUE(load.AwaitMore(50, Hit));

  redis_.Kill();
  EXPECT_TRUE(
      load.AwaitMore(50, [](const Load::Seen& seen) { return Answered(seen) && seen.source == v1::SOURCE_DATABASE; }));
  // A write that cannot be made known is not acknowledged, and read all the same.
  const int64_t version = Write(1);
  EXPECT_EQ(node->Invalidate(1).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(node->Read(Ask("stock", 1)).Version(), version);

  redis_.Start();
  EXPECT_TRUE(AwaitTrue(kLimit, [&] { return node->Invalidate(1).ok(); }));
  EXPECT_TRUE(load.AwaitMore(100, Hit));
  load.Stop();
  EXPECT_TRUE(node->server.Running());
  EXPECT_EQ(load.Wrong(), 0u);
  EXPECT_THAT(load.Failures(), IsEmpty());
}

TEST_F(ReplicaTest, RedisFrozenUnderLoadFailsNoRead) {
  const auto node = StartNode();
  node->Promote("stock");
  AwaitCached(node.get(), "stock");
  Load load({node.get()}, {"stock", "plain"}, &history_);
  ASSERT_TRUE(load.AwaitMore(50, In("stock", Hit)));

  redis_.Freeze();
  EXPECT_TRUE(load.AwaitMore(
      100, In("stock", [](const Load::Seen& seen) { return Answered(seen) && seen.source == v1::SOURCE_DATABASE; })));
  EXPECT_TRUE(load.AwaitMore(50, In("plain", Answered)));
  EXPECT_THAT(node->Invalidate(1).error_code(),
              AnyOf(grpc::StatusCode::UNAVAILABLE, grpc::StatusCode::DEADLINE_EXCEEDED));
  redis_.Thaw();

  EXPECT_TRUE(load.AwaitMore(100, In("stock", Hit)));
  const int64_t version = Write(1);
  ASSERT_TRUE(AwaitTrue(kLimit, [&] { return node->Invalidate(1).ok(); }));
  EXPECT_EQ(node->Read(Ask("stock", 1)).Version(), version);
  load.Stop();
  EXPECT_EQ(load.Wrong(), 0u);
  EXPECT_THAT(load.Failures(), IsEmpty());
}

TEST_F(ReplicaTest, WhatCouldNotBeInvalidatedWhileRedisHungIsNoAnswerBeyondTheBound) {
  const auto node = StartNode();
  node->Promote("stock");
  AwaitCached(node.get(), "stock");
  Load load({node.get()}, {"stock"}, &history_);
  ASSERT_TRUE(load.AwaitMore(50, Hit));

  redis_.Freeze();
  ASSERT_TRUE(AwaitTrue(kLimit, [&] { return node->Metric("shadowline_redis_up") == 0; }));
  // Whoever tried to invalidate these now would be told that it cannot be done.
  for (int id = 1; id <= kItems; ++id) Write(id);
  const absl::Duration written = clock_.Steady();
  ASSERT_TRUE(AwaitTrue(kLimit, [&] { return clock_.Steady() > written + 2 * kFreshness; }));
  redis_.Thaw();

  EXPECT_TRUE(load.AwaitMore(200, Hit));
  load.Stop();
  EXPECT_EQ(load.Wrong(), 0u);
  EXPECT_THAT(load.Failures(), IsEmpty());
}

TEST_F(ReplicaTest, GarbageInRedisIsACountedMiss) {
  const auto node = StartNode();
  node->Promote("stock");
  AwaitCached(node.get(), "stock");
  const double garbage = node->Metric("shadowline_candidate_reads_total", "garbage");

  cache::RedisClient redis(redis_.socket());
  std::vector<std::string> keys;
  for (const cache::Reply& key : redis.Command({"KEYS", "sl:acme:stock/*"}).elements) keys.push_back(key.text);
  ASSERT_EQ(keys.size(), static_cast<size_t>(kItems));
  // Somebody else's value under this key, cut off, with one bit changed, of another type, or nothing like it.
  const std::string other = redis.Command({"GET", keys[1]}).text;
  for (size_t i = 0; i < keys.size(); ++i) {
    std::string value = redis.Command({"GET", keys[i]}).text;
    redis.Command({"DEL", keys[i]});
    switch (i % 5) {
      case 0: {
        // Behind this key's own fences: 17 bytes of kind and fill, how many fences, 16 bytes for each.
        const size_t fences = 1 + 16 * static_cast<size_t>(value[17]);
        redis.Command({"SET", keys[i], other.substr(0, 17) + value.substr(17, fences) + other.substr(17 + fences)});
        break;
      }
      case 1:
        redis.Command({"SET", keys[i], value.substr(0, value.size() / 2)});
        break;
      case 2:
        value[value.size() / 2] ^= 1;
        redis.Command({"SET", keys[i], value});
        break;
      case 3:
        redis.Command({"LPUSH", keys[i], value});
        break;
      case 4:
        redis.Command({"SET", keys[i], "\x01garbage"});
        break;
    }
  }
  for (int id = 1; id <= kItems; ++id) {
    const Answer answer = node->Read(Ask("stock", id));
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.response.body(), absl::StrCat("{\"versions\":\"item/acme/", id, "=1\"}"));
    EXPECT_EQ(answer.response.source(), v1::SOURCE_DATABASE);
  }
  EXPECT_EQ(node->Metric("shadowline_candidate_reads_total", "garbage"), garbage + kItems);
  AwaitCached(node.get(), "stock");
}

// ---- Two replicas ----

TEST_F(ReplicaTest, ARollbackThroughOneReplicaIsObeyedByTheOtherWithinTheLease) {
  const auto one = StartNode("one");
  const auto other = StartNode("other");
  one->Promote("stock");
  AwaitCached(one.get(), "stock");
  AwaitCached(other.get(), "stock");
  Load load({other.get()}, {"stock"}, &history_);
  ASSERT_TRUE(load.AwaitMore(50, Hit));
  ASSERT_TRUE(one->Rollback("stock").ok());
  const absl::Duration acknowledged = clock_.Steady();
  EXPECT_TRUE(AwaitTrue(kLimit, [&] {
    return load.Count([&](const Load::Seen& seen) { return seen.sent > acknowledged + kLease; }) > 50;
  }));
  load.Stop();
  EXPECT_THAT(load.Failures(), IsEmpty());
  EXPECT_EQ(load.Count([&](const Load::Seen& seen) { return Hit(seen) && seen.sent > acknowledged + kLease; }), 0u);
}

TEST_F(ReplicaTest, AReplicaThatWasStoppedAcrossARollbackAndCannotHearOfItStillObeysIt) {
  const auto one = StartNode("one");
  const auto other = StartNode("other");
  one->Promote("stock");
  AwaitCached(one.get(), "stock");
  AwaitCached(other.get(), "stock");

  other->server.Freeze();
  // These are in its sockets before it can know of the rollback, and are the first that it sees when it wakes up.
  Load load({other.get()}, {"stock"}, &history_);
  ASSERT_TRUE(load.AwaitSent(20));
  ASSERT_TRUE(one->Rollback("stock").ok());
  const absl::Duration acknowledged = clock_.Steady();
  // Nor can it ask: only its lease tells it.
  postgres_->Kill();
  ASSERT_TRUE(AwaitTrue(kLimit, [&] { return clock_.Steady() > acknowledged + kLease; }));
  EXPECT_THAT(load.All(), IsEmpty()) << "it was not stopped";
  other->server.Thaw();
  EXPECT_TRUE(load.AwaitMore(50, Failed));
  EXPECT_GT(load.Count([&](const Load::Seen& seen) { return seen.sent < acknowledged; }), 0u);

  postgres_->Start();
  EXPECT_TRUE(load.AwaitMore(50, Answered));
  load.Stop();
  EXPECT_EQ(load.Count(Hit), 0u);
  EXPECT_EQ(load.Wrong(), 0u);
}

TEST_F(ReplicaTest, AnInvalidationThatIsAcknowledgedIsObeyedByBothReplicas) {
  const auto one = StartNode("one");
  const auto other = StartNode("other");
  one->Promote("stock");
  AwaitCached(one.get(), "stock");
  AwaitCached(other.get(), "stock");
  // Fills are under way on both all the time.
  Load load({one.get(), other.get()}, {"stock"}, &history_, 1000);
  for (int i = 0; i < 200; ++i) {
    const int64_t id = i % 4 + 1;
    const int64_t version = Write(id);
    ASSERT_TRUE((i % 2 == 0 ? one : other)->Invalidate(id).ok());
    for (Node* node : {one.get(), other.get()}) {
      const Answer answer = node->Read(Ask("stock", id));
      ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
      ASSERT_GE(answer.Version(), version) << "round " << i << ", " << answer.response.ShortDebugString();
    }
  }
  load.Stop();
  EXPECT_EQ(load.Wrong(), 0u);
  EXPECT_THAT(load.Failures(), IsEmpty());
  EXPECT_GT(load.Count(Hit), 0u);
}

// The same, where each replica answers from its own memory, which no other one can reach.
TEST_F(ReplicaTest, P6AnInvalidationThatIsAcknowledgedIsObeyedByNearCaches) {
  const auto one = StartNode("one");
  const auto other = StartNode("other");
  one->Apply(absl::StrReplaceAll(kCatalog, {{"ttl: 10m", "ttl: 10m\n        near: true"}}));
  one->Promote("stock");
  AwaitCached(one.get(), "stock");
  AwaitCached(other.get(), "stock");
  const auto near = [](const Load::Seen& seen) { return Answered(seen) && seen.source == v1::SOURCE_NEAR_CACHE; };
  Load load({one.get(), other.get()}, {"stock"}, &history_, 1000);
  ASSERT_TRUE(load.AwaitMore(100, near));
  for (int i = 0; i < 200; ++i) {
    const int64_t id = i % 4 + 1;
    const int64_t version = Write(id);
    ASSERT_TRUE((i % 2 == 0 ? one : other)->Invalidate(id).ok());
    for (Node* node : {one.get(), other.get()}) {
      const Answer answer = node->Read(Ask("stock", id));
      ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
      ASSERT_GE(answer.Version(), version) << "round " << i << ", " << answer.response.ShortDebugString();
    }
  }
  ASSERT_TRUE(load.AwaitMore(100, near));
  load.Stop();
  EXPECT_EQ(load.Wrong(), 0u);
  EXPECT_THAT(load.Failures(), IsEmpty());
  EXPECT_GT(one->Metric("shadowline_near_lookups_total", R"(outcome="hit")"), 0);
  EXPECT_GT(one->Metric("shadowline_near_tracked"), 0);
}

// Both masters are alive, and each replica is connected to its own: what a partition does, or a failover that has not
// reached everybody.
TEST_F(ReplicaTest, P6AMasterThatWasReplacedIsNotReadAnyMoreThoughItStillAnswers) {
  const support::PrivateRedis successor({"--replicaof", "127.0.0.1", absl::StrCat(redis_.port())});
  cache::RedisClient promoted(successor.socket());
  ASSERT_TRUE(AwaitTrue(kLimit, [&] {
    return absl::StrContains(promoted.Command({"INFO", "replication"}).text, "master_link_status:up");
  }));
  const auto one = StartNode("one");
  support::Shadowlined::Options options = OptionsOf("two");
  options.redis = "unix:" + successor.socket();
  const auto two = std::make_unique<Node>(std::move(options));
  one->Promote("stock");
  AwaitCached(one.get(), "stock");

  ASSERT_EQ(promoted.Command({"REPLICAOF", "NO", "ONE"}).type, cache::Reply::Type::kStatus);
  ASSERT_EQ(Write(1), 2);
  ASSERT_TRUE(AwaitTrue(kLimit, [&] { return two->Invalidate(1).ok(); })) << two->server.Log();
  EXPECT_EQ(one->Read(Ask("stock", 1)).Version(), 2) << one->server.Log();
  // Nor does it acknowledge what it fences where nobody looks.
  ASSERT_EQ(Write(1), 3);
  EXPECT_EQ(one->Invalidate(1).error_code(), grpc::StatusCode::UNAVAILABLE);
  ASSERT_TRUE(AwaitTrue(kLimit, [&] { return two->Invalidate(1).ok(); }));
  EXPECT_EQ(one->Read(Ask("stock", 1)).Version(), 3);
  EXPECT_TRUE(AwaitTrue(kLimit, [&] { return two->Read(Ask("stock", 1)).FromCache(); }));
  EXPECT_EQ(two->Read(Ask("stock", 1)).Version(), 3);
}

// Redis as a cluster over TLS whose slots move and whose master dies: no read fails, and none is old.
TEST_F(ReplicaTest, P6AClusterThatChangesServesNothingOld) {
  const support::PrivateAuthority authority;
  std::vector<std::string> settings = authority.ServerArguments();
  settings.insert(settings.end(), {"--tls-cluster", "yes"});
  support::PrivateRedisCluster cluster(3, settings);
  const auto on_cluster = [&](const std::string& name) {
    support::Shadowlined::Options options = OptionsOf(name);
    options.redis =
        absl::StrCat("{cluster: [\"", absl::StrJoin(cluster.addresses(), "\", \""),
                     "\"], timeout: 1s, tls: {enabled: true, ca: ", authority.ca(),
                     ", certificate: ", authority.client_certificate(), ", key: ", authority.client_key(), "}}");
    return options;
  };
  const auto one = std::make_unique<Node>(on_cluster("one"));
  one->Apply(kCatalog);
  one->server.AwaitReady();
  const auto other = std::make_unique<Node>(on_cluster("other"));
  other->server.AwaitReady();
  one->Promote("stock");
  AwaitCached(one.get(), "stock");
  AwaitCached(other.get(), "stock");
  Load load({one.get(), other.get()}, {"stock"}, &history_, 200);
  int acknowledged = 0;
  const auto write = [&](int round) {
    const int64_t id = round % 4 + 1;
    const int64_t version = Write(id);
    if (!(round % 2 == 0 ? one : other)->Invalidate(id).ok()) return;
    ++acknowledged;
    for (Node* node : {one.get(), other.get()}) {
      const Answer answer = node->Read(Ask("stock", id));
      ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
      ASSERT_GE(answer.Version(), version) << "round " << round << ", " << answer.response.ShortDebugString();
    }
  };
  for (int round = 0; round < 60; ++round) {
    const std::string fence = cache::FenceKey("acme", absl::StrCat("item:", round % 4 + 1));
    cluster.MoveSlot(static_cast<int>(cache::SlotOf(fence)), round / 4 % 3);
    write(round);
  }
  EXPECT_GT(acknowledged, 0);
  EXPECT_TRUE(load.AwaitMore(100, Hit)) << one->server.Log();
  EXPECT_TRUE(AwaitTrue(kLimit, [&] {
    return one->Metric("shadowline_redis_redirects_total", "moved") > 0 && one->Metric("shadowline_redis_up") == 1;
  }));

  cluster.KillMaster(0);
  for (int round = 0; round < 20; ++round) write(round);
  cluster.AwaitHealthy();
  const int before = acknowledged;
  EXPECT_TRUE(AwaitTrue(kLimit, [&] {
    for (int round = 0; round < 4; ++round) write(round);
    return acknowledged >= before + 20;
  })) << one->server.Log();
  EXPECT_TRUE(load.AwaitMore(100, Hit)) << one->server.Log();
  load.Stop();
  EXPECT_EQ(load.Wrong(), 0u);
  EXPECT_THAT(load.Failures(), IsEmpty());
}

// The invalidation is ahead of the commit, as change capture's can be. Without its transaction in the fence, the first
// read would leave the old version in the cache, and nothing would take it away.
TEST_F(ReplicaTest, WhatATransactionThatIsStillOpenWillChangeIsNotCachedBehindItsFence) {
  const auto node = StartNode();
  node->Promote("stock");
  AwaitCached(node.get(), "stock");
  pqxx::connection connection(Source());
  pqxx::work work(connection);
  work.exec("UPDATE item SET version = 2 WHERE tenant = 'acme' AND id = 1");
  const auto writer = work.exec1("SELECT pg_current_xact_id()::text")[0].as<uint64_t>();
  ASSERT_TRUE(node->Invalidate(1, "acme", {writer}).ok());
  for (int i = 0; i < 3; ++i) {
    const Answer answer = node->Read(Ask("stock", 1));
    EXPECT_EQ(answer.Version(), 1) << "that is what the database holds";
    EXPECT_EQ(answer.response.reason(), v1::READ_REASON_CACHE_MISS);
  }
  work.commit();
  EXPECT_EQ(node->Read(Ask("stock", 1)).Version(), 2);
  const Answer cached = node->Read(Ask("stock", 1));
  EXPECT_EQ(cached.Version(), 2);
  EXPECT_TRUE(cached.FromCache());
}

// The check's need: the same story where the fence names no transaction, so that there is nothing to check.
TEST_F(ReplicaTest, WithoutTheTransactionInTheFenceAStaleValueGetsIn) {
  const auto node = StartNode();
  node->Promote("stock");
  AwaitCached(node.get(), "stock");
  pqxx::connection connection(Source());
  pqxx::work work(connection);
  work.exec("UPDATE item SET version = 2 WHERE tenant = 'acme' AND id = 1");
  ASSERT_TRUE(node->Invalidate(1, "acme").ok());
  EXPECT_EQ(node->Read(Ask("stock", 1)).Version(), 1);
  work.commit();
  const Answer stale = node->Read(Ask("stock", 1));
  EXPECT_EQ(stale.Version(), 1);
  EXPECT_TRUE(stale.FromCache());
  ASSERT_TRUE(node->Invalidate(1, "acme").ok()) << "the writer's own, after its commit";
  EXPECT_EQ(node->Read(Ask("stock", 1)).Version(), 2);
}

TEST_F(ReplicaTest, AWriteThatNobodyInvalidatedIsFencedByCapture) {
  const auto one = StartNode("one");
  const auto other = StartNode("other");
  one->Apply(absl::StrCat(kCatalog, kCapture));
  one->Promote("stock");
  AwaitCached(one.get(), "stock");
  AwaitCached(other.get(), "stock");
  for (int i = 0; i < 20; ++i) {
    const int64_t id = 1 + i % kItems;
    const int64_t version = Write(id);
    v1::ReadRequest own = Ask("stock", id);
    own.set_at_least(Query("SELECT pg_current_wal_insert_lsn()"));
    EXPECT_EQ(one->Read(own).Version(), version) << "a reader who knows of the write";
    EXPECT_EQ(other->Read(own).Version(), version);
    ASSERT_TRUE(AwaitTrue(kLimit,
                          [&] {
                            const Answer answer = other->Read(own);
                            return answer.FromCache() && answer.Version() == version;
                          }))
        << one->server.Log() << other->server.Log();
  }
  for (Node* node : {one.get(), other.get()}) {
    EXPECT_TRUE(AwaitTrue(kLimit, [&] {
      node->Read(Ask("stock", 1));
      return node->Metric("shadowline_certified_reads_total", R"(outcome="certified")") > 0;
    })) << node->server.Log();
  }
  // What cannot be said tag by tag drops the family.
  Query("TRUNCATE item");
  for (Node* node : {one.get(), other.get()}) {
    ASSERT_TRUE(AwaitTrue(kLimit, [&] { return !node->Read(Ask("stock", 1)).response.found(); })) << one->server.Log();
  }
}

// A capture that has died, or is refused, invalidates nothing; and no replica goes on as if it did, whether it can
// capture itself or not.
TEST_F(ReplicaTest, WhileNobodyCapturesWhatIsCapturedIsReadFromTheDatabase) {
  const auto one = StartNode("one");
  const auto other = std::make_unique<Node>(OptionsOf("other", /*captures=*/false));
  other->server.AwaitReady();
  one->Apply(absl::StrCat(kCatalog, kCapture));
  one->Promote("stock");
  AwaitCached(one.get(), "stock");
  AwaitCached(other.get(), "stock");

  one->server.Kill();
  ASSERT_TRUE(AwaitTrue(kLimit, [&] {
    return Query("SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = '" + database_ + "'") == "0";
  }));
  const std::string another = "SELECT pg_create_logical_replication_slot('" + database_ + "', 'test_decoding')";
  const std::string drop = "SELECT pg_drop_replication_slot('" + database_ + "')";
  Query(drop);
  Query(another);
  const int64_t version = Write(1);
  const auto reads_database = [&](Node* node) {
    const Answer answer = node->Read(Ask("stock", 1));
    return answer.response.reason() == v1::READ_REASON_CACHE_UNAVAILABLE && answer.Version() == version;
  };
  EXPECT_TRUE(AwaitTrue(kLimit, [&] { return reads_database(other.get()); })) << other->server.Log();
  EXPECT_TRUE(AwaitTrue(kLimit, [&] { return other->Metric("shadowline_capture_covered") == 0; }));
  EXPECT_THAT(other->server.Log(), HasSubstr("\"event\":\"capture_away\""));

  one->server.Start();
  one->server.AwaitReady();
  ASSERT_TRUE(AwaitTrue(kLimit, [&] { return absl::StrContains(one->server.Log(), "of another kind"); }));
  EXPECT_TRUE(AwaitTrue(kLimit, [&] { return reads_database(one.get()); }));
  EXPECT_TRUE(reads_database(other.get()));

  Query(drop);
  for (Node* node : {one.get(), other.get()}) {
    EXPECT_TRUE(AwaitTrue(kLimit, [&] {
      const Answer answer = node->Read(Ask("stock", 1));
      EXPECT_EQ(answer.Version(), version) << "what was cached before is not served again";
      return answer.FromCache();
    })) << node->server.Log();
  }
}

// Nobody says which rows have changed: everything is dropped, and no replica answers with it once the purge is
// acknowledged, not even one that has not heard of it yet.
TEST_F(ReplicaTest, APurgeThatIsAcknowledgedIsObeyedByBothReplicas) {
  const auto one = StartNode("one");
  const auto other = StartNode("other");
  one->Promote("stock");
  AwaitCached(one.get(), "stock");
  AwaitCached(other.get(), "stock");
  const auto purge = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"--server", one->server.address(), "cache", "purge"});
    return RunProgram("shadowline", std::move(arguments));
  };
  const auto inspect = [&](const std::string& id) {
    return RunProgram("shadowline",
                      {"--server", other->server.address(), "cache", "inspect", "acme", "stock/item", "id=" + id});
  };
  const Outcome cached = inspect("1");
  EXPECT_EQ(cached.status, 0) << cached.output;
  EXPECT_THAT(cached.output, AllOf(HasSubstr("would be an answer"), HasSubstr("item:1  stands  yes")));
  EXPECT_EQ(inspect("one").status, 65);

  const int64_t version = Write(1);
  EXPECT_EQ(purge({"nothing", "--reason", "x"}).status, 66);
  EXPECT_EQ(purge({"stock", "--tenant", "nobody", "--reason", "x"}).status, 66);
  EXPECT_EQ(other->Read(Ask("stock", 1)).Version(), version - 1) << "nothing was dropped yet";

  const absl::Duration began = clock_.Steady();
  const Outcome purged = purge({"stock", "--tenant", "acme", "--reason", "a partition is gone", "--who", "ada"});
  EXPECT_GE(clock_.Steady() - began, kLease) << "a replica that is cut off may answer for so long";
  EXPECT_EQ(purged.status, 0) << purged.output;
  EXPECT_THAT(purged.output, HasSubstr("1 target of stock"));
  const Outcome dropped = inspect("1");
  EXPECT_EQ(dropped.status, 1) << dropped.output;
  EXPECT_THAT(dropped.output, HasSubstr("nothing is cached"));
  for (Node* node : {one.get(), other.get()}) EXPECT_EQ(node->Read(Ask("stock", 1)).Version(), version);
  EXPECT_EQ(Query("SELECT tenant || ', ' || from_mode || ' to ' || to_mode || ', ' || who || ', ' || why "
                  "FROM shadowline.flip WHERE family = 'stock' ORDER BY id DESC LIMIT 1"),
            "acme, CACHE to CACHE, ada, epoch " +
                Query("SELECT epoch - 1 || ' -> ' || epoch FROM shadowline.target "
                      "WHERE family = 'stock' AND tenant = 'acme'") +
                ": purge: a partition is gone");
}

// ---- The end of a replica ----

TEST_F(ReplicaTest, DrainingAnswersWhatIsInFlightAndFlushesTheEvidence) {
  const auto one = StartNode("one");
  const auto other = StartNode("other");
  one->Promote("audited");
  FillOnce(one.get(), "audited");
  TableLock lock(Source());
  // Held by the database: in flight when the replica is told to stop. Verifications of the cached reads wait as well.
  std::vector<Answer> answers(4);
  std::vector<std::thread> callers;
  for (size_t i = 0; i < answers.size(); ++i) {
    callers.emplace_back([&, i] { answers[i] = one->Read(Ask("plain", static_cast<int64_t>(i) + 1)); });
  }
  const uint64_t sampled = ReadLocked(one.get(), "audited");
  EXPECT_TRUE(AwaitTrue(kLimit, [&] { return TableLock::Waiting(Source()) > static_cast<int64_t>(answers.size()); }));
  support::Shadowlined& server = one->server;
  int status = -1;
  std::thread terminator([&] { status = server.Terminate(); });
  EXPECT_TRUE(AwaitTrue(kLimit, [&] { return absl::StrContains(server.Log(), "draining"); }));
  lock.Release();
  for (std::thread& caller : callers) caller.join();
  terminator.join();
  EXPECT_EQ(status, 0) << server.Log();
  for (const Answer& answer : answers) EXPECT_EQ(answer.Version(), 1) << answer.status.error_message();

  const v1::Ledger ledger = other->Ledger("audited");
  EXPECT_GE(ledger.sampled(), sampled);
  EXPECT_EQ(ledger.sampled(), Verdicts(ledger)) << ledger.ShortDebugString();
  EXPECT_EQ(ledger.pending(), 0u);
  EXPECT_EQ(ledger.lost(), 0u);
}

TEST_F(ReplicaTest, WhatAKilledReplicaHadNotJudgedIsLostAndTheLedgerBalances) {
  const auto one = StartNode("one");
  const auto other = StartNode("other");
  one->Promote("audited");
  FillOnce(one.get(), "audited");
  TableLock lock(Source());
  const uint64_t sampled = ReadLocked(one.get(), "audited");
  v1::Ledger ledger;
  ASSERT_TRUE(AwaitTrue(kLimit, [&] {
    ledger = other->Ledger("audited");
    return ledger.pending() >= sampled;
  })) << ledger.ShortDebugString();
  one->server.Kill();
  EXPECT_TRUE(AwaitTrue(kLimit, [&] {
    ledger = other->Ledger("audited");
    return ledger.pending() == 0;
  })) << ledger.ShortDebugString();
  lock.Release();
  EXPECT_GE(ledger.lost(), sampled);
  EXPECT_EQ(ledger.sampled(), Verdicts(ledger)) << ledger.ShortDebugString();
}

}  // namespace
}  // namespace shadowline
