#include "cache/origin/concurrency_limit.h"

#include <algorithm>
#include <cmath>

namespace shadowline::cache {
namespace {

constexpr size_t kStatementsMost = 1000;
constexpr size_t kAverageOver = 32;
// Fewer samples say nothing.
constexpr size_t kEnough = 10;
constexpr double kSmoothing = 0.2;

}  // namespace

ConcurrencyLimit::ConcurrencyLimit(const Options& options)
    : options_(options), limit_(static_cast<double>(std::max(options.least, options.most / 2))) {}

size_t ConcurrencyLimit::Limit(absl::Duration now) const {
  return now < probe_ends_ ? Quarter() : static_cast<size_t>(limit_);
}

size_t ConcurrencyLimit::Quarter() const { return std::max(options_.least, static_cast<size_t>(limit_ / 4)); }

void ConcurrencyLimit::Sample(absl::Duration now, absl::string_view name, absl::Duration latency, size_t running) {
  if (now >= epoch_ends_) EndEpoch(now);
  if (statements_.size() >= kStatementsMost && !statements_.contains(name)) statements_.clear();
  Statement& statement = statements_[name];
  Turn(&statement);
  const bool probing = now < probe_ends_;
  // What began before the probe ran beside what the probe was to get rid of.
  if (probing && now - latency < probe_began_) return;

  statement.samples = std::min(statement.samples + 1, kAverageOver);
  statement.average += (absl::ToDoubleSeconds(latency) - statement.average) / static_cast<double>(statement.samples);
  if (statement.samples >= kEnough && (statement.best == 0 || statement.average < statement.best)) {
    statement.best = statement.average;
  }
  if (probing) return;
  running_most_ = std::max(running_most_, running);
  if (const double best = BestOf(statement); best > 0) {
    ratios_ += statement.average / best;
    ++samples_;
  }
  if (now >= window_ends_ && samples_ >= kEnough) Step(now);
}

absl::Duration ConcurrencyLimit::Best(absl::string_view statement) const {
  const auto found = statements_.find(statement);
  return found == statements_.end() ? absl::ZeroDuration() : absl::Seconds(BestOf(found->second));
}

void ConcurrencyLimit::Turn(Statement* statement) const {
  if (statement->epoch == epoch_) return;
  // A statement that was not seen for an epoch keeps what is known of it until it is seen again.
  if (statement->best > 0) statement->best_before = statement->best;
  statement->best = 0;
  statement->epoch = epoch_;
}

double ConcurrencyLimit::BestOf(const Statement& statement) const {
  if (statement.best == 0 || statement.best_before == 0) return std::max(statement.best, statement.best_before);
  return std::min(statement.best, statement.best_before);
}

void ConcurrencyLimit::EndEpoch(absl::Duration now) {
  ++epoch_;
  epoch_ends_ = now + options_.best_for;
  if (reached_ && !quiet_) {
    probe_began_ = now;
    probe_ends_ = now + options_.probe_for;
    for (auto& [name, statement] : statements_) statement.samples = 0;
  }
  reached_ = false;
  quiet_ = false;
}

void ConcurrencyLimit::Step(absl::Duration now) {
  reached_ = reached_ || running_most_ >= static_cast<size_t>(limit_);
  quiet_ = quiet_ || running_most_ <= Quarter();
  const double gradient = std::clamp(options_.tolerance * static_cast<double>(samples_) / ratios_, 0.5, 1.0);
  const double wanted = gradient * limit_ + std::sqrt(limit_);
  const double used = static_cast<double>(running_most_);
  // A limit that is not in use proves nothing by its low latency.
  if (wanted < limit_ || used * 2 >= limit_) {
    limit_ = std::clamp((1 - kSmoothing) * limit_ + kSmoothing * wanted, static_cast<double>(options_.least),
                        static_cast<double>(options_.most));
  }
  window_ends_ = now + options_.window;
  ratios_ = 0;
  samples_ = 0;
  running_most_ = 0;
}

}  // namespace shadowline::cache
