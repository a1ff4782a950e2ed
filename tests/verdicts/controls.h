// Faults of a controller itself, which do not show in any comparison: each is put on, and what must not come of it is
// checked. They have servers of their own, since they take them away.
#ifndef SHADOWLINE_TESTS_VERDICTS_CONTROLS_H_
#define SHADOWLINE_TESTS_VERDICTS_CONTROLS_H_

#include <nlohmann/json_fwd.hpp>

#include "absl/time/time.h"

namespace shadowline::verdicts {

// As of RunExternal; `got` is CONTROL where every check holds, and says else which do not. With the figures of the
// checks, and `managed`.

// All keys expire at once, and then the database stops answering: loads are coalesced or admitted, nothing fails, and
// what verification could not read is no divergence.
nlohmann::json StampedeAfterExpiry();

// A replica starts while the flags cannot be had: it is not ready, and answers nothing from the cache; once it is ready
// it reads the database no more than its siblings.
nlohmann::json ColdStart(absl::Duration without_flags);

}  // namespace shadowline::verdicts

#endif  // SHADOWLINE_TESTS_VERDICTS_CONTROLS_H_
