#include "diff/evidence/record.h"

#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace shadowline::diff {
namespace {

// One list of fields per struct, for both directions: `Archive` is Writer or Reader. New fields go to the end of a
// list.
template <typename Archive>
void Fields(Archive& archive, Difference& value);
template <typename Archive>
void Fields(Archive& archive, Observation& value);
template <typename Archive>
void Fields(Archive& archive, EvidenceKey& value);
template <typename Archive>
void Fields(Archive& archive, Counts& value);
template <typename Archive>
void Fields(Archive& archive, Weighted& value);
template <typename Archive>
void Fields(Archive& archive, Episode& value);
template <typename Archive>
void Fields(Archive& archive, Divergence& value);
template <typename Archive>
void Fields(Archive& archive, Flush& value);
template <typename Archive>
void Fields(Archive& archive, SealedContents::Parameter& value);
template <typename Archive>
void Fields(Archive& archive, SealedContents& value);
template <typename Archive>
void Fields(Archive& archive, NoiseKey& value);
template <typename Archive>
void Fields(Archive& archive, NoiseCounts& value);

constexpr int64_t kInfinitePast = std::numeric_limits<int64_t>::min();
constexpr int64_t kInfiniteFuture = std::numeric_limits<int64_t>::max();

class Writer {
 public:
  template <typename... Values>
  void operator()(Values&... values) {
    (Put(values), ...);
  }
  template <typename Value>
  void Struct(Value& value) {
    const size_t at = out_.size();
    PutNumber(uint32_t{0});
    Fields(*this, value);
    const auto size = static_cast<uint32_t>(out_.size() - at - sizeof(uint32_t));
    for (size_t i = 0; i < sizeof(size); ++i) out_[at + i] = static_cast<char>(size >> (8 * i));
  }
  std::string Take() { return std::move(out_); }

 private:
  template <typename Number>
  void PutNumber(Number number) {
    using Unsigned = std::make_unsigned_t<Number>;
    for (size_t i = 0; i < sizeof(Number); ++i) {
      out_.push_back(static_cast<char>(static_cast<Unsigned>(number) >> (8 * i)));
    }
  }
  void Put(uint64_t& value) { PutNumber(value); }
  void Put(int64_t& value) { PutNumber(value); }
  void Put(bool& value) { out_.push_back(value ? 1 : 0); }
  void Put(DifferenceKind& value) { out_.push_back(static_cast<char>(value)); }
  void Put(std::string& value) {
    PutNumber(static_cast<uint32_t>(value.size()));
    out_ += value;
  }
  void Put(absl::Time& value) {
    int64_t micros = absl::ToUnixMicros(value);
    if (value == absl::InfinitePast()) micros = kInfinitePast;
    if (value == absl::InfiniteFuture()) micros = kInfiniteFuture;
    PutNumber(micros);
  }
  void Put(absl::Duration& value) { PutNumber(absl::ToInt64Nanoseconds(value)); }
  template <size_t kSize>
  void Put(std::array<uint64_t, kSize>& values) {
    PutNumber(static_cast<uint32_t>(kSize));
    for (uint64_t& value : values) Put(value);
  }
  template <typename Value>
  void Put(std::vector<Value>& values) {
    PutNumber(static_cast<uint32_t>(values.size()));
    for (Value& value : values) Put(value);
  }
  template <typename Key, typename Value>
  void Put(std::map<Key, Value>& values) {
    PutNumber(static_cast<uint32_t>(values.size()));
    for (auto& [key, value] : values) {
      Put(const_cast<Key&>(key));  // Read, as everything here is.
      Put(value);
    }
  }
  template <typename First, typename Second>
  void Put(std::pair<First, Second>& value) {
    Put(value.first);
    Put(value.second);
  }
  template <typename Value>
  std::enable_if_t<std::is_class_v<Value>> Put(Value& value) {
    Struct(value);
  }

  std::string out_;
};

class Reader {
 public:
  explicit Reader(absl::string_view in) : in_(in) {}

  template <typename... Values>
  void operator()(Values&... values) {
    (Field(values), ...);
  }
  template <typename Value>
  void Struct(Value& value) {
    uint32_t size = 0;
    GetNumber(&size);
    if (size > in_.size()) ok_ = false;
    if (!ok_) return;
    Reader inner(in_.substr(0, size));
    Fields(inner, value);
    ok_ = inner.ok_;
    in_.remove_prefix(size);
  }
  bool ok() const { return ok_; }

