// The demo's application: 40 tenants of a B2B SaaS, what they ask, and how they write. workload.sql has its data,
// catalog.yaml its statements.
//
// Reading is described here and done by support::OpenLoop; writing is done here. A write is one transaction on
// PostgreSQL and then one call of Invalidate, as in any application that keeps its cache honest by itself.
#ifndef SHADOWLINE_TESTS_DEMO_APPLICATION_H_
#define SHADOWLINE_TESTS_DEMO_APPLICATION_H_

#include <grpcpp/grpcpp.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/random.h"
#include "shadowline/v1/cache.grpc.pb.h"
#include "shadowline/v1/read.pb.h"
#include "tests/support/history.h"
#include "tests/support/load.h"

namespace shadowline::demo {

enum Family : size_t { kPricing, kPermissions, kDashboard };
inline constexpr size_t kFamilies = 3;
inline constexpr std::array<absl::string_view, kFamilies> kFamilyNames = {"pricing", "permissions", "dashboard"};

// By popularity.
const std::vector<std::string>& Tenants();

// One question that the load asks again and again.
struct Question {
  Family family = kPricing;
  size_t tenant = 0;  // Index into Tenants().
  shadowline::v1::ReadRequest request;
  std::string text;                 // For people, and to tell questions apart.
  std::vector<std::string> scopes;  // What its answer is computed from, in the order in which it names them.
};

// All questions, and the order in which they are asked: tenants by Zipf's law, and the questions of a tenant from a
// shuffled deck in which the popular ones have several cards. A deck keeps a run of seconds representative: no question
// waits for its luck.
//
// Threads: Draw on one thread; the rest is immutable.
class Questions {
 public:
  explicit Questions(uint64_t seed);

  const std::vector<Question>& all() const { return all_; }
  // REQUIRES: the shares of the families sum to 1.
  support::Question Draw();

 private:
  struct Deck {
    std::vector<size_t> cards;
    size_t next = 0;
  };

  base::Random random_;
  std::vector<Question> all_;
  std::vector<double> popularity_;  // Cumulated, of each tenant.
  std::array<std::vector<Deck>, kFamilies> decks_;
};

// The writers of one family: one write after the other, at a fixed pace, for tenants in proportion to their popularity
// and yet for all of them.
//
// Pricing changes the prices of a book, dashboard takes orders. Permissions grants a role on a folder or takes it away,
// which changes what may be done in the project below it. And there is its bug: it invalidates what hangs on the folder
// itself, and forgets what inherits from it, until Mend is called.
class Writers {
 public:
  struct Options {
    Family family = kPricing;
    std::string database;  // libpq connection string
    std::shared_ptr<grpc::Channel> channel;
    double rate = 1;  // Writes a second, to begin with.
    uint64_t seed = 1;
  };

  Writers(Options options, const base::Clock* clock, support::History* history);
  ~Writers() { Stop(); }

  // Writes a second from now on.
  void SetRate(double rate) { rate_ = rate; }
  // From now on nested changes invalidate what they change; what had been forgotten until now is invalidated first.
  void Mend();
  bool mended() const { return mended_; }
  // Returns when no write is under way. Idempotent.
  void Stop();

  uint64_t writes() const { return writes_; }
  // Nested changes whose invalidation was forgotten.
  uint64_t forgotten() const { return forgotten_; }
  // Writes or invalidations that failed, and were tried again.
  uint64_t failures() const { return failures_; }

 private:
  class Session;
  struct Change;

  void Run();
  void Invalidate(const std::string& tenant, const std::vector<std::string>& tags);

  const Options options_;
  const base::Clock* const clock_;
  support::History* const history_;
  std::unique_ptr<shadowline::v1::CacheService::Stub> stub_;
  base::Random random_;
  std::atomic<bool> stopping_{false};
  std::atomic<double> rate_;
  std::atomic<bool> mend_{false};
  std::atomic<bool> mended_{false};
  std::atomic<uint64_t> writes_{0};
  std::atomic<uint64_t> forgotten_{0};
  std::atomic<uint64_t> failures_{0};
  std::thread thread_;
};

}  // namespace shadowline::demo

#endif  // SHADOWLINE_TESTS_DEMO_APPLICATION_H_
