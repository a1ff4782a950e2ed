// A database, a Redis and replicas that fill and invalidate, in virtual time.
#ifndef SHADOWLINE_TESTS_CACHE_FILL_WORLD_H_
#define SHADOWLINE_TESTS_CACHE_FILL_WORLD_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cache/fill/filler.h"
#include "cache/invalidate/invalidator.h"
#include "cache/key/key.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_database.h"
#include "tests/sim/sim_store.h"

namespace shadowline::cache {

// One endpoint, `pricing/quote`, whose only argument is its row and whose only tag is `row:<row>`.
class FillWorld {
 public:
  using Result = std::optional<absl::StatusOr<Filled>>;

  explicit FillWorld(uint64_t seed, absl::Duration ttl = absl::Seconds(60), bool stale_while_revalidate = false)
      : sim(seed) {
    Endpoint endpoint;
    endpoint.name = "pricing/quote";
    endpoint.family = "pricing";
    endpoint.ttl = ttl;
    endpoint.freshness = absl::Milliseconds(100);
    endpoint.stale_while_revalidate = stale_while_revalidate;
    endpoint.negative_ttl = absl::Seconds(10);
    endpoint.timeout = absl::Seconds(5);
    endpoint.parameters.resize(1);
    endpoint.parameters[0].name = "row";
    catalog_ = std::make_shared<CompiledCatalog>(1, shadowline::v1::Catalog(), std::vector<Endpoint>{endpoint});
  }

  Query QueryOf(const std::string& row) const { return Query{catalog_, &catalog_->endpoints()[0], "acme", {row}}; }
  std::string KeyOf(const std::string& row) const { return CacheKey(catalog_->endpoints()[0], "acme", 1, {row}); }
  std::string TagOf(const std::string& row) const { return absl::StrCat("row:", row); }
  std::string DatabaseRow(const std::string& row) const { return sim::RowKey("pricing/quote", "acme", {row}); }

  // Committed at once.
  void Write(const std::string& row, std::optional<std::string> value) { database.Write(DatabaseRow(row), value); }

  std::string FenceOf(const std::string& row) const { return FenceKey("acme", TagOf(row)); }
  Miss MissOf(const std::string& row, Fences fences) const {
    return {QueryOf(row), KeyOf(row), {FenceOf(row)}, std::move(fences)};
  }

  sim::SimWorld sim;
  sim::SimDatabase database{sim.clock()};
  sim::SimControl control{{}, &database, sim.executor(), sim.clock(), sim.random()};
  sim::SimRedis redis{sim.clock(), sim.random()};

 private:
  std::shared_ptr<const CompiledCatalog> catalog_;
};

// One process: a connection to Redis, a filler and an invalidator.
struct Replica {
  explicit Replica(FillWorld* world, Control* control = nullptr)
      : store(&world->redis, world->sim.executor()),
        filler({}, &store, control == nullptr ? &world->control : control, &flight, world->sim.executor(),
               world->sim.clock(), world->sim.random()),
        invalidator({}, &store, world->sim.clock(), world->sim.random()) {}

  // A read that looks for the fences first, as readers do, and fills whatever it finds. `*result` is set when the
  // answer is there.
  void Fill(FillWorld* world, const std::string& row, FillWorld::Result* result,
            absl::Duration timeout = absl::Seconds(5)) {
    store.Read(world->KeyOf(row), {world->FenceOf(row)}, [=, this](absl::StatusOr<Found> found) {
      Fences fences = found.ok() ? found->fences : Fences{.complete = false};
      filler.Fill(world->MissOf(row, std::move(fences)), timeout, [result](absl::StatusOr<Filled> filled) {
        EXPECT_FALSE(result->has_value()) << "answered twice";
        *result = std::move(filled);
      });
    });
  }

  sim::SimStore store;
  FillFlight flight;
  Filler filler;
  Invalidator invalidator;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_TESTS_CACHE_FILL_WORLD_H_
