#include "server/read/tokens.h"

#include "absl/strings/str_cat.h"
#include "base/hash.h"

namespace shadowline::server {

namespace v1 = shadowline::v1;

// A secret of its own: what seals is no digest that evidence shows.
Tokens::Tokens(absl::string_view secret, uint64_t replica, const base::Clock* clock)
    : secret_(base::Digest128(absl::StrCat("tokens", absl::string_view("\0", 1), secret))),
      replica_(replica),
      clock_(clock) {}

v1::TokenIssue Tokens::Issue(absl::Duration good_for) const {
  v1::TokenIssue issue;
  issue.set_replica(replica_);
  issue.set_steady_us(absl::ToInt64Microseconds(clock_->Steady()));
  issue.set_wall_us(absl::ToUnixMicros(clock_->Now()));
  issue.set_good_for_us(absl::ToInt64Microseconds(good_for));
  return issue;
}

std::optional<absl::Duration> Tokens::Elapsed(const v1::TokenIssue& issue) const {
  if (issue.replica() != replica_) return std::nullopt;
  return clock_->Steady() - absl::Microseconds(issue.steady_us());
}

absl::Status Tokens::CheckAge(const v1::TokenIssue& issue) const {
  const absl::Duration age = Elapsed(issue).value_or(clock_->Now() - absl::FromUnixMicros(issue.wall_us()));
  const absl::Duration good_for = absl::Microseconds(issue.good_for_us());
  if (age <= good_for) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("too old; it could be reported for ", absl::FormatDuration(good_for)));
}

std::string Tokens::SealOf(absl::string_view type, absl::string_view bytes) const {
  return base::KeyedDigest(secret_, absl::StrCat(type, absl::string_view("\0", 1), bytes));
}

}  // namespace shadowline::server
