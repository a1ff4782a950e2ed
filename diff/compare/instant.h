// Timestamps as PostgreSQL and RFC 3339 write them, as points in time.
//
//   2022-09-10T16:46:03.905795+00:00    2022-09-10 12:46:03.905795-04    0044-03-15 12:00:00 BC    infinity
//
// A date alone is its midnight in UTC, as ECMAScript reads it: that is what drivers make of PostgreSQL's dates.
// One without an offset is a point in an unnamed zone: equal only to another such, never to one with an offset.
#ifndef SHADOWLINE_DIFF_COMPARE_INSTANT_H_
#define SHADOWLINE_DIFF_COMPARE_INSTANT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace shadowline::diff {

struct Instant {
  // Nothing: not a timestamp.
  static std::optional<Instant> Parse(absl::string_view text);

  bool operator==(const Instant&) const = default;

  // Nothing: it has no offset, or is infinite.
  std::optional<absl::Time> ToTime() const;

  int64_t seconds = 0;   // Since 1970, in UTC where there is an offset.
  std::string fraction;  // Digits behind the point without zeros at the end; at most nine are accepted.
  bool has_offset = false;
  int infinite = 0;  // -1, 1; else 0.
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_COMPARE_INSTANT_H_
