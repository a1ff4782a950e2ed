// Whatever Redis gives back is either exactly what was stored under that key, or a miss.
#include "cache/envelope/envelope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include "base/hash.h"
#include "base/random.h"
#include "shadowline/v1/envelope.pb.h"

namespace shadowline::cache {
namespace {

using testing::HasSubstr;

constexpr absl::string_view kKey = "sl:acme:pricing/quote:v1.0:00";

CachedAnswer Answer(std::string body) {
  CachedAnswer answer;
  answer.found = true;
  answer.body = std::move(body);
  answer.loaded_at = absl::FromUnixMicros(1'700'000'000'123'456);
  answer.snapshot = "10:20:12";
  answer.catalog_revision = 3;
  answer.after_fence = true;
  answer.expires_at = answer.loaded_at + absl::Seconds(60);
  answer.load_time = absl::Milliseconds(3);
  answer.outlives_ttl = true;
  return answer;
}

std::string Repetitive() {
  std::string body = "[";
  for (int i = 0; i < 1000; ++i) body += R"({"role":"editor"},)";
  return body + "0]";
}

bool IsDataLoss(const absl::StatusOr<CachedAnswer>& answer) {
  return answer.status().code() == absl::StatusCode::kDataLoss;
}

// What a forger who knows the layout could write: a sealed envelope of any content.
std::string Sealed(const shadowline::v1::Envelope& envelope) {
  std::string bytes = envelope.SerializeAsString();
  shadowline::v1::Envelope seal;
  seal.set_seal(base::Hash64(bytes));
  return bytes + seal.SerializeAsString();
}

TEST(EnvelopeTest, GivesBackWhatWasPutIn) {
  for (const std::string& body : {std::string(R"({"price":1})"), std::string(), Repetitive()}) {
    const CachedAnswer answer = Answer(body);
    const auto decoded = DecodeEnvelope(kKey, EncodeEnvelope(kKey, answer, 4096));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_TRUE(decoded->found);
    EXPECT_EQ(decoded->body, body);
    EXPECT_EQ(decoded->loaded_at, answer.loaded_at);
    EXPECT_EQ(decoded->snapshot, answer.snapshot);
    EXPECT_EQ(decoded->catalog_revision, 3u);
    EXPECT_TRUE(decoded->after_fence);
    EXPECT_EQ(decoded->expires_at, answer.expires_at);
    EXPECT_EQ(decoded->load_time, answer.load_time);
    EXPECT_TRUE(decoded->outlives_ttl);
    EXPECT_EQ(decoded->etag, Etag(true, body));
  }
}

TEST(EnvelopeTest, NotFoundIsAValue) {
  CachedAnswer answer = Answer("");
  answer.found = false;
  const auto decoded = DecodeEnvelope(kKey, EncodeEnvelope(kKey, answer, 4096));
  ASSERT_TRUE(decoded.ok());
  EXPECT_FALSE(decoded->found);
  EXPECT_EQ(decoded->etag, Etag(false, ""));
  EXPECT_NE(Etag(false, ""), Etag(true, ""));
}

TEST(EnvelopeTest, CompressesWhereDeclaredAndWhereItHelps) {
  const std::string body = Repetitive();
  EXPECT_LT(EncodeEnvelope(kKey, Answer(body), 4096).size(), body.size() / 10);
  EXPECT_GT(EncodeEnvelope(kKey, Answer(body), 0).size(), body.size());
  EXPECT_GT(EncodeEnvelope(kKey, Answer(body), 1 << 20).size(), body.size());
  base::Random random(1);
  std::string noise;
  while (noise.size() < 8192) noise += random.Id();
  const auto decoded = DecodeEnvelope(kKey, EncodeEnvelope(kKey, Answer(noise), 1));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->body, noise);
}

TEST(EnvelopeTest, AnotherKeysValueIsRefused) {
  const std::string bytes = EncodeEnvelope("sl:globex:pricing/quote:v1.0:00", Answer("{}"), 0);
  const auto decoded = DecodeEnvelope(kKey, bytes);
  ASSERT_TRUE(IsDataLoss(decoded));
  EXPECT_THAT(decoded.status().message(), HasSubstr("another key"));
}

TEST(EnvelopeTest, EveryFlippedBitAndEveryTruncationIsNoticed) {
  for (const std::string& whole :
       {EncodeEnvelope(kKey, Answer(R"({"price":1})"), 0), EncodeEnvelope(kKey, Answer(Repetitive()), 1)}) {
    for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
      std::string bytes = whole;
      bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
      ASSERT_TRUE(IsDataLoss(DecodeEnvelope(kKey, bytes))) << "bit " << bit;
    }
    for (size_t length = 0; length < whole.size(); ++length) {
      ASSERT_TRUE(IsDataLoss(DecodeEnvelope(kKey, absl::string_view(whole).substr(0, length)))) << length;
    }
    ASSERT_TRUE(IsDataLoss(DecodeEnvelope(kKey, whole + '\0')));
    ASSERT_TRUE(IsDataLoss(DecodeEnvelope(kKey, whole + whole)));
  }
}

TEST(EnvelopeTest, GarbageIsNoEnvelope) {
  const uint64_t seed = base::SystemSeed();
  SCOPED_TRACE(seed);
  base::Random random(seed);
  for (int round = 0; round < 20'000; ++round) {
    std::string garbage;
    for (uint64_t n = random.Below(8); n > 0; --n) garbage += random.Id();
    garbage.resize(garbage.size() - std::min<size_t>(garbage.size(), random.Below(16)));
    ASSERT_TRUE(IsDataLoss(DecodeEnvelope(kKey, garbage)));
    // The same behind a seal that holds, so that the parser sees it.
    shadowline::v1::Envelope seal;
    seal.set_seal(base::Hash64(garbage));
    ASSERT_TRUE(IsDataLoss(DecodeEnvelope(kKey, garbage + seal.SerializeAsString())));
  }
}

class ForgedEnvelopeTest : public testing::Test {
 protected:
  ForgedEnvelopeTest() {
    envelope_.set_layout(1);
    envelope_.set_key(std::string(kKey));
    envelope_.set_found(true);
    envelope_.set_payload("{}");
    envelope_.set_plain_size(2);
    envelope_.set_checksum(Etag(true, "{}"));
  }
  std::string Refusal() {
    const auto decoded = DecodeEnvelope(kKey, Sealed(envelope_));
    EXPECT_TRUE(decoded.ok() || IsDataLoss(decoded)) << decoded.status();
    return std::string(decoded.status().message());
  }
  // The payload becomes a zstd frame of `plain_bytes` equal bytes.
  void MakeBomb(size_t plain_bytes) {
    const std::string plain(plain_bytes, 'x');
    std::string bomb(ZSTD_compressBound(plain.size()), '\0');
    bomb.resize(ZSTD_compress(bomb.data(), bomb.size(), plain.data(), plain.size(), 1));
    envelope_.set_payload(bomb);
    envelope_.set_encoding(shadowline::v1::Envelope::ZSTD);
    envelope_.set_plain_size(plain_bytes);
    envelope_.set_checksum(Etag(true, plain));
  }

