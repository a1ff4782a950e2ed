// Digests of JSON values: the same for values that are equal, and for no others that anybody will ever meet. Used by
// json.cc alone, which computes them while it reads; json.h says what may be made of them.
//
// A digest is two 64-bit hashes that share no key, so two values that differ have the same digest with a probability of
// about 2^-128. That holds for values somebody chose, too: long texts are hashed by XXH3-128 under a secret of 192
// bytes, all else by folded multiplication under keys, and all of it is drawn anew by every process and shown to
// nobody. (Which is why no digest may be stored, sent or printed.)
//
// Threads: immutable.
#ifndef SHADOWLINE_DIFF_COMPARE_DIGEST_H_
#define SHADOWLINE_DIFF_COMPARE_DIGEST_H_

// Most texts are short: the call would cost more than the hash.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>

#include "absl/strings/string_view.h"
#include "base/random.h"
#include "diff/compare/decimal.h"
#include "diff/compare/json.h"

namespace shadowline::diff {

class Digester {
 public:
  static const Digester& OfThisProcess() {
    static const Digester digester;
    return digester;
  }

  // What lies between `text` and `limit` can be read, too.
  Digest Text(absl::string_view text, const char* limit) const {
    if (text.size() > kShort) {
      const XXH128_hash_t hash = XXH3_128bits_withSecret(text.data(), text.size(), secret_.data(), sizeof(secret_));
      return {hash.low64, hash.high64};
    }
    uint64_t words[2] = {0, 0};
    if (limit - text.data() >= static_cast<ptrdiff_t>(kShort)) {
      std::memcpy(words, text.data(), kShort);  // Of a size that is known, which takes no call and no branch.
      words[0] &= kMasks[text.size()][0];
      words[1] &= kMasks[text.size()][1];
    } else {
      std::memcpy(words, text.data(), text.size());
    }
    const std::array<uint64_t, 4>& keys = text_keys_[text.size()];
    return {Fold(words[0] ^ keys[0], words[1] ^ keys[1]), Fold(words[0] ^ keys[2], words[1] ^ keys[3])};
  }
  Digest Text(absl::string_view text) const { return Text(text, text.data() + text.size()); }
  Digest String(Digest text) const { return Mix(text, string_); }
  Digest Null() const { return Mix({}, null_); }
  Digest Boolean(bool value) const { return Mix({value, value}, boolean_); }

  // The number is +-mantissa x 10^exponent.
  Digest Number(bool negative, uint64_t mantissa, int64_t exponent) const {
    if (mantissa == 0) return Mix({}, number_);
    while (mantissa % 10 == 0) {
      mantissa /= 10;
      ++exponent;
    }
    const uint64_t scale = static_cast<uint64_t>(exponent) * 2 + negative;
    return Mix({mantissa, mantissa}, {scale, scale});
  }
  // The same for the same number; for those that do not fit the other one.
  Digest Number(const Decimal& number) const {
    constexpr int64_t kFarthest = std::numeric_limits<int64_t>::max() / 4;
    if (number.digits.size() <= kMaxMantissaDigits && number.far_exponent.empty() && number.exponent < kFarthest &&
        number.exponent > -kFarthest) {
      uint64_t mantissa = 0;
      for (const char digit : number.digits) mantissa = mantissa * 10 + static_cast<uint64_t>(digit - '0');
      return Number(number.negative, mantissa,
                    static_cast<int64_t>(number.exponent) - static_cast<int64_t>(number.digits.size()));
    }
    std::string scale(sizeof(number.exponent) + 1, number.negative ? '-' : '+');
    std::memcpy(scale.data(), &number.exponent, sizeof(number.exponent));
    return Mix(Mix(Text(number.digits), Text(scale + number.far_exponent)), number_);
  }
  static constexpr size_t kMaxMantissaDigits = 19;  // Of any digits; more may not fit 64 bits.

  // Containers: start with nothing, add each child, finish.
  void AddItem(Digest item, Digest* items) const { *items = Mix(*items, item); }
  // In any order.
  void AddMember(Digest name, Digest value, Digest* members) const {
    const Digest member = Mix(name, value);
    members->low += member.low;
    members->high += member.high;
  }
  Digest Array(Digest items, uint64_t size) const { return Mix(Mix(items, {size, size}), array_); }
  Digest Object(Digest members, uint64_t size) const { return Mix(Mix(members, {size, size}), object_); }

 private:
  static constexpr size_t kShort = 16;
  // Of so many bytes.
  static constexpr std::array<std::array<uint64_t, 2>, kShort + 1> kMasks = [] {
    std::array<std::array<uint64_t, 2>, kShort + 1> masks{};
    for (size_t size = 0; size <= kShort; ++size) {
      for (size_t i = 0; i < size; ++i) {
        const size_t shift = std::endian::native == std::endian::little ? i % 8 * 8 : 56 - i % 8 * 8;
        masks[size][i / 8] |= uint64_t{0xff} << shift;
      }
    }
    return masks;
  }();

  Digester() {
    for (uint64_t& word : secret_) word = base::SystemSeed();
    for (auto& keys : text_keys_) {
      for (uint64_t& word : keys) word = base::SystemSeed();
    }
    for (uint64_t& word : keys_) word = base::SystemSeed();
    for (Digest* tag : {&null_, &boolean_, &number_, &string_, &array_, &object_}) {
      *tag = {base::SystemSeed(), base::SystemSeed()};
    }
  }

  static uint64_t Fold(uint64_t a, uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
  // Of a and b, in this order.
  Digest Mix(Digest a, Digest b) const {
    return {Fold(a.low ^ keys_[0], b.low ^ keys_[1]), Fold(a.high ^ keys_[2], b.high ^ keys_[3])};
  }

  std::array<uint64_t, 24> secret_;                            // XXH3 wants at least 136 bytes.
  std::array<std::array<uint64_t, 4>, kShort + 1> text_keys_;  // By size.
  std::array<uint64_t, 4> keys_;
  Digest null_, boolean_, number_, string_, array_, object_;  // Keep values of two types apart.
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_COMPARE_DIGEST_H_
