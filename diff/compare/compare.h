// Compare judges whether two answers say the same. Pure: no I/O, no clock, no state.
//
//   ASSIGN_OR_RETURN(CompiledRules rules, CompiledRules::Compile(endpoint.compare));
//   Comparison result = Compare(control, candidate, rules);
//
// Order of work: equal bytes; equal digests, whatever the order of members (json.h); then the structure under the
// declared rules, without the parts that have equal digests. Numbers are compared as exact decimals, in time bounded by
// their text, never as doubles.
//
// Threads: everything here is immutable or a value. A thread that compares keeps up to 8 MiB of memory for its next
// comparison. Limits:  texts of kMaxJsonBytes and kMaxJsonDepth (json.h); kMaxDifferences are kept and all are counted;
// kMaxShownBytes of
//          each text; kMaxSteps visits, beyond which nothing is judged (kError). Only unordered arrays whose items are
//          alike but for a tolerance can need so many. Paths that need the document have kMaxPathSteps (jsonpath.h),
//          both documents and all rules together; the same holds beyond them.
// Policies for odd input are in docs/compare.md.
#ifndef SHADOWLINE_DIFF_COMPARE_COMPARE_H_
#define SHADOWLINE_DIFF_COMPARE_COMPARE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace shadowline::diff {

struct Json;

// Declared excuses, as in the catalog (proto CompareRules has the meaning of each).
struct Rules {
  struct Tolerance {
    std::string path = {};
    std::string absolute = {};
    std::string relative = {};
  };

  std::vector<std::string> ignore = {};  // All of JSONPath; the others as PathPattern has them.
  std::map<std::string, std::string> arrays = {};
  std::vector<Tolerance> tolerance = {};
  std::vector<std::string> instants = {};
  std::vector<std::string> null_is_absent = {};
  std::vector<std::string> extensible = {};
};

class CompiledRules {
 public:
  // No rules: exact comparison.
  CompiledRules();
  // kInvalidArgument names the rule, the path in it and what was expected; or two rules that contradict each other.
  static absl::StatusOr<CompiledRules> Compile(const Rules& rules);

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  std::shared_ptr<const Impl> impl_;
};

enum class DifferenceKind { kMissing, kExtra, kType, kValue, kOrder, kLength, kShape };

// "missing", "extra", ...
absl::string_view KindName(DifferenceKind kind);

struct Difference {
  // RFC 6901, into the control's answer; for what is extra, into the candidate's. Control characters are written
  // \u0000.
  std::string pointer;
  DifferenceKind kind = DifferenceKind::kValue;
  std::string control;  // JSON text of that side, at most kMaxShownBytes; empty where it has nothing.
  std::string candidate;
};

inline constexpr size_t kMaxDifferences = 64;  // And patterns.
inline constexpr size_t kMaxShownBytes = 512;  // Of a value, of a pointer.
inline constexpr uint64_t kMaxSteps = 20'000'000;

struct Comparison {
  enum class Verdict {
    kEqual,    // The same by value, no rule was needed.
    kExcused,  // The same under the rules; `excuses` counts each use.
    kDiffer,
    kError,  // The control is not JSON, or a limit was met: nothing can be judged. `error` says what.
  };

  Verdict verdict = Verdict::kEqual;
  std::vector<Difference> differences;  // At most kMaxDifferences.
  uint64_t differences_total = 0;
  std::map<std::string, uint64_t> excuses;  // Rule as declared, e.g. "ignore $.a" -> times used.
  // kExcused: something was compared. False: the rules ignore all that either side says, so that nothing was learned.
  bool compared = true;
  // Path patterns (array indices as *) with their kinds, sorted, without duplicates: "/roles/*: value".
  std::vector<std::string> patterns;
  std::string error;  // kError, and where the candidate is not JSON: what was expected where.
};

// One side's answer. "Not found" is an answer like any other.
struct Answer {
  bool found = true;
  absl::string_view body;
};

// Turns the JSON text of a value that differs (for kShape: whatever the candidate sent) into what may be kept of it.
// redact.h has one that keeps secrets.
using Show = std::function<std::string(absl::string_view)>;
// As it is.
std::string ShowValue(absl::string_view text);

Comparison Compare(const Answer& control, const Answer& candidate, const CompiledRules& rules,
                   const Show& show = ShowValue);

// The verdict of Compare on two trees, for which every value is walked and no digest is looked at: what tests hold
// Compare against.
Comparison CompareSlowly(const Json& control, const Json& candidate, const CompiledRules& rules,
                         const Show& show = ShowValue);

// Whether `text` can be compared; the message says what was expected where. kInvalidArgument: it is not JSON.
// kFailedPrecondition: a duplicate member, a lone surrogate, or beyond the limits. Compare asks this of neither side
// when their bytes are equal.
absl::Status CheckJson(absl::string_view text);

// Groups divergences: 16 hexadecimal digits over the endpoint and Comparison::patterns.
std::string Fingerprint(absl::string_view endpoint, const std::vector<std::string>& patterns);

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_COMPARE_COMPARE_H_
