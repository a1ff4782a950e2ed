#include "cache/capture/progress.h"

#include <gtest/gtest.h>

namespace shadowline::cache {
namespace {

TEST(ProgressTest, NothingIsConfirmedBeforeAllThatCameEarlier) {
  Progress progress(10);
  EXPECT_EQ(progress.fenced(), 10u);
  const size_t first = progress.Begin(20);
  const size_t second = progress.Begin(30);
  const size_t third = progress.Begin(40);
  progress.Acknowledge(second);
  EXPECT_EQ(progress.fenced(), 10u);
  progress.Acknowledge(first);
  EXPECT_EQ(progress.fenced(), 30u);
  EXPECT_EQ(progress.waiting(), 1u);
  progress.Acknowledge(third);
  EXPECT_EQ(progress.fenced(), 40u);
}

TEST(ProgressTest, AQuietLogMovesOnOnlyWhileNothingIsWaitedFor) {
  Progress progress(10);
  progress.Advance(15);
  EXPECT_EQ(progress.fenced(), 15u);
  const size_t only = progress.Begin(20);
  progress.Advance(50);
  EXPECT_EQ(progress.fenced(), 15u);
  EXPECT_EQ(progress.received(), 50u);
  progress.Acknowledge(only);
  EXPECT_EQ(progress.fenced(), 50u);
  progress.Advance(40);
  EXPECT_EQ(progress.fenced(), 50u);
}

}  // namespace
}  // namespace shadowline::cache
