// The whole way of the feed: changes in PostgreSQL, the capture of one replica, notifications, and the certifiers of
// two. Answers are judged by which commits had returned when, never by what was captured.
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "cache/certify/certifier.h"
#include "cache/certify/postgres/feed_listener.h"
#include "cache/certify/postgres/feed_sender.h"
#include "tests/capture/capture_world.h"

namespace shadowline::cache {
namespace {

constexpr int kItems = 5;
constexpr char kNote[] = "    saas.note: {tenant: \"{account}\", tags: [\"item:{id}\"]}\n";

// What one replica has for it.
struct Side {
  Side(const CaptureStream::Options& capture, const std::string& name, const base::Clock* clock, base::Metrics* metrics)
      : listener(
            {.state = capture.state, .source = capture.source, .slot = capture.slot, .look = absl::Milliseconds(10)},
            {.clock = clock, .certifier = &certifier, .metrics = metrics}),
        sender({.connection_string = capture.state,
                .slot = capture.slot,
                .name = name,
                .pause = absl::Milliseconds(2),
                .beat = absl::Milliseconds(20)},
               {.clock = clock, .metrics = metrics}),
        stream(capture, {.clock = clock,
                         .sink = &sink,
                         .watermark = &watermark,
                         .metrics = metrics,
                         .on_state = {},
                         .feed = sender.writer()}) {}

  void Start(std::shared_ptr<const CompiledCatalog> catalog) {
    listener.Start();
    sender.Start();
    stream.SetCatalog(std::move(catalog));
    stream.Start();
  }

  Certifier certifier{Certifier::Options()};
  RecordingSink sink;
  Watermark watermark;
  FeedListener listener;
  FeedSender sender;
  CaptureStream stream;
};

class CertificationTest : public CaptureWorld {
 protected:
  struct Loaded {
    int item;
    int64_t count;
    std::string snapshot;
    absl::Duration asked_at;
  };

  // Whoever streams keeps its slot.
  void TearDown() override {
    sides_.clear();
    CaptureWorld::TearDown();
  }

  void StartBoth() {
    Sql("CREATE TABLE saas.note (account text, id int, number int, PRIMARY KEY (account, id, number))");
    catalog_ = Catalog(kNote);
    for (const char* name : {"one", "two"}) {
      sides_.push_back(std::make_unique<Side>(Options(), name, &clock_, &metrics_));
      sides_.back()->Start(catalog_);
      // So that it is known which one leads.
      ASSERT_TRUE(support::AwaitTrue(kPatience, [&] { return sides_[0]->stream.state() == CaptureState::kStreaming; }));
    }
  }

  std::vector<uint32_t> HashesOfItem(int item) const {
    return {TagHash(FenceKey("acme", absl::StrCat("item:", item))), FamilyHash("shop", ""), FamilyHash("shop", "acme")};
  }
  uint64_t Map() const { return CaptureMapHash(*catalog_); }

  Loaded Load(pqxx::connection& connection, int item) {
    Loaded loaded{item, 0, "", clock_.Steady()};
    pqxx::nontransaction work(connection);
    const pqxx::row row = work.exec1(absl::StrCat(
        "SELECT count(*), pg_current_snapshot()::text FROM saas.note WHERE account = 'acme' AND id = ", item));
    loaded.count = row[0].as<int64_t>();
    loaded.snapshot = row[1].c_str();
    return loaded;
  }
  Standing Of(const Side& side, const Loaded& loaded) {
    return side.certifier.Of(Map(), HashesOfItem(loaded.item), loaded.snapshot);
  }
  // A fill of now is certified in a while, by every replica that listens.
  void AwaitCertified(const Side& side) {
    pqxx::connection connection(Url());
    EXPECT_TRUE(support::AwaitTrue(
        kPatience, [&] { return Of(side, Load(connection, 1)).certificate == Certificate::kCertified; }));
  }

