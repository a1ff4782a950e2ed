#include "cache/certify/certifier.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/random.h"

namespace shadowline::cache {
namespace {

constexpr uint64_t kMap = 7;
constexpr absl::Duration kDay = absl::Hours(24);

// ---- One thing at a time

class CertifierTest : public testing::Test {
 protected:
  // A feed that has been there since transaction 100, and is complete to a snapshot of `now_`.
  CertifierTest() {
    certifier_.Begin(kMap, 100);
    Advance("101:101:");
  }

  void Touch(uint64_t transaction, std::vector<uint32_t> hashes) {
    certifier_.Touch(transaction, hashes, absl::FromUnixSeconds(static_cast<int64_t>(transaction)), now_);
  }
  void Advance(absl::string_view snapshot) {
    certifier_.Advance(ParseSnapshot(snapshot).value(), now_, now_ + absl::Milliseconds(1));
  }
  Certificate Check(absl::string_view fill, std::vector<uint32_t> hashes, absl::Duration freshness = absl::Seconds(1)) {
    return certifier_.Check(kMap, hashes, fill, now_, freshness);
  }

  absl::Duration now_ = absl::Seconds(1000);
  Certifier certifier_{Certifier::Options()};
};

TEST_F(CertifierTest, AFillThatSeesEveryTouchIsCertified) {
  Touch(105, {1, 2});
  EXPECT_EQ(Check("106:106:", {1}), Certificate::kCertified);
  EXPECT_EQ(Check("105:106:105", {3}), Certificate::kCertified);
}

TEST_F(CertifierTest, AFillThatWasLoadedBeforeATouchIsOutdated) {
  Touch(105, {1, 2});
  EXPECT_EQ(Check("104:105:", {2}), Certificate::kOutdated);
  EXPECT_EQ(Check("104:105:", {3, 2}), Certificate::kOutdated);
  EXPECT_EQ(Check("104:105:", {3}), Certificate::kCertified);
}

TEST_F(CertifierTest, ATransactionThatWasInProgressIsNotSeenThoughALaterOneIs) {
  Touch(105, {1});
  Touch(103, {1});  // Committed after 105.
  EXPECT_EQ(Check("103:106:103", {1}), Certificate::kOutdated);
  EXPECT_EQ(Check("106:106:", {1}), Certificate::kCertified);
  EXPECT_EQ(Check("104:106:104", {1}), Certificate::kCertified);
}

TEST_F(CertifierTest, AFillFromBeforeTheFeedIsUnknown) {
  EXPECT_EQ(Check("100:102:100", {1}), Certificate::kUnknown);
  EXPECT_EQ(Check("101:102:", {1}), Certificate::kCertified);
  Touch(105, {1});
  EXPECT_EQ(Check("100:102:100", {1}), Certificate::kOutdated);
}

TEST_F(CertifierTest, AnswersAreCertifiedWhileTheFeedIsWithinTheFreshnessBound) {
  now_ += absl::Seconds(1);
  EXPECT_EQ(Check("101:102:", {1}), Certificate::kCertified);
  now_ += absl::Nanoseconds(1);
  EXPECT_EQ(Check("101:102:", {1}), Certificate::kUnknown);
  Advance("102:102:");
  EXPECT_EQ(Check("101:102:", {1}), Certificate::kCertified);
}

TEST_F(CertifierTest, WithoutASnapshotNothingIsKnown) {
  Touch(105, {1});
  EXPECT_EQ(Check("", {1}), Certificate::kUnknown);
  EXPECT_EQ(Check("106", {1}), Certificate::kUnknown);
}

TEST_F(CertifierTest, AnotherMapOfTablesSaysNothing) {
  EXPECT_EQ(certifier_.Check(kMap + 1, std::vector<uint32_t>{1}, "101:102:", now_, kDay), Certificate::kUnknown);
}

TEST_F(CertifierTest, AfterAGapOnlyWhatWasLoadedSinceIsCertified) {
  Touch(105, {1});
  certifier_.Reset();
  EXPECT_EQ(Check("106:106:", {1}), Certificate::kUnknown);
  certifier_.Begin(kMap, 110);
  EXPECT_EQ(Check("111:111:", {1}), Certificate::kUnknown);
  Advance("111:111:");
  EXPECT_EQ(Check("111:111:", {1}), Certificate::kCertified);
  EXPECT_EQ(Check("106:112:106", {1}), Certificate::kUnknown);
}

TEST_F(CertifierTest, WithoutMemoryNothingIsCertified) {
  Certifier off({.max_bytes = 0});
  EXPECT_FALSE(off.enabled());
  off.Begin(kMap, 100);
  off.Touch(105, std::vector<uint32_t>{1}, absl::UnixEpoch(), now_);
  off.Advance(ParseSnapshot("106:106:").value(), now_, now_);
  EXPECT_EQ(off.Check(kMap, std::vector<uint32_t>{1}, "106:106:", now_, kDay), Certificate::kUnknown);
}

TEST_F(CertifierTest, WhatWasForgottenIsUnknownAndNeverCertified) {
  Certifier small({.max_bytes = 1024});  // 64 buckets, 16 recent pairs.
  small.Begin(kMap, 100);
  small.Touch(105, std::vector<uint32_t>{1}, absl::UnixEpoch(), now_);
  for (uint64_t id = 200; id < 300; ++id) small.Touch(id, std::vector<uint32_t>{1, 2}, absl::UnixEpoch(), now_);
  small.Advance(ParseSnapshot("300:300:").value(), now_, now_);
  const auto check = [&](absl::string_view fill, uint32_t hash) {
    return small.Check(kMap, std::vector<uint32_t>{hash}, fill, now_, kDay);
  };
  EXPECT_EQ(check("105:300:105", 1), Certificate::kUnknown);
  EXPECT_EQ(check("299:300:299", 1), Certificate::kOutdated);
  EXPECT_EQ(check("105:300:105", 3), Certificate::kCertified);  // Nothing has touched it.
}

TEST_F(CertifierTest, AStandingTellsTheNewestTransactionAndWhenTheLastTouchWasKnown) {
  Touch(105, {1});
  now_ += absl::Seconds(1);
  Touch(103, {1});
  const Standing standing = certifier_.Of(kMap, std::vector<uint32_t>{1}, "103:106:103");
  EXPECT_EQ(standing.certificate, Certificate::kOutdated);
  EXPECT_EQ(standing.newest, 105u);
  EXPECT_EQ(standing.committed_at, absl::FromUnixSeconds(105));
  EXPECT_EQ(standing.known_at, now_);
  EXPECT_EQ(standing.as_of, absl::Seconds(1000));
  EXPECT_EQ(certifier_.Of(kMap, std::vector<uint32_t>{2}, "103:106:103").known_at, -absl::InfiniteDuration());
}

TEST_F(CertifierTest, ItIsCompleteToWhatItsOwnSnapshotSees) {
  Advance("105:107:105");
  EXPECT_TRUE(certifier_.CompleteTo("105:107:105"));
  EXPECT_TRUE(certifier_.CompleteTo("104:106:104,105"));
  EXPECT_FALSE(certifier_.CompleteTo("106:107:"));
  EXPECT_FALSE(certifier_.CompleteTo("105:108:105"));
  EXPECT_FALSE(certifier_.CompleteTo("nonsense"));
}

TEST_F(CertifierTest, UnchangedSinceTheFirstSnapshotThatSawTheLastTouch) {
  const auto unchanged = [&](uint32_t hash, absl::string_view control) {
    return certifier_.UnchangedSince(kMap, std::vector<uint32_t>{hash}, control);
  };
  Touch(105, {1});
  now_ += absl::Seconds(1);
  Advance("105:107:105");  // 105 is in the log, and not visible yet.
  now_ += absl::Seconds(1);
  Advance("107:107:");
  now_ += absl::Seconds(1);
  Advance("109:109:");
  EXPECT_EQ(unchanged(1, "108:108:"), absl::Seconds(1002) + absl::Milliseconds(1));
  EXPECT_EQ(unchanged(2, "108:108:"), absl::Seconds(1000) + absl::Milliseconds(1));
  EXPECT_EQ(unchanged(1, "110:110:"), std::nullopt) << "the feed has not come there";
  Touch(120, {1});
  EXPECT_EQ(unchanged(1, "108:108:"), std::nullopt) << "what touched it since may be what the control saw";
}

TEST_F(CertifierTest, OldSnapshotsThinOutAndTheOldestStays) {
  for (int i = 0; i < 10'000; ++i) {
    now_ += absl::Milliseconds(200);
    Advance("101:101:");
  }
  EXPECT_EQ(certifier_.UnchangedSince(kMap, std::vector<uint32_t>{1}, "101:101:"),
            absl::Seconds(1000) + absl::Milliseconds(1));
}

TEST(TagHashTest, FamiliesAndTagsHangOnDifferentHashes) {
  EXPECT_EQ(TagHash("sl:fence:acme:x"), TagHash("sl:fence:acme:x"));
  EXPECT_NE(FamilyHash("pricing", ""), FamilyHash("pricing", "acme"));
  EXPECT_NE(FamilyHash("pricing", "acme"), FamilyHash("pricing", "other"));
}

// ---- Random histories, against sets of transactions

// What is under test: the product, or one that is wrong on purpose.
class Judge {
 public:
  virtual ~Judge() = default;
  virtual void Reset() = 0;
  virtual void Begin(uint64_t since) = 0;
  virtual void Touch(uint64_t transaction, const std::vector<uint32_t>& tags, absl::Duration now) = 0;
  virtual void Advance(const DatabaseSnapshot& snapshot, absl::Duration now) = 0;
  // With the time as of which it is certified.
  virtual Standing Of(const std::vector<uint32_t>& tags, const std::string& fill) = 0;
  virtual std::optional<absl::Duration> UnchangedSince(const std::vector<uint32_t>& tags, const std::string& control) {
    return std::nullopt;
  }
};

class Product final : public Judge {
 public:
  explicit Product(size_t max_bytes) : certifier_({.max_bytes = max_bytes}) {}
  void Reset() override { certifier_.Reset(); }
  void Begin(uint64_t since) override { certifier_.Begin(kMap, since); }
  void Touch(uint64_t transaction, const std::vector<uint32_t>& tags, absl::Duration now) override {
    certifier_.Touch(transaction, tags, absl::UnixEpoch(), now);
  }
  void Advance(const DatabaseSnapshot& snapshot, absl::Duration now) override {
    certifier_.Advance(snapshot, now, now);
  }
  Standing Of(const std::vector<uint32_t>& tags, const std::string& fill) override {
    const Standing standing = certifier_.Of(kMap, tags, fill);
    const absl::Duration at = standing.as_of < absl::ZeroDuration() ? absl::ZeroDuration() : standing.as_of;
    EXPECT_EQ(certifier_.Check(kMap, tags, fill, at, absl::ZeroDuration()), standing.certificate);
    return standing;
  }
  std::optional<absl::Duration> UnchangedSince(const std::vector<uint32_t>& tags, const std::string& control) override {
    return certifier_.UnchangedSince(kMap, tags, control);
  }

