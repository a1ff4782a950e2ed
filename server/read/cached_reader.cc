#include "server/read/cached_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "cache/capture/lsn.h"
#include "cache/key/key.h"
#include "server/read/candidate.h"
#include "server/read/request_names.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;
using cache::Found;

// Longest life in a near cache. An answer ends there when its value does in Redis, but that is known by the filling
// replica's clock alone: whatever that says, an answer outlives its value by no more than this.
constexpr absl::Duration kNearTtlMost = absl::Seconds(5);
// An answer that was loaded after a write is a recent one for so many freshness bounds.
constexpr int kRecentBounds = 10;
constexpr char kTooLate[] = "the call's deadline passed before the database was asked";

// Until when an answer may be served: the end of its TTL or, where the endpoint says so, its freshness bound later.
absl::Time ServableUntil(const cache::Endpoint& endpoint, const cache::CachedAnswer& answer) {
  return answer.expires_at + (endpoint.stale_while_revalidate ? endpoint.freshness : absl::ZeroDuration());
}

// What there is to know of an answer that makes it worth a second look.
diff::Strata StrataOf(const cache::Endpoint& endpoint, const cache::CachedAnswer& answer,
                      cache::Certificate certificate, absl::Time now) {
  diff::Strata strata;
  strata.Add(diff::Stratum::kUncertified, endpoint.captured && certificate != cache::Certificate::kCertified);
  strata.Add(diff::Stratum::kNegative, !answer.found);
  if (answer.loaded_at == absl::InfinitePast()) return strata;  // An application's.
  const absl::Duration age = now - answer.loaded_at;
  strata.Add(diff::Stratum::kRecent, answer.after_fence && age <= kRecentBounds * endpoint.freshness);
  strata.Add(diff::Stratum::kOld, age >= (answer.expires_at - answer.loaded_at) / 4 * 3);
  return strata;
}

// Nobody knows when an application loaded what it has cached.
absl::Duration AgeOf(const cache::CachedAnswer& answer, absl::Time now) {
  if (answer.loaded_at == absl::InfinitePast()) return absl::Microseconds(-1);
  return std::max(now - answer.loaded_at, absl::ZeroDuration());
}

}  // namespace

// One read under way. The request lives until `done` is called.
struct CachedReader::Op final : Prepared {
  const v1::ReadRequest* request;
  v1::ReadResponse* response = nullptr;
  Done done;
  absl::Duration deadline;  // Clock::Steady()

  std::shared_ptr<const cache::CompiledCatalog> catalog;
  const cache::Endpoint* endpoint = nullptr;
  std::vector<std::optional<std::string>> arguments;
  std::string key;                      // Empty where the cache is not touched.
  std::vector<std::string> fence_keys;  // Where a cache of Shadowline's own is read.
  cache::TagHashes hashes;              // Where it is certified.
  bool near = false;                    // The near cache may answer, or keep the answer.

  // Of the target's flag, as of `flags_version`.
  uint64_t flags_version = 0;
  uint64_t flags_revision = 0;
  uint64_t lives = 0;  // flags::Lives::newest
  uint64_t epoch = 0;
  uint64_t window = 0;
  flags::Mode mode = flags::Mode::kDatabase;
  Draws draws;
  Sampling sampling;
  diff::Inclusion inclusion;  // With what probability it is sampled, as far as is known yet.
  Route route;

  absl::Duration asked_at;           // When the candidate was asked,
  absl::Duration candidate_latency;  // and how long it took.

  // Reads under different revisions are never equal, whatever a default has become between them.
  std::string Question() const override {
    std::string question = absl::StrCat(catalog->revision(), "|", endpoint->name, "|", request->tenant().size(), ":",
                                        request->tenant(), "|", request->consistency(), "|", request->at_least());
    for (const auto& argument : arguments) {
      argument ? absl::StrAppend(&question, "|", argument->size(), ":", *argument)
               : absl::StrAppend(&question, "|null");
    }
    return question;
  }

