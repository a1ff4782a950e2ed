// Reading catalog documents: what is accepted, and that everything else is refused with its place and its remedy.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/str_replace.h"
#include "base/clock.h"
#include "cache/catalog/parse.h"
#include "cache/catalog/sql.h"

namespace shadowline::cache {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// Line 1 is `version`. Tests replace parts of it.
constexpr absl::string_view kCatalog = R"(version: 1
tenants:
  list: [acme, globex]
families:
  pricing:
    policy:
      duration: 1h
    endpoints:
      quote:
        sql: SELECT price FROM quote WHERE tenant = :tenant AND product = :product AND tier = :tier
        parameters:
          product: {type: integer}
          tier: {type: text, fold_case: true, default: Standard}
        ttl: 30s
        tags: ["product:{product}", "all/{tenant}"]
)";

std::string Edited(std::initializer_list<std::pair<absl::string_view, absl::string_view>> edits) {
  std::string yaml(kCatalog);
  for (const auto& [from, to] : edits) {
    EXPECT_THAT(yaml, HasSubstr(std::string(from)));
    yaml = absl::StrReplaceAll(yaml, {{from, to}});
  }
  return yaml;
}

std::string Refusal(absl::string_view yaml) {
  const auto catalog = ParseCatalog(yaml, 1);
  EXPECT_EQ(catalog.status().code(), absl::StatusCode::kInvalidArgument) << catalog.status();
  return std::string(catalog.status().message());
}

std::string RefusalOf(absl::string_view from, absl::string_view to) { return Refusal(Edited({{from, to}})); }

TEST(CatalogTest, CompilesAnEndpoint) {
  const auto catalog = ParseCatalog(kCatalog, 7);
  ASSERT_TRUE(catalog.ok()) << catalog.status();
  EXPECT_EQ((*catalog)->revision(), 7u);
  EXPECT_EQ((*catalog)->Find("pricing/nothing"), nullptr);
  const Endpoint* quote = (*catalog)->Find("pricing/quote");
  ASSERT_NE(quote, nullptr);
  EXPECT_EQ(quote->family, "pricing");
  EXPECT_EQ(quote->sql, "SELECT price FROM quote WHERE tenant = $1 AND product = $2 AND tier = $3");
  ASSERT_EQ(quote->parameters.size(), 2u);
  EXPECT_EQ(quote->parameters[0].name, "product");
  EXPECT_EQ(quote->parameters[0].type, ParameterType::kInteger);
  EXPECT_EQ(quote->parameters[1].default_text, "standard");  // Folded as a request's value would be.
  EXPECT_EQ(quote->ttl, absl::Seconds(30));
  EXPECT_EQ(quote->freshness, absl::Seconds(2));
  EXPECT_EQ(quote->negative_ttl, absl::Seconds(10));
  EXPECT_EQ(quote->timeout, absl::Seconds(5));
  EXPECT_EQ(quote->schema, 1u);
  EXPECT_EQ(quote->compress_above, 4096u);
  EXPECT_TRUE(quote->refresh_early);
  EXPECT_FALSE(quote->stale_while_revalidate);
  EXPECT_EQ(quote->warm, 0u);
  EXPECT_FALSE(quote->show_values);
  ASSERT_EQ(quote->tags.size(), 2u);
  EXPECT_EQ(quote->tags[0][0].literal, "product:");
  EXPECT_EQ(quote->tags[0][1].parameter, 0);
  EXPECT_EQ(quote->tags[1][1].parameter, -2);
}

TEST(CatalogTest, TheDemosCatalogIsAccepted) {
  const char* root = std::getenv("SHADOWLINE_SOURCE_DIR");
  ASSERT_NE(root, nullptr);
  std::ifstream file(std::string(root) + "/tests/demo/catalog.yaml");
  std::stringstream text;
  text << file.rdbuf();
  const auto catalog = ParseCatalog(text.str(), 1);
  ASSERT_TRUE(catalog.ok()) << catalog.status();
  EXPECT_NE((*catalog)->Find("permissions/effective"), nullptr);
}

TEST(CatalogTest, TheDefinitionFollowsWhatACachedValueDependsOn) {
  const auto definition = [](const std::string& yaml) {
    const auto catalog = ParseCatalog(yaml, 1);
    EXPECT_TRUE(catalog.ok()) << catalog.status();
    return catalog.ok() ? (*catalog)->Find("pricing/quote")->definition_id : "";
  };
  const std::string original = definition(Edited({}));
  EXPECT_EQ(definition(Edited({{"ttl: 30s", "ttl: 60s"}, {"duration: 1h", "duration: 2h"}})), original);
  EXPECT_NE(definition(Edited({{"SELECT price", "SELECT price AS p"}})), original);
  EXPECT_NE(definition(Edited({{"ttl: 30s", "result: rows"}})), original);
  EXPECT_NE(definition(Edited({{"ttl: 30s", "identity: [tier]"}})), original);
  EXPECT_NE(definition(Edited({{"\"product:{product}\"", "\"products:{product}\""}})), original);
  EXPECT_NE(definition(Edited({{"{type: integer}", "{type: number}"}})), original);
}

