#include "cache/redis/breaker.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "gtest/gtest.h"

namespace shadowline::cache {
namespace {

using State = Breaker::State;

class BreakerTest : public testing::Test {
 protected:
  // One call that takes `latency`; false: not admitted.
  bool Call(bool ok, absl::Duration latency = absl::Milliseconds(1), uint32_t draw_ppm = 0) {
    const auto permit = breaker_.Admit(now_, draw_ppm);
    if (!permit.has_value()) return false;
    now_ += latency;
    ok ? breaker_.Succeeded(*permit, now_) : breaker_.Failed(*permit, now_);
    return true;
  }
  void Fail(int times) {
    for (int i = 0; i < times; ++i) Call(false);
  }
  // To the moment at which the breaker leaves `state`.
  absl::Duration WaitWhile(State state) {
    const absl::Duration from = now_;
    while (breaker_.state(now_) == state && now_ - from < absl::Minutes(1)) now_ += absl::Milliseconds(1);
    return now_ - from;
  }
  void Trip() {
    Fail(20);
    ASSERT_EQ(breaker_.state(now_), State::kOpen);
  }
  void CloseAfterTrip() {
    WaitWhile(State::kOpen);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(Call(true));
  }
  // The share of draws that is admitted now.
  int AdmittedPercent() {
    int admitted = 0;
    for (int i = 0; i < 100; ++i) admitted += breaker_.Admit(now_, i * 10'000).has_value() ? 1 : 0;
    return admitted;
  }

  base::Random random_{1};
  absl::Duration now_ = absl::Hours(1);
  Breaker breaker_{{}, &random_};
};

TEST_F(BreakerTest, StaysClosedWhileCallsSucceed) {
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(Call(true, absl::Milliseconds(1), 999'999));
  EXPECT_EQ(breaker_.state(now_), State::kClosed);
}

TEST_F(BreakerTest, TripsAtTheShareOfFailuresAndNotBelowIt) {
  for (int i = 0; i < 300; ++i) {
    Call(true);
    Call(i % 10 != 0);
    Call(true);
  }
  EXPECT_EQ(breaker_.trips(), 0u);
  for (int i = 0; i < 1000 && breaker_.trips() == 0; ++i) Call(i % 2 == 0);
  EXPECT_EQ(breaker_.state(now_), State::kOpen);
}

TEST_F(BreakerTest, AFewFailuresAreNoEvidence) {
  Fail(19);
  EXPECT_EQ(breaker_.state(now_), State::kClosed);
  now_ += absl::Milliseconds(1100);
  Fail(19);
  EXPECT_EQ(breaker_.state(now_), State::kClosed) << "the first ones are out of the window";
  Fail(1);
  EXPECT_EQ(breaker_.state(now_), State::kOpen);
}

TEST_F(BreakerTest, SlowAnswersCountAsFailures) {
  for (int i = 0; i < 5; ++i) Call(true, absl::Milliseconds(50));
  EXPECT_EQ(breaker_.state(now_), State::kOpen);
}

TEST_F(BreakerTest, FiveTimeoutsInARowTripUnderLittleTrafficAndAQuickSuccessBreaksTheRow) {
  for (int i = 0; i < 4; ++i) {
    Call(false, absl::Milliseconds(50));
    now_ += absl::Seconds(10);
  }
  Call(true);
  for (int i = 0; i < 4; ++i) {
    Call(false, absl::Milliseconds(50));
    now_ += absl::Seconds(10);
  }
  EXPECT_EQ(breaker_.state(now_), State::kClosed);
  Call(false, absl::Milliseconds(50));
  EXPECT_EQ(breaker_.state(now_), State::kOpen);
}

TEST_F(BreakerTest, OpenAdmitsNobodyForAJitteredTimeThatDoublesUpToItsLimit) {
  Trip();
  for (const int longest : {100, 200, 400, 800, 1600, 2000, 2000}) {
    EXPECT_FALSE(breaker_.Admit(now_, 0).has_value());
    const absl::Duration open = WaitWhile(State::kOpen);
    EXPECT_GE(open, absl::Milliseconds(longest) / 2 - absl::Milliseconds(1));
    EXPECT_LE(open, absl::Milliseconds(longest) + absl::Milliseconds(1));
    ASSERT_TRUE(Call(false)) << "half-open: a probe";
    EXPECT_EQ(breaker_.state(now_), State::kOpen);
  }
}

TEST_F(BreakerTest, LanesComeBackAtDifferentTimes) {
  base::Random other_random(2);
  Breaker other({}, &other_random);
  for (int i = 0; i < 20; ++i) other.Failed(*other.Admit(now_, 0), now_);
  for (int i = 0; i < 20; ++i) breaker_.Failed(*breaker_.Admit(now_, 0), now_);
  WaitWhile(State::kOpen);
  const absl::Duration here = now_;
  for (now_ -= absl::Milliseconds(100); other.state(now_) == State::kOpen;) now_ += absl::Milliseconds(1);
  EXPECT_NE(now_, here);
}

TEST_F(BreakerTest, HalfOpenAdmitsOneProbeAtATimeAndClosesAfterThree) {
  Trip();
  WaitWhile(State::kOpen);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(breaker_.state(now_), State::kHalfOpen);
    const auto probe = breaker_.Admit(now_, 999'999);
    ASSERT_TRUE(probe.has_value());
    EXPECT_FALSE(breaker_.Admit(now_, 0).has_value()) << "one is under way";
    breaker_.Succeeded(*probe, now_ + absl::Milliseconds(1));
  }
  EXPECT_EQ(breaker_.state(now_), State::kWarming);
}

TEST_F(BreakerTest, AProbeThatIsNeverHeardOfHasFailed) {
  Trip();
  WaitWhile(State::kOpen);
  const auto probe = breaker_.Admit(now_, 0);
  ASSERT_TRUE(probe.has_value());
  now_ += absl::Milliseconds(500);
  EXPECT_FALSE(breaker_.Admit(now_, 0).has_value());
  EXPECT_EQ(breaker_.state(now_), State::kOpen);
  breaker_.Succeeded(*probe, now_);
  EXPECT_EQ(breaker_.state(now_), State::kOpen) << "it came too late";
}

TEST_F(BreakerTest, WhatWasAdmittedBeforeATripDoesNotCountAfterIt) {
  std::vector<Breaker::Permit> old;
  for (int i = 0; i < 100; ++i) old.push_back(*breaker_.Admit(now_, 0));
  for (int i = 0; i < 50; ++i) breaker_.Failed(old[i], now_);
  EXPECT_EQ(breaker_.trips(), 1u);
  WaitWhile(State::kOpen);
  const auto probe = breaker_.Admit(now_, 0);
  for (int i = 50; i < 75; ++i) breaker_.Failed(old[i], now_);
  EXPECT_EQ(breaker_.state(now_), State::kHalfOpen);
  for (int i = 75; i < 100; ++i) breaker_.Succeeded(old[i], now_);
  EXPECT_EQ(breaker_.state(now_), State::kHalfOpen);
  EXPECT_TRUE(probe.has_value());
}

TEST_F(BreakerTest, WarmsUpFromATenthToAllInALineAndKeepsTheKeysItHas) {
  Trip();
  CloseAfterTrip();
  const absl::Duration closed = now_;
  EXPECT_EQ(AdmittedPercent(), 10);
  now_ = closed + absl::Seconds(1);
  EXPECT_EQ(AdmittedPercent(), 55);
  EXPECT_TRUE(breaker_.Admit(now_, 90'000).has_value()) << "what was admitted at a tenth still is";
  now_ = closed + absl::Milliseconds(1999);
  EXPECT_EQ(breaker_.state(now_), State::kWarming);
  now_ = closed + absl::Seconds(2);
  EXPECT_EQ(AdmittedPercent(), 100);
  EXPECT_EQ(breaker_.state(now_), State::kClosed);
}

TEST_F(BreakerTest, ATripWhileWarmingCountsAsAnotherInARowAndOneAfterItDoesNot) {
  Trip();
  CloseAfterTrip();
  Fail(20);
  EXPECT_GE(WaitWhile(State::kOpen), absl::Milliseconds(99)) << "twice 100 ms, jittered by half";
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Call(true));
  WaitWhile(State::kWarming);
  ASSERT_TRUE(Call(true));
  Fail(20);
  EXPECT_LE(WaitWhile(State::kOpen), absl::Milliseconds(101));
}

// A slow and obviously right breaker: it remembers every call.
class Model {
 public:
  // Called with what the breaker did, in order; says whether that was right.
  bool Admitted(absl::Duration now, bool admitted, bool in_share) {
    Advance(now);
    switch (phase_) {
      case State::kOpen:
        return !admitted;
      case State::kHalfOpen: {
        const bool free = !probe_.has_value();
        if (admitted) probe_ = now;
        return admitted == free;
      }
      default:
        return admitted == (in_share || now >= until_);
    }
  }
  // Returns whether this call must trip the breaker.
  bool Settled(absl::Duration at, uint64_t phase, absl::Duration now, bool ok) {
    Advance(now);
    if (phase != number_ || phase_ == State::kOpen) return false;
    const bool slow = now - at >= absl::Milliseconds(50);
    if (phase_ == State::kHalfOpen) {
      if (!ok || slow) return true;
      probe_.reset();
      if (++probed_ == 3) Become(State::kClosed, now + absl::Seconds(2));
      return false;
    }
    calls_.push_back({now, ok && !slow});
    row_ = ok && !slow ? 0 : row_ + (slow ? 1 : 0);
    if (ok && !slow) return false;
    const absl::Duration from = absl::Floor(now, absl::Milliseconds(100)) - absl::Milliseconds(900);
    const auto in_window = [&](const Seen& seen) { return seen.at >= from; };
    const auto calls = std::count_if(calls_.begin(), calls_.end(), in_window);
    const auto failed =
        std::count_if(calls_.begin(), calls_.end(), [&](const Seen& seen) { return in_window(seen) && !seen.ok; });
    return row_ >= 5 || (calls >= 20 && failed * 2 >= calls);
  }
  void Trip(absl::Duration until) { Become(State::kOpen, until); }
  bool ProbeLost(absl::Duration now) const {
    return phase_ == State::kHalfOpen && probe_.has_value() && now - *probe_ >= absl::Milliseconds(500);
  }
  void Advance(absl::Duration now) {
    if (phase_ == State::kOpen && now >= until_) Become(State::kHalfOpen, until_);
  }
  uint64_t number() const { return number_; }

 private:
  struct Seen {
    absl::Duration at;
    bool ok;
  };

  void Become(State phase, absl::Duration until) {
    phase_ = phase;
    until_ = until;
    ++number_;
    calls_.clear();
    row_ = 0;
    probed_ = 0;
    probe_.reset();
  }

  State phase_ = State::kClosed;
  absl::Duration until_ = -absl::InfiniteDuration();
  uint64_t number_ = 0;
  std::vector<Seen> calls_;
  int row_ = 0;
  int probed_ = 0;
  std::optional<absl::Duration> probe_;
};

TEST(BreakerModelTest, DecidesAsABreakerThatRemembersEveryCall) {
  uint64_t trips_seen = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    base::Random random(seed);
    Breaker breaker({}, &random);
    Model model;
    struct Call {
      Breaker::Permit permit;
      uint64_t phase;
    };
    std::vector<Call> under_way;
    absl::Duration now = absl::Hours(1);
    double failing = 0, slow = 0;
    for (int step = 0; step < 3000; ++step) {
      if (random.Below(300) == 0) failing = random.Below(3) * 0.45;
      if (random.Below(300) == 0) slow = random.Below(3) * 0.45;
      now += absl::Microseconds(random.Below(random.Below(50) == 0 ? 400'000 : 4'000));
      const uint64_t trips = breaker.trips();
      bool must_trip = false;
      if (random.Below(2) == 0) {
        // The ends of the range: what is admitted in every share, and what only in the whole.
        const bool in_share = random.Below(2) == 0;
        must_trip = model.ProbeLost(now);
        const auto permit = breaker.Admit(now, in_share ? 0 : 999'999);
        if (must_trip) {
          ASSERT_FALSE(permit.has_value());
        } else {
          ASSERT_TRUE(model.Admitted(now, permit.has_value(), in_share)) << "step " << step;
          if (permit.has_value()) under_way.push_back({*permit, model.number()});
        }
      } else if (!under_way.empty()) {
        const size_t which = random.Below(under_way.size());
        const Call call = under_way[which];
        under_way.erase(under_way.begin() + static_cast<ptrdiff_t>(which));
        if (random.Unit() < slow) now += absl::Milliseconds(50);
        const bool ok = random.Unit() >= failing;
        must_trip = model.ProbeLost(now) || model.Settled(call.permit.at, call.phase, now, ok);
        ok ? breaker.Succeeded(call.permit, now) : breaker.Failed(call.permit, now);
      }
      ASSERT_EQ(breaker.trips() - trips, must_trip ? 1u : 0u) << "step " << step;
      if (!must_trip) continue;
      // Only how long it stays open is the breaker's own choice.
      absl::Duration open = now;
      absl::Duration until = now + absl::Milliseconds(2001);
      while (until - open > absl::Nanoseconds(1)) {
        const absl::Duration middle = open + (until - open) / 2;
        (breaker.state(middle) == State::kOpen ? open : until) = middle;
      }
      ASSERT_GE(until - now, absl::Milliseconds(50));
      ASSERT_LE(until - now, absl::Milliseconds(2000) + absl::Nanoseconds(1));
      model.Trip(until);
    }
    trips_seen += breaker.trips();
  }
  EXPECT_GT(trips_seen, 1000u) << "else the calls were too tame";
}

}  // namespace
}  // namespace shadowline::cache
