#include "tests/verdicts/run.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/executor.h"
#include "base/hash.h"
#include "tests/support/await.h"
#include "tests/support/load.h"
#include "tests/support/trace.h"
#include "tests/verdicts/naive.h"
#include "tests/verdicts/verdict.h"

namespace shadowline::verdicts {
namespace {

namespace v1 = shadowline::v1;
using nlohmann::json;

// For what the controller does within a few ticks.
constexpr absl::Duration kControllerLimit = absl::Seconds(20);
// For a window to become clean, once it has had its traffic: so long, and so many more reads.
constexpr absl::Duration kRipening = absl::Seconds(5);
constexpr int kRipeningReads = 1000;

// The same value in JSON, numbers as exact as they are written. A text that is none is a value of its own.
bool SameValue(const std::optional<std::string>& a, const std::optional<std::string>& b) {
  if (a.has_value() != b.has_value() || a == b) return a.has_value() == b.has_value();
  return json::parse(*a, nullptr, false) == json::parse(*b, nullptr, false);
}

// What a thread does over and over while others read.
class Meanwhile {
 public:
  Meanwhile(World* world, const Bug& bug, Application::Mode mode) {
    if (bug.meanwhile == nullptr) return;
    thread_ = base::StartThread("meanwhile", [this, world, &bug, mode] {
      try {
        Application app(world, bug.endpoint, mode);
        support::Pace pace(&world->clock(), 400, 1, absl::Milliseconds(100));
        for (uint64_t turn = 0; !stopping_; ++turn) {
          pace.Next();
          bug.meanwhile(app, turn);
        }
      } catch (const std::exception& error) {
        failure_ = error.what();
      }
    });
  }
  ~Meanwhile() { Stop(); }
  void Stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
  }
  void Check() {
    Stop();
    if (!failure_.empty()) throw std::runtime_error(failure_);
  }

 private:
  std::atomic<bool> stopping_{false};
  std::string failure_;
  std::thread thread_;
};

// The traffic of one application, whose reads go through `look`.
class Traffic {
 public:
  Traffic(Application* app, const Bug& bug, std::function<void(const Question&)> look)
      : bug_(bug), random_(base::Hash64(app->ReadName())) {
    stage_.app = app;
    stage_.tenants = TenantsOf(bug);
    stage_.random = &random_;
    stage_.look = std::move(look);
    stage_.harm = [this] {
      ++harms_;
      if (!first_harm_.has_value()) first_harm_ = absl::Now();
    };
    if (bug.prepare) bug.prepare(stage_);
  }

  void Run(const Size& size, bool managed) {
    for (uint64_t i = 0; i < size.reads; ++i) {
      Step();
      if (i % size.reads_a_harm != size.reads_a_harm / 2) continue;
      const auto& harm = managed && bug_.managed ? bug_.managed : bug_.careless;
      if (harm) {
        harm(stage_);
      } else if (managed && bug_.write_ppm > 0) {
        const Question row = stage_.Victim();
        stage_.look(row);
        stage_.app->Update(row);
        stage_.look(row);
      }
      ++stage_.turn;
    }
  }

  void Step() {
    if (random_.Below(1'000'000) < bug_.write_ppm) {
      Question row = Pick();
      row.id %= kRows - kVictims;
      bug_.write ? bug_.write(stage_, row) : stage_.app->Write(row);
    }
    stage_.look(Pick());
  }

  const std::vector<std::string>& tenants() const { return stage_.tenants; }
  uint64_t harms() const { return harms_; }
  std::optional<absl::Time> first_harm() const { return first_harm_; }

 private:
  Question Pick() {
    Question row = bug_.pick ? bug_.pick(stage_)
                             : Question{stage_.tenants[random_.Below(stage_.tenants.size())],
                                        static_cast<int64_t>(std::min(random_.Below(kRows), random_.Below(kRows))), ""};
    const std::vector<std::string>& who = bug_.endpoint.who;
    if (row.who.empty() && !who.empty()) row.who = who[random_.Below(who.size())];
    return row;
  }

