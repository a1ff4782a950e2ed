// What two statements have seen of the same transactions, and the simulated database that says it as PostgreSQL does.
#include "cache/origin/snapshot.h"

#include <gtest/gtest.h>

#include "tests/sim/sim.h"
#include "tests/sim/sim_database.h"

namespace shadowline::cache {
namespace {

DatabaseSnapshot Parse(absl::string_view text) {
  absl::StatusOr<DatabaseSnapshot> snapshot = ParseSnapshot(text);
  EXPECT_TRUE(snapshot.ok()) << text;
  return snapshot.ok() ? *snapshot : DatabaseSnapshot{};
}

TEST(SnapshotTest, PrintsWhatItRead) {
  for (const char* text : {"1:1:", "10:20:", "10:20:10,14,19", "18446744073709551614:18446744073709551615:"}) {
    EXPECT_EQ(Parse(text).ToString(), text);
  }
}

TEST(SnapshotTest, RefusesEverythingElse) {
  for (const char* text : {"", ":", "::", "1:2", "0:1:", "2:1:", "1:2:3", "5:9:4", "5:9:9", "5:9:7,6", "5:9:6,6",
                           "5:9:,6", "5:9:6,", " 5:9:", "+5:9:", "5:9:6:7", "5:99999999999999999999:", "a:b:c"}) {
    EXPECT_FALSE(ParseSnapshot(text).ok()) << text;
  }
}

TEST(SnapshotTest, SeesWhatHadEnded) {
  const DatabaseSnapshot snapshot = Parse("10:20:10,14");
  for (const uint64_t seen : {1, 9, 11, 13, 15, 19}) EXPECT_TRUE(snapshot.Sees(seen)) << seen;
  for (const uint64_t unseen : {10, 14, 20, 1000}) EXPECT_FALSE(snapshot.Sees(unseen)) << unseen;
}

// Every snapshot over a handful of transactions against every other, by definition.
TEST(SnapshotTest, SeesAllOfIsTheSubsetOfWhatIsVisible) {
  std::vector<DatabaseSnapshot> all;
  for (uint64_t xmin = 1; xmin <= 6; ++xmin) {
    for (uint64_t xmax = xmin; xmax <= 6; ++xmax) {
      for (uint32_t mask = 0; mask < (1u << (xmax - xmin)); ++mask) {
        DatabaseSnapshot snapshot{.xmin = xmin, .xmax = xmax, .in_progress = {}};
        for (uint64_t id = xmin; id < xmax; ++id) {
          if (mask >> (id - xmin) & 1) snapshot.in_progress.push_back(id);
        }
        all.push_back(snapshot);
      }
    }
  }
  for (const DatabaseSnapshot& a : all) {
    for (const DatabaseSnapshot& b : all) {
      bool expected = true;
      for (uint64_t id = 1; id < 10; ++id) expected = expected && (a.Sees(id) || !b.Sees(id));
      ASSERT_EQ(SeesAllOf(a, b), expected) << a.ToString() << " of " << b.ToString();
    }
  }
}

TEST(SimDatabaseTest, AnOpenTransactionIsInvisibleAndNamed) {
  sim::SimClock clock;
  sim::SimDatabase database(&clock);
  database.Write("row", "1");
  const uint64_t open = database.Begin();
  database.Write(open, "row", "2");
  const uint64_t later = database.Write("other", "x");

  const sim::SimDatabase::Reading before = database.Read("row");
  EXPECT_EQ(before.value, "1");
  EXPECT_FALSE(Parse(before.snapshot).Sees(open));
  EXPECT_TRUE(Parse(before.snapshot).Sees(later));

  database.Commit(open);
  const sim::SimDatabase::Reading after = database.Read("row");
  EXPECT_EQ(after.value, "2");
  EXPECT_TRUE(SeesAllOf(Parse(after.snapshot), Parse(before.snapshot)));
  EXPECT_FALSE(SeesAllOf(Parse(before.snapshot), Parse(after.snapshot)));
}

TEST(SimDatabaseTest, HistoryKnowsWhatARowHeld) {
  sim::SimClock clock;
  sim::SimDatabase database(&clock);
  const absl::Time start = clock.Now();
  const auto at = [&](int seconds) { return start + absl::Seconds(seconds); };
  clock.AdvanceTo(at(10));
  database.Write("row", "1");
  clock.AdvanceTo(at(20));
  database.Write("row", std::nullopt);
  clock.AdvanceTo(at(30));
  database.Write("row", "2");

  using Values = std::set<sim::SimDatabase::Value>;
  EXPECT_EQ(database.ValuesBetween("row", at(0), at(5)), (Values{std::nullopt}));
  EXPECT_EQ(database.ValuesBetween("row", at(12), at(19)), (Values{"1"}));
  EXPECT_EQ(database.ValuesBetween("row", at(12), at(25)), (Values{"1", std::nullopt}));
  EXPECT_EQ(database.ValuesBetween("row", at(25), at(99)), (Values{std::nullopt, "2"}));
  EXPECT_FALSE(database.HeldBetween("row", "1", at(21), at(99)));
}

TEST(SimDatabaseTest, PartsOfARowKeyDoNotRunTogether) {
  EXPECT_NE(sim::RowKey("a/b", "t", {"1", "2"}), sim::RowKey("a/b", "t", {"1|1:2"}));
  EXPECT_NE(sim::RowKey("a/b", "t", {"null"}), sim::RowKey("a/b", "t", {std::nullopt}));
}

}  // namespace
}  // namespace shadowline::cache
