#include "server/replica.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "base/clock.h"
#include "base/event_loop.h"
#include "base/executor.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/postgres/session.h"
#include "base/random.h"
#include "base/status.h"
#include "cache/capture/fencer.h"
#include "cache/capture/postgres/outbox.h"
#include "cache/capture/postgres/stream.h"
#include "cache/capture/watermark.h"
#include "cache/catalog/parse.h"
#include "cache/catalog/postgres/catalog_store.h"
#include "cache/certify/certifier.h"
#include "cache/certify/postgres/feed_listener.h"
#include "cache/certify/postgres/feed_sender.h"
#include "cache/fill/filler.h"
#include "cache/invalidate/invalidator.h"
#include "cache/near/near_cache.h"
#include "cache/near/near_terms.h"
#include "cache/origin/admitted_control.h"
#include "cache/origin/gathering_control.h"
#include "cache/origin/postgres/control_pool.h"
#include "cache/redis/near_feed.h"
#include "cache/redis/redis_store.h"
#include "cache/redis/tls.h"
#include "cache/warm/hot_keys.h"
#include "cache/warm/warmer.h"
#include "diff/evidence/file/file_spool.h"
#include "diff/evidence/flusher.h"
#include "diff/evidence/ledger.h"
#include "diff/evidence/postgres/evidence.h"
#include "flags/board.h"
#include "flags/postgres/poller.h"
#include "rollout/controller/controller.h"
#include "rollout/controller/store_commands.h"
#include "rollout/postgres/epochs.h"
#include "rollout/postgres/state_store.h"
#include "server/catalog_loader.h"
#include "server/fleet_lives.h"
#include "server/postgres/migrate.h"
#include "server/read/back_off.h"
#include "server/read/batch_reader.h"
#include "server/read/cached_reader.h"
#include "server/read/catalog_holder.h"
#include "server/read/decider.h"
#include "server/read/inspector.h"
#include "server/read/keeper.h"
#include "server/read/observer.h"
#include "server/read/replayer.h"
#include "server/read/tokens.h"
#include "server/read/verifier.h"
#include "server/rpc/admin.h"
#include "server/rpc/admin_services.h"
#include "server/rpc/health_service.h"
#include "server/rpc/http.h"
#include "server/rpc/lane.h"
#include "server/rpc/observe_service.h"
#include "server/rpc/read_service.h"
#include "server/rpc/readiness.h"

namespace shadowline::server {
namespace {

using base::Level;
using base::Log;

constexpr absl::Duration kRetryMin = absl::Milliseconds(100);
constexpr absl::Duration kRetryMax = absl::Seconds(2);
// gRPC's synchronous threads: admin calls, watches and health. Beyond it gRPC answers RESOURCE_EXHAUSTED.
constexpr int kAdminThreadsMax = 64;
constexpr absl::Duration kGaugesEvery = absl::Seconds(1);
constexpr size_t kTwinsQueue = 4;
constexpr absl::Duration kRefreshTenantsEvery = absl::Seconds(60);
constexpr absl::Duration kExpireSealsEvery = absl::Minutes(1);
// How long a replica that starts waits for Redis before it is ready, and how often it looks.
constexpr absl::Duration kAwaitCacheMost = absl::Seconds(1);
constexpr absl::Duration kAwaitCacheEvery = absl::Milliseconds(10);
constexpr absl::Duration kRetireEvidenceEvery = absl::Minutes(10);

// A random UUID (version 4), in its text form.
std::string NewUuid(base::Random* random) {
  std::string bytes = random->Id();
  bytes[6] = static_cast<char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<char>((bytes[8] & 0x3f) | 0x80);
  std::string text = absl::BytesToHexString(bytes);
  for (const size_t dash : {8, 13, 18, 23}) text.insert(dash, "-");
  return text;
}

// Everything that one lane owns.
struct LaneParts {
  LaneParts(uint64_t seed, std::unique_ptr<Lane> on) : random(seed), lane(std::move(on)) {}

  base::Random random;
  cache::HotKeys hot_keys;
  std::unique_ptr<Lane> lane;
  std::unique_ptr<cache::RedisStore> store;
  std::unique_ptr<cache::NearCache> near;
  std::unique_ptr<cache::RedisNearFeed> near_feed;
  std::unique_ptr<cache::GatheringControl> control;
  std::unique_ptr<cache::Filler> filler;
  std::unique_ptr<cache::Filler> refresher;
  std::unique_ptr<CachedReader> reader;
  std::unique_ptr<BatchReader> batch_reader;
};

}  // namespace

struct Replica::Parts {
  explicit Parts(const Options& o)
      : options(o),
        random(base::SystemSeed()),
        replica_id(NewUuid(&random)),
        readiness({"database", "catalog", "flags", "cache"}, [this](bool ready) { health.SetServing(ready); }),
        state(o.state.url, o.state.connections),
        source(o.source.url, 1),
        visibility(o.source.url, 1),
        board(&clock, o.flags.lease),
        near_terms(o.flags.lease),
        certifier({.max_bytes = o.certification.max_bytes}),
        catalog_store(
            {.changed_channel = flags::kChangedChannel, .search_path = o.source.search_path, .role = o.source.role},
            &state, &source),
        evidence(&state, replica_id, o.replica_name, o.evidence.lapse),
        ledger(&clock),
        lives(&board, &state, &state_pool, &clock),
        state_pool({.name = "state", .threads = 2, .queue_limit = 256}),
        background(&clock, "background") {}

