// The capture section of a catalog: which tags the change of a row invalidates, checked against the tags that the
// endpoints have.
//
// A declared tag has to have the form of some endpoint's tag. That finds misspelt ones, and it says how values are
// written: as those endpoints' parameters are.
//
// Pure.
#ifndef SHADOWLINE_CACHE_CATALOG_CAPTURE_H_
#define SHADOWLINE_CACHE_CATALOG_CAPTURE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cache/catalog/catalog.h"
#include "cache/catalog/findings.h"
#include "cache/catalog/parse.h"

namespace shadowline::cache {

// A piece of a template such as `prices:{region}`: literal text, or the name in braces.
struct TemplatePiece {
  std::string text;
  bool name = false;
};

// kInvalidArgument says what is wrong with it: empty, longer than 256 bytes, half a pair of braces.
absl::StatusOr<std::vector<TemplatePiece>> SplitTag(absl::string_view tag);

// What is wrong becomes a finding.
std::vector<CapturedTable> CompileCapture(const shadowline::v1::Catalog& document,
                                          const std::vector<Endpoint>& endpoints, const ParsedCatalog& places,
                                          Findings* findings);

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CATALOG_CAPTURE_H_
