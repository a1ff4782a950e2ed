#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <pqxx/pqxx>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/chaos/fleet.h"
#include "tests/chaos/scenarios.h"
#include "tests/support/await.h"

namespace shadowline::chaos {
namespace {

namespace v1 = shadowline::v1;

// Counts the loads of Endpoint::kCounted, as PostgreSQL tells them.
class Loads final : public pqxx::notification_receiver {
 public:
  explicit Loads(const std::string& source) : Loads(std::make_unique<pqxx::connection>(source)) {}

  // All that were committed before the call.
  int Count() {
    // A statement of this connection's own brings what is waiting with it.
    {
      pqxx::nontransaction work(*connection_);
      work.exec("SELECT 1");
    }
    connection_->get_notifs();
    return count_;
  }

  void operator()(const std::string&, int) override { ++count_; }

 private:
  explicit Loads(std::unique_ptr<pqxx::connection> connection)
      : pqxx::notification_receiver(*connection, "loads"), connection_(std::move(connection)) {}

  std::unique_ptr<pqxx::connection> connection_;
  int count_ = 0;
};

// Many reads of one question at once, through all replicas in turn.
class Stampeding {
 public:
  Stampeding(Fleet* fleet, size_t reads, size_t id) : fleet_(fleet), answered_(fleet->size()), ok_(fleet->size()) {
    loop_ = std::make_unique<support::ClosedLoop>(
        support::ClosedLoop::Options{.channels = fleet->channels(), .outstanding = reads, .reads = reads},
        &fleet->clock(),
        [this, fleet, id](size_t) {
          const size_t turn = sent_++;
          return support::Question{turn, &fleet->Request(id)};
        },
        [this, id](size_t, const support::Reply& reply) {
          // The loop takes the channels in turn, too.
          const size_t node = reply.id % fleet_->size();
          ++answered_[node];
          ++reasons_[v1::ReadReason_Name(reply.response.reason())];
          if (!reply.status.ok()) return;
          const support::Opinion opinion = fleet_->Judge(id, reply.response, reply.sent, reply.received);
          ok_[node] += opinion.judgement == support::Judgement::kRight && !opinion.older_than_invalidation;
        });
  }

  // Until all are answered. Afterwards:
  void Wait() { loop_->Wait(); }
  size_t answered(size_t node) const { return answered_[node]; }
  size_t right(size_t node) const { return ok_[node]; }
  std::string Reasons() const {
    std::string text;
    for (const auto& [reason, count] : reasons_) absl::StrAppend(&text, " ", count, " ", reason);
    return text;
  }

 private:
  Fleet* const fleet_;
  std::atomic<size_t> sent_{0};
  std::vector<size_t> answered_;
  std::vector<size_t> ok_;
  std::map<std::string, size_t> reasons_;
  std::unique_ptr<support::ClosedLoop> loop_;
};

}  // namespace

Outcome Stampede(const StampedeSize& size, const Progress& progress) {
  support::PrivateRedis redis;
  Fleet fleet({.redis = "unix:" + redis.socket(), .rows = 1000});
  Outcome outcome;
  Loads loads(fleet.source());
  int most = 0;
  int least = static_cast<int>(size.reads);
  size_t wrong = 0;
  // A fresh row each time; the first two were read while the fleet was built, though not through this endpoint.
  size_t row = 2;
  for (int round = 0; round < size.rounds; ++round, ++row) {
    const int before = loads.Count();
    Stampeding reads(&fleet, size.reads, Fleet::Id(row, Endpoint::kCounted));
    reads.Wait();
    const int queries = loads.Count() - before;
    most = std::max(most, queries);
    least = std::min(least, queries);
    if (queries != 1) progress(absl::StrCat("stampede: ", queries, " queries for", reads.Reasons()));
    for (size_t node = 0; node < fleet.size(); ++node) wrong += reads.answered(node) - reads.right(node);
  }
  progress(absl::StrCat("stampede: ", size.reads, " misses at once, ", size.rounds, " times: ", least, " to ", most,
                        " control queries, ", wrong, " reads without the right answer"));
  outcome.figures["stampede_reads"] = static_cast<double>(size.reads);
  outcome.figures["stampede_rounds"] = size.rounds;
  outcome.figures["stampede_queries"] = most;
  // A machine that stands still for longer than a lease sees a second load, which is right; not every time.
  outcome.Expect(least == 1, absl::StrCat("a stampede cost ", least, " control queries"));
  outcome.Expect(most <= static_cast<int>(fleet.size()), absl::StrCat("a stampede cost ", most, " control queries"));
  outcome.Expect(wrong == 0, "a read of a stampede was failed or wrong");

  absl::Duration longest;
  for (int kill = 0; kill < size.kills; ++kill, ++row) {
    pqxx::connection connection(fleet.source());
    pqxx::connection watching(fleet.source());
    pqxx::work lock(connection);
    lock.exec("LOCK TABLE item IN ACCESS EXCLUSIVE MODE");
    const auto waiting = [&] {
      pqxx::nontransaction work(watching);
      return work.exec1("SELECT count(*) FROM pg_locks WHERE relation = 'item'::regclass AND NOT granted")[0].as<int>();
    };
    Stampeding reads(&fleet, size.reads, Fleet::Id(row, Endpoint::kCounted));
    // One loads, and waits for the table.
    size_t leader = fleet.size();
    const bool loading = support::AwaitTrue(kLimit, [&] {
      for (size_t i = 0; i < fleet.size(); ++i) {
        if (fleet.node(i).Metric("shadowline_admission_running", "control") > 0) leader = i;
      }
      return leader < fleet.size() && waiting() > 0;
    });
    if (!loading) throw std::runtime_error("nobody loads:\n" + fleet.Logs());
    const int before = waiting();
    fleet.node(leader).server.Kill();
    const absl::Duration killed = fleet.clock().Steady();
    // PostgreSQL does not notice that the killed one is gone: its statement goes on waiting.
    const bool taken = support::AwaitTrue(kLimit, [&] { return waiting() > before; });
    const absl::Duration takeover = fleet.clock().Steady() - killed;
    longest = std::max(longest, takeover);
    lock.commit();
    reads.Wait();
    outcome.Expect(taken, "no survivor took over");
    for (size_t i = 0; i < fleet.size(); ++i) {
      if (i == leader) continue;
      outcome.Expect(reads.answered(i) > 0 && reads.right(i) == reads.answered(i),
                     absl::StrCat(reads.answered(i) - reads.right(i), " reads of a survivor failed or were wrong"));
    }
    fleet.node(leader).server.Start();
    fleet.node(leader).server.AwaitReady();
    progress(
        absl::StrCat("stampede: the loading replica killed: a survivor loads after ", absl::FormatDuration(takeover)));
  }
  if (size.kills > 0) outcome.figures["stampede_takeover_ms"] = absl::ToDoubleMilliseconds(longest);
  return outcome;
}

}  // namespace shadowline::chaos
