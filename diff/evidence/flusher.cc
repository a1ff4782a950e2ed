#include "diff/evidence/flusher.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace shadowline::diff {
namespace {

// Whether the same call may succeed later.
bool Transient(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kResourceExhausted:
      return true;
    default:
      return false;
  }
}

}  // namespace

Flusher::RunBlocking Flusher::On(base::ThreadPool* pool) {
  return [pool](base::Task task) { return pool->TrySubmit([task = std::move(task)](size_t) mutable { task(); }); };
}

Flusher::Flusher(Ledger* ledger, EvidenceStore* store, base::Executor* executor, RunBlocking run_blocking,
                 Options options)
    : ledger_(ledger),
      store_(store),
      executor_(executor),
      run_blocking_(std::move(run_blocking)),
      options_(std::move(options)),
      backoff_(options_.retry) {}

void Flusher::Start() {
  executor_->Post([this] { Tick(); });
}

void Flusher::Tick() {
  due_ = true;
  Pump();
  executor_->PostAfter(options_.interval, [this] { Tick(); });
}

void Flusher::Record(Divergence divergence) {
  {
    base::MutexLock lock(&mutex_);
    if (divergences_.size() >= options_.divergences_max) {
      ++stats_.divergences_dropped;
    } else {
      divergences_.push_back(std::move(divergence));
    }
  }
  executor_->Post([this] { Pump(); });
}

void Flusher::FlushNow(Done done) {
  executor_->Post([this, done = std::move(done)]() mutable {
    // A flush that was built before may lack what was counted since: the next one has it.
    waiters_.push_back({built_ + 1, std::move(done)});
    due_ = true;
    Pump();
  });
}

void Flusher::Pump() {
  if (busy_) return;
  std::optional<Divergence> divergence;
  {
    base::MutexLock lock(&mutex_);
    if (!divergences_.empty()) divergence = divergences_.front();
  }
  if (divergence.has_value()) {
    Call([this, divergence = *std::move(divergence)] { return store_->Record(divergence); },
         [this](const absl::Status& status) { Recorded(status); });
    return;
  }
  if (!flush_.has_value() && due_) {
    due_ = false;
    flush_ = ledger_->BuildFlush();
    built_ = flush_->sequence;
    if (options_.noise != nullptr) flush_->noise = options_.noise->TakeChanged();
    if (options_.revisions != nullptr) {
      const Revisions revisions = options_.revisions();
      flush_->catalog_revision = revisions.catalog;
      flush_->flag_revision = revisions.flags;
    }
  }
  if (flush_.has_value()) {
    Call([this] { return store_->Apply(*flush_); }, [this](const absl::Status& status) { Applied(status); });
  }
}

void Flusher::Call(absl::AnyInvocable<absl::Status()> call, absl::AnyInvocable<void(const absl::Status&)> finish) {
  busy_ = true;
  const bool taken = run_blocking_([this, call = std::move(call), finish = std::move(finish)]() mutable {
    absl::Status status = call();
    executor_->Post([finish = std::move(finish), status = std::move(status)]() mutable { finish(status); });
  });
  if (!taken) Failed(absl::ResourceExhaustedError("no thread is free for evidence"));
}

void Flusher::Recorded(const absl::Status& status) {
  if (!status.ok() && Transient(status)) return Failed(status);
  if (!status.ok()) {
    // The store will never take this one; those behind it must not wait for it.
    base::Log(base::Level::kError, "divergence_refused", {{"status", status.ToString()}});
  }
  {
    base::MutexLock lock(&mutex_);
    divergences_.pop_front();
    if (!status.ok()) ++stats_.divergences_dropped;
  }
  busy_ = false;
  backoff_ = options_.retry;
  Pump();
}

void Flusher::Applied(const absl::Status& status) {
  if (!status.ok()) return Failed(status);
  ledger_->Flushed(flush_->sequence);
  flush_.reset();
  busy_ = false;
  backoff_ = options_.retry;
  {
    base::MutexLock lock(&mutex_);
    ++stats_.flushes;
  }
  FinishWaiters(absl::OkStatus());
  Pump();
}

void Flusher::Failed(const absl::Status& status) {
  {
    base::MutexLock lock(&mutex_);
    ++stats_.failures;
  }
  base::Log(base::Level::kWarning, "evidence_store_failed", {{"status", status.ToString()}});
  FinishWaiters(status);
  executor_->PostAfter(backoff_, [this] {
    busy_ = false;
    Pump();
  });
  backoff_ = std::min(backoff_ * 2, options_.retry_max);
}

// Divergences go first, so a stored flush means that those recorded before it are stored as well.
void Flusher::FinishWaiters(const absl::Status& status) {
  std::vector<Waiter> waiting = std::exchange(waiters_, {});
  for (Waiter& waiter : waiting) {
    if (status.ok() && waiter.sequence > built_) {
      waiters_.push_back(std::move(waiter));
    } else {
      waiter.done(status);
    }
  }
}

Flusher::Stats Flusher::stats() const {
  base::MutexLock lock(&mutex_);
  Stats stats = stats_;
  stats.divergences_waiting = divergences_.size();
  return stats;
}

}  // namespace shadowline::diff
