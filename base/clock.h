// Clock is the only source of time. Everything that waits, expires or stamps asks one, so that a simulation can run hours
// in milliseconds and a test never sleeps.
//
// Threads: thread-safe.
#ifndef SHADOWLINE_BASE_CLOCK_H_
#define SHADOWLINE_BASE_CLOCK_H_

#include "absl/time/time.h"

namespace shadowline::base {

class Clock {
 public:
  virtual ~Clock() = default;

  // Wall time: for stamps that people or other machines read. May jump.
  virtual absl::Time Now() const = 0;

  // Time since an arbitrary origin that never goes back: for ages, leases and timeouts. It goes on while the process is
  // stopped, so a lease lapses for a replica that was frozen.
  virtual absl::Duration Steady() const = 0;
};

// The machine's clocks (CLOCK_REALTIME and CLOCK_BOOTTIME).
class SystemClock final : public Clock {
 public:
  absl::Time Now() const override;
  absl::Duration Steady() const override;
};

}  // namespace shadowline::base

#endif  // SHADOWLINE_BASE_CLOCK_H_
