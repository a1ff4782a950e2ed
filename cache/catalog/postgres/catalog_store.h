// PostgresCatalogStore keeps catalogs in the state database, and asks the application's database whether their
// statements are what they claim to be.
//
// A statement is refused unless PostgreSQL prepares it with the declared types, plans it without a write or a lock on a
// row, and gives it named, distinct columns. It could not write anyway, because every control read runs in a read-only
// transaction; here an operator is told before, and at the right line. Tables that are to be captured are refused
// unless their changes will carry what their tags need.
//
// Ownership: borrows the sessions, which must outlive it.
// Threads:   thread-safe. Blocking.
#ifndef SHADOWLINE_CACHE_CATALOG_POSTGRES_CATALOG_STORE_H_
#define SHADOWLINE_CACHE_CATALOG_POSTGRES_CATALOG_STORE_H_

#include <set>
#include <string>

#include "base/postgres/session.h"
#include "cache/catalog/catalog_store.h"
#include "cache/catalog/findings.h"
#include "cache/catalog/parse.h"

namespace shadowline::cache {

class PostgresCatalogStore final : public CatalogStore {
 public:
  struct Options {
    // Told of every change, with the new revision of the flags: where the replicas listen.
    std::string changed_channel;
    // As the control's: statements are checked in the session that they will run in.
    std::string search_path = "public";
    std::string role;
  };

  // `state` has Shadowline's schema, `source` is the application's database; they may be the same one.
  PostgresCatalogStore(Options options, base::PostgresSessions* state, base::PostgresSessions* source);

  absl::StatusOr<ApplyResult> Apply(absl::string_view yaml, bool dry_run, absl::string_view who,
                                    uint64_t expected_revision) override;
  absl::StatusOr<AppliedCatalog> Active() override;
  absl::Status RefreshTenants() override;

 private:
  // Sets `work` up as a control's session, read-only.
  void BecomeControl(pqxx::work* work) const;
  void CheckEndpoint(pqxx::work* work, const ParsedCatalog& parsed, const Endpoint& endpoint, Findings* findings) const;
  void CheckCapture(pqxx::work* work, const ParsedCatalog& parsed, Findings* findings) const;
  void CheckTenantQuery(pqxx::work* work, const ParsedCatalog& parsed, const std::string& path, const std::string& sql,
                        Findings* findings) const;
  // The declared tenants and those of the query.
  std::set<std::string> ReadTenants(pqxx::work* work, const ParsedCatalog& parsed, Findings* findings) const;

  const Options options_;
  base::PostgresSessions* const state_;
  base::PostgresSessions* const source_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CATALOG_POSTGRES_CATALOG_STORE_H_
