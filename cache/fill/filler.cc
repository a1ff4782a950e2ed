#include "cache/fill/filler.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"

namespace shadowline::cache {
namespace {

absl::Status OutOfTime() { return absl::DeadlineExceededError("the read's time was over before its value was loaded"); }

bool IsDeadline(const absl::Status& status) {
  return status.code() == absl::StatusCode::kDeadlineExceeded || status.code() == absl::StatusCode::kCancelled;
}

}  // namespace

struct Filler::Miss {
  Query query;
  std::string key;
  std::vector<std::string> tag_keys;
  absl::AnyInvocable<void(absl::StatusOr<Filled>)> done;
  absl::Duration due;  // By Clock::Steady().
  uint64_t arrival = 0;
  FillFlight::Lead lead;  // Of nothing, where this miss is a waiter or alone.
  bool finished = false;
  bool retried = false;  // It waited for a leader that ran out of its own time.

  absl::Duration busy_until;  // How long to wait for another replica's loader.
  bool mended = false;        // A value that nobody can read was fenced.
  std::string lease_id;       // Empty: no lease.
  uint64_t term = 0;
  bool after_fence = false;
};

Filler::Filler(Options options, Store* store, Control* control, FillFlight* flight, base::Executor* executor,
               const base::Clock* clock, base::Random* random)
    : options_(options),
      store_(store),
      control_(control),
      flight_(flight),
      executor_(executor),
      clock_(clock),
      random_(random) {}

void Filler::Fill(Query query, std::string key, std::vector<std::string> tag_keys, absl::Duration timeout,
                  absl::AnyInvocable<void(absl::StatusOr<Filled>)> done) {
  auto miss = std::make_shared<Miss>();
  miss->query = std::move(query);
  miss->key = std::move(key);
  miss->tag_keys = std::move(tag_keys);
  miss->done = std::move(done);
  miss->due = clock_->Steady() + timeout;
  miss->arrival = flight_->Arrive();
  Join(miss);
}

void Filler::Join(const MissPtr& miss) {
  const auto landed = [this, miss](std::shared_ptr<const absl::StatusOr<Filled>> result) {
    if (miss->finished) return;
    const bool not_mine = result != nullptr && IsDeadline(result->status()) && !miss->retried;
    if (result != nullptr && !not_mine) return Finish(miss, *result, /*proven=*/false);
    miss->retried = miss->retried || not_mine;
    Join(miss);
  };
  switch (flight_->Join(miss->key, miss->arrival, executor_, landed, &miss->lead)) {
    case Joined::kLead:
      // Half of the time that is left is kept for the load itself.
      miss->busy_until = clock_->Steady() + std::min(options_.busy_wait, Remaining(*miss) / 2);
      return AcquireLease(miss);
    case Joined::kWait:
      // A miss that leads by then is bounded by its own calls.
      return executor_->PostAfter(Remaining(*miss), [this, waiting = std::weak_ptr<Miss>(miss)] {
        const MissPtr late = waiting.lock();
        if (late != nullptr && !late->lead) Finish(late, OutOfTime(), /*proven=*/false);
      });
    case Joined::kFull:
      return LoadUncached(miss);
  }
}

// Also how a busy key is watched: the call that finds the lease gone takes it in the same step.
void Filler::AcquireLease(const MissPtr& miss) {
  miss->lead.Mark();
  std::string lease_id = random_->Id();
  store_->AcquireLease(miss->key, lease_id, options_.lease_ttl, [this, miss, lease_id](absl::StatusOr<Lease> lease) {
    if (!lease.ok()) return LoadUncached(miss);
    switch (lease->outcome) {
      case Lease::Outcome::kValue:
        return TakeFromStore(miss, std::move(lease->slot));
      case Lease::Outcome::kBusy:
        if (clock_->Steady() + options_.busy_poll > miss->busy_until) return LoadUncached(miss);
        return executor_->PostAfter(options_.busy_poll, [this, miss] { AcquireLease(miss); });
      case Lease::Outcome::kGranted:
        miss->lease_id = lease_id;
        miss->term = lease->term;
        miss->after_fence = lease->after_fence && !miss->mended;
        return Register(miss);
    }
  });
}

void Filler::TakeFromStore(const MissPtr& miss, Slot slot) {
  absl::StatusOr<CachedAnswer> cached = DecodeEnvelope(miss->key, slot.bytes);
  if (cached.ok()) {
    Filled filled;
    filled.answer.found = cached->found;
    filled.answer.body = std::move(cached->body);
    filled.answer.snapshot = std::move(cached->snapshot);
    filled.answer.started_at = filled.answer.answered_at = cached->loaded_at;
    filled.from_store = filled.cached = true;
    filled.fill_id = std::move(slot.token);
    filled.after_fence = cached->after_fence;
    return Finish(miss, std::move(filled), /*proven=*/false);
  }
  if (miss->mended) return LoadUncached(miss);
  // Nobody can read it, and while it is there nobody can replace it.
  miss->mended = true;
  store_->Fence(miss->key, random_->Id(), options_.lease_ttl,
                [this, miss](absl::Status fenced) { fenced.ok() ? AcquireLease(miss) : LoadUncached(miss); });
}

void Filler::Register(const MissPtr& miss) {
  if (miss->tag_keys.empty()) return LoadUnderLease(miss);
  // A value is committed while the lease stands, and lives for its TTL from then on. The registration began after the
  // lease, and lasts for longer than both; the second lease_ttl is for clocks of two Redis nodes that differ.
  const Endpoint& endpoint = *miss->query.endpoint;
  const absl::Duration ttl = std::max(endpoint.ttl, endpoint.negative_ttl) + 2 * options_.lease_ttl;
  struct Registering {
    size_t left;
    bool ok = true;
  };
  auto registering = std::make_shared<Registering>(Registering{miss->tag_keys.size()});
  for (const std::string& tag_key : miss->tag_keys) {
    store_->AddToTag(tag_key, miss->key, ttl, [this, miss, registering](absl::Status added) {
      registering->ok = registering->ok && added.ok();
      if (--registering->left > 0) return;
      if (registering->ok) return LoadUnderLease(miss);
      Release(miss);
      LoadUncached(miss);
    });
  }
}

void Filler::LoadUnderLease(const MissPtr& miss) {
  miss->lead.Mark();
  control_->Load(miss->query, Remaining(*miss), executor_, [this, miss](absl::StatusOr<ControlAnswer> answer) {
    if (answer.ok()) return Commit(miss, *std::move(answer));
    Release(miss);
    Finish(miss, answer.status(), /*proven=*/false);
  });
}

void Filler::Commit(const MissPtr& miss, ControlAnswer answer) {
  const Endpoint& endpoint = *miss->query.endpoint;
  Filled filled;
  filled.answer = std::move(answer);
  filled.after_fence = miss->after_fence;
  // Up to a tenth shorter, so that what was filled together does not expire together.
  const absl::Duration ttl = (filled.answer.found ? endpoint.ttl : endpoint.negative_ttl) * (1 - 0.1 * random_->Unit());
  if (ttl < absl::Milliseconds(1) || filled.answer.body.size() > options_.body_max_bytes) {
    Release(miss);
    return Finish(miss, std::move(filled), /*proven=*/false);
  }
  CachedAnswer cached;
  cached.found = filled.answer.found;
  cached.body = filled.answer.body;
  cached.loaded_at = filled.answer.started_at;
  cached.snapshot = filled.answer.snapshot;
  cached.catalog_revision = miss->query.catalog->revision();
  cached.after_fence = miss->after_fence;
  cached.etag = Etag(cached.found, cached.body);
  const std::string fill_id = random_->Id();
  std::string envelope = EncodeEnvelope(miss->key, cached, endpoint.compress_above);
  miss->lead.Close();
  store_->CommitFill(miss->key, miss->lease_id, miss->term, fill_id, std::move(envelope), ttl,
                     [this, miss, fill_id, filled = std::move(filled)](absl::StatusOr<bool> committed) mutable {
                       filled.cached = committed.ok() && *committed;
                       if (filled.cached) filled.fill_id = fill_id;
                       const bool proven = filled.cached;
                       Finish(miss, std::move(filled), proven);
                     });
}

void Filler::LoadUncached(const MissPtr& miss) {
  miss->lead.Mark();
  control_->Load(miss->query, Remaining(*miss), executor_, [this, miss](absl::StatusOr<ControlAnswer> answer) {
    if (!answer.ok()) return Finish(miss, answer.status(), /*proven=*/false);
    Filled filled;
    filled.answer = *std::move(answer);
    Finish(miss, std::move(filled), /*proven=*/false);
  });
}

void Filler::Release(const MissPtr& miss) { store_->ReleaseLease(miss->key, std::exchange(miss->lease_id, {})); }

void Filler::Finish(const MissPtr& miss, absl::StatusOr<Filled> result, bool proven) {
  if (std::exchange(miss->finished, true)) return;  // It waited, and its time was over.
  miss->lead.Land(result, proven);
  miss->done(std::move(result));
}

absl::Duration Filler::Remaining(const Miss& miss) const {
  return std::max(miss.due - clock_->Steady(), absl::ZeroDuration());
}

}  // namespace shadowline::cache
