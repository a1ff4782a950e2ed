#include "cache/fill/filler.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cache/origin/snapshot.h"

namespace shadowline::cache {
namespace {

absl::Status OutOfTime() { return absl::DeadlineExceededError("the read's time was over before its value was loaded"); }

absl::Status AlreadyRefreshed() { return absl::AlreadyExistsError("the key is or was loaded again by another one"); }

bool IsDeadline(const absl::Status& status) {
  return status.code() == absl::StatusCode::kDeadlineExceeded || status.code() == absl::StatusCode::kCancelled;
}

// How long a value may be served after its TTL, while it is loaded again.
absl::Duration StaleFor(const Endpoint& endpoint) {
  return endpoint.stale_while_revalidate ? endpoint.freshness : absl::ZeroDuration();
}

// A fence outlives what is put behind it now.
absl::Duration FenceTtl(const Endpoint& endpoint) {
  return std::max(endpoint.ttl, endpoint.negative_ttl) + StaleFor(endpoint) + endpoint.timeout;
}

// Had every one of `transactions` ended, and become visible, for the statement that ran under `snapshot`?
bool SawAll(absl::string_view snapshot, const std::vector<uint64_t>& transactions) {
  if (transactions.empty()) return true;
  const absl::StatusOr<DatabaseSnapshot> parsed = ParseSnapshot(snapshot);
  return parsed.ok() && std::all_of(transactions.begin(), transactions.end(),
                                    [&](uint64_t transaction) { return parsed->Sees(transaction); });
}

}  // namespace

struct Filler::Call {
  Miss miss;
  absl::AnyInvocable<void(absl::StatusOr<Filled>)> done;
  absl::Duration due;     // By Clock::Steady().
  FillFlight::Lead lead;  // Of nothing, where this call waits or is alone.
  bool finished = false;
  bool retried = false;  // It waited for a leader that ran out of its own time.
  bool ensured = false;  // The fences live for long enough.

