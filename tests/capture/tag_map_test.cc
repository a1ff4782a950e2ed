// From the rows of a stream to what they invalidate, over a catalog as it is written.
#include "cache/capture/tag_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "cache/capture/assembler.h"
#include "cache/catalog/parse.h"
#include "cache/key/key.h"
#include "tests/capture/messages.h"

namespace shadowline::cache {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint32_t kBool = 16, kInt4 = 23, kText = 25, kBpchar = 1042, kNumeric = 1700;

constexpr absl::string_view kCatalog = R"(version: 1
tenants: {list: [acme]}
families:
  pricing:
    endpoints:
      list:
        sql: SELECT :tenant || :region || :tier AS x
        parameters: {region: {type: text, fold_case: true, max_length: 8}, tier: {type: text}}
        tags: ["prices:{region}:{tier}"]
      product:
        sql: SELECT :tenant AS x WHERE :id = 1
        parameters: {id: {type: integer}}
        tags: ["product:{id}", "products of {tenant}"]
      by_amount:
        sql: SELECT :tenant AS x WHERE :amount = 1
        parameters: {amount: {type: number}}
        tags: ["amount:{amount}"]
      active:
        sql: SELECT :tenant AS x WHERE :active
        parameters: {active: {type: boolean}}
        tags: ["active:{active}"]
  dashboard:
    endpoints:
      product:
        sql: SELECT :tenant AS x WHERE :id = 1
        parameters: {id: {type: integer}}
        tags: ["product:{id}"]
capture:
  tables:
    saas.price:
      tenant: "{account}"
      tags: ["prices:{region}:{tier}"]
    saas.product:
      tenant: "{account}"
      tags: ["product:{product_id}", "products of {tenant}"]
    saas.flag:
      tenant: "{account}"
      tags: ["active:{on}", "amount:{amount}"]
    saas.bundle:
      tenant: "{account_id}"
      tenant_query: SELECT slug FROM saas.account WHERE account_id = :key::int
      tags: ["product:{id}"]
    saas.currency: {families: [pricing]}
)";

class FakeLookup final : public TenantLookup {
 public:
  absl::StatusOr<std::optional<std::string>> Find(const std::string& sql, const std::string& key) override {
    EXPECT_THAT(sql, HasSubstr("FROM saas.account"));
    if (key == "0") return absl::UnavailableError("the database is away");
    const auto found = tenants.find(key);
    if (found == tenants.end()) return std::optional<std::string>();
    return std::optional<std::string>(found->second);
  }

  std::map<std::string, std::string> tenants = {{"1", "acme"}, {"2", ""}};
};

// "tenant/tag" of every tag, and "tenant!family" of every drop; "*" for every tenant.
std::vector<std::string> Lines(const Effects& effects) {
  std::vector<std::string> lines;
  for (const auto& [tenant, tag] : effects.tags) lines.push_back(tenant + "/" + tag);
  for (const auto& [family, tenant] : effects.drops) lines.push_back((tenant.empty() ? "*" : tenant) + "!" + family);
  return lines;
}

class TagMapTest : public testing::Test {
 protected:
  // Effects of one message, in a transaction of its own.
  std::vector<std::string> Map(const std::string& message) {
    const absl::StatusOr<Effects> effects = TryMap(message);
    EXPECT_TRUE(effects.ok()) << effects.status();
    return effects.ok() ? Lines(*effects) : std::vector<std::string>();
  }
  absl::StatusOr<Effects> TryMap(const std::string& message) {
    const absl::StatusOr<Event> event = DecodeEvent(message);
    EXPECT_TRUE(event.ok()) << event.status();
    Effects effects;
    if (const auto* relation = std::get_if<Relation>(&*event)) map_.Learn(*relation);
    absl::Status status;
    if (const auto* change = std::get_if<Change>(&*event)) status = map_.Map(*change, &effects);
    if (const auto* truncate = std::get_if<Truncate>(&*event)) status = map_.Map(*truncate, &effects);
    if (!status.ok()) return status;
    return effects;
  }

