#include "rollout/gate/betting.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace shadowline::rollout {
namespace {

struct Bet {
  double stake;
  double weight;
};

constexpr std::array<Bet, 5> kMixture = {{{1.0, 0.60}, {0.5, 0.20}, {0.25, 0.10}, {0.125, 0.06}, {0.0625, 0.04}}};

}  // namespace

BettingTest::BettingTest(uint32_t slo_ppm, uint32_t confidence_ppm)
    : rate_(slo_ppm / 1e6), log_bound_(-std::log((1'000'000 - confidence_ppm) / 1e6)) {}

double BettingTest::LogWealth(uint64_t clean, uint64_t wrong) const {
  std::array<double, kMixture.size()> terms;
  for (size_t i = 0; i < kMixture.size(); ++i) {
    const Bet& bet = kMixture[i];
    terms[i] = std::log(bet.weight) + static_cast<double>(clean) * std::log1p(bet.stake * rate_ / (1 - rate_));
    if (wrong > 0) terms[i] += static_cast<double>(wrong) * std::log1p(-bet.stake);  // log1p(-1) is -infinity: ruined
  }
  const double greatest = *std::max_element(terms.begin(), terms.end());
  double sum = 0;
  for (const double term : terms) sum += std::exp(term - greatest);
  return greatest + std::log(sum);
}

uint64_t BettingTest::CleanNeeded(uint64_t wrong) const {
  // The wealth grows with every clean episode.
  uint64_t enough = 1;
  while (!Rejects(enough, wrong) && enough <= std::numeric_limits<uint64_t>::max() / 4) enough *= 2;
  uint64_t too_few = 0;
  while (enough - too_few > 1) {
    const uint64_t middle = too_few + (enough - too_few) / 2;
    (Rejects(middle, wrong) ? enough : too_few) = middle;
  }
  return enough;
}

}  // namespace shadowline::rollout
