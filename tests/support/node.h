// Node is one `shadowlined` process and an application's and an operator's connection to it.
//
//   Node node({.source = ..., .redis = ...});
//   node.Apply(yaml);
//   node.Promote("stock", 2);
//   node.Read(request).FromCache();
//
// Errors:  std::runtime_error where the steps that lead to a test's beginning fail: Apply, Promote, Epoch.
// Threads: thread-safe, but for `server`.
#ifndef SHADOWLINE_TESTS_SUPPORT_NODE_H_
#define SHADOWLINE_TESTS_SUPPORT_NODE_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "shadowline/v1/cache.grpc.pb.h"
#include "shadowline/v1/catalog.grpc.pb.h"
#include "shadowline/v1/flags.grpc.pb.h"
#include "shadowline/v1/read.grpc.pb.h"
#include "shadowline/v1/rollout.grpc.pb.h"
#include "tests/support/shadowlined.h"

namespace shadowline::support {

struct Answer {
  grpc::Status status;
  shadowline::v1::ReadResponse response;

  bool FromCache() const;  // Of Redis or of the replica itself.
};

class Node {
 public:
  explicit Node(Shadowlined::Options options);

  Answer Read(const shadowline::v1::ReadRequest& request, absl::Duration timeout = absl::Seconds(10));
  grpc::Status Invalidate(const std::string& tenant, const std::vector<std::string>& tags,
                          const std::vector<uint64_t>& transactions = {});

  void Apply(const std::string& yaml);
  // All `tenants` of the family to CACHE at 100 %, past all evidence.
  void Promote(const std::string& family, size_t tenants);
  // Whether this replica knows all of them to be.
  bool Promoted(const std::string& family, size_t tenants);
  // Of the target's keys.
  uint64_t Epoch(const std::string& tenant, const std::string& family);

  // The sum of a metric's series whose labels contain `label`; 0 where the replica does not answer.
  double Metric(const std::string& name, const std::string& label = "") const;

  Shadowlined server;
  const std::shared_ptr<grpc::Channel> channel;

 private:
  const std::unique_ptr<shadowline::v1::ReadService::Stub> reads_;
  const std::unique_ptr<shadowline::v1::CacheService::Stub> cache_;
  const std::unique_ptr<shadowline::v1::CatalogService::Stub> catalogs_;
  const std::unique_ptr<shadowline::v1::RolloutService::Stub> rollouts_;
  const std::unique_ptr<shadowline::v1::FlagService::Stub> flags_;
};

}  // namespace shadowline::support

#endif  // SHADOWLINE_TESTS_SUPPORT_NODE_H_
