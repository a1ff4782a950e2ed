// The stream against a real PostgreSQL: what is committed reaches the sink, whatever is cut, killed or dropped in
// between.
#include "cache/capture/postgres/stream.h"

#include <gmock/gmock.h>

#include "tests/capture/capture_world.h"

namespace shadowline::cache {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class StreamTest : public CaptureWorld {
 protected:
  // A replica's capture.
  struct Replica {
    Replica(CaptureWorld* world, CaptureStream::Options options, RecordingSink* sink, const base::Clock* clock,
            base::Metrics* metrics, std::shared_ptr<const CompiledCatalog> catalog)
        : stream(std::move(options),
                 {clock, sink, &watermark, metrics, [this](CaptureState state, const std::string& why) {
                    base::MutexLock lock(&mutex);
                    states.push_back(state);
                    last_why = why;
                  }}) {
      stream.SetCatalog(std::move(catalog));
      stream.Start();
    }
    bool Await(CaptureState state) {
      return support::AwaitTrue(kPatience, [&] {
        base::MutexLock lock(&mutex);
        return !states.empty() && states.back() == state && stream.state() == state;
      });
    }
    bool Saw(CaptureState state) {
      base::MutexLock lock(&mutex);
      return std::find(states.begin(), states.end(), state) != states.end();
    }
    std::string Why() {
      base::MutexLock lock(&mutex);
      return last_why;
    }

    base::Mutex mutex;
    std::vector<CaptureState> states ABSL_GUARDED_BY(mutex);
    std::string last_why ABSL_GUARDED_BY(mutex);
    Watermark watermark;
    CaptureStream stream;
  };

  std::unique_ptr<Replica> Start(absl::string_view tables = kPrice) { return Start(tables, Options(), &sink_); }
  std::unique_ptr<Replica> Start(absl::string_view tables, CaptureStream::Options options, RecordingSink* sink) {
    return std::make_unique<Replica>(this, std::move(options), sink, &clock_, &metrics_, Catalog(tables));
  }
  // One that streams.
  std::unique_ptr<Replica> Streaming(absl::string_view tables = kPrice) {
    auto replica = Start(tables);
    EXPECT_TRUE(replica->Await(CaptureState::kStreaming)) << replica->Why();
    return replica;
  }

  bool AwaitCovered(Replica* replica, bool covered = true) {
    return support::AwaitTrue(kPatience, [&] { return replica->watermark.Covers(clock_.Steady()) == covered; });
  }

  void InsertPrice(int tier) { Sql(absl::StrCat("INSERT INTO saas.price VALUES ('acme', 'emea', '", tier, "', 1)")); }
  bool AllFenced(int from, int to) {
    for (int tier = from; tier < to; ++tier) {
      if (!sink_.Await(absl::StrCat("acme/prices:emea:", tier))) return false;
    }
    return true;
  }
  void CutStream() {
    Sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid IS NOT NULL AND slot_name "
        "= '" +
        slot_ + "'");
  }
  Lsn Confirmed() {
    return *ParseLsn(Scalar("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '" + slot_ + "'"));
  }
  Lsn Now() { return *ParseLsn(Scalar("SELECT pg_current_wal_lsn()")); }
};

TEST_F(StreamTest, EveryKindOfChangeIsFenced) {
  auto replica = Streaming(kAll);
  Sql("INSERT INTO saas.price VALUES ('acme', 'emea', 'gold', 1)");
  EXPECT_TRUE(sink_.Await("acme/prices:emea:gold", 1));
  Sql("UPDATE saas.price SET amount = 2");
  EXPECT_TRUE(sink_.Await("acme/prices:emea:gold", 2));
  Sql("UPDATE saas.price SET region = 'apac', account = 'globex'");
  EXPECT_TRUE(sink_.Await("acme/prices:emea:gold", 3)) << "the set that it left";
  EXPECT_TRUE(sink_.Await("globex/prices:apac:gold", 1));
  Sql("DELETE FROM saas.price");
  EXPECT_TRUE(sink_.Await("globex/prices:apac:gold", 2));
  Sql("TRUNCATE saas.price");
  EXPECT_TRUE(sink_.Await("*!pricing", 1));
  Sql("INSERT INTO saas.currency VALUES ('EUR', 1)");
  EXPECT_TRUE(sink_.Await("*!shop", 1));
  EXPECT_EQ(sink_.Times("*!pricing"), 2);
}

