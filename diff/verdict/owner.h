// What an answer says of itself at a declared place, and whether that is somebody else's name.
//
// Pure. Threads: values.
#ifndef SHADOWLINE_DIFF_VERDICT_OWNER_H_
#define SHADOWLINE_DIFF_VERDICT_OWNER_H_

#include <set>
#include <string>

#include "absl/strings/string_view.h"

namespace shadowline::diff {

// What `body`, a JSON text, holds at `pointer`: an RFC 6901 pointer in which a segment `*` is every item or member.
// Texts as they are meant, other scalars as they are written. Empty: it holds none there, or is no JSON.
std::set<std::string> TextsAt(absl::string_view body, absl::string_view pointer);

// Does `candidate` name an owner who is not `tenant`, and whom the `control` does not name either?
bool NamesAnother(absl::string_view candidate, absl::string_view control, absl::string_view pointer,
                  absl::string_view tenant);

}  // namespace shadowline::diff

#endif  // SHADOWLINE_DIFF_VERDICT_OWNER_H_
