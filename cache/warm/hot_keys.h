// HotKeys remembers which keys one lane reads most often, so that they can be loaded again after an invalidation.
//
// The memory is a table of sets of kWays places. A key that is there costs a hash and a count. Where the set of a new
// key is full, the least read one loses a read, and its place when it has none left (the rule of J. Misra and D. Gries,
// "Finding Repeated Elements", 1982, in each set): what is read once pushes out nothing that is read often, and costs
// no allocation. Every 16 reads a place all counts are halved, so that what was read often a while ago makes room.
//
// Ownership: owns what it remembers, without the catalog: a question may be out of date when it is asked again.
// Threads:   belongs to one lane.
// Limits:    keys_max keys; a key whose question takes more than question_bytes_max is not remembered.
#ifndef SHADOWLINE_CACHE_WARM_HOT_KEYS_H_
#define SHADOWLINE_CACHE_WARM_HOT_KEYS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "cache/catalog/catalog.h"
#include "cache/key/key.h"

namespace shadowline::cache {

// Stands for a tag in tables.
uint64_t HashOf(const TenantTag& tag);

// A key's question, as it can be asked again.
struct Question {
  uint64_t id = 0;  // Of its key.
  std::string endpoint;
  std::string definition;  // Endpoint::definition_id, which says what the arguments mean.
  std::string tenant;
  std::vector<std::optional<std::string>> arguments;
  std::vector<uint64_t> tags;  // HashOf
};

struct HotKey {
  std::shared_ptr<const Question> question;
  uint32_t reads = 0;
};

class HotKeys {
 public:
  static constexpr size_t kWays = 8;

  struct Options {
    size_t keys_max = 2048;
    size_t question_bytes_max = 1024;
  };

  explicit HotKeys(Options options) : options_(options) {}
  HotKeys() : HotKeys(Options()) {}

  // `key` was read: the question of `endpoint`, by `tenant`, with `arguments`.
  void Saw(absl::string_view key, const Endpoint& endpoint, absl::string_view tenant,
           const std::vector<std::optional<std::string>>& arguments);

  // The keys under any of `tags` that were read since they were taken last; with `all`, also those that were not.
  std::vector<HotKey> Take(const absl::flat_hash_set<uint64_t>& tags, bool all = false);

 private:
  struct Place {
    HotKey key;  // No question: free.
    bool read = false;
  };

  void HalveAll();

  const Options options_;
  std::vector<Place> places_;  // Made when the first key comes.
  size_t reads_ = 0;           // Since the counts were halved.
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_WARM_HOT_KEYS_H_
