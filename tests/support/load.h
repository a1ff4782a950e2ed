// OpenLoop sends reads at a rate that does not depend on how fast they are answered, and measures each from the moment
// at which it was due. A server that stalls therefore delays no request but its own, and none of the waiting is left
// out of the figures.
//
//   OpenLoop load({.channels = {a, b}, .rate = 200, .seed = 1}, [&] { return NextQuestion(); }, [&](const Reply& r) {
//   ... });
//   ...
//   load.Stop();
//
// Requests arrive as independent callers do (exponential gaps) and go to the channels in turn.
//
// Threads: `next` is called on the thread that sends, `done` on the one that receives: each of them is never called
// twice at
//          once, and neither may block. Stop may be called from any other thread.
// Limits:  at most `outstanding` requests wait for their answer; one that is due beyond that is not sent and counts as
// dropped.
#ifndef SHADOWLINE_TESTS_SUPPORT_LOAD_H_
#define SHADOWLINE_TESTS_SUPPORT_LOAD_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/random.h"
#include "shadowline/v1/read.grpc.pb.h"

namespace shadowline::support {

// The moments at which independent callers arrive: exponential gaps, at a steady rate.
//
// Threads: compatible.
class Pace {
 public:
  // A caller who is behind by more than `late_max` starts anew from there, instead of making up for it.
  Pace(const base::Clock* clock, double rate, uint64_t seed, absl::Duration late_max = absl::InfiniteDuration());

  // Waits for the next moment, and returns when that was due.
  absl::Duration Next();

 private:
  const base::Clock* const clock_;
  const absl::Duration mean_gap_;
  const absl::Duration late_max_;
  base::Random random_;
  absl::Duration due_;
};

// What to ask; `id` is handed back with the reply.
struct Question {
  size_t id = 0;
  const shadowline::v1::ReadRequest* request = nullptr;  // Must live until Stop has returned.
};

// Times are of the load's steady clock.
struct Reply {
  size_t id = 0;
  const grpc::Status& status;
  const shadowline::v1::ReadResponse& response;
  absl::Duration due;
  absl::Duration sent;
  absl::Duration received;

  absl::Duration latency() const { return received - due; }
};

class OpenLoop {
 public:
  struct Options {
    std::vector<std::shared_ptr<grpc::Channel>> channels;
    double rate = 100;  // Reads a second, over all channels.
    absl::Duration timeout = absl::Seconds(10);
    size_t outstanding = 2000;
    uint64_t seed = 1;
  };

  OpenLoop(Options options, const base::Clock* clock, std::function<Question()> next,
           std::function<void(const Reply&)> done);
  ~OpenLoop() { Stop(); }

  // Sends nothing more, and returns once every answer was handed to `done`. Idempotent.
  void Stop();

  uint64_t sent() const { return sent_; }
  uint64_t dropped() const { return dropped_; }

 private:
  struct Call;

  void Send();
  void Receive();

  const Options options_;
  const base::Clock* const clock_;
  const std::function<Question()> next_;
  const std::function<void(const Reply&)> done_;
  std::vector<std::unique_ptr<shadowline::v1::ReadService::Stub>> stubs_;
  grpc::CompletionQueue queue_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> sent_{0};
  std::atomic<uint64_t> received_{0};
  std::atomic<uint64_t> dropped_{0};
  std::thread sender_;
  std::thread receiver_;
};

// ClosedLoop keeps a number of reads under way, each followed by the next as soon as it is answered: as much load as
// the servers take. What it measures is no latency that a caller would meet, since a slow server is asked less.
//
// Threads: `next` and `done` are called on the loop's own threads, each with the number of its thread; neither may
//          block. Stop and Wait may be called from any other thread.
class ClosedLoop {
 public:
  struct Options {
    std::vector<std::shared_ptr<grpc::Channel>> channels;
    size_t threads = 1;
    size_t outstanding = 64;  // Of each thread, over all channels.
    absl::Duration timeout = absl::Seconds(10);
    uint64_t reads = 0;  // Ends by itself after so many; 0: when it is stopped.
  };

  ClosedLoop(Options options, const base::Clock* clock, std::function<Question(size_t thread)> next,
             std::function<void(size_t thread, const Reply&)> done);
  ~ClosedLoop() { Stop(); }

  // Sends nothing more, and returns once every answer was handed to `done`. Idempotent.
  void Stop();
  // Returns once `reads` were answered.
  void Wait();

 private:
  struct Call;

  void Run(size_t thread);

  const Options options_;
  const base::Clock* const clock_;
  const std::function<Question(size_t)> next_;
  const std::function<void(size_t, const Reply&)> done_;
  std::vector<std::unique_ptr<shadowline::v1::ReadService::Stub>> stubs_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> sent_{0};
  std::vector<std::thread> threads_;
};

}  // namespace shadowline::support

#endif  // SHADOWLINE_TESTS_SUPPORT_LOAD_H_
