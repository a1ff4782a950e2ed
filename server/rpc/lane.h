// Lane is the thread of the hot path: it owns one gRPC completion queue and everything a read needs (a Redis connection
// among it), so that a cached read is received, looked up and answered without a lock or a hop to another thread.
//
// A turn of the lane drains the calls that have arrived, runs posted tasks, writes all Redis commands of the turn at
// once and hands the replies back. Between turns it waits where the next event is likeliest: on Redis for a moment
// while a reply is due, else in the completion queue.
//
// Ownership: owns the queue. Pollables and Events are borrowed until the lane has stopped.
// Threads:   Post and PostAfter from any thread; everything else happens on the lane's own.
#ifndef SHADOWLINE_SERVER_RPC_LANE_H_
#define SHADOWLINE_SERVER_RPC_LANE_H_

#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/event_loop.h"

namespace shadowline::server {

class Lane final : public base::Loop {
 public:
  // Something that waits for a completion: its address is the tag.
  class Event {
   public:
    virtual ~Event() = default;
    // `ok` as gRPC gives it: false means that the operation did not take place.
    virtual void Proceed(bool ok) = 0;
  };

  // `queue` must have been made by the server's builder; the lane runs from Start() to Stop().
  Lane(const base::Clock* clock, std::string name, std::unique_ptr<grpc::ServerCompletionQueue> queue);
  ~Lane() override;

  grpc::ServerCompletionQueue* queue() { return queue_.get(); }

  void Post(base::Task task) override;
  void PostAfter(absl::Duration delay, base::Task task) override;
  void Attach(base::Pollable* pollable) override;

  void Start();
  // Drains the queue, then joins. The grpc::Server must have been shut down before.
  void Stop();

 private:
  // Tells the thread, which may be waiting in the queue, that a task was posted.
  class WakeUp final : public Event {
   public:
    explicit WakeUp(grpc::ServerCompletionQueue* queue) : queue_(queue) {}
    void Ring();
    void Proceed(bool ok) override { pending_.store(false); }

   private:
    grpc::ServerCompletionQueue* const queue_;
    grpc::Alarm alarm_;
    std::atomic<bool> pending_{false};
  };

  void Run();
  // Handles completions that are there already; false once the queue is shut down and empty.
  bool DrainQueue(bool* progress);
  // Waits at most `limit` for one completion and handles it; false as above.
  bool WaitInQueue(absl::Duration limit);
  bool ServePollables(absl::Duration wait);
  bool AnyBusy() const;

  const std::string name_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  WakeUp wake_up_;
  base::TaskQueue tasks_;
  std::vector<base::Pollable*> pollables_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::thread::id> thread_id_{};
  std::thread thread_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_RPC_LANE_H_
