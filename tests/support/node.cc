#include "tests/support/node.h"

#include <stdexcept>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "tests/support/await.h"

namespace shadowline::support {
namespace {

namespace v1 = shadowline::v1;

// Far more than any step takes.
constexpr absl::Duration kLimit = absl::Seconds(60);

void Check(const std::string& step, const grpc::Status& status) {
  if (status.ok()) return;
  throw std::runtime_error(absl::StrCat(step, ": ", status.error_code(), " ", status.error_message()));
}

void SetTimeout(grpc::ClientContext* context, absl::Duration timeout) {
  context->set_deadline(absl::ToChronoTime(absl::Now() + timeout));
}

// gRPC's own second between two tries would only make the tests longer.
std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 100);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

bool Answer::FromCache() const {
  return status.ok() && (response.source() == v1::SOURCE_CACHE || response.source() == v1::SOURCE_NEAR_CACHE);
}

Node::Node(Shadowlined::Options options)
    : server(std::move(options)),
      channel(Connect(server.address())),
      reads_(v1::ReadService::NewStub(channel)),
      cache_(v1::CacheService::NewStub(channel)),
      catalogs_(v1::CatalogService::NewStub(channel)),
      rollouts_(v1::RolloutService::NewStub(channel)),
      flags_(v1::FlagService::NewStub(channel)) {}

Answer Node::Read(const v1::ReadRequest& request, absl::Duration timeout) {
  Answer answer;
  grpc::ClientContext context;
  SetTimeout(&context, timeout);
  answer.status = reads_->Read(&context, request, &answer.response);
  return answer;
}

grpc::Status Node::Invalidate(const std::string& tenant, const std::vector<std::string>& tags,
                              const std::vector<uint64_t>& transactions) {
  v1::InvalidateRequest request;
  request.set_tenant(tenant);
  request.mutable_tags()->Assign(tags.begin(), tags.end());
  request.mutable_transactions()->Assign(transactions.begin(), transactions.end());
  grpc::ClientContext context;
  SetTimeout(&context, absl::Seconds(10));
  v1::InvalidateResponse response;
  return cache_->Invalidate(&context, request, &response);
}

void Node::Apply(const std::string& yaml) {
  v1::ApplyCatalogRequest request;
  request.set_yaml(yaml);
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  SetTimeout(&context, kLimit);
  v1::ApplyCatalogResponse response;
  Check("apply", catalogs_->ApplyCatalog(&context, request, &response));
}

void Node::Promote(const std::string& family, size_t tenants) {
  v1::Rollout rollout;
  {
    v1::StartRolloutRequest request;
    request.set_family(family);
    auto* cohort = request.add_cohorts();
    cohort->set_name("all");
    cohort->set_share_ppm(1'000'000);
    grpc::ClientContext context;
    SetTimeout(&context, kLimit);
    Check("start " + family, rollouts_->StartRollout(&context, request, &rollout));
  }
  const bool promoted = AwaitTrue(kLimit, [&] {
    if (Promoted(family, tenants)) return true;
    // The controller opens the windows first; until then, and while it changes, the command is refused.
    v1::RolloutCommand command;
    command.set_rollout(rollout.id());
    command.set_who("test");
    command.set_reason("the cache is tested, not the way to it");
    grpc::ClientContext again;
    SetTimeout(&again, kLimit);
    rollouts_->PromoteRollout(&again, command, &rollout);
    return false;
  });
  if (!promoted) throw std::runtime_error(absl::StrCat(family, " was not promoted: ", rollout.ShortDebugString()));
}

bool Node::Promoted(const std::string& family, size_t tenants) {
  v1::ListFlagsRequest request;
  request.set_family(family);
  v1::ListFlagsResponse flags;
  grpc::ClientContext context;
  SetTimeout(&context, kLimit);
  Check("flags", flags_->ListFlags(&context, request, &flags));
  size_t promoted = 0;
  for (const v1::Flag& flag : flags.flags()) {
    promoted += flag.mode() == v1::MODE_CACHE && flag.serve_ppm() == 1'000'000;
  }
  return promoted == tenants;
}

uint64_t Node::Epoch(const std::string& tenant, const std::string& family) {
  v1::GetFlagRequest request;
  request.set_tenant(tenant);
  request.set_family(family);
  grpc::ClientContext context;
  SetTimeout(&context, kLimit);
  v1::Flag flag;
  Check("flag", flags_->GetFlag(&context, request, &flag));
  return flag.epoch();
}

double Node::Metric(const std::string& name, const std::string& label) const {
  double sum = 0;
  for (absl::string_view line : absl::StrSplit(server.Get("/metrics"), '\n')) {
    if (!absl::StartsWith(line, name + "{") && !absl::StartsWith(line, name + " ")) continue;
    double value = 0;
    if (absl::StrContains(line, label) && absl::SimpleAtod(line.substr(line.rfind(' ') + 1), &value)) sum += value;
  }
  return sum;
}

}  // namespace shadowline::support
