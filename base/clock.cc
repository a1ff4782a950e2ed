#include "base/clock.h"

#include <ctime>

#include "absl/time/clock.h"

namespace shadowline::base {

absl::Time SystemClock::Now() const { return absl::Now(); }

absl::Duration SystemClock::Steady() const {
  timespec now;
  // BOOTTIME and not MONOTONIC: a suspended machine must not wake up with a lease that looks fresh.
  clock_gettime(CLOCK_BOOTTIME, &now);
  return absl::DurationFromTimespec(now);
}

}  // namespace shadowline::base
