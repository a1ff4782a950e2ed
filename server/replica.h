// Replica is one running Shadowline: the only place where objects are wired together.
//
// Start order is the order of the members; the drain order is in Drain(). Nothing here decides anything.
//
// Threads: Start, ReloadCatalog and Drain are called by one thread, the program's main one.
#ifndef SHADOWLINE_SERVER_REPLICA_H_
#define SHADOWLINE_SERVER_REPLICA_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/options/options.h"

namespace shadowline::server {

class Replica {
 public:
  explicit Replica(Options options);
  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;
  ~Replica();

  // Opens the HTTP port, then waits for the state database, brings its schema up to date, applies the catalog file,
  // where there is one, once the source answers as well (each is tried again with backoff; /readyz says why it is not
  // ready), and opens the gRPC port. `wait` sleeps for as long as it is told and returns false if the program was asked
  // to stop meanwhile.
  //
  // kUnavailable: a port cannot be had; kFailedPrecondition: the schema is newer than this program, or evidence.spool
  // cannot be written; kInvalidArgument:
  // the catalog file was refused; kCancelled: `wait` said so.
  absl::Status Start(const std::function<bool(absl::Duration)>& wait);

  // Applies the catalog file of the options again, if there is one.
  absl::Status ReloadCatalog();

  // Stops taking calls, finishes those under way (for at most drain_timeout), settles and flushes all evidence, and
  // says that this replica has stopped. OK: everything reached the state database.
  absl::Status Drain();

 private:
  struct Parts;
  const Options options_;
  std::unique_ptr<Parts> parts_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_REPLICA_H_
