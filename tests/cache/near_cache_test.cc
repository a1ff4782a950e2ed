#include "cache/near/near_cache.h"

#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/random.h"
#include "gtest/gtest.h"
#include "tests/sim/sim.h"

namespace shadowline::cache {
namespace {

NearCache::Value ValueOf(std::string body) {
  NearCache::Value value;
  value.answer.found = true;
  value.answer.body = std::move(body);
  value.fill_id = std::string(16, 'f');
  return value;
}

class NearCacheTest : public testing::Test {
 protected:
  NearCacheTest() {
    near_.TrackingBegan();
    near_.Renew(now_);
  }

  bool Insert(const std::string& key, const std::vector<std::string>& fence_keys = {}) {
    return near_.Insert(near_.Begin(), key, ValueOf("of " + key), fence_keys, now_ + absl::Minutes(1));
  }
  bool Holds(const std::string& key) {
    const NearCache::Value* value = near_.Lookup(key, now_);
    if (value == nullptr) return false;
    EXPECT_EQ(value->answer.body, "of " + key);
    return true;
  }

  absl::Duration now_ = absl::Hours(1);
  NearCache near_{{.max_bytes = 1 << 20, .grace = absl::Milliseconds(10)}};
};

TEST_F(NearCacheTest, ServesWhatItHoldsWithItsFill) {
  ASSERT_TRUE(Insert("k", {"fence:1"}));
  const NearCache::Value* value = near_.Lookup("k", now_);
  ASSERT_NE(value, nullptr);
  EXPECT_EQ(value->answer.body, "of k");
  EXPECT_EQ(value->fill_id, std::string(16, 'f'));
  EXPECT_FALSE(Holds("other"));
}

TEST_F(NearCacheTest, ServesOnlyAsLongAsAPingProvesThatNothingWasMissed) {
  ASSERT_TRUE(Insert("k"));
  const absl::Duration sent = now_;
  now_ = sent + absl::Milliseconds(10);
  EXPECT_TRUE(Holds("k"));
  now_ += absl::Nanoseconds(1);
  EXPECT_FALSE(Holds("k"));
  near_.Renew(sent + absl::Milliseconds(5));
  EXPECT_TRUE(Holds("k")) << "an entry that could not be proven is not lost";
  near_.Renew(sent);
  EXPECT_TRUE(Holds("k")) << "an older proof takes nothing away";
  EXPECT_EQ(near_.stats().lapsed, 1u);
}

TEST_F(NearCacheTest, AnEntryEndsWithItsTimeToLive) {
  ASSERT_TRUE(Insert("k"));
  now_ += absl::Minutes(1);
  near_.Renew(now_);
  EXPECT_FALSE(Holds("k"));
  EXPECT_EQ(near_.entries(), 0u);
}

TEST_F(NearCacheTest, AnInvalidationOfTheValueOrOfAnyFenceEndsTheEntryAndNoOther) {
  ASSERT_TRUE(Insert("a", {"fence:1"}));
  ASSERT_TRUE(Insert("b", {"fence:1", "fence:2"}));
  ASSERT_TRUE(Insert("c", {"fence:2"}));
  ASSERT_TRUE(Insert("d"));
  near_.Invalidated("fence:1");
  EXPECT_FALSE(Holds("a"));
  EXPECT_FALSE(Holds("b"));
  EXPECT_TRUE(Holds("c"));
  near_.Invalidated("d");
  EXPECT_FALSE(Holds("d"));
  ASSERT_TRUE(Insert("a", {"fence:1"})) << "the fence stands anew";
  EXPECT_TRUE(Holds("a"));
  near_.Invalidated("fence:1");
  EXPECT_FALSE(Holds("a"));
  EXPECT_TRUE(Holds("c"));
}

TEST_F(NearCacheTest, AnInvalidationBetweenReadAndInsertWins) {
  for (const char* invalidated : {"k", "fence:1", "fence:2"}) {
    const NearCache::Ticket ticket = near_.Begin();
    near_.Invalidated(invalidated);
    EXPECT_FALSE(near_.Insert(ticket, "k", ValueOf("old"), {"fence:1", "fence:2"}, absl::InfiniteDuration()));
    EXPECT_FALSE(Holds("k"));
    EXPECT_TRUE(Insert("k", {"fence:1", "fence:2"})) << "what is read after it counts";
  }
  const NearCache::Ticket ticket = near_.Begin();
  near_.Invalidated("another");
  EXPECT_TRUE(near_.Insert(ticket, "k", ValueOf("of k"), {}, absl::InfiniteDuration()));
  EXPECT_EQ(near_.stats().refused, 3u);
}

TEST_F(NearCacheTest, TheNullMessageDropsWhatIsHereAndWhatIsUnderWay) {
  ASSERT_TRUE(Insert("a"));
  const NearCache::Ticket ticket = near_.Begin();
  near_.DropAll();
  EXPECT_FALSE(Holds("a"));
  EXPECT_FALSE(near_.Insert(ticket, "b", ValueOf("of b"), {}, absl::InfiniteDuration()));
  EXPECT_TRUE(Insert("b")) << "tracking goes on";
  EXPECT_TRUE(Holds("b"));
}

TEST_F(NearCacheTest, WithoutTrackingNothingIsHeldAndNothingReadMeanwhileComesIn) {
  ASSERT_TRUE(Insert("a"));
  const NearCache::Ticket before = near_.Begin();
  near_.TrackingEnded();
  const NearCache::Ticket meanwhile = near_.Begin();
  near_.Renew(now_);
  EXPECT_FALSE(Holds("a"));
  near_.TrackingBegan();
  EXPECT_FALSE(near_.Insert(before, "b", ValueOf("of b"), {}, absl::InfiniteDuration()));
  EXPECT_FALSE(near_.Insert(meanwhile, "b", ValueOf("of b"), {}, absl::InfiniteDuration()));
  EXPECT_FALSE(near_.Insert(NearCache::Ticket(), "b", ValueOf("of b"), {}, absl::InfiniteDuration()));
  ASSERT_TRUE(Insert("b"));
  EXPECT_FALSE(Holds("b")) << "no PING was answered on the new connection";
  near_.Renew(now_);
  EXPECT_TRUE(Holds("b"));
}

TEST_F(NearCacheTest, AnEntryAboveATenthOfTheBoundIsNotTaken) {
  EXPECT_FALSE(near_.Insert(near_.Begin(), "k", ValueOf(std::string(120'000, 'x')), {}, absl::InfiniteDuration()));
  EXPECT_TRUE(near_.Insert(near_.Begin(), "k", ValueOf(std::string(90'000, 'x')), {}, absl::InfiniteDuration()));
}

TEST(NearCacheBytesTest, AreBoundedWhateverIsDone) {
  constexpr size_t kBound = 8 << 20;
  // What the allocator says is the judge (under a sanitizer's allocator it says nothing). It counts as used what it
  // keeps for a thread's next allocations.
  constexpr size_t kKept = 256 << 10;
  const size_t before = mallinfo2().uordblks;
  NearCache near({.max_bytes = kBound});
  near.TrackingBegan();
  near.Renew(absl::Hours(1));
  base::Random random(1);
  size_t most = 0;
  for (int i = 0; i < 500'000; ++i) {
    const std::string key = absl::StrCat("sl:acme:pricing/quote:v1.1:", random.Below(100'000));
    const std::string fence = absl::StrCat("sl:fence:acme:account:", random.Below(50'000));
    switch (random.Below(8)) {
      case 0:
        near.Invalidated(random.Below(2) == 0 ? key : fence);
        break;
      case 1:
        if (random.Below(20'000) == 0) near.DropAll();
        break;
      default:
        if (near.Lookup(key, absl::Hours(1)) != nullptr) break;
        const size_t body = random.Below(random.Below(20) == 0 ? 20'000 : 500);
        near.Insert(near.Begin(), key, ValueOf(std::string(body, 'x')), {fence}, absl::InfiniteDuration());
    }
    ASSERT_LE(near.bytes(), kBound);
    if (i % 1000 == 0) most = std::max(most, mallinfo2().uordblks - before);
  }
  std::printf("bound %zu, allocated at most %zu; %zu counted for %zu entries\n", kBound, most, near.bytes(),
              near.entries());
  EXPECT_LE(most, kBound + kKept);
  EXPECT_GT(near.bytes(), kBound * 9 / 10);
}

// ---- Scans

// The plain cache that admits everybody.
class Lru {
 public:
  explicit Lru(size_t entries) : most_(entries) {}
  bool Ask(uint64_t key) {
    if (const auto found = places_.find(key); found != places_.end()) {
      order_.splice(order_.begin(), order_, found->second);
      return true;
    }
    order_.push_front(key);
    places_[key] = order_.begin();
    if (order_.size() > most_) {
      places_.erase(order_.back());
      order_.pop_back();
    }
    return false;
  }

 private:
  const size_t most_;
  std::list<uint64_t> order_;
  absl::flat_hash_map<uint64_t, std::list<uint64_t>::iterator> places_;
};

// Draws 0 .. count-1, the k-th with weight 1 / (k+1)^skew.
class Zipf {
 public:
  Zipf(size_t count, double skew) {
    double sum = 0;
    for (size_t k = 0; k < count; ++k) sums_.push_back(sum += std::pow(static_cast<double>(k + 1), -skew));
  }
  uint64_t Draw(base::Random* random) const {
    const double at = random->Unit() * sums_.back();
    return static_cast<uint64_t>(std::lower_bound(sums_.begin(), sums_.end(), at) - sums_.begin());
  }

 private:
  std::vector<double> sums_;
};

struct HitRatios {
  double near = 0;
  double lru = 0;
};

// Of the reads that are no scan, where 4,000 keys in a row that nobody asks for twice come after every `between` reads.
HitRatios MeasureScans(int between) {
  constexpr size_t kFit = 2000;
  NearCache near({.max_bytes = 1 << 20});
  near.TrackingBegan();
  near.Renew(absl::Hours(1));
  const auto ask = [&](uint64_t key) {
    const std::string name = absl::StrCat("key:", key);
    if (near.Lookup(name, absl::Hours(1)) != nullptr) return true;
    near.Insert(near.Begin(), name, ValueOf(std::string(60, 'x')), {}, absl::InfiniteDuration());
    return false;
  };
  // As many entries as the near cache has room for, with what it remembers.
  for (uint64_t i = 0; i < 2 * kFit; ++i) ask(1'000'000'000 + i);
  Lru lru(near.entries());
  base::Random random(1);
  const Zipf zipf(20 * kFit, 0.9);
  uint64_t scanned = 1'000'000;
  int reads = 0, near_hits = 0, lru_hits = 0;
  for (int i = 0; i < 400'000; ++i) {
    const uint64_t key = zipf.Draw(&random);
    const bool near_hit = ask(key), lru_hit = lru.Ask(key);
    if (i >= 100'000) {
      ++reads;
      near_hits += near_hit ? 1 : 0;
      lru_hits += lru_hit ? 1 : 0;
    }
    if (between > 0 && i % between == 0) {
      for (int k = 0; k < 4000; ++k, ++scanned) {
        ask(scanned);
        lru.Ask(scanned);
      }
    }
  }
  return {static_cast<double>(near_hits) / reads, static_cast<double>(lru_hits) / reads};
}

TEST(NearCacheScanTest, AScanDoesNotWashOutWhatIsHot) {
  const HitRatios calm = MeasureScans(0);
  const HitRatios scanned = MeasureScans(8000);
  std::printf("hit ratio: without scans %.3f (LRU %.3f), with scans %.3f (LRU %.3f)\n", calm.near, calm.lru,
              scanned.near, scanned.lru);
  EXPECT_GT(calm.near, calm.lru);
  EXPECT_GT(scanned.near, scanned.lru + 0.1);
  EXPECT_GT(scanned.near, calm.near - 0.05);
}

// ---- Honesty

enum class Fault {
  kNone,
  kTicketAfterRead,   // Taken when the answer of the read is there.
  kRenewedAtReceipt,  // With the time at which the PING's answer came.
  kReadUntracked,     // Reads between the loss of a connection and the next CLIENT TRACKING are let in.
};

// A Redis with client tracking, its two connections to a replica, and writers. Keys hold the number of their last
// write; an entry's body has the numbers that it was read at.
class TrackedRedis {
 public:
  TrackedRedis(uint64_t seed, Fault fault) : fault_(fault), world_(seed) {
    for (int i = 0; i < 5; ++i) keys_[absl::StrCat("fence:", i)];
    for (int i = 0; i < 30; ++i) keys_[absl::StrCat("value:", i)];
  }

  void Run() {
    Connect();
    for (int i = 0; i < 20'000; ++i) {
      const absl::Duration at = absl::Microseconds(world_.random()->Below(2'000'000));
      const uint64_t what = world_.random()->Below(1000);
      world_.executor()->PostAfter(at, [this, what] {
        if (what < 500) return LookupOne();
        if (what < 940) return ReadOne();
        if (what < 970) return Change(absl::StrCat("fence:", world_.random()->Below(5)));
        if (what < 997) return Change(absl::StrCat("value:", world_.random()->Below(30)));
        if (what < 998) return Flush();
        if (what < 999) return Break();
        stalled_until_ = world_.clock()->Steady() + absl::Milliseconds(30);
      });
    }
    world_.executor()->PostAfter(absl::ZeroDuration(), [this] { Ping(); });
    world_.RunFor(absl::Seconds(2));
  }

  int served = 0;
  int dishonest = 0;
  int inserted = 0;
  const NearCache& near() const { return near_; }

 private:
  struct Key {
    std::vector<absl::Duration> written;  // When; the number of a write is its place.
    bool tracked = false;
  };

  absl::Duration Now() { return world_.clock()->Steady(); }
  std::vector<std::string> KeysOf(uint64_t value) const {
    return {absl::StrCat("value:", value), absl::StrCat("fence:", value % 5), absl::StrCat("fence:", value / 7)};
  }
  absl::Duration Way() {
    return absl::Microseconds(50 + world_.random()->Below(world_.random()->Below(20) == 0 ? 5000 : 200));
  }

  // Redis sends a message to the replica: in order, and lost with its connection.
  void Send(base::Task receive) {
    const absl::Duration now = Now();
    arrives_ = std::max({arrives_, stalled_until_, now + Way()});
    world_.executor()->PostAfter(arrives_ - now,
                                 [this, connection = connection_, receive = std::move(receive)]() mutable {
                                   if (connection == connection_) receive();
                                 });
    // Never two at the same instant: the simulation would shuffle them.
    arrives_ += absl::Nanoseconds(1);
  }

  void Change(const std::string& name) {
    Key& key = keys_[name];
    key.written.push_back(Now());
    if (!std::exchange(key.tracked, false)) return;
    Send([this, name] { near_.Invalidated(name); });
  }
  void Flush() {
    for (auto& [name, key] : keys_) {
      key.written.push_back(Now());
      key.tracked = false;
    }
    Send([this] { near_.DropAll(); });
  }
  void Break() {
    ++connection_;
    tracking_ = false;
    for (auto& [name, key] : keys_) key.tracked = false;
    // The replica notices after a while.
    world_.executor()->PostAfter(Way() * 10, [this, connection = connection_] {
      if (connection != connection_) return;
      near_.TrackingEnded();
      if (fault_ == Fault::kReadUntracked) near_.TrackingBegan();
      world_.executor()->PostAfter(Way() * 10, [this, connection] {
        if (connection == connection_) Connect();
      });
    });
  }
  void Connect() {
    tracking_ = true;
    world_.executor()->PostAfter(Way(), [this, connection = connection_] {
      if (connection == connection_) near_.TrackingBegan();
    });
  }
  void Ping() {
    const absl::Duration sent = Now();
    world_.executor()->PostAfter(Way(), [this, sent, connection = connection_] {
      if (connection != connection_ || !tracking_) return;
      Send([this, sent] { near_.Renew(fault_ == Fault::kRenewedAtReceipt ? Now() : sent); });
    });
    world_.executor()->PostAfter(absl::Milliseconds(2), [this] { Ping(); });
  }

  void ReadOne() {
    const uint64_t value = world_.random()->Below(30);
    const NearCache::Ticket ticket = near_.Begin();
    world_.executor()->PostAfter(Way(), [this, value, ticket] {
      std::vector<std::string> numbers;
      for (const std::string& name : KeysOf(value)) {
        numbers.push_back(absl::StrCat(keys_[name].written.size()));
        keys_[name].tracked = tracking_;
      }
      // The answer comes on a connection of its own: before or behind what is under way on the other.
      world_.executor()->PostAfter(Way(), [this, value, ticket, body = absl::StrJoin(numbers, ",")] {
        const std::vector<std::string> names = KeysOf(value);
        inserted += near_.Insert(fault_ == Fault::kTicketAfterRead ? near_.Begin() : ticket, names[0],
                                 ValueOf(body), {names[1], names[2]}, Now() + absl::Milliseconds(500))
                        ? 1
                        : 0;
      });
    });
  }
  void LookupOne() {
    const uint64_t value = world_.random()->Below(30);
    const std::vector<std::string> names = KeysOf(value);
    const NearCache::Value* found = near_.Lookup(names[0], Now());
    if (found == nullptr) return;
    ++served;
    const std::vector<std::string> numbers = absl::StrSplit(found->answer.body, ',');
    bool honest = true;
    for (size_t i = 0; i < names.size(); ++i) {
      size_t number = 0;
      ASSERT_TRUE(absl::SimpleAtoi(numbers[i], &number));
      const std::vector<absl::Duration>& written = keys_[names[i]].written;
      honest = honest && (number == written.size() || written[number] >= Now() - absl::Milliseconds(10));
    }
    dishonest += honest ? 0 : 1;
  }

  const Fault fault_;
  sim::SimWorld world_;
  NearCache near_{{.max_bytes = 1 << 20, .grace = absl::Milliseconds(10)}};
  std::map<std::string, Key> keys_;
  int connection_ = 1;
  bool tracking_ = false;  // As Redis sees it.
  absl::Duration arrives_;
  absl::Duration stalled_until_;
};

TEST(NearCacheHonestyTest, NothingIsServedThatWasOutdatedForLongerThanTheGrace) {
  int served = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    TrackedRedis redis(seed, Fault::kNone);
    redis.Run();
    EXPECT_EQ(redis.dishonest, 0);
    EXPECT_GT(redis.near().stats().refused, 0u);
    served += redis.served;
  }
  std::printf("%d answers served\n", served);
  EXPECT_GT(served, 100'000);
}

TEST(NearCacheHonestyTest, EachPlantedFaultIsCaught) {
  for (const Fault fault : {Fault::kTicketAfterRead, Fault::kRenewedAtReceipt, Fault::kReadUntracked}) {
    int dishonest = 0;
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      TrackedRedis redis(seed, fault);
      redis.Run();
      dishonest += redis.dishonest;
    }
    std::printf("fault %d: %d dishonest answers\n", static_cast<int>(fault), dishonest);
    EXPECT_GT(dishonest, 0) << "fault " << static_cast<int>(fault);
  }
}

}  // namespace
}  // namespace shadowline::cache
