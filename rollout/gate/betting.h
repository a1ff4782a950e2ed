// The sequential test of a window: is the divergence rate below the SLO?
//
// Each verified episode is a bit: 0 clean, 1 wrong. Against the null hypothesis "whatever came before, the next one is
// wrong with probability p0 = SLO or more", one bets on clean. A stake t in (0, 1] multiplies the wealth, from 1, by
//
//     1 + t * p0 / (1 - p0)   after a clean episode,
//     1 - t                   after a wrong one,
//
// which under the null is a nonnegative supermartingale: no bet gains on average. So is every mixture of stakes that is
// chosen beforehand, and by Ville's inequality it ever reaches 1 / alpha with probability at most alpha. Hence the test
// is anytime-valid: it may be looked at after every episode and stopped at will, and the false-promotion rate stays
// below alpha = 1 - confidence.
//
// The full stake (t = 1) is the sharpest against no divergence at all: it needs log(alpha) / log(1 - p0) clean
// episodes, 29,956 at 1e-4 and 95 %, the least that any test can do; one wrong episode ruins it. The smaller stakes
// survive some. The mixture
//
//     W(n, k) = sum_j w_j * (1 + t_j * p0 / (1 - p0))^n * (1 - t_j)^k,   t = 1, 1/2, 1/4, 1/8, 1/16
//
// puts 0.6 on the full one, which costs at most log(1 / 0.6) / log(1 / alpha) more episodes: 17 % at 95 %. W depends on
// the counts alone, so nothing has to be remembered between looks. Computed in logarithms: no count overflows.
//
// Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", J. R. Stat. Soc. B 86
// (2024); Ville, "Étude critique de la notion de collectif" (1939).
//
// Pure.
#ifndef SHADOWLINE_ROLLOUT_GATE_BETTING_H_
#define SHADOWLINE_ROLLOUT_GATE_BETTING_H_

#include <cstdint>

namespace shadowline::rollout {

class BettingTest {
 public:
  // REQUIRES: both in [1, 999'999].
  BettingTest(uint32_t slo_ppm, uint32_t confidence_ppm);

  // log W(clean, wrong).
  double LogWealth(uint64_t clean, uint64_t wrong) const;
  // The rate is below the SLO, at the test's confidence. False is "not shown", never "shown to be above".
  bool Rejects(uint64_t clean, uint64_t wrong) const { return LogWealth(clean, wrong) >= log_bound_; }
  // The least number of clean episodes with which it rejects, given `wrong` ones.
  uint64_t CleanNeeded(uint64_t wrong) const;

 private:
  double rate_;       // p0
  double log_bound_;  // log(1 / alpha)
};

}  // namespace shadowline::rollout

#endif  // SHADOWLINE_ROLLOUT_GATE_BETTING_H_
