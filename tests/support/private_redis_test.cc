// The cluster that the tests make does what its header says.
#include "tests/support/private_redis.h"

#include "gtest/gtest.h"

namespace shadowline::support {
namespace {

using cache::Reply;

TEST(PrivateRedisClusterTest, SlotsMoveWithTheirKeysAndAReplicaTakesOver) {
  PrivateRedisCluster cluster;
  EXPECT_EQ(cluster.addresses().size(), 6u);
  // "b" is in slot 3300, of the first shard.
  PrivateRedis* const first = cluster.OwnerOf(3300);
  EXPECT_EQ(first, cluster.Master(0));
  EXPECT_EQ(AskRedis(first->socket(), {"SET", "b", "value"}).type, Reply::Type::kStatus);
  EXPECT_EQ(AskRedis(first->socket(), {"WAIT", "1", "10000"}).integer, 1);

  cluster.MoveSlots(0, 1, 3301);
  cluster.AwaitHealthy();
  PrivateRedis* const second = cluster.OwnerOf(3300);
  EXPECT_EQ(second, cluster.Master(1));
  EXPECT_EQ(AskRedis(second->socket(), {"GET", "b"}).text, "value");
  EXPECT_EQ(AskRedis(second->socket(), {"WAIT", "1", "10000"}).integer, 1);

  cluster.KillMaster(1);
  cluster.AwaitHealthy();
  EXPECT_NE(cluster.Master(1), second);
  EXPECT_EQ(AskRedis(cluster.OwnerOf(3300)->socket(), {"GET", "b"}).text, "value");
  cluster.Revive(1);
  cluster.AwaitHealthy();
  EXPECT_NE(cluster.Master(1), second);

  const int added = cluster.AddShard();
  cluster.MoveSlots(0, added, 100);
  cluster.AwaitHealthy();
  cluster.MoveSlots(added, 0, 100);
  cluster.AwaitHealthy();
  cluster.RemoveShard(added);
  cluster.AwaitHealthy();
}

}  // namespace
}  // namespace shadowline::support
