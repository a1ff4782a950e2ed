// A catalog whose tables are to be captured, applied to a real database: what that database lacks is said with its
// remedy.
#include <gmock/gmock.h>

#include "cache/capture/postgres/table_check.h"
#include "cache/catalog/postgres/catalog_store.h"
#include "tests/capture/capture_world.h"

namespace shadowline::cache {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ApplyCaptureTest : public CaptureWorld {
 protected:
  absl::Status Apply(absl::string_view tables) {
    PostgresCatalogStore store({.changed_channel = "changed"}, &sessions_, &sessions_);
    return store.Apply(absl::StrCat(kFamilies, tables), /*dry_run=*/true, "somebody", 0).status();
  }
  std::string Refusal(absl::string_view tables) {
    const absl::Status status = Apply(tables);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  }
};

TEST_F(ApplyCaptureTest, TablesThatCarryWhatTheirTagsNeedAreAccepted) {
  const absl::Status applied = Apply(kAll);
  EXPECT_TRUE(applied.ok()) << applied;
}

TEST_F(ApplyCaptureTest, TablesAndColumnsHaveToExist) {
  EXPECT_THAT(Refusal("    saas.prize: {families: [shop]}\n"),
              AllOf(HasSubstr("22:5: capture.tables.saas.prize"), HasSubstr("there is no table saas.prize")));
  EXPECT_THAT(Refusal("    saas.price: {tenant: \"{account}\", tags: [\"prices:{area}:{tier}\"]}\n"),
              HasSubstr("saas.price has no column area"));
  Sql("CREATE VIEW saas.cheap AS SELECT * FROM saas.price WHERE amount < 5");
  EXPECT_THAT(Refusal("    saas.cheap: {families: [shop]}\n"), HasSubstr("is no table"));
  EXPECT_THAT(Refusal("    saas.sale_1: {families: [shop]}\n"), HasSubstr("is a partition"));
  Sql("CREATE UNLOGGED TABLE saas.scratch (id int PRIMARY KEY)");
  EXPECT_THAT(Refusal("    saas.scratch: {families: [shop]}\n"), HasSubstr("unlogged"));
}

TEST_F(ApplyCaptureTest, TheReplicaIdentityHasToCarryWhatTagsNeed) {
  EXPECT_THAT(Refusal("    saas.unkeyed: {families: [shop]}\n"), HasSubstr("has no replica identity"));
  Sql("ALTER TABLE saas.price REPLICA IDENTITY NOTHING");
  EXPECT_THAT(Refusal(kPrice), HasSubstr("has no replica identity"));
  Sql("ALTER TABLE saas.page REPLICA IDENTITY DEFAULT");
  EXPECT_THAT(
      Refusal("    saas.page: {tenant: \"{account}\", tags: [\"page:{slug}\"]}\n"),
      AllOf(HasSubstr("does not carry account, slug"), HasSubstr("ALTER TABLE saas.page REPLICA IDENTITY FULL")));
  Sql("ALTER TABLE saas.sale REPLICA IDENTITY FULL");
  EXPECT_THAT(Refusal("    saas.sale: {tenant: \"{account}\", tags: [\"item:{id}\"]}\n"),
              HasSubstr("partition saas.sale_1 has another replica identity"));
  Sql("CREATE TABLE saas.indexed (account text NOT NULL, id int NOT NULL, note text); "
      "CREATE UNIQUE INDEX identity ON saas.indexed (account, id); ALTER TABLE saas.indexed REPLICA IDENTITY USING "
      "INDEX identity");
  const absl::Status applied = Apply("    saas.indexed: {tenant: \"{account}\", tags: [\"item:{id}\"]}\n");
  EXPECT_TRUE(applied.ok()) << applied;
}

TEST(ServerCheckTest, AServerWhoseLogDoesNotHoldTheRowsIsRefusedWithBothWaysOut) {
  const auto level = [](const char* setting) {
    return [=](const std::string&, const std::vector<std::string>&) { return AskedRows{{setting}}; };
  };
  const auto wrong = CheckServer(level("replica"));
  ASSERT_TRUE(wrong.ok());
  EXPECT_THAT(*wrong,
              ElementsAre(AllOf(HasSubstr("set wal_level = logical and restart"), HasSubstr("use the outbox"))));
  EXPECT_THAT(*CheckServer(level("logical")), IsEmpty());
}

TEST_F(ApplyCaptureTest, AColumnHasToBeWrittenAsTheParameterIs) {
  Sql("CREATE DOMAIN saas.flag AS boolean; CREATE TABLE saas.odd (account text, at timestamptz, flag saas.flag, code "
      "text, "
      "PRIMARY KEY (account, at, flag, code))");
  EXPECT_THAT(Refusal("    saas.odd: {tenant: \"{account}\", tags: [\"page:{at}\"]}\n"),
              HasSubstr("column at is timestamp with time zone"));
  EXPECT_THAT(Refusal("    saas.odd: {tenant: \"{account}\", tags: [\"page:{flag}\"]}\n"),
              HasSubstr("column flag is a domain over boolean"));
  EXPECT_THAT(Refusal("    saas.odd: {tenant: \"{account}\", tags: [\"item:{code}\"]}\n"),
              HasSubstr("in the tag of shop it stands for an integer"));
}

TEST_F(ApplyCaptureTest, ATenantQueryOnlyReadsAndReturnsOneText) {
  const auto refusal = [&](absl::string_view query) {
    return Refusal(absl::StrCat("    saas.product: {tenant: \"{account_id}\", tags: [\"item:{id}\"], tenant_query: \"",
                                query, "\"}\n"));
  };
  EXPECT_THAT(refusal("SELECT account_id FROM saas.account WHERE account_id = :key::int"),
              HasSubstr("capture.tables.saas.product.tenant_query: returns a column of another type than text"));
  EXPECT_THAT(refusal("SELECT slug, slug AS s FROM saas.account WHERE account_id = :key::int"),
              HasSubstr("returns 2 columns"));
  EXPECT_THAT(refusal("SELECT slug FROM saas.acount WHERE account_id = :key::int"), HasSubstr("does not exist"));
  EXPECT_THAT(refusal("SELECT set_config('a.b', :key, false)"), HasSubstr("VOLATILE"));
}

}  // namespace
}  // namespace shadowline::cache
