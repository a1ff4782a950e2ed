// Fleet is several replicas over one table of versioned rows, promoted to the cache, and the Judge who knows what the
// table held at any time.
//
// A row's answer is its version; a row may be absent, and comes back. Every endpoint answers the same of a row, each in
// its own way:
//
//   item     a plain read
//   near     kept in the replica's own memory as well
//   slow     a tenth of its loads takes longer than a lease, after it has seen the row
//   brief    expires all the time: loaded again early, served while it is loaded again, and warmed
//   counted  takes a while, and PostgreSQL notifies the channel `loads` of each of its loads
//
// Ownership: the servers are the scenario's, but for PostgreSQL.
// Errors:    std::exception.
// Threads:   thread-safe once it was built; but one row has one writer at a time.
#ifndef SHADOWLINE_TESTS_CHAOS_FLEET_H_
#define SHADOWLINE_TESTS_CHAOS_FLEET_H_

#include <cstdint>
#include <map>
#include <memory>
#include <pqxx/pqxx>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "cache/catalog/catalog.h"
#include "tests/support/judge.h"
#include "tests/support/load.h"
#include "tests/support/node.h"
#include "tests/support/private_servers.h"

namespace shadowline::chaos {

// Far more than anything here takes; what takes longer has not come back.
inline constexpr absl::Duration kLimit = absl::Seconds(60);
// What a loader's lease lasts when the loader dies (Filler::Options).
inline constexpr absl::Duration kLease = absl::Seconds(1);
// Control connections of each replica, by default: for callers, and for verification.
inline constexpr int kConnections = 8;
inline constexpr int kVerifyConnections = 2;

enum class Endpoint { kItem, kNear, kSlow, kBrief, kCounted };
inline constexpr size_t kEndpoints = 5;

// Starts replicas with a catalog, and promotes a family of it: on return each of them knows of that.
struct NodesOptions {
  std::string source;
  std::string redis;  // As of the configuration's redis.address.
  std::string extra_config;
  size_t replicas = 3;
  std::string yaml;
  std::string family;
  size_t tenants = 1;  // How many the catalog lists.
};
std::vector<std::unique_ptr<support::Node>> StartNodes(const NodesOptions& options);

class Fleet {
 public:
  struct Options {
    std::string redis;  // As of the configuration's redis.address.
    std::string extra_config;
    size_t replicas = 3;
    size_t rows = 1000;  // Over two tenants, which take turns.
    absl::Duration freshness = absl::Seconds(2);
    bool capture = false;     // Changes are captured as well.
    uint32_t sample_ppm = 0;  // Of the reads that the cache answers: how many are verified against the database.
  };

  explicit Fleet(const Options& options);

  size_t rows() const { return rows_; }
  size_t size() const { return nodes_.size(); }
  support::Node& node(size_t i) { return *nodes_[i]; }
  std::vector<std::shared_ptr<grpc::Channel>> channels() const;
  std::string source() const { return postgres_.ConnectionString(database_); }
  support::PrivatePostgres& postgres() { return postgres_; }
  const base::Clock& clock() const { return clock_; }

  // Names a question by what is asked about which row.
  static size_t Id(size_t row, Endpoint endpoint) { return row * kEndpoints + static_cast<size_t>(endpoint); }
  const shadowline::v1::ReadRequest& Request(size_t id) const { return requests_[id]; }
  support::Opinion Judge(size_t id, const shadowline::v1::ReadResponse& response, absl::Duration sent,
                         absl::Duration received) const;

  struct Write {
    bool flip = false;  // The row goes, or comes back.
    // Invalidates before the commit, names the transaction, and holds it open for so long.
    bool ahead = false;
    absl::Duration hold;
    // A fence may be lost: one that was ahead of its commit is put once more.
    bool fences_get_lost = false;
    // Faults, planted to see that they are caught: the invalidation is forgotten, or was never sent and passes for
    // acknowledged.
    bool forget = false;
    bool pretend = false;
  };
  // Commits a row's next version, and leaves its invalidation to change capture. Then one who knows of the write reads
  // the row, through any replica; false: and was answered with another version.
  [[nodiscard]] bool CommitCaptured(pqxx::connection* connection, size_t row, uint64_t turn);

  // Commits a row's next version, and invalidates it through the replicas in turn until that is acknowledged. Returns
  // how often the invalidation had to be sent again.
  uint64_t Commit(pqxx::connection* connection, size_t row, const Write& how, uint64_t turn);

  // Invalidates every row: what a planted fault has left behind is gone.
  void Heal();

  // The keys in Redis of what is cached of a question, and of the fence of its row.
  std::string CacheKey(size_t id) const;
  std::string FenceKey(size_t row) const;

  // The sum over all replicas.
  double Metric(const std::string& name, const std::string& label = "") const;
  std::string Logs() const;

 private:
  struct Row {
    std::string tenant;
    int64_t id = 0;
    int64_t version = 1;
    bool present = true;

    std::string Body() const;
    std::string Tag() const;
  };

  const base::SystemClock clock_;
  const size_t rows_;
  support::PrivatePostgres postgres_;
  const std::string database_;
  std::vector<Row> table_;
  std::unique_ptr<support::Judge> judge_;
  std::vector<shadowline::v1::ReadRequest> requests_;
  std::shared_ptr<const cache::CompiledCatalog> catalog_;
  std::vector<std::unique_ptr<support::Node>> nodes_;
  std::map<std::string, uint64_t> epochs_;  // Of each tenant.
};

}  // namespace shadowline::chaos

#endif  // SHADOWLINE_TESTS_CHAOS_FLEET_H_
