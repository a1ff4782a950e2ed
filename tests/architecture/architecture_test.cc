// Keeps the rooms apart. Reads every source of the tree: who includes whom, through which door a library comes in,
// where time, threads and randomness come from; and keeps documents true to the tree: metrics are listed, links lead
// somewhere. The checks are pure functions over texts, so that planted offenders prove them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace shadowline {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// ---- The rules
// -------------------------------------------------------------------------------------------------------------

// A room is a prefix of a path; the longest one that fits counts. "proto" stands for generated messages.
struct Room {
  const char* prefix;
  std::vector<const char*> may_know;  // Prefixes of what it includes, beside itself.
};

const std::vector<Room>& Rooms() {
  static const auto* rooms = new std::vector<Room>{
      {"base/", {}},
      {"diff/", {"base/"}},
      {"flags/", {"base/", "proto/"}},
      {"cache/", {"base/", "proto/"}},
      // What is wrong with a compare rule is said when it is applied.
      {"cache/catalog/", {"base/", "proto/", "cache/", "diff/compare/", "diff/message/"}},
      {"cache/external/", {"base/", "proto/", "cache/", "diff/message/"}},
      {"rollout/", {"base/", "diff/", "flags/"}},
      {"server/read/", {"base/", "proto/", "diff/", "cache/", "flags/"}},
      {"server/postgres/", {"base/"}},
      // The network and the wiring know every room of the server.
      {"server/", {"base/", "proto/", "diff/", "cache/", "flags/", "rollout/"}},
      {"console/", {"base/", "proto/", "diff/compare/", "diff/message/"}},
      {"tests/", {""}},
  };
  return *rooms;
}

// Decisions: the same inputs give the same answer, so they get neither a clock nor anything that runs.
constexpr const char* kPureRooms[] = {"cache/capture/assembler", "cache/capture/pgoutput", "cache/capture/progress",
                                      "cache/capture/tag_map",   "cache/external/",        "diff/compare/",
                                      "diff/message/",           "diff/verdict/",          "rollout/gate/",
                                      "rollout/machine/"};
constexpr const char* kImpure[] = {"base/clock.h", "base/event_loop.h", "base/executor.h", "base/log.h",
                                   "base/mutex.h", "base/metrics.h",    "base/random.h"};

// Whose headers come in through which doors. A door that does not end in '/' is one file, with any extension.
struct Library {
  const char* name;
  std::vector<const char*> includes;
  std::vector<const char*> doors;
};

const std::vector<Library>& Libraries() {
  static const auto* libraries = new std::vector<Library>{
      {"gRPC", {"grpc/", "grpc++/", "grpcpp/"}, {"server/rpc/", "server/replica", "console/cli/"}},
      {"hiredis", {"hiredis/"}, {"cache/redis/"}},
      {"OpenSSL", {"openssl/"}, {"base/hash", "cache/redis/tls", "diff/evidence/seal"}},
      {"HTTP", {"httplib.h"}, {"server/rpc/"}},
      {"YAML", {"yaml-cpp/"}, {"cache/catalog/", "server/options/"}},
      {"spdlog", {"spdlog/"}, {"base/log"}},
      {"Prometheus", {"prometheus/"}, {"base/metrics"}},
      {"RE2", {"re2/"}, {"diff/compare/iregexp"}},
      {"CLI11", {"CLI/"}, {"console/cli/main", "server/options/"}},
  };
  return *libraries;
}
// libpqxx: in the rooms that are named for it, wherever they are.
constexpr absl::string_view kPostgres = "postgres/";

// What the language offers and one door takes.
struct Facility {
  const char* what;
  std::vector<const char*> names;          // Anywhere.
  std::vector<const char*> calls;          // Functions of the C library: only where they are called.
  std::vector<const char*> constructions;  // Types that may be held and not made.
  std::vector<const char*> doors;
};

