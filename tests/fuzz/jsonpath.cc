// JSONPaths, and a document behind each: what is selected is in the document, the same every time, and where a path can
// be matched step by step both ways find the same.
#include "diff/compare/jsonpath.h"

#include <set>

#include "diff/compare/iregexp.h"
#include "diff/compare/path.h"
#include "tests/fuzz/check.h"

namespace shadowline::diff {
namespace {

void Collect(const Json& node, std::set<const Json*>* all) {
  all->insert(&node);
  for (const Json& child : node.items()) Collect(child, all);
}

// By the steps of the pattern, from its segment `at` on.
void Match(const PathPattern& pattern, size_t at, const Json& node, std::set<const Json*>* found) {
  if (at == pattern.size()) {
    found->insert(&node);
    return;
  }
  for (size_t i = 0; i < node.size; ++i) {
    const Json& child = node.children[i];
    const PathStep step{child.name, i, node.type == Json::Type::kArray};
    if (pattern.Matches(at, step)) Match(pattern, at + 1, child, found);
    if (pattern.Deep(at)) Match(pattern, at, child, found);
  }
}

}  // namespace
}  // namespace shadowline::diff

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace shadowline;
  absl::string_view rest = fuzz::Text(data, size);
  const absl::string_view text = fuzz::TakePart(&rest);
  diff::IRegexp::Parse(text).status().IgnoreError();
  const auto place = diff::ParsePlace(text);
  if (!place.ok()) {
    FUZZ_CHECK(absl::IsInvalidArgument(place.status()));
    return 0;
  }
  const auto path = diff::JsonPath::Parse(text);
  const auto document = diff::JsonDocument::Parse(rest);
  if (!path.ok() || !document.ok()) return 0;
  const diff::Json& root = (*document)->root();
  diff::JsonPath::Work work;
  const auto nodes = path->Locate(root, &work);
  if (!nodes.ok()) return 0;
  std::set<const diff::Json*> all;
  diff::Collect(root, &all);
  for (const diff::Json* node : *nodes) FUZZ_CHECK(all.count(node) > 0);
  diff::JsonPath::Work again;
  FUZZ_CHECK(*path->Locate(root, &again) == *nodes && again.steps == work.steps);
  // The walk of this test takes exponential time over several `..`.
  if (place->query.has_value() || place->pattern.size() > 6 || size > 512) return 0;
  std::set<const diff::Json*> matched;
  diff::Match(place->pattern, 0, root, &matched);
  FUZZ_CHECK(matched == std::set<const diff::Json*>(nodes->begin(), nodes->end()));
  return 0;
}
