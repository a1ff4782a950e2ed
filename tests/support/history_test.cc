// The judge of answers must be able to say no: each kind of wrong answer is planted here.
#include "tests/support/history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shadowline::support {
namespace {

constexpr absl::Duration kDelta = absl::Seconds(2);

absl::Duration At(double seconds) { return absl::Seconds(seconds); }

class HistoryTest : public testing::Test {
 protected:
  // A commit of `scope` that took from `begun` to `ended`.
  void Write(const std::string& scope, int64_t version, double begun, double ended) {
    history_.Committing(scope, version, At(begun));
    history_.Committed(scope, version, At(ended));
  }
  Judgement Judge(const std::vector<Witness>& witnesses, double sent, double received) {
    return history_.Judge(witnesses, At(sent), At(received), kDelta);
  }

  History history_;
};

TEST_F(HistoryTest, TheFirstVersionIsRightUntilSomebodyWrites) {
  EXPECT_EQ(Judge({{"a", 1}}, 100, 100.1), Judgement::kRight);
  EXPECT_EQ(Judge({{"a", 2}}, 100, 100.1), Judgement::kNever);
  EXPECT_EQ(Judge({{"a", 0}}, 100, 100.1), Judgement::kNever);
}

TEST_F(HistoryTest, AnOldVersionIsRightForDeltaAfterItsSuccessorsCommit) {
  Write("a", 2, 10.0, 10.1);
  EXPECT_EQ(Judge({{"a", 1}}, 12.0, 12.1), Judgement::kRight);
  EXPECT_EQ(Judge({{"a", 1}}, 12.1, 12.2), Judgement::kRight);
  EXPECT_EQ(Judge({{"a", 1}}, 12.11, 12.2), Judgement::kStale);
  EXPECT_EQ(Judge({{"a", 2}}, 12.2, 12.3), Judgement::kRight);
}

TEST_F(HistoryTest, DeltaCountsFromWhenTheReadWasSent) {
  Write("a", 2, 10.0, 10.1);
  // The read took five seconds: what was right when it began stays right.
  EXPECT_EQ(Judge({{"a", 1}}, 12.0, 17.0), Judgement::kRight);
}

TEST_F(HistoryTest, AVersionMayBeSeenFromWhenItsCommitBegan) {
  history_.Committing("a", 2, At(10.0));
  EXPECT_EQ(Judge({{"a", 2}}, 9.8, 9.9), Judgement::kNever);
  EXPECT_EQ(Judge({{"a", 2}}, 9.8, 10.0), Judgement::kRight);
  // Nobody knows yet whether it was committed: its predecessor may be the newest still.
  EXPECT_EQ(Judge({{"a", 1}}, 99, 99.1), Judgement::kRight);
}

TEST_F(HistoryTest, ACommitOfUnknownOutcomeIsSettledByTheNext) {
  history_.Committing("a", 2, At(10.0));
  Write("a", 3, 20.0, 20.1);
  EXPECT_EQ(Judge({{"a", 1}}, 22.0, 22.1), Judgement::kRight);
  EXPECT_EQ(Judge({{"a", 1}}, 22.2, 22.3), Judgement::kStale);
  EXPECT_EQ(Judge({{"a", 2}}, 22.2, 22.3), Judgement::kStale);
}

TEST_F(HistoryTest, AVersionSkippedIsStaleEvenIfItWasNeverNewestForDelta) {
  Write("a", 2, 10.0, 10.1);
  Write("a", 3, 10.2, 10.3);
  EXPECT_EQ(Judge({{"a", 2}}, 12.2, 12.3), Judgement::kRight);
  EXPECT_EQ(Judge({{"a", 2}}, 12.4, 12.5), Judgement::kStale);
}

TEST_F(HistoryTest, PartsThatWereNeverHeldTogetherAreTorn) {
  Write("a", 2, 10.0, 10.1);
  Write("b", 2, 11.0, 11.1);
  EXPECT_EQ(Judge({{"a", 2}, {"b", 1}}, 11.5, 11.6), Judgement::kRight);
  EXPECT_EQ(Judge({{"a", 2}, {"b", 2}}, 11.5, 11.6), Judgement::kRight);
  EXPECT_EQ(Judge({{"a", 1}, {"b", 2}}, 11.5, 11.6), Judgement::kTorn);
  // Held together once, but too long ago.
  EXPECT_EQ(Judge({{"a", 1}, {"b", 1}}, 12.5, 12.6), Judgement::kStale);
}

TEST_F(HistoryTest, TheSameVersionsWithOtherBytesAreRecognised) {
  EXPECT_TRUE(history_.SameBytes("price_list emea", {{"a", 1}}, "one"));
  EXPECT_TRUE(history_.SameBytes("price_list emea", {{"a", 1}}, "one"));
  EXPECT_FALSE(history_.SameBytes("price_list emea", {{"a", 1}}, "two"));
  EXPECT_TRUE(history_.SameBytes("price_list emea", {{"a", 2}}, "two"));
  EXPECT_TRUE(history_.SameBytes("price_list apac", {{"a", 1}}, "two"));
}

TEST(ParseWitnessesTest, ReadsTheFirstVersionsOfAnAnswer) {
  EXPECT_THAT(ParseWitnesses(R"({"versions":"node/acme/500=1 node/acme/1=12","project":500})"),
              testing::Optional(testing::ElementsAre(Witness{"node/acme/500", 1}, Witness{"node/acme/1", 12})));
  EXPECT_THAT(ParseWitnesses(R"([{"versions":"orders/acme=3"},{"versions":"orders/acme=3"}])"),
              testing::Optional(testing::ElementsAre(Witness{"orders/acme", 3})));
  for (const char* broken : {"", "{}", R"({"versions":"a=1)", R"({"versions":"a"})", R"({"versions":"=1"})",
                             R"({"versions":"a=x"})", R"({"versions":""})", R"({"versions":null})"}) {
    EXPECT_EQ(ParseWitnesses(broken), std::nullopt) << broken;
  }
}

}  // namespace
}  // namespace shadowline::support
