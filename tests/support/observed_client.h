// ObservedClient is what an application does with an observed endpoint: it asks where to serve a read from, serves it
// from there, and reports both sides where it is asked to; and it looks again where the report says so.
// docs/observed.md tells it step by step.
//
//   ObservedClient client({channel}, read_cache, read_database);
//   ObservedSide answer = client.Read(request);
//   client.LookAgain();                          // now and then
//
// Threads: compatible.
#ifndef SHADOWLINE_TESTS_SUPPORT_OBSERVED_CLIENT_H_
#define SHADOWLINE_TESTS_SUPPORT_OBSERVED_CLIENT_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "shadowline/v1/observe.grpc.pb.h"

namespace shadowline::support {

struct ObservedSide {
  enum class Form { kJson, kMessage, kDigest };

  shadowline::v1::ObservedOutcome outcome = shadowline::v1::OBSERVED_OUTCOME_FOUND;
  std::string body = {};
  std::string version = {};
  Form form = Form::kJson;
};

class ObservedClient {
 public:
  using ReadSide = std::function<ObservedSide(const shadowline::v1::ReadRequest& request)>;

  // Calls go to one channel after the other, as behind a load balancer that knows no connections.
  ObservedClient(const std::vector<std::shared_ptr<grpc::Channel>>& channels, ReadSide cache, ReadSide database);

  // What the user is given.
  ObservedSide Read(const shadowline::v1::ReadRequest& request);
  // Makes the looks that are due.
  void LookAgain();

  size_t waiting() const { return waiting_.size(); }
  const shadowline::v1::DecideResponse& last_decision() const { return decision_; }
  // How many reports ended so: by verdict, or "joined", "no_candidate", and "refused: ..." with the message.
  const std::map<std::string, int>& endings() const { return endings_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Looked {
    shadowline::v1::ObservedRead observation;
    ObservedSide candidate;
    ObservedSide control;
  };
  struct Waiting {
    shadowline::v1::ReadRequest request;
    std::string episode;
    Clock::time_point told_at;
    Clock::time_point due_at;
  };

  Looked Look(const shadowline::v1::ReadRequest& request);
  void Report(const shadowline::v1::ReadRequest& request, const shadowline::v1::ObservedRead& observation);
  shadowline::v1::ObserveService::Stub* Next();

  std::vector<std::unique_ptr<shadowline::v1::ObserveService::Stub>> stubs_;
  const ReadSide cache_;
  const ReadSide database_;
  size_t calls_ = 0;
  shadowline::v1::DecideResponse decision_;
  std::deque<Waiting> waiting_;
  std::map<std::string, int> endings_;
};

}  // namespace shadowline::support

#endif  // SHADOWLINE_TESTS_SUPPORT_OBSERVED_CLIENT_H_
