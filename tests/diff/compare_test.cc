// What the comparison calls the same, what it calls different, and what it says about it.
#include "diff/compare/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "diff/compare/json.h"
#include "diff/compare/redact.h"

namespace shadowline::diff {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;
using Verdict = Comparison::Verdict;

CompiledRules Compiled(const Rules& rules) {
  absl::StatusOr<CompiledRules> compiled = CompiledRules::Compile(rules);
  EXPECT_TRUE(compiled.ok()) << compiled.status();
  return compiled.ok() ? *compiled : CompiledRules();
}

Comparison Judge(absl::string_view control, absl::string_view candidate, const Rules& rules = {}) {
  return Compare({true, control}, {true, candidate}, Compiled(rules));
}

// "pointer kind control candidate", in the order found.
std::vector<std::string> Found(const Comparison& comparison) {
  std::vector<std::string> found;
  for (const Difference& difference : comparison.differences) {
    found.push_back(absl::StrCat(difference.pointer, " ", KindName(difference.kind), " ", difference.control, " ",
                                 difference.candidate));
  }
  return found;
}

TEST(CompareTest, EqualByValueNeedsNoRule) {
  const std::vector<std::pair<const char*, const char*>> pairs = {
      {R"({"a":1,"b":[true,null,"x"]})", R"( { "b" : [ true , null , "x" ] , "a" : 1 } )"},
      {R"("Ö\n\/")", R"("\u00d6\u000a/")"},
      {R"("😀")", R"("\ud83d\ude00")"},
      {"0", "-0"},
      {"0e5", "0.000"},
      {"1", "1.0"},
      {"100", "1E+2"},
      {"0.001", "1e-3"},
      {"1e999999999", "10e999999998"},
      {"1e-999999999999999999999", "0.1e-999999999999999999998"},
      {"123456789012345678901234567890.10", "123456789012345678901234567890.1"},
      {R"({"b":1,"a":1,"":2})", R"({"":2,"a":1,"b":1})"},
  };
  for (const auto& [a, b] : pairs) {
    const Comparison result = Judge(a, b);
    EXPECT_EQ(result.verdict, Verdict::kEqual) << a << " | " << b;
    EXPECT_THAT(result.excuses, IsEmpty());
  }
}

TEST(CompareTest, NumbersThatDoublesConfuseDiffer) {
  const std::vector<std::pair<const char*, const char*>> pairs = {
      {"9007199254740993", "9007199254740992"},
      {"0.1", "0.1000000000000000055511151231257827"},
      {"1e400", "1e401"},
      {"1e999999999", "1e999999998"},
      {"1", "-1"},
      {"1e-400", "0"},
      {"1e9999999999999999999999999999999999999999", "2e9999999999999999999999999999999999999999"},
  };
  for (const auto& [a, b] : pairs) {
    EXPECT_THAT(Found(Judge(a, b)), ElementsAre(absl::StrCat(" value ", a, " ", b)));
  }
}

TEST(CompareTest, DifferencesSayWhereAndWhat) {
  const Comparison result = Judge(R"({"a":1,"b":{"c":"x","gone":null},"d/e~":[1,2],"t":1})",
                                  R"({"a":2,"b":{"c":"x","new":[]},"d/e~":[1,3],"t":"1"})");
  EXPECT_EQ(result.verdict, Verdict::kDiffer);
  EXPECT_THAT(Found(result), ElementsAre("/a value 1 2", "/b/gone missing null ", "/b/new extra  []",
                                         "/d~1e~0/1 value 2 3", "/t type 1 \"1\""));
  EXPECT_THAT(result.patterns,
              ElementsAre("/a: value", "/b/gone: missing", "/b/new: extra", "/d~1e~0/*: value", "/t: type"));
  EXPECT_EQ(result.differences_total, 5u);
}

TEST(CompareTest, ListsSayWhatWasPutInTakenOutOrReordered) {
  EXPECT_THAT(Found(Judge("[1,2,3]", "[3,1,2]")), ElementsAre(" order [1,2,3] [3,1,2]"));
  EXPECT_THAT(Found(Judge("[1,2,3]", "[1,2,3,4]")), ElementsAre(" length [1,2,3] [1,2,3,4]", "/3 extra  4"));
  EXPECT_THAT(Found(Judge("[1,2,3]", "[2,3]")), ElementsAre(" length [1,2,3] [2,3]", "/0 missing 1 "));
  EXPECT_THAT(Found(Judge("[1,2,3]", "[]")),
              ElementsAre(" length [1,2,3] []", "/0 missing 1 ", "/1 missing 2 ", "/2 missing 3 "));
  EXPECT_THAT(Found(Judge("[1,1]", "[1]")), ElementsAre(" length [1,1] [1]", "/1 missing 1 "));
}

TEST(CompareTest, NotFoundAgainstARowIsADifference) {
  const CompiledRules rules;
  const Comparison missing = Compare({true, "{}"}, {false, ""}, rules);
  EXPECT_THAT(Found(missing), ElementsAre(" missing {} "));
  EXPECT_THAT(missing.patterns, ElementsAre(": missing"));
  EXPECT_THAT(Found(Compare({false, ""}, {true, "{}"}, rules)), ElementsAre(" extra  {}"));
  EXPECT_EQ(Compare({false, ""}, {false, ""}, rules).verdict, Verdict::kEqual);
}

TEST(CompareTest, ABadCandidateIsAShapeDifferenceAndABadControlIsAnError) {
  const std::string deep = std::string(kMaxJsonDepth + 1, '[') + std::string(kMaxJsonDepth + 1, ']');
  const std::vector<std::string> bad = {
      "",
      "{",
      "[1,]",
      "nul",
      R"({"a":1,"a":1})",
      R"({"a":1,"\u0061":2})",
      R"("\ud800")",
      R"("\udc00")",
      R"("\ud800\u0041")",
      "\"\xff\"",
      "\xef\xbb\xbf{}",
      "[1] 2",
      "01",
      "1.",
      "+1",
      "NaN",
      "\"\t\"",
      deep,
  };
  for (const std::string& text : bad) {
    const Comparison shape = Judge("[]", text);
    EXPECT_EQ(shape.verdict, Verdict::kDiffer) << text.substr(0, 40);
    EXPECT_THAT(shape.patterns, ElementsAre(": shape"));
    EXPECT_THAT(shape.error, HasSubstr("expected"));
    const Comparison error = Judge(text, "[]");
    EXPECT_EQ(error.verdict, Verdict::kError) << text.substr(0, 40);
    EXPECT_THAT(error.error, HasSubstr("expected"));
    EXPECT_FALSE(CheckJson(text).ok());
  }
  EXPECT_TRUE(CheckJson(std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']')).ok());
}

