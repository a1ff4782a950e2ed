// The Helm chart against the server that it runs. Helm is not needed: what is checked is that the chart says nothing
// that the server would refuse, and refers to nothing that is not there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <regex>
#include <set>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/options/options.h"
#include "tests/support/private_servers.h"

namespace shadowline::server {
namespace {

using testing::Contains;
using testing::IsEmpty;
using testing::Not;

class ChartTest : public testing::Test {
 protected:
  static std::string Read(const std::filesystem::path& path) {
    std::ifstream file(path);
    EXPECT_TRUE(file) << path;
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }

  // Every template by its name.
  std::vector<std::pair<std::string, std::string>> Templates() const {
    std::vector<std::pair<std::string, std::string>> templates;
    for (const auto& entry : std::filesystem::directory_iterator(chart_ / "templates")) {
      templates.emplace_back(entry.path().filename(), Read(entry.path()));
    }
    EXPECT_THAT(templates, Not(IsEmpty()));
    return templates;
  }

  static std::set<std::string> Matches(const std::string& text, const std::string& pattern) {
    const std::regex regex(pattern);
    std::set<std::string> found;
    for (std::sregex_iterator match(text.begin(), text.end(), regex), end; match != end; ++match)
      found.insert((*match)[1]);
    return found;
  }

  // Reads the chart's config as the pod would: from the ConfigMap's file, with its secrets in the environment.
  absl::StatusOr<CommandLine> Check(const YAML::Node& config) const {
    YAML::Emitter text;
    text << config;
    const std::string path = folder_.path() + "/server.yaml";
    std::ofstream(path) << text.c_str() << "\n";
    return ReadCommandLine({"--check", "--config", path, "--replica_name", "shadowline-7d9f-abcde"},
                           [](const std::string& name) -> std::optional<std::string> {
                             if (name == "SHADOWLINE_SOURCE_URL") return "postgresql://reader@db/app";
                             if (name == "SHADOWLINE_VERIFICATION_REDACTION_SECRET") return "0123456789abcdef";
                             return std::nullopt;
                           });
  }

