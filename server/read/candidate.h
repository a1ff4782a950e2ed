// Candidate: what the cache says about a read, wherever it keeps that. A managed endpoint's is under Shadowline's own
// key, behind fences, in an envelope; an external endpoint's is under the application's key, as the application wrote
// it, and is only ever read. Readers and verifier look at both in the same two steps.
//
// Threads: as the store's.
#ifndef SHADOWLINE_SERVER_READ_CANDIDATE_H_
#define SHADOWLINE_SERVER_READ_CANDIDATE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cache/catalog/catalog.h"
#include "cache/envelope/envelope.h"
#include "cache/store.h"

namespace shadowline::server {

using Arguments = std::vector<std::optional<std::string>>;

// May the cache be asked for this read at all? An external endpoint's may not where the application's key could be
// another read's, too (cache/external/external.h).
bool HasCandidate(const cache::Endpoint& endpoint, absl::string_view tenant, const Arguments& arguments);

// Of a managed endpoint: the keys of its fences. An external one has none.
std::vector<std::string> CandidateFences(const cache::Endpoint& endpoint, absl::string_view tenant,
                                         const Arguments& arguments);

// `key` is the read's CacheKey. REQUIRES: HasCandidate. Statuses: those of the store.
void ReadCandidate(cache::Store* store, const cache::Endpoint& endpoint, absl::string_view tenant,
                   const Arguments& arguments, std::string key, std::vector<std::string> fence_keys,
                   absl::AnyInvocable<void(absl::StatusOr<cache::Found>)> done);

// The answer in what was found; the id of its fill is in found->slot.fill then, also where the application filled.
// kNotFound: there is none. kDataLoss: what is there is none of this read's. Neither is more than a miss.
absl::StatusOr<cache::CachedAnswer> DecodeCandidate(const cache::Endpoint& endpoint, const std::string& key,
                                                    cache::Found* found);

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_CANDIDATE_H_
