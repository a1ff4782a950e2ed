// The 26 bugs: how each is put into an application that is otherwise right, and the same tried where Shadowline keeps
// the cache. What each has to end in is not known here: verdict.h reads that off Shadowline, and the shared data says
// it.
//
// A bug is told once for about a thousand reads to do its harm, and reads then what it harmed, as a caller would.
//
// Threads: values; what they do happens on the thread of the stage.
#ifndef SHADOWLINE_TESTS_VERDICTS_BUGS_H_
#define SHADOWLINE_TESTS_VERDICTS_BUGS_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "tests/verdicts/application.h"

namespace shadowline::verdicts {

// Rows 0 to kRows - 1 are there for each tenant. The last ones are written by bugs alone, so that no other write heals
// what they did.
inline constexpr int64_t kRows = 200;
inline constexpr int64_t kVictims = 50;
inline constexpr int64_t kBulkRows = 5000;

// In every row, and in the names of viewers: what may be found in none of Shadowline's records.
const std::string& Canary();

// Where a bug does its harm.
struct Stage {
  Application* app = nullptr;
  // Three tenants. The last is served from the cache from the beginning on, and no bug touches its rows.
  std::vector<std::string> tenants;
  base::Random* random = nullptr;
  // A read of the application, and the same read through Shadowline; all tools see it.
  std::function<void(const Question&)> look;
  // Called before each harm that is done.
  std::function<void()> harm;
  uint64_t turn = 0;  // How often the bug was told already.

  // A row that only this turn of the bug writes.
  Question Victim(size_t tenant = 0, const std::string& who = "") const {
    return {tenants[tenant], kRows - 1 - static_cast<int64_t>(turn) % kVictims, who};
  }
};

struct Bug {
  std::string id;
  Endpoint endpoint;
  // In the application's cache; null: it is in `prepare`, and there all the time.
  std::function<void(Stage&)> careless;
  // The same attempt against the managed cache; null: rows are written and nobody invalidates.
  std::function<void(Stage&)> managed;
  std::string managed_how;  // Why nothing can come of it there, for people.

  bool managed_in_shadow = false;  // Nothing is promoted there: what is asked is whether it would be.

  // ---- Where the traffic is another than usual ----
  std::function<void(Stage&)> prepare;   // The application, before its first read.
  std::function<Question(Stage&)> pick;  // What is read.
  std::function<void(Stage&, const Question&)> write;
  uint32_t write_ppm = 30'000;                                 // Of the reads: how many are preceded by a write.
  std::function<void(Application&, uint64_t turn)> meanwhile;  // Over and over, on a thread of its own.
  // The control as a naive tool reads it.
  std::function<std::optional<std::string>(Application&, const Question&)> naive_control;
  // The same endpoint once more, without the rule that excuses; or with data that no rule may excuse.
  std::optional<Endpoint> without_rule;
};

std::vector<Bug> AllBugs();

// Of all bugs, and with a role `reader` that may read them.
std::string SchemaOf(const std::vector<Bug>& bugs);
std::vector<std::string> TenantsOf(const Bug& bug);
// With a family for each bug's application, and one that is managed.
std::string CatalogOf(const std::vector<Bug>& bugs);

}  // namespace shadowline::verdicts

#endif  // SHADOWLINE_TESTS_VERDICTS_BUGS_H_
