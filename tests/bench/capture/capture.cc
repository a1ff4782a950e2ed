// Change capture by itself: how long after its commit a change reaches the sink, with synchronous_commit on and off
// side by side, and how many changes are lost while the capturing process is killed again and again.
//
//   bench_capture --json FILE [--rate 1000] [--rounds 5] [--seconds 4] [--kills 5]
//
// The time is from the commit's own timestamp, by PostgreSQL's clock on the same machine, to the call of the sink.
// Rounds alternate, so that a change of the machine's speed meets both. A change counts as lost when no process ever
// had it acknowledged: each child notes a change in a file before it acknowledges it, as a fence stands before it is
// acknowledged.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <pqxx/pqxx>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "base/postgres/session.h"
#include "base/random.h"
#include "cache/capture/postgres/stream.h"
#include "cache/catalog/parse.h"
#include "server/postgres/migrate.h"
#include "tests/support/await.h"
#include "tests/support/private_servers.h"

namespace shadowline::bench {
namespace {

constexpr int kWriters = 4;
constexpr absl::Duration kPatience = absl::Minutes(1);

constexpr char kCatalog[] = R"(version: 1
tenants: {list: [acme]}
families:
  shop:
    endpoints:
      item:
        sql: SELECT 1 AS x WHERE :tenant = 'a' AND :id = 1
        parameters: {id: {type: integer}}
        tags: ["item:{id}"]
capture:
  tables:
    public.item: {tenant: "{tenant}", tags: ["item:{id}"]}
)";

void Check(const absl::Status& status, const char* doing) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s: %s\n", doing, status.ToString().c_str());
  std::exit(1);
}

cache::CaptureStream::Options StreamOptions(const std::string& url) {
  cache::CaptureStream::Options options;
  options.source = options.state = url;
  return options;
}

// Acknowledges at once, and remembers how old each change was.
class TimingSink final : public cache::Sink {
 public:
  void Apply(cache::Transaction transaction, Done done) override {
    const double age_ms = absl::ToDoubleMilliseconds(clock_.Now() - transaction.committed_at);
    {
      base::MutexLock lock(&mutex_);
      ages_ms_.push_back(age_ms);
    }
    done(absl::OkStatus());
  }
  void Alarm(std::set<std::string>, std::string, Done done) override { done(absl::OkStatus()); }

  size_t size() {
    base::MutexLock lock(&mutex_);
    return ages_ms_.size();
  }
  std::vector<double> Take() {
    base::MutexLock lock(&mutex_);
    return std::exchange(ages_ms_, {});
  }

 private:
  base::SystemClock clock_;
  base::Mutex mutex_;
  std::vector<double> ages_ms_ ABSL_GUARDED_BY(mutex_);
};

// Notes every change in a file, one id to a line, some milliseconds later, and acknowledges it then: always something
// is under way when the process is killed.
class FileSink final : public cache::Sink {
 public:
  explicit FileSink(const std::string& path) : file_(open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT, 0666)) {}

  void Apply(cache::Transaction transaction, Done done) override {
    std::string lines;
    for (const cache::TenantTag& tag : transaction.effects.tags) absl::StrAppend(&lines, tag.tag.substr(5), "\n");
    base::MutexLock lock(&mutex_);
    waiting_.emplace_back(std::move(lines), std::move(done));
  }
  void Alarm(std::set<std::string>, std::string why, Done done) override {
    base::MutexLock lock(&mutex_);
    waiting_.emplace_back(absl::StrCat("! ", why, "\n"), std::move(done));
  }

  // For ever.
  void Work() {
    for (;;) {
      usleep(5000);
      std::vector<std::pair<std::string, Done>> taken;
      {
        base::MutexLock lock(&mutex_);
        taken = std::exchange(waiting_, {});
      }
      for (auto& [lines, done] : taken) {
        const bool noted = write(file_, lines.data(), lines.size()) == static_cast<ssize_t>(lines.size());
        done(noted ? absl::OkStatus() : absl::UnavailableError("the file cannot be written"));
      }
    }
  }

 private:
  const int file_;
  base::Mutex mutex_;
  std::vector<std::pair<std::string, Done>> waiting_ ABSL_GUARDED_BY(mutex_);
};

// The child: captures until it is killed.
int Capture(const std::string& url, const std::string& file) {
  FileSink sink(file);
  base::SystemClock clock;
  base::Metrics metrics;
  cache::Watermark watermark;
  cache::CaptureStream stream(StreamOptions(url), {&clock, &sink, &watermark, &metrics, {}});
  stream.SetCatalog(*cache::ParseCatalog(kCatalog, 1));
  stream.Start();
  sink.Work();
  return 0;
}

