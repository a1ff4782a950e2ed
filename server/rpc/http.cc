#include "server/rpc/http.h"

#include <httplib.h>
#include <sys/socket.h>

#include <atomic>
#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/executor.h"
#include "base/mutex.h"

namespace shadowline::server {
namespace {

constexpr size_t kThreads = 3;
constexpr size_t kWaiting = 32;

// The threads that answer. A connection cannot be refused once httplib has accepted it, so at the limit the acceptor
// waits.
class Workers final : public httplib::TaskQueue {
 public:
  Workers() {
    for (size_t i = 0; i < kThreads; ++i) threads_.push_back(base::StartThread("http", [this] { Run(); }));
  }

  void enqueue(std::function<void()> task) override {
    base::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(this, &Workers::HasRoom));
    tasks_.push_back(std::move(task));
  }

  void shutdown() override {
    {
      base::MutexLock lock(&mutex_);
      stopping_ = true;
    }
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  bool HasRoom() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return tasks_.size() < kWaiting; }
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || !tasks_.empty(); }

  void Run() {
    while (true) {
      std::function<void()> task;
      {
        base::MutexLock lock(&mutex_);
        mutex_.Await(absl::Condition(this, &Workers::HasWork));
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  base::Mutex mutex_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace

class HttpPort::Impl {
 public:
  Impl(const base::Metrics* metrics, const Readiness* readiness) {
    server_.new_task_queue = [] { return new Workers; };
    // httplib's own choice, SO_REUSEPORT, would let two replicas share a port unnoticed.
    server_.set_socket_options([](socket_t listener) {
      const int yes = 1;
      setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    });
    server_.set_keep_alive_max_count(1);
    server_.set_keep_alive_timeout(1);
    server_.set_read_timeout(2);
    server_.set_write_timeout(5);
    server_.set_payload_max_length(0);
    server_.Get("/metrics", [metrics](const httplib::Request&, httplib::Response& response) {
      response.set_content(metrics->Expose(), "text/plain; version=0.0.4; charset=utf-8");
    });
    server_.Get("/healthz", [](const httplib::Request&, httplib::Response& response) {
      response.set_content("alive\n", "text/plain");
    });
    server_.Get("/readyz", [readiness](const httplib::Request&, httplib::Response& response) {
      std::string body;
      response.status = 200;
      for (const auto& [condition, reason] : readiness->conditions()) {
        if (!reason.empty()) response.status = 503;
        absl::StrAppend(&body, condition, ": ", reason.empty() ? "ok" : reason, "\n");
      }
      response.set_content(body, "text/plain");
    });
  }

  bool Bind(const std::string& host, int port) {
    port_ = port == 0 ? server_.bind_to_any_port(host) : server_.bind_to_port(host, port) ? port : -1;
    return port_ > 0;
  }

  void Run() {
    acceptor_ = base::StartThread("http-accept", [this] {
      server_.listen_after_bind();
      ended_ = true;
    });
    // httplib cannot be stopped before it runs.
    while (!server_.is_running() && !ended_) std::this_thread::yield();
  }

  void Stop() {
    server_.stop();
    if (acceptor_.joinable()) acceptor_.join();
  }

  int port() const { return port_; }

 private:
  httplib::Server server_;
  int port_ = -1;
  std::atomic<bool> ended_{false};
  std::thread acceptor_;
};

absl::StatusOr<std::unique_ptr<HttpPort>> HttpPort::Start(const std::string& host, int port,
                                                          const base::Metrics* metrics, const Readiness* readiness) {
  auto impl = std::make_unique<Impl>(metrics, readiness);
  if (!impl->Bind(host, port)) {
    return absl::UnavailableError(
        absl::StrCat("http_listen: ", host, ":", port, " cannot be listened on; is it taken, or not this machine's?"));
  }
  impl->Run();
  return std::unique_ptr<HttpPort>(new HttpPort(std::move(impl)));
}

HttpPort::HttpPort(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpPort::~HttpPort() { Stop(); }

int HttpPort::port() const { return impl_->port(); }

void HttpPort::Stop() { impl_->Stop(); }

}  // namespace shadowline::server
