// Promise P6 under a simulated storm: readers, who have what they found loaded again, writers that commit and then
// invalidate, and have what they invalidated loaded again, loads from fast to slower than their lease, on replicas that
// share one Redis which hangs, restarts, fails over, loses replies, evicts and corrupts.
//
// The rule that is checked: a read that begins after an invalidation was acknowledged returns a value whose load began
// after that invalidation did, hence no older a version than the one whose writer asked for it. Then each protection is
// taken away in turn, and the same check has to notice.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cache/envelope/envelope.h"
#include "gtest/gtest.h"
#include "tests/cache/fill_world.h"

namespace shadowline::cache {
namespace {

constexpr absl::Duration kStorm = absl::Seconds(4);
constexpr absl::Duration kReadTimeout = absl::Seconds(2);
constexpr int kRows = 3;

struct Plan {
  bool faults = true;
  bool stale = false;                              // TTLs are short, and values are served stale.
  bool sim::SimRedis::Faults::*planted = nullptr;  // A protection that is taken away.
};

// What happened, to see that the storm was one.
struct Tally {
  uint64_t reads = 0;
  uint64_t hits = 0;
  uint64_t shared = 0;  // Answered by a load that another caller's question began.
  uint64_t uncached = 0;
  uint64_t errors = 0;
  uint64_t invalidations = 0;
  uint64_t failed_invalidations = 0;
  uint64_t stale = 0;      // Served after its TTL.
  uint64_t refreshes = 0;  // That were cached: in the place of an answer,
  uint64_t warmings = 0;   // or of none.
  std::vector<std::string> violations;

  void Add(const Tally& other) {
    reads += other.reads;
    hits += other.hits;
    shared += other.shared;
    uncached += other.uncached;
    errors += other.errors;
    invalidations += other.invalidations;
    failed_invalidations += other.failed_invalidations;
    stale += other.stale;
    refreshes += other.refreshes;
    warmings += other.warmings;
    violations.insert(violations.end(), other.violations.begin(), other.violations.end());
  }
};

class Storm {
 public:
  Storm(uint64_t seed, Plan plan)
      : seed_(seed), plan_(plan), world_(seed, plan.stale ? absl::Milliseconds(20) : absl::Seconds(60), plan.stale) {
    sim::SimControl::Options& control = world_.control.options();
    control.latency_min = absl::Microseconds(200);
    control.latency_max = absl::Milliseconds(5);
    control.slow_share = 0.05;
    control.slow_latency = absl::Milliseconds(700);  // Longer than a lease.
    control.error_share = 0.02;
    sim::SimRedis::Faults& redis = world_.redis.faults;
    redis.latency_max = absl::Milliseconds(2);
    redis.latency_slow_ppm = 20'000;
    if (plan.planted != nullptr) redis.*plan.planted = true;
    if (plan.faults) redis.lose_reply_ppm = 5000;
    for (int process = 0; process < 2; ++process) {
      flights_.push_back(std::make_unique<FillFlight>());
      for (int lane = 0; lane < 2; ++lane) {
        lanes_.push_back(std::make_unique<Lane>(&world_, flights_.back().get()));
      }
    }
    for (Row& row : rows_) row.name = absl::StrCat("row", &row - rows_);
  }

  Tally Run() {
    for (Row& row : rows_) Write(&row);
    for (int i = 0; i < 24; ++i) ReadForEver();
    for (Row& row : rows_) WriteForEver(&row);
    if (plan_.faults) BreakForEver();
    world_.sim.RunFor(kStorm);
    stopping_ = true;
    world_.redis.faults.down = false;
    world_.redis.Thaw();
    world_.sim.RunUntilIdle();
    if (under_way_ > 0) Violation(absl::StrCat(under_way_, " calls were never answered"));
    return std::move(tally_);
  }

 private:
  struct Lane {
    Lane(FillWorld* world, FillFlight* flight)
        : store(&world->redis, world->sim.executor()),
          filler(Options(), &store, &world->control, flight, world->sim.executor(), world->sim.clock(),
                 world->sim.random()),
          invalidator({}, &store, world->sim.clock(), world->sim.random()) {}