  // Takes a step of the start again, with backoff, until it succeeds or can never succeed. `condition` says meanwhile
  // why this replica is not ready.
  absl::Status Await(const std::string& condition, absl::FunctionRef<absl::Status()> step,
                     const std::function<bool(absl::Duration)>& wait);
  absl::Status ApplyCatalogFile();
  absl::Status OpenSpool();
  void BuildVerification();
  void BuildDecisions();
  void BuildCapture();
  void AwaitCache(absl::Duration until);
  // For the fencer; on the state pool, where they may block.
  void FindInvisible(std::vector<uint64_t> transactions,
                     absl::AnyInvocable<void(absl::StatusOr<std::set<uint64_t>>)> done);
  void DropFamilies(std::set<cache::FamilyDrop> drops, absl::AnyInvocable<void(absl::Status)> done);
  // Calls back once no replica answers from an old epoch any more, with how many targets began a new one.
  void BeginEpochs(std::vector<rollout::NewEpochs> orders, absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done);
  // Whether this replica can have near caches; if not, what is in the way.
  absl::Status NearPossible() const;
  // Connects the near caches, at the first catalog that wants them.
  void StartNear();
  // Runs `task` once no replica's near cache serves what fences that stand now have outdated.
  void SettleNear(base::Task task);
  absl::Status Serve();
  void UpdateGauges();
  void UpdateNearMetrics();

  cache::RedisStore::Options RedisOptions();
  cache::PostgresControl::Options ControlOptions(const std::string& name, size_t connections, size_t queue);
  std::optional<rollout::CatalogFacts> FactsOf(const std::string& family) const;
  // Where the target's reads touch the cache.
  std::optional<uint64_t> EpochOf(const std::string& tenant, const std::string& family) const;

  const Options options;
  base::SystemClock clock;
  base::Metrics metrics;
  base::Random random;
  const std::string replica_id;
  HealthService health;
  Readiness readiness;
  std::atomic<bool> cache_awaited{false};
  std::unique_ptr<HttpPort> http;

  base::PostgresSessions state;
  base::PostgresSessions source;
  base::PostgresSessions visibility;  // The fencer's own: a catalog's check may take long.
  flags::Board board;
  CatalogHolder catalogs;
  cache::NearTerms near_terms;
  cache::Certifier certifier;
  cache::PostgresCatalogStore catalog_store;
  diff::PostgresEvidence evidence;
  diff::Ledger ledger;
  diff::NoiseBook noise;
  cache::FillFlight flight;
  BackOff back_off;

  // Executors come after what their tasks use, so that they end before it.
  std::unique_ptr<cache::PostgresControl> control_pool;
  std::unique_ptr<cache::AdmittedControl> control;  // What callers wait for.
  std::unique_ptr<cache::PostgresControl> verification_control;
  std::unique_ptr<cache::GatheringControl> gathering_control;  // Over that one.
  std::unique_ptr<cache::PostgresControl> twin_control;
  std::shared_ptr<const cache::TlsContext> redis_tls;  // Null: no TLS.
  std::unique_ptr<cache::RedisStore> store;
  std::unique_ptr<cache::Filler> filler;
  std::unique_ptr<cache::Filler> warm_filler;
  std::unique_ptr<cache::Warmer> warmer;
  std::unique_ptr<cache::Invalidator> invalidator;
  std::unique_ptr<Inspector> inspector;
  std::unique_ptr<Keeper> keeper;
  std::unique_ptr<Replayer> replayer;
  std::unique_ptr<cache::Fencer> fencer;
  cache::Watermark watermark;
  bool was_covered = true;                 // Of the background loop.
  std::unique_ptr<diff::FileSpool> spool;  // Null: none.
  std::unique_ptr<diff::Flusher> flusher;
  std::unique_ptr<Verifier> verifier;
  std::unique_ptr<Tokens> tokens;
  std::unique_ptr<Decider> decider;
  std::unique_ptr<Observer> observer;
  std::unique_ptr<CatalogLoader> loader;
  FleetLives lives;
  base::ThreadPool state_pool;
  base::EventLoop background;

  std::unique_ptr<rollout::PostgresStateStore> rollouts;
  std::unique_ptr<rollout::StoreCommands> commands;
  std::unique_ptr<rollout::PostgresLeadership> leadership;
  std::unique_ptr<rollout::Controller> controller;
  std::unique_ptr<flags::Poller> poller;
  std::unique_ptr<cache::FeedSender> feed_sender;  // Null: nothing is certified, or never captured.
  std::unique_ptr<cache::FeedListener> feed_listener;
  std::unique_ptr<cache::CaptureStream> capture;
  std::unique_ptr<cache::OutboxDrain> outbox;

  std::unique_ptr<Admin> admin;
  std::unique_ptr<AdminServices> admin_services;
  std::unique_ptr<ObserveService> observe_service;
  std::unique_ptr<ReadService> read_service;
  std::vector<std::unique_ptr<LaneParts>> lanes;
  std::array<uint64_t, 5> near_counted = {};
  std::unique_ptr<grpc::Server> server;

