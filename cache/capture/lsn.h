// A position in PostgreSQL's log, and its text: `16/B374D848`.
//
// Threads: pure.
#ifndef SHADOWLINE_CACHE_CAPTURE_LSN_H_
#define SHADOWLINE_CACHE_CAPTURE_LSN_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace shadowline::cache {

using Lsn = uint64_t;

std::optional<Lsn> ParseLsn(absl::string_view text);
std::string FormatLsn(Lsn lsn);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CAPTURE_LSN_H_
