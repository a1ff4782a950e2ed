#include "tests/verdicts/canaries.h"

#include <nlohmann/json.hpp>
#include <pqxx/pqxx>
#include <stdexcept>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tests/support/await.h"
#include "tests/support/observed_client.h"
#include "tests/verdicts/application.h"
#include "tests/verdicts/bugs.h"

namespace shadowline::verdicts {
namespace {

namespace v1 = shadowline::v1;
using nlohmann::json;
using support::ObservedSide;

constexpr int64_t kShown = 10;
constexpr int kNoJson = 3;  // The row whose report is none.

std::string NameOf(int64_t id) { return absl::StrCat(Canary(), "-shown-", id); }

uint64_t Times(absl::string_view text, absl::string_view word) {
  uint64_t times = 0;
  for (size_t at = text.find(word); at != absl::string_view::npos; at = text.find(word, at + word.size())) ++times;
  return times;
}

// A key of a cached answer: its value is the cache itself.
bool IsCachedAnswer(absl::string_view key) {
  return !absl::StartsWith(key, "sl:fence:") && !absl::StartsWith(key, "sl:lease:") &&
         absl::StrContains(key, "/read:v");
}

void Execute(World* world, const std::string& sql) {
  pqxx::connection connection(world->source());
  pqxx::work work(connection);
  work.exec(sql);
  work.commit();
}

// The name is a parameter, and the tag is made of it.
std::string ShowTags(World* world) {
  Operator& by = world->by_operator();
  by.Start("shown", {{kCanaryTenant}});
  uint64_t reads = 0, invalidated = 0;
  const auto read_all = [&] {
    for (int64_t id = 0; id < kShown; ++id) {
      (void)world->node(reads++ % world->size()).Read(RequestOf("shown/read", {kCanaryTenant, id, NameOf(id)}));
    }
  };
  const bool confirmed = support::AwaitTrue(kLimit, [&] {
    read_all();
    if (by.Mode(kCanaryTenant, "shown") != v1::MODE_SHADOW) return false;
    if (invalidated == 0) {
      // One by capture, one by its writer.
      Execute(world, "UPDATE shown SET name = name WHERE id = 1");
      invalidated += world->node(0).Invalidate(kCanaryTenant, {absl::StrCat("shown:", NameOf(2))}).ok();
    }
    Execute(world, "UPDATE untold SET version = version + 1 WHERE id = 0");
    return !by.Divergences("shown").empty();
  });
  if (!confirmed) throw std::runtime_error("no divergence of a key with a canary in its tag");
  const v1::Divergence divergence = by.Divergence(by.Divergences("shown")[0].id());
  return absl::StrCat("shown: ", divergence.cause());
}

// Observed reads: an answer of each is stale, or no JSON.
std::string ShowObserved(World* world) {
  world->by_operator().Start("told", {{kCanaryTenant}});
  const auto id_of = [](const v1::ReadRequest& request) { return request.parameters(0).value().integer(); };
  const auto answer = [](int64_t id, int version) {
    return ObservedSide{v1::OBSERVED_OUTCOME_FOUND,
                        json{{"name", NameOf(id)}, {"told", absl::StrCat(Canary(), " ", version)}}.dump(),
                        absl::StrCat(Canary(), "-", version)};
  };
  support::ObservedClient client(
      {world->node(0).channel},
      [&](const v1::ReadRequest& request) {
        if (id_of(request) == kNoJson) return ObservedSide{v1::OBSERVED_OUTCOME_FOUND, absl::StrCat("{", Canary())};
        return answer(id_of(request), 1);
      },
      [&](const v1::ReadRequest& request) { return answer(id_of(request), id_of(request) == 0 ? 2 : 1); });
  const auto ended = [&](const char* how) { return client.endings().contains(how); };
  const bool confirmed = support::AwaitTrue(kLimit, [&] {
    for (int64_t id = 0; id < kShown; ++id) {
      (void)client.Read(RequestOf("told/read", {kCanaryTenant, id, NameOf(id)}));
    }
    const bool all = support::AwaitTrue(kLimit, [&] {
      client.LookAgain();
      return client.waiting() == 0;
    });
    return all && ended("confirmed") && ended("matched");
  });
  std::string endings;
  for (const auto& [ending, times] : client.endings()) absl::StrAppend(&endings, " ", ending, " ", times);
  if (!confirmed) throw std::runtime_error("no divergence of an observed read:" + endings);
  return absl::StrCat("told:", endings);
}

// What is refused may be named in an error, which nobody may log.
void ShowRefused(World* world) {
  v1::ReadRequest request = RequestOf("shown/read", {kCanaryTenant, 1, NameOf(1)});
  auto* unknown = request.add_parameters();
  unknown->set_name(Canary());
  unknown->mutable_value()->set_text(Canary());
  (void)world->node(0).Read(request);
  (void)world->node(0).Read(RequestOf(Canary(), {Canary(), 1, Canary()}));
}

}  // namespace

std::string CanarySchema() {
  return absl::StrCat(
      "CREATE TABLE shown (tenant text, id bigint, name text, PRIMARY KEY (tenant, id, name));\n"
      "CREATE TABLE untold (tenant text, id bigint, version bigint NOT NULL DEFAULT 1, PRIMARY KEY (tenant, id));\n"
      "INSERT INTO shown SELECT '",
      kCanaryTenant, "', id, '", Canary(), "-shown-' || id FROM generate_series(0, ", kShown - 1,
      ") AS id;\nINSERT INTO untold SELECT tenant, id FROM shown;\n");
}

std::string CanaryFamilies() {
  // Nobody tells of what `untold` says.
  return R"(  shown:
    policy: {approval: true}
    endpoints:
      read:
        sql: SELECT name, version FROM shown JOIN untold USING (tenant, id) WHERE tenant = :tenant AND id = :id AND name = :who
        parameters: {id: {type: integer}, who: {type: text}}
        tags: ["shown:{who}"]
        freshness: 300ms
  told:
    policy: {approval: true}
    endpoints:
      read:
        observed: true
        parameters: {id: {type: integer}, who: {type: text}}
        freshness: 300ms
)";
}

