// What a divergence shows of a value when its endpoint does not show values: the type, a size, and a digest under a
// secret of the tenant, by which equal values are recognised and nothing else is learned.
//
//   "string, 12 bytes, #5d41402abc4b2a76"    "number, #..."    "array, 3 items, #..."    null
//
// Equal by value means equal digest: 1 and 1.0 have one, and so have objects whose members are in another order.
//
// Threads: immutable.
#ifndef SHADOWLINE_DIFF_COMPARE_REDACT_H_
#define SHADOWLINE_DIFF_COMPARE_REDACT_H_

#include <string>

#include "absl/strings/string_view.h"

namespace shadowline::diff {

// A diff::Show for Compare.
class Redactor {
 public:
  // `secret` belongs to one tenant: digests of two tenants cannot be compared.
  explicit Redactor(std::string secret) : secret_(std::move(secret)) {}

  // The redacted form, a JSON text, of the JSON text `value`; of anything else its size and digest.
  std::string operator()(absl::string_view value) const;

 private:
  std::string secret_;
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_COMPARE_REDACT_H_
