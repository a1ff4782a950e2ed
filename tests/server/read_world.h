// One replica's read path over a simulated database and a simulated Redis: a reader on its lane, a verifier in the
// background, writers that invalidate, and a history that says which answers were right.
//
// Endpoint `pricing/quote` has one text parameter `id` and the tags `quote:{id}` and `tenant`; its answer is the row
// that Write() stores. Tenants are `acme` and `globex`. With TrackNear() it is served from a near cache that hears of
// every write to Redis at once.
#ifndef SHADOWLINE_TESTS_SERVER_READ_WORLD_H_
#define SHADOWLINE_TESTS_SERVER_READ_WORLD_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/metrics.h"
#include "base/random.h"
#include "cache/certify/certifier.h"
#include "cache/fill/filler.h"
#include "cache/flight/flight.h"
#include "cache/invalidate/invalidator.h"
#include "cache/key/key.h"
#include "cache/near/near_cache.h"
#include "cache/near/near_terms.h"
#include "cache/origin/gathering_control.h"
#include "diff/evidence/ledger.h"
#include "flags/board.h"
#include "server/read/back_off.h"
#include "server/read/batch_reader.h"
#include "server/read/cached_reader.h"
#include "server/read/verifier.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_database.h"
#include "tests/sim/sim_store.h"

namespace shadowline::server {

struct ReadWorldOptions {
  uint64_t seed = 1;
  absl::Duration freshness = absl::Seconds(1);
  absl::Duration ttl = absl::Minutes(10);
  bool refresh_early = true;
  bool stale_while_revalidate = false;
  bool captured = false;
  uint32_t warm = 0;
  absl::Duration lease = absl::Hours(10'000);
  bool show_values = false;
  std::string owner;
  bool authorization = false;
  std::string committed_at;
  std::string row_version;
  shadowline::v1::CompareRules compare;
  uint32_t noise_ppm = 0;
  std::optional<cache::ExternalCache> external;  // Of the endpoint, whose answers are the application's to cache then.
  CachedReader::Options reader;
  Verifier::Options verifier;
  cache::GatheringControl::Options gathering;
  BatchReader::Options batch;
  BackOff* back_off = nullptr;  // Hears of the verification's statements, and holds it back.
};

class ReadWorld {
 public:
  struct BatchAnswer {
    shadowline::v1::BatchReadRequest request;
    shadowline::v1::BatchReadResponse response;
    absl::Time asked_at;
    absl::Time replied_at;
    std::optional<absl::Status> status;
  };

  // What became of one read.
  struct Answer {
    shadowline::v1::ReadRequest request;
    shadowline::v1::ReadResponse response;
    absl::Time asked_at;
    absl::Time replied_at;
    std::optional<absl::Status> status;
  };

