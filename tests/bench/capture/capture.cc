// Change capture by whole replicas over a real Redis: how long after its commit a change has its fence there, with
// synchronous_commit on and off side by side, and how many changes have none while the capturing replica is killed
// again and again.
//
//   bench_capture --json FILE [--rate 1000] [--rounds 5] [--seconds 4] [--kills 5]
//
// The time is from the commit's own timestamp, as PostgreSQL keeps it, to the moment at which Redis put the fence in
// its place, as Redis' MONITOR has it: two clocks of one machine. Rounds alternate, so that a change of the machine's
// speed meets both. A change counts as lost when Redis never put a fence for it.
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <pqxx/pqxx>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "base/random.h"
#include "cache/key/key.h"
#include "cache/redis/address.h"
#include "tests/support/await.h"
#include "tests/support/private_servers.h"
#include "tests/support/shadowlined.h"

namespace shadowline::bench {
namespace {

constexpr int kWriters = 4;
constexpr int kReplicas = 2;
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

[[noreturn]] void Fail(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(1);
}

// When Redis put a fence for each item, and how often.
class FenceLog {
 public:
  struct Fence {
    int64_t first_us = 0;
    int64_t times = 0;
  };

  explicit FenceLog(const std::string& unix_socket) : descriptor_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const auto address = cache::RedisAddress::Parse(absl::StrCat("unix:", unix_socket)).value().Resolve().value();
    constexpr absl::string_view kMonitor = "MONITOR\r\n";
    if (connect(descriptor_, reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0 ||
        send(descriptor_, kMonitor.data(), kMonitor.size(), 0) != static_cast<ssize_t>(kMonitor.size())) {
      Fail("Redis cannot be watched");
    }
    thread_ = base::StartThread("fence log", [this] { Read(); });
  }
  ~FenceLog() {
    shutdown(descriptor_, SHUT_RDWR);
    thread_.join();
    close(descriptor_);
  }

  std::map<int64_t, Fence> Between(int64_t first, int64_t last) {
    base::MutexLock lock(&mutex_);
    std::map<int64_t, Fence> found;
    for (int64_t item = first; item < last; ++item) {
      const auto fence = fences_.find(cache::FenceKey("acme", absl::StrCat("item:", item)));
      if (fence != fences_.end()) found.emplace(item, fence->second);
    }
    return found;
  }
  [[nodiscard]] bool AwaitAll(int64_t first, int64_t last) {
    return support::AwaitTrue(kPatience,
                              [&] { return static_cast<int64_t>(Between(first, last).size()) == last - first; });
  }

 private:
  void Read() {
    std::string pending;
    char bytes[65536];
    for (ssize_t got; (got = recv(descriptor_, bytes, sizeof bytes, 0)) > 0;) {
      pending.append(bytes, static_cast<size_t>(got));
      size_t begin = 0;
      for (size_t end; (end = pending.find('\n', begin)) != std::string::npos; begin = end + 1) {
        Note(absl::string_view(pending).substr(begin, end - begin));
      }
      pending.erase(0, begin);
    }
  }

  // +1700000000.123456 [0 lua] "SET" "sl:fence:acme:5f..." ...
  void Note(absl::string_view line) {
    constexpr absl::string_view kPut = " lua] \"SET\" \"";
    const size_t at = line.find(kPut);
    if (at == absl::string_view::npos) return;
    absl::string_view key = line.substr(at + kPut.size());
    key = key.substr(0, key.find('"'));
    const std::vector<absl::string_view> time = absl::StrSplit(line.substr(1, line.find(' ') - 1), '.');
    int64_t seconds = 0, micros = 0;
    if (time.size() != 2 || !absl::SimpleAtoi(time[0], &seconds) || !absl::SimpleAtoi(time[1], &micros)) {
      return;
    }
    base::MutexLock lock(&mutex_);
    Fence& fence = fences_[std::string(key)];
    if (fence.times++ == 0) fence.first_us = seconds * 1'000'000 + micros;
  }

  const int descriptor_;
  base::Mutex mutex_;
  std::map<std::string, Fence> fences_ ABSL_GUARDED_BY(mutex_);  // By key.
  std::thread thread_;
};

// The replicas, of which one captures.
class Replicas {
 public:
  Replicas(const std::string& source, const std::string& redis) {
    const std::string catalog = folder_.path() + "/catalog.yaml";
    std::ofstream(catalog) << kCatalog;
    for (int i = 0; i < kReplicas; ++i) {
      replicas_.push_back(std::make_unique<support::Shadowlined>(
          support::Shadowlined::Options{.name = absl::StrCat("replica-", i),
                                        .source = source,
                                        .redis = "unix:" + redis,
                                        .extra_config = absl::StrCat("catalog: ", catalog, "\nlog_level: info\n"),
                                        .wrapper = {}}));
    }
  }

  // Null: there is none now.
  support::Shadowlined* Leader() {
    for (const auto& replica : replicas_) {
      if (absl::StrContains(replica->Get("/metrics"), "shadowline_capture_leading 1")) return replica.get();
    }
    return nullptr;
  }
  // One that has begun to capture, and is covered by it.
  support::Shadowlined* AwaitLeader() {
    support::Shadowlined* leader = nullptr;
    const bool leads = support::AwaitTrue(kPatience, [&] {
      leader = Leader();
      return leader != nullptr && absl::StrContains(leader->Get("/metrics"), "shadowline_capture_covered 1");
    });
    if (!leads) Fail("capture did not begin: " + replicas_[0]->Log());
    return leader;
  }
  int64_t Alarms() const {
    int64_t alarms = 0;
    for (const auto& replica : replicas_) {
      for (const absl::string_view line : absl::StrSplit(replica->Log(), '\n')) {
        alarms += absl::StrContains(line, "\"event\":\"capture_alarm\"");
      }
    }
    return alarms;
  }

