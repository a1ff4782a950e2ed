// What is kept of a divergence beside its redacted form: the parameters of the read, so that it can be repeated, and
// its values where the endpoint's policy keeps them. Encrypted, for the divergence that it belongs to alone, until it
// expires.
//
// A seal is AES-256-GCM under a key made (HMAC-SHA-256) of the operator's key, the tenant and the divergence's id, all
// of which it is bound to:
//
//   layout  1 byte, 1
//   key     4 bytes, that tell one key of the operator from another
//   nonce   12 bytes, made of what is sealed: other contents never meet under one nonce, and no randomness is needed
//   text    as long as what was sealed
//   tag     16 bytes
//
// Threads: immutable.
#ifndef SHADOWLINE_DIFF_EVIDENCE_SEAL_H_
#define SHADOWLINE_DIFF_EVIDENCE_SEAL_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace shadowline::diff {

struct SealedContents {
  struct Parameter {
    std::string name;
    std::string type;  // As the catalog calls it.
    bool is_null = false;
    std::string value;  // As it was bound.
  };
  std::vector<Parameter> parameters;
  // From here on only where values may be kept. Both sides of each difference, in the order of Divergence::differences.
  std::vector<std::pair<std::string, std::string>> values;
  std::vector<std::pair<std::string, std::string>> tags;  // As evidence names them, and as they are.
  std::string key;                                        // Of the application, where it fills its cache itself.
};

class Sealer {
 public:
  static constexpr size_t kLeastKeyBytes = 32;

  // The first key seals; each opens what it has sealed. At least one, each of kLeastKeyBytes or more.
  explicit Sealer(std::vector<std::string> keys) : keys_(std::move(keys)) {}

  std::string Seal(const SealedContents& contents, absl::string_view tenant, absl::string_view id) const;
  // kFailedPrecondition: sealed under a key that is not among these. kDataLoss: it was changed, or belongs elsewhere.
  absl::StatusOr<SealedContents> Open(absl::string_view seal, absl::string_view tenant, absl::string_view id) const;

 private:
  std::vector<std::string> keys_;
};

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_EVIDENCE_SEAL_H_
