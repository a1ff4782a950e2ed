#include "tests/chaos/traffic.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/executor.h"
#include "tests/support/await.h"

namespace shadowline::chaos {
namespace {

namespace v1 = shadowline::v1;
using support::Judgement;

constexpr size_t kHot = 8;
constexpr size_t kWarm = 400;
constexpr size_t kFaultsKept = 5;
// One row in so many comes and goes.
constexpr size_t kFlipping = 4;

size_t AnyRow(base::Random* random, size_t rows, uint64_t warm_percent) {
  const uint64_t point = random->Below(100);
  if (point < 50) return random->Below(std::min(kHot, rows));
  return random->Below(point < 50 + warm_percent ? std::min(kWarm, rows) : rows);
}

}  // namespace

void Tally::Add(const Tally& other) {
  reads += other.reads;
  failed += other.failed;
  from_cache += other.from_cache;
  from_near += other.from_near;
  not_found += other.not_found;
  older_than_invalidation += other.older_than_invalidation;
  outside_bound += other.outside_bound;
}

Tally Tally::Since(const Tally& earlier) const {
  return {reads - earlier.reads,
          failed - earlier.failed,
          from_cache - earlier.from_cache,
          from_near - earlier.from_near,
          not_found - earlier.not_found,
          older_than_invalidation - earlier.older_than_invalidation,
          outside_bound - earlier.outside_bound};
}

double Tally::ShareFromCache() const {
  return reads == failed ? 0 : static_cast<double>(from_cache) / static_cast<double>(reads - failed);
}

std::string Tally::ToString() const {
  return absl::StrFormat(
      "%u reads, %.1f%% from the cache (%u from a near cache), %u not found, %u failed, older than an invalidation %u, "
      "outside the bound %u",
      reads, 100 * ShareFromCache(), from_near, not_found, failed, older_than_invalidation, outside_bound);
}

Readers::Readers(Fleet* fleet, const Options& options) : fleet_(fleet), options_(options) {
  for (size_t i = 0; i < options.threads; ++i) threads_.emplace_back(options.seed * 1000 + i);
  loop_ = std::make_unique<support::ClosedLoop>(
      support::ClosedLoop::Options{.channels = fleet->channels(),
                                   .threads = options.threads,
                                   .outstanding = options.outstanding,
                                   .reads = options.reads},
      &fleet->clock(), [this](size_t thread) { return Next(thread); },
      [this](size_t thread, const support::Reply& reply) { Done(thread, reply); });
}

support::Question Readers::Next(size_t thread) {
  base::Random& random = threads_[thread].random;
  const size_t row = AnyRow(&random, fleet_->rows(), 30);
  const uint64_t point = random.Below(100);
  Endpoint endpoint = Endpoint::kItem;
  if (point < options_.near_percent) {
    endpoint = Endpoint::kNear;
  } else if (point < options_.near_percent + options_.slow_percent) {
    endpoint = Endpoint::kSlow;
  } else if (point < options_.near_percent + options_.slow_percent + options_.brief_percent) {
    endpoint = Endpoint::kBrief;
  }
  const size_t id = Fleet::Id(row, endpoint);
  return {id, &fleet_->Request(id)};
}

void Readers::Done(size_t thread, const support::Reply& reply) {
  Thread& own = threads_[thread];
  const bool ok = reply.status.ok();
  const v1::Source source = reply.response.source();
  support::Opinion opinion;
  if (ok) opinion = fleet_->Judge(reply.id, reply.response, reply.sent, reply.received);

  base::MutexLock lock(&own.mutex);
  Tally& tally = own.tally;
  ++tally.reads;
  std::string fault;
  if (!ok) {
    ++tally.failed;
    fault = absl::StrCat("failed with ", reply.status.error_code(), " ", reply.status.error_message());
  } else {
    tally.from_cache += source == v1::SOURCE_CACHE || source == v1::SOURCE_NEAR_CACHE;
    tally.from_near += source == v1::SOURCE_NEAR_CACHE;
    tally.not_found += !reply.response.found();
    tally.older_than_invalidation += opinion.older_than_invalidation;
    tally.outside_bound += opinion.judgement != Judgement::kRight;
    if (opinion.older_than_invalidation) fault = "older than an acknowledged invalidation";
    if (opinion.judgement != Judgement::kRight) {
      absl::StrAppend(&fault, fault.empty() ? "" : ", ", JudgementName(opinion.judgement));
    }
  }
  if (fault.empty() || own.faults.size() >= kFaultsKept) return;
  own.faults.push_back(absl::StrCat(fleet_->Request(reply.id).ShortDebugString(), ": ", fault, ": ",
                                    reply.response.ShortDebugString(), ", sent at ", absl::FormatDuration(reply.sent),
                                    ", received after ", absl::FormatDuration(reply.received - reply.sent)));
}

void Readers::Wait(const std::string& name, const std::function<void(const std::string&)>& progress) {
  Tally before;
  absl::Duration told = fleet_->clock().Steady();
  // A limit that only guards against a server that hangs.
  const bool done = support::AwaitTrue(absl::Hours(2), [&] {
    const Tally now = tally();
    const absl::Duration since = fleet_->clock().Steady() - told;
    if (since > absl::Seconds(5)) {
      progress(absl::StrFormat("%s: %.0f/s, %s", name,
                               static_cast<double>(now.reads - before.reads) / absl::ToDoubleSeconds(since),
                               now.ToString()));
      before = now;
      told += since;
    }
    return now.reads >= options_.reads;
  });
  if (!done) throw std::runtime_error(name + ": the reads did not end");
  loop_->Wait();
}

Tally Readers::tally() const {
  Tally all;
  for (const Thread& thread : threads_) {
    base::MutexLock lock(&thread.mutex);
    all.Add(thread.tally);
  }
  return all;
}

std::vector<std::string> Readers::faults() const {
  std::vector<std::string> all;
  for (const Thread& thread : threads_) {
    base::MutexLock lock(&thread.mutex);
    all.insert(all.end(), thread.faults.begin(), thread.faults.end());
  }
  return all;
}

bool Readers::AwaitMore(uint64_t reads) const {
  const uint64_t wanted = tally().reads + reads;
  return support::AwaitTrue(10 * kLimit, [&] { return tally().reads >= wanted; });
}

double Readers::AwaitSteadyShare() const {
  double best = 0;
  const bool steady = support::AwaitTrue(kLimit, [&] {
    const Tally before = tally();
    if (!AwaitMore(500)) return false;
    const double share = tally().Since(before).ShareFromCache();
    const bool grows = share > best + 0.02 || share < 0.5;
    best = std::max(best, share);
    return !grows;
  });
  return steady ? best : 0;
}

absl::Duration Readers::AwaitShare(double share) const {
  constexpr uint64_t kLatest = 200;
  const absl::Duration begun = fleet_->clock().Steady();
  Tally before = tally();
  const bool back = support::AwaitTrue(kLimit, [&] {
    const Tally now = tally();
    if (now.reads < before.reads + kLatest) return false;
    const double reached = now.Since(before).ShareFromCache();
    before = now;
    return reached >= share;
  });
  return back ? fleet_->clock().Steady() - begun : absl::InfiniteDuration();
}

Writers::Writers(Fleet* fleet, const Options& options) : fleet_(fleet), options_(options) {
  for (size_t i = 0; i < options_.threads; ++i) {
    threads_.push_back(base::StartThread("writer", [this, i] {
      try {
        Run(i);
      } catch (const std::exception& error) {
        base::MutexLock lock(&mutex_);
        failure_ = error.what();
      }
    }));
  }
}

void Writers::Join() {
  stopping_ = true;
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void Writers::Stop() {
  Join();
  base::MutexLock lock(&mutex_);
  if (!failure_.empty()) throw std::runtime_error(std::exchange(failure_, ""));
}

void Writers::Run(size_t thread) {
  base::Random random(options_.seed * 1000 + thread);
  pqxx::connection connection(fleet_->source());
  support::Pace pace(&fleet_->clock(), options_.rate / static_cast<double>(options_.threads), random.Next(),
                     absl::Seconds(1));
  for (uint64_t turn = thread; !stopping_; ++turn) {
    pace.Next();
    // Each row has one writer.
    const size_t row = AnyRow(&random, fleet_->rows(), 30) / options_.threads * options_.threads + thread;
    if (row >= fleet_->rows()) continue;
    if (options_.captured) {
      unread_ += !fleet_->CommitCaptured(&connection, row, turn);
      ++writes_;
      continue;
    }
    Fleet::Write how{.flip = row / options_.threads % kFlipping == 1 && random.Below(2) == 0,
                     .ahead = options_.ahead && random.Below(3) == 0,
                     .hold = random.Below(2) == 0 ? absl::Milliseconds(80) * random.Unit() : absl::ZeroDuration(),
                     .fences_get_lost = options_.fences_get_lost};
    if (options_.plant) options_.plant(&how);
    std::function<void()> after;
    if (options_.around) after = options_.around(row);
    repeated_ += fleet_->Commit(&connection, row, how, turn);
    ++writes_;
    if (after) after();
  }
}

Freezer::Freezer(Fleet* fleet)
    : fleet_(fleet), thread_(base::StartThread("freezer", [this] {
        base::Random random(4);
        support::Pace moments(&fleet_->clock(), 3, random.Next(), absl::ZeroDuration());
        support::Pace lengths(&fleet_->clock(), 8, random.Next(), absl::ZeroDuration());
        while (!stopping_) {
          moments.Next();
          support::Shadowlined& server = fleet_->node(random.Below(fleet_->size())).server;
          server.Freeze();
          lengths.Next();
          server.Thaw();
        }
      })) {}

Freezer::~Freezer() {
  stopping_ = true;
  thread_.join();
}

}  // namespace shadowline::chaos
