// The capture section of a catalog: what it is compiled to, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "cache/catalog/parse.h"

namespace shadowline::cache {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr absl::string_view kFamilies = R"(version: 1
tenants: {list: [acme]}
families:
  pricing:
    endpoints:
      list:
        sql: SELECT 1 AS x WHERE :tenant = :region AND :product = 1
        parameters: {region: {type: text, fold_case: true}, product: {type: integer}}
        tags: ["prices:{region}:{product}", "all/{tenant}"]
  shop:
    endpoints:
      list:
        sql: SELECT 1 AS x WHERE :tenant = :where AND :id = 1
        parameters: {where: {type: text}, id: {type: number}}
        tags: ["prices:{where}:{id}"]
)";

std::string Yaml(absl::string_view tables) { return absl::StrCat(kFamilies, "capture:\n  tables:\n", tables); }

std::string Refusal(absl::string_view tables) {
  const auto catalog = ParseCatalog(Yaml(tables), 1);
  EXPECT_FALSE(catalog.ok());
  return std::string(catalog.status().message());
}

TEST(CaptureCatalogTest, ATagTakesTheFormsOfTheEndpointsThatHaveIt) {
  const auto catalog = ParseCatalog(Yaml(R"(    saas.price:
      tenant: "{account}"
      tenant_query: SELECT slug FROM account WHERE id = :key::int
      tags: ["prices:{region}:{product_id}"]
    saas.currency: {families: [shop]}
)"),
                                    1);
  ASSERT_TRUE(catalog.ok()) << catalog.status();
  const std::vector<CapturedTable>& tables = (*catalog)->captured();
  ASSERT_THAT(tables, SizeIs(2));
  EXPECT_EQ(tables[0].name, "saas.currency");
  EXPECT_THAT(tables[0].families, ElementsAre("shop"));
  EXPECT_THAT(tables[0].tenant, IsEmpty());

  const CapturedTable& price = tables[1];
  EXPECT_THAT(price.columns, ElementsAre("account", "region", "product_id"));
  EXPECT_EQ(price.tenant_sql, "SELECT slug FROM account WHERE id = $1::int");
  EXPECT_THAT(price.families, ElementsAre("pricing", "shop"));
  for (const Endpoint& endpoint : (*catalog)->endpoints()) EXPECT_TRUE(endpoint.captured) << endpoint.name;
  ASSERT_THAT(price.tags, SizeIs(2)) << "pricing folds the region and takes integers, shop does not";
  EXPECT_TRUE(price.tags[0].pieces[1].form.fold_case != price.tags[1].pieces[1].form.fold_case);
  for (const CapturedTag& tag : price.tags) {
    EXPECT_THAT(tag.families, ElementsAre(tag.pieces[1].form.fold_case ? "pricing" : "shop"));
    EXPECT_EQ(tag.pieces[3].form.type, tag.pieces[1].form.fold_case ? ParameterType::kInteger : ParameterType::kNumber);
  }
}

TEST(CaptureCatalogTest, EveryMistakeHasItsPlaceAndRemedy) {
  EXPECT_THAT(Refusal("    saas.price: {tenant: \"{a}\", tags: [\"price:{region}\"]}\n"),
              HasSubstr("18:40: capture.tables.saas.price.tags[0]: no endpoint has a tag of this form"));
  EXPECT_THAT(Refusal("    saas.price: {tennant: x}\n"), HasSubstr("unknown field"));
  EXPECT_THAT(Refusal("    price: {families: [shop]}\n"), HasSubstr("expected schema.table"));
  EXPECT_THAT(Refusal("    a.b: {tenant: acme, tags: [\"all/{x}\"]}\n"), HasSubstr("it names no column"));
  EXPECT_THAT(Refusal("    a.b: {tenant: \"{x\", tags: [\"all/{x}\"]}\n"), HasSubstr("a brace without its other half"));
  EXPECT_THAT(Refusal("    a.b: {tenant: \"{x}\"}\n"), HasSubstr("capture.tables.a.b.tags: missing"));
  EXPECT_THAT(Refusal("    a.b: {tenant: \"{x}\", tags: [\"all/{x}\"], families: [shop]}\n"),
              HasSubstr("is for tables that are every tenant's"));
  EXPECT_THAT(Refusal("    a.b: {tags: [\"all/{x}\"]}\n"), HasSubstr("need a tenant"));
  EXPECT_THAT(Refusal("    a.b: {families: [shop], tenant_query: SELECT :key}\n"), HasSubstr("needs a tenant"));
  EXPECT_THAT(Refusal("    a.b: {families: [stop]}\n"), HasSubstr("there is no family `stop`"));
  EXPECT_THAT(Refusal("    a.b: {families: [shop, shop]}\n"), HasSubstr("`shop` is repeated"));
  EXPECT_THAT(Refusal("    a.b: {families: []}\n"), HasSubstr("neither a tenant with tags nor families"));
  EXPECT_THAT(Refusal("    a.b: {tenant: \"{x}\", tenant_query: SELECT 1, tags: [\"all/{x}\"]}\n"),
              HasSubstr("expected one parameter, `:key`"));
  EXPECT_THAT(Refusal("    a.b: {tenant: \"{x}\", tenant_query: \"DELETE :key\", tags: [\"all/{x}\"]}\n"),
              HasSubstr("SELECT"));
}

TEST(CaptureCatalogTest, ChangesAreDescribed) {
  const auto document = [](absl::string_view tables) { return (*ParseCatalog(Yaml(tables), 1))->document(); };
  const auto before = document("    a.b: {families: [shop]}\n    a.c: {families: [shop]}\n");
  const auto after = document("    a.c: {families: [pricing]}\n    a.d: {families: [shop]}\n");
  EXPECT_THAT(DescribeChanges(before, after),
              ElementsAre("~ capture a.c: families changed", "+ capture a.d", "- capture a.b"));
}

}  // namespace
}  // namespace shadowline::cache
