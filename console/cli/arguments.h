// What is written on the command line, as messages. Pure. kInvalidArgument says what was expected.
#ifndef SHADOWLINE_CONSOLE_CLI_ARGUMENTS_H_
#define SHADOWLINE_CONSOLE_CLI_ARGUMENTS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "shadowline/v1/catalog.pb.h"
#include "shadowline/v1/read.pb.h"
#include "shadowline/v1/rollout.pb.h"

namespace shadowline::console {

// "5%", "0.25 %" as parts per million.
absl::StatusOr<uint32_t> ParsePercent(absl::string_view text);
// "250ms", "30s", "1h30m"; a bare number is refused, since its unit would be a guess. More than zero.
absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text);

// "first=acme,globex" (named tenants), "25%" or "wave=25%" (a share of those not taken yet), "rest" (all of them).
absl::StatusOr<v1::Cohort> ParseCohort(absl::string_view text);

// Sets one field of `policy` from "duration=10s", "episodes=50", "ramp=5%,100%". Fields that end in `_ppm` may be named
// without it, and then take percents.
absl::Status ParsePolicyOverride(absl::string_view text, v1::Policy* policy);

// "name=value", where value is read as an integer, a number, true or false, else as a text; or "name:type=value" with a
// type of the catalog: text, integer, number, boolean, text_set, text_list, integer_set, integer_list (elements
// separated by commas), or null.
absl::StatusOr<v1::Parameter> ParseParameter(absl::string_view text);

}  // namespace shadowline::console

#endif  // SHADOWLINE_CONSOLE_CLI_ARGUMENTS_H_
