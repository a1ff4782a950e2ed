#include "server/read/recogniser.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "diff/compare/redact.h"
#include "diff/verdict/owner.h"

namespace shadowline::server {
namespace {

// Equal for answers that are equal by value, however they are written.
diff::Said SaidIn(absl::string_view body) { return {base::Hash64(diff::Redactor("")(body)), body.size()}; }

}  // namespace

diff::Question QuestionOf(const cache::Query& query) {
  diff::Question question{.endpoint = base::Hash64(query.endpoint->name), .tenant = base::Hash64(query.tenant)};
  std::string identity, parameters;
  for (size_t i = 0; i < query.arguments.size(); ++i) {
    const std::optional<std::string>& argument = query.arguments[i];
    absl::StrAppend(query.endpoint->parameters[i].identity ? &identity : &parameters, argument ? argument->size() : 0,
                    argument ? ":" : "-", argument.value_or(""));
  }
  question.identity = base::Hash64(identity);
  question.parameters = base::Hash64(parameters);
  return question;
}

std::string UnsafeBecause(const cache::Endpoint& endpoint, diff::Stranger stranger) {
  if (stranger == diff::Stranger::kAnotherTenant || stranger == diff::Stranger::kAnotherIdentity) {
    return std::string(diff::StrangerName(stranger));
  }
  return endpoint.authorization ? "authorization" : "";
}

Recogniser::Recognised Recogniser::Recognise(const cache::Endpoint& endpoint, absl::string_view tenant,
                                             const diff::Question& question, absl::string_view served,
                                             absl::string_view control, absl::Duration now) {
  if (!endpoint.owner.empty() && diff::NamesAnother(served, control, endpoint.owner, tenant)) {
    return {diff::Stranger::kAnotherTenant, true};
  }
  const diff::Said said = SaidIn(served);
  base::MutexLock lock(&mutex_);
  const diff::Recognised whose = strangers_.Whose(question, said, Latest(now));
  // An answer that says whose it is, and says so rightly, is not another tenant's.
  if (whose.stranger == diff::Stranger::kAnotherTenant && !endpoint.owner.empty()) return {};
  if (whose.stranger == diff::Stranger::kNobody) return {};
  return {whose.stranger, false, whose.since};
}

void Recogniser::Heard(const diff::Question& question, absl::string_view control, absl::Duration now) {
  const diff::Said said = SaidIn(control);
  base::MutexLock lock(&mutex_);
  strangers_.Heard(question, said, Latest(now));
}

absl::Duration Recogniser::Latest(absl::Duration now) {
  latest_ = std::max(latest_, now);
  return latest_;
}

}  // namespace shadowline::server
