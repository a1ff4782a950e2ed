#include <algorithm>
#include <atomic>
#include <map>
#include <stdexcept>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "tests/verdicts/bugs.h"
#include "tests/verdicts/canaries.h"
#include "tests/verdicts/controls.h"
#include "tests/verdicts/run.h"
#include "tests/verdicts/scenarios.h"

namespace shadowline::verdicts {
namespace {

using nlohmann::json;

constexpr const char* kTools[] = {"once", "reread", "six_retries", "noise_floor"};

struct Task {
  const Bug* bug = nullptr;
  std::string expected;
  bool managed = false;
};

}  // namespace

Outcome Bugs(const BugsSize& size, const Progress& progress) {
  std::vector<Bug> bugs = AllBugs();
  const std::vector<Expected> all = ExpectedVerdicts();
  std::vector<Expected> expected;
  for (const Expected& one : all) {
    if (size.only.empty() || std::find(size.only.begin(), size.only.end(), one.id) != size.only.end()) {
      expected.push_back(one);
    }
  }
  const auto is_asked = [&](const std::string& id) {
    return std::any_of(expected.begin(), expected.end(), [&](const Expected& one) { return one.id == id; });
  };
  bugs.erase(std::remove_if(bugs.begin(), bugs.end(), [&](const Bug& bug) { return !is_asked(bug.id); }), bugs.end());

  Outcome outcome;
  std::map<std::string, json> results;
  base::Mutex mutex;
  const auto keep = [&](const std::string& id, bool managed, json result) {
    base::MutexLock lock(&mutex);
    json& entry = results[id];
    if (managed) {
      entry["managed"] = std::move(result);
    } else {
      entry.update(result);
    }
  };
  if (!bugs.empty()) {
    World world({.schema = SchemaOf(bugs),
                 .catalog = CatalogOf(bugs),
                 .extra_config = "verification: {budget_per_second: 10000, connections: 4, queue: 100000}\n",
                 .standby = is_asked("Z07"),
                 .role = "reader"});
    std::vector<Task> tasks;
    for (bool managed : {false, true}) {
      for (const Bug& bug : bugs) {
        const auto one =
            std::find_if(expected.begin(), expected.end(), [&](const Expected& e) { return e.id == bug.id; });
        tasks.push_back({&bug, one->verdict, managed});
      }
    }
    std::atomic<size_t> next{0};
    std::vector<std::thread> workers;
    for (size_t i = 0; i < size.side_by_side; ++i) {
      workers.push_back(base::StartThread("bug", [&] {
        for (size_t at = next++; at < tasks.size(); at = next++) {
          const Task& task = tasks[at];
          json result;
          try {
            result = task.managed ? RunManaged(&world, *task.bug, {.reads = size.reads})
                                  : RunExternal(&world, *task.bug, task.expected, {.reads = size.reads});
          } catch (const std::exception& error) {
            result = {
                {"id", task.bug->id}, {"expected", task.expected}, {"got", absl::StrCat("error: ", error.what())}};
          }
          progress(absl::StrCat(task.bug->id, task.managed ? " managed: " : ": ", result["got"].get<std::string>(),
                                task.managed ? "" : absl::StrCat(" (", task.expected, ")")));
          keep(task.bug->id, task.managed, std::move(result));
        }
      }));
    }
    for (std::thread& worker : workers) worker.join();
    progress(absl::StrCat("canaries: ", ShowCanaries(&world)));
    uint64_t found = 0;
    outcome.figures["canaries"] = FindCanaries(&world, &found);
    outcome.figures["canaries_found"] = found;
    outcome.Expect(found == 0, absl::StrCat(found, " canaries were found: ", outcome.figures["canaries"].dump()));
  }

  const auto control = [&](const std::string& id, const std::function<json()>& run) {
    if (!is_asked(id)) return;
    json result;
    try {
      result = run();
    } catch (const std::exception& error) {
      result = {{"got", absl::StrCat("error: ", error.what())}};
    }
    progress(absl::StrCat(id, ": ", result["got"].get<std::string>(), " (CONTROL)"));
    keep(id, false, std::move(result));
  };
  control("T03", StampedeAfterExpiry);
  control("C05", [&] { return ColdStart(size.without_flags); });

  uint64_t right = 0, managed_right = 0;
  json list = json::array();
  std::map<std::string, std::pair<uint64_t, uint64_t>> naive;  // Missed, cried wolf.
  for (const Expected& one : expected) {
    json entry = results[one.id];
    entry["id"] = one.id;
    entry["expected"] = one.verdict;
    if (!entry.contains("got")) entry["got"] = "not run";
    const bool is_right = entry["got"] == one.verdict;
    right += is_right;
    outcome.Expect(is_right,
                   absl::StrCat(one.id, ": ", entry["got"].get<std::string>(), ", expected ", one.verdict, " ",
                                entry.value("missing", json()).dump(), " ", entry.value("ledger", json()).dump()));
    const json managed = entry.value("managed", json::object());
    const std::string came_to = managed.value("got", "not run");
    const bool managed_is_right = came_to == "impossible" || came_to == "caught" || came_to == one.verdict;
    managed_right += managed_is_right;
    outcome.Expect(managed_is_right, absl::StrCat(one.id, " managed: ", came_to, " ", managed.value("example", "")));
    for (const char* tool : kTools) {
      const std::string verdict = entry.value("naive", json::object()).value(tool, json::object()).value("verdict", "");
      naive[tool].first += verdict == "missed";
      naive[tool].second += verdict == "cried wolf";
    }
    list.push_back(std::move(entry));
  }
  outcome.figures["bugs_total"] = expected.size();
  outcome.figures["bugs_right"] = right;
  outcome.figures["managed_right"] = managed_right;
  outcome.figures["bugs"] = list;
  for (const auto& [tool, counts] : naive) {
    outcome.figures["naive"][tool] = {{"missed", counts.first}, {"cried_wolf", counts.second}};
  }
  progress(absl::StrFormat("%-4s %-10s %-10s %8s  %-22s %s", "", "expected", "got", "s", "managed",
                           "once / reread / six retries / noise floor"));
  for (const json& entry : list) {
    std::string tools;
    for (const char* tool : kTools) {
      absl::StrAppend(&tools, tools.empty() ? "" : " / ",
                      entry.value("naive", json::object()).value(tool, json::object()).value("verdict", "-"));
    }
    const json seconds = entry.value("seconds_to_detect", json());
    progress(absl::StrFormat("%-4s %-10s %-10s %8s  %-22s %s", entry["id"].get<std::string>(),
                             entry["expected"].get<std::string>(), entry["got"].get<std::string>(),
                             seconds.is_number() ? absl::StrFormat("%.2f", seconds.get<double>()) : "",
                             entry.value("managed", json::object()).value("got", "-"), tools));
  }
  return outcome;
}

}  // namespace shadowline::verdicts