  const Bug& bug_;
  base::Random random_;
  Stage stage_;
  uint64_t harms_ = 0;
  std::optional<absl::Time> first_harm_;
};

// Starts a rollout in which the last tenant is served from the cache by force, and the others are in SHADOW.
void StartShadow(Operator* by, const std::string& family, const std::vector<std::string>& tenants) {
  by->Start(family, {{tenants.back()}, {tenants.begin(), tenants.end() - 1}});
  const bool begun = support::AwaitTrue(kControllerLimit, [&] {
    if (by->Mode(tenants.back(), family) != v1::MODE_CACHE) {
      (void)by->Promote(family, tenants.back());
      return false;
    }
    return std::all_of(tenants.begin(), tenants.end() - 1,
                       [&](const std::string& tenant) { return by->Mode(tenant, family) == v1::MODE_SHADOW; });
  });
  if (!begun) throw std::runtime_error(family + " does not begin: " + by->Rollout(family).ShortDebugString());
}

bool AllIn(const v1::Rollout& rollout, v1::TargetState state, size_t from) {
  size_t in = 0;
  for (const v1::RolloutTarget& target : rollout.targets()) in += target.state() == state;
  return in >= from;
}

bool AnyStopped(const v1::Rollout& rollout) {
  return std::any_of(rollout.targets().begin(), rollout.targets().end(), [](const v1::RolloutTarget& target) {
    return target.state() == v1::TARGET_STATE_BLOCKED || target.state() == v1::TARGET_STATE_ROLLED_BACK;
  });
}

// What the operator does once the traffic is over, and what he sees. `step` keeps reads going meanwhile.
Shown LookAt(World* world, const std::string& family, const std::vector<std::string>& tenants,
             const std::function<void()>& step) {
  Operator& by = world->by_operator();
  const auto while_reading = [&](const std::function<bool()>& holds) {
    const absl::Duration until = world->clock().Steady() + kRipening;
    for (int reads = 0; !holds(); reads += 10) {
      if (reads >= kRipeningReads && world->clock().Steady() > until) return false;
      for (int i = 0; i < 10; ++i) step();
    }
    return true;
  };
  const size_t judged = tenants.size() - 1;
  (void)while_reading([&] {
    const v1::Rollout rollout = by.Rollout(family);
    if (!AnyStopped(rollout) && !AllIn(rollout, v1::TARGET_STATE_AWAITING_APPROVAL, judged)) return false;
    return by.Report(family).ledger().pending() == 0;
  });
  Shown shown;
  shown.divergences = by.Divergences(family);
  if (shown.divergences.empty()) {
    if (by.Approve(family).ok()) {
      shown.promoted = while_reading([&] {
        return std::all_of(tenants.begin(), tenants.end(),
                           [&](const std::string& tenant) { return by.Mode(tenant, family) == v1::MODE_CACHE; });
      });
    }
    shown.divergences = by.Divergences(family);
  }
  std::set<std::string> diverged;
  for (const v1::Divergence& divergence : shown.divergences) diverged.insert(divergence.tenant());
  for (const std::string& tenant : diverged) {
    const bool left = support::AwaitTrue(kControllerLimit, [&] { return by.Mode(tenant, family) != v1::MODE_CACHE; });
    if (!left || by.Promote(family, tenant).ok() || by.Mode(tenant, family) == v1::MODE_CACHE) {
      shown.diverged_is_served = true;
    }
  }
  const auto all_demoted = [&] {
    return std::none_of(tenants.begin(), tenants.end(),
                        [&](const std::string& tenant) { return by.Mode(tenant, family) == v1::MODE_CACHE; });
  };
  const bool unsafe = std::any_of(shown.divergences.begin(), shown.divergences.end(), IsUnsafe);
  shown.all_demoted = unsafe ? support::AwaitTrue(kControllerLimit, all_demoted) : all_demoted();
  const v1::Report report = by.Report(family);
  shown.ledger = report.ledger();
  for (const v1::TargetReport& target : report.targets()) {
    if (target.mode() == v1::MODE_CACHE) continue;
    for (const std::string& missing : target.missing()) shown.missing.push_back(target.tenant() + ": " + missing);
  }
  return shown;
}

json LedgerJson(const v1::Ledger& ledger) {
  return {{"sampled", ledger.sampled()}, {"matched", ledger.matched()},     {"excused", ledger.excused()},
          {"healed", ledger.healed()},   {"confirmed", ledger.confirmed()}, {"inconclusive", ledger.inconclusive()},
          {"errored", ledger.errored()}, {"shed", ledger.shed()},           {"lost", ledger.lost()},
          {"pending", ledger.pending()}};
}

// The reads of an application that caches for itself, seen by all tools.
class ExternalLooks {
 public:
  ExternalLooks(World* world, Application* app, const Bug& bug) : world_(world), app_(app), bug_(bug) {}

