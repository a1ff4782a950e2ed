#include "server/read/keeper.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/hash.h"
#include "cache/external/external.h"
#include "cache/key/key.h"

namespace shadowline::server {

namespace {

// How a difference says that a digest is all that was reported.
constexpr absl::string_view kDigest = "\"digest, ";

// `account=7, region=emea`
std::string Asked(const std::vector<diff::SealedContents::Parameter>& parameters) {
  return absl::StrJoin(parameters, ", ", [](std::string* out, const diff::SealedContents::Parameter& parameter) {
    absl::StrAppend(out, parameter.name, "=", parameter.is_null ? "null" : parameter.value);
  });
}

}  // namespace

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
  const cache::Endpoint& endpoint = *query.endpoint;
  if (!sealer_.has_value() || (endpoint.observed && !endpoint.show_values)) return;
  diff::SealedContents contents;
  for (size_t i = 0; i < query.arguments.size(); ++i) {
    const cache::ParameterDecl& declared = endpoint.parameters[i];
    const std::optional<std::string>& value = query.arguments[i];
    contents.parameters.push_back(
        {declared.name, std::string(TypeName(declared.type)), !value.has_value(), value.value_or("")});
  }
  if (endpoint.show_values) {
    contents.values = difference.values;
    if (endpoint.observed) contents.key = Asked(contents.parameters);
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

void Keeper::MarkDigests(diff::Divergence* divergence) {
  for (diff::Difference& difference : divergence->differences) {
    for (std::string* side : {&difference.control, &difference.candidate}) {
      if (const size_t digest = side->rfind('#'); digest != std::string::npos) {
        *side = absl::StrCat(kDigest, side->substr(digest));
      }
    }
  }
}

bool Keeper::IsOfDigests(const diff::Divergence& divergence) {
  return std::any_of(divergence.differences.begin(), divergence.differences.end(), [](const diff::Difference& one) {
    return absl::StartsWith(one.control, kDigest) || absl::StartsWith(one.candidate, kDigest);
  });
}

absl::StatusOr<diff::SealedContents> Keeper::Open(const diff::Divergence& divergence, absl::Time now) const {
  if (IsOfDigests(divergence)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "divergence ", divergence.id,
        ": its two sides were reported as digests, of which nothing can be kept; report json or a message"));
  }
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
