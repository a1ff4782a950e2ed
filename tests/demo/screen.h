// Screen is what a person sees of the demo: headings, lines with the time since the start, and, on a terminal, a few
// live lines below that change in place. Colours only on a terminal.
//
// Threads: compatible (the thread that tells the story).
#ifndef SHADOWLINE_TESTS_DEMO_SCREEN_H_
#define SHADOWLINE_TESTS_DEMO_SCREEN_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"

namespace shadowline::demo {

class Screen {
 public:
  enum class Tone { kPlain, kGood, kBad, kFaint, kStrong };

  explicit Screen(const base::Clock* clock);
  ~Screen() { Live({}); }

  void Heading(absl::string_view text);
  // A line of the story, after the seconds since the start.
  void Say(absl::string_view text, Tone tone = Tone::kPlain);
  // Text as it is, indented: tables and the output of commands.
  void Quote(absl::string_view text);
  // Replaces the live lines; none removes them. Does nothing where there is no terminal.
  void Live(std::vector<std::string> lines);

  std::string Paint(absl::string_view text, Tone tone) const;
  bool terminal() const { return terminal_; }

 private:
  void Erase();
  void Draw();

  const base::Clock* const clock_;
  const absl::Duration start_;
  const bool terminal_;
  const bool colour_;
  std::vector<std::string> live_;
};

// A bar of `width` cells, `share` of which are full.
std::string Bar(double share, size_t width);

// Rows as aligned columns; the first row is the heading. Columns after the first are aligned to the right.
std::string Table(const std::vector<std::vector<std::string>>& rows);

}  // namespace shadowline::demo

#endif  // SHADOWLINE_TESTS_DEMO_SCREEN_H_
