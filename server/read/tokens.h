// Tokens are what a caller carries from one call to the next without being able to change it, or to make one. The seal
// is a digest under a secret that all replicas share; what is in a token can be read by whoever holds it.
//
//   token.mutable_issue()->CopyFrom(tokens.Issue(good_for));
//   std::string bytes = tokens.Seal(token);
//   ASSIGN_OR_RETURN(v1::DecisionToken token, tokens.Unseal<v1::DecisionToken>(bytes));
//   RETURN_IF_ERROR(tokens.CheckAge(token.issue()));
//
// Ownership: borrows the clock.
// Threads:   immutable.
#ifndef SHADOWLINE_SERVER_READ_TOKENS_H_
#define SHADOWLINE_SERVER_READ_TOKENS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "shadowline/v1/observe_token.pb.h"

namespace shadowline::server {

class Tokens {
 public:
  // `replica` names this process: a random number.
  Tokens(absl::string_view secret, uint64_t replica, const base::Clock* clock);

  shadowline::v1::TokenIssue Issue(absl::Duration good_for) const;
  // How long ago this very process gave it. Nothing: another one did, and clocks are not compared.
  std::optional<absl::Duration> Elapsed(const shadowline::v1::TokenIssue& issue) const;
  // kFailedPrecondition: it is too old. Of other processes' tokens that is known as well as wall clocks agree.
  absl::Status CheckAge(const shadowline::v1::TokenIssue& issue) const;

  // A message of one type is never taken for another's.
  template <typename Message>
  std::string Seal(const Message& message) const {
    const std::string bytes = message.SerializeAsString();
    return SealOf(Message::descriptor()->full_name(), bytes) + bytes;
  }
  // kInvalidArgument: it was not sealed under this secret, or not as such a message.
  template <typename Message>
  absl::StatusOr<Message> Unseal(absl::string_view token) const {
    const absl::string_view seal = token.substr(0, kSealBytes);
    token.remove_prefix(seal.size());
    Message message;
    if (seal != SealOf(Message::descriptor()->full_name(), token) ||
        !message.ParseFromArray(token.data(), static_cast<int>(token.size()))) {
      return absl::InvalidArgumentError(
          "not one of this service's; expected the bytes as they were given, and one verification.redaction_secret for "
          "all replicas");
    }
    return message;
  }

 private:
  static constexpr size_t kSealBytes = 16;

  std::string SealOf(absl::string_view type, absl::string_view bytes) const;

  const std::string secret_;
  const uint64_t replica_;
  const base::Clock* const clock_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_TOKENS_H_