 private:
  // At the end of a struct: whoever wrote it did not know the field.
  template <typename Value>
  void Field(Value& value) {
    if (ok_ && !in_.empty()) Get(value);
  }
  template <typename Number>
  void GetNumber(Number* number) {
    if (in_.size() < sizeof(Number)) ok_ = false;
    if (!ok_) return;
    std::make_unsigned_t<Number> value = 0;
    for (size_t i = 0; i < sizeof(Number); ++i) {
      value |= static_cast<std::make_unsigned_t<Number>>(static_cast<unsigned char>(in_[i])) << (8 * i);
    }
    *number = static_cast<Number>(value);
    in_.remove_prefix(sizeof(Number));
  }
  void Get(uint64_t& value) { GetNumber(&value); }
  void Get(int64_t& value) { GetNumber(&value); }
  void Get(bool& value) {
    uint8_t byte = 0;
    GetNumber(&byte);
    value = byte != 0;
  }
  void Get(DifferenceKind& value) {
    uint8_t byte = 0;
    GetNumber(&byte);
    if (byte > static_cast<uint8_t>(DifferenceKind::kShape)) ok_ = false;
    if (ok_) value = static_cast<DifferenceKind>(byte);
  }
  void Get(std::string& value) {
    uint32_t size = 0;
    GetNumber(&size);
    if (size > in_.size()) ok_ = false;
    if (!ok_) return;
    value = std::string(in_.substr(0, size));
    in_.remove_prefix(size);
  }
  void Get(absl::Time& value) {
    int64_t micros = 0;
    GetNumber(&micros);
    value = micros == kInfinitePast     ? absl::InfinitePast()
            : micros == kInfiniteFuture ? absl::InfiniteFuture()
                                        : absl::FromUnixMicros(micros);
  }
  void Get(absl::Duration& value) {
    int64_t nanos = 0;
    GetNumber(&nanos);
    value = absl::Nanoseconds(nanos);
  }
  // Each element takes a byte at least, so that a size from nowhere makes nothing large.
  uint32_t Size() {
    uint32_t size = 0;
    GetNumber(&size);
    if (size > in_.size()) ok_ = false;
    return ok_ ? size : 0;
  }
  template <size_t kSize>
  void Get(std::array<uint64_t, kSize>& values) {
    const uint32_t size = Size();
    if (size != kSize) ok_ = false;
    for (size_t i = 0; ok_ && i < kSize; ++i) Get(values[i]);
  }
  template <typename Value>
  void Get(std::vector<Value>& values) {
    const uint32_t size = Size();
    for (uint32_t i = 0; ok_ && i < size; ++i) Get(values.emplace_back());
  }
  template <typename Key, typename Value>
  void Get(std::map<Key, Value>& values) {
    const uint32_t size = Size();
    for (uint32_t i = 0; ok_ && i < size; ++i) {
      Key key;
      Get(key);
      Get(values[std::move(key)]);
    }
  }
  template <typename First, typename Second>
  void Get(std::pair<First, Second>& value) {
    Get(value.first);
    Get(value.second);
  }
  template <typename Value>
  std::enable_if_t<std::is_class_v<Value>> Get(Value& value) {
    Struct(value);
  }

  absl::string_view in_;
  bool ok_ = true;
};

template <typename Archive>
void Fields(Archive& archive, Difference& value) {
  archive(value.pointer, value.kind, value.control, value.candidate);
}

template <typename Archive>
void Fields(Archive& archive, Observation& value) {
  archive(value.candidate_at, value.same_fill, value.control_at, value.differed, value.snapshot);
}

template <typename Archive>
void Fields(Archive& archive, EvidenceKey& value) {
  archive(value.tenant, value.family, value.endpoint, value.window, value.catalog_revision, value.minute);
}

template <typename Archive>
void Fields(Archive& archive, Counts& value) {
  archive(value.sampled, value.matched, value.excused, value.healed, value.confirmed, value.inconclusive, value.errored,
          value.shed, value.candidate_misses, value.candidate_errors, value.candidate_latency, value.weighted);
}

template <typename Archive>
void Fields(Archive& archive, Weighted& value) {
  archive(value.judged, value.wrong, value.judged_squares, value.wrong_squares, value.judged_of, value.wrong_of);
}

template <typename Archive>
void Fields(Archive& archive, Episode& value) {
  archive(value.id, value.key, value.exercised);
}

template <typename Archive>
void Fields(Archive& archive, Divergence& value) {
  archive(value.id, value.evidence, value.fingerprint, value.key, value.fill, value.differences,
          value.differences_total, value.patterns, value.rule, value.freshness, value.filled_at, value.served_at,
          value.observations, value.tags, value.cause, value.cause_evidence, value.reads_affected, value.after_cutover,
          value.confirmed_at, value.unsafe, value.committed_at, value.transaction, value.sealed, value.sealed_until);
}

template <typename Archive>
void Fields(Archive& archive, NoiseKey& value) {
  archive(value.family, value.endpoint, value.catalog_revision);
}

template <typename Archive>
void Fields(Archive& archive, NoiseCounts& value) {
  archive(value.pairs, value.differed, value.patterns);
}

template <typename Archive>
void Fields(Archive& archive, Flush& value) {
  archive(value.sequence, value.watermark, value.counts, value.episodes, value.catalog_revision, value.flag_revision,
          value.noise);
}

template <typename Archive>
void Fields(Archive& archive, SealedContents::Parameter& value) {
  archive(value.name, value.type, value.is_null, value.value);
}

template <typename Archive>
void Fields(Archive& archive, SealedContents& value) {
  archive(value.parameters, value.values, value.tags, value.key);
}

template <typename Value>
std::string Encode(const Value& value) {
  Writer writer;
  writer.Struct(const_cast<Value&>(value));  // A writer only reads.
  return writer.Take();
}

template <typename Value>
absl::StatusOr<Value> Decode(absl::string_view record) {
  Reader reader(record);
  Value value;
  reader.Struct(value);
  if (!reader.ok()) return absl::DataLossError("a record of evidence is cut short");
  return value;
}

}  // namespace

std::string EncodeDivergence(const Divergence& divergence) { return Encode(divergence); }
std::string EncodeFlush(const Flush& flush) { return Encode(flush); }
std::string EncodeSealed(const SealedContents& contents) { return Encode(contents); }

absl::StatusOr<Divergence> DecodeDivergence(absl::string_view record) { return Decode<Divergence>(record); }
absl::StatusOr<Flush> DecodeFlush(absl::string_view record) { return Decode<Flush>(record); }
absl::StatusOr<SealedContents> DecodeSealed(absl::string_view record) { return Decode<SealedContents>(record); }

}  // namespace shadowline::diff
