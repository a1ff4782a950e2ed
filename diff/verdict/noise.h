// Noise: what an endpoint's statement says differently by itself. The control is read twice in one snapshot
// (cache/origin/twin_control.h); what differs between the two, under the endpoint's rules, no write has done.
//
// Terminology
//   pair     two answers of the control to one read, of one snapshot
//   pattern  a place in the answer and a kind of difference, as in Comparison::patterns ("/lines/*/rank: value")
//   share    pairs that differ at a pattern, of all pairs of the endpoint
//   noisy    a pattern whose share is above kNoisyPpm, by the lower bound of its interval
//
// What noise decides, and what it does not, is in docs/freshness.md.
//
// Pure. Threads: everything here is a value.
#ifndef SHADOWLINE_DIFF_VERDICT_NOISE_H_
#define SHADOWLINE_DIFF_VERDICT_NOISE_H_

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace shadowline::diff {

// Between which shares the true one lies, with 95 % confidence: Wilson's score interval (E. B. Wilson, Probable
// Inference, the Law of Succession, and Statistical Inference, 1927). Unlike the textbook's it is right for small
// numbers and for shares next to 0 and 1. Without a trial, everything is possible.
struct ShareInterval {
  uint32_t low_ppm = 0;
  uint32_t high_ppm = 1'000'000;
};
ShareInterval WilsonInterval(uint64_t hits, uint64_t trials);

// Whether `pattern` is at the place of `above`, or below it. Kinds do not matter: where a list's order is made up, no
// item of it means anything.
bool IsAtOrBelow(absl::string_view pattern, absl::string_view above);

inline constexpr uint32_t kNoisyPpm = 1'000;
bool IsNoisy(uint64_t differed, uint64_t pairs);

// Noise of another catalog revision is another statement's, perhaps.
struct NoiseKey {
  std::string family;
  std::string endpoint;  // "family/endpoint"
  uint64_t catalog_revision = 0;

  auto operator<=>(const NoiseKey&) const = default;
};

// Of one endpoint, since this replica started.
struct NoiseCounts {
  uint64_t pairs = 0;
  uint64_t differed = 0;  // At any place.
  std::map<std::string, uint64_t> patterns;

  bool operator==(const NoiseCounts&) const = default;
};

// Whether there is a noisy pattern at the place of `pattern`, or above it.
bool IsNoisy(const NoiseCounts& counts, absl::string_view pattern);

// One sentence on those of `patterns` that are noisy; empty where none is.
std::string NoiseEvidence(const NoiseCounts& counts, const std::vector<std::string>& patterns);

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_VERDICT_NOISE_H_
