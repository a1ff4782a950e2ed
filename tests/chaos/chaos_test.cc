// The scenarios of `./dev bench cache`, short: nobody is lied to, and everything comes back. How fast is for the
// benchmark to say.
#include <gtest/gtest.h>

#include <iostream>

#include "tests/chaos/scenarios.h"

namespace shadowline::chaos {
namespace {

// More than a busy machine stands still.
constexpr absl::Duration kFreshness = absl::Seconds(5);

using support::Tell;

void ExpectFaultless(const Outcome& outcome) {
  for (const auto& [name, value] : outcome.figures.items()) std::cout << name << " " << value << "\n";
  for (const std::string& fault : outcome.faults) ADD_FAILURE() << fault;
}

TEST(ChaosTest, NoAnswerOfAStormIsOlderThanAnInvalidationOrTheBound) {
  ExpectFaultless(Storm({.reads = 20'000, .rows = 1200, .threads = 1, .freshness = kFreshness}, Tell));
}

TEST(ChaosTest, NorWhereNobodyInvalidatesButCapture) {
  ExpectFaultless(CapturedStorm(
      {.reads = 10'000, .rows = 1200, .threads = 1, .writes_per_second = 50, .freshness = kFreshness}, Tell));
}

TEST(ChaosTest, FaultsThatArePlantedIntoAStormAreCaught) { ExpectFaultless(PlantedStorm(kFreshness, Tell)); }

TEST(ChaosTest, AStampedeCostsOneControlQueryAndSurvivesItsLoader) {
  ExpectFaultless(Stampede({.reads = 400, .rounds = 3, .kills = 1}, Tell));
}

TEST(ChaosTest, RedisMayDieAndHang) {
  // No more reads at once than there are connections to the database: none has to wait for one, however slow the
  // machine.
  ExpectFaultless(
      Outage({.outstanding = 20, .threads = 1, .rows = 400, .reads = 1'000, .freshness = kFreshness, .slow_percent = 0},
             Tell));
}

TEST(ChaosTest, AClusterMayMoveItsSlotsAndLoseAMaster) {
  ExpectFaultless(Cluster({.outstanding = 20, .threads = 1, .rows = 400, .moves = 2, .freshness = kFreshness}, Tell));
}

TEST(ChaosTest, ARealTraceHitsAsOftenAsAnExactCacheAndNeverLies) {
  ExpectFaultless(Trace({.operations = 4'000, .threads = 4, .freshness = kFreshness}, Tell));
}

}  // namespace
}  // namespace shadowline::chaos
