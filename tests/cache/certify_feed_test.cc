#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cache/certify/feed.h"

namespace shadowline::cache {
namespace {

constexpr uint64_t kMap = 11;

Transaction TransactionOf(uint64_t xid, std::set<TenantTag> tags, std::set<FamilyDrop> drops = {}) {
  return {.xid = xid,
          .committed_at = absl::FromUnixSeconds(static_cast<int64_t>(xid)),
          .effects = {std::move(tags), std::move(drops)}};
}

std::set<TenantTag> Tags(int count) {
  std::set<TenantTag> tags;
  for (int i = 0; i < count; ++i) tags.insert({"acme", absl::StrCat("tag:", i)});
  return tags;
}

// One writer and one reader; what is taken from the writer is handed on by Send.
class CertifyFeedTest : public testing::Test {
 protected:
  CertifyFeedTest() { writer_.Begin(kMap); }

  std::vector<std::string> Send() {
    std::vector<std::string> payloads = writer_.Take();
    for (const std::string& payload : payloads) reader_.Hear(payload, now_);
    return payloads;
  }
  // Answers what the reader asks for.
  void Begin(uint64_t since) { reader_.Began(reader_.wants_since().value(), since); }
  void Look(absl::string_view snapshot, Lsn end) {
    reader_.Looked(reader_.wants_look().value(), ParseSnapshot(snapshot).value(), end, now_, now_);
  }
  Certificate Check(absl::string_view fill, const std::string& tag) {
    const std::vector<uint32_t> hashes = {TagHash(FenceKey("acme", tag)), FamilyHash("pricing", ""),
                                          FamilyHash("pricing", "acme")};
    return certifier_.Check(kMap, hashes, fill, now_, absl::Seconds(1));
  }