// ---- External caches ----

constexpr absl::string_view kFilledByUs = R"(        ttl: 30s
        tags: ["product:{product}", "all/{tenant}"]
)";

// The endpoint of kCatalog with an external cache instead.
std::string External(absl::string_view external) {
  return Edited({{kFilledByUs, absl::StrCat("        external: {", external, "}\n")}});
}

TEST(CatalogTest, CompilesAnExternalCache) {
  const auto catalog = ParseCatalog(External(R"(key: "q:{tenant}/{product} {tier}!", format: envelope,
          payload: /data, version: /v, compression: zstd, not_found: "null")"),
                                    1);
  ASSERT_TRUE(catalog.ok()) << catalog.status();
  const Endpoint* quote = (*catalog)->Find("pricing/quote");
  ASSERT_TRUE(quote->external.has_value());
  const ExternalCache& external = *quote->external;
  ASSERT_EQ(external.key.size(), 7u);
  EXPECT_EQ(external.key[0].literal, "q:");
  EXPECT_EQ(external.key[1].parameter, -2);
  EXPECT_EQ(external.key[3].parameter, 0);
  EXPECT_EQ(external.delimiters, "/ ");  // What begins or ends a key separates nothing.
  EXPECT_EQ(external.format, ExternalCache::Format::kEnvelope);
  EXPECT_EQ(external.payload, "/data");
  EXPECT_EQ(external.version, "/v");
  EXPECT_EQ(external.compression, ExternalCache::Compression::kZstd);
  EXPECT_EQ(external.not_found, "null");
  EXPECT_FALSE(quote->refresh_early);
  EXPECT_THAT(quote->tags, IsEmpty());  // Nothing of it is invalidated by Shadowline.

  const auto plain = ParseCatalog(External(R"(key: "{tenant}:{product}:{tier}")"), 1);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ((*plain)->Find("pricing/quote")->external->format, ExternalCache::Format::kJson);
  EXPECT_EQ((*plain)->Find("pricing/quote")->external->not_found, std::nullopt);
}

TEST(CatalogTest, AnExternalKeyHoldsAllThatAnAnswerDependsOn) {
  EXPECT_THAT(Refusal(External("format: json")), HasSubstr("quote.external.key: missing; expected"));
  EXPECT_THAT(Refusal(External(R"(key: "q:{product}:{tier}")")),
              HasSubstr("external.key: {tenant} is not in it; two tenants would share a value"));
  EXPECT_THAT(Refusal(External(R"(key: "q:{tenant}:{product}")")),
              HasSubstr("external.key: {tier} is not in it; reads that differ in `tier` would share a value"));
  EXPECT_THAT(Refusal(External(R"(key: "q:{tenant}:{product}:{tier}:{teir}")")),
              HasSubstr("{teir} is not a parameter"));
  EXPECT_THAT(Refusal(External(R"(key: "q:{tenant}{product}:{tier}")")),
              HasSubstr("nothing tells where {tenant} ends and {product} begins"));
  EXPECT_THAT(Refusal(External(R"(key: "q:{tenant}:{product}x{tier}")")),
              HasSubstr("nothing tells where {product} ends and {tier} begins"));
  const std::string list = Edited({{kFilledByUs, "        external: {key: \"q:{tenant}:{product}:{tier}\"}\n"},
                                   {"product: {type: integer}", "product: {type: integer_set}"}});
  EXPECT_THAT(Refusal(list), HasSubstr("parameters.product: a list cannot be part of an application's key"));
}

TEST(CatalogTest, AKeyThatReadsShareIsTakenWhereThatIsSaid) {
  const auto catalog = ParseCatalog(External(R"(key: "q:{product}", partial_key: true)"), 1);
  ASSERT_TRUE(catalog.ok()) << catalog.status();
  EXPECT_TRUE((*catalog)->Find("pricing/quote")->external->partial_key);
  EXPECT_THAT(Refusal(External(R"(key: "q:{tenant}{product}", partial_key: true)")),
              HasSubstr("nothing tells where {tenant} ends"));
}

TEST(CatalogTest, WhatAnExternalCacheCannotBeIsRefused) {
  const auto refusal = [](absl::string_view more) {
    return Refusal(External(absl::StrCat(R"(key: "q:{tenant}:{product}:{tier}", )", more)));
  };
  EXPECT_THAT(refusal("format: msgpack"), HasSubstr("`msgpack` is unknown; expected json, envelope or protobuf"));
  EXPECT_THAT(refusal("compression: lz4"), HasSubstr("`lz4` is unknown; expected none, gzip or zstd"));
  EXPECT_THAT(refusal("format: envelope"), HasSubstr("external.payload: missing"));
  EXPECT_THAT(refusal("payload: /data"), HasSubstr("only an envelope has one"));
  EXPECT_THAT(refusal("version: /v"), HasSubstr("only an envelope has one"));
  EXPECT_THAT(refusal("format: envelope, payload: $.data"), HasSubstr("`$.data`: expected a JSON Pointer such as"));
  EXPECT_THAT(refusal("format: envelope, payload: /data, version: v"), HasSubstr("external.version: `v`: expected"));
  for (absl::string_view field : {"ttl: 30s", "negative_ttl: 30s", "schema: 2", "compress_above: 0", "near: true",
                                  "refresh_early: true", "stale_while_revalidate: true", "warm: 5"}) {
    const std::string yaml = Edited({{kFilledByUs, absl::StrCat("        ", field,
                                                                "\n        external: {key: \"q:{tenant}:"
                                                                "{product}:{tier}\"}\n")}});
    EXPECT_THAT(Refusal(yaml), HasSubstr("the application fills this cache, so it means nothing here")) << field;
  }
}

