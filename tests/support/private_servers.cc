#include "tests/support/private_servers.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/support/await.h"

namespace shadowline::support {
namespace {

constexpr uid_t kNoUser = static_cast<uid_t>(-1);

[[noreturn]] void Die(const std::string& message) {
  std::fprintf(stderr, "private server: %s\n", message.c_str());
  std::abort();
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// PostgreSQL refuses to run as root: its own user runs it then.
uid_t PostgresUser() {
  if (geteuid() != 0) return kNoUser;
  const passwd* user = getpwnam("postgres");
  if (user == nullptr) Die("there is no user `postgres`; install the package postgresql");
  return user->pw_uid;
}

std::string PostgresProgram(const std::string& name) {
  std::string found;
  for (const auto& entry : std::filesystem::directory_iterator("/usr/lib/postgresql")) {
    const std::string path = entry.path().string() + "/bin/" + name;
    if (std::filesystem::exists(path)) found = std::max(found, path);
  }
  if (found.empty()) Die(name + " was not found under /usr/lib/postgresql; install the package postgresql");
  return found;
}

void RunToEnd(const std::vector<std::string>& arguments, const std::string& log, uid_t user) {
  ChildProcess child(arguments, log, {}, user);
  if (const int status = child.Wait(); status != 0) {
    Die(absl::StrCat(absl::StrJoin(arguments, " "), " ended with ", status, ":\n", ReadFile(log)));
  }
}

// Tries `ready` until it holds; a server that ended or takes a minute is reported with its log.
template <typename Ready>
void AwaitServer(ChildProcess* server, const std::string& log, Ready ready) {
  for (int i = 0; i < 6000; ++i) {
    if (ready()) return;
    if (!server->Running()) Die("it ended while starting:\n" + ReadFile(log));
    usleep(10'000);  // Waits for another process, which has no way to tell us.
  }
  Die("it was not ready within a minute:\n" + ReadFile(log));
}

bool Connects(const std::string& socket_path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket_path.c_str(), sizeof(address.sun_path) - 1);
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool connected = connect(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  close(descriptor);
  return connected;
}

std::vector<pid_t> ChildrenOf(pid_t parent) {
  std::ifstream in(absl::StrCat("/proc/", parent, "/task/", parent, "/children"));
  return {std::istream_iterator<pid_t>(in), {}};
}

// False for one that has ended, also where nobody has asked for its exit status yet.
bool Lives(pid_t process) {
  const std::string stat = ReadFile(absl::StrCat("/proc/", process, "/stat"));  // "42 (postgres) S 1 ..."
  const size_t state = stat.rfind(") ");
  return state != std::string::npos && stat[state + 2] != 'Z';
}

}  // namespace

ScratchFolder::ScratchFolder(const std::string& prefix) {
  // Short, because a unix socket's path must fit in 107 bytes.
  std::string name = "/tmp/sl-" + prefix + "-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) Die("cannot make a folder in /tmp");
  path_ = name;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

ChildProcess::ChildProcess(std::vector<std::string> arguments, const std::string& output_file,
                           std::vector<std::string> environment, uid_t run_as) {
  const pid_t parent = getpid();
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ < 0) Die("fork failed");
  if (pid_ > 0) return;
  // The child: only what is safe between fork and exec.
  if (run_as != kNoUser && (setgroups(0, nullptr) != 0 || setuid(run_as) != 0)) _exit(126);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(126);
  setpgid(0, 0);
  const int log = open(output_file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
  if (log >= 0) {
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
  }
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, STDIN_FILENO);
  for (std::string& entry : environment) putenv(entry.data());
  execvp(argv[0], argv.data());
  _exit(127);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pid_ < 0) return;
  Signal(SIGKILL);
  Wait();
}

bool ChildProcess::Running() {
  if (pid_ < 0) return false;
  siginfo_t info{};
  return waitid(P_PID, pid_, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

void ChildProcess::Signal(int signal) {
  if (pid_ > 0) kill(pid_, signal);
}

int ChildProcess::Wait() {
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int FreePort() {
  const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (bind(descriptor, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    Die("no free port on 127.0.0.1");
  }
  close(descriptor);
  return ntohs(address.sin_port);
}

PrivatePostgres::PrivatePostgres(const std::vector<std::string>& settings)
    : folder_("pg"), port_(FreePort()), settings_(settings) {
  const uid_t user = PostgresUser();
  chmod(folder_.path().c_str(), 0777);
  const std::string data = folder_.path() + "/data";
  RunToEnd({PostgresProgram("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8",
            "--locale=C.UTF-8"},
           folder_.path() + "/initdb.log", user);
  Configure();
  Start();
}

PrivatePostgres::PrivatePostgres(const PrivatePostgres& primary, const std::vector<std::string>& settings)
    : folder_("standby"), port_(FreePort()), settings_(settings) {
  chmod(folder_.path().c_str(), 0777);
  RunToEnd({PostgresProgram("pg_basebackup"), "-h", primary.folder_.path(), "-p", absl::StrCat(primary.port_), "-U",
            "postgres", "-D", folder_.path() + "/data", "-R", "-X", "stream", "-c", "fast", "--no-sync"},
           folder_.path() + "/basebackup.log", PostgresUser());
  Configure();
  Start();
}

// Later lines win: a standby has its primary's already.
void PrivatePostgres::Configure() {
  std::ofstream config(folder_.path() + "/data/postgresql.conf", std::ios::app);
  config << "listen_addresses = '127.0.0.1'\nport = " << port_ << "\nunix_socket_directories = '" << folder_.path()
         << "'\nfsync = off\nsynchronous_commit = on\nfull_page_writes = off\nmax_connections = 200\n"
         << "wal_level = logical\nlog_min_messages = fatal\njit = off\n";
  for (const std::string& setting : settings_) config << setting << "\n";
}

PrivatePostgres::~PrivatePostgres() {
  Thaw();
  server_.Signal(SIGINT);  // Fast shutdown: children first, so that none is left to hold the folder.
  if (server_.pid() > 0) server_.Wait();
}

void PrivatePostgres::Start() {
  const std::string log = folder_.path() + "/server.log";
  server_ = ChildProcess({PostgresProgram("postgres"), "-D", folder_.path() + "/data"}, log, {}, PostgresUser());
  AwaitServer(&server_, log, [&] {
    ChildProcess probe({PostgresProgram("pg_isready"), "-q", "-h", folder_.path(), "-p", absl::StrCat(port_)},
                       "/dev/null");
    return probe.Wait() == 0;
  });
}

void PrivatePostgres::Kill() {
  // The postmaster first stands still, so that it starts no more processes. One that outlived it would hold the shared
  // memory, and the data folder could not be opened again.
  server_.Signal(SIGSTOP);
  const std::vector<pid_t> processes = ChildrenOf(server_.pid());
  server_.Signal(SIGKILL);
  for (const pid_t process : processes) kill(process, SIGKILL);
  server_.Wait();
  if (!AwaitTrue(absl::Seconds(60), [&] { return std::none_of(processes.begin(), processes.end(), Lives); })) {
    Die("a process of PostgreSQL outlived SIGKILL");
  }
}

void PrivatePostgres::Freeze() {
  server_.Signal(SIGSTOP);  // First, so that none is added to its children.
  for (const pid_t process : ChildrenOf(server_.pid())) kill(process, SIGSTOP);
}

void PrivatePostgres::Thaw() {
  for (const pid_t process : ChildrenOf(server_.pid())) kill(process, SIGCONT);
  server_.Signal(SIGCONT);
}

std::string PrivatePostgres::ConnectionString(const std::string& database) const {
  return absl::StrCat("host=", folder_.path(), " port=", port_, " user=postgres dbname=", database);
}

std::string PrivatePostgres::CreateDatabase() {
  static int next = 0;
  const std::string name = absl::StrCat("db_", ++next);
  RunToEnd({PostgresProgram("createdb"), "-h", folder_.path(), "-p", absl::StrCat(port_), "-U", "postgres", name},
           folder_.path() + "/createdb.log", kNoUser);
  return name;
}

void PrivatePostgres::RunScript(const std::string& database, const std::string& path) {
  RunToEnd({PostgresProgram("psql"), "-h", folder_.path(), "-p", absl::StrCat(port_), "-U", "postgres", "-d", database,
            "-q", "-X", "-v", "ON_ERROR_STOP=1", "-f", path},
           folder_.path() + "/psql.log", kNoUser);
}

PrivateRedis::PrivateRedis(const std::vector<std::string>& arguments)
    : folder_("redis"), socket_(folder_.path() + "/redis.sock"), port_(FreePort()), arguments_(arguments) {
  Start();
}

PrivateRedis::~PrivateRedis() = default;

void PrivateRedis::Start() {
  const std::string log = folder_.path() + "/server.log";
  std::vector<std::string> command = {"redis-server",
                                      "--bind",
                                      "127.0.0.1",
                                      "--port",
                                      absl::StrCat(port_),
                                      "--unixsocket",
                                      socket_,
                                      "--dir",
                                      folder_.path(),
                                      "--save",
                                      "",
                                      "--appendonly",
                                      "no",
                                      "--daemonize",
                                      "no"};
  command.insert(command.end(), arguments_.begin(), arguments_.end());
  if (std::find(arguments_.begin(), arguments_.end(), "--tls-cert-file") != arguments_.end()) {
    command.insert(command.end(), {"--port", "0", "--tls-port", absl::StrCat(port_)});
  }
  server_ = ChildProcess(command, log);
  AwaitServer(&server_, log, [&] { return Connects(socket_); });
}

void PrivateRedis::Kill() {
  server_.Signal(SIGKILL);
  server_.Wait();
  std::error_code ignored;
  std::filesystem::remove(socket_, ignored);
}

void PrivateRedis::Freeze() { server_.Signal(SIGSTOP); }
void PrivateRedis::Thaw() { server_.Signal(SIGCONT); }

}  // namespace shadowline::support