    static Filler::Options Options() {
      Filler::Options options;
      options.lease_ttl = absl::Milliseconds(300);
      return options;
    }

    sim::SimStore store;
    Filler filler;
    Invalidator invalidator;
  };
  struct Row {
    std::string name;
    int64_t version = 0;
    // Of the acknowledged invalidations: the newest version that one was for, and when the latest of them began.
    int64_t acknowledged_version = 0;
    absl::Time acknowledged_began = absl::InfinitePast();
  };
  // What a read may return at the least, as it was when the read began.
  struct Floor {
    absl::Time now;
    int64_t version;
    absl::Time began;
  };

  uint64_t Below(uint64_t bound) { return world_.sim.random()->Below(bound); }
  Lane* AnyLane() { return lanes_[Below(lanes_.size())].get(); }
  absl::Time Now() { return world_.sim.clock()->Now(); }
  void Later(absl::Duration at_most, base::Task task) {
    world_.sim.executor()->PostAfter(at_most * world_.sim.random()->Unit(), std::move(task));
  }
  void Violation(const std::string& what) { tally_.violations.push_back(absl::StrCat("seed ", seed_, ": ", what)); }

  void ReadForEver() {
    if (stopping_) return;
    Row* const row = &rows_[Below(kRows)];
    Lane* const lane = AnyLane();
    const Floor floor{Now(), row->acknowledged_version, row->acknowledged_began};
    ++under_way_;
    lane->store.Read(
        world_.KeyOf(row->name), {world_.FenceOf(row->name)}, [this, row, lane, floor](absl::StatusOr<Found> found) {
          if (found.ok() && Admits(*found)) {
            absl::StatusOr<CachedAnswer> cached = DecodeEnvelope(world_.KeyOf(row->name), found->slot.bytes);
            if (cached.ok()) {
              ++tally_.hits;
              const bool stale = IsStale(*cached, Now());
              if (stale) ++tally_.stale;
              if (stale || Below(4) == 0) Refresh(lane, row, found->slot.fill, &tally_.refreshes);
              return Answered(row, floor, cached->body, cached->loaded_at);
            }
          }
          Fences fences = found.ok() ? std::move(found->fences) : Fences{.complete = false};
          lane->filler.Fill(world_.MissOf(row->name, std::move(fences)), kReadTimeout,
                            [this, row, floor](absl::StatusOr<Filled> filled) {
                              if (!filled.ok()) {
                                ++tally_.errors;
                                return Next(floor);
                              }
                              if (!filled->cached) ++tally_.uncached;
                              if (!filled->from_store && filled->answer.started_at < floor.now) ++tally_.shared;
                              Answered(row, floor, filled->answer.body, filled->answer.started_at);
                            });
        });
  }
  void Answered(Row* row, const Floor& floor, const std::string& body, absl::Time loaded_at) {
    int64_t version = 0;
    if (!absl::SimpleAtoi(body, &version)) Violation(absl::StrCat(row->name, ": returned \"", body, "\""));
    if (version < floor.version) {
      Violation(absl::StrCat(row->name, ": returned version ", version, " after ", floor.version, " was acknowledged"));
    } else if (loaded_at + absl::Microseconds(1) < floor.began) {  // An envelope keeps microseconds.
      Violation(absl::StrCat(row->name, ": loaded ", absl::FormatDuration(floor.began - loaded_at),
                             " before an invalidation that was acknowledged before the read"));
    }
    Next(floor);
  }
  void Refresh(Lane* lane, Row* row, std::string replaced, uint64_t* cached) {
    ++under_way_;
    lane->filler.Refresh(world_.MissOf(row->name, {}), std::move(replaced), kReadTimeout,
                         [this, cached](absl::StatusOr<Filled> filled) {
                           --under_way_;
                           if (filled.ok() && filled->cached) ++*cached;
                         });
  }
  void Next(const Floor& floor) {
    --under_way_;
    ++tally_.reads;
    // Its own time, and a Redis deadline each for the look-up, the fences, the lease and the put.
    if (Now() - floor.now > kReadTimeout + 4 * world_.redis.faults.timeout + absl::Milliseconds(20)) {
      Violation(absl::StrCat("a read took ", absl::FormatDuration(Now() - floor.now)));
    }
    Later(absl::Milliseconds(5), [this] { ReadForEver(); });
  }

