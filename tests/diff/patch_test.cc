// The patch that is made of two texts turns the one into the other; another library applies it.
#include "diff/compare/patch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "diff/compare/json.h"
#include "tests/diff/random_json.h"

namespace shadowline::diff {
namespace {

using nlohmann::json;
using Verdict = Comparison::Verdict;

std::string Patch(absl::string_view control, absl::string_view candidate, const Rules& rules = {}) {
  const absl::StatusOr<CompiledRules> compiled = CompiledRules::Compile(rules);
  EXPECT_TRUE(compiled.ok()) << compiled.status();
  const absl::StatusOr<std::string> patch = MakePatch(control, candidate, *compiled);
  EXPECT_TRUE(patch.ok()) << patch.status();
  return patch.ok() ? *patch : "";
}

Verdict Exactly(absl::string_view a, absl::string_view b) {
  return Compare({true, a}, {true, b}, CompiledRules()).verdict;
}

// Whether the other library reads and writes `text` without losing a digit.
bool Keeps(const std::string& text) {
  const json read = json::parse(text, nullptr, /*allow_exceptions=*/false);
  return !read.is_discarded() && Exactly(text, read.dump()) == Verdict::kEqual;
}

TEST(PatchTest, SaysWhatToDo) {
  EXPECT_EQ(Patch("1", "1.0"), "[]");
  EXPECT_EQ(Patch("1", "[2]"), R"([{"op":"replace","path":"","value":[2]}])");
  EXPECT_EQ(Patch(R"({"a":1,"b":2,"c/~":{"d":1}})", R"({"c/~":{"d":2},"e":"\n","a":1})"),
            R"([{"op":"remove","path":"/b"},{"op":"replace","path":"/c~1~0/d","value":2},)"
            R"({"op":"add","path":"/e","value":"\n"}])");
  EXPECT_EQ(Patch("[1,2,3,4]", "[1,3,4]"), R"([{"op":"remove","path":"/1"}])");
  EXPECT_EQ(Patch("[1,4]", "[1,2,3,4]"), R"([{"op":"add","path":"/1","value":2},{"op":"add","path":"/2","value":3}])");
  EXPECT_EQ(Patch("[1,2,3,4]", "[5]"), R"([{"op":"replace","path":"/0","value":5},{"op":"remove","path":"/3"},)"
                                       R"({"op":"remove","path":"/2"},{"op":"remove","path":"/1"}])");
}

TEST(PatchTest, IsEmptyWhereTheRulesExcuseAllAndWholeWhereTheyDoNot) {
  const Rules rules = {.ignore = {"$.at"}, .arrays = {{"$.tags", "multiset"}}};
  EXPECT_EQ(Patch(R"({"at":1,"tags":[1,2]})", R"({"at":2,"tags":[2,1]})", rules), "[]");
  const std::string control = R"({"at":1,"tags":[1,2],"v":1})";
  const std::string candidate = R"({"at":2,"tags":[2,1],"v":2})";
  const std::string patched = json::parse(control).patch(json::parse(Patch(control, candidate, rules))).dump();
  EXPECT_EQ(Exactly(patched, candidate), Verdict::kEqual) << patched;
}

TEST(PatchTest, AppliedByAnotherLibraryItGivesTheCandidate) {
  int applied = 0;
  for (uint64_t seed = 1; seed <= 4000; ++seed) {
    SCOPED_TRACE(seed);
    base::Random random(seed);
    const std::string control = RandomJson(&random);
    const auto tree = JsonDocument::Parse(control);
    if (!tree.ok() || !Keeps(control)) continue;
    for (const std::string& candidate : {WriteChanged((*tree)->root(), &random), RandomJson(&random)}) {
      if (!CheckJson(candidate).ok() || !Keeps(candidate)) continue;
      const std::string patch = Patch(control, candidate);
      const std::string patched = json::parse(control).patch(json::parse(patch)).dump();
      ASSERT_EQ(Exactly(patched, candidate), Verdict::kEqual) << control << "\n" << candidate << "\n" << patch;
      ++applied;
    }
  }
  EXPECT_GT(applied, 2000);
}

TEST(PatchTest, WhatCannotBeComparedHasNone) {
  EXPECT_EQ(MakePatch("{", "1", CompiledRules()).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakePatch("1", "NaN", CompiledRules()).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakePatch("1", R"({"a":1,"a":2})", CompiledRules()).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(PatchTest, OneThatWouldBeHugeIsRefused) {
  // Long names on the way make long pointers, once for each of many items.
  const auto document = [](char digit) {
    std::string text = "[";
    for (int i = 0; i < 100'000; ++i) text += absl::StrCat(i > 0 ? "," : "", std::string(1, digit));
    text += "]";
    const std::string name(1000, 'n');
    return absl::StrCat("{\"", name, "\":", text, "}");
  };
  const auto patch = MakePatch(document('1'), document('2'), CompiledRules());
  EXPECT_EQ(patch.status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace shadowline::diff
