// The window policy: its defaults and its limits.
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "cache/catalog/parse.h"

namespace shadowline::cache {
namespace {

using shadowline::v1::Policy;

constexpr uint32_t kMillion = 1'000'000;

// Collects `field: what`.
class PolicyCheck {
 public:
  void Duration(absl::string_view field, const std::string& text, absl::Duration least, absl::Duration most) {
    if (text.empty()) return;
    const absl::StatusOr<absl::Duration> duration = ParseDuration(text);
    if (!duration.ok()) {
      Add(field, duration.status().message());
    } else if (*duration < least || *duration > most) {
      Add(field, absl::StrCat(text, " is out of range; expected ", absl::FormatDuration(least), " to ",
                              absl::FormatDuration(most)));
    }
  }
  void AtMost(absl::string_view field, uint64_t value, uint64_t most) {
    if (value > most) Add(field, absl::StrCat(value, " is out of range; expected at most ", most));
  }
  void Add(absl::string_view field, absl::string_view what) { findings_.push_back(absl::StrCat(field, ": ", what)); }

  absl::Status Result() const {
    return findings_.empty() ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrJoin(findings_, "\n"));
  }

 private:
  std::vector<std::string> findings_;
};

}  // namespace

absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text) {
  const absl::Status refused = absl::InvalidArgumentError(
      absl::StrCat("`", text, "` is no duration; expected a number with its unit, such as 250ms, 30s, 5m or 48h"));
  absl::Duration duration;
  // Zero is a duration without a unit to absl, and it takes signs and blanks: not here.
  if (text.empty() || !absl::ascii_isdigit(text.front()) || !absl::ascii_isalpha(text.back())) return refused;
  if (!absl::ParseDuration(text, &duration) || duration == absl::InfiniteDuration()) return refused;
  return duration;
}

absl::Status CheckPolicy(const Policy& policy) {
  constexpr uint64_t kMost = 1'000'000'000;
  PolicyCheck check;
  check.Duration("duration", policy.duration(), absl::Milliseconds(1), absl::Hours(24 * 90));
  check.Duration("candidate_p95", policy.candidate_p95(), absl::Microseconds(1), absl::Minutes(1));
  check.Duration("soak", policy.soak(), absl::ZeroDuration(), absl::Hours(24 * 30));
  check.AtMost("episodes", policy.episodes(), kMost);
  check.AtMost("distinct_keys", policy.distinct_keys(), kMost);
  check.AtMost("exercised", policy.exercised(), kMost);
  check.AtMost("slo_ppm", policy.slo_ppm(), kMillion - 1);
  check.AtMost("confidence_ppm", policy.confidence_ppm(), kMillion - 1);
  check.AtMost("unjudged_ppm", policy.unjudged_ppm(), kMillion);
  check.AtMost("shadow_sample_ppm", policy.shadow_sample_ppm(), kMillion);
  check.AtMost("cache_sample_ppm", policy.cache_sample_ppm(), kMillion);
  check.AtMost("sample_uncertified_ppm", policy.sample_uncertified_ppm(), kMillion);
  check.AtMost("sample_recent_ppm", policy.sample_recent_ppm(), kMillion);
  check.AtMost("sample_negative_ppm", policy.sample_negative_ppm(), kMillion);
  check.AtMost("sample_old_ppm", policy.sample_old_ppm(), kMillion);
  check.AtMost("sample_cold_ppm", policy.sample_cold_ppm(), kMillion);
  if (const std::string& by = policy.sample_by(); !by.empty() && by != "requests" && by != "keys") {
    check.Add("sample_by", absl::StrCat("`", by, "` is unknown; expected requests or keys"));
  }
  uint32_t previous = 0;
  for (const uint32_t step : policy.ramp_ppm()) {
    if (step <= previous || step > kMillion) {
      check.Add("ramp_ppm", "the steps must ascend, from 1 to 1000000");
      break;
    }
    previous = step;
  }
  if (policy.ramp_ppm_size() > 0 && policy.ramp_ppm(policy.ramp_ppm_size() - 1) != kMillion) {
    check.Add("ramp_ppm", "the last step must be 1000000");
  }
  if (policy.ramp_ppm_size() > 100) check.Add("ramp_ppm", "more than 100 steps");
  return check.Result();
}

Policy EffectivePolicy(const shadowline::v1::Catalog& catalog, const std::string& family, const Policy& override_with) {
  Policy policy;
  policy.set_duration("48h");
  policy.set_episodes(1000);
  policy.set_distinct_keys(50);
  policy.set_exercised(50);
  policy.set_slo_ppm(1000);
  policy.set_confidence_ppm(950'000);
  policy.set_unjudged_ppm(50'000);
  policy.set_candidate_p95("100ms");
  policy.set_shadow_sample_ppm(kMillion);
  policy.set_cache_sample_ppm(100'000);
  policy.set_sample_uncertified_ppm(500'000);
  policy.set_sample_recent_ppm(250'000);
  policy.set_sample_negative_ppm(250'000);
  policy.set_sample_old_ppm(250'000);
  policy.set_sample_cold_ppm(250'000);
  policy.set_sample_by("requests");
  for (const uint32_t step : {50'000u, 250'000u, kMillion}) policy.add_ramp_ppm(step);
  policy.set_soak("10m");

  const auto merge = [&policy](const Policy& over) {
    if (over.ramp_ppm_size() > 0) policy.clear_ramp_ppm();  // MergeFrom would append.
    policy.MergeFrom(over);
  };
  const auto declared = catalog.families().find(family);
  if (declared != catalog.families().end()) merge(declared->second.policy());
  merge(override_with);
  return policy;
}

}  // namespace shadowline::cache
