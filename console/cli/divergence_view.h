// Divergences as text: the groups, the single ones, and one told in full: what differs, since when, why that is proof,
// what was and was not invalidated, and what to do next. Pure.
#ifndef SHADOWLINE_CONSOLE_CLI_DIVERGENCE_VIEW_H_
#define SHADOWLINE_CONSOLE_CLI_DIVERGENCE_VIEW_H_

#include <string>

#include "console/cli/table.h"
#include "shadowline/v1/divergence.pb.h"

namespace shadowline::console {

// "missed_invalidation" as "missed invalidation".
std::string CauseWords(const std::string& cause);

std::string GroupTable(const google::protobuf::RepeatedPtrField<v1::DivergenceGroup>& groups, const Style& style);
// Each group in full: what differs, since when, which keys, how many reads, the cause, what to do.
std::string GroupStory(const v1::ListDivergenceGroupsResponse& groups, const Style& style);
std::string DivergenceTable(const v1::ListDivergencesResponse& divergences, const Style& style);
std::string ReplayText(const v1::ReplayDivergenceResponse& replay, const Style& style);
std::string DivergenceStory(const v1::Divergence& divergence, const Style& style);

}  // namespace shadowline::console

#endif  // SHADOWLINE_CONSOLE_CLI_DIVERGENCE_VIEW_H_
