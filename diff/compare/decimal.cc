#include "diff/compare/decimal.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"

namespace shadowline::diff {
namespace {

constexpr size_t kMaxExponentDigits = 36;

// Whether |a| < |b|.
bool Smaller(const Decimal& a, const Decimal& b) {
  if (a.zero() || b.zero()) return a.zero() && !b.zero();
  if (a.exponent != b.exponent) return a.exponent < b.exponent;
  return a.digits < b.digits;
}

// Whether a - b - c <= 0.
//
// Digits are added column by column. Where no term has a digit for a long stretch, the stretch is shortened: what lies
// below it is less than one unit above it either way, so the sign of the sum stays, and columns are only as many as
// digits.
bool AtMost(const Decimal& a, const Decimal& b, const Decimal& c) {
  struct Term {
    const Decimal* value;
    int sign;
    absl::int128 low;  // Position of its last digit.
  };
  std::array<Term, 3> terms = {Term{&a, a.negative ? -1 : 1, 0}, Term{&b, b.negative ? 1 : -1, 0},
                               Term{&c, c.negative ? 1 : -1, 0}};
  for (Term& term : terms) term.low = term.value->exponent - static_cast<absl::int128>(term.value->digits.size());
  std::sort(terms.begin(), terms.end(), [](const Term& x, const Term& y) { return x.low < y.low; });

  constexpr int kGap = 2;
  std::vector<int32_t> columns;
  absl::int128 base = terms[0].low;  // The position of column 0, were nothing shortened.
  for (const Term& term : terms) {
    if (term.value->zero()) continue;
    const absl::int128 used = base + static_cast<absl::int128>(columns.size());
    if (term.low > used + kGap) base = term.low - static_cast<absl::int128>(columns.size()) - kGap;
    const size_t first = static_cast<size_t>(term.low - base);
    const std::string& digits = term.value->digits;
    columns.resize(std::max(columns.size(), first + digits.size()));
    for (size_t i = 0; i < digits.size(); ++i) {
      columns[first + digits.size() - 1 - i] += term.sign * (digits[i] - '0');
    }
  }
  int32_t carry = 0;
  bool rest = false;  // What stays in the columns is not negative.
  for (const int32_t column : columns) {
    const int32_t sum = column + carry;
    carry = sum >= 0 ? sum / 10 : -((9 - sum) / 10);
    rest |= sum - carry * 10 != 0;
  }
  return carry < 0 || (carry == 0 && !rest);
}

bool Within(const Decimal& a, const Decimal& b, const Decimal& bound) {
  return AtMost(a, b, bound) && AtMost(b, a, bound);
}

}  // namespace

Decimal Decimal::Parse(absl::string_view number) {
  Decimal decimal;
  size_t at = 0;
  if (number[at] == '-') {
    decimal.negative = true;
    ++at;
  }
  const size_t end = static_cast<size_t>(
      std::find_if(number.begin() + at, number.end(), [](char c) { return c == 'e' || c == 'E'; }) - number.begin());
  const size_t point = std::min(number.find('.', at), end);
  decimal.exponent = static_cast<int64_t>(point - at);
  decimal.digits =
      absl::StrCat(number.substr(at, point - at), point < end ? number.substr(point + 1, end - point - 1) : "");
  const size_t leading = std::min(decimal.digits.find_first_not_of('0'), decimal.digits.size());
  decimal.digits.erase(0, leading);
  decimal.exponent -= static_cast<int64_t>(leading);
  decimal.digits.erase(decimal.digits.find_last_not_of('0') + 1);
  if (decimal.digits.empty()) return Decimal();

  if (end == number.size()) return decimal;
  absl::string_view exponent = number.substr(end + 1);
  const bool down = exponent[0] == '-';
  exponent.remove_prefix(std::min(exponent.find_first_not_of("+-0"), exponent.size()));
  if (exponent.size() > kMaxExponentDigits) {
    decimal.far_exponent = absl::StrCat(down ? "-" : "", exponent);
    return decimal;
  }
  absl::int128 value = 0;
  for (const char digit : exponent) value = value * 10 + (digit - '0');
  decimal.exponent += down ? -value : value;
  return decimal;
}

bool LessThan(const Decimal& a, const Decimal& b) {
  const auto sign = [](const Decimal& x) { return x.zero() ? 0 : (x.negative ? -1 : 1); };
  if (sign(a) != sign(b)) return sign(a) < sign(b);
  // Magnitudes from here on.
  const Decimal& small = a.negative ? b : a;
  const Decimal& large = a.negative ? a : b;
  if (small.far_exponent == large.far_exponent) return Smaller(small, large);
  const auto rank = [](const Decimal& x) { return x.far_exponent.empty() ? 0 : (x.far_exponent[0] == '-' ? -1 : 1); };
  if (rank(small) != rank(large)) return rank(small) < rank(large);
  const bool shorter = small.far_exponent.size() != large.far_exponent.size()
                           ? small.far_exponent.size() < large.far_exponent.size()
                           : small.far_exponent < large.far_exponent;
  return shorter == (rank(small) > 0);
}

bool WithinAbsolute(const Decimal& a, const Decimal& b, const Decimal& absolute) {
  if (!a.far_exponent.empty() || !b.far_exponent.empty()) return a == b;
  return Within(a, b, absolute);
}

bool WithinRelative(const Decimal& a, const Decimal& b, const Decimal& relative) {
  if (!a.far_exponent.empty() || !b.far_exponent.empty()) return a == b;
  const Decimal& larger = Smaller(a, b) ? b : a;
  // The product, digit by digit: at most 81 per pair and few pairs per column.
  std::vector<uint64_t> columns(relative.digits.size() + larger.digits.size());
  for (size_t i = 0; i < relative.digits.size(); ++i) {
    for (size_t j = 0; j < larger.digits.size(); ++j) {
      columns[i + j + 1] += static_cast<uint64_t>(relative.digits[i] - '0') * (larger.digits[j] - '0');
    }
  }
  Decimal bound;
  bound.digits.resize(columns.size());
  uint64_t carry = 0;
  for (size_t i = columns.size(); i-- > 0;) {
    const uint64_t sum = columns[i] + carry;
    bound.digits[i] = static_cast<char>('0' + sum % 10);
    carry = sum / 10;
  }
  bound.exponent = relative.exponent + larger.exponent;
  return Within(a, b, bound);
}

}  // namespace shadowline::diff