TEST_F(StreamTest, PartitionsAreTheirTable) {
  auto replica = Streaming(kAll);
  Sql("INSERT INTO saas.sale VALUES ('acme', 7, '2020-05-05')");
  EXPECT_TRUE(sink_.Await("acme/item:7", 1));
  Sql("UPDATE saas.sale SET day = '2021-05-05', id = 8");
  EXPECT_TRUE(sink_.Await("acme/item:7", 2)) << "it moved to another partition";
  EXPECT_TRUE(sink_.Await("acme/item:8", 1));
  Sql("CREATE TABLE saas.sale_3 PARTITION OF saas.sale FOR VALUES FROM ('2022-01-01') TO ('2023-01-01')");
  Sql("INSERT INTO saas.sale VALUES ('acme', 9, '2022-05-05')");
  EXPECT_TRUE(sink_.Await("acme/item:9", 1)) << "a partition that came later";
  Sql("TRUNCATE saas.sale");
  EXPECT_TRUE(sink_.Await("*!shop", 1));
}

TEST_F(StreamTest, ACascadeIsCapturedAndATenantThatIsGoneIsStillKnown) {
  auto replica = Streaming(kAll);
  Sql("INSERT INTO saas.product VALUES (1, 5, 'x'), (2, 6, 'y')");
  EXPECT_TRUE(sink_.Await("acme/item:5"));
  EXPECT_TRUE(sink_.Await("globex/item:6"));
  Sql("DELETE FROM saas.account WHERE account_id = 1");
  EXPECT_TRUE(sink_.Await("acme/item:5", 2));
  EXPECT_EQ(sink_.Times("*!shop"), 0);
}

TEST_F(StreamTest, AnUnchangedLargeValueIsKnownFromTheOldRow) {
  auto replica = Streaming(kAll);
  const std::string slug(240, 's');
  Sql("INSERT INTO saas.page SELECT 'acme', 1, string_agg(md5(i::text), '') FROM generate_series(1, 200) AS i");
  Sql("INSERT INTO saas.page VALUES ('acme', 2, '" + slug + "')");
  EXPECT_TRUE(sink_.Await("acme/page:" + slug));
  Sql("UPDATE saas.page SET account = 'globex' WHERE id = 1");  // Its slug stays, out of line.
  Sql("UPDATE saas.page SET account = 'globex' WHERE id = 2");
  EXPECT_TRUE(sink_.Await("globex/page:" + slug));
  EXPECT_EQ(sink_.Times("acme!shop") + sink_.Times("globex!shop") + sink_.Times("*!shop"), 0)
      << "no read has a tag of 6,400 bytes, and that is known";
}

TEST_F(StreamTest, ATransactionIsWholeAndHasItsXidAndPosition) {
  auto replica = Streaming(kAll);
  Sql("CREATE TABLE note (xid xid8)");
  const Lsn before = Now();
  Sql("BEGIN; INSERT INTO note VALUES (pg_current_xact_id()); INSERT INTO saas.price VALUES ('acme', 'a', 'b', 1); "
      "SAVEPOINT s; INSERT INTO saas.price VALUES ('acme', 'c', 'd', 1); RELEASE s; SAVEPOINT t; "
      "INSERT INTO saas.price VALUES ('acme', 'rolled', 'back', 1); ROLLBACK TO t; COMMIT");
  ASSERT_TRUE(sink_.Await("acme/prices:a:b"));
  const std::vector<Transaction> transactions = sink_.transactions();
  ASSERT_THAT(transactions, SizeIs(1));
  EXPECT_EQ(std::to_string(transactions[0].xid), Scalar("SELECT xid FROM note"));
  EXPECT_GT(transactions[0].end_lsn, before);
  EXPECT_THAT(transactions[0].effects.tags, SizeIs(2));
  EXPECT_LT(absl::AbsDuration(clock_.Now() - transactions[0].committed_at), absl::Minutes(1));
}

TEST_F(StreamTest, ACutConnectionLosesNothing) {
  auto replica = Streaming();
  for (int round = 0; round < 10; ++round) {
    for (int tier = 10 * round; tier < 10 * round + 10; ++tier) {
      InsertPrice(tier);
      if (tier % 5 == 2) CutStream();
    }
  }
  EXPECT_TRUE(AllFenced(0, 100));
  EXPECT_THAT(sink_.alarms(), SizeIs(1)) << "only that capture began";
}

