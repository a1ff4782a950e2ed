// What is found in Redis under a key: Shadowline's own envelope (first byte 'e'), a Protobuf message ('m'), which may be
// in a report as well, or an application's value, whose first line says how the endpoint declares it.
#include <google/protobuf/descriptor.pb.h>

#include "absl/strings/match.h"
#include "cache/envelope/envelope.h"
#include "cache/external/external.h"
#include "diff/compare/compare.h"
#include "diff/message/message_reader.h"
#include "shadowline/v1/catalog.pb.h"
#include "tests/fuzz/check.h"

namespace shadowline::cache {
namespace {

void FuzzEnvelope(absl::string_view bytes) {
  constexpr absl::string_view kKey = "sl:acme:pricing/quote:1";
  constexpr size_t kMaxPlainBytes = 1 << 20;
  const auto decoded = DecodeEnvelope(kKey, bytes, kMaxPlainBytes);
  FUZZ_CHECK(decoded.ok() || absl::IsDataLoss(decoded.status()));
  // Whatever bytes an answer has, it comes out as it went in, and under no other key.
  CachedAnswer answer;
  answer.found = !bytes.empty();
  answer.body = std::string(bytes);
  answer.loaded_at = absl::UnixEpoch();
  const std::string encoded = EncodeEnvelope(kKey, answer, /*compress_above=*/64);
  const auto back = DecodeEnvelope(kKey, encoded, kMaxPlainBytes);
  FUZZ_CHECK(back.ok() && back->found == answer.found && back->body == answer.body);
  FUZZ_CHECK(!DecodeEnvelope("another key", encoded, kMaxPlainBytes).ok());
}

// Of the first line: j or e (envelope), n, g (gzip) or z (zstd), o (an object) or a (an array).
void FuzzExternal(absl::string_view text) {
  const size_t end = text.find('\n');
  if (end == absl::string_view::npos) return;
  const absl::string_view how = text.substr(0, end);
  Endpoint endpoint;
  ExternalCache& external = endpoint.external.emplace();
  if (absl::StrContains(how, "e")) {
    external.format = ExternalCache::Format::kEnvelope;
    external.payload = "/data";
    external.version = "/v";
  }
  if (absl::StrContains(how, "g")) external.compression = ExternalCache::Compression::kGzip;
  if (absl::StrContains(how, "z")) external.compression = ExternalCache::Compression::kZstd;
  endpoint.shape = absl::StrContains(how, "a") ? ResultShape::kRows : ResultShape::kRow;
  external.not_found = "null";
  const auto decoded = DecodeExternal(endpoint, text.substr(end + 1));
  FUZZ_CHECK(decoded.ok() || absl::IsDataLoss(decoded.status()));
  if (!decoded.ok()) return;
  FUZZ_CHECK(decoded->answer.body.size() <= kExternalBytesMax);
  FUZZ_CHECK(decoded->answer.found ? absl::StrContains("{[", decoded->answer.body.substr(0, 1))
                                   : decoded->answer.body.empty());
}

// A message of many kinds of fields: the catalog's own.
void FuzzMessage(absl::string_view bytes) {
  static const auto* reader = [] {
    google::protobuf::SetLogHandler(nullptr);  // It tells of every text that is not UTF-8.
    google::protobuf::FileDescriptorSet set;
    v1::Catalog::descriptor()->file()->CopyTo(set.add_file());
    return new auto(diff::MessageReader::Create(set.SerializeAsString(), "shadowline.v1.Catalog").value());
  }();
  const absl::StatusOr<std::string> json = (*reader)->ToJson(bytes);
  FUZZ_CHECK(json.ok() || absl::IsDataLoss(json.status()) || absl::IsResourceExhausted(json.status()));
  // Under a tighter limit, as reports have one, it is the same or nothing.
  constexpr size_t kFew = 200;
  const absl::StatusOr<std::string> small = (*reader)->ToJson(bytes, kFew);
  FUZZ_CHECK(small.ok() || absl::IsDataLoss(small.status()) || absl::IsResourceExhausted(small.status()));
  FUZZ_CHECK(small.ok() == (json.ok() && bytes.size() <= kFew && json->size() <= kFew));
  FUZZ_CHECK(!small.ok() || *small == *json);
  if (!json.ok()) return;
  FUZZ_CHECK(diff::CheckJson(*json).ok());
  FUZZ_CHECK(*json == (*reader)->ToJson(bytes).value());
  // Written again by who knows its type, it says the same.
  v1::Catalog catalog;
  if (!catalog.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;  // A text that was replaced.
  FUZZ_CHECK(*json == (*reader)->ToJson(catalog.SerializeAsString()).value());
}

}  // namespace
}  // namespace shadowline::cache

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const absl::string_view text = shadowline::fuzz::Text(data, size);
  if (text[0] == 'm') {
    shadowline::cache::FuzzMessage(text.substr(1));
  } else if (text[0] == 'e') {
    shadowline::cache::FuzzEnvelope(text.substr(1));
  } else {
    shadowline::cache::FuzzExternal(text);
  }
  return 0;
}