  void Look(const Question& question) {
    const std::optional<std::string> cached = app_->Get(question);
    const support::Answer answer = world_->node(reads_++ % world_->size()).Read(RequestOf(app_->ReadName(), question));
    failed_ += !answer.status.ok();
    const Pair pair{cached, Control(question)};
    const std::optional<std::string> again = reads_ % 4 == 0 ? Control(question) : std::nullopt;
    bytes_differ_ += pair.cached.has_value() && pair.control.has_value() && *pair.cached != *pair.control;
    naive_.Observe(
        app_->Key(question), pair, again,
        [this, question] {
          return Pair{app_->Cached(question), Control(question)};
        },
        world_->clock().Steady());
    naive_.Tend(world_->clock().Steady());
  }
  // Until the naive tools have made their last retry.
  void Finish() {
    const absl::Duration until = world_->clock().Steady() + absl::Seconds(55) * kRetryScale;
    while (world_->clock().Steady() < until) {
      Pass(world_->clock(), absl::Milliseconds(50));
      naive_.Tend(world_->clock().Steady());
    }
  }

  uint64_t reads() const { return reads_; }
  uint64_t failed() const { return failed_; }
  bool bytes_differ() const { return 2 * bytes_differ_ > reads_; }
  const Naive& naive() const { return naive_; }

 private:
  std::optional<std::string> Control(const Question& question) {
    return bug_.naive_control ? bug_.naive_control(*app_, question) : app_->Load(question);
  }

  World* const world_;
  Application* const app_;
  const Bug& bug_;
  Naive naive_;
  uint64_t reads_ = 0;
  uint64_t failed_ = 0;
  uint64_t bytes_differ_ = 0;
};

Shown RunApplication(World* world, const Bug& bug, const Size& size, json* result, ExternalLooks** looks_out,
                     std::unique_ptr<Application>* app_out, std::unique_ptr<ExternalLooks>* owned) {
  *app_out = std::make_unique<Application>(world, bug.endpoint, Application::Mode::kExternal);
  Application* app = app_out->get();
  *owned = std::make_unique<ExternalLooks>(world, app, bug);
  ExternalLooks* looks = *looks_out = owned->get();
  Traffic traffic(app, bug, [looks](const Question& question) { looks->Look(question); });
  StartShadow(&world->by_operator(), bug.endpoint.family, traffic.tenants());
  Meanwhile meanwhile(world, bug, Application::Mode::kExternal);
  traffic.Run(size, /*managed=*/false);
  Shown shown = LookAt(world, bug.endpoint.family, traffic.tenants(), [&] { traffic.Step(); });
  meanwhile.Check();
  shown.bytes_differ = looks->bytes_differ();
  (void)world->by_operator().Abort(bug.endpoint.family);
  (*result)["harms"] = traffic.harms();
  if (!shown.divergences.empty() && traffic.first_harm().has_value()) {
    int64_t first = INT64_MAX;
    for (const v1::Divergence& divergence : shown.divergences) first = std::min(first, divergence.confirmed_at_us());
    (*result)["seconds_to_detect"] = absl::ToDoubleSeconds(absl::FromUnixMicros(first) - *traffic.first_harm());
  }
  return shown;
}

}  // namespace

