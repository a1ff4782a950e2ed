// Compare, with its digests, its shared parts and its reader that jumps from place to place, says of every small text
// what a byte by byte reader and a walk over everything say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "diff/compare/compare.h"
#include "diff/compare/json.h"
#include "tests/diff/byte_parser.h"
#include "tests/diff/random_json.h"

namespace shadowline::diff {
namespace {

using base::Random;
using Verdict = Comparison::Verdict;

std::vector<CompiledRules> SomeRules() {
  std::vector<CompiledRules> all = {CompiledRules()};
  for (const Rules& rules : {
           Rules{.arrays = {{"*", "multiset"}}},
           Rules{.arrays = {{"*", "keyed:id"}}, .instants = {"*"}},
           Rules{.ignore = {"$..at", "/a/*"}, .tolerance = {{"*", "0.5", ""}}, .null_is_absent = {"*"}},
           Rules{.ignore = {"$..[?@.id == 1 || @ == 2]"}, .arrays = {{"*", "multiset"}}},
           Rules{.arrays = {{"*", "multiset"}}, .tolerance = {{"*", "", "0.1"}}, .extensible = {"*"}},
       }) {
    absl::StatusOr<CompiledRules> compiled = CompiledRules::Compile(rules);
    EXPECT_TRUE(compiled.ok()) << compiled.status();
    if (compiled.ok()) all.push_back(*compiled);
  }
  return all;
}

std::string Said(const Comparison& comparison) {
  std::string said =
      absl::StrCat("verdict ", static_cast<int>(comparison.verdict), " of ", comparison.differences_total);
  for (const Difference& difference : comparison.differences) {
    absl::StrAppend(&said, "\n", difference.pointer, " ", KindName(difference.kind), " ", difference.control, " | ",
                    difference.candidate);
  }
  for (const std::string& pattern : comparison.patterns) absl::StrAppend(&said, "\n", pattern);
  for (const auto& [rule, count] : comparison.excuses) absl::StrAppend(&said, "\n", rule, ": ", count);
  return said;
}

void ExpectTheSame(const std::string& control, const std::string& candidate, const CompiledRules& rules) {
  const Comparison fast = Compare({true, control}, {true, candidate}, rules);
  if (control == candidate) {
    EXPECT_EQ(fast.verdict, Verdict::kEqual);
    return;
  }
  const auto a = ByteDocument::Parse(control);
  const auto b = ByteDocument::Parse(candidate);
  if (!a.ok()) {
    EXPECT_EQ(fast.verdict, Verdict::kError) << control << "\n" << a.status();
  } else if (!b.ok()) {
    EXPECT_THAT(fast.patterns, testing::ElementsAre(": shape")) << candidate << "\n" << b.status();
  } else {
    EXPECT_EQ(Said(fast), Said(CompareSlowly((*a)->root(), (*b)->root(), rules))) << control << "\n" << candidate;
  }
}

TEST(CompareOracleTest, TextsAndTheirLikesAreJudgedAsTheSlowWayJudgesThem) {
  const std::vector<CompiledRules> all_rules = SomeRules();
  int equal = 0, different = 0;
  for (uint64_t seed = 1; seed <= 6000; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const std::string control = RandomJson(&random);
    const auto tree = ByteDocument::Parse(control);
    std::vector<std::string> candidates = {RandomJson(&random)};
    if (tree.ok()) {
      candidates.push_back(WriteAnew((*tree)->root(), &random));
      EXPECT_EQ(Compare({true, control}, {true, candidates.back()}, CompiledRules()).verdict, Verdict::kEqual)
          << control << "\n"
          << candidates.back();
      candidates.push_back(WriteChanged((*tree)->root(), &random));
      candidates.push_back(WriteChanged((*tree)->root(), &random));
    }
    for (const std::string& candidate : candidates) {
      for (const CompiledRules& rules : all_rules) {
        ExpectTheSame(control, candidate, rules);
        if (testing::Test::HasFailure()) return;
      }
      const bool same = Compare({true, control}, {true, candidate}, CompiledRules()).verdict == Verdict::kEqual;
      ++(same ? equal : different);
    }
  }
  EXPECT_GT(equal, 6000);
  EXPECT_GT(different, 6000);
}

// One or two bytes put in, taken out or replaced by what parsers stumble over.
std::string Mutated(std::string text, Random* random) {
  static constexpr char kBytes[] = "{}[]:,\"\\ \n\t\r0123456789.eE+-tfnul/\x00\x01\x0c\x1a\x7f\xc3\xa9\xff\xed\xa0";
  for (uint64_t changes = 1 + random->Below(2); changes > 0; --changes) {
    const size_t at = random->Below(text.size() + 1);
    const char byte = kBytes[random->Below(sizeof(kBytes) - 1)];
    switch (random->Below(3)) {
      case 0:
        text.insert(at, 1, byte);
        break;
      case 1:
        text.erase(at, 1 + random->Below(2));
        break;
      default:
        if (at < text.size()) text[at] = byte;
    }
  }
  return text;
}

TEST(CompareOracleTest, BrokenTextsAreRefusedAsTheSlowWayRefusesThem) {
  int refused = 0, accepted = 0;
  for (uint64_t seed = 1; seed <= 40'000; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const std::string control = RandomJson(&random, 3);
    const std::string candidate = Mutated(control, &random);
    const absl::Status slow = ByteDocument::Parse(candidate).status();
    // Exactly as long as the text, so that a look behind its end is seen.
    const std::unique_ptr<char[]> exact(new char[candidate.size()]);
    std::copy(candidate.begin(), candidate.end(), exact.get());
    const absl::Status fast = CheckJson(absl::string_view(exact.get(), candidate.size()));
    ASSERT_EQ(fast.ok(), slow.ok()) << candidate << "\n" << fast << "\n" << slow;
    ++(fast.ok() ? accepted : refused);
    ExpectTheSame(control, candidate, CompiledRules());
    ExpectTheSame(candidate, control, CompiledRules());
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(refused, 10'000);
  EXPECT_GT(accepted, 1'000);
}

TEST(CompareOracleTest, DigestsAreEqualForEqualValuesAndForNoOthers) {
  // Each line is one value, written in several ways.
  const std::vector<std::vector<std::string>> values = {
      {"null"},
      {"true"},
      {"false"},
      {"0", "-0", "0.000", "0e7", "-0e-99999999999999999999999999999999999999"},
      {"1", "1.0", "10e-1", "0.1E1", "1000000000000000000000e-21"},
      {"10", "1e1", "1.0e+1", "100e-1"},
      {"-1", "-1.0"},
      {"1e400", "10e399", "0.01e402"},
      {"1234567890123456789", "1234567890123456789.000", "12345678901234567890e-1"},
      {"12345678901234567890", "1234567890123456789e1"},
      {"12345678901234567890123", "12345678901234567890123.0", "1234567890123456789012.3e1"},
      {"1e99999999999999999999", "10e99999999999999999998"},
      {"1e9999999999999999999999999999999999999999"},
      {"\"\"", " \"\" "},
      {"\"1\"", "\"\\u0031\""},
      {"\"null\""},
      {"\"\\u0000\""},
      {"\"\\u0000\\u0000\""},
      {"[]", "[ ]"},
      {"{}", "{ }"},
      {"[[]]"},
      {"[{}]"},
      {"[null]"},
      {"[1]"},
      {"[1,1]"},
      {"[1,2]"},
      {"[2,1]"},
      {"[[1],2]"},
      {"[1,[2]]"},
      {"[[1,2]]"},
      {"{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", "{\"\\u0062\":2.0,\"a\":1}"},
      {"{\"a\":2,\"b\":1}"},
      {"{\"a\":1}"},
      {"{\"a\":1,\"b\":null}"},
      {"{\"a\":{\"b\":1}}"},
      {"[\"a\",1]"},
      {"\"exactly 16 bytes\"", "\"exactly\\u002016 bytes\""},
      {"\"exactly 17 bytes.\"", "\"exactly 17 bytes\\u002e\""},
      {"\"e\xcc\x81\""},
      {"\"\xc3\xa9\"", "\"\\u00e9\""},
  };
  std::vector<std::pair<size_t, Digest>> seen;
  for (size_t i = 0; i < values.size(); ++i) {
    for (const std::string& text : values[i]) {
      const auto document = JsonDocument::Parse(text);
      ASSERT_TRUE(document.ok()) << text << document.status();
      const Digest digest = (*document)->root().digest;
      for (const auto& [j, other] : seen) EXPECT_EQ(digest == other, i == j) << text << " and " << values[j][0];
      seen.emplace_back(i, digest);
    }
  }
}

}  // namespace
}  // namespace shadowline::diff
