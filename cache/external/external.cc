#include "cache/external/external.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/status.h"
#include "cache/external/decompress.h"
#include "cache/external/json_text.h"
#include "diff/message/message_reader.h"

namespace shadowline::cache {
namespace {

using Compression = ExternalCache::Compression;

absl::StatusOr<std::string> Decompressed(Compression compression, absl::string_view bytes) {
  return compression == Compression::kGzip ? Gunzip(bytes, kExternalBytesMax) : Unzstd(bytes, kExternalBytesMax);
}

ExternalAnswer Answer(bool found, absl::string_view body, absl::string_view version) {
  ExternalAnswer result;
  result.answer.found = found;
  result.answer.body = std::string(body);
  result.answer.loaded_at = absl::InfinitePast();
  result.answer.etag = Etag(found, body);
  // The version after its length: nothing runs into its neighbour.
  result.fill = base::Digest128(absl::StrCat(found ? "+" : "-", version.size(), ":", version, body));
  return result;
}

// The answer in `text`, and its version.
absl::StatusOr<std::vector<absl::string_view>> Parts(const ExternalCache& external, absl::string_view text) {
  std::vector<JsonPointer> pointers;
  pointers.emplace_back();  // The whole: JSON alone, or a message without a payload.
  if (!external.payload.empty()) {
    ASSIGN_OR_RETURN(pointers.back(), ParseJsonPointer(external.payload));
  }
  if (!external.version.empty()) {
    ASSIGN_OR_RETURN(pointers.emplace_back(), ParseJsonPointer(external.version));
  }
  ASSIGN_OR_RETURN(std::vector<absl::string_view> found, FindInJson(text, pointers));
  for (absl::string_view part : found) {
    if (part.empty()) return absl::DataLossError("envelope: a value is missing where the catalog's pointer leads");
  }
  if (found.size() == 1) found.emplace_back();
  return found;
}

}  // namespace

std::optional<std::string> ExternalKey(const Endpoint& endpoint, absl::string_view tenant,
                                       const std::vector<std::optional<std::string>>& arguments) {
  std::string key;
  for (const TagPiece& piece : endpoint.external->key) {
    if (piece.parameter == -1) {
      key.append(piece.literal);
      continue;
    }
    if (piece.parameter >= 0 && !arguments[piece.parameter].has_value()) return std::nullopt;
    const absl::string_view value = piece.parameter == -2 ? tenant : absl::string_view(*arguments[piece.parameter]);
    if (value.find_first_of(endpoint.external->delimiters) != absl::string_view::npos) return std::nullopt;
    key.append(value.data(), value.size());
  }
  return key;
}

absl::StatusOr<ExternalAnswer> DecodeExternal(const Endpoint& endpoint, absl::string_view bytes) {
  const ExternalCache& external = *endpoint.external;
  if (bytes.size() > kExternalBytesMax) {
    return absl::DataLossError(absl::StrCat("a value of ", bytes.size(), " bytes; at most ", kExternalBytesMax));
  }
  std::string plain;
  absl::string_view text = bytes;
  if (external.compression != Compression::kNone) {
    ASSIGN_OR_RETURN(plain, Decompressed(external.compression, bytes));
    text = plain;
  }
  if (external.not_found.has_value() && text == *external.not_found) return Answer(false, "", "");
  std::string json;
  if (external.format == ExternalCache::Format::kProtobuf) {
    absl::StatusOr<std::string> read = external.message->ToJson(text);
    if (!read.ok()) return absl::DataLossError(read.status().message());
    json = *std::move(read);
    text = json;
  }
  ASSIGN_OR_RETURN(const std::vector<absl::string_view> parts, Parts(external, text));
  const absl::string_view body = parts[0];
  if (external.not_found.has_value() && body == *external.not_found) return Answer(false, "", parts[1]);
  if (body[0] != (endpoint.shape == ResultShape::kRow ? '{' : '[')) {
    return absl::DataLossError("the answer is neither the object nor the array that the endpoint returns");
  }
  return Answer(true, body, parts[1]);
}

}  // namespace shadowline::cache
