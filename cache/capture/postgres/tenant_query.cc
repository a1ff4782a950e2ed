#include "cache/capture/postgres/tenant_query.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cache/origin/statement.h"

namespace shadowline::cache {

PostgresTenantLookup::PostgresTenantLookup(Options options, const base::Clock* clock)
    : options_(std::move(options)), clock_(clock) {}

absl::Status PostgresTenantLookup::Connect() {
  ASSIGN_OR_RETURN(std::unique_ptr<Connection> connection, Connection::Open(options_.connection, clock_));
  const std::string role = options_.role.empty() ? "" : absl::StrCat("SET ROLE ", QuoteName(options_.role), "; ");
  RETURN_IF_ERROR(connection
                      ->Query(absl::StrCat(role, SessionSetup(QuoteText(options_.search_path), /*local=*/false),
                                           "; SET statement_timeout = '5s'"))
                      .status());
  connection_ = std::move(connection);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::string>> PostgresTenantLookup::Find(const std::string& sql, const std::string& key) {
  const auto known = remembered_.find(std::make_pair(sql, key));
  if (known != remembered_.end()) return std::optional<std::string>(known->second);
  if (connection_ == nullptr) RETURN_IF_ERROR(Connect());
  absl::StatusOr<Connection::Rows> rows = connection_->Query(sql, {key});
  if (!rows.ok()) {
    connection_.reset();
    return base::Annotate(rows.status(), "tenant_query");
  }
  if (rows->empty()) return std::optional<std::string>();
  if (remembered_.size() >= kRemembered) remembered_.clear();
  std::string tenant = rows->front().front().value_or("");
  remembered_[std::make_pair(sql, key)] = tenant;
  return std::optional<std::string>(std::move(tenant));
}

}  // namespace shadowline::cache
