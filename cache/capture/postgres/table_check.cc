#include "cache/capture/postgres/table_check.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status.h"

namespace shadowline::cache {
namespace {

struct Column {
  std::string type;
  bool domain = false;
  char category = ' ';  // pg_type.typcategory
};

std::string FormName(ParameterType type) {
  switch (type) {
    case ParameterType::kInteger:
      return "an integer";
    case ParameterType::kNumber:
      return "a number";
    case ParameterType::kBoolean:
      return "a boolean";
    default:
      return "a text";
  }
}

// Whether PostgreSQL writes a value of the column in one way only, which a parameter of that type has as well.
bool Writes(const Column& column, const ParameterDecl& form) {
  switch (form.type) {
    case ParameterType::kInteger:
    case ParameterType::kNumber:
      return column.category == 'N';
    case ParameterType::kBoolean:
      return column.category == 'B' && !column.domain;
    default:
      if (column.type == "citext") return form.fold_case;
      if (column.type == "character") return !column.domain;
      // Texts, enums, UUIDs; and integers, which have but one way.
      return column.category == 'S' || column.category == 'E' || column.type == "uuid" || column.type == "smallint" ||
             column.type == "integer" || column.type == "bigint";
  }
}

}  // namespace

absl::StatusOr<std::vector<std::string>> CheckServer(Ask ask) {
  ASSIGN_OR_RETURN(const AskedRows rows, ask("SELECT current_setting('wal_level')", {}));
  std::vector<std::string> wrong;
  const std::string level = rows.at(0).at(0).value_or("");
  if (level != "logical") {
    wrong.push_back(absl::StrCat("the server has wal_level = ", level,
                                 "; set wal_level = logical and restart it, or leave capture out and use the outbox"));
  }
  return wrong;
}

absl::StatusOr<std::vector<std::string>> CheckTable(const CapturedTable& table, Ask ask) {
  std::vector<std::string> wrong;
  const size_t dot = table.name.find('.');
  ASSIGN_OR_RETURN(
      const AskedRows found,
      ask("SELECT c.oid, c.relkind, c.relpersistence, c.relispartition FROM pg_catalog.pg_class AS c "
          "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
          {table.name.substr(0, dot), table.name.substr(dot + 1)}));
  if (found.empty()) {
    wrong.push_back(absl::StrCat("there is no table ", table.name));
    return wrong;
  }
  const std::string oid = *found[0][0];
  const std::string kind = *found[0][1];
  if (kind != "r" && kind != "p") {
    wrong.push_back(absl::StrCat(table.name, " is no table; capture the tables behind it"));
    return wrong;
  }
  if (found[0][2] != "p") {
    wrong.push_back(absl::StrCat(table.name, " is unlogged or temporary: its changes are not in the log"));
  }
  if (found[0][3] == "t") {
    wrong.push_back(absl::StrCat(table.name, " is a partition; declare the table that it belongs to"));
  }

  // The columns that templates use.
  ASSIGN_OR_RETURN(const AskedRows columns,
                   ask("SELECT a.attname, pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL), "
                       "t.typtype = 'd', coalesce(b.typcategory, t.typcategory) FROM pg_catalog.pg_attribute AS a "
                       "JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid "
                       "LEFT JOIN pg_catalog.pg_type AS b ON b.oid = t.typbasetype "
                       "WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped",
                       {oid}));
  std::map<std::string, Column> types;
  for (const auto& row : columns) types[*row[0]] = {*row[1], row[2] == "t", (*row[3])[0]};
  std::set<std::string> missing;
  for (const std::string& column : table.columns) {
    if (types.contains(column)) continue;
    missing.insert(column);
    wrong.push_back(absl::StrCat(table.name, " has no column ", column));
  }
  std::set<std::string> told;
  for (const CapturedTag& tag : table.tags) {
    for (const CapturePiece& piece : tag.pieces) {
      if (piece.column < 0 || missing.contains(table.columns[piece.column])) continue;
      const Column& column = types[table.columns[piece.column]];
      if (Writes(column, piece.form)) continue;
      const std::string text = absl::StrCat(
          "column ", table.columns[piece.column], " is ", column.domain ? "a domain over " : "", column.type,
          ", and in the tag of ", absl::StrJoin(tag.families, ", "), " it stands for ", FormName(piece.form.type),
          piece.form.type == ParameterType::kText && column.type == "citext" ? " that is not folded" : "",
          ": their texts can differ where the values are equal; use another column, or a coarser tag");
      if (told.insert(text).second) wrong.push_back(text);
    }
  }

  // What comes of an old row. A partition has a replica identity of its own, and the stream takes the table's for it.
  ASSIGN_OR_RETURN(
      const AskedRows members,
      ask("SELECT c.oid::regclass::text, c.relreplident, c.relkind, coalesce((SELECT string_agg(a.attname, E'\\n') "
          "FROM "
          "pg_catalog.pg_index AS i JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = "
          "ANY(i.indkey) WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN "
          "i.indisreplident ELSE false END), '') FROM pg_catalog.pg_class AS c WHERE c.oid = $1::oid OR c.oid IN "
          "(SELECT relid FROM pg_catalog.pg_partition_tree($1::oid::regclass)) ORDER BY c.oid = $1::oid DESC, 1",
          {oid}));
  for (const auto& member : members) {
    const std::string& name = *member[0];
    const bool full = member[1] == "f";
    const std::vector<std::string> identity = absl::StrSplit(*member[3], '\n');
    if (!full && member[3] == "") {
      wrong.push_back(absl::StrCat(name,
                                   " has no replica identity (no primary key): PostgreSQL would refuse every UPDATE ",
                                   "and DELETE of it once it is published; add a primary key, or run ALTER TABLE ",
                                   name, " REPLICA IDENTITY FULL"));
      continue;
    }
    std::vector<std::string> absent;
    for (const std::string& column : table.columns) {
      if (!full && !missing.contains(column) && std::find(identity.begin(), identity.end(), column) == identity.end()) {
        absent.push_back(column);
      }
    }
    if (!absent.empty()) {
      wrong.push_back(absl::StrCat("the replica identity of ", name, " does not carry ", absl::StrJoin(absent, ", "),
                                   ": what an updated or deleted row was is not known; run ALTER TABLE ", name,
                                   " REPLICA IDENTITY FULL"));
    } else if (member[1] != members[0][1] || (!full && *member[3] != *members[0][3])) {
      wrong.push_back(absl::StrCat("partition ", name, " has another replica identity than ", *members[0][0],
                                   ", which is taken for it; run ALTER TABLE ", name, " REPLICA IDENTITY ",
                                   members[0][1] == "f" ? "FULL" : "DEFAULT"));
    }
  }
  return wrong;
}

}  // namespace shadowline::cache
