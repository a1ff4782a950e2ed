// What evidence looks like in a spool and in a seal: structs are written with their length, field by field, numbers
// little-endian. Fields are only ever added at the end of a struct, so that what an older or a newer program wrote can
// be read; a field that is not there has its default.
//
// Threads: pure.
#ifndef SHADOWLINE_DIFF_EVIDENCE_RECORD_H_
#define SHADOWLINE_DIFF_EVIDENCE_RECORD_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "diff/evidence/evidence.h"
#include "diff/evidence/seal.h"

namespace shadowline::diff {

std::string EncodeDivergence(const Divergence& divergence);
std::string EncodeFlush(const Flush& flush);
std::string EncodeSealed(const SealedContents& contents);

// kDataLoss: cut short, or not what was encoded.
absl::StatusOr<Divergence> DecodeDivergence(absl::string_view record);
absl::StatusOr<Flush> DecodeFlush(absl::string_view record);
absl::StatusOr<SealedContents> DecodeSealed(absl::string_view record);

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_EVIDENCE_RECORD_H_
