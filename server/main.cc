// shadowlined: one replica of Shadowline. `shadowlined --help` lists its options.
//
// SIGTERM and SIGINT drain it, SIGHUP applies the catalog file again. Exit status: 0 drained; 1 it could not start, or
// evidence was lost in the drain; 64 the options were refused.
#include <signal.h>

#include <cstdio>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "base/log.h"
#include "server/options/options.h"
#include "server/replica.h"

namespace shadowline::server {
namespace {

using base::Level;
using base::Log;

// Blocks the signals that this program waits for. Every thread inherits it, so call it first.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return signals;
}

int Run(const Options& options) {
  const sigset_t signals = BlockSignals();
  base::SetLogLevel(options.log_level);
  Replica replica(options);

  // False once the program was asked to stop.
  const auto wait = [&signals](absl::Duration duration) {
    const timespec timeout = absl::ToTimespec(duration);
    const int signal = sigtimedwait(&signals, nullptr, &timeout);
    return signal != SIGTERM && signal != SIGINT;
  };
  if (const absl::Status started = replica.Start(wait); !started.ok()) {
    if (absl::IsCancelled(started)) return 0;
    Log(Level::kError, "start_failed", {{"error", started.ToString()}});
    std::fprintf(stderr, "shadowlined: %s\n", std::string(started.message()).c_str());
    return 1;
  }
  while (true) {
    int signal = 0;
    if (sigwait(&signals, &signal) != 0) continue;
    if (signal == SIGHUP) {
      if (const absl::Status reloaded = replica.ReloadCatalog(); !reloaded.ok()) {
        Log(Level::kError, "catalog_refused", {{"error", reloaded.ToString()}});
      }
      continue;
    }
    Log(Level::kInfo, "draining", {{"signal", signal}});
    const absl::Status drained = replica.Drain();
    Log(drained.ok() ? Level::kInfo : Level::kError, "drained", {{"status", drained.ToString()}});
    return drained.ok() ? 0 : 1;
  }
}

}  // namespace
}  // namespace shadowline::server

int main(int argc, char** argv) {
  // Debian builds Abseil with its deadlock detector on: it keeps a graph of all locks, which is for tests.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  using shadowline::server::CommandLine;
  const absl::StatusOr<CommandLine> line =
      shadowline::server::ReadCommandLine(std::vector<std::string>(argv + 1, argv + argc));
  if (!line.ok()) {
    std::fprintf(stderr, "%s\n", std::string(line.status().message()).c_str());
    return 64;
  }
  switch (line->action) {
    case CommandLine::Action::kHelp:
      std::printf("%s", line->text.c_str());
      return 0;
    case CommandLine::Action::kCheck:
      std::printf("the configuration is right\n");
      return 0;
    case CommandLine::Action::kRun:
      return shadowline::server::Run(line->options);
  }
}
