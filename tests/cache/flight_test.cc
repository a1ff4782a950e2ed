#include "cache/flight/flight.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/sim/sim.h"

namespace shadowline::cache {
namespace {

using StringFlight = Flight<std::string>;

class FlightTest : public testing::Test {
 protected:
  // What a caller got: nothing yet, "start over", or the result.
  struct Caller {
    Joined joined = Joined::kFull;
    StringFlight::Lead lead;
    std::vector<std::string> got;
  };

  void Join(Caller* caller, const std::string& group = "group") {
    caller->joined = flight_.Join(
        group, world_.executor(),
        [caller](std::shared_ptr<const std::string> result) {
          caller->got.push_back(result == nullptr ? "start over" : *result);
        },
        &caller->lead);
  }

  sim::SimWorld world_{1};
  StringFlight flight_{2};
};

TEST_F(FlightTest, TheFirstCallerLeadsAndTheNextWaitForItsResult) {
  Caller leader, waiter;
  Join(&leader);
  Join(&waiter);
  EXPECT_EQ(leader.joined, Joined::kLead);
  EXPECT_EQ(waiter.joined, Joined::kWait);
  leader.lead.Land("result");
  EXPECT_TRUE(waiter.got.empty()) << "callbacks are posted, never called inside";
  world_.RunUntilIdle();
  EXPECT_EQ(waiter.got, std::vector<std::string>{"result"});
}

TEST_F(FlightTest, GroupsDoNotShare) {
  Caller one, other;
  Join(&one, "one");
  Join(&other, "other");
  EXPECT_EQ(one.joined, Joined::kLead);
  EXPECT_EQ(other.joined, Joined::kLead);
}

TEST_F(FlightTest, WhoWillNotWaitLeadsOnlyWhereNobodyDoes) {
  StringFlight::Lead first, second;
  EXPECT_TRUE(flight_.TryLead("group", &first));
  EXPECT_FALSE(flight_.TryLead("group", &second));
  first.Land("result");
  EXPECT_TRUE(flight_.TryLead("group", &second));
}

TEST_F(FlightTest, NobodyJoinsAFlightThatHasLanded) {
  Caller leader, next;
  Join(&leader);
  leader.lead.Land("old");
  Join(&next);
  EXPECT_EQ(next.joined, Joined::kLead);
  Caller waiter;
  Join(&waiter);
  next.lead.Land("new");
  world_.RunUntilIdle();
  EXPECT_EQ(waiter.got, std::vector<std::string>{"new"});
}

TEST_F(FlightTest, NobodyJoinsAClosedFlight) {
  Caller leader, waiter, next;
  Join(&leader);
  Join(&waiter);
  leader.lead.Close();
  Join(&next);
  EXPECT_EQ(next.joined, Joined::kLead);
  leader.lead.Land("result");
  world_.RunUntilIdle();
  EXPECT_EQ(waiter.got, std::vector<std::string>{"result"});
  Caller last;
  Join(&last);
  EXPECT_EQ(last.joined, Joined::kWait) << "landing the closed flight leaves the new one open";
}

TEST_F(FlightTest, ALeaderThatVanishesStrandsNobody) {
  Caller waiter;
  {
    Caller leader;
    Join(&leader);
    Join(&waiter);
  }
  world_.RunUntilIdle();
  EXPECT_EQ(waiter.got, std::vector<std::string>{"start over"});
  Join(&waiter);
  EXPECT_EQ(waiter.joined, Joined::kLead);
}

TEST_F(FlightTest, WaitersAreBounded) {
  Caller callers[4];
  for (Caller& caller : callers) Join(&caller);
  EXPECT_EQ(callers[2].joined, Joined::kWait);
  EXPECT_EQ(callers[3].joined, Joined::kFull);
}

}  // namespace
}  // namespace shadowline::cache
