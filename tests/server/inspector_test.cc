#include "server/read/inspector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "cache/envelope/envelope.h"
#include "tests/server/read_world.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;
using testing::HasSubstr;
using v1::InspectResponse;

class InspectorTest : public testing::Test {
 protected:
  absl::StatusOr<InspectResponse> Inspect(const std::string& id, const std::string& tenant = "acme",
                                          const std::string& endpoint = "pricing/quote") {
    const v1::ReadRequest read = ReadWorld::Request(id);
    v1::InspectRequest request;
    request.set_tenant(tenant);
    request.set_endpoint(endpoint);
    *request.mutable_parameters() = read.parameters();
    std::optional<absl::StatusOr<InspectResponse>> response;
    inspector_.Inspect(request, [&](absl::StatusOr<InspectResponse> inspected) { response = std::move(inspected); });
    w_.world.RunUntilIdle();
    EXPECT_TRUE(response.has_value());
    return *std::move(response);
  }
  // One that is found.
  InspectResponse See(const std::string& id) {
    const auto seen = Inspect(id);
    EXPECT_TRUE(seen.ok()) << seen.status();
    return seen.value_or(InspectResponse());
  }
  // A price, in the cache.
  void Cache(const std::string& id) {
    w_.Write(id);
    w_.RouteCache();
    w_.Read(id);
    EXPECT_EQ(w_.Read(id)->response.source(), v1::SOURCE_CACHE);
  }

  ReadWorld w_;
  Inspector inspector_{
      {.board = &w_.board, .catalog = &w_.catalog, .store = &w_.background_store, .clock = w_.world.clock()}};
};

TEST_F(InspectorTest, WhatWasNeverReadIsAbsent) {
  const InspectResponse seen = See("1");
  EXPECT_EQ(seen.state(), InspectResponse::STATE_ABSENT);
  EXPECT_THAT(seen.key(), HasSubstr("acme"));
  ASSERT_EQ(seen.fences_size(), 2);
  EXPECT_EQ(seen.fences(0).tag(), "quote:1");
  EXPECT_FALSE(seen.fences(0).stands());
}

TEST_F(InspectorTest, AnAnswerStandsBehindItsFencesAndIsNeitherServedNorCounted) {
  Cache("1");
  const uint64_t queries = w_.Queries();
  const std::string hits = "shadowline_candidate_reads_total{outcome=\"hit\"}";
  const double counted = w_.Metric(hits);
  const InspectResponse seen = See("1");
  EXPECT_EQ(seen.state(), InspectResponse::STATE_ANSWER);
  EXPECT_EQ(seen.why(), "");
  EXPECT_TRUE(seen.found());
  EXPECT_EQ(seen.fill().size(), 2 * cache::kTokenBytes);
  EXPECT_EQ(seen.body_bytes(), std::string(R"({"price":1})").size());
  EXPECT_EQ(seen.etag(), cache::Etag(true, R"({"price":1})"));
  EXPECT_GT(seen.stored_bytes(), seen.body_bytes());
  EXPECT_GT(seen.loaded_at_us(), 0);
  EXPECT_GT(seen.ttl_us(), absl::ToInt64Microseconds(absl::Minutes(8)));
  EXPECT_LE(seen.ttl_us(), absl::ToInt64Microseconds(absl::Minutes(12)));
  EXPECT_EQ(seen.catalog_revision(), 1u);
  EXPECT_NE(seen.snapshot(), "");
  for (const v1::InspectedFence& fence : seen.fences()) EXPECT_TRUE(fence.stands() && fence.of_value()) << fence.tag();
  EXPECT_EQ(w_.Queries(), queries);
  EXPECT_EQ(w_.Metric(hits), counted);
}

TEST_F(InspectorTest, WhatWasInvalidatedNamesTheTagAndTheTransactionThatItWaitsFor) {
  Cache("1");
  w_.invalidator.Invalidate({{"acme", "quote:1"}}, {740}, [](absl::Status) {});
  w_.world.RunUntilIdle();
  const InspectResponse seen = See("1");
  EXPECT_EQ(seen.state(), InspectResponse::STATE_OUTDATED);
  EXPECT_EQ(seen.why(), "tag quote:1 was invalidated since it was loaded");
  EXPECT_TRUE(seen.fences(0).stands());
  EXPECT_FALSE(seen.fences(0).of_value());
  EXPECT_GT(seen.fences(0).invalidated_at_us(), 0);
  EXPECT_THAT(seen.fences(0).transactions(), testing::ElementsAre(740u));
  EXPECT_TRUE(seen.fences(1).of_value());
}

TEST_F(InspectorTest, ANewEpochHasOtherKeys) {
  Cache("1");
  const std::string key = See("1").key();
  w_.Route({.mode = flags::Mode::kCache, .serve_ppm = 1'000'000, .epoch = 9});
  const InspectResponse seen = See("1");
  EXPECT_NE(seen.key(), key);
  EXPECT_EQ(seen.state(), InspectResponse::STATE_ABSENT);
}

TEST_F(InspectorTest, AnotherProgramsBytesAreGarbage) {
  w_.redis.SetForeign(See("1").key(), "hello");
  const InspectResponse seen = See("1");
  EXPECT_EQ(seen.state(), InspectResponse::STATE_GARBAGE);
  EXPECT_EQ(seen.why(), "another program wrote it");
}

TEST_F(InspectorTest, WhatCannotBeReadCannotBeInspected) {
  EXPECT_TRUE(absl::IsNotFound(Inspect("1", "stranger").status()));
  EXPECT_TRUE(absl::IsNotFound(Inspect("1", "acme", "pricing/nothing").status()));
  v1::InspectRequest request;
  request.set_tenant("acme");
  request.set_endpoint("pricing/quote");
  absl::Status status;
  inspector_.Inspect(request, [&](absl::StatusOr<InspectResponse> inspected) { status = inspected.status(); });
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}

}  // namespace
}  // namespace shadowline::server