  uint64_t redis_moved = 0;  // As counted in the metrics,
  uint64_t redis_asked = 0;  // on the background loop.
};

Replica::Replica(Options options) : options_(std::move(options)), parts_(std::make_unique<Parts>(options_)) {}

Replica::~Replica() = default;

absl::Status Replica::Start(const std::function<bool(absl::Duration)>& wait) {
  Parts& p = *parts_;
  if (const auto& tls = options_.redis.tls; tls.enabled) {
    auto loaded = cache::TlsContext::Load({tls.ca, tls.certificate, tls.key, tls.server_name});
    if (!loaded.ok()) return base::Annotate(loaded.status(), "redis.tls");
    p.redis_tls = *std::move(loaded);
  }
  RETURN_IF_ERROR(p.OpenSpool());
  ASSIGN_OR_RETURN(p.http,
                   HttpPort::Start(options_.http_listen.host, options_.http_listen.port, &p.metrics, &p.readiness));
  Log(Level::kInfo, "starting",
      {{"replica", p.replica_id}, {"name", options_.replica_name}, {"http_port", p.http->port()}});
  RETURN_IF_ERROR(p.Await(
      "database", [&p] { return Migrate(&p.state); }, wait));
  p.readiness.SetMet("database");
  RETURN_IF_ERROR(p.Await(
      "catalog", [&p] { return p.ApplyCatalogFile(); }, wait));
  p.BuildVerification();
  p.BuildDecisions();
  p.BuildCapture();
  return p.Serve();
}

absl::Status Replica::ReloadCatalog() { return parts_->ApplyCatalogFile(); }

absl::Status Replica::Drain() {
  Parts& p = *parts_;
  p.readiness.SetUnmet("draining", "this replica was asked to stop");
  if (p.controller != nullptr) p.controller->Stop();
  p.capture->Stop();
  if (p.outbox != nullptr) p.outbox->Stop();
  if (p.feed_sender != nullptr) p.feed_sender->Stop();
  if (p.feed_listener != nullptr) p.feed_listener->Stop();
  p.admin_services->StopWatches();
  p.health.Stop();
  p.server->Shutdown(absl::ToChronoTime(p.clock.Now() + options_.drain_timeout));
  for (const auto& lane : p.lanes) {
    lane->lane->Post([parts = lane.get()] {
      parts->store->Shutdown();
      if (parts->near_feed != nullptr) parts->near_feed->Shutdown();
    });
    lane->lane->Stop();
  }

  // What was confirmed is recorded, then everything that was counted is flushed.
  const auto settled = std::make_shared<absl::Notification>();
  p.observer->Shutdown();
  p.background.Post([&p, settled] { p.verifier->Shutdown([settled] { settled->Notify(); }); });
  settled->WaitForNotificationWithTimeout(options_.drain_timeout);
  struct Flushed {
    absl::Notification done;
    absl::Status status = absl::DeadlineExceededError("the last evidence was not flushed in time; it becomes `lost`");
  };
  const auto flushed = std::make_shared<Flushed>();
  p.flusher->FlushNow([flushed](absl::Status status) {
    flushed->status = std::move(status);
    flushed->done.Notify();
  });
  absl::Status status = absl::DeadlineExceededError("the last evidence was not flushed in time; it becomes `lost`");
  if (flushed->done.WaitForNotificationWithTimeout(options_.drain_timeout)) status = flushed->status;
  if (status.ok()) status = p.evidence.Stop();

  p.poller->Stop();
  p.background.Post([&p] { p.store->Shutdown(); });
  p.background.Stop();
  p.http->Stop();
  return status;
}

absl::Status Replica::Parts::Await(const std::string& condition, absl::FunctionRef<absl::Status()> step,
                                   const std::function<bool(absl::Duration)>& wait) {
  absl::Duration backoff = kRetryMin;
  while (true) {
    const absl::Status taken = step();
    // A schema that is newer than this program, or a catalog that was refused, is as wrong the next time.
    if (taken.ok() || absl::IsFailedPrecondition(taken) || absl::IsInvalidArgument(taken)) return taken;
    readiness.SetUnmet(condition, std::string(taken.message()));
    Log(Level::kWarning, "start_waits",
        {{"for", condition}, {"error", taken.message()}, {"retry_ms", absl::ToInt64Milliseconds(backoff)}});
    if (!wait(backoff)) return absl::CancelledError(absl::StrCat("asked to stop while waiting for the ", condition));
    backoff = std::min(backoff * 2, kRetryMax);
  }
}

absl::Status Replica::Parts::ApplyCatalogFile() {
  if (options.catalog.empty()) return absl::OkStatus();
  std::ifstream in(options.catalog);
  if (!in) return absl::InvalidArgumentError(absl::StrCat(options.catalog, ": cannot be read"));
  const std::string yaml(std::istreambuf_iterator<char>(in), {});
  const auto applied = catalog_store.Apply(yaml, /*dry_run=*/false, options.replica_name, /*expected_revision=*/0);
  if (!applied.ok()) return base::Annotate(applied.status(), options.catalog);
  Log(Level::kInfo, "catalog_applied",
      {{"file", options.catalog}, {"revision", applied->revision}, {"changed", applied->changed}});
  return absl::OkStatus();
}

absl::Status Replica::Parts::OpenSpool() {
  if (options.evidence.spool.empty()) {
    Log(Level::kWarning, "no_evidence_spool",
        {{"effect", "what is confirmed while the state store is away is lost with this process"},
         {"remedy", "set evidence.spool"}});
    return absl::OkStatus();
  }
  auto opened = diff::FileSpool::Open({.folder = options.evidence.spool,
                                       .replica = replica_id,
                                       .name = options.replica_name,
                                       .max_bytes = options.evidence.spool_max_bytes});
  if (!opened.ok()) return base::Annotate(opened.status(), "evidence.spool");
  spool = *std::move(opened);
  return absl::OkStatus();
}

void Replica::Parts::BuildVerification() {
  std::string redaction_secret = options.verification.redaction_secret;
  if (redaction_secret.empty()) {
    redaction_secret = random.Id() + random.Id();
    Log(Level::kWarning, "no_redaction_secret",
        {{"effect", "redacted values of different replicas cannot be compared"},
         {"remedy", "set verification.redaction_secret"}});
  }
  std::optional<diff::Sealer> sealer;
  if (options.evidence.key.empty()) {
    Log(Level::kWarning, "no_evidence_key",
        {{"effect",
          "values are only kept redacted, also of endpoints that show them, and no divergence can be replayed"},
         {"remedy", "set evidence.key"}});
  } else {
    std::vector<std::string> keys = {options.evidence.key};
    keys.insert(keys.end(), options.evidence.old_keys.begin(), options.evidence.old_keys.end());
    sealer.emplace(std::move(keys));
  }
  control_pool = std::make_unique<cache::PostgresControl>(
      ControlOptions("control", options.source.connections, options.source.queue), &clock, &metrics);
  control = std::make_unique<cache::AdmittedControl>(
      // First come, first served: a line that is never empty is no overload yet, as long as nobody waits too long in
      // it.
      cache::AdmittedControl::Options{
          .name = "control",
          .limit = {.least = std::max<size_t>(options.source.connections / 2, 1), .most = options.source.connections},
          .line_max = options.source.queue,
          .wait_max = options.source.wait,
          .calm = absl::InfiniteDuration()},
      control_pool.get(), &clock, &metrics);
  verification_control = std::make_unique<cache::PostgresControl>(
      ControlOptions("verify", options.verification.connections, options.verification.queue), &clock, &metrics);
  gathering_control = std::make_unique<cache::GatheringControl>(
      cache::GatheringControl::Options{.pool = "verify"}, verification_control.get(), &background, &clock, &metrics);
  // One pair at a time, on two connections; the verifier hands it no more.
  twin_control = std::make_unique<cache::PostgresControl>(ControlOptions("twins", 1, kTwinsQueue), &clock, &metrics);
  store = std::make_unique<cache::RedisStore>(RedisOptions(), &background, &clock, &random);
  filler = std::make_unique<cache::Filler>(cache::Filler::Options(), store.get(), verification_control.get(), &flight,
                                           &background, &clock, &random);
  warm_filler = std::make_unique<cache::Filler>(cache::Filler::Options(), store.get(), control->background(), &flight,
                                                &background, &clock, &random);
  warmer = std::make_unique<cache::Warmer>(
      cache::Warmer::Options{.per_second = static_cast<double>(options.warm.per_second)},
      cache::Warmer::Deps{.filler = warm_filler.get(),
                          .executor = &background,
                          .clock = &clock,
                          .metrics = &metrics,
                          .catalog = [this] { return catalogs.Current(); },
                          .epoch = [this](const auto& tenant, const auto& family) { return EpochOf(tenant, family); }});
  invalidator = std::make_unique<cache::Invalidator>(
      cache::Invalidator::Options{.settle = [this](base::Task task) { SettleNear(std::move(task)); }}, store.get(),
      &clock, &random, [this](const std::vector<cache::TenantTag>& tags) { warmer->Fenced(tags); });
  inspector = std::make_unique<Inspector>(
      Inspector::Deps{.board = &board, .catalog = &catalogs, .store = store.get(), .clock = &clock});
  flusher = std::make_unique<diff::Flusher>(
      &ledger, &evidence, &background, diff::Flusher::On(&state_pool),
      diff::Flusher::Options{
          .interval = options.evidence.flush, .noise = &noise, .spool = spool.get(), .revisions = [this] {
            diff::Flusher::Revisions now;
            if (const auto catalog = catalogs.Current()) now.catalog = catalog->revision();
            if (const auto flags = board.Current()) now.flags = flags->revision();
            return now;
          }});
  tokens = std::make_unique<Tokens>(redaction_secret, random.Next(), &clock);
  decider = std::make_unique<Decider>(
      Decider::Options{.seed = base::SystemSeed()},
      Decider::Deps{.board = &board, .catalog = &catalogs, .tokens = tokens.get(), .metrics = &metrics});
  observer = std::make_unique<Observer>(
      Observer::Options{.reads_max = options.verification.queue,
                        .max_rounds = options.verification.max_rounds,
                        .redaction_secret = redaction_secret,
                        .sealer = sealer},
      Observer::Deps{.catalog = &catalogs,
                     .tokens = tokens.get(),
                     .executor = &background,
                     .clock = &clock,
                     .ledger = &ledger,
                     .metrics = &metrics,
                     .record = [this](diff::Divergence divergence) { flusher->Record(std::move(divergence)); }});
  verifier = std::make_unique<Verifier>(
      Verifier::Options{.queries_per_second = static_cast<double>(options.verification.budget_per_second),
                        .burst = static_cast<double>(options.verification.budget_per_second),
                        .samples_max = options.verification.queue,
                        .max_rounds = options.verification.max_rounds,
                        .redaction_secret = redaction_secret,
                        .sealer = sealer},
      Verifier::Deps{.store = store.get(),
                     .control = gathering_control.get(),
                     .twins = twin_control.get(),
                     .noise = &noise,
                     .filler = filler.get(),
                     .invalidator = invalidator.get(),
                     .executor = &background,
                     .clock = &clock,
                     .random = &random,
                     .certifier = certifier.enabled() ? &certifier : nullptr,
                     .ledger = &ledger,
                     .metrics = &metrics,
                     .back_off = &back_off,
                     .record = [this](diff::Divergence divergence) { flusher->Record(std::move(divergence)); }});
  keeper = std::make_unique<Keeper>(redaction_secret, std::move(sealer));
  replayer = std::make_unique<Replayer>(redaction_secret, Replayer::Deps{.board = &board,
                                                                         .catalog = &catalogs,
                                                                         .store = store.get(),
                                                                         .control = verification_control.get(),
                                                                         .executor = &background,
                                                                         .clock = &clock,
                                                                         .keeper = keeper.get()});
  background.Attach(store.get());
  flusher->Start();
}

void Replica::Parts::BuildDecisions() {
  rollouts = std::make_unique<rollout::PostgresStateStore>(
      &state, rollout::PostgresStateStore::Options{.replica_lapse = options.evidence.lapse});
  const rollout::CatalogSource facts = [this](const std::string& family) { return FactsOf(family); };
  commands = std::make_unique<rollout::StoreCommands>(
      rollout::StoreCommands::Options{.seed = base::SystemSeed()},
      rollout::StoreCommands::Deps{.clock = &clock, .store = rollouts.get(), .catalog = facts});
  if (options.controller.enabled) {
    leadership = std::make_unique<rollout::PostgresLeadership>(
        rollout::PostgresLeadership::Options{.connection_string = options.state.url, .replica = replica_id});
    controller = std::make_unique<rollout::Controller>(
        rollout::Controller::Options{.interval = options.controller.tick, .seed = base::SystemSeed()},
        rollout::Controller::Deps{
            .clock = &clock,
            .store = rollouts.get(),
            .leadership = leadership.get(),
            .metrics = &metrics,
            .catalog = facts,
            .hooks = {{"sweep_lost", options.evidence.lapse / 2,
                       [this] { return evidence.SweepLost(options.evidence.lapse).status(); }},
                      {"expire_seals", kExpireSealsEvery, [this] { return evidence.ExpireSeals().status(); }},
                      {"retire_evidence", kRetireEvidenceEvery,
                       [this] { return evidence.Retire(options.evidence.retention).status(); }},
                      {"refresh_tenants", kRefreshTenantsEvery, [this] { return catalog_store.RefreshTenants(); }}}});
  }
  loader = std::make_unique<CatalogLoader>(
      &catalog_store, &catalogs, &state_pool, &background,
      [this](const cache::CompiledCatalog& catalog) {
        near_terms.Observe(catalog.revision(), catalog.any_near(), clock.Steady());
        if (catalog.any_near()) StartNear();
      },
      [this](absl::Status status) {
        if (status.ok()) {
          readiness.SetMet("catalog");
          capture->SetCatalog(catalogs.Current());
        } else if (catalogs.Current() == nullptr) {
          readiness.SetUnmet("catalog", std::string(status.message()));
        }
      });
  poller = std::make_unique<flags::Poller>(
      flags::Poller::Options{.connection_string = options.state.url, .interval = options.flags.poll},
      flags::Poller::Deps{.clock = &clock, .board = &board, .on_change = [this](uint64_t) {
                            readiness.SetMet("flags");
                            if (!cache_awaited.exchange(true)) {
                              background.Post([this] { AwaitCache(clock.Steady() + kAwaitCacheMost); });
                            }
                            loader->Load();
                          }});
}

void Replica::Parts::BuildCapture() {
  fencer = std::make_unique<cache::Fencer>(
      cache::Fencer::Options(),
      cache::Fencer::Deps{.store = store.get(),
                          .invalidator = invalidator.get(),
                          .executor = &background,
                          .invisible = [this](auto transactions,
                                              auto done) { FindInvisible(std::move(transactions), std::move(done)); },
                          .drop = [this](auto drops, auto done) { DropFamilies(std::move(drops), std::move(done)); }});
  if (certifier.enabled()) {
    feed_listener = std::make_unique<cache::FeedListener>(
        cache::FeedListener::Options{
            .state = options.state.url, .source = options.source.url, .slot = options.capture.slot},
        cache::FeedListener::Deps{.clock = &clock, .certifier = &certifier, .metrics = &metrics});
  }
  if (options.capture.enabled && certifier.enabled()) {
    feed_sender = std::make_unique<cache::FeedSender>(
        cache::FeedSender::Options{
            .connection_string = options.state.url, .slot = options.capture.slot, .name = replica_id},
        cache::FeedSender::Deps{.clock = &clock, .metrics = &metrics});
  }
  cache::FeedWriter* const feed = feed_sender == nullptr ? nullptr : feed_sender->writer();
  const auto log_state = [](cache::CaptureState now, const std::string& why) {
    const bool wrong = now == cache::CaptureState::kSlotLost || now == cache::CaptureState::kRefused;
    Log(wrong ? Level::kError : Level::kInfo, "capture", {{"state", cache::CaptureStateName(now)}, {"why", why}});
  };
  capture =
      std::make_unique<cache::CaptureStream>(cache::CaptureStream::Options{.source = options.source.url,
                                                                           .state = options.state.url,
                                                                           .slot = options.capture.slot,
                                                                           .publication = options.capture.slot,
                                                                           .search_path = options.source.search_path,
                                                                           .role = options.source.role,
                                                                           .lead = options.capture.enabled,
                                                                           .patience = options.capture.patience},
                                             cache::CaptureStream::Deps{.clock = &clock,
                                                                        .sink = fencer.get(),
                                                                        .watermark = &watermark,
                                                                        .metrics = &metrics,
                                                                        .on_state = log_state,
                                                                        .feed = feed});
  if (!options.capture.enabled) return;
  outbox = std::make_unique<cache::OutboxDrain>(
      cache::OutboxDrain::Options{.connection_string = options.state.url},
      // Transactions of another database say nothing about snapshots of the source.
      cache::OutboxDrain::Deps{.clock = &clock,
                               .sink = fencer.get(),
                               .metrics = &metrics,
                               .feed = options.state.url == options.source.url ? feed : nullptr});
}

void Replica::Parts::FindInvisible(std::vector<uint64_t> transactions,
                                   absl::AnyInvocable<void(absl::StatusOr<std::set<uint64_t>>)> done) {
  // Shared: a task that is refused is destroyed with what it captured.
  auto answer = std::make_shared<decltype(done)>(std::move(done));
  const bool taken = state_pool.TrySubmit([this, transactions = std::move(transactions), answer](size_t) {
    std::set<uint64_t> invisible;
    const absl::Status asked = visibility.Transact([&](pqxx::work& work) -> absl::Status {
      for (const pqxx::row& row : work.exec_params(
               "SELECT t::text FROM unnest($1::xid8[]) AS t WHERE NOT pg_visible_in_snapshot(t, pg_current_snapshot())",
               absl::StrCat("{", absl::StrJoin(transactions, ","), "}"))) {
        invisible.insert(row[0].as<uint64_t>());
      }
      return absl::OkStatus();
    });
    if (!asked.ok()) return (*answer)(asked);
    (*answer)(std::move(invisible));
  });
  if (!taken) (*answer)(absl::ResourceExhaustedError("the state pool's queue is full"));
}

void Replica::Parts::DropFamilies(std::set<cache::FamilyDrop> drops, absl::AnyInvocable<void(absl::Status)> done) {
  std::vector<rollout::NewEpochs> orders;
  for (const cache::FamilyDrop& drop : drops) {
    orders.push_back({drop.family, drop.tenant, "change capture", "change capture cannot say what has changed"});
  }
  BeginEpochs(std::move(orders),
              [done = std::move(done)](absl::StatusOr<uint64_t> begun) mutable { done(begun.status()); });
}

void Replica::Parts::BeginEpochs(std::vector<rollout::NewEpochs> orders,
                                 absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done) {
  auto answer = std::make_shared<decltype(done)>(std::move(done));
  const bool taken = state_pool.TrySubmit([this, orders = std::move(orders), answer](size_t) {
    uint64_t targets = 0;
    for (const rollout::NewEpochs& order : orders) {
      const absl::StatusOr<uint64_t> begun = rollout::BeginEpochs(&state, order);
      if (!begun.ok()) return (*answer)(begun.status());
      targets += *begun;
    }
    // By then every replica has heard of the new epochs, or knows that it may not serve from the cache.
    background.PostAfter(options.flags.lease, [answer, targets] { (*answer)(targets); });
  });
  if (!taken) (*answer)(absl::ResourceExhaustedError("the state pool's queue is full"));
}

void Replica::Parts::SettleNear(base::Task task) {
  // The lease before the flags: then they are at least as new as the lease that vouches for them.
  const bool leased = board.Leased();
  const auto flags = board.Current();
  const auto catalog = catalogs.Current();
  const bool active = leased && catalog != nullptr && flags->catalog_revision() == catalog->revision();
  if (active && !near_terms.MustWait(clock.Steady())) return task();
  background.PostAfter(cache::kNearGrace, std::move(task));
}

absl::Status Replica::Parts::NearPossible() const {
  if (options.near.max_bytes == 0) return absl::FailedPreconditionError("near.max_bytes is 0");
  if (!options.redis.cluster.empty() || !options.redis.sentinel.addresses.empty()) {
    return absl::FailedPreconditionError("near caches need one Redis at redis.address, not a cluster or sentinels");
  }
  return absl::OkStatus();
}

void Replica::Parts::StartNear() {
  if (const absl::Status possible = NearPossible(); !possible.ok()) {
    return Log(Level::kWarning, "near_caches_off",
               {{"why", possible.message()}, {"effect", "endpoints that are declared near are read from Redis"}});
  }
  for (const auto& parts : lanes) {
    parts->lane->Post([parts = parts.get()] { parts->near_feed->Start(parts->lane.get()); });
  }
}

absl::Status Replica::Parts::Serve() {
  admin = std::make_unique<Admin>(Admin::Deps{
      .catalogs = &catalog_store,
      .rollouts = commands.get(),
      .evidence = &evidence,
      .board = &board,
      .clock = &clock,
      .catalog = [this] { return catalogs.Current(); },
      .invalidate =
          [this](std::vector<cache::TenantTag> tags, std::vector<uint64_t> transactions, Admin::Invalidated done) {
            background.Post([this, tags = std::move(tags), transactions = std::move(transactions),
                             done = std::move(done)]() mutable {
              invalidator->Invalidate(std::move(tags), std::move(transactions), std::move(done));
            });
          },
      .purge =
          [this](const v1::PurgeRequest& request, Admin::Purged done) {
            BeginEpochs(
                {{request.family(), request.tenant(), request.who(), absl::StrCat("purge: ", request.reason())}},
                std::move(done));
          },
      .inspect =
          [this](const v1::InspectRequest& request, Admin::Inspected done) {
            background.Post(
                [this, request, done = std::move(done)]() mutable { inspector->Inspect(request, std::move(done)); });
          },
      .replay =
          [this](const diff::Divergence& divergence, Admin::Replayed done) {
            background.Post([this, divergence, done = std::move(done)]() mutable {
              replayer->Replay(divergence, std::move(done));
            });
          },
      .reveal = [this](diff::Divergence* divergence) { keeper->Reveal(clock.Now(), divergence); },
      .warm =
          [this](std::vector<cache::TenantTag> tags, Admin::Warmed done) {
            background.Post([this, tags = std::move(tags), done = std::move(done)]() mutable {
              warmer->Warm(tags, std::move(done));
            });
          }});
  admin_services = std::make_unique<AdminServices>(
      AdminServices::Options{.purge_timeout = options.flags.lease + absl::Seconds(10)}, admin.get());
  observe_service = std::make_unique<ObserveService>(ObserveService::Options(), decider.get(), observer.get());
  read_service = std::make_unique<ReadService>(ReadService::Options(), &metrics);

  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options.listen.ToString(), grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.max_message_bytes));
  // A second server on the same port would share the calls instead of being refused.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
  builder.SetResourceQuota(grpc::ResourceQuota("admin").SetMaxThreads(kAdminThreadsMax));
  builder.RegisterService(read_service->service());
  builder.RegisterService(&health);
  builder.RegisterService(observe_service->service());
  for (grpc::Service* service : admin_services->services()) builder.RegisterService(service);
  for (size_t i = 0; i < options.lanes; ++i) {
    lanes.push_back(std::make_unique<LaneParts>(
        base::SystemSeed(), std::make_unique<Lane>(&clock, absl::StrCat("lane-", i), builder.AddCompletionQueue())));
    warmer->AddSource(lanes.back()->lane.get(), &lanes.back()->hot_keys);
  }
  server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return absl::UnavailableError(absl::StrCat("listen: ", options.listen.ToString(), " cannot be had"));
  }
  for (const auto& parts : lanes) {
    cache::RedisStore::Options redis = RedisOptions();
    redis.breaker = cache::Breaker::Options{.slow = options.redis.timeout};
    parts->store = std::make_unique<cache::RedisStore>(redis, parts->lane.get(), &clock, &parts->random);
    if (NearPossible().ok()) {
      parts->near = std::make_unique<cache::NearCache>(
          cache::NearCache::Options{.max_bytes = options.near.max_bytes / options.lanes});
      cache::RedisNearFeed::Options feed;
      feed.redis = std::move(redis);
      parts->near_feed = std::make_unique<cache::RedisNearFeed>(std::move(feed), parts->lane.get(), &clock,
                                                                &parts->random, parts->near.get());
    }
    parts->control = std::make_unique<cache::GatheringControl>(cache::GatheringControl::Options(), control.get(),
                                                               parts->lane.get(), &clock, &metrics);
    parts->filler = std::make_unique<cache::Filler>(cache::Filler::Options(), parts->store.get(), parts->control.get(),
                                                    &flight, parts->lane.get(), &clock, &parts->random);
    parts->refresher =
        std::make_unique<cache::Filler>(cache::Filler::Options(), parts->store.get(), control->background(), &flight,
                                        parts->lane.get(), &clock, &parts->random);
    parts->reader = std::make_unique<CachedReader>(
        CachedReader::Options(),
        CachedReader::Deps{.board = &board,
                           .catalog = &catalogs,
                           .store = parts->store.get(),
                           .control = parts->control.get(),
                           .filler = parts->filler.get(),
                           .refresher = parts->refresher.get(),
                           .verifier = verifier.get(),
                           .hot_keys = &parts->hot_keys,
                           .watermark = &watermark,
                           .certifier = certifier.enabled() ? &certifier : nullptr,
                           .near = parts->near.get(),
                           .near_store = parts->near_feed == nullptr ? nullptr : parts->near_feed->store(),
                           .near_terms = &near_terms,
                           .executor = parts->lane.get(),
                           .clock = &clock,
                           .random = &parts->random,
                           .metrics = &metrics});
    parts->batch_reader = std::make_unique<BatchReader>(
        BatchReader::Options{.answer_max_bytes = options.max_message_bytes}, parts->reader.get(), &metrics);
    parts->lane->Attach(parts->store.get());
    read_service->Serve(parts->lane.get(), parts->reader.get(), parts->batch_reader.get());
    parts->lane->Start();
  }
  loader->Load();
  poller->Start();
  if (controller != nullptr) controller->Start();
  if (feed_listener != nullptr) feed_listener->Start();
  if (feed_sender != nullptr) feed_sender->Start();
  capture->Start();
  if (outbox != nullptr) outbox->Start();
  UpdateGauges();
  Log(Level::kInfo, "serving", {{"port", port}, {"lanes", lanes.size()}});
  return absl::OkStatus();
}

