// What a JSONPath selects, which texts are none, and that no path and no document makes it work without end.
#include "diff/compare/jsonpath.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/random.h"
#include "diff/compare/iregexp.h"
#include "diff/compare/path.h"

namespace shadowline::diff {
namespace {

using testing::HasSubstr;

// The texts of what is selected, or the error.
std::string Selected(absl::string_view path, absl::string_view text) {
  const absl::StatusOr<JsonPath> parsed = JsonPath::Parse(path);
  if (!parsed.ok()) return std::string(parsed.status().message());
  const auto document = JsonDocument::Parse(text);
  EXPECT_TRUE(document.ok()) << document.status() << text;
  JsonPath::Work work;
  const auto nodes = parsed->Locate((*document)->root(), &work);
  if (!nodes.ok()) return std::string(nodes.status().message());
  return absl::StrJoin(*nodes, " ", [](std::string* out, const Json* node) { absl::StrAppend(out, node->text); });
}

struct Case {
  const char* path;
  const char* expected;
};

void ExpectEach(absl::string_view document, const std::vector<Case>& cases) {
  for (const Case& each : cases) EXPECT_EQ(Selected(each.path, document), each.expected) << each.path;
}

TEST(JsonPathTest, NamesAndWildcards) {
  ExpectEach(R"({"a":{"b":1,"it's":2,"q\"":3,"":4},"é":5,"☺":6,"_x9":7,"a b":8,"\t":9,"/":10})",
             {{"$.a.b", "1"},
              {"$['a']['b']", "1"},
              {"$[\"a\"]['it\\'s']", "2"},
              {"$.a[\"it's\"]", "2"},
              {"$.a['q\"']", "3"},
              {"$.a[\"q\\\"\"]", "3"},
              {"$.a['']", "4"},
              {"$.é", "5"},
              {"$['\\u00e9']", "5"},
              {"$['\\u263A']", "6"},
              {"$._x9", "7"},
              {"$['a b']", "8"},
              {"$['\\t']", "9"},
              {"$['\\/']", "10"},
              {"$.a.missing", ""},
              {"$.é.b", ""},
              {"$.a[0]", ""},
              {"$.a.*", "1 2 3 4"},
              {"$.a[*]", "1 2 3 4"},
              {" $.a", "path \" $.a\": at byte 0: expected $"},
              {"$ .a\n[ 'b' ]", "1"}});
  EXPECT_EQ(Selected("$['\\ud83d\\ude00']", R"({"😀":1})"), "1");
  EXPECT_EQ(Selected("$", "7"), "7");
  EXPECT_EQ(Selected("$.*", "7"), "");
}

TEST(JsonPathTest, IndicesAndSlices) {
  ExpectEach("[0,1,2,3,4,5,6,7,8,9]", {{"$[1]", "1"},
                                       {"$[-1]", "9"},
                                       {"$[-10]", "0"},
                                       {"$[-11]", ""},
                                       {"$[10]", ""},
                                       {"$[9007199254740991]", ""},
                                       {"$[-9007199254740991]", ""},
                                       {"$[1:3]", "1 2"},
                                       {"$[5:]", "5 6 7 8 9"},
                                       {"$[:2]", "0 1"},
                                       {"$[1:6:2]", "1 3 5"},
                                       {"$[6:1:-2]", "6 4 2"},
                                       {"$[::-1]", "9 8 7 6 5 4 3 2 1 0"},
                                       {"$[:]", "0 1 2 3 4 5 6 7 8 9"},
                                       {"$[::]", "0 1 2 3 4 5 6 7 8 9"},
                                       {"$[::0]", ""},
                                       {"$[-2:]", "8 9"},
                                       {"$[:-8]", "0 1"},
                                       {"$[-1:-3:-1]", "9 8"},
                                       {"$[-100:2]", "0 1"},
                                       {"$[100::-4]", "9 5 1"},
                                       {"$[:-100:-5]", "9 4"},
                                       {"$[3:1]", ""},
                                       {"$[ 1 : 3 : 1 ]", "1 2"},
                                       {"$[0:9007199254740991:9007199254740991]", "0"},
                                       {"$['0']", ""}});
  EXPECT_EQ(Selected("$[::-1]", "[]"), "");
  EXPECT_EQ(Selected("$[0:]", "{\"0\":1}"), "");
}

TEST(JsonPathTest, SeveralSelectorsAndDescendants) {
  ExpectEach(R"({"o":{"j":1,"k":2},"a":[5,3,[{"j":4},{"k":6}]]})",
             {{"$.o['k','j']", "2 1"},
              {"$.a[0,1]", "5 3"},
              {"$.a[0,0]", "5 5"},
              {"$.a[1,0:1]", "3 5"},
              {"$..j", "1 4"},
              {"$..[0]", "5 {\"j\":4}"},
              {"$..a[-1]..k", "6"},
              {"$..[?@.j]", "{\"j\":1,\"k\":2} {\"j\":4}"},
              {"$..['j','k']", "1 2 4 6"},
              {"$.o..*", "1 2"},
              {"$.a..[*]", "5 3 [{\"j\":4},{\"k\":6}] {\"j\":4} {\"k\":6} 4 6"}});
}

TEST(JsonPathTest, FiltersCompareByValue) {
  const char* document = R"({"n":5,"list":[3,5,1,2,4,6,{"b":"j"},{"b":"k"},{"b":{}},{"b":"kilo"},true,null,"x",[]],
      "price":[9007199254740993,9007199254740992,1.0,1e400,-0]})";
  ExpectEach(document, {{"$.list[?@>3.5]", "5 4 6"},
                        {"$.list[?@<=$.n]", "3 5 1 2 4"},
                        {"$.list[?@.b=='kilo']", "{\"b\":\"kilo\"}"},
                        {"$.list[?(@.b == \"kilo\")]", "{\"b\":\"kilo\"}"},
                        {"$.list[?@.b<'k']", "{\"b\":\"j\"}"},
                        {"$.list[?@.b]", "{\"b\":\"j\"} {\"b\":\"k\"} {\"b\":{}} {\"b\":\"kilo\"}"},
                        {"$.list[?@==null]", "null"},
                        {"$.list[?@==true]", "true"},
                        {"$.list[?@.b==$.absent && @.b==$.gone && @==1]", "1"},
                        {"$.list[?@.b=='j' || @.b=='k']", "{\"b\":\"j\"} {\"b\":\"k\"}"},
                        {"$.list[?@>1 && @<4]", "3 2"},
                        {"$.list[?@>1&&@<4||@==6]", "3 2 6"},
                        {"$.list[?@>1 && (@<4 || @==6)]", "3 2 6"},
                        {"$.list[?!(@<6) && @!='x' && !@.b && @!=true && @!=null && @!=$.list[-1]]", "6"},
                        {"$.list[?!@.b && @=='x']", "\"x\""},
                        {"$.list[?@[0]==$.none && @==$.list[13]]", "[]"},
                        {"$.price[?@==9007199254740992]", "9007199254740992"},
                        {"$.price[?@>9007199254740992]", "9007199254740993 1e400"},
                        {"$.price[?@==1]", "1.0"},
                        {"$.price[?@==0.0e5]", "-0"},
                        {"$.price[?@==-0]", "-0"},
                        {"$.list[?@ <= 'x' && @ >= 'x']", "\"x\""},
                        {"$.list[?@ < true]", ""},
                        {"$.list[?@ <= true]", "true"},
                        {"$.list[?1==1 && @==2]", "2"},
                        {"$[?@.*]", Selected("$['list','price']", document).c_str()}});
  EXPECT_EQ(Selected("$[?@.a==@.b]", R"([{"a":[1,{"x":2}],"b":[1.0,{"x":2e0}]},{"a":{},"b":[]},{}])"),
            R"({"a":[1,{"x":2}],"b":[1.0,{"x":2e0}]} {})");
  EXPECT_EQ(Selected("$[?@<-1e99999999999999999999999999999999999999999]",
                     "[-1,-2e99999999999999999999999999999999999999999,-1e999999999999999999999999999999999999999999]"),
            "-2e99999999999999999999999999999999999999999 -1e999999999999999999999999999999999999999999");
  EXPECT_EQ(Selected("$[?@>1e-99999999999999999999999999999999999999999]",
                     "[0,1e-999999999999999999999999999999999999999999,1e-9]"),
            "1e-9");
}