  explicit ReadWorld(ReadWorldOptions o = {})
      : options(std::move(o)),
        world(options.seed),
        database(world.clock()),
        control_random(options.seed + 1'000),
        control({}, &database, world.executor(), world.clock(), &control_random),
        refresh_control({}, &database, world.executor(), world.clock(), world.random()),
        verification_control(Verification(options.back_off, world.clock()), &database, world.executor(), world.clock(),
                             world.random()),
        twin_random(options.seed + 2'000),
        twin_control({}, &database, world.executor(), world.clock(), &twin_random),
        redis(world.clock(), world.random()),
        lane_store(&redis, world.executor()),
        near_store(&redis, world.executor()),
        background_store(&redis, world.executor()),
        writer_store(&redis, world.executor()),
        invalidator({.settle = [this](base::Task task) { settle(std::move(task)); }}, &writer_store, world.clock(),
                    world.random(),
                    [this](const std::vector<cache::TenantTag>& tags) {
                      if (on_fenced) on_fenced(tags);
                    }),
        board(world.clock(), options.lease),
        ledger(world.clock()),
        gathering(options.gathering, &control, world.executor(), world.clock(), &metrics),
        verification_gathering({.pool = "verify"}, &verification_control, world.executor(), world.clock(), &metrics),
        lane_filler({}, &lane_store, &gathering, &flight, world.executor(), world.clock(), world.random()),
        refresher({}, &lane_store, &refresh_control, &flight, world.executor(), world.clock(), world.random()),
        background_filler({}, &background_store, &verification_control, &flight, world.executor(), world.clock(),
                          world.random()),
        verifier(WithSecret(options.verifier),
                 {.store = &background_store,
                  .control = &verification_gathering,
                  .twins = &twin_control,
                  .noise = &noise,
                  .filler = &background_filler,
                  .invalidator = &invalidator,
                  .executor = world.executor(),
                  .clock = world.clock(),
                  .random = world.random(),
                  .certifier = &certifier,
                  .ledger = &ledger,
                  .metrics = &metrics,
                  .back_off = options.back_off,
                  .record = [this](diff::Divergence divergence) { Recorded(std::move(divergence)); }}),
        reader(options.reader, {.board = &board,
                                .catalog = &catalog,
                                .store = &lane_store,
                                .control = &gathering,
                                .filler = &lane_filler,
                                .refresher = &refresher,
                                .verifier = &verifier,
                                .hot_keys = &hot_keys,
                                .watermark = &watermark,
                                .certifier = &certifier,
                                .near = &near,
                                .near_store = &near_store,
                                .near_terms = &near_terms,
                                .executor = world.executor(),
                                .clock = world.clock(),
                                .random = world.random(),
                                .metrics = &metrics}),
        batch_reader(options.batch, &reader, &metrics) {
    PublishCatalog(options.freshness);
    Route(flags::Flag{});
  }

  void PublishCatalog(absl::Duration freshness, bool is_near = false) {
    cache::Endpoint endpoint;
    endpoint.show_values = options.show_values;
    endpoint.evidence_ttl = absl::Hours(24);
    endpoint.name = "pricing/quote";
    endpoint.family = "pricing";
    endpoint.parameters = {{.name = "id"}};
    endpoint.freshness = freshness;
    endpoint.ttl = options.ttl;
    endpoint.negative_ttl = absl::Minutes(1);
    endpoint.timeout = absl::Seconds(5);
    endpoint.refresh_early = options.refresh_early && !options.external.has_value();
    endpoint.stale_while_revalidate = options.stale_while_revalidate;
    endpoint.captured = options.captured;
    endpoint.near = is_near;
    endpoint.warm = options.warm;
    endpoint.external = options.external;
    endpoint.owner = options.owner;
    endpoint.authorization = options.authorization;
    endpoint.committed_at = options.committed_at;
    endpoint.row_version = options.row_version;
    endpoint.compare = options.compare;
    endpoint.noise_ppm = options.noise_ppm;
    endpoint.tags = {{{.literal = "quote:"}, {.literal = "", .parameter = 0}}, {{.literal = "tenant"}}};
    near_terms.Observe(catalog_revision_ + 1, is_near, world.clock()->Steady());
    catalog.Publish(std::make_shared<cache::CompiledCatalog>(++catalog_revision_, shadowline::v1::Catalog(),
                                                             std::vector<cache::Endpoint>{endpoint}));
  }

  // Both tenants get `flag`; the answer of the flag store was asked for at this moment.
  void Route(flags::Flag flag) {
    flag.window = 7;
    flags::Snapshot::Targets targets;
    for (const char* tenant : {"acme", "globex"}) targets[{"pricing", tenant}] = flag;
    board.Publish(
        std::make_shared<flags::Snapshot>(++flag_revision_, absl::flat_hash_set<std::string>{"acme", "globex"},
                                          std::move(targets), flags::Lives(), catalog_revision_),
        world.clock()->Steady());
  }
  void RouteShadow(uint32_t sample_ppm = 1'000'000) { Route({.mode = flags::Mode::kShadow, .sample_ppm = sample_ppm}); }
  void RouteCache(uint32_t sample_ppm = 0, uint32_t serve_ppm = 1'000'000) {
    Route({.mode = flags::Mode::kCache, .serve_ppm = serve_ppm, .sample_ppm = sample_ppm});
  }

  // Declares the endpoint near, and keeps the near cache informed.
  void TrackNear(absl::Duration freshness = absl::Seconds(1)) {
    PublishCatalog(freshness, /*is_near=*/true);
    Route(flags::Flag{});
    redis.on_write = [this](const std::string& key) { near.Invalidated(key); };
    near.TrackingBegan();
    world.RunFor(cache::kNearGrace);
  }
  // Nothing that was written until now has been missed.
  void ProveNear() { near.Renew(world.clock()->Steady()); }

  // From now on the endpoint's statement makes this of a row, anew for each answer.
  void MakeNoise(const std::function<std::string(std::string)>& noise_of_row) {
    for (sim::SimControl* one : {&control, &refresh_control, &verification_control, &twin_control}) {
      one->options().noise = noise_of_row;
    }
  }
  diff::NoiseKey NoiseKey() const { return {"pricing", "pricing/quote", catalog_revision_}; }

  // ---- Reading ----

  static shadowline::v1::ReadRequest Request(const std::string& id, const std::string& tenant = "acme") {
    shadowline::v1::ReadRequest request;
    request.set_tenant(tenant);
    request.set_endpoint("pricing/quote");
    auto* parameter = request.add_parameters();
    parameter->set_name("id");
    parameter->mutable_value()->set_text(id);
    return request;
  }
  std::shared_ptr<Answer> Start(shadowline::v1::ReadRequest request, absl::Duration timeout = absl::Seconds(10)) {
    auto answer = std::make_shared<Answer>();
    answer->request = std::move(request);
    answer->asked_at = world.clock()->Now();
    reader.Read(answer->request, &answer->response, timeout, [this, answer](absl::Status status) {
      answer->status = std::move(status);
      answer->replied_at = world.clock()->Now();
    });
    return answer;
  }
  // Runs the world until the answer is there, and no further.
  std::shared_ptr<Answer> Read(shadowline::v1::ReadRequest request, absl::Duration timeout = absl::Seconds(10)) {
    std::shared_ptr<Answer> answer = Start(std::move(request), timeout);
    while (!answer->status.has_value() && world.executor()->RunOne()) {
    }
    return answer;
  }
  std::shared_ptr<Answer> Read(const std::string& id) { return Read(Request(id)); }
  // Filled, read and kept, so that the next read is the near cache's.
  void ReadIntoNear(const std::string& id) {
    Read(id);
    world.RunUntilIdle();
    Read(id);
    ProveNear();
  }

  std::shared_ptr<BatchAnswer> StartBatch(const std::vector<shadowline::v1::ReadRequest>& requests,
                                          absl::Duration timeout = absl::Seconds(10), size_t places = 1000) {
    auto answer = std::make_shared<BatchAnswer>();
    for (const auto& request : requests) *answer->request.add_reads() = request;
    answer->asked_at = world.clock()->Now();
    batch_reader.Read(
        answer->request, &answer->response, timeout, [places](size_t reads) { return reads <= places; },
        [this, answer](absl::Status status) {
          EXPECT_FALSE(answer->status.has_value()) << "answered twice";
          answer->status = std::move(status);
          answer->replied_at = world.clock()->Now();
        });
    return answer;
  }
  std::shared_ptr<BatchAnswer> ReadBatch(const std::vector<shadowline::v1::ReadRequest>& requests,
                                         absl::Duration timeout = absl::Seconds(10)) {
    std::shared_ptr<BatchAnswer> answer = StartBatch(requests, timeout);
    while (!answer->status.has_value() && world.executor()->RunOne()) {
    }
    return answer;
  }

  // As the verifier's, which seals.
  static constexpr char kSecret[] = "a secret of this test";
  static constexpr char kEvidenceKey[] = "a key of this test, of 32 bytes.";

  // ---- Writing ----

  static std::string Row(const std::string& id, const std::string& tenant = "acme") {
    return sim::RowKey("pricing/quote", tenant, {id});
  }
  // The cache key at epoch 0.
  std::string Key(const std::string& id, const std::string& tenant = "acme") {
    return cache::CacheKey(catalog.Current()->endpoints()[0], tenant, 0, {id});
  }
  // A row with a value that was never there before.
  void Write(const std::string& id, const std::string& tenant = "acme") {
    database.Write(Row(id, tenant), absl::StrCat(R"({"price":)", ++price_, "}"));
  }
  // Retries until the fences stand.
  void Invalidate(const std::string& id, const std::string& tenant = "acme") {
    invalidator.Invalidate({{tenant, absl::StrCat("quote:", id)}}, {}, [this, id, tenant](absl::Status fenced) {
      if (!fenced.ok())
        world.executor()->PostAfter(absl::Milliseconds(5), [this, id, tenant] { Invalidate(id, tenant); });
    });
  }

  // ---- What to expect ----

  // Did the database hold this answer at some moment of the last `delta` before the reply?
  bool WasRight(const Answer& answer, absl::Duration delta) const {
    const std::optional<std::string> value =
        answer.response.found() ? std::optional<std::string>(answer.response.body()) : std::nullopt;
    return database.HeldBetween(Row(answer.request.parameters(0).value().text(), answer.request.tenant()), value,
                                answer.replied_at - delta, answer.replied_at);
  }
  uint64_t Queries() const { return control.queries() + verification_control.queries(); }
  diff::Counts Counts() const { return ledger.totals().counts; }
  // The value of one exposed sample, for example `shadowline_verdicts_total{verdict="matched"}`.
  double Metric(const std::string& sample) const {
    const std::string text = metrics.Expose();
    const size_t at = text.find(absl::StrCat("\n", sample, " "));
    return at == std::string::npos ? -1 : std::stod(text.substr(at + sample.size() + 2));
  }

  ReadWorldOptions options;  // Of the endpoint: as of the next PublishCatalog.
  sim::SimWorld world;
  sim::SimDatabase database;
  base::Random control_random;  // Apart, so that what else happens does not change how long the database takes.
  sim::SimControl control;
  sim::SimControl refresh_control;
  sim::SimControl verification_control;
  base::Random twin_random;  // Apart, as above.
  sim::SimControl twin_control;
  diff::NoiseBook noise;
  sim::SimRedis redis;
  sim::SimStore lane_store;
  sim::SimStore near_store;
  sim::SimStore background_store;
  sim::SimStore writer_store;
  std::function<void(base::Task)> settle = [](base::Task task) { task(); };
  std::function<void(const std::vector<cache::TenantTag>&)> on_fenced;  // Hears of every invalidation.
  cache::Invalidator invalidator;
  cache::Watermark watermark;
  cache::Certifier certifier{{.max_bytes = 4096}};  // Knows nothing until it is told to Begin.
  flags::Board board;
  CatalogHolder catalog;
  diff::Ledger ledger;
  base::Metrics metrics;
  cache::FillFlight flight;
  cache::NearCache near{{.max_bytes = 1 << 20}};
  cache::NearTerms near_terms{absl::ZeroDuration()};
  cache::GatheringControl gathering;
  cache::GatheringControl verification_gathering;
  cache::Filler lane_filler;
  cache::Filler refresher;
  cache::Filler background_filler;
  cache::HotKeys hot_keys;
  std::function<void()> on_recorded;  // Called before a divergence is added to these.
  std::vector<diff::Divergence> divergences;
  Verifier verifier;
  CachedReader reader;
  BatchReader batch_reader;

 private:
  static sim::SimControl::Options Verification(BackOff* back_off, const base::Clock* clock) {
    sim::SimControl::Options options;
    if (back_off == nullptr) return options;
    options.ran = [back_off, clock](absl::string_view statement, absl::Duration took, const absl::Status& status) {
      back_off->Ran(clock->Steady(), statement, took, status);
    };
    return options;
  }
  static Verifier::Options WithSecret(Verifier::Options options) {
    options.redaction_secret = kSecret;
    options.sealer = diff::Sealer({kEvidenceKey});
    return options;
  }

  void Recorded(diff::Divergence divergence) {
    if (on_recorded) on_recorded();
    divergences.push_back(std::move(divergence));
  }

  uint64_t catalog_revision_ = 0;
  uint64_t flag_revision_ = 0;
  uint64_t price_ = 0;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_TESTS_SERVER_READ_WORLD_H_
