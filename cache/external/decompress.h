// Decompresses what an application has compressed. Nobody vouches for these bytes: the result is bounded whatever they
// claim, and so is the memory on the way.
//
// Pure.
#ifndef SHADOWLINE_CACHE_EXTERNAL_DECOMPRESS_H_
#define SHADOWLINE_CACHE_EXTERNAL_DECOMPRESS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace shadowline::cache {

// One gzip member (RFC 1952), or one zstd frame with a window of at most 8 MiB, and nothing after it.
// kDataLoss: it is not that, is cut short, its checksum does not hold, or it becomes larger than `max_bytes`.
absl::StatusOr<std::string> Gunzip(absl::string_view bytes, size_t max_bytes);
absl::StatusOr<std::string> Unzstd(absl::string_view bytes, size_t max_bytes);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_EXTERNAL_DECOMPRESS_H_
