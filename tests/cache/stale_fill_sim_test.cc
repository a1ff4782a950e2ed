// Promise P6 under a simulated storm: readers, writers that commit and then invalidate, loads from fast to slower than
// their lease, on replicas that share one Redis which hangs, restarts, fails over, loses replies, evicts and corrupts.
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
  bool commit_ignores_lease = false;
  bool commit_always_says_yes = false;
  bool load_before_lease = false;
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
  std::vector<std::string> violations;

  void Add(const Tally& other) {
    reads += other.reads;
    hits += other.hits;
    shared += other.shared;
    uncached += other.uncached;
    errors += other.errors;
    invalidations += other.invalidations;
    failed_invalidations += other.failed_invalidations;
    violations.insert(violations.end(), other.violations.begin(), other.violations.end());
  }
};

// Answers with what the row held when the lease was first asked for: a loader that reads first and leases then.
class EarlyControl final : public Control {
 public:
  EarlyControl(FillWorld* world, Control* control) : world_(world), control_(control) {}

  void BeforeLease(const std::string& key) {
    const std::string row = rows_[key];
    if (row.empty() || early_.contains(row)) return;
    ControlAnswer answer;
    const sim::SimDatabase::Value value = world_->database.Read(world_->DatabaseRow(row)).value;
    answer.found = value.has_value();
    answer.body = value.value_or("");
    answer.started_at = answer.answered_at = world_->sim.clock()->Now();
    early_[row] = std::move(answer);
  }
  void Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) override {
    const std::string row = query.arguments[0].value();
    rows_[world_->KeyOf(row)] = row;
    const auto early = early_.find(row);
    if (early == early_.end()) return control_->Load(std::move(query), timeout, reply_on, std::move(done));
    reply_on->PostAfter(absl::Milliseconds(1), [answer = std::move(early->second), done = std::move(done)]() mutable {
      done(std::move(answer));
    });
    early_.erase(early);
  }

 private:
  FillWorld* const world_;
  Control* const control_;
  std::map<std::string, std::string> rows_;  // By key.
  std::map<std::string, ControlAnswer> early_;
};