TEST(CompareTest, TheDeepestTextsAreWalkedUnderRules) {
  const auto nested = [](const std::string& inner) {
    std::string text;
    for (int i = 0; i < kMaxJsonDepth / 2; ++i) text += "[{\"a\":";
    text += inner;
    for (int i = 0; i < kMaxJsonDepth / 2; ++i) text += "}]";
    return text;
  };
  const Comparison result = Judge(nested("1"), nested("2"), {.ignore = {"$..b"}, .arrays = {{"*", "multiset"}}});
  EXPECT_EQ(result.verdict, Verdict::kDiffer);
  EXPECT_EQ(result.differences_total, 1u);
  EXPECT_EQ(Judge(nested("1"), nested("2"), {.tolerance = {{"$..a", "1", ""}}}).verdict, Verdict::kExcused);
}

TEST(CompareTest, IgnoredPlacesAreExcusedOnlyWhereTheyDiffer) {
  const Rules rules = {.ignore = {"$.at", "/lines/*/id"}};
  EXPECT_EQ(Judge(R"({"at":1,"v":1})", R"({"v":1.0,"at":1})", rules).verdict, Verdict::kEqual);
  const Comparison excused =
      Judge(R"({"at":1,"lines":[{"id":1,"n":1},{"id":2,"n":2}]})", R"({"lines":[{"id":7,"n":1},{"n":2}]})", rules);
  EXPECT_EQ(excused.verdict, Verdict::kExcused);
  EXPECT_THAT(excused.excuses, ElementsAre(Pair("ignore $.at", 1), Pair("ignore /lines/*/id", 2)));
  EXPECT_EQ(Judge(R"({"x":{"at":1}})", R"({"x":{"at":2}})", rules).verdict, Verdict::kDiffer);
}

TEST(CompareTest, PathsReachWhereTheySay) {
  const auto ignored = [](const std::string& path, absl::string_view a, absl::string_view b) {
    return Judge(a, b, {.ignore = {path}}).verdict == Verdict::kExcused;
  };
  EXPECT_TRUE(ignored("$", "1", "2"));
  EXPECT_TRUE(ignored("*", "1", "2"));
  EXPECT_TRUE(ignored("$.a.b", R"({"a":{"b":1}})", R"({"a":{"b":2}})"));
  EXPECT_TRUE(ignored("$['a']['b']", R"({"a":{"b":1}})", R"({"a":{"b":2}})"));
  EXPECT_TRUE(ignored("$['it\\'s']", R"({"it's":1})", R"({"it's":2})"));
  EXPECT_TRUE(ignored("$[0].b", R"([{"b":1}])", R"([{"b":2}])"));
  EXPECT_FALSE(ignored("$[1].b", R"([{"b":1}])", R"([{"b":2}])"));
  EXPECT_FALSE(ignored("$[0]", R"({"0":1})", R"({"0":2})"));
  EXPECT_TRUE(ignored("/0", R"({"0":1})", R"({"0":2})"));
  EXPECT_TRUE(ignored("/0", "[1]", "[2]"));
  EXPECT_TRUE(ignored("$[*].b", R"([{"b":1},{"b":1}])", R"([{"b":2},{"b":1}])"));
  EXPECT_TRUE(ignored("$.*.b", R"({"x":{"b":1}})", R"({"x":{"b":2}})"));
  EXPECT_TRUE(ignored("$..b", R"({"x":[{"b":1}],"b":1})", R"({"x":[{"b":2}],"b":3})"));
  EXPECT_TRUE(ignored("$..a..b", R"({"a":{"a":{"c":{"b":1}}}})", R"({"a":{"a":{"c":{"b":2}}}})"));
  EXPECT_FALSE(ignored("$..a.b", R"({"a":{"c":{"b":1}}})", R"({"a":{"c":{"b":2}}})"));
  EXPECT_TRUE(ignored("/a~1b/m~0n", R"({"a/b":{"m~n":1}})", R"({"a/b":{"m~n":2}})"));
}

