// The demo's judge, readers and writers, without Shadowline: its place is taken by a stand-in that reads the database
// and can be told to keep answers for ever. What a lying cache does to the figures is planted here.
#include "tests/demo/application.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <cctype>
#include <cstdlib>
#include <map>
#include <pqxx/pqxx>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "shadowline/v1/cache.grpc.pb.h"
#include "shadowline/v1/read.grpc.pb.h"
#include "tests/demo/recorder.h"
#include "tests/support/load.h"
#include "tests/support/private_servers.h"

namespace shadowline::demo {
namespace {

using testing::Contains;
using testing::EndsWith;
using testing::Gt;
using testing::Not;

std::string SourceFolder() { return std::string(std::getenv("SHADOWLINE_SOURCE_DIR")) + "/tests/demo"; }

// Answers from the database, or with what it answered before.
class StandIn final : public shadowline::v1::ReadService::Service, public shadowline::v1::CacheService::Service {
 public:
  explicit StandIn(const std::string& database)
      : database_(database), catalog_(YAML::LoadFile(SourceFolder() + "/catalog.yaml")) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(static_cast<shadowline::v1::ReadService::Service*>(this));
    builder.RegisterService(static_cast<shadowline::v1::CacheService::Service*>(this));
    server_ = builder.BuildAndStart();
  }

  std::shared_ptr<grpc::Channel> Connect() const {
    return grpc::CreateChannel(absl::StrCat("127.0.0.1:", port_), grpc::InsecureChannelCredentials());
  }
  void RememberForEver() {
    base::MutexLock lock(&mutex_);
    remembers_ = true;
  }
  std::set<std::string> tags() {
    base::MutexLock lock(&mutex_);
    return tags_;
  }

  grpc::Status Read(grpc::ServerContext*, const shadowline::v1::ReadRequest* request,
                    shadowline::v1::ReadResponse* response) override {
    base::MutexLock lock(&mutex_);
    std::string& remembered = answers_[request->SerializeAsString()];
    if (remembered.empty() || !remembers_) remembered = Query(*request);
    response->set_found(true);
    response->set_source(remembers_ ? shadowline::v1::SOURCE_CACHE : shadowline::v1::SOURCE_DATABASE);
    response->set_body(remembered);
    return grpc::Status::OK;
  }
  grpc::Status Invalidate(grpc::ServerContext*, const shadowline::v1::InvalidateRequest* request,
                          shadowline::v1::InvalidateResponse*) override {
    base::MutexLock lock(&mutex_);
    tags_.insert(request->tags().begin(), request->tags().end());
    return grpc::Status::OK;
  }

 private:
  std::string Query(const shadowline::v1::ReadRequest& request) {
    const size_t slash = request.endpoint().find('/');
    const YAML::Node endpoint =
        catalog_["families"][request.endpoint().substr(0, slash)]["endpoints"][request.endpoint().substr(slash + 1)];
    pqxx::nontransaction work(database_);
    std::map<std::string, std::string> values = {{"tenant", work.quote(request.tenant())}};
    for (const auto& parameter : request.parameters()) {
      values[parameter.name()] = parameter.value().has_text() ? work.quote(parameter.value().text())
                                                              : absl::StrCat(parameter.value().integer());
    }
    const std::string sql = endpoint["sql"].as<std::string>();
    std::string bound;
    for (size_t i = 0; i < sql.size();) {
      size_t end = i + 1;
      if (sql[i] == ':' && sql[end] == ':') {
        ++end;
      } else if (sql[i] == ':') {
        while (end < sql.size() && (std::isalpha(static_cast<unsigned char>(sql[end])) != 0 || sql[end] == '_')) ++end;
        absl::StrAppend(&bound, values.at(sql.substr(i + 1, end - i - 1)));
        i = end;
        continue;
      }
      absl::StrAppend(&bound, sql.substr(i, end - i));
      i = end;
    }
    const bool rows = endpoint["result"] && endpoint["result"].as<std::string>() == "rows";
    return work
        .exec1(absl::StrCat("SELECT ", rows ? "json_agg(t)" : "row_to_json(t)", "::text FROM (", bound, ") AS t"))[0]
        .as<std::string>();
  }

  base::Mutex mutex_;
  pqxx::connection database_;
  const YAML::Node catalog_;
  bool remembers_ = false;
  std::map<std::string, std::string> answers_;
  std::set<std::string> tags_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

class ApplicationTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    postgres_ = new support::PrivatePostgres({"shared_buffers = 256MB"});
    database_ = new std::string(postgres_->ConnectionString(postgres_->CreateDatabase()));
    postgres_->RunScript("db_1", SourceFolder() + "/workload.sql");
    history_ = new support::History;
  }
  static void TearDownTestSuite() {
    delete postgres_;
    delete database_;
    delete history_;
  }

