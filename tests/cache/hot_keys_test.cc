#include "cache/warm/hot_keys.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/random.h"

namespace shadowline::cache {
namespace {

class HotKeysTest : public testing::Test {
 protected:
  HotKeysTest() {
    endpoint_.name = "pricing/quote";
    endpoint_.family = "pricing";
    endpoint_.definition_id = "definition";
    endpoint_.parameters.resize(1);
    endpoint_.tags = {{{.literal = "quote:", .parameter = -1}, {.literal = "", .parameter = 0}},
                      {{.literal = "all", .parameter = -1}}};
  }

  void Read(const std::string& id, int times = 1, const std::string& tenant = "acme") {
    for (int i = 0; i < times; ++i) keys_.Saw(CacheKey(endpoint_, tenant, 0, {id}), endpoint_, tenant, {id});
  }
  // The ids under a tag.
  std::set<std::string> Take(const std::string& tag, bool all = false, const std::string& tenant = "acme") {
    std::set<std::string> ids;
    for (const HotKey& key : keys_.Take({HashOf({tenant, tag})}, all)) ids.insert(*key.question->arguments[0]);
    return ids;
  }

  Endpoint endpoint_;
  HotKeys keys_{{.keys_max = 64}};
};

using Ids = std::set<std::string>;

TEST_F(HotKeysTest, AKeyIsFoundUnderEachOfItsTagsAndNoOther) {
  Read("1");
  Read("2");
  EXPECT_EQ(Take("quote:1", true), Ids{"1"});
  EXPECT_EQ(Take("all", true), (Ids{"1", "2"}));
  EXPECT_EQ(Take("quote:3", true), Ids{});
  EXPECT_EQ(Take("all", true, "globex"), Ids{});
}

TEST_F(HotKeysTest, WhatWasTakenIsTakenAgainOnlyOnceItWasRead) {
  Read("1", 5);
  Read("2", 5);
  EXPECT_EQ(Take("all"), (Ids{"1", "2"}));
  EXPECT_EQ(Take("all"), Ids{});
  Read("2");
  EXPECT_EQ(Take("all"), Ids{"2"});
  EXPECT_EQ(Take("all", /*all=*/true), (Ids{"1", "2"}));
}

TEST_F(HotKeysTest, AQuestionSaysAllThatIsNeededToAskItAgain) {
  Read("1", 3);
  const std::vector<HotKey> taken = keys_.Take({HashOf({"acme", "all"})});
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_EQ(taken[0].reads, 3u);
  EXPECT_EQ(taken[0].question->endpoint, "pricing/quote");
  EXPECT_EQ(taken[0].question->definition, "definition");
  EXPECT_EQ(taken[0].question->tenant, "acme");
}

TEST_F(HotKeysTest, ManyKeysThatAreReadOnceDoNotPushOutWhatIsReadOften) {
  base::Random random(1);
  int cold = 0;
  for (int i = 0; i < 50'000; ++i) {
    i % 2 == 0 ? Read(absl::StrCat("hot", random.Below(8))) : Read(absl::StrCat("cold", cold++));
  }
  const Ids ids = Take("all", true);
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(ids.contains(absl::StrCat("hot", i))) << i;
  EXPECT_LE(ids.size(), 64u);
}

TEST_F(HotKeysTest, WhatWasReadOftenAWhileAgoMakesRoom) {
  for (int i = 0; i < 64; ++i) Read(absl::StrCat("old", i), 100);
  // Each of these is read as often as the other; of the old ones, none is read any more.
  for (int round = 0; round < 1'000; ++round) {
    for (int i = 0; i < 16; ++i) Read(absl::StrCat("new", i));
  }
  const Ids ids = Take("all", true);
  for (int i = 0; i < 16; ++i) EXPECT_TRUE(ids.contains(absl::StrCat("new", i))) << i;
}

TEST_F(HotKeysTest, AQuestionThatIsTooLargeIsNotRemembered) {
  Read(std::string(2'000, 'x'), 10);
  EXPECT_EQ(Take("all", true), Ids{});
}

}  // namespace
}  // namespace shadowline::cache
