#include "diff/verdict/owner.h"

#include <algorithm>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "diff/compare/json.h"

namespace shadowline::diff {
namespace {

void Collect(const Json& at, const std::vector<std::string>& path, size_t depth, std::set<std::string>* texts) {
  const bool container = at.type == Json::Type::kObject || at.type == Json::Type::kArray;
  if (depth == path.size()) {
    if (at.type == Json::Type::kString) texts->emplace(at.string);
    if (at.type == Json::Type::kNumber || at.type == Json::Type::kBoolean) texts->emplace(at.text);
    return;
  }
  if (!container) return;
  const std::string& step = path[depth];
  if (step == "*") {
    for (const Json& child : at.items()) Collect(child, path, depth + 1, texts);
  } else if (at.type == Json::Type::kObject) {
    if (const Json* member = at.Find(step); member != nullptr) Collect(*member, path, depth + 1, texts);
  } else if (size_t index = 0; absl::SimpleAtoi(step, &index) && index < at.size) {
    Collect(at.children[index], path, depth + 1, texts);
  }
}

}  // namespace

std::set<std::string> TextsAt(absl::string_view body, absl::string_view pointer) {
  std::set<std::string> texts;
  const auto document = JsonDocument::Parse(body);
  if (!document.ok() || pointer.empty()) return texts;
  std::vector<std::string> path = absl::StrSplit(pointer.substr(1), '/');
  for (std::string& step : path) step = absl::StrReplaceAll(step, {{"~1", "/"}, {"~0", "~"}});
  Collect((*document)->root(), path, 0, &texts);
  return texts;
}

bool NamesAnother(absl::string_view candidate, absl::string_view control, absl::string_view pointer,
                  absl::string_view tenant) {
  const std::set<std::string> named = TextsAt(candidate, pointer);
  const std::set<std::string> rightly = TextsAt(control, pointer);
  return std::any_of(named.begin(), named.end(), [&](const std::string& owner) {
    return tenant != absl::string_view(owner) && !rightly.contains(owner);
  });
}

}  // namespace shadowline::diff