  // Asks all questions of a tenant, and has the answers judged as of now.
  void Ask(size_t tenant, Recorder* recorder) {
    const auto stub = shadowline::v1::ReadService::NewStub(shadowline_.Connect());
    for (size_t id = 0; id < questions_.all().size(); ++id) {
      if (questions_.all()[id].tenant != tenant) continue;
      grpc::ClientContext context;
      shadowline::v1::ReadResponse response;
      const absl::Duration sent = clock_.Steady();
      const grpc::Status status = stub->Read(&context, questions_.all()[id].request, &response);
      recorder->Add({id, status, response, sent, sent, clock_.Steady()});
    }
  }
  // Lets the writers write so often that the most popular tenants have had several turns.
  void Write(Writers* writers) {
    const uint64_t enough = writers->writes() + 80;
    while (writers->writes() < enough) usleep(1000);  // The writers are a thread of their own.
  }
  Writers::Options WritersOf(Family family) {
    return {.family = family, .database = *database_, .channel = shadowline_.Connect(), .rate = 2000};
  }

  static support::PrivatePostgres* postgres_;
  static std::string* database_;
  // All that was ever written to the data, which the tests share.
  static support::History* history_;

  base::SystemClock clock_;
  Questions questions_{1};
  StandIn shadowline_{*database_};
};

support::PrivatePostgres* ApplicationTest::postgres_ = nullptr;
std::string* ApplicationTest::database_ = nullptr;
support::History* ApplicationTest::history_ = nullptr;

TEST_F(ApplicationTest, TenantsAreThoseOfTheData) {
  pqxx::connection connection(*database_);
  pqxx::nontransaction work(connection);
  std::vector<std::string> slugs;
  for (const pqxx::row& row : work.exec("SELECT slug FROM saas.account ORDER BY account_id")) {
    slugs.push_back(row[0].as<std::string>());
  }
  EXPECT_EQ(slugs, Tenants());
}

TEST_F(ApplicationTest, AnswersOfTheDatabaseAreRightWhateverIsWritten) {
  Recorder recorder(&questions_.all(), history_, absl::ZeroDuration());
  std::vector<std::unique_ptr<Writers>> writers;
  for (const Family family : {kPricing, kPermissions, kDashboard}) {
    writers.push_back(std::make_unique<Writers>(WritersOf(family), &clock_, history_));
  }
  // While they write.
  while (writers[kPermissions]->writes() < 80) Ask(0, &recorder);
  for (const auto& w : writers) w->Stop();
  Ask(0, &recorder);
  Ask(Tenants().size() - 1, &recorder);
  const Recorder::Totals totals = recorder.totals();
  EXPECT_EQ(totals.failed, 0) << totals.first_failure;
  EXPECT_EQ(totals.wrong, 0) << totals.first_wrong;
  EXPECT_GE(totals.reads, 150);
  EXPECT_GE(history_->commits(), 80);
}

TEST_F(ApplicationTest, ACacheThatIsNeverInvalidatedIsCaughtInEveryFamily) {
  shadowline_.RememberForEver();
  Recorder filling(&questions_.all(), history_, absl::ZeroDuration());
  Ask(0, &filling);
  for (const Family family : {kPricing, kPermissions, kDashboard}) {
    Writers writers(WritersOf(family), &clock_, history_);
    Write(&writers);
  }
  Recorder recorder(&questions_.all(), history_, absl::ZeroDuration());
  Ask(0, &recorder);
  const Recorder::Totals totals = recorder.totals();
  EXPECT_GT(totals.wrong, 3);
  EXPECT_EQ(totals.wrong_after_promotion, totals.wrong);  // They came from a cache.
  EXPECT_THAT(totals.first_wrong, testing::HasSubstr("stale"));
}

TEST_F(ApplicationTest, AnAnswerToAnotherQuestionIsCaught) {
  Recorder recorder(&questions_.all(), history_, absl::Hours(1));
  shadowline::v1::ReadResponse response;
  response.set_found(true);
  response.set_body(R"({"versions":"book/bluepeak/amer/standard=1"})");
  const absl::Duration now = clock_.Steady();
  recorder.Add({0, grpc::Status::OK, response, now, now, now});
  EXPECT_EQ(recorder.totals().wrong, 1);
  EXPECT_THAT(recorder.totals().first_wrong, testing::HasSubstr("another question"));
}

TEST_F(ApplicationTest, NestedChangesAreForgottenUntilTheWritersAreMended) {
  Writers writers(WritersOf(kPermissions), &clock_, history_);
  Write(&writers);
  EXPECT_THAT(shadowline_.tags(), Not(Contains(EndsWith("00"))));  // Projects are 100 to 1200, folders 21 to 32.
  EXPECT_THAT(writers.forgotten(), Gt(0));
  writers.Mend();
  Write(&writers);
  EXPECT_TRUE(writers.mended());
  EXPECT_THAT(shadowline_.tags(), Contains("access:100"));
}

TEST(QuestionsTest, EveryQuestionOfATenantIsAskedInOneDeck) {
  Questions questions(1);
  std::map<size_t, size_t> draws;
  for (int i = 0; i < 60'000; ++i) ++draws[questions.Draw().id];
  EXPECT_EQ(draws.size(), questions.all().size());
  // The most popular tenant asks more than the least.
  EXPECT_GT(draws[0], 4 * draws[questions.all().size() - 3]);
}

}  // namespace
}  // namespace shadowline::demo
