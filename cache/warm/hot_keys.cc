#include "cache/warm/hot_keys.h"

#include <algorithm>

#include "base/hash.h"

namespace shadowline::cache {
namespace {

constexpr size_t kReadsPerPlace = 16;

size_t BytesOf(const Endpoint& endpoint, absl::string_view tenant,
               const std::vector<std::optional<std::string>>& arguments) {
  size_t bytes = sizeof(Question) + endpoint.name.size() + endpoint.definition_id.size() + tenant.size();
  for (const auto& argument : arguments) bytes += sizeof(argument) + (argument ? argument->size() : 0);
  return bytes + endpoint.tags.size() * sizeof(uint64_t);
}

}  // namespace

uint64_t HashOf(const TenantTag& tag) { return base::Hash64(FenceKey(tag.tenant, tag.tag)); }

void HotKeys::Saw(absl::string_view key, const Endpoint& endpoint, absl::string_view tenant,
                  const std::vector<std::optional<std::string>>& arguments) {
  if (places_.empty()) places_.resize(std::max<size_t>(options_.keys_max / kWays, 1) * kWays);
  if (++reads_ >= places_.size() * kReadsPerPlace) HalveAll();
  const uint64_t id = base::Hash64(key);
  Place* const set = &places_[id % (places_.size() / kWays) * kWays];
  Place* least = set;
  for (Place* place = set; place != set + kWays; ++place) {
    if (place->key.question != nullptr && place->key.question->id == id) {
      ++place->key.reads;
      place->read = true;
      return;
    }
    if (place->key.reads < least->key.reads) least = place;
  }
  if (least->key.reads > 0 && --least->key.reads > 0) return;
  if (BytesOf(endpoint, tenant, arguments) > options_.question_bytes_max) return;
  auto question = std::make_shared<Question>();
  question->id = id;
  question->endpoint = endpoint.name;
  question->definition = endpoint.definition_id;
  question->tenant = std::string(tenant);
  question->arguments = arguments;
  for (const std::string& fence_key : FenceKeys(endpoint, tenant, arguments)) {
    question->tags.push_back(base::Hash64(fence_key));
  }
  *least = {{std::move(question), 1}, true};
}

std::vector<HotKey> HotKeys::Take(const absl::flat_hash_set<uint64_t>& tags, bool all) {
  std::vector<HotKey> taken;
  for (Place& place : places_) {
    if (place.key.question == nullptr || !(place.read || all)) continue;
    const std::vector<uint64_t>& own = place.key.question->tags;
    if (std::none_of(own.begin(), own.end(), [&](uint64_t tag) { return tags.contains(tag); })) continue;
    place.read = false;
    taken.push_back(place.key);
  }
  return taken;
}

void HotKeys::HalveAll() {
  reads_ = 0;
  for (Place& place : places_) place.key.reads /= 2;
}

}  // namespace shadowline::cache