  shadowline::v1::Envelope envelope_;
};

TEST_F(ForgedEnvelopeTest, IsAcceptedWhereEverythingFits) { EXPECT_EQ(Refusal(), ""); }

TEST_F(ForgedEnvelopeTest, AnotherLayoutIsRefused) {
  envelope_.set_layout(2);
  EXPECT_THAT(Refusal(), HasSubstr("layout 2; expected 1"));
}

TEST_F(ForgedEnvelopeTest, AnotherChecksumOrSizeIsRefused) {
  envelope_.set_checksum(1);
  EXPECT_THAT(Refusal(), HasSubstr("checksum"));
  envelope_.set_checksum(Etag(true, "{}"));
  envelope_.set_plain_size(3);
  EXPECT_THAT(Refusal(), HasSubstr("checksum"));
}

TEST_F(ForgedEnvelopeTest, NotFoundWithAPayloadIsRefused) {
  envelope_.set_found(false);
  EXPECT_THAT(Refusal(), HasSubstr("checksum"));
}

TEST_F(ForgedEnvelopeTest, AnUnknownEncodingIsRefused) {
  envelope_.set_encoding(static_cast<shadowline::v1::Envelope::Encoding>(7));
  EXPECT_THAT(Refusal(), HasSubstr("unknown encoding"));
}

TEST_F(ForgedEnvelopeTest, AZstdBombIsRefusedBeforeItIsUnpacked) {
  MakeBomb(8 << 20);
  EXPECT_LT(envelope_.payload().size(), 10'000u);
  EXPECT_THAT(DecodeEnvelope(kKey, Sealed(envelope_), 1 << 20).status().message(), HasSubstr("at most 1048576"));
  // One that lies about its size is refused by the frame's own header.
  envelope_.set_plain_size(1024);
  EXPECT_THAT(DecodeEnvelope(kKey, Sealed(envelope_), 1 << 20).status().message(), HasSubstr("another size"));
}

TEST_F(ForgedEnvelopeTest, BytesThatAreNoFrameAreRefused) {
  envelope_.set_encoding(shadowline::v1::Envelope::ZSTD);
  EXPECT_THAT(Refusal(), HasSubstr("another size"));
  MakeBomb(1000);
  envelope_.mutable_payload()->back() ^= 0x55;
  envelope_.mutable_payload()->pop_back();
  EXPECT_THAT(Refusal(), HasSubstr("cannot be decompressed"));
}

}  // namespace
}  // namespace shadowline::cache
