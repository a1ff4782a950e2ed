// Rollouts as text: the tree of one, the table of many, and what changed between two sights of one. Pure.
//
//   pricing: running, cohort 2 of 3, about 2 min 10 s to go
//   rollout 41, started 3 min ago by ana: faster quotes
//
//   TARGET        STATE    CACHE  WINDOW  ETA         MISSING
//   ├─ canary     settled  100 %                      2 targets
//   ├─ wave       moving                              1 ramping, 1 shadow
//   │  ├─ acme    ramping    5 %      12  40 s        soak 12 s of 60 s
//   │  └─ globex  shadow       -      11  2 min 10 s  796 more episodes (pricing/quote)
//   └─ rest       waiting                             35 targets
#ifndef SHADOWLINE_CONSOLE_CLI_ROLLOUT_VIEW_H_
#define SHADOWLINE_CONSOLE_CLI_ROLLOUT_VIEW_H_

#include <optional>
#include <string>
#include <vector>

#include "console/cli/table.h"
#include "shadowline/v1/rollout.pb.h"

namespace shadowline::console {

// "running", "rolled back", ...
std::string Word(v1::RolloutState state);
std::string Word(v1::TargetState state);
// "database", "shadow", "cache".
std::string Word(v1::Mode mode);

// `max_lines` > 0: cohorts are shortened, the least interesting targets first, until the tree fits if it can.
std::vector<std::string> RolloutTree(const v1::Rollout& rollout, const Style& style, int max_lines = 0);
// What the rollout is judged by, in one line; what the policy leaves out is left out.
std::string PolicyText(const v1::Policy& policy);

std::string RolloutTable(const v1::ListRolloutsResponse& rollouts, const Style& style);

// One line for each change of a state, mode or serve share since `before` (null: nothing was seen yet).
std::vector<std::string> RolloutChanges(const v1::Rollout* before, const v1::Rollout& now, const Style& style);

// The exit code of `rollout watch` where this state ends it: 0 settled, 1 rolled back or aborted, 3 stopped.
std::optional<int> WatchResult(v1::RolloutState state);

}  // namespace shadowline::console

#endif  // SHADOWLINE_CONSOLE_CLI_ROLLOUT_VIEW_H_
