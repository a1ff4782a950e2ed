// Keeper decides in which form evidence is kept (docs/evidence.md): keyed digests in the place of values, and what may
// be kept beside them sealed.
//
// Digests are keyed per tenant, so that equal values of one tenant can be recognised and those of two cannot be
// compared.
//
// Threads: immutable.
#ifndef SHADOWLINE_SERVER_READ_KEEPER_H_
#define SHADOWLINE_SERVER_READ_KEEPER_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cache/origin/control.h"
#include "diff/evidence/evidence.h"
#include "diff/evidence/seal.h"
#include "server/read/comparer.h"

namespace shadowline::server {

class Keeper {
 public:
  // Without a sealer nothing is sealed.
  Keeper(std::string redaction_secret, std::optional<diff::Sealer> sealer)
      : redaction_secret_(std::move(redaction_secret)), sealer_(std::move(sealer)) {}

  // Of the digests that stand for a tenant's values.
  std::string SecretOf(absl::string_view tenant) const;

  // The read's tags with digests in the place of parameters, `account:#3f9c00c2a1b2c3d4`, in the order of RenderTags.
  std::vector<std::string> RedactedTags(const cache::Query& query) const;

  // Seals what a divergence of this read may keep, from its `id` and `confirmed_at`: the parameters, and where the
  // endpoint shows values those of `difference`, the tags and the application's key. Of an observed endpoint nothing
  // unless it shows values, since nobody here can make its read again; what was asked is its key then. Its query may be
  // without arguments.
  void Seal(const cache::Query& query, const Compared& difference, diff::Divergence* divergence) const;

  // Where both sides were reported as digests nothing else is kept, and the differences say that.
  static void MarkDigests(diff::Divergence* divergence);
  static bool IsOfDigests(const diff::Divergence& divergence);

  // kFailedPrecondition, with the remedy: nothing was sealed, it has expired, or it was sealed under another key.
  // kDataLoss: it was changed.
  absl::StatusOr<diff::SealedContents> Open(const diff::Divergence& divergence, absl::Time now) const;

  // Puts the values that were sealed in the place of their digests, as far as there are any and they can be had.
  void Reveal(absl::Time now, diff::Divergence* divergence) const;

 private:
  const std::string redaction_secret_;
  const std::optional<diff::Sealer> sealer_;
};

// As the catalog calls it.
absl::string_view TypeName(cache::ParameterType type);

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_KEEPER_H_
