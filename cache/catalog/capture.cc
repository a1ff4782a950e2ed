#include "cache/catalog/capture.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cache/catalog/sql.h"

namespace shadowline::cache {
namespace {

namespace v1 = shadowline::v1;

constexpr int kMaxTables = 256;
constexpr int kMaxTags = 16;
constexpr size_t kMaxTagBytes = 256;

// What two templates have in common that can give the same text: literals as they are, a mark for each value.
// Neighbouring literals of a template are one piece, so equal templates have equal forms.
std::string FormOf(const std::vector<TemplatePiece>& pieces) {
  std::string form;
  for (const TemplatePiece& piece : pieces) absl::StrAppend(&form, piece.name ? "{}" : piece.text);
  return form;
}

std::string FormOf(const std::vector<TagPiece>& pieces) {
  std::string form;
  for (const TagPiece& piece : pieces) absl::StrAppend(&form, piece.parameter == -1 ? piece.literal : "{}");
  return form;
}

class CaptureCompiler {
 public:
  CaptureCompiler(const std::vector<Endpoint>& endpoints, const ParsedCatalog& places, Findings* findings)
      : endpoints_(endpoints), places_(places), findings_(findings) {
    for (const Endpoint& endpoint : endpoints_) families_.insert(endpoint.family);
  }

  CapturedTable Compile(const std::string& name, const v1::CapturedTable& declared) {
    const std::string path = absl::StrCat("capture.tables.", name);
    CapturedTable table;
    table.name = name;
    const size_t dot = name.find('.');
    if (dot == 0 || dot == std::string::npos || dot + 1 == name.size()) {
      Refuse(path, "not a table's name; expected schema.table");
    }
    if (declared.tenant().empty()) {
      CompileShared(path, declared, &table);
      return table;
    }
    CompileTenant(path, declared, &table);
    if (declared.families_size() > 0) {
      Refuse(path + ".families", "is for tables that are every tenant's; remove it, or tenant and tags");
    }
    if (declared.tags().empty()) {
      Refuse(path + ".tags", "missing; expected at least one: what a changed row invalidates");
    }
    if (declared.tags_size() > kMaxTags) Refuse(path + ".tags", absl::StrCat("more than ", kMaxTags, " tags"));
    std::set<std::string> families;
    for (int i = 0; i < declared.tags_size(); ++i) {
      CompileTag(absl::StrCat(path, ".tags[", i, "]"), declared.tags(i), &table);
    }
    for (const CapturedTag& tag : table.tags) families.insert(tag.families.begin(), tag.families.end());
    table.families.assign(families.begin(), families.end());
    return table;
  }

 private:
  void Refuse(const std::string& path, absl::string_view what) { findings_->Add(places_.At(path), path, what); }

  void CompileShared(const std::string& path, const v1::CapturedTable& declared, CapturedTable* table) {
    if (!declared.tenant_query().empty()) Refuse(path + ".tenant_query", "needs a tenant: what its :key is");
    if (declared.tags_size() > 0) {
      Refuse(path + ".tags", "need a tenant: whose tags they are; without one, declare families");
    }
    std::set<std::string> families;
    for (int i = 0; i < declared.families_size(); ++i) {
      const std::string& family = declared.families(i);
      const std::string family_path = absl::StrCat(path, ".families[", i, "]");
      if (!families_.contains(family)) Refuse(family_path, absl::StrCat("there is no family `", family, "`"));
      if (!families.insert(family).second) Refuse(family_path, absl::StrCat("`", family, "` is repeated"));
    }
    if (families.empty()) Refuse(path, "it has neither a tenant with tags nor families; expected one of them");
    table->families.assign(families.begin(), families.end());
  }

  void CompileTenant(const std::string& path, const v1::CapturedTable& declared, CapturedTable* table) {
    const absl::StatusOr<std::vector<TemplatePiece>> pieces = SplitTag(declared.tenant());
    if (!pieces.ok()) return Refuse(path + ".tenant", pieces.status().message());
    for (const TemplatePiece& piece : *pieces) {
      table->tenant.push_back(piece.name ? CapturePiece{"", Column(piece.text, table), {}}
                                         : CapturePiece{piece.text, CapturePiece::kLiteral, {}});
    }
    if (table->columns.empty()) Refuse(path + ".tenant", "it names no column; expected such as {tenant}");
    if (declared.tenant_query().empty()) return;
    absl::StatusOr<ScannedSql> scanned = ScanSql(declared.tenant_query(), {"key"});
    if (!scanned.ok()) return Refuse(path + ".tenant_query", scanned.status().message());
    if (scanned->used != std::set<std::string>{"key"}) {
      Refuse(path + ".tenant_query", "expected one parameter, `:key`: what `tenant` fills in");
    }
    table->tenant_sql = std::move(scanned->text);
  }

