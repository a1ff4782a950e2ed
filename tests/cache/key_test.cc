// The same question has one key, and nothing that a caller sends can forge another.
#include "cache/key/key.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <tuple>

#include "base/random.h"
#include "cache/key/text.h"

namespace shadowline::cache {
namespace {

using shadowline::v1::ReadRequest;
using shadowline::v1::Value;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

Endpoint MakeEndpoint(std::vector<ParameterDecl> parameters) {
  Endpoint endpoint;
  endpoint.name = "pricing/quote";
  endpoint.family = "pricing";
  endpoint.parameters = std::move(parameters);
  return endpoint;
}

ParameterDecl Declare(const std::string& name, ParameterType type) {
  ParameterDecl declared;
  declared.name = name;
  declared.type = type;
  return declared;
}

Value Text(const std::string& text) {
  Value value;
  value.set_text(text);
  return value;
}
Value Integer(int64_t integer) {
  Value value;
  value.set_integer(integer);
  return value;
}
Value Number(double number) {
  Value value;
  value.set_number(number);
  return value;
}
Value Texts(const std::vector<std::string>& texts) {
  Value value;
  value.mutable_texts();
  for (const std::string& text : texts) value.mutable_texts()->add_values(text);
  return value;
}
Value Integers(const std::vector<int64_t>& integers) {
  Value value;
  value.mutable_integers();
  for (const int64_t integer : integers) value.mutable_integers()->add_values(integer);
  return value;
}

ReadRequest Request(const std::vector<std::pair<std::string, Value>>& parameters) {
  ReadRequest request;
  request.set_tenant("acme");
  for (const auto& [name, value] : parameters) {
    auto* parameter = request.add_parameters();
    parameter->set_name(name);
    *parameter->mutable_value() = value;
  }
  return request;
}

// The one argument that `value` becomes, or "error: ...".
std::string Canonical(ParameterType type, const Value& value, bool fold_case = false) {
  ParameterDecl declared = Declare("p", type);
  declared.fold_case = fold_case;
  const Endpoint endpoint = MakeEndpoint({declared});
  const auto arguments = CanonicalArguments(endpoint, Request({{"p", value}}));
  if (!arguments.ok()) return absl::StrCat("error: ", arguments.status().message());
  return arguments->at(0).value_or("NULL");
}

TEST(CanonicalArgumentsTest, NumbersHaveOneForm) {
  EXPECT_EQ(Canonical(ParameterType::kNumber, Number(1)), "1");
  EXPECT_EQ(Canonical(ParameterType::kNumber, Number(-0.0)), "0");
  EXPECT_EQ(Canonical(ParameterType::kNumber, Number(0.1)), "0.1");
  EXPECT_EQ(Canonical(ParameterType::kNumber, Number(1e22)), "1e+22");
  EXPECT_EQ(Canonical(ParameterType::kInteger, Integer(std::numeric_limits<int64_t>::min())), "-9223372036854775808");
}

TEST(CanonicalArgumentsTest, NumbersThatAreNoneAreRefused) {
  for (const double number : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    EXPECT_THAT(Canonical(ParameterType::kNumber, Number(number)), HasSubstr("expected a finite number"));
  }
}

TEST(CanonicalArgumentsTest, SetsAreSortedWithoutDuplicatesAndListsAreNot) {
  EXPECT_EQ(Canonical(ParameterType::kTextSet, Texts({"b", "a", "b"})), R"({"a","b"})");
  EXPECT_EQ(Canonical(ParameterType::kTextList, Texts({"b", "a", "b"})), R"({"b","a","b"})");
  EXPECT_EQ(Canonical(ParameterType::kIntegerSet, Integers({10, 9, -1, 10})), "{-1,9,10}");
  EXPECT_EQ(Canonical(ParameterType::kIntegerList, Integers({10, 9, 10})), "{10,9,10}");
  EXPECT_EQ(Canonical(ParameterType::kIntegerSet, Integers({})), "{}");
}

TEST(CanonicalArgumentsTest, ArrayElementsAreQuoted) {
  EXPECT_EQ(Canonical(ParameterType::kTextList, Texts({"", "NULL", "a,b", "{}", R"(\")"})),
            R"({"","NULL","a,b","{}","\\\""})");
}

TEST(CanonicalArgumentsTest, CaseIsFoldedBeforeDuplicatesGo) {
  EXPECT_EQ(Canonical(ParameterType::kText, Text("EUR"), true), "eur");
  EXPECT_EQ(Canonical(ParameterType::kText, Text("EUR"), false), "EUR");
  EXPECT_EQ(Canonical(ParameterType::kTextSet, Texts({"B", "b", "A"}), true), R"({"a","b"})");
}

TEST(CanonicalArgumentsTest, TextsMustBeUtf8WithoutNul) {
  using namespace std::string_literals;
  for (const std::string& text :
       {"\xff"s, "a\0b"s, "12345678\0"s, "\xc0\x80"s, "\xed\xa0\x80"s, "\xf4\x90\x80\x80"s, "\xe2\x82"s}) {
    EXPECT_THAT(Canonical(ParameterType::kText, Text(text)), HasSubstr("not valid UTF-8"));
    EXPECT_THAT(Canonical(ParameterType::kTextSet, Texts({"fine", text})), HasSubstr("not valid UTF-8"));
  }
  EXPECT_EQ(Canonical(ParameterType::kText, Text("größer 8 bytes \xf0\x9f\x8c\x97")),
            "größer 8 bytes \xf0\x9f\x8c\x97");
}

TEST(CanonicalArgumentsTest, AnotherTypeIsRefusedAndTheValueNotRepeated) {
  const std::string error = Canonical(ParameterType::kInteger, Text("s3cret"));
  EXPECT_EQ(error, "error: pricing/quote: parameter `p`: expected an integer, got a text");
  EXPECT_THAT(Canonical(ParameterType::kNumber, Integer(1)), HasSubstr("expected a number, got an integer"));
  EXPECT_THAT(Canonical(ParameterType::kTextSet, Text("a")), HasSubstr("expected a list of texts, got a text"));
}

TEST(CanonicalArgumentsTest, MissingUnknownAndRepeatedParametersAreRefused) {
  ParameterDecl with_default = Declare("b", ParameterType::kText);
  with_default.default_text = "x";
  const Endpoint endpoint = MakeEndpoint({Declare("a", ParameterType::kInteger), with_default});

  EXPECT_THAT(*CanonicalArguments(endpoint, Request({{"a", Integer(1)}})), ElementsAre("1", "x"));
  EXPECT_THAT(*CanonicalArguments(endpoint, Request({{"b", Text("y")}, {"a", Integer(1)}})), ElementsAre("1", "y"));
  EXPECT_THAT(*CanonicalArguments(endpoint, Request({{"b", Value()}, {"a", Integer(1)}})),
              ElementsAre("1", std::nullopt));

  EXPECT_THAT(CanonicalArguments(endpoint, Request({})).status().message(),
              HasSubstr("`a` is missing; expected an integer"));
  EXPECT_THAT(CanonicalArguments(endpoint, Request({{"c", Integer(1)}})).status().message(),
              HasSubstr("unknown parameter `c`"));
  EXPECT_THAT(CanonicalArguments(endpoint, Request({{"a", Integer(1)}, {"a", Integer(1)}})).status().message(),
              HasSubstr("`a` is given twice"));
  EXPECT_EQ(CanonicalArguments(endpoint, Request({})).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(CanonicalArgumentsTest, LengthsAreBounded) {
  ParameterDecl text = Declare("p", ParameterType::kText);
  text.max_length = 4;
  EXPECT_TRUE(CanonicalValue(text, Text("1234")).ok());
  EXPECT_THAT(CanonicalValue(text, Text("12345")).status().message(), HasSubstr("at most 4"));
  ParameterDecl list = Declare("p", ParameterType::kIntegerList);
  list.max_length = 2;
  EXPECT_THAT(CanonicalValue(list, Integers({1, 2, 3})).status().message(), HasSubstr("at most 2"));
  ReadRequest many;
  for (int i = 0; i < 65; ++i) many.add_parameters()->set_name("p");
  EXPECT_THAT(CanonicalArguments(MakeEndpoint({text}), many).status().message(), HasSubstr("at most 64"));
}

TEST(CanonicalArgumentsTest, ATagThatInvalidateWouldNotTakeIsRefused) {
  Endpoint endpoint = MakeEndpoint({Declare("p", ParameterType::kText)});
  endpoint.tags = {{{"account:", -1}, {"", 0}}};
  EXPECT_TRUE(CanonicalArguments(endpoint, Request({{"p", Text(std::string(248, 'x'))}})).ok());
  EXPECT_THAT(CanonicalArguments(endpoint, Request({{"p", Text(std::string(249, 'x'))}})).status().message(),
              HasSubstr("tag 1 has 257 bytes"));
}

TEST(CacheKeyTest, LooksAsDocumented) {
  const Endpoint endpoint = MakeEndpoint({Declare("a", ParameterType::kText)});
  EXPECT_THAT(CacheKey(endpoint, "acme", 7, {"x"}), testing::MatchesRegex("sl:acme:pricing/quote:v1\\.7:[0-9a-f]{32}"));
}

TEST(CacheKeyTest, AnotherDefinitionHasOtherKeys) {
  Endpoint endpoint = MakeEndpoint({Declare("a", ParameterType::kText)});
  std::set<std::string> keys;
  for (const char* definition : {"0123456789abcdef", "fedcba9876543210"}) {
    endpoint.definition_id = definition;
    EXPECT_TRUE(keys.insert(CacheKey(endpoint, "acme", 0, {"x"})).second);
  }
}

TEST(CacheKeyTest, NothingInATenantCanForgeAnotherKey) {
  const Endpoint endpoint = MakeEndpoint({});
  const std::string honest = CacheKey(endpoint, "a", 0, {});
  std::string digest = honest.substr(honest.rfind(':'));
  for (const std::string& tenant : {std::string("a:pricing/quote:v1.0") + digest, std::string("a:b/.."),
                                    std::string("a%3A"), std::string("a/b"), std::string("a\0", 2), std::string("a\n"),
                                    std::string("fence"), std::string("A"), std::string("*"), std::string("a ")}) {
    const std::string key = CacheKey(endpoint, tenant, 0, {});
    EXPECT_NE(key, honest);
    EXPECT_EQ(std::count(key.begin(), key.end(), ':'), 4) << key;
    EXPECT_EQ(std::count(key.begin(), key.end(), '/'), 1) << key;
    EXPECT_THAT(key, testing::MatchesRegex("[A-Za-z0-9_.~:/%-]*"));
  }
  EXPECT_EQ(CacheKey(endpoint, "a:b/%", 0, {}).substr(0, 16), "sl:a%3Ab%2F%25:p");
}

TEST(CacheKeyTest, EveryByteOfATenantCounts) {
  const Endpoint endpoint = MakeEndpoint({});
  std::set<std::string> keys;
  for (int byte = 0; byte < 256; ++byte)
    keys.insert(CacheKey(endpoint, std::string(1, static_cast<char>(byte)), 0, {}));
  EXPECT_EQ(keys.size(), 256u);
}

TEST(CacheKeyTest, ATagNeverSharesAKeyWithAValue) {
  const Endpoint endpoint = MakeEndpoint({});
  const std::string key = CacheKey(endpoint, "fence", 0, {});
  EXPECT_NE(FenceKey("pricing/quote", "v1.0" + key.substr(key.rfind(':'))), key);
  EXPECT_THAT(FenceKey("a:b", "account:4/2"), testing::MatchesRegex("sl:fence:a%3Ab:[0-9a-f]{32}"));
  EXPECT_NE(FenceKey("a:b", "account:4/2"), FenceKey("a:b", "account:42"));
}

// Questions from a tiny alphabet, where every mistake of a delimiter or a length collides soon.
TEST(CacheKeyTest, DistinctQuestionsHaveDistinctKeys) {
  const uint64_t seed = base::SystemSeed();
  SCOPED_TRACE(seed);
  base::Random random(seed);
  const auto word = [&](int longest) {
    static constexpr absl::string_view kAlphabet("a:/%0\0!=1", 9);
    std::string text;
    for (uint64_t n = random.Below(longest + 1); n > 0; --n) text.push_back(kAlphabet[random.Below(kAlphabet.size())]);
    return text;
  };
  using Question = std::tuple<std::string, int, uint64_t, uint32_t, std::vector<std::optional<std::string>>>;
  std::map<std::string, Question> seen;
  std::vector<Endpoint> endpoints(3);
  endpoints[0].name = "a/b";
  endpoints[1].name = "a/b1";
  endpoints[2].name = "a-b/a";
  for (int round = 0; round < 50'000; ++round) {
    Question question;
    auto& [tenant, endpoint, epoch, schema, arguments] = question;
    tenant = word(3);
    endpoint = static_cast<int>(random.Below(3));
    epoch = random.Below(12);
    schema = static_cast<uint32_t>(1 + random.Below(12));
    const size_t count = random.Below(3);
    endpoints[endpoint].schema = schema;
    endpoints[endpoint].parameters.clear();
    for (size_t i = 0; i < count; ++i) {
      endpoints[endpoint].parameters.push_back(Declare(i == 0 ? "a" : "a1", ParameterType::kText));
      arguments.push_back(random.Below(5) == 0 ? std::nullopt : std::make_optional(word(4)));
    }
    const std::string key = CacheKey(endpoints[endpoint], tenant, epoch, arguments);
    const auto [at, fresh] = seen.emplace(key, question);
    ASSERT_TRUE(fresh || at->second == question) << key;
  }
}

TEST(RenderTagsTest, FillsInParametersAndTheTenant) {
  Endpoint endpoint = MakeEndpoint({Declare("a", ParameterType::kText), Declare("b", ParameterType::kInteger)});
  endpoint.tags = {{{"account:", -1}, {"", 0}, {"/", -1}, {"", 1}}, {{"all", -1}}, {{"of:", -1}, {"", -2}}};
  EXPECT_THAT(RenderTags(endpoint, "acme", {"x", "7"}), ElementsAre("account:x/7", "all", "of:acme"));
  EXPECT_THAT(RenderTags(endpoint, "acme", {std::nullopt, "7"}), ElementsAre("account:/7", "all", "of:acme"));
}

}  // namespace
}  // namespace shadowline::cache
