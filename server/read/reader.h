// Reader answers one read: it routes by the flag, reads the database or the cache, and hands what it served to
// verification. It knows no gRPC.
//
// Ownership: borrows everything in Deps; each must outlive it. `done` is called exactly once, on this reader's
// executor. Threads:   one Reader belongs to one executor; it is called on it.
#ifndef SHADOWLINE_SERVER_READ_READER_H_
#define SHADOWLINE_SERVER_READ_READER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cache/origin/gathering_control.h"
#include "shadowline/v1/read.pb.h"

namespace shadowline::server {

class Reader {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  // A read that was looked up and checked, and is routed as of this moment.
  class Prepared {
   public:
    virtual ~Prepared() = default;
    // Equal for reads that have one answer: of the same endpoint, tenant, canonical parameters and consistency.
    virtual std::string Question() const = 0;

    // Of a read that is one of many, its place among them.
    std::shared_ptr<cache::Gathering> gathering;
    size_t place = 0;
  };

  virtual ~Reader() = default;

  // No query is made. `request` must live until the read is answered.
  virtual absl::StatusOr<std::unique_ptr<Prepared>> Prepare(const shadowline::v1::ReadRequest& request) = 0;
  // `response` is filled before `done(OK)`; it must live until `done` is called.
  virtual void Start(std::unique_ptr<Prepared> read, shadowline::v1::ReadResponse* response, absl::Duration timeout,
                     Done done) = 0;

  void Read(const shadowline::v1::ReadRequest& request, shadowline::v1::ReadResponse* response, absl::Duration timeout,
            Done done) {
    absl::StatusOr<std::unique_ptr<Prepared>> read = Prepare(request);
    if (!read.ok()) return done(std::move(read).status());
    Start(*std::move(read), response, timeout, std::move(done));
  }
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_READER_H_
