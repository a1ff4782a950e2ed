// What is kept of a divergence: no value in the clear, whatever the endpoint's policy; what was sealed can be shown and
// read again until it expires.
#include "server/read/keeper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "diff/evidence/record.h"
#include "server/read/replayer.h"
#include "tests/server/read_world.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;
using testing::HasSubstr;
using testing::Not;

constexpr char kRow[] = "CANARY-PARAMETER";

class KeeperTest : public testing::Test {
 protected:
  explicit KeeperTest(ReadWorldOptions options = {}) : w_(std::move(options)) {}

  void WriteCanary(const std::string& value) {
    w_.database.Write(ReadWorld::Row(kRow), absl::StrCat(R"({"price":"CANARY-)", value, R"("})"));
  }
  // A divergence with canaries in its parameter and in both of its values.
  diff::Divergence Diverge() {
    WriteCanary("OLD");
    w_.RouteCache();
    w_.Read(kRow);
    w_.RouteCache(1'000'000);
    WriteCanary("NEW");
    w_.Read(kRow);
    w_.world.RunUntilIdle();
    EXPECT_EQ(w_.divergences.size(), 1u);
    return w_.divergences.back();
  }
  absl::StatusOr<v1::ReplayDivergenceResponse> Replay(const diff::Divergence& divergence) {
    std::optional<absl::StatusOr<v1::ReplayDivergenceResponse>> response;
    replayer_.Replay(divergence,
                     [&](absl::StatusOr<v1::ReplayDivergenceResponse> replayed) { response = std::move(replayed); });
    w_.world.RunUntilIdle();
    EXPECT_TRUE(response.has_value());
    return *std::move(response);
  }
  absl::Time Now() { return w_.world.clock()->Now(); }

  ReadWorld w_;
  const Keeper keeper_{ReadWorld::kSecret, diff::Sealer({ReadWorld::kEvidenceKey})};
  Replayer replayer_{ReadWorld::kSecret,
                     {.board = &w_.board,
                      .catalog = &w_.catalog,
                      .store = &w_.background_store,
                      .control = &w_.verification_control,
                      .executor = w_.world.executor(),
                      .clock = w_.world.clock(),
                      .keeper = &keeper_}};
};

class ShowingTest : public KeeperTest {
 protected:
  ShowingTest() : KeeperTest({.show_values = true}) {}
};

TEST_F(KeeperTest, NoValueIsKeptInTheClear) {
  const diff::Divergence divergence = Diverge();
  EXPECT_THAT(diff::EncodeDivergence(divergence), Not(HasSubstr("CANARY")));
  EXPECT_THAT(divergence.tags[0].first, testing::MatchesRegex("quote:#[0-9a-f]{16}"));
  EXPECT_EQ(divergence.tags[1].first, "tenant") << "what is no parameter is no secret";
  EXPECT_THAT(divergence.cause_evidence, HasSubstr(divergence.tags[0].first));
  EXPECT_EQ(divergence.sealed_until - divergence.confirmed_at, w_.catalog.Current()->endpoints()[0].evidence_ttl);
}

TEST_F(ShowingTest, NorWhereTheEndpointShowsThem) {
  const diff::Divergence divergence = Diverge();
  EXPECT_THAT(diff::EncodeDivergence(divergence), Not(HasSubstr("CANARY")));
}

TEST_F(ShowingTest, WhatWasSealedIsShownUntilItExpires) {
  const diff::Divergence kept = Diverge();
  diff::Divergence shown = kept;
  keeper_.Reveal(Now(), &shown);
  EXPECT_EQ(shown.differences[0].control, R"("CANARY-NEW")");
  EXPECT_EQ(shown.differences[0].candidate, R"("CANARY-OLD")");
  EXPECT_EQ(shown.tags[0].first, "quote:CANARY-PARAMETER");
  EXPECT_THAT(shown.cause_evidence, HasSubstr("quote:CANARY-PARAMETER"));
  shown = kept;
  keeper_.Reveal(kept.sealed_until, &shown);
  EXPECT_EQ(shown.differences[0].control, kept.differences[0].control);
}

TEST_F(ShowingTest, BesideNoiseTheValuesThatAreShownAreThoseOfTheirPlaces) {
  w_.MakeNoise([times = std::make_shared<int>(0)](const std::string& row) {
    return absl::StrCat(R"({"a":)", ++*times, ",", row.substr(1));
  });
  diff::Divergence shown = Diverge();
  keeper_.Reveal(Now(), &shown);
  ASSERT_EQ(shown.differences.size(), 1u);
  EXPECT_EQ(shown.differences[0].pointer, "/price");
  EXPECT_EQ(shown.differences[0].control, R"("CANARY-NEW")");
  EXPECT_EQ(shown.differences[0].candidate, R"("CANARY-OLD")");
}

