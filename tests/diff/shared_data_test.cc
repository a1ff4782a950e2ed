// The comparison on texts that nobody here wrote, where they are present (SHADOWLINE_SHARED, or `shared` beside the
// source tree), and on a few made here where they are not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "diff/compare/compare.h"
#include "diff/compare/json.h"
#include "diff/compare/patch.h"

namespace shadowline::diff {
namespace {

using Verdict = Comparison::Verdict;

// Nothing where the file or folder is not there.
std::optional<std::filesystem::path> Shared(const std::string& name) {
  const char* shared = std::getenv("SHADOWLINE_SHARED");
  const char* source = std::getenv("SHADOWLINE_SOURCE_DIR");
  std::vector<std::filesystem::path> places;
  if (shared != nullptr) places.emplace_back(std::filesystem::path(shared) / "data" / name);
  if (source != nullptr) places.emplace_back(std::filesystem::path(source) / ".." / "shared" / "data" / name);
  for (const std::filesystem::path& place : places) {
    if (std::filesystem::exists(place)) return place;
  }
  return std::nullopt;
}

std::string Read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
}

// The lines of a JSON Lines file, parsed; their texts live as long as this does.
class Lines {
 public:
  explicit Lines(const std::filesystem::path& path) : text_(Read(path)) {
    size_t start = 0;
    while (start < text_.size()) {
      const size_t end = std::min(text_.find('\n', start), text_.size());
      if (end > start) {
        auto document = JsonDocument::Parse(absl::string_view(text_).substr(start, end - start), LoneSurrogates::kKeep);
        EXPECT_TRUE(document.ok()) << document.status();
        if (document.ok()) documents_.push_back(*std::move(document));
      }
      start = end + 1;
    }
  }
  const std::vector<std::unique_ptr<const JsonDocument>>& documents() const { return documents_; }

 private:
  const std::string text_;
  std::vector<std::unique_ptr<const JsonDocument>> documents_;
};

std::string Text(const Json& line, absl::string_view member) {
  const Json* found = line.Find(member);
  return found == nullptr ? "" : std::string(found->string);
}

CompiledRules Compiled(const Rules& rules) {
  absl::StatusOr<CompiledRules> compiled = CompiledRules::Compile(rules);
  EXPECT_TRUE(compiled.ok()) << compiled.status();
  return compiled.ok() ? *compiled : CompiledRules();
}

bool Same(absl::string_view a, absl::string_view b, const CompiledRules& rules) {
  const Verdict verdict = Compare({true, a}, {true, b}, rules).verdict;
  return verdict == Verdict::kEqual || verdict == Verdict::kExcused;
}

// The table of docs/compare.md: case -> "theirs, ours".
std::map<std::string, std::string> Documented() {
  std::map<std::string, std::string> documented;
  const char* source = std::getenv("SHADOWLINE_SOURCE_DIR");
  std::istringstream lines(source == nullptr ? "" : Read(std::filesystem::path(source) / "docs" / "compare.md"));
  for (std::string line; std::getline(lines, line);) {
    const std::vector<std::string> cells = absl::StrSplit(line, " | ");
    if (cells.size() == 4 && absl::StartsWith(cells[0], "| `") && absl::EndsWith(cells[0], "`")) {
      documented[cells[0].substr(3, cells[0].size() - 4)] = absl::StrCat(cells[1], ", ", cells[2]);
    }
  }
  return documented;
}

// Every case for which ours is not theirs is in the table with both, and those in the table are as it says.
class Verdicts {
 public:
  void Check(const std::string& id, absl::string_view theirs, absl::string_view ours) {
    ++judged_;
    const auto documented = documented_.find(id);
    if (documented == documented_.end()) {
      EXPECT_EQ(ours, theirs) << id << " is not in docs/compare.md";
    } else {
      EXPECT_EQ(documented->second, absl::StrCat(theirs, ", ", ours)) << id;
    }
  }
  size_t judged() const { return judged_; }

