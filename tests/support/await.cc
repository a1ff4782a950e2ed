#include "tests/support/await.h"

#include <unistd.h>

#include "base/clock.h"

namespace shadowline::support {

bool AwaitTrue(absl::Duration limit, absl::FunctionRef<bool()> condition) {
  const base::SystemClock clock;
  const absl::Duration deadline = clock.Steady() + limit;
  while (!condition()) {
    if (clock.Steady() > deadline) return false;
    usleep(10'000);
  }
  return true;
}

}  // namespace shadowline::support
