// Somebody else's answers: what names its owner, and what others were told.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "diff/verdict/owner.h"
#include "diff/verdict/strangers.h"

namespace shadowline::diff {
namespace {

// ---- The owner that an answer names ----

TEST(OwnerTest, IsWhatThePointerLeadsTo) {
  EXPECT_EQ(TextsAt(R"({"account":{"tenant":"acme"}})", "/account/tenant"), std::set<std::string>{"acme"});
  EXPECT_EQ(TextsAt(R"({"a/b":{"~":7}})", "/a~1b/~0"), std::set<std::string>{"7"});
  EXPECT_EQ(TextsAt(R"(["x",{"t":"acme"},{"t":"globex"},{"t":null},{}])", "/*/t"),
            (std::set<std::string>{"acme", "globex"}));
  EXPECT_EQ(TextsAt(R"([{"t":"a"},{"t":"b"}])", "/1/t"), std::set<std::string>{"b"});
  for (const char* none : {"[]", "{", "\"acme\"", R"({"t":{"t":"acme"}})"})
    EXPECT_TRUE(TextsAt(none, "/t").empty()) << none;
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

// Knows enough of the endpoint's other answers to tell that they are not alike.
class StrangersTest : public testing::Test {
 protected:
  explicit StrangersTest(Strangers::Options options = {}) : strangers_(options) { HearOthers(absl::ZeroDuration()); }

  void HearOthers(absl::Duration now, uint64_t from = 1'000, uint64_t answers = 20) {
    for (uint64_t i = from; i < from + answers; ++i) {
      strangers_.Heard({.endpoint = 1, .tenant = 9, .identity = 1, .parameters = i}, Long(i), now);
    }
  }
  Stranger Whose(const Question& question, Said served, absl::Duration now) {
    return strangers_.Whose(question, served, now).stranger;
  }

  Strangers strangers_;
};

TEST_F(StrangersTest, AnswersOfOthersAreRecognisedAndSinceWhenTheyHadThem) {
  strangers_.Heard(kGlobex, Long(1), absl::Seconds(1));
  strangers_.Heard(kGlobex, Long(1), absl::Seconds(2));
  strangers_.Heard(kViewer, Long(2), absl::Seconds(2));
  strangers_.Heard(kOther, Long(3), absl::Seconds(3));
  EXPECT_EQ(Whose(kAcme, Long(1), absl::Seconds(4)), Stranger::kAnotherTenant);
  EXPECT_EQ(strangers_.Whose(kAcme, Long(1), absl::Seconds(4)).since, absl::Seconds(1));
  EXPECT_EQ(Whose(kAcme, Long(2), absl::Seconds(4)), Stranger::kAnotherIdentity);
  EXPECT_EQ(Whose(kAcme, Long(3), absl::Seconds(4)), Stranger::kOtherParameters);
  EXPECT_EQ(Whose(kAcme, Long(4), absl::Seconds(4)), Stranger::kNobody);
  const Question elsewhere{.endpoint = 2, .tenant = 1, .identity = 1, .parameters = 1};
  EXPECT_EQ(Whose(elsewhere, Long(1), absl::Seconds(4)), Stranger::kNobody);
}

TEST_F(StrangersTest, WhatManyAreToldIsNobodys) {
  strangers_.Heard(kGlobex, Long(1), absl::ZeroDuration());
  strangers_.Heard(kViewer, Long(1), absl::ZeroDuration());
  EXPECT_EQ(Whose(kAcme, Long(1), absl::Seconds(1)), Stranger::kNobody);
}

TEST_F(StrangersTest, WhereAnswersAreOftenSharedNoneIsRecognised) {
  strangers_.Heard(kGlobex, Long(1), absl::ZeroDuration());
  EXPECT_EQ(Whose(kAcme, Long(1), absl::ZeroDuration()), Stranger::kAnotherTenant);
  for (uint64_t i = 1'000; i < 1'003; ++i) strangers_.Heard(kViewer, Long(i), absl::ZeroDuration());
  EXPECT_EQ(Whose(kAcme, Long(1), absl::ZeroDuration()), Stranger::kNobody);
}

TEST(FewStrangersTest, OfAnEndpointOfWhichLittleIsKnownNoneIsRecognised) {
  Strangers strangers;
  strangers.Heard(kGlobex, Long(1), absl::ZeroDuration());
  EXPECT_EQ(strangers.Whose(kAcme, Long(1), absl::ZeroDuration()).stranger, Stranger::kNobody);
}

TEST_F(StrangersTest, WhatOneWasToldBeforeIsOnesOwn) {
  strangers_.Heard(kAcme, Long(1), absl::ZeroDuration());
  EXPECT_EQ(Whose(kAcme, Long(1), absl::Seconds(1)), Stranger::kNobody);
  strangers_.Heard(kGlobex, Long(1), absl::Seconds(2));
  EXPECT_EQ(Whose(kAcme, Long(1), absl::Seconds(3)), Stranger::kNobody);
}

TEST_F(StrangersTest, AShortAnswerIsNobodys) {
  strangers_.Heard(kGlobex, {1, 2}, absl::ZeroDuration());
  EXPECT_EQ(Whose(kAcme, {1, 2}, absl::ZeroDuration()), Stranger::kNobody);
}

TEST_F(StrangersTest, IsForgottenInTimeAndRememberedWhereItIsSaidAgain) {
  for (int minute = 0; minute <= 8; ++minute) strangers_.Heard(kGlobex, Long(1), absl::Minutes(minute));
  HearOthers(absl::Minutes(14), 2'000);
  EXPECT_EQ(Whose(kAcme, Long(1), absl::Minutes(14)), Stranger::kAnotherTenant);
  EXPECT_EQ(Whose(kAcme, Long(1), absl::Minutes(19)), Stranger::kNobody);
}

class FullStrangersTest : public StrangersTest {
 protected:
  FullStrangersTest() : StrangersTest({.answers_max = 20}) {}
};

TEST_F(FullStrangersTest, WhatWasHeardFirstMakesRoom) {
  for (uint64_t answer = 1; answer <= 25; ++answer) strangers_.Heard(kGlobex, Long(answer), absl::ZeroDuration());
  EXPECT_EQ(Whose(kAcme, Long(1), absl::ZeroDuration()), Stranger::kNobody);
  EXPECT_EQ(Whose(kAcme, Long(25), absl::ZeroDuration()), Stranger::kAnotherTenant);
}

}  // namespace
}  // namespace shadowline::diff
