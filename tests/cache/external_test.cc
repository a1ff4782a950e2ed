// What an application's own cache says: read where it can be, and refused in every other case.
#include "cache/external/external.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "cache/catalog/parse.h"
#include "cache/external/decompress.h"
#include "cache/external/json_text.h"

namespace shadowline::cache {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::string Gzip(absl::string_view plain) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, plain.size()) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(plain.data()));
  stream.avail_in = plain.size();
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = out.size();
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// As a streaming writer does it: the frame does not say how large it becomes.
std::string Zstd(absl::string_view plain) {
  std::string out(ZSTD_compressBound(plain.size()) + 64, '\0');
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  const size_t size = ZSTD_compress2(context, out.data(), out.size(), plain.data(), plain.size());
  ZSTD_freeCCtx(context);
  EXPECT_FALSE(ZSTD_isError(size));
  out.resize(size);
  return out;
}

// An endpoint with the parameters `product` (integer) and `tier` (text).
Endpoint Declared(absl::string_view external, absl::string_view result = "row") {
  const auto catalog = ParseCatalog(absl::StrCat(R"(version: 1
tenants: {list: [acme]}
families:
  pricing:
    endpoints:
      quote:
        sql: SELECT price FROM quote WHERE tenant = :tenant AND product = :product AND tier = :tier
        parameters: {product: {type: integer}, tier: {type: text}}
        result: )",
                                                 result, "\n        external: {", external, "}\n"),
                                    1);
  EXPECT_TRUE(catalog.ok()) << catalog.status();
  return *(*catalog)->Find("pricing/quote");
}
Endpoint Json(absl::string_view more = "", absl::string_view result = "row") {
  return Declared(absl::StrCat("key: \"quote:{tenant}:{product}/{tier}\"", more), result);
}
Endpoint Envelope(absl::string_view more = "") {
  return Json(absl::StrCat(", format: envelope, payload: /data/row, version: /v", more));
}

void ExpectRefused(const Endpoint& endpoint, absl::string_view bytes) {
  const auto answer = DecodeExternal(endpoint, bytes);
  ASSERT_FALSE(answer.ok()) << "accepted as " << answer->answer.body;
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kDataLoss);
  if (bytes.size() > 8) {
    EXPECT_THAT(std::string(answer.status().message()), Not(HasSubstr(std::string(bytes))));
  }
}

// ---- The key ----

TEST(ExternalKeyTest, IsTheApplicationsOwn) {
  const Endpoint endpoint = Json();
  EXPECT_EQ(ExternalKey(endpoint, "acme", {"42", "gold"}), "quote:acme:42/gold");
  // Nothing is escaped: the application does not do so either.
  EXPECT_EQ(ExternalKey(endpoint, "acme", {"42", "g ö%\n"}), "quote:acme:42/g ö%\n");
  EXPECT_EQ(ExternalKey(endpoint, "acme", {"-42", ""}), "quote:acme:-42/");
}

TEST(ExternalKeyTest, AReadThatAnotherCouldShareAKeyWithHasNone) {
  const Endpoint endpoint = Json();
  EXPECT_EQ(ExternalKey(endpoint, "acme", {"42", "a:b"}), std::nullopt);
  EXPECT_EQ(ExternalKey(endpoint, "acme", {"42", "a/b"}), std::nullopt);
  EXPECT_EQ(ExternalKey(endpoint, "acme:1", {"42", "gold"}), std::nullopt);
  EXPECT_EQ(ExternalKey(endpoint, "acme", {"42", std::nullopt}), std::nullopt);
}

