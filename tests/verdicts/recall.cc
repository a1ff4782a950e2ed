#include <algorithm>
#include <atomic>
#include <map>
#include <pqxx/pqxx>
#include <queue>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "base/random.h"
#include "tests/support/await.h"
#include "tests/support/load.h"
#include "tests/verdicts/application.h"
#include "tests/verdicts/scenarios.h"
#include "tests/verdicts/world.h"

namespace shadowline::verdicts {
namespace {

namespace v1 = shadowline::v1;

// How often a key is looked at while it is stale.
constexpr absl::Duration kReadEvery = absl::Milliseconds(50);

// Keys that are written equally often; a tenant of its own.
struct Group {
  std::string rate;
  std::string tenant;
  double writes_per_second;  // Of each key.
  int64_t keys;
  double forgotten;  // The share of its writes that an episode begins with.
};

const std::vector<Group>& Groups() {
  static const auto* const groups = new std::vector<Group>{{"10 a second", "r10s", 10, 8, 0.03},
                                                           {"1 a second", "r1s", 1, 40, 0.1},
                                                           {"1 a minute", "r1m", 1.0 / 60, 300, 0.8},
                                                           {"1 an hour", "r1h", 1.0 / 3600, 7200, 1}};
  return *groups;
}

// The application went on serving `version` of a key after the database had another.
struct Forgotten {
  size_t group = 0;
  int64_t id = 0;
  int64_t version = 0;
  absl::Duration begun;
  absl::Duration read_at;  // When it was read last.
  absl::Duration until;
};

using EpisodeName = std::pair<std::string, std::string>;  // Key, version.

}  // namespace

Outcome Recall(const RecallSize& size, const Progress& progress) {
  Endpoint endpoint;
  endpoint.family = "recall";
  endpoint.sql = "SELECT id, version FROM item WHERE tenant = :tenant AND id = :id";
  endpoint.freshness = size.freshness;
  endpoint.declared = "        evidence: show\n";
  std::vector<std::string> tenants;
  std::string rows;
  for (const Group& group : Groups()) {
    tenants.push_back(group.tenant);
    absl::StrAppend(&rows, "INSERT INTO item SELECT '", group.tenant, "', id, 1 FROM generate_series(0, ",
                    group.keys - 1, ") AS id;\n");
  }
  World world({.schema = absl::StrCat("CREATE TABLE item (tenant text, id bigint, version bigint NOT NULL,"
                                      " PRIMARY KEY (tenant, id));\n",
                                      rows),
               .catalog = absl::StrCat("version: 1\ntenants: {list: [r10s, r1s, r1m, r1h]}\nfamilies:\n",
                                       ExternalFamily(endpoint, "{ramp_ppm: [1000000], approval: true}")),
               .extra_config = "verification: {budget_per_second: 10000, connections: 4, queue: 100000}\n"});
  Operator& by = world.by_operator();
  by.Start("recall", {tenants});
  for (const std::string& tenant : tenants) by.Bring(tenant, "recall", v1::MODE_SHADOW);
  const base::Clock& clock = world.clock();
  Application app(&world, endpoint, Application::Mode::kExternal);
  const auto put = [&](const Group& group, int64_t id, int64_t version) {
    app.redis().Ask({"SET", absl::StrCat("recall:", group.tenant, ":", id),
                     absl::StrCat("{\"id\":", id, ",\"version\":", version, "}")});
  };
  std::vector<std::vector<int64_t>> versions;
  for (const Group& group : Groups()) {
    versions.emplace_back(group.keys, 1);
    for (int64_t id = 0; id < group.keys; ++id) put(group, id, 1);
  }

  base::Mutex mutex;
  std::map<std::pair<size_t, int64_t>, Forgotten> open;  // Under the mutex.
  std::atomic<bool> stopping{false};
  std::atomic<uint64_t> reads{0}, failed{0};
  std::vector<std::thread> readers;
  for (size_t reader = 0; reader < 2; ++reader) {
    readers.push_back(base::StartThread("reader", [&, reader] {
      base::Random random(reader + 1);
      while (!stopping) {
        // The stale key that was not read for longest, or any.
        size_t group = random.Below(Groups().size());
        auto id = static_cast<int64_t>(random.Below(Groups()[group].keys));
        {
          base::MutexLock lock(&mutex);
          const absl::Duration now = clock.Steady();
          auto due = std::min_element(open.begin(), open.end(),
                                      [](const auto& a, const auto& b) { return a.second.read_at < b.second.read_at; });
          if (due != open.end() && due->second.read_at + kReadEvery <= now) {
            due->second.read_at = now;
            std::tie(group, id) = due->first;
          }
        }
        const support::Answer answer =
            world.node(++reads % world.size()).Read(RequestOf("recall/read", {Groups()[group].tenant, id, ""}));
        failed += !answer.status.ok();
      }
    }));
  }

  // Every key's next write, and every episode's end, in order of time.
  struct Due {
    absl::Duration at;
    size_t group;
    int64_t id;
    bool end;
    bool operator<(const Due& other) const { return at > other.at; }
  };
  std::priority_queue<Due> due;
  base::Random random(11);
  const absl::Duration begun = clock.Steady();
  const auto gap = [&](const Group& group) {
    return absl::Seconds(-std::log(1 - random.Unit()) / group.writes_per_second);
  };
  for (size_t g = 0; g < Groups().size(); ++g) {
    for (int64_t id = 0; id < Groups()[g].keys; ++id) due.push({begun + gap(Groups()[g]), g, id, false});
  }
  std::map<EpisodeName, size_t> injected;  // To the group.
  std::set<EpisodeName> confirmed;
  std::set<std::string> collected_ids;
  const auto collect = [&] {
    for (const v1::Divergence& listed : by.Divergences("recall")) {
      if (!collected_ids.insert(listed.id()).second) continue;
      const v1::Divergence divergence = by.Divergence(listed.id());
      const std::string version = divergence.differences_size() > 0 ? divergence.differences(0).candidate() : "";
      confirmed.insert({divergence.key(), version});
    }
  };
  absl::Duration told = begun, collected = begun;
  support::Pace pace(&clock, 1000, 3, absl::Milliseconds(100));
  for (absl::Duration now = begun; now - begun < size.lasts || !open.empty(); now = clock.Steady()) {
    if (now - collected > absl::Seconds(2)) {
      collect();
      collected = now;
    }
    if (now - told > absl::Seconds(10)) {
      progress(absl::StrFormat("recall: %u episodes, %u confirmed, %u reads", injected.size(), confirmed.size(),
                               reads.load()));
      told = now;
    }
    if (due.top().at > now) {
      pace.Next();
      continue;
    }
    const Due next = due.top();
    due.pop();
    const Group& group = Groups()[next.group];
    const std::pair<size_t, int64_t> name{next.group, next.id};
    if (next.end) {
      put(group, next.id, versions[next.group][next.id]);
      base::MutexLock lock(&mutex);
      open.erase(name);
      continue;
    }
    if (now - begun < size.lasts) due.push({now + gap(group), next.group, next.id, false});
    bool is_open;
    {
      base::MutexLock lock(&mutex);
      is_open = open.contains(name);
    }
    const int64_t before = versions[next.group][next.id]++;
    app.Execute("UPDATE item SET version = version + 1 WHERE tenant = :tenant AND id = :id",
                {group.tenant, next.id, ""});
    if (is_open) continue;
    if (now - begun >= size.lasts || random.Unit() >= group.forgotten) {
      put(group, next.id, before + 1);
      continue;
    }
    const absl::Duration committed = clock.Steady();
    const absl::Duration until = committed + size.freshness * (2 + 2 * random.Unit());
    due.push({until, next.group, next.id, true});
    injected[{absl::StrCat("recall:", group.tenant, ":", next.id), absl::StrCat(before)}] = next.group;
    base::MutexLock lock(&mutex);
    open[name] = {next.group, next.id, before, committed, committed - kReadEvery, until};
  }
  stopping = true;
  for (std::thread& reader : readers) reader.join();
  (void)support::AwaitTrue(kLimit, [&] { return by.Report("recall").ledger().pending() == 0; });
  collect();

  Outcome outcome;
  uint64_t found = 0, alarms = 0;
  std::vector<std::pair<uint64_t, uint64_t>> by_group(Groups().size());
  for (const auto& [episode, group] : injected) {
    const bool seen = confirmed.contains(episode);
    found += seen;
    ++by_group[group].first;
    by_group[group].second += seen;
  }
  for (const EpisodeName& episode : confirmed) alarms += !injected.contains(episode);
  const auto share = [](uint64_t part, uint64_t all) {
    return all == 0 ? 0 : static_cast<double>(part) / static_cast<double>(all);
  };
  const double recall = share(found, injected.size());
  outcome.figures = {{"recall", recall},
                     {"episodes_injected", injected.size()},
                     {"episodes_confirmed", found},
                     {"recall_false_alarms", alarms},
                     {"recall_reads", reads.load()}};
  for (size_t g = 0; g < Groups().size(); ++g) {
    outcome.figures["recall_by_rate"][Groups()[g].rate] = {{"injected", by_group[g].first},
                                                           {"confirmed", by_group[g].second},
                                                           {"recall", share(by_group[g].second, by_group[g].first)}};
  }
  outcome.Expect(recall >= 0.99, absl::StrFormat("recall is %.4f", recall));
  outcome.Expect(alarms == 0, absl::StrCat(alarms, " divergences of what was not stale for so long"));
  outcome.Expect(failed == 0, absl::StrCat(failed.load(), " reads failed"));
  return outcome;
}

}  // namespace shadowline::verdicts
