// Watermark is how far change capture has come: every change that was committed before it has its fences up. A read
// that carries the log position of its caller's own write is served from the cache only where Passed(position);
// otherwise the database answers it. So a caller sees its own writes, however late their capture is.
//
//   if (!watermark.Passed(*ParseLsn(token))) ...   // to the database
//
// It starts at zero, where nothing has passed, and goes back there whenever this replica loses its connections, or
// capture its slot: after the database failed over, positions are another log's.
//
// Beside the position it has a time, for the reads that carry none. What is captured may be served from the cache only
// while Covers(now): a capture that is refused, away or behind for longer than its patience would leave stale values
// there in silence.
//
// Threads: thread-safe; a read is one atomic load.
#ifndef SHADOWLINE_CACHE_CAPTURE_WATERMARK_H_
#define SHADOWLINE_CACHE_CAPTURE_WATERMARK_H_

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"
#include "cache/capture/lsn.h"

namespace shadowline::cache {

class Watermark {
 public:
  bool Passed(Lsn position) const { return position <= lsn(); }
  Lsn lsn() const { return lsn_.load(std::memory_order_acquire); }
  void Set(Lsn lsn) { lsn_.store(lsn, std::memory_order_release); }

  // Times are Clock::Steady()'s.
  bool Covers(absl::Duration now) const {
    return absl::ToInt64Nanoseconds(now) < covered_until_.load(std::memory_order_acquire);
  }
  void Cover(absl::Duration until) { covered_until_.store(absl::ToInt64Nanoseconds(until), std::memory_order_release); }
  void Uncover() { Cover(-absl::InfiniteDuration()); }

 private:
  std::atomic<Lsn> lsn_{0};
  std::atomic<int64_t> covered_until_{INT64_MIN};
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CAPTURE_WATERMARK_H_