class Storm {
 public:
  Storm(uint64_t seed, Plan plan) : seed_(seed), plan_(plan), world_(seed), early_(&world_, &world_.control) {
    sim::SimControl::Options& control = world_.control.options();
    control.latency_min = absl::Microseconds(200);
    control.latency_max = absl::Milliseconds(5);
    control.slow_share = 0.05;
    control.slow_latency = absl::Milliseconds(700);  // Longer than the lease.
    control.error_share = 0.02;
    sim::SimRedis::Faults& redis = world_.redis.faults;
    redis.latency_max = absl::Milliseconds(2);
    redis.latency_slow_ppm = 20'000;
    redis.commit_ignores_lease = plan.commit_ignores_lease;
    redis.commit_always_says_yes = plan.commit_always_says_yes;
    if (plan.faults) redis.lose_reply_ppm = 5000;
    if (plan.load_before_lease) redis.before_lease = [this](const std::string& key) { early_.BeforeLease(key); };
    Control* const source = plan.load_before_lease ? static_cast<Control*>(&early_) : &world_.control;
    for (int process = 0; process < 2; ++process) {
      flights_.push_back(std::make_unique<FillFlight>());
      for (int lane = 0; lane < 2; ++lane) {
        lanes_.push_back(std::make_unique<Lane>(&world_, source, flights_.back().get()));
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
    Lane(FillWorld* world, Control* control, FillFlight* flight)
        : store(&world->redis, world->sim.executor()),
          filler(Options(), &store, control, flight, world->sim.executor(), world->sim.clock(), world->sim.random()),
          invalidator({}, &store, world->sim.clock(), world->sim.random()) {}

    static Filler::Options Options() {
      Filler::Options options;
      options.lease_ttl = absl::Milliseconds(500);
      options.busy_wait = absl::Milliseconds(100);
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
    lane->store.Get(world_.KeyOf(row->name), [this, row, lane, floor](absl::StatusOr<Slot> slot) {
      if (slot.ok() && slot->kind == Slot::Kind::kValue) {
        absl::StatusOr<CachedAnswer> cached = DecodeEnvelope(world_.KeyOf(row->name), slot->bytes);
        if (cached.ok()) {
          ++tally_.hits;
          return Answered(row, floor, cached->body, cached->loaded_at);
        }
      }
      lane->filler.Fill(world_.QueryOf(row->name), world_.KeyOf(row->name), {TagKey("acme", world_.TagOf(row->name))},
                        kReadTimeout, [this, row, floor](absl::StatusOr<Filled> filled) {
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
  void Next(const Floor& floor) {
    --under_way_;
    ++tally_.reads;
    // Its own time, and a Redis deadline each for the look-up, the lease, the tags and the commit.
    if (Now() - floor.now > kReadTimeout + 4 * world_.redis.faults.timeout + absl::Milliseconds(20)) {
      Violation(absl::StrCat("a read took ", absl::FormatDuration(Now() - floor.now)));
    }
    Later(absl::Milliseconds(5), [this] { ReadForEver(); });
  }

  void Write(Row* row) { world_.Write(row->name, absl::StrCat(++row->version)); }
  void WriteForEver(Row* row) {
    if (stopping_) return;
    Write(row);
    ++under_way_;
    Later(absl::Milliseconds(3), [this, row, version = row->version] { Invalidate(row, version); });
  }
  // As an application would: again until it is acknowledged.
  void Invalidate(Row* row, int64_t version) {
    const absl::Time began = Now();
    AnyLane()->invalidator.Invalidate(
        "acme", {world_.TagOf(row->name)}, [this, row, version, began](absl::StatusOr<uint64_t> fenced) {
          if (!fenced.ok()) {
            ++tally_.failed_invalidations;
            return Later(absl::Milliseconds(5), [this, row, version] { Invalidate(row, version); });
          }
          --under_way_;
          ++tally_.invalidations;
          row->acknowledged_version = std::max(row->acknowledged_version, version);
          row->acknowledged_began = std::max(row->acknowledged_began, began);
          Later(absl::Milliseconds(40), [this, row] { WriteForEver(row); });
        });
  }

  void BreakForEver() {
    if (stopping_) return;
    const std::string key = world_.KeyOf(rows_[Below(kRows)].name);
    switch (Below(6)) {
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
        world_.redis.Evict(key);
        break;
      case 5:
        world_.redis.Corrupt(key, "garbage");
        break;
    }
    Later(absl::Milliseconds(120), [this] { BreakForEver(); });
  }

  const uint64_t seed_;
  const Plan plan_;
  FillWorld world_;
  EarlyControl early_;
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
  std::printf(
      "reads %llu, from the cache %llu, shared %llu, not cached %llu, errors %llu, invalidations %llu (+%llu failed)\n",
      static_cast<unsigned long long>(tally.reads), static_cast<unsigned long long>(tally.hits),
      static_cast<unsigned long long>(tally.shared), static_cast<unsigned long long>(tally.uncached),
      static_cast<unsigned long long>(tally.errors), static_cast<unsigned long long>(tally.invalidations),
      static_cast<unsigned long long>(tally.failed_invalidations));
}

TEST(StaleFillTest, NoReadReturnsWhatWasLoadedBeforeAnAcknowledgedInvalidation) {
  const Tally tally = RunSeeds(Seeds(150), Plan{});
  ExpectQuiet(tally);
  EXPECT_GT(tally.failed_invalidations, 0u);
  EXPECT_GT(tally.errors, 0u);
}

TEST(StaleFillTest, NorWithoutAnyFault) { ExpectQuiet(RunSeeds(Seeds(50), Plan{.faults = false})); }

TEST(StaleFillTest, ACommitThatIgnoresTheLeaseIsCaught) {
  EXPECT_FALSE(RunSeeds(10, Plan{.faults = false, .commit_ignores_lease = true}).violations.empty());
}

TEST(StaleFillTest, AWaiterThatJoinsAnOldLoadIsCaught) {
  EXPECT_FALSE(RunSeeds(10, Plan{.faults = false, .commit_always_says_yes = true}).violations.empty());
}

TEST(StaleFillTest, ALoadBeforeTheLeaseIsCaught) {
  EXPECT_FALSE(RunSeeds(10, Plan{.faults = false, .load_before_lease = true}).violations.empty());
}

TEST(StaleFillTest, TheSameSeedIsTheSameStorm) {
  const Tally first = RunSeeds(1, Plan{}), again = RunSeeds(1, Plan{});
  EXPECT_EQ(first.reads, again.reads);
  EXPECT_EQ(first.hits, again.hits);
  EXPECT_EQ(first.errors, again.errors);
}

}  // namespace
}  // namespace shadowline::cache