// Which Redis may be used is only known once the flags are. A replica that is sent reads before it has reached it would
// send them all to the database.
void Replica::Parts::AwaitCache(absl::Duration until) {
  const bool reached =
      std::all_of(lanes.begin(), lanes.end(), [](const auto& parts) { return parts->store->stats().up.load(); });
  if (reached || clock.Steady() >= until) return readiness.SetMet("cache");
  readiness.SetUnmet("cache", "Redis is not reached yet; reads are served without it in a moment");
  background.PostAfter(kAwaitCacheEvery, [this, until] { AwaitCache(until); });
}

void Replica::Parts::UpdateGauges() {
  std::vector<const cache::RedisStore::Stats*> stores = {&store->stats()};
  for (const auto& parts : lanes) stores.push_back(&parts->store->stats());
  bool up = true;
  uint64_t broken = 0;
  uint64_t moved = 0;
  uint64_t asked = 0;
  for (const cache::RedisStore::Stats* stats : stores) {
    up = up && stats->up;
    broken += stats->broken;
    moved += stats->moved;
    asked += stats->asked;
  }
  metrics.AddGauge("shadowline_redis_up", "1 while every key of Redis can be asked for, by all of this replica.")
      ->Set(up ? 1 : 0);
  metrics
      .AddGauge("shadowline_redis_broken", "Redis connections whose breaker keeps reads from them, in part at least.")
      ->Set(static_cast<double>(broken));
  const auto redirects = [this](const char* kind) {
    return metrics.AddCounter("shadowline_redis_redirects_total", "Commands that a Redis Cluster sent to another node.",
                              {{"kind", kind}});
  };
  redirects("moved")->Add(static_cast<double>(moved - std::exchange(redis_moved, moved)));
  redirects("ask")->Add(static_cast<double>(asked - std::exchange(redis_asked, asked)));
  UpdateNearMetrics();
  const bool leased = board.Leased();
  metrics.AddGauge("shadowline_flags_leased", "1 while this replica may serve from the cache.")->Set(leased ? 1 : 0);
  const auto catalog = catalogs.Current();
  const bool covered = catalog == nullptr || catalog->captured().empty() || watermark.Covers(clock.Steady());
  metrics
      .AddGauge("shadowline_capture_covered",
                "1 while what is captured may be served from the cache, and where nothing is.")
      ->Set(covered ? 1 : 0);
  if (std::exchange(was_covered, covered) != covered) {
    Log(covered ? Level::kInfo : Level::kError, covered ? "capture_covers" : "capture_away",
        {{"families", covered ? "served from the cache again" : "read from the database until it has caught up"},
         {"state", cache::CaptureStateName(capture->state())}});
  }
  metrics
      .AddGauge("shadowline_certification_age_seconds",
                "How long ago the snapshot was taken up to which cached answers are certified; -1: there is none.")
      ->Set(certifier.as_of() < absl::ZeroDuration() ? -1 : absl::ToDoubleSeconds(clock.Steady() - certifier.as_of()));
  // A replica that has lost PostgreSQL can answer nothing; another one may have a better way there.
  if (leased) {
    readiness.SetMet("flags");
  } else if (board.Current() != nullptr) {
    readiness.SetUnmet("flags", "the flag lease has lapsed: the database does not answer");
  }
  // Before the first flush, and while the state database is away, as many as there were last.
  if (const uint64_t live = evidence.live(); live > 0) verifier->SetReplicas(live);
  const auto flushes = flusher->stats();
  metrics.AddGauge("shadowline_divergences_waiting", "Confirmed divergences that are not stored yet.")
      ->Set(static_cast<double>(flushes.divergences_waiting));
  metrics.AddGauge("shadowline_evidence_flush_failures", "Calls of the evidence store that failed since the start.")
      ->Set(static_cast<double>(flushes.failures));
  metrics
      .AddGauge("shadowline_divergences_dropped",
                "Confirmed divergences that found no room, or that the store refused.")
      ->Set(static_cast<double>(flushes.divergences_dropped));
  metrics.AddGauge("shadowline_spool_failures", "Writes to the spool of evidence that failed since the start.")
      ->Set(static_cast<double>(flushes.spool_failures));
  metrics.AddGauge("shadowline_spools_replayed", "Spools of dead processes that this replica has stored.")
      ->Set(static_cast<double>(flushes.inherited));
  background.PostAfter(kGaugesEvery, [this] { UpdateGauges(); });
}

