#include "server/fleet_lives.h"

#include "base/log.h"
#include "flags/postgres/lives.h"

namespace shadowline::server {

bool FleetLives::Usable(absl::string_view mark) const {
  const auto flags = board_->Current();
  if (flags == nullptr) return false;
  const auto life = flags->lives().usable_from.find(mark);
  return life != flags->lives().usable_from.end() && life->second <= clock_->Steady();
}

void FleetLives::Found(const cache::RedisLife& life) {
  const auto flags = board_->Current();
  if (flags == nullptr || flags->lives().usable_from.contains(life.mark)) return;
  if (registering_.exchange(true)) return;
  const bool taken = pool_->TrySubmit([this, life](size_t) {
    const absl::Status registered = flags::RegisterLife(state_, {life.mark, life.lineage, life.replaces, life.address});
    registering_.store(false);
    base::Log(registered.ok() ? base::Level::kInfo : base::Level::kWarning, "cache_life_found",
              {{"address", life.address}, {"status", registered.ToString()}});
  });
  if (!taken) registering_.store(false);
}

}  // namespace shadowline::server
