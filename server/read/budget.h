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
  Budget(double per_second, double burst)
      : seconds_(burst / per_second), per_second_(per_second), burst_(burst), tokens_(burst) {}

  // From `now` (Clock::Steady()) on. The bucket holds as many seconds' worth as before, so that what was saved up at a
  // higher rate is not spent at a lower one.
  void SetRate(absl::Duration now, double per_second) {
    if (per_second == per_second_) return;
    Refill(now);
    per_second_ = per_second;
    burst_ = std::max(per_second * seconds_, kLeastBurst);
    tokens_ = std::min(tokens_, burst_);
  }

  // Takes so many tokens (all, where the bucket holds fewer) and returns true where more than `reserve` (a share of the
  // bucket, 0 to 1) would be left.
  bool Take(absl::Duration now, double reserve = 0, double tokens = 1) {
    Refill(now);
    tokens = std::min(tokens, burst_);
    if (tokens_ < tokens + reserve * burst_) return false;
    tokens_ -= tokens;
    return true;
  }

  // How full it was at the last call of the others, 0 to 1.
  double level() const { return tokens_ / burst_; }

 private:
  // In a smaller bucket nothing is left beside a reserve of half of it.
  static constexpr double kLeastBurst = 4;

  void Refill(absl::Duration now) {
    tokens_ = std::min(burst_, tokens_ + absl::ToDoubleSeconds(now - filled_at_) * per_second_);
    filled_at_ = now;
  }

  const double seconds_;
  double per_second_;
  double burst_;
  double tokens_;
  absl::Duration filled_at_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_BUDGET_H_