bool IsReal(const std::string& expected) { return expected == "BLOCK" || expected == "BLOCK+SEC"; }

std::vector<Expected> ExpectedVerdicts() {
  std::vector<Expected> expected;
  std::ifstream lines(support::SharedData() + "bugs.jsonl");
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    const json bug = json::parse(line);
    expected.push_back({bug.at("id"), bug.at("expect"), bug.at("title")});
  }
  if (!expected.empty()) return expected;
  return {{"Z01", "BLOCK", "a value that was loaded before a delete is stored after it"},
          {"Z03", "BLOCK", "the key is deleted while the write is not committed yet"},
          {"Z06", "TRANSIENT", "the cache is written a moment after the commit"},
          {"Z07", "BLOCK", "a miss is filled from a replica that lags"},
          {"Z10", "BLOCK", "two writers rewrite one bundle of settings"},
          {"Z12", "BLOCK", "\"not found\" stays cached when the row comes"},
          {"Z16", "BLOCK", "a bulk update that calls no hook"},
          {"Z18", "BLOCK", "what embeds a changed row is not told"},
          {"Z20", "BLOCK", "a job writes past the application"},
          {"Z22", "BLOCK", "the delete misses the key's prefix"},
          {"Z25", "BLOCK", "an invalidation is lost while its listener is away"},
          {"Z30", "BLOCK+SEC", "the tenant is missing in the key"},
          {"Z34", "BLOCK", "the locale is missing in the key"},
          {"Z36", "BLOCK+SEC", "a privileged reader fills for a restricted one"},
          {"Z39", "BLOCK+SEC", "a revoked permission is still cached"},
          {"Z40", "BLOCK+SEC", "replies are shifted by one on a reused connection"},
          {"R01", "BLOCK", "a script rounds large integers"},
          {"R03", "BENIGN", "dates become timestamps"},
          {"R09", "BLOCK", "two versions of the writer share keys"},
          {"R11", "BENIGN", "letters are escaped"},
          {"T01", "VACUOUS", "a TTL in the wrong unit keeps nothing"},
          {"T03", "CONTROL", "all keys expire at once"},
          {"C01", "CONTROL", "a rule ignores everything"},
          {"C02", "TRANSIENT", "both sides are read while the data moves"},
          {"C05", "CONTROL", "a replica starts without its flags"},
          {"C09", "VACUOUS", "nobody writes in the window"}};
}

json RunExternal(World* world, const Bug& bug, const std::string& expected, const Size& size) {
  json result = {{"id", bug.id}, {"expected", expected}, {"seconds_to_detect", nullptr}};
  std::unique_ptr<Application> app;
  std::unique_ptr<ExternalLooks> owned;
  ExternalLooks* looks = nullptr;
  Shown shown = RunApplication(world, bug, size, &result, &looks, &app, &owned);
  if (bug.without_rule.has_value()) {
    Bug bare = bug;
    bare.endpoint = *bug.without_rule;
    json ignored;
    std::unique_ptr<Application> its_app;
    std::unique_ptr<ExternalLooks> its_owned;
    ExternalLooks* its_looks = nullptr;
    const Shown without =
        RunApplication(world, bare, {size.reads / 4, size.reads_a_harm}, &ignored, &its_looks, &its_app, &its_owned);
    shown.diverged_without_rule = !without.divergences.empty();
    result["divergences_without_rule"] = without.divergences.size();
  }
  looks->Finish();
  result["got"] = VerdictOf(shown);
  result["reads"] = looks->reads();
  result["reads_failed"] = looks->failed();
  result["ledger"] = LedgerJson(shown.ledger);
  result["divergences"] = shown.divergences.size();
  std::map<std::string, int> causes, groups;
  for (const v1::Divergence& divergence : shown.divergences) {
    ++causes[divergence.cause()];
    ++groups[divergence.fingerprint()];
  }
  result["groups"] = groups.size();
  result["causes"] = causes;
  if (!shown.missing.empty()) result["missing"] = shown.missing;
  result["naive"] = looks->naive().Verdicts(IsReal(expected));
  return result;
}

