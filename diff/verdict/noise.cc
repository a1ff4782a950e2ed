#include "diff/verdict/noise.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace shadowline::diff {
namespace {

// The 97.5 % point of the standard normal distribution.
constexpr double kZ = 1.959963984540054;

}  // namespace

bool IsAtOrBelow(absl::string_view pattern, absl::string_view above) {
  absl::string_view path = pattern.substr(0, pattern.rfind(": "));
  const absl::string_view upper = above.substr(0, above.rfind(": "));
  if (!absl::StartsWith(path, upper)) return false;
  path.remove_prefix(upper.size());
  return path.empty() || path.front() == '/';
}

ShareInterval WilsonInterval(uint64_t hits, uint64_t trials) {
  if (trials == 0) return {};
  const double n = static_cast<double>(trials);
  const double share = static_cast<double>(hits) / n;
  const double centre = share + kZ * kZ / (2 * n);
  const double reach = kZ * std::sqrt(share * (1 - share) / n + kZ * kZ / (4 * n * n));
  const double scale = 1 + kZ * kZ / n;
  const auto ppm = [](double value) {
    return static_cast<uint32_t>(std::lround(std::clamp(value, 0.0, 1.0) * 1'000'000));
  };
  return {hits == 0 ? 0 : ppm((centre - reach) / scale), hits == trials ? 1'000'000 : ppm((centre + reach) / scale)};
}

bool IsNoisy(uint64_t differed, uint64_t pairs) { return WilsonInterval(differed, pairs).low_ppm > kNoisyPpm; }

bool IsNoisy(const NoiseCounts& counts, absl::string_view pattern) {
  return std::any_of(counts.patterns.begin(), counts.patterns.end(), [&](const auto& noise) {
    return IsAtOrBelow(pattern, noise.first) && IsNoisy(noise.second, counts.pairs);
  });
}

std::string NoiseEvidence(const NoiseCounts& counts, const std::vector<std::string>& patterns) {
  std::string places;
  for (const std::string& pattern : patterns) {
    const auto found = counts.patterns.find(pattern);
    if (found == counts.patterns.end() || !IsNoisy(found->second, counts.pairs)) continue;
    const ShareInterval share = WilsonInterval(found->second, counts.pairs);
    absl::StrAppend(&places, places.empty() ? "" : ", ", pattern, " in ", found->second, " of ", counts.pairs,
                    " pairs (", absl::StrFormat("%.2f to %.2f %%", share.low_ppm / 1e4, share.high_ppm / 1e4), ")");
  }
  if (places.empty()) return "";
  return absl::StrCat("The database contradicts itself within one snapshot at ", places, ".");
}

}  // namespace shadowline::diff
