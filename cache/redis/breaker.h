// Breaker decides whether a read may ask one Redis node at all, so that a node which is slow or dead costs a few calls
// and not every read its timeout (promise P10). Pure: time and draws are passed in.
//
//   if (const auto permit = breaker.Admit(clock->Steady(), base::DrawPpm("warm", key))) {
//     store->Get(key, [=](absl::StatusOr<Slot> slot) {
//       slot.ok() ? breaker.Succeeded(*permit, clock->Steady()) : breaker.Failed(*permit, clock->Steady());
//     });
//   } else {  // ask the database
//   }
//
// TERMINOLOGY
//   slow       a call that took `slow` or longer, whatever came of it; it counts as failed. A timeout is slow, so
//   `slow`
//              must not exceed the store's command timeout.
//   closed     every call is admitted. Trips when `failed_ppm` of at least `calls_min` calls of the last `window`
//              failed, or when `slow_in_a_row` calls were slow with no quick success between: under little traffic,
//              too, readers must not wait for a node that hangs.
//   open       no call is admitted, for `open_min` at first, twice as long after each trip up to `open_max`; of that,
//              a random part between half and all, so that lanes and replicas do not come back together.
//   half-open  one call at a time is admitted, to find out. `probes` quick successes close the breaker, one failure
//              opens it again. A probe that is not heard of for `probe_patience` has failed.
//   warming    closed, but only a share of the keys is admitted, growing in a line from `warm_from_ppm` to all of them
//              over `warm_up`: a Redis that returns is empty, and every read it gets is a miss and a fill. With a draw
//              made of the key, a larger share contains the smaller one, so that the keys that were filled stay in.
//              A trip while warming counts as another one in a row; when warming has ended, the count starts anew.
//
// What becomes of a call that was admitted before the last change between these is of no interest and is ignored: a
// hundred calls that fail together trip once, and an old success does not close.
//
// Ownership: borrows `random`.
// Threads:   compatible. One breaker per node and executor, like the store it stands before.
// Cost:      a few comparisons a call, and a sum over ten slices of the window for a failed one.
#ifndef SHADOWLINE_CACHE_REDIS_BREAKER_H_
#define SHADOWLINE_CACHE_REDIS_BREAKER_H_

#include <array>
#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/random.h"

namespace shadowline::cache {

class Breaker {
 public:
  enum class State { kClosed, kOpen, kHalfOpen, kWarming };

  struct Options {
    absl::Duration window = absl::Seconds(1);
    uint32_t calls_min = 20;
    uint32_t failed_ppm = 500'000;
    absl::Duration slow = absl::Milliseconds(50);
    uint32_t slow_in_a_row = 5;
    absl::Duration open_min = absl::Milliseconds(100);
    absl::Duration open_max = absl::Seconds(2);
    uint32_t probes = 3;
    absl::Duration probe_patience = absl::Milliseconds(500);
    absl::Duration warm_up = absl::Seconds(2);  // Zero: none.
    uint32_t warm_from_ppm = 100'000;
  };

  // Leave for one call, to be handed back with what became of it, at most once.
  struct Permit {
    uint64_t generation = 0;
    absl::Duration at;
  };

  Breaker(const Options& options, base::Random* random) : options_(options), random_(random) {}

  // Times are Clock::Steady(). `draw_ppm` is in [0, 1'000'000), best the same for the same key. nullopt: do not call.
  std::optional<Permit> Admit(absl::Duration now, uint32_t draw_ppm);
  void Succeeded(const Permit& permit, absl::Duration now);
  void Failed(const Permit& permit, absl::Duration now);

  State state(absl::Duration now) const;
  // How often it has opened.
  uint64_t trips() const { return trips_; }

 private:
  static constexpr int64_t kSlices = 10;
  struct Slice {
    int64_t number = -1;  // Of all slices since the clock's origin.
    uint32_t calls = 0;
    uint32_t failed = 0;
  };
  enum class Phase { kClosed, kOpen, kProbing };

  void Enter(Phase phase, absl::Duration now);
  void Open(absl::Duration now);
  // Open, and the time is over; or a probe was never heard of.
  void CatchUp(absl::Duration now);
  void Settle(const Permit& permit, absl::Duration now, bool ok);
  int64_t SliceAt(absl::Duration now) const;
  bool TooManyFailed(absl::Duration now) const;
  // The share that is admitted in the phase kClosed.
  uint32_t AdmittedPpm(absl::Duration now) const;

  const Options options_;
  base::Random* const random_;
  Phase phase_ = Phase::kClosed;
  uint64_t generation_ = 0;  // Numbers the phases.
  uint64_t trips_ = 0;
  uint32_t trips_in_a_row_ = 0;
  absl::Duration until_ = -absl::InfiniteDuration();  // kOpen: its end; kClosed: the end of warming.
  uint32_t slow_in_a_row_ = 0;
  uint32_t probed_ = 0;                    // kProbing: quick successes so far,
  std::optional<absl::Duration> probing_;  // and since when a probe is under way.
  std::array<Slice, kSlices> slices_;
};

// "closed", "open", "half-open", "warming".
absl::string_view BreakerStateName(Breaker::State state);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_REDIS_BREAKER_H_
