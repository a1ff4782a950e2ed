// Budget is a token bucket: it caps the queries that verification adds to a database. What matters less leaves a part
// of the bucket for what matters more.
//
// Threads: compatible.
#ifndef SHADOWLINE_SERVER_READ_BUDGET_H_
#define SHADOWLINE_SERVER_READ_BUDGET_H_

#include <algorithm>

#include "absl/time/time.h"

namespace shadowline::server {

class Budget {
 public:
  // Starts full.
  Budget(double per_second, double burst) : per_second_(per_second), burst_(burst), tokens_(burst) {}

  // Takes one token and returns true where more than `reserve` (a share of the bucket, 0 to 1) would be left. `now` is
  // Clock::Steady().
  bool Take(absl::Duration now, double reserve = 0) {
    tokens_ = std::min(burst_, tokens_ + absl::ToDoubleSeconds(now - filled_at_) * per_second_);
    filled_at_ = now;
    if (tokens_ < 1 + reserve * burst_) return false;
    tokens_ -= 1;
    return true;
  }

 private:
  const double per_second_;
  const double burst_;
  double tokens_;
  absl::Duration filled_at_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_BUDGET_H_