TEST_F(KeeperTest, WhatWasNotToBeShownIsNot) {
  const diff::Divergence kept = Diverge();
  diff::Divergence shown = kept;
  keeper_.Reveal(Now(), &shown);
  EXPECT_EQ(diff::EncodeDivergence(shown), diff::EncodeDivergence(kept));
}

TEST_F(KeeperTest, EqualValuesOfOneTenantAreRecognisedAndThoseOfTwoAreNot) {
  cache::Query query;
  query.catalog = w_.catalog.Current();
  query.endpoint = &query.catalog->endpoints()[0];
  query.tenant = "acme";
  query.arguments = {kRow};
  const std::string tag = keeper_.RedactedTags(query)[0];
  EXPECT_EQ(keeper_.RedactedTags(query)[0], tag);
  query.tenant = "globex";
  EXPECT_NE(keeper_.RedactedTags(query)[0], tag);
}

TEST_F(KeeperTest, AReplaySaysWhatBothSidesSayNow) {
  const diff::Divergence divergence = Diverge();
  auto replayed = Replay(divergence);
  ASSERT_TRUE(replayed.ok()) << replayed.status();
  EXPECT_EQ(replayed->verdict(), "not_cached") << "it was repaired";
  EXPECT_TRUE(replayed->control_found());
  EXPECT_NE(replayed->control_snapshot(), "");

  w_.RouteCache();
  w_.Read(kRow);
  replayed = Replay(divergence);
  ASSERT_TRUE(replayed.ok()) << replayed.status();
  EXPECT_EQ(replayed->verdict(), "matched");
  EXPECT_FALSE(replayed->same_fill());

  const diff::Counts counted = w_.Counts();
  WriteCanary("NEWER");
  replayed = Replay(divergence);
  ASSERT_TRUE(replayed.ok()) << replayed.status();
  EXPECT_EQ(replayed->verdict(), "differs");
  ASSERT_EQ(replayed->differences_size(), 1);
  EXPECT_EQ(replayed->differences(0).pointer(), "/price");
  EXPECT_THAT(replayed->DebugString(), Not(HasSubstr("CANARY")));
  EXPECT_EQ(w_.Counts().sampled, counted.sampled) << "nothing is counted";
}

TEST_F(ShowingTest, AReplayShowsWhatTheEndpointShows) {
  diff::Divergence divergence = Diverge();
  w_.RouteCache();
  w_.Read(kRow);
  WriteCanary("NEWER");
  const auto replayed = Replay(divergence);
  ASSERT_TRUE(replayed.ok()) << replayed.status();
  EXPECT_EQ(replayed->differences(0).control(), R"("CANARY-NEWER")");
}

TEST_F(KeeperTest, TheSameFillIsRecognised) {
  diff::Divergence divergence = Diverge();
  w_.RouteCache();
  w_.Read(kRow);
  divergence.fill = absl::BytesToHexString(w_.redis.Find(w_.Key(kRow))->slot.fill);
  EXPECT_TRUE(Replay(divergence)->same_fill());
}

TEST_F(KeeperTest, WhatCannotBeReplayedSaysWhy) {
  const diff::Divergence divergence = Diverge();
  const auto why = [&](const diff::Divergence& changed) {
    const absl::Status status = Replay(changed).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    return std::string(status.message());
  };
  diff::Divergence changed = divergence;
  changed.sealed.clear();
  changed.sealed_until = absl::InfinitePast();
  EXPECT_THAT(why(changed), HasSubstr("had no evidence.key"));
  changed = divergence;
  changed.sealed.clear();
  EXPECT_THAT(why(changed), HasSubstr("its parameters were kept until 20"));
  changed = divergence;
  changed.sealed_until = Now();
  EXPECT_THAT(why(changed), HasSubstr("evidence_ttl"));
  changed = divergence;
  changed.evidence.endpoint = "pricing/gone";
  EXPECT_THAT(why(changed), HasSubstr("pricing/gone: not in catalog revision"));
  // Another key, and none.
  const Keeper other(ReadWorld::kSecret, diff::Sealer({std::string(32, 'o')}));
  EXPECT_THAT(std::string(other.Open(divergence, Now()).status().message()), HasSubstr("encrypted under key "));
  const Keeper none(ReadWorld::kSecret, std::nullopt);
  EXPECT_THAT(std::string(none.Open(divergence, Now()).status().message()), HasSubstr("has no evidence.key"));
}

}  // namespace
}  // namespace shadowline::server