void Replica::Parts::UpdateNearMetrics() {
  const auto sum = [this](auto figure) {
    uint64_t total = 0;
    for (const auto& parts : lanes) {
      if (parts->near != nullptr) total += (parts->near->stats().*figure).load(std::memory_order_relaxed);
    }
    return total;
  };
  // Lanes count by themselves, so that a look-up takes no shared counter; what was added since is passed on.
  const auto count = [&](size_t index, auto figure, const char* name, const char* help, base::Metrics::Labels labels) {
    const uint64_t total = sum(figure);
    metrics.AddCounter(name, help, labels)->Add(static_cast<double>(total - std::exchange(near_counted[index], total)));
  };
  using Stats = cache::NearCache::Stats;
  constexpr char kLookups[] = "shadowline_near_lookups_total";
  constexpr char kLookupsHelp[] = "Look-ups in near caches.";
  count(0, &Stats::hits, kLookups, kLookupsHelp, {{"outcome", "hit"}});
  count(1, &Stats::misses, kLookups, kLookupsHelp, {{"outcome", "miss"}});
  count(2, &Stats::lapsed, kLookups, kLookupsHelp, {{"outcome", "lapsed"}});
  count(3, &Stats::invalidated, "shadowline_near_invalidations_total", "Changes that Redis told near caches of.", {});
  count(4, &Stats::evicted, "shadowline_near_evictions_total", "Answers that made room for others.", {});
  metrics.AddGauge("shadowline_near_tracked", "Near caches that Redis tells of changes.")
      ->Set(static_cast<double>(sum(&Stats::tracked)));
  metrics.AddGauge("shadowline_near_entries", "Answers in near caches.")
      ->Set(static_cast<double>(sum(&Stats::entries)));
  metrics.AddGauge("shadowline_near_bytes", "Memory for the answers in near caches.")
      ->Set(static_cast<double>(sum(&Stats::bytes)));
}