const std::vector<Facility>& Facilities() {
  static const auto* facilities = new std::vector<Facility>{
      {"time comes from base::Clock",
       {"absl::Now", "absl::GetCurrentTimeNanos", "system_clock", "steady_clock", "high_resolution_clock"},
       {"clock_gettime", "gettimeofday", "time"},
       {},
       {"base/clock", "tests/"}},
      {"nothing sleeps; Executor::PostAfter waits",
       {"absl::SleepFor", "sleep_for", "sleep_until"},
       {"sleep", "usleep", "nanosleep", "clock_nanosleep"},
       {},
       // These wait for other processes, or pace a load in real time.
       {"tests/support/", "tests/demo/", "tests/bench/", "tests/pagila/"}},
      {"threads come from base/executor.h",
       {"std::jthread", "std::async"},
       {"pthread_create"},
       {"std::thread"},
       {"base/executor", "tests/"}},
      {"randomness comes from base::Random",
       {"std::random_device", "std::mt19937", "std::mt19937_64", "std::default_random_engine", "absl::BitGen"},
       {"rand", "srand"},
       {},
       {"base/random"}},
  };
  return *facilities;
}

// ---- Reading sources
// ---------------------------------------------------------------------------------------------------------

struct Source {
  std::string path;  // From the top of the tree.
  std::string text;
};

struct Tokens {
  std::string uncommented;            // Comments are blank.
  std::string code;                   // Comments and literals are blank.
  std::vector<std::string> literals;  // What is between quotes, escapes as written.
};

Tokens Tokenize(absl::string_view text) {
  Tokens tokens;
  tokens.uncommented = tokens.code = std::string(text);
  const auto blank = [](std::string* target, size_t from, size_t to) {
    for (size_t i = from; i < to; ++i) {
      if ((*target)[i] != '\n') (*target)[i] = ' ';
    }
  };
  const auto end_of = [&](absl::string_view mark, size_t from) {
    const size_t at = text.find(mark, from);
    return at == absl::string_view::npos ? text.size() : at;
  };
  for (size_t i = 0; i < text.size();) {
    const absl::string_view rest = text.substr(i);
    size_t end = i + 1;
    if (absl::StartsWith(rest, "//") || absl::StartsWith(rest, "/*")) {
      end = rest[1] == '/' ? end_of("\n", i) : std::min(text.size(), end_of("*/", i + 2) + 2);
      blank(&tokens.uncommented, i, end);
      blank(&tokens.code, i, end);
    } else if (absl::StartsWith(rest, "R\"") && (i == 0 || !absl::ascii_isalnum(text[i - 1]))) {
      const size_t open = end_of("(", i);
      const std::string close = absl::StrCat(")", text.substr(i + 2, open - i - 2), "\"");
      const size_t last = end_of(close, open);
      if (open < last) tokens.literals.emplace_back(text.substr(open + 1, last - open - 1));
      end = std::min(text.size(), last + close.size());
      blank(&tokens.code, i, end);
    } else if (rest[0] == '"' || (rest[0] == '\'' && (i == 0 || !absl::ascii_isalnum(text[i - 1])))) {
      while (end < text.size() && text[end] != rest[0]) end += text[end] == '\\' ? 2 : 1;
      end = std::min(end, text.size());
      if (rest[0] == '"') tokens.literals.emplace_back(text.substr(i + 1, end - i - 1));
      end = std::min(text.size(), end + 1);
      blank(&tokens.code, i, end);
    }
    i = end;
  }
  return tokens;
}