TEST(JsonPathTest, FunctionsGiveWhatTheySay) {
  ExpectEach(R"({"v":["a😀","ab",[1,2],{"x":1},7,null],"o":[{"a":1,"b":[1,2]},{"a":2,"b":[]}],"re":"a.","bad":"a**"})",
             {{"$.v[?length(@)==2]", "\"a😀\" \"ab\" [1,2]"},
              {"$.v[?length(@)<2]", "{\"x\":1}"},
              {"$.v[?length(@)==$.absent]", "7 null"},
              {"$.o[?count(@.b[*])==2]", R"({"a":1,"b":[1,2]})"},
              {"$.o[?count(@.*)==2 && count(@..*)>=4]", R"({"a":1,"b":[1,2]})"},
              {"$.o[?value(@..a)==2]", R"({"a":2,"b":[]})"},
              {"$.o[?value(@.*)==1]", ""},
              {"$.v[?match(@, 'a.')]", "\"a😀\" \"ab\""},
              {"$.v[?match(@,$.re)]", "\"a😀\" \"ab\""},
              {"$.v[?match(@,$.bad)]", ""},
              {"$.v[?search(@, 'b')]", "\"ab\""},
              {"$.v[?!search(@, 'b')]", "\"a😀\" [1,2] {\"x\":1} 7 null"},
              {"$.v[?match(@, 7)]", ""},
              {"$.v[?length(value($..re))==2 && @==7]", "7"}});
}