  const std::filesystem::path chart_ =
      std::filesystem::path(std::getenv("SHADOWLINE_SOURCE_DIR")) / "charts" / "shadowline";
  const YAML::Node values_ = YAML::LoadFile((chart_ / "values.yaml").string());
  const YAML::Node schema_ = YAML::LoadFile((chart_ / "values.schema.json").string());  // JSON is YAML.
  const support::ScratchFolder folder_{"chart_test"};
};

TEST_F(ChartTest, ItsDefaultConfigPassesTheServersCheck) {
  const auto checked = Check(values_["config"]);
  ASSERT_TRUE(checked.ok()) << checked.status().message();
  EXPECT_EQ(checked->action, CommandLine::Action::kCheck);
  EXPECT_EQ(checked->options.listen.host, "0.0.0.0") << "a Service cannot reach a pod's loopback";
  EXPECT_EQ(checked->options.http_listen.host, "0.0.0.0");
  YAML::Node wrong = YAML::Clone(values_["config"]);
  wrong["lanes"] = "none";
  EXPECT_FALSE(Check(wrong).ok()) << "the check can fail";
}

TEST_F(ChartTest, APodMayDrainBeforeItIsKilled) {
  const auto checked = Check(values_["config"]);
  ASSERT_TRUE(checked.ok());
  EXPECT_GT(absl::Seconds(values_["terminationGracePeriodSeconds"].as<int>()), checked->options.drain_timeout);
}

TEST_F(ChartTest, ItsDocumentsParse) {
  const YAML::Node chart = YAML::LoadFile((chart_ / "Chart.yaml").string());
  EXPECT_EQ(chart["name"].as<std::string>(), "shadowline");
  EXPECT_EQ(chart["apiVersion"].as<std::string>(), "v2");
  EXPECT_TRUE(values_.IsMap());
  EXPECT_TRUE(schema_.IsMap());
}

TEST_F(ChartTest, TheSchemaKnowsEveryValue) {
  const std::function<void(const YAML::Node&, const YAML::Node&, const std::string&)> check =
      [&](const YAML::Node& values, const YAML::Node& schema, const std::string& path) {
        for (const auto& entry : values) {
          const std::string name = entry.first.as<std::string>();
          const YAML::Node known = schema["properties"][name];
          ASSERT_TRUE(known) << path << name << " is in values.yaml, and not in values.schema.json";
          if (entry.second.IsMap() && known["properties"]) check(entry.second, known, absl::StrCat(path, name, "."));
        }
      };
  check(values_, schema_, "");
}

TEST_F(ChartTest, TheSchemaAllowsExactlyTheServersFieldsButForSecrets) {
  std::set<std::string> allowed;
  const std::function<void(const YAML::Node&, const std::string&)> collect = [&](const YAML::Node& schema,
                                                                                 const std::string& path) {
    EXPECT_FALSE(schema["additionalProperties"].as<bool>()) << path;
    for (const auto& entry : schema["properties"]) {
      const std::string name = path + entry.first.as<std::string>();
      if (entry.second["properties"]) {
        collect(entry.second, name + ".");
      } else {
        allowed.insert(name);
      }
    }
  };
  collect(schema_["properties"]["config"], "");
  std::set<std::string> fields;
  for (const OptionDoc& doc : OptionDocs()) fields.insert(doc.name);
  for (const char* secret : {"source.url", "state.url", "redis.password", "redis.sentinel.password",
                             "verification.redaction_secret", "evidence.key", "evidence.old_keys"}) {
    EXPECT_EQ(fields.erase(secret), 1u) << secret;
  }
  EXPECT_EQ(allowed, fields);
}

TEST_F(ChartTest, EveryVariableThatItSetsIsASecretOfTheServer) {
  std::set<std::string> variables;
  for (const OptionDoc& doc : OptionDocs()) {
    std::string name = absl::StrCat("SHADOWLINE_", absl::AsciiStrToUpper(doc.name));
    std::replace(name.begin(), name.end(), '.', '_');
    variables.insert(name);
  }
  const auto set = Matches(Read(chart_ / "templates" / "deployment.yaml"), "\"(SHADOWLINE_[A-Z_]+)\"");
  EXPECT_THAT(set, Not(IsEmpty()));
  for (const std::string& variable : set) EXPECT_THAT(variables, Contains(variable));
}

TEST_F(ChartTest, EveryTemplateRefersToValuesAndHelpersThatExist) {
  const auto helpers = Matches(Read(chart_ / "templates" / "_helpers.tpl"), "define \"([a-z.]+)\"");
  for (const auto& [name, text] : Templates()) {
    for (const std::string& path : Matches(text, "\\.Values\\.([A-Za-z0-9_.]+)")) {
      YAML::Node node = YAML::Clone(values_);
      for (const auto part : absl::StrSplit(path, '.')) {
        ASSERT_TRUE(node.IsMap() && node[std::string(part)]) << name << " uses .Values." << path;
        node.reset(node[std::string(part)]);
      }
    }
    for (const std::string& helper : Matches(text, "include \"([a-z.]+)\""))
      EXPECT_THAT(helpers, Contains(helper)) << name;
  }
}

TEST_F(ChartTest, EveryBlockOfATemplateIsClosed) {
  const std::regex action("\\{\\{-?\\s*(if|with|range|define|end)\\b");
  for (const auto& [name, text] : Templates()) {
    int depth = 0;
    for (std::sregex_iterator match(text.begin(), text.end(), action), end; match != end; ++match) {
      depth += (*match)[1] == "end" ? -1 : 1;
      EXPECT_GE(depth, 0) << name;
    }
    EXPECT_EQ(depth, 0) << name;
  }
}

// What a cluster that takes security seriously would refuse a pod without.
TEST_F(ChartTest, ThePodIsRestricted) {
  const std::string deployment = Read(chart_ / "templates" / "deployment.yaml");
  for (const char* line : {"runAsNonRoot: true", "readOnlyRootFilesystem: true", "allowPrivilegeEscalation: false",
                           "type: RuntimeDefault", "drop: [\"ALL\"]", "automountServiceAccountToken: false",
                           "path: /readyz", "path: /healthz", "enableServiceLinks: false"}) {
    EXPECT_NE(deployment.find(line), std::string::npos) << line;
  }
}

}  // namespace
}  // namespace shadowline::server
