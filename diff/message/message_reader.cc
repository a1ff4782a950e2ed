#include "diff/message/message_reader.h"

#include <google/protobuf/arena.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/unknown_field_set.h>
#include <simdjson.h>

#include <charconv>
#include <cmath>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "diff/compare/json.h"

namespace shadowline::diff {
namespace {

namespace pb = google::protobuf;

class FirstError final : public pb::DescriptorPool::ErrorCollector {
 public:
  void AddError(const std::string& file, const std::string& element, const pb::Message*, ErrorLocation,
                const std::string& message) override {
    if (first_.empty()) first_ = absl::StrCat(file, ": ", element, ": ", message);
  }
  const std::string& first() const { return first_; }

 private:
  std::string first_;
};

// Puts the files of a set into a pool, what they import before them.
class Loader {
 public:
  Loader(const pb::FileDescriptorSet& set, pb::DescriptorPool* pool) : pool_(pool) {
    for (const pb::FileDescriptorProto& file : set.file()) files_.emplace(file.name(), &file);
  }

  absl::Status LoadAll() {
    for (const auto& [name, file] : files_) RETURN_IF_ERROR(Load(*file, 0));
    return absl::OkStatus();
  }

 private:
  absl::Status Load(const pb::FileDescriptorProto& file, int depth) {
    constexpr int kMostImports = 200;                                 // One through another.
    if (!begun_.insert(file.name()).second) return absl::OkStatus();  // Imports in a circle are refused by the pool.
    if (depth > kMostImports) return absl::InvalidArgumentError("the descriptor set's imports are nested too deep");
    for (const std::string& import : file.dependency()) {
      const auto found = files_.find(import);
      if (found == files_.end()) {
        return absl::InvalidArgumentError(absl::StrCat("the descriptor set lacks `", import, "`, which `", file.name(),
                                                       "` imports; make it with protoc --include_imports"));
      }
      RETURN_IF_ERROR(Load(*found->second, depth + 1));
    }
    FirstError errors;
    if (pool_->BuildFileCollectingErrors(file, &errors) == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("the descriptor set is wrong: ", errors.first()));
    }
    return absl::OkStatus();
  }

  pb::DescriptorPool* const pool_;
  std::map<std::string, const pb::FileDescriptorProto*> files_;
  std::set<std::string> begun_;
};

void AppendBytes(std::string* out, absl::string_view bytes) {
  absl::StrAppend(out, "\"", absl::Base64Escape(bytes), "\"");
}

template <typename Float>
void AppendFloat(std::string* out, Float value) {
  if (std::isnan(value)) {
    out->append("\"NaN\"");
  } else if (std::isinf(value)) {
    out->append(value < 0 ? "\"-Infinity\"" : "\"Infinity\"");
  } else {
    char digits[32];
    out->append(digits, std::to_chars(digits, digits + sizeof(digits), value).ptr - digits);
  }
}

class Writer {
 public:
  explicit Writer(size_t max_bytes) : max_bytes_(max_bytes) {}

  absl::StatusOr<std::string> Run(const pb::Message& message) {
    Append(message);
    MayGoOn();
    if (!fault_.ok()) return fault_;
    return std::move(out_);
  }

 private:
  void Fail(absl::Status fault) {
    if (fault_.ok()) fault_ = std::move(fault);
  }

  // Whether there is room for more, and all is well.
  bool MayGoOn() {
    if (out_.size() > max_bytes_) {
      Fail(absl::ResourceExhaustedError(absl::StrCat("as JSON the message is larger than ", max_bytes_, " bytes")));
    }
    return fault_.ok();
  }

  void Append(const pb::Message& message) {
    if (!MayGoOn()) return;
    const pb::Descriptor& type = *message.GetDescriptor();
    const pb::Reflection& reflection = *message.GetReflection();
    if (AppendWellKnown(message)) return;
    out_.push_back('{');
    bool first = true;
    const auto append = [&](const pb::FieldDescriptor& field, absl::string_view name) {
      if (!std::exchange(first, false)) out_.push_back(',');
      AppendQuoted(&out_, name);
      out_.push_back(':');
      AppendField(message, field);
    };
    for (int i = 0; i < type.field_count(); ++i) {
      const pb::FieldDescriptor& field = *type.field(i);
      if (!field.has_presence() || reflection.HasField(message, &field)) append(field, field.name());
    }
    std::vector<const pb::FieldDescriptor*> set;
    reflection.ListFields(message, &set);
    for (const pb::FieldDescriptor* field : set) {
      if (field->is_extension()) append(*field, absl::StrCat("[", field->full_name(), "]"));
    }
    const pb::UnknownFieldSet& unknown = reflection.GetUnknownFields(message);
    if (!unknown.empty()) {
      out_.append(first ? "\"#unknown\":" : ",\"#unknown\":");
      AppendUnknown(unknown);
    }
    out_.push_back('}');
  }