TEST(JsonPathTest, WhatIsNoPathIsRefusedWithThePlaceAndWhatWasExpected) {
  const std::vector<Case> cases = {
      {"", "at byte 0: expected $"},
      {"a", "at byte 0: expected $"},
      {"$ ", "at byte 1: expected .name"},
      {"$.", "at byte 2: expected a name or *"},
      {"$..", "at byte 3: expected a name, * or ["},
      {"$...a", "at byte 3"},
      {"$.a-b", "at byte 3: expected .name"},
      {"$.1", "at byte 2: expected a name"},
      {"$. a", "at byte 2"},
      {"$.'a'", "at byte 2"},
      {"$a", "at byte 1"},
      {"$[", "at byte 2: expected 'name', an index, a slice, * or ?filter"},
      {"$[]", "at byte 2"},
      {"$[a]", "at byte 2"},
      {"$[0", "at byte 3: expected , or ]"},
      {"$[0,]", "at byte 4"},
      {"$[,0]", "at byte 2"},
      {"$[01]", "at byte 2: expected an integer without a leading zero"},
      {"$[-0]", "at byte 2: expected an integer without a leading zero"},
      {"$[1.0]", "at byte 3"},
      {"$[+1]", "at byte 2"},
      {"$[--1]", "at byte 3"},
      {"$[9007199254740992]", "at byte 2: expected an integer from"},
      {"$[-9007199254740992]", "at byte 2: expected an integer from"},
      {"$[99999999999999999999]", "at byte 2"},
      {"$[1:2:3:4]", "at byte 7"},
      {"$[1:-0]", "at byte 4"},
      {"$[::9007199254740992]", "at byte 4"},
      {"$['a]", "at byte 5: expected the closing quote"},
      {"$['\\x']", "at byte 3: expected \\b"},
      {"$['\\\"']", "at byte 3"},
      {"$[\"\\'\"]", "at byte 3"},
      {"$['\\ud800']", "at byte 3: expected a surrogate pair"},
      {"$['\\udc00']", "at byte 3: expected a surrogate pair"},
      {"$['\\ud800\\u0041']", "at byte 3: expected a surrogate pair"},
      {"$['\\u12g4']", "at byte 7: expected four hexadecimal digits"},
      {"$['\n']", "at byte 3: expected a character"},
      {"\xff", "expected UTF-8"},
      // Filters.
      {"$[?]", "at byte 3"},
      {"$[?true]", "at byte 3: expected a comparison, a path or a call"},
      {"$[?'a']", "at byte 3"},
      {"$[?@.a &&]", "at byte 9"},
      {"$[?@.a && 1]", "at byte 10"},
      {"$[?@.a & @.b]", "at byte 7"},
      {"$[?@.a = 1]", "at byte 7"},
      {"$[?@.a == ]", "at byte 10"},
      {"$[?@.a == 1 == 2]", "at byte 12"},
      {"$[?(@.a]", "at byte 7: expected )"},
      {"$[?(@.a) == 1]", "at byte 9"},
      {"$[?!!@.a]", "at byte 4"},
      {"$[?!@.a == 1]", "at byte 8"},
      {"$[?!1]", "at byte 4"},
      {"$[?@.* == 1]", "at byte 3: expected a path that selects one value"},
      {"$[?@..a == 1]", "at byte 3"},
      {"$[?@[0:1] == 1]", "at byte 3"},
      {"$[?@['a','b'] == 1]", "at byte 3"},
      {"$[?1 == @.*]", "at byte 8"},
      {"$[?@.a == True]", "at byte 10"},
      {"$[?@.a == nul]", "at byte 10: expected true, false, null, or a call"},
      {"$[?@.a == 01]", "at byte 11"},
      {"$[?@.a == .5]", "at byte 10"},
      {"$[?@.a == 1.]", "at byte 12"},
      {"$[?@.a == 1e]", "at byte 12"},
      {"$[?@.a == [1]]", "at byte 10"},
      {"$[?@.a == {}]", "at byte 10"},
      {"$[?@.a in [1]]", "at byte 7"},
      {"$[?a.b]", "at byte 3"},
      // Functions.
      {"$[?length(@)]", "at byte 3: expected a comparison; this function gives a value"},
      {"$[?length(@.*) < 3]", "at byte 10: expected a path that selects one value"},
      {"$[?length(@, @) < 3]", "at byte 11"},
      {"$[?length() < 3]", "at byte 10"},
      {"$[?length (@) < 3]", "at byte 3"},
      {"$[?count(1) == 1]", "at byte 9: expected a path"},
      {"$[?count(value(@.*)) == 1]", "at byte 9"},
      {"$[?count(@.*)]", "at byte 3"},
      {"$[?value(@.a)]", "at byte 3"},
      {"$[?match(@.a, 'a') == true]", "at byte 3: expected a value; this function gives true or false"},
      {"$[?match(@.a)]", "at byte 12: expected , and a second argument"},
      {"$[?match(@.*, 'a')]", "at byte 9"},
      {"$[?match(@, '[')]", "at byte 12: expected an I-Regexp; at byte 1"},
      {"$[?nothing(@)]", "at byte 3: expected length, count, match, search or value"},
      {"$[?Length(@) == 1]", "at byte 3"},
  };
  for (const Case& each : cases) {
    const absl::StatusOr<JsonPath> path = JsonPath::Parse(each.path);
    ASSERT_FALSE(path.ok()) << each.path;
    EXPECT_EQ(path.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(path.status().message()), HasSubstr(each.expected)) << each.path;
  }
}

