// Numbers as JSON writes them, compared exactly: 1 = 1.0 = 10e-1, 0 = -0, and 1e999999999 is a number like any other.
//
// Time and memory are bounded by the length of the texts, never by the size of the numbers.
// Threads: values.
#ifndef SHADOWLINE_DIFF_COMPARE_DECIMAL_H_
#define SHADOWLINE_DIFF_COMPARE_DECIMAL_H_

#include <string>

#include "absl/numeric/int128.h"
#include "absl/strings/string_view.h"

namespace shadowline::diff {

struct Decimal {
  // REQUIRES: `number` matches JSON's grammar of a number.
  static Decimal Parse(absl::string_view number);

  bool operator==(const Decimal&) const = default;
  bool zero() const { return digits.empty(); }

  // The value is 0.DIGITS x 10^exponent, without zeros at either end of the digits. Zero has no digits, exponent or
  // sign.
  bool negative = false;
  std::string digits;
  absl::int128 exponent = 0;
  // An exponent of more than 36 digits: its text, which is not in `exponent`. Such numbers are equal when written with
  // the same exponent, and near to no other.
  std::string far_exponent;
};

// a < b. Of two with different far exponents, by those alone.
bool LessThan(const Decimal& a, const Decimal& b);
// |a - b| <= absolute, where absolute >= 0.
bool WithinAbsolute(const Decimal& a, const Decimal& b, const Decimal& absolute);
// |a - b| <= relative * max(|a|, |b|), where relative >= 0. Takes time proportional to the product of the digits of
// `relative` and of the larger number.
bool WithinRelative(const Decimal& a, const Decimal& b, const Decimal& relative);

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_COMPARE_DECIMAL_H_