TEST(CatalogTest, AnotherExternalCacheIsAnotherDefinition) {
  const auto definition = [](absl::string_view external) {
    const auto catalog = ParseCatalog(External(external), 1);
    EXPECT_TRUE(catalog.ok()) << catalog.status();
    return catalog.ok() ? (*catalog)->Find("pricing/quote")->definition_id : "";
  };
  const std::string key = R"(key: "q:{tenant}:{product}:{tier}")";
  const std::string envelope = key + ", format: envelope, payload: /data";
  std::set<std::string> all;
  for (const std::string& external :
       {key, std::string(R"(key: "r:{tenant}:{product}:{tier}")"), key + ", compression: gzip",
        key + ", not_found: \"\"", key + ", not_found: \"null\"", envelope, envelope + ", version: /v",
        key + ", format: envelope, payload: /row"}) {
    EXPECT_TRUE(all.insert(definition(external)).second) << external;
  }
}

TEST(CatalogTest, EveryFindingIsReportedAtItsPlace) {
  EXPECT_EQ(
      Refusal(Edited({{"version: 1", "version: 2"},
                      {"duration: 1h", "duration: 60"},
                      {"ttl: 30s", "tll: 30s"},
                      {"fold_case: true", "fold_case: yes"}})),
      "1:10: version: unknown version; expected 1\n"
      "7:17: families.pricing.policy.duration: `60` is no duration; expected a number with its unit, such as "
      "250ms, 30s, 5m or 48h\n"
      "13:41: families.pricing.endpoints.quote.parameters.tier.fold_case: `yes` is not accepted; expected true or "
      "false\n"
      "14:9: families.pricing.endpoints.quote.tll: unknown field; expected one of sql, parameters, result, freshness, "
      "ttl, negative_ttl, timeout, tags, schema, compare, evidence, compress_above, identity, near, refresh_early, "
      "stale_while_revalidate, warm, external, owner, authorization, committed_at, noise_ppm, "
      "observed, evidence_ttl, row_version");
}

TEST(CatalogTest, WrongTypesAreRefused) {
  EXPECT_THAT(RefusalOf("[acme, globex]", "acme"),
              HasSubstr("3:9: tenants.list: this is a single value; expected a list"));
  EXPECT_THAT(RefusalOf("{type: integer}", "integer"), HasSubstr("this is a single value; expected a mapping"));
  EXPECT_THAT(RefusalOf("ttl: 30s", "ttl:"), HasSubstr("14:9: families.pricing.endpoints.quote.ttl: it has no value"));
  EXPECT_THAT(RefusalOf("ttl: 30s", "schema: -1"), HasSubstr("`-1` is not accepted; expected a whole number"));
  EXPECT_THAT(RefusalOf("ttl: 30s", "schema: \"1\""), HasSubstr("expected a whole number"));
  EXPECT_THAT(RefusalOf("ttl: 30s", "schema: 4294967296"), HasSubstr("expected a whole number"));
  EXPECT_THAT(Refusal("[1]"), HasSubstr("1:1: this is a list; expected a mapping"));
}

TEST(CatalogTest, ValuesOutOfRangeAreRefused) {
  EXPECT_THAT(RefusalOf("ttl: 30s", "ttl: 99ms"), HasSubstr("99ms is out of range; expected 100ms to 168h"));
  EXPECT_THAT(RefusalOf("ttl: 30s", "warm: 1001"),
              HasSubstr("quote.warm: 1001 is out of range; expected at most 1000"));
  EXPECT_THAT(RefusalOf("ttl: 30s", "ttl: 8d"), HasSubstr("is no duration"));
  EXPECT_THAT(RefusalOf("ttl: 30s", "ttl: -1s"), HasSubstr("is no duration"));
  EXPECT_THAT(RefusalOf("ttl: 30s", "freshness: 5ms"), HasSubstr("expected 10ms to 24h"));
  EXPECT_THAT(RefusalOf("ttl: 30s", "timeout: 61s"), HasSubstr("expected 1ms to 1m"));
  EXPECT_THAT(RefusalOf("ttl: 30s", "result: table"), HasSubstr("`table` is unknown; expected row or rows"));
  EXPECT_THAT(RefusalOf("ttl: 30s", "evidence: all"), HasSubstr("expected redact or show"));
  EXPECT_THAT(RefusalOf("duration: 1h", "slo_ppm: 1000000"), HasSubstr("policy.slo_ppm: 1000000 is out of range"));
  EXPECT_THAT(RefusalOf("duration: 1h", "ramp_ppm: [5, 5, 1000000]"), HasSubstr("the steps must ascend"));
  EXPECT_THAT(RefusalOf("duration: 1h", "ramp_ppm: [5]"), HasSubstr("the last step must be 1000000"));
  EXPECT_THAT(RefusalOf("duration: 1h", "sample_by: tenant"), HasSubstr("expected requests or keys"));
}

