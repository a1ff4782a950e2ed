#include "server/read/batch_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/server/read_world.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;
using testing::AllOf;
using testing::HasSubstr;

// A store whose replies to one turn come together, as Redis' do.
ReadWorldOptions Together() {
  ReadWorldOptions options;
  options.gathering.wait_max = absl::Milliseconds(10);
  return options;
}

std::vector<v1::ReadRequest> Requests(int from, int to, const std::string& tenant = "acme") {
  std::vector<v1::ReadRequest> requests;
  for (int id = from; id < to; ++id) requests.push_back(ReadWorld::Request(absl::StrCat(id), tenant));
  return requests;
}

void WriteAll(ReadWorld* w, int from, int to) {
  for (int id = from; id < to; ++id) w->Write(absl::StrCat(id));
}

// What a result says, but for where it came from.
std::string Said(const v1::BatchReadResult& result) {
  if (result.has_error()) return absl::StrCat("error ", result.error().code(), ": ", result.error().message());
  return absl::StrCat(result.answer().found(), " ", result.answer().body(), " ", result.answer().etag());
}
std::string Said(const ReadWorld::Answer& answer) {
  if (!answer.status->ok()) return absl::StrCat("error ", answer.status->raw_code(), ": ", answer.status->message());
  return absl::StrCat(answer.response.found(), " ", answer.response.body(), " ", answer.response.etag());
}