 private:
  const support::ScratchFolder folder_{"bench"};
  std::vector<std::unique_ptr<support::Shadowlined>> replicas_;
};

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

// How long after its commit each change of [first, last) had its fence, in milliseconds.
std::vector<double> Ages(const std::string& url, int64_t first, int64_t last, FenceLog* fences) {
  if (!fences->AwaitAll(first, last)) Fail("not every change has a fence");
  const auto fenced = fences->Between(first, last);
  std::vector<double> ages;
  pqxx::connection connection(url);
  pqxx::nontransaction work(connection);
  for (const pqxx::row& row :
       work.exec_params("SELECT id, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint FROM item "
                        "WHERE id >= $1 AND id < $2",
                        first, last)) {
    ages.push_back(static_cast<double>(fenced.at(row[0].as<int64_t>()).first_us - row[1].as<int64_t>()) / 1000);
  }
  return ages;
}

struct Kills {
  int64_t changes = 0;
  int64_t lost = 0;
  int64_t repeated = 0;
  int64_t alarms = 0;
};

Kills MeasureKills(const std::string& url, int kills, double rate, std::atomic<int64_t>* next, Replicas* replicas,
                   FenceLog* fences) {
  const int64_t alarms = replicas->Alarms();
  const int64_t first = *next;
  std::atomic<bool> stop{false};
  std::thread writing = base::StartThread("writers", [&] { Write(url, true, rate, next, &stop); });
  base::Random random(20'260'111);
  for (int i = 0; i < kills; ++i) {
    usleep(static_cast<useconds_t>(50'000 + random.Below(200'000)));
    support::Shadowlined* leader = nullptr;
    if (!support::AwaitTrue(kPatience, [&] { return (leader = replicas->Leader()) != nullptr; })) {
      Fail("nobody captures any more");
    }
    leader->Kill();
    leader->Start();
  }
  stop = true;
  writing.join();
  const int64_t last = *next;
  Kills result;
  result.changes = last - first;
  if (!fences->AwaitAll(first, last)) std::fprintf(stderr, "some changes never had a fence\n");
  const auto fenced = fences->Between(first, last);
  result.lost = result.changes - static_cast<int64_t>(fenced.size());
  for (const auto& [id, fence] : fenced) result.repeated += fence.times - 1;
  result.alarms = replicas->Alarms() - alarms;
  return result;
}

int Run(const std::string& json_path, double rate, int rounds, int seconds, int kills) {
  support::PrivatePostgres postgres({"fsync = on", "wal_level = logical", "track_commit_timestamp = on"});
  support::PrivateRedis redis;
  const std::string url = postgres.ConnectionString(postgres.CreateDatabase());
  {
    pqxx::connection connection(url);
    pqxx::nontransaction work(connection);
    work.exec("CREATE TABLE item (tenant text NOT NULL DEFAULT 'acme', id bigint, PRIMARY KEY (tenant, id))");
  }
  Replicas replicas(url, redis.socket());
  replicas.AwaitLeader();
  FenceLog fences(redis.socket());

  std::atomic<int64_t> next{1};
  std::map<bool, std::vector<double>> ages;
  std::map<bool, std::vector<double>> p99;
  // The first round warms up and is not counted.
  for (int round = -1; round < rounds; ++round) {
    for (const bool synchronous : {round % 2 == 0, round % 2 != 0}) {
      std::atomic<bool> stop{false};
      const int64_t first = next;
      std::thread writing = base::StartThread("writers", [&] { Write(url, synchronous, rate, &next, &stop); });
      sleep(static_cast<unsigned>(seconds));
      stop = true;
      writing.join();
      const std::vector<double> taken = Ages(url, first, next, &fences);
      if (round < 0) continue;
      ages[synchronous].insert(ages[synchronous].end(), taken.begin(), taken.end());
      p99[synchronous].push_back(Quantile(taken, 0.99));
      std::printf("round %2d  synchronous_commit %-3s  %6zu changes  p50 %8.2f ms  p99 %8.2f ms\n", round,
                  synchronous ? "on" : "off", taken.size(), Quantile(taken, 0.5), p99[synchronous].back());
      std::fflush(stdout);
    }
  }
  const Kills killed = MeasureKills(url, kills, rate, &next, &replicas, &fences);
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
  CLI::App app("Commit to fence of change capture, and what kill -9 loses.");
  std::string json_path;
  double rate = 1000;
  int rounds = 5;
  int seconds = 4;
  int kills = 5;
  app.add_option("--json", json_path, "Write the figures to this file");
  app.add_option("--rate", rate, "Changes a second, one to a transaction")->check(CLI::Range(1, 20'000));
  app.add_option("--rounds", rounds, "Rounds, each with synchronous_commit on and off")->check(CLI::Range(0, 1000));
  app.add_option("--seconds", seconds, "Length of a measurement")->check(CLI::Range(1, 3600));
  app.add_option("--kills", kills, "How often the capturing replica is killed")->check(CLI::Range(0, 10'000));
  CLI11_PARSE(app, argc, argv);
  return shadowline::bench::Run(json_path, rate, rounds, seconds, kills);
}
