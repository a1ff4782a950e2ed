// Route decides, for one read, which side answers it and whether it is verified. Pure: a function of the flag, the
// lease and two draws, so that every replica and every retry decides alike.
//
// TERMINOLOGY
//   key draw      where the read's cache key falls in a million. Serving by it means that one key is always answered by
//                 the same side, and that a larger share contains every smaller one.
//   request draw  where this request falls, salted by its key. A retry under the same request id falls on the same
//                 place.
//
// Sampling by key uses the key draw as well: the keys that are verified first are the keys that are promoted first.
//
// There is one draw for a read and a threshold for each stratum (docs/sampling.md): what is sampled at all is sampled
// in every stratum, and a larger share contains every smaller one.
#ifndef SHADOWLINE_SERVER_READ_ROUTE_H_
#define SHADOWLINE_SERVER_READ_ROUTE_H_

#include <algorithm>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "base/hash.h"
#include "base/random.h"
#include "diff/evidence/sampling.h"
#include "flags/flag.h"
#include "shadowline/v1/read.pb.h"

namespace shadowline::server {

struct Draws {
  uint32_t key_ppm = 0;
  uint32_t request_ppm = 0;
};

// The key names its tenant and endpoint, so it salts itself. Without a request id the request's draw is random.
inline Draws DrawsOf(absl::string_view key, absl::string_view request_id, base::Random* random) {
  return {.key_ppm = base::DrawPpm("serve", key),
          .request_ppm =
              request_id.empty() ? static_cast<uint32_t>(random->Below(1'000'000)) : base::DrawPpm(key, request_id)};
}

// By which draw and shares a read is sampled.
struct Sampling {
  uint32_t draw_ppm = 0;
  uint32_t uniform_ppm = 0;
  flags::SampleShares shares;

  bool Uniform() const { return draw_ppm < uniform_ppm; }
  bool Takes(const diff::Inclusion& inclusion) const { return draw_ppm < inclusion.ppm; }
};

inline Sampling SamplingOf(const flags::Flag& flag, Draws draws) {
  return {flag.sample_by_key ? draws.key_ppm : draws.request_ppm, flag.sample_ppm, flag.strata};
}

// How likely a read of these strata is to be sampled, when `boost_ppm` of each stratum's share can be afforded.
inline diff::Inclusion InclusionOf(const Sampling& sampling, diff::Strata strata, uint32_t boost_ppm) {
  uint32_t most = 0;
  const auto under = [&](diff::Stratum stratum, uint32_t share) {
    if (strata.Has(stratum)) most = std::max(most, share);
  };
  under(diff::Stratum::kUncertified, sampling.shares.uncertified_ppm);
  under(diff::Stratum::kRecent, sampling.shares.recent_ppm);
  under(diff::Stratum::kNegative, sampling.shares.negative_ppm);
  under(diff::Stratum::kOld, sampling.shares.old_ppm);
  under(diff::Stratum::kCold, sampling.shares.cold_ppm);
  const auto afforded = static_cast<uint32_t>(uint64_t{most} * boost_ppm / 1'000'000);
  // Where nothing is sampled of some reads, nothing can be said of all.
  return {sampling.uniform_ppm == 0 ? 0 : std::max(sampling.uniform_ppm, afforded), strata, sampling.Uniform()};
}

struct Route {
  bool from_cache = false;
  bool verify = false;
  // Why this side. CACHE_HIT stands for "from the cache" until the cache has answered.
  shadowline::v1::ReadReason reason = shadowline::v1::READ_REASON_MODE_DATABASE;
};

// `likely_ppm`: the share by which the read is sampled, if that is more than the uniform one.
inline Route ChooseRoute(const flags::Flag& flag, bool leased, shadowline::v1::Consistency consistency, Draws draws,
                         uint32_t likely_ppm = 0) {
  using flags::Mode;
  const Sampling sampling = SamplingOf(flag, draws);
  const bool sampled = sampling.draw_ppm < std::max(sampling.uniform_ppm, likely_ppm);
  switch (flag.mode) {
    case Mode::kDatabase:
      break;
    case Mode::kShadow:
      return {.verify = sampled, .reason = shadowline::v1::READ_REASON_MODE_SHADOW};
    case Mode::kCache:
      // Without the lease this replica does not know the present window either: it makes no evidence for it.
      if (!leased) return {.reason = shadowline::v1::READ_REASON_LEASE_LAPSED};
      if (consistency == shadowline::v1::CONSISTENCY_FRESH) {
        return {.verify = sampled, .reason = shadowline::v1::READ_REASON_CONSISTENCY};
      }
      if (draws.key_ppm >= flag.serve_ppm) {
        return {.verify = sampled, .reason = shadowline::v1::READ_REASON_OUTSIDE_RAMP};
      }
      return {.from_cache = true, .verify = sampled, .reason = shadowline::v1::READ_REASON_CACHE_HIT};
  }
  return {};
}

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_ROUTE_H_