TEST(CompareTest, APathThatIsNotUnderstoodIsRefusedWithItsName) {
  for (const char* path :
       {"", "a", "a.b", "$a", "$.", "$[", "$['a'", "$[01]", "$...a", "/a~2", "/a~", "$[\"a]", "$[?@.a ==]", "\xff"}) {
    const auto compiled = CompiledRules::Compile({.ignore = {path}});
    ASSERT_FALSE(compiled.ok()) << path;
    EXPECT_EQ(compiled.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(compiled.status().message()), HasSubstr("ignore: "));
    EXPECT_THAT(std::string(compiled.status().message()), HasSubstr("expected"));
  }
  EXPECT_FALSE(CompiledRules::Compile({.arrays = {{"$.a", "set"}}}).ok());
  EXPECT_FALSE(CompiledRules::Compile({.arrays = {{"$.a", "keyed:"}}}).ok());
  EXPECT_FALSE(CompiledRules::Compile({.tolerance = {{"$.a", "", ""}}}).ok());
  EXPECT_FALSE(CompiledRules::Compile({.tolerance = {{"$.a", "-1", ""}}}).ok());
  EXPECT_FALSE(CompiledRules::Compile({.tolerance = {{"$.a", "0.1x", ""}}}).ok());
  EXPECT_FALSE(CompiledRules::Compile({.ignore = std::vector<std::string>(300, "$.a")}).ok());
}

TEST(CompareTest, WhatAQueryLocatesInEitherAnswerIsIgnored) {
  const Rules rules = {.ignore = {"$.rows[?@.state=='draft'].note"}};
  const char* control = R"({"rows":[{"state":"draft","note":1},{"state":"final","note":1}]})";
  const Comparison excused =
      Judge(control, R"({"rows":[{"state":"draft","note":2},{"state":"final","note":1}]})", rules);
  EXPECT_EQ(excused.verdict, Verdict::kExcused);
  EXPECT_THAT(excused.excuses, ElementsAre(Pair("ignore $.rows[?@.state=='draft'].note", 1)));
  EXPECT_EQ(Judge(control, R"({"rows":[{"state":"draft"},{"state":"final","note":1.0}]})", rules).verdict,
            Verdict::kExcused);
  EXPECT_THAT(Found(Judge(control, R"({"rows":[{"state":"draft","note":1},{"state":"final","note":2}]})", rules)),
              ElementsAre("/rows/1/note value 1 2"));
  // A member is one place: located in one answer is enough.
  EXPECT_THAT(Found(Judge(control, R"({"rows":[{"state":"sent","note":2},{"state":"final","note":1}]})", rules)),
              ElementsAre(R"(/rows/0/state value "draft" "sent")"));
  EXPECT_EQ(Judge(R"({"a":1,"b":2,"c":3})", R"({"a":9,"b":8,"c":3})", {.ignore = {"$['a','b']"}}).verdict,
            Verdict::kExcused);
  EXPECT_EQ(Judge(R"([{"a":1},{"b":1}])", R"([{"b":1},{"a":2}])", {.ignore = {"$[?@.a]"}}).verdict, Verdict::kExcused);
}

