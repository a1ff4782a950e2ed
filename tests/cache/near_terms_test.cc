#include "cache/near/near_terms.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>

#include "base/random.h"

namespace shadowline::cache {
namespace {

constexpr absl::Duration kLease = absl::Seconds(2);
const absl::Duration kHold = kLease + kNearGrace;
constexpr absl::Duration kStart = absl::Hours(1);
constexpr absl::Duration kMoment = absl::Nanoseconds(1);

TEST(NearTermsTest, BeforeAnyCatalogNothingIsServedAndEverybodyWaits) {
  const NearTerms terms(kLease);
  EXPECT_FALSE(terms.MayServe(kStart));
  EXPECT_TRUE(terms.MustWait(kStart));
}

TEST(NearTermsTest, ServesOnceNearWasDeclaredForTheHold) {
  NearTerms terms(kLease);
  terms.Observe(7, true, kStart);
  EXPECT_FALSE(terms.MayServe(kStart + kHold - kMoment));
  EXPECT_TRUE(terms.MayServe(kStart + kHold));
  EXPECT_TRUE(terms.MustWait(kStart + kHold));
  terms.Observe(8, true, kStart + kHold);
  EXPECT_TRUE(terms.MayServe(kStart + kHold)) << "the next revision changes nothing about it";
  terms.Observe(9, false, kStart + kHold);
  EXPECT_FALSE(terms.MayServe(kStart + kHold));
}

TEST(NearTermsTest, WaitsUntilNoneWasDeclaredForTheHold) {
  NearTerms terms(kLease);
  terms.Observe(7, false, kStart);
  EXPECT_TRUE(terms.MustWait(kStart + kHold - kMoment));
  EXPECT_FALSE(terms.MustWait(kStart + kHold));
  terms.Observe(8, true, kStart + kHold);
  EXPECT_TRUE(terms.MustWait(kStart + kHold));
}

TEST(NearTermsTest, WhatWasActiveInBetweenIsNotKnown) {
  NearTerms terms(kLease);
  terms.Observe(7, true, kStart);
  terms.Observe(9, true, kStart + kHold);
  EXPECT_FALSE(terms.MayServe(kStart + kHold));
  EXPECT_TRUE(terms.MayServe(kStart + 2 * kHold));
  terms.Observe(10, false, kStart + 2 * kHold);
  terms.Observe(12, false, kStart + 3 * kHold);
  EXPECT_TRUE(terms.MustWait(kStart + 3 * kHold));
}

// A fleet whose replicas hear of the active catalog late or, cut off from the state database, not at all.
class Fleet {
 public:
  Fleet(uint64_t seed, absl::Duration lease_of_terms) : random_(seed) {
    for (int i = 0; i < 4; ++i) replicas_.emplace_back(lease_of_terms);
  }

  // How often a near cache answered less than kNearGrace after an invalidation that was acknowledged at once.
  int Run() {
    int broken = 0;
    absl::Duration acknowledged = -absl::InfiniteDuration();
    for (now_ = kStart; now_ < kStart + absl::Minutes(10); now_ += absl::Milliseconds(1)) {
      // Rarely, and then several in a row.
      if (random_.Below(4000) == 0 || (now_ - applied_ < absl::Milliseconds(50) && random_.Below(50) == 0)) {
        ++active_;
        near_[active_] = random_.Below(2) == 0;
        applied_ = now_;
      }
      for (Replica& replica : replicas_) {
        Poll(&replica);
        const bool active = replica.leased_until > now_ && replica.catalog == replica.known_active;
        if (!active || replica.terms.MustWait(now_)) continue;
        acknowledged = now_;
        ++at_once;
      }
      for (const Replica& replica : replicas_) {
        const bool active = replica.leased_until > now_ && replica.catalog == replica.known_active;
        if (!active || !near_[replica.catalog] || !replica.terms.MayServe(now_)) continue;
        ++served;
        broken += acknowledged > now_ - kNearGrace ? 1 : 0;
      }
    }
    return broken;
  }

  int at_once = 0;
  int served = 0;

 private:
  struct Replica {
    explicit Replica(absl::Duration lease) : terms(lease) {}
    NearTerms terms;
    uint64_t catalog = 0;
    uint64_t known_active = 0;  // By its flags.
    absl::Duration leased_until;
    absl::Duration cut_off_until;
    absl::Duration polled_at;
  };

  // Asks for the flags, and loads the catalog a while later.
  void Poll(Replica* replica) {
    if (now_ < replica->cut_off_until) return;
    if (random_.Below(20'000) == 0) replica->cut_off_until = now_ + absl::Milliseconds(random_.Below(20'000));
    if (now_ - replica->polled_at >= absl::Milliseconds(500)) {
      replica->polled_at = now_;
      replica->known_active = active_;
      replica->leased_until = now_ + kLease;
    }
    if (replica->catalog != active_ && random_.Below(300) == 0) {
      replica->terms.Observe(active_, near_[active_], now_);
      replica->catalog = active_;
    }
  }

  base::Random random_;
  absl::Duration now_;
  uint64_t active_ = 1;
  absl::Duration applied_ = kStart;
  std::map<uint64_t, bool> near_ = {{1, true}};
  std::deque<Replica> replicas_;
};

TEST(NearTermsTest, NoNearCacheAnswersJustAfterAnInvalidationThatDidNotWait) {
  int at_once = 0, served = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Fleet fleet(seed, kLease);
    EXPECT_EQ(fleet.Run(), 0) << "seed " << seed;
    at_once += fleet.at_once;
    served += fleet.served;
  }
  EXPECT_GT(at_once, 1'000'000);
  EXPECT_GT(served, 1'000'000);
}

TEST(NearTermsTest, AHoldWithoutTheLeaseIsCaught) {
  int broken = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) broken += Fleet(seed, absl::ZeroDuration()).Run();
  EXPECT_GT(broken, 0);
}

}  // namespace
}  // namespace shadowline::cache
