// Whether Shadowline's verdicts can be trusted: 26 real caching bugs, false alarms, recall, the ledger while replicas
// are killed, and what verification costs, on real processes.
//
//   bench_verdicts [--json FILE] [--only NAME]... [--bug ID]... [--reads N] [--kills N]
//
// The file holds the figures of the scenarios that were run, and of no other; tests/verdicts/scenarios.h says what they
// mean. The exit status is 1 where a verdict was wrong.
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/verdicts/ledger_kills.h"
#include "tests/verdicts/scenarios.h"

namespace shadowline::verdicts {
namespace {

using support::Tell;

// kills, ledger_residual; ledger: what else was counted (ledger_kills.h).
Outcome Ledger(uint64_t kills) {
  const LedgerKillsOutcome killed = LedgerKills({.kills = kills, .replicas = 4}, Tell);
  Outcome outcome;
  outcome.figures = {{"kills", killed.kills},
                     {"ledger_residual", killed.residual_max},
                     {"ledger",
                      {{"looks", killed.looks},
                       {"kills_in_outages", killed.kills_in_outages},
                       {"rests", killed.rests},
                       {"reads", killed.reads},
                       {"reads_in_peace", killed.reads_in_peace},
                       {"uncounted", killed.uncounted},
                       {"untold", killed.untold},
                       {"untold_most", killed.untold_most},
                       {"sampled", killed.sampled},
                       {"settled", killed.settled},
                       {"lost", killed.lost},
                       {"lost_in_order", killed.lost_in_order},
                       {"divergences_confirmed", killed.divergences_confirmed},
                       {"divergences_logged", killed.divergences_logged},
                       {"divergences_stored", killed.divergences_stored}}}};
  outcome.faults = killed.faults;
  return outcome;
}

int Run(const std::string& json_path, std::vector<std::string> only, const std::vector<std::string>& bugs,
        uint64_t reads, uint64_t kills) {
  const std::vector<support::Scenario> scenarios = {
      {"bugs", [&] { return Bugs({.only = bugs, .reads = reads}, Tell); }},
      {"alarms", [] { return Alarms({}, Tell); }},
      {"recall", [] { return Recall({}, Tell); }},
      {"ledger", [kills] { return Ledger(kills); }},
      {"cost", [] { return Cost({}, Tell); }},
      {"memory", [] { return Memory({}, Tell); }},
  };
  if (only.empty() && !bugs.empty()) only = {"bugs"};
  return support::RunScenarios(scenarios, only, json_path);
}

}  // namespace
}  // namespace shadowline::verdicts

int main(int argc, char** argv) {
  CLI::App app("Whether Shadowline's verdicts can be trusted.");
  std::string json_path;
  std::vector<std::string> only, bugs;
  uint64_t reads = 4000, kills = 200;
  app.add_option("--json", json_path, "Write the figures to this file");
  app.add_option("--only", only, "Run this scenario alone; may be given again");
  app.add_option("--bug", bugs, "Of the bugs, this one alone; may be given again");
  app.add_option("--reads", reads, "Reads around each bug, in each mode")->check(CLI::Range(1000, 1'000'000));
  app.add_option("--kills", kills, "Replicas that are killed while the ledger is looked at")
      ->check(CLI::Range(5, 10'000));
  CLI11_PARSE(app, argc, argv);
  return shadowline::verdicts::Run(json_path, only, bugs, reads, kills);
}
