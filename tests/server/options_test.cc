// What an operator may configure, and what they are told where it is wrong.
#include "server/options/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/support/private_servers.h"

namespace shadowline::server {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class OptionsTest : public testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = folder_.path() + "/" + name;
    std::ofstream(path) << text;
    return path;
  }

  absl::StatusOr<CommandLine> Read(std::vector<std::string> arguments) {
    return ReadCommandLine(arguments, [this](const std::string& name) -> std::optional<std::string> {
      const auto value = environment_.find(name);
      return value == environment_.end() ? std::nullopt : std::optional<std::string>(value->second);
    });
  }

  absl::StatusOr<CommandLine> ReadFile(const std::string& yaml, std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.begin(), {"--config", Write("server.yaml", yaml)});
    return Read(std::move(arguments));
  }

  // The findings about `yaml`, without the folder of the file.
  std::vector<std::string> Findings(const std::string& yaml, std::vector<std::string> arguments = {}) {
    return Lines(ReadFile(yaml, std::move(arguments)));
  }

  std::vector<std::string> Lines(const absl::StatusOr<CommandLine>& result) {
    if (result.ok()) return {};
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
    std::vector<std::string> lines = absl::StrSplit(std::string(result.status().message()), '\n');
    for (std::string& line : lines) {
      if (const size_t at = line.find(folder_.path() + "/"); at == 0) line.erase(0, folder_.path().size() + 1);
    }
    return lines;
  }

  support::ScratchFolder folder_{"options_test"};
  std::map<std::string, std::string> environment_{{"SHADOWLINE_SOURCE_URL", "host=/run dbname=app"}};
};

TEST_F(OptionsTest, ASourceIsAllThatHasToBeSaid) {
  const auto result = Read({"--source.url", "postgresql://app@db/app"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->action, CommandLine::Action::kRun);
  const Options& options = result->options;
  EXPECT_EQ(options.listen.ToString(), "127.0.0.1:7500");
  EXPECT_EQ(options.http_listen.ToString(), "127.0.0.1:7580");
  EXPECT_FALSE(options.replica_name.empty());
  EXPECT_GE(options.lanes, 1u);
  EXPECT_EQ(options.state.url, "postgresql://app@db/app");
}

TEST_F(OptionsTest, EveryFieldCanBeSetInTheFile) {
  environment_.clear();
  const std::string catalog = Write("catalog.yaml", "version: 1\n");
  const auto result = ReadFile(absl::StrCat(R"(
listen: "[::1]:0"
http_listen: 0.0.0.0:80
replica_name: r1
source: {url: host=a, connections: 3, queue: 4, wait: 2s, search_path: app, role: reader}
state: {url: host=b, connections: 5}
redis: {address: "unix:/run/redis.sock", user: u, password: p, db: 2, timeout: 20ms, max_outstanding: 6}
lanes: 7
verification: {connections: 8, queue: 9, budget_per_second: 10, redaction_secret: 0123456789abcdef, max_rounds: 11}
flags: {lease: 3s, poll: 1s}
controller: {enabled: false, tick: 2s}
capture: {enabled: false, slot: slot_2}
evidence: {flush: 500ms, lapse: 5s}
drain_timeout: 30s
limits: {max_message_bytes: 65536}
log_level: debug
catalog: )",
                                            catalog, "\n"));
  ASSERT_TRUE(result.ok()) << result.status();
  const Options& options = result->options;
  EXPECT_EQ(options.listen.host, "::1");
  EXPECT_EQ(options.listen.port, 0);
  EXPECT_EQ(options.listen.ToString(), "[::1]:0");
  EXPECT_EQ(options.http_listen.port, 80);
  EXPECT_EQ(options.replica_name, "r1");
  EXPECT_EQ(options.source.url, "host=a");
  EXPECT_EQ(options.source.connections, 3u);
  EXPECT_EQ(options.source.queue, 4u);
  EXPECT_EQ(options.source.wait, absl::Seconds(2));
  EXPECT_EQ(options.source.search_path, "app");
  EXPECT_EQ(options.source.role, "reader");
  EXPECT_EQ(options.state.url, "host=b");
  EXPECT_EQ(options.state.connections, 5u);
  EXPECT_EQ(options.redis.socket, "/run/redis.sock");
  EXPECT_EQ(options.redis.user, "u");
  EXPECT_EQ(options.redis.password, "p");
  EXPECT_EQ(options.redis.db, 2);
  EXPECT_EQ(options.redis.timeout, absl::Milliseconds(20));
  EXPECT_EQ(options.redis.max_outstanding, 6u);
  EXPECT_EQ(options.lanes, 7u);
  EXPECT_EQ(options.verification.connections, 8u);
  EXPECT_EQ(options.verification.queue, 9u);
  EXPECT_EQ(options.verification.budget_per_second, 10u);
  EXPECT_EQ(options.verification.redaction_secret, "0123456789abcdef");
  EXPECT_EQ(options.verification.max_rounds, 11);
  EXPECT_EQ(options.flags.lease, absl::Seconds(3));
  EXPECT_EQ(options.flags.poll, absl::Seconds(1));
  EXPECT_FALSE(options.controller.enabled);
  EXPECT_FALSE(options.capture.enabled);
  EXPECT_EQ(options.capture.slot, "slot_2");
  EXPECT_EQ(options.controller.tick, absl::Seconds(2));
  EXPECT_EQ(options.evidence.flush, absl::Milliseconds(500));
  EXPECT_EQ(options.evidence.lapse, absl::Seconds(5));
  EXPECT_EQ(options.catalog, catalog);
  EXPECT_EQ(options.drain_timeout, absl::Seconds(30));
  EXPECT_EQ(options.max_message_bytes, 65536u);
  EXPECT_EQ(options.log_level, base::Level::kDebug);
}