TEST(CatalogTest, AnObservedEndpointHasNoStatement) {
  const auto observed = [](absl::string_view more) {
    return absl::StrCat(R"(version: 1
families:
  stock:
    endpoints:
      level:
        observed: true
        parameters: {id: {type: integer}, viewer: {type: text}}
        identity: [viewer]
        freshness: 3s
        compare: {ignore: ["$.at"]}
        evidence: show
        owner: /tenant
        authorization: true
)",
                        more);
  };
  const auto catalog = ParseCatalog(observed(""), 1);
  ASSERT_TRUE(catalog.ok()) << catalog.status();
  const Endpoint* level = (*catalog)->Find("stock/level");
  EXPECT_TRUE(level->observed);
  EXPECT_EQ(level->sql, "");
  EXPECT_EQ(level->freshness, absl::Seconds(3));
  EXPECT_EQ(level->owner, "/tenant");
  EXPECT_TRUE(level->authorization);
  EXPECT_TRUE(level->show_values);
  EXPECT_FALSE(level->refresh_early);
  EXPECT_THAT(level->tags, IsEmpty());
  EXPECT_EQ(level->parameters.size(), 2u);

  for (const char* field :
       {"sql: SELECT 1", "result: rows", "timeout: 1s", "ttl: 30s", "negative_ttl: 1s", "tags: [all]", "schema: 2",
        "compress_above: 0", "near: true", "refresh_early: true", "stale_while_revalidate: true", "warm: 1",
        "external: {key: \"{tenant}:{id}:{viewer}\"}", "committed_at: /at", "noise_ppm: 1"}) {
    const std::string name(absl::string_view(field).substr(0, absl::string_view(field).find(':')));
    EXPECT_THAT(Refusal(observed(absl::StrCat("        ", field, "\n"))),
                HasSubstr(absl::StrCat("stock.endpoints.level.", name, ": the application reads both sides")));
  }
}

TEST(CatalogTest, SaysWhatVerificationMayRelyOn) {
  const auto declared = [](absl::string_view fields) { return Edited({{"ttl: 30s", fields}}); };
  const auto catalog = ParseCatalog(declared(R"(ttl: 30s
        owner: /account/tenant
        authorization: true
        committed_at: /at
        row_version: /version
        noise_ppm: 0
        evidence: show
        evidence_ttl: 24h)"),
                                    1);
  ASSERT_TRUE(catalog.ok()) << catalog.status();
  const Endpoint* quote = (*catalog)->Find("pricing/quote");
  EXPECT_EQ(quote->owner, "/account/tenant");
  EXPECT_TRUE(quote->authorization);
  EXPECT_EQ(quote->committed_at, "/at");
  EXPECT_EQ(quote->row_version, "/version");
  EXPECT_EQ(quote->noise_ppm, 0u);
  EXPECT_EQ(quote->evidence_ttl, absl::Hours(24));

  EXPECT_THAT(Refusal(declared("owner: $.tenant")), HasSubstr("quote.owner: `$.tenant`: expected a JSON Pointer"));
  EXPECT_THAT(Refusal(declared("committed_at: at")), HasSubstr("quote.committed_at: `at`: expected a JSON Pointer"));
  EXPECT_THAT(Refusal(declared("committed_at: /at\n        result: rows")), HasSubstr("expected `result: row`"));
  EXPECT_THAT(Refusal(declared("row_version: v")), HasSubstr("quote.row_version: `v`: expected a JSON Pointer"));
  EXPECT_THAT(Refusal(declared("row_version: /v\n        result: rows")), HasSubstr("expected `result: row`"));
  EXPECT_THAT(Refusal(declared("row_version: /lines/*/v")), HasSubstr("`*` is many places"));
  EXPECT_THAT(Refusal(declared("row_version: /*")), HasSubstr("`*` is many places"));
  EXPECT_THAT(Refusal(declared("noise_ppm: 1000001")), HasSubstr("expected at most 1000000"));
  EXPECT_THAT(Refusal(declared("evidence_ttl: 91d")), HasSubstr("quote.evidence_ttl"));
}

