// Options are everything that an operator decides about one replica. They come, each layer over the one before it, from
// the defaults, a YAML file (`--config FILE`), the environment (secrets only) and flags:
//
//   source:                               # shadowlined --config server.yaml --listen 0.0.0.0:7500 --source.connections
//   16
//     url: env:DATABASE_URL
//     connections: 16
//
// A flag is named as its field is in the file, with dots. A secret may be written out, or as `env:NAME` or `file:PATH`;
// it can also be given as SHADOWLINE_ and its name, e.g. SHADOWLINE_SOURCE_URL.
//
// All of it is checked before anything starts, and all findings are reported at once. A finding never shows a secret.
//
// Threads: values.
#ifndef SHADOWLINE_SERVER_OPTIONS_OPTIONS_H_
#define SHADOWLINE_SERVER_OPTIONS_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/log.h"

namespace shadowline::server {

// A TCP address; IPv6 hosts without their brackets. Port 0 is chosen by the kernel.
struct HostPort {
  std::string host;
  int port = 0;

  // "host:port", with brackets around an IPv6 host.
  std::string ToString() const;
};

// docs/configuration.md says what each field means; the fields here are in its order.
struct Options {
  HostPort listen{"127.0.0.1", 7500};
  HostPort http_listen{"127.0.0.1", 7580};
  std::string replica_name;

  struct Source {
    std::string url;
    size_t connections = 8;
    size_t queue = 1024;
    absl::Duration wait = absl::Seconds(1);
    std::string search_path = "public";
    std::string role;
  } source;

  struct State {
    std::string url;
    size_t connections = 4;
  } state;

  struct Redis {
    std::string socket;  // Path of a unix socket, or empty:
    HostPort address{"127.0.0.1", 6379};
    std::vector<HostPort> cluster;  // Instead of an address, or:
    struct Sentinel {
      std::vector<HostPort> addresses;
      std::string master;
      std::string user;
      std::string password;
    } sentinel;
    struct Tls {
      bool enabled = false;
      std::string ca;
      std::string certificate;
      std::string key;
      std::string server_name;
    } tls;
    std::string user;
    std::string password;
    int db = 0;
    absl::Duration timeout = absl::Milliseconds(50);
    size_t max_outstanding = 4096;
  } redis;

  struct Near {
    size_t max_bytes = 64 << 20;
  } near;

  size_t lanes = 1;

  struct Verification {
    size_t connections = 2;
    size_t queue = 4096;
    uint32_t budget_per_second = 500;
    std::string redaction_secret;
    int max_rounds = 5;
  } verification;

  struct Warm {
    uint32_t per_second = 50;
  } warm;

  struct Flags {
    absl::Duration lease = absl::Seconds(2);
    absl::Duration poll = absl::Milliseconds(500);
  } flags;

  struct Controller {
    bool enabled = true;
    absl::Duration tick = absl::Seconds(1);
  } controller;

  struct Capture {
    bool enabled = true;
    std::string slot = "shadowline";
    absl::Duration patience = absl::Seconds(10);
  } capture;

  struct Certification {
    size_t max_bytes = 8 << 20;
  } certification;

  struct Evidence {
    absl::Duration flush = absl::Seconds(1);
    absl::Duration lapse = absl::Seconds(10);
    std::string spool;  // Folder; empty: none.
    size_t spool_max_bytes = 64 << 20;
    std::string key;
    std::vector<std::string> old_keys;
    absl::Duration retention = absl::Hours(90 * 24);
  } evidence;

  std::string catalog;
  absl::Duration drain_timeout = absl::Seconds(10);
  size_t max_message_bytes = 8 << 20;
  base::Level log_level = base::Level::kInfo;
};

// What a command line asks for.
struct CommandLine {
  enum class Action {
    kRun,
    kCheck,  // Everything is right; say so and exit 0.
    kHelp,   // Print `text` and exit 0.
  };

  Action action = Action::kRun;
  Options options;
  std::string text;
};

// The value of an environment variable.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
std::optional<std::string> ProcessEnvironment(const std::string& name);

// `arguments` are without the program's name. kInvalidArgument: one finding a line,
//
//   server.yaml:3:16: source.connections: "many" is not a number; expected 1 to 1000
//   --flags.poll: "2" has no unit; expected a duration such as 250ms, 30s or 5m, from 10ms to 1m
//   SHADOWLINE_STATE_URL: ...
absl::StatusOr<CommandLine> ReadCommandLine(const std::vector<std::string>& arguments,
                                            const Environment& environment = ProcessEnvironment);

// One field as it is documented.
struct OptionDoc {
  std::string name;
  std::string fallback;  // The default, for people; empty: none.
  std::string meaning;
};
std::vector<OptionDoc> OptionDocs();

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_OPTIONS_OPTIONS_H_