  // The table's columns, those of its identity among them.
  void Prices(bool full) {
    Map(RelationBytes(
        1, "saas", "price",
        {{"account", kText, true}, {"region", kText, true}, {"tier", kText, full}, {"amount", kNumeric, full}}));
  }

  std::shared_ptr<const CompiledCatalog> catalog_ = *ParseCatalog(kCatalog, 1);
  FakeLookup lookup_;
  TagMap map_{catalog_, &lookup_, 100};
};

TEST_F(TagMapTest, AnInsertInvalidatesWhatTheRowBelongsTo) {
  Prices(/*full=*/false);
  EXPECT_THAT(Map(InsertBytes(1, {"acme", "EMEA", "Gold", "1.50"})), ElementsAre("acme/prices:emea:Gold"))
      << "the region is folded as the endpoint folds it";
}

TEST_F(TagMapTest, ARowThatLeavesASetInvalidatesTheSetItLeft) {
  Prices(/*full=*/true);
  EXPECT_THAT(Map(UpdateBytes(1, 'O', {"acme", "emea", "gold", "1"}, {"acme", "apac", "gold", "1"})),
              ElementsAre("acme/prices:apac:gold", "acme/prices:emea:gold"));
  EXPECT_THAT(Map(UpdateBytes(1, 'O', {"acme", "emea", "gold", "1"}, {"globex", "emea", "gold", "1"})),
              ElementsAre("acme/prices:emea:gold", "globex/prices:emea:gold"))
      << "also where it moves to another tenant";
  EXPECT_THAT(Map(DeleteBytes(1, 'O', {"acme", "emea", "gold", "1"})), ElementsAre("acme/prices:emea:gold"));
}

TEST_F(TagMapTest, WhatTheReplicaIdentityDoesNotCarryDropsTheFamilyOfItsTenant) {
  Prices(/*full=*/false);
  EXPECT_THAT(Map(DeleteBytes(1, 'K', {"acme", "emea", nullptr, nullptr})), ElementsAre("acme!pricing"))
      << "the tier is sent as NULL, and is not NULL";
  EXPECT_THAT(Map(UpdateBytes(1, 'K', {"acme", "emea", nullptr, nullptr}, {"acme", "apac", "gold", "1"})),
              ElementsAre("acme/prices:apac:gold", "acme!pricing"));
  EXPECT_THAT(Map(UpdateBytes(1, {"acme", "emea", "gold", "2"})), ElementsAre("acme/prices:emea:gold", "acme!pricing"))
      << "the tier may have been another";
}

TEST_F(TagMapTest, AKeyThatStayedIsKnownWithoutTheOldRow) {
  Map(RelationBytes(2, "saas", "product",
                    {{"account", kText, true}, {"product_id", kInt4, true}, {"name", kText, false}}));
  EXPECT_THAT(Map(UpdateBytes(2, {"acme", "7", "new name"})), ElementsAre("acme/product:7", "acme/products of acme"));
  EXPECT_THAT(Map(UpdateBytes(2, 'K', {"acme", "7", nullptr}, {"acme", "8", "x"})),
              ElementsAre("acme/product:7", "acme/product:8", "acme/products of acme"));
  EXPECT_THAT(Map(DeleteBytes(2, 'K', {"acme", "7", nullptr})), ElementsAre("acme/product:7", "acme/products of acme"));
}

TEST_F(TagMapTest, AnUnchangedLargeValueComesFromTheOldRowOrDropsTheFamily) {
  Prices(/*full=*/true);
  EXPECT_THAT(Map(UpdateBytes(1, 'O', {"acme", "emea", "gold", "1"}, {"acme", "emea", kToasted, "2"})),
              ElementsAre("acme/prices:emea:gold"));
  Prices(/*full=*/false);
  EXPECT_THAT(Map(UpdateBytes(1, {"acme", "emea", kToasted, "2"})), ElementsAre("acme!pricing"));
  EXPECT_THAT(Map(UpdateBytes(1, {kToasted, "emea", "gold", "2"})), ElementsAre("*!pricing"))
      << "of every tenant, where even that is not known";
}

