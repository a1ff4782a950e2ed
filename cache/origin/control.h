// Control reads the truth: it runs an endpoint's statement on PostgreSQL.
//
// Implementations: origin/postgres (libpqxx over a bounded pool), tests/sim (a versioned database in memory). One
// conformance suite runs on both.
#ifndef SHADOWLINE_CACHE_ORIGIN_CONTROL_H_
#define SHADOWLINE_CACHE_ORIGIN_CONTROL_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/executor.h"
#include "cache/catalog/catalog.h"

namespace shadowline::cache {

// One read of one endpoint, canonical and ready to bind.
struct Query {
  std::shared_ptr<const CompiledCatalog> catalog;  // Keeps `endpoint` alive.
  const Endpoint* endpoint = nullptr;
  std::string tenant;
  // PostgreSQL's text form of each of endpoint->parameters; nullopt is NULL.
  std::vector<std::optional<std::string>> arguments;
};

struct ControlAnswer {
  bool found = false;
  std::string body;      // JSON as PostgreSQL rendered it; empty where not found.
  std::string snapshot;  // pg_current_snapshot() of the statement.
  // When the statement was handed to the database and when its answer was here, wall clock of this process.
  absl::Time started_at;
  absl::Time answered_at;
};

class Control {
 public:
  using Callback = absl::AnyInvocable<void(absl::StatusOr<ControlAnswer>)>;

  virtual ~Control() = default;

  // Runs the statement and posts `done` to `reply_on`. Gives up at `timeout` or at the endpoint's timeout, whichever is
  // less. `done` is always called, exactly once.
  //
  // Statuses: kDeadlineExceeded; kResourceExhausted (queue full); kUnavailable (no connection; retry later);
  //           kFailedPrecondition (the statement ran in another session than declared: not an answer);
  //           kInvalidArgument (the database refused a value, e.g. out of range); kInternal (any other SQL error).
  virtual void Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) = 0;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_ORIGIN_CONTROL_H_
