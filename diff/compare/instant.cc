#include "diff/compare/instant.h"

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"
#include "absl/time/civil_time.h"

namespace shadowline::diff {
namespace {

// Takes between `least` and `most` digits off the front.
bool TakeNumber(absl::string_view* text, size_t least, size_t most, int64_t* number) {
  size_t length = 0;
  *number = 0;
  while (length < most && length < text->size() && absl::ascii_isdigit(static_cast<unsigned char>((*text)[length]))) {
    *number = *number * 10 + ((*text)[length++] - '0');
  }
  text->remove_prefix(length);
  return length >= least;
}

// Takes Z, +hh, +hhmm, +hh:mm or +hh:mm:ss; what follows is left.
bool TakeOffset(absl::string_view* text, int64_t* seconds) {
  *seconds = 0;
  if (absl::ConsumePrefix(text, "Z") || absl::ConsumePrefix(text, "z")) return true;
  const bool west = absl::ConsumePrefix(text, "-");
  if (!west && !absl::ConsumePrefix(text, "+")) return false;
  int64_t hours = 0, minutes = 0, rest = 0;
  if (!TakeNumber(text, 2, 2, &hours)) return false;
  const bool colon = absl::ConsumePrefix(text, ":");
  if (!TakeNumber(text, colon ? 2 : 0, 2, &minutes)) return false;
  if (absl::ConsumePrefix(text, ":") && !TakeNumber(text, 2, 2, &rest)) return false;
  if (hours > 23 || minutes > 59 || rest > 59) return false;
  *seconds = (west ? -1 : 1) * (hours * 3600 + minutes * 60 + rest);
  return true;
}

}  // namespace

std::optional<Instant> Instant::Parse(absl::string_view text) {
  Instant instant;
  if (text == "infinity" || text == "-infinity") {
    instant.infinite = text[0] == '-' ? -1 : 1;
    return instant;
  }
  const bool before_christ = absl::ConsumeSuffix(&text, " BC");
  int64_t year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  if (!TakeNumber(&text, 4, 6, &year) || !absl::ConsumePrefix(&text, "-")) return std::nullopt;
  if (!TakeNumber(&text, 2, 2, &month) || !absl::ConsumePrefix(&text, "-")) return std::nullopt;
  if (!TakeNumber(&text, 2, 2, &day)) return std::nullopt;
  int64_t offset = 0;
  if (text.empty()) {
    instant.has_offset = true;
  } else {
    if (!absl::ConsumePrefix(&text, "T") && !absl::ConsumePrefix(&text, "t") && !absl::ConsumePrefix(&text, " ")) {
      return std::nullopt;
    }
    if (!TakeNumber(&text, 2, 2, &hour) || !absl::ConsumePrefix(&text, ":")) return std::nullopt;
    if (!TakeNumber(&text, 2, 2, &minute) || !absl::ConsumePrefix(&text, ":")) return std::nullopt;
    if (!TakeNumber(&text, 2, 2, &second)) return std::nullopt;
    if (hour > 23 || minute > 59 || second > 60) return std::nullopt;
    if (absl::ConsumePrefix(&text, ".")) {
      const absl::string_view digits = text;
      int64_t fraction = 0;
      if (!TakeNumber(&text, 1, 9, &fraction)) return std::nullopt;
      instant.fraction = std::string(digits.substr(0, digits.size() - text.size()));
      instant.fraction.erase(instant.fraction.find_last_not_of('0') + 1);
    }
    if (!text.empty()) {
      if (!TakeOffset(&text, &offset) || !text.empty()) return std::nullopt;
      instant.has_offset = true;
    }
  }
  if (before_christ) year = 1 - year;
  const absl::CivilDay civil(year, month, day);
  if (civil.month() != month || civil.day() != day) return std::nullopt;
  instant.seconds = (civil - absl::CivilDay(1970)) * 86400 + hour * 3600 + minute * 60 + second - offset;
  return instant;
}

std::optional<absl::Time> Instant::ToTime() const {
  if (!has_offset || infinite != 0) return std::nullopt;
  int64_t nanos = 0;
  for (size_t i = 0; i < 9; ++i) nanos = nanos * 10 + (i < fraction.size() ? fraction[i] - '0' : 0);
  return absl::FromUnixSeconds(seconds) + absl::Nanoseconds(nanos);
}

}  // namespace shadowline::diff
