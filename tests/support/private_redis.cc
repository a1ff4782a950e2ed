#include "tests/support/private_redis.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "tests/support/await.h"

namespace shadowline::support {
namespace {

using cache::Reply;

constexpr int kSlots = 16384;

[[noreturn]] void Die(const std::string& message) {
  std::fprintf(stderr, "private redis: %s\n", message.c_str());
  std::abort();
}

void Await(const std::string& what, absl::FunctionRef<bool()> condition) {
  if (!AwaitTrue(absl::Seconds(60), condition)) Die(what + ": not within a minute");
}

// Asks again where Redis cannot answer yet, and takes no error for an answer.
Reply Must(const PrivateRedis& redis, const std::vector<std::string>& command) {
  Reply reply;
  const bool done = AwaitTrue(absl::Seconds(60), [&] {
    reply = AskRedis(redis.socket(), command);
    return reply.type != Reply::Type::kError;
  });
  if (!done) Die(absl::StrCat(command[0], " ", command.size() > 1 ? command[1] : "", ": ", reply.text));
  return reply;
}

bool Says(const PrivateRedis& redis, const std::vector<std::string>& command, const std::string& what) {
  return absl::StrContains(AskRedis(redis.socket(), command).text, what);
}

}  // namespace

Reply AskRedis(const std::string& unix_socket, const std::vector<std::string>& command, const std::string& password) {
  Reply silent;
  silent.type = Reply::Type::kError;
  silent.text = "it does not answer";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, unix_socket.c_str(), sizeof(address.sun_path) - 1);
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval patience{10, 0};
  setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  std::string out;
  bool greeted = password.empty();
  if (!greeted) cache::AppendCommand(&out, {"AUTH", password});
  cache::AppendCommand(&out, command);
  cache::ReplyReader reader(64 << 20);
  if (connect(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 &&
      send(descriptor, out.data(), out.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(out.size())) {
    char bytes[16 << 10];
    ssize_t got = 0;
    while ((got = recv(descriptor, bytes, sizeof(bytes), 0)) > 0) {
      reader.Feed({bytes, static_cast<size_t>(got)});
      auto reply = reader.Next();
      if (reply.ok() && *reply != nullptr && !std::exchange(greeted, true)) reply = reader.Next();
      if (!reply.ok()) break;
      if (*reply == nullptr) continue;
      close(descriptor);
      return **reply;
    }
  }
  close(descriptor);
  return silent;
}

PrivateRedisCluster::PrivateRedisCluster(int shards, const std::vector<std::string>& settings) : settings_(settings) {
  AddNodes(2 * shards);
  for (int shard = 0; shard < shards; ++shard) {
    Must(*nodes_[2 * shard].redis, {"CLUSTER", "ADDSLOTSRANGE", absl::StrCat(kSlots * shard / shards),
                                    absl::StrCat(kSlots * (shard + 1) / shards - 1)});
  }
  for (int shard = 0; shard < shards; ++shard) {
    Must(*nodes_[2 * shard + 1].redis, {"CLUSTER", "REPLICATE", nodes_[2 * shard].id});
  }
  AwaitHealthy();
}

void PrivateRedisCluster::AddNodes(int count) {
  const size_t first = nodes_.size();
  for (int i = 0; i < count; ++i) {
    Node node;
    node.bus_port = FreePort();
    std::vector<std::string> arguments = {"--cluster-enabled", "yes", "--cluster-port", absl::StrCat(node.bus_port),
                                          "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0",
                                          // A master that gave its last slot away stays one.
                                          "--cluster-allow-replica-migration", "no", "--repl-diskless-sync-delay", "0"};
    arguments.insert(arguments.end(), settings_.begin(), settings_.end());
    node.redis = std::make_unique<PrivateRedis>(arguments);
    node.id = Must(*node.redis, {"CLUSTER", "MYID"}).text;
    nodes_.push_back(std::move(node));
  }
  const Node* known = nullptr;
  for (size_t i = 0; i < first && known == nullptr; ++i) {
    if (nodes_[i].alive) known = &nodes_[i];
  }
  for (size_t i = first; i < nodes_.size(); ++i) {
    Must(*nodes_[i].redis, {"CLUSTER", "SET-CONFIG-EPOCH", absl::StrCat(i + 1)});
    const Node& meets = known != nullptr ? *known : nodes_[0];
    if (i == 0) continue;
    Must(*nodes_[i].redis,
         {"CLUSTER", "MEET", "127.0.0.1", absl::StrCat(meets.redis->port()), absl::StrCat(meets.bus_port)});
  }
  AwaitKnown();
}

void PrivateRedisCluster::AwaitKnown() {
  size_t members = 0;
  for (const Node& node : nodes_) members += node.gone ? 0 : 1;
  for (const Node& node : nodes_) {
    if (!node.alive) continue;
    Await("the nodes meet", [&] {
      return Says(*node.redis, {"CLUSTER", "INFO"}, absl::StrCat("cluster_known_nodes:", members, "\r")) &&
             !Says(*node.redis, {"CLUSTER", "NODES"}, "handshake");
    });
  }
}

std::vector<std::string> PrivateRedisCluster::addresses() const {
  std::vector<std::string> addresses;
  for (const Node& node : nodes_) {
    if (!node.gone) addresses.push_back(absl::StrCat("127.0.0.1:", node.redis->port()));
  }
  return addresses;
}

PrivateRedisCluster::Node* PrivateRedisCluster::MasterNode(int shard) {
  Node* master = nullptr;
  Await(absl::StrCat("a master of shard ", shard), [&] {
    for (Node* node : {&nodes_[2 * shard], &nodes_[2 * shard + 1]}) {
      if (master == nullptr && node->alive && Says(*node->redis, {"INFO", "replication"}, "role:master")) master = node;
    }
    return master != nullptr;
  });
  return master;
}

PrivateRedis* PrivateRedisCluster::Master(int shard) { return MasterNode(shard)->redis.get(); }

PrivateRedis* PrivateRedisCluster::Replica(int shard) {
  return MasterNode(shard) == &nodes_[2 * shard] ? nodes_[2 * shard + 1].redis.get() : nodes_[2 * shard].redis.get();
}

PrivateRedis* PrivateRedisCluster::OwnerOf(int slot) {
  for (int shard = 0; shard < shards(); ++shard) {
    Node* const master = MasterNode(shard);
    for (const Reply& range : Must(*master->redis, {"CLUSTER", "SLOTS"}).elements) {
      if (range.elements[0].integer <= slot && slot <= range.elements[1].integer &&
          range.elements[2].elements[2].text == master->id) {
        return master->redis.get();
      }
    }
  }
  Die(absl::StrCat("nobody serves slot ", slot));
}

void PrivateRedisCluster::MoveSlots(int from, int to, int count) {
  const Node& source = *MasterNode(from);
  const Node& target = *MasterNode(to);
  std::vector<int> slots;
  for (const Reply& range : Must(*source.redis, {"CLUSTER", "SLOTS"}).elements) {
    if (range.elements[2].elements[2].text != source.id) continue;
    for (int64_t slot = range.elements[0].integer; slot <= range.elements[1].integer; ++slot) {
      if (static_cast<int>(slots.size()) < count) slots.push_back(static_cast<int>(slot));
    }
  }
  if (static_cast<int>(slots.size()) < count) Die(absl::StrCat("shard ", from, " has no ", count, " slots"));
  for (const int slot : slots) Move(absl::StrCat(slot), source, target);
}

void PrivateRedisCluster::MoveSlot(int slot, int to) {
  const PrivateRedis* const owner = OwnerOf(slot);
  const Node& target = *MasterNode(to);
  for (const Node& node : nodes_) {
    if (node.redis.get() == owner && &node != &target) Move(absl::StrCat(slot), node, target);
  }
}

void PrivateRedisCluster::Move(const std::string& slot, const Node& source, const Node& target) {
  Must(*target.redis, {"CLUSTER", "SETSLOT", slot, "IMPORTING", source.id});
  Must(*source.redis, {"CLUSTER", "SETSLOT", slot, "MIGRATING", target.id});
  while (true) {
    const Reply keys = Must(*source.redis, {"CLUSTER", "GETKEYSINSLOT", slot, "100"});
    if (keys.elements.empty()) break;
    std::vector<std::string> migrate = {"MIGRATE", "127.0.0.1", absl::StrCat(target.redis->port()), "", "0", "5000",
                                        "REPLACE", "KEYS"};
    for (const Reply& key : keys.elements) migrate.push_back(key.text);
    Must(*source.redis, migrate);
  }
  Must(*target.redis, {"CLUSTER", "SETSLOT", slot, "NODE", target.id});
  Must(*source.redis, {"CLUSTER", "SETSLOT", slot, "NODE", target.id});
}

int PrivateRedisCluster::AddShard() {
  AddNodes(2);
  const Node& master = nodes_[nodes_.size() - 2];
  Must(*nodes_.back().redis, {"CLUSTER", "REPLICATE", master.id});
  AwaitHealthy();
  return shards() - 1;
}

void PrivateRedisCluster::RemoveShard(int shard) {
  for (Node* leaves : {&nodes_[2 * shard], &nodes_[2 * shard + 1]}) leaves->gone = true;
  for (const Node& node : nodes_) {
    if (node.gone || !node.alive) continue;
    for (const Node* leaves : {&nodes_[2 * shard], &nodes_[2 * shard + 1]}) {
      Must(*node.redis, {"CLUSTER", "FORGET", leaves->id});
    }
  }
  for (Node* leaves : {&nodes_[2 * shard], &nodes_[2 * shard + 1]}) {
    leaves->redis->Kill();
    leaves->alive = false;
  }
}

void PrivateRedisCluster::KillMaster(int shard) {
  Node* const master = MasterNode(shard);
  master->alive = false;
  master->redis->Kill();
}

void PrivateRedisCluster::Revive(int shard) {
  for (Node* node : {&nodes_[2 * shard], &nodes_[2 * shard + 1]}) {
    if (node->alive || node->gone) continue;
    node->redis->Start();
    node->alive = true;
  }
}

std::string PrivateRedisCluster::MapOf(const Node& node) const {
  std::map<int64_t, std::string> owners;  // Replicas come in any order, and ranges may be cut in any way.
  for (const Reply& range : AskRedis(node.redis->socket(), {"CLUSTER", "SLOTS"}).elements) {
    for (int64_t slot = range.elements[0].integer; slot <= range.elements[1].integer; ++slot) {
      owners[slot] = range.elements[2].elements[2].text;
    }
  }
  std::string map;
  for (const auto& [slot, owner] : owners) absl::StrAppend(&map, owner, " ");
  return owners.size() == kSlots ? map : "";
}

bool PrivateRedisCluster::Healthy() const {
  std::string map;
  for (const Node& node : nodes_) {
    if (!node.alive || node.gone) continue;
    if (!Says(*node.redis, {"CLUSTER", "INFO"}, "cluster_state:ok")) return false;
    const std::string replication = AskRedis(node.redis->socket(), {"INFO", "replication"}).text;
    if (absl::StrContains(replication, "role:slave") && !absl::StrContains(replication, "master_link_status:up")) {
      return false;
    }
    const std::string known = MapOf(node);
    if (known.empty() || (!map.empty() && known != map)) return false;
    map = known;
  }
  for (const Node& node : nodes_) {
    if (!node.alive && absl::StrContains(map, node.id)) return false;
  }
  return true;
}

void PrivateRedisCluster::AwaitHealthy() {
  if (AwaitTrue(absl::Seconds(120), [this] { return Healthy(); })) return;
  std::string nodes;
  for (const Node& node : nodes_) {
    if (node.alive && !node.gone)
      absl::StrAppend(&nodes, AskRedis(node.redis->socket(), {"CLUSTER", "NODES"}).text, "\n");
  }
  Die("the cluster is healthy: not within two minutes\n" + nodes);
}

PrivateSentinels::PrivateSentinels(int sentinels, const std::string& password)
    : second_({"--replicaof", "127.0.0.1", absl::StrCat(first_.port()), "--repl-diskless-sync-delay", "0"}),
      password_(password) {
  Await("the replica follows", [this] { return Says(second_, {"INFO", "replication"}, "master_link_status:up"); });
  const int quorum = sentinels / 2 + 1;
  for (int i = 0; i < sentinels; ++i) {
    Sentinel sentinel;
    sentinel.folder = std::make_unique<ScratchFolder>("sentinel");
    sentinel.port = FreePort();
    const std::string file = sentinel.folder->path() + "/sentinel.conf";
    std::ofstream config(file);
    config << "bind 127.0.0.1\nport " << sentinel.port << "\nunixsocket " << sentinel.socket() << "\ndir "
           << sentinel.folder->path() << "\nsentinel monitor main 127.0.0.1 " << first_.port() << " " << quorum
           << "\nsentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n";
    if (!password.empty()) config << "requirepass " << password << "\nsentinel sentinel-pass " << password << "\n";
    config.close();
    sentinel.process = ChildProcess({"redis-server", file, "--sentinel"}, sentinel.folder->path() + "/log");
    sentinels_.push_back(std::move(sentinel));
  }
  AwaitNamed(first_);
  for (const Sentinel& sentinel : sentinels_) {
    Await("the sentinels meet", [&] {
      for (const auto& [what, count] : {std::pair{"num-slaves", 1}, std::pair{"num-other-sentinels", sentinels - 1}}) {
        const Reply told = AskRedis(sentinel.socket(), {"SENTINEL", "MASTER", "main"}, password_);
        bool met = false;
        for (size_t i = 0; i + 1 < told.elements.size(); i += 2) {
          met = met || (told.elements[i].text == what && told.elements[i + 1].text == absl::StrCat(count));
        }
        if (!met) return false;
      }
      return true;
    });
  }
}

std::vector<std::string> PrivateSentinels::addresses() const {
  std::vector<std::string> addresses;
  for (const Sentinel& sentinel : sentinels_) addresses.push_back(absl::StrCat("127.0.0.1:", sentinel.port));
  return addresses;
}

PrivateRedis* PrivateSentinels::Master() {
  return Says(first_, {"INFO", "replication"}, "role:master") ? &first_ : &second_;
}

void PrivateSentinels::AwaitNamed(const PrivateRedis& master) {
  for (const Sentinel& sentinel : sentinels_) {
    Await("the sentinels name the master", [&] {
      const Reply named = AskRedis(sentinel.socket(), {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"}, password_);
      return named.elements.size() == 2 && named.elements[1].text == absl::StrCat(master.port());
    });
  }
}

PrivateAuthority::PrivateAuthority() {
  Run({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "ca.key",
       "-out", "ca.crt", "-days", "2", "-subj", "/CN=authority", "-addext", "keyUsage=critical,keyCertSign"});
  // A Redis shows its certificate as a client as well, to its master.
  Certify("server", "subjectAltName=IP:127.0.0.1,DNS:redis.test");
  Certify("client", "extendedKeyUsage=clientAuth");
}

void PrivateAuthority::Run(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {"env", "-C", folder_.path(), "openssl"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  const std::string log = folder_.path() + "/log";
  if (ChildProcess(command, log).Wait() != 0) Die("openssl " + arguments[0] + " failed; is the package openssl there?");
}

void PrivateAuthority::Certify(const std::string& name, const std::string& extensions) {
  std::ofstream(folder_.path() + "/" + name + ".ext") << extensions << "\n";
  Run({"req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", name + ".key", "-out",
       name + ".csr", "-subj", "/CN=" + name});
  Run({"x509", "-req", "-in", name + ".csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
       "-extfile", name + ".ext", "-out", name + ".crt"});
}

std::vector<std::string> PrivateAuthority::ServerArguments() const {
  return {"--tls-cert-file",    folder_.path() + "/server.crt",
          "--tls-key-file",     folder_.path() + "/server.key",
          "--tls-ca-cert-file", ca(),
          "--tls-auth-clients", "yes",
          "--tls-replication",  "yes"};
}

}  // namespace shadowline::support