 private:
  Certifier certifier_;
};

// The greatest transaction of each tag, and no more than that.
class GreatestAlone : public Judge {
 public:
  void Reset() override {
    since_ = UINT64_MAX;
    as_of_ = -absl::InfiniteDuration();
    greatest_.clear();
  }
  void Begin(uint64_t since) override { since_ = since; }
  void Touch(uint64_t transaction, const std::vector<uint32_t>& tags, absl::Duration now) override {
    for (const uint32_t tag : tags) greatest_[tag] = std::max(greatest_[tag], transaction);
  }
  void Advance(const DatabaseSnapshot& snapshot, absl::Duration now) override { as_of_ = now; }
  Standing Of(const std::vector<uint32_t>& tags, const std::string& fill) override {
    const DatabaseSnapshot seen = ParseSnapshot(fill).value();
    uint64_t greatest = 0;
    for (const uint32_t tag : tags) greatest = std::max(greatest, greatest_[tag]);
    Standing standing;
    standing.as_of = as_of_;
    if (Sees(seen, greatest) && seen.xmin > since_ && as_of_ >= absl::ZeroDuration()) {
      standing.certificate = Certificate::kCertified;
    }
    return standing;
  }

 protected:
  virtual bool Sees(const DatabaseSnapshot& fill, uint64_t transaction) { return fill.Sees(transaction); }