// Writes ids from *next on, `rate` a second over all writers, one to a transaction, until `*stop`.
void Write(const std::string& url, bool synchronous, double rate, std::atomic<int64_t>* next, std::atomic<bool>* stop) {
  std::vector<std::thread> writers;
  for (int i = 0; i < kWriters; ++i) {
    writers.push_back(base::StartThread("writer", [=] {
      base::SystemClock clock;
      pqxx::connection connection(url);
      pqxx::nontransaction work(connection);
      work.exec(absl::StrCat("SET synchronous_commit = ", synchronous ? "on" : "off"));
      connection.prepare("write", "INSERT INTO item (id) VALUES ($1)");
      const absl::Duration start = clock.Steady() + absl::Seconds(i / rate);
      for (int64_t n = 0; !*stop; ++n) {
        const absl::Duration due = start + absl::Seconds(static_cast<double>(n) * kWriters / rate) - clock.Steady();
        if (due > absl::ZeroDuration()) usleep(static_cast<useconds_t>(absl::ToInt64Microseconds(due)));
        work.exec_prepared("write", next->fetch_add(1));
      }
    }));
  }
  for (std::thread& writer : writers) writer.join();
}

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
}

struct Kills {
  int64_t changes = 0;
  int64_t lost = 0;
  int64_t repeated = 0;
  int64_t alarms = 0;
};

Kills MeasureKills(const std::string& url, int kills, double rate, std::atomic<int64_t>* next) {
  const support::ScratchFolder folder("bench");
  const std::string noted = folder.path() + "/noted";
  const auto start_child = [&] {
    return support::ChildProcess({"/proc/self/exe", "--child", url, "--noted", noted}, folder.path() + "/child.log");
  };
  const auto read = [&] {
    std::pair<std::map<int64_t, int64_t>, int64_t> seen;  // By id; alarms.
    std::ifstream in(noted);
    for (std::string line; std::getline(in, line);) {
      if (line[0] == '!') {
        ++seen.second;
      } else {
        ++seen.first[std::stoll(line)];
      }
    }
    return seen;
  };
  support::ChildProcess child = start_child();
  pqxx::connection connection(url);
  pqxx::nontransaction work(connection);
  const auto streams = [&] {
    return work.exec1("SELECT EXISTS (SELECT FROM pg_replication_slots WHERE active)")[0].as<bool>();
  };
  if (!support::AwaitTrue(kPatience, streams)) {
    std::fprintf(stderr, "the child did not begin: see %s/child.log\n", folder.path().c_str());
    std::exit(1);
  }
  const int64_t first = *next;
  std::atomic<bool> stop{false};
  std::thread writing = base::StartThread("writers", [&] { Write(url, true, rate, next, &stop); });
  base::Random random(20'260'111);
  for (int i = 0; i < kills; ++i) {
    usleep(static_cast<useconds_t>(100'000 + random.Below(400'000)));
    child.Signal(SIGKILL);
    child.Wait();
    child = start_child();
  }
  stop = true;
  writing.join();
  const int64_t last = *next;
  Kills result;
  const bool all = support::AwaitTrue(kPatience, [&] {
    const auto& ids = read().first;
    return std::distance(ids.lower_bound(first), ids.end()) == last - first;
  });
  const auto [ids, alarms] = read();
  result.changes = last - first;
  for (int64_t id = first; id < last; ++id) {
    const auto found = ids.find(id);
    if (found == ids.end()) {
      ++result.lost;
    } else {
      result.repeated += found->second - 1;
    }
  }
  result.alarms = alarms;
  if (!all) std::fprintf(stderr, "%ld changes never came\n", static_cast<long>(result.lost));
  return result;
}

