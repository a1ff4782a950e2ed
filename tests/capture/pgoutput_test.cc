// The decoder against messages as PostgreSQL writes them, and against every way of breaking them.
#include "cache/capture/pgoutput.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "tests/capture/messages.h"

namespace shadowline::cache {
namespace {

using testing::HasSubstr;

template <typename Kind>
Kind Decoded(const std::string& bytes) {
  const absl::StatusOr<Event> event = DecodeEvent(bytes);
  EXPECT_TRUE(event.ok()) << event.status();
  if (!event.ok() || !std::holds_alternative<Kind>(*event)) {
    ADD_FAILURE() << "it is another event";
    return {};
  }
  return std::get<Kind>(*event);
}

std::vector<std::string> Messages() {
  return {
      BeginBytes(7),
      CommitBytes(200),
      RelationBytes(16'384, "saas", "price", {{"account", 25, true}, {"amount", 1700, false}}),
      InsertBytes(16'384, {"acme", nullptr}),
      UpdateBytes(16'384, {"acme", kToasted}),
      UpdateBytes(16'384, 'K', {"acme", nullptr}, {"globex", "1.50"}),
      UpdateBytes(16'384, 'O', {"acme", "1.00"}, {"acme", "1.50"}),
      DeleteBytes(16'384, 'K', {"acme", nullptr}),
      DeleteBytes(16'384, 'O', {"acme", "1.50"}),
      TruncateBytes({16'384, 16'390}),
  };
}

TEST(PgoutputTest, ATransactionIsBracketed) {
  const auto begin = Decoded<Begin>(BeginBytes(7, 0x1'0000'0002));
  EXPECT_EQ(begin.xid, 7u);
  EXPECT_EQ(begin.commit_lsn, 0x1'0000'0002u);
  EXPECT_EQ(begin.committed_at, absl::FromCivil(absl::CivilSecond(2000, 1, 1, 0, 0, 1), absl::UTCTimeZone()));
  const auto commit = Decoded<Commit>(CommitBytes(200, 100));
  EXPECT_EQ(commit.commit_lsn, 100u);
  EXPECT_EQ(commit.end_lsn, 200u);
}

TEST(PgoutputTest, ARelationSaysWhichColumnsAreItsIdentity) {
  const auto relation =
      Decoded<Relation>(RelationBytes(5, "saas", "price", {{"account", 25, true}, {"amount", 1700, false}}));
  EXPECT_EQ(relation.id, 5u);
  EXPECT_EQ(relation.schema + "." + relation.table, "saas.price");
  ASSERT_EQ(relation.columns.size(), 2u);
  EXPECT_EQ(relation.columns[0].name, "account");
  EXPECT_TRUE(relation.columns[0].identity);
  EXPECT_EQ(relation.columns[1].type, 1700u);
  EXPECT_FALSE(relation.columns[1].identity);
  EXPECT_EQ(Decoded<Relation>(RelationBytes(5, "", "pg_class", {})).schema, "pg_catalog");
}

TEST(PgoutputTest, AChangeHasTheRowsThatWereSent) {
  const std::string insert_bytes = InsertBytes(5, {"acme", nullptr, ""});
  const auto insert = Decoded<Change>(insert_bytes);
  EXPECT_EQ(insert.kind, Change::Kind::kInsert);
  EXPECT_EQ(insert.relation, 5u);
  EXPECT_FALSE(insert.before.has_value());
  ASSERT_EQ(insert.after->cells.size(), 3u);
  EXPECT_EQ(insert.after->cells[0].text, "acme");
  EXPECT_EQ(insert.after->cells[1].kind, Cell::Kind::kNull);
  EXPECT_EQ(insert.after->cells[2].kind, Cell::Kind::kText);

  const auto moved = Decoded<Change>(UpdateBytes(5, 'K', {"acme", nullptr}, {"globex", kToasted}));
  EXPECT_EQ(moved.kind, Change::Kind::kUpdate);
  EXPECT_TRUE(moved.before->identity_only);
  EXPECT_EQ(moved.after->cells[1].kind, Cell::Kind::kUnchanged);
  EXPECT_FALSE(Decoded<Change>(UpdateBytes(5, 'O', {"a"}, {"b"})).before->identity_only);
  EXPECT_FALSE(Decoded<Change>(UpdateBytes(5, {"b"})).before.has_value());

  const auto deleted = Decoded<Change>(DeleteBytes(5, 'K', {"acme", nullptr}));
  EXPECT_EQ(deleted.kind, Change::Kind::kDelete);
  EXPECT_FALSE(deleted.after.has_value());
}

TEST(PgoutputTest, ATruncateNamesEveryTable) {
  EXPECT_EQ(Decoded<Truncate>(TruncateBytes({5, 6, 7})).relations, (std::vector<uint32_t>{5, 6, 7}));
}

TEST(PgoutputTest, WhatNoCacheDependsOnIsIgnored) {
  for (const char* message : {"O........origin", "Y....type", "M.message"}) Decoded<Ignored>(message);
}

TEST(PgoutputTest, EveryTruncationIsRefused) {
  for (const std::string& message : Messages()) {
    ASSERT_TRUE(DecodeEvent(message).ok());
    for (size_t length = 0; length < message.size(); ++length) {
      const absl::Status status = DecodeEvent(message.substr(0, length)).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << message[0] << " cut to " << length;
    }
    EXPECT_THAT(DecodeEvent(message + "x").status().message(), HasSubstr("unknown bytes"));
  }
}

TEST(PgoutputTest, BytesThatAreNoMessageAreRefused) {
  EXPECT_THAT(DecodeEvent("Z").status().message(), HasSubstr("unknown message, code 90"));
  EXPECT_THAT(DecodeEvent(Bytes().Byte('I').Int(5).Byte('K').Short(0).bytes()).status().message(),
              HasSubstr("of the replication stream"));
  EXPECT_THAT(DecodeEvent(Bytes().Byte('I').Int(5).Byte('N').Short(1).Byte('b').Int(0).bytes()).status().message(),
              HasSubstr("unknown kind of value"));
  // Counts and lengths that would need gigabytes cost nothing.
  EXPECT_FALSE(DecodeEvent(Bytes().Byte('T').Int(0xffffffff).Byte(0).bytes()).ok());
  EXPECT_FALSE(DecodeEvent(Bytes().Byte('I').Int(5).Byte('N').Short(1).Byte('t').Int(0xffffffff).bytes()).ok());
}

TEST(PgoutputTest, AnyBytesAtAllAreSurvived) {
  constexpr uint64_t kSeed = 20'260'111;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  base::Random random(kSeed);
  const std::vector<std::string> messages = Messages();
  for (int round = 0; round < 200'000; ++round) {
    std::string bytes;
    if (round % 2 == 0) {
      for (uint64_t i = random.Below(64); i > 0; --i) bytes.push_back(static_cast<char>(random.Next()));
      if (!bytes.empty()) bytes[0] = "BCRIUDTOYM"[random.Below(10)];
    } else {
      bytes = messages[random.Below(messages.size())];
      for (uint64_t i = 1 + random.Below(3); i > 0; --i)
        bytes[random.Below(bytes.size())] = static_cast<char>(random.Next());
    }
    DecodeEvent(bytes).status().IgnoreError();
    DecodeFrame(bytes).status().IgnoreError();
  }
}

TEST(FrameTest, DataAndKeepalivesAreToldApart) {
  const std::string data = Bytes().Byte('w').Long(1).Long(2).Long(3).Raw("message").bytes();
  const absl::StatusOr<Frame> frame = DecodeFrame(data);
  ASSERT_TRUE(frame.ok()) << frame.status();
  EXPECT_EQ(std::get<WalData>(*frame).start, 1u);
  EXPECT_EQ(std::get<WalData>(*frame).message, "message");

  const std::string beat = Bytes().Byte('k').Long(9).Long(3).Byte(1).bytes();
  const absl::StatusOr<Frame> keepalive = DecodeFrame(beat);
  ASSERT_TRUE(keepalive.ok()) << keepalive.status();
  EXPECT_EQ(std::get<Keepalive>(*keepalive).end, 9u);
  EXPECT_TRUE(std::get<Keepalive>(*keepalive).reply);

  for (size_t length = 0; length < beat.size(); ++length) EXPECT_FALSE(DecodeFrame(beat.substr(0, length)).ok());
  for (size_t length = 0; length < data.size() - 7; ++length) EXPECT_FALSE(DecodeFrame(data.substr(0, length)).ok());
  EXPECT_FALSE(DecodeFrame("x").ok());
}

TEST(FrameTest, TheAnswerSaysWhatNeedNotBeSentAgain) {
  const absl::Time now = absl::FromCivil(absl::CivilSecond(2000, 1, 1, 0, 0, 1), absl::UTCTimeZone());
  EXPECT_EQ(EncodeStatus(5, 3, now, false), Bytes().Byte('r').Long(5).Long(3).Long(3).Long(1'000'000).Byte(0).bytes());
  EXPECT_EQ(EncodeStatus(5, 3, now, true).back(), 1);
}

TEST(XidTest, TheMissingBitsComeFromANeighbour) {
  EXPECT_EQ(ExtendXid(7, 9), 7u);
  EXPECT_EQ(ExtendXid(9, 7), 9u);
  EXPECT_EQ(ExtendXid(5, 0x1'0000'0002), 0x1'0000'0005u);
  EXPECT_EQ(ExtendXid(0xffffffff, 0x1'0000'0002), 0xffffffffu) << "just before the 32 bits began again";
  EXPECT_EQ(ExtendXid(3, 0x1'ffff'fff0), 0x2'0000'0003u) << "just after they did";
  EXPECT_EQ(ExtendXid(0xffffffff, 3), 0xffffffffu);
}

TEST(LsnTest, IsWrittenAsPostgresqlWritesIt) {
  EXPECT_EQ(FormatLsn(0x16'B374'D848), "16/B374D848");
  EXPECT_EQ(ParseLsn("16/B374D848"), 0x16'B374'D848u);
  EXPECT_EQ(ParseLsn("0/0"), 0u);
  for (const char* wrong : {"", "/", "1", "1/", "/1", "x/1", "1/1 ", "100000000/0", "-1/0"}) {
    EXPECT_EQ(ParseLsn(wrong), std::nullopt) << wrong;
  }
}

}  // namespace
}  // namespace shadowline::cache
