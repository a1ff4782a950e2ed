#include "server/read/back_off.h"

#include <algorithm>
#include <cmath>

namespace shadowline::server {
namespace {

constexpr size_t kStatementsMost = 1000;
constexpr size_t kAverageOver = 32;
// Fewer samples make no baseline,
constexpr size_t kEnoughForBaseline = 10;
// and fewer statements no window.
constexpr size_t kEnoughForWindow = 4;

}  // namespace

void BackOff::Ran(absl::Duration now, absl::string_view statement, absl::Duration latency, const absl::Status& status) {
  // What else fails says nothing of how busy the database is.
  const bool unreachable = absl::IsUnavailable(status);
  const bool timed_out = absl::IsDeadlineExceeded(status);
  if (!status.ok() && !unreachable && !timed_out) return;
  base::MutexLock lock(&mutex_);
  const bool slow = unreachable || Slow(now, statement, absl::ToDoubleSeconds(latency), status.ok());
  // A caller may have had little patience: then it is not the database that was slow.
  if (slow && !status.ok()) return Cut(now);
  ++ran_;
  slow_ += slow;
  if (now < window_ends_ || ran_ < kEnoughForWindow) return;
  if (slow_ * 2 > ran_) {
    factor_.store(std::max(Factor() / 2, options_.least), std::memory_order_relaxed);
  } else {
    factor_.store(std::min(Factor() + options_.regain, 1.0), std::memory_order_relaxed);
  }
  BeginWindow(now);
}

bool BackOff::Slow(absl::Duration now, absl::string_view statement, double seconds, bool succeeded) {
  const std::string name(statement);
  if (statements_.size() >= kStatementsMost && !statements_.contains(name)) statements_.clear();
  Statement& known = statements_[name];
  if (known.baseline > 0) known.baseline *= std::exp2(absl::FDivDuration(now - known.seen, options_.doubling));
  known.seen = now;
  const bool slow = known.baseline > 0
                        ? seconds > options_.tolerance * known.baseline + absl::ToDoubleSeconds(options_.slack)
                        : !succeeded;
  if (!succeeded) return slow;
  known.samples = std::min(known.samples + 1, kAverageOver);
  known.average += (seconds - known.average) / static_cast<double>(known.samples);
  if (known.samples >= kEnoughForBaseline && (known.baseline == 0 || known.average < known.baseline)) {
    known.baseline = known.average;
  }
  return slow;
}

// What fails together is one failure.
void BackOff::Cut(absl::Duration now) {
  if (now < failure_counts_from_) return;
  failure_counts_from_ = now + options_.window;
  factor_.store(std::max(Factor() / 2, options_.least), std::memory_order_relaxed);
  BeginWindow(now);
}

void BackOff::BeginWindow(absl::Duration now) {
  window_ends_ = now + options_.window;
  ran_ = 0;
  slow_ = 0;
}

}  // namespace shadowline::server