 private:
  uint64_t since_ = UINT64_MAX;
  absl::Duration as_of_ = -absl::InfiniteDuration();
  std::map<uint32_t, uint64_t> greatest_;
};

// And without a look at what was in progress.
class BelowTheGreatest final : public GreatestAlone {
  bool Sees(const DatabaseSnapshot& fill, uint64_t transaction) override { return transaction < fill.xmax; }
};

// A database whose transactions get their ids, reach the log, and become visible, each in an order of its own; a feed
// that is behind, and has gaps; and fills that are read long after they were loaded. Time is the number of the step.
class History {
 public:
  struct Faults {
    bool misses_a_message = false;        // A gap that nobody notices.
    bool begins_with_a_snapshot = false;  // `since` is what a snapshot takes for ended, in place of a new id.
    bool advances_too_early = false;      // Before the feed has come to where the log was.
  };
  struct Result {
    int certified = 0;
    int outdated = 0;
    int unknown = 0;
    int wrong = 0;      // Certified, and the database had not held the answer since `as_of`.
    int needless = 0;   // Not what the sets say, though everything is remembered.
    int unchanged = 0;  // Answers of UnchangedSince,
    int changed = 0;    // and those that are wrong.
  };

  History(uint64_t seed, Judge* judge, Faults faults) : random_(seed), judge_(judge), faults_(faults) {}

