// TenantLookup finds the tenant of a row whose table does not say it: the declared query, asked with what the row does
// say.
#ifndef SHADOWLINE_CACHE_CAPTURE_TENANT_LOOKUP_H_
#define SHADOWLINE_CACHE_CAPTURE_TENANT_LOOKUP_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace shadowline::cache {

class TenantLookup {
 public:
  virtual ~TenantLookup() = default;

  // The tenant that `sql` gives for `key`; empty: nobody's; nullopt: the query gives no row, so it is not known. Any
  // error: try again later.
  virtual absl::StatusOr<std::optional<std::string>> Find(const std::string& sql, const std::string& key) = 0;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CAPTURE_TENANT_LOOKUP_H_
