// Lanes, the background and the publishers of flags and catalogs on real threads: what they share is safe, and the
// ledger balances. Worth most under ThreadSanitizer.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "cache/key/key.h"
#include "server/read/cached_reader.h"
#include "server/read/verifier.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;

constexpr char kBody[] = R"({"price":1})";

// Holds one and the same value under every key.
class OneValueStore final : public cache::Store {
 public:
  explicit OneValueStore(base::Executor* executor) : executor_(executor) {}

  bool Reachable() const override { return true; }
  void Read(std::string key, std::vector<std::string> fence_keys,
            absl::AnyInvocable<void(absl::StatusOr<cache::Found>)> done) override {
    cache::CachedAnswer answer;
    answer.found = true;
    answer.body = kBody;
    answer.snapshot = "10:10:";
    answer.etag = cache::Etag(true, kBody);
    cache::Found found;
    for (size_t i = 0; i < fence_keys.size(); ++i) found.fences.Add({.token = std::string(cache::kTokenBytes, 'f')});
    found.slot = {cache::Slot::Kind::kValue, std::string(cache::kTokenBytes, 'F'), found.fences.tokens,
                  cache::EncodeEnvelope(key, answer, 0)};
    executor_->Post([found = std::move(found), done = std::move(done)]() mutable { done(std::move(found)); });
  }
  void EnsureFences(std::vector<std::string>, absl::Duration,
                    absl::AnyInvocable<void(absl::StatusOr<cache::Fences>)> done) override {
    Refuse(std::move(done));
  }
  void ReplaceFence(std::string, std::string, absl::Time, std::vector<uint64_t>, absl::Duration,
                    absl::AnyInvocable<void(absl::Status)> done) override {
    Refuse(std::move(done));
  }
  void ReadRaw(std::string, absl::AnyInvocable<void(absl::StatusOr<cache::Found>)> done) override {
    Refuse(std::move(done));
  }
  void ReadFence(std::string, absl::AnyInvocable<void(absl::StatusOr<cache::Fence>)> done) override {
    Refuse(std::move(done));
  }
  void AcquireLease(std::string, std::string, absl::Duration, std::vector<std::string>,
                    absl::AnyInvocable<void(absl::StatusOr<cache::Lease>)> done) override {
    Refuse(std::move(done));
  }
  void RenewLease(std::string, std::string, absl::Duration) override {}
  void ReleaseLease(std::string, std::string) override {}
  void Put(std::string, std::string, cache::Fill, absl::AnyInvocable<void(absl::StatusOr<bool>)> done) override {
    Refuse(std::move(done));
  }
  void Discard(std::string, std::string, absl::AnyInvocable<void(absl::Status)> done) override {
    Refuse(std::move(done));
  }

 private:
  template <typename Done>
  void Refuse(Done done) {
    executor_->Post([done = std::move(done)]() mutable { done(absl::UnavailableError("not in this test")); });
  }

  base::Executor* const executor_;
};

class OneValueControl final : public cache::Control, public cache::TwinControl {
 public:
  void Load(cache::Query, absl::Duration, base::Executor* reply_on, Callback done) override {
    reply_on->Post([done = std::move(done)]() mutable { done(Answer()); });
  }
  void LoadTwice(cache::Query, absl::Duration, base::Executor* reply_on, TwinsCallback done) override {
    reply_on->Post([done = std::move(done)]() mutable { done(cache::Twins(Answer(), Answer())); });
  }

 private:
  static cache::ControlAnswer Answer() {
    cache::ControlAnswer answer;
    answer.found = true;
    answer.body = kBody;
    answer.snapshot = "10:10:";
    return answer;
  }
};

std::shared_ptr<const cache::CompiledCatalog> Catalog(uint64_t revision) {
  cache::Endpoint endpoint;
  endpoint.name = "pricing/quote";
  endpoint.family = "pricing";
  endpoint.freshness = absl::Seconds(1);
  endpoint.timeout = absl::Seconds(5);
  return std::make_shared<cache::CompiledCatalog>(revision, v1::Catalog(), std::vector<cache::Endpoint>{endpoint});
}

std::shared_ptr<const flags::Snapshot> Flags(uint64_t revision) {
  flags::Flag flag;
  flag.mode = revision % 3 == 0 ? flags::Mode::kShadow : flags::Mode::kCache;
  flag.serve_ppm = flag.mode == flags::Mode::kCache ? 1'000'000 : 0;
  flag.sample_ppm = 500'000;
  return std::make_shared<flags::Snapshot>(revision, absl::flat_hash_set<std::string>{"acme"},
                                           flags::Snapshot::Targets{{{"pricing", "acme"}, flag}});
}

