#include "tests/support/observed_client.h"

#include <utility>

namespace shadowline::support {
namespace {

namespace v1 = shadowline::v1;
using std::chrono::duration_cast;
using std::chrono::microseconds;

void Say(const ObservedSide& side, v1::ObservedAnswer* answer) {
  answer->set_outcome(side.outcome);
  if (side.outcome == v1::OBSERVED_OUTCOME_FOUND) {
    if (side.form == ObservedSide::Form::kJson) answer->set_json(side.body);
    if (side.form == ObservedSide::Form::kMessage) answer->set_message(side.body);
    if (side.form == ObservedSide::Form::kDigest) answer->set_digest(side.body);
  }
  answer->set_version(side.version);
}

}  // namespace

ObservedClient::ObservedClient(const std::vector<std::shared_ptr<grpc::Channel>>& channels, ReadSide cache,
                               ReadSide database)
    : cache_(std::move(cache)), database_(std::move(database)) {
  for (const auto& channel : channels) stubs_.push_back(v1::ObserveService::NewStub(channel));
}

v1::ObserveService::Stub* ObservedClient::Next() { return stubs_[calls_++ % stubs_.size()].get(); }

ObservedSide ObservedClient::Read(const v1::ReadRequest& request) {
  grpc::ClientContext context;
  v1::DecideRequest decide;
  *decide.mutable_read() = request;
  decision_.Clear();
  const grpc::Status decided = Next()->Decide(&context, decide, &decision_);
  if (!decided.ok()) {
    ++endings_["refused: " + decided.error_message()];
    return database_(request);  // Without an answer from Shadowline the database is right.
  }
  const bool from_cache = decision_.source() == v1::SOURCE_CACHE;
  ObservedSide served;
  if (!decision_.verify()) {
    served = from_cache ? cache_(request) : database_(request);
    return served.outcome == v1::OBSERVED_OUTCOME_MISS || served.outcome == v1::OBSERVED_OUTCOME_FAILED
               ? database_(request)
               : served;
  }
  // A real application serves its user from the one side first, and reads the other off the user's path.
  Looked looked = Look(request);
  const bool has_candidate = looked.candidate.outcome == v1::OBSERVED_OUTCOME_FOUND ||
                             looked.candidate.outcome == v1::OBSERVED_OUTCOME_NOT_FOUND;
  looked.observation.set_decision(decision_.decision());
  looked.observation.set_served(from_cache && has_candidate ? v1::SOURCE_CACHE : v1::SOURCE_DATABASE);
  Report(request, looked.observation);
  return from_cache && has_candidate ? looked.candidate : looked.control;
}

ObservedClient::Looked ObservedClient::Look(const v1::ReadRequest& request) {
  Looked looked;
  const auto candidate_began = Clock::now();
  looked.candidate = cache_(request);
  const auto control_began = Clock::now();
  looked.control = database_(request);
  const auto now = Clock::now();
  v1::ObservedAnswer* const candidate = looked.observation.mutable_candidate();
  Say(looked.candidate, candidate);
  candidate->set_began_us_ago(duration_cast<microseconds>(now - candidate_began).count());
  candidate->set_took_us(duration_cast<microseconds>(control_began - candidate_began).count());
  v1::ObservedAnswer* const control = looked.observation.mutable_control();
  Say(looked.control, control);
  control->clear_version();
  control->set_began_us_ago(duration_cast<microseconds>(now - control_began).count());
  control->set_took_us(control->began_us_ago());
  return looked;
}

void ObservedClient::LookAgain() {
  for (size_t left = waiting_.size(); left > 0; --left) {
    Waiting due = std::move(waiting_.front());
    waiting_.pop_front();
    if (due.due_at > Clock::now()) {
      waiting_.push_back(std::move(due));
      continue;
    }
    const auto waited = Clock::now() - due.told_at;
    Looked looked = Look(due.request);
    looked.observation.set_episode(due.episode);
    looked.observation.set_waited_us(duration_cast<microseconds>(waited).count());
    Report(due.request, looked.observation);
  }
}

void ObservedClient::Report(const v1::ReadRequest& request, const v1::ObservedRead& observation) {
  grpc::ClientContext context;
  v1::ObserveRequest report;
  *report.add_reads() = observation;
  v1::ObserveResponse response;
  const grpc::Status status = Next()->Observe(&context, report, &response);
  if (!status.ok() || response.results_size() != 1 || response.results(0).has_error()) {
    ++endings_["refused: " + (status.ok() ? response.results(0).error().message() : status.error_message())];
    return;
  }
  const v1::Judgement& judgement = response.results(0).judgement();
  switch (judgement.state()) {
    case v1::Judgement::STATE_SETTLED:
      ++endings_[judgement.verdict()];
      break;
    case v1::Judgement::STATE_LOOK_AGAIN:
      waiting_.push_back(
          {request, judgement.episode(), Clock::now(), Clock::now() + microseconds(judgement.look_again_in_us())});
      break;
    case v1::Judgement::STATE_JOINED:
      ++endings_["joined"];
      break;
    default:
      ++endings_["no_candidate"];
  }
}

}  // namespace shadowline::support
