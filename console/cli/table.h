// How things are written for people: aligned tables, colours, numbers, durations and times. Pure: whether there is a
// terminal, how wide it is and what time it is are arguments (Style), so every view can be tested against a golden
// text.
//
//   Table table({{"TENANT"}, {"READS", Align::kRight}});
//   table.AddRow({"acme", Count(12345)});
//   std::string text = table.Render(style);
#ifndef SHADOWLINE_CONSOLE_CLI_TABLE_H_
#define SHADOWLINE_CONSOLE_CLI_TABLE_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace shadowline::console {

struct Style {
  bool color = false;
  // Tree lines and ellipses; otherwise ASCII stands in for them.
  bool unicode = true;
  // Times as "3 s ago" instead of RFC 3339.
  bool relative = false;
  // Columns of the terminal; longer lines are cut. 0: never cut.
  int width = 0;
  absl::Time now;
};

enum class Color { kPlain, kDim, kBold, kRed, kGreen, kYellow, kCyan };
enum class Align { kLeft, kRight };

struct Cell {
  Cell(std::string cell_text, Color cell_color = Color::kPlain) : text(std::move(cell_text)), color(cell_color) {}
  Cell(const char* cell_text) : text(cell_text) {}

  std::string text;
  Color color = Color::kPlain;
};

class Table {
 public:
  struct Column {
    std::string name;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // REQUIRES: one cell for each column.
  void AddRow(std::vector<Cell> cells);
  bool empty() const { return rows_.empty(); }

  // The header and the rows, one string each, without line ends. Columns are two blanks apart. Cells are made
  // Printable.
  std::vector<std::string> Lines(const Style& style) const;
  // The same as one text.
  std::string Render(const Style& style) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

// `text` in `color` where the style has colours.
std::string Paint(absl::string_view text, Color color, const Style& style);

// Control characters as `\xNN` and ill-formed UTF-8 as `?`: nothing that comes over the wire can steer the terminal.
std::string Printable(absl::string_view text);

// How many terminal columns a UTF-8 text takes; colours take none.
int DisplayWidth(absl::string_view text);
// The text cut to `width` columns, with an ellipsis where something was cut; colours are kept.
std::string Cut(absl::string_view text, const Style& style);

// "12,345".
std::string Count(uint64_t number);
// Parts per million: "5 %", "0.05 %", "100 %".
std::string Percent(uint64_t ppm);
// `part` of `whole` with two decimals: "99.80 %"; "-" of nothing. Never rounds to 0 % or 100 % what is not.
std::string Share(uint64_t part, uint64_t whole);
// The two largest units: "340 ms", "3.2 s", "2 min 10 s", "2 h 5 min", "3 d 4 h".
std::string Human(absl::Duration duration);
// Where the server has a duration in microseconds with -1 for unknown: "-" then.
std::string HumanEta(int64_t eta_us);
// A Unix time in microseconds as the style says; "-" for 0.
std::string When(int64_t time_us, const Style& style);
// Always RFC 3339, UTC, with milliseconds.
std::string Timestamp(int64_t time_us);
// "1 read", "3 reads".
std::string Plural(uint64_t count, absl::string_view noun);

}  // namespace shadowline::console

#endif  // SHADOWLINE_CONSOLE_CLI_TABLE_H_
