// What may be bound as a text: valid UTF-8 without NUL, which is what PostgreSQL accepts.
#ifndef SHADOWLINE_CACHE_KEY_TEXT_H_
#define SHADOWLINE_CACHE_KEY_TEXT_H_

#include "absl/strings/string_view.h"

namespace shadowline::cache {

bool IsText(absl::string_view bytes);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_KEY_TEXT_H_
