#include "tests/support/trace.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/executor.h"
#include "base/hash.h"
#include "base/random.h"
#include "cache/catalog/parse.h"
#include "cache/key/key.h"
#include "tests/cache/redis_client.h"
#include "tests/chaos/fleet.h"
#include "tests/chaos/scenarios.h"
#include "tests/support/await.h"
#include "tests/support/judge.h"

namespace shadowline::chaos {
namespace {

namespace v1 = shadowline::v1;
using support::Access;

// Where the shared data is absent: as many tenants and families, the same mix of operations and TTLs, popular entities
// and rare ones. No application's accesses, so that its hit ratio is its own.
std::vector<Access> GenerateTrace(size_t size) {
  constexpr size_t kTenants = 25;
  constexpr size_t kFamilies = 24;
  constexpr size_t kEntities = 2000;
  constexpr int64_t kTtls[] = {60, 60, 60, 60, 300, 300, 600, 3600, 14400, 86400};
  base::Random random(20260704);
  // Low numbers are popular.
  const auto popular = [&random](size_t most) {
    return static_cast<size_t>(std::pow(static_cast<double>(most), random.Unit())) - 1;
  };
  std::vector<Access> trace;
  for (size_t i = 0; i < size; ++i) {
    Access access{.at = absl::Milliseconds(4) * static_cast<double>(i),
                  .tenant = absl::StrCat("t", popular(kTenants)),
                  .family = absl::StrCat("f", popular(kFamilies)),
                  .id = absl::StrCat(popular(kEntities)),
                  .ttl = absl::Seconds(kTtls[random.Below(std::size(kTtls))])};
    const uint64_t point = random.Below(100'000);
    if (point < 119) {
      access.kind = Access::kBulkUpdate;
    } else if (point < 375) {
      access.kind = Access::kDelete;
    } else if (point < 4971) {
      access.kind = Access::kUpdate;
    }
    trace.push_back(std::move(access));
  }
  return trace;
}

std::string CatalogOf(const std::set<std::string>& tenants, absl::Duration freshness) {
  return absl::StrCat(
      "version: 1\ntenants: {list: [", absl::StrJoin(tenants, ", "),
      "]}\nfamilies:\n  trace:\n    endpoints:\n      row:\n"
      "        sql: SELECT 'row/' || tenant || '/' || family || '/' || id || '=' || version AS versions FROM entity"
      " WHERE tenant = :tenant AND family = :family AND id = :id AND present\n"
      "        parameters: {family: {type: text}, id: {type: text}}\n"
      "        tags: [\"row:{family}:{id}\", \"family:{family}\"]\n"
      "        freshness: ",
      absl::FormatDuration(freshness),
      "\n        ttl: 24h\n        negative_ttl: 24h\n"
      "    policy: {ramp_ppm: [1000000], cache_sample_ppm: 0}\n");
}

// One tenant's entity of one family.
struct Entity {
  v1::ReadRequest request;
  std::string key;  // In Redis.
  std::string family;
  std::string id;
  int64_t version = 1;
  bool present = true;
  // What a cache would hold that forgets exactly what was changed: a value, until then. InfinitePast: nothing.
  absl::Duration held_until = -absl::InfiniteDuration();

  std::string Body() const {
    return present ? absl::StrCat("{\"versions\":\"row/", request.tenant(), "/", family, "/", id, "=", version, "\"}")
                   : "";
  }
};

struct Counts {
  size_t reads = 0;
  size_t hits = 0;
  size_t exact_hits = 0;
  size_t failed = 0;
  size_t wrong = 0;
  size_t older_than_invalidation = 0;
};

class TraceReplay {
 public:
  TraceReplay(std::vector<Access> trace, const std::string& redis_socket, const std::string& source,
              std::vector<std::unique_ptr<support::Node>>* nodes, const std::string& yaml, absl::Duration freshness)
      : trace_(std::move(trace)), redis_socket_(redis_socket), source_(source), nodes_(*nodes) {
    const auto catalog = cache::ParseCatalog(yaml, 1);
    if (!catalog.ok()) throw std::runtime_error(std::string(catalog.status().message()));
    const cache::Endpoint* endpoint = (*catalog)->Find("trace/row");
    std::map<std::string, uint64_t> epochs;
    std::map<std::tuple<std::string, std::string, std::string>, size_t> index;
    std::vector<std::string> bodies;
    for (const Access& access : trace_) {
      const auto [at, fresh] = index.try_emplace({access.tenant, access.family, access.id}, entities_.size());
      entity_of_.push_back(at->second);
      if (!fresh) continue;
      Entity entity{.family = access.family, .id = access.id};
      entity.request.set_tenant(access.tenant);
      entity.request.set_endpoint("trace/row");
      for (const auto& [name, value] : {std::pair{"family", access.family}, std::pair{"id", access.id}}) {
        auto* parameter = entity.request.add_parameters();
        parameter->set_name(name);
        parameter->mutable_value()->set_text(value);
      }
      if (!epochs.contains(access.tenant)) epochs[access.tenant] = nodes_[0]->Epoch(access.tenant, "trace");
      entity.key = cache::CacheKey(*endpoint, access.tenant, epochs[access.tenant],
                                   cache::CanonicalArguments(*endpoint, entity.request).value());
      bodies.push_back(entity.Body());
      family_[{access.tenant, access.family}].push_back(entities_.size());
      entities_.push_back(std::move(entity));
    }
    judge_ = std::make_unique<support::Judge>(bodies, freshness);
    pqxx::connection connection(source_);
    pqxx::work work(connection);
    pqxx::stream_to rows(work, "entity");
    for (const Entity& entity : entities_) {
      rows << std::make_tuple(entity.request.tenant(), entity.family, entity.id, 1, true);
    }
    rows.complete();
    work.exec("ANALYZE entity");
    work.commit();
  }

  Counts Run(size_t threads, const Progress& progress) {
    std::vector<Counts> counts(threads);
    std::vector<std::string> failures(threads);
    std::vector<std::thread> running;
    for (size_t thread = 0; thread < threads; ++thread) {
      running.push_back(base::StartThread("trace", [&, thread] {
        try {
          RunThread(thread, threads, &counts[thread]);
        } catch (const std::exception& error) {
          failures[thread] = error.what();
        }
        ++ended_;
      }));
    }
    absl::Duration told = clock_.Steady();
    const bool done = support::AwaitTrue(absl::Hours(2), [&] {
      if (clock_.Steady() - told > absl::Seconds(5)) {
        told = clock_.Steady();
        progress(absl::StrFormat("trace: %u of %u operations", done_.load(), trace_.size()));
      }
      return ended_ == threads;
    });
    for (std::thread& thread : running) thread.join();
    if (!done) throw std::runtime_error("the trace did not end");
    Counts all;
    for (size_t thread = 0; thread < threads; ++thread) {
      if (!failures[thread].empty()) throw std::runtime_error(failures[thread]);
      all.reads += counts[thread].reads;
      all.hits += counts[thread].hits;
      all.exact_hits += counts[thread].exact_hits;
      all.failed += counts[thread].failed;
      all.wrong += counts[thread].wrong;
      all.older_than_invalidation += counts[thread].older_than_invalidation;
    }
    return all;
  }

 private:
  void RunThread(size_t thread, size_t threads, Counts* counts) {
    pqxx::connection connection(source_);
    cache::RedisClient redis(redis_socket_);
    for (size_t i = 0; i < trace_.size(); ++i) {
      const Access& access = trace_[i];
      // What a bulk update changes keeps its order.
      if (base::Hash64(absl::StrCat(access.tenant, " ", access.family)) % threads != thread) continue;
      if (access.kind == Access::kRead) {
        Read(i, &redis, counts);
      } else {
        Write(i, &connection);
      }
      ++done_;
    }
  }

  void Read(size_t i, cache::RedisClient* redis, Counts* counts) {
    const Access& access = trace_[i];
    Entity& entity = entities_[entity_of_[i]];
    const bool held = entity.held_until > access.at;
    if (!held && entity.held_until > absl::ZeroDuration()) redis->Command({"DEL", entity.key});
    if (!held) entity.held_until = access.at + access.ttl;
    const absl::Duration sent = clock_.Steady();
    const support::Answer answer = nodes_[i % nodes_.size()]->Read(entity.request);
    const absl::Duration received = clock_.Steady();
    ++counts->reads;
    counts->exact_hits += held;
    if (!answer.status.ok()) {
      ++counts->failed;
      return;
    }
    counts->hits += answer.FromCache();
    const support::Opinion opinion = judge_->Of(entity_of_[i], answer.response.body(), sent, received);
    counts->wrong += opinion.judgement != support::Judgement::kRight;
    counts->older_than_invalidation += opinion.older_than_invalidation;
  }

  void Write(size_t i, pqxx::connection* connection) {
    const Access& access = trace_[i];
    Entity& written = entities_[entity_of_[i]];
    pqxx::work work(*connection);
    std::vector<size_t> changed = {entity_of_[i]};
    std::string tag = absl::StrCat("row:", access.family, ":", access.id);
    if (access.kind == Access::kBulkUpdate) {
      changed = family_.at({access.tenant, access.family});
      tag = absl::StrCat("family:", access.family);
      work.exec_params("UPDATE entity SET version = version + 1 WHERE tenant = $1 AND family = $2", access.tenant,
                       access.family);
    } else {
      written.present = access.kind == Access::kUpdate;
      work.exec_params(
          "UPDATE entity SET version = version + 1, present = $4 WHERE tenant = $1 AND family = $2 AND id = $3",
          access.tenant, access.family, access.id, written.present);
    }
    const absl::Duration begun = clock_.Steady();
    std::vector<int64_t> versions;
    for (const size_t entity : changed) {
      ++entities_[entity].version;
      entities_[entity].held_until = -absl::InfiniteDuration();
      versions.push_back(judge_->Committing(entity, entities_[entity].Body(), begun));
    }
    work.commit();
    const absl::Duration committed = clock_.Steady();
    for (size_t k = 0; k < changed.size(); ++k) judge_->Committed(changed[k], versions[k], committed);
    const bool acknowledged =
        support::AwaitTrue(kLimit, [&] { return nodes_[i % nodes_.size()]->Invalidate(access.tenant, {tag}).ok(); });
    if (!acknowledged) throw std::runtime_error("an invalidation was never acknowledged");
    const absl::Duration now = clock_.Steady();
    for (size_t k = 0; k < changed.size(); ++k) judge_->Invalidated(changed[k], versions[k], now);
  }

  const base::SystemClock clock_;
  const std::vector<Access> trace_;
  const std::string redis_socket_;
  const std::string source_;
  const std::vector<std::unique_ptr<support::Node>>& nodes_;
  std::vector<size_t> entity_of_;  // Of each access.
  std::vector<Entity> entities_;   // Each belongs to the thread of its tenant and family.
  std::map<std::pair<std::string, std::string>, std::vector<size_t>> family_;
  std::unique_ptr<support::Judge> judge_;
  std::atomic<size_t> done_{0};
  std::atomic<size_t> ended_{0};
};

}  // namespace

Outcome Trace(const TraceSize& size, const Progress& progress) {
  std::optional<std::vector<Access>> trace = support::ReadTrace();
  const bool generated = !trace.has_value();
  if (generated) {
    progress("trace: the shared data is absent; the accesses are generated, and the hit ratio is their own");
    trace = GenerateTrace(size.operations);
  }
  trace->resize(std::min(trace->size(), size.operations));
  std::set<std::string> tenants;
  for (const Access& access : *trace) tenants.insert(access.tenant);

  support::PrivatePostgres postgres;
  support::PrivateRedis redis;
  const std::string source = postgres.ConnectionString(postgres.CreateDatabase());
  {
    pqxx::connection connection(source);
    pqxx::work work(connection);
    work.exec(
        "CREATE TABLE entity (tenant text, family text, id text, version bigint NOT NULL, present boolean NOT NULL,"
        " PRIMARY KEY (tenant, family, id))");
    work.commit();
  }
  const std::string yaml = CatalogOf(tenants, size.freshness);
  auto nodes = StartNodes({.source = source,
                           .redis = "unix:" + redis.socket(),
                           .replicas = 3,
                           .yaml = yaml,
                           .family = "trace",
                           .tenants = tenants.size()});
  TraceReplay replay(*trace, redis.socket(), source, &nodes, yaml, size.freshness);
  const Counts counts = replay.Run(size.threads, progress);

  const auto share = [&](size_t part) { return static_cast<double>(part) / static_cast<double>(counts.reads); };
  Outcome outcome;
  outcome.figures = {{"trace_operations", static_cast<double>(trace->size())},
                     {"trace_generated", generated ? 1 : 0},
                     {"trace_hit_ratio", share(counts.hits)},
                     {"trace_hit_ratio_exact", share(counts.exact_hits)},
                     {"trace_failed_reads", static_cast<double>(counts.failed)},
                     {"trace_outside_bound", static_cast<double>(counts.wrong)},
                     {"trace_older_than_invalidation", static_cast<double>(counts.older_than_invalidation)}};
  progress(
      absl::StrFormat("trace: %u reads, %.2f%% from the cache; %.2f%% of a cache that invalidates exactly; %u wrong",
                      counts.reads, 100 * share(counts.hits), 100 * share(counts.exact_hits), counts.wrong));
  outcome.Expect(counts.wrong == 0, "an answer was none that the database held within the bound");
  outcome.Expect(counts.older_than_invalidation == 0, "an answer was older than an acknowledged invalidation");
  outcome.Expect(counts.failed == 0, absl::StrCat(counts.failed, " reads failed"));
  outcome.Expect(std::abs(share(counts.hits) - share(counts.exact_hits)) < 0.01,
                 "the hit ratio is more than a point away from that of a cache that invalidates exactly");
  return outcome;
}

}  // namespace shadowline::chaos
