// The journal turns decisions into receipts, and receipts back into decisions. The JSON is canonical (sorted members,
// integers only, times in Unix microseconds), so that a receipt that went through jsonb still has its digest.
//
// Also the document format of a rollout, which shares its parts.
//
// Pure. Every time that goes in must have whole microseconds.
#ifndef SHADOWLINE_ROLLOUT_JOURNAL_JOURNAL_H_
#define SHADOWLINE_ROLLOUT_JOURNAL_JOURNAL_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "rollout/machine/state.h"
#include "rollout/state_store.h"

namespace shadowline::rollout {

Receipt MakeReceipt(std::string id, uint64_t leader_epoch, const TargetInput& input, const TargetDecision& decision);

// Decides once more from the receipt's inputs. Returns the decision where it is the one that the receipt holds, bit for
// bit. kDataLoss: the receipt is damaged, or its digest is another. kFailedPrecondition: this program decides
// otherwise; the message has both decisions.
absl::StatusOr<TargetDecision> Replay(const Receipt& receipt);

std::string EncodeRollout(const Rollout& rollout);
// `version` is not part of the document. kDataLoss: it cannot be read.
absl::StatusOr<Rollout> DecodeRollout(absl::string_view document);

}  // namespace shadowline::rollout

#endif  // SHADOWLINE_ROLLOUT_JOURNAL_JOURNAL_H_