TEST_F(TagMapTest, ATruncateDropsTheFamiliesOfEveryTenant) {
  Prices(/*full=*/true);
  Map(RelationBytes(2, "saas", "product", {{"account", kText, true}, {"product_id", kInt4, true}}));
  Map(RelationBytes(3, "public", "unmapped", {{"id", kInt4, true}}));
  EXPECT_THAT(Map(TruncateBytes({3})), IsEmpty());
  EXPECT_THAT(Map(TruncateBytes({3, 1, 2})), ElementsAre("*!dashboard", "*!pricing"));
}

TEST_F(TagMapTest, NullFillsInAsNothingAndANullTenantIsNobodys) {
  Prices(/*full=*/true);
  EXPECT_THAT(Map(InsertBytes(1, {"acme", nullptr, "gold", "1"})), ElementsAre("acme/prices::gold"));
  EXPECT_THAT(Map(InsertBytes(1, {nullptr, "emea", "gold", "1"})), IsEmpty());
}

TEST_F(TagMapTest, AValueThatNoParameterTakesNeedsNoTag) {
  Prices(/*full=*/true);
  EXPECT_THAT(Map(InsertBytes(1, {"acme", "a region of more than 8 bytes", "gold", "1"})), IsEmpty());
}

TEST_F(TagMapTest, ValuesTakeTheTextOfTheEndpointsParameters) {
  Map(RelationBytes(4, "saas", "flag", {{"account", kBpchar, true}, {"on", kBool, true}, {"amount", kNumeric, true}}));
  EXPECT_THAT(Map(InsertBytes(4, {"acme  ", "t", "100000.00"})), ElementsAre("acme/active:true", "acme/amount:1e+05"));
  EXPECT_THAT(Map(InsertBytes(4, {"acme  ", "f", "-0.50"})), ElementsAre("acme/active:false", "acme/amount:-0.5"));
  EXPECT_THAT(Map(InsertBytes(4, {"acme  ", nullptr, "NaN"})), ElementsAre("acme/active:"));
  // An integer parameter against a numeric column.
  Map(RelationBytes(2, "saas", "product", {{"account", kText, true}, {"product_id", kNumeric, true}}));
  EXPECT_THAT(Map(InsertBytes(2, {"acme", "100000.00"})), ElementsAre("acme/product:100000", "acme/products of acme"));
  EXPECT_THAT(Map(InsertBytes(2, {"acme", "0.5"})), ElementsAre("acme/products of acme"));
}

TEST_F(TagMapTest, ATagOfAChangeIsTheTagOfTheRead) {
  const Endpoint* endpoint = catalog_->Find("pricing/by_amount");
  Map(RelationBytes(4, "saas", "flag", {{"account", kText, true}, {"on", kBool, true}, {"amount", kNumeric, true}}));
  for (const double amount : {0.1, -0.0, 1e5, 123456.5, 1e-7, 1e21, 2.5e-300}) {
    shadowline::v1::ReadRequest request;
    request.set_tenant("acme");
    auto* parameter = request.add_parameters();
    parameter->set_name("amount");
    parameter->mutable_value()->set_number(amount);
    const auto arguments = CanonicalArguments(*endpoint, request);
    ASSERT_TRUE(arguments.ok()) << arguments.status();
    char column[64];  // As numeric's output writes it: never with an exponent, and with the column's scale.
    std::snprintf(column, sizeof(column), std::abs(amount) < 1e-6 ? "%.20g" : "%.7f", amount);
    EXPECT_THAT(Map(InsertBytes(4, {"acme", nullptr, column})),
                ElementsAre("acme/active:", "acme/" + RenderTags(*endpoint, "acme", *arguments)[0]));
  }
}