TEST(CompareTest, ItemsThatAQueryLocatesAreTakenOutOfEachListBeforeTheyAreLinedUp) {
  const Rules drafts = {.ignore = {"$[?@.draft]"}};
  const Comparison excused = Judge(R"([{"draft":1},{"id":1},{"draft":2},{"id":2}])", R"([{"id":1},{"id":2}])", drafts);
  EXPECT_EQ(excused.verdict, Verdict::kExcused);
  EXPECT_THAT(excused.excuses, ElementsAre(Pair("ignore $[?@.draft]", 2)));
  // Each stands where its document has it, and no draft hides another item.
  EXPECT_THAT(Found(Judge(R"([{"draft":1},{"id":1}])", R"([{"id":2},{"draft":1}])", drafts)),
              ElementsAre("/1/id value 1 2"));
  EXPECT_THAT(
      Found(Judge(R"([{"id":1},{"draft":1}])", R"([{"draft":1},{"id":1},{"id":3}])", drafts)),
      ElementsAre(R"( length [{"id":1},{"draft":1}] [{"draft":1},{"id":1},{"id":3}])", R"(/2 extra  {"id":3})"));
  const Rules last = {.ignore = {"$[-1]"}};
  EXPECT_EQ(Judge("[1,2,3]", "[1,2,9]", last).verdict, Verdict::kExcused);
  EXPECT_EQ(Judge("[1,2,3]", "[1,2,3,4]", last).verdict, Verdict::kDiffer);
  EXPECT_EQ(Judge("[1,2,3]", "[1,5,6]", {.ignore = {"$[1:]"}}).verdict, Verdict::kExcused);
  // Rules for other items count them where they were.
  EXPECT_EQ(Judge("[0,0,5]", "[9,0,6]", {.ignore = {"$[:2]"}, .tolerance = {{"$[2]", "1", ""}}}).verdict,
            Verdict::kExcused);
}

TEST(CompareTest, InAMultisetAnIgnoredItemStandsForNoOther) {
  const Rules rules = {.ignore = {"$[?@.draft]"}, .arrays = {{"$", "multiset"}}};
  EXPECT_EQ(Judge(R"([{"id":1},{"draft":1},{"id":2}])", R"([{"id":2},{"id":1}])", rules).verdict, Verdict::kExcused);
  EXPECT_THAT(Found(Judge(R"([{"id":1},{"draft":1}])", R"([{"id":3},{"id":1}])", rules)),
              ElementsAre(R"(/0 extra  {"id":3})"));
  EXPECT_EQ(Judge(R"([[{"draft":1},1],[2]])", R"([[2],[1,{"draft":7}]])",
                  {.ignore = {"$[*][?@.draft]"}, .arrays = {{"$", "multiset"}}})
                .verdict,
            Verdict::kExcused);
}

TEST(CompareTest, InAKeyedArrayAnItemIsAPlaceThatIsIgnoredWhenEitherSideLocatesIt) {
  const Rules rules = {.ignore = {"$[?@.draft]"}, .arrays = {{"$", "keyed:id"}}};
  EXPECT_EQ(Judge(R"([{"id":1,"draft":1},{"id":2}])", R"([{"id":2},{"id":1,"v":7}])", rules).verdict,
            Verdict::kExcused);
  EXPECT_EQ(Judge(R"([{"id":1,"draft":1},{"id":2}])", R"([{"id":2}])", rules).verdict, Verdict::kExcused);
  EXPECT_EQ(Judge(R"([{"id":1,"draft":1},{"id":2}])", R"([{"id":2,"v":1},{"id":1}])", rules).verdict, Verdict::kDiffer);
}