TEST_F(OptionsTest, AFlagWinsOverTheEnvironmentAndThatOverTheFile) {
  const std::string yaml =
      "source: {url: host=file, connections: 2}\nstate: {url: host=file}\nredis: {password: file}\n";
  environment_ = {{"SHADOWLINE_SOURCE_URL", "host=environment"}, {"SHADOWLINE_STATE_URL", "host=environment"}};
  const auto result = ReadFile(yaml, {"--source.url=host=flag", "--source.connections", "3"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->options.source.url, "host=flag");
  EXPECT_EQ(result->options.source.connections, 3u);
  EXPECT_EQ(result->options.state.url, "host=environment");
  EXPECT_EQ(result->options.redis.password, "file");
}

TEST_F(OptionsTest, ASecretMayBeReferredTo) {
  environment_ = {{"APP_DATABASE", "host=elsewhere"}};
  const std::string password = Write("password", "hush\n");
  const auto result =
      ReadFile(absl::StrCat("source: {url: env:APP_DATABASE}\nredis: {password: \"file:", password, "\"}\n"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->options.source.url, "host=elsewhere");
  EXPECT_EQ(result->options.redis.password, "hush");
}

TEST_F(OptionsTest, ASecretThatIsNotThereIsFound) {
  EXPECT_THAT(
      Findings("source:\n  url: env:NOWHERE\nredis:\n  password: file:/nonexistent/password\n"),
      ElementsAre(
          "server.yaml:2:8: source.url: environment variable \"NOWHERE\" is not set; expected it to hold the value",
          "server.yaml:4:13: redis.password: file \"/nonexistent/password\" cannot be opened; expected it to "
          "hold the value"));
}

TEST_F(OptionsTest, NoFindingShowsASecret) {
  const auto lines =
      Findings("source: {url: hunter2}\nverification: {redaction_secret: hunter2}\n", {"--state.url", "hunter2"});
  EXPECT_EQ(lines.size(), 3u);
  for (const std::string& line : lines) EXPECT_THAT(line, Not(HasSubstr("hunter2")));
}

struct BadField {
  std::string yaml;
  std::string finding;
};

class BadFieldTest : public OptionsTest, public testing::WithParamInterface<BadField> {};

TEST_P(BadFieldTest, IsFoundWithItsPlace) {
  EXPECT_THAT(Findings(GetParam().yaml), ElementsAre("server.yaml:" + GetParam().finding));
}

constexpr char kDuration[] = "; expected a duration with its unit (250ms, 30s, 5m, 48h), from ";
constexpr char kAddress[] = " is no address; expected host:port or [ipv6]:port, port from 0 to 65535";
constexpr char kRedis[] = " is no address; expected unix:/path, host:port or [ipv6]:port, port from 1 to 65535";

INSTANTIATE_TEST_SUITE_P(
    All, BadFieldTest,
    testing::Values(
        BadField{"listen: 7500", absl::StrCat("1:9: listen: \"7500\"", kAddress)},
        BadField{"listen: localhost:70000", absl::StrCat("1:9: listen: \"localhost:70000\"", kAddress)},
        BadField{"listen: localhost:-1", absl::StrCat("1:9: listen: \"localhost:-1\"", kAddress)},
        BadField{"listen: ::1:7500", absl::StrCat("1:9: listen: \"::1:7500\"", kAddress)},
        BadField{"http_listen: ''", absl::StrCat("1:14: http_listen: \"\"", kAddress)},
        BadField{"replica_name: two words",
                 "1:15: replica_name: \"two words\" is no name; expected 1 to 128 printable ASCII characters without "
                 "spaces"},
        BadField{"source: {url: nonsense}",
                 "1:15: source.url: is no connection string; expected postgresql://user@host/database or host=... "
                 "dbname=..."},
        BadField{"source:\n  connections: many",
                 "2:16: source.connections: \"many\" is not a whole number; expected a whole number from 1 to 1000"},
        BadField{"source: {connections: 0}",
                 "1:23: source.connections: 0 is out of range; expected a whole number from 1 to 1000"},
        BadField{"source: {queue: -5}",
                 "1:17: source.queue: -5 is out of range; expected a whole number from 1 to 1000000"},
        BadField{"source: {connections: 2.5}",
                 "1:23: source.connections: \"2.5\" is not a whole number; expected a whole number from 1 to 1000"},
        BadField{"redis: {address: /run/redis.sock}", absl::StrCat("1:18: redis.address: \"/run/redis.sock\"", kRedis)},
        BadField{"redis: {address: redis:0}", absl::StrCat("1:18: redis.address: \"redis:0\"", kRedis)},
        BadField{"redis: {address: unix:redis.sock}",
                 "1:18: redis.address: \"unix:redis.sock\" has no absolute path; expected unix:/path/to/socket"},
        BadField{"redis: {db: 5000}", "1:13: redis.db: 5000 is out of range; expected a whole number from 0 to 1023"},
        BadField{"redis: {timeout: 50}",
                 absl::StrCat("1:18: redis.timeout: \"50\" is not a duration", kDuration, "1ms to 10s")},
        BadField{"redis: {timeout: 1h}",
                 absl::StrCat("1:18: redis.timeout: 1h is out of range", kDuration, "1ms to 10s")},
        BadField{"evidence: {key: hunter2}",
                 "1:17: evidence.key: is too short to be a key; expected at least 32 bytes"},
        BadField{"evidence: {old_keys: hunter2}",
                 "1:22: evidence.old_keys: holds one that is too short to be a key; expected at least 32 bytes each"},
        BadField{"verification: {redaction_secret: short}",
                 "1:34: verification.redaction_secret: is too short to be a secret; expected at least 16 bytes"},
        BadField{"controller: {enabled: maybe}",
                 "1:23: controller.enabled: \"maybe\" is no switch; expected true or false"},
        BadField{"log_level: loud", "1:12: log_level: \"loud\" is no level; expected debug, info, warning or error"},
        BadField{"catalog: /nonexistent/catalog.yaml",
                 "1:10: catalog: \"/nonexistent/catalog.yaml\" cannot be read; expected a catalog file"},
        BadField{"flags: {poll: 2s}",
                 "1:15: flags.poll: 2s would let the lease lapse; expected less than flags.lease (2s)"},
        BadField{
            "evidence: {flush: 20s}",
            "1:19: evidence.flush: 20s would make a live replica look dead; expected less than evidence.lapse (10s)"},
        BadField{"flags: {leese: 2s}", "1:9: flags.leese: is no field; expected one of flags.lease, flags.poll"},
        BadField{"flags: 2s", "1:8: flags: is not a map; expected fields: flags.lease, flags.poll"},
        BadField{"listen: [a, b]", "1:9: listen: has no plain value; expected HOST:PORT"},
        BadField{"log_level: info\nlog_level: debug", "2:1: log_level: is given twice; expected it once"}));

TEST_F(OptionsTest, RedisHasOneShape) {
  const auto cluster = ReadFile("redis: {cluster: [\"a:1\", \"[::1]:2\"]}\n");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  ASSERT_EQ(cluster->options.redis.cluster.size(), 2u);
  EXPECT_EQ(cluster->options.redis.cluster[1].ToString(), "[::1]:2");
  const auto flag = Read({"--redis.cluster", "a:1, b:2"});
  ASSERT_TRUE(flag.ok()) << flag.status();
  EXPECT_EQ(flag->options.redis.cluster.size(), 2u);
  const auto sentinel =
      ReadFile("redis: {sentinel: {addresses: [\"a:1\"], master: main, user: u, password: p}, password: q}\n");
  ASSERT_TRUE(sentinel.ok()) << sentinel.status();
  EXPECT_EQ(sentinel->options.redis.sentinel.addresses[0].ToString(), "a:1");
  EXPECT_EQ(sentinel->options.redis.sentinel.master, "main");
  EXPECT_EQ(sentinel->options.redis.sentinel.user, "u");
  EXPECT_EQ(sentinel->options.redis.sentinel.password, "p");

  for (const auto& [file, finding] : std::vector<std::pair<std::string, std::string>>{
           {"redis: {address: \"a:1\", cluster: \"b:1\"}", "redis.cluster: is given beside redis.address"},
           {"redis: {address: \"a:1\", sentinel: {addresses: \"b:1\", master: m}}",
            "redis.sentinel.addresses: is given beside redis.address"},
           {"redis: {cluster: \"a:1\", sentinel: {addresses: \"b:1\", master: m}}",
            "redis.cluster: is given beside redis.sentinel.addresses"},
           {"redis: {cluster: \"a:1\", db: 1}", "redis.db: 1 is not there"},
           {"redis: {cluster: [\"a:1\", b]}", "redis.cluster: \"b\" is no address"},
           {"redis: {cluster: [[\"a:1\"]]}", "redis.cluster: has no plain value"},
           {"redis: {sentinel: {addresses: \"a:1\"}}", "redis.sentinel.master: is missing"},
           {"redis: {sentinel: {master: m}}", "redis.sentinel.master: is of no use without redis.sentinel.addresses"},
           {"redis: {sentinel: {password: p}}", "redis.sentinel.password: is of no use"}}) {
    EXPECT_THAT(Findings(file), ElementsAre(HasSubstr(finding))) << file;
  }
}

TEST_F(OptionsTest, TlsOfRedisIsNeverSilentlyOff) {
  const std::string pem = Write("some.pem", "");
  const auto result = ReadFile(absl::StrCat("redis: {tls: {enabled: true, ca: ", pem, ", certificate: ", pem,
                                            ", key: ", pem, ", server_name: redis.test}}\n"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->options.redis.tls.enabled);
  EXPECT_EQ(result->options.redis.tls.ca, pem);
  EXPECT_EQ(result->options.redis.tls.certificate, pem);
  EXPECT_EQ(result->options.redis.tls.key, pem);
  EXPECT_EQ(result->options.redis.tls.server_name, "redis.test");
  for (const auto& [file, finding] : std::vector<std::pair<std::string, std::string>>{
           {absl::StrCat("redis: {tls: {ca: ", pem, "}}"), "redis.tls.ca: is of no use without TLS"},
           {"redis: {tls: {server_name: a}}", "redis.tls.server_name: is of no use without TLS"},
           {absl::StrCat("redis: {tls: {enabled: true, key: ", pem, "}}"), "redis.tls.key: is of no use alone"},
           {absl::StrCat("redis: {tls: {enabled: true, certificate: ", pem, "}}"),
            "redis.tls.certificate: is of no use alone; expected redis.tls.key"},
           {"redis: {tls: {enabled: true, ca: /nonexistent}}", "redis.tls.ca: \"/nonexistent\" cannot be read"},
           {"redis: {tls: {enabled: perhaps}}", "redis.tls.enabled: \"perhaps\" is no switch"},
           {"redis: {address: \"unix:/run/r\", tls: {enabled: true}}", "redis.tls.enabled: Redis speaks no TLS"}}) {
    EXPECT_THAT(Findings(file), ElementsAre(HasSubstr(finding))) << file;
  }
}

TEST_F(OptionsTest, AnUnknownFieldIsToldWhatThereIs) {
  EXPECT_THAT(Findings("port: 1\n"),
              ElementsAre(AllOf(
                  StartsWith("server.yaml:1:1: port: is no field; expected one of capture, catalog, certification, controller, "),
                  HasSubstr("listen"))));
}

TEST_F(OptionsTest, WhatIsNoYamlIsFoundWithItsPlace) {
  EXPECT_THAT(Findings("source:\n  url: [\n"),
              ElementsAre(AllOf(StartsWith("server.yaml:"), HasSubstr("is not YAML"))));
}

TEST_F(OptionsTest, AFileThatIsNotThereIsFound) {
  EXPECT_THAT(Lines(Read({"--config", "/nonexistent.yaml"})),
              ElementsAre("/nonexistent.yaml: cannot be opened; expected a YAML file"));
}

TEST_F(OptionsTest, AMissingSourceIsFound) {
  environment_.clear();
  EXPECT_THAT(Lines(Read({})),
              ElementsAre("configuration: source.url: is missing; expected a connection string, in the file, in "
                          "SHADOWLINE_SOURCE_URL or as --source.url"));
}

TEST_F(OptionsTest, BadFlagsAreFoundByTheirNames) {
  EXPECT_THAT(
      Lines(Read({"--lanes", "0", "--flags.poll=2", "--bogus", "3", "stray"})),
      ElementsAre("--bogus: is no flag; see --help", "\"stray\": is not expected here; expected flags; see --help",
                  "--lanes: 0 is out of range; expected a whole number from 1 to 256",
                  StartsWith("--flags.poll: \"2\" is not a duration; expected")));
}

TEST_F(OptionsTest, AllFindingsComeAtOnce) {
  EXPECT_THAT(
      Findings("listen: nowhere\nlanes: none\nbogus: 1\nredis:\n  timeout: 5\n", {"--log_level", "loud"}).size(), 5u);
}

TEST_F(OptionsTest, CheckOnlyChecks) {
  const auto right = Read({"--check"});
  ASSERT_TRUE(right.ok()) << right.status();
  EXPECT_EQ(right->action, CommandLine::Action::kCheck);
  EXPECT_FALSE(Read({"--check", "--lanes", "0"}).ok());
}

TEST_F(OptionsTest, HelpNamesEveryFieldAndItsDefault) {
  environment_.clear();
  const auto help = Read({"--help"});
  ASSERT_TRUE(help.ok()) << help.status();
  EXPECT_EQ(help->action, CommandLine::Action::kHelp);
  for (const OptionDoc& doc : OptionDocs()) {
    EXPECT_THAT(help->text, HasSubstr("--" + doc.name + " "));
    if (doc.fallback.empty()) continue;
    EXPECT_THAT(help->text, HasSubstr("Default: " + doc.fallback + ".")) << doc.name;
  }
}

// docs/configuration.md is read by people who do not have the program at hand: it says exactly what --help says.
TEST_F(OptionsTest, TheDocumentListsEveryField) {
  std::ifstream file(absl::StrCat(std::getenv("SHADOWLINE_SOURCE_DIR"), "/docs/configuration.md"));
  ASSERT_TRUE(file);
  std::vector<std::string> documented;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("| `", 0) == 0) documented.push_back(line);
  }
  std::vector<std::string> expected;
  for (const OptionDoc& doc : OptionDocs()) {
    const std::string fallback = doc.fallback.empty() ? "" : absl::StrCat(" ", doc.fallback);
    expected.push_back(absl::StrCat("| `", doc.name, "` |", fallback, " | ", doc.meaning, " |"));
  }
  EXPECT_EQ(absl::StrJoin(documented, "\n"), absl::StrJoin(expected, "\n"));
}

}  // namespace
}  // namespace shadowline::server
