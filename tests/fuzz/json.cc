// JSON texts: what is parsed can be written and parsed again, and is the same then.
#include "diff/compare/json.h"

#include "absl/strings/str_cat.h"
#include "diff/compare/compare.h"
#include "diff/compare/redact.h"
#include "tests/fuzz/check.h"

namespace shadowline::diff {
namespace {

void Write(const Json& value, std::string* out) {
  switch (value.type) {
    case Json::Type::kNull:
    case Json::Type::kBoolean:
    case Json::Type::kNumber:
      absl::StrAppend(out, value.text);
      return;
    case Json::Type::kString:
      AppendQuoted(out, value.string);
      return;
    case Json::Type::kArray:
    case Json::Type::kObject:
      break;
  }
  const bool object = value.type == Json::Type::kObject;
  out->push_back(object ? '{' : '[');
  for (const Json& child : value.items()) {
    if (&child != value.children) out->push_back(',');
    if (object) {
      AppendQuoted(out, child.name);
      out->push_back(':');
    }
    Write(child, out);
  }
  out->push_back(object ? '}' : ']');
}

}  // namespace
}  // namespace shadowline::diff

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace shadowline;
  const absl::string_view text = fuzz::Text(data, size);
  const auto document = diff::JsonDocument::Parse(text);
  FUZZ_CHECK(document.ok() == diff::CheckJson(text).ok());
  const diff::Redactor redact("a secret");
  const auto redacted = diff::JsonDocument::Parse(redact(text));
  FUZZ_CHECK(redacted.ok());
  diff::JsonDocument::Parse(text, diff::LoneSurrogates::kKeep).status().IgnoreError();
  if (!document.ok()) return 0;

  std::string canonical;
  diff::Write((*document)->root(), &canonical);
  const auto again = diff::JsonDocument::Parse(canonical);
  FUZZ_CHECK(again.ok());
  std::string twice;
  diff::Write((*again)->root(), &twice);
  FUZZ_CHECK(canonical == twice);
  const diff::CompiledRules exactly;
  FUZZ_CHECK(diff::Compare({true, text}, {true, canonical}, exactly).verdict == diff::Comparison::Verdict::kEqual);
  FUZZ_CHECK(redact(text) == redact(canonical));
  return 0;
}
