// Messages as JSON texts: what is the same message is the same text by value, and nothing in the bytes is lost.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "diff/compare/compare.h"
#include "diff/message/message_reader.h"

namespace shadowline::diff {
namespace {

namespace pb = google::protobuf;
using testing::HasSubstr;

constexpr absl::string_view kTimestamp = R"(file {
  name: "google/protobuf/timestamp.proto" package: "google.protobuf" syntax: "proto3"
  message_type { name: "Timestamp"
    field { name: "seconds" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL }
    field { name: "nanos" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL } }
  message_type { name: "StringValue"
    field { name: "value" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } }
})";

constexpr absl::string_view kQuote = R"(file {
  name: "shop/quote.proto" package: "shop" syntax: "proto3"
  dependency: "google/protobuf/timestamp.proto"
  enum_type { name: "State" value { name: "NONE" number: 0 } value { name: "OPEN" number: 1 } }
  message_type { name: "Quote"
    field { name: "id" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL }
    field { name: "big" number: 2 type: TYPE_UINT64 label: LABEL_OPTIONAL }
    field { name: "unit_price" number: 3 type: TYPE_DOUBLE label: LABEL_OPTIONAL json_name: "unitPrice" }
    field { name: "rate" number: 4 type: TYPE_FLOAT label: LABEL_OPTIONAL }
    field { name: "note" number: 5 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "blob" number: 6 type: TYPE_BYTES label: LABEL_OPTIONAL }
    field { name: "state" number: 7 type: TYPE_ENUM type_name: ".shop.State" label: LABEL_OPTIONAL }
    field { name: "tags" number: 8 type: TYPE_STRING label: LABEL_REPEATED }
    field { name: "at" number: 9 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" label: LABEL_OPTIONAL }
    field { name: "inner" number: 10 type: TYPE_MESSAGE type_name: ".shop.Quote" label: LABEL_OPTIONAL }
    field { name: "seen" number: 11 type: TYPE_INT32 label: LABEL_OPTIONAL proto3_optional: true oneof_index: 0 }
    field { name: "counts" number: 12 type: TYPE_MESSAGE type_name: ".shop.Quote.CountsEntry" label: LABEL_REPEATED }
    field { name: "ok" number: 13 type: TYPE_BOOL label: LABEL_OPTIONAL }
    field { name: "name" number: 14 type: TYPE_MESSAGE type_name: ".google.protobuf.StringValue" label: LABEL_OPTIONAL }
    nested_type { name: "CountsEntry" options { map_entry: true }
      field { name: "key" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
      field { name: "value" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL } }
    oneof_decl { name: "_seen" } }
})";

constexpr absl::string_view kOld = R"(file {
  name: "shop/old.proto" package: "shop" syntax: "proto2"
  message_type { name: "Old"
    field { name: "id" number: 1 type: TYPE_INT32 label: LABEL_REQUIRED }
    field { name: "count" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL default_value: "7" }
    extension_range { start: 100 end: 200 } }
  extension { name: "more" number: 100 type: TYPE_STRING label: LABEL_OPTIONAL extendee: ".shop.Old" }
})";

pb::FileDescriptorSet Set(absl::string_view text) {
  pb::FileDescriptorSet set;
  EXPECT_TRUE(pb::TextFormat::ParseFromString(std::string(text), &set));
  return set;
}

std::string QuoteSet() { return Set(absl::StrCat(kQuote, kTimestamp, kOld)).SerializeAsString(); }

// The bytes of a message that is written as Protobuf's text.
std::string Bytes(absl::string_view text, const std::string& type = "shop.Quote") {
  pb::DescriptorPool pool;
  for (const absl::string_view file : {kTimestamp, kQuote, kOld}) pool.BuildFile(Set(file).file(0));
  pb::DynamicMessageFactory factory;
  const std::unique_ptr<pb::Message> message(factory.GetPrototype(pool.FindMessageTypeByName(type))->New());
  EXPECT_TRUE(pb::TextFormat::ParseFromString(std::string(text), message.get())) << text;
  return message->SerializePartialAsString();
}

std::shared_ptr<const MessageReader> Reader(const std::string& type = "shop.Quote") {
  auto reader = MessageReader::Create(QuoteSet(), type);
  EXPECT_TRUE(reader.ok()) << reader.status();
  return *std::move(reader);
}

