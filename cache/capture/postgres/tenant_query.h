// PostgresTenantLookup asks the application's database for the tenants of rows that do not name them, and remembers the
// answers: a key keeps its tenant. A key that has gone keeps the tenant that it had, so that the rows that go with it
// can still be told.
//
// Threads: compatible; on a connection of its own, made when it is needed. Blocking.
// Limits:  kRemembered answers; then it starts afresh.
#ifndef SHADOWLINE_CACHE_CAPTURE_POSTGRES_TENANT_QUERY_H_
#define SHADOWLINE_CACHE_CAPTURE_POSTGRES_TENANT_QUERY_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "cache/capture/postgres/connection.h"
#include "cache/capture/tenant_lookup.h"

namespace shadowline::cache {

class PostgresTenantLookup final : public TenantLookup {
 public:
  static constexpr size_t kRemembered = 1'000'000;

  struct Options {
    Connection::Options connection;
    // As the control's: a query is asked in the session that it was checked in.
    std::string search_path = "public";
    std::string role;
  };

  PostgresTenantLookup(Options options, const base::Clock* clock);

  absl::StatusOr<std::optional<std::string>> Find(const std::string& sql, const std::string& key) override;

 private:
  absl::Status Connect();

  const Options options_;
  const base::Clock* const clock_;
  std::unique_ptr<Connection> connection_;
  absl::flat_hash_map<std::pair<std::string, std::string>, std::string> remembered_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CAPTURE_POSTGRES_TENANT_QUERY_H_
