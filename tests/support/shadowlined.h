// A real `shadowlined` process for tests, benchmarks and the demo: configured in a scratch folder, awaited until it is
// ready.
//
//   Shadowlined server({.source = postgres.ConnectionString("app"), .redis = "unix:" + redis.socket()});
//   auto channel = grpc::CreateChannel(server.address(), ...);
#ifndef SHADOWLINE_TESTS_SUPPORT_SHADOWLINED_H_
#define SHADOWLINE_TESTS_SUPPORT_SHADOWLINED_H_

#include <signal.h>

#include <string>
#include <vector>

#include "tests/support/private_servers.h"

namespace shadowline::support {

// The folder of this project's programs: SHADOWLINE_BIN_DIR, or the folder of the running program.
std::string ProgramFolder();

class Shadowlined {
 public:
  struct Options {
    std::string name = "replica";
    std::string source;                // libpq connection string of the application's database.
    std::string redis;                 // "unix:/path" or "host:port", or the section as a map: "{cluster: [...]}"
    std::string role;                  // That statements run as; empty: the connection's own.
    std::string extra_config;          // YAML appended to the config file.
    std::vector<std::string> wrapper;  // For example {"taskset", "-c", "0"}.
    bool await_ready = true;
  };

  explicit Shadowlined(Options options);

  // "127.0.0.1:port" of gRPC and of HTTP.
  std::string address() const;
  std::string http_address() const;
  int port() const { return port_; }
  pid_t pid() const { return process_.pid(); }
  std::string Log() const;

  bool Running() { return process_.Running(); }
  void Kill();      // SIGKILL
  int Terminate();  // SIGTERM; its exit status.
  void Freeze() { process_.Signal(SIGSTOP); }
  void Thaw() { process_.Signal(SIGCONT); }
  void Start();  // Again, on the same ports.
  // Blocks until /readyz answers 200; aborts with the log after a minute.
  void AwaitReady();
  // The body of http://http_address()/path; empty where it does not answer.
  std::string Get(const std::string& path) const;

 private:
  const Options options_;
  ScratchFolder folder_;
  int port_;
  int http_port_;
  ChildProcess process_;
};

}  // namespace shadowline::support

#endif  // SHADOWLINE_TESTS_SUPPORT_SHADOWLINED_H_
