#include "cache/invalidate/invalidator.h"

#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/cache/fill_world.h"

namespace shadowline::cache {
namespace {

class InvalidatorTest : public testing::Test {
 protected:
  absl::Status Invalidate(const std::vector<std::string>& tags, const std::vector<uint64_t>& transactions = {}) {
    std::vector<TenantTag> of_tenant;
    for (const std::string& tag : tags) of_tenant.push_back({"acme", tag});
    std::optional<absl::Status> fenced;
    replica_.invalidator.Invalidate(of_tenant, transactions, [&](absl::Status status) {
      EXPECT_FALSE(fenced.has_value()) << "called back twice";
      fenced = status;
    });
    world_.sim.RunUntilIdle();
    return fenced.value();
  }
  Fence FenceOf(const std::string& tag, const std::string& tenant = "acme") {
    std::optional<absl::StatusOr<Fence>> fence;
    replica_.store.ReadFence(FenceKey(tenant, tag), [&](absl::StatusOr<Fence> read) { fence = std::move(read); });
    world_.sim.RunUntilIdle();
    return fence->value();
  }

  FillWorld world_{5};
  Replica replica_{&world_};
};

TEST_F(InvalidatorTest, EveryTagGetsANewFence) {
  ASSERT_TRUE(Invalidate({"a", "b"}).ok());
  const std::string a = FenceOf("a").token, b = FenceOf("b").token;
  EXPECT_EQ(a.size(), kTokenBytes);
  EXPECT_NE(a, b);
  EXPECT_TRUE(FenceOf("c").token.empty());
  ASSERT_TRUE(Invalidate({"a"}).ok());
  EXPECT_NE(FenceOf("a").token, a);
  EXPECT_EQ(FenceOf("b").token, b);
}

TEST_F(InvalidatorTest, ATagOfAnotherTenantIsAnotherTag) {
  ASSERT_TRUE(Invalidate({"a"}).ok());
  EXPECT_TRUE(FenceOf("a", "globex").token.empty());
}

TEST_F(InvalidatorTest, MoreTagsThanABatch) {
  std::vector<std::string> tags;
  for (int i = 0; i < 1000; ++i) tags.push_back(absl::StrCat("tag", i));
  ASSERT_TRUE(Invalidate(tags).ok());
  EXPECT_FALSE(FenceOf("tag999").token.empty());
}

TEST_F(InvalidatorTest, ItIsAnErrorWhenNotAllFencesStand) {
  world_.redis.faults.down = true;
  EXPECT_EQ(Invalidate({"a", "b"}).code(), absl::StatusCode::kUnavailable);
  world_.redis.faults.down = false;
  world_.redis.faults.hang = true;
  EXPECT_EQ(Invalidate({"a", "b"}).code(), absl::StatusCode::kDeadlineExceeded);
  world_.redis.Thaw();
  EXPECT_TRUE(Invalidate({"a", "b"}).ok());
}

TEST_F(InvalidatorTest, AFenceTellsWhenItsCallBeganAndWhoWrote) {
  const absl::Time began = world_.sim.clock()->Now();
  ASSERT_TRUE(Invalidate({"a"}, {77}).ok());
  EXPECT_EQ(FenceOf("a").invalidated_at, absl::FromUnixMicros(absl::ToUnixMicros(began)));
  EXPECT_EQ(FenceOf("a").transactions, std::vector<uint64_t>{77});
  ASSERT_TRUE(Invalidate({"a"}, {78, 79}).ok());
  EXPECT_EQ(FenceOf("a").transactions, (std::vector<uint64_t>{78, 79, 77})) << "77 may be invisible still";
}

TEST_F(InvalidatorTest, WhoeverWantsToKnowHearsOfFencesThatStand) {
  std::vector<TenantTag> heard;
  Invalidator invalidator({}, &replica_.store, world_.sim.clock(), world_.sim.random(),
                          [&](const std::vector<TenantTag>& tags) { heard = tags; });
  world_.redis.faults.down = true;
  invalidator.Invalidate({{"acme", "a"}}, {}, [](absl::Status status) { EXPECT_FALSE(status.ok()); });
  world_.sim.RunUntilIdle();
  EXPECT_TRUE(heard.empty());
  world_.redis.faults.down = false;
  invalidator.Invalidate({{"acme", "a"}, {"acme", "b"}}, {}, [](absl::Status status) { EXPECT_TRUE(status.ok()); });
  world_.sim.RunUntilIdle();
  EXPECT_EQ(heard, (std::vector<TenantTag>{{"acme", "a"}, {"acme", "b"}}));
}

TEST(CheckTagsTest, NamesWhatIsWrong) {
  EXPECT_TRUE(CheckTags({"account:42"}).ok());
  EXPECT_EQ(CheckTags({}).message(), "tags: at least one is needed");
  EXPECT_EQ(CheckTags({"a", ""}).message(), "tags[1]: is empty");
  EXPECT_EQ(CheckTags(std::vector<std::string>(257, "a")).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckTags({std::string(257, 'a')}).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace shadowline::cache