TEST_F(TagMapTest, ATenantThatIsNoColumnIsLookedUp) {
  Map(RelationBytes(5, "saas", "bundle", {{"account_id", kInt4, true}, {"id", kInt4, true}}));
  EXPECT_THAT(Map(InsertBytes(5, {"1", "7"})), ElementsAre("acme/product:7"));
  EXPECT_THAT(Map(InsertBytes(5, {"2", "7"})), IsEmpty()) << "nobody's";
  EXPECT_THAT(Map(InsertBytes(5, {"3", "7"})), ElementsAre("*!dashboard", "*!pricing")) << "not known";
  EXPECT_EQ(TryMap(InsertBytes(5, {"0", "7"})).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(TagMapTest, ATableOfEveryTenantDropsItsFamilies) {
  Map(RelationBytes(6, "saas", "currency", {{"code", kText, true}}));
  EXPECT_THAT(Map(InsertBytes(6, {"EUR"})), ElementsAre("*!pricing"));
}

TEST_F(TagMapTest, AColumnThatIsGoneDropsTheFamily) {
  Map(RelationBytes(1, "saas", "price", {{"account", kText, true}, {"region", kText, true}}));
  EXPECT_THAT(Map(InsertBytes(1, {"acme", "emea"})), ElementsAre("acme!pricing"));
}

TEST_F(TagMapTest, ATransactionWithTooManyTagsDropsTheFamily) {
  TagMap small(catalog_, &lookup_, 2);
  small.Learn(std::get<Relation>(*DecodeEvent(
      RelationBytes(1, "saas", "price", {{"account", kText, true}, {"region", kText, true}, {"tier", kText, true}}))));
  Effects effects;
  for (const char* tier : {"a", "b", "b", "c", "d"}) {
    const std::string bytes = InsertBytes(1, {"acme", "emea", tier});
    ASSERT_TRUE(small.Map(std::get<Change>(*DecodeEvent(bytes)), &effects).ok());
    EXPECT_EQ(effects.drops.empty(), *tier <= 'b');
  }
  EXPECT_THAT(Lines(effects), ElementsAre("acme/prices:emea:a", "acme/prices:emea:b", "*!pricing"));
}

TEST_F(TagMapTest, AStreamThatContradictsItselfIsAnError) {
  EXPECT_EQ(TryMap(InsertBytes(9, {"x"})).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(TryMap(TruncateBytes({9})).status().code(), absl::StatusCode::kInvalidArgument);
  Prices(/*full=*/true);
  EXPECT_EQ(TryMap(InsertBytes(1, {"acme"})).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(TagMapTest, MessagesBecomeTransactions) {
  Assembler assembler(catalog_, &lookup_, 100);
  assembler.SetCurrentXid(0x3'0000'0010);
  const auto feed = [&](const std::string& bytes) {
    auto fed = assembler.Feed(*DecodeEvent(bytes));
    EXPECT_TRUE(fed.ok()) << fed.status();
    return fed.ok() ? *fed : std::nullopt;
  };
  EXPECT_FALSE(feed(BeginBytes(12)).has_value());
  EXPECT_TRUE(assembler.open());
  feed(RelationBytes(2, "saas", "product", {{"account", kText, true}, {"product_id", kInt4, true}}));
  feed(InsertBytes(2, {"acme", "1"}));
  feed(InsertBytes(2, {"globex", "2"}));
  feed(InsertBytes(2, {"acme", "1"}));
  const std::optional<Transaction> whole = feed(CommitBytes(500));
  ASSERT_TRUE(whole.has_value());
  EXPECT_EQ(whole->xid, 0x3'0000'000cu);
  EXPECT_EQ(whole->end_lsn, 500u);
  EXPECT_THAT(Lines(whole->effects),
              ElementsAre("acme/product:1", "acme/products of acme", "globex/product:2", "globex/products of globex"));
  EXPECT_FALSE(assembler.open());
  feed(BeginBytes(13));
  EXPECT_TRUE(feed(CommitBytes(600))->effects.empty()) << "nothing is left of the one before";

  EXPECT_FALSE(assembler.Feed(*DecodeEvent(CommitBytes(700))).ok());
  EXPECT_FALSE(assembler.Feed(*DecodeEvent(InsertBytes(2, {"acme", "1"}))).ok());
  feed(BeginBytes(14));
  EXPECT_FALSE(assembler.Feed(*DecodeEvent(BeginBytes(15))).ok());
}

}  // namespace
}  // namespace shadowline::cache