TEST(CatalogTest, NamesAreChecked) {
  EXPECT_THAT(RefusalOf("  pricing:", "  Pricing:"), HasSubstr("5:3: families.Pricing: not a name"));
  EXPECT_THAT(RefusalOf("quote:", "quote/x:"), HasSubstr("not a name"));
  EXPECT_THAT(RefusalOf("product: {", "tenant: {"), HasSubstr("`tenant` is always there"));
  EXPECT_THAT(RefusalOf("[acme, globex]", "[acme, acme]"), HasSubstr("tenants.list[1]: `acme` is repeated"));
  EXPECT_THAT(RefusalOf("[acme, globex]", "[\"\"]"), HasSubstr("a tenant has 1 to 128 bytes"));
}

TEST(CatalogTest, ParametersAndStatementMustAgree) {
  EXPECT_THAT(RefusalOf("tenant = :tenant", "true"),
              HasSubstr("10:14: families.pricing.endpoints.quote.sql: it does not use :tenant"));
  EXPECT_THAT(RefusalOf("tier = :tier", "true"), HasSubstr("the statement does not use `:tier`"));
  EXPECT_THAT(RefusalOf("tier = :tier", "tier = :tier AND x = :y"), HasSubstr("`:y` is not declared"));
  EXPECT_THAT(RefusalOf("{type: integer}", "{type: uuid}"), HasSubstr("parameters.product.type: `uuid` is unknown"));
  EXPECT_THAT(RefusalOf("{type: integer}", "{}"), HasSubstr("missing; expected text, integer"));
  EXPECT_THAT(RefusalOf("{type: integer}", "{type: integer, default: x}"),
              HasSubstr("product.default: expected an integer"));
  EXPECT_THAT(RefusalOf("{type: integer}", "{type: integer, fold_case: true}"), HasSubstr("only texts have a case"));
}

TEST(CatalogTest, AnIdentityNeedNotBeInTheStatement) {
  const auto catalog = ParseCatalog(Edited({{" AND tier = :tier", ""}, {"ttl: 30s", "identity: [tier]"}}), 1);
  ASSERT_TRUE(catalog.ok()) << catalog.status();
  EXPECT_TRUE((*catalog)->Find("pricing/quote")->parameters[1].identity);
  EXPECT_THAT(RefusalOf("ttl: 30s", "identity: [viewer]"),
              HasSubstr("identity[0]: `viewer` is not among the parameters"));
}

TEST(CatalogTest, DefaultsOfListsAreWrittenBetweenCommas) {
  const auto catalog = ParseCatalog(Edited({{"{type: integer}", "{type: integer_set, default: '3, 1,3'}"},
                                            {"\"product:{product}\", ", ""},
                                            {"product = :product", "product = ANY(:product)"}}),
                                    1);
  ASSERT_TRUE(catalog.ok()) << catalog.status();
  EXPECT_EQ((*catalog)->Find("pricing/quote")->parameters[0].default_text, "{1,3}");
}

TEST(CatalogTest, TagsAreChecked) {
  EXPECT_THAT(RefusalOf("{product}", "{produkt}"), HasSubstr("tags[0]: {produkt} is not a parameter"));
  EXPECT_THAT(RefusalOf("{product}", "{product"), HasSubstr("a brace without its other half"));
  EXPECT_THAT(RefusalOf("{product}", "product}"), HasSubstr("a brace without its other half"));
  EXPECT_THAT(RefusalOf("[\"product:{product}\", \"all/{tenant}\"]", "[]"), HasSubstr("quote.tags: missing"));
  EXPECT_THAT(RefusalOf("{type: integer}", "{type: integer_list}"), HasSubstr("{product} is a list"));
}

TEST(CatalogTest, TheShapeOfCompareRulesIsChecked) {
  const auto with = [](absl::string_view rules) { return Edited({{"ttl: 30s", absl::StrCat("compare: ", rules)}}); };
  EXPECT_TRUE(
      ParseCatalog(with("{ignore: [$.at, /b], arrays: {'*': multiset, $.r: 'keyed:id'}, tolerance: [{path: '*', "
                        "absolute: '0.01'}]}"),
                   1)
          .ok());
  EXPECT_THAT(Refusal(with("{ignore: [at]}")),
              HasSubstr("compare.ignore[0]: path \"at\": at byte 0: expected a JSON Pointer"));
  EXPECT_TRUE(ParseCatalog(with("{ignore: ['$.rows[?@.draft == true].note', '$.log[-1:]']}"), 1).ok());
  EXPECT_THAT(Refusal(with("{ignore: ['$.rows[?@.draft = true]']}")),
              HasSubstr("compare.ignore[0]: path \"$.rows[?@.draft = true]\": at byte 16: expected , or ]"));
  EXPECT_THAT(Refusal(with("{instants: ['$[-1]']}")), HasSubstr("negative indices are for ignore"));
  EXPECT_THAT(Refusal(with("{arrays: {$.r: list, /r: multiset}}")),
              HasSubstr("compare: arrays $.r list: it contradicts"));
  EXPECT_THAT(Refusal(with("{arrays: {$.r: set}}")), HasSubstr("expected list, multiset or keyed:FIELD"));
  EXPECT_THAT(Refusal(with("{tolerance: [{path: $.a}]}")), HasSubstr("neither absolute nor relative"));
  EXPECT_THAT(Refusal(with("{tolerance: [{path: $.a, absolute: -1}]}")), HasSubstr("`-1` is no decimal"));
}

