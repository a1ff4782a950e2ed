#include "cache/external/decompress.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"

namespace shadowline::cache {
namespace {

constexpr size_t kFirstBytes = 4096;
constexpr int kZstdWindowLogMax = 23;

// Room for more, never beyond `max_bytes`. False: there is none.
bool Grow(std::string* out, size_t max_bytes) {
  if (out->size() >= max_bytes) return false;
  out->resize(std::min(max_bytes, std::max(kFirstBytes, out->size() * 2)));
  return true;
}

absl::Status TooLarge(absl::string_view what, size_t max_bytes) {
  return absl::DataLossError(absl::StrCat(what, ": it becomes larger than ", max_bytes, " bytes"));
}

}  // namespace

absl::StatusOr<std::string> Gunzip(absl::string_view bytes, size_t max_bytes) {
  z_stream stream{};
  constexpr int kGzipOnly = 16;
  if (inflateInit2(&stream, MAX_WBITS + kGzipOnly) != Z_OK) return absl::DataLossError("gzip: no memory");
  const std::unique_ptr<z_stream, int (*)(z_stream*)> end(&stream, inflateEnd);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::string out;
  for (;;) {
    const size_t done = stream.total_out;
    if (done == out.size() && !Grow(&out, max_bytes)) return TooLarge("gzip", max_bytes);
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + done);
    stream.avail_out = static_cast<uInt>(out.size() - done);
    const int result = inflate(&stream, Z_NO_FLUSH);
    if (result == Z_STREAM_END) break;
    if (result != Z_OK || (stream.avail_in == 0 && stream.avail_out > 0)) {
      return absl::DataLossError("gzip: it cannot be decompressed");
    }
  }
  if (stream.avail_in > 0) return absl::DataLossError("gzip: more follows its end");
  out.resize(stream.total_out);
  return out;
}

absl::StatusOr<std::string> Unzstd(absl::string_view bytes, size_t max_bytes) {
  // Contexts are large, and are kept by each thread that uses one.
  thread_local const std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
  ZSTD_DCtx_reset(context.get(), ZSTD_reset_session_and_parameters);
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kZstdWindowLogMax);
  ZSTD_inBuffer input{bytes.data(), bytes.size(), 0};
  std::string out;
  size_t done = 0;
  for (;;) {
    if (done == out.size() && !Grow(&out, max_bytes)) return TooLarge("zstd", max_bytes);
    ZSTD_outBuffer output{out.data(), out.size(), done};
    const size_t result = ZSTD_decompressStream(context.get(), &output, &input);
    done = output.pos;
    if (ZSTD_isError(result) != 0) return absl::DataLossError("zstd: it cannot be decompressed");
    if (result == 0) break;
    if (input.pos == input.size && done < out.size()) return absl::DataLossError("zstd: it is cut short");
  }
  if (input.pos < input.size) return absl::DataLossError("zstd: more follows its end");
  out.resize(done);
  return out;
}

}  // namespace shadowline::cache
