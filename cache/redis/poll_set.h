// PollSet is several connections as one Pollable: their sockets behind one descriptor, an epoll(7)'s.
//
// Ownership: borrows the connections; each must be removed before it goes.
// Threads:   as a Pollable.
// Cost:      one system call for each turn that finds something, beside those of the connections.
#ifndef SHADOWLINE_CACHE_REDIS_POLL_SET_H_
#define SHADOWLINE_CACHE_REDIS_POLL_SET_H_

#include <poll.h>

#include <cstdint>
#include <vector>

#include "base/event_loop.h"
#include "cache/redis/connection.h"

namespace shadowline::cache {

class PollSet final : public base::Pollable {
 public:
  PollSet();
  PollSet(const PollSet&) = delete;
  PollSet& operator=(const PollSet&) = delete;
  ~PollSet() override;

  void Add(RedisConnection* connection);
  // It was shut down before. May be called while the set is in OnReady.
  void Remove(RedisConnection* connection);

  int Descriptor() const override { return epoll_; }
  short Events() const override { return POLLIN; }  // NOLINT: poll(2)'s own type
  void OnReady(short events) override;              // NOLINT
  void Flush() override;
  bool Busy() const override;

 private:
  struct Entry {
    RedisConnection* connection;
    // What epoll was told. A closed socket it forgets by itself, and another one may have the same number.
    uint64_t term = 0;
    int descriptor = -1;
    short events = 0;  // NOLINT: poll(2)'s own type
  };

  int epoll_;
  std::vector<Entry> entries_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_REDIS_POLL_SET_H_