 private:
  const std::map<std::string, std::string> documented_ = Documented();
  size_t judged_ = 0;
};

bool SourceIsKnown() { return std::getenv("SHADOWLINE_SOURCE_DIR") != nullptr; }

TEST(SharedDataTest, WhatMustBeAcceptedIsAndWhatMustBeRefusedIsRefused) {
  std::vector<std::pair<std::string, std::string>> files = {
      {"y_made_here", R"({"a":[1,-0,1e5,"\u00e9"]})"}, {"n_made_here", "[1,]"}, {"n_made_here_too", "{\"a\":1"}};
  const auto folder = Shared("json_parsing");
  if (folder && SourceIsKnown()) {
    for (const auto& entry : std::filesystem::directory_iterator(*folder)) {
      files.emplace_back(entry.path().filename(), Read(entry.path()));
    }
    EXPECT_GT(files.size(), 280u);
  }
  Verdicts verdicts;
  for (const auto& [name, text] : files) {
    const absl::Status status = CheckJson(text);
    verdicts.Check(name, name[0] == 'y' ? "accept" : "refuse", status.ok() ? "accept" : "refuse");
    if (name[0] == 'y' && !status.ok()) {
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << name;
    }
    if (status.ok()) {
      EXPECT_EQ(Compare({true, text}, {true, absl::StrCat(" ", text)}, CompiledRules()).verdict, Verdict::kEqual)
          << name;
    } else {
      EXPECT_EQ(Compare({true, "[]"}, {true, text}, CompiledRules()).verdict, Verdict::kDiffer) << name;
      EXPECT_EQ(Compare({true, text}, {true, "[]"}, CompiledRules()).verdict, Verdict::kError) << name;
    }
  }
}

// `object` with the value of its member number `changed` replaced.
std::string WithOneChanged(const Json& object, uint32_t changed) {
  std::string text = "{";
  for (uint32_t i = 0; i < object.size; ++i) {
    if (i > 0) text.push_back(',');
    AppendQuoted(&text, object.children[i].name);
    absl::StrAppend(&text, ":", i == changed ? "\"changed\"" : object.children[i].text);
  }
  return text + "}";
}

TEST(SharedDataTest, OtherRenderingsOfARowAreNoDifference) {
  const CompiledRules rules = Compiled({.instants = {"*"}});
  const std::string made = R"({"id":1,"at":"2022-09-10T16:46:03.905795+00:00","price":0.99,"tags":["a","b"]})";
  EXPECT_TRUE(
      Same(made, R"({"tags": ["a", "b"], "id": 1, "price": 0.990, "at": "2022-09-10T12:46:03.905795-04:00"})", rules));
  const auto path = Shared("pg_renderings.jsonl");
  if (!path) return;
  const Lines lines(*path);
  EXPECT_GT(lines.documents().size(), 100u);
  size_t renderings = 0;
  for (const auto& document : lines.documents()) {
    const Json& line = document->root();
    const std::string control = Text(line, "pg_json_utc");
    for (const Json& rendering : line.items()) {
      // Some have not been rendered by all.
      if (rendering.name == "id" || rendering.type != Json::Type::kString) continue;
      const std::string where = absl::StrCat(Text(line, "id"), " ", rendering.name);
      ++renderings;
      // Equal by value; but for other time zones, where the rule is needed and counted, and without it they differ.
      const bool other_zone = rendering.name == "pg_json_newyork" || rendering.name == "pg_json_kolkata";
      const Comparison under_rules = Compare({true, control}, {true, rendering.string}, rules);
      EXPECT_EQ(under_rules.verdict, other_zone ? Verdict::kExcused : Verdict::kEqual) << where;
      EXPECT_EQ(under_rules.excuses.size(), other_zone ? 1u : 0u) << where;
      EXPECT_EQ(Compare({true, control}, {true, rendering.string}, CompiledRules()).verdict,
                other_zone ? Verdict::kDiffer : Verdict::kEqual)
          << where;
      // The rule excuses nothing else.
      const auto tree = JsonDocument::Parse(rendering.string);
      ASSERT_TRUE(tree.ok()) << where;
      for (uint32_t i = 0; i < (*tree)->root().size; ++i) {
        EXPECT_EQ(Compare({true, control}, {true, WithOneChanged((*tree)->root(), i)}, rules).differences_total, 1u)
            << where << " " << (*tree)->root().children[i].name;
      }
    }
  }
  EXPECT_GT(renderings, 600u);
}

// The rules that stand for jd's options; none: they have no counterpart.
std::optional<Rules> Counterpart(absl::string_view jd_options) {
  static const auto* const kCounterparts = new std::map<std::string, Rules, std::less<>>{
      {"[]", {}},
      {R"(["SET"])", {.arrays = {{"*", "multiset"}}}},
      {R"(["MULTISET"])", {.arrays = {{"*", "multiset"}}}},
      {R"([{"precision": 0.1}])", {.tolerance = {{"*", "0.1", ""}}}},
      {R"([{"precision": -0.1}])", {.tolerance = {{"*", "-0.1", ""}}}},
      {R"(["SET", {"precision": 0.1}])", {.arrays = {{"*", "multiset"}}, .tolerance = {{"*", "0.1", ""}}}},
      {R"(["MULTISET", {"precision": 0.1}])", {.arrays = {{"*", "multiset"}}, .tolerance = {{"*", "0.1", ""}}}},
      {R"([{"keys": ["id"]}])", {.arrays = {{"*", "keyed:id"}}}},
      {R"([{"keys": []}])", {.arrays = {{"*", "keyed:"}}}},
      {R"([{"@": ["tags"], "^": ["SET"]}])", {.arrays = {{"$.tags", "multiset"}}}},
      {R"([{"@": ["temp"], "^": [{"precision": 0.1}]}])", {.tolerance = {{"$.temp", "0.1", ""}}}},
      {R"([{"@": ["data", "values"], "^": ["SET"]}])", {.arrays = {{"$.data.values", "multiset"}}}},
      {R"([{"@": ["tags"], "^": ["SET"]}, {"@": ["scores"], "^": [{"precision": 0.1}]}])",
       {.arrays = {{"$.tags", "multiset"}}, .tolerance = {{"$.scores[*]", "0.1", ""}}}},
      {R"([{"@": ["timestamp"], "^": ["DIFF_OFF"]}])", {.ignore = {"$.timestamp"}}},
  };
  const auto found = kCounterparts->find(std::string(jd_options));
  if (found == kCounterparts->end()) return std::nullopt;
  return found->second;
}

TEST(SharedDataTest, PairsOfOtherSuitesAreJudgedAsTheyJudgeThem) {
  EXPECT_TRUE(Same(R"({"a":[1,2]})", R"({ "a": [1, 2.0] })", CompiledRules()));
  if (!Shared("json_pairs") || !SourceIsKnown()) return;
  Verdicts verdicts;
  size_t without_counterpart = 0;
  for (const char* file : {"json_pairs/list.jsonl", "json_pairs/jd_spec.jsonl"}) {
    const Lines lines(*Shared(file));
    for (const auto& document : lines.documents()) {
      const Json& line = document->root();
      const std::string a = Text(line, "a");
      const std::string b = Text(line, "b");
      const Json* options = line.Find("rule")->Find("jd_options");
      const std::optional<Rules> counterpart = Counterpart(options == nullptr ? "[]" : options->text);
      if (!counterpart) ++without_counterpart;
      const absl::StatusOr<CompiledRules> rules = CompiledRules::Compile(counterpart.value_or(Rules{}));
      const bool error = !rules.ok() || !CheckJson(a).ok() || !CheckJson(b).ok();
      verdicts.Check(Text(line, "id"), Text(line, "expect"), error ? "error" : Same(a, b, *rules) ? "equal" : "diff");
      // The library that applies the patch keeps no more digits than a double does.
      if (error || !Same(nlohmann::json::parse(b).dump(), b, CompiledRules())) continue;
      const absl::StatusOr<std::string> patch = MakePatch(a, b, CompiledRules());
      ASSERT_TRUE(patch.ok()) << patch.status();
      const std::string patched = nlohmann::json::parse(a).patch(nlohmann::json::parse(*patch)).dump();
      EXPECT_TRUE(Same(patched, b, CompiledRules())) << Text(line, "id") << "\n" << *patch << "\n" << patched;
    }
  }
  EXPECT_EQ(without_counterpart, 2u);
  EXPECT_GT(verdicts.judged(), 180u);
  for (const char* file : {"json_pairs/json_patch.jsonl", "json_pairs/merge_patch.jsonl"}) {
    const Lines lines(*Shared(file));
    for (const auto& document : lines.documents()) {
      const std::string result = Text(document->root(), "result");
      if (result.empty()) continue;
      EXPECT_TRUE(Same(result, absl::StrCat(" ", result, "\n"), CompiledRules())) << Text(document->root(), "id");
    }
  }
}

}  // namespace
}  // namespace shadowline::diff