  absl::Duration busy_until;  // How long to wait for another replica's loader.
  std::string lease_key;
  std::string lease_id;  // Empty: no lease.
  std::string seen;      // The fill that the key held under the lease.
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

void Filler::Fill(Miss miss, absl::Duration timeout, absl::AnyInvocable<void(absl::StatusOr<Filled>)> done) {
  auto call = std::make_shared<Call>();
  call->miss = std::move(miss);
  call->done = std::move(done);
  call->due = clock_->Steady() + timeout;
  if (call->miss.fences.complete) return Join(call);
  store_->EnsureFences(call->miss.fence_keys, FenceTtl(*call->miss.query.endpoint),
                       [this, call](absl::StatusOr<Fences> fences) {
                         if (!fences.ok()) return Load(call);
                         call->ensured = true;
                         call->miss.fences = *std::move(fences);
                         Join(call);
                       });
}

void Filler::Join(const CallPtr& call) {
  const auto landed = [this, call](std::shared_ptr<const absl::StatusOr<Filled>> result) {
    if (call->finished) return;
    const bool not_mine = result != nullptr && IsDeadline(result->status()) && !call->retried;
    if (result != nullptr && !not_mine) return Finish(call, *result);
    call->retried = call->retried || not_mine;
    Join(call);
  };
  switch (flight_->Join(absl::StrCat(call->miss.key, call->miss.fences.tokens), executor_, landed, &call->lead)) {
    case Joined::kLead:
      // Half of the time that is left is kept for the load itself.
      call->busy_until = clock_->Steady() + Remaining(*call) / 2;
      return AcquireLease(call);
    case Joined::kWait:
      // A call that leads by then is bounded by its own steps.
      return executor_->PostAfter(Remaining(*call), [this, waiting = std::weak_ptr<Call>(call)] {
        const CallPtr late = waiting.lock();
        if (late != nullptr && !late->lead) Finish(late, OutOfTime());
      });
    case Joined::kFull:
      return Load(call);
  }
}

// Also how a busy key is watched: the step that finds the lease gone takes it.
void Filler::AcquireLease(const CallPtr& call) {
  const std::string lease_id = random_->Id();
  store_->AcquireLease(call->miss.key, lease_id, options_.lease_ttl, call->miss.fence_keys,
                       [this, call, lease_id](absl::StatusOr<Lease> lease) {
                         if (!lease.ok()) return Load(call);
                         if (lease->granted) {
                           call->lease_key = call->miss.key;
                           call->lease_id = lease_id;
                         }
                         if (std::optional<Filled> filled = Answer(call->miss, lease->found))
                           return Finish(call, *std::move(filled));
                         if (!lease->granted) {
                           if (clock_->Steady() + options_.busy_poll > call->busy_until) return Load(call);
                           return executor_->PostAfter(options_.busy_poll, [this, call] { AcquireLease(call); });
                         }
                         LoadInPlaceOf(call, lease->found);
                       });
}

void Filler::Refresh(Miss miss, std::string replaced, absl::Duration timeout,
                     absl::AnyInvocable<void(absl::StatusOr<Filled>)> done) {
  auto call = std::make_shared<Call>();
  call->miss = std::move(miss);
  call->done = std::move(done);
  call->due = clock_->Steady() + timeout;
  call->lease_key = absl::StrCat(call->miss.key, ":refresh");
  if (!flight_->TryLead(call->lease_key, &call->lead)) {
    return executor_->Post([this, call] { Finish(call, AlreadyRefreshed()); });
  }
  store_->EnsureFences(call->miss.fence_keys, FenceTtl(*call->miss.query.endpoint),
                       [this, call, replaced = std::move(replaced)](absl::StatusOr<Fences> fences) mutable {
                         if (!fences.ok()) return Finish(call, fences.status());
                         call->ensured = true;
                         AcquireRefreshLease(call, std::move(replaced));
                       });
}

void Filler::AcquireRefreshLease(const CallPtr& call, std::string replaced) {
  const std::string lease_id = random_->Id();
  store_->AcquireLease(call->lease_key, lease_id, options_.lease_ttl, {},
                       [this, call, lease_id, replaced = std::move(replaced)](absl::StatusOr<Lease> lease) mutable {
                         if (!lease.ok()) return Finish(call, lease.status());
                         if (!lease->granted) return Finish(call, AlreadyRefreshed());
                         call->lease_id = lease_id;
                         store_->Read(call->miss.key, call->miss.fence_keys,
                                      [this, call, replaced = std::move(replaced)](absl::StatusOr<Found> found) {
                                        if (!found.ok()) return Finish(call, found.status());
                                        if (found->slot.fill != replaced && Answer(call->miss, *found).has_value())
                                          return Finish(call, AlreadyRefreshed());
                                        LoadInPlaceOf(call, *found);
                                      });
                       });
}

// Fences that are newer than those the call came with make what is loaded only newer. One that is gone again leaves
// nothing to put a value behind.
void Filler::LoadInPlaceOf(const CallPtr& call, const Found& found) {
  call->miss.fences = found.fences;
  call->seen = found.slot.fill;
  call->after_fence = found.slot.kind == Slot::Kind::kValue && found.slot.fences != found.fences.tokens &&
                      found.fences.invalidated_at > absl::InfinitePast();
  KeepLease(call);
  Load(call);
}

std::optional<Filled> Filler::Answer(const Miss& miss, const Found& found) const {
  if (!Admits(found)) return std::nullopt;
  absl::StatusOr<CachedAnswer> cached = DecodeEnvelope(miss.key, found.slot.bytes);
  if (!cached.ok()) return std::nullopt;  // Nobody can read it: it is replaced.
  const absl::Time now = clock_->Now();
  if (IsStale(*cached, now) || MayBeOutdated(found, cached->loaded_at, now, miss.query.endpoint->freshness)) {
    return std::nullopt;
  }
  Filled filled;
  filled.answer.found = cached->found;
  filled.answer.body = std::move(cached->body);
  filled.answer.snapshot = std::move(cached->snapshot);
  filled.answer.started_at = filled.answer.answered_at = cached->loaded_at;
  filled.from_store = filled.cached = true;
  filled.fill_id = found.slot.fill;
  filled.after_fence = cached->after_fence;
  return filled;
}

void Filler::KeepLease(const CallPtr& call) {
  executor_->PostAfter(options_.lease_ttl / 3, [this, waiting = std::weak_ptr<Call>(call)] {
    const CallPtr loading = waiting.lock();
    if (loading == nullptr || loading->finished) return;
    store_->RenewLease(loading->lease_key, loading->lease_id, options_.lease_ttl);
    KeepLease(loading);
  });
}

void Filler::Load(const CallPtr& call) {
  if (!call->miss.fences.transactions.empty()) call->lead.Close();
  control_->Load(call->miss.query, Remaining(*call), executor_, [this, call](absl::StatusOr<ControlAnswer> answer) {
    if (!answer.ok()) return Finish(call, answer.status());
    if (!call->lease_id.empty()) return Put(call, *std::move(answer));
    Filled filled;
    filled.answer = *std::move(answer);
    Finish(call, std::move(filled));
  });
}

void Filler::Put(const CallPtr& call, ControlAnswer answer) {
  const Endpoint& endpoint = *call->miss.query.endpoint;
  const Fences& fences = call->miss.fences;
  Filled filled;
  filled.answer = std::move(answer);
  filled.after_fence = call->after_fence;
  // Up to a tenth shorter, so that what was filled together does not expire together.
  const absl::Duration ttl = (filled.answer.found ? endpoint.ttl : endpoint.negative_ttl) * (1 - 0.1 * random_->Unit());
  if (!fences.complete || !SawAll(filled.answer.snapshot, fences.transactions) || ttl < absl::Milliseconds(1) ||
      filled.answer.body.size() > options_.body_max_bytes) {
    return Finish(call, std::move(filled));
  }
  CachedAnswer cached;
  cached.found = filled.answer.found;
  cached.body = filled.answer.body;
  cached.loaded_at = filled.answer.started_at;
  cached.snapshot = filled.answer.snapshot;
  cached.catalog_revision = call->miss.query.catalog->revision();
  cached.after_fence = call->after_fence;
  cached.etag = Etag(cached.found, cached.body);
  cached.expires_at = clock_->Now() + ttl;
  cached.outlives_ttl = endpoint.stale_while_revalidate;
  cached.load_time = filled.answer.answered_at - filled.answer.started_at;
  std::string envelope = EncodeEnvelope(call->miss.key, cached, endpoint.compress_above);
  // A fence that ends before the values behind it takes all of them along, of every key under its tag. Best effort.
  if (!call->ensured) store_->EnsureFences(call->miss.fence_keys, FenceTtl(endpoint), [](absl::StatusOr<Fences>) {});
  const std::string fill_id = random_->Id();
  store_->Put(call->miss.key, call->seen, {fill_id, fences.tokens, std::move(envelope), ttl + StaleFor(endpoint)},
              [this, call, fill_id, filled = std::move(filled)](absl::StatusOr<bool> put) mutable {
                filled.cached = put.ok() && *put;
                if (filled.cached) filled.fill_id = fill_id;
                Finish(call, std::move(filled));
              });
}

void Filler::Finish(const CallPtr& call, absl::StatusOr<Filled> result) {
  if (std::exchange(call->finished, true)) return;  // It waited, and its time was over.
  if (!call->lease_id.empty()) store_->ReleaseLease(call->lease_key, call->lease_id);
  call->lead.Land(result);
  call->done(std::move(result));
}

absl::Duration Filler::Remaining(const Call& call) const {
  return std::max(call.due - clock_->Steady(), absl::ZeroDuration());
}

}  // namespace shadowline::cache
