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
  absl::StatusOr<uint64_t> Invalidate(const std::vector<std::string>& tags) {
    std::optional<absl::StatusOr<uint64_t>> fenced;
    replica_.invalidator.Invalidate("acme", tags, [&](absl::StatusOr<uint64_t> count) { fenced = std::move(count); });
    world_.sim.RunUntilIdle();
    return fenced.value();
  }
  void Register(const std::string& tag, const std::string& key) {
    replica_.store.AddToTag(TagKey("acme", tag), key, absl::Minutes(1), [](absl::Status) {});
    world_.sim.RunUntilIdle();
  }
  Slot::Kind Held(const std::string& key) {
    const sim::SimRedis::Entry* entry = world_.redis.Find(key);
    return entry == nullptr ? Slot::Kind::kAbsent : entry->slot.kind;
  }

  FillWorld world_{5};
  Replica replica_{&world_};
};

TEST_F(InvalidatorTest, EveryKeyOfTheTagsIsFencedOnce) {
  Register("a", "one");
  Register("a", "two");
  Register("b", "two");
  Register("c", "three");
  EXPECT_EQ(Invalidate({"a", "b"}).value(), 2u);
  EXPECT_EQ(Held("one"), Slot::Kind::kFence);
  EXPECT_EQ(Held("two"), Slot::Kind::kFence);
  EXPECT_EQ(Held("three"), Slot::Kind::kAbsent);
}

TEST_F(InvalidatorTest, ItMayBeRepeated) {
  Register("a", "one");
  EXPECT_EQ(Invalidate({"a"}).value(), 1u);
  const std::string first = world_.redis.Find("one")->slot.token;
  EXPECT_EQ(Invalidate({"a"}).value(), 1u) << "the key stays registered";
  EXPECT_NE(world_.redis.Find("one")->slot.token, first);
}

TEST_F(InvalidatorTest, AnUnknownTagHasNoKeys) { EXPECT_EQ(Invalidate({"a"}).value(), 0u); }

TEST_F(InvalidatorTest, ATagOfAnotherTenantIsAnotherTag) {
  replica_.store.AddToTag(TagKey("globex", "a"), "theirs", absl::Minutes(1), [](absl::Status) {});
  EXPECT_EQ(Invalidate({"a"}).value(), 0u);
  EXPECT_EQ(Held("theirs"), Slot::Kind::kAbsent);
}

TEST_F(InvalidatorTest, MoreKeysThanABatch) {
  for (int i = 0; i < 1000; ++i) Register("a", absl::StrCat("key", i));
  EXPECT_EQ(Invalidate({"a"}).value(), 1000u);
  EXPECT_EQ(Held("key999"), Slot::Kind::kFence);
}

TEST_F(InvalidatorTest, ItIsAnErrorWhenNotAllFencesStand) {
  Register("a", "one");
  world_.redis.faults.down = true;
  EXPECT_EQ(Invalidate({"a"}).status().code(), absl::StatusCode::kUnavailable);
  world_.redis.faults.down = false;
  world_.redis.faults.hang = true;
  EXPECT_EQ(Invalidate({"a"}).status().code(), absl::StatusCode::kDeadlineExceeded);
  world_.redis.Thaw();
  EXPECT_EQ(Invalidate({"a"}).value(), 1u);
}

TEST_F(InvalidatorTest, TheTagsRememberWhenTheCallBegan) {
  const absl::Time began = world_.sim.clock()->Now();
  ASSERT_TRUE(Invalidate({"a"}).ok());
  absl::Time last;
  replica_.store.LastInvalidated(TagKey("acme", "a"), [&](absl::StatusOr<absl::Time> at) { last = at.value(); });
  world_.sim.RunUntilIdle();
  EXPECT_EQ(last, began);
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
