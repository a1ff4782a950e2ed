// A private PostgreSQL and a private Redis for one test program (and for the demo): own data folders under a scratch
// folder, own unix sockets, TCP ports chosen by the kernel, the packages' binaries. Nothing of the machine's own is
// touched, and everything is gone at the end, also when the process dies (the servers get SIGKILL when their parent
// does).
//
//   PrivatePostgres postgres;                     // aborts with a message where it cannot start: never skips
//   pqxx::connection c(postgres.ConnectionString("postgres"));
#ifndef SHADOWLINE_TESTS_SUPPORT_PRIVATE_SERVERS_H_
#define SHADOWLINE_TESTS_SUPPORT_PRIVATE_SERVERS_H_

#include <sys/types.h>

#include <string>
#include <vector>

namespace shadowline::support {

// A folder that is removed with everything in it.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& prefix);
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A child process whose output goes to a file; killed (SIGKILL) and reaped by the destructor, and by the kernel should
// this process die first.
class ChildProcess {
 public:
  ChildProcess() = default;
  // Starts `arguments[0]` (a path, or a name on PATH). `environment` entries are NAME=VALUE and are added to this
  // process's.
  ChildProcess(std::vector<std::string> arguments, const std::string& output_file,
               std::vector<std::string> environment = {}, uid_t run_as = static_cast<uid_t>(-1));
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();

  pid_t pid() const { return pid_; }
  bool Running();
  void Signal(int signal);
  // Waits until it has ended; its exit status, or 128 + the signal.
  int Wait();

 private:
  pid_t pid_ = -1;
};

// A TCP port on 127.0.0.1 that was free a moment ago. For servers that cannot be given port 0.
int FreePort();

class PrivatePostgres {
 public:
  // `settings` are appended to postgresql.conf, e.g. "max_connections = 300". fsync is off.
  explicit PrivatePostgres(const std::vector<std::string>& settings = {});
  // A standby that streams from `primary`, which must outlive it, and answers reads.
  PrivatePostgres(const PrivatePostgres& primary, const std::vector<std::string>& settings);
  ~PrivatePostgres();

  // libpq connection string over the unix socket. `Url` is the same over TCP.
  std::string ConnectionString(const std::string& database = "postgres") const;
  int port() const { return port_; }
  pid_t pid() const { return server_.pid(); }  // Of the process that starts those that answer.
  // Creates an empty database with a fresh name and returns that name.
  std::string CreateDatabase();
  // Runs a SQL script with psql in `database`; aborts with its output where it fails.
  void RunScript(const std::string& database, const std::string& path);

  void Kill();   // SIGKILL to the whole server.
  void Start();  // Again, on the same data, socket and port.
  void Freeze();  // SIGSTOP to the whole server: it takes connections, and answers nothing.
  void Thaw();

 private:
  void Configure();

  ScratchFolder folder_;
  int port_;
  std::vector<std::string> settings_;
  ChildProcess server_;
};

class PrivateRedis {
 public:
  // With --tls-cert-file among its arguments its port speaks TLS alone; the socket never does.
  explicit PrivateRedis(const std::vector<std::string>& arguments = {});
  ~PrivateRedis();

  const std::string& socket() const { return socket_; }
  int port() const { return port_; }

  void Kill();
  void Start();
  void Freeze();  // SIGSTOP: connects, never answers.
  void Thaw();

 private:
  ScratchFolder folder_;
  std::string socket_;
  int port_;
  std::vector<std::string> arguments_;
  ChildProcess server_;
};

}  // namespace shadowline::support

#endif  // SHADOWLINE_TESTS_SUPPORT_PRIVATE_SERVERS_H_
