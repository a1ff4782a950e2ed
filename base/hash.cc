// OpenSSL 3 looks an algorithm up under a lock in every one-shot call; its older form of SHA-256 does not.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/hash.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <xxhash.h>

#include "absl/strings/escaping.h"

namespace shadowline::base {
namespace {

const unsigned char* Bytes(absl::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

}  // namespace

uint64_t Hash64(absl::string_view bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

std::string Digest128(absl::string_view bytes) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256_CTX context;
  SHA256_Init(&context);
  SHA256_Update(&context, bytes.data(), bytes.size());
  SHA256_Final(digest, &context);
  return std::string(reinterpret_cast<char*>(digest), 16);
}

std::string KeyedDigest(absl::string_view secret, absl::string_view bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()), Bytes(bytes), bytes.size(), digest, &size);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<char*>(digest), 8));
}

uint32_t DrawPpm(absl::string_view salt, absl::string_view bytes) {
  const uint64_t hash = Hash64(bytes, Hash64(salt));
  return static_cast<uint32_t>((static_cast<unsigned __int128>(hash) * 1'000'000) >> 64);
}

}  // namespace shadowline::base
