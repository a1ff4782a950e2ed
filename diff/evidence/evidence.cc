#include "diff/evidence/evidence.h"

#include <algorithm>
#include <iterator>

namespace shadowline::diff {

size_t Merge(Flush newer, size_t episodes_max, Flush* older) {
  size_t room = episodes_max;
  for (const auto& [key, episodes] : older->episodes) room -= std::min(room, episodes.size());
  size_t left_out = 0;
  for (auto& [key, episodes] : newer.episodes) {
    const size_t taken = std::min(room, episodes.size());
    room -= taken;
    left_out += episodes.size() - taken;
    if (taken == 0) continue;
    std::vector<Episode>& all = older->episodes[key];
    std::move(episodes.begin(), episodes.begin() + static_cast<std::ptrdiff_t>(taken), std::back_inserter(all));
  }
  for (auto& [key, counts] : newer.counts) older->counts.insert_or_assign(key, counts);
  for (auto& [key, counts] : newer.noise) older->noise.insert_or_assign(key, std::move(counts));
  older->sequence = newer.sequence;
  older->watermark = newer.watermark;
  older->catalog_revision = newer.catalog_revision;
  older->flag_revision = newer.flag_revision;
  return left_out;
}

}  // namespace shadowline::diff
