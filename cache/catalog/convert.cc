#include "cache/catalog/convert.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace shadowline::cache {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

absl::string_view KindName(YamlNode::Kind kind) {
  switch (kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kScalar:
      return "a single value";
    case YamlNode::Kind::kSequence:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a mapping";
  }
  return "";
}

class Converter {
 public:
  Converter(std::map<std::string, Position>* positions, Findings* findings)
      : positions_(positions), findings_(findings) {}

  void Fill(const YamlNode& node, const std::string& path, Message* message) {
    if (!Expect(YamlNode::Kind::kMap, node, path)) return;
    const Descriptor* descriptor = message->GetDescriptor();
    for (const auto& [key, value] : node.map) {
      const FieldDescriptor* field = descriptor->FindFieldByName(key->scalar);
      if (field == nullptr) {
        std::vector<std::string> names;
        for (int i = 0; i < descriptor->field_count(); ++i) names.push_back(descriptor->field(i)->name());
        findings_->Add(key->position, Join(path, key->scalar),
                       absl::StrCat("unknown field; expected one of ", absl::StrJoin(names, ", ")));
        continue;
      }
      const std::string field_path = Join(path, key->scalar);
      if (value->kind == YamlNode::Kind::kNull) {
        // The parser places what is not there at whatever comes next.
        findings_->Add(key->position, field_path, "it has no value; give it one, or remove it");
        continue;
      }
      (*positions_)[field_path] = value->position;
      if (field->is_map()) {
        FillMap(*value, field_path, field, message);
      } else if (field->is_repeated()) {
        FillList(*value, field_path, field, message);
      } else if (field->message_type() != nullptr) {
        Fill(*value, field_path, message->GetReflection()->MutableMessage(message, field));
      } else {
        SetScalar(*value, field_path, field, message);
      }
    }
  }

 private:
  static std::string Join(const std::string& path, const std::string& name) {
    return path.empty() ? name : absl::StrCat(path, ".", name);
  }

  bool Expect(YamlNode::Kind kind, const YamlNode& node, const std::string& path) {
    if (node.kind == kind) return true;
    findings_->Add(node.position, path, absl::StrCat("this is ", KindName(node.kind), "; expected ", KindName(kind)));
    return false;
  }

  void FillMap(const YamlNode& node, const std::string& path, const FieldDescriptor* field, Message* message) {
    if (!Expect(YamlNode::Kind::kMap, node, path)) return;
    const FieldDescriptor* key_field = field->message_type()->map_key();
    const FieldDescriptor* value_field = field->message_type()->map_value();
    for (const auto& [key, value] : node.map) {
      const std::string entry_path = Join(path, key->scalar);
      (*positions_)[entry_path] = key->position;
      Message* entry = message->GetReflection()->AddMessage(message, field);
      entry->GetReflection()->SetString(entry, key_field, key->scalar);
      if (value_field->message_type() != nullptr) {
        Fill(*value, entry_path, entry->GetReflection()->MutableMessage(entry, value_field));
      } else {
        SetScalar(*value, entry_path, value_field, entry);
      }
    }
  }

  void FillList(const YamlNode& node, const std::string& path, const FieldDescriptor* field, Message* message) {
    if (!Expect(YamlNode::Kind::kSequence, node, path)) return;
    for (size_t i = 0; i < node.sequence.size(); ++i) {
      const std::string element_path = absl::StrCat(path, "[", i, "]");
      (*positions_)[element_path] = node.sequence[i]->position;
      if (field->message_type() != nullptr) {
        Fill(*node.sequence[i], element_path, message->GetReflection()->AddMessage(message, field));
      } else {
        SetScalar(*node.sequence[i], element_path, field, message);
      }
    }
  }

  // Sets the field, or adds to it where it is repeated.
  void SetScalar(const YamlNode& node, const std::string& path, const FieldDescriptor* field, Message* message) {
    if (!Expect(YamlNode::Kind::kScalar, node, path)) return;
    const Reflection* reflection = message->GetReflection();
    const std::string& text = node.scalar;
    const auto refuse = [&](absl::string_view expected) {
      findings_->Add(node.position, path, absl::StrCat("`", text, "` is not accepted; expected ", expected));
    };
    // SimpleAtoi alone would also take blanks and signs.
    const bool digits = !node.quoted && !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        field->is_repeated() ? reflection->AddString(message, field, text)
                             : reflection->SetString(message, field, text);
        return;
      case FieldDescriptor::CPPTYPE_UINT32: {
        uint32_t number = 0;
        if (!digits || !absl::SimpleAtoi(text, &number)) return refuse("a whole number, 0 to 4294967295");
        field->is_repeated() ? reflection->AddUInt32(message, field, number)
                             : reflection->SetUInt32(message, field, number);
        return;
      }
      case FieldDescriptor::CPPTYPE_UINT64: {
        uint64_t number = 0;
        if (!digits || !absl::SimpleAtoi(text, &number)) return refuse("a whole number");
        reflection->SetUInt64(message, field, number);
        return;
      }
      case FieldDescriptor::CPPTYPE_BOOL:
        if (node.quoted || (text != "true" && text != "false")) return refuse("true or false");
        reflection->SetBool(message, field, text == "true");
        return;
      default:
        // The catalog's messages have no field of another type.
        findings_->Add(node.position, path, "this field cannot be written as YAML");
    }
  }

  std::map<std::string, Position>* const positions_;
  Findings* const findings_;
};

}  // namespace

void ConvertYaml(const YamlNode& node, Message* message, std::map<std::string, Position>* positions,
                 Findings* findings) {
  Converter(positions, findings).Fill(node, "", message);
}

}  // namespace shadowline::cache
