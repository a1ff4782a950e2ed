// Between the messages of the contract and the types of the rooms. Pure; knows no gRPC.
//
// Times become Unix microseconds; one that is not known (InfinitePast) becomes 0. What comes from outside is checked
// here: kInvalidArgument names the field, what is wrong and what was expected.
#ifndef SHADOWLINE_SERVER_RPC_CONVERT_H_
#define SHADOWLINE_SERVER_RPC_CONVERT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "diff/evidence/evidence.h"
#include "diff/evidence/evidence_reader.h"
#include "flags/flag.h"
#include "rollout/commands.h"
#include "shadowline/v1/catalog.pb.h"
#include "shadowline/v1/divergence.pb.h"
#include "shadowline/v1/flags.pb.h"
#include "shadowline/v1/rollout.pb.h"

namespace shadowline::server {

inline constexpr size_t kMaxNameBytes = 128;  // tenant, family, rollout, who, fingerprint, id
inline constexpr size_t kMaxReasonBytes = 1024;
inline constexpr int kMaxCohorts = 64;
inline constexpr int kMaxCohortTenants = 10'000;
inline constexpr int kMaxRampSteps = 16;

// A text that a caller sent: at most `longest` bytes without control characters, and not empty if `required`. (That it
// is UTF-8 was checked when the message was parsed.)
absl::Status CheckText(absl::string_view field, absl::string_view text, size_t longest, bool required);

int64_t ToMicros(absl::Time time);

v1::Mode ToProto(flags::Mode mode);
v1::Flag ToProto(const std::string& tenant, const std::string& family, const flags::Flag& flag);

v1::Policy ToProto(const rollout::Policy& policy);
// `policy` has every default filled in already (cache::EffectivePolicy).
absl::StatusOr<rollout::Policy> FromProto(const v1::Policy& policy);

// Checks names, that each cohort has tenants or a share, and that no tenant is named twice.
absl::StatusOr<std::vector<rollout::Cohort>> FromProto(const google::protobuf::RepeatedPtrField<v1::Cohort>& cohorts);

v1::RolloutState ToProto(rollout::RolloutState state);
v1::TargetState ToProto(rollout::TargetState state);
v1::Rollout ToProto(const rollout::RolloutView& rollout);
// A watch ends after it.
bool IsFinal(v1::RolloutState state);

v1::Divergence ToProto(const diff::Divergence& divergence);
v1::DivergenceGroup ToProto(const diff::DivergenceGroup& group);
v1::Ledger ToProto(const diff::LedgerTotals& totals);
v1::Noise ToProto(const diff::Noise& noise);
v1::TargetReport ToReport(const std::string& family, const rollout::TargetView& target);
v1::Flip ToProto(const rollout::Flip& flip);

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_RPC_CONVERT_H_
