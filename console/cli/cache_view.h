// What the cache holds for one read, as text. Pure.
//
//   a value that would be an answer
//
//   key      sl:acme:pricing/quote:...
//   loaded   3 s ago, by fill 6f9619ff8b86
//   ...
//
//   TAG         FENCE   OF THE VALUE  INVALIDATED  WAITS FOR
//   account:42  stands  yes           12 s ago     -
#ifndef SHADOWLINE_CONSOLE_CLI_CACHE_VIEW_H_
#define SHADOWLINE_CONSOLE_CLI_CACHE_VIEW_H_

#include <string>

#include "console/cli/table.h"
#include "shadowline/v1/cache.pb.h"

namespace shadowline::console {

std::string InspectionText(const v1::InspectResponse& inspection, const Style& style);

}  // namespace shadowline::console

#endif  // SHADOWLINE_CONSOLE_CLI_CACHE_VIEW_H_