TEST(BatchReaderTest, EachResultIsWhatReadAnswers) {
  for (const flags::Mode mode : {flags::Mode::kDatabase, flags::Mode::kShadow, flags::Mode::kCache}) {
    ReadWorld w;
    WriteAll(&w, 0, 40);
    w.Route({.mode = mode, .serve_ppm = 1'000'000, .sample_ppm = 500'000});
    w.control.FailArguments({"13"}, absl::InvalidArgumentError("a value that does not fit"));

    std::vector<v1::ReadRequest> requests = Requests(0, 50);
    requests.insert(requests.begin() + 7, ReadWorld::Request("1", "initech"));
    requests.insert(requests.begin() + 9, ReadWorld::Request("3", "globex"));
    requests.insert(requests.begin() + 11, ReadWorld::Request("5"));
    requests[20].set_endpoint("pricing/quota");
    requests[21].mutable_parameters(0)->mutable_value()->set_integer(1);
    requests[22].clear_parameters();
    requests[23].set_consistency(v1::CONSISTENCY_FRESH);
    requests[24].set_at_least("no position");
    for (int half = 0; half < 20; ++half) w.Read(absl::StrCat(half));  // Cached, where there is a cache.

    const auto batch = w.ReadBatch(requests);
    ASSERT_TRUE(batch->status->ok()) << *batch->status;
    ASSERT_EQ(batch->response.results_size(), static_cast<int>(requests.size()));
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(Said(batch->response.results(i)), Said(*w.Read(requests[i]))) << i;
    }
    EXPECT_EQ(batch->response.results(16).error().message(), "a value that does not fit");
    w.world.RunUntilIdle();
  }
}

TEST(BatchReaderTest, ABatchNeedsAReadAndTakes256) {
  ReadWorld w;
  EXPECT_TRUE(absl::IsInvalidArgument(*w.ReadBatch({})->status));
  EXPECT_TRUE(absl::IsInvalidArgument(*w.ReadBatch(Requests(0, 257))->status));
  EXPECT_EQ(w.Queries(), 0u);
  EXPECT_TRUE(w.ReadBatch(Requests(0, 256))->status->ok());
}

TEST(BatchReaderTest, WhatIsNotAdmittedIsNotBegun) {
  ReadWorld w;
  const auto refused = w.StartBatch(Requests(0, 5), absl::Seconds(10), /*places=*/4);
  ASSERT_TRUE(refused->status.has_value());
  EXPECT_TRUE(absl::IsResourceExhausted(*refused->status));
  std::vector<v1::ReadRequest> requests = Requests(0, 4);
  requests.push_back(requests[0]);
  requests.push_back(ReadWorld::Request("1", "initech"));
  const auto admitted = w.StartBatch(requests, absl::Seconds(10), /*places=*/4);
  w.world.RunUntilIdle();
  EXPECT_TRUE(admitted->status->ok()) << "equal reads and refused ones take no place";
  EXPECT_EQ(w.Queries(), 1u);
}

// ---- Equal reads ----

// An endpoint whose parameters have many ways of being written.
v1::ReadRequest Search(const std::vector<std::string>& tags, std::optional<std::string> order = std::nullopt) {
  v1::ReadRequest request;
  request.set_tenant("acme");
  request.set_endpoint("pricing/search");
  auto* parameter = request.add_parameters();
  parameter->set_name("tags");
  for (const std::string& tag : tags) parameter->mutable_value()->mutable_texts()->add_values(tag);
  if (order.has_value()) {
    parameter = request.add_parameters();
    parameter->set_name("order");
    parameter->mutable_value()->set_text(*order);
  }
  return request;
}

void PublishSearch(ReadWorld* w) {
  cache::Endpoint endpoint = w->catalog.Current()->endpoints()[0];
  endpoint.name = "pricing/search";
  endpoint.parameters = {{.name = "order", .default_text = "name", .fold_case = true},
                         {.name = "tags", .type = cache::ParameterType::kTextSet}};
  endpoint.tags.clear();
  w->catalog.Publish(
      std::make_shared<cache::CompiledCatalog>(9, v1::Catalog(), std::vector<cache::Endpoint>{endpoint}));
}

TEST(BatchReaderTest, EqualReadsAreReadOnceHoweverTheyAreWritten) {
  ReadWorld w;
  PublishSearch(&w);
  w.database.Write(sim::RowKey("pricing/search", "acme", {"name", R"({"a","b"})"}), "[1]");
  const auto batch =
      w.ReadBatch({Search({"a", "b"}), Search({"b", "a", "b"}, "NAME"), Search({"a"}), Search({"a", "b"}, "name")});
  EXPECT_EQ(w.Metric("shadowline_batch_calls_total"), 1);
  EXPECT_EQ(w.Metric("shadowline_batch_reads_total"), 4);
  EXPECT_EQ(w.Metric("shadowline_batch_merged_total"), 2);
  for (const int equal : {0, 1, 3}) EXPECT_EQ(batch->response.results(equal).answer().body(), "[1]");
  EXPECT_FALSE(batch->response.results(2).answer().found());
  EXPECT_EQ(w.Metric(R"(shadowline_reads_total{reason="MODE_DATABASE",source="database"})"), 2);
}

TEST(BatchReaderTest, ReadsThatDifferInAnythingAreNotEqual) {
  ReadWorld w;
  std::vector<v1::ReadRequest> requests(5, ReadWorld::Request("1"));
  requests[1].set_tenant("globex");
  requests[2].set_consistency(v1::CONSISTENCY_FRESH);
  requests[3].set_at_least("0/1");
  requests[4].mutable_parameters(0)->mutable_value()->set_text("1 ");
  ASSERT_TRUE(w.ReadBatch(requests)->status->ok());
  EXPECT_EQ(w.Metric("shadowline_batch_merged_total"), 0);
}

TEST(BatchReaderTest, AMergedReadIsOneSample) {
  for (const flags::Mode mode : {flags::Mode::kShadow, flags::Mode::kCache}) {
    ReadWorld w;
    w.Write("1");
    w.RouteCache();
    w.Read("1");  // What is missed is no sample.
    w.world.RunUntilIdle();
    w.Route({.mode = mode, .serve_ppm = 1'000'000, .sample_ppm = 1'000'000});
    w.ReadBatch(std::vector<v1::ReadRequest>(10, ReadWorld::Request("1")));
    w.world.RunUntilIdle();
    EXPECT_EQ(w.Counts().sampled, 1u);
  }
}

TEST(BatchReaderTest, TheFirstOfEqualReadsLendsItsRequestId) {
  // A share at which some requests are sampled and some are not.
  int sampled = 0;
  for (int i = 0; i < 64; ++i) {
    ReadWorld alone, merged;
    v1::ReadRequest first = ReadWorld::Request("1"), second = first;
    first.set_request_id(absl::StrCat("first ", i));
    second.set_request_id(absl::StrCat("second ", i));
    for (ReadWorld* w : {&alone, &merged}) {
      w->RouteCache();
      w->Read("1");
      w->world.RunUntilIdle();
      w->RouteCache(/*sample_ppm=*/500'000);
    }
    alone.Read(first);
    merged.ReadBatch({first, second});
    alone.world.RunUntilIdle();
    merged.world.RunUntilIdle();
    EXPECT_EQ(merged.Counts().sampled, alone.Counts().sampled);
    sampled += static_cast<int>(alone.Counts().sampled);
  }
  EXPECT_GT(sampled, 10);
  EXPECT_LT(sampled, 54);
}

// ---- Round trips ----

TEST(BatchReaderTest, TheCacheIsAskedForAllInOneTurn) {
  ReadWorld w;
  w.RouteCache();
  const auto batch = w.StartBatch(Requests(0, 200));
  // No other task has run yet, and what a turn asks for leaves in one write.
  EXPECT_EQ(w.lane_store.reads(), 200u);
  EXPECT_FALSE(batch->status.has_value());
  w.world.RunUntilIdle();
  EXPECT_TRUE(batch->status.has_value());
  EXPECT_EQ(w.lane_store.reads(), 200u);
}

TEST(BatchReaderTest, MissesAreOneStatementAndAreAllFilled) {
  ReadWorld w(Together());
  WriteAll(&w, 0, 90);
  w.RouteCache();
  for (int id = 0; id < 50; ++id) w.Read(absl::StrCat(id));
  w.world.RunUntilIdle();
  const uint64_t before = w.Queries();
  const auto misses = w.ReadBatch(Requests(0, 100));
  EXPECT_EQ(w.Queries() - before, 1u);
  EXPECT_EQ(w.Metric("shadowline_batch_statements_saved_total{pool=\"control\"}"), 49);
  for (int id = 0; id < 100; ++id) {
    const v1::ReadResponse& answer = misses->response.results(id).answer();
    EXPECT_EQ(answer.reason(), id < 50 ? v1::READ_REASON_CACHE_HIT : v1::READ_REASON_CACHE_MISS) << id;
    EXPECT_EQ(answer.found(), id < 90);
  }
  w.world.RunUntilIdle();
  const auto hits = w.ReadBatch(Requests(0, 100));
  EXPECT_EQ(w.Queries() - before, 1u);
  for (int id = 0; id < 100; ++id) {
    EXPECT_EQ(hits->response.results(id).answer().source(), v1::SOURCE_CACHE);
    EXPECT_EQ(hits->response.results(id).answer().body(), misses->response.results(id).answer().body());
  }
  w.world.RunUntilIdle();
}

TEST(BatchReaderTest, WhatTheDatabaseAnswersIsOneStatementForEachTenant) {
  ReadWorld w;
  std::vector<v1::ReadRequest> requests = Requests(0, 100);
  for (v1::ReadRequest& other : Requests(0, 100, "globex")) requests.push_back(std::move(other));
  EXPECT_TRUE(w.ReadBatch(requests)->status->ok());
  EXPECT_EQ(w.Queries(), 2u);

  w.redis.faults.down = true;
  w.RouteCache();
  const auto away = w.ReadBatch(requests);
  EXPECT_EQ(away->response.results(150).answer().reason(), v1::READ_REASON_CACHE_UNAVAILABLE);
  EXPECT_EQ(w.Queries(), 4u);
  w.world.RunUntilIdle();
}

// ---- Limits ----

TEST(BatchReaderTest, AnswersThatAreTooLargeTogetherAreErrorsWithTheRemedy) {
  ReadWorldOptions options;
  options.batch.answer_max_bytes = 1000;
  ReadWorld w(options);
  for (int id = 0; id < 10; ++id) w.database.Write(ReadWorld::Row(absl::StrCat(id)), std::string(200, 'x'));
  std::vector<v1::ReadRequest> requests = Requests(0, 10);
  requests.insert(requests.end(), 5, ReadWorld::Request("0"));
  const auto batch = w.ReadBatch(requests);
  ASSERT_TRUE(batch->status->ok());
  int answered = 0;
  for (const v1::BatchReadResult& result : batch->response.results()) {
    answered += result.has_answer();
    if (result.has_answer()) {
      EXPECT_EQ(result.answer().body(), std::string(200, 'x'));
    } else {
      EXPECT_EQ(result.error().code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
      EXPECT_THAT(result.error().message(), AllOf(HasSubstr("1000 bytes"), HasSubstr("fewer reads")));
    }
  }
  EXPECT_EQ(answered, 4);
}

TEST(BatchReaderTest, TheCallsDeadlineIsEveryReads) {
  ReadWorld w;
  w.control.Hang(true);
  const auto batch = w.ReadBatch(Requests(0, 20), absl::Milliseconds(100));
  ASSERT_TRUE(batch->status->ok());
  EXPECT_EQ(batch->replied_at - batch->asked_at, absl::Milliseconds(100));
  for (const v1::BatchReadResult& result : batch->response.results()) {
    EXPECT_EQ(result.error().code(), static_cast<int>(absl::StatusCode::kDeadlineExceeded));
  }
}

// ---- Whatever happens ----

TEST(BatchReaderTest, NoAnswerIsOlderThanTheBoundWhileRedisFailsAndWritersInvalidate) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    ReadWorldOptions options;
    options.seed = seed;
    ReadWorld w(options);
    WriteAll(&w, 0, 20);
    w.RouteCache(/*sample_ppm=*/100'000);
    w.redis.faults.lose_reply_ppm = 5'000;
    base::Random random(seed);
    std::vector<std::shared_ptr<ReadWorld::BatchAnswer>> batches;
    std::function<void()> step = [&] {
      w.redis.faults.down = false;  // Else invalidations would be tried for ever.
      if (batches.size() >= 100) return;
      std::vector<v1::ReadRequest> requests;
      for (uint64_t left = 1 + random.Below(30); left > 0; --left) {
        requests.push_back(
            ReadWorld::Request(absl::StrCat(random.Below(25)), random.Below(4) == 0 ? "globex" : "acme"));
      }
      batches.push_back(w.StartBatch(requests));
      const std::string id = absl::StrCat(random.Below(20));
      w.Write(id);
      w.Invalidate(id);
      if (random.Below(20) == 0) w.control.FailNext(absl::InternalError("injected"));
      w.redis.faults.down = random.Below(15) == 0;
      w.world.executor()->PostAfter(absl::Microseconds(static_cast<int64_t>(random.Below(4000))), step);
    };
    step();
    w.world.RunUntilIdle();
    size_t answers = 0;
    for (const auto& batch : batches) {
      ASSERT_TRUE(batch->status.has_value()) << "seed " << seed << ": never answered";
      // A read may be answered long before the last one of its batch is.
      const absl::Duration bound = absl::Seconds(1) + (batch->replied_at - batch->asked_at);
      for (int i = 0; i < batch->request.reads_size(); ++i) {
        if (!batch->response.results(i).has_answer()) continue;
        ++answers;
        EXPECT_TRUE(w.WasRight({.request = batch->request.reads(i),
                                .response = batch->response.results(i).answer(),
                                .asked_at = batch->asked_at,
                                .replied_at = batch->replied_at,
                                .status = absl::OkStatus()},
                               bound))
            << "seed " << seed;
      }
    }
    EXPECT_GT(answers, 1000u);
  }
}

}  // namespace
}  // namespace shadowline::server
