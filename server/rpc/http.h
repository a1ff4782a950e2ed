// HttpPort is the port for machines that watch this replica:
//
//   GET /metrics   everything in base::Metrics, in Prometheus' text format
//   GET /healthz   200 while the process lives
//   GET /readyz    200 or 503, and every condition of Readiness on a line: `database: connection refused`
//
// Ownership: borrows Metrics and Readiness; both must outlive it.
// Threads:   its own. Stop and the destructor may be called from any thread, one at a time.
// Limits:    one request a connection, so that an idle client holds no thread; connections that wait for one of the
//            threads are bounded, after which accepting pauses; a request must begin within a second.
#ifndef SHADOWLINE_SERVER_RPC_HTTP_H_
#define SHADOWLINE_SERVER_RPC_HTTP_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/metrics.h"
#include "server/rpc/readiness.h"

namespace shadowline::server {

class HttpPort {
 public:
  // Listens on `host`:`port`, 0 for one that the kernel chooses. kUnavailable: the address cannot be had.
  static absl::StatusOr<std::unique_ptr<HttpPort>> Start(const std::string& host, int port,
                                                         const base::Metrics* metrics, const Readiness* readiness);
  ~HttpPort();

  int port() const;
  // Stops accepting, ends what is under way, and joins. May be called twice.
  void Stop();

 private:
  class Impl;
  explicit HttpPort(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_RPC_HTTP_H_