// The text, but for the members that have their defaults.
std::string Json(absl::string_view text) {
  const auto json = Reader()->ToJson(Bytes(text));
  EXPECT_TRUE(json.ok()) << json.status();
  EXPECT_TRUE(CheckJson(*json).ok()) << *json;
  return *json;
}

bool Same(absl::string_view a, absl::string_view b) {
  return Compare({true, a}, {true, b}, CompiledRules()).verdict == Comparison::Verdict::kEqual;
}

constexpr absl::string_view kEmpty =
    R"({"id":0,"big":0,"unit_price":0,"rate":0,"note":"","blob":"","state":"NONE","tags":[],"counts":{},"ok":false})";

TEST(MessageTest, EachFieldIsWhatItSays) {
  EXPECT_EQ(
      Json(R"(id: -9007199254740993 big: 18446744073709551615 unit_price: 0.1 rate: 0.1 note: "a\"\n\303\251"
                    blob: "\000\377" state: OPEN tags: "x" tags: "y" ok: true seen: 0
                    at { seconds: 1662828363 nanos: 905795000 } name { value: "n" }
                    counts { key: 7 value: "b" } counts { key: -1 value: "a" })"),
      R"({"id":-9007199254740993,"big":18446744073709551615,"unit_price":0.1,"rate":0.1,"note":"a\"\né","blob":"AP8=",)"
      R"("state":"OPEN","tags":["x","y"],"at":"2022-09-10T16:46:03.905795Z","seen":0,"counts":{"-1":"a","7":"b"},)"
      R"("ok":true,"name":"n"})");
  EXPECT_THAT(Json("unit_price: nan rate: inf"), HasSubstr(R"("unit_price":"NaN","rate":"Infinity")"));
  EXPECT_THAT(Json("unit_price: -inf rate: 16777216"), HasSubstr(R"("unit_price":"-Infinity","rate":16777216)"));
  EXPECT_THAT(Json("unit_price: 1e300"), HasSubstr(R"("unit_price":1e+300,)"));
}

TEST(MessageTest, ADefaultIsThereWhetherOrNotItWasWritten) {
  EXPECT_TRUE(Same(Json(""), kEmpty)) << Json("");
  // id = 0 and note = "", written out.
  EXPECT_EQ(*Reader()->ToJson(absl::string_view("\x08\x00\x2a\x00", 4)), Json(""));
  // A field with presence says whether it was set.
  EXPECT_FALSE(Same(Json("seen: 0"), Json("")));
  EXPECT_FALSE(Same(Json("inner {}"), Json("")));
  EXPECT_THAT(Json("inner {}"), HasSubstr(absl::StrCat("\"inner\":", kEmpty)));
}

TEST(MessageTest, AnEnumsUnknownValueIsItsNumber) {
  EXPECT_THAT(*Reader()->ToJson("\x38\x63"), HasSubstr("\"state\":99,"));
}

