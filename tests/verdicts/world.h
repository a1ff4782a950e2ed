// World is what the bugs happen in: PostgreSQL, a standby that lags, Redis, two replicas of Shadowline over them, and
// the operator who looks at it through the public API alone. Several applications share one world; each has families
// and tenants of its own.
//
// Ownership: owns its servers.
// Errors:    std::exception where a step fails that no bug is about.
// Threads:   thread-safe once it was built.
#ifndef SHADOWLINE_TESTS_VERDICTS_WORLD_H_
#define SHADOWLINE_TESTS_VERDICTS_WORLD_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "cache/catalog/catalog.h"
#include "shadowline/v1/divergence.grpc.pb.h"
#include "shadowline/v1/flags.grpc.pb.h"
#include "shadowline/v1/rollout.grpc.pb.h"
#include "tests/support/node.h"
#include "tests/support/private_servers.h"

namespace shadowline::verdicts {

// Far more than any step takes.
inline constexpr absl::Duration kLimit = absl::Seconds(60);

// What is read: a row of a tenant, and for whom.
struct Question {
  std::string tenant;
  int64_t id = 0;
  std::string who;  // Locale, viewer or process, where the application tells them apart.

  bool operator==(const Question&) const = default;
  bool operator<(const Question& other) const {
    return std::tie(tenant, id, who) < std::tie(other.tenant, other.id, other.who);
  }
};

// An operator's calls. Statuses are returned where an answer of Shadowline's is asked for, and thrown elsewhere.
class Operator {
 public:
  explicit Operator(const std::shared_ptr<grpc::Channel>& channel);

  // Each element is a cohort of named tenants.
  void Start(const std::string& family, const std::vector<std::vector<std::string>>& cohorts);
  shadowline::v1::Rollout Rollout(const std::string& family);
  grpc::Status Approve(const std::string& family);
  // By force, past the evidence.
  grpc::Status Promote(const std::string& family, const std::string& tenant);
  grpc::Status Abort(const std::string& family);
  shadowline::v1::Mode Mode(const std::string& tenant, const std::string& family);
  // Until the target's reads go there; into CACHE by force.
  void Bring(const std::string& tenant, const std::string& family, shadowline::v1::Mode mode);
  std::vector<shadowline::v1::Divergence> Divergences(const std::string& family);
  // One of them, with what its endpoint shows of values.
  shadowline::v1::Divergence Divergence(const std::string& id);
  shadowline::v1::Report Report(const std::string& family);

 private:
  const std::unique_ptr<shadowline::v1::RolloutService::Stub> rollouts_;
  const std::unique_ptr<shadowline::v1::FlagService::Stub> flags_;
  const std::unique_ptr<shadowline::v1::DivergenceService::Stub> divergences_;
};

class World {
 public:
  struct Options {
    std::string schema;  // SQL that makes the tables, once.
    std::string catalog;
    std::string extra_config;  // Of each replica.
    size_t replicas = 2;
    bool standby = false;    // Makes one that is two seconds behind.
    bool hurried = true;     // Counts and decides ten times as often as it would by default.
    bool own_state = false;  // Shadowline's own tables are in a server of their own.
    std::string role;        // As of the configuration's source.role.
  };

  explicit World(const Options& options);

  support::PrivatePostgres& postgres() { return postgres_; }
  support::PrivatePostgres& state() { return own_state_ == nullptr ? postgres_ : *own_state_; }
  support::PrivateRedis& redis() { return redis_; }
  const std::string& database() const { return database_; }
  std::string source() const { return postgres_.ConnectionString(database_); }
  std::string state_source() const;
  std::string standby_source() const { return standby_->ConnectionString(database_); }
  size_t size() const { return nodes_.size(); }
  support::Node& node(size_t i) { return *nodes_[i]; }
  std::vector<std::shared_ptr<grpc::Channel>> channels() const;
  Operator& by_operator() { return *operator_; }
  const base::Clock& clock() const { return clock_; }
  // One more replica, which is not awaited.
  std::unique_ptr<support::Node> AnotherNode(const std::string& name) const;

  // In Redis, of a managed endpoint.
  std::string CacheKey(const shadowline::v1::ReadRequest& request);
  // The sum over all replicas.
  double Metric(const std::string& name, const std::string& label = "") const;
  std::string Logs() const;

 private:
  support::Shadowlined::Options NodeOptions(const std::string& name) const;

  const base::SystemClock clock_;
  const bool hurried_;
  const std::string extra_config_;
  const std::string role_;
  support::PrivatePostgres postgres_;
  const std::string database_;
  std::unique_ptr<support::PrivatePostgres> own_state_;
  std::string state_database_;
  std::unique_ptr<support::PrivatePostgres> standby_;
  support::PrivateRedis redis_;
  std::vector<std::unique_ptr<support::Node>> nodes_;
  std::unique_ptr<Operator> operator_;
  std::shared_ptr<const cache::CompiledCatalog> catalog_;
};

// For an endpoint with the parameter `id` and, unless `who` is empty, `who`.
shadowline::v1::ReadRequest RequestOf(const std::string& endpoint, const Question& question);

// Lets time pass.
void Pass(const base::Clock& clock, absl::Duration duration);

}  // namespace shadowline::verdicts

#endif  // SHADOWLINE_TESTS_VERDICTS_WORLD_H_
