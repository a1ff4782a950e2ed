// Redis in the shapes that people run, made of PrivateRedis processes: a Cluster with a replica for each master, and a
// master with a replica under the eyes of sentinels. Whatever does not come about within a minute ends the program with
// a message.
//
//   PrivateRedisCluster cluster;
//   cluster.MoveSlots(0, 1, 100);   // while others read and write
//   cluster.KillMaster(0);
//   cluster.AwaitHealthy();         // its replica has been promoted, and every node knows
#ifndef SHADOWLINE_TESTS_SUPPORT_PRIVATE_REDIS_H_
#define SHADOWLINE_TESTS_SUPPORT_PRIVATE_REDIS_H_

#include <memory>
#include <string>
#include <vector>

#include "cache/redis/reply.h"
#include "tests/support/private_servers.h"

namespace shadowline::support {

// One command, and its reply, over the unix socket of a Redis. An error where it does not answer.
cache::Reply AskRedis(const std::string& unix_socket, const std::vector<std::string>& command,
                      const std::string& password = "");

class PrivateRedisCluster {
 public:
  // Each shard is a master and a replica. `settings` are further arguments of every redis-server.
  explicit PrivateRedisCluster(int shards = 3, const std::vector<std::string>& settings = {});

  // "127.0.0.1:port" of every node, dead or alive.
  std::vector<std::string> addresses() const;
  int shards() const { return static_cast<int>(nodes_.size()) / 2; }
  // The node that serves a shard now.
  PrivateRedis* Master(int shard);
  // The other one of the shard.
  PrivateRedis* Replica(int shard);
  // The node that serves a slot now.
  PrivateRedis* OwnerOf(int slot);

  // Moves `count` slots of one shard to another with all their keys, one after the other, as an operator's tool does.
  void MoveSlots(int from, int to, int count);
  void MoveSlot(int slot, int to);
  // Adds a shard that owns nothing yet; returns its number.
  int AddShard();
  // The nodes of a shard leave; it must own nothing.
  void RemoveShard(int shard);
  // Kills the node that serves a shard; its replica will be promoted.
  void KillMaster(int shard);
  // Starts what was killed, empty; it becomes the replica of the one that was promoted.
  void Revive(int shard);
  // Until every living node says that all slots are served, and by whom, and none waits for its master's data.
  void AwaitHealthy();

 private:
  struct Node {
    std::unique_ptr<PrivateRedis> redis;
    int bus_port;
    std::string id;
    bool alive = true;
    bool gone = false;
  };

  void AddNodes(int count);
  void AwaitKnown();
  Node* MasterNode(int shard);
  void Move(const std::string& slot, const Node& source, const Node& target);
  // Everything that a living node says about who serves which slots.
  std::string MapOf(const Node& node) const;
  bool Healthy() const;

  const std::vector<std::string> settings_;
  std::vector<Node> nodes_;  // Those of shard i are 2i and 2i + 1.
};

// A master and a replica, and sentinels that watch them as `main`.
class PrivateSentinels {
 public:
  // `password`: of the sentinels; empty: none.
  explicit PrivateSentinels(int sentinels = 3, const std::string& password = "");

  // "127.0.0.1:port" of every sentinel.
  std::vector<std::string> addresses() const;
  std::string socket(int sentinel) const { return sentinels_[sentinel].socket(); }
  // The one that is a master by its own account, of those that run.
  PrivateRedis* Master();
  // The other one.
  PrivateRedis* Replica() { return Master() == &first_ ? &second_ : &first_; }
  // Until every sentinel names this Redis.
  void AwaitNamed(const PrivateRedis& master);

 private:
  struct Sentinel {
    std::unique_ptr<ScratchFolder> folder;
    int port;
    ChildProcess process;
    std::string socket() const { return folder->path() + "/sentinel.sock"; }
  };

  PrivateRedis first_, second_;
  std::string password_;
  std::vector<Sentinel> sentinels_;
};

// An authority of its own, and the certificates that it gave: to a server that is 127.0.0.1 and redis.test, and to a
// client. Files in PEM.
class PrivateAuthority {
 public:
  PrivateAuthority();

  std::string ca() const { return folder_.path() + "/ca.crt"; }
  std::string client_certificate() const { return folder_.path() + "/client.crt"; }
  std::string client_key() const { return folder_.path() + "/client.key"; }
  // For a PrivateRedis that speaks TLS, also to its like, and asks for a client's certificate.
  std::vector<std::string> ServerArguments() const;

 private:
  void Run(const std::vector<std::string>& arguments);
  void Certify(const std::string& name, const std::string& extensions);

  ScratchFolder folder_{"ca"};
};

}  // namespace shadowline::support

#endif  // SHADOWLINE_TESTS_SUPPORT_PRIVATE_REDIS_H_
