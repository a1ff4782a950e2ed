// The outbox in a real PostgreSQL: what a transaction wrote into it is fenced once it commits, and is gone only then.
#include "cache/capture/postgres/outbox.h"

#include <gmock/gmock.h>

#include "tests/capture/capture_world.h"

namespace shadowline::cache {
namespace {

using testing::SizeIs;

class OutboxTest : public CaptureWorld {
 protected:
  // It would look again only after the test: what is fenced was notified, or there at the start.
  std::unique_ptr<OutboxDrain> Start(RecordingSink* sink, absl::Duration poll = absl::Hours(1)) {
    OutboxDrain::Options options;
    options.connection_string = Url();
    options.batch = 3;
    options.poll = poll;
    options.lapse = absl::Hours(2);
    auto drain = std::make_unique<OutboxDrain>(options, OutboxDrain::Deps{&clock_, sink, &metrics_});
    drain->Start();
    return drain;
  }
  void Write(const std::string& tenant, const std::string& tags) { Sql(Insert(tenant, tags)); }
  static std::string Insert(const std::string& tenant, const std::string& tags) {
    return "INSERT INTO shadowline.outbox (tenant, tags) VALUES ('" + tenant + "', '" + tags + "')";
  }
  bool Empty() {
    return support::AwaitTrue(kPatience, [&] { return Scalar("SELECT count(*) FROM shadowline.outbox") == "0"; });
  }
};

TEST_F(OutboxTest, WhatATransactionWritesIsFencedWithItsXidAndDeleted) {
  Write("acme", "{before}");
  auto drain = Start(&sink_);
  EXPECT_TRUE(sink_.Await("acme/before"));
  ASSERT_TRUE(Empty());
  Sql("CREATE TABLE note (xid xid8)");
  Sql("BEGIN; INSERT INTO note VALUES (pg_current_xact_id()); " + Insert("acme", "{one, two}") + "; " +
      Insert("globex", "{\"a,b \\\"c\\\"\"}") + "; COMMIT");
  EXPECT_TRUE(sink_.Await("acme/one"));
  EXPECT_EQ(sink_.Times("acme/two"), 1);
  EXPECT_EQ(sink_.Times("globex/a,b \"c\""), 1);
  EXPECT_TRUE(Empty());
  const std::vector<Transaction> transactions = sink_.transactions();
  ASSERT_THAT(transactions, SizeIs(2)) << "the second has all of its rows";
  EXPECT_EQ(std::to_string(transactions[1].xid), Scalar("SELECT xid FROM note"));
  EXPECT_EQ(transactions[1].end_lsn, 0u);
}

TEST_F(OutboxTest, ARowThatBecomesVisibleLateIsNotSkipped) {
  auto drain = Start(&sink_);
  pqxx::connection connection(Url());
  pqxx::work slow(connection);
  slow.exec(Insert("acme", "{slow}"));
  Write("acme", "{quick}");
  EXPECT_TRUE(sink_.Await("acme/quick"));
  EXPECT_TRUE(Empty());
  slow.commit();
  EXPECT_TRUE(sink_.Await("acme/slow"));
  EXPECT_TRUE(Empty());
}

TEST_F(OutboxTest, WhatIsRolledBackIsNeverFenced) {
  auto drain = Start(&sink_);
  Sql("BEGIN; " + Insert("acme", "{never}") + "; ROLLBACK");
  Write("acme", "{next}");
  EXPECT_TRUE(sink_.Await("acme/next"));
  EXPECT_EQ(sink_.Times("acme/never"), 0);
}

TEST_F(OutboxTest, ARowStaysUntilItsFencesStand) {
  sink_.Hold();
  auto drain = Start(&sink_);
  Write("acme", "{held}");
  ASSERT_TRUE(sink_.Await("acme/held"));
  EXPECT_EQ(Scalar("SELECT count(*) FROM shadowline.outbox"), "1");
  // Its replica dies; the next one fences it.
  drain.reset();
  RecordingSink second;
  auto next = Start(&second);
  EXPECT_TRUE(second.Await("acme/held"));
  EXPECT_TRUE(Empty());
  sink_.Release();
}

TEST_F(OutboxTest, AFailureIsTriedAgain) {
  auto drain = Start(&sink_);
  sink_.Fail(3);
  Write("acme", "{tag}");
  EXPECT_TRUE(sink_.Await("acme/tag"));
  EXPECT_TRUE(Empty());
}

TEST_F(OutboxTest, AnotherReplicaTakesOver) {
  auto leader = Start(&sink_, absl::Milliseconds(20));
  Write("acme", "{one}");
  ASSERT_TRUE(sink_.Await("acme/one"));
  RecordingSink second_sink;
  auto second = Start(&second_sink, absl::Milliseconds(20));
  Write("acme", "{two}");
  ASSERT_TRUE(sink_.Await("acme/two"));
  EXPECT_EQ(second_sink.Times("acme/two"), 0);
  leader.reset();
  Write("acme", "{three}");
  EXPECT_TRUE(second_sink.Await("acme/three"));
}

TEST_F(OutboxTest, MoreThanABatchIsDrainedAndWhatNoReadCanHaveIsDropped) {
  Sql("INSERT INTO shadowline.outbox (tenant, tags) SELECT 'acme', ARRAY['tag:' || i] FROM generate_series(1, 20) AS "
      "i");
  Write("acme", "{}");
  Write("", "{orphan}");
  Write("acme", "{NULL, \"\", " + std::string(300, 'x') + "}");
  auto drain = Start(&sink_);
  for (int i = 1; i <= 20; ++i) EXPECT_TRUE(sink_.Await(absl::StrCat("acme/tag:", i)));
  EXPECT_TRUE(Empty());
  EXPECT_EQ(sink_.Times("/orphan"), 0);
}

TEST_F(OutboxTest, ATableThatComesLaterIsFound) {
  Sql("ALTER TABLE shadowline.outbox RENAME TO elsewhere");
  auto drain = Start(&sink_);
  Sql("INSERT INTO shadowline.elsewhere (tenant, tags) VALUES ('acme', '{tag}')");
  Sql("ALTER TABLE shadowline.elsewhere RENAME TO outbox");
  EXPECT_TRUE(sink_.Await("acme/tag"));
}

}  // namespace
}  // namespace shadowline::cache
