#include "cache/key/text.h"

#include <cstdint>
#include <cstring>

namespace shadowline::cache {
namespace {

// Bytes of the well-formed sequence (Unicode, table 3-7) that `at` begins, 0 where it is none.
size_t SequenceLength(const unsigned char* at, size_t left) {
  const auto continues = [&](size_t index, unsigned char low = 0x80, unsigned char high = 0xbf) {
    return index < left && at[index] >= low && at[index] <= high;
  };
  const unsigned char lead = at[0];
  if (lead >= 0x01 && lead <= 0x7f) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return continues(1) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef) {
    // No overlong forms, no surrogates.
    const bool second = continues(1, lead == 0xe0 ? 0xa0 : 0x80, lead == 0xed ? 0x9f : 0xbf);
    return second && continues(2) ? 3 : 0;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    const bool second = continues(1, lead == 0xf0 ? 0x90 : 0x80, lead == 0xf4 ? 0x8f : 0xbf);
    return second && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

bool IsText(absl::string_view bytes) {
  const auto* at = reinterpret_cast<const unsigned char*>(bytes.data());
  size_t left = bytes.size();
  while (left > 0) {
    // Eight bytes at once where all are ASCII and none is NUL.
    uint64_t word;
    if (left >= sizeof(word)) {
      std::memcpy(&word, at, sizeof(word));
      constexpr uint64_t kHigh = 0x8080808080808080;
      if (((word | (word - 0x0101010101010101)) & kHigh) == 0) {
        at += sizeof(word);
        left -= sizeof(word);
        continue;
      }
    }
    const size_t length = SequenceLength(at, left);
    if (length == 0) return false;
    at += length;
    left -= length;
  }
  return true;
}

}  // namespace shadowline::cache
