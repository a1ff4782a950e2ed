// The poller against a real PostgreSQL: what is committed there reaches the board, and silence there ends the lease.
#include "flags/postgres/poller.h"

#include <gtest/gtest.h>
#include <poll.h>

#include "absl/strings/str_cat.h"
#include "base/postgres/session.h"
#include "flags/postgres/lives.h"
#include "server/postgres/migrate.h"
#include "tests/support/private_servers.h"

namespace shadowline::flags {
namespace {

// Collects the revisions that the poller reports, and lets a test wait for one.
class Seen {
 public:
  void Add(uint64_t revision) {
    base::MutexLock lock(&mutex_);
    newest_ = revision;
    ++changes_;
  }
  bool Await(uint64_t revision, absl::Duration timeout = absl::Seconds(20)) {
    base::MutexLock lock(&mutex_);
    awaited_ = revision;
    return mutex_.AwaitWithTimeout(absl::Condition(this, &Seen::Reached), timeout);
  }
  int changes() {
    base::MutexLock lock(&mutex_);
    return changes_;
  }

 private:
  bool Reached() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return newest_ >= awaited_; }

  base::Mutex mutex_;
  uint64_t newest_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t awaited_ ABSL_GUARDED_BY(mutex_) = 0;
  int changes_ ABSL_GUARDED_BY(mutex_) = 0;
};

class PollerTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(server::Migrate(&sessions_).ok()); }

  Poller::Options Options(absl::Duration interval) {
    Poller::Options options;
    options.connection_string = postgres_.ConnectionString(database_);
    options.interval = interval;
    return options;
  }
  Poller::Deps Deps() {
    return {&clock_, &board_, [this](uint64_t revision) { seen_.Add(revision); }};
  }

  bool LeaseEndsWithin(absl::Duration limit) {
    const absl::Duration end = clock_.Steady() + limit;
    while (board_.Leased() && clock_.Steady() < end) poll(nullptr, 0, 10);
    return !board_.Leased();
  }

  // Returns the new revision.
  uint64_t SetMode(const std::string& tenant, const std::string& mode, bool notify) {
    uint64_t revision = 0;
    const absl::Status written = sessions_.Transact([&](pqxx::work& work) {
      revision =
          work.exec1("UPDATE shadowline.flag_state SET revision = revision + 1 RETURNING revision")[0].as<uint64_t>();
      work.exec_params("INSERT INTO shadowline.tenant (tenant) VALUES ($1) ON CONFLICT DO NOTHING", tenant);
      work.exec_params(
          "INSERT INTO shadowline.target (family, tenant, mode, revision) VALUES ('pricing', $1, $2, $3)"
          " ON CONFLICT (family, tenant) DO UPDATE SET mode = $2, revision = $3",
          tenant, mode, revision);
      if (notify) work.exec(absl::StrCat("NOTIFY ", kChangedChannel));
      return absl::OkStatus();
    });
    EXPECT_TRUE(written.ok()) << written;
    return revision;
  }

  support::PrivatePostgres postgres_;
  std::string database_ = postgres_.CreateDatabase();
  base::PostgresSessions sessions_{postgres_.ConnectionString(database_), 2};
  base::SystemClock clock_;
  Board board_{&clock_, absl::Seconds(2)};
  Seen seen_;
};

TEST_F(PollerTest, ANotificationReachesTheBoardLongBeforeTheNextPoll) {
  Poller poller(Options(absl::Seconds(60)), Deps());
  poller.Start();
  ASSERT_TRUE(seen_.Await(1));
  const uint64_t revision = SetMode("acme", "SHADOW", /*notify=*/true);
  ASSERT_TRUE(seen_.Await(revision));
  EXPECT_EQ(board_.Current()->Find("acme", "pricing")->mode, Mode::kShadow);
  EXPECT_TRUE(board_.Current()->HasTenant("acme"));
}

TEST_F(PollerTest, EachShareOfSamplingComesInItsPlace) {
  Poller poller(Options(absl::Seconds(60)), Deps());
  poller.Start();
  ASSERT_TRUE(seen_.Await(1));
  SetMode("acme", "CACHE", /*notify=*/false);
  ASSERT_TRUE(sessions_
                  .Transact([](pqxx::work& work) {
                    work.exec(
                        "UPDATE shadowline.target SET sample_ppm = 1, sample_uncertified_ppm = 2,"
                        " sample_recent_ppm = 3, sample_negative_ppm = 4, sample_old_ppm = 5,"
                        " sample_cold_ppm = 6");
                    return absl::OkStatus();
                  })
                  .ok());
  ASSERT_TRUE(seen_.Await(SetMode("acme", "CACHE", /*notify=*/true)));
  const Flag flag = *board_.Current()->Find("acme", "pricing");
  EXPECT_EQ(flag.sample_ppm, 1u);
  EXPECT_EQ(flag.strata,
            (SampleShares{.uncertified_ppm = 2, .recent_ppm = 3, .negative_ppm = 4, .old_ppm = 5, .cold_ppm = 6}));
}

