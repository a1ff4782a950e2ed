#include "tests/demo/screen.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace shadowline::demo {
namespace {

// Columns that a UTF-8 text takes, for the characters that are used here.
size_t Columns(absl::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

Screen::Screen(const base::Clock* clock)
    : clock_(clock),
      start_(clock->Steady()),
      terminal_(isatty(STDOUT_FILENO) != 0),
      colour_(terminal_ && std::getenv("NO_COLOR") == nullptr) {}

void Screen::Heading(absl::string_view text) {
  Erase();
  std::printf("\n%s\n", Paint(text, Tone::kStrong).c_str());
  Draw();
}

void Screen::Say(absl::string_view text, Tone tone) {
  Erase();
  const std::string time = absl::StrFormat("%6.1fs", absl::ToDoubleSeconds(clock_->Steady() - start_));
  std::printf("%s  %s\n", Paint(time, Tone::kFaint).c_str(), Paint(text, tone).c_str());
  Draw();
}

void Screen::Quote(absl::string_view text) {
  Erase();
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    std::printf("%s%s\n", line.empty() ? "" : "         ", std::string(line).c_str());
  }
  Draw();
}

void Screen::Live(std::vector<std::string> lines) {
  if (!terminal_) return;
  Erase();
  live_ = std::move(lines);
  Draw();
}

void Screen::Erase() {
  if (!live_.empty()) std::printf("\x1b[%zuA\x1b[J", live_.size());
}

void Screen::Draw() {
  for (const std::string& line : live_) std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

std::string Screen::Paint(absl::string_view text, Tone tone) const {
  const char* code = "";
  switch (tone) {
    case Tone::kPlain:
      return std::string(text);
    case Tone::kGood:
      code = "32";
      break;
    case Tone::kBad:
      code = "31";
      break;
    case Tone::kFaint:
      code = "2";
      break;
    case Tone::kStrong:
      code = "1";
      break;
  }
  return colour_ ? absl::StrCat("\x1b[", code, "m", text, "\x1b[0m") : std::string(text);
}

std::string Bar(double share, size_t width) {
  const size_t full = static_cast<size_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(width));
  std::string bar;
  for (size_t i = 0; i < width; ++i) absl::StrAppend(&bar, i < full ? "█" : "░");
  return bar;
}

std::string Table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Columns(row[i]));
  }
  std::string table;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string gap(widths[i] - Columns(row[i]), ' ');
      absl::StrAppend(&table, i == 0 ? "" : "  ", i == 0 ? row[i] : gap, i == 0 ? gap : row[i]);
    }
    absl::StrAppend(&table, "\n");
  }
  return table;
}

}  // namespace shadowline::demo