TEST_F(StreamTest, OnlyWhatTheSinkAcknowledgedIsConfirmed) {
  auto replica = Streaming();
  sink_.Hold();
  const Lsn before = Now();
  InsertPrice(1);
  const Lsn after = Now();
  ASSERT_TRUE(sink_.Await("acme/prices:emea:1"));
  EXPECT_LE(Confirmed(), after);
  EXPECT_FALSE(replica->watermark.Passed(after));
  // The replica dies; what it had not acknowledged comes to the next one.
  replica.reset();
  EXPECT_LE(Confirmed(), after);
  RecordingSink second;
  auto next = Start(kPrice, Options(), &second);
  EXPECT_TRUE(second.Await("acme/prices:emea:1"));
  EXPECT_TRUE(support::AwaitTrue(kPatience, [&] { return Confirmed() > before && next->watermark.Passed(after); }));
  EXPECT_THAT(second.alarms(), IsEmpty()) << "nothing was missed";
  sink_.Release();  // Answers to a stream that is gone.
}

TEST_F(StreamTest, WhatTheSinkFailedToFenceComesAgain) {
  auto replica = Streaming();
  sink_.Fail(3);
  InsertPrice(1);
  EXPECT_TRUE(sink_.Await("acme/prices:emea:1"));
  EXPECT_TRUE(replica->Saw(CaptureState::kDisconnected));
}

TEST_F(StreamTest, TheStreamWaitsForASinkThatIsSlow) {
  CaptureStream::Options options = Options();
  options.outstanding_max = 4;
  auto replica = Start(kPrice, options, &sink_);
  ASSERT_TRUE(replica->Await(CaptureState::kStreaming));
  sink_.Hold();
  for (int tier = 0; tier < 20; ++tier) InsertPrice(tier);
  ASSERT_TRUE(sink_.Await("acme/prices:emea:3"));
  // The lead is kept meanwhile, so time passes.
  const Lsn now = Now();
  EXPECT_FALSE(replica->watermark.Passed(now));
  EXPECT_THAT(sink_.transactions(), SizeIs(4));
  sink_.Release();
  EXPECT_TRUE(AllFenced(0, 20));
  EXPECT_TRUE(support::AwaitTrue(kPatience, [&] { return replica->watermark.Passed(now); }));
}

TEST_F(StreamTest, AnotherReplicaTakesOverWhereTheLeaderWas) {
  auto leader = Streaming();
  RecordingSink second_sink;
  auto second = Start(kPrice, Options(), &second_sink);
  ASSERT_TRUE(second->Await(CaptureState::kWaiting));
  InsertPrice(1);
  ASSERT_TRUE(sink_.Await("acme/prices:emea:1"));
  const Lsn fenced = leader->watermark.lsn();
  EXPECT_TRUE(support::AwaitTrue(kPatience, [&] { return second->watermark.Passed(fenced); }))
      << "it follows what the leader publishes";
  EXPECT_EQ(second_sink.Times("acme/prices:emea:1"), 0);
  sink_.Hold();
  InsertPrice(2);
  ASSERT_TRUE(sink_.Await("acme/prices:emea:2"));
  leader.reset();
  InsertPrice(3);
  EXPECT_TRUE(second_sink.Await("acme/prices:emea:2"));
  EXPECT_TRUE(second_sink.Await("acme/prices:emea:3"));
  EXPECT_EQ(second->stream.state(), CaptureState::kStreaming);
  EXPECT_THAT(second_sink.alarms(), IsEmpty());
  sink_.Release();
}

TEST_F(StreamTest, ALeaderWhoseLockIsGoneGivesWay) {
  auto leader = Streaming();
  RecordingSink second_sink;
  auto second = Start(kPrice, Options(), &second_sink);
  ASSERT_TRUE(second->Await(CaptureState::kWaiting));
  Sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'shadowline capture leader' AND "
      "datname = current_database()");
  for (int tier = 0; tier < 20; ++tier) InsertPrice(tier);
  EXPECT_TRUE(support::AwaitTrue(kPatience, [&] {
    for (int tier = 0; tier < 20; ++tier) {
      const std::string tag = absl::StrCat("acme/prices:emea:", tier);
      if (sink_.Times(tag) + second_sink.Times(tag) == 0) return false;
    }
    return true;
  }));
}