cache::RedisStore::Options Replica::Parts::RedisOptions() {
  const auto& redis = options.redis;
  // Checked with the other options.
  const auto at = [](const std::string& text) { return cache::RedisAddress::Parse(text).value(); };
  cache::RedisStore::Options result;
  result.address = at(redis.socket.empty() ? redis.address.ToString() : "unix:" + redis.socket);
  for (const HostPort& node : redis.cluster) result.cluster.push_back(at(node.ToString()));
  if (!redis.sentinel.addresses.empty()) {
    result.sentinel = {{}, redis.sentinel.master, redis.sentinel.user, redis.sentinel.password};
    for (const HostPort& sentinel : redis.sentinel.addresses) {
      result.sentinel->addresses.push_back(at(sentinel.ToString()));
    }
  }
  result.user = redis.user;
  result.password = redis.password;
  result.database = redis.db;
  result.command_timeout = redis.timeout;
  result.outstanding_max = redis.max_outstanding;
  result.lives = &lives;
  result.tls = redis_tls;
  return result;
}

cache::PostgresControl::Options Replica::Parts::ControlOptions(const std::string& name, size_t connections,
                                                               size_t queue) {
  return {.name = name,
          .connection_string = options.source.url,
          .connections = connections,
          .queue_limit = queue,
          .search_path = options.source.search_path,
          .role = options.source.role,
          .ran = [this](absl::string_view statement, absl::Duration took, const absl::Status& status) {
            back_off.Ran(clock.Steady(), statement, took, status);
          }};
}

std::optional<uint64_t> Replica::Parts::EpochOf(const std::string& tenant, const std::string& family) const {
  const auto flags = board.Current();
  if (flags == nullptr || !flags->HasTenant(tenant)) return std::nullopt;
  const flags::Flag* const flag = flags->Find(tenant, family);
  if (flag == nullptr || flag->mode == flags::Mode::kDatabase) return std::nullopt;
  return flag->epoch;
}

std::optional<rollout::CatalogFacts> Replica::Parts::FactsOf(const std::string& family) const {
  const auto catalog = catalogs.Current();
  if (catalog == nullptr) return std::nullopt;
  rollout::CatalogFacts facts{.revision = catalog->revision(), .endpoints = {}};
  for (const cache::Endpoint& endpoint : catalog->endpoints()) {
    if (endpoint.family == family) facts.endpoints.push_back(endpoint.name);
  }
  return facts;
}

}  // namespace shadowline::server
