// A JSON Patch (RFC 6902) out of a comparison: what turns the control into what the candidate says, as a JSON text.
//
//   ASSIGN_OR_RETURN(std::string patch, MakePatch(control, candidate, rules));
//
// Where the two are the same under the rules, the patch is empty ("[]"). Else it is whole: the patched control equals
// the candidate by value, in what rules excuse as well, and unordered arrays get the candidate's order. (A patch that
// left out what was excused would make a third document, which nobody has seen.)
//
// Pure. Time and memory are linear in the texts, but for the sorting of members and the pointers, which grow with
// depth. Limits: those of json.h; kMaxPatchBytes.
#ifndef SHADOWLINE_DIFF_COMPARE_PATCH_H_
#define SHADOWLINE_DIFF_COMPARE_PATCH_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "diff/compare/compare.h"

namespace shadowline::diff {

inline constexpr size_t kMaxPatchBytes = 32 << 20;

// kInvalidArgument, kFailedPrecondition: one of the texts cannot be compared (CheckJson). kResourceExhausted: comparing
// or the patch met a limit; the message says which.
absl::StatusOr<std::string> MakePatch(absl::string_view control, absl::string_view candidate,
                                      const CompiledRules& rules);

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_COMPARE_PATCH_H_
