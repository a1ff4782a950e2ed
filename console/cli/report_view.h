// The report of a family, flags and the catalog as text. Pure.
#ifndef SHADOWLINE_CONSOLE_CLI_REPORT_VIEW_H_
#define SHADOWLINE_CONSOLE_CLI_REPORT_VIEW_H_

#include <string>

#include "console/cli/table.h"
#include "shadowline/v1/catalog.pb.h"
#include "shadowline/v1/divergence.pb.h"
#include "shadowline/v1/flags.pb.h"
#include "shadowline/v1/read.pb.h"

namespace shadowline::console {

// Sampled minus everything it came to: 0 where the ledger balances.
int64_t Unaccounted(const v1::Ledger& ledger);

std::string ReportText(const v1::Report& report, const Style& style);
std::string FlagTable(const v1::ListFlagsResponse& flags, const Style& style);
std::string FlagText(const v1::Flag& flag, const Style& style);

// `+`, `-` and `~` lines in their colours.
std::string ChangeLines(const v1::ApplyCatalogResponse& response, const Style& style);

// Where an answer came from, in one line: `cache, 1.2 s old: the cache had it (flag revision 12, etag ...)`.
std::string ReadOrigin(const v1::ReadResponse& response);

}  // namespace shadowline::console

#endif  // SHADOWLINE_CONSOLE_CLI_REPORT_VIEW_H_