TEST(ExternalKeyTest, NoTwoReadsHaveOneKey) {
  base::Random random(3);
  const Endpoint endpoint = Declared("key: \"q::{tenant}::{product}:t:{tier}:\"");
  const auto text = [&random] {
    static constexpr absl::string_view kAlphabet = "aqt:1/";
    std::string made;
    for (uint64_t length = random.Below(4); length > 0; --length) made += kAlphabet[random.Below(kAlphabet.size())];
    return made;
  };
  using Arguments = std::vector<std::optional<std::string>>;
  std::map<std::string, std::pair<std::string, Arguments>> readers;
  int shared_by_the_application = 0;
  for (int i = 0; i < 100'000; ++i) {
    const std::string tenant = text();
    const Arguments arguments = {text(), text()};
    const std::string written = absl::StrCat("q::", tenant, "::", *arguments[0], ":t:", *arguments[1], ":");
    const auto key = ExternalKey(endpoint, tenant, arguments);
    if (key.has_value()) {
      ASSERT_EQ(*key, written);
    }
    // Whoever reads this key has to be the one that the application wrote it for.
    const auto [reader, first] = readers.try_emplace(written, tenant, arguments);
    if (first || reader->second == std::pair(tenant, arguments)) continue;
    ++shared_by_the_application;
    ASSERT_EQ(key, std::nullopt) << written;
    ASSERT_EQ(ExternalKey(endpoint, reader->second.first, reader->second.second), std::nullopt) << written;
  }
  EXPECT_GT(shared_by_the_application, 100);
}

// ---- The value ----

TEST(ExternalTest, JsonIsTheAnswerAsItIs) {
  const auto answer = DecodeExternal(Json(), R"( {"price": 1e999999999, "n": 123456789012345678901234567890} )");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_TRUE(answer->answer.found);
  EXPECT_EQ(answer->answer.body, R"({"price": 1e999999999, "n": 123456789012345678901234567890})");
  EXPECT_EQ(answer->answer.etag, Etag(true, answer->answer.body));
  EXPECT_EQ(answer->answer.loaded_at, absl::InfinitePast());
  EXPECT_EQ(answer->answer.snapshot, "");
  EXPECT_EQ(DecodeExternal(Json("", "rows"), "[]")->answer.body, "[]");
}

TEST(ExternalTest, AnEnvelopesPayloadLeavesItAsItWasWritten) {
  const auto answer =
      DecodeExternal(Envelope(), R"({"v": 7, "data": {"at": "x", "row": { "price":1.10 }}, "z": [{}]})");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->answer.body, R"({ "price":1.10 })");
}

TEST(ExternalTest, GzipAndZstdAreRead) {
  const std::string body = absl::StrCat(R"({"price":1,"text":")", std::string(100'000, 'x'), "\"}");
  const auto gzip = DecodeExternal(Json(", compression: gzip"), Gzip(body));
  ASSERT_TRUE(gzip.ok()) << gzip.status();
  EXPECT_EQ(gzip->answer.body, body);
  const auto zstd = DecodeExternal(Json(", compression: zstd"), Zstd(body));
  ASSERT_TRUE(zstd.ok()) << zstd.status();
  EXPECT_EQ(zstd->answer.body, body);
  const auto enveloped = DecodeExternal(Envelope(", compression: gzip"), Gzip(R"({"v":1,"data":{"row":{"a":1}}})"));
  ASSERT_TRUE(enveloped.ok()) << enveloped.status();
  EXPECT_EQ(enveloped->answer.body, R"({"a":1})");
}

TEST(ExternalTest, NotFoundIsWhatTheApplicationSaysItIs) {
  const auto whole = DecodeExternal(Json(", not_found: \"-\""), "-");
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_FALSE(whole->answer.found);
  EXPECT_EQ(whole->answer.body, "");
  EXPECT_EQ(whole->answer.etag, Etag(false, ""));
  EXPECT_FALSE(DecodeExternal(Json(", not_found: \"\""), "")->answer.found);
  EXPECT_FALSE(DecodeExternal(Json(", compression: gzip, not_found: \"null\""), Gzip("null"))->answer.found);
  EXPECT_FALSE(DecodeExternal(Envelope(", not_found: \"null\""), R"({"v":1,"data":{"row":null}})")->answer.found);
  EXPECT_TRUE(DecodeExternal(Json(", not_found: \"{}\""), R"({"a":{}})")->answer.found);
  // Not declared: then it is no answer.
  ExpectRefused(Json(), "null");
  ExpectRefused(Json(), "");
}