TEST_F(StreamTest, ASlotThatIsGoneIsAnAlarmAndANewSlot) {
  auto replica = Streaming();
  InsertPrice(1);
  ASSERT_TRUE(sink_.Await("acme/prices:emea:1"));
  ASSERT_THAT(sink_.alarms(), ElementsAre("capture begins"));
  EXPECT_TRUE(support::AwaitTrue(kPatience, [&] {
    try {
      CutStream();
      Sql("SELECT pg_drop_replication_slot('" + slot_ + "')");
      return true;
    } catch (const pqxx::sql_error&) {
      return false;  // It was connected again before.
    }
  }));
  ASSERT_TRUE(support::AwaitTrue(kPatience, [&] { return sink_.alarms().size() == 3; }));
  EXPECT_THAT(sink_.alarms()[1], HasSubstr("is gone"));
  EXPECT_THAT(sink_.alarmed(), ElementsAre("pricing"));
  EXPECT_TRUE(replica->Saw(CaptureState::kSlotLost));
  ASSERT_TRUE(replica->Await(CaptureState::kStreaming));
  InsertPrice(2);
  EXPECT_TRUE(sink_.Await("acme/prices:emea:2"));
}

TEST_F(StreamTest, ASlotThatIsTooFarBehindIsAnAlarmAndANewSlot) {
  CaptureStream::Options options = Options();
  options.lag_limit_bytes = 1 << 20;
  options.lag_warning_bytes = 1 << 16;
  auto replica = Start(kPrice, options, &sink_);
  ASSERT_TRUE(replica->Await(CaptureState::kStreaming));
  sink_.Hold();
  InsertPrice(1);
  ASSERT_TRUE(sink_.Await("acme/prices:emea:1"));
  Sql("CREATE TABLE filler AS SELECT repeat(md5(i::text), 50) AS x FROM generate_series(1, 200) AS i");
  EXPECT_TRUE(replica->Await(CaptureState::kLagging));
  Sql("INSERT INTO filler SELECT repeat(md5(i::text), 50) FROM generate_series(1, 5000) AS i");
  EXPECT_TRUE(replica->Await(CaptureState::kSlotLost));
  EXPECT_EQ(replica->watermark.lsn(), 0u);
  EXPECT_EQ(Scalar("SELECT fenced_lsn FROM shadowline.capture"), "");
  sink_.Release();
  ASSERT_TRUE(replica->Await(CaptureState::kStreaming));
  EXPECT_THAT(sink_.alarms()[1], HasSubstr("the limit is"));
  InsertPrice(2);
  EXPECT_TRUE(sink_.Await("acme/prices:emea:2"));
}

TEST_F(StreamTest, ACrashBetweenTheAlarmAndItsEndRaisesItAgain) {
  sink_.Hold();
  auto replica = Start();
  ASSERT_TRUE(support::AwaitTrue(kPatience, [&] { return sink_.alarms().size() == 1; }));
  replica.reset();
  RecordingSink second;
  auto next = Start(kPrice, Options(), &second);
  ASSERT_TRUE(next->Await(CaptureState::kStreaming));
  EXPECT_THAT(second.alarms(), ElementsAre("an earlier beginning was not finished"));
  next.reset();
  RecordingSink third;
  auto last = Start(kPrice, Options(), &third);
  ASSERT_TRUE(last->Await(CaptureState::kStreaming));
  EXPECT_THAT(third.alarms(), IsEmpty());
  sink_.Release();
}

TEST_F(StreamTest, AnotherMapIsAnAlarmAndAnEmptyOneDropsTheSlot) {
  auto replica = Streaming();
  replica->stream.SetCatalog(Catalog(kAll));
  ASSERT_TRUE(support::AwaitTrue(kPatience, [&] { return sink_.alarms().size() == 2; }));
  EXPECT_EQ(sink_.alarms()[1], "what is captured has changed");
  EXPECT_THAT(sink_.alarmed(), ElementsAre("pricing", "shop"));
  Sql("INSERT INTO saas.sale VALUES ('acme', 7, '2020-05-05')");
  EXPECT_TRUE(sink_.Await("acme/item:7"));

  replica->stream.SetCatalog(Catalog(kAll));
  Sql("INSERT INTO saas.sale VALUES ('acme', 8, '2020-05-05')");
  EXPECT_TRUE(sink_.Await("acme/item:8"));
  EXPECT_THAT(sink_.alarms(), SizeIs(2)) << "it is the same map";

  replica->stream.SetCatalog(Catalog("    {}\n"));
  EXPECT_TRUE(replica->Await(CaptureState::kOff));
  EXPECT_EQ(Scalar("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '" + slot_ + "'"), "0");
  EXPECT_EQ(Scalar("SELECT count(*) FROM shadowline.capture"), "0");
}

