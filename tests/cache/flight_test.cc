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
    uint64_t arrival = 0;
    Joined joined = Joined::kFull;
    StringFlight::Lead lead;
    std::vector<std::string> got;
  };

  void Join(Caller* caller) {
    if (caller->arrival == 0) caller->arrival = flight_.Arrive();
    caller->joined = flight_.Join(
        "key", caller->arrival, world_.executor(),
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
  leader.lead.Mark();
  leader.lead.Land("result", /*proven=*/false);
  EXPECT_TRUE(waiter.got.empty()) << "callbacks are posted, never called inside";
  world_.RunUntilIdle();
  EXPECT_EQ(waiter.got, std::vector<std::string>{"result"});
}

TEST_F(FlightTest, AWaiterThatArrivedAfterTheMarkStartsOverUnlessTheResultIsProven) {
  for (const bool proven : {false, true}) {
    Caller leader, late;
    Join(&leader);
    leader.lead.Mark();
    Join(&late);
    leader.lead.Close();
    leader.lead.Land("result", proven);
    world_.RunUntilIdle();
    EXPECT_EQ(late.got, std::vector<std::string>{proven ? "result" : "start over"});
  }
}

TEST_F(FlightTest, NobodyJoinsAClosedFlight) {
  Caller leader, next;
  Join(&leader);
  leader.lead.Mark();
  leader.lead.Close();
  Join(&next);
  EXPECT_EQ(next.joined, Joined::kLead);
  leader.lead.Land("old", /*proven=*/true);
  Caller waiter;
  Join(&waiter);
  EXPECT_EQ(waiter.joined, Joined::kWait) << "landing the closed flight leaves the new one open";
  next.lead.Land("new", /*proven=*/true);
  world_.RunUntilIdle();
  EXPECT_EQ(waiter.got, std::vector<std::string>{"new"});
}

TEST_F(FlightTest, WhoStartsOverKeepsItsArrivalAndIsServedByTheNextFlight) {
  Caller leader, late, next;
  Join(&leader);
  leader.lead.Mark();
  Join(&late);
  leader.lead.Close();
  Join(&next);
  next.lead.Mark();
  leader.lead.Land("old", /*proven=*/false);
  world_.RunUntilIdle();
  ASSERT_EQ(late.got, std::vector<std::string>{"start over"});
  Join(&late);
  ASSERT_EQ(late.joined, Joined::kWait);
  next.lead.Land("new", /*proven=*/false);
  world_.RunUntilIdle();
  EXPECT_EQ(late.got.back(), "new");
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
