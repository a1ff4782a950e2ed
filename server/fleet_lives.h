// FleetLives puts the register of lives (flags/lives.h) before the Redis connections: they ask it with every command,
// and tell it of lives that they find.
//
// Ownership: borrows everything; each must outlive it.
// Threads:   thread-safe. A life is registered on `pool`, one at a time.
#ifndef SHADOWLINE_SERVER_FLEET_LIVES_H_
#define SHADOWLINE_SERVER_FLEET_LIVES_H_

#include <atomic>

#include "absl/strings/string_view.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/postgres/session.h"
#include "cache/redis/lives.h"
#include "flags/board.h"

namespace shadowline::server {

class FleetLives final : public cache::Lives {
 public:
  FleetLives(const flags::Board* board, base::PostgresSessions* state, base::ThreadPool* pool, const base::Clock* clock)
      : board_(board), state_(state), pool_(pool), clock_(clock) {}

  uint64_t version() const override { return board_->version(); }
  bool Usable(absl::string_view mark) const override;
  bool Certain() const override { return board_->Leased(); }
  void Found(const cache::RedisLife& life) override;

 private:
  const flags::Board* const board_;
  base::PostgresSessions* const state_;
  base::ThreadPool* const pool_;
  const base::Clock* const clock_;
  std::atomic<bool> registering_{false};
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_FLEET_LIVES_H_
