// Random numbers, injected and seeded, so that a simulation that failed can be run again.
#ifndef SHADOWLINE_BASE_RANDOM_H_
#define SHADOWLINE_BASE_RANDOM_H_

#include <cstdint>
#include <string>

namespace shadowline::base {

// xoshiro256** (Blackman and Vigna, 2018), seeded through splitmix64. Not for secrets.
//
// Threads: compatible (one thread at a time); give each executor its own.
class Random {
 public:
  explicit Random(uint64_t seed);

  uint64_t Next();
  // Uniform in [0, bound); bound > 0.
  uint64_t Below(uint64_t bound);
  // Uniform in [0, 1).
  double Unit();
  // 16 bytes: an id for a fill, a lease or a fence.
  std::string Id();

 private:
  uint64_t state_[4];
};

// A seed from the operating system, for the composition root alone.
uint64_t SystemSeed();

}  // namespace shadowline::base

#endif  // SHADOWLINE_BASE_RANDOM_H_