  // False: it is a message like any other, or does not hold what its type promises.
  bool AppendWellKnown(const pb::Message& message) {
    const pb::Descriptor& type = *message.GetDescriptor();
    const pb::Reflection& reflection = *message.GetReflection();
    if (type.file()->package() != "google.protobuf" || !reflection.GetUnknownFields(message).empty()) return false;
    if (type.name() == "Timestamp") {
      const pb::FieldDescriptor* seconds = type.FindFieldByName("seconds");
      const pb::FieldDescriptor* nanos = type.FindFieldByName("nanos");
      if (seconds == nullptr || seconds->cpp_type() != pb::FieldDescriptor::CPPTYPE_INT64 || seconds->is_repeated() ||
          nanos == nullptr || nanos->cpp_type() != pb::FieldDescriptor::CPPTYPE_INT32 || nanos->is_repeated()) {
        return false;
      }
      constexpr int64_t kFirst = -62'135'596'800, kLast = 253'402'300'799;  // The years 1 to 9999.
      const int64_t whole = reflection.GetInt64(message, seconds);
      const int32_t fraction = reflection.GetInt32(message, nanos);
      if (whole < kFirst || whole > kLast || fraction < 0 || fraction > 999'999'999) return false;
      absl::StrAppend(&out_, "\"",
                      absl::FormatTime("%E4Y-%m-%dT%H:%M:%E*SZ",
                                       absl::FromUnixSeconds(whole) + absl::Nanoseconds(fraction), absl::UTCTimeZone()),
                      "\"");
      return true;
    }
    static constexpr absl::string_view kWrapped[] = {"Double", "Float",  "Int64", "UInt64", "Int32",
                                                     "UInt32", "String", "Bytes", "Bool"};
    for (const absl::string_view wrapped : kWrapped) {
      if (type.name() != absl::StrCat(wrapped, "Value") || type.field_count() != 1) continue;
      AppendField(message, *type.field(0));
      return true;
    }
    return false;
  }

  void AppendField(const pb::Message& message, const pb::FieldDescriptor& field) {
    if (field.is_map()) return AppendMap(message, field);
    if (!field.is_repeated()) return AppendValue(message, field, -1);
    out_.push_back('[');
    const int size = message.GetReflection()->FieldSize(message, &field);
    for (int i = 0; i < size && MayGoOn(); ++i) {
      if (i > 0) out_.push_back(',');
      AppendValue(message, field, i);
    }
    out_.push_back(']');
  }

  // Item `index` of a repeated field; below 0: the field itself.
  void AppendValue(const pb::Message& message, const pb::FieldDescriptor& field, int index) {
    const pb::Reflection& reflection = *message.GetReflection();
    const bool item = index >= 0;
    switch (field.cpp_type()) {
      case pb::FieldDescriptor::CPPTYPE_INT32:
        absl::StrAppend(
            &out_, item ? reflection.GetRepeatedInt32(message, &field, index) : reflection.GetInt32(message, &field));
        return;
      case pb::FieldDescriptor::CPPTYPE_INT64:
        absl::StrAppend(
            &out_, item ? reflection.GetRepeatedInt64(message, &field, index) : reflection.GetInt64(message, &field));
        return;
      case pb::FieldDescriptor::CPPTYPE_UINT32:
        absl::StrAppend(
            &out_, item ? reflection.GetRepeatedUInt32(message, &field, index) : reflection.GetUInt32(message, &field));
        return;
      case pb::FieldDescriptor::CPPTYPE_UINT64:
        absl::StrAppend(
            &out_, item ? reflection.GetRepeatedUInt64(message, &field, index) : reflection.GetUInt64(message, &field));
        return;
      case pb::FieldDescriptor::CPPTYPE_DOUBLE:
        return AppendFloat(
            &out_, item ? reflection.GetRepeatedDouble(message, &field, index) : reflection.GetDouble(message, &field));
      case pb::FieldDescriptor::CPPTYPE_FLOAT:
        return AppendFloat(
            &out_, item ? reflection.GetRepeatedFloat(message, &field, index) : reflection.GetFloat(message, &field));
      case pb::FieldDescriptor::CPPTYPE_BOOL:
        out_.append((item ? reflection.GetRepeatedBool(message, &field, index) : reflection.GetBool(message, &field))
                        ? "true"
                        : "false");
        return;
      case pb::FieldDescriptor::CPPTYPE_ENUM: {
        const int number =
            item ? reflection.GetRepeatedEnumValue(message, &field, index) : reflection.GetEnumValue(message, &field);
        const pb::EnumValueDescriptor* value = field.enum_type()->FindValueByNumber(number);
        if (value == nullptr) {
          absl::StrAppend(&out_, number);
        } else {
          AppendQuoted(&out_, value->name());
        }
        return;
      }
      case pb::FieldDescriptor::CPPTYPE_STRING: {
        std::string scratch;
        const std::string& text = item ? reflection.GetRepeatedStringReference(message, &field, index, &scratch)
                                       : reflection.GetStringReference(message, &field, &scratch);
        if (field.type() == pb::FieldDescriptor::TYPE_BYTES) return AppendBytes(&out_, text);
        if (!simdjson::validate_utf8(text))
          Fail(absl::DataLossError(absl::StrCat("the text in ", field.full_name(), " is not UTF-8")));
        return AppendQuoted(&out_, text);
      }
      case pb::FieldDescriptor::CPPTYPE_MESSAGE:
        return Append(item ? reflection.GetRepeatedMessage(message, &field, index)
                           : reflection.GetMessage(message, &field));
    }
  }

