#include "diff/evidence/sampling.h"

#include <algorithm>
#include <cmath>

namespace shadowline::diff {
namespace {

constexpr double kMicro = 1e6;
constexpr double kMilli = 1e3;
constexpr double kZ = 1.959964;  // Of 95 %.

void AddTo(uint64_t* sum, uint64_t more) { *sum = std::min(*sum + std::min(more, Weighted::kMost), Weighted::kMost); }

}  // namespace

absl::string_view StratumName(Stratum stratum) {
  switch (stratum) {
    case Stratum::kUncertified:
      return "uncertified";
    case Stratum::kRecent:
      return "recent";
    case Stratum::kNegative:
      return "negative";
    case Stratum::kOld:
      return "old";
    case Stratum::kCold:
      return "cold";
  }
  return "unknown";
}

void Weighted::Add(const Inclusion& inclusion, bool was_wrong) {
  const uint64_t ppm = std::clamp<uint64_t>(inclusion.ppm, 1, 1'000'000);
  const uint64_t weight = (1'000'000'000'000 + ppm / 2) / ppm;
  const auto square = static_cast<uint64_t>(std::llround(kMilli * (kMicro / ppm) * (kMicro / ppm)));
  AddTo(&judged, weight);
  AddTo(&judged_squares, square);
  if (was_wrong) {
    AddTo(&wrong, weight);
    AddTo(&wrong_squares, square);
  }
  for (size_t i = 0; i < kStrata; ++i) {
    if (!inclusion.strata.Has(static_cast<Stratum>(i))) continue;
    AddTo(&judged_of[i], 1);
    if (was_wrong) AddTo(&wrong_of[i], 1);
  }
}

std::array<uint64_t, Weighted::kFigures> Weighted::Figures() const {
  std::array<uint64_t, kFigures> figures = {judged, wrong, judged_squares, wrong_squares};
  std::copy(judged_of.begin(), judged_of.end(), figures.begin() + 4);
  std::copy(wrong_of.begin(), wrong_of.end(), figures.begin() + 4 + kStrata);
  return figures;
}

Weighted Weighted::Of(const std::array<uint64_t, kFigures>& figures) {
  Weighted weighted;
  weighted.judged = figures[0];
  weighted.wrong = figures[1];
  weighted.judged_squares = figures[2];
  weighted.wrong_squares = figures[3];
  std::copy_n(figures.begin() + 4, kStrata, weighted.judged_of.begin());
  std::copy_n(figures.begin() + 4 + kStrata, kStrata, weighted.wrong_of.begin());
  return weighted;
}

std::optional<Estimate> EstimateOf(const Weighted& weighted) {
  if (weighted.judged == 0) return std::nullopt;
  Estimate estimate;
  estimate.reads = static_cast<double>(weighted.judged) / kMicro;
  const double rate = static_cast<double>(weighted.wrong) / static_cast<double>(weighted.judged);
  const double squares = static_cast<double>(weighted.judged_squares) / kMilli;
  const double wrong_squares = static_cast<double>(weighted.wrong_squares) / kMilli;
  const double right_squares = std::max(squares - wrong_squares, 0.0);
  estimate.rate = rate;
  // The quotient's variance, linearised: each read adds (its weight times how far it is from the rate) squared.
  const double variance =
      (wrong_squares * (1 - rate) * (1 - rate) + right_squares * rate * rate) / (estimate.reads * estimate.reads);
  estimate.standard_error = std::sqrt(variance);
  // As many reads drawn alike would be as certain (L. Kish, 1965: by the weights alone, where none was wrong or all
  // were).
  const double alike = variance > 0 ? rate * (1 - rate) / variance : estimate.reads * estimate.reads / squares;
  const double z2 = kZ * kZ;
  const double middle = (rate + z2 / (2 * alike)) / (1 + z2 / alike);
  const double half = kZ / (1 + z2 / alike) * std::sqrt(rate * (1 - rate) / alike + z2 / (4 * alike * alike));
  estimate.low = std::max(middle - half, 0.0);
  estimate.high = std::min(middle + half, 1.0);
  return estimate;
}

}  // namespace shadowline::diff