  absl::Duration now_ = absl::Seconds(50);
  int woken_ = 0;
  FeedWriter writer_{"replica", [this] { ++woken_; }};
  Certifier certifier_{Certifier::Options()};
  FeedReader reader_{&certifier_};
};

TEST_F(CertifyFeedTest, NothingIsCertifiedBeforeTheFeedHasComeToASnapshot) {
  EXPECT_FALSE(reader_.wants_since().has_value());
  Send();
  EXPECT_FALSE(reader_.wants_look().has_value());
  Begin(100);
  EXPECT_EQ(Check("101:101:", "tag:0"), Certificate::kUnknown);
  Look("101:101:", 5000);
  EXPECT_EQ(Check("101:101:", "tag:0"), Certificate::kUnknown);
  writer_.Passed(4999);
  Send();
  EXPECT_EQ(Check("101:101:", "tag:0"), Certificate::kUnknown);
  writer_.Passed(5000);
  Send();
  EXPECT_EQ(Check("101:101:", "tag:0"), Certificate::kCertified);
}

TEST_F(CertifyFeedTest, TagsAndDroppedFamiliesOutdateWhatWasLoadedBefore) {
  Send();
  Begin(100);
  writer_.Add(TransactionOf(102, Tags(1)));
  writer_.Passed(6000);
  Look("103:103:", 6000);
  Send();
  EXPECT_EQ(Check("101:101:", "tag:0"), Certificate::kOutdated);
  EXPECT_EQ(Check("101:101:", "tag:1"), Certificate::kCertified);
  EXPECT_EQ(Check("103:103:", "tag:0"), Certificate::kCertified);
  writer_.Add(TransactionOf(104, {}, {{"pricing", ""}}));
  Send();
  EXPECT_EQ(Check("103:103:", "tag:1"), Certificate::kOutdated);
  writer_.Add(TransactionOf(106, {}, {{"pricing", "other"}}));
  Send();
  EXPECT_EQ(Check("105:105:", "tag:1"), Certificate::kCertified);
}

TEST_F(CertifyFeedTest, APositionIsToldOnlyWithEverythingBeforeIt) {
  Send();
  Begin(100);
  writer_.Add(TransactionOf(102, Tags(10'000)));
  writer_.Passed(6000);
  Look("103:103:", 6000);
  const std::vector<std::string> payloads = writer_.Take();
  ASSERT_GT(payloads.size(), 3u);
  for (size_t i = 0; i < payloads.size(); ++i) {
    EXPECT_LT(payloads[i].size(), 8000u);
    EXPECT_EQ(DecodeFeed(payloads[i])->position, i + 1 < payloads.size() ? 0u : 6000u);
    reader_.Hear(payloads[i], now_);
    EXPECT_EQ(reader_.wants_look().has_value(), i + 1 == payloads.size());
  }
  for (int i = 0; i < 10'000; ++i) ASSERT_EQ(Check("101:101:", absl::StrCat("tag:", i)), Certificate::kOutdated);
}

TEST_F(CertifyFeedTest, AMissedMessageBeginsAnew) {
  Send();
  Begin(100);
  writer_.Passed(6000);
  Look("103:103:", 6000);
  Send();
  EXPECT_EQ(Check("101:101:", "tag:0"), Certificate::kCertified);
  writer_.Add(TransactionOf(104, Tags(1)));
  writer_.Take();  // Nobody hears it.
  Send();
  EXPECT_EQ(Check("101:101:", "tag:0"), Certificate::kUnknown);
  Begin(110);
  Look("111:111:", 6000);
  EXPECT_EQ(Check("101:101:", "tag:0"), Certificate::kUnknown);
  EXPECT_EQ(Check("111:111:", "tag:0"), Certificate::kCertified);
  EXPECT_EQ(reader_.gaps(), 2u);
}

TEST_F(CertifyFeedTest, AnAnswerFromBeforeAGapCountsForNothing) {
  Send();
  const uint64_t question = reader_.wants_since().value();
  writer_.Take();
  Send();
  reader_.Began(question, 100);
  EXPECT_TRUE(reader_.wants_since().has_value());
  Begin(110);
  const uint64_t look = reader_.wants_look().value();
  writer_.Take();
  Send();
  Begin(120);
  reader_.Looked(look, ParseSnapshot("111:111:").value(), 0, now_, now_);
  EXPECT_TRUE(reader_.wants_look().has_value());
  EXPECT_EQ(certifier_.as_of(), -absl::InfiniteDuration());
}

TEST_F(CertifyFeedTest, AnotherStreamOrAnotherWriterBeginsAnew) {
  Send();
  Begin(100);
  Look("101:101:", 0);
  EXPECT_EQ(Check("101:101:", "tag:0"), Certificate::kCertified);
  writer_.End();
  writer_.Begin(kMap);
  Send();
  EXPECT_EQ(Check("101:101:", "tag:0"), Certificate::kUnknown);
  Begin(110);
  Look("111:111:", 0);
  EXPECT_EQ(Check("111:111:", "tag:0"), Certificate::kCertified);
  FeedWriter other("other", [] {});
  other.Begin(kMap);
  reader_.Hear(other.Take().at(0), now_);
  EXPECT_EQ(Check("111:111:", "tag:0"), Certificate::kUnknown);
}

TEST_F(CertifyFeedTest, WhatIsNoMessageIsAGap) {
  Send();
  Begin(100);
  Look("101:101:", 0);
  reader_.Hear("nonsense!", now_);
  EXPECT_EQ(Check("101:101:", "tag:0"), Certificate::kUnknown);
  EXPECT_FALSE(reader_.wants_since().has_value());
  Send();
  EXPECT_TRUE(reader_.wants_since().has_value());
}

TEST_F(CertifyFeedTest, TheOutboxAddsWithoutARun) {
  Send();
  Begin(100);
  Look("101:101:", 0);
  FeedWriter other("other", [] {});
  other.AddFromOutbox(TransactionOf(105, Tags(1)));
  for (const std::string& payload : other.Take()) reader_.Hear(payload, now_);
  EXPECT_FALSE(other.active());
  EXPECT_EQ(Check("101:101:", "tag:0"), Certificate::kOutdated);
  EXPECT_EQ(Check("101:101:", "tag:1"), Certificate::kCertified);
  Send();
  EXPECT_EQ(reader_.gaps(), 1u);
}

TEST_F(CertifyFeedTest, AWriterWithTooMuchToTellBeginsAnotherRun) {
  Send();
  Begin(100);
  Look("101:101:", 0);
  for (uint64_t id = 102; writer_.overflows() == 0; ++id) writer_.Add(TransactionOf(id, Tags(10'000)));
  EXPECT_FALSE(writer_.waiting());
  Send();
  EXPECT_EQ(Check("101:101:", "tag:9999"), Certificate::kUnknown);
  EXPECT_TRUE(reader_.wants_since().has_value());
}

TEST_F(CertifyFeedTest, AWriterWakesItsSenderAndIsIdleWithoutAStream) {
  EXPECT_EQ(woken_, 1);
  writer_.Add(TransactionOf(102, Tags(1)));
  EXPECT_EQ(woken_, 2);
  EXPECT_TRUE(writer_.waiting());
  writer_.End();
  EXPECT_TRUE(writer_.active());
  EXPECT_EQ(Send().size(), 1u);
  EXPECT_FALSE(writer_.active());
  EXPECT_TRUE(writer_.Take().empty());
}

TEST(FeedMessageTest, WhatIsCutShortOrTooLongIsRefused) {
  FeedMessage message{
      .run = 1, .number = 300, .map = 2, .position = 1 << 20, .touched = {{7, absl::UnixEpoch(), {1, 2}}}};
  const std::string text = EncodeFeed(message);
  const absl::StatusOr<FeedMessage> decoded = DecodeFeed(text);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->number, 300u);
  EXPECT_EQ(decoded->position, Lsn{1 << 20});
  ASSERT_EQ(decoded->touched.size(), 1u);
  EXPECT_EQ(decoded->touched[0].hashes, (std::vector<uint32_t>{1, 2}));
  for (size_t size : {size_t{0}, size_t{4}, size_t{16}, text.size() - 4}) {
    EXPECT_FALSE(DecodeFeed(text.substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(DecodeFeed("AgAAAA==").ok());
}

}  // namespace
}  // namespace shadowline::cache