  Result Run(int steps) {
    Gap();
    for (now_ = 1; now_ <= steps; ++now_) {
      visible_at_.push_back(visible_);
      switch (Draw(12)) {
        case 0:
        case 1:
          StartTransaction();
          break;
        case 2:
        case 3:
          WriteCommit();
          break;
        case 4:
        case 5:
          BecomeVisible();
          break;
        case 6:
        case 7:
          Deliver(Draw(4));
          break;
        case 8:
          Look();
          break;
        case 9:
          Fill();
          break;
        case 10:
          Read();
          break;
        case 11:
          if (Draw(steps / 4) == 0) Gap();
          if (Draw(8) == 0) Control();
          break;
      }
    }
    return result_;
  }

 private:
  using Ids = std::set<uint64_t>;
  static constexpr uint32_t kTags = 6;

  struct Loaded {
    std::string snapshot;
    std::vector<uint32_t> tags;
    Ids shows;  // The transactions that touched its tags and that it sees.
  };

  uint64_t Draw(uint64_t below) { return random_.Below(below); }
  absl::Duration Now() const { return absl::Seconds(now_); }

  uint64_t NewId() { return next_++; }
  std::vector<uint32_t> SomeTags() {
    std::vector<uint32_t> tags;
    for (uint32_t tag = 0; tag < kTags; ++tag) {
      if (Draw(3) == 0) tags.push_back(tag);
    }
    if (tags.empty()) tags.push_back(static_cast<uint32_t>(Draw(kTags)));
    return tags;
  }