TEST(ExternalTest, AFillIsWhatItSaysAndItsVersion) {
  const auto fill = [](const Endpoint& endpoint, absl::string_view bytes) {
    const auto answer = DecodeExternal(endpoint, bytes);
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer->fill;
  };
  const std::string one = fill(Envelope(), R"({"v":1,"data":{"row":{"a":1}}})");
  EXPECT_EQ(one.size(), 16u);
  EXPECT_EQ(fill(Envelope(), R"({"data":{"row":{"a":1},"stored_at":12},"v":1})"), one);
  EXPECT_NE(fill(Envelope(), R"({"v":2,"data":{"row":{"a":1}}})"), one);
  EXPECT_NE(fill(Envelope(), R"({"v":1,"data":{"row":{"a":2}}})"), one);
  // The same answer in another compression is the same answer.
  EXPECT_EQ(fill(Json(", compression: gzip"), Gzip(R"({"a":1})")),
            fill(Json(", compression: zstd"), Zstd(R"({"a":1})")));
  EXPECT_NE(fill(Json(", not_found: \"-\""), "-"), fill(Json(", not_found: \"-\""), "{}"));
}

// ---- What is no answer ----

TEST(ExternalTest, WhatIsNoJsonIsRefused) {
  for (absl::string_view bytes : {"garbage of somebody else",
                                  "{",
                                  "}",
                                  "{\"a\":1",
                                  "{\"a\":1}}",
                                  "{\"a\":1} x",
                                  "{\"a\" 1}",
                                  "{a:1}",
                                  "{'a':1}",
                                  "{\"a\":01}",
                                  "{\"a\":.5}",
                                  "{\"a\":1.}",
                                  "{\"a\":1e}",
                                  "{\"a\":-}",
                                  "{\"a\":+1}",
                                  "{\"a\":NaN}",
                                  "{\"a\":True}",
                                  "{\"a\":tru}",
                                  "{\"a\":\"\\x\"}",
                                  "{\"a\":\"\\u12g4\"}",
                                  "{\"a\":\"\n\"}",
                                  "{\"a\":\"\xff\"}",
                                  "{\"a\":\"\xed\xa0\x80\"}",
                                  "{\"a\":1,}",
                                  "{,}",
                                  "[1,]",
                                  "{\"a\":[1 2]}",
                                  "\xef\xbb\xbf{}",
                                  "// {}",
                                  "\x80\x04\x95pickle",
                                  "O:8:\"stdClass\":0:{}"}) {
    ExpectRefused(Json(), bytes);
  }
  ExpectRefused(Json(), absl::string_view("{}\0", 3));
  ExpectRefused(Json(), absl::string_view("{\"a\":\"\0\"}", 9));
}

TEST(ExternalTest, AnAnswerOfAnotherShapeIsRefused) {
  for (absl::string_view bytes : {"42", "\"text\"", "true", "[{\"a\":1}]"}) ExpectRefused(Json(), bytes);
  ExpectRefused(Json("", "rows"), R"({"a":1})");
  ExpectRefused(Envelope(), R"({"v":1,"data":{"row":[1]}})");
}

TEST(ExternalTest, AnEnvelopeWithoutItsPartsIsRefused) {
  for (absl::string_view bytes :
       {R"({"price":1})", R"({"v":1})", R"({"data":{"row":{}}})", R"({"v":1,"data":{"rows":{}}})",
        R"({"v":1,"data":[{}]})", R"([{"v":1,"data":{"row":{}}}])", R"({"v":1,"data":"{\"row\":{}}"})",
        // Which of the two?
        R"({"v":1,"data":{"row":{"a":1},"row":{"a":2}}})", R"({"v":1,"data":{"row":{}},"data":{}})",
        R"({"v":1,"v":2,"data":{"row":{}}})", R"({"v":1,"v":2,"data":{"row":{}}})"}) {
    ExpectRefused(Envelope(), bytes);
  }
}

