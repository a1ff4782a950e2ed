#include "cache/envelope/envelope.h"

#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "shadowline/v1/envelope.pb.h"

namespace shadowline::cache {
namespace {

using shadowline::v1::Envelope;

constexpr uint32_t kLayout = 1;
// The seal is the last field: its tag, and eight bytes in little-endian order.
constexpr char kSealTag = Envelope::kSealFieldNumber << 3 | 1;
constexpr size_t kSealBytes = 1 + sizeof(uint64_t);

void AppendSeal(std::string* bytes) {
  uint64_t seal = base::Hash64(*bytes);
  bytes->push_back(kSealTag);
  for (size_t i = 0; i < sizeof(seal); ++i, seal >>= 8) bytes->push_back(static_cast<char>(seal & 0xff));
}

bool SealHolds(absl::string_view bytes) {
  if (bytes.size() < kSealBytes) return false;
  const absl::string_view sealed = bytes.substr(0, bytes.size() - kSealBytes);
  const absl::string_view seal = bytes.substr(sealed.size());
  uint64_t stored = 0;
  for (size_t i = sizeof(stored); i > 0; --i) stored = stored << 8 | static_cast<unsigned char>(seal[i]);
  return seal[0] == kSealTag && stored == base::Hash64(sealed);
}

// Contexts are large, and are kept by each thread that uses one.
ZSTD_CCtx* Compressor() {
  thread_local const std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> context(ZSTD_createCCtx(), ZSTD_freeCCtx);
  return context.get();
}
ZSTD_DCtx* Decompressor() {
  thread_local const std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
  return context.get();
}

// Empty where compression gains nothing.
std::string Compressed(absl::string_view body) {
  // A buffer that is smaller than the body: zstd gives up where the result would not fit.
  std::string out(body.size() - 1, '\0');
  const size_t size =
      ZSTD_compressCCtx(Compressor(), out.data(), out.size(), body.data(), body.size(), ZSTD_CLEVEL_DEFAULT);
  out.resize(ZSTD_isError(size) ? 0 : size);
  return out;
}

absl::Status Decompress(absl::string_view payload, size_t plain_size, std::string* out) {
  // The frame itself says how large it becomes: believed only where both agree, so that nothing large is allocated for
  // a few bytes that claim to be much.
  if (ZSTD_getFrameContentSize(payload.data(), payload.size()) != plain_size) {
    return absl::DataLossError("envelope: the compressed payload has another size than declared");
  }
  out->resize(plain_size);
  const size_t size = ZSTD_decompressDCtx(Decompressor(), out->data(), out->size(), payload.data(), payload.size());
  if (ZSTD_isError(size) || size != plain_size) {
    return absl::DataLossError("envelope: the payload cannot be decompressed");
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t Etag(bool found, absl::string_view body) {
  constexpr uint64_t kNotFoundSeed = 1;
  return found ? base::Hash64(body) : base::Hash64("", kNotFoundSeed);
}

std::string EncodeEnvelope(absl::string_view key, const CachedAnswer& answer, uint32_t compress_above) {
  Envelope envelope;
  envelope.set_layout(kLayout);
  envelope.set_key(key.data(), key.size());
  envelope.set_loaded_at_us(absl::ToUnixMicros(answer.loaded_at));
  envelope.set_snapshot(answer.snapshot);
  envelope.set_catalog_revision(answer.catalog_revision);
  envelope.set_found(answer.found);
  envelope.set_after_fence(answer.after_fence);
  if (answer.expires_at < absl::InfiniteFuture()) envelope.set_expires_at_us(absl::ToUnixMicros(answer.expires_at));
  envelope.set_load_us(std::max<int64_t>(absl::ToInt64Microseconds(answer.load_time), 0));
  envelope.set_outlives_ttl(answer.outlives_ttl);
  if (answer.found) {
    envelope.set_plain_size(static_cast<uint32_t>(answer.body.size()));
    std::string compressed;
    if (compress_above != 0 && answer.body.size() > compress_above) compressed = Compressed(answer.body);
    if (!compressed.empty()) {
      envelope.set_encoding(Envelope::ZSTD);
      envelope.set_payload(std::move(compressed));
    } else {
      envelope.set_payload(answer.body);
    }
  }
  envelope.set_checksum(Etag(answer.found, answer.body));
  std::string bytes;
  bytes.reserve(envelope.ByteSizeLong() + kSealBytes);
  envelope.AppendToString(&bytes);
  AppendSeal(&bytes);
  return bytes;
}

absl::StatusOr<CachedAnswer> DecodeEnvelope(absl::string_view key, absl::string_view bytes, size_t max_plain_bytes) {
  if (!SealHolds(bytes)) return absl::DataLossError("envelope: the seal does not hold");
  Envelope envelope;
  if (!envelope.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::DataLossError("envelope: not an envelope");
  }
  if (envelope.layout() != kLayout) {
    return absl::DataLossError(absl::StrCat("envelope: layout ", envelope.layout(), "; expected ", kLayout));
  }
  if (absl::string_view(envelope.key()) != key) return absl::DataLossError("envelope: it belongs to another key");
  if (envelope.plain_size() > max_plain_bytes) {
    return absl::DataLossError(
        absl::StrCat("envelope: a payload of ", envelope.plain_size(), " bytes; at most ", max_plain_bytes));
  }

  CachedAnswer answer;
  answer.found = envelope.found();
  if (envelope.encoding() == Envelope::ZSTD) {
    absl::Status status = Decompress(envelope.payload(), envelope.plain_size(), &answer.body);
    if (!status.ok()) return status;
  } else if (envelope.encoding() == Envelope::PLAIN) {
    answer.body = std::move(*envelope.mutable_payload());
  } else {
    return absl::DataLossError("envelope: unknown encoding");
  }
  if (answer.body.size() != envelope.plain_size() || (!answer.found && !answer.body.empty()) ||
      Etag(answer.found, answer.body) != envelope.checksum()) {
    return absl::DataLossError("envelope: the payload's checksum does not hold");
  }
  answer.loaded_at = absl::FromUnixMicros(envelope.loaded_at_us());
  answer.snapshot = std::move(*envelope.mutable_snapshot());
  answer.catalog_revision = envelope.catalog_revision();
  answer.after_fence = envelope.after_fence();
  answer.etag = envelope.checksum();
  if (envelope.expires_at_us() != 0) answer.expires_at = absl::FromUnixMicros(envelope.expires_at_us());
  answer.load_time = absl::Microseconds(envelope.load_us());
  answer.outlives_ttl = envelope.outlives_ttl();
  return answer;
}

}  // namespace shadowline::cache