  void StartTransaction() {
    if (running_.size() >= 8) return;
    const uint64_t id = NewId();
    running_.insert(id);
    touches_[id] = SomeTags();
  }
  // The commit is in the log; others do not see it yet.
  void WriteCommit() {
    Ids open;
    std::set_difference(running_.begin(), running_.end(), written_.begin(), written_.end(),
                        std::inserter(open, open.end()));
    if (open.empty()) return;
    const uint64_t id = *std::next(open.begin(), static_cast<int64_t>(Draw(open.size())));
    written_.insert(id);
    log_.push_back(id);
  }
  void BecomeVisible() {
    Ids ready;
    std::set_intersection(running_.begin(), running_.end(), written_.begin(), written_.end(),
                          std::inserter(ready, ready.end()));
    if (ready.empty()) return;
    const uint64_t id = *std::next(ready.begin(), static_cast<int64_t>(Draw(ready.size())));
    running_.erase(id);
    visible_.insert(id);
    latest_ended_ = std::max(latest_ended_, id);
  }
  // As PostgreSQL makes it: what runs beyond the latest that has ended is not listed.
  DatabaseSnapshot Snapshot() const {
    DatabaseSnapshot snapshot;
    snapshot.xmax = latest_ended_ + 1;
    for (const uint64_t id : running_) {
      if (id < snapshot.xmax) snapshot.in_progress.push_back(id);
    }
    snapshot.xmin = snapshot.in_progress.empty() ? snapshot.xmax : snapshot.in_progress.front();
    return snapshot;
  }
  Ids Shown(const Ids& visible, const std::vector<uint32_t>& tags) const {
    Ids shown;
    for (const uint64_t id : visible) {
      const std::vector<uint32_t>& touched = touches_.at(id);
      if (std::any_of(tags.begin(), tags.end(),
                      [&](uint32_t tag) { return std::find(touched.begin(), touched.end(), tag) != touched.end(); })) {
        shown.insert(id);
      }
    }
    return shown;
  }

  void Deliver(uint64_t count) {
    for (; count > 0 && delivered_ < log_.size(); --count, ++delivered_) {
      if (faults_.misses_a_message && Draw(10) == 0) continue;
      judge_->Touch(log_[delivered_], touches_[log_[delivered_]], Now());
      known_.insert(log_[delivered_]);
    }
    if (look_.has_value() && (delivered_ >= look_->position || faults_.advances_too_early)) {
      judge_->Advance(look_->snapshot, look_->at);
      look_.reset();
    }
  }
  void Look() {
    if (!look_.has_value()) look_ = Looked{Snapshot(), Now(), log_.size()};
  }
  // What was under way to this replica is lost; then it listens again.
  void Gap() {
    delivered_ = log_.size();
    known_.clear();
    look_.reset();
    judge_->Reset();
    if (faults_.begins_with_a_snapshot) {
      judge_->Begin(Snapshot().xmin - 1);
      return;
    }
    const uint64_t id = NewId();  // Of a transaction that ends at once.
    touches_[id] = {};
    visible_.insert(id);
    latest_ended_ = std::max(latest_ended_, id);
    since_ = id;
    judge_->Begin(id);
  }
  void Fill() {
    std::vector<uint32_t> tags = SomeTags();
    Ids shows = Shown(visible_, tags);
    fills_.push_back({Snapshot().ToString(), std::move(tags), std::move(shows)});
    if (fills_.size() > 20) fills_.pop_front();
  }
  void Read() {
    if (fills_.empty()) return;
    const Loaded& fill = fills_[Draw(fills_.size())];
    const Standing standing = judge_->Of(fill.tags, fill.snapshot);
    const DatabaseSnapshot seen = ParseSnapshot(fill.snapshot).value();
    const Ids touched = Shown(known_, fill.tags);
    const bool misses = std::any_of(touched.begin(), touched.end(), [&](uint64_t id) { return !seen.Sees(id); });
    switch (standing.certificate) {
      case Certificate::kCertified: {
        ++result_.certified;
        const Ids then = Shown(visible_at_[static_cast<size_t>(absl::ToInt64Seconds(standing.as_of))], fill.tags);
        if (!std::includes(fill.shows.begin(), fill.shows.end(), then.begin(), then.end())) ++result_.wrong;
        if (misses) ++result_.needless;
        break;
      }
      case Certificate::kOutdated:
        ++result_.outdated;
        if (!misses) ++result_.needless;
        break;
      case Certificate::kUnknown:
        ++result_.unknown;
        if (misses || (seen.xmin > since_ && standing.as_of >= absl::ZeroDuration())) ++result_.needless;
        break;
    }
  }
  // A control read, and what is known of it when the feed has come on a little.
  void Control() {
    const std::vector<uint32_t> tags = SomeTags();
    const std::string snapshot = Snapshot().ToString();
    const Ids shows = Shown(visible_, tags);
    if (!look_.has_value()) Look();
    Deliver(100);
    const auto since = judge_->UnchangedSince(tags, snapshot);
    if (!since.has_value()) return;
    ++result_.unchanged;
    if (Shown(visible_at_[static_cast<size_t>(absl::ToInt64Seconds(*since))], tags) != shows) ++result_.changed;
  }

