#include "diff/evidence/flusher.h"

#include <algorithm>
#include <memory>
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
  executor_->Post([this] {
    Tick();
    if (options_.spool != nullptr) LookForLegacies();
  });
}

void Flusher::Tick() {
  due_ = true;
  if (away_ && options_.spool != nullptr && --spool_rest_ <= 0) spool_due_ = true;
  Pump();
  executor_->PostAfter(options_.interval, [this] { Tick(); });
}

void Flusher::LookForLegacies() {
  inherit_due_ = true;
  Pump();
  executor_->PostAfter(options_.inherit, [this] { LookForLegacies(); });
}

void Flusher::Record(Divergence divergence) {
  {
    base::MutexLock lock(&mutex_);
    if (divergences_.size() >= options_.divergences_max) {
      ++stats_.divergences_dropped;
    } else {
      divergences_.push_back({std::move(divergence)});
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
  if (busy_ || SpoolNext() || resting_ || StoreNext()) return;
  InheritNext();
}

bool Flusher::SpoolNext() {
  if (options_.spool == nullptr) return false;
  if (std::exchange(spool_due_, false)) {
    SpoolAll();
    return true;
  }
  std::optional<Divergence> next;
  {
    base::MutexLock lock(&mutex_);
    const auto found =
        std::find_if(divergences_.begin(), divergences_.end(), [](const Waiting& waiting) { return !waiting.spooled; });
    if (found == divergences_.end()) return false;
    found->spooled = true;
    next = found->divergence;
  }
  spool_used_ = true;
  const std::string id = next->id;
  RunOnPool([this, next = *std::move(next)] { return options_.spool->Append(next); },
            [this, id](const absl::Status& status) {
              busy_ = false;
              if (status.ok()) LogKept(id, "spool");
              Spooled(status);
              Pump();
            });
  return true;
}

// Everything that waits, in the place of what the spool has.
void Flusher::SpoolAll() {
  BuildFlush();
  std::vector<Divergence> waiting;
  {
    base::MutexLock lock(&mutex_);
    for (Waiting& one : divergences_) {
      one.spooled = true;
      waiting.push_back(one.divergence);
    }
  }
  spool_used_ = true;
  // Rewriting thousands of counts every second would keep a disk busy.
  spool_rest_ = 1 + static_cast<int>(flush_->counts.size() / 5'000);
  RunOnPool([this, waiting = std::move(waiting)] { return options_.spool->Replace(waiting, &*flush_); },
            [this](const absl::Status& status) {
              busy_ = false;
              Spooled(status);
              if (failing_.has_value()) FinishWaiters(*std::exchange(failing_, std::nullopt));
              Pump();
            });
}

bool Flusher::StoreNext() {
  std::optional<Divergence> divergence;
  {
    base::MutexLock lock(&mutex_);
    if (!divergences_.empty()) divergence = divergences_.front().divergence;
  }
  if (divergence.has_value()) {
    RunOnPool([this, divergence = *std::move(divergence)] { return store_->Record(divergence); },
              [this](const absl::Status& status) { Recorded(status); });
    return true;
  }
  if (!flush_.has_value() && due_) BuildFlush();
  if (!flush_.has_value()) return false;
  RunOnPool([this] { return store_->Apply(*flush_); }, [this](const absl::Status& status) { Applied(status); });
  return true;
}

bool Flusher::InheritNext() {
  if (away_) return false;
  if (!legacy_.has_value()) {
    if (!std::exchange(inherit_due_, false)) return false;
    const auto found = std::make_shared<std::optional<Legacy>>();
    RunOnPool(
        [this, found] {
          absl::StatusOr<std::optional<Legacy>> legacy = options_.spool->Inherit();
          if (legacy.ok()) *found = *std::move(legacy);
          return legacy.status();
        },
        [this, found](const absl::Status& status) {
          busy_ = false;
          Spooled(status);
          legacy_ = std::move(*found);
          legacy_stored_ = 0;
          if (legacy_.has_value()) inherit_due_ = true;  // There may be another.
          Pump();
        });
    return true;
  }
  if (legacy_stored_ < legacy_->divergences.size()) {
    RunOnPool([this] { return store_->Record(legacy_->divergences[legacy_stored_]); },
              [this](const absl::Status& status) { Bequeathed(status); });
    return true;
  }
  RunOnPool(
      [this] {
        const Flush none;
        const Flush& flush = legacy_->flush.has_value() ? *legacy_->flush : none;
        return store_->ApplyLast(legacy_->replica, legacy_->replica_name, flush);
      },
      [this](const absl::Status& status) { Bequeathed(status); });
  return true;
}

void Flusher::BuildFlush() {
  due_ = false;
  Flush next = ledger_->BuildFlush();
  built_ = next.sequence;
  if (options_.noise != nullptr) next.noise = options_.noise->TakeChanged();
  if (options_.revisions != nullptr) {
    const Revisions revisions = options_.revisions();
    next.catalog_revision = revisions.catalog;
    next.flag_revision = revisions.flags;
  }
  if (flush_.has_value()) {
    Merge(std::move(next), options_.episodes_max, &*flush_);
  } else {
    flush_ = std::move(next);
  }
}

void Flusher::RunOnPool(Call call, Finish finish) {
  busy_ = true;
  // Shared: a task that is refused is destroyed with what it captured.
  auto finished = std::make_shared<Finish>(std::move(finish));
  const bool taken = run_blocking_([this, call = std::move(call), finished]() mutable {
    absl::Status status = call();
    executor_->Post([finished, status = std::move(status)]() mutable { (*finished)(status); });
  });
  if (!taken) {
    executor_->Post([finished] { (*finished)(absl::ResourceExhaustedError("no thread is free for evidence")); });
  }
}

void Flusher::Recorded(const absl::Status& status) {
  busy_ = false;
  if (!status.ok() && Transient(status)) return Failed(status);
  if (!status.ok()) {
    // The store will never take this one; those behind it must not wait for it.
    base::Log(base::Level::kError, "divergence_refused", {{"status", status.ToString()}});
  }
  std::string id;
  {
    base::MutexLock lock(&mutex_);
    id = divergences_.front().divergence.id;
    divergences_.pop_front();
    if (!status.ok()) ++stats_.divergences_dropped;
  }
  if (status.ok()) LogKept(id, "store");
  Stored();
}

void Flusher::Applied(const absl::Status& status) {
  busy_ = false;
  if (!status.ok()) return Failed(status);
  ledger_->Flushed(flush_->sequence);
  flush_.reset();
  {
    base::MutexLock lock(&mutex_);
    ++stats_.flushes;
  }
  FinishWaiters(absl::OkStatus());
  Stored();
}

// Something of another process was stored.
void Flusher::Bequeathed(const absl::Status& status) {
  busy_ = false;
  if (!status.ok() && Transient(status)) return Failed(status);
  if (!status.ok()) {
    base::Log(base::Level::kError, "spool_refused", {{"replica", legacy_->replica}, {"status", status.ToString()}});
  }
  if (legacy_stored_++ < legacy_->divergences.size()) return Stored();
  base::Log(base::Level::kInfo, "spool_replayed",
            {{"replica", legacy_->replica},
             {"name", legacy_->replica_name},
             {"divergences", legacy_->divergences.size()},
             {"counts", legacy_->flush.has_value() ? legacy_->flush->counts.size() : 0}});
  RunOnPool([this] { return options_.spool->Forget(legacy_->id); },
            [this](const absl::Status& forgotten) {
              busy_ = false;
              legacy_.reset();
              {
                base::MutexLock lock(&mutex_);
                ++stats_.inherited;
              }
              Spooled(forgotten);
              Pump();
            });
}

void Flusher::Spooled(const absl::Status& status) {
  if (status.ok()) return;
  {
    base::MutexLock lock(&mutex_);
    ++stats_.spool_failures;
  }
  base::Log(base::Level::kError, "spool_failed", {{"status", status.ToString()}});
}

// The store has taken something: what waits is to be had from there, or from this process's memory.
void Flusher::Stored() {
  away_ = false;
  backoff_ = options_.retry;
  bool waits = flush_.has_value();
  {
    base::MutexLock lock(&mutex_);
    waits = waits || !divergences_.empty();
  }
  if (!spool_used_ || waits) return Pump();
  spool_used_ = false;
  RunOnPool([this] { return options_.spool->Replace({}, nullptr); },
            [this](const absl::Status& status) {
              busy_ = false;
              Spooled(status);
              Pump();
            });
}

void Flusher::Failed(const absl::Status& status) {
  {
    base::MutexLock lock(&mutex_);
    ++stats_.failures;
  }
  base::Log(base::Level::kWarning, "evidence_store_failed", {{"status", status.ToString()}});
  if (options_.spool == nullptr) {
    FinishWaiters(status);
  } else if (!std::exchange(away_, true) || !waiters_.empty()) {
    spool_due_ = true;
    failing_ = status;
  }
  away_ = resting_ = true;
  executor_->PostAfter(backoff_, [this] {
    resting_ = false;
    Pump();
  });
  backoff_ = std::min(backoff_ * 2, options_.retry_max);
  Pump();
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

void Flusher::LogKept(const std::string& id, const char* in) {
  base::Log(base::Level::kInfo, "divergence_kept", {{"id", id}, {"in", in}});
}

Flusher::Stats Flusher::stats() const {
  base::MutexLock lock(&mutex_);
  Stats stats = stats_;
  stats.divergences_waiting = divergences_.size();
  return stats;
}

}  // namespace shadowline::diff
