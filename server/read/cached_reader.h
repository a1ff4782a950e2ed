// CachedReader serves reads by the catalog and the flags of this moment.
//
//   route      the caller's answer                           verification, of sampled reads
//   DATABASE   the control's                                 none
//   SHADOW     the control's                                 the candidate is read at the same time
//   CACHE      the candidate's; on a miss the filler's;      the control is read afterwards, by the verifier
//              the control's where the cache is away
//
// A value that is read often is loaded again in the background shortly before its TTL ends (early_refresh.h); no caller
// waits for that. Of an endpoint that is declared so, it is served for a while after its TTL, while one reader loads it
// again; never where its fences do not stand.
//
// The cache of an external endpoint is the application's (server/read/candidate.h): a miss there is answered by the
// control, and nothing is written.
//
// A caller whose answer comes from the database never waits for the cache. An answer from the cache is given only if,
// at that very moment, the flag lease holds and the flags still send this key to the cache; otherwise the database is
// asked.
//
// Whether a read is sampled is decided by one draw and the share of what it is (route.h): before the two sides are read
// where the database answers, and where the cache does, when its answer is here and before it is given. The answer is
// the same either way.
//
// An endpoint that is declared near is looked up in this lane's near cache first, in the very turn in which the flags
// were looked at; what the candidate answers is put there. Both where NearTerms allow it.
//
// What is served of a captured endpoint is certified where it can be (cache/certify/certifier.h): counted, and told to
// the verifier with a sampled read. No answer is refused for it.
//
// Ownership: borrows everything in Deps; each must outlive the executor's last task.
// Threads:   belongs to one executor, on which it is called, `done` is called (inside the call where a request is
//            refused or a near cache answers), and which stores, filler and near cache belong to. Control, Board,
//            CatalogHolder, NearTerms and Verifier are shared.
// Errors:    those of ReadService.Read.
// Cost:      a hit that is not sampled takes no lock.
// Limits:    shadow_reads_max, refreshes_max.
#ifndef SHADOWLINE_SERVER_READ_CACHED_READER_H_
#define SHADOWLINE_SERVER_READ_CACHED_READER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/metrics.h"
#include "base/random.h"
#include "cache/capture/watermark.h"
#include "cache/certify/certifier.h"
#include "cache/envelope/envelope.h"
#include "cache/fill/filler.h"
#include "cache/near/near_cache.h"
#include "cache/near/near_terms.h"
#include "cache/origin/control.h"
#include "cache/store.h"
#include "cache/warm/hot_keys.h"
#include "flags/board.h"
#include "server/read/catalog_holder.h"
#include "server/read/early_refresh.h"
#include "server/read/lately_read.h"
#include "server/read/reader.h"
#include "server/read/route.h"
#include "server/read/verifier.h"

namespace shadowline::server {

class CachedReader final : public Reader {
 public:
  struct Options {
    // Sampled reads in SHADOW that wait for either side. Further ones are not verified, and counted as shed.
    size_t shadow_reads_max = 1024;
    // Values that are loaded again at once. Further ones are refused, and counted.
    size_t refreshes_max = 16;
  };

  struct Deps {
    const flags::Board* board = nullptr;
    const CatalogHolder* catalog = nullptr;
    cache::Store* store = nullptr;
    cache::Control* control = nullptr;
    cache::Filler* filler = nullptr;
    cache::Filler* refresher = nullptr;  // Over the same store, and a control that callers come before. Null: none.
    Verifier* verifier = nullptr;
    cache::HotKeys* hot_keys = nullptr;  // Of this lane. Null: none are remembered.
    const cache::Watermark* watermark = nullptr;
    const cache::Certifier* certifier = nullptr;  // Null: nothing is certified.
    // Null: there is none. The store's reads are tracked for it.
    cache::NearCache* near = nullptr;
    cache::Store* near_store = nullptr;
    const cache::NearTerms* near_terms = nullptr;
    base::Executor* executor = nullptr;
    const base::Clock* clock = nullptr;
    base::Random* random = nullptr;
    base::Metrics* metrics = nullptr;
  };

  CachedReader(Options options, Deps deps);
  ~CachedReader() override;

  absl::StatusOr<std::unique_ptr<Prepared>> Prepare(const shadowline::v1::ReadRequest& request) override;
  void Start(std::unique_ptr<Prepared> read, shadowline::v1::ReadResponse* response, absl::Duration timeout,
             Done done) override;

 private:
  struct Op;
  struct ShadowRead;
  struct Counters;
  class NearSide;
  using OpPtr = std::unique_ptr<Op>;

  // Fills in everything about `op` but what Start brings; on error no query was made.
  absl::Status LookUp(Op* op);
  // May `op` be answered from the cache now? If not, its route says where it goes instead.
  bool StillFromCache(Op* op);

  // `shadow`, where there is one, gets a copy of the answer. False: the deadline has passed, and nothing was asked.
  bool ReadDatabase(OpPtr op, std::shared_ptr<ShadowRead> shadow);
  void ReadShadow(OpPtr op);
  void CompleteShadow(ShadowRead* shadow);
  void ReadCache(OpPtr op);
  void ReadWithoutCache(OpPtr op);
  void ServeNear(OpPtr op, const cache::NearCache::Value& value);
  void KeepNear(const Op& op, cache::NearCache::Ticket ticket, const cache::Found& found,
                const cache::CachedAnswer& answer);
  void ServeCached(OpPtr op, std::string fill, cache::CachedAnswer answer);
  // Now that it is known what answers: is this read sampled?
  void Resample(Op* op, const cache::CachedAnswer& answer, cache::Certificate certificate, absl::Time now);
  void Fill(OpPtr op, cache::Fences fences);
  // Is it for this read to have the `answer` that it was given loaded again?
  bool RefreshIsDue(const Op& op, const std::string& fill, const cache::CachedAnswer& answer, absl::Time now);
  // In the place of `fill`, which is `answer`.
  void Refresh(cache::Miss miss, std::string fill, const cache::CachedAnswer& answer, absl::Time now);

  // What the read's answer hangs on; empty: nobody asks.
  cache::TagHashes HashesFor(const cache::Endpoint& endpoint, absl::string_view tenant,
                             const std::vector<std::string>& fence_keys) const;
  // Counts it.
  cache::Certificate Certify(const cache::CompiledCatalog& catalog, const cache::Endpoint& endpoint,
                             std::span<const uint32_t> hashes, absl::string_view snapshot);

  // The answer in what was found, with its fill's id; nothing where it is none. Counts what it was.
  std::optional<cache::CachedAnswer> Decode(const cache::Endpoint& endpoint, const std::string& key,
                                            cache::Found* found);
  void Reply(OpPtr op, shadowline::v1::Source source, bool found, std::string body, absl::Duration age, uint64_t etag);
  // The response's body is there already.
  void Finish(OpPtr op, shadowline::v1::Source source, bool found, absl::Duration age, uint64_t etag);
  void Fail(OpPtr op, absl::Status status);
  void CountError(const absl::Status& status);

  const Options options_;
  const Deps deps_;
  const std::unique_ptr<Counters> counters_;
  const std::unique_ptr<NearSide> near_side_;
  LocalCopy<CatalogHolder> catalog_;
  LocalCopy<flags::Board> flags_;
  size_t shadow_reads_ = 0;
  EarlyRefresh early_refresh_;
  LatelyRead lately_read_;
  size_t refreshes_ = 0;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_CACHED_READER_H_