  void Write(Row* row) { world_.Write(row->name, absl::StrCat(++row->version)); }
  // Either a writer that invalidates after its commit, or one whose invalidation is ahead of its commit and names it.
  void WriteForEver(Row* row) {
    if (stopping_) return;
    ++under_way_;
    if (Below(2) == 0) {
      Write(row);
      return Later(absl::Milliseconds(3), [this, row, version = row->version] { Invalidate(row, version, {}); });
    }
    const uint64_t writer = world_.database.Begin();
    world_.database.Write(writer, world_.DatabaseRow(row->name), absl::StrCat(++row->version));
    Invalidate(row, row->version, writer);
  }
  // As an application would: again until it is acknowledged.
  void Invalidate(Row* row, int64_t version, std::optional<uint64_t> writer) {
    const absl::Time began = Now();
    std::vector<uint64_t> transactions;
    if (writer.has_value()) transactions.push_back(*writer);
    AnyLane()->invalidator.Invalidate(
        {{"acme", world_.TagOf(row->name)}}, transactions, [this, row, version, writer, began](absl::Status fenced) {
          if (!fenced.ok()) {
            ++tally_.failed_invalidations;
            return Later(absl::Milliseconds(5), [this, row, version, writer] { Invalidate(row, version, writer); });
          }
          if (!writer.has_value()) return Acknowledged(row, version, began);
          Later(absl::Milliseconds(8), [this, row, version, writer, began] {
            world_.database.Commit(*writer);
            // A fence that was lost before the commit has kept nothing out.
            plan_.faults ? Invalidate(row, version, {}) : Acknowledged(row, version, began);
          });
        });
  }
  void Acknowledged(Row* row, int64_t version, absl::Time began) {
    --under_way_;
    ++tally_.invalidations;
    row->acknowledged_version = std::max(row->acknowledged_version, version);
    row->acknowledged_began = std::max(row->acknowledged_began, began);
    if (Below(2) == 0) Refresh(AnyLane(), row, "", &tally_.warmings);
    Later(absl::Milliseconds(40), [this, row] { WriteForEver(row); });
  }

  void BreakForEver() {
    if (stopping_) return;
    const std::string row = rows_[Below(kRows)].name;
    switch (Below(7)) {
      case 0:
        world_.redis.faults.hang = true;
        Later(absl::Milliseconds(120), [this] { world_.redis.Thaw(); });
        break;
      case 1:
        world_.redis.faults.down = true;
        Later(absl::Milliseconds(60), [this] { world_.redis.faults.down = false; });
        break;
      case 2:
        world_.redis.Restart();
        break;
      case 3:
        world_.redis.Failover(1 + Below(8));
        break;
      case 4:
        world_.redis.Evict(world_.KeyOf(row));
        break;
      case 5:
        world_.redis.Corrupt(world_.KeyOf(row), "garbage");
        break;
      case 6:
        world_.redis.Evict(world_.FenceOf(row));
        break;
    }
    Later(absl::Milliseconds(120), [this] { BreakForEver(); });
  }