  base::Random random_;
  Judge* const judge_;
  const Faults faults_;
  Result result_;
  int64_t now_ = 0;

  uint64_t next_ = 100;
  uint64_t latest_ended_ = 99;
  Ids running_, written_, visible_;
  std::map<uint64_t, std::vector<uint32_t>> touches_;
  std::vector<uint64_t> log_;
  std::deque<Ids> visible_at_ = {{}};  // By step.

  size_t delivered_ = 0;
  uint64_t since_ = 0;
  Ids known_;  // Delivered since the last gap.
  struct Looked {
    DatabaseSnapshot snapshot;
    absl::Duration at;
    size_t position;
  };
  std::optional<Looked> look_;
  std::deque<Loaded> fills_;
};

History::Result RunAll(const std::function<std::unique_ptr<Judge>()>& make, History::Faults faults = {}) {
  History::Result sum;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    const std::unique_ptr<Judge> judge = make();
    const History::Result one = History(seed, judge.get(), faults).Run(600);
    sum.certified += one.certified;
    sum.outdated += one.outdated;
    sum.unknown += one.unknown;
    sum.wrong += one.wrong;
    sum.needless += one.needless;
    sum.unchanged += one.unchanged;
    sum.changed += one.changed;
  }
  return sum;
}

TEST(CertifierModelTest, WhatIsCertifiedWasHeldByTheDatabaseAndNothingElseIsDoubted) {
  const History::Result result = RunAll([] { return std::make_unique<Product>(64 << 10); });
  EXPECT_EQ(result.wrong, 0);
  EXPECT_EQ(result.needless, 0);
  EXPECT_EQ(result.changed, 0);
  EXPECT_GT(result.certified, 1000);
  EXPECT_GT(result.outdated, 1000);
  EXPECT_GT(result.unknown, 100);
  EXPECT_GT(result.unchanged, 300);
}

TEST(CertifierModelTest, WithBucketsThatCollideAndPairsThatAreForgottenItOnlyDoubtsMore) {
  const History::Result result = RunAll([] { return std::make_unique<Product>(64); });
  EXPECT_EQ(result.wrong, 0);
  EXPECT_EQ(result.changed, 0);
  EXPECT_GT(result.certified, 100);
}

TEST(CertifierModelTest, TheGreatestTransactionAloneIsFoundWanting) {
  EXPECT_GT(RunAll([] { return std::make_unique<GreatestAlone>(); }).wrong, 0);
}

TEST(CertifierModelTest, WithoutALookAtWhatWasInProgressItIsFoundWanting) {
  EXPECT_GT(RunAll([] { return std::make_unique<BelowTheGreatest>(); }).wrong, 0);
}

TEST(CertifierModelTest, AMessageThatIsMissedInSilenceIsFoundWanting) {
  EXPECT_GT(RunAll([] { return std::make_unique<Product>(64 << 10); }, {.misses_a_message = true}).wrong, 0);
}

TEST(CertifierModelTest, BeginningWithASnapshotInPlaceOfANewIdIsFoundWanting) {
  EXPECT_GT(RunAll([] { return std::make_unique<Product>(64 << 10); }, {.begins_with_a_snapshot = true}).wrong, 0);
}

TEST(CertifierModelTest, ASnapshotThatTheFeedHasNotComeToIsFoundWanting) {
  EXPECT_GT(RunAll([] { return std::make_unique<Product>(64 << 10); }, {.advances_too_early = true}).wrong, 0);
}

}  // namespace
}  // namespace shadowline::cache
