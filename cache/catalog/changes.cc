// What an operator is shown before and after `apply`.
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cache/catalog/parse.h"
#include "google/protobuf/util/message_differencer.h"

namespace shadowline::cache {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::util::MessageDifferencer;

// Longer values are not shown: only that they changed.
constexpr size_t kShownBytes = 40;

std::string Scalar(const Message& message, const FieldDescriptor* field) {
  const google::protobuf::Reflection* reflection = message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection->GetString(message, field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return field->has_presence() || reflection->GetUInt32(message, field) != 0
                 ? absl::StrCat(reflection->GetUInt32(message, field))
                 : "";
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection->GetUInt64(message, field) == 0 ? "" : absl::StrCat(reflection->GetUInt64(message, field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->GetBool(message, field) ? "true" : "";
    default:
      return "";
  }
}

std::string Shown(const Message& message, const FieldDescriptor* field) {
  if (field->has_presence() && !message.GetReflection()->HasField(message, field)) return "default";
  const std::string text = Scalar(message, field);
  return text.empty() ? "default" : text;
}

bool FieldEquals(const Message& before, const Message& after, const FieldDescriptor* field) {
  MessageDifferencer differencer;
  return differencer.CompareWithFields(before, after, {field}, {field});
}

// `ttl 30s -> 60s`, `sql changed`: one clause for each field that differs.
std::vector<std::string> FieldChanges(const Message& before, const Message& after) {
  std::vector<std::string> clauses;
  for (int i = 0; i < before.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = before.GetDescriptor()->field(i);
    if (field->is_repeated() || field->message_type() != nullptr) {
      if (!FieldEquals(before, after, field)) clauses.push_back(absl::StrCat(field->name(), " changed"));
      continue;
    }
    const std::string from = Shown(before, field);
    const std::string to = Shown(after, field);
    if (from == to) continue;
    const bool shown = field->name() != "sql" && from.size() <= kShownBytes && to.size() <= kShownBytes;
    clauses.push_back(shown ? absl::StrCat(field->name(), " ", from, " -> ", to)
                            : absl::StrCat(field->name(), " changed"));
  }
  return clauses;
}

void Describe(absl::string_view subject, const Message& before, const Message& after, std::vector<std::string>* lines) {
  const std::vector<std::string> clauses = FieldChanges(before, after);
  if (!clauses.empty()) lines->push_back(absl::StrCat("~ ", subject, ": ", absl::StrJoin(clauses, ", ")));
}

std::map<std::string, const shadowline::v1::Endpoint*> EndpointsOf(const shadowline::v1::Catalog& catalog) {
  std::map<std::string, const shadowline::v1::Endpoint*> endpoints;
  for (const auto& [family_name, family] : catalog.families()) {
    for (const auto& [name, endpoint] : family.endpoints()) endpoints[absl::StrCat(family_name, "/", name)] = &endpoint;
  }
  return endpoints;
}

void DescribeCapture(const shadowline::v1::Capture& before, const shadowline::v1::Capture& after,
                     std::vector<std::string>* lines) {
  using Tables = std::map<std::string, shadowline::v1::CapturedTable>;
  const Tables old_tables(before.tables().begin(), before.tables().end());
  const Tables new_tables(after.tables().begin(), after.tables().end());
  for (const auto& [name, table] : new_tables) {
    const auto old_table = old_tables.find(name);
    if (old_table == old_tables.end()) {
      lines->push_back(absl::StrCat("+ capture ", name));
    } else {
      Describe(absl::StrCat("capture ", name), old_table->second, table, lines);
    }
  }
  for (const auto& [name, table] : old_tables) {
    if (!new_tables.contains(name)) lines->push_back(absl::StrCat("- capture ", name));
  }
}

}  // namespace

std::vector<std::string> DescribeChanges(const shadowline::v1::Catalog& before, const shadowline::v1::Catalog& after) {
  std::vector<std::string> lines;
  Describe("tenants", before.tenants(), after.tenants(), &lines);

  const auto old_endpoints = EndpointsOf(before);
  const auto new_endpoints = EndpointsOf(after);
  for (const auto& [name, endpoint] : new_endpoints) {
    const auto old_endpoint = old_endpoints.find(name);
    if (old_endpoint == old_endpoints.end()) {
      lines.push_back(absl::StrCat("+ ", name));
    } else {
      Describe(name, *old_endpoint->second, *endpoint, &lines);
    }
  }
  for (const auto& [name, endpoint] : old_endpoints) {
    if (!new_endpoints.contains(name)) lines.push_back(absl::StrCat("- ", name));
  }
  const std::map<std::string, shadowline::v1::Family> families(after.families().begin(), after.families().end());
  for (const auto& [name, family] : families) {
    const auto old_family = before.families().find(name);
    if (old_family == before.families().end()) continue;
    Describe(absl::StrCat(name, " policy"), old_family->second.policy(), family.policy(), &lines);
  }
  DescribeCapture(before.capture(), after.capture(), &lines);
  return lines;
}

}  // namespace shadowline::cache
