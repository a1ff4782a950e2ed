// Versions says which of two answers is the newer one, where answers say it themselves: by an integer that grows with
// every change of the answer (`row_version` in the catalog).
//
// Pure. Threads: values.
#ifndef SHADOWLINE_DIFF_VERDICT_VERSIONS_H_
#define SHADOWLINE_DIFF_VERDICT_VERSIONS_H_

#include "absl/strings/string_view.h"
#include "diff/compare/compare.h"

namespace shadowline::diff {

// The candidate's version against the control's.
enum class Versions { kUnknown, kOlder, kSame, kNewer };

// Of two JSON texts that have `difference`. Integers of any length, also as texts: "17". kUnknown: one of the two has
// none at `pointer` (RFC 6901; empty is nowhere). So are equal versions where only members came, went or changed their
// type: then the statement or a program has changed, which no row's version tells.
Versions CompareVersions(absl::string_view candidate, absl::string_view control, absl::string_view pointer,
                         const Comparison& difference);

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_VERDICT_VERSIONS_H_