  std::shared_ptr<const CompiledCatalog> catalog_;
  std::vector<std::unique_ptr<Side>> sides_;
};

TEST_F(CertificationTest, AChangeOutdatesWhatWasLoadedBeforeItOnEveryReplica) {
  StartBoth();
  pqxx::connection connection(Url());
  for (const auto& side : sides_) AwaitCertified(*side);
  const Loaded before = Load(connection, 1);
  const Loaded other = Load(connection, 2);
  Sql("INSERT INTO saas.note VALUES ('acme', 1, 1)");
  const Loaded after = Load(connection, 1);
  for (const auto& side : sides_) {
    const auto await = [&](const Loaded& loaded, Certificate certificate) {
      return support::AwaitTrue(kPatience, [&] { return Of(*side, loaded).certificate == certificate; });
    };
    EXPECT_TRUE(await(before, Certificate::kOutdated));
    EXPECT_TRUE(await(after, Certificate::kCertified));
    EXPECT_TRUE(await(other, Certificate::kCertified));
    // It goes on while nothing is written.
    const absl::Duration now = clock_.Steady();
    EXPECT_TRUE(support::AwaitTrue(kPatience, [&] { return Of(*side, after).as_of > now; }));
    EXPECT_NEAR(absl::ToUnixSeconds(Of(*side, before).committed_at), absl::ToUnixSeconds(clock_.Now()), 60);
  }
}

TEST_F(CertificationTest, ATruncateOutdatesTheFamily) {
  StartBoth();
  pqxx::connection connection(Url());
  AwaitCertified(*sides_[1]);
  const Loaded before = Load(connection, 3);
  Sql("TRUNCATE saas.note");
  EXPECT_TRUE(
      support::AwaitTrue(kPatience, [&] { return Of(*sides_[1], before).certificate == Certificate::kOutdated; }));
}

TEST_F(CertificationTest, AfterALostConnectionOnlyWhatIsLoadedSinceIsCertified) {
  StartBoth();
  pqxx::connection connection(Url());
  for (const char* name : {"shadowline feed", "shadowline feed sender", "shadowline certifier"}) {
    SCOPED_TRACE(name);
    AwaitCertified(*sides_[1]);
    const Loaded before = Load(connection, 1);
    Sql(
        absl::StrCat("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND "
                     "application_name = '",
                     name, "'"));
    EXPECT_TRUE(
        support::AwaitTrue(kPatience, [&] { return Of(*sides_[1], before).certificate == Certificate::kUnknown; }));
    AwaitCertified(*sides_[1]);
    EXPECT_EQ(Of(*sides_[1], before).certificate, Certificate::kUnknown);
  }
}

TEST_F(CertificationTest, AnotherReplicaThatCapturesIsAnotherBeginning) {
  StartBoth();
  pqxx::connection connection(Url());
  AwaitCertified(*sides_[1]);
  const Loaded before = Load(connection, 1);
  sides_[0]->stream.Stop();
  ASSERT_TRUE(support::AwaitTrue(kPatience, [&] { return sides_[1]->stream.state() == CaptureState::kStreaming; }));
  EXPECT_TRUE(
      support::AwaitTrue(kPatience, [&] { return Of(*sides_[1], before).certificate == Certificate::kUnknown; }));
  for (const auto& side : sides_) AwaitCertified(*side);
}

// Transactions that are open for long, commit in another order than they began, and touch the same items; fills that
// are read long after they were loaded. Rows are only added, so a count tells how old it is.
TEST_F(CertificationTest, WhatIsCertifiedIsNeverStale) {
  StartBoth();
  for (const auto& side : sides_) AwaitCertified(*side);
  constexpr size_t kWriters = 6;
  struct Writer {
    std::unique_ptr<pqxx::connection> connection;
    std::unique_ptr<pqxx::work> work;
    std::map<int, int> added;  // By item.
  };
  struct Commit {
    int rows;
    absl::Duration asked_at, answered_at;
  };
  std::vector<Writer> writers(kWriters);
  for (Writer& writer : writers) writer.connection = std::make_unique<pqxx::connection>(Url());
  pqxx::connection reader(Url());
  std::map<int, std::vector<Commit>> commits;  // By item.
  std::vector<Loaded> fills;
  const uint64_t seed = 20;
  base::Random random(seed);
  std::map<Certificate, int> outcomes;
  int unchanged = 0;
  for (int step = 0; step < 8000; ++step) {
    Writer& writer = writers[random.Below(kWriters)];
    // The last one is open nearly all the time.
    const uint64_t patience = &writer == &writers.back() ? 200 : 4;
    if (writer.work != nullptr && random.Below(patience) == 0) {
      const absl::Duration asked_at = clock_.Steady();
      writer.work->commit();
      const absl::Duration answered_at = clock_.Steady();
      for (const auto& [item, rows] : writer.added) commits[item].push_back({rows, asked_at, answered_at});
      writer.work.reset();
      writer.added.clear();
    } else if (random.Below(4) == 0) {
      if (writer.work == nullptr) writer.work = std::make_unique<pqxx::work>(*writer.connection);
      const int item = static_cast<int>(random.Below(kItems));
      writer.work->exec(absl::StrCat("INSERT INTO saas.note VALUES ('acme', ", item, ", ", step, ")"));
      ++writer.added[item];
    }
    if (fills.empty() || random.Below(8) == 0) {
      fills.push_back(Load(reader, static_cast<int>(random.Below(kItems))));
      if (fills.size() > 20) fills.erase(fills.begin());
    }
    const Loaded& fill = fills[random.Below(fills.size())];
    const Side& side = *sides_[random.Below(2)];
    const Standing standing = Of(side, fill);
    ++outcomes[standing.certificate];
    if (standing.certificate == Certificate::kCertified) {
      int64_t held = 0;
      for (const Commit& commit : commits[fill.item]) held += commit.answered_at < standing.as_of ? commit.rows : 0;
      ASSERT_GE(fill.count, held) << "step " << step << ", seed " << seed << ", fill " << fill.snapshot;
    }
    if (step % 10 != 0) continue;
    const Loaded control = Load(reader, fill.item);
    EXPECT_TRUE(support::AwaitTrue(kPatience, [&] { return side.certifier.CompleteTo(control.snapshot); }));
    const std::optional<absl::Duration> since =
        side.certifier.UnchangedSince(Map(), HashesOfItem(fill.item), control.snapshot);
    if (!since.has_value()) continue;
    ++unchanged;
    for (const Commit& commit : commits[fill.item]) {
      ASSERT_FALSE(commit.asked_at > *since && commit.answered_at < control.asked_at) << "step " << step;
    }
  }
  GTEST_LOG_(INFO) << outcomes[Certificate::kCertified] << " certified, " << outcomes[Certificate::kOutdated]
                   << " outdated, " << outcomes[Certificate::kUnknown] << " unknown; " << unchanged
                   << " controls that are known to have said the same before";
  EXPECT_GT(outcomes[Certificate::kCertified], 500);
  EXPECT_GT(outcomes[Certificate::kOutdated], 500);
  EXPECT_EQ(outcomes[Certificate::kUnknown], 0);
  EXPECT_GT(unchanged, 100);
}

}  // namespace
}  // namespace shadowline::cache
