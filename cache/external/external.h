// External caches: the application fills Redis itself. Where it keeps the answer to a read, and what the bytes there
// say. Nothing about them is believed: whoever cannot read them goes to the database.
//
// Pure.
#ifndef SHADOWLINE_CACHE_EXTERNAL_EXTERNAL_H_
#define SHADOWLINE_CACHE_EXTERNAL_EXTERNAL_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cache/catalog/catalog.h"
#include "cache/envelope/envelope.h"

namespace shadowline::cache {

// Of a value, as it is stored and as it is once decompressed.
inline constexpr size_t kExternalBytesMax = 8 << 20;

// The application's key for a read. It has its own format, in which nothing is escaped: nullopt where a value is NULL,
// or has one of the key's delimiters in it, because another read could then have the same key. REQUIRES:
// endpoint.external.
std::optional<std::string> ExternalKey(const Endpoint& endpoint, absl::string_view tenant,
                                       const std::vector<std::optional<std::string>>& arguments);

struct ExternalAnswer {
  // Its loaded_at is InfinitePast, since nobody knows it, and its snapshot empty.
  CachedAnswer answer;
  // What tells this value from an equal one that was written earlier or later: a digest of what it says and of its
  // version, where one is declared.
  std::string fill;
};

// kDataLoss: these bytes are no answer of this endpoint. The message says why, and never what they are. REQUIRES:
// endpoint.external.
absl::StatusOr<ExternalAnswer> DecodeExternal(const Endpoint& endpoint, absl::string_view bytes);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_EXTERNAL_EXTERNAL_H_
