// Places limits how many calls of a kind are under way.
//
// Threads: thread-safe.
#ifndef SHADOWLINE_SERVER_RPC_PLACES_H_
#define SHADOWLINE_SERVER_RPC_PLACES_H_

#include <cstddef>

#include "base/mutex.h"

namespace shadowline::server {

class Places {
 public:
  explicit Places(size_t limit) : limit_(limit) {}

  // False: there is none. Otherwise Leave() has to be called.
  [[nodiscard]] bool Take() {
    base::MutexLock lock(&mutex_);
    return taken_ < limit_ && ++taken_ > 0;
  }
  void Leave() {
    base::MutexLock lock(&mutex_);
    --taken_;
  }

 private:
  const size_t limit_;
  base::Mutex mutex_;
  size_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_RPC_PLACES_H_
