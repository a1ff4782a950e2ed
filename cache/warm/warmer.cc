#include "cache/warm/warmer.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"

namespace shadowline::cache {

struct Warmer::Counters {
  explicit Counters(base::Metrics* metrics) {
    const auto keys = [metrics](const char* outcome) {
      return metrics->AddCounter("shadowline_warm_keys_total",
                                 "Hot keys of invalidated tags, by what became of loading them again.",
                                 {{"outcome", outcome}});
    };
    done = keys("done");
    fresh = keys("fresh");
    failed = keys("failed");
    skipped = keys("skipped");
    dropped = keys("dropped");
    waiting = metrics->AddGauge("shadowline_warm_waiting", "Hot keys that wait to be loaded again.");
    tags_dropped = metrics->AddCounter("shadowline_warm_tags_dropped_total",
                                       "Invalidated tags whose hot keys were not looked for: too many at once.");
  }

  base::Counter* done;
  base::Counter* fresh;
  base::Counter* failed;
  base::Counter* skipped;
  base::Counter* dropped;
  base::Gauge* waiting;
  base::Counter* tags_dropped;
};

Warmer::Warmer(Options options, Deps deps)
    : options_(options), deps_(std::move(deps)), counters_(std::make_unique<Counters>(deps_.metrics)) {}

Warmer::~Warmer() = default;

bool Warmer::Declared() {
  std::shared_ptr<const CompiledCatalog> catalog = deps_.catalog();
  if (catalog != checked_) {
    declared_ = catalog != nullptr && std::any_of(catalog->endpoints().begin(), catalog->endpoints().end(),
                                                  [](const Endpoint& endpoint) { return endpoint.warm > 0; });
    checked_ = std::move(catalog);
  }
  return declared_;
}

void Warmer::Fenced(const std::vector<TenantTag>& tags) {
  if (!Declared()) return;
  const bool first = gathered_.empty();
  for (const TenantTag& tag : tags) {
    if (gathered_.size() < options_.tags_max) {
      gathered_.insert(HashOf(tag));
    } else {
      counters_->tags_dropped->Add();
    }
  }
  if (!first || gathered_.empty()) return;
  deps_.executor->PostAfter(options_.gather, [this] {
    Tags tags_of_now = std::exchange(gathered_, {});
    auto asked = std::make_shared<const Tags>(tags_of_now);
    Ask(std::move(tags_of_now), /*all=*/false, [this, asked](std::vector<HotKey> keys) { Enqueue(*asked, keys); });
  });
}

void Warmer::Warm(const std::vector<TenantTag>& tags, absl::AnyInvocable<void(absl::StatusOr<uint64_t>)> done) {
  if (queue_.size() >= options_.queue_max) {
    return done(absl::ResourceExhaustedError("the queue of keys to load is full; retry later"));
  }
  Tags asked;
  for (const TenantTag& tag : tags) asked.insert(HashOf(tag));
  Ask(asked, /*all=*/true,
      [this, asked, done = std::move(done)](std::vector<HotKey> keys) mutable { done(Enqueue(asked, keys)); });
}

void Warmer::Ask(Tags tags, bool all, Taken done) {
  struct Asking {
    Tags tags;
    Taken done;
    size_t left;
    absl::flat_hash_map<uint64_t, HotKey> keys;  // By id.
  };
  auto asking = std::make_shared<Asking>(Asking{std::move(tags), std::move(done), sources_.size(), {}});
  if (sources_.empty()) return asking->done({});
  for (const Source& source : sources_) {
    source.executor->Post([this, asking, all, keys = source.keys] {
      // `tags` stays as it is, so that every source may read it.
      deps_.executor->Post([asking, taken = keys->Take(asking->tags, all)] {
        for (const HotKey& key : taken) {
          HotKey& sum = asking->keys[key.question->id];
          sum.question = key.question;
          sum.reads += key.reads;
        }
        if (--asking->left > 0) return;
        std::vector<HotKey> all_keys;
        for (auto& [id, key] : asking->keys) all_keys.push_back(std::move(key));
        std::sort(all_keys.begin(), all_keys.end(), [](const HotKey& a, const HotKey& b) {
          return a.reads != b.reads ? a.reads > b.reads : a.question->id < b.question->id;
        });
        asking->done(std::move(all_keys));
      });
    });
  }
}

uint64_t Warmer::Enqueue(const Tags& tags, const std::vector<HotKey>& keys) {
  const std::shared_ptr<const CompiledCatalog> catalog = deps_.catalog();
  if (catalog == nullptr) return 0;
  uint64_t queued = 0;
  absl::flat_hash_map<std::pair<const Endpoint*, uint64_t>, uint32_t> seen;  // By endpoint and tag.
  for (const HotKey& key : keys) {
    const Question& question = *key.question;
    const Endpoint* const endpoint = catalog->Find(question.endpoint);
    if (endpoint == nullptr) continue;
    bool wanted = false;
    for (const uint64_t tag : question.tags) {
      if (tags.contains(tag) && ++seen[{endpoint, tag}] <= endpoint->warm) wanted = true;
    }
    if (!wanted) continue;
    if (queued_.contains(question.id)) continue;
    if (queue_.size() >= options_.queue_max) {
      counters_->dropped->Add();
      continue;
    }
    queue_.push_back(key.question);
    queued_.insert(question.id);
    ++queued;
  }
  Pump();
  return queued;
}

void Warmer::Pump() {
  const absl::Duration now = deps_.clock->Steady();
  while (!queue_.empty() && under_way_ < options_.loads_max && now >= next_load_at_) {
    next_load_at_ = now + absl::Seconds(1) / options_.per_second;
    const std::shared_ptr<const Question> question = std::move(queue_.front());
    queue_.pop_front();
    queued_.erase(question->id);
    Load(*question);
  }
  counters_->waiting->Set(static_cast<double>(queue_.size()));
  if (queue_.empty() || under_way_ >= options_.loads_max || std::exchange(timer_, true)) return;
  deps_.executor->PostAfter(next_load_at_ - now, [this] {
    timer_ = false;
    Pump();
  });
}

void Warmer::Load(const Question& question) {
  Query query;
  query.catalog = deps_.catalog();
  if (query.catalog != nullptr) query.endpoint = query.catalog->Find(question.endpoint);
  // The catalog and the flags may have changed since the question was asked.
  const bool stands =
      query.endpoint != nullptr && query.endpoint->warm > 0 && query.endpoint->definition_id == question.definition;
  const std::optional<uint64_t> epoch =
      stands ? deps_.epoch(question.tenant, query.endpoint->family) : std::optional<uint64_t>();
  if (!epoch.has_value()) return counters_->skipped->Add();
  query.tenant = question.tenant;
  query.arguments = question.arguments;
  std::string key = CacheKey(*query.endpoint, query.tenant, *epoch, query.arguments);
  std::vector<std::string> fence_keys = FenceKeys(*query.endpoint, query.tenant, query.arguments);
  const absl::Duration timeout = query.endpoint->timeout;
  ++under_way_;
  deps_.filler->Refresh({std::move(query), std::move(key), std::move(fence_keys), {}}, /*replaced=*/"", timeout,
                        [this](absl::StatusOr<Filled> filled) {
                          --under_way_;
                          const bool fresh = absl::IsAlreadyExists(filled.status());
                          const bool cached = filled.ok() && filled->cached;
                          (fresh ? counters_->fresh : cached ? counters_->done : counters_->failed)->Add();
                          Pump();
                        });
}

}  // namespace shadowline::cache