  void AppendMap(const pb::Message& message, const pb::FieldDescriptor& field) {
    const pb::Reflection& reflection = *message.GetReflection();
    const pb::FieldDescriptor& key = *field.message_type()->map_key();
    const pb::FieldDescriptor& value = *field.message_type()->map_value();
    // By name; of two entries with one key the later counts.
    std::map<std::string, const pb::Message*> entries;
    const int size = reflection.FieldSize(message, &field);
    for (int i = 0; i < size; ++i) {
      const pb::Message& entry = reflection.GetRepeatedMessage(message, &field, i);
      std::string name;
      std::swap(name, out_);
      AppendValue(entry, key, -1);
      std::swap(name, out_);
      if (!absl::StartsWith(name, "\"")) name = absl::StrCat("\"", name, "\"");
      entries[std::move(name)] = &entry;
    }
    out_.push_back('{');
    for (const auto& [name, entry] : entries) {
      if (!MayGoOn()) return;
      absl::StrAppend(&out_, out_.back() == '{' ? "" : ",", name, ":");
      AppendValue(*entry, value, -1);
    }
    out_.push_back('}');
  }

  void AppendUnknown(const pb::UnknownFieldSet& unknown) {
    std::map<int, std::vector<const pb::UnknownField*>> fields;
    for (int i = 0; i < unknown.field_count(); ++i) fields[unknown.field(i).number()].push_back(&unknown.field(i));
    char before = '{';
    for (const auto& [number, values] : fields) {
      out_.push_back(std::exchange(before, ','));
      absl::StrAppend(&out_, "\"", number, "\":", values.size() > 1 ? "[" : "");
      for (const pb::UnknownField* value : values) {
        if (value != values[0]) out_.push_back(',');
        AppendUnknown(*value);
      }
      if (values.size() > 1) out_.push_back(']');
    }
    out_.push_back('}');
  }

  void AppendUnknown(const pb::UnknownField& field) {
    switch (field.type()) {
      case pb::UnknownField::TYPE_VARINT:
        absl::StrAppend(&out_, field.varint());
        return;
      case pb::UnknownField::TYPE_FIXED32:
        absl::StrAppend(&out_, field.fixed32());
        return;
      case pb::UnknownField::TYPE_FIXED64:
        absl::StrAppend(&out_, field.fixed64());
        return;
      case pb::UnknownField::TYPE_LENGTH_DELIMITED:
        return AppendBytes(&out_, field.length_delimited());
      case pb::UnknownField::TYPE_GROUP:
        if (field.group().empty()) {
          out_.append("{}");
        } else {
          AppendUnknown(field.group());
        }
        return;
    }
  }

  const size_t max_bytes_;
  std::string out_;
  absl::Status fault_;
};

}  // namespace

struct MessageReader::Impl {
  pb::DescriptorPool pool;
  pb::DynamicMessageFactory factory{&pool};
  const pb::Message* prototype = nullptr;
};

MessageReader::MessageReader(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
MessageReader::~MessageReader() = default;

absl::StatusOr<std::shared_ptr<const MessageReader>> MessageReader::Create(absl::string_view descriptor_set,
                                                                           absl::string_view message) {
  pb::FileDescriptorSet set;
  if (!set.ParsePartialFromArray(descriptor_set.data(), static_cast<int>(descriptor_set.size())) ||
      !set.IsInitialized() || set.file_size() == 0) {
    return absl::InvalidArgumentError(
        "not a descriptor set; expected what protoc --include_imports --descriptor_set_out writes");
  }
  auto impl = std::make_unique<Impl>();
  RETURN_IF_ERROR(Loader(set, &impl->pool).LoadAll());
  const pb::Descriptor* type = impl->pool.FindMessageTypeByName(std::string(message));
  if (type == nullptr) return absl::NotFoundError(absl::StrCat("the descriptor set has no message `", message, "`"));
  impl->prototype = impl->factory.GetPrototype(type);
  return std::shared_ptr<const MessageReader>(new MessageReader(std::move(impl)));
}

absl::StatusOr<std::string> MessageReader::ToJson(absl::string_view bytes, size_t max_bytes) const {
  pb::Arena arena;
  pb::Message* message = impl_->prototype->New(&arena);
  const std::string& name = impl_->prototype->GetDescriptor()->full_name();
  if (bytes.size() > max_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("the message is larger than ", max_bytes, " bytes"));
  }
  if (!message->ParsePartialFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::DataLossError(absl::StrCat("the bytes are no ", name, ": cut short, or not Protobuf"));
  }
  if (!message->IsInitialized()) return absl::DataLossError(absl::StrCat("a required field of ", name, " is missing"));
  return Writer(max_bytes).Run(*message);
}

}  // namespace shadowline::diff
