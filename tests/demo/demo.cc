// The demo: one command after which a newcomer has watched an endpoint family move from the database to the cache on
// evidence, and another one refused because its cache lies.
//
// It starts a PostgreSQL, a Redis and two replicas of shadowlined of its own, drives readers and writers of 40 tenants,
// and then uses nothing but what any operator has: the command line `shadowline` and the services. Whether answers are
// right is judged by the load's own history of writes (support::History), and what the database had to do is read from
// PostgreSQL's own statistics; Shadowline is believed in neither.
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/clock.h"
#include "base/status.h"
#include "shadowline/v1/divergence.grpc.pb.h"
#include "shadowline/v1/read.grpc.pb.h"
#include "shadowline/v1/rollout.grpc.pb.h"
#include "tests/demo/application.h"
#include "tests/demo/recorder.h"
#include "tests/demo/screen.h"
#include "tests/support/history.h"
#include "tests/support/load.h"
#include "tests/support/private_servers.h"
#include "tests/support/shadowlined.h"

namespace shadowline::demo {
namespace {

using Tone = Screen::Tone;

volatile sig_atomic_t interrupted = 0;

struct Options {
  bool once = false;
  std::string json;
  double rate = 0;  // Reads a second; 0: what this machine can do in comfort.
  absl::Duration measure = absl::Seconds(10);
  absl::Duration patience = absl::Minutes(4);
  uint64_t seed = 1;
};

// Families whose story is told, with a table that only their statements read.
struct Actor {
  Family family;
  const char* table;
};
constexpr std::array<Actor, 2> kActors = {{{kPricing, "saas.price_book"}, {kPermissions, "saas.access_grant"}}};
constexpr size_t kPilots = 2;                        // 5 % of the tenants
constexpr size_t kEarly = 8;                         // With the pilots 25 %
constexpr absl::Duration kDelta = absl::Seconds(2);  // `freshness` of the catalog.
// What differed before the writers were mended may be confirmed for so long afterwards: a second look comes after
// delta, and then its evidence travels.
constexpr absl::Duration kSettle = absl::Seconds(4);
constexpr int kMostStops = 3;
// Writes of one family for each read of the whole load, and how much more is written while families move: a window in
// which nothing was written proves nothing about invalidation.
constexpr double kWritesPerRead = 1.0 / 400;
constexpr double kBusy = 8;

// What PostgreSQL says it did for one family.
struct DatabaseUse {
  uint64_t queries = 0;
  absl::Duration time;

  DatabaseUse operator-(const DatabaseUse& earlier) const { return {queries - earlier.queries, time - earlier.time}; }
};

struct Stretch {
  std::array<Measured, kFamilies> latency;
  std::array<DatabaseUse, kFamilies> database;

