// Progress knows what may be confirmed to PostgreSQL: sinks acknowledge transactions in any order, and a position is
// confirmed only when everything before it has been acknowledged.
//
// Threads: compatible; its owner guards it.
#ifndef SHADOWLINE_CACHE_CAPTURE_PROGRESS_H_
#define SHADOWLINE_CACHE_CAPTURE_PROGRESS_H_

#include <algorithm>
#include <cstddef>
#include <deque>

#include "cache/capture/lsn.h"

namespace shadowline::cache {

class Progress {
 public:
  explicit Progress(Lsn start) : received_(start), fenced_(start) {}

  // A transaction that ends at `end` was handed to the sink. Its number is for Acknowledge.
  size_t Begin(Lsn end) {
    received_ = std::max(received_, end);
    waiting_.push_back({end, false});
    return first_ + waiting_.size() - 1;
  }

  void Acknowledge(size_t number) {
    waiting_[number - first_].done = true;
    while (!waiting_.empty() && waiting_.front().done) {
      fenced_ = std::max(fenced_, waiting_.front().end);
      waiting_.pop_front();
      ++first_;
    }
    if (waiting_.empty()) fenced_ = received_;
  }

  // The server has sent everything before `end`, and nothing in it that a sink has to know beyond what Begin was called
  // for.
  void Advance(Lsn end) {
    received_ = std::max(received_, end);
    if (waiting_.empty()) fenced_ = received_;
  }

  Lsn received() const { return received_; }
  Lsn fenced() const { return fenced_; }
  size_t waiting() const { return waiting_.size(); }
  // How many transactions there have been.
  size_t handed() const { return first_ + waiting_.size(); }

 private:
  struct Waiting {
    Lsn end;
    bool done;
  };
  Lsn received_;
  Lsn fenced_;
  size_t first_ = 0;  // The number of waiting_.front().
  std::deque<Waiting> waiting_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CAPTURE_PROGRESS_H_
