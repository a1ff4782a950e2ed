#include "console/cli/table.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace shadowline::console {
namespace {

constexpr absl::string_view kReset = "\x1b[0m";

absl::string_view Escape(Color color) {
  switch (color) {
    case Color::kPlain:
      return "";
    case Color::kDim:
      return "\x1b[2m";
    case Color::kBold:
      return "\x1b[1m";
    case Color::kRed:
      return "\x1b[31m";
    case Color::kGreen:
      return "\x1b[32m";
    case Color::kYellow:
      return "\x1b[33m";
    case Color::kCyan:
      return "\x1b[36m";
  }
  return "";
}

// Length of the well-formed UTF-8 sequence at the front of `text`; 0 where there is none.
size_t SequenceLength(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xC2 && lead < 0xE0   ? 2
                        : (lead & 0xF0) == 0xE0       ? 3
                        : lead >= 0xF0 && lead < 0xF5 ? 4
                                                      : 0;
  if (length == 0 || length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  if ((lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xED && byte(1) >= 0xA0) || (lead == 0xF0 && byte(1) < 0x90) ||
      (lead == 0xF4 && byte(1) >= 0x90)) {
    return 0;
  }
  return length;
}

// Length of the colour escape at the front of `text`; 0 where there is none.
size_t EscapeLength(absl::string_view text) {
  if (text.size() < 2 || text[0] != '\x1b' || text[1] != '[') return 0;
  const size_t end = text.find('m');
  return end == absl::string_view::npos ? 0 : end + 1;
}

bool IsWide(absl::string_view sequence) {
  if (sequence.size() < 3) return false;
  uint32_t code = static_cast<unsigned char>(sequence[0]) & (sequence.size() == 3 ? 0x0F : 0x07);
  for (size_t i = 1; i < sequence.size(); ++i) code = code << 6 | (static_cast<unsigned char>(sequence[i]) & 0x3F);
  return (code >= 0x1100 && code <= 0x115F) || (code >= 0x2E80 && code <= 0xA4CF) ||
         (code >= 0xAC00 && code <= 0xD7A3) || (code >= 0xF900 && code <= 0xFAFF) ||
         (code >= 0xFE30 && code <= 0xFE6F) || (code >= 0xFF00 && code <= 0xFF60) ||
         (code >= 0xFFE0 && code <= 0xFFE6) || (code >= 0x1F300 && code <= 0x1F9FF) ||
         (code >= 0x20000 && code <= 0x3FFFD);
}

// Calls `visit(piece, columns)` for each escape (0 columns) and each character.
template <typename Visit>
void ForEachPiece(absl::string_view text, Visit visit) {
  while (!text.empty()) {
    int columns = 0;
    size_t length = EscapeLength(text);
    if (length == 0) {
      length = std::max<size_t>(1, SequenceLength(text));
      columns = IsWide(text.substr(0, length)) ? 2 : 1;
    }
    visit(text.substr(0, length), columns);
    text.remove_prefix(length);
  }
}

std::string Decimal(double value, int digits) {
  std::string text = absl::StrFormat("%.*f", digits, value);
  if (text.find('.') != std::string::npos) {
    while (text.back() == '0') text.pop_back();
    if (text.back() == '.') text.pop_back();
  }
  return text;
}

}  // namespace

void Table::AddRow(std::vector<Cell> cells) {
  for (Cell& cell : cells) cell.text = Printable(cell.text);
  rows_.push_back(std::move(cells));
}

std::vector<std::string> Table::Lines(const Style& style) const {
  std::vector<int> widths;
  for (size_t column = 0; column < columns_.size(); ++column) {
    int width = DisplayWidth(columns_[column].name);
    for (const std::vector<Cell>& row : rows_) width = std::max(width, DisplayWidth(row[column].text));
    widths.push_back(width);
  }
  const auto line = [&](const auto& cell_at) {
    std::string text;
    int pending = 0;  // Blanks that are owed: none are written at the end of a line.
    for (size_t column = 0; column < columns_.size(); ++column) {
      const Cell cell = cell_at(column);
      const int padding = widths[column] - DisplayWidth(cell.text);
      if (columns_[column].align == Align::kRight) pending += padding;
      if (!cell.text.empty()) {
        absl::StrAppend(&text, std::string(pending, ' '), Paint(cell.text, cell.color, style));
        pending = 0;
      }
      if (columns_[column].align == Align::kLeft) pending += padding;
      pending += 2;
    }
    return Cut(text, style);
  };
  std::vector<std::string> lines;
  lines.push_back(line([&](size_t column) { return Cell(columns_[column].name, Color::kDim); }));
  for (const std::vector<Cell>& row : rows_) lines.push_back(line([&](size_t column) { return row[column]; }));
  return lines;
}

std::string Table::Render(const Style& style) const { return absl::StrCat(absl::StrJoin(Lines(style), "\n"), "\n"); }

std::string Paint(absl::string_view text, Color color, const Style& style) {
  if (!style.color || color == Color::kPlain || text.empty()) return std::string(text);
  return absl::StrCat(Escape(color), text, kReset);
}

std::string Printable(absl::string_view text) {
  std::string result;
  while (!text.empty()) {
    const size_t length = SequenceLength(text);
    const unsigned char lead = text[0];
    if (length == 0) {
      result += '?';
    } else if (lead < 0x20 || lead == 0x7F) {
      absl::StrAppendFormat(&result, "\\x%02x", lead);
    } else if (length == 2 && lead == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0) {
      absl::StrAppendFormat(&result, "\\x%02x", static_cast<unsigned char>(text[1]));  // C1 controls
    } else {
      absl::StrAppend(&result, text.substr(0, length));
    }
    text.remove_prefix(std::max<size_t>(1, length));
  }
  return result;
}

int DisplayWidth(absl::string_view text) {
  int width = 0;
  ForEachPiece(text, [&](absl::string_view, int columns) { width += columns; });
  return width;
}

std::string Cut(absl::string_view text, const Style& style) {
  if (style.width <= 0 || DisplayWidth(text) <= style.width) return std::string(text);
  const absl::string_view ellipsis = style.unicode ? "…" : "~";
  std::string result;
  int width = 0;
  bool full = false;
  ForEachPiece(text, [&](absl::string_view piece, int columns) {
    if (columns > 0 && !full && width + columns > style.width - 1) {
      absl::StrAppend(&result, ellipsis);
      full = true;
    }
    if (columns > 0 && full) return;  // Escapes still pass, so that a colour ends.
    absl::StrAppend(&result, piece);
    width += columns;
  });
  return result;
}

std::string Count(uint64_t number) {
  const std::string digits = absl::StrCat(number);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string Percent(uint64_t ppm) { return absl::StrCat(Decimal(static_cast<double>(ppm) / 1e4, 4), " %"); }

std::string Share(uint64_t part, uint64_t whole) {
  if (whole == 0) return "-";
  const double percent = 100.0 * static_cast<double>(part) / static_cast<double>(whole);
  if (part == 0) return "0 %";
  if (part == whole) return "100 %";
  if (percent < 0.01) return "<0.01 %";
  if (percent > 99.99) return ">99.99 %";
  return absl::StrFormat("%.2f %%", percent);
}

std::string Human(absl::Duration duration) {
  if (duration < absl::ZeroDuration()) return absl::StrCat("-", Human(-duration));
  if (duration == absl::InfiniteDuration()) return "forever";
  if (duration < absl::Milliseconds(1)) return absl::StrCat(absl::ToInt64Microseconds(duration), " us");
  if (duration < absl::Microseconds(999500)) {
    const double ms = absl::ToDoubleMilliseconds(duration);
    return absl::StrCat(Decimal(ms, ms < 10 ? 1 : 0), " ms");
  }
  if (duration < absl::Seconds(9.95)) return absl::StrCat(Decimal(absl::ToDoubleSeconds(duration), 1), " s");
  const int64_t seconds = absl::ToInt64Seconds(duration + absl::Milliseconds(500));
  const auto two = [](int64_t large, absl::string_view large_unit, int64_t small, absl::string_view small_unit) {
    return small == 0 ? absl::StrCat(large, " ", large_unit)
                      : absl::StrCat(large, " ", large_unit, " ", small, " ", small_unit);
  };
  if (seconds < 60) return absl::StrCat(seconds, " s");
  if (seconds < 3600) return two(seconds / 60, "min", seconds % 60, "s");
  const int64_t minutes = seconds / 60;
  if (minutes < 24 * 60) return two(minutes / 60, "h", minutes % 60, "min");
  const int64_t hours = minutes / 60;
  return two(hours / 24, "d", hours % 24, "h");
}

std::string HumanEta(int64_t eta_us) { return eta_us < 0 ? "-" : Human(absl::Microseconds(eta_us)); }

std::string Timestamp(int64_t time_us) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::FromUnixMicros(time_us), absl::UTCTimeZone());
}

std::string When(int64_t time_us, const Style& style) {
  if (time_us == 0) return "-";
  if (!style.relative) return Timestamp(time_us);
  // Clocks of two machines differ a little: what is not long ahead is now.
  const absl::Duration age = style.now - absl::FromUnixMicros(time_us);
  if (age < -absl::Seconds(5)) return absl::StrCat("in ", Human(-age));
  if (age < absl::Seconds(1)) return "now";
  if (age < absl::Minutes(1)) return absl::StrCat(absl::ToInt64Seconds(age), " s ago");
  if (age < absl::Hours(1)) return absl::StrCat(absl::ToInt64Minutes(age), " min ago");
  if (age < absl::Hours(48)) return absl::StrCat(absl::ToInt64Hours(age), " h ago");
  return absl::StrCat(absl::ToInt64Hours(age) / 24, " d ago");
}

std::string Plural(uint64_t count, absl::string_view noun) {
  return absl::StrCat(Count(count), " ", noun, count == 1 ? "" : "s");
}

}  // namespace shadowline::console
