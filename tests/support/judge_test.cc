// As history_test.cc: each kind of wrong answer is planted.
#include "tests/support/judge.h"

#include <gtest/gtest.h>

namespace shadowline::support {
namespace {

TEST(JudgeTest, AnAnswerMayBeOldWithinTheFreshnessBoundAndNoLonger) {
  Judge judge({"a"}, absl::Seconds(2));
  judge.Committed(0, judge.Committing(0, "b", absl::Seconds(10)), absl::Seconds(11));
  EXPECT_EQ(judge.Of(0, "a", absl::Seconds(13), absl::Seconds(13)).judgement, Judgement::kRight);
  EXPECT_EQ(judge.Of(0, "a", absl::Seconds(13.1), absl::Seconds(13.2)).judgement, Judgement::kStale);
  EXPECT_EQ(judge.Of(0, "b", absl::Seconds(8), absl::Seconds(9)).judgement, Judgement::kNever);
  EXPECT_EQ(judge.Of(0, "b", absl::Seconds(50), absl::Seconds(50)).judgement, Judgement::kRight);
  EXPECT_EQ(judge.Of(0, "c", absl::Seconds(50), absl::Seconds(50)).judgement, Judgement::kNever);
}

TEST(JudgeTest, WhatWasInvalidatedIsNotShownToAnyReadThatBeginsLater) {
  Judge judge({"a"}, absl::Seconds(2));
  const int64_t version = judge.Committing(0, "b", absl::Seconds(10));
  judge.Committed(0, version, absl::Seconds(11));
  judge.Invalidated(0, version, absl::Seconds(11.5));
  EXPECT_FALSE(judge.Of(0, "a", absl::Seconds(11.4), absl::Seconds(12)).older_than_invalidation);
  EXPECT_TRUE(judge.Of(0, "a", absl::Seconds(11.6), absl::Seconds(12)).older_than_invalidation);
  EXPECT_FALSE(judge.Of(0, "b", absl::Seconds(11.6), absl::Seconds(12)).older_than_invalidation);
}

TEST(JudgeTest, AnAnswerThatComesAgainIsRightAgain) {
  Judge judge({"a"}, absl::Seconds(2));
  judge.Committed(0, judge.Committing(0, "b", absl::Seconds(10)), absl::Seconds(10));
  EXPECT_EQ(judge.Of(0, "a", absl::Seconds(20), absl::Seconds(20)).judgement, Judgement::kStale);
  const int64_t version = judge.Committing(0, "a", absl::Seconds(21));
  judge.Committed(0, version, absl::Seconds(21));
  judge.Invalidated(0, version, absl::Seconds(21));
  EXPECT_EQ(judge.Of(0, "a", absl::Seconds(30), absl::Seconds(30)).judgement, Judgement::kRight);
  EXPECT_FALSE(judge.Of(0, "a", absl::Seconds(30), absl::Seconds(30)).older_than_invalidation);
}

// Deleted, written, deleted again: "nothing" may only be the time before the write if nothing newer can be meant.
TEST(JudgeTest, AnAnswerThatWillComeAgainIsStillTheOldOne) {
  Judge judge({""}, absl::Seconds(2));
  const int64_t written = judge.Committing(0, "a", absl::Seconds(10));
  judge.Committed(0, written, absl::Seconds(10));
  judge.Invalidated(0, written, absl::Seconds(10));
  judge.Committed(0, judge.Committing(0, "", absl::Seconds(12)), absl::Seconds(12));
  EXPECT_TRUE(judge.Of(0, "", absl::Seconds(11), absl::Seconds(11.5)).older_than_invalidation);
  EXPECT_FALSE(judge.Of(0, "", absl::Seconds(11), absl::Seconds(12)).older_than_invalidation);
}

TEST(JudgeTest, InvalidationsThatAreToldInTheWrongOrderAllCount) {
  Judge judge({"a"}, absl::Seconds(2));
  for (const char* body : {"b", "c"})
    judge.Committed(0, judge.Committing(0, body, absl::Seconds(10)), absl::Seconds(10));
  judge.Invalidated(0, 3, absl::Seconds(11));
  judge.Invalidated(0, 2, absl::Seconds(10.5));
  EXPECT_FALSE(judge.Of(0, "a", absl::Seconds(10.9), absl::Seconds(11)).older_than_invalidation);
  EXPECT_TRUE(judge.Of(0, "b", absl::Seconds(11), absl::Seconds(11)).older_than_invalidation);
  EXPECT_FALSE(judge.Of(0, "c", absl::Seconds(11), absl::Seconds(11)).older_than_invalidation);
}

}  // namespace
}  // namespace shadowline::support
