#include "tests/support/shadowlined.h"

#include <httplib.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

namespace shadowline::support {

std::string ProgramFolder() {
  if (const char* folder = std::getenv("SHADOWLINE_BIN_DIR")) return folder;
  const std::filesystem::path own = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  // Tests have a folder of their own.
  return std::filesystem::exists(own / "shadowlined") ? own : own / "../../bin";
}

Shadowlined::Shadowlined(Options options)
    : options_(std::move(options)), folder_("replica"), port_(FreePort()), http_port_(FreePort()) {
  std::ofstream config(folder_.path() + "/shadowlined.yaml");
  config << "listen: 127.0.0.1:" << port_ << "\nhttp_listen: 127.0.0.1:" << http_port_
         << "\nreplica_name: " << options_.name << "\nsource:\n  url: \"" << options_.source << "\""
         << (options_.role.empty() ? "" : absl::StrCat("\n  role: ", options_.role)) << "\nredis: "
         << (options_.redis[0] == '{' ? options_.redis : absl::StrCat("{address: \"", options_.redis, "\"}")) << "\n"
         << options_.extra_config;
  config.close();
  Start();
}

void Shadowlined::Start() {
  std::vector<std::string> command = options_.wrapper;
  command.insert(command.end(), {ProgramFolder() + "/shadowlined", "--config", folder_.path() + "/shadowlined.yaml"});
  if (!std::filesystem::exists(ProgramFolder() + "/shadowlined")) {
    std::fprintf(stderr, "there is no shadowlined in %s: build it\n", ProgramFolder().c_str());
    std::abort();
  }
  process_ = ChildProcess(command, folder_.path() + "/log");
  if (options_.await_ready) AwaitReady();
}

std::string Shadowlined::address() const { return absl::StrCat("127.0.0.1:", port_); }
std::string Shadowlined::http_address() const { return absl::StrCat("127.0.0.1:", http_port_); }

std::string Shadowlined::Log() const {
  std::ifstream in(folder_.path() + "/log");
  return std::string(std::istreambuf_iterator<char>(in), {});
}

void Shadowlined::Kill() {
  process_.Signal(SIGKILL);
  process_.Wait();
}

int Shadowlined::Terminate() {
  process_.Signal(SIGTERM);
  return process_.Wait();
}

std::string Shadowlined::Get(const std::string& path) const {
  httplib::Client client("127.0.0.1", http_port_);
  const auto answer = client.Get(path.c_str());
  return answer && answer->status == 200 ? answer->body : "";
}

void Shadowlined::AwaitReady() {
  for (int i = 0; i < 6000; ++i) {
    if (!Get("/readyz").empty()) return;
    if (!process_.Running()) break;
    usleep(10'000);  // Waits for another process, which has no way to tell us.
  }
  std::fprintf(stderr, "shadowlined did not become ready:\n%s\n", Log().c_str());
  std::abort();
}

}  // namespace shadowline::support