TEST(MessageTest, WhatTheDescriptorDoesNotKnowIsNotLost) {
  const std::string known = Bytes("id: 1");
  // 100: the varint 5; 101: the text "q", twice; 102: a fixed 32 bit number.
  const std::string unknown =
      absl::StrCat(known, "\xa0\x06\x05", "\xaa\x06\x01q", "\xaa\x06\x01r", std::string("\xb5\x06\x01\0\0\0", 6));
  const std::string json = *Reader()->ToJson(unknown);
  EXPECT_THAT(json, HasSubstr(R"(,"#unknown":{"100":5,"101":["cQ==","cg=="],"102":1}})"));
  const Comparison result = Compare({true, *Reader()->ToJson(known)}, {true, json}, CompiledRules());
  ASSERT_EQ(result.differences.size(), 1u);
  EXPECT_EQ(result.differences[0].pointer, "/#unknown");
}

TEST(MessageTest, ATimeBeyondTheCalendarIsShownByItsFields) {
  EXPECT_THAT(Json("at { seconds: 253402300800 }"), HasSubstr(R"("at":{"seconds":253402300800,"nanos":0})"));
  EXPECT_THAT(Json("at { nanos: -1 }"), HasSubstr(R"("at":{"seconds":0,"nanos":-1})"));
  EXPECT_THAT(Json("at {}"), HasSubstr(R"("at":"1970-01-01T00:00:00Z")"));
}

TEST(MessageTest, OfTwoEntriesWithOneKeyTheLaterCounts) {
  const std::string twice = Bytes(R"(counts { key: 1 value: "a" })") + Bytes(R"(counts { key: 1 value: "b" })");
  EXPECT_THAT(*Reader()->ToJson(twice), HasSubstr(R"("counts":{"1":"b"})"));
}

TEST(MessageTest, OlderFilesKeepPresenceDefaultsAndExtensions) {
  const auto reader = Reader("shop.Old");
  EXPECT_EQ(*reader->ToJson(Bytes("id: 1", "shop.Old")), R"({"id":1})");
  EXPECT_EQ(*reader->ToJson(Bytes("id: 1 count: 7 [shop.more]: \"x\"", "shop.Old")),
            R"({"id":1,"count":7,"[shop.more]":"x"})");
  EXPECT_THAT(std::string(reader->ToJson("").status().message()), HasSubstr("required field of shop.Old"));
}

TEST(MessageTest, BytesThatAreNoMessageAreDataLoss) {
  const std::string whole = Bytes(R"(id: 300 note: "text" inner { tags: "a" tags: "b" })");
  size_t refused = 0;
  for (size_t size = 0; size < whole.size(); ++size) {
    const auto json = Reader()->ToJson(absl::string_view(whole).substr(0, size));
    if (json.ok()) continue;
    ++refused;
    EXPECT_TRUE(absl::IsDataLoss(json.status()));
    EXPECT_THAT(std::string(json.status().message()), HasSubstr("no shop.Quote"));
  }
  EXPECT_GT(refused, whole.size() / 2);
  EXPECT_TRUE(absl::IsDataLoss(Reader()->ToJson("\x2a\x01\xff").status()));  // A text that is not UTF-8.
  std::string deep;
  for (int i = 0; i < 150; ++i) {
    std::string size;
    for (size_t left = deep.size();; left >>= 7) {
      size.push_back(static_cast<char>((left & 127) | (left > 127 ? 128 : 0)));
      if (left <= 127) break;
    }
    deep = absl::StrCat("\x52", size, deep);  // In `inner`.
    const bool ok = Reader()->ToJson(deep).ok();
    EXPECT_TRUE(ok || i > 90) << i;
    EXPECT_TRUE(!ok || i < 110) << i;
  }
}

TEST(MessageTest, WhatIsLargerThanTheCallerTakesIsNoFaultOfTheMessage) {
  const std::string text(100, 'x');
  const std::string bytes = absl::StrCat("\x2a\x64", text);  // `note`.
  const size_t size = Reader()->ToJson(bytes)->size();
  EXPECT_EQ(*Reader()->ToJson(bytes, size), *Reader()->ToJson(bytes));
  EXPECT_TRUE(absl::IsResourceExhausted(Reader()->ToJson(bytes, size - 1).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(Reader()->ToJson(bytes, bytes.size() - 1).status()));
  EXPECT_TRUE(absl::IsDataLoss(Reader()->ToJson("\x2a\x64", size).status()));
}

TEST(MessageTest, ADescriptorSetThatIsIncompleteIsRefusedByName) {
  const auto refusal = [](absl::string_view set, absl::string_view message) {
    return std::string(MessageReader::Create(set, message).status().message());
  };
  EXPECT_THAT(refusal("\xff\xff", "shop.Quote"), HasSubstr("not a descriptor set"));
  EXPECT_THAT(refusal("", "shop.Quote"), HasSubstr("not a descriptor set"));
  EXPECT_THAT(refusal(Set(kQuote).SerializeAsString(), "shop.Quote"),
              HasSubstr("lacks `google/protobuf/timestamp.proto`, which `shop/quote.proto` imports"));
  EXPECT_THAT(refusal(QuoteSet(), "shop.Absent"), HasSubstr("no message `shop.Absent`"));
  pb::FileDescriptorSet wrong = Set(kOld);
  wrong.mutable_file(0)->mutable_message_type(0)->mutable_field(0)->set_number(0);
  EXPECT_THAT(refusal(wrong.SerializeAsString(), "shop.Old"), HasSubstr("the descriptor set is wrong: shop/old.proto"));
  pb::FileDescriptorSet circle = Set(kOld);
  circle.mutable_file(0)->add_dependency("shop/old.proto");
  EXPECT_THAT(refusal(circle.SerializeAsString(), "shop.Old"), HasSubstr("the descriptor set is wrong"));
}

}  // namespace
}  // namespace shadowline::diff
