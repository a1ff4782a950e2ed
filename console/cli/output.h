// The two streams that a command writes to, and what is known of the terminal behind them.
//
// A reader that goes away (`shadowline report x | head`) is no error: what is written afterwards is dropped, and
// `closed` says so to whoever writes without end. A program that links this file ignores SIGPIPE, and has /dev/null
// where it was started without a standard stream.
//
// Threads: one.
#ifndef SHADOWLINE_CONSOLE_CLI_OUTPUT_H_
#define SHADOWLINE_CONSOLE_CLI_OUTPUT_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/clock.h"
#include "console/cli/table.h"

namespace shadowline::console {

class Output {
 public:
  explicit Output(const base::Clock* clock) : clock_(*clock) {}

  void set_no_color(bool no_color) { no_color_ = no_color; }

  bool is_terminal() const;
  int height() const;
  // Colours, width and relative times only on a terminal. Asked anew each time: windows are resized.
  Style style() const;
  const base::Clock& clock() const { return clock_; }

  void Write(absl::string_view text);
  // In place of the lines of the last Redraw. REQUIRES: is_terminal(), and that the lines fit.
  void Redraw(const std::vector<std::string>& lines);
  // To stderr, one line for each line of `text`, each after "shadowline: ".
  void Error(absl::string_view text);
  // To stderr as it is.
  void Note(absl::string_view text);

  // The reader of stdout is gone.
  bool closed() const { return closed_; }
  // What went wrong with writing, other than a reader that left; empty where nothing did.
  const std::string& failure() const { return failure_; }

 private:
  const base::Clock& clock_;
  bool no_color_ = false;
  bool closed_ = false;
  std::string failure_;
  size_t drawn_lines_ = 0;
};

}  // namespace shadowline::console

#endif  // SHADOWLINE_CONSOLE_CLI_OUTPUT_H_
