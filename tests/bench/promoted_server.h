// A shadowlined over one table of 1 KiB answers, with families whose single tenant stands where a benchmark wants it.
#ifndef SHADOWLINE_TESTS_BENCH_PROMOTED_SERVER_H_
#define SHADOWLINE_TESTS_BENCH_PROMOTED_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/private_servers.h"
#include "tests/support/shadowlined.h"

namespace shadowline::bench {

inline constexpr size_t kBodyBytes = 1024;
inline constexpr char kReadMethod[] = "/shadowline.v1.ReadService/Read";

class PromotedServer {
 public:
  struct Family {
    std::string name;
    bool cache = true;        // Promoted to 100 %; false: left in SHADOW.
    bool database = false;    // Left without a rollout: DATABASE.
    bool near = false;        // Served from near caches.
    uint32_t sample_ppm = 0;  // In CACHE; in SHADOW every read is sampled.
  };

  // Aborts with the reason where a step fails.
  PromotedServer(const std::vector<Family>& families, std::vector<std::string> wrapper);

  support::PrivatePostgres& postgres() { return postgres_; }
  support::PrivateRedis& redis() { return redis_; }
  const std::string& database() const { return database_; }
  support::Shadowlined& server() { return *server_; }
  // A serialized ReadRequest for row `id` through `family`.
  static std::string Request(const std::string& family, int64_t id);

 private:
  support::PrivatePostgres postgres_;
  support::PrivateRedis redis_;
  std::string database_;
  std::unique_ptr<support::Shadowlined> server_;
};

}  // namespace shadowline::bench

#endif  // SHADOWLINE_TESTS_BENCH_PROMOTED_SERVER_H_
