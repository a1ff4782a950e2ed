#include "cache/redis/breaker.h"

#include <algorithm>

namespace shadowline::cache {
namespace {

constexpr uint64_t kMillion = 1'000'000;

}  // namespace

std::optional<Breaker::Permit> Breaker::Admit(absl::Duration now, uint32_t draw_ppm) {
  CatchUp(now);
  switch (phase_) {
    case Phase::kOpen:
      return std::nullopt;
    case Phase::kProbing:
      if (probing_.has_value()) return std::nullopt;
      probing_ = now;
      break;
    case Phase::kClosed:
      if (now < until_ && draw_ppm >= AdmittedPpm(now)) return std::nullopt;
      break;
  }
  return Permit{generation_, now};
}

void Breaker::Succeeded(const Permit& permit, absl::Duration now) { Settle(permit, now, true); }

void Breaker::Failed(const Permit& permit, absl::Duration now) { Settle(permit, now, false); }

void Breaker::Settle(const Permit& permit, absl::Duration now, bool ok) {
  CatchUp(now);
  if (permit.generation != generation_ || phase_ == Phase::kOpen) return;
  const bool slow = now - permit.at >= options_.slow;
  ok = ok && !slow;

  if (phase_ == Phase::kProbing) {
    if (!ok) return Open(now);
    probing_.reset();
    if (++probed_ >= options_.probes) Enter(Phase::kClosed, now);
    return;
  }

  const int64_t number = SliceAt(now);
  Slice& slice = slices_[number % kSlices];
  if (slice.number != number) slice = {.number = number};
  ++slice.calls;
  if (ok) {
    slow_in_a_row_ = 0;
    return;
  }
  ++slice.failed;
  if (slow) ++slow_in_a_row_;
  if (slow_in_a_row_ >= options_.slow_in_a_row || TooManyFailed(now)) Open(now);
}

Breaker::State Breaker::state(absl::Duration now) const {
  switch (phase_) {
    case Phase::kOpen:
      return now < until_ ? State::kOpen : State::kHalfOpen;
    case Phase::kProbing:
      return State::kHalfOpen;
    case Phase::kClosed:
      break;
  }
  return now < until_ ? State::kWarming : State::kClosed;
}

void Breaker::CatchUp(absl::Duration now) {
  if (phase_ == Phase::kOpen && now >= until_) {
    Enter(Phase::kProbing, now);
  } else if (phase_ == Phase::kProbing && probing_.has_value() && now - *probing_ >= options_.probe_patience) {
    Open(now);
  } else if (phase_ == Phase::kClosed && now >= until_) {
    trips_in_a_row_ = 0;
  }
}

void Breaker::Open(absl::Duration now) {
  ++trips_;
  Enter(Phase::kOpen, now);
  absl::Duration longest = options_.open_min;
  for (uint32_t i = 0; i < trips_in_a_row_ && longest < options_.open_max; ++i) longest *= 2;
  ++trips_in_a_row_;
  until_ = now + std::min(longest, options_.open_max) * (0.5 + 0.5 * random_->Unit());
}

void Breaker::Enter(Phase phase, absl::Duration now) {
  phase_ = phase;
  ++generation_;
  until_ = now + options_.warm_up;
  slow_in_a_row_ = 0;
  probed_ = 0;
  probing_.reset();
  slices_ = {};
}

int64_t Breaker::SliceAt(absl::Duration now) const {
  return absl::ToInt64Nanoseconds(now) / (absl::ToInt64Nanoseconds(options_.window) / kSlices);
}

bool Breaker::TooManyFailed(absl::Duration now) const {
  const int64_t oldest = SliceAt(now) - kSlices + 1;
  uint64_t calls = 0;
  uint64_t failed = 0;
  for (const Slice& slice : slices_) {
    if (slice.number < oldest) continue;
    calls += slice.calls;
    failed += slice.failed;
  }
  return calls >= options_.calls_min && failed * kMillion >= calls * options_.failed_ppm;
}

uint32_t Breaker::AdmittedPpm(absl::Duration now) const {
  const double left = absl::FDivDuration(until_ - now, options_.warm_up);
  return static_cast<uint32_t>(kMillion - left * (kMillion - options_.warm_from_ppm));
}

absl::string_view BreakerStateName(Breaker::State state) {
  switch (state) {
    case Breaker::State::kClosed:
      return "closed";
    case Breaker::State::kOpen:
      return "open";
    case Breaker::State::kHalfOpen:
      return "half-open";
    case Breaker::State::kWarming:
      return "warming";
  }
  return "unknown";
}

}  // namespace shadowline::cache