TEST_F(PollerTest, WithoutANotificationThePollFindsTheChange) {
  Poller poller(Options(absl::Milliseconds(50)), Deps());
  poller.Start();
  ASSERT_TRUE(seen_.Await(1));
  ASSERT_TRUE(seen_.Await(SetMode("acme", "CACHE", /*notify=*/false)));
  EXPECT_EQ(board_.Current()->Find("acme", "pricing")->mode, Mode::kCache);
}

TEST_F(PollerTest, P5SilenceEndsTheLeaseAndTheReturnOfTheDatabaseRenewsIt) {
  Poller poller(Options(absl::Milliseconds(50)), Deps());
  poller.Start();
  ASSERT_TRUE(seen_.Await(SetMode("acme", "CACHE", /*notify=*/true)));
  ASSERT_TRUE(board_.Leased());

  postgres_.Kill();
  EXPECT_TRUE(LeaseEndsWithin(absl::Seconds(4)));
  EXPECT_EQ(board_.Current()->Find("acme", "pricing")->mode, Mode::kCache) << "the snapshot itself stays";

  postgres_.Start();
  // The pooled session still holds the dead connection; it connects anew after this.
  sessions_.Transact([](pqxx::work& work) { return absl::OkStatus(); }).IgnoreError();
  ASSERT_TRUE(seen_.Await(SetMode("acme", "DATABASE", /*notify=*/false)));
  EXPECT_TRUE(board_.Leased());
}

TEST_F(PollerTest, P5AQuestionThatHangsEndsTheLeaseAndDoesNotDelayStop) {
  Poller poller(Options(absl::Milliseconds(10)), Deps());
  poller.Start();
  ASSERT_TRUE(seen_.Await(1));
  const absl::Status held = sessions_.Transact([&](pqxx::work& work) {
    work.exec("LOCK TABLE shadowline.flag_state IN ACCESS EXCLUSIVE MODE");
    EXPECT_TRUE(LeaseEndsWithin(absl::Seconds(4)));
    const absl::Duration asked_to_stop_at = clock_.Steady();
    poller.Stop();
    EXPECT_LT(clock_.Steady() - asked_to_stop_at, absl::Seconds(1));
    return absl::OkStatus();
  });
  EXPECT_TRUE(held.ok()) << held;
}

TEST_F(PollerTest, ALifeThatComesInAnothersPlaceEndsItAndWaitsForTheLease) {
  Poller poller(Options(absl::Milliseconds(50)), Deps());
  poller.Start();
  ASSERT_TRUE(seen_.Await(1));
  const auto lives = [this] { return board_.Current()->lives(); };
  EXPECT_TRUE(lives().usable_from.empty());

  const std::string first = "\x01mark--1", second = "\x02mark--2";
  ASSERT_TRUE(RegisterLife(&sessions_, {first, "lineage-1", "", "redis:1"}).ok());
  ASSERT_TRUE(seen_.Await(2));
  EXPECT_LE(lives().usable_from.at(first), clock_.Steady()) << "nobody can be using another one";

  ASSERT_TRUE(RegisterLife(&sessions_, {second, "lineage-2", "lineage-1", "redis:2"}).ok());
  ASSERT_TRUE(seen_.Await(3));
  const Lives after = lives();
  EXPECT_EQ(after.usable_from.size(), 1u) << "the first was replaced";
  EXPECT_GT(after.usable_from.at(second), clock_.Steady() + board_.lease() / 2);

  // One that was replaced does not come back, and what is known already changes nothing.
  ASSERT_TRUE(RegisterLife(&sessions_, {first, "lineage-1", "", "redis:1"}).ok());
  ASSERT_TRUE(RegisterLife(&sessions_, {second, "lineage-2", "lineage-1", "redis:2"}).ok());
  ASSERT_TRUE(seen_.Await(SetMode("acme", "CACHE", /*notify=*/true)));
  EXPECT_EQ(board_.Current()->revision(), 4u);
  EXPECT_EQ(lives().usable_from, after.usable_from) << "the wait does not begin anew";
}

}  // namespace
}  // namespace shadowline::flags