TEST(CompareTest, AQueryThatTakesTooLongIsAnErrorAndNoExcuse) {
  std::string text = "[";
  for (int i = 0; i < 5'000; ++i) absl::StrAppend(&text, "[", i, "],");
  const Comparison result = Judge(text + "1]", text + "2]", {.ignore = {"$[?count($..*) > 0]"}});
  EXPECT_EQ(result.verdict, Verdict::kError);
  EXPECT_EQ(result.error,
            "ignore $[?count($..*) > 0]: it takes too many steps; expected a path that looks at fewer values");
}

TEST(CompareTest, RulesThatContradictEachOtherAreRefusedByName) {
  const auto refusal = [](const Rules& rules) { return std::string(CompiledRules::Compile(rules).status().message()); };
  EXPECT_EQ(refusal({.arrays = {{"$.a", "list"}, {"/a", "multiset"}}}),
            "arrays $.a list: it contradicts arrays /a multiset; expected one of them");
  EXPECT_EQ(refusal({.arrays = {{"$.a", "keyed:x"}, {"$['a']", "keyed:y"}}}),
            "arrays $.a keyed:x: it contradicts arrays $['a'] keyed:y; expected one of them");
  EXPECT_EQ(refusal({.ignore = {"$"}, .instants = {"$.at"}}),
            "ignore $: it excuses everything, beside instants $.at; expected one without the other");
  EXPECT_EQ(refusal({.ignore = {"$.a", "*"}}),
            "ignore *: it excuses everything, beside ignore $.a; expected one without the other");
  EXPECT_TRUE(CompiledRules::Compile({.ignore = {"$"}}).ok());
  EXPECT_TRUE(CompiledRules::Compile({.arrays = {{"*", "multiset"}, {"$.a", "list"}, {"/a", "list"}}}).ok());
}

TEST(CompareTest, OnlyIgnoreTakesPathsThatNeedTheDocument) {
  for (const Rules& rules :
       {Rules{.arrays = {{"$[?@.a]", "multiset"}}}, Rules{.tolerance = {{"$[-1]", "1", ""}}},
        Rules{.instants = {"$['a','b']"}}, Rules{.null_is_absent = {"$[0:1]"}}, Rules{.extensible = {"$[?@]"}}}) {
    EXPECT_THAT(std::string(CompiledRules::Compile(rules).status().message()), HasSubstr("are for ignore"));
  }
}

TEST(CompareTest, RulesThatIgnoreEverythingCompareNothing) {
  for (const char* everything : {"$", "$.*", "$[\"a\", \"b\"]"}) {
    const Comparison nothing = Judge(R"({"a":1,"b":[2]})", R"({"a":3,"b":[2]})", {.ignore = {everything}});
    EXPECT_EQ(nothing.verdict, Verdict::kExcused) << everything;
    EXPECT_FALSE(nothing.compared) << everything;
  }
  EXPECT_TRUE(Judge(R"({"a":1,"b":[2]})", R"({"a":3,"b":[2]})", {.ignore = {"$.a"}}).compared);
  EXPECT_TRUE(Judge(R"({"a":1,"b":[]})", R"({"a":3,"b":[]})", {.ignore = {"$.a"}}).compared);
  EXPECT_FALSE(Judge("[1]", "[2]", {.ignore = {"$[*]"}}).compared);
  EXPECT_TRUE(Judge("[1,2]", "[2,1]", {.arrays = {{"$", "multiset"}}}).compared);
}

TEST(CompareTest, MultisetsAreEqualInAnyOrderButNotInAnyNumber) {
  const Rules rules = {.arrays = {{"$.tags", "multiset"}}};
  const Comparison permuted =
      Judge(R"({"tags":[1,"a",{"x":1,"y":[1,2]}]})", R"({"tags":[{"y":[1,2],"x":1.0},1,"a"]})", rules);
  EXPECT_EQ(permuted.verdict, Verdict::kExcused);
  EXPECT_THAT(permuted.excuses, ElementsAre(Pair("arrays $.tags multiset", 1)));
  EXPECT_EQ(Judge(R"({"tags":[1,2]})", R"({"tags":[1,2.0]})", rules).verdict, Verdict::kEqual);
  EXPECT_THAT(Found(Judge(R"({"tags":[1,1,2]})", R"({"tags":[2,1,2]})", rules)), ElementsAre("/tags/1 value 1 2"));
  EXPECT_THAT(Found(Judge(R"({"tags":[1,2,3]})", R"({"tags":[3]})", rules)),
              ElementsAre("/tags/0 missing 1 ", "/tags/1 missing 2 "));
  EXPECT_EQ(Judge(R"({"x":[1,2]})", R"({"x":[2,1]})", rules).verdict, Verdict::kDiffer);
}

TEST(CompareTest, AMultisetUnderATolerancePicksTheMatchingThatWorks) {
  const Rules rules = {.arrays = {{"*", "multiset"}}, .tolerance = {{"$[*]", "0.1", ""}}};
  // Pairing the equal ones would leave 1.1 and 0.9 over.
  EXPECT_EQ(Judge("[1.0, 1.1]", "[1.0, 0.9]", rules).verdict, Verdict::kExcused);
  EXPECT_EQ(Judge("[1.0, 1.1]", "[1.0, 0.8]", rules).verdict, Verdict::kDiffer);
  EXPECT_EQ(Judge("[1.0, 1.1]", "[1.1, 1.2]", rules).verdict, Verdict::kExcused);
  EXPECT_EQ(Judge("[1.1, 1.0, 1.2]", "[1.2, 1.3, 1.1]", rules).verdict, Verdict::kExcused);
  EXPECT_EQ(Judge("[1.0, 1.0]", "[1.0, 1.2]", rules).verdict, Verdict::kDiffer);
}

TEST(CompareTest, KeyedArraysMatchByTheirFieldAndFallBackToListsWithoutIt) {
  const Rules rules = {.arrays = {{"$", "keyed:id"}}};
  EXPECT_EQ(Judge(R"([{"id":1,"v":1},{"id":2,"v":2}])", R"([{"id":2,"v":2},{"id":1.0,"v":1}])", rules).verdict,
            Verdict::kExcused);
  EXPECT_THAT(Found(Judge(R"([{"id":1,"v":1},{"id":2,"v":2}])", R"([{"id":3,"v":3},{"id":1,"v":9}])", rules)),
              UnorderedElementsAre("/0/v value 1 9", R"(/1 missing {"id":2,"v":2} )", R"(/0 extra  {"id":3,"v":3})"));
  EXPECT_EQ(Judge(R"([{"id":1},{"id":1,"v":2}])", R"([{"id":1,"v":2},{"id":1}])", rules).verdict, Verdict::kDiffer);
  EXPECT_EQ(Judge(R"([{"id":1},{"v":2}])", R"([{"v":2},{"id":1}])", rules).verdict, Verdict::kDiffer);
}

TEST(CompareTest, ANamedPlaceGoesBeforeEverywhere) {
  const Rules rules = {.arrays = {{"*", "multiset"}, {"$.ranked", "list"}}};
  EXPECT_EQ(Judge(R"({"any":[1,2]})", R"({"any":[2,1]})", rules).verdict, Verdict::kExcused);
  EXPECT_EQ(Judge(R"({"ranked":[1,2]})", R"({"ranked":[2,1]})", rules).verdict, Verdict::kDiffer);
}

TEST(CompareTest, TolerancesAreExact) {
  const auto within = [](absl::string_view a, absl::string_view b, const char* absolute, const char* relative) {
    return Judge(a, b, {.tolerance = {{"$", absolute, relative}}}).verdict == Verdict::kExcused;
  };
  EXPECT_TRUE(within("0.1", "0.2", "0.1", ""));
  EXPECT_TRUE(within("0.3", "0.4", "0.1", ""));  // Not in doubles.
  EXPECT_FALSE(within("0.3", "0.4000000000000000000000000001", "0.1", ""));
  EXPECT_TRUE(within("-1", "1", "2", ""));
  EXPECT_FALSE(within("-1", "1.0000000000000000000000001", "2", ""));
  EXPECT_TRUE(within("1e999999999", "1.0001e999999999", "1e999999995", ""));
  EXPECT_FALSE(within("1e999999999", "1.0001e999999999", "1e999999994", ""));
  EXPECT_FALSE(within("1e999999999", "1", "1", ""));
  EXPECT_TRUE(within("1e-999999999", "0", "1e-999999999", ""));
  EXPECT_FALSE(within("2e-999999999", "0", "1e-999999999", ""));
  EXPECT_TRUE(within("1e999999999", "1000e-999999999", "1e999999999", ""));
  EXPECT_FALSE(within("1e999999999", "-1e-999999999", "1e999999999", ""));
  EXPECT_TRUE(within("100", "101", "", "0.01"));
  EXPECT_FALSE(within("100", "101.02", "", "0.01"));
  EXPECT_TRUE(within("-100", "-99", "", "0.01"));
  EXPECT_FALSE(within("0", "1e-99", "", "0.5"));
  EXPECT_TRUE(within("0", "1e-99", "", "1"));
  EXPECT_TRUE(within("5", "6", "0.1", "0.5"));
  EXPECT_FALSE(within("1", "\"1\"", "5", ""));
}

TEST(CompareTest, HugeNumbersTakeTimeOfTheirTextOnly) {
  const std::string digits(200'000, '7');
  EXPECT_EQ(Judge(digits, digits + ".0").verdict, Verdict::kEqual);
  EXPECT_EQ(Judge(digits + "1", digits + "2", {.tolerance = {{"$", "1", ""}}}).verdict, Verdict::kExcused);
  const std::string exponent = "1e" + std::string(100'000, '9');
  EXPECT_EQ(Judge(exponent, "2" + exponent.substr(1), {.tolerance = {{"$", "1", "0.1"}}}).verdict, Verdict::kDiffer);
}

TEST(CompareTest, InstantsAreOnePointInTimeHoweverWritten) {
  const auto same = [](absl::string_view a, absl::string_view b) {
    return Judge(absl::StrCat("\"", a, "\""), absl::StrCat("\"", b, "\""), {.instants = {"$"}}).verdict ==
           Verdict::kExcused;
  };
  EXPECT_TRUE(same("2022-09-10T16:46:03.905795+00:00", "2022-09-10 12:46:03.905795-04"));
  EXPECT_TRUE(same("2022-09-10T16:46:03Z", "2022-09-10T22:16:03.000+05:30"));
  EXPECT_TRUE(same("2022-09-10T16:46:03Z", "2022-09-10 22:16:03+0530"));
  EXPECT_TRUE(same("2022-12-31T23:30:00-01:00", "2023-01-01T00:30:00Z"));
  EXPECT_TRUE(same("0044-03-15 12:00:00+00 BC", "0044-03-15T12:00:00Z BC"));
  EXPECT_TRUE(same("2022-09-10T16:46:03", "2022-09-10 16:46:03.0"));
  EXPECT_TRUE(same("2018-09-13", "2018-09-13T00:00:00.000Z"));
  EXPECT_TRUE(same("2018-09-13", "2018-09-12 22:00:00-02"));
  EXPECT_FALSE(same("2018-09-13", "2018-09-13T00:00:00"));
  EXPECT_FALSE(same("2018-09-13", "2018-09-13T00:00:00.001Z"));
  EXPECT_FALSE(same("2022-09-10T16:46:03", "2022-09-10T16:46:03Z"));
  EXPECT_FALSE(same("2022-09-10T16:46:03.905795Z", "2022-09-10T16:46:03.905Z"));
  EXPECT_FALSE(same("2022-02-30T00:00:00Z", "2022-03-02T00:00:00Z"));
  EXPECT_FALSE(same("2022-09-10T16:46:03Z", "2022-09-10T16:46:03Z "));
  EXPECT_FALSE(same("infinity", "-infinity"));
  EXPECT_EQ(Judge(R"("2022-09-10T16:46:03Z")", R"("2022-09-10T16:46:03+00:00")").verdict, Verdict::kDiffer);
}

TEST(CompareTest, NullIsAbsentAndExtensibleOnlyWhereDeclared) {
  const Rules rules = {.null_is_absent = {"$.note"}, .extensible = {"$.meta"}};
  EXPECT_EQ(Judge(R"({"note":null})", "{}", rules).verdict, Verdict::kExcused);
  EXPECT_EQ(Judge("{}", R"({"note":null})", rules).verdict, Verdict::kExcused);
  EXPECT_EQ(Judge("{}", R"({"note":0})", rules).verdict, Verdict::kDiffer);
  EXPECT_EQ(Judge(R"({"other":null})", "{}", rules).verdict, Verdict::kDiffer);
  const Comparison more = Judge(R"({"meta":{"a":1}})", R"({"meta":{"a":1,"b":2,"c":3}})", rules);
  EXPECT_EQ(more.verdict, Verdict::kExcused);
  EXPECT_THAT(more.excuses, ElementsAre(Pair("extensible $.meta", 2)));
  EXPECT_EQ(Judge(R"({"meta":{"a":1,"b":2}})", R"({"meta":{"a":1}})", rules).verdict, Verdict::kDiffer);
}

TEST(CompareTest, RulesHoldInsideUnorderedArrays) {
  const Rules rules = {.ignore = {"$[*].at"},
                       .arrays = {{"*", "multiset"}},
                       .instants = {"$[*].t"},
                       .null_is_absent = {"$[*].n"},
                       .extensible = {"$[*].m"}};
  const Comparison result =
      Judge(R"([{"at":1,"t":"2022-01-01T00:00:00Z","n":null,"m":{"a":1},"l":[1,2]},{"at":2,"m":{"a":2}}])",
            R"([{"at":9,"m":{"a":2,"b":1}},{"at":8,"t":"2022-01-01 01:00:00+01","m":{"a":1},"l":[2,1]}])", rules);
  EXPECT_EQ(result.verdict, Verdict::kExcused) << absl::StrJoin(Found(result), "\n");
  EXPECT_THAT(result.excuses,
              UnorderedElementsAre(Pair("ignore $[*].at", 2), Pair("arrays * multiset", 2), Pair("instants $[*].t", 1),
                                   Pair("null_is_absent $[*].n", 1), Pair("extensible $[*].m", 1)));
}

TEST(CompareTest, OutputIsBounded) {
  std::vector<std::string> control, candidate;
  for (int i = 0; i < 1000; ++i) {
    control.push_back(absl::StrCat("\"", std::string(2000, 'x'), "k", i, "\":\"", std::string(5000, 'a'), "\""));
    candidate.push_back(absl::StrCat("\"", std::string(2000, 'x'), "k", i, "\":\"ü", std::string(5000, 'b'), "\""));
  }
  const Comparison result =
      Judge(absl::StrCat("{", absl::StrJoin(control, ","), "}"), absl::StrCat("{", absl::StrJoin(candidate, ","), "}"));
  EXPECT_EQ(result.differences_total, 1000u);
  EXPECT_EQ(result.differences.size(), kMaxDifferences);
  EXPECT_LE(result.patterns.size(), kMaxDifferences);
  for (const Difference& difference : result.differences) {
    EXPECT_LE(difference.pointer.size(), kMaxShownBytes);
    EXPECT_LE(difference.control.size(), kMaxShownBytes);
    EXPECT_LE(difference.candidate.size(), kMaxShownBytes);
  }
}

TEST(CompareTest, LargeTextsThatDifferEverywhereAreCountedAndCut) {
  const auto document = [](char last) {
    std::string text = "{";
    for (int i = 0; text.size() < kMaxJsonBytes - 100; ++i) {
      absl::StrAppend(&text, i > 0 ? "," : "", "\"", i, "\":[", i, ",\"a value of some length ", std::string(1, last),
                      "\"]");
    }
    return text + "}";
  };
  const Comparison result = Judge(document('x'), document('y'));
  EXPECT_EQ(result.verdict, Verdict::kDiffer);
  EXPECT_GT(result.differences_total, 300'000u);
  EXPECT_EQ(result.differences.size(), kMaxDifferences);
  EXPECT_EQ(result.patterns.size(), kMaxDifferences);
}

TEST(CompareTest, WhatIsTooLargeOrTooDeepIsRefused) {
  const std::string large(64 << 20, '[');
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  std::string deep_object;
  for (int i = 0; i < 100'000; ++i) deep_object += "{\"a\":";
  for (const std::string& text : {large, deep, deep_object}) {
    EXPECT_THAT(Judge("[]", text).patterns, ElementsAre(": shape"));
    EXPECT_EQ(Judge(text, "[]").verdict, Verdict::kError);
    EXPECT_EQ(CheckJson(text).code(), absl::StatusCode::kFailedPrecondition);
  }
}

TEST(CompareTest, TextsThatLookTheSameButAreWrittenWithOtherCodePointsDiffer) {
  EXPECT_EQ(Judge("\"\xc3\xa9\"", "\"e\xcc\x81\"").verdict, Verdict::kDiffer);  // NFC and NFD.
  EXPECT_EQ(Judge("{\"\xc3\xa9\":1}", "{\"e\xcc\x81\":1}").differences_total, 2u);
}

TEST(CompareTest, MatchingThatWouldTakeForEverIsAnError) {
  std::vector<std::string> control, candidate;
  for (int i = 0; i < 3000; ++i) {
    control.push_back(absl::StrCat(i * 2));
    candidate.push_back(absl::StrCat(1'000'000 + i * 2));
  }
  const Comparison result =
      Judge(absl::StrCat("[", absl::StrJoin(control, ","), "]"), absl::StrCat("[", absl::StrJoin(candidate, ","), "]"),
            {.arrays = {{"$", "multiset"}}, .tolerance = {{"$[*]", "1", ""}}});
  EXPECT_EQ(result.verdict, Verdict::kError);
  EXPECT_THAT(result.error, HasSubstr("keyed:FIELD"));
}

TEST(CompareTest, ShownTextIsAlwaysStorable) {
  const Comparison result = Judge("{}", std::string("\xff\0x", 3));
  EXPECT_THAT(Found(result), ElementsAre(" shape {} ??x"));
  EXPECT_THAT(Found(Judge("{}", R"({"a\u0000b":"\u0000"})")), ElementsAre(R"(/a\u0000b extra  "\u0000")"));
}

TEST(FingerprintTest, DependsOnEndpointAndPatternsAndIsStable) {
  const std::string one = Fingerprint("pricing/quote", {"/a: value", "/b: extra"});
  EXPECT_EQ(one.size(), 16u);
  EXPECT_EQ(one, Fingerprint("pricing/quote", {"/a: value", "/b: extra"}));
  EXPECT_NE(one, Fingerprint("pricing/other", {"/a: value", "/b: extra"}));
  EXPECT_NE(one, Fingerprint("pricing/quote", {"/a: value"}));
}

TEST(RedactTest, ShowsTypeAndSizeAndRecognisesEqualValues) {
  const Redactor redact("tenant secret");
  EXPECT_EQ(redact("null"), "null");
  EXPECT_THAT(redact("\"Alice\""), HasSubstr("string, 5 bytes, #"));
  EXPECT_THAT(redact("\"Alice\""), testing::Not(HasSubstr("Alice")));
  EXPECT_EQ(redact("\"\\u0041\""), redact("\"A\""));
  EXPECT_EQ(redact("1"), redact("1.0"));
  EXPECT_NE(redact("1"), redact("\"1\""));
  EXPECT_NE(redact("1"), redact("2"));
  EXPECT_NE(redact("1e999999999"), redact("1e999999998"));
  EXPECT_EQ(redact(R"({"a":1,"b":[2]})"), redact(R"({"b":[2],"a":1})"));
  EXPECT_NE(redact(R"(["a","b"])"), redact(R"(["a\",\"b"])"));
  EXPECT_NE(redact("1"), Redactor("another tenant")("1"));
  EXPECT_THAT(redact("garbage"), HasSubstr("not JSON, 7 bytes, #"));
  for (const char* value : {"null", "true", "1", "\"x\"", "[1]", "{}", "garbage"}) {
    EXPECT_TRUE(CheckJson(redact(value)).ok()) << value;
  }
}

TEST(RedactTest, NoValueReachesAComparison) {
  const Comparison result = Compare({true, R"({"ssn":"123-45-6789","l":["123-45-6789"]})"},
                                    {true, R"({"ssn":"987-65-4321","l":["123-45-6789","987-65-4321"]})"},
                                    CompiledRules(), Redactor("secret"));
  ASSERT_EQ(result.differences.size(), 3u);
  for (const Difference& difference : result.differences) {
    EXPECT_FALSE(absl::StrContains(difference.control, "6789")) << difference.control;
    EXPECT_FALSE(absl::StrContains(difference.candidate, "4321")) << difference.candidate;
  }
}

}  // namespace
}  // namespace shadowline::diff
