// Recorder judges every reply that the load gets, and keeps the figures of the story: how long reads took, where they
// were answered, and how many were wrong.
//
// Threads: thread-safe.
#ifndef SHADOWLINE_TESTS_DEMO_RECORDER_H_
#define SHADOWLINE_TESTS_DEMO_RECORDER_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/mutex.h"
#include "tests/demo/application.h"
#include "tests/support/history.h"
#include "tests/support/load.h"

namespace shadowline::demo {

// Latencies of one family over a measured stretch.
struct Measured {
  uint64_t reads = 0;
  uint64_t from_cache = 0;
  absl::Duration p50;
  absl::Duration p95;
  absl::Duration p99;
};

class Recorder {
 public:
  struct Totals {
    uint64_t reads = 0;
    uint64_t from_cache = 0;
    uint64_t failed = 0;                 // Reads that ended in an error.
    uint64_t wrong = 0;                  // Of all answers, whoever gave them.
    uint64_t wrong_after_promotion = 0;  // Of those that came from the cache or for a target that was promoted by then.
    std::string first_failure;
    std::string first_wrong;
  };

  // `delta` is the freshness bound of the catalog.
  Recorder(const std::vector<Question>* questions, support::History* history, absl::Duration delta);

  void Add(const support::Reply& reply);
  // From now on the target's answers count as after its promotion.
  void Promoted(Family family, size_t tenant);

  // Begins a measured stretch; ends it.
  void StartMeasuring();
  std::array<Measured, kFamilies> StopMeasuring();

  Totals totals() const;

 private:
  struct Stretch {
    std::vector<absl::Duration> latencies;
    uint64_t from_cache = 0;
  };

  // Why the reply is wrong; nothing where it is right.
  std::optional<std::string> Fault(const Question& question, const support::Reply& reply) const;

  const std::vector<Question>& questions_;
  support::History* const history_;
  const absl::Duration delta_;
  mutable base::Mutex mutex_;
  std::array<std::vector<bool>, kFamilies> promoted_ ABSL_GUARDED_BY(mutex_);
  bool measuring_ ABSL_GUARDED_BY(mutex_) = false;
  std::array<Stretch, kFamilies> stretch_ ABSL_GUARDED_BY(mutex_);
  Totals totals_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace shadowline::demo

#endif  // SHADOWLINE_TESTS_DEMO_RECORDER_H_