  const uint64_t seed_;
  const Plan plan_;
  FillWorld world_;
  std::vector<std::unique_ptr<FillFlight>> flights_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  Row rows_[kRows];
  bool stopping_ = false;
  int under_way_ = 0;
  Tally tally_;
};

// SHADOWLINE_SIM_SEEDS asks for more of them.
uint64_t Seeds(uint64_t usual) {
  const char* const asked = std::getenv("SHADOWLINE_SIM_SEEDS");
  return asked == nullptr ? usual : std::strtoull(asked, nullptr, 10);
}

Tally RunSeeds(uint64_t seeds, Plan plan) {
  Tally total;
  for (uint64_t seed = 1; seed <= seeds; ++seed) total.Add(Storm(seed, plan).Run());
  return total;
}

void ExpectQuiet(const Tally& tally) {
  for (size_t i = 0; i < std::min<size_t>(tally.violations.size(), 10); ++i) ADD_FAILURE() << tally.violations[i];
  // A storm in which nothing met would prove nothing.
  EXPECT_GT(tally.hits, tally.reads / 100);
  EXPECT_GT(tally.shared, 0u);
  EXPECT_GT(tally.uncached, 0u);
  EXPECT_GT(tally.invalidations, 0u);
  EXPECT_GT(tally.refreshes, tally.reads / 1000);
  EXPECT_GT(tally.warmings, tally.reads / 1000);
  std::printf(
      "reads %llu, from the cache %llu, shared %llu, not cached %llu, errors %llu, invalidations %llu (+%llu failed), "
      "refreshes %llu, warmings %llu\n",
      static_cast<unsigned long long>(tally.reads), static_cast<unsigned long long>(tally.hits),
      static_cast<unsigned long long>(tally.shared), static_cast<unsigned long long>(tally.uncached),
      static_cast<unsigned long long>(tally.errors), static_cast<unsigned long long>(tally.invalidations),
      static_cast<unsigned long long>(tally.failed_invalidations), static_cast<unsigned long long>(tally.refreshes),
      static_cast<unsigned long long>(tally.warmings));
}

TEST(StaleFillTest, NoReadReturnsWhatWasLoadedBeforeAnAcknowledgedInvalidation) {
  const Tally tally = RunSeeds(Seeds(150), Plan{});
  ExpectQuiet(tally);
  EXPECT_GT(tally.failed_invalidations, 0u);
  EXPECT_GT(tally.errors, 0u);
}

TEST(StaleFillTest, NorWhereValuesAreServedStale) {
  for (const bool faults : {false, true}) {
    const Tally tally = RunSeeds(Seeds(50), {.faults = faults, .stale = true});
    ExpectQuiet(tally);
    EXPECT_GT(tally.stale, tally.reads / 100);
    std::printf("served stale %llu\n", static_cast<unsigned long long>(tally.stale));
  }
}

TEST(StaleFillTest, NorWithoutAnyFault) { ExpectQuiet(RunSeeds(Seeds(50), Plan{.faults = false})); }

// Each protection is taken away in turn.
using Faults = sim::SimRedis::Faults;

TEST(StaleFillTest, ACacheWithoutFencesIsCaught) {
  EXPECT_FALSE(RunSeeds(10, {.faults = false, .planted = &Faults::fences_are_ignored}).violations.empty());
}

TEST(StaleFillTest, AFillWithoutAVisibilityCheckIsCaught) {
  EXPECT_FALSE(RunSeeds(10, {.faults = false, .planted = &Faults::transactions_are_lost}).violations.empty());
}

TEST(StaleFillTest, AWaiterThatJoinsAnOldLoadIsCaught) {
  EXPECT_FALSE(RunSeeds(10, {.faults = false, .planted = &Faults::readers_see_first_fences}).violations.empty());
}

TEST(StaleFillTest, AnEvictedFenceThatAdmitsIsCaught) {
  EXPECT_FALSE(RunSeeds(50, {.planted = &Faults::absent_fence_admits}).violations.empty());
}

TEST(StaleFillTest, AFailoverThatBringsOldFencesBackIsCaught) {
  EXPECT_FALSE(RunSeeds(50, {.planted = &Faults::lives_are_ignored}).violations.empty());
}

TEST(StaleFillTest, TheSameSeedIsTheSameStorm) {
  const Tally first = RunSeeds(1, Plan{}), again = RunSeeds(1, Plan{});
  EXPECT_EQ(first.reads, again.reads);
  EXPECT_EQ(first.hits, again.hits);
  EXPECT_EQ(first.errors, again.errors);
}

}  // namespace
}  // namespace shadowline::cache