TEST_F(StreamTest, APublicationThatWasDroppedIsMadeAgain) {
  auto replica = Streaming();
  Sql("DROP PUBLICATION shadowline");
  InsertPrice(1);
  ASSERT_TRUE(support::AwaitTrue(kPatience, [&] { return sink_.alarms().size() >= 3; }));
  ASSERT_TRUE(replica->Await(CaptureState::kStreaming));
  InsertPrice(2);
  EXPECT_TRUE(sink_.Await("acme/prices:emea:2"));
}

TEST_F(StreamTest, AFilterOnThePublicationIsTakenAway) {
  Sql("CREATE PUBLICATION shadowline FOR TABLE saas.price WHERE (region = 'apac') WITH (publish = 'insert')");
  auto replica = Streaming();
  InsertPrice(1);
  EXPECT_TRUE(sink_.Await("acme/prices:emea:1"));
  Sql("DELETE FROM saas.price");
  EXPECT_TRUE(sink_.Await("acme/prices:emea:1", 2));
}

TEST_F(StreamTest, ATableWithoutIdentityIsRefusedAndNotPublished) {
  auto replica = Start("    saas.unkeyed: {tenant: \"{account}\", tags: [\"item:{id}\"]}\n");
  ASSERT_TRUE(replica->Await(CaptureState::kRefused));
  EXPECT_THAT(replica->Why(), HasSubstr("ALTER TABLE saas.unkeyed REPLICA IDENTITY FULL"));
  EXPECT_EQ(Scalar("SELECT count(*) FROM pg_publication"), "0");
  Sql("INSERT INTO saas.unkeyed VALUES ('acme', 1); UPDATE saas.unkeyed SET id = 2");  // Still allowed.
  Sql("ALTER TABLE saas.unkeyed REPLICA IDENTITY FULL");
  ASSERT_TRUE(replica->Await(CaptureState::kStreaming)) << "once it was done, nobody has to say so";
  Sql("UPDATE saas.unkeyed SET id = 3");
  EXPECT_TRUE(sink_.Await("acme/item:2"));
  EXPECT_TRUE(sink_.Await("acme/item:3"));
}

TEST_F(StreamTest, ASlotOfAnotherKindIsLeftAlone) {
  Sql("SELECT pg_create_logical_replication_slot('" + slot_ + "', 'test_decoding')");
  auto replica = Start();
  ASSERT_TRUE(replica->Await(CaptureState::kRefused));
  EXPECT_THAT(replica->Why(), HasSubstr("of another kind"));
  EXPECT_EQ(Scalar("SELECT plugin FROM pg_replication_slots WHERE slot_name = '" + slot_ + "'"), "test_decoding");
}

TEST_F(StreamTest, ASlotThatWasThereIsTakenOverWithAnAlarm) {
  Sql("CREATE PUBLICATION shadowline FOR TABLE saas.price WITH (publish_via_partition_root = true)");
  Sql("SELECT pg_create_logical_replication_slot('" + slot_ + "', 'pgoutput')");
  InsertPrice(1);
  auto replica = Streaming();
  EXPECT_TRUE(sink_.Await("acme/prices:emea:1"));
  EXPECT_THAT(sink_.alarms(), ElementsAre("a slot that was there already is taken over"));
}

TEST_F(StreamTest, AUserWithoutReplicationIsToldSo) {
  Sql("DROP ROLE IF EXISTS plain_user; CREATE ROLE plain_user LOGIN; "
      "CREATE PUBLICATION shadowline FOR TABLE saas.price WITH (publish_via_partition_root = true)");
  CaptureStream::Options options = Options();
  options.source += " user=plain_user";
  auto replica = Start(kPrice, options, &sink_);
  ASSERT_TRUE(replica->Await(CaptureState::kRefused));
  EXPECT_THAT(replica->Why(), HasSubstr("needs REPLICATION"));
}

