#include "cache/capture/tag_map.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status.h"
#include "cache/invalidate/invalidator.h"
#include "cache/key/key.h"

namespace shadowline::cache {
namespace {

constexpr uint32_t kBoolean = 16;
constexpr uint32_t kBlankPadded = 1042;  // character(n)

// What PostgreSQL wrote, as a parameter that equals it is written.
absl::string_view Plain(absl::string_view text, uint32_t type) {
  if (type == kBoolean) return text == "t" ? "true" : "false";
  if (type == kBlankPadded) return text.substr(0, text.find_last_not_of(' ') + 1);
  return text;
}

// The value of a parameter `form` that equals the column's value, in its canonical text; nullopt: no parameter does.
std::optional<std::string> Canonical(const ParameterDecl& form, absl::string_view text) {
  shadowline::v1::Value value;
  switch (form.type) {
    case ParameterType::kInteger: {
      // A numeric column writes its scale: 7.00 is 7.
      const size_t point = text.find('.');
      if (point != absl::string_view::npos && text.find_last_not_of('0') == point) text = text.substr(0, point);
      int64_t integer = 0;
      if (!absl::SimpleAtoi(text, &integer)) return std::nullopt;
      value.set_integer(integer);
      break;
    }
    case ParameterType::kNumber: {
      double number = 0;
      if (!absl::SimpleAtod(text, &number)) return std::nullopt;
      value.set_number(number);
      break;
    }
    case ParameterType::kBoolean:
      value.set_boolean(text == "true");
      break;
    default:
      value.set_text(std::string(text));
  }
  absl::StatusOr<std::string> canonical = CanonicalValue(form, value);
  if (!canonical.ok()) return std::nullopt;
  return *std::move(canonical);
}

bool KnowsAll(const std::vector<CapturePiece>& pieces, const std::vector<std::optional<Cell>>& values) {
  for (const CapturePiece& piece : pieces) {
    if (piece.column >= 0 && !values[piece.column].has_value()) return false;
  }
  return true;
}

// nullopt: no read can have this text. REQUIRES: KnowsAll.
std::optional<std::string> FillIn(const std::vector<CapturePiece>& pieces, const std::string& tenant,
                                  const std::vector<std::optional<Cell>>& values, const std::vector<uint32_t>& types) {
  std::string text;
  for (const CapturePiece& piece : pieces) {
    if (piece.column == CapturePiece::kLiteral) {
      text.append(piece.literal);
      continue;
    }
    absl::string_view value = tenant;
    if (piece.column != CapturePiece::kTenant) {
      const Cell& cell = *values[piece.column];
      if (cell.kind == Cell::Kind::kNull) continue;  // Fills in as nothing, as a parameter does.
      value = Plain(cell.text, types[piece.column]);
    }
    const std::optional<std::string> canonical = Canonical(piece.form, value);
    if (!canonical.has_value()) return std::nullopt;
    text.append(*canonical);
  }
  return text;
}

void Drop(const std::vector<std::string>& families, const std::string& tenant, Effects* effects) {
  for (const std::string& family : families) effects->drops.insert({family, tenant});
}

}  // namespace

TagMap::TagMap(std::shared_ptr<const CompiledCatalog> catalog, TenantLookup* lookup, size_t tags_max)
    : catalog_(std::move(catalog)), lookup_(lookup), tags_max_(tags_max) {}

void TagMap::Learn(const Relation& relation) {
  Bound bound;
  bound.cells = relation.columns.size();
  const std::string name = absl::StrCat(relation.schema, ".", relation.table);
  for (const CapturedTable& table : catalog_->captured()) {
    if (table.name == name) bound.table = &table;
  }
  if (bound.table != nullptr) {
    for (const std::string& column : bound.table->columns) {
      int at = static_cast<int>(relation.columns.size()) - 1;
      while (at >= 0 && relation.columns[at].name != column) --at;
      bound.cell.push_back(at);
      bound.type.push_back(at < 0 ? 0 : relation.columns[at].type);
      bound.identity.push_back(at >= 0 && relation.columns[at].identity);
    }
  }
  bound_[relation.id] = std::move(bound);
}

absl::StatusOr<const TagMap::Bound*> TagMap::Find(uint32_t relation) const {
  const auto found = bound_.find(relation);
  if (found == bound_.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the replication stream has a change of table ", relation, ", which it has not described"));
  }
  return &found->second;
}

// Where a value of `row` was not sent because it did not change, `other` may have it.
TagMap::Values TagMap::ReadValues(const Bound& bound, const Row& row, const Row* other) {
  Values values(bound.cell.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const int at = bound.cell[i];
    if (at < 0 || (row.identity_only && !bound.identity[i])) continue;
    const Cell& cell = row.cells[at];
    if (cell.kind != Cell::Kind::kUnchanged) {
      values[i] = cell;
    } else if (other != nullptr && (!other->identity_only || bound.identity[i]) &&
               other->cells[at].kind != Cell::Kind::kUnchanged) {
      values[i] = other->cells[at];
    }
  }
  return values;
}

absl::Status TagMap::Map(const Change& change, Effects* effects) {
  ASSIGN_OR_RETURN(const Bound* bound, Find(change.relation));
  for (const std::optional<Row>* row : {&change.before, &change.after}) {
    if (row->has_value() && (*row)->cells.size() != bound->cells) {
      return absl::InvalidArgumentError(absl::StrCat("the replication stream has a row of ", (*row)->cells.size(),
                                                     " columns in a table of ", bound->cells));
    }
  }
  if (bound->table == nullptr) return absl::OkStatus();

  const Row* before = change.before.has_value() ? &*change.before : nullptr;
  const Row* after = change.after.has_value() ? &*change.after : nullptr;
  if (after != nullptr) RETURN_IF_ERROR(AddRow(*bound, ReadValues(*bound, *after, before), effects));
  if (before != nullptr) return AddRow(*bound, ReadValues(*bound, *before, after), effects);
  if (change.kind == Change::Kind::kUpdate) {
    // The old row was not sent because its identity is the new one's; nothing is known of its other columns.
    Values values = ReadValues(*bound, *after, nullptr);
    for (size_t i = 0; i < values.size(); ++i) {
      if (!bound->identity[i]) values[i].reset();
    }
    return AddRow(*bound, values, effects);
  }
  return absl::OkStatus();
}

absl::Status TagMap::Map(const Truncate& truncate, Effects* effects) {
  for (const uint32_t relation : truncate.relations) {
    ASSIGN_OR_RETURN(const Bound* bound, Find(relation));
    if (bound->table != nullptr) Drop(bound->table->families, "", effects);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::string>> TagMap::TenantOf(const Bound& bound, const Values& values) {
  const CapturedTable& table = *bound.table;
  if (!KnowsAll(table.tenant, values)) return std::optional<std::string>();
  std::optional<std::string> text = FillIn(table.tenant, "", values, bound.type);
  if (!text.has_value() || text->empty()) return std::optional<std::string>("");
  if (table.tenant_sql.empty()) return text;
  return lookup_->Find(table.tenant_sql, *text);
}

absl::Status TagMap::AddRow(const Bound& bound, const Values& values, Effects* effects) {
  const CapturedTable& table = *bound.table;
  if (table.tenant.empty()) {
    Drop(table.families, "", effects);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::optional<std::string> tenant, TenantOf(bound, values));
  if (!tenant.has_value()) {
    Drop(table.families, "", effects);
    return absl::OkStatus();
  }
  if (tenant->empty()) return absl::OkStatus();  // No read binds this row.
  for (const CapturedTag& tag : table.tags) {
    if (!KnowsAll(tag.pieces, values)) {
      Drop(tag.families, *tenant, effects);
      continue;
    }
    std::optional<std::string> text = FillIn(tag.pieces, *tenant, values, bound.type);
    if (!text.has_value() || text->empty() || text->size() > kMaxTagBytes) continue;  // No read has it.
    if (effects->tags.size() < tags_max_) {
      effects->tags.insert({*tenant, *std::move(text)});
    } else if (!effects->tags.contains({*tenant, *text})) {
      Drop(tag.families, "", effects);
    }
  }
  return absl::OkStatus();
}

}  // namespace shadowline::cache
