// Somebody else's answers: what names its owner, and what others were told.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "diff/verdict/owner.h"
#include "diff/verdict/strangers.h"

namespace shadowline::diff {
namespace {

// ---- The owner that an answer names ----

TEST(OwnerTest, IsWhatThePointerLeadsTo) {
  EXPECT_EQ(OwnersIn(R"({"account":{"tenant":"acme"}})", "/account/tenant"), std::set<std::string>{"acme"});
  EXPECT_EQ(OwnersIn(R"({"a/b":{"~":7}})", "/a~1b/~0"), std::set<std::string>{"7"});
  EXPECT_EQ(OwnersIn(R"(["x",{"t":"acme"},{"t":"globex"},{"t":null},{}])", "/*/t"),
            (std::set<std::string>{"acme", "globex"}));
  EXPECT_EQ(OwnersIn(R"([{"t":"a"},{"t":"b"}])", "/1/t"), std::set<std::string>{"b"});
  for (const char* none : {"[]", "{", "\"acme\"", R"({"t":{"t":"acme"}})"})
    EXPECT_TRUE(OwnersIn(none, "/t").empty()) << none;
}

TEST(OwnerTest, AnotherIsOneThatNeitherTheRequestNorTheDatabaseNames) {
  const auto named = [](const char* tenant) { return absl::StrCat(R"({"t":")", tenant, R"("})"); };
  EXPECT_TRUE(NamesAnother(named("globex"), named("acme"), "/t", "acme"));
  EXPECT_TRUE(NamesAnother(named("globex"), "", "/t", "acme")) << "the database has no row";
  EXPECT_FALSE(NamesAnother(named("acme"), named("acme"), "/t", "acme"));
  // The declaration is wrong, or the tenant has another name there: that is no leak.
  EXPECT_FALSE(NamesAnother(named("7"), named("7"), "/t", "acme"));
  EXPECT_FALSE(NamesAnother("{}", named("acme"), "/t", "acme"));
}

// ---- What others were told ----

constexpr Question kAcme{.endpoint = 1, .tenant = 1, .identity = 1, .parameters = 1};
constexpr Question kGlobex{.endpoint = 1, .tenant = 2, .identity = 1, .parameters = 1};
constexpr Question kViewer{.endpoint = 1, .tenant = 1, .identity = 2, .parameters = 1};
constexpr Question kOther{.endpoint = 1, .tenant = 1, .identity = 1, .parameters = 2};

Said Long(uint64_t digest) { return {digest, 100}; }

TEST(StrangersTest, AnswersOfOthersAreRecognised) {
  Strangers strangers;
  strangers.Heard(kGlobex, Long(1), absl::ZeroDuration());
  strangers.Heard(kViewer, Long(2), absl::ZeroDuration());
  strangers.Heard(kOther, Long(3), absl::ZeroDuration());
  EXPECT_EQ(strangers.Whose(kAcme, Long(1), absl::Seconds(1)), Stranger::kAnotherTenant);
  EXPECT_EQ(strangers.Whose(kAcme, Long(2), absl::Seconds(1)), Stranger::kAnotherIdentity);
  EXPECT_EQ(strangers.Whose(kAcme, Long(3), absl::Seconds(1)), Stranger::kOtherParameters);
  EXPECT_EQ(strangers.Whose(kAcme, Long(4), absl::Seconds(1)), Stranger::kNobody);
  const Question elsewhere{.endpoint = 2, .tenant = 1, .identity = 1, .parameters = 1};
  EXPECT_EQ(strangers.Whose(elsewhere, Long(1), absl::Seconds(1)), Stranger::kNobody);
}

TEST(StrangersTest, WhatManyAreToldIsNobodys) {
  Strangers strangers;
  strangers.Heard(kGlobex, Long(1), absl::ZeroDuration());
  strangers.Heard(kViewer, Long(1), absl::ZeroDuration());
  EXPECT_EQ(strangers.Whose(kAcme, Long(1), absl::Seconds(1)), Stranger::kNobody);
}

TEST(StrangersTest, WhatOneWasToldBeforeIsOnesOwn) {
  Strangers strangers;
  strangers.Heard(kAcme, Long(1), absl::ZeroDuration());
  EXPECT_EQ(strangers.Whose(kAcme, Long(1), absl::Seconds(1)), Stranger::kNobody);
  strangers.Heard(kGlobex, Long(1), absl::Seconds(2));
  EXPECT_EQ(strangers.Whose(kAcme, Long(1), absl::Seconds(3)), Stranger::kNobody);
}

TEST(StrangersTest, AShortAnswerIsNobodys) {
  Strangers strangers;
  strangers.Heard(kGlobex, {1, 2}, absl::ZeroDuration());
  EXPECT_EQ(strangers.Whose(kAcme, {1, 2}, absl::ZeroDuration()), Stranger::kNobody);
}

TEST(StrangersTest, IsForgottenInTimeAndRememberedWhereItIsSaidAgain) {
  Strangers strangers({.remembered = absl::Seconds(10)});
  for (int second = 0; second <= 8; ++second) strangers.Heard(kGlobex, Long(1), absl::Seconds(second));
  EXPECT_EQ(strangers.Whose(kAcme, Long(1), absl::Seconds(14)), Stranger::kAnotherTenant);
  EXPECT_EQ(strangers.Whose(kAcme, Long(1), absl::Seconds(19)), Stranger::kNobody);
}

TEST(StrangersTest, WhatWasHeardFirstMakesRoom) {
  Strangers strangers({.answers_max = 3});
  for (uint64_t answer = 1; answer <= 5; ++answer) strangers.Heard(kGlobex, Long(answer), absl::ZeroDuration());
  EXPECT_EQ(strangers.Whose(kAcme, Long(1), absl::ZeroDuration()), Stranger::kNobody);
  EXPECT_EQ(strangers.Whose(kAcme, Long(5), absl::ZeroDuration()), Stranger::kAnotherTenant);
}

}  // namespace
}  // namespace shadowline::diff
