// The ledger closes, and what was kept is there, however replicas die. Five kills; with SHADOWLINE_FULL=1 the full
// size, which takes minutes.
#include "tests/verdicts/ledger_kills.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <string>

namespace shadowline::verdicts {
namespace {

TEST(LedgerKillsTest, EveryLookBalancesAndNothingThatWasKeptIsLost) {
  LedgerKillsOptions options;
  if (const char* full = std::getenv("SHADOWLINE_FULL"); full != nullptr && std::string(full) == "1") {
    options = {.kills = 200, .replicas = 4};
  }
  const LedgerKillsOutcome outcome =
      LedgerKills(options, [](const std::string& line) { std::cout << line << std::endl; });
  std::cout << "kills " << outcome.kills << "\noutages " << outcome.outages << "\nkills_in_outages "
            << outcome.kills_in_outages << "\nlooks " << outcome.looks << "\nledger_residual " << outcome.residual_max
            << "\nrests " << outcome.rests << "\nuncounted " << outcome.uncounted << "\nuntold " << outcome.untold
            << "\nuntold_most " << outcome.untold_most << "\nreads_in_peace " << outcome.reads_in_peace << "\nreads "
            << outcome.reads << "\nsampled " << outcome.sampled << "\nsettled " << outcome.settled << "\nlost "
            << outcome.lost << "\nlost_in_order " << outcome.lost_in_order << "\nspools_replayed "
            << outcome.spools_replayed << "\ndivergences_confirmed " << outcome.divergences_confirmed
            << "\ndivergences_logged " << outcome.divergences_logged << "\ndivergences_stored "
            << outcome.divergences_stored << "\n";
  for (const std::string& fault : outcome.faults) ADD_FAILURE() << fault;
  EXPECT_EQ(outcome.kills, options.kills);
  EXPECT_EQ(outcome.residual_max, 0u);
  EXPECT_GT(outcome.kills_in_outages, 0u);
  EXPECT_GT(outcome.looks, options.kills);
  EXPECT_GT(outcome.sampled, 0u);
  EXPECT_GT(outcome.reads_in_peace, 0u);
  EXPECT_GT(outcome.divergences_logged, 0u);
}

}  // namespace
}  // namespace shadowline::verdicts