TEST(JsonPathTest, NoPathNestsWithoutEnd) {
  const auto nested = [](absl::string_view open, int depth, absl::string_view inner, absl::string_view close) {
    std::string path;
    for (int i = 0; i < depth; ++i) absl::StrAppend(&path, open);
    absl::StrAppend(&path, inner);
    for (int i = 0; i < depth; ++i) absl::StrAppend(&path, close);
    return path;
  };
  EXPECT_TRUE(JsonPath::Parse(absl::StrCat("$[?", nested("(", 30, "@.a", ")"), "]")).ok());
  EXPECT_THAT(Selected(absl::StrCat("$[?", nested("(", 400, "@.a", ")"), "]"), "1"), HasSubstr("inside each other"));
  EXPECT_THAT(Selected(absl::StrCat("$", nested("[?@", 200, "", "]")), "1"), HasSubstr("inside each other"));
  EXPECT_THAT(Selected(absl::StrCat("$[?1==", nested("length(", 90, "@", ")"), "]"), "1"),
              HasSubstr("inside each other"));
  EXPECT_THAT(Selected("$" + nested(".a", 65, "", ""), "1"), HasSubstr("at most 64 segments"));
  EXPECT_THAT(Selected("$" + nested(".a", 600, "", ""), "1"), HasSubstr("at most 1024"));
}

