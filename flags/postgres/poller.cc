#include "flags/postgres/poller.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <pqxx/pqxx>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/executor.h"
#include "base/log.h"
#include "base/postgres/session.h"
#include "flags/postgres/lives.h"

namespace shadowline::flags {
namespace {

// A peer that vanished without a word is noticed within seconds instead of hours. libpq takes the last of a repeated
// option.
std::string Impatient(const std::string& connection_string) {
  if (absl::StrContains(connection_string, "://")) {
    return absl::StrCat(
        connection_string, absl::StrContains(connection_string, '?') ? "&" : "?",
        "connect_timeout=2&keepalives_idle=5&keepalives_interval=2&keepalives_count=3&tcp_user_timeout=10000");
  }
  return absl::StrCat(connection_string,
                      " connect_timeout=2 keepalives_idle=5 keepalives_interval=2 keepalives_count=3",
                      " tcp_user_timeout=10000");
}

// Remembers that something came. libpqxx may hand it over during any call, a question included.
class Listener final : public pqxx::notification_receiver {
 public:
  using pqxx::notification_receiver::notification_receiver;
  void operator()(const std::string& payload, int backend) override { heard = true; }

  bool heard = false;
};

uint64_t AskRevision(pqxx::connection& connection) {
  pqxx::nontransaction work(connection);
  return work.exec1("SELECT revision FROM shadowline.flag_state")[0].as<uint64_t>();
}

// `known` are the lives that this replica has heard of before.
Lives LoadLives(pqxx::transaction_base& work, const Lives* known, const base::Clock& clock, absl::Duration lease) {
  Lives lives;
  // Whoever was to hear of a life this old has: it needs no more waiting for.
  const absl::Duration settled = lease + kLongestRegistration;
  for (const pqxx::row& row : work.exec_params(
           "SELECT l.number, decode(l.mark, 'hex'), l.began_at < clock_timestamp() - $1 * interval '1 second', "
           "EXISTS (SELECT FROM shadowline.cache_life n WHERE n.replaces = l.lineage AND n.mark <> l.mark) "
           "FROM shadowline.cache_life l",
           absl::ToDoubleSeconds(settled))) {
    lives.newest = std::max(lives.newest, row[0].as<uint64_t>());
    if (row[3].as<bool>()) continue;
    std::string mark = pqxx::binarystring(row[1]).str();
    absl::Duration from = row[2].as<bool>() ? -absl::InfiniteDuration() : clock.Steady() + lease;
    if (known != nullptr) {
      if (const auto before = known->usable_from.find(mark); before != known->usable_from.end()) from = before->second;
    }
    lives.usable_from.emplace(std::move(mark), from);
  }
  return lives;
}

std::shared_ptr<const Snapshot> Load(pqxx::connection& connection, const Snapshot* held, const base::Clock& clock,
                                     absl::Duration lease) {
  pqxx::transaction<pqxx::repeatable_read, pqxx::read_only> work(connection);
  const pqxx::row state = work.exec1(
      "SELECT revision, (SELECT coalesce(max(revision), 0) FROM shadowline.catalog) FROM shadowline.flag_state");
  const auto revision = state[0].as<uint64_t>();

  absl::flat_hash_set<std::string> tenants;
  for (const pqxx::row& row : work.exec("SELECT tenant FROM shadowline.tenant")) tenants.insert(row[0].c_str());

  Snapshot::Targets targets;
  for (const pqxx::row& row : work.exec(
           "SELECT family, tenant, mode, serve_ppm, sample_ppm, sample_by_key, epoch, revision, window_no, "
           "catalog_revision,"
           " reason, (extract(epoch FROM changed_at) * 1000000)::bigint, sample_uncertified_ppm, sample_recent_ppm,"
           " sample_negative_ppm, sample_old_ppm, sample_cold_ppm FROM shadowline.target")) {
    Flag flag;
    flag.mode = ParseMode(row[2].c_str());
    flag.serve_ppm = row[3].as<uint32_t>();
    flag.sample_ppm = row[4].as<uint32_t>();
    flag.sample_by_key = row[5].as<bool>();
    flag.epoch = row[6].as<uint64_t>();
    flag.revision = row[7].as<uint64_t>();
    flag.window = row[8].as<uint64_t>();
    flag.catalog_revision = row[9].as<uint64_t>();
    flag.reason = row[10].c_str();
    flag.changed_at = absl::FromUnixMicros(row[11].as<int64_t>());
    flag.strata = {row[12].as<uint32_t>(), row[13].as<uint32_t>(), row[14].as<uint32_t>(), row[15].as<uint32_t>(),
                   row[16].as<uint32_t>()};
    targets.emplace(std::make_pair(row[0].c_str(), row[1].c_str()), std::move(flag));
  }
  Lives lives = LoadLives(work, held == nullptr ? nullptr : &held->lives(), clock, lease);
  work.commit();
  return std::make_shared<const Snapshot>(revision, std::move(tenants), std::move(targets), std::move(lives),
                                          state[1].as<uint64_t>());
}

}  // namespace

Poller::Poller(Options options, Deps deps)
    : options_(std::move(options)), deps_(std::move(deps)), wake_descriptor_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Poller::~Poller() {
  Stop();
  close(wake_descriptor_);
}

void Poller::Start() {
  thread_ = base::StartThread("flag-poller", [this] { Run(); });
}

void Poller::Stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_descriptor_, &one, sizeof(one));
  {
    // A question that hangs ends with its connection.
    base::MutexLock lock(&mutex_);
    if (socket_ >= 0) shutdown(socket_, SHUT_RDWR);
  }
  thread_.join();
}