struct Latch {
  void Count() {
    if (left.fetch_sub(1) == 1) open.set_value();
  }
  void Wait() { open.get_future().wait(); }
  std::atomic<int> left;
  std::promise<void> open;
};

// A lane with its reader. Each answer starts the next read.
struct LaneOfReads {
  LaneOfReads(int reads_to_make, Latch* done_latch, const base::Clock* clock, const flags::Board* board,
              const CatalogHolder* catalog, OneValueControl* control, cache::FillFlight* flight, Verifier* verifier,
              base::Metrics* metrics)
      : left(reads_to_make),
        latch(done_latch),
        random(reads_to_make),
        loop(clock, "lane"),
        store(&loop),
        filler({}, &store, control, flight, &loop, clock, &random),
        reader({}, {.board = board,
                    .catalog = catalog,
                    .store = &store,
                    .control = control,
                    .filler = &filler,
                    .verifier = verifier,
                    .executor = &loop,
                    .clock = clock,
                    .random = &random,
                    .metrics = metrics}) {
    request.set_tenant("acme");
    request.set_endpoint("pricing/quote");
  }

  void Next() {
    reader.Read(request, &response, absl::Seconds(10), [this](absl::Status status) {
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_EQ(response.body(), kBody);
      // In a turn of its own: the reader is still in its callback.
      --left > 0 ? loop.Post([this] { Next(); }) : latch->Count();
    });
  }

  int left;
  Latch* const latch;
  base::Random random;
  base::EventLoop loop;
  OneValueStore store;
  cache::Filler filler;
  CachedReader reader;
  v1::ReadRequest request;
  v1::ReadResponse response;
};

TEST(ReadThreadsTest, LanesShareOneVerifierWhileFlagsAndCatalogsChange) {
  base::SystemClock clock;
  base::Metrics metrics;
  diff::Ledger ledger(&clock);
  flags::Board board(&clock, absl::Hours(1));
  CatalogHolder catalog;
  board.Publish(Flags(1), clock.Steady());
  catalog.Publish(Catalog(1));
  OneValueControl control;
  diff::NoiseBook noise;
  cache::FillFlight flight;
  base::Random random(7);
  base::EventLoop background(&clock, "background");
  OneValueStore background_store(&background);
  cache::Filler background_filler({}, &background_store, &control, &flight, &background, &clock, &random);
  Verifier verifier({.queries_per_second = 1e6, .burst = 1e6, .samples_max = 300, .match_reuse = absl::ZeroDuration()},
                    {.store = &background_store,
                     .control = &control,
                     .twins = &control,
                     .noise = &noise,
                     .filler = &background_filler,
                     .executor = &background,
                     .clock = &clock,
                     .random = &random,
                     .ledger = &ledger,
                     .metrics = &metrics,
                     .record = [](diff::Divergence) { ADD_FAILURE() << "nothing here differs"; }});
  constexpr int kLanes = 2;
  constexpr int kReads = 2'000;
  Latch reads{.left = kLanes, .open = {}};
  std::vector<std::unique_ptr<LaneOfReads>> lanes;
  for (int i = 0; i < kLanes; ++i) {
    lanes.push_back(std::make_unique<LaneOfReads>(kReads + i, &reads, &clock, &board, &catalog, &control, &flight,
                                                  &verifier, &metrics));
    lanes[i]->loop.Post([lane = lanes[i].get()] { lane->Next(); });
  }
  for (uint64_t revision = 2; revision < 200; ++revision) {
    board.Publish(Flags(revision), clock.Steady());
    catalog.Publish(Catalog(revision));
  }
  reads.Wait();
  Latch shutdown{.left = 1, .open = {}};
  verifier.Shutdown([&shutdown] { shutdown.Count(); });
  shutdown.Wait();
  for (auto& lane : lanes) lane->loop.Stop();
  background.Stop();
  const diff::Counts counts = ledger.totals().counts;
  EXPECT_GT(counts.sampled, 0u);
  EXPECT_GT(counts.matched, 0u);
  EXPECT_EQ(counts.Pending(), 0u);
  EXPECT_EQ(counts.sampled, counts.matched + counts.shed);
}

}  // namespace
}  // namespace shadowline::server