int Run(const std::string& json_path, double rate, int rounds, int seconds, int kills) {
  base::SetLogLevel(base::Level::kError);
  support::PrivatePostgres postgres({"fsync = on"});
  const std::string url = postgres.ConnectionString(postgres.CreateDatabase());
  base::PostgresSessions sessions(url, 1);
  Check(server::Migrate(&sessions), "migrating");
  Check(sessions.Transact([](pqxx::work& work) {
    work.exec("CREATE TABLE item (tenant text NOT NULL DEFAULT 'acme', id bigint, PRIMARY KEY (tenant, id))");
    return absl::OkStatus();
  }),
        "creating the table");

  std::atomic<int64_t> next{1};
  std::map<bool, std::vector<double>> ages;
  std::map<bool, std::vector<double>> p99;
  {
    TimingSink sink;
    base::SystemClock clock;
    base::Metrics metrics;
    cache::Watermark watermark;
    cache::CaptureStream stream(StreamOptions(url), {&clock, &sink, &watermark, &metrics, {}});
    stream.SetCatalog(*cache::ParseCatalog(kCatalog, 1));
    stream.Start();
    if (!support::AwaitTrue(kPatience, [&] { return stream.state() == cache::CaptureState::kStreaming; })) {
      std::fprintf(stderr, "capture did not begin\n");
      return 1;
    }
    // The first round warms up and is not counted.
    for (int round = -1; round < rounds; ++round) {
      for (const bool synchronous : {round % 2 == 0, round % 2 != 0}) {
        std::atomic<bool> stop{false};
        const int64_t first = next;
        std::thread writing = base::StartThread("writers", [&] { Write(url, synchronous, rate, &next, &stop); });
        sleep(seconds);
        stop = true;
        writing.join();
        if (!support::AwaitTrue(kPatience, [&] { return static_cast<int64_t>(sink.size()) >= next - first; })) {
          std::fprintf(stderr, "%ld of %ld changes came\n", static_cast<long>(sink.size()),
                       static_cast<long>(next - first));
          return 1;
        }
        const std::vector<double> taken = sink.Take();
        if (round < 0) continue;
        ages[synchronous].insert(ages[synchronous].end(), taken.begin(), taken.end());
        p99[synchronous].push_back(Quantile(taken, 0.99));
        std::printf("round %2d  synchronous_commit %-3s  %6zu changes  p50 %8.2f ms  p99 %8.2f ms\n", round,
                    synchronous ? "on" : "off", taken.size(), Quantile(taken, 0.5), p99[synchronous].back());
      }
    }
  }
  const Kills killed = MeasureKills(url, kills, rate, &next);
  std::printf("all rounds: on p50 %.2f p99 %.2f ms; off p50 %.2f p99 %.2f ms\n", Quantile(ages[true], 0.5),
              Quantile(ages[true], 0.99), Quantile(ages[false], 0.5), Quantile(ages[false], 0.99));
  std::printf("%d kills over %ld changes: %ld lost, %ld had twice, %ld alarms\n", kills,
              static_cast<long>(killed.changes), static_cast<long>(killed.lost), static_cast<long>(killed.repeated),
              static_cast<long>(killed.alarms));
  const nlohmann::json report = {{"rate", rate},
                                 {"capture_p50_ms", Quantile(ages[true], 0.5)},
                                 {"capture_p99_ms", Quantile(ages[true], 0.99)},
                                 {"capture_p99_ms_rounds", p99[true]},
                                 {"capture_async_commit_p50_ms", Quantile(ages[false], 0.5)},
                                 {"capture_async_commit_p99_ms", Quantile(ages[false], 0.99)},
                                 {"capture_kills", kills},
                                 {"capture_kill_changes", killed.changes},
                                 {"capture_lost", killed.lost},
                                 {"capture_repeated", killed.repeated},
                                 {"capture_alarms", killed.alarms}};
  if (!json_path.empty()) std::ofstream(json_path) << report.dump(2) << "\n";
  return killed.lost == 0 && killed.alarms == 0 ? 0 : 1;
}

}  // namespace
}  // namespace shadowline::bench

int main(int argc, char** argv) {
  CLI::App app("Commit to sink of change capture, and what kill -9 loses.");
  std::string json_path, child, noted;
  double rate = 1000;
  int rounds = 5;
  int seconds = 4;
  int kills = 5;
  app.add_option("--json", json_path, "Write the figures to this file");
  app.add_option("--rate", rate, "Changes a second, one to a transaction")->check(CLI::Range(1, 20'000));
  app.add_option("--rounds", rounds, "Rounds, each with synchronous_commit on and off")->check(CLI::Range(1, 1000));
  app.add_option("--seconds", seconds, "Length of a measurement")->check(CLI::Range(1, 3600));
  app.add_option("--kills", kills, "How often the capturing process is killed")->check(CLI::Range(0, 10'000));
  app.add_option("--child", child, "Only capture from this database (for itself)")->group("");
  app.add_option("--noted", noted)->group("");
  CLI11_PARSE(app, argc, argv);
  if (!child.empty()) return shadowline::bench::Capture(child, noted);
  return shadowline::bench::Run(json_path, rate, rounds, seconds, kills);
}