json RunManaged(World* world, const Bug& bug, const Size& size) {
  Application app(world, bug.endpoint, Application::Mode::kManaged);
  const std::string family = app.endpoint().family;
  const base::Clock& clock = world->clock();
  uint64_t reads = 0, failed = 0, from_cache = 0, wrong = 0;
  std::string example;
  std::deque<std::pair<absl::Duration, Question>> again;  // Read once more, when its bound has passed.
  const auto read = [&](const Question& question) {
    const absl::Duration sent = clock.Steady();
    const support::Answer answer = world->node(reads++ % world->size()).Read(RequestOf(app.ReadName(), question));
    failed += !answer.status.ok();
    if (!answer.status.ok()) return;
    from_cache += answer.FromCache();
    std::optional<std::string> body;
    if (answer.response.found()) body = answer.response.body();
    const std::optional<std::string> control = app.Load(question);
    if (SameValue(body, control) || app.ChangedAt(question) > sent - kManagedFreshness) return;
    ++wrong;
    example =
        absl::StrCat(answer.response.ShortDebugString(), " where the database says ", control.value_or("nothing"));
  };
  Traffic traffic(&app, bug, [&](const Question& question) {
    read(question);
    again.emplace_back(clock.Steady() + kManagedFreshness + absl::Milliseconds(20), question);
    while (!again.empty() && again.front().first <= clock.Steady()) {
      const Question due = again.front().second;
      again.pop_front();
      if (due.id >= kRows - kVictims) read(due);
    }
  });
  Operator& by = world->by_operator();
  json result = {{"how", bug.managed_how}};
  if (bug.managed_in_shadow) {
    StartShadow(&by, family, traffic.tenants());
    traffic.Run(size, true);
    const Shown shown = LookAt(world, family, traffic.tenants(), [&] { traffic.Step(); });
    result["got"] = VerdictOf(shown);
    if (!shown.missing.empty()) result["missing"] = shown.missing;
  } else {
    by.Start(family, {traffic.tenants()});
    const bool begun = support::AwaitTrue(kControllerLimit, [&] {
      const bool all = std::all_of(traffic.tenants().begin(), traffic.tenants().end(), [&](const std::string& tenant) {
        return by.Mode(tenant, family) == v1::MODE_CACHE;
      });
      if (!all) (void)by.Promote(family, "");
      return all;
    });
    if (!begun) throw std::runtime_error(family + " is not promoted: " + by.Rollout(family).ShortDebugString());
    Meanwhile meanwhile(world, bug, Application::Mode::kManaged);
    traffic.Run(size, true);
    meanwhile.Check();
    Pass(clock, kManagedFreshness + absl::Milliseconds(50));
    for (const auto& [due, question] : again) read(question);
    (void)support::AwaitTrue(kControllerLimit, [&] { return by.Report(family).ledger().pending() == 0; });
  }
  const std::vector<v1::Divergence> divergences = by.Divergences(family);
  if (!result.contains("got")) {
    const bool served = std::any_of(divergences.begin(), divergences.end(), [&](const v1::Divergence& divergence) {
      return by.Mode(divergence.tenant(), family) == v1::MODE_CACHE;
    });
    result["got"] = wrong == 0 && divergences.empty() ? "impossible"
                    : !divergences.empty() && !served ? "caught"
                                                      : "served wrong answers";
  }
  (void)by.Abort(family);
  result["reads"] = reads;
  result["reads_failed"] = failed;
  result["from_cache"] = from_cache;
  result["wrong_answers"] = wrong;
  result["divergences"] = divergences.size();
  if (wrong > 0) result["example"] = example;
  return result;
}

}  // namespace shadowline::verdicts
