#include "diff/evidence/seal.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cassert>
#include <memory>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "diff/evidence/record.h"

namespace shadowline::diff {
namespace {

constexpr char kLayout = 1;
constexpr size_t kKeyIdBytes = 4;
constexpr size_t kNonceBytes = 12;
constexpr size_t kTagBytes = 16;
constexpr size_t kHeadBytes = 1 + kKeyIdBytes + kNonceBytes;
constexpr absl::string_view kNul("\0", 1);

const unsigned char* Bytes(absl::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }
unsigned char* Bytes(std::string* text, size_t at) { return reinterpret_cast<unsigned char*>(text->data()) + at; }

std::string Hmac(absl::string_view key, absl::string_view text) {
  std::string digest(EVP_MAX_MD_SIZE, '\0');
  unsigned int size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), Bytes(text), text.size(), Bytes(&digest, 0), &size);
  digest.resize(size);
  return digest;
}

// Of one use for one divergence. Neither tenant nor id can run into what is beside it: each says how long it is.
std::string Derived(absl::string_view key, absl::string_view use, absl::string_view tenant, absl::string_view id) {
  return Hmac(key, absl::StrCat("shadowline seal ", use, kNul, tenant.size(), ":", tenant, id.size(), ":", id));
}

std::string KeyId(absl::string_view key) { return Hmac(key, "shadowline seal key id").substr(0, kKeyIdBytes); }

// What a seal is bound to beside its text.
std::string Context(absl::string_view head, absl::string_view tenant, absl::string_view id) {
  return absl::StrCat(head, tenant.size(), ":", tenant, id.size(), ":", id);
}

using Cipher = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

Cipher NewCipher() { return Cipher(EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free); }

}  // namespace

std::string Sealer::Seal(const SealedContents& contents, absl::string_view tenant, absl::string_view id) const {
  const std::string& key = keys_.front();
  const std::string plain = EncodeSealed(contents);
  const std::string cipher_key = Derived(key, "text", tenant, id);
  const std::string nonce = Hmac(Derived(key, "nonce", tenant, id), plain).substr(0, kNonceBytes);
  std::string seal = absl::StrCat(absl::string_view(&kLayout, 1), KeyId(key), nonce);
  const std::string context = Context(seal, tenant, id);
  seal.resize(kHeadBytes + plain.size() + kTagBytes);

  const Cipher cipher = NewCipher();
  int size = 0;
  const bool sealed =
      EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, Bytes(cipher_key), Bytes(nonce)) == 1 &&
      EVP_EncryptUpdate(cipher.get(), nullptr, &size, Bytes(context), static_cast<int>(context.size())) == 1 &&
      EVP_EncryptUpdate(cipher.get(), Bytes(&seal, kHeadBytes), &size, Bytes(plain), static_cast<int>(plain.size())) ==
          1 &&
      EVP_EncryptFinal_ex(cipher.get(), Bytes(&seal, kHeadBytes + plain.size()), &size) == 1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, Bytes(&seal, kHeadBytes + plain.size())) == 1;
  // Nothing that it is given makes it fail; and half a seal must not be kept.
  return sealed ? seal : std::string();
}

absl::StatusOr<SealedContents> Sealer::Open(absl::string_view seal, absl::string_view tenant,
                                            absl::string_view id) const {
  if (seal.size() < kHeadBytes + kTagBytes || seal[0] != kLayout) {
    return absl::DataLossError("what is kept encrypted was not written by this program");
  }
  const absl::string_view key_id = seal.substr(1, kKeyIdBytes);
  const std::string* key = nullptr;
  for (const std::string& one : keys_) {
    if (KeyId(one) == key_id) key = &one;
  }
  if (key == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("it was encrypted under key ", absl::BytesToHexString(key_id),
                                                      ", which is not among evidence.key and evidence.old_keys"));
  }
  const absl::string_view head = seal.substr(0, kHeadBytes);
  const absl::string_view text = seal.substr(kHeadBytes, seal.size() - kHeadBytes - kTagBytes);
  std::string tag(seal.substr(seal.size() - kTagBytes));
  const std::string cipher_key = Derived(*key, "text", tenant, id);
  const std::string context = Context(head, tenant, id);
  std::string plain(text.size() + 1, '\0');  // Never without a byte to point at.

  const Cipher cipher = NewCipher();
  int size = 0;
  const bool opened =
      EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, Bytes(cipher_key),
                         Bytes(head.substr(1 + kKeyIdBytes))) == 1 &&
      EVP_DecryptUpdate(cipher.get(), nullptr, &size, Bytes(context), static_cast<int>(context.size())) == 1 &&
      EVP_DecryptUpdate(cipher.get(), Bytes(&plain, 0), &size, Bytes(text), static_cast<int>(text.size())) == 1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, tag.data()) == 1 &&
      EVP_DecryptFinal_ex(cipher.get(), Bytes(&plain, text.size()), &size) == 1;
  if (!opened) return absl::DataLossError("what is kept encrypted was changed, or belongs to another divergence");
  plain.resize(text.size());
  return DecodeSealed(plain);
}

}  // namespace shadowline::diff
