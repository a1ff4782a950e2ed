#include "flags/flag.h"

namespace shadowline::flags {

absl::string_view ModeName(Mode mode) {
  switch (mode) {
    case Mode::kDatabase:
      return "DATABASE";
    case Mode::kShadow:
      return "SHADOW";
    case Mode::kCache:
      return "CACHE";
  }
  return "DATABASE";
}

Mode ParseMode(absl::string_view name) {
  if (name == "CACHE") return Mode::kCache;
  if (name == "SHADOW") return Mode::kShadow;
  return Mode::kDatabase;
}

}  // namespace shadowline::flags