TEST(JsonPathTest, WorkBeyondTheLimitIsAnErrorThatSaysSo) {
  std::string text = "[";
  for (int i = 0; i < 3'000; ++i) absl::StrAppend(&text, i == 0 ? "" : ",", "[[],[],[]]");
  text += "]";
  for (const char* path : {"$[?count($..*)>0]", "$[?$..[*][*][?@.a]]", "$[?$..[?$..[?$..a]]]"}) {
    EXPECT_THAT(Selected(path, text), HasSubstr("too many steps")) << path;
  }
  EXPECT_THAT(Selected("$[?search(@, '(a|aa)*b')]", absl::StrCat("[\"", std::string(2'000'000, 'a'), "\"]")), "");
  EXPECT_THAT(Selected("$[?match('a', @)]", absl::StrCat("[\"", std::string(2'000, 'a'), "\"]")),
              HasSubstr("at most 512 bytes"));
  std::string deep = std::string(999, '[') + std::string(999, ']');
  EXPECT_EQ(Selected("$..[?@..[?@.a]]", deep), "");
}

TEST(JsonPathTest, OnlyWhatNeedsTheDocumentIsAQuery) {
  for (const char* simple : {"$", "$.a", "$['a'][0]", "$..a[*]", "$..*", "/a/*", "*"}) {
    const auto place = ParsePlace(simple);
    ASSERT_TRUE(place.ok()) << place.status();
    EXPECT_FALSE(place->query.has_value()) << simple;
    EXPECT_TRUE(PathPattern::Parse(simple).ok()) << simple;
  }
  for (const char* query : {"$[-1]", "$[0:1]", "$['a','b']", "$[?@.a]"}) {
    const auto place = ParsePlace(query);
    ASSERT_TRUE(place.ok()) << place.status();
    EXPECT_TRUE(place->query.has_value()) << query;
    EXPECT_THAT(std::string(PathPattern::Parse(query).status().message()), HasSubstr("are for ignore")) << query;
  }
}

TEST(IRegexpTest, MeansWhatTheRfcSays) {
  const auto matches = [](absl::string_view expression, absl::string_view text) {
    const auto parsed = IRegexp::Parse(expression);
    EXPECT_TRUE(parsed.ok()) << expression << ": " << parsed.status();
    return parsed.ok() && (*parsed)->Matches(text);
  };
  EXPECT_TRUE(matches("", ""));
  EXPECT_TRUE(matches("a|bc", "bc"));
  EXPECT_FALSE(matches("a|bc", "abc"));
  EXPECT_TRUE(matches("(a|b){2,3}c?", "abb"));
  EXPECT_FALSE(matches("(a|b){2}", "abb"));
  EXPECT_TRUE(matches("a{2,}", "aaaa"));
  EXPECT_TRUE(matches(".", "é"));
  EXPECT_TRUE(matches(".", "\xe2\x80\xa8"));
  EXPECT_FALSE(matches(".", "\n"));
  EXPECT_FALSE(matches(".", "\r"));
  EXPECT_TRUE(matches("[.b]", "."));
  EXPECT_FALSE(matches("[.b]", "x"));
  EXPECT_TRUE(matches("[^a-c]", "d"));
  EXPECT_FALSE(matches("[^a-c]", "b"));
  EXPECT_TRUE(matches("[-a]", "-"));
  EXPECT_TRUE(matches("[a-]", "-"));
  EXPECT_TRUE(matches("[\\]\\-\\\\^:&&]*", "]-\\^:&"));
  EXPECT_TRUE(matches("[é-ü]", "ö"));
  EXPECT_TRUE(matches("\\p{Lu}\\P{Lu}", "Жж"));
  EXPECT_TRUE(matches("[\\p{N}a]+", "1a٣"));
  EXPECT_TRUE(matches("a\\.b\\n\\t\\{", "a.b\n\t{"));
  EXPECT_TRUE(matches("^ab.*$", "abc"));
  EXPECT_TRUE(matches("/ %=\"", "/ %=\""));
  for (const char* bad :
       {"a**",   "a*?",         "*a",         "(",          ")",       "(a",
        "a)",    "[",           "[]",         "[^]",        "[a",      "a]",
        "{1}",   "a{",          "a{1",        "a{,1}",      "a{2,1}",  "\\d",
        "\\w",   "\\",          "\\u0041",    "(?:a)",      "(?i)a",   "\\p",
        "\\p{",  "\\p{X}",      "\\p{Lx}",    "\\p{Greek}", "[z-a]",   "[a--]",
        "[[a]]", "[[:alpha:]]", "[a-\\p{L}]", "a{1001}",    "\\p{Cn}", "((((a{100}){100}){100}){100})",
        "a}"}) {
    EXPECT_FALSE(IRegexp::Parse(bad).ok()) << bad;
  }
  EXPECT_FALSE(IRegexp::Parse(std::string(100, '(') + std::string(100, ')')).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(IRegexp::Parse(std::string(kMaxRegexpBytes + 1, 'a')).status()));
  EXPECT_TRUE(absl::IsResourceExhausted(IRegexp::Parse("(a{100}){100}").status()));
}

}  // namespace
}  // namespace shadowline::diff
