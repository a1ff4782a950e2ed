#include "cache/redis/slots.h"

#include <array>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace shadowline::cache {
namespace {

// CRC16 as Redis Cluster has it: polynomial 0x1021, nothing reflected, from zero.
constexpr std::array<uint16_t, 256> CrcTable() {
  std::array<uint16_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte << 8;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 0x8000) != 0 ? crc << 1 ^ 0x1021 : crc << 1;
    table[byte] = static_cast<uint16_t>(crc);
  }
  return table;
}
constexpr std::array<uint16_t, 256> kCrcTable = CrcTable();

// A node that does not know its own host, or may not say it, is where it was asked.
absl::StatusOr<RedisAddress> NodeAddress(absl::string_view host, absl::string_view port, const RedisAddress& asked) {
  return RedisAddress::Of(host.empty() || host == "?" ? asked.host() : host, port);
}

}  // namespace

uint32_t SlotOf(absl::string_view key) {
  if (const size_t open = key.find('{'); open != absl::string_view::npos) {
    const size_t close = key.find('}', open + 1);
    if (close != absl::string_view::npos && close > open + 1) key = key.substr(open + 1, close - open - 1);
  }
  uint16_t crc = 0;
  for (const char c : key)
    crc = static_cast<uint16_t>(crc << 8 ^ kCrcTable[(crc >> 8 ^ static_cast<uint8_t>(c)) & 255]);
  return crc % kSlots;
}

absl::StatusOr<std::vector<SlotRange>> ParseSlots(const Reply& reply, const RedisAddress& asked) {
  const absl::Status refused = absl::InternalError("CLUSTER SLOTS was not answered as expected");
  if (reply.type != Reply::Type::kArray) return refused;
  std::vector<SlotRange> ranges;
  for (const Reply& range : reply.elements) {
    if (range.elements.size() < 3 || range.elements[2].elements.size() < 2) return refused;
    const int64_t first = range.elements[0].integer;
    const int64_t last = range.elements[1].integer;
    if (first < 0 || first > last || last >= kSlots) return refused;
    const std::vector<Reply>& master = range.elements[2].elements;
    absl::StatusOr<RedisAddress> address = NodeAddress(master[0].text, std::to_string(master[1].integer), asked);
    if (!address.ok()) return refused;
    ranges.push_back({static_cast<uint32_t>(first), static_cast<uint32_t>(last), *std::move(address)});
  }
  return ranges;
}

std::optional<Redirect> ParseRedirect(absl::string_view error, const RedisAddress& asked) {
  const std::vector<absl::string_view> words = absl::StrSplit(error, ' ');
  if (words.size() != 3 || (words[0] != "MOVED" && words[0] != "ASK")) return std::nullopt;
  Redirect redirect;
  redirect.ask = words[0] == "ASK";
  const size_t colon = words[2].rfind(':');
  if (!absl::SimpleAtoi(words[1], &redirect.slot) || redirect.slot >= kSlots || colon == absl::string_view::npos) {
    return std::nullopt;
  }
  absl::StatusOr<RedisAddress> to = NodeAddress(words[2].substr(0, colon), words[2].substr(colon + 1), asked);
  if (!to.ok()) return std::nullopt;
  redirect.to = *std::move(to);
  return redirect;
}

}  // namespace shadowline::cache
