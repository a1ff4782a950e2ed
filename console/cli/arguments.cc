#include "console/cli/arguments.h"

#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status.h"

namespace shadowline::console {
namespace {

using ::google::protobuf::FieldDescriptor;

absl::Status Expected(absl::string_view text, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat("'", text, "': expected ", expected));
}

// The two sides of the first '='.
absl::StatusOr<std::pair<std::string, std::string>> Assignment(absl::string_view text) {
  const size_t at = text.find('=');
  if (at == 0 || at == absl::string_view::npos) return Expected(text, "name=value");
  return std::make_pair(std::string(text.substr(0, at)), std::string(text.substr(at + 1)));
}

std::string PolicyKeys() {
  std::vector<std::string> names;
  const auto* descriptor = v1::Policy::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    names.emplace_back(absl::StripSuffix(descriptor->field(i)->name(), "_ppm"));
  }
  return absl::StrJoin(names, ", ");
}

}  // namespace

absl::StatusOr<uint32_t> ParsePercent(absl::string_view text) {
  absl::string_view number = text;
  double percent = 0;
  if (!absl::ConsumeSuffix(&number, "%") || !absl::SimpleAtod(absl::StripAsciiWhitespace(number), &percent) ||
      !(percent >= 0 && percent <= 100)) {
    return Expected(text, "a share such as 5% or 0.25%, at most 100%");
  }
  return static_cast<uint32_t>(std::lround(percent * 10'000));
}

absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text) {
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration) || duration <= absl::ZeroDuration()) {
    return Expected(text, "a duration such as 250ms, 30s, 5m or 1h30m");
  }
  return duration;
}

absl::StatusOr<v1::Cohort> ParseCohort(absl::string_view text) {
  constexpr absl::string_view kExpected = "NAME=TENANT,TENANT..., SHARE%, NAME=SHARE% or rest";
  v1::Cohort cohort;
  const size_t at = text.find('=');
  const absl::string_view members = at == absl::string_view::npos ? text : text.substr(at + 1);
  cohort.set_name(std::string(text.substr(0, at)));
  if (cohort.name().empty() || members.empty()) return Expected(text, kExpected);
  if (members == "rest") {
    cohort.set_share_ppm(1'000'000);
  } else if (absl::EndsWith(members, "%")) {
    ASSIGN_OR_RETURN(const uint32_t share, ParsePercent(members));
    if (share == 0) return Expected(text, "a share above 0%");
    cohort.set_share_ppm(share);
  } else if (at == absl::string_view::npos) {
    return Expected(text, kExpected);
  } else {
    for (const absl::string_view tenant : absl::StrSplit(members, ',')) {
      if (tenant.empty()) return Expected(text, kExpected);
      cohort.add_tenants(std::string(tenant));
    }
  }
  return cohort;
}

absl::Status ParsePolicyOverride(absl::string_view text, v1::Policy* policy) {
  ASSIGN_OR_RETURN(const auto assignment, Assignment(text));
  const auto& [key, value] = assignment;
  const auto* descriptor = v1::Policy::descriptor();
  const auto* reflection = policy->GetReflection();
  const FieldDescriptor* field = descriptor->FindFieldByName(key);
  const bool percents = field == nullptr;
  if (percents) field = descriptor->FindFieldByName(absl::StrCat(key, "_ppm"));
  if (field == nullptr) return Expected(text, absl::StrCat("one of ", PolicyKeys()));

  const auto share = [&](absl::string_view part) -> absl::StatusOr<uint32_t> {
    uint32_t ppm = 0;
    if (percents || absl::EndsWith(part, "%")) return ParsePercent(part);
    if (!absl::SimpleAtoi(part, &ppm) || ppm > 1'000'000) {
      return Expected(text, "parts per million, 0 to 1000000, or a share such as 5%");
    }
    return ppm;
  };
  if (field->is_repeated()) {
    reflection->ClearField(policy, field);
    for (const absl::string_view part : absl::StrSplit(value, ',')) {
      ASSIGN_OR_RETURN(const uint32_t ppm, share(part));
      reflection->AddUInt32(policy, field, ppm);
    }
    return absl::OkStatus();
  }
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_UINT32: {
      ASSIGN_OR_RETURN(const uint32_t ppm, share(value));
      reflection->SetUInt32(policy, field, ppm);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      uint64_t number = 0;
      if (!absl::SimpleAtoi(value, &number)) return Expected(text, "a whole number");
      reflection->SetUInt64(policy, field, number);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_BOOL: {
      bool flag = false;
      if (!absl::SimpleAtob(value, &flag)) return Expected(text, "true or false");
      reflection->SetBool(policy, field, flag);
      return absl::OkStatus();
    }
    default:
      if (key != "sample_by") RETURN_IF_ERROR(ParseDuration(value).status());
      reflection->SetString(policy, field, value);
      return absl::OkStatus();
  }
}

absl::StatusOr<v1::Parameter> ParseParameter(absl::string_view text) {
  ASSIGN_OR_RETURN(const auto assignment, Assignment(text));
  std::string type;
  std::string name = assignment.first;
  const std::string& value = assignment.second;
  if (const size_t colon = name.find(':'); colon != std::string::npos) {
    type = name.substr(colon + 1);
    name.resize(colon);
    if (name.empty() || type.empty()) return Expected(text, "name=value or name:type=value");
  }

  v1::Parameter parameter;
  parameter.set_name(name);
  v1::Value& kind = *parameter.mutable_value();
  int64_t integer = 0;
  double number = 0;
  if (type.empty()) {
    if (absl::SimpleAtoi(value, &integer)) {
      kind.set_integer(integer);
    } else if (absl::SimpleAtod(value, &number) && std::isfinite(number)) {
      kind.set_number(number);
    } else if (value == "true" || value == "false") {
      kind.set_boolean(value == "true");
    } else {
      kind.set_text(value);
    }
  } else if (type == "text") {
    kind.set_text(value);
  } else if (type == "integer") {
    if (!absl::SimpleAtoi(value, &integer)) return Expected(text, "an integer of 64 bits");
    kind.set_integer(integer);
  } else if (type == "number") {
    if (!absl::SimpleAtod(value, &number) || !std::isfinite(number)) return Expected(text, "a finite number");
    kind.set_number(number);
  } else if (type == "boolean") {
    if (value != "true" && value != "false") return Expected(text, "true or false");
    kind.set_boolean(value == "true");
  } else if (type == "text_set" || type == "text_list") {
    v1::TextList& list = *kind.mutable_texts();
    if (value.empty()) return parameter;
    for (const absl::string_view element : absl::StrSplit(value, ',')) list.add_values(std::string(element));
  } else if (type == "integer_set" || type == "integer_list") {
    v1::IntegerList& list = *kind.mutable_integers();
    if (value.empty()) return parameter;
    for (const absl::string_view element : absl::StrSplit(value, ',')) {
      if (!absl::SimpleAtoi(element, &integer)) return Expected(text, "integers of 64 bits, separated by commas");
      list.add_values(integer);
    }
  } else if (type == "null") {
    if (!value.empty()) return Expected(text, "nothing after = for a null");
  } else {
    return Expected(
        text, "one of the types text, integer, number, boolean, text_set, text_list, integer_set, integer_list, null");
  }
  return parameter;
}

}  // namespace shadowline::console
