#include "cache/redis/slots.h"

#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace shadowline::cache {
namespace {

const RedisAddress kAsked = RedisAddress::Parse("10.0.0.1:7000").value();

TEST(SlotsTest, AKeysSlotIsItsCrc16OrThatOfItsTag) {
  EXPECT_EQ(SlotOf("123456789"), 0x31C3u);
  EXPECT_EQ(SlotOf(""), 0u);
  EXPECT_EQ(SlotOf("foo"), 12182u);
  EXPECT_EQ(SlotOf("{user1000}.following"), SlotOf("user1000"));
  EXPECT_EQ(SlotOf("foo{bar}{zap}"), SlotOf("bar"));
  EXPECT_EQ(SlotOf("foo{{bar}}zap"), SlotOf("{bar"));
  EXPECT_NE(SlotOf("foo{}{bar}"), SlotOf("bar"));
  EXPECT_NE(SlotOf("foo{bar"), SlotOf("bar"));
}

TEST(SlotsTest, RedirectsAreToldFromOtherErrors) {
  const auto moved = ParseRedirect("MOVED 3999 127.0.0.1:6381", kAsked);
  EXPECT_FALSE(moved->ask);
  EXPECT_EQ(moved->slot, 3999u);
  EXPECT_EQ(moved->to.text(), "127.0.0.1:6381");
  EXPECT_TRUE(ParseRedirect("ASK 3999 redis.internal:6381", kAsked)->ask);
  EXPECT_EQ(ParseRedirect("MOVED 1 ::1:6381", kAsked)->to.text(), "[::1]:6381");
  EXPECT_EQ(ParseRedirect("MOVED 1 :6381", kAsked)->to.text(), "10.0.0.1:6381") << "where it was asked";
  for (const char* other : {"", "MOVED", "MOVED 1", "MOVED x 127.0.0.1:1", "MOVED 16384 127.0.0.1:1", "MOVED -1 a:1",
                            "MOVED 1 127.0.0.1", "MOVED 1 127.0.0.1:0", "MOVED 1 127.0.0.1:x", "ASK 1 a:1 b:2",
                            "CLUSTERDOWN The cluster is down", "ERR MOVED 1 127.0.0.1:1"}) {
    EXPECT_FALSE(ParseRedirect(other, kAsked).has_value()) << other;
  }
}

Reply Integer(int64_t value) {
  Reply reply;
  reply.type = Reply::Type::kInteger;
  reply.integer = value;
  return reply;
}
Reply Text(std::string text) {
  Reply reply;
  reply.type = Reply::Type::kText;
  reply.text = std::move(text);
  return reply;
}
Reply Array(std::vector<Reply> elements) {
  Reply reply;
  reply.type = Reply::Type::kArray;
  reply.elements = std::move(elements);
  return reply;
}

TEST(SlotsTest, WhoServesWhatIsReadAndChecked) {
  const Reply master = Array({Text("10.0.0.2"), Integer(7001), Text("id")});
  const auto ranges =
      ParseSlots(Array({Array({Integer(0), Integer(5), master, master}),
                        Array({Integer(6), Integer(16383), Array({Text(""), Integer(7002), Text("id")})})}),
                 kAsked);
  ASSERT_EQ(ranges->size(), 2u);
  EXPECT_EQ(ranges->at(0).last, 5u);
  EXPECT_EQ(ranges->at(0).master.text(), "10.0.0.2:7001");
  EXPECT_EQ(ranges->at(1).first, 6u);
  EXPECT_EQ(ranges->at(1).master.text(), "10.0.0.1:7002");
  for (const Reply& wrong :
       {Reply(), Text("OK"), Array({Text("OK")}), Array({Array({Integer(0), Integer(5)})}),
        Array({Array({Integer(0), Integer(16384), master})}), Array({Array({Integer(5), Integer(0), master})}),
        Array({Array({Integer(-1), Integer(0), master})}), Array({Array({Integer(0), Integer(1), Array({})})}),
        Array({Array({Integer(0), Integer(1), Array({Text("a"), Integer(0)})})})}) {
    EXPECT_FALSE(ParseSlots(wrong, kAsked).ok());
  }
}

}  // namespace
}  // namespace shadowline::cache