TEST(ExternalTest, DeepAndLargeValuesAreRefused) {
  const auto nested = [](int depth) {
    return absl::StrCat(R"({"a":)", std::string(depth, '['), std::string(depth, ']'), "}");
  };
  EXPECT_TRUE(DecodeExternal(Json(), nested(900)).ok());
  ExpectRefused(Json(), nested(1001));
  ExpectRefused(Json(), absl::StrCat(R"({"a":)", std::string(1'000'000, '[')));
  const auto large = [](size_t size) { return absl::StrCat(R"({"a":")", std::string(size - 8, 'x'), R"("})"); };
  EXPECT_TRUE(DecodeExternal(Json(), large(kExternalBytesMax)).ok());
  EXPECT_FALSE(DecodeExternal(Json(), large(kExternalBytesMax + 1)).ok());
  EXPECT_TRUE(DecodeExternal(Json(", compression: gzip"), Gzip(large(kExternalBytesMax))).ok());
  EXPECT_TRUE(DecodeExternal(Json(", compression: zstd"), Zstd(large(kExternalBytesMax))).ok());
  // Bombs: a thousandth of what they become.
  ExpectRefused(Json(", compression: gzip"), Gzip(large(kExternalBytesMax + 1)));
  ExpectRefused(Json(", compression: zstd"), Zstd(large(kExternalBytesMax + 1)));
  const std::string bomb(64 << 20, ' ');
  ExpectRefused(Json(", compression: zstd"), Zstd(bomb));
}

TEST(ExternalTest, WhatDoesNotDecompressIsRefused) {
  const std::string body = R"({"price":1})";
  const Endpoint gzip = Json(", compression: gzip");
  const Endpoint zstd = Json(", compression: zstd");
  for (const std::string& bytes : {std::string(), body, std::string("\x1f\x8b"), Zstd(body), Gzip(body) + "x",
                                   Gzip(body) + Gzip(body), Gzip("no json")}) {
    ExpectRefused(gzip, bytes);
  }
  for (const std::string& bytes :
       {std::string(), body, Gzip(body), Zstd(body) + "x", Zstd(body) + Zstd(body), Zstd("no json")}) {
    ExpectRefused(zstd, bytes);
  }
}

// Whatever is cut off, and whatever byte is another one: an answer or a refusal. Cut ones are always refused.
TEST(ExternalTest, NoTruncationAndNoFlippedByteIsMisread) {
  const std::string body = R"({"v":12,"data":{"x":["\u00e9\n",-1.5e+10,true,null],"row":{"price":"9.99","é":{}}}})";
  const std::vector<std::pair<Endpoint, std::string>> values = {{Json(), body},
                                                                {Envelope(), body},
                                                                {Envelope(", compression: gzip"), Gzip(body)},
                                                                {Envelope(", compression: zstd"), Zstd(body)}};
  base::Random random(11);
  for (const auto& [endpoint, bytes] : values) {
    ASSERT_TRUE(DecodeExternal(endpoint, bytes).ok());
    const bool sealed = endpoint.external->compression != ExternalCache::Compression::kNone;
    const std::string right = DecodeExternal(endpoint, bytes)->answer.body;
    for (size_t size = 0; size < bytes.size(); ++size) ExpectRefused(endpoint, bytes.substr(0, size));
    for (size_t at = 0; at < bytes.size(); ++at) {
      for (int i = 0; i < 16; ++i) {
        std::string flipped = bytes;
        flipped[at] ^= static_cast<char>(1 + random.Below(255));
        const auto answer = DecodeExternal(endpoint, flipped);
        if (answer.ok() && sealed) {
          EXPECT_EQ(answer->answer.body, right) << at;
        }
      }
    }
  }
}

// ---- Pointers ----

TEST(JsonTextTest, PointersLeadThroughMembersAndItems) {
  const std::string text = R"({"a/b":{"m~n":[10,{"":"x"}]},"caf\u00e9":1,"q\"":2,"a":[[],[ [3] ]]})";
  const auto find = [&text](absl::string_view pointer) {
    const JsonPointer parsed = ParseJsonPointer(pointer).value();
    return std::string(FindInJson(text, {&parsed, 1}).value()[0]);
  };
  EXPECT_EQ(find("/a~1b/m~0n/0"), "10");
  EXPECT_EQ(find("/a~1b/m~0n/1/"), "\"x\"");
  EXPECT_EQ(find("/café"), "1");
  EXPECT_EQ(find("/q\""), "2");
  EXPECT_EQ(find("/a/1/0/0"), "3");
  for (absl::string_view nowhere : {"/b", "/a~1b/m~0n/2", "/a~1b/m~0n/00", "/a/1/0/0/0", "/a~1b/m~0n/-", "/"}) {
    EXPECT_EQ(find(nowhere), "") << nowhere;
  }
}

