// Control reads the truth: it runs an endpoint's statement on PostgreSQL.
//
// Implementations: origin/postgres (libpqxx over a bounded pool), tests/sim (a versioned database in memory). One
// conformance suite runs on both.
#ifndef SHADOWLINE_CACHE_ORIGIN_CONTROL_H_
#define SHADOWLINE_CACHE_ORIGIN_CONTROL_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/executor.h"
#include "cache/catalog/catalog.h"

namespace shadowline::cache {

class Gathering;

// PostgreSQL's text form of each of an endpoint's parameters; nullopt is NULL.
using Arguments = std::vector<std::optional<std::string>>;

// One read of one endpoint, canonical and ready to bind.
struct Query {
  std::shared_ptr<const CompiledCatalog> catalog;  // Keeps `endpoint` alive.
  const Endpoint* endpoint = nullptr;
  std::string tenant;
  Arguments arguments;
  // Of a read that is one of many, its place among them (gathering_control.h). Nobody else looks at it.
  std::shared_ptr<Gathering> gathering;
  size_t place = 0;
};

// Reads of one endpoint for one tenant that differ in their arguments alone, and not in those that are identity.
struct QuerySet {
  // Most that one statement is asked for.
  static constexpr size_t kMost = 256;

  std::shared_ptr<const CompiledCatalog> catalog;
  const Endpoint* endpoint = nullptr;
  std::string tenant;
  std::vector<Arguments> arguments;  // 1 to kMost.

  Query At(size_t index) const { return {catalog, endpoint, tenant, arguments[index]}; }
};

struct ControlAnswer {
  bool found = false;
  std::string body;      // JSON as PostgreSQL rendered it; empty where not found.
  std::string snapshot;  // pg_current_snapshot() of the statement.
  // When the statement was handed to the database and when its answer was here, wall clock of this process.
  absl::Time started_at;
  absl::Time answered_at;
  // The database's own clock, while the statement ran. InfinitePast: the endpoint declares no `committed_at`.
  absl::Time database_clock = absl::InfinitePast();
  bool standby = false;  // By a server that repeats another's log, and may be behind it.
};

class Control {
 public:
  using Callback = absl::AnyInvocable<void(absl::StatusOr<ControlAnswer>)>;
  // One answer for each of the set's arguments, in their order.
  using SetCallback = absl::AnyInvocable<void(absl::StatusOr<std::vector<ControlAnswer>>)>;

  virtual ~Control() = default;

  // Runs the statement and posts `done` to `reply_on`. Gives up at `timeout` or at the endpoint's timeout, whichever is
  // less. `done` is always called, exactly once.
  //
  // Statuses: kDeadlineExceeded; kResourceExhausted (queue full); kUnavailable (no connection; retry later);
  //           kFailedPrecondition (the statement ran in another session than declared: not an answer);
  //           kInvalidArgument (the database refused a value, e.g. out of range); kInternal (any other SQL error).
  virtual void Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) = 0;

  // Answers all of `queries` with one statement, each as Load would have at the statement's one snapshot, or none:
  // where one of them fails, all do, and whoever wants the others asks again for fewer.
  //
  // Statuses: those of Load, and kUnimplemented: this statement can only be asked for one at a time.
  virtual void LoadSet(QuerySet queries, absl::Duration timeout, base::Executor* reply_on, SetCallback done) {
    reply_on->Post([done = std::move(done)]() mutable {
      done(absl::UnimplementedError("this control answers one query at a time"));
    });
  }
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_ORIGIN_CONTROL_H_