  void CompileTag(const std::string& path, absl::string_view text, CapturedTable* table) {
    const absl::StatusOr<std::vector<TemplatePiece>> split = SplitTag(text);
    if (!split.ok()) return Refuse(path, split.status().message());
    const std::string form = FormOf(*split);
    // By how each value is written: what endpoints write alike is one tag.
    std::map<std::string, CapturedTag> tags;
    for (const Endpoint& endpoint : endpoints_) {
      for (const std::vector<TagPiece>& pieces : endpoint.tags) {
        // Fewer pieces than the form has: the endpoint's tag was refused already.
        if (FormOf(pieces) != form || pieces.size() != split->size()) continue;
        CapturedTag tag;
        std::string writing;
        for (size_t i = 0; i < pieces.size(); ++i) {
          const TemplatePiece& piece = (*split)[i];
          CapturePiece& compiled = tag.pieces.emplace_back();
          if (!piece.name) {
            compiled.literal = piece.text;
            continue;
          }
          compiled.column = piece.text == "tenant" ? CapturePiece::kTenant : Column(piece.text, table);
          if (pieces[i].parameter >= 0) compiled.form = endpoint.parameters[pieces[i].parameter];
          absl::StrAppend(&writing, static_cast<int>(compiled.form.type), compiled.form.fold_case ? "f" : "",
                          compiled.form.max_length, ",");
        }
        CapturedTag& known = tags.emplace(writing, std::move(tag)).first->second;
        if (known.families.empty() || known.families.back() != endpoint.family) {
          known.families.push_back(endpoint.family);
        }
      }
    }
    if (tags.empty()) {
      Refuse(
          path,
          "no endpoint has a tag of this form; expected one that some endpoint has, with columns for its parameters");
    }
    for (auto& [writing, tag] : tags) table->tags.push_back(std::move(tag));
  }

  static int Column(const std::string& name, CapturedTable* table) {
    const auto known = std::find(table->columns.begin(), table->columns.end(), name);
    if (known != table->columns.end()) return static_cast<int>(known - table->columns.begin());
    table->columns.push_back(name);
    return static_cast<int>(table->columns.size()) - 1;
  }

  const std::vector<Endpoint>& endpoints_;
  const ParsedCatalog& places_;
  Findings* const findings_;
  std::set<std::string> families_;
};

}  // namespace

absl::StatusOr<std::vector<TemplatePiece>> SplitTag(absl::string_view tag) {
  if (tag.empty() || tag.size() > kMaxTagBytes) return absl::InvalidArgumentError("a template has 1 to 256 bytes");
  std::vector<TemplatePiece> pieces;
  while (!tag.empty()) {
    const size_t brace = std::min(tag.find_first_of("{}"), tag.size());
    if (brace > 0) pieces.push_back({std::string(tag.substr(0, brace)), false});
    tag.remove_prefix(brace);
    if (tag.empty()) break;
    const size_t end = tag.find('}');
    if (tag[0] == '}' || end == absl::string_view::npos) {
      return absl::InvalidArgumentError("a brace without its other half; expected {name}");
    }
    pieces.push_back({std::string(tag.substr(1, end - 1)), true});
    tag.remove_prefix(end + 1);
  }
  return pieces;
}

std::vector<CapturedTable> CompileCapture(const v1::Catalog& document, const std::vector<Endpoint>& endpoints,
                                          const ParsedCatalog& places, Findings* findings) {
  std::vector<CapturedTable> tables;
  const auto& declared = document.capture().tables();
  if (declared.size() > kMaxTables) {
    findings->Add(places.At("capture.tables"), "capture.tables", absl::StrCat("more than ", kMaxTables, " tables"));
    return tables;
  }
  CaptureCompiler compiler(endpoints, places, findings);
  const std::map<std::string, v1::CapturedTable> sorted(declared.begin(), declared.end());
  for (const auto& [name, table] : sorted) tables.push_back(compiler.Compile(name, table));
  return tables;
}

}  // namespace shadowline::cache