TEST_F(StreamTest, APartitionWithAnotherIdentityStopsTheStream) {
  Sql("ALTER TABLE saas.sale REPLICA IDENTITY FULL; ALTER TABLE saas.sale_1 REPLICA IDENTITY FULL; "
      "ALTER TABLE saas.sale_2 REPLICA IDENTITY FULL");
  auto replica = Streaming("    saas.sale: {tenant: \"{account}\", tags: [\"item:{id}\"]}\n");
  Sql("CREATE TABLE saas.sale_3 PARTITION OF saas.sale FOR VALUES FROM ('2022-01-01') TO ('2023-01-01')");
  ASSERT_TRUE(replica->Await(CaptureState::kRefused));
  EXPECT_THAT(replica->Why(), HasSubstr("ALTER TABLE saas.sale_3 REPLICA IDENTITY FULL"));
  Sql("ALTER TABLE saas.sale_3 REPLICA IDENTITY FULL");
  ASSERT_TRUE(replica->Await(CaptureState::kStreaming));
  EXPECT_THAT(sink_.alarms(), SizeIs(3)) << "rows of the partition may have been misread";
}

TEST_F(StreamTest, TheWatermarkPassesWhatIsNotCapturedToo) {
  auto replica = Streaming();
  Sql("CREATE TABLE other AS SELECT 1");
  const Lsn now = Now();
  EXPECT_TRUE(support::AwaitTrue(kPatience, [&] { return replica->watermark.Passed(now); }));
  EXPECT_TRUE(support::AwaitTrue(
      kPatience, [&] { return ParseLsn(Scalar("SELECT fenced_lsn FROM shadowline.capture")).value_or(0) >= now; }));
}

// ---- Until when the cache may be trusted

TEST_F(StreamTest, AnIdleDatabaseIsCovered) {
  CaptureStream::Options options = Options();
  options.patience = absl::Seconds(3);
  auto leader = Start(kPrice, options, &sink_);
  ASSERT_TRUE(AwaitCovered(leader.get()));
  EXPECT_FALSE(support::AwaitTrue(options.patience + absl::Seconds(1),
                                  [&] { return !leader->watermark.Covers(clock_.Steady()); }));
}

TEST_F(StreamTest, AChangeWhoseFenceDoesNotStandRunsOutThePatienceOfEveryReplica) {
  auto leader = Streaming();
  CaptureStream::Options follows = Options();
  follows.lead = false;
  auto follower = Start(kPrice, follows, &sink_);
  ASSERT_TRUE(AwaitCovered(leader.get()));
  ASSERT_TRUE(AwaitCovered(follower.get()));
  EXPECT_TRUE(follower->Await(CaptureState::kWaiting));
  sink_.Hold();
  InsertPrice(1);
  EXPECT_TRUE(AwaitCovered(leader.get(), false));
  EXPECT_TRUE(AwaitCovered(follower.get(), false));
  EXPECT_TRUE(leader->Await(CaptureState::kStreaming)) << "it streams, and yet a change is not fenced";
  sink_.Release();
  EXPECT_TRUE(AwaitCovered(leader.get()));
  EXPECT_TRUE(AwaitCovered(follower.get()));
}

TEST_F(StreamTest, ALeaderThatDiedRunsOutThePatienceUntilAnotherHasCaughtUp) {
  CaptureStream::Options follows = Options();
  follows.lead = false;
  auto follower = Start(kPrice, follows, &sink_);
  auto leader = Streaming();
  ASSERT_TRUE(AwaitCovered(follower.get()));
  leader.reset();
  InsertPrice(1);
  EXPECT_TRUE(AwaitCovered(follower.get(), false));
  EXPECT_EQ(follower->stream.state(), CaptureState::kWaiting) << "it never leads";
  sink_.Hold();
  leader = Start();
  ASSERT_TRUE(sink_.Await("acme/prices:emea:1"));
  EXPECT_FALSE(follower->watermark.Covers(clock_.Steady())) << "what was missed has no fence yet";
  sink_.Release();
  EXPECT_TRUE(AwaitCovered(follower.get()));
}

TEST_F(StreamTest, WhatIsRefusedIsNotCovered) {
  Sql("SELECT pg_create_logical_replication_slot('" + slot_ + "', 'test_decoding')");
  auto replica = Start();
  ASSERT_TRUE(replica->Await(CaptureState::kRefused));
  EXPECT_FALSE(replica->watermark.Covers(clock_.Steady()));
}

