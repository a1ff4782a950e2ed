#include "console/cli/output.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace shadowline::console {
namespace {

// 0, or the error number.
int WriteAll(int fd, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

absl::string_view Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool SpeaksUtf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    if (const absl::string_view value = Environment(name); !value.empty()) {
      const std::string lower = absl::AsciiStrToLower(value);
      return absl::StrContains(lower, "utf-8") || absl::StrContains(lower, "utf8");
    }
  }
  return false;
}

// Opens /dev/null for each standard stream that is closed, so that no socket takes its number and is written to; and
// makes a lost reader an error of the write rather than a signal. Runs before everything else: gRPC opens descriptors
// in a static initializer already.
__attribute__((constructor(101))) void PrepareStandardStreams() {
  std::signal(SIGPIPE, SIG_IGN);
  for (int fd = 0; fd < 3; ++fd) {
    // open() takes the lowest free number, which is `fd` itself.
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) std::abort();
  }
}

}  // namespace

bool Output::is_terminal() const { return isatty(STDOUT_FILENO) == 1; }

int Output::height() const {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : 24;
}

Style Output::style() const {
  Style style;
  style.now = clock_.Now();
  style.unicode = SpeaksUtf8();
  if (!is_terminal()) return style;
  winsize size{};
  style.width = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
  style.relative = true;
  style.color = !no_color_ && Environment("NO_COLOR").empty() && Environment("TERM") != "dumb";
  return style;
}

void Output::Write(absl::string_view text) {
  if (closed_ || !failure_.empty()) return;
  const int error = WriteAll(STDOUT_FILENO, text);
  if (error == EPIPE) {
    closed_ = true;
  } else if (error != 0) {
    failure_ = std::strerror(error);
  }
}

void Output::Redraw(const std::vector<std::string>& lines) {
  std::string frame;
  if (drawn_lines_ > 0) absl::StrAppend(&frame, "\x1b[", drawn_lines_, "A");
  for (const std::string& line : lines) absl::StrAppend(&frame, "\r", line, "\x1b[K\n");
  absl::StrAppend(&frame, "\x1b[J");
  Write(frame);
  drawn_lines_ = lines.size();
}

void Output::Error(absl::string_view text) {
  for (const absl::string_view line : absl::StrSplit(absl::StripTrailingAsciiWhitespace(text), '\n')) {
    WriteAll(STDERR_FILENO, absl::StrCat("shadowline: ", Printable(line), "\n"));
  }
}

void Output::Note(absl::string_view text) { WriteAll(STDERR_FILENO, text); }

}  // namespace shadowline::console