std::vector<std::string> Includes(const Tokens& tokens) {
  std::vector<std::string> includes;
  for (absl::string_view line : absl::StrSplit(tokens.uncommented, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (!absl::ConsumePrefix(&line, "#")) continue;
    line = absl::StripLeadingAsciiWhitespace(line);
    if (!absl::ConsumePrefix(&line, "include")) continue;
    line = absl::StripAsciiWhitespace(line);
    if (line.size() > 2) includes.emplace_back(line.substr(1, line.find_first_of(">\"", 1) - 1));
  }
  return includes;
}

bool InName(char c) { return absl::ascii_isalnum(c) || c == '_'; }

// Whether `name` stands in `code` as a whole name at a place that `fits(before, after)` accepts.
template <typename Fits>
bool Stands(absl::string_view code, absl::string_view name, Fits fits) {
  for (size_t at = 0; (at = code.find(name, at)) != absl::string_view::npos; ++at) {
    const absl::string_view before = code.substr(0, at);
    const absl::string_view after = code.substr(at + name.size());
    if ((before.empty() || !InName(before.back())) && (after.empty() || !InName(after[0])) && fits(before, after)) {
      return true;
    }
  }
  return false;
}

bool HasName(absl::string_view code, absl::string_view name) {
  return Stands(code, name, [](absl::string_view, absl::string_view) { return true; });
}

// A call of the C library's function, not of a member or of another scope's; not a declaration (`Duration time(...)`).
bool HasCall(absl::string_view code, absl::string_view function) {
  return Stands(code, function, [](absl::string_view before, absl::string_view after) {
    if (!absl::StartsWith(absl::StripLeadingAsciiWhitespace(after), "(")) return false;
    const bool global = absl::ConsumeSuffix(&before, "std::") || absl::ConsumeSuffix(&before, "::");
    if (!before.empty() && global) return !InName(before.back());
    before = absl::StripTrailingAsciiWhitespace(before);
    if (before.empty() || absl::EndsWith(before, "return")) return true;
    return !InName(before.back()) && before.back() != '.' && before.back() != '>' && before.back() != '&';
  });
}

// `type(`, `type name(`, or the same with a brace.
bool HasConstruction(absl::string_view code, absl::string_view type) {
  return Stands(code, type, [](absl::string_view, absl::string_view after) {
    after = absl::StripLeadingAsciiWhitespace(after);
    while (!after.empty() && InName(after[0])) after.remove_prefix(1);
    after = absl::StripLeadingAsciiWhitespace(after);
    return absl::StartsWith(after, "(") || absl::StartsWith(after, "{");
  });
}

// ---- The checks: each returns one line for each offence
// ----------------------------------------------------------------------

const Room* RoomOf(absl::string_view path) {
  const Room* found = nullptr;
  for (const Room& room : Rooms()) {
    if (absl::StartsWith(path, room.prefix) &&
        (found == nullptr || absl::string_view(room.prefix).size() > absl::string_view(found->prefix).size())) {
      found = &room;
    }
  }
  return found;
}

// What an include names in this tree: itself, "proto/..." for generated code, nothing for a library's header.
std::optional<std::string> InTree(const std::string& include) {
  if (absl::StartsWith(include, "shadowline/v1/")) return absl::StrCat("proto/", include);
  for (const Room& room : Rooms()) {
    if (absl::StartsWith(include, room.prefix)) return include;
  }
  return std::nullopt;
}

bool IsDoor(const std::string& path, const std::vector<const char*>& doors) {
  return std::any_of(doors.begin(), doors.end(), [&](absl::string_view door) {
    if (!absl::StartsWith(path, door)) return false;
    return absl::EndsWith(door, "/") || path[door.size()] == '.' || path[door.size()] == '_';
  });
}

std::vector<std::string> Offences(const Source& source) {
  std::vector<std::string> offences;
  const auto offend = [&](absl::string_view what) { offences.push_back(absl::StrCat(source.path, ": ", what)); };
  const Room* room = RoomOf(source.path);
  if (room == nullptr) {
    offend("is in no room; see docs/architecture.md");
    return offences;
  }
  const bool product = !absl::StartsWith(source.path, "tests/");
  const Tokens tokens = Tokenize(source.text);

  for (const std::string& include : Includes(tokens)) {
    const std::optional<std::string> target = InTree(include);
    const auto may = [&](const char* prefix) { return absl::StartsWith(*target, prefix); };
    if (target.has_value() && !may(room->prefix) && std::none_of(room->may_know.begin(), room->may_know.end(), may)) {
      offend(absl::StrCat("includes ", include, ", and ", room->prefix, " does not know that room"));
    }
    for (const absl::string_view pure : kPureRooms) {
      // The keys of its digests are drawn by the process; no verdict depends on them.
      if (source.path == "diff/compare/digest.h" && include == "base/random.h") continue;
      if (absl::StartsWith(source.path, pure) && std::count(std::begin(kImpure), std::end(kImpure), include) > 0) {
        offend(absl::StrCat("includes ", include, ", and ", pure, " is pure"));
      }
    }
    if (!product) continue;
    const bool generated_service = absl::EndsWith(include, ".grpc.pb.h");
    for (const Library& library : Libraries()) {
      const bool its = std::any_of(library.includes.begin(), library.includes.end(),
                                   [&](const char* prefix) { return absl::StartsWith(include, prefix); }) ||
                       (generated_service && absl::string_view(library.name) == "gRPC");
      if (its && !IsDoor(source.path, library.doors)) {
        offend(absl::StrCat("includes ", include, ", and ", library.name, " comes in through ",
                            absl::StrJoin(library.doors, ", "), " only"));
      }
    }
    if ((absl::StartsWith(include, "pqxx/") || include == "libpq-fe.h") &&
        !absl::StrContains(absl::StrCat("/", source.path), absl::StrCat("/", kPostgres))) {
      offend(absl::StrCat("includes ", include, ", and PostgreSQL comes in through rooms named postgres only"));
    }
  }

  for (const Facility& facility : Facilities()) {
    if (IsDoor(source.path, facility.doors)) continue;
    const auto check = [&](const std::vector<const char*>& words, bool (*has)(absl::string_view, absl::string_view)) {
      for (const char* word : words) {
        if (has(tokens.code, word)) offend(absl::StrCat("uses ", word, ", and ", facility.what));
      }
    };
    check(facility.names, HasName);
    check(facility.calls, HasCall);
    check(facility.constructions, HasConstruction);
  }
  return offences;
}

// Names of the metrics that a source makes. A file that makes metrics writes no other text that looks like one.
std::set<std::string> MetricsIn(const Source& source) {
  std::set<std::string> names;
  const Tokens tokens = Tokenize(source.text);
  const bool makes =
      HasName(tokens.code, "AddCounter") || HasName(tokens.code, "AddGauge") || HasName(tokens.code, "AddHistogram");
  if (!makes) return names;
  for (const std::string& literal : tokens.literals) {
    const bool name = absl::StartsWith(literal, "shadowline_") &&
                      std::all_of(literal.begin(), literal.end(),
                                  [](char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_'; });
    if (name) names.insert(literal);
  }
  return names;
}

// Names in backquotes in a document.
std::set<std::string> MetricsListed(const std::string& document) {
  std::set<std::string> names;
  const std::vector<std::string> parts = absl::StrSplit(document, '`');
  for (size_t i = 1; i < parts.size(); i += 2) {
    if (absl::StartsWith(parts[i], "shadowline_")) names.insert(parts[i]);
  }
  return names;
}

// Targets of the links [text](target) that are files, relative to the top of the tree.
std::vector<std::string> Links(const Source& document) {
  std::vector<std::string> targets;
  for (size_t at = 0; (at = document.text.find("](", at)) != std::string::npos;) {
    at += 2;
    std::string target = document.text.substr(at, document.text.find(')', at) - at);
    target = target.substr(0, target.find('#'));
    if (target.empty() || absl::StrContains(target, "://") || absl::StartsWith(target, "mailto:")) continue;
    targets.push_back((fs::path(document.path).parent_path() / target).lexically_normal().string());
  }
  return targets;
}

// ---- The tree
// ------------------------------------------------------------------------------------------------------------------

fs::path Top() { return std::getenv("SHADOWLINE_SOURCE_DIR"); }

// Files with one of the extensions; folders that start with "build" or a dot are not the tree.
std::vector<Source> Read(const std::set<std::string>& extensions) {
  std::vector<Source> sources;
  for (auto it = fs::recursive_directory_iterator(Top()); it != fs::recursive_directory_iterator(); ++it) {
    const std::string name = it->path().filename().string();
    if (it->is_directory() && (absl::StartsWith(name, ".") || (it.depth() == 0 && absl::StartsWith(name, "build")))) {
      it.disable_recursion_pending();
      continue;
    }
    if (!it->is_regular_file() || extensions.count(it->path().extension().string()) == 0) continue;
    std::ifstream file(it->path(), std::ios::binary);
    sources.push_back({fs::relative(it->path(), Top()).string(), {std::istreambuf_iterator<char>(file), {}}});
  }
  std::sort(sources.begin(), sources.end(), [](const Source& a, const Source& b) { return a.path < b.path; });
  return sources;
}

TEST(ArchitectureTest, RoomsAndDoorsAreKept) {
  const std::vector<Source> sources = Read({".cc", ".h"});
  ASSERT_GT(sources.size(), 60u);
  std::vector<std::string> offences;
  for (const Source& source : sources) {
    for (std::string& offence : Offences(source)) offences.push_back(std::move(offence));
  }
  EXPECT_THAT(offences, IsEmpty()) << absl::StrJoin(offences, "\n");
}

TEST(ArchitectureTest, MetricsAreThoseOfTheManual) {
  std::set<std::string> made;
  std::set<std::string> listed;
  for (const Source& source : Read({".cc", ".h"})) {
    if (!absl::StartsWith(source.path, "tests/")) made.merge(MetricsIn(source));
  }
  for (const Source& document : Read({".md"})) {
    if (document.path == "docs/metrics.md") listed = MetricsListed(document.text);
  }
  EXPECT_GT(made.size(), 5u);
  EXPECT_EQ(made, listed);
}

TEST(ArchitectureTest, LinksInDocumentsLeadToFiles) {
  size_t links = 0;
  for (const Source& document : Read({".md"})) {
    for (const std::string& target : Links(document)) {
      ++links;
      EXPECT_TRUE(fs::exists(Top() / target)) << document.path << " links to " << target;
    }
  }
  EXPECT_GT(links, 5u);
}

// ---- The checks themselves
// -----------------------------------------------------------------------------------------------------

TEST(PlantedTest, RoomsThatDoNotKnowEachOther) {
  const auto offences = [](const std::string& path, const std::string& include) {
    return Offences({path, absl::StrCat("#include \"", include, "\"\n")}).size();
  };
  EXPECT_EQ(offences("base/x.cc", "diff/compare/compare.h"), 1u);
  EXPECT_EQ(offences("diff/evidence/x.cc", "shadowline/v1/read.pb.h"), 1u);
  EXPECT_EQ(offences("cache/fill/x.h", "flags/board.h"), 1u);
  EXPECT_EQ(offences("rollout/x.cc", "server/read/reader.h"), 1u);
  EXPECT_EQ(offences("rollout/x.cc", "cache/store.h"), 1u);
  EXPECT_EQ(offences("server/read/x.cc", "rollout/commands.h"), 1u);
  EXPECT_EQ(offences("server/read/x.cc", "server/rpc/lane.h"), 1u);
  EXPECT_EQ(offences("console/cli/x.cc", "diff/evidence/evidence.h"), 1u);
  EXPECT_EQ(offences("console/cli/x.cc", "server/rpc/lane.h"), 1u);
  EXPECT_EQ(offences("server/rpc/x.cc", "tests/sim/sim.h"), 1u);
  EXPECT_EQ(offences("helpers/x.cc", "base/clock.h"), 1u);
  EXPECT_EQ(offences("rollout/machine/x.cc", "base/clock.h"), 1u);
  EXPECT_EQ(offences("cache/capture/tag_map.cc", "base/log.h"), 1u);

  EXPECT_EQ(offences("server/rpc/x.cc", "rollout/commands.h"), 0u);
  EXPECT_EQ(offences("server/main.cc", "server/read/reader.h"), 0u);
  EXPECT_EQ(offences("console/cli/x.cc", "diff/compare/compare.h"), 0u);
  EXPECT_EQ(offences("rollout/controller/x.cc", "base/clock.h"), 0u);
  EXPECT_EQ(offences("tests/rollout/x.cc", "server/read/reader.h"), 0u);
}

TEST(PlantedTest, LibrariesThroughTheWrongDoor) {
  const auto offences = [](const std::string& path, const std::string& include) {
    return Offences({path, absl::StrCat("#  include <", include, ">  // why\n")}).size();
  };
  EXPECT_EQ(offences("server/read/x.cc", "grpcpp/grpcpp.h"), 1u);
  EXPECT_EQ(offences("rollout/x.cc", "pqxx/pqxx"), 1u);
  EXPECT_EQ(offences("cache/capture/stream.cc", "libpq-fe.h"), 1u);
  EXPECT_EQ(offences("cache/fill/x.cc", "hiredis/hiredis.h"), 1u);
  EXPECT_EQ(offences("server/read/x.cc", "prometheus/counter.h"), 1u);
  EXPECT_EQ(offences("cache/key/x.cc", "shadowline/v1/read.grpc.pb.h"), 1u);
  EXPECT_EQ(offences("console/cli/verbs.cc", "CLI/CLI.hpp"), 1u);

  EXPECT_EQ(offences("server/rpc/x.cc", "grpcpp/grpcpp.h"), 0u);
  EXPECT_EQ(offences("rollout/postgres/x.cc", "pqxx/pqxx"), 0u);
  EXPECT_EQ(offences("cache/capture/postgres/stream.cc", "libpq-fe.h"), 0u);
  EXPECT_EQ(offences("base/postgres/session.cc", "pqxx/pqxx"), 0u);
  EXPECT_EQ(offences("cache/redis/x.cc", "hiredis/hiredis.h"), 0u);
  EXPECT_EQ(offences("tests/server/x.cc", "grpcpp/grpcpp.h"), 0u);
}

TEST(PlantedTest, TimeThreadsAndRandomnessFromElsewhere) {
  const auto offences = [](const std::string& path, const std::string& code) { return Offences({path, code}).size(); };
  EXPECT_EQ(offences("cache/fill/x.cc", "auto t = absl::Now();"), 1u);
  EXPECT_EQ(offences("cache/fill/x.cc", "auto t = std::chrono::steady_clock::now();"), 1u);
  EXPECT_EQ(offences("cache/fill/x.cc", "absl::SleepFor(absl::Seconds(1));"), 1u);
  EXPECT_EQ(offences("cache/fill/x.cc", "std::this_thread::sleep_for(d);"), 1u);
  EXPECT_EQ(offences("cache/fill/x.cc", "::sleep (1);"), 1u);
  EXPECT_EQ(offences("cache/fill/x.cc", "std::thread worker([] {});"), 1u);
  EXPECT_EQ(offences("cache/fill/x.cc", "std::thread([] {}).detach();"), 1u);
  EXPECT_EQ(offences("cache/fill/x.cc", "std::thread worker{Run};"), 1u);
  EXPECT_EQ(offences("cache/fill/x.cc", "std::mt19937 generator;"), 1u);
  EXPECT_EQ(offences("cache/fill/x.cc", "int x = rand();"), 1u);
  EXPECT_EQ(offences("tests/cache/x.cc", "usleep(10);"), 1u);

  EXPECT_EQ(offences("base/clock.cc", "return absl::Now();"), 0u);
  EXPECT_EQ(offences("base/executor.cc", "std::thread worker([] {});"), 0u);
  EXPECT_EQ(offences("tests/support/x.cc", "usleep(10);"), 0u);
  EXPECT_EQ(offences("cache/fill/x.h", "std::thread thread_; std::thread::id id;"), 0u);
  EXPECT_EQ(offences("cache/fill/x.cc", "// absl::Now() would jump.\n/* rand() */ const char* t = \"absl::Now()\";"),
            0u);
  EXPECT_EQ(offences("cache/fill/x.cc", "clock.rand(); operand(1); my::sleep(2); absl::Nowhere();"), 0u);
  EXPECT_EQ(offences("cache/fill/x.cc", "const int n = 1'000; absl::Now(); const char c = 'x';"), 1u);
}

TEST(PlantedTest, MetricsAndLinks) {
  EXPECT_THAT(MetricsIn({"x.cc", "metrics->AddCounter(\"shadowline_a_total\", \"Help.\"); // \"shadowline_b\""}),
              ElementsAre("shadowline_a_total"));
  EXPECT_THAT(MetricsIn({"x.cc", "const char k[] = \"shadowline_changed\";"}), IsEmpty());
  EXPECT_THAT(MetricsListed("| `shadowline_a_total` | and shadowline_b, `other` |"), ElementsAre("shadowline_a_total"));
  EXPECT_THAT(Links({"docs/a.md", "[x](b.md#part) [y](../base/clock.h) [z](https://example.org/) [w](#here)"}),
              ElementsAre("docs/b.md", "base/clock.h"));
  EXPECT_THAT(Offences({"cache/x.cc", "#include \"flags/board.h\"\n"}),
              ElementsAre(HasSubstr("does not know that room")));
}

}  // namespace
}  // namespace shadowline
