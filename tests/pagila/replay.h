// Replay runs an application's operations through a real shadowlined, in their order though not in their time: several
// threads take the next operation each, so that reads race the writes beside them. Every answer goes before the Judge.
//
// A write is one transaction on PostgreSQL, then Invalidate, as in any application that keeps its cache honest by
// itself. Writes take turns until they are committed, so that the order of versions is the order of commits; their
// invalidations do not.
//
// Every target is promoted by force before the first operation: what is tested is the cache, not the way to it.
//
// Errors:  std::exception, and everything that shadowlined refuses.
// Threads: compatible.
#ifndef SHADOWLINE_TESTS_PAGILA_REPLAY_H_
#define SHADOWLINE_TESTS_PAGILA_REPLAY_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <ostream>
#include <pqxx/pqxx>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "shadowline/v1/cache.grpc.pb.h"
#include "shadowline/v1/divergence.grpc.pb.h"
#include "shadowline/v1/flags.grpc.pb.h"
#include "shadowline/v1/read.grpc.pb.h"
#include "shadowline/v1/rollout.grpc.pb.h"
#include "tests/pagila/application.h"
#include "tests/support/judge.h"
#include "tests/support/private_servers.h"
#include "tests/support/shadowlined.h"

namespace shadowline::pagila {

// The freshness bound of both catalogs.
inline constexpr absl::Duration kFreshness = absl::Seconds(2);

// What questions are answered with, asked of the database without Shadowline: the catalog's statements, many questions
// at a time.
//
// Threads: compatible; one thread owns the connection.
class Oracle {
 public:
  Oracle(const std::string& catalog, const std::vector<Question>* questions, pqxx::connection* connection);

  // Of each question; empty where it has no row.
  std::vector<std::string> Answers(pqxx::transaction_base& work, const std::vector<size_t>& questions) const;
  // The tags that a question's answer hangs on.
  std::vector<std::string> Tags(const Question& question) const;
  const std::set<std::string>& families() const { return families_; }

 private:
  struct Endpoint {
    std::vector<std::string> parameters;  // In the order in which they are bound, after the tenant.
    std::vector<std::string> tags;
  };

  const std::vector<Question>* const questions_;
  std::map<std::string, Endpoint> endpoints_;  // Also the names of their prepared statements.
  std::set<std::string> families_;
};

class Replay {
 public:
  // What becomes of a write's invalidation. All but the first are faults, planted to see that they are caught.
  enum class Invalidation { kSent, kForgotten, kPretended };

  struct Totals {
    uint64_t reads = 0;
    uint64_t writes = 0;
    uint64_t hits = 0;
    uint64_t wrong = 0;
    uint64_t older_than_invalidation = 0;
    uint64_t failed = 0;   // Reads that ended in an error.
    uint64_t retries = 0;  // Invalidations that had to be sent again.
    std::string first_fault;
  };

  explicit Replay(Application* application);

  // All of the application's operations.
  void Run(size_t threads);

  struct Answer {
    grpc::Status status;
    shadowline::v1::ReadResponse response;
    support::Opinion opinion;
  };
  Answer Read(size_t question);
  void Write(const Operation& operation, Invalidation invalidation);

  Totals totals() const;
  // The family's report, once everything that was sampled has its verdict.
  shadowline::v1::Report SettledReport(const std::string& family);
  const std::set<std::string>& families() const { return oracle_.families(); }
  const base::Clock& clock() const { return clock_; }

 private:
  using Tag = std::pair<std::string, std::string>;  // Tenant and tag.

  void Promote(const std::string& family);
  void Invalidate(const shadowline::v1::InvalidateRequest& request);

  Application* const application_;
  base::SystemClock clock_;
  support::PrivateRedis redis_;
  pqxx::connection connection_;
  const Oracle oracle_;
  std::unique_ptr<support::Judge> judge_;
  std::map<Tag, std::vector<size_t>> tagged_;  // The questions of each tag.
  support::Shadowlined server_;
  std::unique_ptr<shadowline::v1::ReadService::Stub> reads_;
  std::unique_ptr<shadowline::v1::CacheService::Stub> cache_;
  std::unique_ptr<shadowline::v1::RolloutService::Stub> rollouts_;
  std::unique_ptr<shadowline::v1::FlagService::Stub> flags_;
  std::unique_ptr<shadowline::v1::DivergenceService::Stub> divergences_;

  base::Mutex writing_;
  int64_t writes_begun_ ABSL_GUARDED_BY(writing_) = 0;
  std::atomic<uint64_t> retries_{0};
  mutable base::Mutex mutex_;
  Totals totals_ ABSL_GUARDED_BY(mutex_);
};

std::ostream& operator<<(std::ostream& out, const Replay::Totals& totals);

}  // namespace shadowline::pagila

#endif  // SHADOWLINE_TESTS_PAGILA_REPLAY_H_
