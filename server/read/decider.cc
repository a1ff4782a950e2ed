#include "server/read/decider.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cache/key/key.h"
#include "server/read/recogniser.h"
#include "server/read/request_names.h"
#include "server/read/route.h"

namespace shadowline::server {

namespace v1 = shadowline::v1;

namespace {

// Of what was asked; a token has at most 1 KiB.
constexpr size_t kArgumentBytesMax = 512;
constexpr size_t kBytesBeside = 5;  // Of each.

// What a divergence of this read may show, where the endpoint shows values: nobody else knows it when it is confirmed.
void AddArguments(const cache::Endpoint& endpoint, const std::vector<std::optional<std::string>>& arguments,
                  v1::DecisionToken* token) {
  if (!endpoint.show_values) return;
  size_t bytes = 0;
  for (const std::optional<std::string>& argument : arguments) bytes += kBytesBeside + argument.value_or("").size();
  if (bytes > kArgumentBytesMax) return;
  for (const std::optional<std::string>& argument : arguments) {
    v1::TokenArgument* const out = token->add_arguments();
    if (argument.has_value()) out->set_value(*argument);
  }
}

}  // namespace

struct Decider::Counters {
  explicit Counters(base::Metrics* metrics) {
    for (const bool cache : {false, true}) {
      for (const bool verify : {false, true}) {
        decisions[cache][verify] =
            metrics->AddCounter("shadowline_observed_decisions_total", "Reads of observed endpoints that were decided.",
                                {{"source", cache ? "cache" : "database"}, {"verify", verify ? "yes" : "no"}});
      }
    }
  }
  base::Counter* decisions[2][2];
};

Decider::Decider(Options options, Deps deps)
    : options_(options), deps_(deps), counters_(std::make_unique<Counters>(deps.metrics)), random_(options.seed) {}

Decider::~Decider() = default;

absl::StatusOr<v1::DecideResponse> Decider::Decide(const v1::DecideRequest& request) {
  const v1::ReadRequest& read = request.read();
  if (const absl::Status names = CheckNames(read); !names.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("read.", names.message()));
  }
  if (!read.at_least().empty()) {
    return absl::InvalidArgumentError(
        "read.at_least: nobody here can say which writes the application's cache has come to; ask for "
        "CONSISTENCY_FRESH");
  }
  const std::shared_ptr<const cache::CompiledCatalog> catalog = deps_.catalog->Current();
  if (catalog == nullptr) {
    return absl::UnavailableError("this replica has no catalog yet; apply one, or retry with backoff");
  }
  // The lease before the flags: then they are at least as new as the lease that vouches for them.
  const bool leased = deps_.board->Leased();
  const std::shared_ptr<const flags::Snapshot> flags = deps_.board->Current();
  if (flags == nullptr) return absl::UnavailableError("this replica has no flags yet; retry with backoff");
  const cache::Endpoint* const endpoint = catalog->Find(read.endpoint());
  if (endpoint == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("endpoint ", read.endpoint(), ": not in catalog revision ", catalog->revision()));
  }
  if (!endpoint->observed) {
    return absl::FailedPreconditionError(
        absl::StrCat("endpoint ", read.endpoint(), ": is not declared `observed`; use Read"));
  }
  if (!flags->HasTenant(read.tenant())) {
    return absl::NotFoundError(absl::StrCat("tenant ", read.tenant(), ": not among the catalog's tenants"));
  }
  const absl::StatusOr<std::vector<std::optional<std::string>>> arguments = cache::CanonicalArguments(*endpoint, read);
  if (!arguments.ok()) return arguments.status();

  const flags::Flag& flag = *flags->Find(read.tenant(), endpoint->family);
  Draws draws;
  std::string key;
  uint64_t nonce = 0;
  if (flag.mode != flags::Mode::kDatabase) {
    key = cache::CacheKey(*endpoint, read.tenant(), flag.epoch, *arguments);
    base::MutexLock lock(&mutex_);
    draws = DrawsOf(key, read.request_id(), &random_);
    nonce = random_.Next();
  }
  const Route route = ChooseRoute(flag, leased, read.consistency(), draws);

  v1::DecideResponse response;
  response.set_source(route.from_cache ? v1::SOURCE_CACHE : v1::SOURCE_DATABASE);
  response.set_reason(route.reason);
  response.set_verify(route.verify);
  response.set_flag_revision(flags->revision());
  if (route.verify) {
    v1::DecisionToken token;
    *token.mutable_issue() = deps_.tokens->Issue(options_.good_for);
    token.set_tenant(read.tenant());
    token.set_endpoint(endpoint->name);
    token.set_key(std::move(key));
    token.set_window(flag.window);
    token.set_catalog_revision(catalog->revision());
    token.set_after_cutover(flag.mode == flags::Mode::kCache);
    token.set_from_cache(route.from_cache);
    token.set_nonce(nonce);
    const diff::Question question = QuestionOf({catalog, endpoint, read.tenant(), *arguments});
    token.set_identity(question.identity);
    token.set_parameters(question.parameters);
    token.set_sample_ppm(flag.sample_ppm);
    AddArguments(*endpoint, *arguments, &token);
    response.set_decision(deps_.tokens->Seal(token));
    response.set_good_for_us(absl::ToInt64Microseconds(options_.good_for));
  }
  counters_->decisions[route.from_cache][route.verify]->Add();
  return response;
}

}  // namespace shadowline::server
