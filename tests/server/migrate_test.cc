// The schema that Shadowline keeps for itself.
#include "server/postgres/migrate.h"

#include <gtest/gtest.h>

#include "tests/support/private_servers.h"

namespace shadowline::server {
namespace {

class MigrateTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { postgres_ = new support::PrivatePostgres(); }
  static void TearDownTestSuite() { delete postgres_; }

  base::PostgresSessions sessions_{postgres_->ConnectionString(postgres_->CreateDatabase()), 2};
  static support::PrivatePostgres* postgres_;
};

support::PrivatePostgres* MigrateTest::postgres_ = nullptr;

TEST_F(MigrateTest, AnEmptyDatabaseGetsTheSchemaOnce) {
  ASSERT_TRUE(Migrate(&sessions_).ok());
  ASSERT_TRUE(Migrate(&sessions_).ok());
  const absl::Status read = sessions_.Transact([](pqxx::work& work) {
    EXPECT_EQ(work.exec1("SELECT revision FROM shadowline.flag_state")[0].as<int>(), 1);
    return absl::OkStatus();
  });
  EXPECT_TRUE(read.ok()) << read;
}

TEST_F(MigrateTest, ASchemaFromTheFutureIsRefused) {
  ASSERT_TRUE(Migrate(&sessions_).ok());
  ASSERT_TRUE(sessions_
                  .Transact([](pqxx::work& work) {
                    work.exec("INSERT INTO shadowline.schema_version VALUES (9999)");
                    return absl::OkStatus();
                  })
                  .ok());
  const absl::Status refused = Migrate(&sessions_);
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(refused.message().find("9999"), absl::string_view::npos) << refused;
}

}  // namespace
}  // namespace shadowline::server
