// Reader answers one read: it routes by the flag, reads the database or the cache, and hands what it served to verification.
// It knows no gRPC.
//
// Ownership: borrows everything in Deps; each must outlive it. `done` is called exactly once, on this reader's executor.
// Threads:   one Reader belongs to one executor; Read is called on it.
#ifndef SHADOWLINE_SERVER_READ_READER_H_
#define SHADOWLINE_SERVER_READ_READER_H_

#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "shadowline/v1/read.pb.h"

namespace shadowline::server {

class Reader {
 public:
  // `response` is filled before `done(OK)`; both messages must live until `done` is called.
  using Done = absl::AnyInvocable<void(absl::Status)>;

  virtual ~Reader() = default;
  virtual void Read(const shadowline::v1::ReadRequest& request, shadowline::v1::ReadResponse* response,
                    absl::Duration timeout, Done done) = 0;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_READER_H_
