// Catalog documents, from YAML to the compiled form: any text is a catalog or is refused with positions, and what was
// accepted is accepted again.
#include "absl/strings/str_split.h"
#include "cache/catalog/parse.h"
#include "tests/fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace shadowline;
  const absl::string_view text = fuzz::Text(data, size);
  const auto catalog = cache::ParseCatalog(text, /*revision=*/1);
  if (catalog.ok()) {
    FUZZ_CHECK(cache::ParseCatalog(text, /*revision=*/1).ok());
    return 0;
  }
  FUZZ_CHECK(absl::IsInvalidArgument(catalog.status()));
  // "line:column: ..."
  const absl::string_view message(catalog.status().message().data(), catalog.status().message().size());
  FUZZ_CHECK(!message.empty() && message[0] >= '0' && message[0] <= '9');
  return 0;
}