TEST_F(StreamTest, ALostSlotIsNotCoveredAtOnce) {
  CaptureStream::Options options = Options();
  options.patience = absl::Hours(1);
  auto leader = Start(kPrice, options, &sink_);
  options.lead = false;
  auto follower = Start(kPrice, options, &sink_);
  ASSERT_TRUE(AwaitCovered(leader.get()));
  ASSERT_TRUE(AwaitCovered(follower.get()));
  sink_.Hold();
  EXPECT_TRUE(support::AwaitTrue(kPatience, [&] {
    try {
      CutStream();
      Sql("SELECT pg_drop_replication_slot('" + slot_ + "')");
      return true;
    } catch (const pqxx::sql_error&) {
      return false;  // It was connected again before.
    }
  }));
  ASSERT_TRUE(leader->Await(CaptureState::kSlotLost));
  EXPECT_TRUE(AwaitCovered(leader.get(), false));
  EXPECT_TRUE(AwaitCovered(follower.get(), false));
  sink_.Release();
  EXPECT_TRUE(AwaitCovered(leader.get()));
  EXPECT_TRUE(AwaitCovered(follower.get()));
}

TEST_F(StreamTest, AReplicaThatReadsByAnotherMapIsNotCovered) {
  auto leader = Streaming();
  ASSERT_TRUE(AwaitCovered(leader.get()));
  CaptureStream::Options options = Options();
  options.lead = false;
  auto follower = Start(kAll, options, &sink_);
  ASSERT_TRUE(follower->Await(CaptureState::kWaiting));
  EXPECT_TRUE(support::AwaitTrue(kPatience, [&] { return follower->watermark.lsn() > 0; }));
  EXPECT_FALSE(follower->watermark.Covers(clock_.Steady())) << "nobody captures its tables";
  leader->stream.SetCatalog(Catalog(kAll));
  EXPECT_TRUE(AwaitCovered(follower.get()));
}

TEST_F(StreamTest, AFollowerTrustsNoPositionOfADatabaseWithoutTheSlot) {
  // As after a failover: the row was replicated, the slot was not.
  Sql("INSERT INTO shadowline.capture (slot, settled, fenced_lsn) VALUES ('" + slot_ + "', true, 'FFFFFFFF/0')");
  pqxx::connection connection(Url());
  pqxx::nontransaction leader(connection);
  leader.exec("SELECT pg_advisory_lock(hashtextextended('shadowline capture " + slot_ + "', 0))");
  auto follower = Start();
  ASSERT_TRUE(follower->Await(CaptureState::kWaiting));
  EXPECT_EQ(follower->watermark.lsn(), 0u);
  Sql("SELECT pg_create_logical_replication_slot('" + slot_ + "', 'pgoutput')");
  EXPECT_TRUE(support::AwaitTrue(kPatience, [&] { return follower->watermark.lsn() == Lsn{0xffffffff} << 32; }));
}

TEST_F(StreamTest, AServerThatIsKilledLosesNothing) {
  auto replica = Streaming();
  for (int tier = 0; tier < 10; ++tier) InsertPrice(tier);
  Postgres()->Kill();
  ASSERT_TRUE(replica->Await(CaptureState::kDisconnected));
  EXPECT_EQ(replica->watermark.lsn(), 0u);
  Postgres()->Start();
  for (int tier = 10; tier < 20; ++tier) InsertPrice(tier);
  EXPECT_TRUE(AllFenced(0, 20));
}

TEST_F(StreamTest, StopDoesNotWaitForAServerThatIsBusy) {
  // A new slot waits for every transaction that is running.
  pqxx::connection connection(Url());
  pqxx::work running(connection);
  running.exec("INSERT INTO saas.account VALUES (3, 'initech')");
  auto replica = Start();
  ASSERT_TRUE(support::AwaitTrue(kPatience, [&] {
    return Scalar(
               "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_create_logical%' AND wait_event_type "
               "= 'Lock' AND datname = current_database()") == "1";
  }));
  const absl::Duration before = clock_.Steady();
  replica->stream.Stop();
  EXPECT_LT(clock_.Steady() - before, absl::Seconds(1));
}

}  // namespace
}  // namespace shadowline::cache
