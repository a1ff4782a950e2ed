#include "server/read/keeper.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/hash.h"
#include "cache/external/external.h"
#include "cache/key/key.h"

namespace shadowline::server {

absl::string_view TypeName(cache::ParameterType type) {
  switch (type) {
    case cache::ParameterType::kText:
      return "text";
    case cache::ParameterType::kInteger:
      return "integer";
    case cache::ParameterType::kNumber:
      return "number";
    case cache::ParameterType::kBoolean:
      return "boolean";
    case cache::ParameterType::kTextSet:
      return "text_set";
    case cache::ParameterType::kIntegerSet:
      return "integer_set";
    case cache::ParameterType::kTextList:
      return "text_list";
    case cache::ParameterType::kIntegerList:
      return "integer_list";
  }
  return "";
}

std::string Keeper::SecretOf(absl::string_view tenant) const {
  return base::Digest128(absl::StrCat(redaction_secret_, absl::string_view("\0", 1), tenant));
}

std::vector<std::string> Keeper::RedactedTags(const cache::Query& query) const {
  const std::string secret = SecretOf(query.tenant);
  std::vector<std::string> tags;
  for (const std::vector<cache::TagPiece>& pieces : query.endpoint->tags) {
    std::string& tag = tags.emplace_back();
    for (const cache::TagPiece& piece : pieces) {
      if (piece.parameter == -2) {
        absl::StrAppend(&tag, query.tenant);
      } else if (piece.parameter < 0) {
        absl::StrAppend(&tag, piece.literal);
      } else if (const std::optional<std::string>& value = query.arguments[piece.parameter]; value.has_value()) {
        absl::StrAppend(&tag, "#", base::KeyedDigest(secret, *value));
      }
    }
  }
  return tags;
}

void Keeper::Seal(const cache::Query& query, const Compared& difference, diff::Divergence* divergence) const {
  if (!sealer_.has_value()) return;
  const cache::Endpoint& endpoint = *query.endpoint;
  diff::SealedContents contents;
  for (size_t i = 0; i < endpoint.parameters.size(); ++i) {
    const cache::ParameterDecl& declared = endpoint.parameters[i];
    const std::optional<std::string>& value = query.arguments[i];
    contents.parameters.push_back(
        {declared.name, std::string(TypeName(declared.type)), !value.has_value(), value.value_or("")});
  }
  if (endpoint.show_values) {
    contents.values = difference.values;
    const std::vector<std::string> redacted = RedactedTags(query);
    const std::vector<std::string> tags = cache::RenderTags(endpoint, query.tenant, query.arguments);
    for (size_t i = 0; i < tags.size(); ++i) contents.tags.emplace_back(redacted[i], tags[i]);
    if (endpoint.external.has_value()) {
      contents.key = cache::ExternalKey(endpoint, query.tenant, query.arguments).value_or("");
    }
  }
  divergence->sealed = sealer_->Seal(contents, query.tenant, divergence->id);
  divergence->sealed_until = divergence->confirmed_at + endpoint.evidence_ttl;
}

absl::StatusOr<diff::SealedContents> Keeper::Open(const diff::Divergence& divergence, absl::Time now) const {
  if (divergence.sealed_until == absl::InfinitePast()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "divergence ", divergence.id,
        ": its parameters were not kept; the replica that confirmed it had no evidence.key, which has to be set"));
  }
  if (divergence.sealed.empty() || divergence.sealed_until <= now) {
    return absl::FailedPreconditionError(
        absl::StrCat("divergence ", divergence.id, ": its parameters were kept until ",
                     absl::FormatTime(absl::RFC3339_sec, divergence.sealed_until, absl::UTCTimeZone()),
                     "; to keep them longer, declare evidence_ttl at the endpoint"));
  }
  if (!sealer_.has_value()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "divergence ", divergence.id, ": its parameters are encrypted, and this replica has no evidence.key; set it"));
  }
  absl::StatusOr<diff::SealedContents> contents =
      sealer_->Open(divergence.sealed, divergence.evidence.tenant, divergence.id);
  if (contents.ok()) return contents;
  return absl::Status(contents.status().code(),
                      absl::StrCat("divergence ", divergence.id, ": ", contents.status().message()));
}

void Keeper::Reveal(absl::Time now, diff::Divergence* divergence) const {
  if (divergence->sealed.empty()) return;
  const absl::StatusOr<diff::SealedContents> contents = Open(*divergence, now);
  if (!contents.ok()) return;
  const size_t values = std::min(contents->values.size(), divergence->differences.size());
  for (size_t i = 0; i < values; ++i) {
    divergence->differences[i].control = contents->values[i].first;
    divergence->differences[i].candidate = contents->values[i].second;
  }
  for (const auto& [redacted, tag] : contents->tags) {
    for (auto& [shown, at] : divergence->tags) {
      if (shown == redacted) shown = tag;
    }
    if (redacted != tag) absl::StrReplaceAll({{redacted, tag}}, &divergence->cause_evidence);
  }
  if (!contents->key.empty()) divergence->key = contents->key;
}

}  // namespace shadowline::server
