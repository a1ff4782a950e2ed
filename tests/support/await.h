// Waiting for what another process does, which has no way to tell this one.
#ifndef SHADOWLINE_TESTS_SUPPORT_AWAIT_H_
#define SHADOWLINE_TESTS_SUPPORT_AWAIT_H_

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"

namespace shadowline::support {

// Looks every 10 ms until `condition` holds; false if it did not within `limit`, which should be far more than it ever
// takes.
[[nodiscard]] bool AwaitTrue(absl::Duration limit, absl::FunctionRef<bool()> condition);

}  // namespace shadowline::support

#endif  // SHADOWLINE_TESTS_SUPPORT_AWAIT_H_
