// What people are shown of a rollout. Pure.
#ifndef SHADOWLINE_ROLLOUT_CONTROLLER_VIEW_H_
#define SHADOWLINE_ROLLOUT_CONTROLLER_VIEW_H_

#include <optional>

#include "rollout/commands.h"
#include "rollout/machine/state.h"

namespace shadowline::rollout {

// `state` is the family's with full evidence, where `rollout` is its newest; null for one that was superseded, of which
// only the document is shown.
RolloutView ViewOf(const Rollout& rollout, const FamilyState* state, const std::optional<CatalogFacts>& facts,
                   absl::Time now);

}  // namespace shadowline::rollout

#endif  // SHADOWLINE_ROLLOUT_CONTROLLER_VIEW_H_