  double QueriesPerThousand(Family family) const {
    const uint64_t reads = latency[family].reads;
    return reads == 0 ? 0 : 1000.0 * static_cast<double>(database[family].queries) / static_cast<double>(reads);
  }
};

// What became of one family.
struct Outcome {
  size_t promoted = 0;            // Targets that are served from the cache at 100 %.
  std::set<std::string> blocked;  // Tenants whose targets were stopped before their cutover.
  int stops = 0;
  size_t rolled_back = 0;
  uint64_t confirmed = 0;
  std::string cause;
  std::optional<uint32_t> stopped_at;  // Cohort.
  size_t promoted_when_stopped = 0;
  bool settled = false;
};

struct Expectation {
  std::string text;
  bool met = false;
};

void Sleep(absl::Duration duration) {
  const timespec wait = absl::ToTimespec(duration);
  clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, nullptr);
}

std::string Milliseconds(absl::Duration duration) {
  const double value = absl::ToDoubleMilliseconds(duration);
  return absl::StrFormat(value < 10 ? "%.2f" : "%.1f", value);
}

// 12345678 -> "12,345,678"
std::string Grouped(uint64_t number) {
  std::string text = absl::StrCat(number);
  for (size_t i = text.size(); i > 3; i -= 3) text.insert(i - 3, 1, ',');
  return text;
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

std::string Name(Family family) { return std::string(kFamilyNames[family]); }

class Demo {
 public:
  Demo(Options options, const base::Clock* clock) : options_(std::move(options)), clock_(clock), screen_(clock) {}

  // Exit status.
  int Run();

 private:
  absl::Status Play();
  absl::Status StartServers();
  absl::Status ChooseRate();
  void StartLoad();
  void SetWrites(double times);
  void StopLoad();
  absl::StatusOr<Stretch> Measure(const std::string& what);
  absl::Status MoveFamilies();
  absl::Status ShowDivergence();
  absl::Status MendWriters();
  absl::Status Drain();
  void Tell();
  void WriteJson() const;
  absl::Status Explore();

  // kCancelled once the person at the terminal has had enough.
  absl::Status Wait(absl::Duration duration);
  // Runs the command line and shows it with the first lines of its output.
  absl::Status Shadowline(const std::vector<std::string>& arguments, size_t lines = SIZE_MAX);
  std::array<DatabaseUse, kFamilies> ReadDatabaseUse();
  absl::StatusOr<shadowline::v1::Rollout> GetRollout(Family family);
  absl::StatusOr<shadowline::v1::Report> GetReport(Family family);
  void Follow(const shadowline::v1::Rollout& rollout, Family family);
  std::string LiveLine(const shadowline::v1::Rollout& rollout, Family family) const;
  std::vector<Expectation> Expectations() const;

  const Options options_;
  const base::Clock* const clock_;
  Screen screen_;

  support::ScratchFolder scratch_{"demo"};
  std::unique_ptr<support::PrivatePostgres> postgres_;
  std::unique_ptr<support::PrivateRedis> redis_;
  std::string database_;
  std::vector<std::unique_ptr<support::Shadowlined>> replicas_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
  std::unique_ptr<shadowline::v1::RolloutService::Stub> rollouts_;
  std::unique_ptr<shadowline::v1::DivergenceService::Stub> divergences_;

  double rate_ = 0;
  support::History history_;
  Questions questions_{options_.seed};
  Recorder recorder_{&questions_.all(), &history_, kDelta};
  std::vector<std::unique_ptr<Writers>> writers_;
  std::unique_ptr<support::OpenLoop> load_;

  std::array<Outcome, kFamilies> outcomes_;
  std::array<shadowline::v1::Rollout, kFamilies> seen_;
  Stretch before_;
  Stretch after_;
  uint64_t dropped_ = 0;
  uint64_t pending_ = 0;
  int64_t ledger_residual_ = -1;
};

int Demo::Run() {
  const absl::Status played = Play();
  screen_.Live({});
  if (absl::IsCancelled(played)) return 130;
  if (!played.ok()) {
    screen_.Say(absl::StrCat("The demo cannot go on: ", played.message()), Tone::kBad);
    return 1;
  }
  WriteJson();
  Tell();
  bool all_met = true;
  for (const Expectation& expectation : Expectations()) all_met &= expectation.met;
  if (!options_.once && !absl::IsCancelled(Explore())) return 1;
  return all_met ? 0 : 1;
}

absl::Status Demo::Play() {
  screen_.Heading("Shadowline: reads move from the database to the cache, on evidence");
  RETURN_IF_ERROR(StartServers());
  screen_.Heading("1. Everything is read from the database");
  RETURN_IF_ERROR(ChooseRate());
  StartLoad();
  RETURN_IF_ERROR(Wait(absl::Seconds(2)));
  ASSIGN_OR_RETURN(before_, Measure("before"));
  screen_.Heading("2. Two families set out for the cache: 5 %, then 25 %, then all of 40 tenants");
  SetWrites(kBusy);
  RETURN_IF_ERROR(MoveFamilies());
  SetWrites(1);
  screen_.Heading("3. The same load as at first");
  RETURN_IF_ERROR(Wait(absl::Seconds(6)));
  ASSIGN_OR_RETURN(after_, Measure("after"));
  StopLoad();
  return Drain();
}

absl::Status Demo::StartServers() {
  screen_.Live({"         starting PostgreSQL and Redis ..."});
  postgres_ = std::make_unique<support::PrivatePostgres>(std::vector<std::string>{
      "shared_buffers = 256MB", "max_wal_size = 2GB", "shared_preload_libraries = 'pg_stat_statements'"});
  redis_ = std::make_unique<support::PrivateRedis>();
  screen_.Live({"         loading the data of a B2B SaaS ..."});
  database_ = postgres_->CreateDatabase();
  const char* source = std::getenv("SHADOWLINE_SOURCE_DIR");
  const std::string folder = absl::StrCat(source == nullptr ? SHADOWLINE_SOURCE_DIR : source, "/tests/demo");
  postgres_->RunScript(database_, folder + "/workload.sql");
  std::string version;
  uint64_t rows = 0;
  try {
    pqxx::connection connection(postgres_->ConnectionString(database_));
    pqxx::nontransaction work(connection);
    // Shadowline's own role: it may read the application's data, and keep its own.
    work.exec(
        "CREATE EXTENSION pg_stat_statements; CREATE ROLE shadowline LOGIN; GRANT USAGE ON SCHEMA saas TO shadowline; "
        "GRANT SELECT ON ALL TABLES IN SCHEMA saas TO shadowline");
    work.exec(absl::StrCat("GRANT CREATE ON DATABASE ", database_, " TO shadowline"));
    version = work.exec1("SHOW server_version")[0].as<std::string>();
    rows = work.exec1("SELECT sum(n_live_tup)::bigint FROM pg_stat_user_tables")[0].as<uint64_t>();
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
  screen_.Say(absl::StrCat("a private PostgreSQL ", version.substr(0, version.find(' ')), " with ", Grouped(rows),
                           " rows of a B2B SaaS, and a private Redis"));
  screen_.Live({"         starting two replicas of shadowlined ..."});
  std::string url = postgres_->ConnectionString(database_);
  url.replace(url.find("user=postgres"), 13, "user=shadowline");
  for (const char* name : {"replica-1", "replica-2"}) {
    replicas_.push_back(std::make_unique<support::Shadowlined>(support::Shadowlined::Options{
        .name = name,
        .source = url,
        .redis = "unix:" + redis_->socket(),
        // In step with windows of seconds.
        .extra_config =
            "controller:\n  tick: 500ms\nevidence:\n  flush: 500ms\n  key: a-demo-has-no-secrets-in-its-rows\n",
        .await_ready = false}));
    channels_.push_back(grpc::CreateChannel(replicas_.back()->address(), grpc::InsecureChannelCredentials()));
  }
  for (const auto& channel : channels_) {
    if (!channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(60))) {
      return absl::UnavailableError("a replica does not answer:\n" + replicas_.back()->Log());
    }
  }
  rollouts_ = shadowline::v1::RolloutService::NewStub(channels_[0]);
  divergences_ = shadowline::v1::DivergenceService::NewStub(channels_[0]);
  screen_.Say(absl::StrCat("two replicas of shadowlined: ", replicas_[0]->address(), " and ", replicas_[1]->address()));
  RETURN_IF_ERROR(Shadowline({"apply", "-f", folder + "/catalog.yaml"}));
  for (const auto& replica : replicas_) replica->AwaitReady();
  return absl::OkStatus();
}

// An open loop does not wait for a slow machine, so the rate is chosen by what the machine can do: reads that keep the
// database busy for half of its processors.
absl::Status Demo::ChooseRate() {
  screen_.Live({"         asking each question of a tenth of the tenants once, to see what a read costs here ..."});
  const auto stub = shadowline::v1::ReadService::NewStub(channels_[0]);
  const absl::Duration start = clock_->Steady();
  int reads = 0;
  for (const Question& question : questions_.all()) {
    if (question.family == kDashboard || question.tenant % 10 != 5) continue;
    grpc::ClientContext context;
    shadowline::v1::ReadResponse response;
    if (const grpc::Status status = stub->Read(&context, question.request, &response); !status.ok()) {
      return base::Annotate(FromGrpc(status), question.text);
    }
    ++reads;
    RETURN_IF_ERROR(Wait(absl::ZeroDuration()));
  }
  const absl::Duration cost = (clock_->Steady() - start) / reads;
  const double processors = static_cast<double>(sysconf(_SC_NPROCESSORS_ONLN));
  rate_ = options_.rate > 0 ? options_.rate : std::clamp(0.5 * processors / absl::ToDoubleSeconds(cost), 140.0, 300.0);
  screen_.Say(
      absl::StrFormat("a read takes the database %s ms: the load is %.0f reads and %.1f writes a second of 40 tenants "
                      "(%.1f writes while families move)",
                      Milliseconds(cost), rate_, 2 * rate_ * kWritesPerRead, 2 * kBusy * rate_ * kWritesPerRead));
  return absl::OkStatus();
}

void Demo::StartLoad() {
  const bool mended = std::any_of(writers_.begin(), writers_.end(), [](const auto& w) { return w->mended(); });
  writers_.clear();
  for (const Family family : {kPricing, kPermissions, kDashboard}) {
    writers_.push_back(
        std::make_unique<Writers>(Writers::Options{.family = family,
                                                   .database = postgres_->ConnectionString(database_),
                                                   .channel = channels_[family % channels_.size()],
                                                   .rate = rate_ * kWritesPerRead * (family == kDashboard ? 0.1 : 1),
                                                   .seed = options_.seed + family},
                                  clock_, &history_));
    if (mended) writers_.back()->Mend();
  }
  load_ = std::make_unique<support::OpenLoop>(
      support::OpenLoop::Options{.channels = channels_, .rate = rate_, .seed = options_.seed}, clock_,
      [this] { return questions_.Draw(); }, [this](const support::Reply& reply) { recorder_.Add(reply); });
}

void Demo::SetWrites(double times) {
  for (const Family family : {kPricing, kPermissions}) writers_[family]->SetRate(times * rate_ * kWritesPerRead);
}

void Demo::StopLoad() {
  dropped_ += load_->dropped();
  load_->Stop();
  for (const auto& writers : writers_) writers->Stop();
}

absl::StatusOr<Stretch> Demo::Measure(const std::string& what) {
  Stretch stretch;
  const auto start = ReadDatabaseUse();
  recorder_.StartMeasuring();
  const absl::Duration end = clock_->Steady() + options_.measure;
  while (clock_->Steady() < end) {
    screen_.Live(
        {absl::StrFormat("         measuring %s: %.0f s left", what, absl::ToDoubleSeconds(end - clock_->Steady()))});
    RETURN_IF_ERROR(Wait(std::min(absl::Milliseconds(500), end - clock_->Steady())));
  }
  stretch.latency = recorder_.StopMeasuring();
  const auto finish = ReadDatabaseUse();
  for (const Actor& actor : kActors) {
    stretch.database[actor.family] = finish[actor.family] - start[actor.family];
    const Measured& latency = stretch.latency[actor.family];
    screen_.Say(absl::StrFormat("%-12s p50 %s  p95 %s  p99 %s ms; %.0f database queries for 1,000 reads",
                                Name(actor.family), Milliseconds(latency.p50), Milliseconds(latency.p95),
                                Milliseconds(latency.p99), stretch.QueriesPerThousand(actor.family)));
  }
  return stretch;
}

std::array<DatabaseUse, kFamilies> Demo::ReadDatabaseUse() {
  pqxx::connection connection(postgres_->ConnectionString(database_));
  pqxx::nontransaction work(connection);
  std::array<DatabaseUse, kFamilies> use;
  for (const Actor& actor : kActors) {
    // Everything that Shadowline asked of the family's tables: reads, fills, verification.
    const pqxx::row row = work.exec_params1(
        "SELECT coalesce(sum(calls), 0)::bigint, coalesce(sum(total_exec_time), 0)::float8 "
        "FROM pg_stat_statements AS s JOIN pg_roles AS r ON r.oid = s.userid "
        "WHERE r.rolname = 'shadowline' AND position($1 IN query) > 0",
        actor.table);
    use[actor.family] = {row[0].as<uint64_t>(), absl::Milliseconds(row[1].as<double>())};
  }
  return use;
}

absl::Status Demo::MoveFamilies() {
  const std::vector<std::string>& tenants = Tenants();
  const auto names = [&](size_t from, size_t count) {
    return absl::StrJoin(tenants.begin() + static_cast<std::ptrdiff_t>(from),
                         tenants.begin() + static_cast<std::ptrdiff_t>(from + count), ",");
  };
  for (const Actor& actor : kActors) {
    RETURN_IF_ERROR(Shadowline({"rollout", "start", Name(actor.family), "--cohort", "pilot=" + names(0, kPilots),
                                "--cohort", "early=" + names(kPilots, kEarly), "--cohort", "rest"},
                               1));
  }
  const absl::Duration end = clock_->Steady() + options_.patience;
  absl::Duration resume_at;
  while (clock_->Steady() < end) {
    std::vector<std::string> live = {""};
    bool over = true;
    for (const Actor& actor : kActors) {
      ASSIGN_OR_RETURN(const shadowline::v1::Rollout rollout, GetRollout(actor.family));
      Follow(rollout, actor.family);
      live.push_back(LiveLine(rollout, actor.family));
      over &= rollout.state() > shadowline::v1::ROLLOUT_STATE_STOPPED;
    }
    const Recorder::Totals totals = recorder_.totals();
    live.push_back(
        screen_.Paint(absl::StrFormat("         %s reads so far, %s from the cache; %s wrong", Grouped(totals.reads),
                                      Grouped(totals.from_cache), Grouped(totals.wrong)),
                      totals.wrong == 0 ? Tone::kFaint : Tone::kBad));
    screen_.Live(std::move(live));
    if (over) return absl::OkStatus();
    if (seen_[kPricing].state() == shadowline::v1::ROLLOUT_STATE_STOPPED) {
      return absl::FailedPreconditionError("pricing was stopped, though its cache is right");
    }
    if (seen_[kPermissions].state() == shadowline::v1::ROLLOUT_STATE_STOPPED) {
      if (!writers_[kPermissions]->mended()) {
        screen_.Live({});
        RETURN_IF_ERROR(ShowDivergence());
        RETURN_IF_ERROR(MendWriters());
        resume_at = clock_->Steady() + kSettle;
      } else if (outcomes_[kPermissions].stops > kMostStops) {
        return absl::FailedPreconditionError("permissions is stopped again and again, though its writers are mended");
      } else if (clock_->Steady() >= resume_at) {
        screen_.Live({});
        RETURN_IF_ERROR(Shadowline({"rollout", "resume", Name(kPermissions), "--reason", "the writers are mended"}, 1));
        resume_at = clock_->Steady() + kSettle;
      }
    }
    RETURN_IF_ERROR(Wait(absl::Milliseconds(400)));
  }
  screen_.Live({});
  screen_.Say(absl::StrCat("not every family has arrived after ", absl::FormatDuration(options_.patience)), Tone::kBad);
  return absl::OkStatus();
}

// Tells what happened since the rollout was looked at last.
void Demo::Follow(const shadowline::v1::Rollout& rollout, Family family) {
  using namespace shadowline::v1;  // NOLINT: the states' names.
  Outcome& outcome = outcomes_[family];
  const Rollout& last = seen_[family];
  std::map<std::string, size_t> sizes;
  std::map<std::string, size_t> moved;  // Served from the cache, in part at least.
  std::map<std::string, size_t> moved_before;
  size_t promoted = 0;
  size_t moved_total = 0;
  size_t rolled_back = 0;
  std::vector<std::string> blocked;  // Since last time.
  for (const RolloutTarget& target : rollout.targets()) {
    ++sizes[target.cohort()];
    if (target.mode() == MODE_CACHE) {
      ++moved[target.cohort()];
      ++moved_total;
      const auto tenant = std::find(Tenants().begin(), Tenants().end(), target.tenant());
      if (tenant != Tenants().end()) recorder_.Promoted(family, static_cast<size_t>(tenant - Tenants().begin()));
    }
    promoted += target.state() == TARGET_STATE_SETTLED;
    rolled_back += target.state() == TARGET_STATE_ROLLED_BACK;
    if (target.state() == TARGET_STATE_BLOCKED && outcome.blocked.insert(target.tenant()).second) {
      blocked.push_back(target.tenant());
    }
  }
  for (const RolloutTarget& target : last.targets()) moved_before[target.cohort()] += target.mode() == MODE_CACHE;
  outcome.promoted = promoted;
  outcome.rolled_back = std::max(outcome.rolled_back, rolled_back);

  const std::string name = absl::StrFormat("%-12s", Name(family));
  const bool first = last.id().empty();
  if (first || rollout.cohort() != last.cohort()) {
    if (static_cast<int>(rollout.cohort()) < rollout.cohorts_size()) {
      const std::string& cohort = rollout.cohorts(static_cast<int>(rollout.cohort())).name();
      screen_.Say(absl::StrCat(name, " cohort `", cohort, "`: ", sizes[cohort],
                               " tenants go into shadow; the database serves, the cache is compared"));
    }
  }
  for (const auto& [cohort, count] : moved) {
    if (count == sizes[cohort] && moved_before[cohort] < count) {
      screen_.Say(
          absl::StrCat(name, " cohort `", cohort, "`: ", count, " of ", count, " windows are clean; the ramp begins"));
    }
  }
  if (rollout.state() == ROLLOUT_STATE_STOPPED && last.state() != ROLLOUT_STATE_STOPPED && outcome.stops++ == 0) {
    outcome.stopped_at = rollout.cohort();
    outcome.promoted_when_stopped = moved_total;
    screen_.Say(absl::StrCat(name, " STOPPED at its ", rollout.cohort() == 0 ? "first" : "next",
                             " cohort: the cache was wrong for ", absl::StrJoin(blocked, " and "),
                             "; no caller got the wrong answer"),
                Tone::kBad);
  } else if (!blocked.empty()) {
    screen_.Say(absl::StrCat(name, " is wrong for ", absl::StrJoin(blocked, " and "), " too"), Tone::kBad);
  }
  if (rollout.state() == ROLLOUT_STATE_SETTLED && last.state() != ROLLOUT_STATE_SETTLED) {
    outcome.settled = true;
    screen_.Say(absl::StrCat(name, " all ", promoted, " tenants are served from the cache"), Tone::kGood);
  }
  if ((rollout.state() == ROLLOUT_STATE_ROLLED_BACK || rollout.state() == ROLLOUT_STATE_ABORTED) &&
      rollout.state() != last.state()) {
    screen_.Say(absl::StrCat(name, " went back to the database"), Tone::kBad);
  }
  seen_[family] = rollout;
}

std::string Demo::LiveLine(const shadowline::v1::Rollout& rollout, Family family) const {
  using namespace shadowline::v1;  // NOLINT: the states' names.
  size_t moved = 0;
  size_t shadow = 0;
  std::string waits;
  for (const RolloutTarget& target : rollout.targets()) {
    moved += target.mode() == MODE_CACHE;
    shadow += target.mode() == MODE_SHADOW;
    if (target.mode() != MODE_SHADOW || !waits.empty()) continue;
    for (const Clause& clause : target.clauses()) {
      if (!clause.met() && waits.empty()) waits = absl::StrCat("; ", target.tenant(), " wants ", clause.detail());
    }
  }
  const auto total = static_cast<size_t>(rollout.targets_size());
  return absl::StrFormat("         %-12s %s %2d of %d on the cache, %d in shadow%s", Name(family),
                         Bar(total == 0 ? 0 : static_cast<double>(moved) / static_cast<double>(total), 20), moved,
                         total, shadow, waits.substr(0, 60));
}

absl::Status Demo::ShowDivergence() {
  grpc::ClientContext context;
  shadowline::v1::ListDivergenceGroupsRequest request;
  request.set_family(Name(kPermissions));
  shadowline::v1::ListDivergenceGroupsResponse response;
  RETURN_IF_ERROR(FromGrpc(divergences_->ListDivergenceGroups(&context, request, &response)));
  if (response.groups().empty()) return absl::InternalError("the rollout is stopped, but no divergence is stored");
  outcomes_[kPermissions].cause = response.groups(0).cause();
  RETURN_IF_ERROR(Shadowline({"divergences", "list", "--family", Name(kPermissions)}));
  RETURN_IF_ERROR(Shadowline({"divergences", "show", response.groups(0).example_id()}));
  return absl::OkStatus();
}

absl::Status Demo::MendWriters() {
  Writers& writers = *writers_[kPermissions];
  screen_.Say(absl::StrCat(
      "The bug: a role is granted on a folder, and only the folder is invalidated. The projects below inherit "
      "it, and were forgotten ",
      writers.forgotten(), " times"));
  writers.Mend();
  while (!writers.mended()) RETURN_IF_ERROR(Wait(absl::Milliseconds(50)));
  screen_.Say("The writers are mended: a change on a folder invalidates every project below it", Tone::kGood);
  return absl::OkStatus();
}

// Lets every sampled read come to its verdict, then reads the balance.
absl::Status Demo::Drain() {
  const absl::Duration end = clock_->Steady() + absl::Seconds(30);
  while (true) {
    int64_t residual = 0;
    pending_ = 0;
    for (const Actor& actor : kActors) {
      ASSIGN_OR_RETURN(const shadowline::v1::Report report, GetReport(actor.family));
      const shadowline::v1::Ledger& l = report.ledger();
      residual += static_cast<int64_t>(l.sampled()) -
                  static_cast<int64_t>(l.matched() + l.excused() + l.healed() + l.confirmed() + l.inconclusive() +
                                       l.errored() + l.shed() + l.lost());
      pending_ += l.pending();
      outcomes_[actor.family].confirmed = l.confirmed();
      if (outcomes_[actor.family].cause.empty() && report.groups_size() > 0) {
        outcomes_[actor.family].cause = report.groups(0).cause();
      }
    }
    ledger_residual_ = residual;
    if (residual == 0 || clock_->Steady() > end) return absl::OkStatus();
    screen_.Live({absl::StrCat("         waiting for the last ", pending_, " verdicts ...")});
    RETURN_IF_ERROR(Wait(absl::Milliseconds(300)));
  }
}

std::vector<Expectation> Demo::Expectations() const {
  const Recorder::Totals totals = recorder_.totals();
  const size_t all = Tenants().size();
  const Outcome& pricing = outcomes_[kPricing];
  const Outcome& permissions = outcomes_[kPermissions];
  std::vector<Expectation> list;
  list.push_back(
      {absl::StrCat("pricing was promoted for all tenants (", pricing.promoted, " of ", all, "), never blocked (",
                    pricing.blocked.size(), "), with no divergence (", pricing.confirmed, ")"),
       pricing.promoted == all && pricing.settled && !pricing.stopped_at.has_value() && pricing.confirmed == 0});
  list.push_back(
      {absl::StrCat("permissions was stopped at its first cohort (for ", absl::StrJoin(permissions.blocked, ", "),
                    "), with ", permissions.promoted_when_stopped, " targets promoted"),
       permissions.stopped_at == 0u && !permissions.blocked.empty() && permissions.promoted_when_stopped == 0});
  list.push_back({absl::StrCat("its cause was named: missed_invalidation (", permissions.cause, ")"),
                  permissions.cause == "missed_invalidation"});
  list.push_back({absl::StrCat("permissions was promoted for all tenants once its writers were mended (",
                               permissions.promoted, " of ", all, ")"),
                  permissions.promoted == all && permissions.settled});
  list.push_back({absl::StrCat("no target was rolled back (", pricing.rolled_back + permissions.rolled_back, ")"),
                  pricing.rolled_back + permissions.rolled_back == 0});
  for (const Actor& actor : kActors) {
    const double faster = absl::FDivDuration(before_.latency[actor.family].p95,
                                             std::max(after_.latency[actor.family].p95, absl::Microseconds(1)));
    list.push_back(
        {absl::StrFormat("%s: p95 is at least 8 times lower (%.1f times)", Name(actor.family), faster), faster >= 8});
    const double before = before_.QueriesPerThousand(actor.family);
    const double saved = before == 0 ? 0 : 1 - after_.QueriesPerThousand(actor.family) / before;
    list.push_back(
        {absl::StrFormat("%s: at least 70 %% fewer database queries (%.1f %%)", Name(actor.family), 100 * saved),
         saved >= 0.7});
  }
  list.push_back({absl::StrCat("no answer was wrong (", totals.wrong, " of ", Grouped(totals.reads), ", ",
                               totals.wrong_after_promotion, " after promotion)",
                               totals.wrong == 0 ? "" : absl::StrCat(": ", totals.first_wrong)),
                  totals.wrong == 0});
  list.push_back({absl::StrCat("no read failed (", totals.failed, "), none was left out (", dropped_, ")",
                               totals.failed == 0 ? "" : absl::StrCat(": ", totals.first_failure)),
                  totals.failed == 0 && dropped_ == 0});
  list.push_back(
      {absl::StrCat("the ledger balances: every sampled read has its verdict (residual ", ledger_residual_, ")"),
       ledger_residual_ == 0});
  return list;
}

void Demo::Tell() {
  screen_.Heading("What it came to");
  std::vector<std::vector<std::string>> rows = {{"family", "", "reads", "p50 ms", "p95 ms", "p99 ms", "from cache",
                                                 "queries / 1,000 reads", "database ms / 1,000 reads"}};
  for (const Actor& actor : kActors) {
    for (const auto& [when, stretch] : {std::pair("before", &before_), std::pair("after", &after_)}) {
      const Measured& m = stretch->latency[actor.family];
      const double reads = std::max<double>(1, static_cast<double>(m.reads));
      rows.push_back(
          {Name(actor.family), when, Grouped(m.reads), Milliseconds(m.p50), Milliseconds(m.p95), Milliseconds(m.p99),
           absl::StrFormat("%.1f %%", 100 * static_cast<double>(m.from_cache) / reads),
           absl::StrFormat("%.0f", stretch->QueriesPerThousand(actor.family)),
           absl::StrFormat("%.0f", 1000 * absl::ToDoubleMilliseconds(stretch->database[actor.family].time) / reads)});
    }
  }
  screen_.Quote(Table(rows));
  screen_.Quote(
      "\nQueries are everything that Shadowline asked of the family's tables, by pg_stat_statements: reads, fills and\n"
      "verification, which goes on after the cutover.\n");
  rows = {{"family", "promoted", "blocked", "divergences", "cause"}};
  for (const Actor& actor : kActors) {
    const Outcome& o = outcomes_[actor.family];
    rows.push_back({Name(actor.family), absl::StrCat(o.promoted), absl::StrCat(o.blocked.size()),
                    absl::StrCat(o.confirmed), o.cause.empty() ? "-" : o.cause});
  }
  screen_.Quote(Table(rows));
  screen_.Quote("");
  for (const Expectation& expectation : Expectations()) {
    screen_.Quote(absl::StrCat(screen_.Paint(expectation.met ? "✓" : "✗", expectation.met ? Tone::kGood : Tone::kBad),
                               " ", expectation.met ? "" : "EXPECTED: ", expectation.text));
  }
}

void Demo::WriteJson() const {
  if (options_.json.empty()) return;
  std::vector<std::string> families;
  for (const Actor& actor : kActors) {
    const Outcome& o = outcomes_[actor.family];
    families.push_back(absl::StrFormat(
        "\"%s\": {\"promoted\": %d, \"blocked\": %d, \"confirmed\": %d, \"cause\": \"%s\", "
        "\"p95_ms\": {\"database\": %.3f, \"cache\": %.3f}, \"queries\": {\"before\": %.1f, \"after\": %.1f}}",
        Name(actor.family), o.promoted, o.blocked.size(), o.confirmed, o.cause,
        absl::ToDoubleMilliseconds(before_.latency[actor.family].p95),
        absl::ToDoubleMilliseconds(after_.latency[actor.family].p95), before_.QueriesPerThousand(actor.family),
        after_.QueriesPerThousand(actor.family)));
  }
  const Recorder::Totals totals = recorder_.totals();
  std::ofstream(options_.json) << absl::StrFormat(
      "{\"families\": {%s}, \"reads\": %d, \"wrong_after_promotion\": %d, \"ledger_residual\": %d}\n",
      absl::StrJoin(families, ", "), totals.reads, totals.wrong_after_promotion, ledger_residual_);
}

absl::Status Demo::Explore() {
  StartLoad();
  screen_.Heading("Everything stays up, under the same load, until you press Ctrl-C");
  const std::string cli = support::ProgramFolder() + "/shadowline";
  screen_.Quote(absl::StrCat(
      "export SHADOWLINE_SERVER=", replicas_[0]->address(), "\n", cli, " rollout get permissions\n", cli,
      " report permissions\n", cli, " divergences list\n", cli, " rollout start dashboard; ", cli,
      " rollout watch dashboard      # a third family\n", cli, " rollout rollback pricing --reason 'just to see'\n",
      cli, " read northwind pricing/quote region=emea tier=gold bundle=3\n", "curl http://",
      replicas_[0]->http_address(), "/metrics\npsql '", postgres_->ConnectionString(database_), "'\n"));
  while (true) {
    const Recorder::Totals totals = recorder_.totals();
    screen_.Live(
        {absl::StrCat("         ", Grouped(totals.reads), " reads, ", Grouped(totals.from_cache), " from the cache, ",
                      Grouped(totals.wrong), " wrong, ", Grouped(totals.failed), " failed")});
    if (const absl::Status status = Wait(absl::Seconds(1)); !status.ok()) {
      screen_.Live({});
      StopLoad();
      return status;
    }
  }
}

absl::Status Demo::Wait(absl::Duration duration) {
  const absl::Duration end = clock_->Steady() + duration;
  while (interrupted == 0) {
    const absl::Duration left = end - clock_->Steady();
    if (left <= absl::ZeroDuration()) return absl::OkStatus();
    Sleep(std::min(left, absl::Milliseconds(100)));
  }
  return absl::CancelledError("interrupted");
}

absl::Status Demo::Shadowline(const std::vector<std::string>& arguments, size_t lines) {
  const std::string output = scratch_.path() + "/cli";
  std::ofstream(output, std::ios::trunc).close();
  std::vector<std::string> command = {support::ProgramFolder() + "/shadowline", "--server", replicas_[0]->address()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  const int status = support::ChildProcess(command, output).Wait();
  std::string shown = "shadowline";
  for (std::string argument : arguments) {
    if (argument.size() > 60) argument = absl::StrCat(argument.substr(0, 40), "...");
    absl::StrAppend(&shown, " ", argument.find(' ') == std::string::npos ? argument : absl::StrCat("'", argument, "'"));
  }
  screen_.Say(absl::StrCat("$ ", shown), Tone::kStrong);
  const std::string text = ReadFile(output);
  std::vector<absl::string_view> shown_lines = absl::StrSplit(absl::StripTrailingAsciiWhitespace(text), '\n');
  shown_lines.resize(std::min(lines, shown_lines.size()));
  screen_.Quote(absl::StrJoin(shown_lines, "\n"));
  if (status != 0) return absl::InternalError(absl::StrCat("`", shown, "` ended with ", status, ": ", text));
  return absl::OkStatus();
}

absl::StatusOr<shadowline::v1::Rollout> Demo::GetRollout(Family family) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  shadowline::v1::GetRolloutRequest request;
  request.set_rollout(Name(family));
  shadowline::v1::Rollout rollout;
  RETURN_IF_ERROR(FromGrpc(rollouts_->GetRollout(&context, request, &rollout)));
  return rollout;
}

absl::StatusOr<shadowline::v1::Report> Demo::GetReport(Family family) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  shadowline::v1::GetReportRequest request;
  request.set_family(Name(family));
  shadowline::v1::Report report;
  RETURN_IF_ERROR(FromGrpc(divergences_->GetReport(&context, request, &report)));
  return report;
}

constexpr char kUsage[] = R"(Usage: shadowline_demo [OPTION...]

Starts a private PostgreSQL, Redis and two replicas of shadowlined, and moves two endpoint families to the cache under load.
It stays up for exploring until Ctrl-C. Nothing of the machine's own is touched.

