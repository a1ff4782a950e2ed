// The comparison on texts that nobody here wrote, where they are present (SHADOWLINE_SHARED, or `shared` beside the
// source tree), and on a few made here where they are not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "diff/compare/compare.h"
#include "diff/compare/json.h"

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

TEST(SharedDataTest, WhatMustBeAcceptedIsAndWhatMustBeRefusedIsRefused) {
  std::vector<std::pair<std::string, std::string>> files = {
      {"y_made_here", R"({"a":[1,-0,1e5,"\u00e9"]})"}, {"n_made_here", "[1,]"}, {"n_made_here_too", "{\"a\":1"}};
  if (const auto folder = Shared("json_parsing")) {
    for (const auto& entry : std::filesystem::directory_iterator(*folder)) {
      files.emplace_back(entry.path().filename(), Read(entry.path()));
    }
    EXPECT_GT(files.size(), 280u);
  }
  // Deliberate: an object that says two things about one member is refused (docs/compare.md).
  const std::set<std::string> refused_here = {"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"};
  for (const auto& [name, text] : files) {
    const absl::Status status = CheckJson(text);
    if (refused_here.count(name) > 0) {
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << name;
    } else if (name[0] == 'y') {
      EXPECT_TRUE(status.ok()) << name << ": " << status;
      EXPECT_EQ(Compare({true, text}, {true, absl::StrCat(" ", text)}, CompiledRules()).verdict, Verdict::kEqual)
          << name;
    } else if (name[0] == 'n') {
      EXPECT_FALSE(status.ok()) << name;
      EXPECT_EQ(Compare({true, "[]"}, {true, text}, CompiledRules()).verdict, Verdict::kDiffer) << name;
      EXPECT_EQ(Compare({true, text}, {true, "[]"}, CompiledRules()).verdict, Verdict::kError) << name;
    }
  }
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
  for (const auto& document : lines.documents()) {
    const Json& line = document->root();
    const std::string control = Text(line, "pg_json_utc");
    for (const Json& rendering : line.items()) {
      if (rendering.name == "id" || rendering.type != Json::Type::kString) continue;
      const Comparison result = Compare({true, control}, {true, rendering.string}, rules);
      EXPECT_NE(result.verdict, Verdict::kDiffer) << Text(line, "id") << " " << rendering.name;
      EXPECT_NE(result.verdict, Verdict::kError) << Text(line, "id") << " " << rendering.name;
      // Without the rule the other zones differ: it was needed, and it was counted.
      const bool other_zone = rendering.name == "pg_json_newyork" || rendering.name == "pg_json_kolkata";
      EXPECT_EQ(result.verdict, other_zone ? Verdict::kExcused : Verdict::kEqual)
          << Text(line, "id") << " " << rendering.name;
    }
  }
}

TEST(SharedDataTest, PairsOfOtherSuitesAreJudgedAsTheyJudgeThem) {
  EXPECT_TRUE(Same(R"({"a":[1,2]})", R"({ "a": [1, 2.0] })", CompiledRules()));
  size_t judged = 0;
  for (const char* file : {"json_pairs/list.jsonl", "json_pairs/jd_spec.jsonl"}) {
    const auto path = Shared(file);
    if (!path) continue;
    const Lines lines(*path);
    for (const auto& document : lines.documents()) {
      const Json& line = document->root();
      const std::string id = Text(line, "id");
      const std::string a = Text(line, "a");
      const std::string b = Text(line, "b");
      const std::string expect = Text(line, "expect");
      const Json* options = line.Find("rule")->Find("jd_options");
      const std::string rule = options == nullptr ? "[]" : std::string(options->text);
      if (rule != "[]") continue;  // The options of that suite are its own; those with a counterpart follow below.
      // The first reads numbers as doubles (0.1 and 0.10000000000000001), the second by how they are written (310.1e-1
      // and 31.01).
      if (id == "jd/core/floating_point_precision") {
        EXPECT_FALSE(Same(a, b, CompiledRules()));
      } else if (id == "jsonassert/21") {
        EXPECT_TRUE(Same(a, b, CompiledRules()));
      } else if (expect == "error") {
        EXPECT_TRUE(!CheckJson(a).ok() || !CheckJson(b).ok()) << id;
      } else {
        EXPECT_EQ(Same(a, b, CompiledRules()), expect == "equal") << id << "\n" << a << "\n" << b;
      }
      ++judged;
    }
  }
  for (const char* file : {"json_pairs/json_patch.jsonl", "json_pairs/merge_patch.jsonl"}) {
    const auto path = Shared(file);
    if (!path) continue;
    const Lines lines(*path);
    for (const auto& document : lines.documents()) {
      const std::string result = Text(document->root(), "result");
      if (result.empty()) continue;
      EXPECT_TRUE(Same(result, absl::StrCat(" ", result, "\n"), CompiledRules())) << Text(document->root(), "id");
      ++judged;
    }
  }
  std::cout << "pairs judged: " << judged << "\n";
  if (Shared("json_pairs")) {
    EXPECT_GT(judged, 200u);
  }
}

TEST(SharedDataTest, OptionsOfOtherSuitesThatHaveACounterpartAgree) {
  const auto path = Shared("json_pairs/jd_spec.jsonl");
  if (!path) return;
  const std::vector<std::pair<std::string, Rules>> counterparts = {
      {R"(["MULTISET"])", {.arrays = {{"*", "multiset"}}}},
      {R"([{"precision": 0.1}])", {.tolerance = {{"*", "0.1", ""}}}},
      {R"([{"keys": ["id"]}])", {.arrays = {{"*", "keyed:id"}}}},
      {R"([{"@": ["tags"], "^": ["SET"]}])", {.arrays = {{"$.tags", "multiset"}}}},
      {R"([{"@": ["temp"], "^": [{"precision": 0.1}]}])", {.tolerance = {{"$.temp", "0.1", ""}}}},
      {R"([{"@": ["data", "values"], "^": ["SET"]}])", {.arrays = {{"$.data.values", "multiset"}}}},
      {R"([{"@": ["timestamp"], "^": ["DIFF_OFF"]}])", {.ignore = {"$.timestamp"}}},
  };
  const Lines lines(*path);
  size_t judged = 0;
  for (const auto& document : lines.documents()) {
    const Json& line = document->root();
    const std::string options(line.Find("rule")->Find("jd_options")->text);
    for (const auto& [theirs, ours] : counterparts) {
      if (options != theirs) continue;
      EXPECT_EQ(Same(Text(line, "a"), Text(line, "b"), Compiled(ours)), Text(line, "expect") == "equal")
          << Text(line, "id");
      ++judged;
    }
  }
  EXPECT_GT(judged, 8u);
}

}  // namespace
}  // namespace shadowline::diff
