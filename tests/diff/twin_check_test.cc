#include "diff/verdict/twin_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "diff/verdict/noise.h"

namespace shadowline::diff {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

CompiledRules Exact() { return CompiledRules(); }

// Of the control's two answers and the candidate's.
TwinCheck Check(absl::string_view first, absl::string_view second, absl::string_view candidate,
                const std::vector<std::string>& distrusted = {}, const CompiledRules& rules = Exact()) {
  return TwinCheck(Compare({true, first}, {true, candidate}, rules), Compare({true, second}, {true, candidate}, rules),
                   Compare({true, first}, {true, second}, rules), [&](absl::string_view pattern) {
                     return std::find(distrusted.begin(), distrusted.end(), pattern) != distrusted.end();
                   });
}

std::vector<std::string> Left(absl::string_view first, absl::string_view second, absl::string_view candidate) {
  return Check(first, second, candidate).left().patterns;
}

TEST(TwinCheckTest, WhatBothAnswersDenyIsLeft) {
  const TwinCheck check = Check(R"({"a":1,"b":[1,2]})", R"({"a":1,"b":[1,2]})", R"({"a":2,"b":[1,3]})");
  EXPECT_THAT(check.left().patterns, ElementsAre("/a: value", "/b/*: value"));
  EXPECT_EQ(check.left().differences.size(), 2u);
  EXPECT_EQ(check.left().differences_total, 2u);
}

TEST(TwinCheckTest, WhereTheAnswersContradictEachOtherNothingIsLeft) {
  EXPECT_THAT(Left(R"({"a":1})", R"({"a":2})", R"({"a":3})"), IsEmpty());
  // By chance one of them is the candidate's.
  EXPECT_THAT(Left(R"({"a":1})", R"({"a":2})", R"({"a":2})"), IsEmpty());
  EXPECT_THAT(Left(R"({"a":2})", R"({"a":1})", R"({"a":2})"), IsEmpty());
  // In another way than the candidate differs.
  EXPECT_THAT(Left(R"({"a":1})", R"({"a":2})", R"({"a":null})"), IsEmpty());
  EXPECT_THAT(Left("1", R"({"a":1})", R"({"a":2})"), IsEmpty());
}

TEST(TwinCheckTest, NoiseBesideADifferenceIsTakenOutAndTheDifferenceStays) {
  const TwinCheck check =
      Check(R"({"at":1,"price":5,"rows":[{"id":1,"x":1}]})", R"({"at":2,"price":5,"rows":[{"id":1,"x":2}]})",
            R"({"at":3,"price":4,"rows":[{"id":2,"x":3}]})");
  EXPECT_THAT(check.left().patterns, ElementsAre("/price: value", "/rows/*/id: value"));
  ASSERT_EQ(check.left().differences.size(), 2u);
  EXPECT_EQ(check.left().differences[0].pointer, "/price");
  EXPECT_EQ(check.left().differences[1].pointer, "/rows/0/id");
  EXPECT_EQ(check.left().differences_total, 2u);
}

TEST(TwinCheckTest, InAListOfMadeUpOrderNoItemMeansAnything) {
  EXPECT_THAT(Left(R"({"l":[1,2,3],"n":1})", R"({"l":[3,2,1],"n":1})", R"({"l":[2,9,3],"n":2})"),
              ElementsAre("/n: value"));
  // Unless the order is declared to mean nothing.
  const auto rules = CompiledRules::Compile({.arrays = {{"/l", "multiset"}}});
  ASSERT_TRUE(rules.ok()) << rules.status();
  EXPECT_THAT(Check(R"({"l":[1,2,3]})", R"({"l":[3,2,1]})", R"({"l":[2,9,3]})", {}, *rules).left().patterns,
              testing::Not(IsEmpty()));
}

TEST(TwinCheckTest, APlaceWhereTheAnswersAgreeCountsHoweverNoisyItMayBe) {
  EXPECT_THAT(Left(R"({"a":1})", R"({"a":1})", R"({"a":2})"), ElementsAre("/a: value"));
}

TEST(TwinCheckTest, APlaceThatIsDistrustedDoesNot) {
  EXPECT_THAT(Check(R"({"a":1,"b":1})", R"({"a":1,"b":1})", R"({"a":2,"b":2})", {"/a: value"}).left().patterns,
              ElementsAre("/b: value"));
}

TEST(TwinCheckTest, FoundInOneReadingAndNotInTheOtherIsNoiseFromTheRootOn) {
  const TwinCheck check(Compare({true, "1"}, {true, "2"}, Exact()), Compare({false, ""}, {true, "2"}, Exact()),
                        Compare({true, "1"}, {false, ""}, Exact()), [](absl::string_view) { return false; });
  EXPECT_THAT(check.left().patterns, IsEmpty());
}

TEST(TwinCheckTest, WithMoreNoiseThanCanBeToldNothingIsLeft) {
  std::string first = "{\"a\":1", second = first, candidate = "{\"a\":2";
  for (int i = 0; i < 100; ++i) {
    first += ",\"m" + std::to_string(i) + "\":1";
    second += ",\"m" + std::to_string(i) + "\":2";
    candidate += ",\"m" + std::to_string(i) + "\":3";
  }
  EXPECT_THAT(Left(first + "}", second + "}", candidate + "}"), IsEmpty());
}

TEST(TwinCheckTest, AgeCountsAtThePlaceItself) {
  const absl::Time old = absl::FromUnixSeconds(10), fresh = absl::FromUnixSeconds(20);
  const TwinCheck check = Check(R"({"at":1,"price":5})", R"({"at":2,"price":5})", R"({"at":3,"price":4})");
  EXPECT_FALSE(check.OldEnough({}, old));
  EXPECT_FALSE(check.OldEnough({{"/at: value", old}}, old));
  EXPECT_FALSE(check.OldEnough({{"/at: value", old}, {"/price: value", fresh}}, old));
  EXPECT_TRUE(check.OldEnough({{"/at: value", old}, {"/price: value", fresh}}, fresh));
  EXPECT_TRUE(check.OldEnough({{"/price: type", old}}, old));
  EXPECT_TRUE(check.OldEnough({{": missing", old}}, old));
  EXPECT_FALSE(check.OldEnough({{"/pric: value", old}}, old));
}

TEST(TwinCheckTest, PlacesAreToldByTheirSteps) {
  EXPECT_TRUE(IsAtOrBelow("/a/*/b: value", "/a: order"));
  EXPECT_TRUE(IsAtOrBelow("/a: type", "/a: value"));
  EXPECT_TRUE(IsAtOrBelow("/a: type", ": missing"));
  EXPECT_FALSE(IsAtOrBelow("/ab: value", "/a: value"));
  EXPECT_FALSE(IsAtOrBelow("/a: value", "/a/b: value"));
  EXPECT_TRUE(IsAtOrBelow("/x: y: value", "/x: y: order"));
  EXPECT_FALSE(IsAtOrBelow("/x: y: value", "/x: order"));
}

}  // namespace
}  // namespace shadowline::diff