  --once            end after the story; exit status 0 only if all of it happened
  --json FILE       write the figures to FILE
  --rate N          reads a second, 1 to 10000 (default: by what a read costs on this machine, 140 to 300)
  --measure SECONDS how long latencies are measured before and after, 1 to 600 (default: 10)
  --patience SECONDS how long the rollouts may take (default: 240)
  --seed N          of the load's random draws (default: 1)
)";

// Nothing: the usage was wrong, and was shown.
std::optional<Options> ParseOptions(int argc, char** argv) {
  Options options;
  const auto fail = [](const std::string& message) {
    std::fprintf(stderr, "shadowline_demo: %s\n\n%s", message.c_str(), kUsage);
    return std::nullopt;
  };
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--once") {
      options.once = true;
      continue;
    }
    if (name != "--json" && name != "--rate" && name != "--measure" && name != "--patience" && name != "--seed") {
      return fail(absl::StrCat("unknown option ", name));
    }
    if (++i == argc) return fail(absl::StrCat(name, " needs a value"));
    const std::string value = argv[i];
    double number = 0;
    const bool is_number = absl::SimpleAtod(value, &number);
    if (name == "--json") {
      options.json = value;
    } else if (name == "--seed") {
      if (!absl::SimpleAtoi(value, &options.seed)) return fail(absl::StrCat("--seed: ", value, " is no whole number"));
    } else if (name == "--rate") {
      if (!is_number || number < 1 || number > 10'000)
        return fail(absl::StrCat("--rate: ", value, " is not 1 to 10000"));
      options.rate = number;
    } else {
      if (!is_number || number < 1 || number > 3600)
        return fail(absl::StrCat(name, ": ", value, " is not 1 to 3600 seconds"));
      (name == "--measure" ? options.measure : options.patience) = absl::Seconds(number);
    }
  }
  return options;
}

}  // namespace
}  // namespace shadowline::demo

int main(int argc, char** argv) {
  using shadowline::demo::Demo;
  if (argc > 1 && (std::string(argv[1]) == "--help" || std::string(argv[1]) == "-h")) {
    std::fputs(shadowline::demo::kUsage, stdout);
    return 0;
  }
  const auto options = shadowline::demo::ParseOptions(argc, argv);
  if (!options.has_value()) return 2;
  // Whoever interrupts gets everything cleaned up: the folders and processes belong to objects.
  struct sigaction action {};
  action.sa_handler = [](int) { shadowline::demo::interrupted = 1; };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  const shadowline::base::SystemClock clock;
  return Demo(*options, &clock).Run();
}
