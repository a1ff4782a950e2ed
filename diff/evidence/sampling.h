// Sampling says how likely it was that a read was verified, and what follows from the verified ones for all of them.
//
// Some reads are verified more often than others, because of what they are (docs/sampling.md). So a share of the
// verified reads is no share of the reads: each counts as the 1 / p reads that it stands for, where p is the
// probability with which it was drawn (D. G. Horvitz, D. J. Thompson, 1952). A rate is the quotient of two such sums
// (J. Hajek, 1971).
//
// Pure values.
#ifndef SHADOWLINE_DIFF_EVIDENCE_SAMPLING_H_
#define SHADOWLINE_DIFF_EVIDENCE_SAMPLING_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace shadowline::diff {

// What may make a read more likely to be verified; the most suspicious first. Stored by its number.
enum class Stratum : uint8_t {
  kUncertified,  // Captured, and change capture does not vouch for the answer.
  kRecent,       // The answer came soon after a write.
  kNegative,     // The answer is that there is none.
  kOld,          // The answer is near the end of its life.
  kCold,         // The key was not read lately.
};

inline constexpr size_t kStrata = 5;

absl::string_view StratumName(Stratum stratum);  // "uncertified", ...

// A set of them.
class Strata {
 public:
  constexpr Strata() = default;
  constexpr Strata& Add(Stratum stratum, bool when = true) {
    if (when) bits_ = static_cast<uint8_t>(bits_ | 1 << static_cast<int>(stratum));
    return *this;
  }
  constexpr Strata& Add(Strata others) {
    bits_ = static_cast<uint8_t>(bits_ | others.bits_);
    return *this;
  }
  constexpr bool Has(Stratum stratum) const { return (bits_ >> static_cast<int>(stratum) & 1) != 0; }
  bool operator==(const Strata&) const = default;

 private:
  uint8_t bits_ = 0;
};

// How a read came to be verified.
struct Inclusion {
  uint32_t ppm = 1'000'000;  // With what probability; more than 0.
  Strata strata;             // What it belongs to, whether or not that made it likelier.
  bool uniform = true;       // It would have been drawn whatever it is.

  bool operator==(const Inclusion&) const = default;
};

// Sums over reads that were judged (matched, excused, healed or confirmed), and over those of them that were wrong
// (confirmed). Exact: integers of a millionth of a read, and of a thousandth of its square.
struct Weighted {
  static constexpr size_t kFigures = 4 + 2 * kStrata;
  static constexpr uint64_t kMost = INT64_MAX;  // No figure grows beyond.

  uint64_t judged = 0;
  uint64_t wrong = 0;
  uint64_t judged_squares = 0;
  uint64_t wrong_squares = 0;
  // Reads as they are, by stratum; a read may be of several.
  std::array<uint64_t, kStrata> judged_of{};
  std::array<uint64_t, kStrata> wrong_of{};

  void Add(const Inclusion& inclusion, bool was_wrong);

  // All of them in one order, to be stored and added up.
  std::array<uint64_t, kFigures> Figures() const;
  static Weighted Of(const std::array<uint64_t, kFigures>& figures);

  bool operator==(const Weighted&) const = default;
};

// Of all reads that could have been drawn.
struct Estimate {
  double reads = 0;
  double rate = 0;  // Of wrong ones, 0 to 1.
  double standard_error = 0;
  // 95 % of such intervals hold the rate (Wilson's, for as many reads drawn alike as would be as certain).
  double low = 0;
  double high = 1;
};

// Nothing where no read was judged. For reads that were drawn one by one: where keys were, the errors are too small.
std::optional<Estimate> EstimateOf(const Weighted& weighted);

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_EVIDENCE_SAMPLING_H_
