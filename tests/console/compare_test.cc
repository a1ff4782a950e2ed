// `shadowline compare` as scripts and people use it.
#include "console/cli/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/random.h"
#include "diff/compare/json.h"

namespace shadowline::console {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

std::string Lines(const std::string& input) {
  std::istringstream in(input);
  std::ostringstream out;
  EXPECT_EQ(CompareJsonLines(in, out), 0);
  return out.str();
}

TEST(PatchFilesTest, PrintsThePatchAndWhetherThereIsOne) {
  const std::string folder =
      std::filesystem::path(testing::TempDir()) / ("patch_" + std::to_string(base::SystemSeed()));
  std::filesystem::create_directory(folder);
  const std::string a = folder + "/a.json", b = folder + "/b.json";
  std::ofstream(a) << R"({"x":1,"y":[1,2]})";
  std::ofstream(b) << R"({"x":2,"y":[2,1]})";
  std::ostringstream out, err;
  EXPECT_EQ(PatchFiles(a, b, R"({"arrays":"multiset"})", out, err), 1);
  EXPECT_EQ(out.str(), R"([{"op":"replace","path":"/x","value":2},{"op":"replace","path":"/y/0","value":2},)"
                       R"({"op":"replace","path":"/y/1","value":1}])"
                       "\n");
  out.str("");
  EXPECT_EQ(PatchFiles(a, b, R"({"ignore":["$.x","$.y"]})", out, err), 0);
  EXPECT_EQ(out.str(), "[]\n");
  EXPECT_EQ(err.str(), "");
  EXPECT_EQ(PatchFiles(a, folder, "", out, err), 2);
  std::filesystem::remove_all(folder);
}

TEST(CompareJsonLinesTest, EachLineGetsItsVerdict) {
  EXPECT_EQ(Lines(R"({"id":1,"a":"{\"x\":1}","b":"{\"x\":1.0}"}
{"id":"two","a":"{\"x\":1}","b":"{\"x\":2,\"y\":\"q\"}"}

{"id":null,"a":"{}","b":"{\"x\":1,\"x\":1}"}
)"),
            R"({"id":1,"verdict":"equal","differences":[]}
{"id":"two","verdict":"differ","differences":[{"pointer":"/x","kind":"value","a":"1","b":"2"},{"pointer":"/y","kind":"extra","a":null,"b":"\"q\""}],"fingerprint":"a5dc31ec22b65ef6"}
{"id":null,"verdict":"differ","differences":[{"pointer":"","kind":"shape","a":"{}","b":"{\"x\":1,\"x\":1}"}],"fingerprint":"42f60c6bc6aafcc0","error":"the candidate cannot be compared: at byte 13: expected each member of the object that ends here once, not a duplicate"}
)");
}

TEST(CompareJsonLinesTest, RulesAreUnderstoodInTheirShortForms) {
  const auto verdict = [](const std::string& a, const std::string& b, const std::string& rules) {
    std::string line = "{\"id\":0,\"a\":";
    diff::AppendQuoted(&line, a);
    line += ",\"b\":";
    diff::AppendQuoted(&line, b);
    const std::string out = Lines(line + ",\"rules\":" + rules + "}");
    return out.find("\"verdict\":\"equal\"") != std::string::npos && out.find("\"excuses\":{") != std::string::npos;
  };
  EXPECT_TRUE(verdict("[1,2]", "[2,1]", R"({"arrays":"multiset"})"));
  EXPECT_TRUE(verdict(R"({"t":[1,2]})", R"({"t":[2,1]})", R"({"arrays":{"$.t":"multiset"}})"));
  EXPECT_TRUE(verdict(R"({"a":1})", R"({"a":2})", R"({"ignore":["$.a"]})"));
  EXPECT_TRUE(verdict(R"({"a":1})", R"({"a":2})", R"({"ignore":"/a"})"));
  EXPECT_TRUE(verdict("1", "1.05", R"({"tolerance":0.1})"));
  EXPECT_TRUE(verdict("1", "1.05", R"({"tolerance":"0.1"})"));
  EXPECT_TRUE(verdict("1", "1.05", R"({"tolerance":{"relative":"0.1"}})"));
  EXPECT_TRUE(verdict("[1]", "[1.05]", R"({"tolerance":{"$[0]":0.1}})"));
  EXPECT_TRUE(verdict("[1]", "[1.05]", R"({"tolerance":{"$[0]":{"absolute":0.1}}})"));
  EXPECT_TRUE(verdict("[1]", "[1.05]", R"({"tolerance":[{"path":"$[0]","absolute":"0.1"}]})"));
  EXPECT_FALSE(verdict("[1]", "[1.05]", R"({"tolerance":[{"path":"$[1]","absolute":"0.1"}]})"));
  EXPECT_TRUE(verdict("\"2022-01-01T00:00:00Z\"", "\"2022-01-01 01:00:00+01\"", R"({"instants":true})"));
  EXPECT_TRUE(verdict(R"({"a":null})", "{}", R"({"null_is_absent":["$.a"]})"));
  EXPECT_TRUE(verdict("{}", R"({"a":1})", R"({"extensible":["$"]})"));
}

TEST(CompareJsonLinesTest, SidesMayBeValuesAndHaveTheirOtherNames) {
  EXPECT_THAT(Lines(R"({"id":1,"control":{"x":[1]},"candidate":{"x":[1.0]}})"), HasSubstr("\"verdict\":\"equal\""));
  EXPECT_THAT(Lines(R"({"id":1,"control":"{\"x\":1}","candidate":{"x":2}})"),
              HasSubstr(R"({"pointer":"/x","kind":"value","control":"1","candidate":"2"})"));
  EXPECT_THAT(Lines(R"({"id":1,"control":"1"})"), HasSubstr("\"error\":\"candidate: expected a JSON text"));
}

TEST(CompareJsonLinesTest, DifferencesOfOneKindHaveOneFingerprint) {
  const auto fingerprint = [](const std::string& line) {
    const std::string out = Lines(line);
    const size_t at = out.find("\"fingerprint\":\"");
    return at == std::string::npos ? "" : out.substr(at + 15, 16);
  };
  const std::string one = fingerprint(R"({"a":[{"x":1}],"b":[{"x":2}]})");
  EXPECT_EQ(one.size(), 16u);
  EXPECT_EQ(fingerprint(R"({"a":[{"x":0},{"x":1}],"b":[{"x":0},{"x":7}]})"), one);
  EXPECT_NE(fingerprint(R"({"a":[{"y":1}],"b":[{"y":2}]})"), one);
  EXPECT_EQ(fingerprint(R"({"a":[],"b":[]})"), "");
}

TEST(CompareJsonLinesTest, RulesThatContradictEachOtherOrAreNotUnderstoodAreErrorsThatNameThem) {
  const auto error = [](const std::string& rules) { return Lines("{\"a\":[1],\"b\":[1],\"rules\":" + rules + "}"); };
  EXPECT_THAT(error(R"({"arrays":{"$.a":"list","/a":"multiset"}})"),
              HasSubstr("arrays $.a list: it contradicts arrays /a multiset"));
  EXPECT_THAT(error(R"({"ignore":["$"],"instants":["$.at"]})"), HasSubstr("ignore $: it excuses everything"));
  EXPECT_THAT(error(R"({"tolerance":-1})"), HasSubstr("tolerance * absolute: expected zero or more"));
  EXPECT_THAT(error(R"({"ignored":[]})"), HasSubstr("rules: ignored: expected ignore, arrays"));
  EXPECT_THAT(error(R"({"ignore":["$[?@.a = 1]"]})"), HasSubstr("at byte 7: expected , or ]"));
  EXPECT_THAT(error(R"({"instants":["$[-1]"]})"), HasSubstr("are for ignore"));
  EXPECT_THAT(Lines(R"({"a":[{"d":1,"v":1}],"b":[{"d":1,"v":2}],"rules":{"ignore":["$[?@.d==1].v"]}})"),
              HasSubstr(R"("excuses":{"ignore $[?@.d==1].v":1})"));
}

TEST(CompareJsonLinesTest, ALineThatCannotBeJudgedIsAnErrorWithItsId) {
  for (const char* line : {
           R"({"id":7,"a":"[1","b":"[1"})",
           R"({"id":7,"a":"[1","b":"[1]"})",
           R"({"id":7,"a":"[1]","b":"[1"})",
           R"({"id":7,"a":"1","b":"1","control":1})",
           R"({"id":7,"a":"1","candidate":"1"})",
           R"({"id":7,"a":"1"})",
           R"({"id":7,"a":"1","b":"1","rules":[]})",
           R"({"id":7,"a":"1","b":"1","rules":{"ignored":["$"]}})",
           R"({"id":7,"a":"1","b":"1","rules":{"ignore":["a b"]}})",
           R"({"id":7,"a":"1","b":"1","rules":{"ignore":[7]}})",
           R"({"id":7,"a":"1","b":"1","rules":{"arrays":"set"}})",
           R"({"id":7,"a":"1","b":"1","rules":{"tolerance":true}})",
           R"({"id":7,"a":"1","b":"1","rules":{"tolerance":{"$":{"abs":1}}}})",
       }) {
    const std::string out = Lines(line);
    EXPECT_THAT(out, HasSubstr(R"({"id":7,"verdict":"error","differences":[],"error":)")) << line;
    EXPECT_THAT(out, EndsWith("}\n"));
  }
  for (const char* line : {"{", "7", "\xff", "[]", "{}"}) {
    EXPECT_THAT(Lines(line), HasSubstr(R"({"id":null,"verdict":"error")")) << line;
  }
}

TEST(CompareJsonLinesTest, ATextThatNoUtf8CanHoldIsNotALostLine) {
  EXPECT_THAT(Lines(R"({"id":7,"a":"\"x\"","b":"\"\ud800\""})"), HasSubstr(R"("id":7,"verdict":"error")"));
  EXPECT_THAT(Lines(R"({"id":7,"a":"\"x\"","b":"\"\\ud800\""})"), HasSubstr("\"kind\":\"shape\""));
  EXPECT_THAT(Lines(R"({"id":7,"a":"1","b":"1","rules":{"\ud800":1}})"), HasSubstr("rules: ???: expected"));
  EXPECT_THAT(Lines(R"({"id":7,"a":"\"x\"","b":"\ud83d\ude00"})"), HasSubstr("b is not JSON: at byte 0"));
}

TEST(CompareJsonLinesTest, NoInputCrashesItAndEveryLineIsAnswered) {
  constexpr uint64_t kSeed = 99;
  SCOPED_TRACE(kSeed);
  base::Random random(kSeed);
  const std::string good =
      R"({"id":7,"a":"{\"x\":[1,2,{\"y\":-1.5e3}]}","b":"{\"x\":[2,1,{\"y\":null}]}","rules":{"arrays":{"$..x":"multiset"},"tolerance":{"$..y":"1e2"}}})";
  std::string input;
  size_t lines = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string line = good;
    for (uint64_t n = random.Below(4) + 1; n > 0; --n) {
      const size_t at = random.Below(line.size());
      switch (random.Below(3)) {
        case 0:
          line[at] = static_cast<char>(random.Below(256));
          break;
        case 1:
          line.erase(at, random.Below(9));
          break;
        default:
          line.insert(at, line.substr(random.Below(line.size()), random.Below(9)));
      }
    }
    for (char& c : line) {
      if (c == '\n') c = ' ';
    }
    input += line + "\n";
    ++lines;
  }
  std::istringstream out(Lines(input));
  size_t answers = 0;
  for (std::string line; std::getline(out, line); ++answers) {
    const auto document = diff::JsonDocument::Parse(line, diff::LoneSurrogates::kKeep);
    ASSERT_TRUE(document.ok()) << line;
    ASSERT_NE((*document)->root().Find("verdict"), nullptr);
  }
  EXPECT_EQ(answers, lines);
}

class CompareFilesTest : public testing::Test {
 protected:
  CompareFilesTest() { std::filesystem::create_directories(folder_); }
  ~CompareFilesTest() override { std::filesystem::remove_all(folder_); }