TEST(JsonTextTest, OnePointerMayLeadThroughAnother) {
  const JsonPointer pointers[] = {{"a"}, {"a", "b"}, {}};
  EXPECT_THAT(FindInJson(R"( {"a":{"b":1}} )", pointers).value(), ElementsAre(R"({"b":1})", "1", R"({"a":{"b":1}})"));
}

TEST(JsonTextTest, WhatIsNoPointerIsRefused) {
  for (absl::string_view text : {"", "a", "$.a", "/a~", "/~2", "#/a"}) {
    EXPECT_EQ(ParseJsonPointer(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

// message Quote { int64 id = 1; string note = 2; repeated Quote rows = 3; }, in the package shop.
std::string QuoteDescriptors() {
  google::protobuf::FileDescriptorSet set;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(R"(file {
    name: "shop.proto" package: "shop" syntax: "proto3" message_type { name: "Quote"
      field { name: "id" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL }
      field { name: "note" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
      field { name: "rows" number: 3 type: TYPE_MESSAGE type_name: ".shop.Quote" label: LABEL_REPEATED } } })",
                                                            &set));
  return absl::Base64Escape(set.SerializeAsString());
}

absl::StatusOr<Endpoint> DeclaredMessage(absl::string_view external, absl::string_view result,
                                         const std::string& descriptors = QuoteDescriptors()) {
  auto catalog = ParseCatalog(absl::StrCat(R"(version: 1
tenants: {list: [acme]}
descriptors: {shop: )",
                                           descriptors, R"(}
families:
  pricing:
    endpoints:
      quote:
        sql: SELECT id FROM quote WHERE tenant = :tenant
        result: )",
                                           result, R"(
        external: {key: 'quote:{tenant}', format: protobuf)",
                                           external, "}\n"),
                              /*revision=*/1);
  if (!catalog.ok()) return catalog.status();
  return *(*catalog)->Find("pricing/quote");
}

TEST(ExternalMessageTest, BecomesJsonByItsFields) {
  const auto row = DeclaredMessage(", message: shop.Quote, version: /id, not_found: '-'", "row");
  ASSERT_TRUE(row.ok()) << row.status();
  const auto decoded = DecodeExternal(*row, "\x08\x07\x12\x01x");
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->answer.body, R"({"id":7,"note":"x","rows":[]})");
  EXPECT_FALSE(DecodeExternal(*row, "-")->answer.found);
  // Order and spelling of the bytes mean nothing; the version does.
  EXPECT_EQ(DecodeExternal(*row, "\x12\x01x\x08\x07")->fill, decoded->fill);
  EXPECT_NE(DecodeExternal(*row, "\x08\x08\x12\x01x")->fill, decoded->fill);
  EXPECT_TRUE(absl::IsDataLoss(DecodeExternal(*row, "\x08\x07\x12\x05x").status()));

  const auto rows = DeclaredMessage(", message: shop.Quote, payload: /rows", "rows");
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ(DecodeExternal(*rows, "\x1a\x02\x08\x01")->answer.body, R"([{"id":1,"note":"","rows":[]}])");
}

TEST(ExternalMessageTest, WhatCannotBeReadLaterIsRefusedWhenItIsApplied) {
  const auto refusal = [](absl::string_view external, absl::string_view result,
                          const std::string& descriptors = QuoteDescriptors()) {
    return std::string(DeclaredMessage(external, result, descriptors).status().message());
  };
  EXPECT_THAT(refusal("", "row"), HasSubstr("external.message: missing"));
  EXPECT_THAT(refusal(", message: shop.Absent", "row"),
              HasSubstr("external.message: no descriptor set under `descriptors` has a message `shop.Absent`"));
  EXPECT_THAT(refusal(", message: shop.Quote", "rows"), HasSubstr("external.payload: missing; a message is no array"));
  EXPECT_THAT(refusal(", message: shop.Quote", "row", "'%%%'"), HasSubstr("descriptors.shop: not Base64"));
  EXPECT_THAT(refusal(", message: shop.Quote", "row", "AAAA"), HasSubstr("descriptors.shop: not a descriptor set"));
}

}  // namespace
}  // namespace shadowline::cache