  cache::Query AsQuery() const { return {catalog, endpoint, request->tenant(), arguments}; }
  // For the load that the caller waits for.
  cache::Query AsLoad() const { return {catalog, endpoint, request->tenant(), arguments, gathering, place}; }
  Drawn AsDrawn() const { return {AsQuery(), key, window, mode == flags::Mode::kCache, inclusion}; }
};

// A sampled read whose two sides are under way; handed over when both are here. The caller is not part of it.
struct CachedReader::ShadowRead {
  Drawn drawn;
  absl::Duration asked_at;
  absl::Duration candidate_at;  // When the candidate's answer was here.
  std::optional<absl::StatusOr<Found>> found;
  std::optional<Truth> truth;
};

struct CachedReader::Counters {
  explicit Counters(base::Metrics* metrics) {
    const auto read = [metrics](const char* source, v1::ReadReason reason) {
      return metrics->AddCounter("shadowline_reads_total", "Reads that were answered, by source and reason.",
                                 {{"source", source}, {"reason", v1::ReadReason_Name(reason).substr(12)}});
    };
    for (int reason = v1::READ_REASON_MODE_DATABASE; reason < v1::ReadReason_ARRAYSIZE; ++reason) {
      const auto named = static_cast<v1::ReadReason>(reason);
      if (named != v1::READ_REASON_CACHE_HIT && named != v1::READ_REASON_CACHE_STALE)
        reads[v1::SOURCE_DATABASE][reason] = read("database", named);
    }
    for (v1::ReadReason reason : {v1::READ_REASON_CACHE_HIT, v1::READ_REASON_CACHE_STALE, v1::READ_REASON_CACHE_MISS}) {
      reads[v1::SOURCE_CACHE][reason] = read("cache", reason);
    }
    reads[v1::SOURCE_NEAR_CACHE][v1::READ_REASON_CACHE_HIT] = read("near_cache", v1::READ_REASON_CACHE_HIT);
    for (int code = 1; code < static_cast<int>(errors.size()); ++code) {
      errors[code] = metrics->AddCounter("shadowline_read_errors_total", "Reads that failed, by status code.",
                                         {{"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}});
    }
    const auto candidate = [metrics](const char* outcome) {
      return metrics->AddCounter("shadowline_candidate_reads_total", "Reads of the cache, by what was found.",
                                 {{"outcome", outcome}});
    };
    hits = candidate("hit");
    misses = candidate("miss");
    garbage = candidate("garbage");
    unkeyed = candidate("unkeyed");
    unavailable = candidate("error");
    const auto refresh = [metrics](const char* outcome) {
      return metrics->AddCounter("shadowline_refreshes_total", "Values that were loaded again before they were missed.",
                                 {{"outcome", outcome}});
    };
    refreshed = refresh("done");
    refreshed_elsewhere = refresh("elsewhere");
    refresh_failed = refresh("failed");
    refresh_refused = refresh("refused");
    for (const auto certificate :
         {cache::Certificate::kUnknown, cache::Certificate::kOutdated, cache::Certificate::kCertified}) {
      certified[static_cast<size_t>(certificate)] = metrics->AddCounter(
          "shadowline_certified_reads_total",
          "Answers of the cache, of captured endpoints, by what change capture knew when they were served or compared.",
          {{"outcome", std::string(cache::CertificateName(certificate))}});
    }
  }

  std::array<std::array<base::Counter*, v1::ReadReason_ARRAYSIZE>, v1::Source_ARRAYSIZE> reads{};
  std::array<base::Counter*, 17> errors{};
  base::Counter* hits;
  base::Counter* misses;
  base::Counter* garbage;
  base::Counter* unkeyed;
  base::Counter* unavailable;
  base::Counter* refreshed;
  base::Counter* refreshed_elsewhere;
  base::Counter* refresh_failed;
  base::Counter* refresh_refused;
  std::array<base::Counter*, 3> certified{};
};

// This lane's near cache, for the verifier's thread.
class CachedReader::NearSide final : public NearSource {
 public:
  explicit NearSide(const Deps* deps) : deps_(deps) {}

  void StillServes(std::string key, std::string fill, base::Executor* reply_on,
                   absl::AnyInvocable<void(bool)> done) override {
    deps_->executor->Post(
        [deps = deps_, key = std::move(key), fill = std::move(fill), reply_on, done = std::move(done)]() mutable {
          const cache::NearCache::Value* value = deps->near->Peek(key, deps->clock->Steady());
          reply_on->Post([serves = value != nullptr && value->fill_id == fill, done = std::move(done)]() mutable {
            done(serves);
          });
        });
  }
  void Drop(std::string key) override {
    deps_->executor->Post([deps = deps_, key = std::move(key)] { deps->near->Invalidated(key); });
  }

 private:
  const Deps* const deps_;
};

CachedReader::CachedReader(Options options, Deps deps)
    : options_(options),
      deps_(deps),
      counters_(std::make_unique<Counters>(deps.metrics)),
      near_side_(std::make_unique<NearSide>(&deps_)),
      catalog_(deps.catalog),
      flags_(deps.board) {}

CachedReader::~CachedReader() = default;

absl::StatusOr<std::unique_ptr<Reader::Prepared>> CachedReader::Prepare(const v1::ReadRequest& request) {
  auto op = std::make_unique<Op>();
  op->request = &request;
  if (absl::Status status = LookUp(op.get()); !status.ok()) {
    CountError(status);
    return status;
  }
  return op;
}

void CachedReader::Start(std::unique_ptr<Prepared> read, v1::ReadResponse* response, absl::Duration timeout,
                         Done done) {
  OpPtr op(static_cast<Op*>(read.release()));
  op->response = response;
  op->done = std::move(done);
  op->deadline = deps_.clock->Steady() + timeout;
  if (op->route.from_cache) return ReadCache(std::move(op));
  if (op->route.verify) return ReadShadow(std::move(op));
  ReadDatabase(std::move(op), nullptr);
}

absl::Status CachedReader::LookUp(Op* op) {
  const v1::ReadRequest& request = *op->request;
  if (absl::Status names = CheckNames(request); !names.ok()) return names;
  op->catalog = catalog_.Refresh();
  if (op->catalog == nullptr) {
    return absl::UnavailableError("this replica has no catalog yet; apply one, or retry with backoff");
  }
  const bool leased = deps_.board->Leased();
  const flags::Snapshot* flags = flags_.Refresh().get();
  if (flags == nullptr) return absl::UnavailableError("this replica has no flags yet; retry with backoff");
  op->endpoint = op->catalog->Find(request.endpoint());
  if (op->endpoint == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("endpoint ", request.endpoint(), ": not in catalog revision ", op->catalog->revision()));
  }
  if (op->endpoint->observed) {
    return absl::FailedPreconditionError(absl::StrCat(
        "endpoint ", request.endpoint(), ": the application reads this one itself; use Decide and Observe"));
  }
  if (!flags->HasTenant(request.tenant())) {
    return absl::NotFoundError(absl::StrCat("tenant ", request.tenant(), ": not among the catalog's tenants"));
  }
  absl::StatusOr<std::vector<std::optional<std::string>>> arguments = cache::CanonicalArguments(*op->endpoint, request);
  if (!arguments.ok()) return std::move(arguments).status();
  op->arguments = *std::move(arguments);

  const flags::Flag& flag = *flags->Find(request.tenant(), op->endpoint->family);
  op->flags_version = flags_.version();
  op->flags_revision = flags->revision();
  op->lives = flags->lives().newest;
  op->epoch = flag.epoch;
  op->window = flag.window;
  op->mode = flag.mode;
  if (flag.mode != flags::Mode::kDatabase) {
    op->key = cache::CacheKey(*op->endpoint, request.tenant(), flag.epoch, op->arguments);
    op->draws = DrawsOf(op->key, request.request_id(), deps_.random);
    if (op->endpoint->warm > 0 && deps_.hot_keys != nullptr) {
      deps_.hot_keys->Saw(op->key, *op->endpoint, request.tenant(), op->arguments);
    }
  }
  op->sampling = SamplingOf(flag, op->draws);
  diff::Strata strata;
  if (op->sampling.uniform_ppm > 0 && op->sampling.shares.cold_ppm > 0 && !op->key.empty()) {
    strata.Add(diff::Stratum::kCold, !lately_read_.Again(base::Hash64(op->key), deps_.clock->Steady()));
  }
  op->inclusion = InclusionOf(op->sampling, strata, deps_.verifier->boost_ppm());
  op->route = ChooseRoute(flag, leased, request.consistency(), op->draws, op->inclusion.ppm);
  if (op->endpoint->captured && flag.mode != flags::Mode::kDatabase &&
      !deps_.watermark->Covers(deps_.clock->Steady())) {
    // Nobody may have invalidated what has changed. It is not judged either: it would not be served.
    if (op->route.from_cache) op->route.reason = v1::READ_REASON_CACHE_UNAVAILABLE;
    op->route = {.reason = op->route.reason};
  }
  if ((op->route.from_cache || op->route.verify) && !HasCandidate(*op->endpoint, request.tenant(), op->arguments)) {
    counters_->unkeyed->Add();
    op->route = {.reason = op->route.from_cache ? v1::READ_REASON_CACHE_MISS : op->route.reason};
  }
  if (op->route.from_cache && op->endpoint->external.has_value() && op->endpoint->external->partial_key) {
    // What is under the key may be another's. It is verified in SHADOW, and never served.
    op->route = {.verify = op->route.verify, .reason = v1::READ_REASON_CACHE_UNAVAILABLE};
  }
  op->near = op->endpoint->near && deps_.near != nullptr && flags->catalog_revision() == op->catalog->revision();
  if (!request.at_least().empty()) {
    const std::optional<cache::Lsn> position = cache::ParseLsn(request.at_least());
    if (!position.has_value()) {
      return absl::InvalidArgumentError(
          "at_least: no log position; expected pg_current_wal_insert_lsn()'s text, as 16/B374D848");
    }
    // Which writes an application's own cache has come to, nobody can say.
    if (op->route.from_cache && (op->endpoint->external.has_value() || !deps_.watermark->Passed(*position))) {
      op->route = {.verify = op->route.verify, .reason = v1::READ_REASON_CONSISTENCY};
    }
  }
  return absl::OkStatus();
}

bool CachedReader::StillFromCache(Op* op) {
  // The lease before the flags: then they are at least as new as the lease that vouches for them.
  const bool leased = deps_.board->Leased();
  if (leased && deps_.board->version() == op->flags_version) return true;
  const flags::Snapshot& flags = *flags_.Refresh();
  const flags::Flag& flag = *flags.Find(op->request->tenant(), op->endpoint->family);
  const Route now = ChooseRoute(flag, leased, op->request->consistency(), op->draws);
  // A new epoch dropped what was found under the old one, and another Redis may have taken the place of that which
  // answered.
  if (now.from_cache && flag.epoch == op->epoch && flags.lives().newest == op->lives) return true;
  op->route = {.reason = now.from_cache ? v1::READ_REASON_CACHE_MISS : now.reason};
  op->flags_revision = flags.revision();
  return false;
}

void CachedReader::Resample(Op* op, const cache::CachedAnswer& answer, cache::Certificate certificate, absl::Time now) {
  if (op->sampling.uniform_ppm == 0) return;
  op->inclusion.strata.Add(StrataOf(*op->endpoint, answer, certificate, now));
  op->inclusion = InclusionOf(op->sampling, op->inclusion.strata, deps_.verifier->boost_ppm());
  op->route.verify = op->sampling.Takes(op->inclusion);
}

// ---- From the database ----

bool CachedReader::ReadDatabase(OpPtr op, std::shared_ptr<ShadowRead> shadow) {
  const absl::Duration asked_at = deps_.clock->Steady();
  const absl::Duration remaining = op->deadline - asked_at;
  if (remaining <= absl::ZeroDuration()) {
    Fail(std::move(op), absl::DeadlineExceededError(kTooLate));
    return false;
  }
  cache::Query query = op->AsLoad();
  deps_.control->Load(std::move(query), remaining, deps_.executor,
                      [this, asked_at, op = std::move(op),
                       shadow = std::move(shadow)](absl::StatusOr<cache::ControlAnswer> answer) mutable {
                        if (shadow != nullptr) shadow->truth.emplace(Truth{answer, asked_at, deps_.clock->Steady()});
                        if (answer.ok()) {
                          const uint64_t etag = cache::Etag(answer->found, answer->body);
                          Reply(std::move(op), v1::SOURCE_DATABASE, answer->found, std::move(answer->body),
                                absl::ZeroDuration(), etag);
                        } else {
                          Fail(std::move(op), std::move(answer).status());
                        }
                        if (shadow != nullptr) CompleteShadow(shadow.get());
                      });
  return true;
}

// The caller is answered as by ReadDatabase. The candidate is read beside it; the side that comes last hands both over.
void CachedReader::ReadShadow(OpPtr op) {
  const bool reachable = deps_.store->Reachable();
  if (!reachable || shadow_reads_ >= options_.shadow_reads_max) {
    const Drawn drawn = op->AsDrawn();
    if (!ReadDatabase(std::move(op), nullptr)) return;
    if (reachable) return deps_.verifier->Refused(drawn);
    counters_->unavailable->Add();
    return deps_.verifier->Failed(drawn);
  }
  auto shadow = std::make_shared<ShadowRead>();
  shadow->drawn = op->AsDrawn();
  if (!ReadDatabase(std::move(op), shadow)) return;
  ++shadow_reads_;
  shadow->asked_at = deps_.clock->Steady();
  const cache::Query& query = shadow->drawn.query;
  ReadCandidate(deps_.store, *query.endpoint, query.tenant, query.arguments, shadow->drawn.key,
                CandidateFences(*query.endpoint, query.tenant, query.arguments),
                [this, shadow](absl::StatusOr<Found> found) {
                  shadow->candidate_at = deps_.clock->Steady();
                  shadow->found = std::move(found);
                  CompleteShadow(shadow.get());
                });
}

void CachedReader::CompleteShadow(ShadowRead* shadow) {
  if (!shadow->found.has_value() || !shadow->truth.has_value()) return;
  --shadow_reads_;
  absl::StatusOr<Found>& found = *shadow->found;
  const absl::Duration latency = shadow->candidate_at - shadow->asked_at;
  if (!found.ok()) {
    counters_->unavailable->Add();
    return deps_.verifier->Failed(shadow->drawn);
  }
  const cache::Endpoint& endpoint = *shadow->drawn.query.endpoint;
  std::optional<cache::CachedAnswer> answer = Decode(endpoint, shadow->drawn.key, &*found);
  if (!answer.has_value()) {
    return deps_.verifier->Missed(std::move(shadow->drawn), latency, /*fill=*/!endpoint.external.has_value());
  }
  const cache::Query& query = shadow->drawn.query;
  const cache::Certificate certificate =
      Certify(*query.catalog, endpoint,
              HashesFor(*query.endpoint, query.tenant, CandidateFences(endpoint, query.tenant, query.arguments)),
              answer->snapshot);
  // It was drawn by what was known before; what is known now is reported.
  shadow->drawn.inclusion.strata.Add(StrataOf(endpoint, *answer, certificate, deps_.clock->Now()));
  deps_.verifier->Submit({std::move(shadow->drawn), std::move(found->slot.fill), *std::move(answer), shadow->asked_at,
                          shadow->candidate_at, std::move(shadow->truth), nullptr, certificate},
                         latency);
}

// ---- From the cache ----

void CachedReader::ReadCache(OpPtr op) {
  op->asked_at = deps_.clock->Steady();
  cache::Store* store = deps_.store;
  cache::NearCache::Ticket ticket;
  // A Redis that the fleet does not use any more has nothing to say about what it was read from either.
  if (op->near) op->near = deps_.near_terms->MayServe(op->asked_at) && deps_.near_store->Reachable();
  if (op->near) {
    const cache::NearCache::Value* value = deps_.near->Lookup(op->key, op->asked_at);
    if (value != nullptr) return ServeNear(std::move(op), *value);
    op->near = deps_.near->tracking();
    ticket = deps_.near->Begin();
    if (op->near) store = deps_.near_store;
  }
  if (!store->Reachable()) return ReadWithoutCache(std::move(op));
  const Op& read = *op;
  op->fence_keys = CandidateFences(*read.endpoint, read.request->tenant(), read.arguments);
  op->hashes = HashesFor(*read.endpoint, read.request->tenant(), read.fence_keys);
  ReadCandidate(store, *read.endpoint, read.request->tenant(), read.arguments, read.key, read.fence_keys,
                [this, ticket, op = std::move(op)](absl::StatusOr<Found> found) mutable {
                  // Its answer may be what has it sampled.
                  op->candidate_latency = deps_.clock->Steady() - op->asked_at;
                  if (!found.ok()) return ReadWithoutCache(std::move(op));
                  std::optional<cache::CachedAnswer> answer = Decode(*op->endpoint, op->key, &*found);
                  if (!answer.has_value()) return Fill(std::move(op), std::move(found->fences));
                  if (op->near) KeepNear(*op, ticket, *found, *answer);
                  ServeCached(std::move(op), std::move(found->slot.fill), *std::move(answer));
                });
}

// The lease and the flags were looked at in this turn, so what they said still holds.
void CachedReader::ServeNear(OpPtr op, const cache::NearCache::Value& value) {
  const cache::CachedAnswer& answer = value.answer;
  const absl::Time wall = deps_.clock->Now();
  const absl::Duration age = std::max(wall - answer.loaded_at, absl::ZeroDuration());
  if (RefreshIsDue(*op, value.fill_id, answer, wall)) {
    Refresh({op->AsQuery(), op->key, cache::FenceKeys(*op->endpoint, op->request->tenant(), op->arguments), {}},
            value.fill_id, answer, wall);
  }
  const cache::Certificate certificate = Certify(*op->catalog, *op->endpoint, value.tag_hashes, answer.snapshot);
  Resample(op.get(), answer, certificate, wall);
  // Copied into the memory that the response has from the call before it.
  op->response->set_body(answer.body);
  if (!op->route.verify) return Finish(std::move(op), v1::SOURCE_NEAR_CACHE, answer.found, age, answer.etag);
  const absl::Duration now = deps_.clock->Steady();
  const absl::Duration latency = now - op->asked_at;
  Sample sample{op->AsDrawn(), value.fill_id, answer, op->asked_at, now, std::nullopt, near_side_.get(), certificate};
  Finish(std::move(op), v1::SOURCE_NEAR_CACHE, answer.found, age, answer.etag);
  deps_.verifier->Submit(std::move(sample), latency);
}

void CachedReader::KeepNear(const Op& op, cache::NearCache::Ticket ticket, const Found& found,
                            const cache::CachedAnswer& answer) {
  // What is an answer for the freshness bound alone is looked at each time.
  if (answer.loaded_at < found.reached_again_at) return;
  const absl::Duration ttl = std::min(answer.expires_at - deps_.clock->Now(), kNearTtlMost);
  if (ttl <= absl::ZeroDuration()) return;
  deps_.near->Insert(ticket, op.key, {answer, found.slot.fill, {op.hashes.begin(), op.hashes.end()}}, op.fence_keys,
                     deps_.clock->Steady() + ttl);
}

void CachedReader::ReadWithoutCache(OpPtr op) {
  counters_->unavailable->Add();
  if (op->route.verify) deps_.verifier->Failed(op->AsDrawn());
  op->route.reason = v1::READ_REASON_CACHE_UNAVAILABLE;
  ReadDatabase(std::move(op), nullptr);
}

void CachedReader::ServeCached(OpPtr op, std::string fill, cache::CachedAnswer answer) {
  if (!StillFromCache(op.get())) {
    ReadDatabase(std::move(op), nullptr);
    return;
  }
  const absl::Time now = deps_.clock->Now();
  const absl::Duration age = AgeOf(answer, now);
  if (cache::IsStale(answer, now)) op->route.reason = v1::READ_REASON_CACHE_STALE;
  if (RefreshIsDue(*op, fill, answer, now)) {
    Refresh({op->AsQuery(), op->key, op->fence_keys, {}}, fill, answer, now);
  }
  const cache::Certificate certificate = Certify(*op->catalog, *op->endpoint, op->hashes, answer.snapshot);
  Resample(op.get(), answer, certificate, now);
  if (!op->route.verify) {
    return Reply(std::move(op), v1::SOURCE_CACHE, answer.found, std::move(answer.body), age, answer.etag);
  }
  std::string body = answer.body;
  const uint64_t etag = answer.etag;
  const bool found = answer.found;
  const absl::Duration latency = op->candidate_latency;
  Sample sample{op->AsDrawn(),         std::move(fill), std::move(answer), op->asked_at,
                deps_.clock->Steady(), std::nullopt,    nullptr,           certificate};
  Reply(std::move(op), v1::SOURCE_CACHE, found, std::move(body), age, etag);
  deps_.verifier->Submit(std::move(sample), latency);
}

void CachedReader::Fill(OpPtr op, cache::Fences fences) {
  op->route.reason = v1::READ_REASON_CACHE_MISS;
  if (op->endpoint->external.has_value()) {  // To fill it is the application's.
    if (op->route.verify) deps_.verifier->Missed(op->AsDrawn(), op->candidate_latency, /*fill=*/false);
    ReadDatabase(std::move(op), nullptr);
    return;
  }
  const absl::Duration remaining = op->deadline - deps_.clock->Steady();
  if (remaining <= absl::ZeroDuration()) return Fail(std::move(op), absl::DeadlineExceededError(kTooLate));
  cache::Miss miss{op->AsLoad(), op->key, std::move(op->fence_keys), std::move(fences)};
  deps_.filler->Fill(std::move(miss), remaining,
                     [this, op = std::move(op)](absl::StatusOr<cache::Filled> filled) mutable {
                       if (filled.ok() && filled->from_store) {
                         const uint64_t etag = cache::Etag(filled->answer.found, filled->answer.body);
                         return ServeCached(std::move(op), std::move(filled->fill_id),
                                            {.found = filled->answer.found,
                                             .body = std::move(filled->answer.body),
                                             .loaded_at = filled->answer.started_at,
                                             .snapshot = std::move(filled->answer.snapshot),
                                             .after_fence = filled->after_fence,
                                             .etag = etag});
                       }
                       if (op->route.verify) {
                         deps_.verifier->Missed(op->AsDrawn(), op->candidate_latency, /*fill=*/false);
                       }
                       if (!filled.ok()) return Fail(std::move(op), std::move(filled).status());
                       const uint64_t etag = cache::Etag(filled->answer.found, filled->answer.body);
                       Reply(std::move(op), v1::SOURCE_DATABASE, filled->answer.found, std::move(filled->answer.body),
                             absl::ZeroDuration(), etag);
                     });
}

bool CachedReader::RefreshIsDue(const Op& op, const std::string& fill, const cache::CachedAnswer& answer,
                                absl::Time now) {
  if (deps_.refresher == nullptr || now >= ServableUntil(*op.endpoint, answer)) return false;
  const bool stale = cache::IsStale(answer, now);
  if (!stale && !(op.endpoint->refresh_early && EarlyRefresh::InTime(answer, now))) return false;
  if (!early_refresh_.Due(op.key, fill, stale, deps_.clock->Steady())) return false;
  if (refreshes_ < options_.refreshes_max) return true;
  counters_->refresh_refused->Add();
  return false;
}

void CachedReader::Refresh(cache::Miss miss, std::string fill, const cache::CachedAnswer& answer, absl::Time now) {
  ++refreshes_;
  std::string key = miss.key;
  // From then on callers load the value themselves, and would wait behind a refresh of it.
  const absl::Duration timeout = ServableUntil(*miss.query.endpoint, answer) - now;
  deps_.refresher->Refresh(
      std::move(miss), std::move(fill), timeout,
      [this, key = std::move(key), ttl = answer.expires_at - answer.loaded_at](absl::StatusOr<cache::Filled> filled) {
        --refreshes_;
        if (absl::IsAlreadyExists(filled.status())) return counters_->refreshed_elsewhere->Add();
        if (!filled.ok() || !filled->cached) return counters_->refresh_failed->Add();
        counters_->refreshed->Add();
        early_refresh_.Refreshed(key, ttl, deps_.clock->Steady());
      });
}

cache::TagHashes CachedReader::HashesFor(const cache::Endpoint& endpoint, absl::string_view tenant,
                                         const std::vector<std::string>& fence_keys) const {
  if (!endpoint.captured || deps_.certifier == nullptr) return {};
  return cache::HashesOf(endpoint, tenant, fence_keys);
}

cache::Certificate CachedReader::Certify(const cache::CompiledCatalog& catalog, const cache::Endpoint& endpoint,
                                         std::span<const uint32_t> hashes, absl::string_view snapshot) {
  if (hashes.empty()) return cache::Certificate::kUnknown;
  const cache::Certificate certificate = deps_.certifier->Check(cache::CaptureMapHash(catalog), hashes, snapshot,
                                                                deps_.clock->Steady(), endpoint.freshness);
  counters_->certified[static_cast<size_t>(certificate)]->Add();
  return certificate;
}

std::optional<cache::CachedAnswer> CachedReader::Decode(const cache::Endpoint& endpoint, const std::string& key,
                                                        Found* found) {
  absl::StatusOr<cache::CachedAnswer> answer = DecodeCandidate(endpoint, key, found);
  if (!answer.ok()) {
    (absl::IsNotFound(answer.status()) ? counters_->misses : counters_->garbage)->Add();
    return std::nullopt;
  }
  const absl::Time now = deps_.clock->Now();
  if ((answer->outlives_ttl && now >= ServableUntil(endpoint, *answer)) ||
      cache::MayBeOutdated(*found, answer->loaded_at, now, endpoint.freshness)) {
    counters_->misses->Add();
    return std::nullopt;
  }
  counters_->hits->Add();
  return *std::move(answer);
}

// ---- Answering ----

void CachedReader::Reply(OpPtr op, v1::Source source, bool found, std::string body, absl::Duration age, uint64_t etag) {
  op->response->set_body(std::move(body));
  Finish(std::move(op), source, found, age, etag);
}

void CachedReader::Finish(OpPtr op, v1::Source source, bool found, absl::Duration age, uint64_t etag) {
  v1::ReadResponse* response = op->response;
  response->set_found(found);
  response->set_source(source);
  response->set_reason(op->route.reason);
  response->set_age_us(absl::ToInt64Microseconds(age));
  response->set_etag(etag);
  response->set_flag_revision(op->flags_revision);
  counters_->reads[source][op->route.reason]->Add();
  op->done(absl::OkStatus());
}

void CachedReader::Fail(OpPtr op, absl::Status status) {
  CountError(status);
  op->done(std::move(status));
}

void CachedReader::CountError(const absl::Status& status) {
  const size_t code = static_cast<size_t>(status.raw_code());
  if (code < counters_->errors.size()) counters_->errors[code]->Add();
}

}  // namespace shadowline::server
