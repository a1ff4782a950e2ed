#include "diff/verdict/versions.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace shadowline::diff {
namespace {

Comparison Differing(std::vector<std::string> patterns) {
  Comparison comparison;
  comparison.verdict = Comparison::Verdict::kDiffer;
  comparison.patterns = std::move(patterns);
  return comparison;
}

std::string Row(absl::string_view version) { return absl::StrCat(R"({"meta":{"v":)", version, R"(},"price":1})"); }

Versions Compare(absl::string_view candidate, absl::string_view control) {
  return CompareVersions(Row(candidate), Row(control), "/meta/v", Differing({"/price: value"}));
}

TEST(VersionsTest, AreComparedAsIntegersOfAnyLength) {
  EXPECT_EQ(Compare("7", "7"), Versions::kSame);
  EXPECT_EQ(Compare("7", "10"), Versions::kOlder);
  EXPECT_EQ(Compare("10", "7"), Versions::kNewer);
  EXPECT_EQ(Compare("-3", "-2"), Versions::kOlder);
  // As doubles these two are one.
  EXPECT_EQ(Compare("18446744073709551617", "18446744073709551616"), Versions::kNewer);
  EXPECT_EQ(Compare(R"("7")", "7"), Versions::kSame) << "a message's 64-bit integer is a text in JSON";
}

TEST(VersionsTest, WhatIsNoIntegerSaysNothing) {
  for (const char* none : {"null", "true", "1.5", "1e3", "7.0", "\"\"", "\"-\"", "\"7a\"", "\"007\"", "[7]", "{}"}) {
    EXPECT_EQ(Compare(none, "7"), Versions::kUnknown) << none;
    EXPECT_EQ(Compare("7", none), Versions::kUnknown) << none;
    EXPECT_EQ(Compare(none, none), Versions::kUnknown) << none;
  }
}

TEST(VersionsTest, WithoutAVersionOnBothSidesNothingIsKnown) {
  const Comparison difference = Differing({": missing"});
  EXPECT_EQ(CompareVersions("", Row("7"), "/meta/v", difference), Versions::kUnknown) << "not found";
  EXPECT_EQ(CompareVersions(Row("7"), "", "/meta/v", difference), Versions::kUnknown);
  EXPECT_EQ(CompareVersions(R"({"price":1})", Row("7"), "/meta/v", difference), Versions::kUnknown);
  EXPECT_EQ(CompareVersions(Row("7"), Row("7"), "", difference), Versions::kUnknown) << "not declared";
}

TEST(VersionsTest, AnotherShapeUnderTheSameVersionMayBeAnotherProgramsOfTheSameRow) {
  const Comparison shape = Differing({"/discount: missing", "/price: type"});
  EXPECT_EQ(CompareVersions(Row("7"), Row("7"), "/meta/v", shape), Versions::kUnknown);
  EXPECT_EQ(CompareVersions(Row("8"), Row("7"), "/meta/v", shape), Versions::kNewer);
  EXPECT_EQ(CompareVersions(Row("7"), Row("7"), "/meta/v", Differing({"/price: value", "/discount: missing"})),
            Versions::kSame);
}

}  // namespace
}  // namespace shadowline::diff
