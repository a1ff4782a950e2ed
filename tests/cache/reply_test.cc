// What Redis' replies may ask for before they are there.
#include "cache/redis/reply.h"

#include <gtest/gtest.h>

namespace shadowline::cache {
namespace {

constexpr size_t kMaxBytes = 1 << 20;

TEST(ReplyTest, ArraysInsideEachOtherShareOneLimit) {
  ReplyReader whole(kMaxBytes);
  whole.Feed("*262144\r\n");
  EXPECT_TRUE(whole.Next().ok());
  ReplyReader nested(kMaxBytes);
  nested.Feed("*2\r\n*262143\r\n");
  EXPECT_FALSE(nested.Next().ok());
  ReplyReader many(kMaxBytes);
  many.Feed("*100\r\n*200000\r\n*200000\r\n");
  EXPECT_FALSE(many.Next().ok());
}

TEST(ReplyTest, EachReplyIsCountedByItself) {
  ReplyReader reader(kMaxBytes);
  std::string array = "*100000\r\n";
  for (int i = 0; i < 100'000; ++i) array += ":1\r\n";
  for (int i = 0; i < 4; ++i) {
    reader.Feed(array);
    const auto reply = reader.Next();
    ASSERT_TRUE(reply.ok()) << reply.status();
    ASSERT_NE(*reply, nullptr);
    EXPECT_EQ((*reply)->elements.size(), 100'000u);
  }
}

}  // namespace
}  // namespace shadowline::cache