std::string CanaryCapture() { return "    public.shown: {tenant: \"{tenant}\", tags: [\"shown:{name}\"]}\n"; }

std::string ShowCanaries(World* world) {
  ShowRefused(world);
  return absl::StrCat(ShowTags(world), "; ", ShowObserved(world));
}

json FindCanaries(World* world, uint64_t* found) {
  const std::string& canary = Canary();
  json places = json::object();
  const auto look = [&](const std::string& place, absl::string_view text) {
    const uint64_t times = Times(text, canary);
    *found += times;
    if (times > 0) places[place] = times;
  };
  uint64_t searched = 0, in_answers = 0;
  {
    pqxx::connection connection(world->state_source());
    pqxx::work work(connection);
    for (const auto& table :
         work.exec("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'shadowline'")) {
      const std::string name = table[0].as<std::string>();
      for (const auto& row : work.exec("SELECT t::text FROM shadowline." + name + " AS t")) {
        const std::string text = row[0].as<std::string>();
        searched += text.size();
        look("postgres shadowline." + name, text);
      }
    }
  }
  {
    Wire redis(world->redis().socket());
    for (const cache::Reply& key : redis.Ask({"KEYS", "sl:*"}).elements) {
      look("redis key names", key.text);
      searched += key.text.size();
      if (IsCachedAnswer(key.text)) {
        in_answers += Times(redis.Ask({"GET", key.text}).text, canary);
        continue;
      }
      const std::string type = redis.Ask({"TYPE", key.text}).text;
      const cache::Reply value = type == "string" ? redis.Ask({"GET", key.text})
                                 : type == "set"  ? redis.Ask({"SMEMBERS", key.text})
                                                  : redis.Ask({"HGETALL", key.text});
      look("redis values", value.text);
      searched += value.text.size();
      for (const cache::Reply& element : value.elements) look("redis values", element.text);
    }
  }
  for (size_t i = 0; i < world->size(); ++i) {
    const std::string log = world->node(i).server.Log(), metrics = world->node(i).server.Get("/metrics");
    searched += log.size() + metrics.size();
    look("logs", log);
    look("metrics", metrics);
  }
  places["bytes_searched"] = searched;
  places["in_cached_answers"] = in_answers;  // Which shows that they would be found.
  return places;
}

}  // namespace shadowline::verdicts
