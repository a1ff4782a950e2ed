// LedgerKills kills replicas with kill -9 at random moments while they verify steady traffic, some of them while the
// state store is away, and looks at the tables all the time: the ledger of each target balances at every look, no
// divergence that a replica said it has kept is missing in the end, and who ended in order has a verdict on each of its
// reads.
//
//   LedgerKillsOutcome outcome = LedgerKills({.kills = 200, .replicas = 4});
//
// Errors: std::exception where a step that leads there fails.
#ifndef SHADOWLINE_TESTS_VERDICTS_LEDGER_KILLS_H_
#define SHADOWLINE_TESTS_VERDICTS_LEDGER_KILLS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace shadowline::verdicts {

struct LedgerKillsOptions {
  uint64_t kills = 5;
  size_t replicas = 2;
  size_t rows = 60;
  uint64_t seed = 1;
};

struct LedgerKillsOutcome {
  uint64_t kills = 0;
  uint64_t outages = 0;           // Of the state store, each with a kill in it.
  uint64_t kills_in_outages = 0;  // Of `kills`.
  uint64_t looks = 0;             // At the tables, of every target.
  uint64_t rests = 0;             // How often all replicas lived, nobody read, and none of them held anything.
  // The most by which the ledger was wrong:
  // - of a target, at any look. What dead replicas had pending has to be lost once they are swept, and nothing may have
  //   more verdicts than reads;
  // - of a living replica, at rest: nothing is pending then, each read has its verdict;
  // - `uncounted`.
  uint64_t residual_max = 0;
  // Reads that callers were answered, and that no replica has counted; or counted, and not made. In peace, after the
  // kills, that is exact but for reads that failed. Over the whole run a replica may die with what it has told nobody
  // of: what it answered within a second before that, which is `untold_most` in all. `untold` were.
  uint64_t uncounted = 0;
  uint64_t untold = 0;
  uint64_t untold_most = 0;
  uint64_t reads = 0;           // That callers made.
  uint64_t reads_in_peace = 0;  // Of those, answered after the kills.
  uint64_t sampled = 0;
  uint64_t settled = 0;
  uint64_t lost = 0;
  uint64_t lost_in_order = 0;          // Of those that were told to stop, and did.
  uint64_t spools_replayed = 0;        // Of dead replicas, by others.
  uint64_t divergences_confirmed = 0;  // In logs; one that died before it was safe is among `lost`.
  uint64_t divergences_logged = 0;     // As kept, in the spool or in the store.
  uint64_t divergences_stored = 0;     // Of those, in the end.
  std::vector<std::string> faults;     // Empty: all of that held.
};

LedgerKillsOutcome LedgerKills(const LedgerKillsOptions& options,
                               const std::function<void(const std::string& line)>& progress = nullptr);

}  // namespace shadowline::verdicts

#endif  // SHADOWLINE_TESTS_VERDICTS_LEDGER_KILLS_H_