void Poller::Run() {
  absl::Duration backoff = options_.backoff_min;
  while (!stopping_) {
    bool worked = false;
    try {
      Serve(&worked);
    } catch (...) {
      const absl::Status status = base::CurrentExceptionToStatus();
      if (stopping_) return;
      if (worked) backoff = options_.backoff_min;
      base::Log(base::Level::kWarning, "flag_poller_disconnected",
                {{"error", status.ToString()}, {"retry_ms", absl::ToInt64Milliseconds(backoff)}});
      Wait(-1, backoff);
      backoff = std::min(backoff * 2, options_.backoff_max);
    }
  }
}

void Poller::Serve(bool* worked) {
  pqxx::connection connection(Impatient(options_.connection_string));
  {
    base::MutexLock lock(&mutex_);
    socket_ = connection.sock();
  }
  // Runs before the connection closes its socket: Stop never cuts a descriptor that belongs to somebody else by then.
  const absl::Cleanup forget_socket = [this] {
    base::MutexLock lock(&mutex_);
    socket_ = -1;
  };
  if (stopping_) return;
  {
    pqxx::nontransaction work(connection);
    work.exec("SET statement_timeout = '5s'");
  }
  Listener listener(connection, kChangedChannel);

  while (!stopping_) {
    listener.heard = false;
    const absl::Duration asked_at = deps_.clock->Steady();
    const uint64_t revision = AskRevision(connection);
    const std::shared_ptr<const Snapshot> held = deps_.board->Current();
    if (held != nullptr && held->revision() == revision) {
      deps_.board->Renew(revision, asked_at);
    } else {
      std::shared_ptr<const Snapshot> loaded = Load(connection, held.get(), *deps_.clock, deps_.board->lease());
      const uint64_t loaded_revision = loaded->revision();
      deps_.board->Publish(std::move(loaded), asked_at);
      const bool newer = held == nullptr || loaded_revision > held->revision();
      if (newer && deps_.on_change) deps_.on_change(loaded_revision);
    }
    *worked = true;
    // A notification that came with the answers is already in libpq's hands: the socket would not tell.
    connection.get_notifs();
    if (!listener.heard) Wait(connection.sock(), options_.interval);
    connection.get_notifs();
  }
}

void Poller::Wait(int socket, absl::Duration timeout) {
  pollfd descriptors[] = {{wake_descriptor_, POLLIN, 0}, {socket, POLLIN, 0}};
  poll(descriptors, socket < 0 ? 1 : 2, static_cast<int>(absl::ToInt64Milliseconds(timeout)));
}

}  // namespace shadowline::flags
