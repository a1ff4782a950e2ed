#include "cache/capture/lsn.h"

#include <charconv>

#include "absl/strings/str_format.h"

namespace shadowline::cache {
namespace {

std::optional<uint32_t> Half(absl::string_view text) {
  uint32_t half = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), half, 16);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return half;
}

}  // namespace

std::optional<Lsn> ParseLsn(absl::string_view text) {
  const size_t slash = text.find('/');
  if (slash == absl::string_view::npos) return std::nullopt;
  const std::optional<uint32_t> high = Half(text.substr(0, slash));
  const std::optional<uint32_t> low = Half(text.substr(slash + 1));
  if (!high.has_value() || !low.has_value()) return std::nullopt;
  return Lsn{*high} << 32 | *low;
}

std::string FormatLsn(Lsn lsn) { return absl::StrFormat("%X/%X", lsn >> 32, lsn & 0xffffffff); }

}  // namespace shadowline::cache