  std::string File(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  int Run(const std::string& a, const std::string& b, const std::string& rules = "") {
    return CompareFiles(a, b, rules, out_, err_);
  }

  const std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) / ("compare_" + std::to_string(base::SystemSeed()));
  std::ostringstream out_, err_;
};

TEST_F(CompareFilesTest, EqualDifferentAndExcused) {
  const std::string a = File("a", R"({"x":1,"at":"1"})");
  EXPECT_EQ(Run(a, File("same", R"({"at":"1","x":1.0})")), 0);
  EXPECT_THAT(out_.str(), HasSubstr("equal"));
  const std::string b = File("b", R"({"x":1,"at":"2"})");
  EXPECT_EQ(Run(a, b), 1);
  EXPECT_THAT(out_.str(), HasSubstr("/at: value\n  - \"1\"\n  + \"2\"\n1 difference\n"));
  EXPECT_EQ(Run(a, b, R"({"ignore":["$.at"]})"), 0);
  EXPECT_THAT(out_.str(), HasSubstr("excused by ignore $.at: 1\nequal under the rules\n"));
}

TEST_F(CompareFilesTest, MessagesAreComparedByField) {
  // message Quote { int64 id = 1; string note = 2; }, in the package shop.
  const std::string set = File("set",
                               "\x0a\x3a\x0a\x07q.proto\x12\x04shop\x22\x21\x0a\x05Quote"
                               "\x12\x0a\x0a\x02id\x18\x01\x20\x01\x28\x03"
                               "\x12\x0c\x0a\x04note\x18\x02\x20\x01\x28\x09"
                               "\x62\x06proto3");
  const std::string a = File("a", "\x08\x07\x12\x01x");
  const auto run = [&](const std::string& b, const std::string& rules = "") {
    out_.str("");
    err_.str("");
    return CompareMessages(a, b, set, "shop.Quote", rules, out_, err_);
  };
  EXPECT_EQ(run(File("same", "\x12\x01x\x08\x07")), 0) << err_.str();
  EXPECT_EQ(run(File("b", "\x08\x08\x12\x01x")), 1) << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr("/id: value\n  - 7\n  + 8\n1 difference\n"));
  EXPECT_EQ(run(File("b", "\x08\x08\x12\x01x"), R"({"ignore":["$.id"]})"), 0);
  EXPECT_EQ(run(File("cut", "\x08\x07\x12\x05x")), 1);
  EXPECT_THAT(out_.str(), HasSubstr("(whole): shape"));
  EXPECT_THAT(out_.str(), HasSubstr("cut: the bytes are no shop.Quote"));
  EXPECT_EQ(CompareMessages(File("cut", "\x08"), a, set, "shop.Quote", "", out_, err_), 2);
  EXPECT_EQ(CompareMessages(a, a, set, "shop.Absent", "", out_, err_), 2);
  EXPECT_THAT(err_.str(), HasSubstr("no message `shop.Absent`"));
  EXPECT_EQ(CompareMessages(a, a, a, "shop.Quote", "", out_, err_), 2);
}

TEST_F(CompareFilesTest, WhatCannotBeJudgedSaysWhy) {
  const std::string a = File("a", "1");
  EXPECT_EQ(Run(a, (folder_ / "absent").string()), 2);
  EXPECT_THAT(err_.str(), HasSubstr("absent: cannot be read"));
  EXPECT_EQ(Run(File("bad", "{"), a), 2);
  EXPECT_THAT(err_.str(), HasSubstr("a cannot be compared: at byte 1"));
  EXPECT_EQ(Run(a, a, "{"), 2);
  EXPECT_EQ(Run(a, a, R"({"ignore":["x"]})"), 2);
  EXPECT_THAT(err_.str(), HasSubstr("ignore: path \"x\""));
}

}  // namespace
}  // namespace shadowline::console
