// The three hashes that the product uses, each for one purpose.
#ifndef SHADOWLINE_BASE_HASH_H_
#define SHADOWLINE_BASE_HASH_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace shadowline::base {

// XXH3-64. For checksums, etags and tables. An attacker can find collisions.
uint64_t Hash64(absl::string_view bytes, uint64_t seed = 0);

// The first 128 bits of SHA-256, 16 raw bytes. For identities that a caller must not be able to forge: keys, receipts.
std::string Digest128(absl::string_view bytes);

// HMAC-SHA-256 cut to 64 bits, 16 lower-case hexadecimal digits: equal values can be recognised, and without the secret
// nothing else can be learned. For redaction.
std::string KeyedDigest(absl::string_view secret, absl::string_view bytes);

// A stable draw: where `bytes` falls in [0, 1'000'000) under `salt`. A share of p ppm holds those below p, so larger shares
// contain smaller ones.
uint32_t DrawPpm(absl::string_view salt, absl::string_view bytes);

}  // namespace shadowline::base

#endif  // SHADOWLINE_BASE_HASH_H_