TEST(CatalogTest, TheTenantsQueryIsChecked) {
  EXPECT_TRUE(ParseCatalog(Edited({{"list: [acme, globex]", "query: SELECT slug FROM account;"}}), 1).ok());
  EXPECT_THAT(RefusalOf("list: [acme, globex]", "query: DELETE FROM account"),
              HasSubstr("tenants.query: it begins with `delete`"));
  EXPECT_THAT(RefusalOf("list: [acme, globex]", "query: SELECT :a"), HasSubstr("it has a parameter, `:a`"));
  EXPECT_THAT(RefusalOf("list: [acme, globex]", "refresh: 100ms"), HasSubstr("tenants.refresh"));
}

// ---- YAML that means harm ----

TEST(HostileYamlTest, IsRefusedInBoundedTime) {
  std::string aliases = "a: &a [x, x, x, x, x, x, x, x, x, x]\n";
  for (char name = 'b'; name <= 'j'; ++name) {
    aliases += absl::StrCat(std::string(1, name), ": &", std::string(1, name), " [");
    for (int i = 0; i < 10; ++i) aliases += absl::StrCat("*", std::string(1, name - 1), ", ");
    aliases += "]\n";
  }
  std::string long_texts = "a: &a " + std::string(1 << 20, 'x') + "\nb: [";
  for (int i = 0; i < 100; ++i) long_texts += "*a, ";
  long_texts += "]";
  std::string wide = "tenants: {list: [";
  while (wide.size() < 2 << 20) wide += "a,";
  std::string keys;
  for (int i = 0; i < 300'000; ++i) absl::StrAppend(&keys, i, ": 1\n");

  const std::vector<std::pair<std::string, std::string>> documents = {
      {aliases, "aliases followed"},
      {long_texts, "aliases followed"},
      {wide, "more than 200000 nodes"},
      {keys, "more than 200000 nodes"},
      {std::string(1 << 18, '['), "nested deeper"},
      {std::string(4 << 20, '['), "1:1001: nested deeper"},
      {std::string(4 << 20, '{'), "1:1001: nested deeper"},
      {"version: 1\ntenants: " + std::string(4'000'000, '['), "2:1010: nested deeper"},
      {std::string(1 << 18, '-'), ""},
      {std::string(1 << 18, '?'), ""},
      {std::string(1 << 18, '&'), ""},
      {std::string(1 << 18, '"'), ""},
      {std::string(4 << 20, ' ') + "a", ""},
      {std::string(1 << 18, '\n'), ""},
      {std::string((4 << 20) + 1, 'a'), "at most 4194304"},
      {"version: 1\nversion: 1", "2:1: `version` is repeated"},
      {"version: &a [*a]", "an alias inside of what it stands for"},
      {"version: *nowhere", "not YAML"},
      {"version: !!int 1", "tags are not accepted"},
      {"? [a]\n: b", "a key must be a name"},
      {"version: 1\n---\nversion: 1", "a second document"},
      {"version: \xff", "not valid UTF-8"},
      {std::string("version: 1\0", 11), "not valid UTF-8"},
      {"version: [1", "not YAML"},
      {"a: b: c", "not YAML"},
      {"\t- a", "not YAML"},
      {"", "the document is empty"},
      {"# nothing", "the document is empty"},
  };
  const base::SystemClock clock;
  for (const auto& [document, expected] : documents) {
    SCOPED_TRACE(absl::StrCat(document.substr(0, 30), "..."));
    const absl::Duration start = clock.Steady();
    EXPECT_THAT(Refusal(document), HasSubstr(expected));
    EXPECT_LT(clock.Steady() - start, absl::Seconds(20));
  }
}

TEST(HostileYamlTest, NestedBlocksAreRefusedAsNestedBracketsAre) {
  std::string nested;
  for (int depth = 0; depth < 2000; ++depth) nested += std::string(depth, ' ') + "a:\n";
  EXPECT_THAT(Refusal(nested), HasSubstr("nested deeper than 32 levels"));
}

TEST(HostileYamlTest, AliasesOfModestSizeAreFine) {
  EXPECT_TRUE(
      ParseCatalog(Edited({{"quote:", "quote: &q"}, {"        tags:", "        tags: &t"}}) + "      again: *q\n", 1)
          .ok());
}

TEST(HostileYamlTest, FindingsAreBounded) {
  std::string yaml = "version: 1\n";
  for (int i = 0; i < 10'000; ++i) absl::StrAppend(&yaml, "unknown", i, ": ", std::string(100, 'x'), "\n");
  const std::string refusal = Refusal(yaml);
  EXPECT_LT(refusal.size(), 5000u);
  EXPECT_THAT(refusal, HasSubstr(" more"));
}

// ---- Statements ----

std::string Scan(absl::string_view sql) {
  const auto scanned = ScanSql(sql, {"tenant", "a"});
  return scanned.ok() ? scanned->text : absl::StrCat("error: ", scanned.status().message());
}

TEST(ScanSqlTest, ReplacesParametersInCodeAlone) {
  EXPECT_EQ(Scan("SELECT :a, :tenant,:a"), "SELECT $2, $1,$2");
  EXPECT_EQ(Scan("SELECT ':a', ':a'':a', x"), "SELECT ':a', ':a'':a', x");
  EXPECT_EQ(Scan(R"(SELECT E'\':a', :a)"), R"(SELECT E'\':a', $2)");
  EXPECT_EQ(Scan(R"(SELECT e'\\', :a)"), R"(SELECT e'\\', $2)");
  EXPECT_EQ(Scan(R"(SELECT '\', :a)"), R"(SELECT '\', $2)");
  EXPECT_EQ(Scan("SELECT \":a\"\":a\", :a"), "SELECT \":a\"\":a\", $2");
  EXPECT_EQ(Scan("SELECT $$:a$$, $t$:a$$$t$, :a"), "SELECT $$:a$$, $t$:a$$$t$, $2");
  EXPECT_EQ(Scan("SELECT -- :a '\n:a"), "SELECT -- :a '\n$2");
  EXPECT_EQ(Scan("SELECT -- :a '\r:a"), "SELECT -- :a '\r$2");
  EXPECT_EQ(Scan("SELECT /* :a /* ' */ :a */ :a"), "SELECT /* :a /* ' */ :a */ $2");
  EXPECT_EQ(Scan("SELECT x::text, :a::int, f(a := :a)"), "SELECT x::text, $2::int, f(a := $2)");
  EXPECT_EQ(Scan("SELECT v[1:2], col$:a"), "SELECT v[1:2], col$ $2");
}

TEST(ScanSqlTest, ParametersAreReplacedOnceMoreInCodeAlone) {
  const auto name = [](size_t number) { return absl::StrCat("<", number, ">"); };
  EXPECT_EQ(ReplaceParameters("SELECT $1, $12::int FROM a WHERE b = ANY($2) LIMIT $3", name),
            "SELECT <1>, <12>::int FROM a WHERE b = ANY(<2>) LIMIT <3>");
  const std::string none = "SELECT '$1', E'\\'$1', \"$1\", a$1, $x$ $1 $x$ /* $1 /* $1 */ $1 */ -- $1";
  EXPECT_EQ(ReplaceParameters(none, name), none);
  EXPECT_EQ(ReplaceParameters("SELECT 1 -- $1\n, $1", name), "SELECT 1 -- $1\n, <1>");
}

TEST(ScanSqlTest, WhatPostgresReadsAsSomethingNewIsReadSo) {
  // After digits a text or a dollar quote begins; an identifier may contain a dollar.
  EXPECT_EQ(Scan(R"(SELECT 1e'\':a', :a)"), R"(SELECT 1e'\':a', $2)");
  EXPECT_EQ(Scan("SELECT 1$t$':a$t$, :a"), "SELECT 1$t$':a$t$, $2");
  EXPECT_EQ(Scan("SELECT a$t$, :a, b$t$"), "SELECT a$t$, $2, b$t$");
  EXPECT_THAT(Scan("SELECT E'x' -- \n '\\''; DELETE FROM t --'"), HasSubstr("a text follows an E'' text"));
}

TEST(ScanSqlTest, NamesThatAreNotDeclaredStayAndAreReported) {
  const auto scanned = ScanSql("SELECT :b, :A", {"a"});
  ASSERT_TRUE(scanned.ok());
  EXPECT_EQ(scanned->text, "SELECT :b, :A");
  EXPECT_THAT(scanned->used, ElementsAre("A", "b"));
}

TEST(ScanSqlTest, OneStatementOnly) {
  EXPECT_EQ(Scan("SELECT 1; -- done\n /* really */ "), "SELECT 1 -- done\n /* really */ ");
  EXPECT_THAT(Scan("SELECT 1; SELECT 2"), HasSubstr("something after the semicolon"));
  EXPECT_EQ(Scan("SELECT ';'"), "SELECT ';'");
}

TEST(ScanSqlTest, OnlySelects) {
  EXPECT_EQ(Scan("WITH x AS (SELECT 1) SELECT 2"), "WITH x AS (SELECT 1) SELECT 2");
  EXPECT_EQ(Scan("-- why\n(SELECT 1)"), "-- why\n(SELECT 1)");
  EXPECT_THAT(Scan("UPDATE t SET a = 1"), HasSubstr("it begins with `update`; expected one SELECT"));
  EXPECT_THAT(Scan("'x'"), HasSubstr("expected one SELECT"));
  EXPECT_THAT(Scan("  -- nothing"), HasSubstr("it is empty"));
}

TEST(ScanSqlTest, WhatIsOpenedMustBeClosed) {
  EXPECT_THAT(Scan("SELECT 'a"), HasSubstr("a quoted text is never closed"));
  EXPECT_THAT(Scan("SELECT \"a"), HasSubstr("a quoted name is never closed"));
  EXPECT_THAT(Scan("SELECT $x$ a $$"), HasSubstr("a dollar-quoted text is never closed"));
  EXPECT_THAT(Scan("SELECT 1 /* /* */"), HasSubstr("a comment is never closed"));
  EXPECT_THAT(Scan("SELECT (1"), HasSubstr("`(` is never closed"));
  EXPECT_THAT(Scan("SELECT 1) q, (SELECT 2"), HasSubstr("`)` closes nothing"));
  EXPECT_THAT(Scan("SELECT $1"), HasSubstr("`$1` is no parameter here"));
}

TEST(CalledNamesTest, FindsWhatAParenthesisFollows) {
  EXPECT_THAT(CalledNames("SELECT a, F(b), s.g /* x */ -- y\n (1), \"H\"\"h\" (2), 'i(', $$j($$, $1, k l(3)"),
              ElementsAre("H\"h", "f", "l", "s.g"));
  EXPECT_THAT(CalledNames("d.\"S\" . f(1), 1.5 (2)"), ElementsAre("S.f"));
  EXPECT_THAT(CalledNames("  Output: set_config('a(b'::text, $1, false)\n  Filter: (x = 1)"),
              ElementsAre("set_config"));
}

// ---- Policies, durations, changes ----

TEST(ParseDurationTest, NeedsAUnit) {
  EXPECT_EQ(*ParseDuration("250ms"), absl::Milliseconds(250));
  EXPECT_EQ(*ParseDuration("1h30m"), absl::Minutes(90));
  EXPECT_EQ(*ParseDuration("0s"), absl::ZeroDuration());
  EXPECT_EQ(*ParseDuration("1.5s"), absl::Milliseconds(1500));
  for (const char* text :
       {"", "5", "0", "-5s", "+5s", "inf", "5 s", " 5s", "5s ", "5d", "s", "5s5", "99999999999999999999h"}) {
    EXPECT_FALSE(ParseDuration(text).ok()) << text;
  }
}

TEST(EffectivePolicyTest, DefaultsThenTheFamilyThenTheRollout) {
  const auto catalog = ParseCatalog(Edited({{"duration: 1h", "duration: 1h\n      ramp_ppm: [10, 1000000]"}}), 1);
  ASSERT_TRUE(catalog.ok()) << catalog.status();
  shadowline::v1::Policy over;
  over.set_soak("1s");
  over.set_cache_sample_ppm(0);
  const auto policy = EffectivePolicy((*catalog)->document(), "pricing", over);
  EXPECT_EQ(policy.duration(), "1h");
  EXPECT_EQ(policy.soak(), "1s");
  EXPECT_EQ(policy.episodes(), 1000u);
  EXPECT_EQ(policy.cache_sample_ppm(), 0u);
  EXPECT_EQ(policy.shadow_sample_ppm(), 1'000'000u);
  EXPECT_EQ(policy.sample_uncertified_ppm(), 500'000u) << "on, unless it is declared to be off";
  EXPECT_THAT(policy.ramp_ppm(), ElementsAre(10, 1'000'000));
  EXPECT_EQ(EffectivePolicy((*catalog)->document(), "nothing").duration(), "48h");
  over.add_ramp_ppm(1'000'000);
  EXPECT_THAT(EffectivePolicy((*catalog)->document(), "pricing", over).ramp_ppm(), ElementsAre(1'000'000));
}

TEST(EffectivePolicyTest, TheDefaultsPassTheirOwnCheck) {
  EXPECT_TRUE(CheckPolicy(EffectivePolicy({}, "any")).ok());
  shadowline::v1::Policy policy;
  policy.set_duration("1");
  policy.set_confidence_ppm(1'000'000);
  EXPECT_THAT(CheckPolicy(policy).message(), testing::AllOf(HasSubstr("duration: "), HasSubstr("confidence_ppm: ")));
}

TEST(DescribeChangesTest, SaysWhatAPersonWouldSay) {
  const auto document = [](const std::string& yaml) { return (*ParseCatalog(yaml, 1))->document(); };
  const auto before = document(Edited({}));
  EXPECT_THAT(DescribeChanges(before, before), IsEmpty());
  EXPECT_THAT(DescribeChanges({}, before), ElementsAre("~ tenants: list changed", "+ pricing/quote"));
  const auto after =
      document(Edited({{"ttl: 30s", "ttl: 60s\n        compress_above: 0"},
                       {"SELECT price", "SELECT price AS p"},
                       {"duration: 1h", "approval: true"},
                       {"    endpoints:", "    endpoints:\n      old: {sql: 'SELECT :tenant AS t', tags: [x]}"}}));
  EXPECT_THAT(DescribeChanges(before, after),
              ElementsAre("+ pricing/old", "~ pricing/quote: sql changed, ttl 30s -> 60s, compress_above default -> 0",
                          "~ pricing policy: duration 1h -> default, approval default -> true"));
  EXPECT_THAT(DescribeChanges(after, before), testing::Contains("- pricing/old"));
}

}  // namespace
}  // namespace shadowline::cache
